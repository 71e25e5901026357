"""Core AI: parity in Apple's own runtime, names, metadata and size; damaged files are refused."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import random_model
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.process import Worker
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, size_of
from edge_deit.common.progress import Silent
from edge_deit.common.quiet import quiet
from edge_deit.conversion.plan import check_form, make_plan
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    default_spec,
    load_pixels,
    normalise,
)
from edge_deit.evaluation.run import validate_artefacts
from edge_deit.exporters import Form
from edge_deit.exporters import target as find_target
from edge_deit.exporters.coreai import export as coreai
from edge_deit.exporters.coreai import packages
from edge_deit.exporters.coreai import runtime as running
from edge_deit.exporters.coreai import target as described
from edge_deit.exporters.coreai.runtime import is_half
from edge_deit.exporters.coreai.target import TARGET
from edge_deit.exporters.runtime import Sparing
from edge_deit.gating.run import gate_report
from edge_deit.metrics.outputs import closeness
from edge_deit.mobile.bundle import bundle_artefacts
from edge_deit.mobile.golden import golden_of
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.model.deploy import deploy
from edge_deit.model.file_form import FileForm, in_file_form
from edge_deit.model.form import quantizable_layers
from edge_deit.quantization.scheme import Precision, Scheme
from exporter_models import (
    METADATA,
    assert_refused,
    fresh_model,
    images,
    outputs_of,
    request_for,
)
from shared import once
from source_tree import project

if missing := TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "int8": 0.95}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FORMS: tuple[Form, ...] = ("cpu", "ane")


REGISTERS = DeiTConfig(
    image_size=56,
    patch_size=14,
    depth=2,
    num_classes=0,
    layer_scale=True,
    register_tokens=4,
    family="dinov2",
)


def model_of(kind: str) -> DeiT:
    """The plain model of all exporters' tests, or one with registers, other patches and no classes."""
    return random_model(REGISTERS) if kind == "registers" else fresh_model(kind)


def export(folder: Path, kind: str, scheme: Scheme, form: Form | None = None) -> Path:
    """The exported file of one model, scheme and form, made once."""
    chosen = form or TARGET.forms[scheme.precision]
    output = folder / f"{kind}.{scheme.precision}.{len(scheme.keep_float)}.{chosen}.aimodel"
    request = request_for(TARGET, deploy(model_of(kind)), scheme, output)
    side = request.model.config.image_size
    request = replace(request, example=request.example[..., :side, :side])
    with quiet():
        return once(output, lambda _: TARGET.export(replace(request, form=chosen)))


def operators(path: Path) -> dict[str, int]:
    """How often each operator is in a file, as Apple's own summary counts."""
    return dict(summary(path).operation_distribution)


def summary(path: Path):  # type: ignore[no-untyped-def] # a class of coreai's, which has no types here
    """Apple's own summary of a file."""
    from coreai.authoring import AIModelAsset

    return AIModelAsset.load(path).summary()


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """One folder for the whole module."""
    (shared / "coreai").mkdir(exist_ok=True)
    return shared / "coreai"


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {precision: export(folder, "plain", Scheme(precision)) for precision in PRECISIONS}


CASES: tuple[tuple[str, Precision, Form], ...] = (
    ("plain", "fp32", "cpu"),
    ("plain", "fp32", "ane"),
    ("plain", "fp16", "ane"),
    ("plain", "int8", "cpu"),
    ("plain", "int8", "ane"),
    ("registers", "fp32", "cpu"),
)
"""Every precision in its own form, and more; test_channels_first.py has all kinds of models."""


@pytest.mark.parametrize(("kind", "precision", "form"), CASES)
@pytest.mark.newest
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision, form: Form
) -> None:
    path = export(folder, kind, Scheme(precision), form)
    model = model_of(kind)
    side = model.config.image_size
    pixels = images(1 if is_half(precision, form) else 2, seed=3)[..., :side, :side]
    with torch.inference_mode():
        reference = model(pixels).numpy()
    result = closeness(reference, outputs_of(TARGET, path, pixels), classes=kind == "plain")
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-4


def test_many_photos_at_once(folder: Path) -> None:
    form, pixels = deploy(fresh_model("plain")), images(3, seed=3)
    request = request_for(TARGET, form, Scheme("fp32"), folder / "three.aimodel")
    with quiet():
        path = TARGET.export(replace(request, example=pixels))
        found = TARGET.load_runner(path, 1)(pixels.numpy())
    with torch.inference_mode():
        assert np.abs(found - fresh_model("plain")(pixels).numpy()).max() < 1e-4


def test_a_photo_as_bytes(folder: Path) -> None:
    form = deploy(fresh_model("plain"))
    wanted = FileForm("image", "probabilities")
    made = in_file_form(form, wanted, IMAGENET_MEAN, IMAGENET_STD, planes=False)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    request = request_for(TARGET, made, Scheme("fp32"), folder / "image.aimodel")
    request = replace(request, example=image, input_name="image", output_name="probabilities")
    with quiet():
        path = TARGET.export(request)
        found = TARGET.load_runner(path, 1)(image.numpy())
    pixels = normalise(image.numpy()[0], default_spec(64))[None]
    with torch.inference_mode():
        expected = form(torch.from_numpy(pixels)).softmax(-1).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert "UInt8" in str(summary(path).function_inputs("main"))


def test_names_and_metadata(plain: dict[Precision, Path]) -> None:
    for path in plain.values():
        found = summary(path)
        assert found.function_names == ["main"]
        ((source, takes),) = found.function_inputs("main")
        ((result, returns),) = found.function_outputs("main")
        assert (source, result) == ("pixels", "logits")
        assert re.findall(r"Float32|[0-9]+(?=[^0-9]|$)", takes) == ["Float32", "1", "3", "64", "64"]
        assert re.findall(r"Float32|[0-9]+(?=[^0-9]|$)", returns) == ["Float32", "1", "10"]
        assert coreai.read_metadata(path) == METADATA | {"description": "", "license": ""}


def test_files_hold_no_path_of_this_machine(plain: dict[Precision, Path]) -> None:
    for path in plain.values():
        for file in path.iterdir():
            content = file.read_bytes()
            for name in (b"site-packages", str(Path.home()).encode() + b"/", b"exporters/", b".py"):
                assert name not in content, (file, name)


def test_weights_are_stored_as_the_precision_says(plain: dict[Precision, Path]) -> None:
    sizes = {precision: size_of(path) for precision, path in plain.items()}
    assert sizes["fp16"] < 0.51 * sizes["fp32"]
    assert sizes["int8"] < 0.3 * sizes["fp32"]
    stored = {precision: dict(summary(path).storage_types) for precision, path in plain.items()}
    layers = [deploy(fresh_model("plain")).get_submodule(name) for name in layer_names()]
    weights = sum(layer.get_parameter("weight").numel() for layer in layers)
    assert stored["int8"]["Int8"] >= weights
    assert stored["fp16"].get("Float32", 0) == 0
    assert stored["fp32"]["Float32"] > weights


def layer_names() -> list[str]:
    return quantizable_layers(deploy(fresh_model("plain")))


def test_only_the_layers_of_the_scheme_are_integer(
    folder: Path, plain: dict[Precision, Path]
) -> None:
    kinds = operators(plain["int8"])
    count = len(layer_names())
    shared_inputs = 3  # q, k and v of the first block read one tensor, k and v of the last
    assert kinds["blockwise_shift_scale"] == count
    assert kinds["quantize"] == kinds["dequantize"] == count - shared_inputs
    kept = operators(export(folder, "plain", Scheme("int8", ("blocks.0.mlp.*", "head"))))
    assert kept["blockwise_shift_scale"] == count - 3
    assert kept["quantize"] == count - shared_inputs - 3
    assert "quantize" not in operators(plain["fp32"])


def test_channels_first_needs_fewer_operators(folder: Path, plain: dict[Precision, Path]) -> None:
    """Every Linear but the head is a convolution, and nothing turns the token axis but attention."""
    tokens, channels = (export(folder, "plain", Scheme("fp32"), form) for form in FORMS)
    before, after = operators(tokens), operators(channels)
    norms = 2 * 2 + 1
    assert after["conv2d"] == len(layer_names()) - 1 + norms
    assert before["conv2d"] == 1
    assert after["transpose"] < before["transpose"] / 3
    assert after["reshape"] < before["reshape"] / 2


def test_static_int8_without_photos_is_refused(folder: Path) -> None:
    form, output = deploy(fresh_model("plain")), folder / "none.aimodel"
    request = request_for(TARGET, form, Scheme("int8"), output, photos=0)
    with pytest.raises(EdgeDeitError, match="calibration"):
        TARGET.export(request)
    assert not request.output.exists()


def test_what_the_format_lacks_is_refused(folder: Path) -> None:
    for precision in ("int8-dynamic", "int8-full"):
        output = folder / f"{precision}.aimodel"
        request = request_for(TARGET, deploy(fresh_model("plain")), Scheme(precision), output)
        with pytest.raises(EdgeDeitError, match=f"coreai has no {precision}; it has: fp32"):
            TARGET.export(request)
        assert not output.exists()


@pytest.mark.parametrize("name", packages.PINS)
def test_another_version_is_refused_with_what_to_install(
    name: str, plain: dict[Precision, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def other(asked: str) -> str:
        return "9.9" if asked == name else packages.PINS[asked]

    monkeypatch.setattr(packages, "version_of", other)
    monkeypatch.setattr(importlib.import_module("edge_deit.exporters.target"), "version_of", other)
    message = rf"{name} {packages.PINS[name]}.*9\.9 is installed.*pip install 'edge-deit\[coreai\]'"
    with pytest.raises(EdgeDeitError, match=message):
        TARGET.check("fp32")
    request = request_for(
        TARGET, deploy(fresh_model("plain")), Scheme("fp32"), tmp_path / "a.aimodel"
    )
    with pytest.raises(EdgeDeitError, match=message):
        TARGET.export(request)
    assert not list(tmp_path.iterdir())
    if name == packages.CORE:
        with pytest.raises(EdgeDeitError, match=message):
            TARGET.load_runner(plain["fp32"], 1)


def test_the_extra_pins_what_was_tested() -> None:
    (needed,) = (
        extra for name, extra in project()["optional-dependencies"].items() if name == "coreai"
    )
    pinned = {need.partition(";")[0].strip() for need in needed}
    tested = {f"{name}=={version}" for name, version in packages.PINS.items()}
    assert pinned == tested | {"edge-deit[torch]"}


# Damage


def with_hash(path: Path) -> None:
    """Sign a program anew, so that only its content is wrong."""
    digest = hashlib.sha256((path / "main.mlirb").read_bytes()).digest()
    (path / "main.hash").write_bytes(digest)


def cut(path: Path) -> None:
    program = path / "main.mlirb"
    program.write_bytes(program.read_bytes()[:1000])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a program cut short": (cut, "main.mlirb is damaged"),
    "no program": (lambda path: (path / "main.mlirb").unlink(), "lacks main.mlirb"),
    "no metadata": (lambda path: (path / "metadata.json").unlink(), "lacks metadata.json"),
    "other metadata": (lambda path: (path / "metadata.json").write_text("{"), "metadata.json"),
    "one file more": (lambda path: (path / "main.odix").write_text(""), "holds main.odix"),
    "no folder": (lambda path: (shutil.rmtree(path), path.write_text("")), "is a file"),
    "nothing": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(
    damage: str, plain: dict[Precision, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "broken.aimodel"
    shutil.copytree(plain["fp32"], copy)
    change, message = DAMAGES[damage]
    change(copy)
    assert_refused(TARGET, coreai.read_metadata, copy, rf"broken\.aimodel.*{message}|{message}")


def test_a_program_cut_short_and_signed_anew_is_refused(
    plain: dict[Precision, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "broken.aimodel"
    shutil.copytree(plain["fp32"], copy)
    cut(copy)
    with_hash(copy)
    with Worker("coreai") as worker, pytest.raises(EdgeDeitError, match=r"broken\.aimodel"):
        worker.load(copy, 1)  # the runtime may crash of it, so it is another process's


def test_no_room_to_compile_is_said(
    plain: dict[Precision, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime itself would end the process."""
    size = (plain["fp32"] / "main.mlirb").stat().st_size
    for free, refused in ((size, True), (3 * size + 1_000_000, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: _Usage(free))
        if not refused:
            assert TARGET.load_runner(plain["fp32"], 1) is not None
            continue
        with pytest.raises(EdgeDeitError, match=r"no room to compile .*\.aimodel.*set TMPDIR"):
            TARGET.load_runner(plain["fp32"], 1)


@dataclass(frozen=True)
class _Usage:
    free: int


# A second opinion


@pytest.mark.skipif(find_target("coreml").missing() != [], reason="needs coremltools")
def test_half_precision_agrees_with_the_reference_for_core_ml(folder: Path, tmp_path: Path) -> None:
    """The same form in another format, computed by other code; 50 dB is half precision's own rounding."""
    coreml = find_target("coreml")
    request = request_for(
        coreml, deploy(fresh_model("plain")), Scheme("fp16"), tmp_path / "a.mlpackage"
    )
    with quiet():
        coreml.export(replace(request, form="ane"))
    pixels = images(1, seed=3)
    expected = outputs_of(coreml, request.output, pixels)
    found = outputs_of(TARGET, export(folder, "plain", Scheme("fp16"), "ane"), pixels)
    assert closeness(expected, found, classes=True).snr_db > 45


def test_the_check_after_an_export_takes_few_photos_in_half_precision(
    tiny_weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    class Heard(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    slow = replace(TARGET.runtime, sparing=lambda precision, form: Sparing(2, "it is very slow"))
    with monkeypatch.context() as changed:
        changed.setattr(running, "RUNTIME", slow)
        made = export_model(
            str(tiny_weights),
            targets=["coreai"],
            precisions=["fp16"],
            calibration=photos,
            output=tmp_path,
            parity_images=4,
            progress=Heard(),
        )
    (one,) = made.artefacts
    assert one.closeness is not None
    assert one.closeness.images == one.manifest.parity["images"] == 2
    assert any(line.endswith("is checked on 2 photos: it is very slow") for line in notes)
    assert one.manifest.scheme["form"] == "ane"
    assert one.manifest.requires == {"ios": "27", "macos": "27"}
    if sys.platform != "darwin":  # later commands are told by the file's manifest
        notes.clear()
        predict_photos(one.path, [photos / "dog" / "1.png"], progress=Heard())
        assert notes[0].startswith(f"{one.path.name}: Core AI's runtime emulates half precision")


# What later commands make of a file


def test_validate_and_gate(
    exported: Callable[[str], Path], tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    report = validate_artefacts(
        [exported("coreai")],
        data=photos / "cat",
        weights=str(tiny_weights),
        output=tmp_path / "report",
        runs=None,
    )
    (one,) = report.artefacts
    assert one.snr_db is not None
    assert one.snr_db > 100
    assert one.agreement == 1
    limits = tmp_path / "limits.toml"
    for least, code in ((100, 0), (199, 1)):
        rule = f'[[rule]]\ntarget = "coreai"\nprecision = "fp32"\nmin_snr_db = {least}\n'
        limits.write_text(rule, encoding="utf-8")
        assert gate_report(tmp_path / "report" / "report.json", limits).exit_code == code


def test_predict_golden_and_bundle(
    exported: Callable[[str], Path], tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    """One process each; the float model says what is right, and the app gets the folder as it is."""
    path, image = exported("coreai"), photos / "dog" / "1.png"
    checkpoint = load_model(str(tiny_weights))
    pixels = torch.from_numpy(load_pixels(image, checkpoint.preprocess))
    with torch.inference_mode():
        expected = checkpoint.model(pixels)[0]
    (found,) = predict_photos(path, [image], top=10)
    assert [one.index for one in found.top] == expected.argsort(descending=True).tolist()
    assert found.top[0].logit == pytest.approx(float(expected.max()), abs=1e-4)
    assert found.stand_in is None

    golden_of(path, photos=photos / "cat", output=tmp_path / "golden")
    cases = json.loads((tmp_path / "golden" / "golden_cases.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in cases["classification"]][:2] == ["0.png", "2.png"]

    (tmp_path / "ios" / "DeiTDemo").mkdir(parents=True)
    bundle_artefacts([path], ios=tmp_path / "ios")
    bundled = tmp_path / "ios" / "DeiTDemo" / "Bundled"
    assert hash_path(bundled / path.name) == hash_path(path)
    assert json.loads((bundled / "bundle.json").read_text(encoding="utf-8"))
    with pytest.raises(EdgeDeitError, match="made for coreai"):
        bundle_artefacts([path], android=tmp_path / "ios")


@pytest.mark.slow
@pytest.mark.parametrize("precision", [one for one in TARGET.precisions if one != "fp32"])
def test_commands_take_every_precision(
    precision: Precision, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    made = export_model(
        str(tiny_weights),
        targets=["coreai"],
        precisions=[precision],
        calibration=photos,
        output=tmp_path / "out",
        parity_images=2,
    )
    (path,) = (one.path for one in made.artefacts)
    image = photos / "dog" / "1.png"
    checkpoint = load_model(str(tiny_weights))
    with torch.inference_mode():
        expected = checkpoint.model(torch.from_numpy(load_pixels(image, checkpoint.preprocess)))[0]
    (found,) = predict_photos(path, [image], top=10)
    logits = {one.index: one.logit for one in found.top}
    noise = np.array([logits[index] - float(expected[index]) for index in range(10)])
    assert np.linalg.norm(noise) < 0.1 * float(expected.norm())

    golden_of(path, photos=photos / "cat", output=tmp_path / "golden")
    assert (tmp_path / "golden" / "golden_cases.json").is_file()
    (tmp_path / "ios" / "DeiTDemo").mkdir(parents=True)
    bundle_artefacts([path], ios=tmp_path / "ios")
    assert hash_path(tmp_path / "ios" / "DeiTDemo" / "Bundled" / path.name) == hash_path(path)
    (tmp_path / "one").mkdir()
    shutil.copy(image, tmp_path / "one")
    report = validate_artefacts(
        [path], data=tmp_path / "one", weights=str(tiny_weights), output=tmp_path / "r", runs=None
    )
    assert report.artefacts[0].snr_db is not None
    assert report.artefacts[0].snr_db > 20


def test_only_half_precision_on_this_runtime_is_slow() -> None:
    slow = {(p, f) for p in PRECISIONS for f in FORMS if TARGET.runtime.sparing(p, f) is not None}
    emulated = {("fp16", "cpu"), ("fp16", "ane"), ("int8", "ane")}
    assert slow == (set() if sys.platform == "darwin" else emulated)


def test_all_leaves_a_beta_out_that_is_not_the_tested_one(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []

    class Heard(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    monkeypatch.setattr(described, "TARGET", replace(TARGET, pins={packages.CORE: "0.0"}))
    plan = make_plan(None, ["fp32"], (), None, Heard())
    assert "coreai" not in [target.name for target, _, _ in plan]
    (note,) = notes
    assert note.startswith("coreai is left out: coreai needs coreai-core 0.0 (")
    with pytest.raises(EdgeDeitError, match=r"coreai needs coreai-core 0\.0"):
        make_plan(["coreai"], ["fp32"], (), None, Heard())


def test_a_form_is_refused_where_there_is_but_one() -> None:
    plan = make_plan(["onnx"], ["fp32"], (), None, Silent())
    with pytest.raises(
        EdgeDeitError, match="--form means nothing for onnx; it is for coreml, coreai"
    ):
        check_form(plan, "ane")
    check_form(make_plan(["coreai"], ["fp32"], (), None, Silent()), "ane")
