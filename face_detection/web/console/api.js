// Requests to the service: with the key, a few at a time, and with errors in its own words.
import { isGone } from "./connection.js";
import { askForKey, currentKey } from "./key.js";
import { addressOf } from "../addresses.js";

const MOST_TRIES = 6;

/** What went wrong. `status` is 0 when there was no answer; then `gone` says whether the service is away. */
export class ApiError extends Error {
  constructor(status, message, { code = "", gone = false, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, gone, retryAfter });
  }
}

/**
 * The response to a request that succeeded.
 *
 * `ask`: whether somebody may be asked for a key. `patient`: wait and send again when the service is too busy.
 * Throws ApiError, and AbortError of the signal.
 */
export async function request(path, { ask = true, patient = false, headers = {}, ...options } = {}) {
  for (let tries = 1; ; tries++) {
    const key = currentKey();
    const response = await send(path, { ...options, headers: key === null ? headers : { ...headers, "X-API-Key": key } });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status === 401 && ask && (await askForKey(error.message, key))) continue;
    if (!(patient && error.retryAfter && tries < MOST_TRIES)) throw error;
    await pause(error.retryAfter * 1000, options.signal);
  }
}

/** The value of a JSON text, in which integers that a number cannot hold stay as they are written. */
export const parse = (text) =>
  JSON.parse(text, (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value);

/** The JSON of an answer. */
export const json = async (path, options) => parse(await (await request(path, options)).text());

/** Send JSON and get JSON. */
export const sendJson = (method, path, body, options = {}) =>
  json(path, { ...options, method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

async function send(path, options) {
  try {
    return await fetch(addressOf(path), { cache: "no-store", credentials: "omit", redirect: "error", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    if (await isGone()) throw new ApiError(0, "The service does not answer.", { gone: true });
    throw new ApiError(0, "The connection broke before an answer came. The picture may be too large, or no longer readable.");
  }
}

async function errorOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  try {
    const body = await response.json();
    // The original interface has `error` as text, with `code` and `detail` beside it.
    const { code, message } = typeof body.error === "object" ? body.error : { code: body.code, message: body.detail };
    return new ApiError(response.status, message, { code, retryAfter });
  } catch {
    return new ApiError(response.status, `The service answered with status ${response.status}.`, { retryAfter });
  }
}

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });

/** Call `work` for each item, at most `width` at a time, in order of the items, until the signal aborts. */
export async function each(items, width, work, signal) {
  const waiting = items[Symbol.iterator]();
  const worker = async () => {
    for (const item of waiting) {
      if (signal?.aborted) return;
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}
