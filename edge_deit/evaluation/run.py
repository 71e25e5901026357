"""Artefacts beside their float models, from files to a report: what `validate` runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge_deit.artefacts.artefact import Artefact, approximations, read_artefacts
from edge_deit.artefacts.float_model import FloatModel, find_float_models
from edge_deit.artefacts.photos import open_photos
from edge_deit.artefacts.runners import RunnerCrashError, sparing
from edge_deit.checkpoint.sources import shareable_source
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, shown_name, write_text
from edge_deit.common.host import describe_host
from edge_deit.common.lock import claimed
from edge_deit.common.progress import SILENT, Progress
from edge_deit.common.whereabouts import remember, shareable_names
from edge_deit.data.label_choice import read_label_choice
from edge_deit.data.listing import Listing
from edge_deit.evaluation.accuracy import Evaluation
from edge_deit.evaluation.cluster import check_cluster
from edge_deit.evaluation.latency import Rounds
from edge_deit.evaluation.measure import Opened, Settings, judge_photos, measure, open_models
from edge_deit.evaluation.phones import measured_on_phones, read_phones
from edge_deit.evaluation.results import calibration_hashes, data_result
from edge_deit.exporters import tool_versions
from edge_deit.report.html import no_html, write_html
from edge_deit.report.phone_result import PhoneResult
from edge_deit.report.report import ArtefactResult, LeftOut, Report, write_report
from edge_deit.report.text import markdown

__all__ = ["validate_artefacts"]

_BUNDLED: Final = "bundled"
_REPORTS: Final = ("report.json", "report.html", "report.md")  # what a gate reads goes first
_LEFTOVERS: Final = (".validate-*.jsonl", "..validate-*.part", ".report.*.part")


@checked_arguments
def validate_artefacts(
    artefacts: Sequence[Path],
    *,
    data: Path | None = None,
    split: str | None = None,
    labels: str | None = None,
    images: int | None = None,
    weights: str | None = None,
    threads: Threads = 2,
    workers: Threads = 2,
    units: str | None = None,
    runs: int | None = 40,
    layer_images: int = 0,
    device_reports: Sequence[Path] = (),
    strict: bool = False,
    ray: str | None = None,
    output: Path | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Accuracy, speed and size of artefacts, beside their float model on the same photos.

    `data` is a folder of photos (None: the bundled ones, for the bundled weights), `split` the set of its
    labels.csv (None: `validation`), `labels` what names the model's classes where it does not itself
    (`data.labels.read_label_choice`), `images` the most photos that are taken, evenly spread
    (None: all, or a few where every artefact is run very slowly here). `weights`
    says where the float model is, if not where it was at the export. `threads` are those of each runtime,
    `workers` the processes that decode photos ahead; `units` names processors where a runtime offers a
    choice. `runs` timed inferences of each model are taken, None: no latency; `layer_images` photos are
    compared layer by layer, 0: none. `device_reports` are files that the phone apps shared. With `strict` a
    broken photo is an error, and so is one that an artefact was calibrated with. `ray` is the address of a
    Ray cluster (`HOST:PORT`, or `auto`) whose workers judge the photos; no latency is measured then.

    In `output` the report is written as report.json, .html and .md; former ones are removed as soon as the
    input has been checked. A run that was stopped goes on where it was when it is started again with the
    same input. None: nothing is written, and nothing is kept of a run that is stopped.

    Raises:
        EdgeDeitError: input that is missing, damaged, or does not belong together, files that cannot be run
            here, another run on the same `output`; one line with the remedy.
        RunnerCrashError: the process that ran an artefact died; the others were judged, and the report of
            them is written.
    """
    _check_numbers(
        artefacts, layer_images, images=images, threads=threads, workers=workers, runs=runs
    )
    if ray is not None:
        check_cluster(ray)
    with ExitStack() as stack:
        if output is not None:
            stack.enter_context(claimed(output, "validation"))
        choice = None if labels is None else read_label_choice(labels)
        found = read_artefacts(artefacts)
        phones = read_phones(device_reports, found, progress)
        float_models = find_float_models(found, weights)
        images = _as_many_as_make_sense(found, images, progress)
        listing = stack.enter_context(open_photos(data, split, images, float_models))
        for line in (*listing.remarks(), *_assumptions(float_models), *approximations(found)):
            progress.note(line)
        if strict:
            _refuse_overlap(found, listing)
        settings = Settings(
            listing=listing,
            labels=choice,
            threads=threads,
            workers=workers,
            strict=strict,
            units=units,
            rounds=None if runs is None or ray is not None else Rounds(runs),
            layer_images=layer_images,
            versions=tool_versions(),
            progress=progress,
            ray=ray,
        )
        environment = describe_host(settings.versions)
        opened = _open_all(settings, float_models, output, stack)
        if output is not None:
            stack.enter_context(_replaced(output))
        opened, seen, results = _measure_all(settings, opened)
        report = _report(
            opened, seen, listing, environment, data,
            _as_given(results, artefacts, phones),
        )  # fmt: skip
        if output is not None:
            _write(report, output, listing.root)
    if lost := _lost(opened):
        raise RunnerCrashError(f"{'; '.join(lost)}; the report has the other artefacts")
    return report


def _report(
    opened: Sequence[Opened],
    seen: Evaluation,
    listing: Listing,
    environment: Mapping[str, Any],
    source: Path | None,
    results: tuple[ArtefactResult, ...],
) -> Report:
    """The report, which names no folder of this machine; where things lie is noted for later runs."""
    named = _BUNDLED if source is None else shareable_source(str(source.absolute()))
    data = data_result(seen, named, listing.split)
    if source is not None:
        remember(data.sha256, source)
    for one in results:
        remember(one.sha256, one.path)
    names = shareable_names([one.path for one in results])
    return Report(
        created=_now(),
        environment=environment,
        data=data,
        artefacts=tuple(replace(one, path=name) for one, name in zip(results, names, strict=True)),
        labels_matched="; ".join(dict.fromkeys(one.labels_matched for one in opened)),
        assumptions=_assumptions([one.float_model for one in opened]),
        left_out=_left_out(listing),
    )


def _open_all(
    settings: Settings,
    float_models: Sequence[FloatModel],
    output: Path | None,
    stack: ExitStack,
) -> list[Opened]:
    """Everything opened; `stack` closes it."""
    opened: list[Opened] = []
    for number, one in enumerate(float_models):
        opened.append(open_models(settings, one, _journal(output, number)))
        stack.callback(opened[-1].close)
    return opened


def _assumptions(float_models: Sequence[FloatModel]) -> tuple[str, ...]:
    """What was assumed about the weights, each line once."""
    lines = (line for one in float_models for line in one.checkpoint.assumptions)
    return tuple(dict.fromkeys(lines))


def _left_out(listing: Listing) -> tuple[LeftOut, ...]:
    """Files of the folder that are no photos here, by reason, with the first names."""
    found = listing.left_out_by_reason()
    return tuple(
        LeftOut(reason, len(names), tuple(shown_name(name) for name in names[:3]))
        for reason, names in found.items()
    )


def _measure_all(
    settings: Settings, opened: Sequence[Opened]
) -> tuple[list[Opened], Evaluation, list[ArtefactResult]]:
    """What is left of the artefacts, what the photos showed last, and all results.

    Raises:
        EdgeDeitError: as `judge_photos` and `measure`; or the process of every artefact died.
    """
    results: list[ArtefactResult] = []
    left: list[Opened] = []
    last: Evaluation | None = None
    for one in opened:
        rest, seen = judge_photos(settings, one)
        left.append(rest)
        if seen is not None:
            last = seen
            results += measure(settings, rest.float_model, seen)
    if last is None:
        raise RunnerCrashError("; ".join(_lost(left)))
    return left, last, results


def _lost(opened: Sequence[Opened]) -> list[str]:
    """What became of the artefacts whose process died, a line each."""
    return [line for one in opened for line in one.lost]


def _as_many_as_make_sense(
    artefacts: Sequence[Artefact], images: int | None, progress: Progress
) -> int | None:
    """The most photos to take: as asked for, or a few where all artefacts are run very slowly here."""
    slow = [(one.path.name, found) for one in artefacts if (found := sparing(one.manifest))]
    fewest = min((found.photos for _, found in slow), default=None)
    few = images is None and len(slow) == len(artefacts)
    for name, found in slow:
        what = f"it takes {fewest} photos, --images N more" if few else "--images N takes fewer"
        progress.note(f"{name}: {found.reason}; {what}")
    return fewest if few else images


def _check_numbers(artefacts: Sequence[Path], layer_images: int, **numbers: int | None) -> None:
    if not artefacts or layer_images < 0:
        raise EdgeDeitError("name at least one artefact; --layer-images must not be negative")
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise EdgeDeitError(f"--{name} is {value}, it must be at least 1")


def _refuse_overlap(artefacts: Sequence[Artefact], listing: Listing) -> None:
    """Refuse photos that one of the artefacts was calibrated with."""
    known = {one.path.name: calibration_hashes(one.manifest) for one in artefacts}
    if not any(known.values()):
        return
    hashes = [hash_path(photo.path) for photo in listing.photos if photo.path.is_file()]
    for name, calibrated in known.items():
        if calibrated and (overlap := sum(sha256 in calibrated for sha256 in hashes)):
            raise EdgeDeitError(
                f"{name} was calibrated with {overlap} of these {len(listing)} photos (--strict); give "
                "--data with photos that it has not seen"
            )


# Files


def _journal(output: Path | None, number: int) -> Path | None:
    return None if output is None else output / f".validate-{number}.jsonl"


@contextmanager
def _replaced(output: Path) -> Iterator[None]:
    """While the block runs there is no report; when it ended well, all that a run goes on from is gone."""
    for name in _REPORTS:
        (output / name).unlink(missing_ok=True)
    yield
    for pattern in _LEFTOVERS:
        for path in output.glob(pattern):
            path.unlink()


def _write(report: Report, output: Path, root: Path) -> None:
    """`report.json` last: where it is, the others are whole too. A page only where one can be made."""
    if no_html() is None:
        write_html(report, output / "report.html", data_root=root)
    write_text(output / "report.md", markdown(report, None))
    write_report(report, output / "report.json")


# Figures


def _as_given(
    results: Sequence[ArtefactResult], artefacts: Sequence[Path], phones: Sequence[PhoneResult]
) -> tuple[ArtefactResult, ...]:
    """The results in the order of the request, with what phones measured."""
    order = [str(path) for path in artefacts]
    complete = (replace(one, device=measured_on_phones(one, phones)) for one in results)
    return tuple(sorted(complete, key=lambda one: order.index(one.path)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
