// Who was seen: a table with first and last time, and how many times somebody came.
import { announce, byId, clock, element } from "./dom.js";
import { called } from "./naming.js";

const LEAVE_AFTER = 30_000; // milliseconds unseen after which somebody has left, as in a live session

export class Attendance {
  #people = new Map(); // id to what is known and the cells that show it

  clear() {
    this.#people.clear();
    byId("attendance").tBodies[0].replaceChildren();
    byId("attendance-none").hidden = false;
  }

  /** Take the faces of an answer. */
  update(faces) {
    const now = new Date();
    for (const face of faces) {
      if (face.id === null || !face.firm) continue;
      const person = this.#people.get(face.id) ?? this.#add(face, now);
      if (now - person.last > LEAVE_AFTER) person.times += 1;
      person.last = now;
      person.cells.times.textContent = person.times;
      person.cells.who.textContent = called(face);
      person.cells.last.textContent = clock(now);
    }
  }

  #add(face, now) {
    const cells = { who: element("td"), first: element("td", { textContent: clock(now) }), last: element("td"), times: element("td") };
    byId("attendance").tBodies[0].append(element("tr", {}, ...Object.values(cells)));
    byId("attendance-none").hidden = true;
    announce(`${called(face)} was seen.`);
    const person = { times: 1, last: now, cells };
    this.#people.set(face.id, person);
    return person;
  }
}
