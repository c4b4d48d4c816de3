// From pixels to faces with embeddings, with the time that each stage takes.
import { addressOf } from "../../static/addresses.js";
import { cutOut, shrinks } from "./alignment.js";
import { Detector } from "./detector.js";
import { Embedder } from "./embedder.js";
import { inReadingOrder } from "./geometry.js";
import { full, preview } from "./pixels.js";

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
   * @param {{detector: Uint8Array, recognition: Uint8Array}} files
   */
  static async open(ort, models, files) {
    const detector = await Detector.open(ort, files.detector, models.detector);
    return new Recogniser(detector, await Embedder.open(ort, files.recognition, models.recognition));
  }

  constructor(detector, embedder) {
    this.detector = detector;
    this.embedder = embedder;
  }

  /** Faces {box, points, score, embedding} in reading order, and the milliseconds of each stage. */
  async embed(picture) {
    const start = performance.now();
    const small = preview(picture, this.detector.settings.max_side), alignment = this.embedder.model;
    const faces = inReadingOrder(await this.detector.detect(small));
    const detected = performance.now();
    const source = shrinks(small, faces, alignment) ? small : full(picture);
    const crops = faces.map((face) => cutOut(source, face.points, alignment));
    const aligned = performance.now();
    const embeddings = await this.embedder.embed(crops);
    const milliseconds = { detect: detected - start, align: aligned - detected, embed: performance.now() - aligned };
    return { faces: faces.map((face, i) => ({ ...face, embedding: embeddings[i] })), milliseconds };
  }

  async close() {
    await this.detector.session.release();
    await this.embedder.session.release();
  }
}
