import { EdgeDeitError } from "./error.js";

/** Percentile `share` (0 to 1) of samples, interpolated linearly as numpy does by default. */
export function percentile(samples, share) {
  if (samples.length === 0) throw new EdgeDeitError("there are no samples to take a percentile of");
  const sorted = Float64Array.from(samples).sort();
  const position = share * (sorted.length - 1);
  const below = sorted[Math.floor(position)];
  const above = sorted[Math.ceil(position)];
  return below + (above - below) * (position - Math.floor(position));
}

/** The middle one of the samples, or the mean of the two in the middle. */
export function median(samples) {
  return percentile(samples, 0.5);
}
