import { EdgeDeitError } from "./error.js";
import { resize } from "./resize.js";

const LONGEST = 2 ** 31 - 1; // pixels; Pillow and the phone apps count in 32 bits

/**
 * An upright photo as the bytes of the square that a model sees: (crop, crop, 3), black around the photo
 * where it does not reach.
 */
export function squareOf(image, spec) {
  const { width, height } = resizedSize(image, spec);
  const crop = spec.cropSize;
  const across = cut(width, crop, spec.cropRounding);
  const down = cut(height, crop, spec.cropRounding);
  const window = { left: across.start, top: down.start, width: across.length, height: down.length };
  const part = resize(image, width, height, spec.resample, window).bytes;
  const square = new Uint8Array(3 * crop * crop);
  for (let row = 0; row < down.length; row++) {
    const from = 3 * row * across.length;
    square.set(part.subarray(from, from + 3 * across.length), 3 * ((row + down.padding) * crop + across.padding));
  }
  return square;
}

/**
 * Rows of RGB bytes to planes of (x / 255 - mean) / std: (3, crop, crop) float32.
 *
 * Every step is rounded to float32, as numpy does.
 */
export function normalise(square, spec) {
  const plane = square.length / 3;
  const out = new Float32Array(square.length);
  for (let channel = 0; channel < 3; channel++) {
    const table = Float32Array.from({ length: 256 }, (_, value) =>
      Math.fround(Math.fround(Math.fround(value / 255) - spec.mean[channel]) / spec.std[channel]),
    );
    for (let pixel = 0; pixel < plane; pixel++) {
      out[channel * plane + pixel] = table[square[3 * pixel + channel]];
    }
  }
  return out;
}

/** `squareOf` and `normalise`: bit for bit what edge_deit/data/preprocess.py makes of the same pixels. */
export function preprocess(image, spec) {
  return normalise(squareOf(image, spec), spec);
}

function resizedSize({ width, height }, { resize: mode, resizeSize: size }) {
  if (mode === "none") return { width, height };
  if (mode === "exact") return { width: size, height: size };
  if (width <= height) return { width: size, height: longSide(size, height, width) };
  return { width: longSide(size, width, height), height: size };
}

/** `size * long / short`, rounded down, but not below `size`. */
function longSide(size, long, short) {
  const exact = (size * long) / short;
  if (exact > LONGEST) {
    throw new EdgeDeitError(`a photo of ${long} x ${short} is too narrow to be resized to ${size}`);
  }
  return Math.max(size, Math.trunc(exact));
}

/** Along one axis: which resized pixels are kept, and how many black ones stand before them. */
function cut(resized, crop, rounding) {
  const spare = Math.max(0, resized - crop);
  const half = Math.floor(spare / 2);
  const up = rounding === "half-even" && spare % 2 === 1 && half % 2 === 1;
  return {
    start: half + (up ? 1 : 0),
    length: Math.min(crop, resized),
    padding: Math.floor((Math.max(0, crop - resized) + 1) / 2),
  };
}
