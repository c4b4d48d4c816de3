// Who was seen: a table with first and last time, and how many times somebody came.
import { announce, byId, clock, element } from "./dom.js";
import { called } from "./naming.js";

export class Attendance {
  #people = new Map(); // id to what is known and the cells that show it
  #tracks = new Set();

  /** Numbers of tracks begin anew. */
  reconnected() { this.#tracks.clear(); }

  clear() {
    this.#people.clear();
    this.#tracks.clear();
    byId("attendance").tBodies[0].replaceChildren();
    byId("attendance-none").hidden = false;
  }

  /** Take the faces of an answer. Somebody comes with each track that gets their name for good. */
  update(faces) {
    const now = new Date();
    for (const face of faces) {
      if (face.id === null || !face.firm) continue;
      const person = this.#people.get(face.id) ?? this.#add(face, now);
      const visit = `${face.track} ${face.id}`;
      if (!this.#tracks.has(visit)) {
        this.#tracks.add(visit);
        person.times += 1;
        person.cells.times.textContent = person.times;
      }
      person.cells.who.textContent = called(face);
      person.cells.last.textContent = clock(now);
    }
  }

  #add(face, now) {
    const cells = { who: element("td"), first: element("td", { textContent: clock(now) }), last: element("td"), times: element("td") };
    byId("attendance").tBodies[0].append(element("tr", {}, ...Object.values(cells)));
    byId("attendance-none").hidden = true;
    announce(`${called(face)} was seen.`);
    const person = { times: 0, cells };
    this.#people.set(face.id, person);
    return person;
  }
}
