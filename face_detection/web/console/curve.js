// What a distance means, from the curve of GET /calibration: computed as shared/calibration.py does.
import { json } from "./api.js";

/** A piecewise linear function through ascending xs; beyond the first its line goes on, beyond the last it stays. */
function line(xs, ys, x) {
  if (x >= xs.at(-1)) return ys.at(-1);
  const right = Math.max(1, xs.findIndex((one) => one > x));
  return ys[right - 1] + ((ys[right] - ys[right - 1]) * (x - xs[right - 1])) / (xs[right] - xs[right - 1]);
}

/** How often a stranger comes nearer than a distance to any of the samples, and two photos of one person to each other. */
export class Curve {
  #distances; #logarithms; #accepted; #samples;

  constructor(points, samples) {
    this.#distances = points.map(([distance]) => distance);
    this.#logarithms = points.map(([, rate]) => Math.log(rate));
    this.#accepted = points.map(([, , accepted]) => accepted);
    this.#samples = Math.max(1, samples);
    const least = points[0][1];
    /** Rates that may be asked for: 1e-2, 1e-3 … and the least. */
    this.rates = [2, 3, 4, 5, 6, 7, 8, 9].map((power) => Number(`1e-${power}`)).filter((rate) => rate > least).concat(least);
  }

  /** From where to where it was measured. */
  get range() { return [this.#distances[0], this.#distances.at(-1)]; }

  /** The distance below which a stranger gets somebody's name at a rate. */
  distance(rate) {
    const each = -Math.expm1(Math.log1p(-rate) / this.#samples);
    return Math.max(0, line(this.#logarithms, this.#distances, Math.log(each)));
  }

  /** The rate at which a stranger is nearer to anybody; at the beginning of the range and before it is what is known. */
  rate(distance) {
    const each = Math.exp(line(this.#distances, this.#logarithms, Math.max(distance, this.#distances[0])));
    return each >= 1 ? 1 : -Math.expm1(this.#samples * Math.log1p(-each));
  }

  /** The share of pairs of photos of one person that are nearer. */
  accepted(distance) { return Math.min(1, Math.max(0, line(this.#distances, this.#accepted, distance))); }
}

/** The curve that counts for the caller; null where none was measured. */
export async function loadCurve() {
  const { curve, samples } = await json("/calibration", { ask: false });
  return curve && new Curve(curve.points, samples);
}

/** A rate in words. */
export const often = (rate) => (rate >= 0.1 ? `${Math.round(100 * rate)} in 100` : `1 in ${Number((1 / rate).toPrecision(3)).toLocaleString("en")}`);
