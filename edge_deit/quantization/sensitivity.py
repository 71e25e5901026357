"""What each layer's quantization alone does to the model, measured on calibration photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.fakequant import fake_quantize

__all__ = [
    "Damage",
    "Drop",
    "drop_of",
    "measure_drop",
    "rank_layers",
    "read_from_block",
    "streams_of",
]


@dataclass(frozen=True)
class Damage:
    """One layer integer, all others float: share of noise power in the output, changed decisions."""

    layer: str
    noise: float
    flips: int
    photos: int


@dataclass(frozen=True)
class Drop:
    """Top-1 points that the integer model loses on labelled photos.

    Without labels `points` is the share of photos whose decision changed, which the drop cannot exceed.
    """

    points: float
    photos: int
    labelled: bool

    def __str__(self) -> str:
        what = "points of top-1" if self.labelled else "% of decisions changed"
        return f"{self.points:.1f} {what} on {self.photos} calibration photos"


def rank_layers(
    conditioned: Conditioned,
    photos: Sequence[Tensor],
    *,
    outputs: bool,
    on_layer: Callable[[], None] = lambda: None,
) -> list[Damage]:
    """Every quantizable layer, the most harmful first.

    A layer of block i is measured from the stream in front of that block on, which is computed once a
    photo, so that half of the work is saved. `outputs`: a layer's output is rounded too.
    """
    exact = conditioned.unrounded
    with torch.inference_mode():
        streams = [streams_of(exact, photo) for photo in photos]
        reference = torch.cat([exact.read(stream[-1]) for stream in streams]).flatten(1)
        found = []
        for name in quantizable_layers(exact):
            integer = fake_quantize(
                conditioned.with_layers([name]), [name], conditioned.ranges, outputs=outputs
            )
            rows = [
                read_from_block(integer, name, stream, photo)
                for stream, photo in zip(streams, photos, strict=True)
            ]
            actual = torch.cat(rows).flatten(1)
            noise = (actual - reference).square().sum() / reference.square().sum()
            flips = int((actual.argmax(1) != reference.argmax(1)).sum())
            found.append(Damage(name, float(noise), flips, len(photos)))
            on_layer()
    return sorted(found, key=lambda damage: -damage.noise)


def streams_of(form: DeployDeiT, photo: Tensor) -> list[Tensor]:
    """The residual stream in front of each block and behind the last, (1, N, D) each."""
    stream = [form.embed(photo)]
    for block in form.blocks:
        stream.append(block(stream[-1]))
    return stream


def _first_block(name: str, depth: int) -> int | None:
    """Index of the block that holds a layer; None for the patch embedding, the depth for the head."""
    if name == "patch_embed":
        return None
    return int(name.split(".")[1]) if name.startswith("blocks.") else depth


def read_from_block(form: DeployDeiT, name: str, stream: list[Tensor], photo: Tensor) -> Tensor:
    """The output of a form that differs from the one of `stream` in the named layer alone."""
    start = _first_block(name, len(form.blocks))
    if start is None:
        whole: Tensor = form(photo)
        return whole
    x = stream[start]
    for block in form.blocks[start:]:
        x = block(x)
    return form.read(x)


def measure_drop(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    reference: Tensor,
    labels: Sequence[int | None],
    *,
    on_photo: Callable[[], None] = lambda: None,
) -> Drop:
    """Top-1 points lost by `form` against the float model's outputs (M, K) on the same photos."""
    rows = []
    with torch.inference_mode():
        for photo in photos:
            rows.append(form(photo))
            on_photo()
    return drop_of(torch.cat(rows).argmax(1), reference.argmax(1), labels)


def drop_of(actual: Tensor, reference: Tensor, labels: Sequence[int | None]) -> Drop:
    """The same from decisions (M,)."""
    count = len(actual)
    known = [label for label in labels if label is not None]
    if len(known) < count:
        return Drop(100 * float((actual != reference).float().mean()), count, False)
    truth = torch.tensor(known)
    lost = (reference == truth).sum() - (actual == truth).sum()
    return Drop(100 * int(lost) / count, count, True)
