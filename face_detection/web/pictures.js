// Pictures in the browser: turned upright by their EXIF orientation, as the service sees them.

/** [x, y, width, height] of a `bbox`, in pixels of the upright picture. */
export const boxOf = (text) => text.split(",").map(Number);

/** An ImageBitmap of a file; close it after use. Rejects when the browser cannot read the picture. */
export const open = (file) => createImageBitmap(file, { imageOrientation: "from-image" });

/** The square around a box, wider by `margin` times its longer side on each side, as [x, y, side]. */
function square([x, y, width, height], margin) {
  const side = Math.max(width, height) * (1 + 2 * margin);
  return [x + width / 2 - side / 2, y + height / 2 - side / 2, side];
}

/** Draw a face into a canvas, which it fills. */
export function drawFace(canvas, picture, box, margin = 0.2) {
  const [x, y, side] = square(box, margin);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

/** A JPEG of a face with margin, in the picture's own resolution: what the detector finds well. */
export function faceJpeg(picture, box, margin = 0.6) {
  const [x, y, side] = square(box, margin).map(Math.round);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas.getContext("2d").drawImage(picture, x, y, side, side, 0, 0, side, side);
  return jpeg(canvas, 0.95);
}

/** A canvas as JPEG. */
export const jpeg = (canvas, quality) => new Promise((resolve, reject) =>
  canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be encoded."))), "image/jpeg", quality));

const KINDS = { jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", bmp: "image/bmp" };

/** The content type of a picture by its name or what the browser says; "" for something else. */
export function kindOf(file) {
  return KINDS[file.name.split(".").pop().toLowerCase()] ?? (file.type.startsWith("image/") ? file.type : "");
}
