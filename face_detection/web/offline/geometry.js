// Boxes in pixels of the upright picture, rounded and ordered as the service does it (shared/geometry.py).

/** To the nearest whole number, halves to the even one, as Python rounds. */
export const roundHalfEven = (value) => {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
};

/** The part of a box that lies in a picture of this size; without width or height when there is none. */
export const within = (box, pictureWidth, pictureHeight) => {
  const x = Math.max(0, box.x), y = Math.max(0, box.y);
  const width = Math.max(0, Math.min(pictureWidth, box.x + box.width) - x);
  const height = Math.max(0, Math.min(pictureHeight, box.y + box.height) - y);
  return { x, y, width, height };
};

const common = (a, b) => {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return Math.max(0, width) * Math.max(0, height);
};

const area = ({ width, height }) => width * height;

const LEAST_AREA = 1e-9;

/** Intersection over union of two boxes {x, y, width, height}, in [0, 1]. */
export const overlap = (a, b) => common(a, b) / Math.max(area(a) + area(b) - common(a, b), LEAST_AREA);

/** What two boxes have in common, as a share of the smaller one. */
export const shared = (a, b) => common(a, b) / Math.max(Math.min(area(a), area(b)), LEAST_AREA);

const between = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];

/** From the middle of the eyes to that of the mouth. */
const downOf = ([rightEye, leftEye, , rightMouth, leftMouth]) => {
  const [ex, ey] = between(rightEye, leftEye), [mx, my] = between(rightMouth, leftMouth);
  return [mx - ex, my - ey];
};

/** Degrees clockwise by which a head is turned, in [0, 360). */
export const rollOf = (points) => {
  const [x, y] = downOf(points);
  return ((Math.atan2(-x, y) * 180) / Math.PI + 360) % 360;
};

/** The same to the next quarter. */
export const angleOf = (points) => 90 * (roundHalfEven(rollOf(points) / 90) % 4);

/** Whether a face can look like this; shared/geometry.py has where the limits come from. */
export const plausible = (points) => {
  const [rightEye, leftEye, nose, rightMouth, leftMouth] = points;
  const [dx, dy] = downOf(points), square = dx * dx + dy * dy;
  if (!square) return false;
  const seen = ([ax, ay], [bx, by]) => [((bx - ax) * dy - (by - ay) * dx) / square, ((bx - ax) * dx + (by - ay) * dy) / square];
  const pairs = [seen(rightEye, leftEye), seen(rightMouth, leftMouth)];
  const [aside, height] = seen(between(rightEye, leftEye), nose);
  return pairs.every(([across, along]) => across >= -0.1 && across <= 1.6 && Math.abs(along) <= 0.6)
    && Math.abs(aside) <= 0.8 && height >= 0.2 && height <= 0.9;
};

/** Faces line by line from the top, each line from the left; a line is as high as the upper half of its first face. */
export const inReadingOrder = (faces) => {
  const lines = [];
  for (const face of [...faces].sort((a, b) => a.box.y - b.box.y || a.box.x - b.box.x)) {
    const first = lines.at(-1)?.[0].box;
    if (first && face.box.y < first.y + first.height / 2) lines.at(-1).push(face);
    else lines.push([face]);
  }
  return lines.flatMap((line) => line.sort((a, b) => a.box.x - b.box.x));
};
