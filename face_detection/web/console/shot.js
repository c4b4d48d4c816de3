// One photo of the page Recognise: the picture with its boxes, its faces and their closest people.
import { ApiError, json } from "./api.js";
import { called, copy, element, plural, short } from "./dom.js";
import { currentKey } from "./key.js";
import { boxOf, drawFace, open, undisplayable } from "./pictures.js";
import { decide, limitOf } from "./threshold.js";
import { addressOf } from "../addresses.js";

const CANDIDATES = 3;
const REASONS = { low_quality: "Too bad to be named", not_live: "A picture, not a person" };
const MOST_METADATA = 200; // characters beside a name; all of them are in the JSON
const LITTLE = 0.09; // of the picture's width: boxes below it get little labels

/** What was seen of a face, whoever it is: how good it is, and why where it is too bad. */
function seen({ angle, liveness, quality, quality_parts: parts, reason }) {
  const figures = reason === "low_quality" ? ` (${Math.round(parts.eyes)} pixels between the eyes, sharpness ${parts.sharpness.toFixed(2)})` : "";
  return [`quality ${quality.toFixed(2)}${figures}`, ...(angle ? [`turned by ${angle}°`] : []), ...(liveness === undefined ? [] : [`liveness ${short(liveness)}`])];
}

export class Shot {
  #file; #threshold; #looking; #picture; #stage; #found; #state; #tools; #url; #commandText;
  #faces = null;
  #failed = null;
  #round = 0; // of the questions: a slow answer must not overwrite a later one

  /** `looking` gives further parameters whenever the service is asked. */
  constructor(file, threshold, looking, remove) {
    this.#file = file;
    this.#threshold = threshold;
    this.#looking = looking;
    this.#url = URL.createObjectURL(file);
    this.#picture = element("img", { src: this.#url, alt: `Photo ${file.name}` });
    this.#picture.onerror = async () => this.#stage.replaceChildren(await this.#words());
    this.#stage = element("div", { className: "stage" }, this.#picture);
    this.#found = element("ol", { className: "found", ariaLabel: `Faces in ${file.name}` });
    this.#state = element("p", { className: "muted busy", textContent: "Looking …" });
    this.#tools = element("div", { className: "row" });
    const close = element("button", { className: "plain tight", type: "button", textContent: "Remove", ariaLabel: `Remove ${file.name}` });
    close.onclick = remove;
    this.node = element("article", { className: "card shot", ariaLabel: file.name },
      element("header", {}, element("h2", { textContent: file.name }), element("div", { className: "row" }, this.#tools, close)),
      element("div", { className: "beside" }, this.#stage), element("div", {}, this.#state, this.#found), this.#curl());
  }

  /** Whether it was not answered because the service was away. */
  get waits() { return this.#failed instanceof ApiError && (this.#failed.gone || this.#failed.status === 503 || this.#failed.status === 401); }

  /** [faces with a name, all faces]. */
  get counts() {
    const faces = this.#faces ?? [];
    return [faces.filter((face) => decide(face, this.#threshold).known).length, faces.length];
  }

  /** Ask the service; afterwards everything is decided here. */
  async recognise() {
    this.#failed = null;
    this.#state.hidden = false;
    this.#state.className = "muted busy";
    this.#state.textContent = "Looking …";
    const round = ++this.#round;
    this.#command();
    try {
      const faces = await json(`/face-recognition?${this.#query()}`, {
        method: "POST", body: this.#file, headers: { "Content-Type": "application/octet-stream" }, patient: true,
      });
      if (round === this.#round) await this.#show(faces);
    } catch (error) {
      if (round !== this.#round) return;
      this.#failed = error;
      this.#fail(error.message);
    }
  }

  /** Name the faces anew after the threshold has moved. */
  relabel() {
    this.#command();
    for (const face of this.#faces ?? []) this.#label(face);
  }

  close() {
    URL.revokeObjectURL(this.#url);
    this.node.remove();
  }

  #fail(text) {
    const again = element("button", { className: "tight", type: "button", textContent: "Try again" });
    again.onclick = () => this.recognise();
    this.#state.className = "note bad";
    this.#state.replaceChildren(`${text} `, again);
  }

  async #show(faces) {
    const bitmap = await open(this.#file).catch(() => null);
    const words = bitmap ? null : await this.#words();
    this.#faces = faces; // only now: what has faces can be labelled
    this.#state.hidden = faces.length > 0;
    this.#state.className = "muted";
    this.#state.textContent = "No face was found.";
    this.#stage.replaceChildren(words ?? this.#picture);
    this.#found.replaceChildren();
    for (const face of faces) this.#add(face, bitmap);
    bitmap?.close();
    const button = element("button", { className: "tight", type: "button", textContent: "Copy as JSON" });
    button.onclick = () => copy(JSON.stringify(faces.map((face) => this.#answer(face)), null, 2), button);
    this.#tools.replaceChildren(button);
    this.relabel();
  }

  /** Words in place of a picture that the browser cannot decode. */
  async #words() {
    return element("p", { className: "note", textContent: await undisplayable(this.#file) });
  }

  #answer(face) {
    const { id, name, metadata, distance, known, ambiguous } = decide(face, this.#threshold);
    const checked = { ...(face.reason ? { reason: face.reason } : {}), ...(face.liveness === undefined ? {} : { liveness: face.liveness }) };
    const how = { angle: face.angle, quality: face.quality };
    return { bbox: face.bbox, id, name, metadata, distance, ...(known ? { ambiguous } : {}), ...checked, ...how, candidates: face.candidates ?? [] };
  }

  /** What the service is asked; with `threshold` at the one that was chosen. */
  #query(threshold = {}) {
    const chosen = Object.entries(threshold).filter(([, value]) => value !== null);
    return new URLSearchParams([["include_unknown", true], ["candidates", CANDIDATES], ["quality", true], ...Object.entries(this.#looking()), ...chosen]);
  }

  #add(face, bitmap) {
    const [x, y, width, height] = boxOf(face.bbox);
    const name = element("b"), far = element("b"), text = element("span", {}, name, far);
    const box = element("div", { className: "box", ariaHidden: "true" }, text);
    const crop = element("canvas", { className: "face", width: 128, height: 128, ariaHidden: "true" });
    const title = element("strong"), detail = element("span", { className: "muted small" }), closest = element("ul", { className: "closest", ariaLabel: "Closest people" });
    const item = element("li", { tabIndex: 0 }, crop, element("div", {}, title, element("br"), detail), closest);
    if (bitmap) {
      const percent = (part, whole) => `${(100 * part) / whole}%`;
      Object.assign(box.style, { left: percent(x, bitmap.width), top: percent(y, bitmap.height), width: percent(width, bitmap.width), height: percent(height, bitmap.height) });
      box.classList.toggle("low", y < 0.06 * bitmap.height);
      box.classList.toggle("right", x + width / 2 > 0.7 * bitmap.width);
      box.classList.toggle("little", width < LITTLE * bitmap.width);
      drawFace(crop, bitmap, [x, y, width, height]);
      this.#stage.append(box);
    }
    const light = (on) => () => box.classList.toggle("lit", on);
    Object.assign(item, { onmouseenter: light(true), onmouseleave: light(false), onfocus: light(true), onblur: light(false) });
    this.#found.append(item);
    face.view = { box, name, far, item, title, detail, closest };
    Object.defineProperty(face, "view", { enumerable: false });
  }

  #label(face) {
    const { box, name, far, item, title, detail, closest } = face.view;
    const who = decide(face, this.#threshold);
    box.classList.toggle("unknown", !who.known);
    item.classList.toggle("known", who.known);
    name.textContent = who.known ? called(who) : "unknown";
    far.textContent = short(who.distance);
    title.textContent = who.known ? called(who) : (REASONS[face.reason] ?? "Unknown");
    const about = who.known && who.metadata !== null && who.metadata !== "" ? ` · ${JSON.stringify(who.metadata).slice(0, MOST_METADATA)}` : "";
    const near = who.distance === null ? "nobody is enrolled" : `${who.known ? `id ${who.id} · ` : ""}distance ${short(who.distance)}${about}`;
    detail.textContent = [...(face.reason === "not_live" ? [] : [near]), ...(who.ambiguous ? ["somebody else is nearly as near"] : []), ...seen(face)].join(" · ");
    closest.replaceChildren(...(face.candidates ?? []).map((one) => this.#candidate(one, limitOf(face, this.#threshold))));
  }

  #candidate(one, limit) {
    const near = one.distance < limit;
    const fill = element("i");
    fill.style.width = `${Math.min(100, (100 * one.distance) / (2 * limit))}%`;
    return element("li", { className: near ? "near" : "" }, element("span", { className: "who", textContent: called(one), title: `id ${one.id}` }),
      element("span", { className: "meter", ariaHidden: "true" }, fill), element("span", { className: "mono", textContent: short(one.distance) }));
  }

  #curl() {
    const text = element("code");
    const button = element("button", { className: "tight", type: "button", textContent: "Copy the command" });
    button.onclick = () => copy(text.textContent, button);
    this.#commandText = text;
    return element("details", { className: "curl" }, element("summary", { textContent: "The same with curl" }), element("pre", {}, text), button);
  }

  #command() {
    const quoted = (one) => `'${one.replaceAll("'", "'\\''")}'`;
    this.#commandText.textContent = [`curl -s ${quoted(addressOf(`/face-recognition?${this.#query(this.#threshold.parameters)}`))}`,
      ...(currentKey() === null ? [] : ['-H "X-API-Key: $KEY"']),
      `--data-binary ${quoted(`@${this.#file.name}`)}`].join(" \\\n  ");
  }

  /** One line on what was found, for those who do not see it. */
  get summary() {
    if (this.#failed) return `${this.#file.name}: ${this.#failed.message}`;
    const [known, all] = this.counts;
    return `${this.#file.name}: ${plural(all, "face")}, ${known} named`;
  }
}
