import { EdgeDeitError } from "../core/error.js";
import { RgbImage } from "../core/rgb_image.js";

const MAX_PIXELS = 89_478_485; // edge_deit's limit, which is Pillow's
const TILE = 2048; // pixels; canvases of browsers end somewhere above 4096
const OPAQUE = 255;

/**
 * An image file, or a bitmap of the camera, as upright 8-bit RGB: `{image, transparent}`.
 *
 * Stored values are kept as they are: no colour profile is applied, as in Python. `transparent` says that some
 * pixel is not opaque; browsers then change the colour below it a little.
 *
 * Throws EdgeDeitError for what the browser cannot read and for more than 89 million pixels.
 */
export async function decode(photo) {
  const bitmap = photo instanceof Blob ? await bitmapOf(photo) : photo;
  try {
    return read(bitmap);
  } finally {
    bitmap.close();
  }
}

async function bitmapOf(blob) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  try {
    return await createImageBitmap(blob, options);
  } catch (error) {
    const name = blob.name ?? "the photo";
    throw new EdgeDeitError(
      `${name} cannot be read by this browser (${error.message}); choose a JPEG, PNG, WebP or AVIF`,
    );
  }
}

function read(bitmap) {
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new EdgeDeitError(`${width} x ${height} pixels are more than ${MAX_PIXELS}; make the photo smaller`);
  }
  const bytes = new Uint8Array(3 * width * height);
  let transparent = false;
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const tile = tileOf(bitmap, left, top);
      transparent = copyTile(tile, bytes, left, top, width) || transparent;
    }
  }
  return { image: new RgbImage(width, height, bytes), transparent };
}

function tileOf(bitmap, left, top) {
  const width = Math.min(TILE, bitmap.width - left);
  const height = Math.min(TILE, bitmap.height - top);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, -left, -top);
  return context.getImageData(0, 0, width, height);
}

/** Copies a tile's colours into the photo; returns whether one of its pixels is not opaque. */
function copyTile({ width, height, data }, bytes, left, top, photoWidth) {
  let transparent = false;
  let from = 0;
  for (let y = 0; y < height; y++) {
    let to = 3 * ((top + y) * photoWidth + left);
    for (let x = 0; x < width; x++, from += 4) {
      bytes[to++] = data[from];
      bytes[to++] = data[from + 1];
      bytes[to++] = data[from + 2];
      if (data[from + 3] !== OPAQUE) transparent = true;
    }
  }
  return transparent;
}
