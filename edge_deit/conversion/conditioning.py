"""The conditioned form that integer files start from: made when the first of them is, kept for the next.

It is kept in the user's cache, under a name that follows from all that it was made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Final

from edge_deit.common.cache import CacheFolder, cache_folder
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.calibration import CalibrationSet
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.condition import (
    Conditioned,
    condition,
    condition_without_photos,
    passes,
)
from edge_deit.quantization.stored import (
    read_conditioned,
    recipe,
    tensors_hash,
    write_conditioned,
)

__all__ = ["conditioning_cache", "find_conditioned"]

_LIMIT_BYTES: Final = 2 << 30


def conditioning_cache() -> CacheFolder | None:
    """Where conditioned forms are kept; None where nothing is."""
    return cache_folder("conditioning", _LIMIT_BYTES)


def find_conditioned(
    form: DeployDeiT,
    spec: PreprocessSpec,
    photos: CalibrationSet | None,
    cache: CacheFolder | None,
    progress: Progress,
    *,
    seed: int = 0,
) -> Conditioned:
    """Condition `form` on the photos, or take what `cache` has; without photos ranges stay open.

    `seed` is that of all that is drawn.

    A broken entry is made anew, and a cache that cannot be written is done without; both are noted.

    Raises:
        EdgeDeitError: the output is not finite on some photo.
    """
    if photos is None:
        return condition_without_photos(form, spec, seed=seed)
    if cache is None:
        return _conditioned(form, spec, photos, progress, seed)
    name = f"{_key(form, spec, photos, seed)}.safetensors"
    if (path := cache.find(name)) is not None:
        try:
            found = read_conditioned(path, form.config, spec)
        except EdgeDeitError as error:
            progress.note(f"conditioning is done anew: {error}")
        else:
            progress.note(f"conditioning: taken from {path} (--no-cache does it anew)")
            return found
    found = _conditioned(form, spec, photos, progress, seed)
    size_bytes = 2 * sum(value.nbytes for value in found.form.state_dict().values())
    try:
        cache.keep(name, lambda place: write_conditioned(found, place), size_bytes)
    except OSError as error:
        progress.note(f"conditioning was not kept for the next export: {error}")
    return found


def _conditioned(
    form: DeployDeiT,
    spec: PreprocessSpec,
    photos: CalibrationSet,
    progress: Progress,
    seed: int,
) -> Conditioned:
    with progress.task("conditioning", passes(len(photos))) as advance:
        return condition(form, photos, spec, seed=seed, on_photo=lambda: advance(1))


def _key(form: DeployDeiT, spec: PreprocessSpec, photos: CalibrationSet, seed: int) -> str:
    """sha256 of all that conditioning depends on: the weights, the pixels, and how it is done."""
    parts = {
        "recipe": recipe(),
        "seed": seed,
        "config": asdict(form.config),
        "weights": tensors_hash(form.state_dict()),
        "preprocessing": spec.to_json(),
        "pixels": tensors_hash({"pixels": photos.pixels}),
        "photos": list(photos.photo_sha256),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
