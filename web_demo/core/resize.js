import { axisOf, PRECISION_BITS } from "./resample.js";
import { RgbImage } from "./rgb_image.js";

/** When the vertical pass comes first, in the words of a golden spec. */
export const VERTICAL_FIRST_IF = "rows lost > max(0, 2 * columns lost)";

const HALF = 1 << (PRECISION_BITS - 1); // rounds to the nearest

/**
 * The part `window` of what Pillow 13's `Image.resize((width, height), resample)` makes.
 *
 * Two passes, each rounded and clipped to 8 bits. A pixel needs its own row and column only, so the rest
 * is never computed: the same bits in a fraction of the time. `window` has left, top, width, height.
 */
export function resize(image, width, height, resample, window) {
  const across = axisOf(image.width, width, window.left, window.width, resample);
  const down = axisOf(image.height, height, window.top, window.height, resample);
  if (verticalFirst(image, width, height)) {
    const low = vertical(image, down, across.low, across.high);
    return horizontal(low, across.fromLow(), 0, low.height);
  }
  const narrow = horizontal(image, across, down.low, down.high);
  return vertical(narrow, down.fromLow(), 0, narrow.width);
}

/** Pillow's order since version 13; as both passes round, it shows in the last bit. */
function verticalFirst(image, width, height) {
  return image.height - height > Math.max(0, 2 * (image.width - width));
}

function horizontal(image, axis, firstRow, endRow) {
  const columns = axis.starts.length;
  const { starts, taps, weights, stride } = axis;
  const out = new Uint8ClampedArray(3 * (endRow - firstRow) * columns);
  let to = 0;
  for (let row = firstRow; row < endRow; row++) {
    for (let column = 0; column < columns; column++) {
      let from = 3 * (row * image.width + starts[column]);
      const end = column * stride + taps[column];
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      for (let tap = column * stride; tap < end; tap++) {
        const weight = weights[tap];
        red = (red + image.bytes[from++] * weight) | 0;
        green = (green + image.bytes[from++] * weight) | 0;
        blue = (blue + image.bytes[from++] * weight) | 0;
      }
      out[to++] = red >> PRECISION_BITS;
      out[to++] = green >> PRECISION_BITS;
      out[to++] = blue >> PRECISION_BITS;
    }
  }
  return new RgbImage(columns, endRow - firstRow, out);
}

function vertical(image, axis, firstColumn, endColumn) {
  const rows = axis.starts.length;
  const sums = new Int32Array(3 * (endColumn - firstColumn));
  const out = new Uint8ClampedArray(rows * sums.length);
  for (let row = 0; row < rows; row++) {
    sums.fill(HALF);
    for (let tap = 0; tap < axis.taps[row]; tap++) {
      const weight = axis.weights[row * axis.stride + tap];
      const from = 3 * ((axis.starts[row] + tap) * image.width + firstColumn);
      for (let i = 0; i < sums.length; i++) sums[i] += image.bytes[from + i] * weight;
    }
    for (let i = 0; i < sums.length; i++) out[row * sums.length + i] = sums[i] >> PRECISION_BITS;
  }
  return new RgbImage(endColumn - firstColumn, rows, out);
}
