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

/** The networks of the recognition model, one or several. */
export const networksOf = ({ recognition }) => recognition.parts ?? [recognition];

const filesOf = (models) => [models.detector, ...networksOf(models)].map(({ file }) => file);

/** What tells two sets of models apart. */
export const identityOf = (models) => JSON.stringify([models.space, models.detector, models.recognition, models.quality]);

/** The files that are kept, the detector's and those of the networks in their order; null when one is missing. */
export const keptFiles = async (models) => {
  const found = await Promise.all(filesOf(models).map(kept));
  return found.every(Boolean) ? found : null;
};

/**
 * The same files; those that are not kept are fetched, and older ones are thrown away.
 * @param {(done: number, total: number) => void} progress of what is fetched, in bytes.
 */
export const files = async (models, key, progress) => {
  const result = [];
  for (const file of filesOf(models)) {
    result.push((await kept(file)) ?? (await fetched(file, key, (done) => progress(done, file.bytes))));
  }
  const wanted = new Set(filesOf(models).map(place));
  const cache = await caches.open(CACHE);
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
  return result;
};

export const forgetFiles = () => caches.delete(CACHE);
