// From pixels to faces with embeddings, with the time that each stage takes.
import { addressOf } from "../../static/addresses.js";
import { cutOut, shrinks } from "./alignment.js";
import { Detector } from "./detector.js";
import { Embedder, join, mirrored } from "./embedder.js";
import { angleOf, inReadingOrder } from "./geometry.js";
import { networksOf } from "./models.js";
import { full, preview } from "./pixels.js";
import { measure } from "./quality.js";

const RUNTIME = addressOf("/offline/runtime/");
const MOST_THREADS = 4;

/** onnxruntime-web; with threads where the page is isolated from other origins. */
export const loadRuntime = async () => {
  let ort;
  try {
    ort = await import(`${RUNTIME}ort.wasm.bundle.min.mjs`);
  } catch (error) {
    throw new Error(await whyMissing(error));
  }
  ort.env.wasm.wasmPaths = { wasm: `${RUNTIME}ort-wasm-simd-threaded.wasm` };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  return ort;
};

const whyMissing = async (error) => {
  const answer = await fetch(`${RUNTIME}ort.wasm.bundle.min.mjs`).catch(() => null);
  const body = answer?.status === 404 ? await answer.json().catch(() => null) : null;
  return body?.error?.message ?? `onnxruntime-web cannot be loaded: ${error.message}`;
};

export class Recogniser {
  /**
   * @param ort onnxruntime-web.
   * @param models the answer of /offline/models.
   * @param {Uint8Array[]} files of the detector and of the recognition model's networks.
   */
  static async open(ort, models, [file, ...files]) {
    const detector = await Detector.open(ort, file, models.detector), embedders = [];
    for (const [i, network] of networksOf(models).entries()) embedders.push(await Embedder.open(ort, files[i], network));
    return new Recogniser(detector, embedders, models);
  }

  constructor(detector, embedders, { recognition, quality }) {
    this.detector = detector;
    this.embedders = embedders;
    this.model = recognition;
    this.terms = quality;
  }

  /**
   * Faces {box, angle, points, score, quality, embedding} in reading order, and the milliseconds of each stage.
   * @param {{data, width, height, jpeg}} picture
   * @param {"fast" | "thorough"} effort of the detector; as the service's if left out.
   */
  async embed(picture, effort) {
    const start = performance.now();
    const small = preview(picture, this.detector.leastSide, this.detector.leastScale(effort));
    const alignments = this.embedders.map(({ model }) => model);
    const faces = inReadingOrder(await this.detector.detect(small, effort));
    const detected = performance.now();
    const source = [...alignments, this.terms].every((alignment) => shrinks(small, faces, alignment)) ? small : full(picture);
    const crops = alignments.map((alignment) => faces.map((face) => cutOut(source, face.points, alignment)));
    const aligned = performance.now();
    const qualities = faces.map((face) => measure(face, cutOut(source, face.points, this.terms, true), source, this.terms));
    const measured = performance.now();
    const outputs = [];
    for (const [i, embedder] of this.embedders.entries()) {
      const sides = [await embedder.embed(crops[i])];
      if (this.model.mirrored) sides.push(await embedder.embed(crops[i].map((crop) => mirrored(crop, embedder.model))));
      outputs.push(sides);
    }
    const embeddings = faces.map((_, face) => join(this.model, outputs.map((sides) => sides.map((rows) => rows[face]))));
    const milliseconds = {
      detect: detected - start, align: aligned - detected, measure: measured - aligned, embed: performance.now() - measured,
    };
    const told = (face, i) => ({ ...face, angle: angleOf(face.points), quality: qualities[i], embedding: embeddings[i] });
    return { faces: faces.map(told), milliseconds };
  }

  async close() {
    await this.detector.close();
    for (const embedder of this.embedders) await embedder.session.release();
  }
}
