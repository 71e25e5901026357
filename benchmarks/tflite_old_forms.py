#!/usr/bin/env python3
"""What forms of an int8 `.tflite` file tflite-runtime 2.14 computes rightly, and what they cost a new one.

    EDGE_DEIT_REAL=FOLDER python benchmarks/tflite_old_forms.py --output DIR

All come from one set of weights and ranges. 2.14 runs in the environment of `make test-clients`. Noise is
that of held-out photos against the float model; time is median processor time on one thread, in LiteRT with
the forms in turns. Files that lie in DIR already are taken as they are. The table is in
docs/quantization.md, "Older TensorFlow Lite".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))

from old_tflite.forms import FORMS, undeclared, write_form

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.console import new_app, run
from edge_deit.common.files import write_text
from edge_deit.common.progress import SILENT
from edge_deit.common.quiet import quiet
from edge_deit.conversion.conditioning import conditioning_cache, find_conditioned
from edge_deit.conversion.inputs import export_photos
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import ExportRequest
from edge_deit.exporters import target as find_target
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.scheme import Scheme
from environments import run_script
from harness.real import real_folder
from tables.grid import Grid, show, to_markdown

__all__ = ["tflite_old_forms"]

app = new_app(__doc__)

_UNTIMED: Final = 2
_OLD: Final = "tflite-2.14"


@app.command()
def tflite_old_forms(
    output: Annotated[Path, typer.Option(help="Folder for the files and forms.md.")],
    images: Annotated[int, typer.Option(help="Validation photos for the noise.")] = 20,
    runs: Annotated[int, typer.Option(help="Timed inferences of each file, in turns.")] = 30,
) -> None:
    """Write every form, run it here and in 2.14."""
    output.mkdir(parents=True, exist_ok=True)
    data = real_folder() / "imagenet400"
    checkpoint = load_model(str(real_folder() / "deit_tiny_patch16_224" / "model.safetensors"))
    spec = checkpoint.preprocess
    photos = list_photos(data, use="validation").pick(images).photos
    stack = [load_pixels(one.path, spec).reshape(3, *[spec.crop_size] * 2) for one in photos]
    pixels = np.ascontiguousarray(np.stack(stack), np.float32)
    np.save(output / "pixels.npy", pixels)
    with torch.inference_mode():
        reference = checkpoint.model(torch.from_numpy(pixels)).numpy()
    files = _files(checkpoint, data, torch.from_numpy(pixels[:1]), output)
    times = _times(files, pixels[:1], runs)
    rows = tuple(
        (name, f"{path.stat().st_size / 1e6:.1f}", _here(path, pixels, reference),
         f"{1000 * times[name]:.1f}", *_there(path, output, reference))
        for name, path in files.items()
    )  # fmt: skip
    head = ("form of the layers", "MB", "LiteRT", "ms", "tflite-runtime 2.14", "ms")
    grid = Grid(
        f"{checkpoint.name}: forms of int8 for older runtimes", head, rows, (f"{images} photos.",)
    )
    write_text(output / "forms.md", to_markdown([grid]) + "\n")
    show(grid)


def _files(checkpoint: Checkpoint, data: Path, example: Tensor, output: Path) -> dict[str, Path]:
    """Every form's file by what is said of it."""
    form, spec = deploy(checkpoint.model), checkpoint.preprocess
    photos = export_photos(
        checkpoint, data, count=100, checked=20, calibrates=True, progress=SILENT
    )
    found = find_conditioned(form, spec, photos.calibration, conditioning_cache(), SILENT)
    target = find_target("tflite")
    fitted = target.fit(Scheme("int8"), form)
    today = _write(found, fitted, example, output / "today.tflite")
    files = {
        "as exported: a scale a channel, ranges a token": today,
        "the same, its version undeclared": undeclared(today, output / "undeclared.tflite"),
    }
    for number, (name, change) in enumerate(FORMS.items()):
        files[name] = write_form(today, change, output / f"form{number}.tflite")
    files["float throughout"] = _write(found, Scheme("fp32"), example, output / "fp32.tflite")
    files["fixed ranges in all layers"] = _write(
        found, Scheme("int8"), example, output / "fixed.tflite"
    )
    return files


def _write(found: Conditioned, scheme: Scheme, example: Tensor, path: Path) -> Path:
    if path.exists():
        return path
    layers, dynamic = scheme.quantized_layers(found.form), scheme.dynamic_layers(found.form)
    request = ExportRequest(
        model=found.with_layers(layers, dynamic, token_ranges=True),
        example=example,
        scheme=scheme,
        calibration=None,
        output=path,
        backend="xnnpack",
        ranges={name: found.ranges[name] for name in scheme.static_layers(found.form)},
    )
    with quiet():
        return find_target("tflite").export(request)


def _here(path: Path, pixels: np.ndarray, reference: np.ndarray) -> str:
    runner = find_target("tflite").load_runner(path, 1)
    return _noise(np.concatenate([runner(photo[None]) for photo in pixels]), reference)


def _there(path: Path, output: Path, reference: np.ndarray) -> tuple[str, str]:
    said: dict[str, Any] = run_script(_OLD, "run_tflite.py", path, output / "pixels.npy")
    if "refused" in said:
        return "refuses", "-"
    return _noise(np.asarray(said["logits"]), reference), f"{said['ms']:.1f}"


def _noise(logits: np.ndarray, reference: np.ndarray) -> str:
    found = closeness(reference, logits, classes=True)
    return f"{found.snr_db:.1f} dB, {100 * (found.agreement or 0):.0f} % same"


def _times(files: Mapping[str, Path], photo: np.ndarray, runs: int) -> dict[str, float]:
    """Median processor time of one inference on one thread, s, the files in turns."""
    runners = {name: find_target("tflite").load_runner(path, 1) for name, path in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_UNTIMED + runs):
        for name, runner in runners.items():
            started = time.process_time()
            runner(photo)
            times[name].append(time.process_time() - started)
    return {name: float(np.median(found[_UNTIMED:])) for name, found in times.items()}


if __name__ == "__main__":
    run(app, "python benchmarks/tflite_old_forms.py")
