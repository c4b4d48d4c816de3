// What is kept in IndexedDB: the faces of the gallery, and one record of where they come from.
import { ownName } from "../../static/addresses.js";

const NAME = ownName("face-recognition-offline");

const opened = () =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("faces", { keyPath: "id" });
      request.result.createObjectStore("state");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const done = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Store {
  static async open() {
    return new Store(await opened());
  }

  constructor(database) {
    this.database = database;
  }

  /** {key, models, cursor, checkedAt, round}, or undefined when nothing is kept. */
  state() {
    return result(this.database.transaction("state").objectStore("state").get("state"));
  }

  /** All faces {id, personId, name, encoding, round}. */
  faces() {
    return result(this.database.transaction("faces").objectStore("faces").getAll());
  }

  /** Put and delete faces and note where the copy stands now, all or nothing. */
  apply(entries, state) {
    const transaction = this.database.transaction(["faces", "state"], "readwrite", { durability: "strict" });
    const faces = transaction.objectStore("faces");
    for (const entry of entries) {
      if (entry.deleted) faces.delete(entry.id);
      else faces.put({ ...entry, round: state.round });
    }
    transaction.objectStore("state").put(state, "state");
    return done(transaction);
  }

  /** Delete the faces that have not come again since the copying started over, and note that it has come to its end. */
  sweep(state) {
    const transaction = this.database.transaction(["faces", "state"], "readwrite", { durability: "strict" });
    const request = transaction.objectStore("faces").openCursor();
    request.onsuccess = () => {
      const face = request.result;
      if (!face) return;
      if (face.value.round !== state.round) face.delete();
      face.continue();
    };
    transaction.objectStore("state").put(state, "state");
    return done(transaction);
  }

  /** Begin anew with `state`, or with nothing. */
  clear(state) {
    const transaction = this.database.transaction(["faces", "state"], "readwrite", { durability: "strict" });
    transaction.objectStore("faces").clear();
    transaction.objectStore("state").clear();
    if (state) transaction.objectStore("state").put(state, "state");
    return done(transaction);
  }
}
