import { RESAMPLES } from "./resample.js";

const LARGEST_CROP = 4096;
const FIELDS = ["resize", "resize_size", "crop_size", "crop_rounding", "resample", "mean", "std"];

/**
 * How a photo becomes a model's input: the seven fields of a manifest's `preprocessing`, checked.
 *
 * The rules are those of edge_deit/data/preprocess.py. `mean` and `std` belong to red, green, blue.
 */
export function parsePreprocessSpec(json) {
  const extra = [...json.names()].filter((name) => !FIELDS.includes(name));
  if (extra.length > 0) json.wrong(`without ${extra.join(", ")}, which this version does not know`);
  const cropSize = json.get("crop_size").int(1);
  if (cropSize > LARGEST_CROP) json.get("crop_size").wrong(`at most ${LARGEST_CROP}`);
  const std = threeFloats(json.get("std"));
  if (std.some((value) => value <= 0)) json.get("std").wrong("positive");
  return {
    resize: json.get("resize").oneOf(["shortest", "exact", "none"]),
    resizeSize: json.get("resize_size").int(1),
    cropSize,
    cropRounding: json.get("crop_rounding").oneOf(["half-even", "floor"]),
    resample: json.get("resample").oneOf(RESAMPLES),
    mean: threeFloats(json.get("mean")),
    std,
  };
}

function threeFloats(json) {
  const values = json.numbers().map(Math.fround);
  if (values.length !== 3 || !values.every(Number.isFinite)) json.wrong("three numbers");
  return values;
}
