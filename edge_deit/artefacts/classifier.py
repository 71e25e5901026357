"""Photos to classes inside a program of one's own: `from edge_deit import Classifier`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from edge_deit.artefacts.artefact import check_classes, read_artefact
from edge_deit.artefacts.predict import RankedClass, rank
from edge_deit.artefacts.runners import all_logits, open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.opening import check_regular
from edge_deit.data.image_files import image_of, load_image, upright
from edge_deit.data.preprocess import preprocess

__all__ = ["Classifier", "Photo"]

Photo = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A file's name, a file's content, a Pillow image, or RGB or grey pixels (H, W, 3) or (H, W), uint8."""


class Classifier:
    """An exported file that is loaded, and answers for photos; several threads may call it.

    The file runs in this process, in its own runtime: nothing but that has to be installed. A
    file that crashes its runtime ends the program; `predict` shields from that. The manifest has to lie
    beside the file, and is held against it.

    >>> classify = Classifier("deit_tiny.int8.tflite")          # doctest: +SKIP
    >>> [(one.label, one.probability) for one in classify("photo.jpg")]         # doctest: +SKIP
    [('Sandal', 0.98), ...]
    """

    def __init__(self, artefact: str | os.PathLike[str], *, top: int = 5, threads: int = 2) -> None:
        """Load a file; `top` is how many classes an answer has, `threads` how many the runtime takes.

        Raises:
            EdgeDeitError: the file cannot be used, its runtime is absent, or a number is below 1.
        """
        if type(top) is not int or top < 1:
            raise EdgeDeitError(f"top is {top!r}; it must be a whole number, 1 up")
        opened = read_artefact(Path(artefact))
        check_classes(opened)
        self._name, self._top = opened.path.name, top
        self._labels = tuple(opened.manifest.labels)
        self._spec = opened.manifest.preprocess_spec
        self._runner = open_runner(opened, threads, isolated=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all classes, in the order of the logits."""
        return self._labels

    @overload  # a str is a sequence of str too, and counts as one photo
    def __call__(self, photo: Photo) -> list[RankedClass]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, photo: Sequence[Photo]) -> list[list[RankedClass]]: ...

    def __call__(
        self, photo: Photo | Sequence[Photo]
    ) -> list[RankedClass] | list[list[RankedClass]]:
        """The most probable classes of a photo, best first; of a list or tuple of photos a list of such.

        Pixels of an array are taken as they are: RGB, upright. All others are read as `predict` reads.

        Raises:
            EdgeDeitError: a photo cannot be read, or the runtime failed. No photo is left out silently.
        """
        if isinstance(photo, (list, tuple)):
            return [self._one(one, f"photo {number}") for number, one in enumerate(photo)]
        return self._one(photo, "the photo")  # type: ignore[arg-type] # what else there is, is refused

    def _one(self, photo: Photo, name: str) -> list[RankedClass]:
        pixels = preprocess(_image(photo, name), self._spec)
        (logits,) = all_logits(self._runner, pixels, self._name, self._labels)
        return list(rank(logits, self._labels, self._top))


def _image(photo: Photo, name: str) -> Image.Image:
    """A photo of whatever kind as upright 8-bit RGB.

    Raises:
        EdgeDeitError: it is none, or cannot be read.
    """
    if isinstance(photo, (str, os.PathLike)):
        check_regular(Path(photo), "image")
        return load_image(Path(photo))
    if isinstance(photo, (bytes, bytearray, memoryview)):
        return image_of(bytes(photo), name)
    if isinstance(photo, np.ndarray):
        return _of_array(photo, name)
    if isinstance(photo, Image.Image):
        return upright(photo, name)
    raise EdgeDeitError(
        f"{name} is of type {type(photo).__name__}; give a path, a file's bytes, a Pillow image, a NumPy "
        "array, or a list of these"
    )


def _of_array(pixels: np.ndarray, name: str) -> Image.Image:
    shape = pixels.shape
    if pixels.dtype != np.uint8 or shape[2:] not in ((), (3,)) or 0 in shape or len(shape) < 2:
        raise EdgeDeitError(
            f"{name} is an array {shape} of {pixels.dtype}; give uint8 pixels, (H, W, 3) in RGB or (H, W)"
        )
    return upright(Image.fromarray(np.ascontiguousarray(pixels)), name)
