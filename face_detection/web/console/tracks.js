// Boxes and names over the video: each track glides from where it was to where it is.
import { called, short } from "./dom.js";

const KNOWN = "#12703a", UNKNOWN = "#8a4b00";
const REASONS = { low_quality: "too bad to be named", not_live: "a picture" };
const LINGER = 2.5; // intervals between answers for which a track that is gone is still drawn

const mix = (a, b, part) => a.map((value, index) => value + (b[index] - value) * part);

export class Tracks {
  #tracks = new Map();
  #interval = 150; // milliseconds between answers, as of late
  #last = 0;
  #size = [1, 1];

  clear() { this.#tracks.clear(); }

  /** Take the faces of an answer, at a time in milliseconds. */
  update({ faces, width, height }, now) {
    if (this.#last) this.#interval += (Math.min(1000, now - this.#last) - this.#interval) * 0.2;
    this.#last = now;
    this.#size = [width, height];
    for (const face of faces) {
      const known = this.#tracks.get(face.track);
      this.#tracks.set(face.track, { face, from: known ? this.#place(known, now) : face.box, to: face.box, since: now });
    }
  }

  /** Draw all on a canvas that lies over the video. */
  draw(canvas, now) {
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    // As object-fit: contain places the video.
    const ratio = Math.min(width / this.#size[0], height / this.#size[1]);
    const [left, top] = [(width - ratio * this.#size[0]) / 2, (height - ratio * this.#size[1]) / 2];
    for (const [number, track] of this.#tracks) {
      if (now - track.since > LINGER * this.#interval + 200) {
        this.#tracks.delete(number);
        continue;
      }
      const [x, y, w, h] = this.#place(track, now).map((value) => value * ratio);
      drawBox(context, track.face, [left + x, top + y, w, h], width);
    }
  }

  #place({ from, to, since }, now) { return mix(from, to, Math.min(1, (now - since) / this.#interval)); }
}

function drawBox(context, face, [x, y, width, height], room) {
  const known = face.id !== null;
  context.strokeStyle = context.fillStyle = known ? KNOWN : UNKNOWN;
  context.lineWidth = 3;
  context.setLineDash(known ? [] : [8, 5]);
  context.beginPath();
  context.roundRect(x, y, width, height, 6);
  context.stroke();
  const text = `${known ? called(face) : (REASONS[face.reason] ?? "unknown")}${known && face.ambiguous ? " or another" : ""}${face.distance === null ? "" : ` ${short(face.distance)}`}`;
  const size = Math.max(11, Math.min(15, room / 40)), tall = size + 9;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = context.measureText(text).width + 14;
  const left = Math.max(0, Math.min(x - 1.5, room - wide)), top = y > tall + 2 ? y - tall - 1 : y + height + 2;
  context.beginPath();
  context.roundRect(left, top, wide, tall, 4);
  context.fill();
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(text, left + 7, top + tall / 2 + 0.5);
}
