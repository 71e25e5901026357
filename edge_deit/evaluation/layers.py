"""Where an artefact leaves the float model: values inside both, compared point by point.

`model.points` says which points there are. Probabilities and outputs are the same in every form. The
stream is not: the deployment form takes the mean over D out of every token (`model.deploy`), and
conditioning multiplies all tokens by one orthogonal matrix, the same for all artefacts
(`quantization.rotate`). The float model's stream gets the same mean removal, and the same rotation where
the artefact's embedding shows one. Whatever else conditioning changes (grey levels, coarse part, scales,
token scales) it undoes before the stream is reached.

Shapes: N tokens, R tokens that are read, D width, h heads, d = D / h, K classes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.outputs import aligned, decibels
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.model.points import LayerReader, Points, _read_tokens, float_points, point_names
from edge_deit.quantization.rotate import random_rotation
from edge_deit.report.report import Layers

__all__ = ["DROP_DB", "compare_layers", "first_drop"]

DROP_DB: Final = 6.0
"""Noise of twice the amplitude: what counts as a drop from one point to the next."""

_HEADROOM_DB: Final = 10.0
_SAME_LENGTHS_DB: Final = 20.0
_FRONT: Final = "in front of "


# The float model


# Comparison


@dataclass
class _Sums:
    """Signal and noise power of each point over the photos so far."""

    signal: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)

    def add(self, reference: Points, actual: Points) -> None:
        """Take in one photo.

        Raises:
            EdgeDeitError: a point of another shape, or with values that are not finite.
        """
        for name, wanted in reference.items():
            found = actual[name].astype(np.float64)
            if found.shape != wanted.shape:
                raise EdgeDeitError(
                    f"{name} has shape {found.shape} in the artefact and {wanted.shape} in the float "
                    "model; give the weights that it was made from"
                )
            if not np.isfinite(found).all():
                raise EdgeDeitError(f"the artefact's {name} holds values that are NaN or infinite")
            self.signal[name] = self.signal.get(name, 0.0) + float((wanted**2).sum())
            self.noise[name] = self.noise.get(name, 0.0) + float(((wanted - found) ** 2).sum())

    def snr_db(self, name: str) -> float:
        """10 log10(signal / noise), at most 200."""
        return decibels(self.signal[name], self.noise[name])


def compare_layers(
    model: DeiT,
    reader: LayerReader,
    photos: Iterable[Tensor],
    *,
    drop_db: float = DROP_DB,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> Layers:
    """Compare an artefact with its float model at all points, on photos (1, 3, H, W), one at a time.

    `seed` is the one that the artefact was made with.

    Raises:
        EdgeDeitError: no photos, values that are not finite or not of the model's shape, or a stream in
            unknown coordinates.
    """
    names, sums, count = point_names(model.config), _Sums(), 0
    rotation: np.ndarray | None = None
    for count, pixels in enumerate(photos, start=1):
        reference, actual = float_points(model, pixels), reader.read(pixels.numpy())
        if reader.up_to_a_constant:
            actual["logits"] = aligned(reference["logits"], actual["logits"])
        if count == 1:
            rotation = _rotation(reference["embedding"], actual["embedding"], seed)
        if rotation is not None:
            reference = _rotated(reference, rotation)
        sums.add(reference, actual)
        sums.add(_fronts(reference, model.config), _fronts(actual, model.config))
        on_photo()
    if not count:
        raise EdgeDeitError("there are no photos to compare layers on: give --data DIR")
    snr_db = {name: sums.snr_db(name) for name in sums.signal}
    drop = first_drop(names, snr_db, drop_db)
    return Layers(reader.method, count, names, tuple(snr_db[n] for n in names), drop, drop_db)


def _fronts(points: Points, config: DeiTConfig) -> Points:
    """What the last block of a classifier is compared with: of the points in front, the R rows it reads."""
    if not config.num_classes or config.depth == 1:
        return {}
    before, last = f"blocks.{config.depth - 2}", f"blocks.{config.depth - 1}"
    rows = _read_tokens(config)
    return {
        _FRONT + f"{last}.attention": points[f"{before}.attention"][:, :rows],
        _FRONT + f"{last}.attn": points[f"{before}.mlp"][:rows],
    }


def _rotation(reference: np.ndarray, actual: np.ndarray, seed: int) -> np.ndarray | None:
    """The rotation Q (D, D) of an artefact's stream, or None: whichever fits its embedding (N, D).

    Raises:
        EdgeDeitError: neither fits although all tokens have their right length, so another Q was used.
    """
    generator = torch.Generator().manual_seed(seed)  # `rotate` draws the stream's Q first
    rotation: np.ndarray = random_rotation(reference.shape[-1], generator).numpy()
    lengths = [np.linalg.norm(values, axis=-1) for values in (reference, actual)]
    plain, turned = _snr_db(reference, actual), _snr_db(reference @ rotation, actual)
    if max(plain, turned) < 0 and _snr_db(*lengths) > _SAME_LENGTHS_DB:
        raise EdgeDeitError(
            "the artefact's residual stream is rotated in a way that this version does not know; "
            "export it again"
        )
    return rotation if turned > plain else None


def _snr_db(reference: np.ndarray, actual: np.ndarray) -> float:
    sums = _Sums()
    sums.add({"embedding": reference}, {"embedding": actual})
    return sums.snr_db("embedding")


def _rotated(points: Points, rotation: np.ndarray) -> Points:
    """The same points, the stream in rotated coordinates."""
    stream = ("embedding", "attn", "mlp")
    return {
        name: values @ rotation if name.rpartition(".")[2] in stream else values
        for name, values in points.items()
    }


def first_drop(names: Sequence[str], snr_db: Mapping[str, float], drop_db: float) -> str | None:
    """The first point at least `drop_db` below the one in front of it, None without one.

    `snr_db` may hold another value for what stands in front of a point, as "in front of NAME".

    Stream and output are followed. Probabilities have levels of their own, as a sharp attention shows more
    noise than a flat one; where the stream drops behind an attention that lies as far below the block in
    front, the attention is named. What stands in front counts at most 10 dB above the median: every
    integer artefact falls from an almost exact embedding to the noise of its first layers, and that is
    not what limits it.

    >>> names = ["embedding", "blocks.0.attn", "blocks.0.mlp", "logits"]
    >>> first_drop(names, dict(zip(names, [32, 30, 29, 9])), 6)
    'logits'
    """
    most = statistics.median(snr_db[name] for name in names) + _HEADROOM_DB
    front: dict[bool, float] = {}
    suspect = None
    for name in names:
        attention = name.endswith(".attention")
        before = snr_db.get(_FRONT + name, front.get(attention, -math.inf))
        fallen = min(before, most) - snr_db[name] >= drop_db
        front[attention] = snr_db[name]
        if attention:
            suspect = name if fallen else None
        elif fallen:
            return suspect if suspect and name.endswith(".attn") else name
    return None
