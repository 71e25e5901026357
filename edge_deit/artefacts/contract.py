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
from exporters import Runner

if TYPE_CHECKING:  # so that running files costs no torch
    from edge_deit.model.file_form import FileForm

__all__ = ["Contract"]

_LEAST: Final = np.finfo(np.float32).tiny  # a probability that has become 0


@dataclass(frozen=True)
class Contract:
    """`image`: the file takes bytes; `probabilities`: it returns them; `spec` made the pixels."""

    image: bool
    probabilities: bool
    spec: PreprocessSpec

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """As a manifest has it."""
        image = manifest.input["dtype"] == "uint8"
        return cls(image, manifest.output["name"] == "probabilities", manifest.preprocess_spec)

    @classmethod
    def of_form(cls, form: FileForm, spec: PreprocessSpec) -> Self:
        """As an export was asked for it, before there is a manifest."""
        return cls(form.takes == "image", form.returns == "probabilities", spec)

    def wrap(self, runner: Runner) -> Runner:
        """A runner from pixels to logits around one of the file."""
        if not self.image and not self.probabilities:
            return runner

        def run(pixels: np.ndarray) -> np.ndarray:
            return self.logits(runner(self.input_of(pixels)))

        return run

    def input_of(self, pixels: np.ndarray) -> np.ndarray:
        """What the file takes in place of pixels (1, 3, H, W): themselves, or (1, H, W, 3) uint8."""
        return bytes_of(pixels, self.spec) if self.image else pixels

    def logits(self, returned: np.ndarray) -> np.ndarray:
        """What the file returned, or the logarithms of its probabilities, (1, K)."""
        if not self.probabilities:
            return returned
        return np.log(np.maximum(np.asarray(returned, np.float32), _LEAST))
