// Cutting faces out so that eyes, nose and mouth fall on the template (face_detection/recognition/crops.py).
// A transform is [xx, xy, x, yx, yy, y]: it takes (u, v) to (xx·u + xy·v + x, yx·u + yy·v + y).
import { resize } from "./resize.js";

/**
 * The rotation, scaling and shift that takes points nearest to the template in the least-squares sense (Umeyama, 1991,
 * without reflection).
 * @param {number[][]} points [x, y] in pixels of the picture.
 * @param {number[][]} template [x, y] in pixels of the crop.
 * @returns {number[]} transform from the picture to the crop.
 */
export const similarity = (points, template) => {
  const mean = (list, axis) => list.reduce((sum, point) => sum + point[axis], 0) / list.length;
  const sx = mean(points, 0), sy = mean(points, 1), tx = mean(template, 0), ty = mean(template, 1);
  let a = 0, b = 0, spread = 0;
  points.forEach(([px, py], i) => {
    const x = px - sx, y = py - sy, u = template[i][0] - tx, v = template[i][1] - ty;
    a += x * u + y * v;
    b += x * v - y * u;
    spread += x * x + y * y;
  });
  // All landmarks on one point cannot be scaled to the template; any finite transform will do.
  [a, b] = spread ? [a / spread, b / spread] : [1, 0];
  return [a, -b, tx - (a * sx - b * sy), b, a, ty - (b * sx + a * sy)];
};

/** Whether all crops have fewer pixels than the faces have in a reduced picture, so that nothing is lost by it. */
export const shrinks = (picture, faces, { template }) =>
  faces.every(({ points }) => magnification(similarity(points, template)) <= picture.width / picture.fullWidth);

/**
 * One aligned crop; what lies beyond the picture is black, or repeats its edge.
 * @param {{data, width, height, fullWidth, fullHeight}} picture RGBA, perhaps reduced.
 * @param {number[][]} points the five landmarks, in pixels of the picture at full scale.
 * @param {{width, height, template}} alignment of the model.
 * @param {boolean} repeat the edge.
 * @returns {Uint8ClampedArray} height x width x 3, RGB.
 */
export const cutOut = (picture, points, alignment, repeat = false) => {
  const toFull = scaling(picture.fullWidth / picture.width, picture.fullHeight / picture.height);
  const transform = after(similarity(points, alignment.template), toFull);
  // Bilinear sampling skips pixels when it shrinks by more than two: average them first.
  const shrink = Math.floor(1 / Math.max(magnification(transform), 1e-6));
  const [source, matrix] = shrink < 2 ? [picture, transform] : shrunken(picture, transform, alignment, shrink);
  return warp(source, matrix, alignment, { repeat });
};

const magnification = ([xx, , , yx]) => Math.hypot(xx, yx);

/** From a picture whose pixels are x × y pixels of another, from left, top on, to that other. */
const scaling = (x, y, left = 0, top = 0) => [x, 0, left + (x - 1) / 2, 0, y, top + (y - 1) / 2];

/** First the inner transform, then the outer one. */
const after = ([a, b, c, d, e, f], [xx, xy, x, yx, yy, y]) => [
  a * xx + b * yx, a * xy + b * yy, a * x + b * y + c,
  d * xx + e * yx, d * xy + e * yy, d * x + e * y + f,
];

const inverse = ([a, b, c, d, e, f]) => {
  const area = a * e - b * d;
  return [e / area, -b / area, (b * f - c * e) / area, -d / area, a / area, (c * d - a * f) / area];
};

const clip = (value, least, most) => Math.min(Math.max(value, least), most);

/** The part of the picture that the crop shows, averaged over shrink x shrink pixels, and its transform. */
const shrunken = (picture, transform, { width, height }, shrink) => {
  const [xx, xy, x, yx, yy, y] = inverse(transform);
  const corners = [[0, 0], [width, 0], [0, height], [width, height]];
  const xs = corners.map(([u, v]) => xx * u + xy * v + x), ys = corners.map(([u, v]) => yx * u + yy * v + y);
  const left = clip(Math.floor(Math.min(...xs)) - shrink, 0, picture.width - 1);
  const top = clip(Math.floor(Math.min(...ys)) - shrink, 0, picture.height - 1);
  const right = clip(Math.ceil(Math.max(...xs)) + shrink, 1, picture.width);
  const bottom = clip(Math.ceil(Math.max(...ys)) + shrink, 1, picture.height);
  const columns = Math.max(1, Math.floor((right - left) / shrink)), rows = Math.max(1, Math.floor((bottom - top) / shrink));
  const part = {
    left, top,
    width: Math.min(columns * shrink, picture.width - left), height: Math.min(rows * shrink, picture.height - top),
  };
  const toPicture = scaling(part.width / columns, part.height / rows, left, top);
  return [resize(picture, columns, rows, part), after(transform, toPicture)];
};

/**
 * What a transform makes of a picture, sampled bilinearly; what lies beyond the picture is black, or repeats its edge.
 * @param {{data, width, height}} picture RGBA.
 * @param {number[]} transform from the picture to the result.
 * @param {{width, height}} size of the result.
 * @param {{repeat?: boolean, channels?: number}} how whether the edge is repeated; 3 for RGB, 4 for RGBA.
 */
export const warp = ({ data, width, height }, transform, size, { repeat = false, channels = 3 }) => {
  const [xx, xy, x0, yx, yy, y0] = inverse(transform);
  const target = new Uint8ClampedArray(size.width * size.height * channels);
  for (let v = 0, to = 0; v < size.height; v++) {
    for (let u = 0; u < size.width; u++, to += channels) {
      if (channels === 4) target[to + 3] = 255;
      let px = xx * u + xy * v + x0, py = yx * u + yy * v + y0;
      if (repeat) [px, py] = [clip(px, 0, width - 1), clip(py, 0, height - 1)];
      const x = Math.floor(px), y = Math.floor(py), fx = px - x, fy = py - y;
      if (x < -1 || y < -1 || x >= width || y >= height) continue;
      const leftIn = x >= 0, rightIn = x + 1 < width, upperIn = y >= 0, lowerIn = y + 1 < height;
      for (let i = (y * width + x) * 4, j = i + width * 4, channel = 0; channel < 3; channel++, i++, j++) {
        const upper = upperIn ? (leftIn ? data[i] * (1 - fx) : 0) + (rightIn ? data[i + 4] * fx : 0) : 0;
        const lower = lowerIn ? (leftIn ? data[j] * (1 - fx) : 0) + (rightIn ? data[j + 4] * fx : 0) : 0;
        target[to + channel] = upper * (1 - fy) + lower * fy;
      }
    }
  }
  return target;
};
