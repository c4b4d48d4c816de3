// The connection of a live session: opens it again when it breaks, counts the frames that are under way.
import { isGone } from "./connection.js";
import { askForKey, currentKey } from "./key.js";
import { addressOf } from "../addresses.js";

const SHORTEST = 500, LONGEST = 10_000; // milliseconds between attempts
const STUCK = 8000; // milliseconds after which a frame is no longer waited for
const MOST_UNDER_WAY = 2;
const REFUSED = [4400, 4403];

/**
 * Tells of `state` ("connecting", "open", "waiting", "closed"; with `reason`), `answer` and `fault`, all in `detail`.
 */
export class LiveSocket extends EventTarget {
  #socket = null; #wanted = false; #pause = SHORTEST; #timer = null; #settings = {};
  #number = 0;
  #sent = new Map(); // number to {at, picture}

  open() {
    this.#wanted = true;
    this.#pause = SHORTEST;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
    this.#sent.clear();
    this.#tell("state", { state: "closed", reason: "" });
  }

  /** Settings of the session, from now on and after every reconnection. */
  configure(settings) {
    this.#settings = { ...this.#settings, ...settings };
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(settings));
  }

  /** Whether another frame may be sent. */
  get ready() {
    const now = performance.now();
    for (const [number, { at }] of this.#sent) if (now - at > STUCK) this.#sent.delete(number);
    return this.#socket?.readyState === WebSocket.OPEN && this.#sent.size < MOST_UNDER_WAY;
  }

  /** Send a JPEG; its answer comes with it as `picture`. */
  async send(picture) {
    const socket = this.#socket;
    const number = this.#number;
    this.#number = (number + 1) % 2 ** 31; // a greater one would look like a picture
    const head = new DataView(new ArrayBuffer(4));
    head.setUint32(0, number);
    const message = await new Blob([head, picture]).arrayBuffer();
    if (socket !== this.#socket || socket?.readyState !== WebSocket.OPEN) return;
    this.#sent.set(number, { at: performance.now(), picture });
    socket.send(message);
  }

  #connect() {
    this.#tell("state", { state: "connecting", reason: "" });
    this.#sent.clear();
    const key = currentKey();
    const socket = new WebSocket(addressOf("/live").replace(/^http/, "ws"));
    this.#socket = socket;
    socket.onopen = () => {
      // The key goes in a message: an address stands in logs.
      socket.send(JSON.stringify({ ...(key === null ? {} : { api_key: key }), ...this.#settings }));
      this.#tell("state", { state: "open", reason: "" });
    };
    socket.onmessage = (event) => this.#answer(JSON.parse(event.data));
    socket.onclose = (event) => { if (socket === this.#socket) this.#broken(event, key); };
  }

  #answer(message) {
    const sent = this.#sent.get(message.frame);
    // Frames are answered in order: those before this one were skipped.
    for (const number of this.#sent.keys()) {
      this.#sent.delete(number);
      if (number === message.frame) break;
    }
    if (message.error) return this.#tell("fault", message.error);
    this.#pause = SHORTEST;
    if (sent) this.#tell("answer", { answer: message, picture: sent.picture, latency: performance.now() - sent.at });
  }

  async #broken({ code, reason }, key) {
    this.#socket = null;
    this.#sent.clear();
    if (!this.#wanted) return;
    this.#tell("state", { state: "waiting", reason });
    if (code === 4401 ? !(await askForKey(reason, key)) : REFUSED.includes(code)) {
      this.#wanted = false;
      return this.#tell("state", { state: "closed", reason: reason || "The service refused the connection." });
    }
    if (code === 1006) await isGone();
    if (!this.#wanted) return;
    this.#timer = setTimeout(() => this.#again(), code === 4401 ? 0 : this.#pause);
    this.#pause = Math.min(LONGEST, this.#pause * 2);
  }

  /** A page that nobody looks at sends no frames, and would only be turned away for that. */
  #again() {
    if (!this.#wanted || this.#socket) return;
    if (document.hidden) document.addEventListener("visibilitychange", () => this.#again(), { once: true });
    else this.#connect();
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
