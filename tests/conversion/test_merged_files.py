"""`--merge-tokens`: files are whole for their delegates, say what they are, and are judged as such."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY, random_model
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.run import validate_artefacts
from edge_deit.exporters import TARGETS, target
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.merging import even_schedule, merged_form
from edge_deit.quantization.scheme import Scheme
from exporter_models import images, outputs_of, request_for

DEEPER = replace(TINY, depth=3)


def _form() -> DeployDeiT:
    return merged_form(deploy(random_model(DEEPER)), (3, 2, 0))


def _delegation(name: str) -> Callable[[Path], tuple[int, list[str]]]:
    if missing := target(name).missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    if name == "tflite":
        from edge_deit.exporters.tflite.export import delegation
    else:
        from edge_deit.exporters.executorch.export import delegation
    return delegation


@pytest.mark.parametrize("name", ["tflite", "executorch"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_delegate_takes_all_of_it(name: str, precision: str, tmp_path: Path) -> None:
    """XNNPACK has no sort, gather or scatter: one subgraph, nothing outside it, the same outputs."""
    delegation, form, format_ = _delegation(name), _form(), target(name)
    scheme = format_.fit(Scheme(precision), form)  # type: ignore[arg-type]
    request: ExportRequest = request_for(format_, form, scheme, tmp_path / f"m{format_.suffix}")
    path = format_.export(request)
    assert delegation(path) == (1, [])
    pixels = images(4, seed=5)
    with torch.inference_mode():
        expected = torch.cat([form(one) for one in pixels.split(1)]).numpy()
    found = outputs_of(format_, path, pixels)
    if precision == "fp32":
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    else:
        cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine > 0.9


@pytest.fixture(scope="module")
def merged(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 file of a model with two special tokens, whose number of merged tokens was chosen."""
    folder = tmp_path_factory.mktemp("merged")
    config = replace(DEEPER, distilled=True, distillation_head=True)
    spec = PreprocessSpec(resize_size=72, crop_size=64)
    weights, labels = folder / "w.safetensors", ("cat", "dog", *(f"class {i}" for i in range(8)))
    save_checkpoint(weights, random_model(config), spec, labels, half=False)
    result = export_model(
        str(weights),
        targets=["onnx"],
        precisions=["fp32"],
        calibration=photos,
        output=folder / "out",
        merge_tokens="auto",
        max_drop=100,
    )
    (one,) = result.artefacts
    return one.path


def test_the_manifest_says_what_it_is(merged: Path) -> None:
    manifest = read_manifest(merged)
    assert merged.name.endswith(".fp32.merge7.onnx")
    found = manifest.approximation
    assert found is not None
    assert found["merged"] == list(even_schedule(replace(DEEPER, distilled=True), 7))
    assert found["snr_db"] is not None
    assert found["snr_db"] < 60  # to the float model
    parity = manifest.parity["snr_db"]
    assert isinstance(parity, float)
    assert parity > 80  # to the float model that merges too


def test_it_is_validated_against_the_float_model(merged: Path, photos: Path) -> None:
    report = validate_artefacts(
        [merged],
        data=photos,
        runs=None,
        layer_images=1,
        weights=str(merged.parents[1] / "w.safetensors"),
    )
    (one,) = report.artefacts
    assert "7 tokens become part of others" in one.runner
    assert one.snr_db < 60
    assert one.layers is None
    assert "merges tokens" in one.notes["layers"]


REFUSED = {
    "too many": ({"merge_tokens": 8}, "1 to 7 can be merged, or auto"),
    "none": ({"merge_tokens": 0}, "1 to 7 can be merged, or auto"),
    "auto without a limit": ({"merge_tokens": "auto"}, "needs a limit: --max-drop"),
    "a batch": ({"merge_tokens": 4, "batch": 2}, "for files of one photo"),
    "another task": ({"merge_tokens": 4, "task": "features"}, "for classification"),
    "integers throughout": (
        {"merge_tokens": 4, "targets": ["tflite"], "precisions": ["int8-full"]},
        "has no int8-full with --merge-tokens; it has: fp32",
    ),
    "a target without": (
        {"merge_tokens": 4, "targets": ["coreml"]},
        "coreml has no fp32 with --merge-tokens; it has: nothing; executorch, tflite, onnx have it",
    ),
    "a backend without": (
        {"merge_tokens": 4, "targets": ["executorch"], "backend": "coreml"},
        "executorch \\(coreml\\) has no fp32 with --merge-tokens; it has: nothing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tiny_weights: Path, tmp_path: Path) -> None:
    options, message = REFUSED[case]
    chosen = {"targets": ["onnx"], "precisions": ["fp32"], **options}
    if missing := [n for name in chosen["targets"] for n in target(name).missing()]:  # type: ignore[attr-defined]
        pytest.skip(f"{', '.join(missing)} not installed")
    with pytest.raises(EdgeDeitError, match=message):
        export_model(str(tiny_weights), output=tmp_path / "out", **chosen)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_model_of_one_block_is_refused(tmp_path: Path) -> None:
    weights, spec = tmp_path / "w.safetensors", PreprocessSpec(resize_size=72, crop_size=64)
    config: DeiTConfig = replace(TINY, depth=1)
    save_checkpoint(weights, random_model(config), spec, tuple("abcdefghij"), half=False)
    with pytest.raises(EdgeDeitError, match="too few to merge"):
        export_model(
            str(weights),
            targets=["onnx"],
            precisions=["fp32"],
            output=tmp_path / "o",
            merge_tokens=1,
        )


def test_every_target_says_whether_it_can() -> None:
    assert {name for name in TARGETS if target(name).merges} == {
        "executorch",
        "tflite",
        "onnx",
    }


def test_schema_has_it() -> None:
    schema = Path(__file__).parents[2] / "docs" / "manifest.schema.json"
    assert "approximation" in json.loads(schema.read_text(encoding="utf-8"))["properties"]
