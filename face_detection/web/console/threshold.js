// The threshold: the caller's default, a slider and a choice of rates that depart from it, and who a face is at it,
// decided here from what the service answered once.
import { request } from "./api.js";
import { loadCurve, often } from "./curve.js";
import { byId, element, note } from "./dom.js";

const FARTHEST = { "tenfold-unit-euclidean": 20, cosine: 2 };
const UNKNOWN = "How often a stranger comes so near is not known: the model in use has no curve of this distance. One is measured on photos of your own by the command calibrate.";

/** The default threshold, the company's if it has its own, and the largest distance worth a slider's while. */
async function loadThreshold() {
  const ready = await (await request("/readyz")).json();
  const value = ready.company_min_distance ?? ready.min_distance;
  return { value, most: Math.max(FARTHEST[ready.distance] ?? 0, value * 2) };
}

const same = (one, other) => Math.abs(one - other) < 1e-6 * other;

/** A slider with its output, a button that takes it back, and a choice of rates; `prefix` is the slider's id. */
export class ThresholdSlider extends EventTarget {
  #slider; #output; #reset; #rates; #rate; #often; #unknown; #standard = 9; #chosen = null;

  /** What distances mean, null where that is not known. */
  curve = null;

  constructor(prefix) {
    super();
    this.#slider = byId(prefix);
    [this.#output, this.#reset, this.#rates, this.#rate, this.#often, this.#unknown] =
      ["value", "reset", "rates", "rate", "often", "unknown"].map((part) => byId(`${prefix}-${part}`));
    this.#slider.oninput = () => {
      const value = Number(this.#slider.value);
      this.#choose(Math.abs(value - this.#standard) > Number(this.#slider.step) / 2 ? value : null);
    };
    this.#rate.onchange = () => this.#choose(this.curve.distance(Number(this.#rate.value)));
    this.#reset.onclick = () => { this.#choose(null); this.#slider.focus(); };
    this.#show();
  }

  /** Take the default, the scale and the curve from the service; a slider that was moved stays where it is. */
  async load() {
    const { value, most } = await loadThreshold();
    let unknown = false;
    try {
      this.curve = await loadCurve();
      unknown = this.curve === null;
    } catch {
      this.curve = null; // a key that may not ask is told of what it does ask for
    }
    Object.assign(this.#slider, { max: most, step: most / 200 });
    this.#standard = value;
    this.#rates.hidden = this.curve === null;
    note(this.#unknown, unknown ? UNKNOWN : "");
    this.#rate.replaceChildren(element("option", { value: "", textContent: "as the slider says", disabled: true }),
      ...(this.curve?.rates ?? []).map((rate) => element("option", { value: rate, textContent: `at most ${often(rate)}` })));
    this.#choose(this.#chosen && Math.min(this.#chosen, most));
  }

  /** Whether it departs from the default. */
  get moved() { return this.#chosen !== null; }

  get value() { return this.#chosen ?? this.#standard; }

  /** Use a distance, of which the slider shows the nearest step; null for the default. */
  #choose(distance) {
    this.#chosen = distance !== null && same(distance, this.#standard) ? null : distance;
    this.#slider.value = this.value;
    this.#show();
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    this.#output.textContent = String(Number(this.value.toFixed(3)));
    this.#reset.disabled = !this.moved;
    if (this.curve === null) return;
    this.#often.textContent = `${this.value > this.curve.range[0] ? "" : "at most "}${often(this.curve.rate(this.value))}`;
    this.#rate.value = this.curve.rates.find((rate) => same(this.curve.distance(rate), this.value)) ?? "";
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
