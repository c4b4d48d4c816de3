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

/** Intersection over union of two boxes {x, y, width, height}, in [0, 1]. */
export const overlap = (a, b) => {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (a.width * a.height + b.width * b.height - width * height);
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
