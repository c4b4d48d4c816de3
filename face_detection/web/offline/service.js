// Talking to the front: what it answers, and the ways in which it may not.

/** The key is not valid, or lacks the right: what was copied with it must go. */
export class Refused extends Error {}

/** There is no connection. */
export class Unreachable extends Error {}

/** It answers, but not with what was asked for. */
export class Failed extends Error {}

/** It no longer knows all that has changed since then: whoever follows it starts over. */
export class Expired extends Failed {}

/** Ask with a key ("" for none). */
export const ask = async (address, key) => {
  let response;
  try {
    response = await fetch(address, { headers: key ? { "X-API-Key": key } : {}, cache: "no-store" });
  } catch {
    throw new Unreachable("There is no connection to the service.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? body?.error_message;
  // What a hotel's portal refuses says nothing about the key.
  if (message && (response.status === 401 || response.status === 403)) throw new Refused(message);
  if (message && response.status === 410) throw new Expired(message);
  throw new Failed(message ?? `The service answers with status ${response.status}.`);
};

export const askJson = async (address, key) => {
  const response = await ask(address, key);
  return { headers: response.headers, body: await whole(response.json()) };
};

/**
 * @param {(bytes: number) => void} progress told how many bytes have come.
 * @returns {Promise<Uint8Array>}
 */
export const askBytes = async (address, key, size, progress) => {
  const response = await ask(address, key);
  const bytes = new Uint8Array(size), reader = response.body.getReader();
  for (let at = 0; ; ) {
    const { done, value } = await whole(reader.read());
    if (done) return bytes.subarray(0, at);
    if (at + value.length > size) throw new Failed("The file is larger than was announced.");
    bytes.set(value, at);
    at += value.length;
    progress(at);
  }
};

const whole = async (reading) => {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof SyntaxError) throw new Failed("The answer is not that of the service.");
    throw new Unreachable("The connection broke.");
  }
};
