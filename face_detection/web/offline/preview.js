// The service decodes a large JPEG at reduced scale where that is enough for the detector (shared/images.py). libjpeg's
// reduced transforms give the averages of neighbouring pixels, so the same is had here by averaging.
import { reduce } from "./resize.js";

const SCALES = [8, 4, 2];

/** A picture at full scale, as detector and alignment take it. */
export const full = (picture) => ({ ...picture, fullWidth: picture.width, fullHeight: picture.height });

/**
 * What the service looks at first.
 * @param {{data, width, height, jpeg}} picture
 * @param {number} leastSide the longer side is not reduced below this, in pixels.
 */
export const preview = (picture, leastSide) => {
  const { width, height, jpeg } = picture;
  const scale = jpeg ? SCALES.find((one) => Math.floor(Math.max(width, height) / one) >= leastSide) : undefined;
  return scale ? { ...reduce(picture, scale), fullWidth: width, fullHeight: height } : full(picture);
};
