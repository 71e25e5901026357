"""Small models, requests and checks that the tests of all exporters share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.data.calibration import CalibrationSet
from edge_deit.exporters.target import ExportRequest, Target
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.scheme import LayerRanges, Scheme

CONFIGS = {
    "plain": DeiTConfig(depth=2, image_size=64, num_classes=10),
    "distilled": DeiTConfig(
        depth=2, image_size=64, num_classes=10, distilled=True, distillation_head=True
    ),
    "features": DeiTConfig(depth=2, image_size=64, num_classes=0),
}
CONFIGS_AND_NEWEST = [
    pytest.param(kind, marks=pytest.mark.newest) if kind == "plain" else kind for kind in CONFIGS
]
"""All of them; the newest Python exports one (`make test-newest`)."""
METADATA = {"labels": "T-shirt\nÄrmel", "preprocessing": '{"crop_size": 64}', "author": ""}


def fresh_model(kind: str) -> DeiT:
    """A seeded model whose weights are large enough for its outputs to differ between images."""
    torch.manual_seed(0)
    model = DeiT(CONFIGS[kind]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def images(count: int, seed: int) -> torch.Tensor:
    """(count, 3, 64, 64) normally distributed pixels."""
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def ranges_of(model: nn.Module, photos: torch.Tensor) -> dict[str, LayerRanges]:
    """Least and greatest input and output of each quantizable layer over the photos."""
    seen: dict[str, list[float]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def keep(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            ends = [*inputs[0].aminmax(), *output.aminmax()]
            old = seen.setdefault(name, [0.0] * 4)
            pick = (min, max, min, max)
            seen[name] = [f(o, float(e)) for f, o, e in zip(pick, old, ends, strict=True)]

        return keep

    names = quantizable_layers(model)
    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    with torch.inference_mode():
        for photo in photos.split(1):
            model(photo)
    for handle in handles:
        handle.remove()
    return {name: LayerRanges((v[0], v[1]), (v[2], v[3])) for name, v in seen.items()}


def request_for(
    target: Target,
    model: DeployDeiT,
    scheme: Scheme,
    output: Path,
    *,
    backend: str | None = None,
    photos: int = 8,
    metadata: Mapping[str, str] = METADATA,
) -> ExportRequest:
    """What the exporter is told about a model; photos and ranges where the scheme needs them."""
    calibration = CalibrationSet(images(photos, seed=1), sha256="", source="test")
    calibrated = scheme.needs_calibration and photos > 0
    return ExportRequest(
        model=model,
        example=images(1, seed=2),
        scheme=scheme,
        calibration=calibration if calibrated else None,
        ranges=ranges_of(model, calibration.pixels) if calibrated else {},
        output=output,
        backend=backend or target.backends[0],
        output_name="logits" if model.config.num_classes else "features",
        metadata=metadata,
        single=dict.fromkeys(target.single_layers(model), "always"),
    )


def outputs_of(target: Target, path: Path, pixels: torch.Tensor, threads: int = 1) -> np.ndarray:
    """The file's outputs, one image at a time."""
    with quiet():
        runner = target.load_runner(path, threads)
        return np.concatenate([runner(image.numpy()) for image in pixels.split(1)])


def assert_refused(
    target: Target, read_metadata: Callable[[Path], object], path: Path, message: str
) -> None:
    """Neither loading nor reading the texts accepts a damaged file, and both say so."""
    with pytest.raises(EdgeDeitError, match=message):
        target.load_runner(path, 1)
    with pytest.raises(EdgeDeitError, match=message):
        read_metadata(path)
