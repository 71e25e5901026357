"""What all artefacts of one export share."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import Tensor

from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.progress import SILENT, Progress
from edge_deit.conversion.layout import Layout
from edge_deit.conversion.merging import Merging
from edge_deit.data.calibration import CalibrationSet
from edge_deit.exporters import Form, Target
from edge_deit.model.file_form import FileForm
from edge_deit.model.form import DeployDeiT
from edge_deit.model.merging import merged_form
from edge_deit.model.outputs import outputs
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.packed import PackedWeight
from edge_deit.quantization.palette import Palette
from edge_deit.quantization.pinning import Pinning, look_forward, measure_pinning
from edge_deit.quantization.scheme import Scheme
from edge_deit.quantization.trained import Trained

__all__ = ["ExportContext"]

_LOCK: Final = threading.Lock()
"""Files are made side by side, and several ask the same."""


@dataclass(frozen=True)
class ExportContext:
    """What all artefacts of one run share.

    `form` is the deployment form, `prepare` makes what integer precisions start from (None when there are
    none), `reference` the float model's outputs (M, ...) on `photos` (M, 3, H, W), which the check after
    each export runs on; `held_back` says that they took no part in the calibration. `options` are those
    that loading the weights took, `file_form` is what the files take and return. Files are written to
    `output`; `home` is where they lie in the end, as the user named it, and `layout` says what they are
    called. `origin` is what the user named as weights, `own_photos` says that
    the calibration photos are like those that these will see, `seed` is that of all that is drawn,
    `halves` what `conversion.halves` has found, `palette` and `tables` what `conversion.tables` has,
    `groups` what `conversion.grouped` has, `seen` how much the photos differ; `cached` says that such
    things are kept in the user's cache. `merging` says which tokens files merge, None: none.
    `trained` are the integers that the checkpoint brings along, which are not chosen anew.
    `masks` (M, P) go with the photos where the model reconstructs them.
    """

    checkpoint: Checkpoint
    form: DeployDeiT
    prepare: Callable[[], Conditioned] | None
    calibration: CalibrationSet
    photos: Tensor
    reference: np.ndarray
    output: Path
    threads: int
    progress: Progress = SILENT
    options: LoadOptions = field(default_factory=LoadOptions)
    file_form: FileForm = field(default_factory=FileForm)
    layout: Layout = field(default_factory=Layout)
    home: Path | None = None
    masks: Tensor | None = None
    origin: str | None = None
    held_back: bool = True
    own_photos: bool = True
    seed: int = 0
    halves: dict[Hashable, dict[str, str]] = field(default_factory=dict)
    palette: list[Palette] = field(default_factory=list)
    tables: dict[Scheme, dict[str, PackedWeight]] = field(default_factory=dict)
    groups: dict[Hashable, Any] = field(default_factory=dict)
    seen: list[Pinning] = field(default_factory=list)
    cached: bool = True
    merging: Merging | None = None
    trained: Trained | None = None

    def form_of(self, target: Target, scheme: Scheme) -> Form | None:
        """How the file's operators are laid out, None where the target has but one way."""
        if not target.forms:
            return None
        plain = self.masks is not None or self.layout.batch > 1 or self.merging is not None
        return self.layout.form or ("cpu" if plain else target.forms[scheme.precision])

    @property
    def form_seed(self) -> int:
        """What drew the rotation of integer forms: trained ones have that of their training."""
        brought = self.checkpoint.trained
        return self.seed if brought is None else brought.seed

    def with_merging(self, form: DeployDeiT) -> DeployDeiT:
        """What a file computes: the form, or a copy of it that merges tokens."""
        return form if self.merging is None else merged_form(form, self.merging.schedule)

    @functools.cached_property
    def conditioned(self) -> Conditioned | None:
        """What integer precisions start from, made when first asked for: float files do not wait for it."""
        return None if self.prepare is None else self.prepare()

    def pinning(self, scheme: Scheme) -> Pinning | None:
        """How well the photos pin what the scheme learns from them; None where it learns nothing."""
        if self.trained is not None:
            return None
        if scheme.quantized:
            return None if self.conditioned is None else self.conditioned.pinning
        if not scheme.needs_calibration:
            return None
        with _LOCK:
            if not self.seen:
                form, photos = copy.deepcopy(self.form), list(self.calibration)  # hooks watch it
                with self.progress.task("spread of the photos", len(photos)) as advance:
                    views = look_forward(form, photos, lambda: advance(1))
                self.seen.append(measure_pinning(views.values(), self.calibration.photo_sha256))
        return self.seen[0]

    def doubts(self, scheme: Scheme) -> list[str]:
        """Why a file from these photos may not hold for others, a line each; none where it should."""
        found = self.pinning(scheme)
        return [] if found is None else [*found.notes(), *self.calibration.doubts()]

    @functools.cached_property
    def calibration_outputs(self) -> Tensor:
        """The float model's outputs on all calibration photos (M, ...), computed when first asked for."""
        return outputs(self.form, self.calibration)
