// Pictures in the browser: turned upright by their EXIF orientation and on white, as the service sees them.
import { formatOf } from "../formats.js";

/** [x, y, width, height] of a `bbox`, in pixels of the upright picture. */
export const boxOf = (text) => text.split(",").map(Number);

/** An ImageBitmap of a file; close it after use. Rejects when the browser cannot decode the picture. */
export const open = (file) => createImageBitmap(file, { imageOrientation: "from-image" });

/** The square around a box, wider by `margin` times its longer side on each side, as [x, y, side]. */
function square([x, y, width, height], margin) {
  const side = Math.max(width, height) * (1 + 2 * margin);
  return [x + width / 2 - side / 2, y + height / 2 - side / 2, side];
}

/** Draw a face into a canvas, which it fills. */
export function drawFace(canvas, picture, box, margin = 0.2) {
  draw(canvas, picture, square(box, margin));
}

/** A JPEG of a face with margin, in the picture's own resolution: what the detector finds well; and "x,y" of its middle. */
export async function faceJpeg(picture, box, margin = 0.6) {
  const [x, y, side] = square(box, margin).map(Math.round);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  draw(canvas, picture, [x, y, side]);
  return { photo: await jpeg(canvas, 0.95), middle: `${side / 2},${side / 2}` };
}

/** Draw a square of a picture into a canvas, which it fills. What is transparent, or beyond the edges, is white. */
function draw(canvas, picture, [x, y, side]) {
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

/** A canvas as JPEG. */
export const jpeg = (canvas, quality) => new Promise((resolve, reject) =>
  canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be encoded."))), "image/jpeg", quality));

/** What to show in place of a picture that the browser cannot decode. */
export const undisplayable = async (file) => {
  const format = await formatOf(file);
  return `This browser cannot display ${format ? `${format} pictures` : "this picture"}; the service reads ${format ? "them" : "it"} all the same.`;
};
