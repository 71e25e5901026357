"""ExecuTorch: parity, delegation, metadata and size of exported files; damaged ones are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ranges_of
from edge_deit._quiet import quiet
from edge_deit.config import DeiTConfig
from edge_deit.dataset import CalibrationSet
from edge_deit.deploy import deploy, quantizable_layers
from edge_deit.errors import EdgeDeitError
from edge_deit.metrics import closeness
from edge_deit.model import DeiT
from edge_deit.quantize import Precision, Scheme
from exporters import executorch as executorch_target
from exporters.target import ExportRequest

if missing := executorch_target.TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

CONFIGS = {
    "plain": DeiTConfig(depth=2, image_size=64, num_classes=10),
    "distilled": DeiTConfig(
        depth=2, image_size=64, num_classes=10, distilled=True, distillation_head=True
    ),
    "features": DeiTConfig(depth=2, image_size=64, num_classes=0),
}
METADATA = {"labels": "T-shirt\nÄrmel", "preprocessing": '{"crop_size": 64}', "author": ""}
MIN_COSINE = {"fp32": 0.99999, "int8": 0.95, "int8-dynamic": 0.95}
MAX_SIZE = {"fp32": 1.02, "int8": 0.30, "int8-dynamic": 0.40}  # of 4 bytes a parameter
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-dynamic")
WHOLE = (1, [])  # one delegated subgraph, no operator outside it


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


def request_for(
    folder: Path, kind: str, scheme: Scheme, *, backend: str = "xnnpack", photos: int = 8
) -> ExportRequest:
    """What the exporter is told about one model and scheme."""
    calibration = CalibrationSet(images(photos, seed=1), sha256="", source="test")
    form = deploy(fresh_model(kind))
    return ExportRequest(
        model=form,
        example=images(1, seed=2),
        scheme=scheme,
        calibration=calibration if scheme.needs_calibration and photos else None,
        ranges=ranges_of(form, calibration.pixels) if scheme.needs_calibration and photos else {},
        output=folder / f"{kind}.{backend}.{scheme.precision}.{len(scheme.keep_float)}.pte",
        backend=backend,
        output_name="features" if kind == "features" else "logits",
        metadata=METADATA,
    )


def export(request: ExportRequest) -> Path:
    """The exported file."""
    with quiet():
        return executorch_target.TARGET.export(request)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole module."""
    return tmp_path_factory.mktemp("executorch")


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {
        precision: export(request_for(folder, "plain", Scheme(precision)))
        for precision in PRECISIONS
    }


@pytest.fixture(scope="module")
def coreml(folder: Path) -> Path:
    """An int8 file for the Core ML delegate."""
    pytest.importorskip("coremltools", reason="the Core ML delegate needs coremltools")
    return export(request_for(folder, "plain", Scheme("int8"), backend="coreml"))


def outputs_of(path: Path, pixels: torch.Tensor) -> np.ndarray:
    """The file's outputs, one image at a time."""
    with quiet():
        runner = executorch_target.TARGET.load_runner(path, 2)
        return np.concatenate([runner(image.numpy()) for image in pixels.split(1)])


def check_outputs(path: Path, kind: str, precision: Precision) -> None:
    """The file agrees with the float model on images that no range was taken from."""
    pixels = images(4, seed=3)
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    result = closeness(reference, outputs_of(path, pixels), classes=kind != "features")
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-4


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("features", "fp32"), *(("distilled", precision) for precision in PRECISIONS)],
)
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision
) -> None:
    path = export(request_for(folder, kind, Scheme(precision)))
    assert executorch_target.delegation(path) == WHOLE
    check_outputs(path, kind, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_plain_model_is_one_small_subgraph(
    plain: dict[Precision, Path], precision: Precision
) -> None:
    path = plain[precision]
    parameters = sum(weight.numel() for weight in fresh_model("plain").parameters())
    assert executorch_target.delegation(path) == WHOLE
    assert path.stat().st_size <= MAX_SIZE[precision] * 4 * parameters
    check_outputs(path, "plain", precision)


def test_texts_are_read_back(plain: dict[Precision, Path]) -> None:
    for path in plain.values():
        assert executorch_target.read_metadata(path) == METADATA


def test_layers_kept_in_float_make_the_file_larger(
    folder: Path, plain: dict[Precision, Path]
) -> None:
    """fc1 of one block takes four bytes a weight where it took one."""
    path = export(request_for(folder, "plain", Scheme("int8", ("blocks.0.mlp.fc1",))))
    config = CONFIGS["plain"]
    growth = path.stat().st_size - plain["int8"].stat().st_size
    assert growth == pytest.approx(3 * config.embed_dim * config.mlp_dim, rel=0.02)
    assert executorch_target.delegation(path) == WHOLE
    check_outputs(path, "plain", "int8")


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_only_the_layers_of_the_scheme_are_marked(precision: Precision) -> None:
    """Every layer but the norms' has an int8 weight; the dynamic form leaves the convolution."""
    request = request_for(Path(), "plain", Scheme(precision))
    quantised = executorch_target._quantise(request)
    targets = [str(node.target) for node in quantised.graph.nodes]  # type: ignore[union-attr]
    expected = len(quantizable_layers(request.model)) - (precision == "int8-dynamic")
    assert targets.count("quantized_decomposed.dequantize_per_channel.default") == expected


def test_small_weights_keep_their_resolution(folder: Path) -> None:
    """Rows far below 1 are quantised with steps of their own size."""
    request = request_for(folder, "plain", Scheme("int8-dynamic"))
    layer = request.model.get_submodule("blocks.0.attn.q")
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(0.01)
    quantised = executorch_target._quantise(request).state_dict()
    scales = [scale for name, scale in quantised.items() if name.startswith("_scale")]
    smallest = min(float(scale.min()) for scale in scales)
    assert smallest == pytest.approx(
        float(layer.weight.detach().abs().amax(1).min()) / 127, rel=0.01
    )


def test_runners_of_different_widths_live_together(plain: dict[Precision, Path]) -> None:
    """The process has one thread pool; replacing it must not break what was loaded before."""
    pixels = images(1, seed=3).numpy()
    with quiet():
        two = executorch_target.TARGET.load_runner(plain["fp32"], 2)
        first = two(pixels)
        one = executorch_target.TARGET.load_runner(plain["fp32"], 1)
        assert np.allclose(one(pixels), first, atol=1e-5)
        assert np.array_equal(two(pixels), first)


def test_requests_that_cannot_be_met_are_refused(folder: Path) -> None:
    requests = {
        "calibration": request_for(folder, "features", Scheme("int8"), photos=0),
        "no backend": request_for(folder, "features", Scheme("fp32"), backend="vulkan"),
        "dynamic": request_for(folder, "features", Scheme("int8-dynamic"), backend="coreml"),
    }
    for message, request in requests.items():
        request.output.unlink(missing_ok=True)
        with pytest.raises(EdgeDeitError, match=message):
            executorch_target.TARGET.export(request)
        assert not request.output.exists()


def test_core_ml_file_is_one_subgraph(coreml: Path, plain: dict[Precision, Path]) -> None:
    assert executorch_target.delegation(coreml) == WHOLE
    assert executorch_target.read_metadata(coreml) == METADATA
    assert b"CoreMLBackend" in coreml.read_bytes()
    assert coreml.stat().st_size < 0.4 * plain["fp32"].stat().st_size


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has the Core ML delegate")
def test_core_ml_file_names_the_systems_it_runs_on(coreml: Path) -> None:
    with pytest.raises(EdgeDeitError, match="macOS and iOS only"):
        executorch_target.TARGET.load_runner(coreml, 1)


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.5, 0.9, 0.99999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, plain: dict[Precision, Path], share: float
) -> None:
    content = plain["int8"].read_bytes()
    broken = tmp_path / "broken.pte"
    broken.write_bytes(content[: int(share * len(content))])
    message = r"broken\.pte is not an ExecuTorch program: export it again"
    with pytest.raises(EdgeDeitError, match=message):
        executorch_target.TARGET.load_runner(broken, 1)
    with pytest.raises(EdgeDeitError, match=message):
        executorch_target.read_metadata(broken)


def test_other_files_are_refused(tmp_path: Path, plain: dict[Precision, Path]) -> None:
    other = tmp_path / "photo.pte"
    other.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(EdgeDeitError, match="not an ExecuTorch program"):
        executorch_target.TARGET.load_runner(other, 1)
    content = bytearray(plain["int8"].read_bytes())
    content[:4], content[40:4000] = b"\xff\xff\xff\x7f", b"\xff" * 3960
    other.write_bytes(content)
    with pytest.raises(EdgeDeitError, match="not an ExecuTorch program"):
        executorch_target.TARGET.load_runner(other, 1)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        executorch_target.TARGET.load_runner(tmp_path / "absent.pte", 1)
