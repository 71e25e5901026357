"""Reports with every figure, without labels, without latency, and with names that break pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edge_deit.report.device_records import (
    Conditions,
    CostShares,
    Device,
    ModelCheck,
    Residency,
)
from edge_deit.report.emulated import Emulated, EmulatedCore
from edge_deit.report.phone_result import PhoneResult
from edge_deit.report.report import (
    ArtefactResult,
    BrokenImage,
    ClassResult,
    DataResult,
    Flip,
    Layers,
    Report,
)
from edge_deit.report.verdict import Check

__all__ = [
    "ARM64",
    "EXAMPLES",
    "IPHONE",
    "NASTY",
    "PHONE",
    "STAND_IN",
    "artefact",
    "check",
    "report",
    "without_labels",
    "without_latency",
]


STAND_IN = "reference numerics (torch), not Core ML"


NASTY = '<b>&"it\'s" | `x` $a$ \U0001f600 ' + "very_long" * 12


PHONE = PhoneResult(
    path="deit_tiny.int8.tflite",
    sha256="a" * 64,
    target="tflite",
    precision="int8",
    model="deit_tiny",
    runner="LiteRT 2.3.0, CPU, 4 threads",
    threads=4,
    runs=50,
    latency_ms_p50=12.3,
    latency_ms_p90=14.0,
    load_ms=31.5,
    preprocess_ms_p50=4.5,
    peak_rss_bytes=None,
    notes={"peak_rss_bytes": "this phone does not tell"},
    device=Device("Maker", "Phone 9", "Android", "16", None, 8),
    created="2026-01-31T12:00:00+00:00",
    load_warm_ms=20.5,
    first_run_ms=40.0,
    check=ModelCheck("deit_tiny.int8.tflite", 4, 4, 0.99991),
    build="release",
    conditions=Conditions("none", "none", False, False, True),
)


IPHONE = replace(
    PHONE,
    runner="Core ML, all",
    threads=None,
    device=Device("Apple", "iPhone16,1", "iOS", "18.1", None, 6),
    residency=Residency(12, 0, 240, CostShares(0.03, 0.0, 0.97)),
)


ARM64 = Emulated(
    "LiteRT 2.3.0, aarch64",
    "counted under emulation",
    {
        "cortex-a76": EmulatedCore(
            instructions=184_000_000,
            ratio_to_fp32=0.41,
            classes={"loads": 40_000_000, "integer dot products": 60_000_000},
            repeat_spread=0.001,
            images=4,
            max_abs_to_x86=0.02,
            snr_db_to_x86=60.5,
            snr_db_to_float=24.1,
            same_argmax_as_x86=1.0,
        )
    },
)


def artefact(**changes: Any) -> ArtefactResult:
    """An artefact with every figure, with these changes."""
    result = ArtefactResult(
        path="out/deit_tiny.int8.tflite",
        sha256="a" * 64,
        target="tflite",
        backend="xnnpack",
        precision="int8",
        model="deit_tiny",
        weights_sha256="b" * 64,
        runner="LiteRT 2.3.0",
        images=300,
        labelled=300,
        top1=75.9,
        top5=92.5,
        top1_float=76.2,
        top5_float=92.7,
        top1_drop=0.3333,
        top1_drop_ci95=(-0.7, 1.7),
        lost=3,
        won=2,
        mcnemar_p=1.0,
        agreement=0.9833,
        snr_db=24.6,
        snr_db_worst=11.2,
        cosine=0.9981,
        cosine_worst=0.97,
        kl_divergence=0.0123,
        worst_image="cat/3.png",
        latency_ms_p50=15.2,
        latency_ms_p90=17.0,
        latency_float_ms_p50=24.1,
        latency_ratio=0.63,
        latency_ratio_ci95=(0.6, 0.66),
        latency_runs=60,
        threads=1,
        load_ms=11.5,
        peak_rss_bytes=98_000_000,
        size_bytes=6_400_000,
        size_float_bytes=23_700_000,
        classes=(ClassResult("cat", 150, 120, 117), ClassResult("dog", 150, 109, 111)),
        flips=(
            Flip("cat/0.png", "cat", "cat", 0.61, "dog", 0.55, "lost"),
            Flip("dog/1.png", "dog", "cat", 0.5, "dog", 0.52, "won"),
        ),
        flips_total=5,
        scatter=tuple((x / 4, x / 4 + (-1) ** x / 10) for x in range(-20, 30)),
        layers=Layers(
            "the integer model in float arithmetic",
            8,
            ("patch_embed", "blocks.0", "blocks.1", "head"),
            (52.0, 45.5, 31.0, 30.2),
            "blocks.1",
            6.0,
        ),
        calibration_overlap=0,
        device=(),
        arm64=None,
        notes={},
    )
    return replace(result, **changes)


def without_labels(**changes: Any) -> ArtefactResult:
    """Photos without labels: no top-1 and what follows from it."""
    names = ("top1", "top5", "top1_float", "top5_float", "top1_drop", "top1_drop_ci95")
    gone = dict.fromkeys((*names, "lost", "won", "mcnemar_p"))
    notes = dict.fromkeys(gone, "the photos have no labels") | {"classes": "no labels"}
    unlabelled = {"labelled": 0, "classes": (), "notes": notes}
    return artefact(**(gone | unlabelled | changes))


def without_latency(**changes: Any) -> ArtefactResult:
    """No runtime on this machine: reference numerics instead, and no latency."""
    names = ("latency_ms_p50", "latency_ms_p90", "latency_float_ms_p50", "latency_ratio")
    gone = dict.fromkeys((*names, "latency_ratio_ci95", "latency_runs", "load_ms"))
    gone |= {"peak_rss_bytes": None}
    notes = dict.fromkeys(gone, "reference numerics have no speed of their own")
    ran = {"path": "out/deit_tiny.fp16.mlpackage", "runner": STAND_IN, "notes": notes}
    return artefact(**(gone | ran | changes))


def report(*artefacts: ArtefactResult, **changes: Any) -> Report:
    """A report with these artefacts."""
    found = Report(
        created="2026-01-31T12:00:00Z",
        environment={
            "cpu": "A processor",
            "cores": 2,
            "machine": "x86_64",
            "instructions": ["avx2"],
            "vnni": False,
            "load_average": [0.1, 0.2, 0.3],
            "versions": {"numpy": "2.4"},
        },
        data=DataResult("photos", "validation", 300, 300, 2, "c" * 64, ()),
        artefacts=artefacts,
    )
    return replace(found, **changes)


def check(status: Any, artefact: str = "deit_tiny.int8.tflite", limit: str = "min_snr_db") -> Check:
    """What a limit on the SNR came to."""
    return Check(artefact, limit, 12.0, 20.0, status, f"it {status}")


EXAMPLES: Mapping[str, Callable[[], Report]] = {
    "one": lambda: report(artefact()),
    "twelve": lambda: report(*(artefact(path=f"out/{i}.tflite") for i in range(12))),
    "no labels": lambda: report(without_labels(flips=(), layers=None, scatter=())),
    "no latency": lambda: report(artefact(), without_latency()),
    "phones and emulated cores": lambda: report(artefact(device=(PHONE, IPHONE), arm64=ARM64)),
    "nothing": lambda: report(),
    "nasty names": lambda: report(
        artefact(
            path=f"out/{NASTY.replace('/', '')}.x",
            runner=NASTY,
            worst_image=NASTY,
            classes=(ClassResult(NASTY, 3, 3, 0),),
            flips=(Flip(NASTY, NASTY, NASTY, 0.9, NASTY, 0.8, "lost"),),
            notes={NASTY: NASTY},
        ),
        data=DataResult(NASTY, None, 300, 300, 1, "d" * 64, (BrokenImage(NASTY, NASTY),)),
    ),
}


DEVICE_REPORT: dict[str, Any] = {
    "schema": 2,
    "kind": "edge-deit-device-report",
    "created": "2026-01-31T12:00:00Z",
    "app": {"name": "edge-deit-android", "version": "0.1.0", "build": "release"},
    "device": {
        "manufacturer": "Müller",
        "model": "One",
        "os": "Android",
        "os_version": "16",
        "soc": None,
        "cores": 8,
    },
    "protocol": {
        "photo_width": 4032,
        "photo_height": 3024,
        "warm_up": 5,
        "runs": 100,
        "preprocess_runs": 5,
    },
    "conditions": {
        "thermal_begin": "none",
        "thermal_end": "light",
        "power_saver": False,
        "left_foreground": False,
        "screen_kept_on": True,
    },
    "artefacts": [
        {
            "path": "deit_tiny.int8.tflite",
            "sha256": "0123456789abcdef" * 4,
            "target": "tflite",
            "precision": "int8",
            "model": "deit_tiny",
            "runner": "LiteRT 2.3.0, CPU, 4 threads",
            "threads": 4,
            "runs": 100,
            "latency_ms_p50": 12.5,
            "latency_ms_p90": 13,
            "load_ms": 80.25,
            "load_warm_ms": 20.5,
            "first_run_ms": 31,
            "check": {
                "reference": "deit_tiny.int8.tflite",
                "images": 4,
                "same_top": 4,
                "cosine": 0.9998,
            },
            "preprocess_ms_p50": 6.5,
            "peak_rss_bytes": None,
            "notes": {"peak_rss_bytes": "the system does not tell"},
        }
    ],
}
"""What a phone app shares."""
