"""The figures of what an artefact takes: size, time and memory, each declared once, next to its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edge_deit.report.figure import Change, Figure, Interval, Limit
from edge_deit.report.units import BYTES, MILLISECONDS, RATIO, RUNS, SIZE_RATIO, THREADS

__all__ = ["CostFigures"]


@dataclass(frozen=True, kw_only=True)
class CostFigures:
    """Size, speed and memory of the artefact and of the float model."""

    size_bytes: Annotated[
        int,
        Figure(
            "size",
            BYTES,
            "Size of the artefact on disk.",
            better="lower",
            about="size",
            table="{size_ratio} of float",
            limits=(Limit("max_size_bytes", "size"),),
            change=Change("size", relative=True),
        ),
    ]
    size_float_bytes: Annotated[
        int, Figure("size, float model", BYTES, "Size of the float model's parameters as float32.")
    ]
    latency_ms_p50: Annotated[
        float | None,
        Figure(
            "latency p50",
            MILLISECONDS,
            "Median time of one inference.",
            needs="timing",
            better="lower",
            about="speed",
            table="{latency_ratio} of float ({latency_ratio_ci95})",
        ),
    ]
    latency_ms_p90: Annotated[
        float | None,
        Figure(
            "latency p90",
            MILLISECONDS,
            "90th percentile of the time of one inference.",
            needs="timing",
            better="lower",
            about="speed",
        ),
    ]
    latency_float_ms_p50: Annotated[
        float | None,
        Figure(
            "latency p50, float model",
            MILLISECONDS,
            "Median time of the float model in PyTorch, in the same rounds.",
            needs="timing",
        ),
    ]
    latency_ratio: Annotated[
        float | None,
        Figure(
            "latency, share of float",
            RATIO,
            "Median of the artefact / median of the float model in PyTorch, same rounds.",
            needs="timing",
            better="lower",
            about="speed",
            interval="latency_ratio_ci95",
            console=("latency", "{latency_ratio}"),
            reasons=("latency_ms_p50",),
            limits=(
                Limit(
                    "max_latency_ratio",
                    "p50 / the float model's p50, the lower end of the bootstrap 95 % interval: fails "
                    "when the artefact is proven slower than that",
                    end="low",
                ),
            ),
            change=Change(
                "latency ratio: lower end now against upper end then, so only a proven rise fails",
                relative=True,
                proven=True,
            ),
        ),
    ]
    latency_ratio_ci95: Annotated[
        Interval | None,
        Figure(
            "95 % interval of the share",
            RATIO,
            "95 % bootstrap interval of that ratio.",
            needs="timing",
        ),
    ]
    latency_runs: Annotated[
        int | None,
        Figure("timed runs", RUNS, "Inferences timed, warm-up not counted.", needs="timing"),
    ]
    threads: Annotated[int, Figure("threads", THREADS, "Threads that the runtime was given.")]
    load_ms: Annotated[
        float | None,
        Figure(
            "load",
            MILLISECONDS,
            "Loading the file a second time in a process that has the runtime in memory.",
            needs="timing",
            better="lower",
            about="speed",
            table="",
            limits=(Limit("max_load_ms", "load time"),),
            change=Change("load time", relative=True),
        ),
    ]
    peak_rss_bytes: Annotated[
        int | None,
        Figure(
            "peak memory",
            BYTES,
            "Most resident memory of a process of its own from loading to the end of the first inference, "
            "less what it held before; the runtime's library counts.",
            needs="timing",
            better="lower",
            about="memory",
            table="",
            limits=(Limit("max_peak_rss_bytes", "peak memory"),),
            change=Change("peak memory", relative=True),
        ),
    ]

    @property
    def size_ratio(
        self,
    ) -> Annotated[
        float | None,
        Figure(
            "size, share of float",
            SIZE_RATIO,
            "Size of the artefact / that of the float model.",
            better="lower",
            about="size",
            console=("size", "{size_ratio}"),
            limits=(Limit("max_size_ratio", "size / the float model's size"),),
            reasons=("size_float_bytes",),
        ),
    ]:
        """Size of the artefact / that of the float model; None where the latter is not known."""
        return self.size_bytes / self.size_float_bytes if self.size_float_bytes else None
