#!/usr/bin/env python3
"""What each choice in LiteRT's int8 file costs and gives: instructions on Arm cores, noise, size.

    EDGE_DEIT_REAL=FOLDER python benchmarks/litert_forms.py --output DIR

Needs `python -m edge_deit.arm64 --setup`. All forms come from one set of weights and ranges; each adds to
the one before, but for the last, which is the chosen one without half precision. The table is in
docs/arm64.md, "What the counts changed".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.files import write_text
from edge_deit.common.quiet import quiet
from edge_deit.data.calibration import calibration_set
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.emulation.counts import median
from edge_deit.emulation.emulator import CoreJob, Ran, require, run_jobs
from edge_deit.emulation.sysroot import CPUS
from edge_deit.exporters import ExportRequest
from edge_deit.exporters import target as find_target
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import Conditioned, condition, passes
from edge_deit.quantization.scheme import Scheme
from harness.real import real_folder
from tables.grid import Grid, show, to_markdown

__all__ = ["FORMS", "litert_forms"]

app = new_app(__doc__)

_CPU: Final = "cortex-a76"  # the core whose logits are compared
_SCALED: Final = "token-scaled layers"
FORMS: Final[tuple[tuple[str, tuple[str, ...], bool], ...]] = (
    ("all ranges fixed, token scales", (), False),
    ("float part in half precision", (), True),
    ("a range a token: token-scaled layers, proj", (_SCALED, ".proj"), True),
    ("patch embedding, head", ("patch_embed", "head"), True),
    ("fc1", (".fc1",), True),
    ("fc2", (".fc2",), True),
    ("q, k, v", (".q", ".k", ".v"), True),
)
"""What is said of a form, endings of the layers that get a range a token, half precision."""


@app.command()
def litert_forms(
    output: Annotated[Path, typer.Option(help="Folder for the files and forms.md.")],
    images: Annotated[int, typer.Option(help="Validation photos for the noise on x86.")] = 300,
    arm_images: Annotated[int, typer.Option(help="Of these, for the noise on cortex-a76.")] = 20,
    jobs: Annotated[int, typer.Option(help="Files at a time.")] = os.cpu_count() or 1,
) -> None:
    """Write every form, run it here and on the emulated cores."""
    require(["tflite"])
    weights = real_folder() / "deit_tiny_patch16_224" / "model.safetensors"
    data = real_folder() / "imagenet400"
    checkpoint = load_model(str(weights))
    photos = list_photos(data, use="validation").pick(images).photos
    pixels = np.concatenate([load_pixels(one.path, checkpoint.preprocess) for one in photos])
    with torch.inference_mode():
        reference = np.concatenate(
            [checkpoint.model(x).numpy() for x in torch.tensor(pixels).split(1)]
        )
    calibration = calibration_set(data, checkpoint.preprocess, 100)
    form = deploy(checkpoint.model)
    output.mkdir(parents=True, exist_ok=True)
    with progress() as bar:
        task = bar.add_task("conditioning", total=passes(len(calibration)))
        found = condition(
            form, calibration, checkpoint.preprocess, on_photo=lambda: bar.advance(task)
        )
        files = _files(found, torch.from_numpy(pixels[:1]), output)
        float_file = _write(form, Scheme("fp32"), None, pixels[:1], output / "fp32.tflite")
        work = {
            (name, core): CoreJob(
                "tflite", path, CPUS[core], pixels[: arm_images if core == _CPU else 1]
            )
            for name, path in {**files, "fp32": float_file}.items()
            for core in CPUS
        }
        task = bar.add_task("inferences", total=sum(job.inferences for job in work.values()))
        results = run_jobs(list(work.values()), jobs, lambda: bar.advance(task))
    ran = dict(zip(work, results, strict=True))
    rows = [_row(name, path, ran, pixels, reference) for name, path in files.items()]
    grid = Grid(
        f"{checkpoint.name}: forms of LiteRT's int8 file, millions of instructions (ratio to fp32)",
        ("form, added to the one before", *CPUS, "SNR x86, dB", f"SNR {_CPU}, dB", "MB"),
        tuple(rows),
        (f"{images} photos on x86, {arm_images} on {_CPU}.",),
    )
    write_text(output / "forms.md", to_markdown([grid]) + "\n")
    show(grid)


def _files(found: Conditioned, example: torch.Tensor, output: Path) -> dict[str, Path]:
    """Every form's file by what is said of it."""
    layers = quantizable_layers(found.form)
    dynamic: set[str] = set()
    files, last = {}, {}
    for number, (name, endings, half) in enumerate(FORMS):
        dynamic |= {layer for layer in layers if layer.endswith(endings)} if endings else set()
        dynamic |= set(found.token_scaled) if _SCALED in endings else set()
        chosen = tuple(layer for layer in layers if layer in dynamic)
        path = output / f"form{number}.tflite"
        files[name] = _write(found.form, Scheme("int8", (), chosen), found, example, path, half)
        if endings == (".fc2",):
            path = output / f"form{number}-float32.tflite"
            without = _write(found.form, Scheme("int8", (), chosen), found, example, path)
            last = {"fc2, float part in float32": without}
    return files | last


def _write(
    form: DeployDeiT,
    scheme: Scheme,
    found: Conditioned | None,
    example: torch.Tensor | np.ndarray,
    path: Path,
    half: bool = False,
) -> Path:
    target = find_target("tflite")
    model, ranges = form, {}
    if found is not None:
        layers, dynamic = scheme.quantized_layers(form), scheme.dynamic_layers(form)
        model = found.with_layers(layers, dynamic, token_ranges=target.token_ranges)
        ranges = {name: found.ranges[name] for name in scheme.static_layers(form)}
    request = ExportRequest(
        model=model,
        example=torch.as_tensor(example),
        scheme=scheme,
        calibration=None,
        output=path,
        backend=target.backends[0],
        ranges=ranges,
        half_remainder=half,
    )
    with quiet():
        return target.export(request)


def _row(
    name: str,
    path: Path,
    ran: dict[tuple[str, str], Ran],
    pixels: np.ndarray,
    reference: np.ndarray,
) -> Sequence[str]:
    with quiet():
        runner = find_target("tflite").load_runner(path, 1)
        x86 = np.concatenate([runner(pixels[i : i + 1]) for i in range(len(pixels))])
    arm = ran[name, _CPU].logits
    cells = []
    for core in CPUS:
        count = median(ran[name, core].repeats).total
        share = count / median(ran["fp32", core].repeats).total
        cells.append(f"{count / 1e6:.1f} ({share:.3f})")
    noise = (closeness(reference[: len(y)], y, classes=True).snr_db for y in (x86, arm))
    return (name, *cells, *(f"{value:.1f}" for value in noise), f"{path.stat().st_size / 1e6:.2f}")


if __name__ == "__main__":
    run(app, "python benchmarks/litert_forms.py")
