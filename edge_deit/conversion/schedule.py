"""All files of an export: float files first, several at a time where the machine has room."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed

from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.crew import Crew, processes_for
from edge_deit.conversion.fallback import (
    DropLimit,
    Fallback,
    OverLimitError,
    choose_fallback,
    keeps_limit,
    kept_finer,
)
from edge_deit.conversion.finer import with_finer_layers
from edge_deit.conversion.halves import float_notes
from edge_deit.conversion.job import Convert, convert_here
from edge_deit.conversion.mixing import Mixes, check_size, choose_mixes, told_mix
from edge_deit.conversion.plan import Item
from edge_deit.conversion.produce import Exported, OverSizeError, export_one

__all__ = ["export_all"]


def export_all(
    context: ExportContext, plan: Sequence[Item], limit: DropLimit, jobs: int | None
) -> tuple[list[Exported], list[str]]:
    """Every file in the order of the plan, and the notes; float files are begun first.

    They need no calibration, so whoever waits for them does not wait for it. `jobs` are made at the same
    time; None means as many as the machine has room for. A limit on wrong answers looks
    into the finished file, so with one everything is made in this process.
    """
    check_size(limit, context.form, plan)
    chosen = [scheme.quantized or scheme.grouped for _, scheme, _ in plan]
    order = _order(plan, chosen)
    floats = chosen.count(False)
    most = jobs or processes_for(len(plan), context.checkpoint.size_bytes)
    here = functools.partial(convert_here, progress=context.progress)
    with (
        context.progress.task("artefacts", len(plan)) as advance,
        Crew(1 if limit.wanted else most, here) as crew,
    ):
        files = _Files(context, advance)
        made = [_submit(crew, plan[place], files.making(plan[place])) for place in order[:floats]]
        rest, told = choose_mixes(limit, context, [plan[place] for place in order[floats:]])
        rest = [with_finer_layers(context, item) for item in rest]
        fallback = choose_fallback(limit, context, rest)
        doubts = dict.fromkeys(line for _, scheme, _ in plan for line in context.doubts(scheme))
        notes = [*doubts, *fallback.notes, *told]
        for item in fallback.items:
            make = _within(context, item, fallback, limit, notes) if limit.wanted else None
            made.append(_submit(crew, item, files.making(item, make), rank=1))
        for one in as_completed(made):
            one.result()  # the first that failed ends the others
    done = [one.result() for one in made]
    notes[:0] = float_notes(context, [one.manifest for one in done[:floats]])
    found = dict(zip(order, done, strict=True))
    return [found[place] for place in range(len(plan))], notes


def _order(plan: Sequence[Item], chosen: Sequence[bool]) -> list[int]:
    """Places in the plan: float files, what takes long last, as the first is soon there then; the rest.

    Of the rest, for which all processes are free, what takes long comes first.
    """

    def when(place: int) -> tuple[bool, int]:
        effort = plan[place][0].effort
        return chosen[place], -effort if chosen[place] else effort

    return sorted(range(len(plan)), key=when)


def _submit(
    crew: Crew, item: Item, make: Callable[[Convert], Exported], rank: int = 0
) -> Future[Exported]:
    return crew.submit(make, item[0].name, rank)


class _Files:
    """Makes files, and tells of each as soon as it is there; several threads may be at it."""

    def __init__(self, context: ExportContext, advance: Callable[[int], None]) -> None:
        self._context, self._advance = context, advance
        self._lock = threading.Lock()

    def making(
        self, item: Item, make: Callable[[], Exported] | None = None
    ) -> Callable[[Convert], Exported]:
        """What a crew is to do for an item of the plan; `make` does it instead."""

        def run(convert: Convert) -> Exported:
            one = export_one(self._context, *item, convert) if make is None else make()
            with self._lock:
                size = one.manifest.size_bytes / 1e6
                self._context.progress.note(f"{one.path} {size:.1f} MB")
                self._advance(1)
            return one

        return run


def _within(
    context: ExportContext, item: Item, fallback: Fallback, limit: DropLimit, notes: list[str]
) -> Callable[[], Exported]:
    """What makes one file; where it does not keep a limit, again with more or fewer layers kept finer.

    `notes` gets a line on what each file that is made again has.
    """
    mixes = Mixes(context, limit)

    def make() -> Exported:
        target, scheme, backend = item
        while True:
            accept = keeps_limit(limit, context, scheme)
            convert = functools.partial(convert_here, accept=accept, progress=context.progress)
            try:
                return export_one(context, target, scheme, backend, convert, limit.max_size)
            except (OverLimitError, OverSizeError) as error:
                if scheme.grouped:
                    following = mixes.following(scheme, error)
                else:
                    following = fallback.finer(target, scheme)
                if following is None:
                    raise
                scheme = following
                kept = told_mix(mixes, scheme) if scheme.grouped else kept_finer(context, scheme)
                notes.append(f"{target.name}: made again with {kept}; the file {error.short}")
                context.progress.note(notes[-1])

    return make
