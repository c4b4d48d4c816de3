// Pictures: {data, width, height, jpeg} with data RGBA in bytes, row by row, as a viewer shows them on white:
// sRGB (an embedded colour profile is applied) and opaque. The service's decoder does the same (shared/images.py).
import { reduce } from "./resize.js";

const JPEG = [0xff, 0xd8, 0xff];
const SCALES = [8, 4, 2];

/**
 * Decode a picture and turn it upright by its EXIF orientation.
 * @param {Blob} file JPEG, PNG, WebP or BMP.
 * @param {{bytes: number, pixels: number}} limits of the service.
 */
export const decode = async (file, limits) => {
  if (file.size > limits.bytes) throw new Error(`The picture has more than ${limits.bytes} bytes.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" });
  } catch {
    throw new Error("The picture cannot be decoded.");
  }
  if (bitmap.width * bitmap.height > limits.pixels) {
    bitmap.close();
    throw new Error(`The picture has more than ${limits.pixels} pixels.`);
  }
  const jpeg = new Uint8Array(await file.slice(0, JPEG.length).arrayBuffer()).every((byte, i) => byte === JPEG[i]);
  return { ...pixelsOf(bitmap), jpeg };
};

/** The pixels of a bitmap on white; the bitmap is closed. */
export const pixelsOf = (bitmap) => {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height, jpeg: false };
};

/** A picture at full scale, as detector and alignment take it. */
export const full = (picture) => ({ ...picture, fullWidth: picture.width, fullHeight: picture.height });

/**
 * What the service looks at first: it decodes a large JPEG at reduced scale where that is enough for the detector.
 * libjpeg's reduced transforms give the averages of neighbouring pixels, so the same is had here by averaging.
 * @param {{data, width, height, jpeg}} picture
 * @param {number} leastSide the longer side is not reduced below this, in pixels.
 * @param {number} leastScale nor below this share of it.
 */
export const preview = (picture, leastSide, leastScale = 0) => {
  const { width, height, jpeg } = picture;
  const longer = Math.max(width, height), least = Math.max(leastSide, leastScale * longer);
  const scale = jpeg ? SCALES.find((one) => Math.floor(longer / one) >= least) : undefined;
  return scale ? { ...reduce(picture, scale), fullWidth: width, fullHeight: height } : full(picture);
};
