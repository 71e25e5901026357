#!/usr/bin/env python3
"""What each way to store the weights of an int8 `.onnx` costs and gives in a plain ONNX Runtime session.

    EDGE_DEIT_REAL=FOLDER python benchmarks/onnx_forms.py --output DIR

All forms come from one set of weights and ranges. Where the processor has no VNNI, products of int8 weights
are added in pairs in 16 bits; the heading says whether this one has it. The table is in
docs/quantization.md, "How ONNX stores them".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import onnxruntime
import torch
import typer
from torch import Tensor

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.files import write_text
from edge_deit.common.host import has_vnni
from edge_deit.common.quiet import quiet
from edge_deit.data.calibration import calibration_set
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import ExportRequest
from edge_deit.exporters import target as find_target
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.quantization.condition import Conditioned, condition, passes
from edge_deit.quantization.rounding import int8_scale
from edge_deit.quantization.scheme import Scheme
from harness.real import real_folder
from tables.grid import Grid, show, to_markdown

__all__ = ["onnx_forms"]

app = new_app(__doc__)

_UNTIMED: Final = 5


@app.command()
def onnx_forms(
    output: Annotated[Path, typer.Option(help="Folder for the files and forms.md.")],
    images: Annotated[int, typer.Option(help="Validation photos for the noise.")] = 300,
    runs: Annotated[int, typer.Option(help="Timed inferences of each file, interleaved.")] = 60,
) -> None:
    """Write every form, run it in a session without options, time it on one thread."""
    data = real_folder() / "imagenet400"
    checkpoint = load_model(str(real_folder() / "deit_tiny_patch16_224" / "model.safetensors"))
    photos = list_photos(data, use="validation").pick(images).photos
    pixels = np.concatenate([load_pixels(one.path, checkpoint.preprocess) for one in photos])
    with torch.inference_mode():
        parts = torch.from_numpy(pixels).split(1)
        reference = np.concatenate([checkpoint.model(x).numpy() for x in parts])
    calibration = calibration_set(data, checkpoint.preprocess, 100)
    output.mkdir(parents=True, exist_ok=True)
    with progress() as bar:
        task = bar.add_task("conditioning", total=passes(len(calibration)))
        found = condition(
            deploy(checkpoint.model),
            calibration,
            checkpoint.preprocess,
            on_photo=lambda: bar.advance(task),
        )
    files = _files(found, torch.from_numpy(pixels[:1]), output)
    times = _times(files, pixels[:1], runs)
    first = next(iter(times.values()))
    rows = [
        (name, *_noise(path, pixels, reference), f"{times[name] / first:.2f}")
        for name, path in files.items()
    ]
    heading = f"{checkpoint.name}: forms of int8, {'with' if has_vnni() else 'without'} VNNI"
    columns = ("weights", "SNR, dB", "same answer", "processor time")
    grid = Grid(
        heading, columns, tuple(rows), (f"{images} photos; time as ratio to the first row.",)
    )
    write_text(output / "forms.md", to_markdown([grid]) + "\n")
    show(grid)


def _files(found: Conditioned, example: Tensor, output: Path) -> dict[str, Path]:
    """Every form's file by what is said of it; only int8 weights have steps of their own."""
    layers = Scheme("int8").quantized_layers(found.form)
    plain = found.with_layers(layers)
    greatest = {
        name: int8_scale(plain.get_submodule(name).get_parameter("weight").detach())
        for name in found.paired
    }
    forms: dict[str, tuple[bool, Mapping[str, Tensor]]] = {
        "int8, greatest weight at 127": (False, greatest),
        "int8, a grid for pairs": (True, found.pair_steps(layers)),
        "uint8, the first row's integers + 128": (False, {}),
    }
    files = {}
    for number, (name, (in_pairs, steps)) in enumerate(forms.items()):
        request = ExportRequest(
            model=found.with_layers(layers, in_pairs=in_pairs),
            example=example,
            scheme=Scheme("int8"),
            calibration=None,
            output=output / f"form{number}.onnx",
            backend="cpu",
            ranges=found.ranges,
            weight_steps=steps,
        )
        with quiet():
            files[name] = find_target("onnx").export(request)
    return files


def _noise(path: Path, pixels: np.ndarray, reference: np.ndarray) -> tuple[str, str]:
    session = onnxruntime.InferenceSession(path)
    (source,) = session.get_inputs()
    answers = [session.run(None, {source.name: photo[None]})[0] for photo in pixels]
    found = closeness(reference, np.concatenate(answers), classes=True)
    return f"{found.snr_db:.1f}", f"{100 * (found.agreement or 0):.1f} %"


def _times(files: Mapping[str, Path], photo: np.ndarray, runs: int) -> dict[str, float]:
    """Median processor time of one inference on one thread, s, the files in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {name: onnxruntime.InferenceSession(path, options) for name, path in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_UNTIMED + runs):
        for name, session in sessions.items():
            (source,) = session.get_inputs()
            started = time.process_time()
            session.run(None, {source.name: photo})
            times[name].append(time.process_time() - started)
    return {name: float(np.median(found[_UNTIMED:])) for name, found in times.items()}


if __name__ == "__main__":
    run(app, "python benchmarks/onnx_forms.py")
