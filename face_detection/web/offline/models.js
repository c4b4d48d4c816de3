// The models' files: fetched once, checked by their hash, kept in Cache Storage.
import { addressOf, ownName } from "../../static/addresses.js";
import { askBytes, Failed } from "./service.js";

/** Where they are described. */
export const MODELS = addressOf("/offline/models");

const CACHE = ownName("face-recognition-models");

const addressOfFile = ({ url }) => new URL(url, MODELS).href;

const place = (file) => `${addressOfFile(file)}?sha256=${file.sha256}`;

const hexDigest = async (bytes) =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** What is kept of a file, or null. */
const kept = async (file) => {
  const response = await (await caches.open(CACHE)).match(place(file));
  return response ? new Uint8Array(await response.arrayBuffer()) : null;
};

const fetched = async (file, key, progress) => {
  const bytes = await askBytes(addressOfFile(file), key, file.bytes, progress);
  if ((await hexDigest(bytes)) !== file.sha256) throw new Failed("A model's file did not come as announced.");
  await (await caches.open(CACHE)).put(place(file), new Response(bytes));
  return bytes;
};

const filesOf = (models) => ({ detector: models.detector.file, recognition: models.recognition.file });

/** What tells two sets of models apart. */
export const identityOf = (models) => JSON.stringify([models.space, models.detector, models.recognition]);

/** The files that are kept, {detector, recognition}; null when one is missing. */
export const keptFiles = async (models) => {
  const { detector, recognition } = filesOf(models);
  const found = { detector: await kept(detector), recognition: await kept(recognition) };
  return found.detector && found.recognition ? found : null;
};

/**
 * The files {detector, recognition}; those that are not kept are fetched, and older ones are thrown away.
 * @param {(done: number, total: number) => void} progress of what is fetched, in bytes.
 */
export const files = async (models, key, progress) => {
  const result = {};
  for (const [name, file] of Object.entries(filesOf(models))) {
    result[name] = (await kept(file)) ?? (await fetched(file, key, (done) => progress(done, file.bytes)));
  }
  const wanted = new Set(Object.values(filesOf(models)).map((file) => place(file)));
  const cache = await caches.open(CACHE);
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
  return result;
};

export const forgetFiles = () => caches.delete(CACHE);
