"""What the tests of other people's programs and benchmarks/clients.py give these programs.

Files of real weights where `EDGE_DEIT_REAL` names some, else of the bundled ones, and photos that took
no part in making them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_deit import assets
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.predict import predict_photos
from edge_deit.common.quiet import quiet
from edge_deit.conversion.run import ExportResult, export_model
from edge_deit.data.image_files import load_image
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec

__all__ = [
    "PHOTOS",
    "TOP",
    "Answers",
    "export_files",
    "export_page_files",
    "named",
    "reference",
    "validation_photos",
    "weights_given",
    "write_squares",
]

PHOTOS = 20
TOP = 5
Answers = dict[str, list[tuple[str, float]]]
"""Photo's stem -> its most probable classes with their scores."""


def real_folder() -> Path | None:
    """Real weights and photos, where this machine has them."""
    named = os.environ.get("EDGE_DEIT_REAL")
    return Path(named) if named else None


def weights_given() -> list[str]:
    """`--weights FILE` for commands that are to find the float model of `export_files`."""
    real = real_folder()
    return [] if real is None else ["--weights", str(_weights(real))]


def _weights(real: Path) -> Path:
    return real / "deit_tiny_patch16_224" / "model.safetensors"


def export_files(output: Path, calibration_images: int = 16, **settings: Any) -> ExportResult:
    """What `export_model` makes of those weights; `settings` are its own."""
    chosen: dict[str, Any] = {}
    if (real := real_folder()) is not None:
        photos = real / "imagenet400"
        chosen = {"weights": str(_weights(real)), "calibration": photos, "labels": "imagenet-1k"}
    chosen |= {"output": output, "parity_images": 4, "calibration_images": calibration_images}
    with quiet():
        return export_model(**chosen, **settings)


def export_page_files(output: Path) -> None:
    """The files that the web page is tried with."""
    export_files(output, targets=["onnx"], precisions=["fp32", "fp16", "int8"])
    export_files(output, targets=["tflite"], precisions=["fp32", "int8"])
    both = ["onnx", "tflite"]
    export_files(output, targets=both, precisions=["int8"], input_kind="image")


def named(folder: Path, ending: str) -> Path:
    """The one file whose name ends so."""
    (path,) = folder.glob(f"*.{ending}")
    return path


def validation_photos(count: int = PHOTOS) -> list[Path]:
    """Photos that took no part in the export."""
    with ExitStack() as stack:
        real = real_folder()
        root = stack.enter_context(assets.validation_folder()) if real is None else None
        folder = root or Path(real or "", "imagenet400")
        return [one.path for one in list_photos(folder, use="validation").pick(count).photos]


def reference(file: Path, photos: list[Path], top: int = TOP) -> Answers:
    """What `predict` says."""
    return {
        one.image.stem: [(ranked.label, ranked.probability) for ranked in one.top]
        for one in predict_photos(file, photos, top=top, threads=1)
    }


def write_squares(file: Path, photos: list[Path], folder: Path) -> None:
    """The photos resized by Pillow, cut to a square around the crop of `file`, without colour profile."""
    spec = read_manifest(file).preprocess_spec
    folder.mkdir()
    for photo in photos:
        _square(photo, spec).save(folder / f"{photo.stem}.png")


def _square(photo: Path, spec: PreprocessSpec) -> Image.Image:
    assert spec.resize == "shortest"
    image, side = load_image(photo), spec.resize_size
    width, height = image.size
    size = (
        side if width <= height else int(side * width / height),
        side if height <= width else int(side * height / width),
    )
    rim = (side - spec.crop_size) // 2
    left, top = ((length - spec.crop_size) // 2 - rim for length in size)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.asarray(resized.crop((left, top, left + side, top + side))))
