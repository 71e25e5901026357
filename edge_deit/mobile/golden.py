"""What a phone app must compute, to the last bit.

`golden_spec.json` says how a photo becomes pixels and logits become classes; `golden_cases.json` holds
examples with their answers. The apps' tests and their self-test screens read both.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from edge_deit.artefacts.artefact import check_one_photo, no_classes, read_artefact
from edge_deit.artefacts.manifest import Manifest
from edge_deit.artefacts.runners import logits_of, open_runner, patiently, stand_in
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import Runner
from edge_deit.metrics.outputs import softmax, top_k
from edge_deit.mobile.golden_files import file_cases
from edge_deit.mobile.golden_frames import frame_cases
from edge_deit.mobile.golden_images import PHOTOS, image_cases, own_cases, photo_cases, shortest

__all__ = ["golden_cases", "golden_of", "golden_spec", "measured_logits", "write_golden"]


_SPEC_SCHEMA: Final = 1
_CASES_SCHEMA: Final = 2

_VERTICAL_FIRST_IF: Final = "rows lost > max(0, 2 * columns lost)"

_KINDS: Final = ("images", "files", "frames", "classification", "refused", "photos")
_TOP: Final = 5


def measured_logits(
    runner: Runner,
    manifest: Manifest,
    photos: Path | None = None,
    on_photo: Callable[[int], None] = lambda photos: None,
    count: int = PHOTOS,
) -> dict[str, np.ndarray]:
    """The artefact's own logits (K,) on a few photos, by name; of probabilities their logarithms.

    The photos are `count` of the folder where one is named, the bundled ones where the artefact holds the
    bundled weights, otherwise generated. The latter two have image cases of the same names, so that an
    app can compare its model's outputs too. `on_photo` hears of each photo that was run.

    Raises:
        EdgeDeitError: logits that are not finite, or not as many as there are labels.
    """
    spec = manifest.preprocess_spec
    if photos is not None:
        return _photo_answers(runner, manifest, photos, count, on_photo)
    bundled = manifest.weights.get("source") == "bundled"
    cases = photo_cases(spec) if bundled else list(own_cases(spec))[:PHOTOS]
    tensors = {case.name: case.tensor()[None] for case in cases}
    found = {}
    for name, pixels in tensors.items():
        found[name] = logits_of(runner, pixels, manifest.artefact, manifest.labels)
        on_photo(1)
    return found


def _photo_answers(
    runner: Runner,
    manifest: Manifest,
    photos: Path,
    count: int,
    on_photo: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Logits (K,) on photos of a folder, evenly spread over it, by path in it."""
    chosen = [photo.path for photo in list_photos(photos).pick(count).photos]
    found = {}
    for path in chosen:
        pixels = load_pixels(path, manifest.preprocess_spec)
        name = path.relative_to(photos).as_posix()
        found[name] = logits_of(runner, pixels, manifest.artefact, manifest.labels)
        on_photo(1)
    return found


def _photos(photos: Path, manifest: Manifest, logits: Mapping[str, np.ndarray]) -> list[Any]:
    """What a folder run in the apps compares its answers with; the sha256 tells a file from another one."""
    return [
        {
            "name": name,
            "sha256": hashlib.sha256((photos / name).read_bytes()).hexdigest(),
            "artefact": manifest.artefact,
            "logits": [shortest(value) for value in values.astype(np.float32)],
        }
        for name, values in logits.items()
    ]


def _made_up_logits(classes: int) -> dict[str, np.ndarray]:
    """Logits (K,) with a trap each: ties, signed zeros, neighbours, overflow of float32.

    They are no model's answer to an image case.
    """
    index = np.arange(classes)
    one = np.full(classes, -20.0)
    one[-1] = 60.0
    return {
        "all equal": np.zeros(classes),
        "ties": (index * 7 % 3).astype(np.float64),
        "signed zeros": np.where(index % 2 == 0, -0.0, 0.0),
        "one dominates": one,
        "large values": np.where(index % 2 == 0, -3.0e38, 3.0e38),
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


def _classification(
    name: str, logits: np.ndarray, image: str | None = None, artefact: str | None = None
) -> dict[str, Any]:
    """Logits and what an app must make of them.

    `image` names the image case that the file `artefact` answered so; both are None for other logits.
    """
    values = logits.astype(np.float32)
    return {
        "name": name,
        "image": image,
        "artefact": artefact,
        "logits": [shortest(value) for value in values],
        "probabilities": [round(float(p), 9) for p in softmax(values)],
        "top": top_k(values, _TOP),
    }


def golden_spec(manifest: Manifest) -> dict[str, Any]:
    """The contract of one artefact: input, output, preprocessing, labels, rule of ranking.

    Since 13.0 Pillow resizes vertically first where rows are lost, and more than twice as many as columns
    (https://github.com/python-pillow/Pillow/pull/9549; the exact rule was found by comparing both orders).

    Raises:
        EdgeDeitError: the artefact returns no classes, or labels that one line each cannot hold.
    """
    if (reason := no_classes(manifest)) is not None:
        raise EdgeDeitError(f"{manifest.artefact} {reason}")
    labels = manifest.labels
    if (returned := manifest.output["shape"][-1]) != len(labels):
        raise EdgeDeitError(
            f"{manifest.artefact} returns {returned} values for {len(labels)} labels; export it again"
        )
    if broken := [label for label in labels if "\n" in label or "\r" in label]:
        raise EdgeDeitError(f"label {broken[0]!r} holds a line break; rename the class")
    return {
        "schema": _SPEC_SCHEMA,
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


def golden_cases(
    manifest: Manifest,
    logits: Mapping[str, np.ndarray],
    others: Mapping[str, Mapping[str, np.ndarray]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Image cases for the manifest's preprocessing; class cases of these logits and of made-up ones.

    `others` has the logits of further artefacts of the same weights, by file name, so that an app can
    compare each file with what it said here.
    """
    spec, classes = manifest.preprocess_spec, len(manifest.labels)
    images = image_cases(spec)
    own = {case.name for case in images if case.spec == spec}
    answers = [
        _classification(name, values, name, manifest.artefact)
        if name in own
        else _classification(name, values)
        for name, values in logits.items()
    ]
    answers += [
        _classification(f"{name}, {artefact}", values, name, artefact)
        for artefact, found in others.items()
        for name, values in found.items()
    ]
    made_up = [_classification(name, values) for name, values in _made_up_logits(classes).items()]
    return {
        "schema": _CASES_SCHEMA,
        "images": [case.to_json() for case in images],
        "files": [case.to_json() for case in file_cases()],
        "frames": [case.to_json() for case in frame_cases()],
        "classification": [*answers, *made_up],
        "refused": _refused(classes),
        "photos": [],
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


def golden_of(
    artefact: Path,
    *,
    photos: Path | None = None,
    images: int = PHOTOS,
    output: Path = Path("golden"),
    threads: int = 2,
    progress: Progress = SILENT,
) -> tuple[dict[str, int], str | None]:
    """Write both files of an artefact into `output`, with its answers to at most `images` of the photos.

    Returns how many cases there are of each kind, and what stood in for the artefact's own runtime, None
    where that ran.

    Raises:
        EdgeDeitError: an artefact that cannot be run here, or has no classes.
    """
    if threads < 1:
        raise EdgeDeitError(f"--threads is {threads}; it must be at least 1")
    if images < 1 or (photos is None and images != PHOTOS):
        raise EdgeDeitError(
            f"--images is {images}; it must be at least 1, and goes with --photos DIR"
        )
    opened = read_artefact(artefact)
    check_one_photo(opened, "golden cases are for an app that classifies one at a time")
    manifest = opened.manifest
    spec = golden_spec(manifest)
    with (
        patiently(opened, images, progress) as on_photo,
        open_runner(opened, threads) as runner,
    ):
        logits = measured_logits(runner, manifest, photos, on_photo, images)
    cases = golden_cases(manifest, dict(islice(logits.items(), PHOTOS)))
    if photos is not None:
        cases["photos"] = _photos(photos, manifest, logits)
    write_golden(output, spec, cases)
    return {name: len(cases[name]) for name in _KINDS}, stand_in(manifest)
