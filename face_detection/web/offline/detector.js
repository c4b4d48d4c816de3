// YuNet, before and after the network as OpenCV's FaceDetectorYN (modules/objdetect/src/face_detect.cpp), within the
// service's own limits (face_detection/recognition/detection.py).
import { forAnySize } from "./detector-graph.js";
import { overlap, roundHalfEven, within } from "./geometry.js";
import { resize } from "./resize.js";

const STRIDES = [8, 16, 32];
const LEAST_SIDE = 64;
const MOST_CANDIDATES = 5000;

const clamp01 = (value) => Math.min(Math.max(value, 0), 1);

export class Detector {
  /**
   * @param ort onnxruntime-web.
   * @param {Uint8Array} file YuNet's.
   * @param {{max_side, score, nms, min_face, max_faces}} settings of the service.
   */
  static async open(ort, file, settings) {
    return new Detector(ort, await ort.InferenceSession.create(forAnySize(file)), settings);
  }

  constructor(ort, session, settings) {
    this.ort = ort;
    this.session = session;
    this.settings = settings;
  }

  /**
   * @param {{data, width, height, fullWidth, fullHeight}} picture RGBA, perhaps reduced.
   * @returns faces {box, points, score} in pixels of the picture at full scale, best score first. Boxes lie within the picture.
   */
  async detect(picture) {
    const { max_side: maxSide, min_face: minFace, max_faces: maxFaces } = this.settings;
    const scale = Math.min(1, maxSide / Math.max(picture.width, picture.height));
    const width = Math.max(1, roundHalfEven(picture.width * scale)), height = Math.max(1, roundHalfEven(picture.height * scale));
    const small = scale === 1 ? picture : resize(picture, width, height);
    const rows = await this.rows(small);
    // Each axis has its own factor: the sides were rounded to whole pixels.
    const fx = picture.fullWidth / width, fy = picture.fullHeight / height;
    return rows
      .map(({ x, y, width: w, height: h, points, score }) => {
        const left = roundHalfEven(x * fx), top = roundHalfEven(y * fy);
        const box = { x: left, y: top, width: roundHalfEven((x + w) * fx) - left, height: roundHalfEven((y + h) * fy) - top };
        return { box: within(box, picture.fullWidth, picture.fullHeight), points: points.map(([px, py]) => [px * fx, py * fy]), score: Math.min(1, score) };
      })
      .filter(({ box }) => Math.min(box.width, box.height) >= minFace)
      .sort((a, b) => b.score - a.score)
      .slice(0, maxFaces);
  }

  /** What FaceDetectorYN.detect gives: one row {x, y, width, height, points, score} for each face. */
  async rows(picture) {
    const padded = (side) => Math.ceil(Math.max(side, LEAST_SIDE) / 32) * 32;
    const width = padded(picture.width), height = padded(picture.height);
    const tensor = new this.ort.Tensor("float32", blob(picture, width, height), [1, 3, height, width]);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: tensor });
    const candidates = STRIDES.flatMap((stride) => decode(outputs, stride, width / stride, this.settings.score));
    tensor.dispose();
    Object.values(outputs).forEach((output) => output.dispose());
    return suppress(candidates, this.settings);
  }
}

/** Planes of blue, green and red; what lies beyond the picture is black. */
const blob = ({ data, width, height }, paddedWidth, paddedHeight) => {
  const plane = paddedWidth * paddedHeight, values = new Float32Array(3 * plane);
  for (let y = 0, from = 0; y < height; y++) {
    for (let x = 0, to = y * paddedWidth; x < width; x++, from += 4, to++) {
      values[to] = data[from + 2];
      values[to + plane] = data[from + 1];
      values[to + 2 * plane] = data[from];
    }
  }
  return values;
};

const decode = (outputs, stride, columns, least) => {
  const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => outputs[`${name}_${stride}`].data);
  const found = [];
  for (let i = 0; i < cls.length; i++) {
    const score = Math.sqrt(clamp01(cls[i]) * clamp01(obj[i]));
    if (score < least) continue;
    const column = i % columns, row = Math.floor(i / columns);
    const width = Math.exp(bbox[4 * i + 2]) * stride, height = Math.exp(bbox[4 * i + 3]) * stride;
    const x = (column + bbox[4 * i]) * stride - width / 2, y = (row + bbox[4 * i + 1]) * stride - height / 2;
    const points = [0, 1, 2, 3, 4].map((n) => [(kps[10 * i + 2 * n] + column) * stride, (kps[10 * i + 2 * n + 1] + row) * stride]);
    found.push({ x, y, width, height, points, score });
  }
  return found;
};

/** Of candidates that overlap the best; compared in whole pixels, as OpenCV does. */
const suppress = (candidates, { score, nms }) => {
  if (candidates.length < 2) return candidates;
  const kept = [];
  const best = candidates.filter((one) => one.score > score).sort((a, b) => b.score - a.score).slice(0, MOST_CANDIDATES);
  for (const one of best) {
    const whole = { x: Math.trunc(one.x), y: Math.trunc(one.y), width: Math.trunc(one.width), height: Math.trunc(one.height) };
    if (kept.every((other) => overlap(whole, other.whole) <= nms)) kept.push({ ...one, whole });
  }
  return kept;
};
