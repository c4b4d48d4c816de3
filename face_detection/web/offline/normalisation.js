// From a crop's pixels to the numbers that a network was trained on (feature_extraction/preprocessing.py).

// Means of red, green and blue in dlib's input layer.
const DLIB_MEANS = [122.782, 117.001, 104.298];

const prewhiten = (crop) => {
  let sum = 0, squares = 0;
  for (const value of crop) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / crop.length;
  const deviation = Math.sqrt(Math.max(0, squares / crop.length - mean * mean));
  const factor = 1 / Math.max(deviation, 1 / Math.sqrt(crop.length));
  return Float32Array.from(crop, (value) => (value - mean) * factor);
};

const NORMALISATIONS = {
  prewhiten,
  dlib: (crop) => Float32Array.from(crop, (value, i) => (value - DLIB_MEANS[i % 3]) / 256),
  "rgb-255": (crop) => Float32Array.from(crop),
  // Pixel by pixel the other way round: blue comes first.
  "bgr-unit": (crop) => Float32Array.from(crop, (_, i) => crop[i - (i % 3) + 2 - (i % 3)] / 255),
};

/**
 * Scale a crop's pixels as the model demands.
 * @param {Uint8ClampedArray} crop height x width x 3, RGB.
 * @param {string} name of the normalisation.
 * @returns {Float32Array} of the same shape.
 */
export const normalise = (crop, name) => {
  if (!NORMALISATIONS[name]) throw new Error(`This page does not know the normalisation ${name}.`);
  return NORMALISATIONS[name](crop);
};

/** From height x width x 3 to 3 x height x width. */
export const channelsFirst = (pixels) => {
  const plane = pixels.length / 3, target = new Float32Array(pixels.length);
  for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) target[c * plane + i] = pixels[3 * i + c];
  return target;
};
