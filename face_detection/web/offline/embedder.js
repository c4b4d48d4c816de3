// From aligned crops to embeddings (feature_extraction/embedder.py).
import { toUnit } from "./distances.js";
import { channelsFirst, normalise } from "./normalisation.js";

const MOST_CROPS = 8;

export class Embedder {
  /**
   * @param ort onnxruntime-web.
   * @param {Uint8Array} file of the recognition model.
   * @param model its entry in /offline/models.
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
