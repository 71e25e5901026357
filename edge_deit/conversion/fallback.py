"""Keeps the fewest layers in higher precision that a limit on the accuracy drop allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.job import Accept
from edge_deit.conversion.plan import Item
from edge_deit.conversion.sensitivity_table import write_sensitivity
from edge_deit.data.listing import pick_evenly
from edge_deit.exporters import Runner, Target
from edge_deit.exporters.target import run_each
from edge_deit.model.config import Task
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.fakequant import fake_quantize
from edge_deit.quantization.scheme import Scheme
from edge_deit.quantization.sensitivity import Damage, Drop, drop_of, measure_drop, rank_layers

__all__ = [
    "DropLimit",
    "Fallback",
    "OverLimitError",
    "choose_fallback",
    "keeps_limit",
    "kept_finer",
]

_RANKING_PHOTOS: Final = 32
_PRECISION: Final = "int8"


@dataclass(frozen=True)
class DropLimit:
    """What was asked for: the greatest drop in points, where the table of layers goes, and the most MB."""

    max_drop: float | None
    report: Path | None
    max_size: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether layers have to be ranked at all."""
        return any(one is not None for one in (self.max_drop, self.report, self.max_size))

    def check(self, schemes: list[Scheme], *, merging: bool = False) -> None:
        """Refuse a limit that means nothing; `merging`: one on the drop chooses merged tokens.

        Raises:
            EdgeDeitError: nothing in the plan that it is for, or a negative limit.
        """
        if self.max_drop is not None and self.max_drop < 0:
            raise EdgeDeitError(f"--max-drop is {self.max_drop}; it must be 0 or more points")
        if self.max_size is not None and not self.max_size > 0:
            raise EdgeDeitError(f"--max-size is {self.max_size}; it must be more than 0 MB")
        if self.max_size is not None and not any(scheme.grouped for scheme in schemes):
            raise EdgeDeitError(
                "--max-size chooses which layers of int4 keep 8 bits; add --precision int4"
            )
        if merging and self.report is None:
            return
        if self.wanted and not any(s.precision == _PRECISION or s.grouped for s in schemes):
            raise EdgeDeitError(
                "--max-drop and --sensitivity-report rank the layers of static int8 and of int4; "
                "add --precision int8, or --merge-tokens auto, which --max-drop chooses in any precision"
            )

    def check_task(self, task: Task) -> None:
        """Refuse a limit on right answers where the model gives none.

        Raises:
            EdgeDeitError: another task than classification.
        """
        if self.max_drop is not None and task != "classification":
            raise EdgeDeitError(
                f"--max-drop counts right answers, --task {task} has none; leave it out"
            )


class OverLimitError(EdgeDeitError):
    """An exported file loses more than the limit, although its layers did not when tried in torch."""

    def __init__(self, drop: Drop, max_drop: float) -> None:
        super().__init__(
            f"the exported file loses {drop}, more than --max-drop {max_drop}, with all layers kept finer "
            "that may be; allow more, use --precision int8-dynamic, or give more calibration photos"
        )
        self.drop = drop

    @property
    def short(self) -> str:
        """What the file did, in a few words."""
        return f"lost {self.drop}"


class Ladder:
    """Schemes with more and more of the worst layers kept finer.

    Layers are ranked once for targets whose layers write integers and once for the others, and not before a
    scheme that keeps some is asked for.
    """

    def __init__(self, context: ExportContext) -> None:
        self._context = context
        self._rankings: dict[bool, list[Damage]] = {}

    def ranking(self, outputs: bool) -> list[Damage]:
        """The layers, the most harmful first; `outputs`: their outputs are integers too."""
        context, conditioned = self._context, self._context.conditioned
        assert conditioned is not None
        if outputs not in self._rankings:
            some = pick_evenly(list(context.calibration), _RANKING_PHOTOS)
            with context.progress.task("sensitivity", len(conditioned.ranges)) as advance:
                self._rankings[outputs] = rank_layers(
                    conditioned, some, outputs=outputs, on_layer=lambda: advance(1)
                )
        return self._rankings[outputs]

    def steps(self, target: Target, scheme: Scheme) -> Iterator[Scheme]:
        """The scheme as it is, then with layers at run time's ranges, then with layers in float.

        The counts grow slowly at first, one by one, then by a quarter. Layers that the scheme has dynamic
        already stay so until they are float.
        """
        yield scheme
        form, dynamic = self._context.form, _has_dynamic(self._context, target)
        layers = scheme.quantized_layers(form)
        order = [d.layer for d in self.ranking(target.integer_outputs) if d.layer in layers]
        finer = {*scheme.dynamic, *scheme.float_inputs}
        fixed = [name for name in order if name not in finer]
        if dynamic:
            for count in _counts(len(fixed)):
                yield _kept(form, scheme, fixed[:count], [])
        for count in _counts(len(order)):
            yield _kept(form, scheme, order[count:] if dynamic else [], order[:count])


@dataclass(frozen=True)
class Fallback:
    """The items with the layers that have to stay finer, and a line on each choice."""

    items: list[Item]
    notes: list[str]
    ladder: Ladder

    def finer(self, target: Target, scheme: Scheme) -> Scheme | None:
        """The next scheme of a target, with more layers kept finer; None behind the last."""
        following = (
            later for one, later in pairwise(self.ladder.steps(target, scheme)) if one == scheme
        )
        return next(following, None)


def choose_fallback(limit: DropLimit, context: ExportContext, items: list[Item]) -> Fallback:
    """The same items, static int8 schemes with the layers that have to stay finer.

    Raises:
        EdgeDeitError: no choice keeps the limit; the best that was found is named.
    """
    ladder = Ladder(context)
    if not limit.wanted:
        return Fallback(items, [], ladder)
    chosen: dict[tuple[bool, bool, Scheme], Scheme] = {}
    result: list[Item] = []
    notes: list[str] = []
    for target, scheme, backend in items:
        if scheme.precision != _PRECISION or limit.max_drop is None:
            result.append((target, scheme, backend))
            continue
        key = target.integer_outputs, _has_dynamic(context, target), scheme
        if key not in chosen:
            chosen[key], note = _choose(context, ladder, target, scheme, limit.max_drop)
            notes.append(note)
        result.append((target, chosen[key], backend))
    if limit.report is not None and any(s.precision == _PRECISION for _, s, _ in items):
        kinds = {t.integer_outputs for t, scheme, _ in items if scheme.precision == _PRECISION}
        write_sensitivity({_kind(kind): ladder.ranking(kind) for kind in kinds}, limit.report)
        notes.append(f"sensitivity: {limit.report / 'sensitivity.csv'}, sensitivity.png")
    return Fallback(result, notes, ladder)


def keeps_limit(limit: DropLimit, context: ExportContext, scheme: Scheme) -> Accept:
    """A check of the file itself: its top-1 on the calibration photos against `limit.max_drop`."""

    def accept(runner: Runner) -> None:
        if limit.max_drop is None or not (scheme.precision == _PRECISION or scheme.grouped):
            return
        pixels, photos = context.calibration.pixels.numpy(), context.file_form.photos
        found = run_each(runner, pixels, photos=photos)
        actual = torch.from_numpy(found).argmax(1)
        drop = drop_of(actual, context.calibration_outputs.argmax(1), context.calibration.labels)
        if drop.points > limit.max_drop:
            raise OverLimitError(drop, limit.max_drop)

    return accept


def _kind(outputs: bool) -> str:
    return "integer outputs" if outputs else "float outputs"


def _has_dynamic(context: ExportContext, target: Target) -> bool:
    """Whether layers may find their ranges at run time, which would be those of a whole batch of photos."""
    able = target.batched if context.layout.batched else target.precisions
    return "int8-dynamic" in able and not (
        context.file_form.photos > 1 and "int8-dynamic" in target.one_photo
    )


def _counts(layers: int) -> list[int]:
    counts = [0]
    while counts[-1] < layers:
        counts.append(min(layers, counts[-1] + max(1, counts[-1] // 4)))
    return counts[1:]


def _choose(
    context: ExportContext, ladder: Ladder, target: Target, scheme: Scheme, max_drop: float
) -> tuple[Scheme, str]:
    """The first scheme that keeps the limit, and a line on it."""
    reference, labels = context.calibration_outputs, context.calibration.labels
    best: tuple[Drop, Scheme] | None = None
    for candidate in ladder.steps(target, scheme):
        model = _fake(context, candidate, target.integer_outputs)
        with context.progress.task("fallback", len(labels)) as advance:
            drop = measure_drop(
                model, context.calibration, reference, labels, on_photo=lambda: advance(1)
            )
        if best is None or drop.points < best[0].points:
            best = drop, candidate
        if drop.points <= max_drop:
            kept = kept_finer(context, candidate)
            return candidate, f"{_kind(target.integer_outputs)}: {kept}, {drop}"
    assert best is not None
    raise EdgeDeitError(
        f"no choice of layers keeps --max-drop {max_drop}; the best loses {best[0]} with "
        f"{kept_finer(context, best[1])}; allow more, use --precision int8-dynamic, or give more "
        "calibration photos"
    )


def kept_finer(context: ExportContext, scheme: Scheme) -> str:
    """How many layers of a scheme are dynamic and float, in words."""
    layers = scheme.quantized_layers(context.form)
    kept = len(Scheme(_PRECISION).quantized_layers(context.form)) - len(layers)
    return f"{len(scheme.dynamic_layers(context.form))} layers dynamic and {kept} float"


def _kept(form: DeployDeiT, scheme: Scheme, dynamic: list[str], floats: list[str]) -> Scheme:
    """The scheme with further layers dynamic or float.

    A convolution has no ranges at run time, unless the target gave it some, so it is float where a Linear
    would be dynamic.
    """
    convolutions = [
        name
        for name in dynamic
        if name not in scheme.dynamic and isinstance(form.get_submodule(name), nn.Conv2d)
    ]
    keep_float = (*scheme.keep_float, *floats, *convolutions)
    names = dict.fromkeys((*scheme.dynamic, *dynamic))
    return replace(
        scheme,
        keep_float=keep_float,
        dynamic=tuple(name for name in names if name not in keep_float),
    )


def _fake(context: ExportContext, scheme: Scheme, outputs: bool) -> DeployDeiT:
    conditioned = context.conditioned
    assert conditioned is not None
    dynamic = scheme.dynamic_layers(context.form)
    floats = scheme.float_input_layers(context.form)
    model = conditioned.with_layers(scheme.quantized_layers(context.form), dynamic, floats)
    rounded = fake_quantize(
        model,
        scheme.static_layers(context.form),
        conditioned.ranges,
        outputs=outputs,
        dynamic=dynamic,
        float_inputs=floats,
    )
    return context.with_merging(rounded)
