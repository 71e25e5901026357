"""Images whose pixels the apps' ports must make bit for bit, and a file of them for their runners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.mobile.golden_images import ImageCase, wide_cases

__all__ = ["golden_file", "ported_images"]

_PHONES = ((4000, 3000), (3000, 4000), (1080, 2400))


def ported_images(count: int) -> list[dict[str, Any]]:
    """`count` generated photos, then photos of phones' sizes at a real model's."""
    large = [
        ImageCase(f"{width} x {height} {name}", width, height, spec, 1 + seed % 8, seed, 4)
        for seed, (width, height) in enumerate(_PHONES)
        for name in ("nearest", "bilinear", "bicubic", "lanczos")
        for spec in [PreprocessSpec(resize_size=248, resample=name)]
    ]
    return [case.to_json() for case in (*wide_cases(count), *large)]


def golden_file(path: Path, images: list[dict[str, Any]]) -> Path:
    """Golden cases of images alone."""
    others = ("files", "frames", "classification", "refused", "photos")
    cases: dict[str, Any] = {"schema": 2, "images": images} | {name: [] for name in others}
    path.write_text(json.dumps(cases), encoding="utf-8")
    return path
