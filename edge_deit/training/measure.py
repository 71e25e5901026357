"""What labelled photos say about weights: loss, top-1 and which classes are taken for which.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.training.augment import BrokenPhoto
from edge_deit.training.device import CPU, Compute
from edge_deit.training.kinds import Judged
from edge_deit.training.loading import batches

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """Figures of all photos that could be read.

    `loss` is the mean cross-entropy of the labels, without smoothing; `confusion` (K, K) int32 counts
    photos, a row for each true class, a column for each answer; `broken` says why photos were left out.
    """

    loss: float
    confusion: Tensor
    broken: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """How many photos were measured."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of photos whose class was the first answer, 0 to 1."""
        return int(self.confusion.diagonal().sum()) / self.images


class _Judged(Dataset[tuple[Tensor, int] | BrokenPhoto]):
    """Photos as validation sees them: (3, H, W) float32 and the label."""

    def __init__(self, photos: list[Photo], spec: PreprocessSpec) -> None:
        self.photos, self.spec = photos, spec

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | BrokenPhoto:
        photo = self.photos[index]
        assert photo.label is not None
        try:
            return torch.from_numpy(load_pixels(photo.path, self.spec)[0]), photo.label
        except EdgeDeitError as error:
            return BrokenPhoto(str(error))


def _together(
    items: list[tuple[Tensor, int] | BrokenPhoto],
) -> tuple[Tensor, Tensor, list[str]]:
    """A batch, (B, 3, H, W) and (B), without the photos that cannot be read, and why they cannot."""
    whole = [item for item in items if not isinstance(item, BrokenPhoto)]
    broken = [item.message for item in items if isinstance(item, BrokenPhoto)]
    if not whole:
        return torch.empty(0), torch.empty(0, dtype=torch.int64), broken
    return torch.stack([pixels for pixels, _ in whole]), torch.tensor([k for _, k in whole]), broken


def measure(
    model: Judged,
    photos: list[Photo],
    spec: PreprocessSpec,
    *,
    compute: Compute = CPU,
    workers: int = 0,
    batch_size: int = 50,
    on_photos: Callable[[int], None] = lambda count: None,
) -> Measured:
    """Run photos through a model in float32, with the evaluation's preprocessing; broken ones are left out.

    Raises:
        EdgeDeitError: no photo can be read.
    """
    classes = model.config.num_classes
    confusion = torch.zeros(classes, classes, dtype=torch.int32)
    loss, broken = 0.0, list[str]()
    places = range(len(photos))
    found = batches(
        _Judged(photos, spec),
        [places[at : at + batch_size] for at in places[::batch_size]],
        _together,
        workers=workers,
        pinned=compute.on_cuda,
    )
    model.eval()
    with torch.inference_mode():
        for pixels, labels, unread in found:
            broken += unread
            if len(labels):
                logits = model(compute.pixels(pixels)).float().cpu()  # (B, K)
                loss += F.cross_entropy(logits, labels, reduction="sum").item()
                cells = labels * classes + logits.argmax(1)
                counted = torch.bincount(cells, minlength=classes**2)
                confusion += counted.view(classes, classes).int()
            on_photos(len(labels) + len(unread))
    seen = int(confusion.sum())
    if not seen:
        raise EdgeDeitError(f"none of the {len(photos)} photos can be read: {broken[0]}")
    return Measured(loss / seen, confusion, tuple(broken))
