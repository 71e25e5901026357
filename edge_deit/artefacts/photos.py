"""The photos that artefacts of some float models are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge_deit import assets
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.listing import Listing
from edge_deit.data.photos import list_photos

__all__ = ["open_photos"]


@contextmanager
def open_photos(
    data: Path | None, split: str | None, images: int | None, baselines: Sequence[FloatModel]
) -> Iterator[Listing]:
    """The photos of `data`, of split `validation` unless told otherwise; the bundled ones without it.

    Raises:
        EdgeDeitError: as `list_photos`, or no `data` where the weights are not the bundled ones.
    """
    with ExitStack() as stack:
        if data is None:
            if any(baseline.weights != "bundled" for baseline in baselines):
                raise EdgeDeitError(
                    "the bundled photos fit the bundled weights only: give --data with your own photos"
                )
            data = stack.enter_context(assets.validation_folder())
        yield list_photos(data, split, use="validation").pick(images)
