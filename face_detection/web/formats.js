// Which picture format a file has, by its content; shared/formats.py does the same. What it is called plays no part.

const HEAD = 64; // bytes that are enough to tell
const MARKS = {
  JPEG: /^\xff\xd8\xff/,
  PNG: /^\x89PNG\r\n\x1a\n/,
  WebP: /^RIFF.{4}WEBP/s,
  BMP: /^BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0/s,
  GIF: /^GIF8[79]a/,
  TIFF: /^(?:II[*+]\0|MM\0[*+])/,
  AVIF: /^.{4}ftyp(?:avi[fs]|(?:mif[12]|msf1).{4}(?:.{4})*?avi[fs])/s,
  HEIC: /^.{4}ftyp(?:he[iv][cmsx]|mif[12]|msf1)/s,
};

/** The name of the format; undefined for what is no picture that the service takes, or cannot be read. */
export async function formatOf(file) {
  const bytes = await file.slice(0, HEAD).arrayBuffer().catch(() => new ArrayBuffer(0));
  const head = String.fromCharCode(...new Uint8Array(bytes));
  return Object.keys(MARKS).find((name) => MARKS[name].test(head));
}

/** Those of the formats that this browser says it cannot decode; empty where it does not say. */
export async function undecodable() {
  const types = { GIF: "image/gif", TIFF: "image/tiff", HEIC: "image/heic", AVIF: "image/avif" };
  if (!("ImageDecoder" in globalThis)) return [];
  const known = await Promise.all(Object.values(types).map((type) => ImageDecoder.isTypeSupported(type)));
  return Object.keys(types).filter((_, index) => !known[index]);
}
