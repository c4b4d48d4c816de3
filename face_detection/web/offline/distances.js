// How two embeddings are compared; smaller is nearer (shared/models.py, face_detection/gallery/search/distances.py).

const euclidean = (a, b) => {
  let squares = 0;
  for (let i = 0; i < a.length; i++) squares += (a[i] - b[i]) ** 2;
  return Math.sqrt(squares);
};

const toUnit = (vector) => {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.sqrt(squares) || 1;
  return Float32Array.from(vector, (value) => value / length);
};

/** Metric → what is done to a vector once, and the distance of two such vectors. */
const METRICS = {
  euclidean: { prepare: (vector) => Float32Array.from(vector), distance: euclidean },
  "tenfold-unit-euclidean": { prepare: toUnit, distance: (a, b) => 10 * euclidean(a, b) },
  cosine: { prepare: toUnit, distance: (a, b) => euclidean(a, b) ** 2 / 2 },
};

export const metricOf = (name) => {
  if (!METRICS[name]) throw new Error(`This page does not know the distance ${name}.`);
  return METRICS[name];
};

export { toUnit };
