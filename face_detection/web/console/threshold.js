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
  #slider; #output; #reset; #rates; #rate; #often; #unknown; #standard = 9; #chosen = null; #chosenRate = null;

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
    this.#rate.onchange = () => {
      const rate = Number(this.#rate.value);
      this.#choose(this.curve.distance(rate), rate);
    };
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
    if (this.#chosenRate !== null && this.curve) this.#choose(this.curve.distance(this.#chosenRate), this.#chosenRate);
    else this.#choose(this.#chosen && Math.min(this.#chosen, most));
  }

  /** Whether it departs from the default. */
  get moved() { return this.#chosen !== null; }

  get value() { return this.#chosen ?? this.#standard; }

  /** What a request says to be answered at this threshold: a distance or a rate as it was chosen; both null for the default. */
  get parameters() {
    const distance = this.#chosenRate === null && this.moved ? Number(this.#chosen.toFixed(3)) : null;
    return { min_distance: distance, false_match_rate: this.#chosenRate };
  }

  /** Use a distance, of which the slider shows the nearest step, and the rate that it comes from, if any; null for the default. */
  #choose(distance, rate = null) {
    const departs = distance !== null && !same(distance, this.#standard);
    [this.#chosen, this.#chosenRate] = departs ? [distance, rate] : [null, null];
    this.#slider.value = this.value;
    this.#show();
    this.dispatchEvent(new Event("change"));
  }

  #show() {
    this.#output.textContent = String(Number(this.value.toFixed(3)));
    this.#reset.disabled = !this.moved;
    if (this.curve === null) return;
    this.#often.textContent = `${this.value > this.curve.range[0] ? "" : "at most "}${often(this.curve.rate(this.value))}`;
    this.#rate.value = this.#chosenRate ?? this.curve.rates.find((rate) => same(this.curve.distance(rate), this.value)) ?? "";
  }
}

/** The distance that counts for a face at a threshold: less than it for one that is not clear. */
export const limitOf = (face, threshold) => threshold.value * (face.quality_parts?.tolerance ?? 1);

/**
 * The id, name, metadata and distance of a face, and whether another person is nearly as near.
 *
 * At the default threshold that is the service's own decision, which may be a vote of several samples. At another one it
 * is the nearest candidate, if its distance is less than the share of it that counts for a face so clear. Whom the service
 * names for no distance is nobody at any.
 */
export function decide(face, threshold) {
  if (face.reason) return { id: "", name: "", metadata: "", distance: face.distance, known: false };
  if (!threshold.moved) return { id: face.id, name: face.name, metadata: face.metadata, distance: face.distance, known: face.id !== "", ambiguous: face.ambiguous ?? false };
  const nearest = face.candidates?.[0];
  if (!nearest || nearest.distance >= limitOf(face, threshold)) return { id: "", name: "", metadata: "", distance: face.distance, known: false };
  const answered = nearest.id === face.id; // otherwise the service has left these out
  return { id: nearest.id, name: nearest.name, metadata: answered ? face.metadata : null, distance: nearest.distance, known: true, ambiguous: answered && face.ambiguous };
}
