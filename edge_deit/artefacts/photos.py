"""The photos that artefacts of some float models are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge_deit import assets
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.photos import Photo, class_names, list_photos, pick_evenly

__all__ = ["open_photos"]


@contextmanager
def open_photos(
    data: Path | None, split: str, images: int | None, baselines: Sequence[FloatModel]
) -> Iterator[tuple[Path, Sequence[Photo], Sequence[str]]]:
    """Root folder, photos, and names of the class folders (none when labels are numbers already)."""
    with ExitStack() as stack:
        if data is None:
            if any(baseline.weights != "bundled" for baseline in baselines):
                raise EdgeDeitError(
                    "the bundled photos fit the bundled weights only: give --data with your own photos"
                )
            data = stack.enter_context(assets.validation_folder())
        photos = list_photos(data, split)
        if images is not None:
            photos = pick_evenly(photos, images)
        folders = photos[0].path.parent != data and not (data / "labels.csv").is_file()
        yield data, photos, class_names(data) if folders else []
