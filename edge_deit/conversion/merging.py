"""Token merging in files: what was asked for, which tokens that is, and what it costs in accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from edge_deit.artefacts.manifest import Approximation
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.conversion.layout import Layout
from edge_deit.conversion.plan import Item
from edge_deit.data.calibration import CalibrationSet
from edge_deit.exporters import TARGETS
from edge_deit.exporters import target as find_target
from edge_deit.metrics.outputs import Closeness, closeness
from edge_deit.model.config import DeiTConfig
from edge_deit.model.form import DeployDeiT
from edge_deit.model.merging import even_schedule, merged_form, most_merged
from edge_deit.model.outputs import outputs
from edge_deit.quantization.sensitivity import Drop, measure_drop

__all__ = ["MergeTokens", "MergeWish", "Merging"]

MergeTokens = int | Literal["auto"]

_STEPS: Final = 12


@dataclass(frozen=True)
class Merging:
    """Tokens that are merged in each block, and how far that is from the float model, on photos."""

    schedule: tuple[int, ...]
    tokens: int
    found: Closeness

    @property
    def total(self) -> int:
        """How many tokens are merged."""
        return sum(self.schedule)

    @property
    def told(self) -> str:
        """The schedule in words."""
        blocks = ", ".join(
            f"{count} in block {i}" for i, count in enumerate(self.schedule) if count
        )
        return f"{self.total} of {self.tokens} tokens are merged ({blocks})"

    @property
    def note(self) -> str:
        """A line for whoever exports."""
        return (
            f"an approximation: {self.told}; in float, {self._agreement:.1%} of "
            f"{self.found.images} photos have the float model's answer, {self.found.snr_db:.1f} dB"
        )

    @property
    def _agreement(self) -> float:
        assert self.found.agreement is not None
        return self.found.agreement

    def entry(self) -> Approximation:
        """What a manifest says of it."""
        return {
            "method": "token-merging",
            "merged": list(self.schedule),
            "images": self.found.images,
            "agreement": self._agreement,
            "snr_db": None if math.isinf(self.found.snr_db) else self.found.snr_db,
        }


@dataclass(frozen=True)
class MergeWish:
    """What was asked for: a number of tokens, `auto` within `max_drop` points, or None."""

    tokens: MergeTokens | None
    max_drop: float | None

    @property
    def auto(self) -> bool:
        """Whether the number is to be found."""
        return self.tokens == "auto"

    def check(self, plan: Sequence[Item], layout: Layout) -> None:
        """Refuse files that cannot merge tokens, before weights are read.

        Raises:
            EdgeDeitError: it names the file or the option, and what can be had.
        """
        if self.tokens is None:
            return
        if self.auto and self.max_drop is None:
            raise EdgeDeitError("--merge-tokens auto needs a limit: --max-drop POINTS")
        for target, scheme, backend in plan:
            if scheme.precision not in (able := target.merges.get(backend, ())):
                which = f"{target.name} ({backend})" if len(target.backends) > 1 else target.name
                others = ", ".join(name for name in TARGETS if find_target(name).merges)
                raise EdgeDeitError(
                    f"target {which} has no {scheme.precision} with --merge-tokens; it has: "
                    f"{', '.join(able) or f'nothing; {others} have it'}"
                )
        if layout.batched or layout.batch > 1:
            raise EdgeDeitError(
                "--merge-tokens is for files of one photo: leave --batch, --dynamic-batch and --layout out"
            )

    def remarks(self, plan: Sequence[Item]) -> list[str]:
        """What a user should read of the files, a line each."""
        return [
            f"{scheme.precision} of {target.name}: with --merge-tokens what is no integer is computed in "
            "float32, so on a core with half precision it takes longer than without; fp32 takes less"
            for target, scheme, backend in plan
            if self.tokens is not None
            and scheme.precision in target.half_remainder.get(backend, ())
        ]

    def check_model(self, config: DeiTConfig) -> None:
        """Refuse a model that has no answer, or too few tokens.

        Raises:
            EdgeDeitError: it says how many can be merged.
        """
        if self.tokens is None:
            return
        if config.task != "classification":
            raise EdgeDeitError(
                f"--merge-tokens is for classification: --task {config.task} returns all tokens"
            )
        most = most_merged(config)
        if most < 1:
            raise EdgeDeitError(
                f"this model has {config.num_patches} patches in {config.depth} blocks: too few to merge; "
                "leave --merge-tokens out"
            )
        if isinstance(self.tokens, int) and not 1 <= self.tokens <= most:
            raise EdgeDeitError(
                f"--merge-tokens is {self.tokens}; of this model's {config.num_patches} patches 1 to "
                f"{most} can be merged, or auto"
            )

    def choose(
        self, form: DeployDeiT, photos: CalibrationSet, checked: Tensor, progress: Progress
    ) -> Merging | None:
        """The schedule, compared with the float model on the photos `checked` (M, 3, H, W).

        `auto` takes the most tokens that keep `max_drop` on the calibration photos, from which the merging
        itself learns nothing.

        Raises:
            EdgeDeitError: no number keeps the limit.
        """
        if self.tokens is None:
            return None
        config = form.config
        total = self._largest(form, photos, progress) if self.auto else int(self.tokens)
        schedule = even_schedule(config, total)
        some = torch.split(checked, 1)
        plain, merged = (outputs(one, some).numpy() for one in (form, merged_form(form, schedule)))
        found = Merging(schedule, config.num_tokens, closeness(plain, merged, classes=True))
        progress.note(found.note)
        return found

    def _largest(self, form: DeployDeiT, photos: CalibrationSet, progress: Progress) -> int:
        assert self.max_drop is not None
        reference, labels = outputs(form, photos), photos.labels or (None,) * len(photos)
        drop: Drop | None = None
        totals = _totals(most_merged(form.config))
        with progress.task("token merging", len(totals)) as advance:
            for total in totals:
                merged = merged_form(form, even_schedule(form.config, total))
                drop = measure_drop(merged, photos, reference, labels, on_photo=lambda: None)
                advance(1)
                if drop.points <= self.max_drop:
                    progress.note(f"--merge-tokens auto: {total}, which loses {drop}")
                    return total
        raise EdgeDeitError(
            f"no number of merged tokens keeps --max-drop {self.max_drop}; {totals[-1]} lose {drop}; allow "
            "more, give more calibration photos, or leave --merge-tokens out"
        )


def _totals(most: int) -> list[int]:
    """Numbers to be tried, the largest first."""
    return sorted({max(1, most * step // _STEPS) for step in range(1, _STEPS + 1)}, reverse=True)
