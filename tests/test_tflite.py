"""LiteRT: parity, names, metadata, size and delegation of exported files; damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_deit._quiet import quiet
from edge_deit.config import DeiTConfig
from edge_deit.dataset import CalibrationSet
from edge_deit.deploy import deploy, quantizable_layers
from edge_deit.errors import EdgeDeitError
from edge_deit.metrics import closeness
from edge_deit.model import DeiT
from edge_deit.quantize import Precision, Scheme
from exporters import tflite
from exporters.target import ExportRequest

if missing := tflite.TARGET.missing():
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
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-dynamic")


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


def export(folder: Path, kind: str, scheme: Scheme) -> Path:
    """The exported file of one model and scheme."""
    calibration = CalibrationSet(images(8, seed=1), sha256="", source="test")
    request = ExportRequest(
        model=deploy(fresh_model(kind)),
        example=images(1, seed=2),
        scheme=scheme,
        calibration=calibration if scheme.needs_calibration else None,
        output=folder / f"{kind}.{scheme.precision}.{len(scheme.keep_float)}.tflite",
        backend="xnnpack",
        output_name="features" if kind == "features" else "logits",
        metadata=METADATA,
    )
    with quiet():
        return tflite.TARGET.export(request)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole module."""
    return tmp_path_factory.mktemp("tflite")


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {precision: export(folder, "plain", Scheme(precision)) for precision in PRECISIONS}


def outputs_of(path: Path, pixels: torch.Tensor) -> np.ndarray:
    """The file's outputs, one image at a time."""
    with quiet():
        runner = tflite.TARGET.load_runner(path, 1)
        return np.concatenate([runner(image.numpy()) for image in pixels.split(1)])


def operators(path: Path) -> list[tuple[str, int]]:
    """Kind of each operator and the number of int8 tensors of rank 2 or 4 that are its weights."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    types = {detail["index"]: detail["dtype"] for detail in interpreter.get_tensor_details()}
    return [
        (op["op_name"], int(len(op["inputs"]) > 1 and types[op["inputs"][1]] is np.int8))
        for op in interpreter._get_ops_details()
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision
) -> None:
    path = export(folder, kind, Scheme(precision))
    pixels = images(4, seed=3)
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    result = closeness(reference, outputs_of(path, pixels), classes=kind != "features")
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-4
    with quiet():
        assert tflite.delegation(path) == (1, [])


def test_names_and_metadata(plain: dict[Precision, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for path in plain.values():
        with quiet():
            interpreter = Interpreter(str(path))
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["pixels"], "outputs": ["logits"]}
        }
        (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert (source["name"], result["name"]) == ("pixels", "logits")
        assert source["shape"].tolist() == [1, 3, 64, 64]
        assert source["dtype"] is result["dtype"] is np.float32
        names = [detail["name"] for detail in interpreter.get_tensor_details()]
        assert names.count("logits") == names.count("pixels") == 1
        assert {f"{name}.weight" for name in quantizable_layers(deploy(fresh_model("plain")))} <= {
            *names
        }
        assert tflite.read_metadata(path) == METADATA


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_only_the_layers_of_the_scheme_are_integer(
    folder: Path, plain: dict[Precision, Path], precision: Precision
) -> None:
    layers = quantizable_layers(deploy(fresh_model("plain")))
    assert sum(integer for _, integer in operators(plain[precision])) == len(layers)
    kept = export(folder, "plain", Scheme(precision, ("blocks.0.mlp.*", "patch_embed")))
    assert sum(integer for _, integer in operators(kept)) == len(layers) - 3
    assert kept.stat().st_size > plain[precision].stat().st_size
    assert plain[precision].stat().st_size < 0.29 * plain["fp32"].stat().st_size


def test_layers_with_equal_weights_are_told_apart(folder: Path) -> None:
    torch.manual_seed(0)
    model = fresh_model("plain")
    model.blocks[1].load_state_dict(model.blocks[0].state_dict())
    request = ExportRequest(
        model=deploy(model),
        example=images(1, seed=2),
        scheme=Scheme("int8-dynamic"),
        calibration=None,
        output=folder / "equal.tflite",
        backend="xnnpack",
    )
    with quiet():
        path = tflite.TARGET.export(request)
    pixels = images(2, seed=3)
    with torch.inference_mode():
        reference = model(pixels).numpy()
    assert closeness(reference, outputs_of(path, pixels), classes=True).cosine >= 0.95


def test_static_int8_without_photos_is_refused(folder: Path) -> None:
    request = ExportRequest(
        model=deploy(fresh_model("plain")),
        example=images(1, seed=2),
        scheme=Scheme("int8"),
        calibration=None,
        output=folder / "none.tflite",
        backend="xnnpack",
    )
    with pytest.raises(EdgeDeitError, match="calibration"):
        tflite.TARGET.export(request)
    assert not request.output.exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.1, 0.5, 0.9, 0.999999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, plain: dict[Precision, Path], share: float
) -> None:
    content = plain["int8"].read_bytes()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EdgeDeitError, match=r"broken\.tflite"):
        tflite.TARGET.load_runner(broken, 1)
    with pytest.raises(EdgeDeitError, match=r"broken\.tflite"):
        tflite.read_metadata(broken)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "photo.tflite"
    other.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(EdgeDeitError, match=r"not a \.tflite"):
        tflite.TARGET.load_runner(other, 1)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        tflite.TARGET.load_runner(tmp_path / "absent.tflite", 1)
