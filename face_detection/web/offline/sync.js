// Following the gallery (docs/api/dataset.md): every change since the cursor, in its order.
import { addressOf } from "../../static/addresses.js";
import { askJson } from "./service.js";

/** The service has changed its model meanwhile. */
export class SpaceChanged extends Error {}

const entryOf = ({ faceId, personId, name, faceEncoding, deleted }) =>
  deleted ? { id: faceId, deleted } : { id: faceId, personId, name, encoding: Float32Array.from(faceEncoding) };

/**
 * The pages of changes.
 * @param {string} key
 * @param {string} space that encodings must have.
 * @param {string | null} cursor from where on; null for the beginning.
 * @yields {{entries: object[], cursor: string}}
 */
export async function* changes(key, space, cursor) {
  for (let more = true; more; ) {
    const query = cursor === null ? "" : `?${new URLSearchParams({ last_updated_at: cursor })}`;
    const { headers, body } = await askJson(addressOf(`/faces/sync${query}`), key);
    if (headers.get("X-Embedding-Space") !== space) throw new SpaceChanged("The service has changed its model.");
    cursor = headers.get("X-Next-Cursor");
    more = /rel="next"/.test(headers.get("Link") ?? "");
    yield { entries: body.map(entryOf), cursor };
  }
}
