// What the detector is shown of a picture, and where in it its findings are (face_detection/recognition/views.py).
// A part is {left, top, width, height} in pixels of the picture at full scale and may go beyond it; a view is
// {picture, part, angle}: heads turned clockwise by so many degrees are upright in it. Rows are {x, y, width, height,
// points, score, angle}.
import { warp } from "./alignment.js";
import { overlap, roundHalfEven, shared } from "./geometry.js";
import { enlarge, resize } from "./resize.js";

/** The square around a found face, `context` times its longer side. */
export const around = ({ x, y, width, height }, context) => {
  const side = Math.max(width, height) * context;
  return { left: x + width / 2 - side / 2, top: y + height / 2 - side / 2, width: side, height: side };
};

/** The picture with a longer side of at most so many pixels. */
export const scaled = (picture, side) => {
  const scale = Math.min(1, side / Math.max(picture.width, picture.height));
  if (scale === 1) return picture;
  const width = Math.max(1, roundHalfEven(picture.width * scale)), height = Math.max(1, roundHalfEven(picture.height * scale));
  return { ...resize(picture, width, height), fullWidth: picture.fullWidth, fullHeight: picture.fullHeight };
};

/** All of a picture, as it is. */
export const whole = (picture) =>
  ({ picture, part: { left: 0, top: 0, width: picture.fullWidth, height: picture.fullHeight }, angle: 0 });

/** A part of a picture, scaled to width x height pixels; black beyond the picture. */
export const cut = (picture, part, width, height) => {
  const fx = picture.width / picture.fullWidth, fy = picture.height / picture.fullHeight;
  const left = Math.floor(part.left * fx), top = Math.floor(part.top * fy);
  const right = Math.max(left + 1, Math.ceil((part.left + part.width) * fx));
  const bottom = Math.max(top + 1, Math.ceil((part.top + part.height) * fy));
  const pixels = { left, top, width: right - left, height: bottom - top };
  const shown = { left: left / fx, top: top / fy, width: pixels.width / fx, height: pixels.height / fy };
  const inside = left >= 0 && top >= 0 && right <= picture.width && bottom <= picture.height;
  const source = inside ? picture : padded(picture, pixels), from = inside ? pixels : { ...pixels, left: 0, top: 0 };
  return { picture: (width <= pixels.width ? resize : enlarge)(source, width, height, from), part: shown, angle: 0 };
};

const black = (width, height) => {
  const data = new Uint8ClampedArray(width * height * 4);
  new Uint32Array(data.buffer).fill(new Uint32Array(Uint8Array.of(0, 0, 0, 255).buffer)[0]);
  return { data, width, height };
};

const padded = (picture, { left, top, width, height }) => {
  const result = black(width, height);
  paste(picture, result, -left, -top);
  return result;
};

/** Put what of a picture falls into another there, its upper left corner at x, y. */
const paste = (picture, target, x, y) => {
  const first = Math.max(0, -x), last = Math.min(picture.width, target.width - x);
  if (first >= last) return;
  for (let row = Math.max(0, -y); row < Math.min(picture.height, target.height - y); row++) {
    const line = row * picture.width;
    target.data.set(picture.data.subarray((line + first) * 4, (line + last) * 4), ((row + y) * target.width + x + first) * 4);
  }
};

/** Lines of pictures of side x side pixels as one picture. */
export const mosaic = (lines, side) => {
  const result = black(lines[0].length * side, lines.length * side);
  lines.forEach((line, y) => line.forEach((picture, x) => paste(picture, result, x * side, y * side)));
  return result;
};

/** The view for heads that are turned by `angle` in it. Other angles than quarters are for square views; their corners are lost. */
export const turned = ({ picture, part, angle: before }, angle) => {
  if (!angle) return { picture, part, angle: before };
  if (angle % 90) return { picture: rotated(picture, angle), part, angle: before + angle };
  const { data, width, height } = picture, source = new Uint32Array(data.buffer, data.byteOffset, width * height);
  const target = new Uint32Array(source.length);
  const place = {
    90: (x, y) => (width - 1 - x) * height + y,
    180: (x, y) => (height - 1 - y) * width + width - 1 - x,
    270: (x, y) => x * height + height - 1 - y,
  }[angle];
  for (let y = 0, from = 0; y < height; y++) for (let x = 0; x < width; x++, from++) target[place(x, y)] = source[from];
  const size = angle === 180 ? { width, height } : { width: height, height: width };
  return { picture: { data: new Uint8ClampedArray(target.buffer), ...size }, part, angle: before + angle };
};

/** A square picture turned by so many degrees counter-clockwise about its middle. */
const rotated = (picture, angle) => {
  const [cos, sin] = ofCircle(angle), middle = picture.width / 2;
  const transform = [cos, sin, middle * (1 - cos - sin), -sin, cos, middle * (1 - cos + sin)];
  const { width, height } = picture;
  return { data: warp(picture, transform, { width, height }, { channels: 4 }), width, height };
};

const ofCircle = (degrees) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];

/**
 * Rows in pixels of a view as rows in those of the picture. Boxes stay upright: turned about their middle, with sides
 * between both where they are not turned by quarters.
 */
export const place = ({ picture, part, angle }, rows) => {
  const [cos, sin] = ofCircle(angle);
  const there = ([x, y]) => {
    const u = x / picture.width - 0.5, v = y / picture.height - 0.5;
    return [(u * cos - v * sin + 0.5) * part.width + part.left, (u * sin + v * cos + 0.5) * part.height + part.top];
  };
  return rows.map(({ x, y, width, height, points, score }) => {
    const [cx, cy] = there([x + width / 2, y + height / 2]);
    const across = width / picture.width, down = height / picture.height, along = Math.abs(cos), aside = Math.abs(sin);
    const w = ((across * along + down * aside) / (along + aside)) * part.width, h = ((down * along + across * aside) / (along + aside)) * part.height;
    return { x: cx - w / 2, y: cy - h / 2, width: w, height: h, points: points.map(there), score, angle };
  });
};

/** Where tiles of a side begin that overlap by at least so many pixels. */
const starts = (length, side, common) => {
  const count = Math.max(1, Math.ceil((length - common) / (side - common)));
  return Array.from({ length: count }, (_, i) => roundHalfEven((i * (length - side)) / Math.max(1, count - 1)));
};

/** A picture at a scale of its full size, in tiles, line by line. */
export function* tiles(picture, scale, tile, common) {
  const rows = Math.max(1, roundHalfEven(picture.fullHeight * scale)), columns = Math.max(1, roundHalfEven(picture.fullWidth * scale));
  const width = Math.min(tile, columns), height = Math.min(tile, rows);
  for (const top of starts(rows, tile, common)) {
    for (const left of starts(columns, tile, common)) {
      yield cut(picture, { left: left / scale, top: top / scale, width: width / scale, height: height / scale }, width, height);
    }
  }
}

/** Of what was found in a tile, what is wholly in it; other tiles and scales have the rest. */
export const wholeFaces = ({ part }, rows, picture, scale, common) => {
  const margin = 1 / scale, right = part.left + part.width, bottom = part.top + part.height;
  return rows.filter(
    ({ x, y, width, height }) =>
      Math.max(width, height) <= common / scale &&
      (x >= part.left + margin || part.left <= margin) &&
      (y >= part.top + margin || part.top <= margin) &&
      (x + width <= right - margin || right >= picture.fullWidth - margin) &&
      (y + height <= bottom - margin || bottom >= picture.fullHeight - margin),
  );
};

/**
 * Each face of several levels once, the best first.
 * @param {object[][]} levels rows of each; of those that overlap the first level's counts that is sure, or the best score.
 * @param {{sure: number, nms: number, inside: number}} limits
 */
export const merged = (levels, { sure, nms, inside }) => {
  const rows = levels.flatMap((level, index) => level.map((row) => ({ row, level: index })));
  const rank = ({ row, level }) => (row.score < sure ? levels.length : level);
  const byScore = (a, b) => b.row.score - a.row.score;
  const kept = [];
  for (const one of rows.sort((a, b) => rank(a) - rank(b) || byScore(a, b))) {
    if (kept.every((other) => overlap(one.row, other.row) <= nms)) kept.push(one);
  }
  const wholeOnes = [];
  for (const one of kept.sort(byScore)) {
    if (wholeOnes.every((other) => other.level === one.level || shared(one.row, other.row) <= inside)) wholeOnes.push(one);
  }
  return wholeOnes.map(({ row }) => row);
};
