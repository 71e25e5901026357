"""ExecuTorch: parity, delegation, metadata and size of exported files; damaged ones are refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.exporters.executorch import export as executorch_target
from edge_deit.exporters.executorch import passes
from edge_deit.exporters.executorch.export import _quantize
from edge_deit.exporters.executorch.target import TARGET
from edge_deit.exporters.target import ExportRequest
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.quantization.scheme import Precision, Scheme
from exporter_models import (
    CONFIGS,
    METADATA,
    assert_refused,
    fresh_model,
    images,
    outputs_of,
    request_for,
)
from shared import once

if missing := TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

MIN_COSINE = {"fp32": 0.99999, "int8": 0.95, "int8-dynamic": 0.95}
MAX_SIZE = {"fp32": 1.02, "int8": 0.30, "int8-dynamic": 0.40}  # of 4 bytes a parameter
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-dynamic")
WHOLE = (1, [])  # one delegated subgraph, no operator outside it


def request_at(
    folder: Path, kind: str, scheme: Scheme, *, backend: str = "xnnpack", photos: int = 8
) -> ExportRequest:
    """What the exporter is told about one model and scheme, with a file name of its own."""
    output = folder / f"{kind}.{backend}.{scheme.precision}.{len(scheme.keep_float)}.pte"
    form = deploy(fresh_model(kind))
    return request_for(TARGET, form, scheme, output, backend=backend, photos=photos)


def export(request: ExportRequest) -> Path:
    """The exported file, made once."""
    with quiet():
        return once(request.output, lambda _: TARGET.export(request))


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """One folder for the whole module."""
    (shared / "executorch").mkdir(exist_ok=True)
    return shared / "executorch"


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {
        precision: export(request_at(folder, "plain", Scheme(precision)))
        for precision in PRECISIONS
    }


@pytest.fixture(scope="module")
def coreml(folder: Path) -> Path:
    """An int8 file for the Core ML delegate."""
    pytest.importorskip("coremltools", reason="the Core ML delegate needs coremltools")
    return export(request_at(folder, "plain", Scheme("int8"), backend="coreml"))


def check_outputs(path: Path, kind: str, precision: Precision) -> None:
    """The file agrees with the float model on images that no range was taken from."""
    pixels = images(4, seed=3)
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    result = closeness(
        reference, outputs_of(TARGET, path, pixels, threads=2), classes=kind != "features"
    )
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-4


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("features", "fp32"), *(("distilled", precision) for precision in PRECISIONS)],
)
@pytest.mark.newest
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision
) -> None:
    path = export(request_at(folder, kind, Scheme(precision)))
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


def test_the_same_file_with_the_idle_passes(
    plain: dict[Precision, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out finds nothing; and each of it is there, so that the list is no old one."""
    from executorch.backends.xnnpack.xnnpack_preprocess import XNNPACKPassManager

    there = {one.__name__ for one in XNNPACKPassManager(None).passes}
    assert set(passes.IDLE) <= there
    monkeypatch.setattr(passes, "IDLE", ())
    request = request_at(folder, "plain", Scheme("int8"))
    with quiet():
        path = TARGET.export(replace(request, output=folder / "all_passes.pte"))
    assert path.read_bytes() == plain["int8"].read_bytes()


def test_texts_are_read_back(plain: dict[Precision, Path]) -> None:
    for path in plain.values():
        assert executorch_target.read_metadata(path) == METADATA


def test_layers_kept_in_float_make_the_file_larger(
    folder: Path, plain: dict[Precision, Path]
) -> None:
    """fc1 of one block takes four bytes a weight where it took one."""
    path = export(request_at(folder, "plain", Scheme("int8", ("blocks.0.mlp.fc1",))))
    config = CONFIGS["plain"]
    growth = path.stat().st_size - plain["int8"].stat().st_size
    assert growth == pytest.approx(3 * config.embed_dim * config.mlp_dim, rel=0.02)
    assert executorch_target.delegation(path) == WHOLE
    check_outputs(path, "plain", "int8")


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_only_the_layers_of_the_scheme_are_marked(precision: Precision) -> None:
    """Every layer but the norms' has an int8 weight; the dynamic form leaves the convolution."""
    request = request_at(Path(), "plain", Scheme(precision))
    quantized = _quantize(request)
    targets = [str(node.target) for node in quantized.graph.nodes]  # type: ignore[union-attr]
    expected = len(quantizable_layers(request.model)) - (precision == "int8-dynamic")
    assert targets.count("quantized_decomposed.dequantize_per_channel.default") == expected


def test_small_weights_keep_their_resolution(folder: Path) -> None:
    """Rows far below 1 are quantized with steps of their own size."""
    request = request_at(folder, "plain", Scheme("int8-dynamic"))
    layer = request.model.get_submodule("blocks.0.attn.q")
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(0.01)
    quantized = _quantize(request).state_dict()
    scales = [scale for name, scale in quantized.items() if name.startswith("_scale")]
    smallest = min(float(scale.min()) for scale in scales)
    assert smallest == pytest.approx(
        float(layer.weight.detach().abs().amax(1).min()) / 127, rel=0.01
    )


def test_runners_of_different_widths_live_together(plain: dict[Precision, Path]) -> None:
    """The process has one thread pool; replacing it must not break what was loaded before."""
    pixels = images(1, seed=3).numpy()
    with quiet():
        two = TARGET.load_runner(plain["fp32"], 2)
        first = two(pixels)
        one = TARGET.load_runner(plain["fp32"], 1)
        assert np.allclose(one(pixels), first, atol=1e-5)
        assert np.array_equal(two(pixels), first)


def test_requests_that_cannot_be_met_are_refused(folder: Path) -> None:
    requests = {
        "calibration": request_at(folder, "features", Scheme("int8"), photos=0),
        "no backend": request_at(folder, "features", Scheme("fp32"), backend="vulkan"),
        "dynamic": request_at(folder, "features", Scheme("int8-dynamic"), backend="coreml"),
    }
    for message, request in requests.items():
        request.output.unlink(missing_ok=True)
        with pytest.raises(EdgeDeitError, match=message):
            TARGET.export(request)
        assert not request.output.exists()


def test_core_ml_file_is_one_subgraph(coreml: Path, plain: dict[Precision, Path]) -> None:
    assert executorch_target.delegation(coreml) == WHOLE
    assert executorch_target.read_metadata(coreml) == METADATA
    assert b"CoreMLBackend" in coreml.read_bytes()
    assert coreml.stat().st_size < 0.4 * plain["fp32"].stat().st_size


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has the Core ML delegate")
def test_core_ml_file_names_the_systems_it_runs_on(coreml: Path) -> None:
    with pytest.raises(EdgeDeitError, match="macOS and iOS only"):
        TARGET.load_runner(coreml, 1)


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.5, 0.9, 0.99999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, plain: dict[Precision, Path], share: float
) -> None:
    content = plain["int8"].read_bytes()
    broken = tmp_path / "broken.pte"
    broken.write_bytes(content[: int(share * len(content))])
    message = r"broken\.pte is not an ExecuTorch program: export it again"
    assert_refused(TARGET, executorch_target.read_metadata, broken, message)


def test_other_files_are_refused(tmp_path: Path, plain: dict[Precision, Path]) -> None:
    other = tmp_path / "photo.pte"
    other.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(EdgeDeitError, match="not an ExecuTorch program"):
        TARGET.load_runner(other, 1)
    content = bytearray(plain["int8"].read_bytes())
    content[:4], content[40:4000] = b"\xff\xff\xff\x7f", b"\xff" * 3960
    other.write_bytes(content)
    with pytest.raises(EdgeDeitError, match="not an ExecuTorch program"):
        TARGET.load_runner(other, 1)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        TARGET.load_runner(tmp_path / "absent.pte", 1)
