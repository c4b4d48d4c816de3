// The threshold: the caller's default, a slider that departs from it, and who a face is at it, decided here from what
// the service answered once.
import { request } from "./api.js";
import { byId } from "./dom.js";

const FARTHEST = { "tenfold-unit-euclidean": 20, cosine: 2 };

/** The default threshold, the company's if it has its own, and the largest distance worth a slider's while. */
async function loadThreshold() {
  const ready = await (await request("/readyz")).json();
  const value = ready.company_min_distance ?? ready.min_distance;
  return { value, most: Math.max(FARTHEST[ready.distance] ?? 0, value * 2) };
}

/** A slider with its output and a button that takes it back; `prefix` is the slider's id. */
export class ThresholdSlider extends EventTarget {
  #slider; #output; #reset; #standard = 9;

  constructor(prefix) {
    super();
    this.#slider = byId(prefix);
    this.#output = byId(`${prefix}-value`);
    this.#reset = byId(`${prefix}-reset`);
    this.#slider.oninput = () => this.#changed();
    this.#reset.onclick = () => { this.#slider.value = this.#standard; this.#changed(); this.#slider.focus(); };
    this.#show();
  }

  /** Take the default and the scale from the service; a slider that was moved stays where it is. */
  async load() {
    const { value, most } = await loadThreshold();
    const moved = this.moved ? this.value : null;
    Object.assign(this.#slider, { max: most, step: most / 200 });
    this.#standard = value;
    this.#slider.value = moved ?? value;
    this.#changed();
  }

  /** Whether it departs from the default. */
  get moved() { return Math.abs(Number(this.#slider.value) - this.#standard) > Number(this.#slider.step) / 2; }

  get value() { return this.moved ? Number(this.#slider.value) : this.#standard; }

  #changed() { this.#show(); this.dispatchEvent(new Event("change")); }

  #show() {
    this.#output.textContent = String(Number(this.value.toFixed(3)));
    this.#reset.disabled = !this.moved;
  }
}

/**
 * The id, name, metadata and distance of a face.
 *
 * At the default threshold that is the service's own decision, which may be a vote of several samples. At another one it
 * is the nearest candidate, if its distance is less. Whom the service names for no distance is nobody at any.
 */
export function decide(face, threshold) {
  if (face.reason) return { id: "", name: "", metadata: "", distance: face.distance, known: false };
  if (!threshold.moved) return { id: face.id, name: face.name, metadata: face.metadata, distance: face.distance, known: face.id !== "" };
  const nearest = face.candidates?.[0];
  if (!nearest || nearest.distance >= threshold.value) return { id: "", name: "", metadata: "", distance: face.distance, known: false };
  const metadata = nearest.id === face.id ? face.metadata : null;
  return { id: nearest.id, name: nearest.name, metadata, distance: nearest.distance, known: true };
}
