#!/usr/bin/env python3
"""What rounding of weights and of activations costs int8, and what was done about it, in float arithmetic.

    EDGE_DEIT_REAL=FOLDER python benchmarks/int8_steps.py

Of the calibration photos one in five judges, and took no part in the conditioning. The photos that judge
the files themselves (benchmarks/accuracy.py) are not looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from unittest import mock

import torch
from torch import Tensor, nn

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.data.calibration import CalibrationSet, calibration_set
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization import fakequant
from edge_deit.quantization.condition import Conditioned, condition, passes
from edge_deit.quantization.fakequant import fake_quantize
from edge_deit.quantization.rounding import LEAST_DAMPING, round_weights
from edge_deit.quantization.survey import survey
from harness.real import real_folder
from tables.grid import Grid, show

__all__ = ["steps"]

app = new_app(__doc__)

_JUDGES: Final = 5  # one photo in so many


@app.command()
def steps() -> None:
    """Print the SNR of the logits with some of the rounding left out."""
    real = real_folder()
    checkpoint = load_model(str(real / "deit_tiny_patch16_224" / "model.safetensors"))
    photos = calibration_set(real / "imagenet400", checkpoint.preprocess, 100)
    judges = photos.pixels[::_JUDGES]
    shown = _without(photos, _JUDGES)
    form = deploy(checkpoint.model)
    with progress() as bar:
        task = bar.add_task("conditioning", total=passes(len(shown)))
        found = condition(form, shown, checkpoint.preprocess, on_photo=lambda: bar.advance(task))
    with torch.inference_mode():
        reference = torch.cat([checkpoint.model(photo) for photo in judges.split(1)])
    rows = []
    for name, model in _models(found, shown):
        with torch.inference_mode():
            actual = torch.cat([model(photo) for photo in judges.split(1)])
        rows.append(
            (name, f"{closeness(reference.numpy(), actual.numpy(), classes=True).snr_db:.2f}")
        )
    show(
        Grid(
            f"{len(shown)} photos for ranges, {len(judges)} others",
            ("rounded", "SNR, dB"),
            tuple(rows),
        )
    )


def _without(photos: CalibrationSet, step: int) -> CalibrationSet:
    """The photos but for one in `step`."""
    kept = [place for place in range(len(photos)) if place % step]
    names = tuple(photos.photo_sha256[place] for place in kept)
    return replace(photos, pixels=photos.pixels[kept], photo_sha256=names)


def _models(found: Conditioned, photos: CalibrationSet) -> Iterator[tuple[str, nn.Module]]:
    layers = quantizable_layers(found.form)
    yield (
        "weights, errors carried as if the photos were all there are",
        _weights(found, photos, damped=False),
    )
    yield "weights, errors carried as far as the photos say", _weights(found, photos, damped=True)
    with _weights_as_they_are():
        for name, outputs in (("inputs", False), ("inputs and outputs", True)):
            yield (
                f"{name}, fixed ranges",
                fake_quantize(found.unrounded, layers, found.ranges, outputs=outputs),
            )
        plain = found.with_layers([])
        yield (
            "inputs, a range for each token",
            fake_quantize(plain, [], {}, outputs=False, dynamic=layers),
        )
    both = found.with_layers(layers)
    for name, outputs in (("inputs", False), ("inputs and outputs", True)):
        yield (
            f"weights, {name}, fixed ranges",
            fake_quantize(both, layers, found.ranges, outputs=outputs),
        )
    own = found.with_layers(layers, layers, token_ranges=True)
    yield (
        "weights, inputs, a range for each token",
        fake_quantize(own, [], {}, outputs=False, dynamic=layers),
    )


def _weights(found: Conditioned, photos: CalibrationSet, *, damped: bool) -> DeployDeiT:
    """Nothing but the weights rounded."""
    model = copy.deepcopy(found.with_layers([]))
    views = survey(model, photos).plain
    with torch.no_grad():
        for name, view in views.items():
            weight = model.get_submodule(name).get_parameter("weight")
            weight.copy_(
                round_weights(weight, view.moments, view.damping if damped else LEAST_DAMPING)
            )
    return model


@contextmanager
def _weights_as_they_are() -> Iterator[None]:
    """Layers that are made meanwhile round activations only."""

    def same(weight: Tensor, moments: Tensor | None) -> Tensor:
        return weight

    with mock.patch.object(fakequant, "round_weights", same):
        yield


if __name__ == "__main__":
    run(app, "python benchmarks/int8_steps.py")
