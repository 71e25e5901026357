"""What leaves this machine names none of its folders, and yet later commands find what they need."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT, CommandLine
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.load import load_model
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.run import validate_artefacts
from edge_deit.exporters import TARGETS
from edge_deit.gating.run import gate_report
from edge_deit.mobile.bundle import bundle_artefacts

pytestmark = pytest.mark.slow
THRESHOLDS = '[[rule]]\ntarget = "onnx"\nprecision = "fp32"\nmin_agreement = 0.5\n'


def leaks(folder: Path) -> Iterator[str]:
    """Files that hold the name of the home, the temporary folder or the checkout."""
    private = [str(ROOT), str(Path.home()), str(folder), str(folder.parent), "/tmp/", "/home/"]  # noqa: S108
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        for name in private:
            if len(name) > 3 and any(
                name.encode(kind) in content for kind in ("utf-8", "utf-16-le")
            ):
                yield f"{path.relative_to(folder)}: {name}"


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint without its description, in a folder of its own."""
    place = tmp_path / "somebody" / "tiny.safetensors"
    place.parent.mkdir()
    shutil.copy(tiny_weights, place)
    return place


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "target", [one for one in TARGETS if one != "coreai"]
)  # see test_coreai.py
def test_artefacts_and_manifests(
    target: str, weights: Path, photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    stated = tmp_path / "preprocessing.json"
    spec = PreprocessSpec(resize_size=80, crop_size=64, crop_rounding="floor")
    stated.write_text(json.dumps(spec.to_json()), encoding="utf-8")
    out = tmp_path / "out"
    done = command_line(
        "export", "--target", target, "--precision", "fp32", "--precision", "int8",
        "--weights", weights, "--preprocessing", stated, "--calibration", photos, "--output", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(leaks(out))
    for path in out.glob("*.json"):
        manifest = read_manifest(path.with_suffix(""))
        assert manifest.weights["source"] == "tiny.safetensors"
        assert manifest.preprocess_spec == spec
    stated.unlink()  # what it said is in the manifest
    artefacts = [path.with_suffix("") for path in out.glob("*.json")]
    again = tmp_path / "report"
    done = command_line(
        "validate", *artefacts, "--data", photos / "cat", "--output", again, "--no-latency"
    )
    assert done.returncode == 0, done.stderr
    assert not list(leaks(again))


def test_a_report_is_judged_where_it_was_made(
    exported: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported("onnx").parent, out)
    (artefact,) = out.glob("*.onnx")
    limits = tmp_path / "limits.toml"
    limits.write_text(THRESHOLDS, encoding="utf-8")
    weights = exported("onnx").parent.parent / "tiny.safetensors"
    validate_artefacts(
        [artefact], data=photos / "cat", weights=str(weights), output=tmp_path / "report", runs=None
    )
    report = tmp_path / "report" / "report.json"
    assert gate_report(report, limits).exit_code == 0
    (tmp_path / "report" / "report.html").unlink()
    artefact.write_bytes(artefact.read_bytes() + b"\0")  # another file is where the judged one was
    verdict = gate_report(report, limits)
    assert verdict.exit_code == 2
    assert "sha256 differs" in verdict.problems[0]


@pytest.mark.parametrize(
    ("kind", "target", "place"),
    [("android", "tflite", "app/src/main"), ("ios", "coreml", "DeiTDemo")],
)
def test_a_bundle(
    kind: str, target: str, place: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    project = tmp_path / kind
    (project / place).mkdir(parents=True)
    if kind == "android":
        bundle_artefacts([exported(target)], android=project)
    else:
        bundle_artefacts([exported(target)], ios=project)
    assert any(path.name == "bundle.json" for path in project.rglob("*"))
    assert not list(leaks(project))


def test_the_weights_are_found_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the note in the cache, by a path below the working folder, beside the artefact; or not."""
    from edge_deit.artefacts.artefact import read_artefact
    from edge_deit.artefacts.float_model import find_float_models

    def found(folder: str) -> str:
        (path,) = (tmp_path / folder).glob("*.onnx")
        (model,) = find_float_models([read_artefact(path)], None)
        return model.weights

    def export(folder: str, named: str, *, cache: bool) -> None:
        export_model(
            named, targets=["onnx"], precisions=["fp32"], output=tmp_path / folder,
            parity_images=1, cache=cache,
        )  # fmt: skip

    export("noted", str(weights), cache=True)
    assert found("noted") == str(weights)
    shutil.rmtree(tmp_path / "cache")
    shutil.copy(weights, tmp_path / "noted")
    assert found("noted") == str(tmp_path / "noted" / weights.name)
    monkeypatch.chdir(tmp_path)
    export("below", "somebody/tiny.safetensors", cache=False)
    assert not (tmp_path / "cache").exists()
    assert found("below") == "somebody/tiny.safetensors"
    monkeypatch.chdir(tmp_path / "below")
    weights.unlink()
    with pytest.raises(Exception, match="--weights says where it is now"):
        found("below")
    assert load_model("bundled").source == "bundled"


def test_a_report_with_a_broken_photo(
    exported: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "somebody" / "photos"
    shutil.copytree(photos / "cat", folder)
    (folder / "broken.png").write_bytes(b"no photo")
    weights = exported("onnx").parent.parent / "tiny.safetensors"
    report = validate_artefacts(
        [exported("onnx")], data=folder, weights=str(weights), output=tmp_path / "r", runs=None
    )
    (broken,) = report.data.broken
    assert broken.reason.startswith("image broken.png cannot be read")
    assert not list(leaks(tmp_path / "r"))
