#!/usr/bin/env python3
"""What 16 bits give `int8-full`: its real file with fewer operators in 16 bits, run by LiteRT.

    EDGE_DEIT_REAL=FOLDER python benchmarks/full_steps.py

Of the calibration photos one in two gives the ranges, the others judge; photos that judge the files choose
nothing. Times are processor seconds of one thread, in turns, as ratios. The table is in
docs/quantization.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final
from unittest import mock

import numpy as np
import torch

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.quiet import quiet
from edge_deit.data.calibration import calibration_set
from edge_deit.exporters.tflite import integer_constants, integer_params, widths
from edge_deit.exporters.tflite.file import pack, unpack
from edge_deit.exporters.tflite.full import quantize_fully
from edge_deit.exporters.tflite.integer_form import IntegerDeiT, fit_to_photos
from edge_deit.exporters.tflite.versions import declare_versions
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.model.outputs import outputs
from edge_deit.quantization.condition import condition, passes
from harness.real import real_folder
from tables.grid import Grid, show

__all__ = ["full_steps"]

app = new_app(__doc__)

_Operators = Sequence[tuple[str, Any]]
_STEP: Final = 2
_WIDE: Final = widths.wide_operators


def _nothing(operators: _Operators) -> set[int]:
    return set()


def _sums(operators: _Operators) -> set[int]:
    return {place for place in _WIDE(operators) if operators[place][0] == "ADD"}


def _but_products(operators: _Operators) -> set[int]:
    """All but the norm's last product, whose inputs are two tensors."""
    wide = set(_WIDE(operators))
    for place, (name, operator) in enumerate(operators):
        if name == "MUL" and operator.inputs[0] != operator.inputs[1]:
            wide.discard(place)
    return wide


_FORMS: Final[tuple[tuple[str, Callable[[_Operators], set[int]]], ...]] = (
    ("probabilities", _nothing),
    ("and sums of the stream", _sums),
    ("and the norm's squares, mean and root", _but_products),
    ("and its product: as exported", _WIDE),
)


@app.command()
def full_steps() -> None:
    """Make the file four times and compare logits and times."""
    real = real_folder()
    checkpoint = load_model(str(real / "deit_tiny_patch16_224" / "model.safetensors"))
    photos = calibration_set(real / "imagenet400", checkpoint.preprocess, 100)
    judges = photos.pixels[::_STEP]
    kept = [place for place in range(len(photos)) if place % _STEP]
    names = tuple(photos.photo_sha256[place] for place in kept)
    shown = replace(photos, pixels=photos.pixels[kept], photo_sha256=names)
    form = deploy(checkpoint.model)
    reference = outputs(form, judges.split(1)).numpy()
    with progress() as bar:
        task = bar.add_task("conditioning", total=passes(len(shown)))
        found = condition(form, shown, checkpoint.preprocess, on_photo=lambda: bar.advance(task))
    module = IntegerDeiT(found.with_layers(quantizable_layers(found.form)))
    fit_to_photos(module, shown.pixels.split(1))
    with quiet():
        float_file = _float_file(module, shown.pixels[:1])
        files = [_integer_file(float_file, shown.pixels, wide) for _, wide in _FORMS]
        measured = _measure(files, judges)
    rows = []
    for (name, _), file, (logits, seconds) in zip(_FORMS, files, measured, strict=True):
        near = closeness(reference, logits, classes=True)
        share = f"{seconds / measured[0][1]:.2f}"
        rows.append(
            (name, f"{near.snr_db:.1f}", f"{near.cosine:.3f}", f"{len(file) / 1e6:.2f}", share)
        )
    show(
        Grid(
            f"int8-full, {len(shown)} photos for ranges, {len(judges)} others",
            ("in 16 bits", "SNR, dB", "worst cosine", "MB", "time"),
            tuple(rows),
        )
    )


def _float_file(module: IntegerDeiT, example: torch.Tensor) -> bytes:
    import litert_torch

    return bytes(litert_torch.convert(module.eval(), (example,)).model_content())


def _integer_file(
    float_file: bytes, pixels: torch.Tensor, wide: Callable[[_Operators], set[int]]
) -> bytes:
    with ExitStack() as stack:
        for module in (widths, integer_params, integer_constants):
            stack.enter_context(mock.patch.object(module, "wide_operators", wide))
        content = quantize_fully(
            float_file, (photo.numpy() for photo in pixels.split(1)), grey_levels=True
        )
    model = unpack(content)
    declare_versions(model)
    return pack(model)


def _measure(files: Sequence[bytes], judges: torch.Tensor) -> list[tuple[np.ndarray, float]]:
    """Logits and the median time of each file, the files in turns."""
    from ai_edge_litert.interpreter import Interpreter

    interpreters = [Interpreter(model_content=file, num_threads=1) for file in files]
    logits: list[list[np.ndarray]] = [[] for _ in files]
    seconds: list[list[float]] = [[] for _ in files]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
    for photo in judges.split(1):
        for place, interpreter in enumerate(interpreters):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], photo.numpy())
            started = time.process_time()
            interpreter.invoke()
            seconds[place].append(time.process_time() - started)
            result = interpreter.get_output_details()[0]["index"]
            logits[place].append(interpreter.get_tensor(result).copy())
    return [
        (np.concatenate(ours), float(np.median(times)))
        for ours, times in zip(logits, seconds, strict=True)
    ]


if __name__ == "__main__":
    run(app, "python benchmarks/full_steps.py")
