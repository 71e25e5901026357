const CUBIC = -0.5; // Keys' a, as in Pillow; OpenCV has -0.75

function bilinear(x) {
  return Math.max(0, 1 - Math.abs(x));
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * CUBIC : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function lanczos(x) {
  return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

/** Pillow's filters; `support` is half a filter's width in source pixels when it enlarges. */
const FILTERS = {
  bilinear: { support: 1, weight: bilinear },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: lanczos },
};

/** Names of the filters, as a manifest has them. */
export const RESAMPLES = ["nearest", ...Object.keys(FILTERS)];

/** Bits of fraction of the fixed-point weights: 8 bits of value and 2 of overshoot are left of 32. */
export const PRECISION_BITS = 22;

const ONE = 1 << PRECISION_BITS;

/**
 * One axis of a resize, for some of the output's positions.
 *
 * Output i is the sum of `taps[i]` source pixels from `starts[i]` on, times `weights[i * stride ...]`.
 */
class Axis {
  constructor(starts, taps, weights, stride) {
    this.starts = starts;
    this.taps = taps;
    this.weights = weights;
    this.stride = stride;
  }

  /** First source position that any output needs. */
  get low() {
    return this.starts.reduce((a, b) => Math.min(a, b));
  }

  /** One past the last source position that any output needs. */
  get high() {
    return this.starts.reduce((most, start, i) => Math.max(most, start + this.taps[i]), 0);
  }

  /** The same axis of an image that begins at source position `low`. */
  fromLow() {
    const { low } = this;
    return new Axis(this.starts.map((start) => start - low), this.taps, this.weights, this.stride);
  }
}

/** The axis from `source` to `target` pixels, for outputs `first` to `first + count - 1`. */
export function axisOf(source, target, first, count, resample) {
  if (source === target) return copying(Int32Array.from({ length: count }, (_, i) => first + i));
  if (resample === "nearest") return copying(nearest(source, target, first, count));
  return filtered(source, target, first, count, FILTERS[resample]);
}

function copying(starts) {
  return new Axis(starts, new Int32Array(starts.length).fill(1), new Int32Array(starts.length).fill(ONE), 1);
}

/** Pillow adds the step up instead of multiplying, and the last bits of that sum count. */
function nearest(source, target, first, count) {
  const step = source / target;
  let position = step * 0.5;
  for (let i = 0; i < first; i++) position += step;
  const starts = new Int32Array(count);
  for (let i = 0; i < count; i++, position += step) starts[i] = Math.trunc(position);
  return starts;
}

/** What `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c compute. */
function filtered(source, target, first, count, { support, weight }) {
  const scale = source / target;
  const widening = Math.max(scale, 1);
  const reach = support * widening;
  const stride = Math.ceil(reach) * 2 + 1;
  const axis = new Axis(new Int32Array(count), new Int32Array(count), new Int32Array(count * stride), stride);
  const real = new Float64Array(stride);
  for (let i = 0; i < count; i++) {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const taps = Math.min(Math.trunc(centre + reach + 0.5), source) - start;
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) {
      real[tap] = weight((tap + start - centre + 0.5) * (1 / widening));
      sum += real[tap];
    }
    axis.starts[i] = start;
    axis.taps[i] = taps;
    for (let tap = 0; tap < taps; tap++) {
      axis.weights[i * stride + tap] = fixed(sum === 0 ? real[tap] : real[tap] / sum);
    }
  }
  return axis;
}

function fixed(weight) {
  return Math.trunc(weight * ONE + (weight < 0 ? -0.5 : 0.5));
}
