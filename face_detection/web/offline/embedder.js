// From aligned crops to embeddings (feature_extraction/embedder.py).
import { toUnit } from "./distances.js";

const MOST_CROPS = 8;
// Means of red, green and blue in dlib's input layer.
const DLIB_MEANS = [122.782, 117.001, 104.298];

const prewhiten = (crop) => {
  let sum = 0, squares = 0;
  for (const value of crop) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / crop.length;
  const deviation = Math.sqrt(Math.max(0, squares / crop.length - mean * mean));
  const factor = 1 / Math.max(deviation, 1 / Math.sqrt(crop.length));
  return Float32Array.from(crop, (value) => (value - mean) * factor);
};

const NORMALISATIONS = {
  prewhiten,
  dlib: (crop) => Float32Array.from(crop, (value, i) => (value - DLIB_MEANS[i % 3]) / 256),
  "rgb-255": (crop) => Float32Array.from(crop),
  // Pixel by pixel the other way round: blue comes first.
  "bgr-unit": (crop) => Float32Array.from(crop, (_, i) => crop[i - (i % 3) + 2 - (i % 3)] / 255),
};

/**
 * Scale a crop's pixels as the model demands.
 * @param {Uint8ClampedArray} crop height x width x 3, RGB.
 * @param {string} name of the normalisation.
 * @returns {Float32Array} of the same shape.
 */
export const normalise = (crop, name) => {
  if (!NORMALISATIONS[name]) throw new Error(`This page does not know the normalisation ${name}.`);
  return NORMALISATIONS[name](crop);
};

/** From height x width x 3 to 3 x height x width. */
export const channelsFirst = (pixels) => {
  const plane = pixels.length / 3, target = new Float32Array(pixels.length);
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) target[c * plane + i] = pixels[3 * i + c];
  return target;
};

/** The mirror image of a crop, height x width x 3. */
export const mirrored = (crop, { width }) => {
  const target = new Uint8ClampedArray(crop.length), row = 3 * width;
  for (let i = 0; i < crop.length; i += 3) {
    const left = i % row, to = i - left + row - 3 - left;
    for (let c = 0; c < 3; c++) target[to + c] = crop[i + c];
  }
  return target;
};

const sum = (vectors) => vectors[0].map((value, i) => vectors.reduce((total, vector) => total + vector[i], 0));

/**
 * A face's embedding from those of the model's networks.
 * @param {{parts}} model its entry in /offline/models.
 * @param {Float32Array[][]} outputs of each network, of the crop and perhaps of its mirror image.
 * @returns {Float32Array}
 */
export const join = ({ parts }, outputs) => {
  if (!parts) return outputs[0][0];
  const weighted = outputs.map((sides, i) => toUnit(sum(sides.map(toUnit))).map((value) => value * parts[i].weight));
  return toUnit(weighted.flatMap((values) => [...values]));
};

export class Embedder {
  /**
   * @param ort onnxruntime-web.
   * @param {Uint8Array} file of the network.
   * @param model the network's entry in /offline/models.
   */
  static async open(ort, file, model) {
    return new Embedder(ort, await ort.InferenceSession.create(file), model);
  }

  constructor(ort, session, model) {
    this.ort = ort;
    this.session = session;
    this.model = model;
    this.channelsFirst = session.inputMetadata[0].shape[1] === 3;
  }

  /**
   * @param {Uint8ClampedArray[]} crops height x width x 3, RGB.
   * @returns {Float32Array[]} one for each, as the service gives them.
   */
  async embed(crops) {
    const embeddings = [];
    for (let start = 0; start < crops.length; start += MOST_CROPS) {
      embeddings.push(...(await this.embedPart(crops.slice(start, start + MOST_CROPS))));
    }
    return embeddings;
  }

  async embedPart(crops) {
    const { width, height, dimensions, normalisation, unit_output: unitOutput } = this.model;
    const size = width * height * 3, values = new Float32Array(crops.length * size);
    crops.forEach((crop, i) => {
      const pixels = normalise(crop, normalisation);
      values.set(this.channelsFirst ? channelsFirst(pixels) : pixels, i * size);
    });
    const shape = this.channelsFirst ? [crops.length, 3, height, width] : [crops.length, height, width, 3];
    const tensor = new this.ort.Tensor("float32", values, shape);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: tensor });
    const output = outputs[this.session.outputNames[0]], data = output.data.slice();
    tensor.dispose();
    output.dispose();
    if (data.length !== crops.length * dimensions) throw new Error("The model's file is not the one that was described.");
    return crops.map((_, i) => data.subarray(i * dimensions, (i + 1) * dimensions)).map((row) => (unitOutput ? toUnit(row) : row));
  }
}
