// YuNet, before and after the network as OpenCV's FaceDetectorYN (modules/objdetect/src/face_detect.cpp).
import { forAnySize } from "./detector-graph.js";
import { overlap } from "./geometry.js";

const STRIDES = [8, 16, 32];
const LEAST_SIDE = 64;
const MOST_CANDIDATES = 5000;

const clamp01 = (value) => Math.min(Math.max(value, 0), 1);

export class YuNet {
  /**
   * @param ort onnxruntime-web.
   * @param {Uint8Array} file YuNet's.
   * @param {{score, nms}} least score of a candidate, and overlap above which two count as one.
   */
  static async open(ort, file, limits) {
    return new YuNet(ort, await ort.InferenceSession.create(forAnySize(file)), limits);
  }

  constructor(ort, session, limits) {
    this.ort = ort;
    this.session = session;
    this.limits = limits;
  }

  /**
   * What FaceDetectorYN.detect gives: one row {x, y, width, height, points, score} for each face.
   * @param {{data, width, height}} picture RGBA.
   */
  async rows(picture) {
    const padded = (side) => Math.ceil(Math.max(side, LEAST_SIDE) / 32) * 32;
    const width = padded(picture.width), height = padded(picture.height);
    const tensor = new this.ort.Tensor("float32", blob(picture, width, height), [1, 3, height, width]);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: tensor });
    const candidates = STRIDES.flatMap((stride) => decode(outputs, stride, width / stride, this.limits.score));
    tensor.dispose();
    Object.values(outputs).forEach((output) => output.dispose());
    return suppress(candidates, this.limits);
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
