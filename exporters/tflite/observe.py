"""Values of a float `.tflite` file's tensors on calibration photos, and int8 ranges that fit them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.runtime import contiguous
from edge_deit.quantization.scheme import Range

__all__ = ["Observed", "observe", "tight_range", "whole_range"]

_THREADS: Final = 2
_SAMPLES: Final = 1024  # values kept of one tensor and photo
_STEPS: Final = 255  # between 256 integers
_SHARES: Final = np.linspace(0.3, 1.0, 36)  # of the whole range, tried by `tight_range`
_SMALLEST_SPAN: Final = 1e-6


@dataclass
class Observed:
    """One tensor over the photos: least and greatest value, and a sample of its values."""

    least: float = 0.0
    greatest: float = 0.0
    samples: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray) -> None:
        """Take in one photo's values."""
        flat = values.ravel()
        self.least = min(self.least, float(flat.min()))
        self.greatest = max(self.greatest, float(flat.max()))
        self.samples.append(flat[:: max(1, len(flat) // _SAMPLES)].copy())


def observe(
    content: bytes, photos: Iterable[np.ndarray], groups: Iterable[frozenset[int]]
) -> dict[frozenset[int], Observed]:
    """Run every photo, as the graph takes it, and watch groups of tensors, each as if it were one tensor.

    Raises:
        EdgeDeitError: a value is not finite.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(
        model_content=content, num_threads=_THREADS, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    found = {group: Observed() for group in groups}
    for photo in photos:
        interpreter.set_tensor(source["index"], contiguous(photo))
        interpreter.invoke()
        for group, observed in found.items():
            values = np.concatenate([interpreter.get_tensor(index).ravel() for index in group])
            if not np.isfinite(values).all():
                raise EdgeDeitError(
                    "a value inside the model is not finite on a calibration photo; check the weights"
                )
            observed.add(values)
    return found


def whole_range(observed: Observed) -> Range:
    """From the least to the greatest value, zero included."""
    return observed.least, max(observed.greatest, observed.least + _SMALLEST_SPAN)


def tight_range(observed: Observed) -> Range:
    """The share of the whole range with the least mean square error over the sample.

    Values inside carry the error of rounding, step^2 / 12, values outside their distance to the end.
    """
    least, greatest = whole_range(observed)
    values = np.sort(np.concatenate(observed.samples).astype(np.float64))
    errors = []
    for low, high in zip(_SHARES * least, _SHARES * greatest, strict=True):
        first, last = np.searchsorted(values, (low, high))
        clipped = ((values[:first] - low) ** 2).sum() + ((values[last:] - high) ** 2).sum()
        errors.append(clipped + (last - first) * ((high - low) / _STEPS) ** 2 / 12)
    share = float(_SHARES[int(np.argmin(errors))])
    return share * least, share * greatest
