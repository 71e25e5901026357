"""What lies between this project's pixels and logits and what a file takes and returns.

All of the harness speaks of normalised pixels and logits. A file may take a photo's bytes instead, which
the pixels were made of, and return probabilities, whose logarithms are the logits up to a constant that
softmax does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from edge_deit.artefacts.manifest import Manifest
from edge_deit.data.preprocess import PreprocessSpec, bytes_of
from edge_deit.exporters import Runner

if TYPE_CHECKING:  # so that running files costs no torch
    from edge_deit.model.file_form import FileForm

__all__ = ["Contract"]

_LEAST: Final = np.finfo(np.float32).tiny  # a probability that has become 0


@dataclass(frozen=True)
class Contract:
    """`image`: the file takes bytes; `probabilities`: it returns them; `spec` made the pixels.

    `photos` is how many it takes at once.
    """

    image: bool
    probabilities: bool
    spec: PreprocessSpec
    photos: int = 1

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """As a manifest has it."""
        image = manifest.input["dtype"] == "uint8"
        probabilities = manifest.output["name"] == "probabilities"
        return cls(image, probabilities, manifest.preprocess_spec, manifest.photos_at_once)

    @classmethod
    def of_form(cls, form: FileForm, spec: PreprocessSpec) -> Self:
        """As an export was asked for it, before there is a manifest."""
        return cls(form.takes == "image", form.returns == "probabilities", spec, form.photos)

    def wrap(self, runner: Runner) -> Runner:
        """A runner from pixels to logits around one of the file."""
        if not self.image and not self.probabilities and self.photos == 1:
            return runner

        def run(pixels: np.ndarray) -> np.ndarray:
            return self.logits(self.in_batches(runner, self.input_of(pixels)))

        return run

    def in_batches(self, runner: Runner, source: np.ndarray) -> np.ndarray:
        """What the file returns for M inputs (M, ...), if it takes several at once: (M, ...).

        It is called as often as it takes. The last call is filled up with the last input, and the answers
        to those repeats are dropped. For a file that takes one photo this is one call.
        """
        if self.photos == 1:
            return runner(source)
        found = []
        for start in range(0, len(source), self.photos):
            some = source[start : start + self.photos]
            repeats = some[-1:].repeat(self.photos - len(some), axis=0)
            found.append(runner(np.concatenate([some, repeats]))[: len(some)])
        return np.concatenate(found)

    def input_of(self, pixels: np.ndarray) -> np.ndarray:
        """What the file takes in place of pixels (M, 3, H, W): themselves, or (M, H, W, 3) uint8."""
        return bytes_of(pixels, self.spec) if self.image else pixels

    def logits(self, returned: np.ndarray) -> np.ndarray:
        """What the file returned, or the logarithms of its probabilities, (1, K)."""
        if not self.probabilities:
            return returned
        return np.log(np.maximum(np.asarray(returned, np.float32), _LEAST))
