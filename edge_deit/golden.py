"""Write what a phone app must compute, to the last bit: `python -m edge_deit.golden ARTEFACT`.

`golden_spec.json` says how a photo becomes pixels and logits become classes; `golden_cases.json` holds
examples with their answers. The apps' tests and their self-test screens read both.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import typer
from PIL import Image, ImageOps
from rich.table import Table

from edge_deit import assets
from edge_deit._console import new_app, out, run
from edge_deit._quiet import quiet
from edge_deit.dataset import list_photos, spread
from edge_deit.errors import EdgeDeitError
from edge_deit.manifest import Manifest, read_manifest
from edge_deit.metrics import softmax, top_k
from edge_deit.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PreprocessSpec,
    load_image,
    load_pixels,
    preprocess,
)
from exporters import Runner
from exporters import target as find_target

__all__ = [
    "ImageCase",
    "golden_cases",
    "golden_spec",
    "hash_pixels",
    "image_cases",
    "measured_logits",
    "wide_cases",
    "write_golden",
]

app = new_app(__doc__)

_SCHEMA: Final = 1
_VERTICAL_FIRST_IF: Final = "rows lost > max(0, 2 * columns lost)"
_TOP: Final = 5
_SAMPLES: Final = 8
_PHOTOS: Final = 4
_FILTERS: Final = ("nearest", "bilinear", "bicubic", "lanczos")
_MODES: Final[tuple[Literal["shortest", "exact", "none"], ...]] = ("shortest", "exact", "none")
_ROUNDINGS: Final[tuple[Literal["half-even", "floor"], ...]] = ("half-even", "floor")
_HALF: Final = (0.5, 0.5, 0.5)
_MAX_RESIZED: Final = (
    4_000_000  # pixels of a generated case after resizing, so that ports stay quick
)


def hash_pixels(width: int, height: int, seed: int, block: int) -> np.ndarray:
    """Generated photo (height, width, 3) uint8 that every language can make without a file.

    Squares of `block` pixels have one colour; block 1 is noise. All arithmetic is unsigned, 32 bits.

    >>> hash_pixels(2, 1, seed=7, block=1).tolist()
    [[[114, 58, 16], [179, 164, 160]]]
    """
    rows = np.arange(height, dtype=np.uint32)[:, None, None] // np.uint32(block)
    columns = np.arange(width, dtype=np.uint32)[None, :, None] // np.uint32(block)
    across = np.uint32(-(-width // block))  # squares in a row
    index = (rows * across + columns) * np.uint32(3) + np.arange(3, dtype=np.uint32)
    value: np.ndarray = index * np.uint32(2654435761) + np.uint32(seed * 2246822519 & 0xFFFFFFFF)
    value ^= value >> 15
    value *= np.uint32(3266489917)
    value ^= value >> 13
    return value.astype(np.uint8)  # the low byte; (H, W, 3)


@dataclass(frozen=True)
class ImageCase:
    """A photo, as raw pixels before they are turned upright, and how it is preprocessed.

    `orientation` is EXIF's, 1 to 8. The pixels are `raw` (RGB rows) where it is given, otherwise those of
    `hash_pixels`.
    """

    name: str
    width: int
    height: int
    spec: PreprocessSpec
    orientation: int = 1
    seed: int = 0
    block: int = 1
    raw: bytes | None = None

    def pixels(self) -> np.ndarray:
        """The raw photo, (height, width, 3) uint8."""
        if self.raw is None:
            return hash_pixels(self.width, self.height, self.seed, self.block)
        return np.frombuffer(self.raw, np.uint8).reshape(self.height, self.width, 3)

    def tensor(self) -> np.ndarray:
        """What the model must be given, (3, crop, crop) float32."""
        image = Image.fromarray(self.pixels())
        image.getexif()[0x0112] = self.orientation
        return np.asarray(preprocess(ImageOps.exif_transpose(image), self.spec)[0])

    def to_json(self) -> dict[str, Any]:
        """The case and its answer as plain data."""
        tensor = self.tensor()
        flat = tensor.ravel()
        places = [index * (flat.size - 1) // (_SAMPLES - 1) for index in range(_SAMPLES)]
        source: dict[str, Any] = {"hash": {"seed": self.seed, "block": self.block}}
        if self.raw is not None:
            source = {"base64": base64.b64encode(self.raw).decode("ascii")}
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "orientation": self.orientation,
            "pixels": source,
            "preprocessing": self.spec.to_json(),
            "tensor_sha256": hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest(),
            "samples": [[place, _shortest(flat[place])] for place in dict.fromkeys(places)],
        }


def _shortest(value: np.float32) -> float:
    """The number whose shortest decimal form is that of the float32 value."""
    return float(str(value))


# Images


def image_cases(spec: PreprocessSpec) -> list[ImageCase]:
    """Photos for the spec itself, then small ones for every other rule.

    The first ones go from 1 x 1 to 1600 x 1200 and through all orientations, with the spec's own
    preprocessing; a few bundled photos follow. The small ones have every filter, resize mode and crop
    rounding, resizing in one direction only, and padding.
    """
    return [*_own_cases(spec), *_photo_cases(spec), *_small_cases()]


def _own_cases(spec: PreprocessSpec) -> Iterator[ImageCase]:
    crop, resized = spec.crop_size, spec.resize_size
    sizes = {
        "one pixel": (1, 1, 1),
        "two by three": (2, 3, 1),
        "landscape": (640, 427, 8),
        "portrait": (480, 641, 1),
        "upscaled": (61, 47, 1),
        "the crop's size": (crop, crop, 1),
        "a column more": (crop + 1, crop, 1),
        "the resized size": (resized, resized, 1),
        "wide": (300, 7, 1),
        "tall": (7, 300, 1),
        "large": (1600, 1200, 16),
    }
    for seed, (name, (width, height, block)) in enumerate(sizes.items(), start=1):
        yield ImageCase(name, width, height, spec, seed=seed, block=block)
    for orientation in range(1, 9):
        yield ImageCase(f"orientation {orientation}", 40, 24, spec, orientation, seed=20)


def _small_cases() -> Iterator[ImageCase]:
    for mode, resample, rounding in product(_MODES, _FILTERS, _ROUNDINGS):
        spec = PreprocessSpec(mode, 39, 32, rounding, resample, _HALF, _HALF)
        yield ImageCase(f"{mode}, {resample}, {rounding}", 55, 47, spec, seed=30)
    shapes = {
        "much smaller": (300, 201),
        "larger": (9, 7),
        "only rows resized": (39, 80),
        "only columns resized": (80, 39),
        "tall": (21, 300),
        "loses twice as many rows": (59, 79),  # 40 rows, 20 columns
        "loses more than twice as many rows": (59, 80),
    }
    for (name, (width, height)), resample in product(shapes.items(), _FILTERS):
        spec = PreprocessSpec("exact", 39, 32, "half-even", resample)
        yield ImageCase(f"{name}, {resample}", width, height, spec, seed=40)
    padded = PreprocessSpec("none", 33, 33)
    yield ImageCase("padded", 5, 8, padded, seed=50)
    yield ImageCase("padded in width", 20, 60, padded, seed=51)
    yield ImageCase("padded in height", 61, 20, replace(padded, crop_rounding="floor"), seed=52)
    yield ImageCase("resized, then padded", 50, 30, PreprocessSpec("shortest", 20, 33), seed=53)
    flat = PreprocessSpec("shortest", 8, 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    yield ImageCase("one row", 400, 1, flat, seed=54)
    yield ImageCase("one column", 1, 400, flat, seed=55)
    for orientation in range(2, 9):
        yield ImageCase(f"orientation {orientation}, uncut", 5, 3, flat, orientation, seed=56)


def wide_cases(count: int) -> list[ImageCase]:
    """At least 200 different cases for the ports' own tests, too many to keep in a file.

    Sizes 1 x 1 to 4000 x 3000, every orientation, filter, resize mode and crop rounding in turn.

    Raises:
        EdgeDeitError: fewer than 200 asked for.
    """
    if count < 200:
        raise EdgeDeitError(f"count is {count}; the wide set has at least 200 cases")
    random = np.random.default_rng(0)
    scales = ((IMAGENET_MEAN, IMAGENET_STD), (_HALF, _HALF))
    plans = list(product(_MODES, _FILTERS, _ROUNDINGS, scales))
    cases = []
    for index in range(count):
        mode, resample, rounding, (mean, std) = plans[11 * index % len(plans)]  # mixes them
        width, height = _wide_size(index, random)
        size = int(random.integers(1, 97))
        aspect = max(width, height) / min(width, height)
        while size > 1 and size * size * aspect > _MAX_RESIZED:
            size //= 2
        crop = max(1, size + int(random.integers(-20, 8)))
        spec = PreprocessSpec(mode, size, crop, rounding, resample, mean, std)
        orientation, block = 1 + int(random.integers(8)), int(random.choice([1, 1, 3, 16]))
        name = f"{index}: {width} x {height}, {mode} {resample}"
        cases.append(ImageCase(name, width, height, spec, orientation, index, block))
    return cases


def _wide_size(index: int, random: np.random.Generator) -> tuple[int, int]:
    """Extremes first, then widths and heights evenly spread over their logarithms."""
    extremes = ((1, 1), (4000, 3000), (3000, 4000), (1, 4000), (4000, 1), (2, 1), (1, 2), (3, 3))
    if index < len(extremes):
        return extremes[index]
    limit = 2000 if index % 10 == 0 else 400
    width, height = np.exp(random.uniform(0, np.log(limit), 2)).round()
    return int(width), int(height)


def _photo_cases(spec: PreprocessSpec) -> list[ImageCase]:
    """A few of the bundled photos, with their pixels."""
    cases = []
    with assets.validation_folder() as folder:
        for photo in spread(list_photos(folder), _PHOTOS):
            image = load_image(photo.path)
            name = f"photo {photo.path.stem}"
            cases.append(ImageCase(name, *image.size, spec, raw=image.tobytes()))
    return cases


# Classes


def measured_logits(
    runner: Runner, manifest: Manifest, photos: Path | None = None
) -> dict[str, np.ndarray]:
    """The artefact's own logits (K,) on a few photos, by name.

    The photos are those of the folder where one is named, the bundled ones where the artefact holds the
    bundled weights, otherwise generated. The latter two have image cases of the same names, so that an
    app can compare its model's outputs too.

    Raises:
        EdgeDeitError: logits that are not finite, or not as many as there are labels.
    """
    spec = manifest.preprocess_spec
    if photos is not None:
        chosen = [photo.path for photo in spread(list_photos(photos), _PHOTOS)]
        tensors = {path.relative_to(photos).as_posix(): load_pixels(path, spec) for path in chosen}
    else:
        bundled = manifest.weights.get("source") == "bundled"
        cases = _photo_cases(spec) if bundled else list(_own_cases(spec))[:_PHOTOS]
        tensors = {case.name: case.tensor()[None] for case in cases}
    return {name: _logits(runner, pixels, manifest) for name, pixels in tensors.items()}


def _logits(runner: Runner, pixels: np.ndarray, manifest: Manifest) -> np.ndarray:
    logits: np.ndarray = np.asarray(runner(pixels), np.float32)
    if logits.shape != (1, len(manifest.labels)):
        raise EdgeDeitError(
            f"{manifest.artefact} returns shape {logits.shape} for {len(manifest.labels)} labels; "
            "export it again"
        )
    if not np.isfinite(logits).all():
        raise EdgeDeitError(f"{manifest.artefact} returned NaN or infinite logits; export it again")
    return logits.reshape(-1)


def _made_up_logits(classes: int) -> dict[str, np.ndarray]:
    """Logits (K,) with a trap each: ties, signed zeros, neighbours, overflow of float32."""
    index = np.arange(classes)
    one = np.full(classes, -20.0)
    one[-1] = 60.0
    return {
        "all equal": np.zeros(classes),
        "ties": (index * 7 % 3).astype(np.float64),
        "signed zeros": np.where(index % 2 == 0, -0.0, 0.0),
        "one dominates": one,
        "large": np.where(index % 2 == 0, -3.0e38, 3.0e38),
        "far below zero": -1000.0 - index % 11,
        "neighbours": 1 + (index * 5 % 7) * 2.0**-23,
    }


def _refused(classes: int) -> list[dict[str, Any]]:
    """Logits that an app must not rank."""
    cases = []
    for value, name in (("nan", "NaN"), ("inf", "infinite"), ("-inf", "negative infinite")):
        logits: list[float | str] = [float(index) for index in range(classes)]
        logits[classes // 2] = value
        cases.append({"name": name, "logits": logits})
    for name, length in (("none", 0), ("one too few", classes - 1), ("one too many", classes + 1)):
        cases.append({"name": name, "logits": [float(index) for index in range(length)]})
    return cases


def _classification(name: str, logits: np.ndarray) -> dict[str, Any]:
    values = logits.astype(np.float32)
    return {
        "name": name,
        "logits": [_shortest(value) for value in values],
        "probabilities": [round(float(p), 9) for p in softmax(values)],
        "top": top_k(values, _TOP),
    }


# The two files


def golden_spec(manifest: Manifest) -> dict[str, Any]:
    """The contract of one artefact: input, output, preprocessing, labels, rule of ranking.

    Since 13.0 Pillow resizes vertically first where rows are lost, and more than twice as many as columns
    (https://github.com/python-pillow/Pillow/pull/9549; the exact rule was found by comparing both orders).

    Raises:
        EdgeDeitError: the artefact returns no classes, or labels that one line each cannot hold.
    """
    if manifest.task != "classification":
        raise EdgeDeitError(
            f"{manifest.artefact} returns {manifest.task}, not classes; "
            "export it again with --task classification"
        )
    labels = manifest.labels
    if (returned := manifest.output["shape"][-1]) != len(labels):
        raise EdgeDeitError(
            f"{manifest.artefact} returns {returned} values for {len(labels)} labels; export it again"
        )
    if broken := [label for label in labels if "\n" in label or "\r" in label]:
        raise EdgeDeitError(f"label {broken[0]!r} holds a line break; rename the class")
    return {
        "schema": _SCHEMA,
        "artefact": manifest.artefact,
        "artefact_sha256": manifest.sha256,
        "weights_sha256": manifest.weights["sha256"],
        "model": manifest.model,
        "input": manifest.input,
        "output": manifest.output,
        "preprocessing": manifest.preprocess_spec.to_json(),
        "resize": {
            "implementation": "Pillow",
            "precision_bits": 22,  # of the fixed-point coefficients, Pillow's Resample.c
            "bicubic_a": -0.5,
            "passes": ["horizontal", "vertical"],
            "vertical_first_if": _VERTICAL_FIRST_IF,
        },
        "labels": labels,
        "labels_sha256": hashlib.sha256("\n".join(labels).encode()).hexdigest(),
        "top_k": _TOP,
        "ties": "lower index first",
    }


def golden_cases(manifest: Manifest, logits: dict[str, np.ndarray]) -> dict[str, Any]:
    """Image cases for the manifest's preprocessing; class cases of these logits and of made-up ones."""
    spec, classes = manifest.preprocess_spec, len(manifest.labels)
    ranked = {**logits, **_made_up_logits(classes)}
    return {
        "schema": _SCHEMA,
        "images": [case.to_json() for case in image_cases(spec)],
        "classification": [_classification(name, values) for name, values in ranked.items()],
        "refused": _refused(classes),
    }


def write_golden(folder: Path, spec: dict[str, Any], cases: dict[str, Any]) -> None:
    """Write `golden_spec.json` and `golden_cases.json`, both complete before either is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".golden-", dir=folder))
    try:
        texts = {"golden_spec.json": _text(spec), "golden_cases.json": _text(cases)}
        for name, text in texts.items():
            (work / name).write_text(text, encoding="utf-8")
        for name in texts:
            (work / name).replace(folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _text(data: dict[str, Any]) -> str:
    """JSON with one entry, or one case of a list, a line."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    entries = []
    for key, value in data.items():
        text = line(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(line(case) for case in value) + "\n ]"
        entries.append(f" {line(key)}: {text}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def golden(
    artefact: Annotated[
        Path, typer.Argument(help="An exported file; its manifest lies beside it.")
    ],
    photos: Annotated[
        Path | None, typer.Option(help="Photos for the logits; default: bundled or generated ones.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("golden"),
    threads: Annotated[int, typer.Option(help="Threads of the runner.")] = 2,
) -> None:
    """Write golden_spec.json and golden_cases.json, which the phone apps' tests obey."""
    if threads < 1:
        raise EdgeDeitError(f"--threads is {threads}; it must be at least 1")
    manifest = read_manifest(artefact)
    spec = golden_spec(manifest)
    target = find_target(manifest.target)
    target.check(manifest.precision)
    if reason := target.unchecked(manifest.backend):
        raise EdgeDeitError(f"{reason}; name another artefact of the same weights")
    with quiet():
        stand_in = target.runs_on()
        logits = measured_logits(target.load_runner(artefact, threads), manifest, photos)
    cases = golden_cases(manifest, logits)
    write_golden(output, spec, cases)
    table = Table(title=f"{artefact.name} -> {output}", title_justify="left")
    table.add_column("cases")
    table.add_column("number", justify="right")
    for name in ("images", "classification", "refused"):
        table.add_row(name, str(len(cases[name])))
    out().print(table)
    if stand_in:
        out().print(stand_in, markup=False)


app.command()(golden)

if __name__ == "__main__":
    run(app, "python -m edge_deit.golden")
