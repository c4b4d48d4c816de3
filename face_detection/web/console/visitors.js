// Who is before the camera: a table of those who are known, and the unknown faces in view, with a dialog that gives one
// a name.
import { addPhoto, exists, idFor, kept } from "./adding.js";
import { announce, answered, byId, called, clock, element, note } from "./dom.js";
import { drawFace, faceJpeg, open } from "./pictures.js";

const LEAVE_AFTER = 30_000; // milliseconds unseen after which somebody has left, as in a live session
const SETTLED = 600; // milliseconds that a face is in view before it is offered
const GONE = 3000;
const REFRESH = 1500;

/** Who was seen: a table with first and last time, and how many times somebody came. */
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

/** Unknown faces in view. */
export class Strangers {
  #tracks = new Map(); // number to {since, last, drawn, node, canvas, picture, box}

  clear() {
    for (const track of this.#tracks.values()) track.node.remove();
    this.#tracks.clear();
    this.#none();
  }

  /** Take the faces of an answer, and the picture they were found in. */
  update(faces, picture) {
    const now = performance.now();
    for (const face of faces) {
      if (face.id !== null) this.#drop(face.track);
      // One that was not compared yet is nobody's face so far.
      else if (face.embedded || this.#tracks.has(face.track)) this.#see(face, picture, now);
    }
    for (const [number, track] of this.#tracks) if (now - track.last > GONE) this.#drop(number);
    this.#none();
  }

  #see(face, picture, now) {
    const track = this.#tracks.get(face.track) ?? this.#add(face.track, now);
    Object.assign(track, { last: now, picture, box: face.box });
    if (now - track.since < SETTLED || now - track.drawn < REFRESH) return;
    track.drawn = now;
    open(picture).then((bitmap) => {
      drawFace(track.canvas, bitmap, track.box);
      bitmap.close();
      if (!track.node.isConnected && this.#tracks.has(face.track)) byId("live-unknown").append(track.node);
      this.#none();
    }).catch(() => { /* The next frame will do. */ });
  }

  #add(number, now) {
    const canvas = element("canvas", { className: "face", width: 176, height: 176, ariaHidden: "true" });
    const button = element("button", { className: "tight", type: "button", textContent: "Enrol", ariaLabel: `Enrol unknown face ${number}` });
    const track = { since: now, last: now, drawn: -Infinity, canvas, node: element("li", {}, canvas, button) };
    button.onclick = () => enrol(track.picture, track.box);
    this.#tracks.set(number, track);
    return track;
  }

  #drop(number) {
    this.#tracks.get(number)?.node.remove();
    this.#tracks.delete(number);
  }

  #none() { byId("live-unknown-none").hidden = byId("live-unknown").childElementCount > 0; }
}

/** Ask for the name of a face and enrol it. */
async function enrol(picture, box) {
  const bitmap = await open(picture);
  drawFace(byId("name-face"), bitmap, box);
  const { photo, middle } = await faceJpeg(bitmap, box);
  bitmap.close();
  byId("name-text").value = byId("name-id").value = "";
  note(byId("name-note"), "");
  byId("name-form").onsubmit = async (event) => {
    event.preventDefault();
    const name = byId("name-text").value.trim(), id = byId("name-id").value.trim() || idFor(name);
    byId("name-save").disabled = true;
    try {
      if (!id) throw new Error("Give an id: none can be made from this name.");
      if (!byId("name-id").value.trim() && (await exists(id))) throw new Error(`There is somebody with the id ${id}. Give that id to add this photo to them, or another one.`);
      const added = await addPhoto(id, name, photo, { face: middle });
      const stays = await kept(id, "this photo", added);
      byId("name-dialog").close();
      announce(stays ? `${name} has been enrolled.` : "The photo has been taken back.");
    } catch (error) {
      note(byId("name-note"), error.message, "bad");
    }
    byId("name-save").disabled = false;
  };
  await answered(byId("name-dialog"));
}
