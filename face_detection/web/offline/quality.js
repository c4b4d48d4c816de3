// How well a face can be recognised (face_detection/recognition/quality.py, which names the measures' sources). All
// constants and limits are the service's, in the entry `quality` of /offline/models.

/** Gray levels of the part of a crop that is measured, as OpenCV weighs the colours. */
const grayLevels = (crop, { width, columns: [left, right], rows: [top, bottom] }) => {
  const size = { width: right - left, height: bottom - top }, values = new Float32Array(size.width * size.height);
  for (let y = top, to = 0; y < bottom; y++) {
    for (let x = left, from = (y * width + left) * 3; x < right; x++, from += 3, to++) {
      values[to] = Math.round(crop[from] * 0.299 + crop[from + 1] * 0.587 + crop[from + 2] * 0.114);
    }
  }
  return { values, ...size };
};

/** Beyond an edge pixels are mirrored at its last one. */
const mirrored = (index, length) => (index < 0 ? -index : index >= length ? 2 * length - 2 - index : index);

const alongRows = ({ values, width, height }, kernel) => {
  const result = new Float32Array(values.length), reach = (kernel.length - 1) / 2;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = 0; k < kernel.length; k++) sum += kernel[k] * values[y * width + mirrored(x + k - reach, width)];
      result[y * width + x] = sum;
    }
  }
  return { values: result, width, height };
};

const alongColumns = ({ values, width, height }, kernel) => {
  const result = new Float32Array(values.length), reach = (kernel.length - 1) / 2;
  for (let y = 0; y < height; y++) {
    for (let k = 0; k < kernel.length; k++) {
      const from = mirrored(y + k - reach, height) * width;
      for (let x = 0; x < width; x++) result[y * width + x] += kernel[k] * values[from + x];
    }
  }
  return { values: result, width, height };
};

const filtered = (levels, across, down) => alongColumns(alongRows(levels, across), down).values;

const gaussian = (deviation) => {
  const reach = Math.floor(Math.round(8 * deviation + 1) / 2);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * deviation ** 2)));
  const sum = weights.reduce((total, weight) => total + weight);
  return weights.map((weight) => weight / sum);
};

const SLOPE = [-1, 0, 1], SMOOTH = [1, 2, 1], CURVE = [1, -2, 1], NOTHING = [1];

/** Places of the face in the part that is measured. */
const facePlaces = ({ face, columns: [left, right] }) =>
  face.flatMap(([first, last], y) => Array.from({ length: last - first }, (_, i) => y * (right - left) + first - left + i));

const mean = (places, valueAt) => places.reduce((sum, place) => sum + valueAt(place), 0) / places.length;

/** Standard deviation of the noise, in gray levels. */
const noiseOf = (levels, places) => {
  const grain = filtered(levels, CURVE, CURVE);
  const sorted = Float32Array.from(places, (place) => Math.abs(grain[place])).sort();
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2 / (6 * 0.6745);
};

/** Means over the face of dx · dx + more, dx · dy and dy · dy + more of the gradient after a Gaussian. */
const structure = (levels, deviation, places, more) => {
  const kernel = gaussian(deviation), smooth = { ...levels, values: filtered(levels, kernel, kernel) };
  const across = filtered(smooth, SLOPE, SMOOTH), down = filtered(smooth, SMOOTH, SLOPE);
  const product = (a, b) => mean(places, (place) => a[place] * b[place]) / 64;
  return [product(across, across) + more, product(across, down), product(down, down) + more];
};

const sharpnessOf = (levels, noise, places, { fine, coarse }) => {
  const white = noise ** 2 / (8 * Math.PI * fine ** 4);
  const [a, b, c] = structure(levels, fine, places, -white), [d, e, f] = structure(levels, coarse, places, 1e-6);
  const half = (a * f + c * d) / 2 - b * e, product = (a * c - b * b) * (d * f - e * e);
  return Math.max(0, (half - Math.sqrt(Math.max(0, half * half - product))) / (d * f - e * e) - 1);
};

const detailOf = (levels, contrast, places, { plain, least_deviation: leastDeviation }) => {
  const across = filtered(levels, SLOPE, NOTHING), down = filtered(levels, NOTHING, SLOPE);
  const least = 2 * plain * Math.max(contrast, leastDeviation);
  return mean(places, (place) => Number(Math.hypot(across[place], down[place]) >= least));
};

const degrees = (radians) => (radians * 180) / Math.PI;

/** Angles in degrees, and pixels of the picture between the eyes of a face that would look into the camera. */
const poseOf = (points, { pose, eyes_apart: eyesApart }) => {
  const [first, second] = [0, 1].map((axis) => {
    const middle = points.reduce((sum, point) => sum + point[axis], 0) / points.length;
    return pose.map((row) => row.reduce((sum, weight, i) => sum + weight * (points[i][axis] - middle), 0));
  });
  const lengths = [Math.hypot(...first), Math.hypot(...second)], eyes = Math.max(...lengths) * eyesApart;
  if (!Math.min(...lengths)) return { yaw: 0, pitch: 0, roll: 0, eyes };
  const yaw = degrees(Math.asin(first[2] / lengths[0])), pitch = -degrees(Math.asin(second[2] / lengths[1]));
  return { yaw, pitch, roll: degrees(Math.atan2(second[0], first[0])), eyes };
};

/** Share of the square around the landmarks that lies in the picture. */
const insideOf = ([a, b, , c, d], width, height, { reach: factor }) => {
  const reach = factor * Math.hypot((a[0] + b[0] - c[0] - d[0]) / 2, (a[1] + b[1] - c[1] - d[1]) / 2);
  if (!reach) return 1;
  const share = (axis, limit) => {
    const middle = (a[axis] + b[axis] + c[axis] + d[axis]) / 4, within = (value) => Math.min(Math.max(value, 0), limit);
    return (within(middle + reach) - within(middle - reach)) / (2 * reach);
  };
  return share(0, width) * share(1, height);
};

/**
 * Measure a face.
 * @param {{points, score}} face in pixels of the picture at full scale.
 * @param {Uint8ClampedArray} crop height x width x 3, RGB, aligned as the terms say; beyond the picture its edge repeats.
 * @param {{fullWidth, fullHeight}} picture
 * @param terms the service's.
 */
export const measure = ({ points, score }, crop, { fullWidth, fullHeight }, terms) => {
  const levels = grayLevels(crop, terms), places = facePlaces(terms);
  const brightness = mean(places, (place) => levels.values[place]);
  const contrast = Math.sqrt(mean(places, (place) => (levels.values[place] - brightness) ** 2));
  const noise = noiseOf(levels, places);
  return {
    ...poseOf(points, terms),
    sharpness: sharpnessOf(levels, noise, places, terms),
    detail: detailOf(levels, contrast, places, terms),
    noise,
    brightness,
    contrast,
    clearness: contrast / Math.max(noise, terms.least_noise),
    inside: insideOf(points, fullWidth, fullHeight, terms),
    score,
  };
};

/** What a face is too bad in to be named, as in "too blurred: sharpness 0.11, at least 0.18"; empty when it serves. */
export const objections = (quality, { limits }) =>
  limits.flatMap(({ measure: name, fault, figure, digits, bound, limit }) => {
    const value = Math.abs(quality[name]), most = bound === "at most";
    if (most ? value <= limit : value >= limit) return [];
    const away = (most ? Math.ceil : Math.floor)(value * 10 ** digits) / 10 ** digits;
    return `${fault}: ${figure} ${away.toFixed(digits)}, ${bound} ${limit}`;
  });

/** Share of the threshold within which somebody must be for this face to have their name, up to 1. */
export const toleranceOf = (quality, { least_tolerance: least, doubts }) => {
  const worth = ([name, [worthless, best]]) => Math.min(1, Math.max(0, (quality[name] - worthless) / (best - worthless)));
  return least + (1 - least) * Object.entries(doubts).reduce((product, doubt) => product * worth(doubt), 1);
};
