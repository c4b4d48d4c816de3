// What distances mean: false match rates (face_detection/recognition/thresholds.py, shared/calibration.py). A curve is a
// list of [distance, rate], both ascending; null where the model has none.

/** Piecewise linear through ascending xs; beyond the first its line goes on, beyond the last it stays. */
const line = (xs, ys, x) => {
  if (x >= xs.at(-1)) return ys.at(-1);
  const right = Math.max(1, xs.findIndex((one) => one > x));
  return ys[right - 1] + ((x - xs[right - 1]) / (xs[right] - xs[right - 1])) * (ys[right] - ys[right - 1]);
};

const distances = (curve) => curve.map(([distance]) => distance);
const logarithms = (curve) => curve.map(([, rate]) => Math.log(rate));

/**
 * The distance below which faces match.
 * @param {{threshold: number, false_match_rate: number | null, curve: number[][] | null}} decision
 * @param {number} samples of the gallery.
 */
export const thresholdOf = ({ threshold, false_match_rate: rate, curve }, samples) => {
  if (rate === null || curve === null) return threshold;
  const each = -Math.expm1(Math.log1p(-rate) / Math.max(1, samples));
  return Math.max(0, line(logarithms(curve), distances(curve), Math.log(each)));
};

/** How often a stranger comes nearer than a distance to any of the samples, 0 to 1; null without a curve. */
export const rateOf = ({ curve }, samples, distance) => {
  if (curve === null) return null;
  const [[nearest, least]] = curve;
  const rate = distance <= nearest ? least : Math.min(1, Math.exp(line(distances(curve), logarithms(curve), distance)));
  return rate >= 1 ? 1 : -Math.expm1(Math.max(1, samples) * Math.log1p(-rate));
};
