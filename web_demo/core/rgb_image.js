import { EdgeDeitError } from "./error.js";

const LAST_ORIENTATION = 8;
const FIRST_TRANSPOSED = 5; // 5 to 8 swap width and height
const MIRRORS_X = new Set([2, 3, 7, 8]);
const MIRRORS_Y = new Set([3, 4, 6, 7]);

/** Rows of red, green, blue bytes, `3 * width * height` of them. */
export class RgbImage {
  constructor(width, height, bytes) {
    if (!(width >= 1 && height >= 1)) throw new EdgeDeitError(`an image of ${width} x ${height} has no pixels`);
    if (bytes.length !== 3 * width * height) {
      throw new EdgeDeitError(`${bytes.length} bytes are not ${width} x ${height} pixels of three bytes`);
    }
    this.width = width;
    this.height = height;
    this.bytes = bytes;
  }

  /** A stored photo as it is meant to be seen, by EXIF's `orientation` (1 to 8). */
  static upright(width, height, orientation, raw) {
    const stored = new RgbImage(width, height, raw);
    if (!Number.isInteger(orientation) || orientation < 1 || orientation > LAST_ORIENTATION) {
      throw new EdgeDeitError(`EXIF orientation is ${orientation}; it must be 1 to 8`);
    }
    return orientation === 1 ? stored : turned(stored, orientation);
  }
}

function turned({ width, height, bytes }, orientation) {
  const transposed = orientation >= FIRST_TRANSPOSED;
  const newWidth = transposed ? height : width;
  const out = new Uint8Array(bytes.length);
  let from = 0;
  for (let y = 0; y < height; y++) {
    const rightY = MIRRORS_Y.has(orientation) ? height - 1 - y : y;
    for (let x = 0; x < width; x++) {
      const rightX = MIRRORS_X.has(orientation) ? width - 1 - x : x;
      let to = 3 * (transposed ? rightX * newWidth + rightY : rightY * newWidth + rightX);
      out[to++] = bytes[from++];
      out[to++] = bytes[from++];
      out[to] = bytes[from++];
    }
  }
  return new RgbImage(newWidth, transposed ? width : height, out);
}
