// Reducing a picture by averaging areas, and enlarging it, as OpenCV's INTER_AREA and INTER_LINEAR do.

/** For each of `to` target pixels, `scale` source pixels wide: the first that it covers, and the weight of each. */
const spans = (from, to, scale = from / to) =>
  Array.from({ length: to }, (_, index) => {
    const start = index * scale, end = Math.min(start + scale, from);
    const first = Math.floor(start + 1e-9), last = Math.max(first + 1, Math.ceil(end - 1e-9));
    const weights = new Float64Array(last - first);
    for (let i = first; i < last; i++) weights[i - first] = (Math.min(i + 1, end) - Math.max(i, start)) / (end - start);
    return { first, weights };
  });

/**
 * A part of a picture, averaged into width x height pixels; sides of one pixel may grow.
 * @param {{data, width, height}} picture
 * @param {number} width of the result.
 * @param {number} height of the result.
 * @param {{left, top, width, height}} part in pixels of the picture; the whole of it if left out.
 */
export const resize = (picture, width, height, part = { left: 0, top: 0, width: picture.width, height: picture.height }) =>
  average(picture, part.left, part.top, spans(part.width, width), spans(part.height, height));

/** A picture at one scale-th of its size; the last row and column may stand for fewer pixels. */
export const reduce = (picture, scale) => {
  const width = Math.ceil(picture.width / scale), height = Math.ceil(picture.height / scale);
  return average(picture, 0, 0, spans(picture.width, width, scale), spans(picture.height, height, scale));
};

/** For each of `to` target pixels that lie closer than the source's: the one before it, and weights of that and the next. */
const neighbours = (from, to) =>
  Array.from({ length: to }, (_, index) => {
    const centre = Math.min(Math.max(((index + 0.5) * from) / to - 0.5, 0), from - 1), first = Math.min(Math.floor(centre), Math.max(0, from - 2));
    return { first, weights: from > 1 ? Float64Array.of(1 - (centre - first), centre - first) : Float64Array.of(1) };
  });

/** A part of a picture, enlarged to width x height pixels. */
export const enlarge = (picture, width, height, { left, top, width: columns, height: rows }) =>
  average(picture, left, top, neighbours(columns, width), neighbours(rows, height));

const average = (picture, left, top, across, down) => {
  const width = across.length, height = down.length;
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  const line = new Float32Array(width * 3), sum = new Float32Array(width * 3);
  let lineOf = -1;
  for (let y = 0; y < height; y++) {
    sum.fill(0);
    const { first, weights } = down[y];
    for (let i = 0; i < weights.length; i++) {
      // Neighbouring target rows may share a source row.
      if (lineOf !== first + i) averageRow(picture, left, top + first + i, across, line);
      lineOf = first + i;
      const weight = weights[i];
      for (let k = 0; k < sum.length; k++) sum[k] += weight * line[k];
    }
    for (let x = 0, from = 0, to = y * width * 4; x < width; x++, from += 3, to += 4) {
      data[to] = sum[from];
      data[to + 1] = sum[from + 1];
      data[to + 2] = sum[from + 2];
    }
  }
  return { data, width, height };
};

const averageRow = ({ data, width }, left, y, across, line) => {
  for (let x = 0, to = 0; x < across.length; x++, to += 3) {
    const { first, weights } = across[x];
    let red = 0, green = 0, blue = 0;
    for (let i = 0, from = (y * width + left + first) * 4; i < weights.length; i++, from += 4) {
      red += weights[i] * data[from];
      green += weights[i] * data[from + 1];
      blue += weights[i] * data[from + 2];
    }
    line[to] = red;
    line[to + 1] = green;
    line[to + 2] = blue;
  }
};
