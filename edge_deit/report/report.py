"""What a validation found: plain data, and `report.json`, its file.

`docs/report.schema.json` is the file's published schema. Every other form of a report (HTML, Markdown,
JUnit) is made from this data.

A figure that could not be had is None, and `notes` says why under the figure's name; it is never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_deit.common.decode import decode
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text

__all__ = [
    "SCHEMA",
    "ArtefactResult",
    "BrokenImage",
    "ClassResult",
    "DataResult",
    "Flip",
    "Layers",
    "Report",
    "read_report",
    "write_report",
]

SCHEMA: Final = 1
"""Version of the report's layout; a file with another one is refused."""


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read: its path relative to the data folder, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataResult:
    """The photos. `sha256` covers names, contents and labels of those that were read, in order."""

    source: str
    split: str | None
    images: int
    labelled: int
    classes: int
    sha256: str
    broken: tuple[BrokenImage, ...]


@dataclass(frozen=True)
class Flip:
    """A photo whose first answer differs between the two models.

    `label` is None without labels; probabilities are softmax of all logits; `changed` is `lost` (the float
    model was right), `won` (the artefact is right), or `other`.
    """

    file: str
    label: str | None
    float_label: str
    float_probability: float
    artefact_label: str
    artefact_probability: float
    changed: str


@dataclass(frozen=True)
class ClassResult:
    """One class: how many photos, and how many of them each model had right."""

    label: str
    images: int
    right_float: int
    right: int


@dataclass(frozen=True)
class Layers:
    """How far the values inside an artefact are from the float model's, in the order of the graph.

    `names` and `snr_db` (at most 200, which stands for equal) belong together; `first_drop` is the first
    point where the signal-to-noise ratio falls off by `drop_db` or more, as `evaluation.layers` judges it;
    `method` says how the values were had.
    """

    method: str
    images: int
    names: tuple[str, ...]
    snr_db: tuple[float, ...]
    first_drop: str | None
    drop_db: float


@dataclass(frozen=True)
class ArtefactResult:
    """One artefact against its float model on the same photos.

    top1, top5, top1_float, top5_float in percent; top1_drop in points, with the 95 % interval for paired
    proportions (Tango 1998); `mcnemar_p` is McNemar's exact two-sided p; agreement is a share from 0 to
    1; snr_db over all logits (at most 200, which stands for equal), snr_db_worst and cosine_worst on the
    worst photo, cosine the mean over photos; latency in ms, latency_ratio = p50 / the float model's p50
    in the same rounds, with a bootstrap 95 % interval; sizes in bytes. `lost` and `won` count photos that
    only one of the models had right; `scatter` holds pairs (float logit, artefact logit). `device` holds
    what phones measured, `arm64` what an emulated core counted.
    """

    path: str
    sha256: str
    target: str
    backend: str
    precision: str
    model: str
    weights_sha256: str
    runner: str
    images: int
    labelled: int
    top1: float | None
    top5: float | None
    top1_float: float | None
    top5_float: float | None
    top1_drop: float | None
    top1_drop_ci95: tuple[float, float] | None
    lost: int | None
    won: int | None
    mcnemar_p: float | None
    agreement: float
    snr_db: float
    snr_db_worst: float
    cosine: float
    cosine_worst: float
    worst_image: str
    latency_ms_p50: float | None
    latency_ms_p90: float | None
    latency_float_ms_p50: float | None
    latency_ratio: float | None
    latency_ratio_ci95: tuple[float, float] | None
    latency_runs: int | None
    threads: int
    load_ms: float | None
    peak_rss_bytes: int | None
    size_bytes: int
    size_float_bytes: int
    classes: tuple[ClassResult, ...] = ()
    flips: tuple[Flip, ...] = ()
    flips_total: int = 0
    scatter: tuple[tuple[float, float], ...] = ()
    layers: Layers | None = None
    device: tuple[Mapping[str, Any], ...] = ()
    arm64: Mapping[str, Any] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name of the artefact."""
        return Path(self.path).name


@dataclass(frozen=True)
class Report:
    """One run of `validate`. `created` is UTC, ISO 8601; `environment` as `common.host` describes it."""

    created: str
    environment: Mapping[str, Any]
    data: DataResult
    artefacts: tuple[ArtefactResult, ...]
    schema: int = SCHEMA


def write_report(report: Report, path: Path) -> None:
    """Write `report.json`, whole or not at all."""
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        EdgeDeitError: missing, not JSON, another schema, fields that are missing, unknown or of another
            type, or a value that is not finite.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise EdgeDeitError(
            f"report {path} does not exist; make it with edge_deit.validate"
        ) from None
    except (UnicodeDecodeError, ValueError) as error:
        raise EdgeDeitError(
            f"{path} is not a report ({error}); run edge_deit.validate again"
        ) from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found != SCHEMA:
        raise EdgeDeitError(
            f"{path} has schema {found}, this version reads {SCHEMA}; run edge_deit.validate again"
        )
    try:
        report = decode(Report, data, "the report")
        _check(report)
    except ValueError as error:
        raise EdgeDeitError(
            f"{path} is not a whole report ({error}); run edge_deit.validate again"
        ) from error
    return report


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _check(report: Report) -> None:
    """What types alone do not say."""
    for one in report.artefacts:
        for name in ("top1_drop_ci95", "latency_ratio_ci95"):
            ends = getattr(one, name)
            if ends is not None and ends[0] > ends[1]:
                raise ValueError(f"{name} of {one.name} is {ends}")
        if one.layers is not None and len(one.layers.names) != len(one.layers.snr_db):
            raise ValueError(f"layers of {one.name} have more names than figures, or fewer")
