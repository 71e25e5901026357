"""iOS: EdgeCore against Python bit for bit, the app's types, the Xcode project."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from folder_examples import assert_folder_run, folder_run
from golden_examples import golden_file
from PIL import Image

from conftest import ROOT
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import Manifest, read_manifest
from edge_deit.artefacts.predict import rank
from edge_deit.artefacts.runners import logits_of
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.exporters import target
from edge_deit.mobile.golden_images import hash_pixels, wide_cases
from edge_deit.report.device_records import PROTOCOL, CostShares, ModelCheck, Residency
from edge_deit.report.device_report import read_device_report

pytestmark = pytest.mark.xdist_group("ios")  # they share one build of the program
IOS = ROOT / "ios_demo"
GOLDEN = ROOT / "tests" / "golden"
WIDE_CASES = 300


def tool(name: str) -> ModuleType:
    """A module of tools/mobile/ios, which is no package."""
    folder = str(ROOT / "tools" / "mobile" / "ios")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


check, ios_plist, ios_project, ios_swift = map(
    tool, ("check", "ios_plist", "ios_project", "ios_swift")
)


@dataclass(frozen=True)
class Cli:
    """`edgecore-cli`, optimised; files are exchanged in `folder`."""

    swift: Any
    program: Path
    folder: Path

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), *map(str, arguments)]
        done = self.swift.start(command, cwd=self.folder, writable=[self.folder])
        assert isinstance(done, subprocess.CompletedProcess)
        return done


@pytest.fixture(scope="module")
def swift() -> Any:
    """Swift of this machine."""
    if reason := ios_swift.why_missing():
        pytest.skip(f"EdgeCore and the app are NOT checked. {reason}")
    return ios_swift.find_swift()


@pytest.fixture(scope="module")
def cli(swift: Any, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The program that the app's logic is tested with from here."""
    return Cli(swift, check.build_cli(swift), tmp_path_factory.mktemp("cli"))


def write_json(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


# The Xcode project, without Swift


def test_every_reference_asset_and_translation_is_there() -> None:
    assert ios_project.problems(IOS) == []


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Changes one text of a copied project."""

    def change(project: Path) -> None:
        file = project / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    return change


PBXPROJ = "DeiTDemo.xcodeproj/project.pbxproj"
SCHEME = "DeiTDemo.xcodeproj/xcshareddata/xcschemes/DeiTDemo.xcscheme"
PRIVACY = "PrivacyInfo.xcprivacy"
CAMERA = "INFOPLIST_KEY_NSCameraUsageDescription"
PRODUCT = "productRef = ED6E00000000000000000002"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (replace(PBXPROJ, PRODUCT, PRODUCT[:-2] + "FF"), "is named and does not exist"),
        (replace(PBXPROJ, "objectVersion = 77", "objectVersion = 56"), "objectVersion is 56"),
        (replace(PBXPROJ, "archiveVersion = 1;", "archiveVersion = 1"), "';' expected"),
        (replace(PBXPROJ, "path = DeiTDemo;", "path = Demo;"), "folder Demo does not exist"),
        (replace(PBXPROJ, "relativePath = EdgeCore", "relativePath = Core"), "FileNotFoundError"),
        (replace(PBXPROJ, CAMERA, "INFOPLIST_KEY_Other"), "why the app uses the camera"),
        (replace(PBXPROJ, "= AppIcon", "= Icon"), "Icon.appiconset, which does not exist"),
        (replace(PBXPROJ, "TARGET = 17.0", "TARGET = 16.0"), "iOS version is not that"),
        (replace(SCHEME, "ED6E00000000000000000008", "ED6E0"), "there is no target ED6E0"),
        (replace(SCHEME, '"Release"', '"Debug"'), "LaunchAction is not Release"),
        (replace("DeiTDemo/Localizable.xcstrings", '"Foto wählen"', '""'), "not translated to de"),
        (replace("DeiTDemo/Localizable.xcstrings", '"Take photo"', '"Photo"'), "shown nowhere"),
        (replace("DeiTDemo/Screens/ClassifyView.swift", '"Take photo"', '"New"'), "'New' of Clas"),
        (lambda project: (project / "DeiTDemo" / "README.md").touch(), "copied into the app"),
        (lambda project: (project / "DeiTDemo" / PRIVACY).unlink(), "xcprivacy is missing"),
        (
            replace(f"DeiTDemo/{PRIVACY}", "UserDefaults", "DiskSpace"),
            "disagree about UserDefaults",
        ),
        (replace(f"DeiTDemo/{PRIVACY}", "<false/>", "<true/>"), "tracks or collects"),
        (lambda project: (project / ".gitignore").write_text(""), "git does not ignore"),
    ],
)
def test_what_is_broken_is_found(
    tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    project = tmp_path / "ios_demo"
    shutil.copytree(IOS, project, ignore=shutil.ignore_patterns("Bundled", ".build"))
    damage(project)
    assert expected in "\n".join(ios_project.problems(project))


@pytest.mark.parametrize(
    "text", ["{ a = 1; a = 2; }", "{ a = ( b ); }", "{ a = 1; } x", "{ a = ; }", "{ ? }"]
)
def test_a_damaged_property_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        ios_plist.parse(text)


def test_unknown_steps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["everything"]) == 2
    assert "no step everything" in capsys.readouterr().err


def test_what_the_app_says_of_vision_is_what_was_measured() -> None:
    """Of the float file, whatever Vision's filter is."""
    document = (ROOT / "docs" / "mobile.md").read_text(encoding="utf-8")
    table = document.partition("<!-- resizes -->")[2].partition("\n**")[2].partition("\n**")[0]
    shares = re.findall(r"\| Vision [^|]*\| ([\d.]+) %", table)
    assert len(shares) == 2
    assert [round(100 / (100 - float(share))) for share in shares] == [8, 8]
    view = (IOS / "DeiTDemo/Screens/ClassifyView.swift").read_text(encoding="utf-8")
    assert "changed one answer in eight." in view


# Swift


@pytest.mark.slow
def test_core_builds_and_its_own_tests_pass(swift: Any) -> None:
    assert check.check_core().endswith("XCTests passed")


@pytest.mark.slow
def test_the_app_type_checks(swift: Any) -> None:
    assert "type-checked" in check.check_app()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("let units = MLModelConfiguration().computeUnit", "has no member 'computeUnit'"),
        ("let value: Float = try MLMultiArray(shape: [1], dataType: .float32)", "cannot convert"),
        ("let view = Text(verbatim: 3)", "cannot convert value of type 'Int'"),
    ],
)
def test_a_type_error_in_the_app_is_found(cli: Cli, code: str, expected: str) -> None:
    source = cli.swift.build / "Broken.swift"
    source.write_text(
        f"import CoreML\nimport SwiftUI\n@MainActor func broken() throws {{\n{code}\n}}\n"
    )
    with pytest.raises(ios_swift.SwiftFailedError, match=expected):
        check.type_check(cli.swift, [source])


@pytest.fixture(scope="module")
def wide(cli: Cli) -> Iterator[tuple[int, dict[str, Any]]]:
    """How many generated cases were given to one run of the program, and what it found."""
    images = [case.to_json() for case in wide_cases(WIDE_CASES)]
    path = golden_file(cli.folder / "wide.json", images)
    done = cli("golden", GOLDEN / "golden_spec.json", path)
    assert done.stderr == ""
    yield len(images), json.loads(done.stdout)
    path.unlink()


@pytest.mark.slow
def test_generated_photos_are_preprocessed_to_the_bit(wide: tuple[int, dict[str, Any]]) -> None:
    count, found = wide
    assert found["failures"] == []
    assert found["images"] == count >= 200


@pytest.mark.slow
def test_committed_golden_cases_pass(cli: Cli) -> None:
    done = cli("golden", GOLDEN / "golden_spec.json", GOLDEN / "golden_cases.json")
    assert (done.returncode, json.loads(done.stdout)["failures"]) == (0, [])


@pytest.mark.slow
def test_python_reads_the_apps_device_report(cli: Cli) -> None:
    manifest = manifest_of(PreprocessSpec(crop_size=2), ["a", "b"]) | {"sha256": "0" * 64}
    times = {"load_ms": 12.5, "load_warm_ms": 7.5, "first_run_ms": 90, "preprocess_ms": [5, 7]}
    check = {"reference": "a.onnx", "images": 4, "same_top": 3, "cosine": 0.75}
    measured = times | {
        "runner": "Core ML, all",
        "latency_ms": [*range(1, 101)],
        "check": check,
        "notes": {"peak_rss_bytes": "not told"},
    }
    files = [write_json(cli.folder / f"{name}.json", data)
             for name, data in (("manifest", manifest), ("measured", measured))]  # fmt: skip
    done = cli("report", *files)
    assert done.returncode == 0, done.stderr
    path = cli.folder / "device_report.json"
    path.write_text(done.stdout, encoding="utf-8")
    found = read_device_report(path)
    (row,) = found.artefacts
    assert (row.latency_ms_p50, row.runs, row.threads) == (50.5, 100, None)
    assert row.delegate == "onnx"
    assert (row.load_ms, row.load_warm_ms, row.first_run_ms) == (12.5, 7.5, 90)
    assert row.check == ModelCheck(**check)
    assert found.protocol == PROTOCOL
    assert row.residency is None
    plan = [{"processor": name, "weight": weight} for name, weight in
            (("neural_engine", 0.5), ("cpu", 0.125), ("neural_engine", 0.375), ("cpu", None))]  # fmt: skip
    write_json(files[1], measured | {"plan": plan})
    path.write_text(cli("report", *files).stdout, encoding="utf-8")
    (row,) = read_device_report(path).artefacts
    assert row.residency == Residency(2, 0, 2, CostShares(0.125, 0.0, 0.875))
    write_json(files[1], measured | {"plan": []})
    done = cli("report", *files)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Core ML's plan has no operator with a processor" in done.stderr
    write_json(files[1], measured | {"check": None})
    done = cli("report", *files)
    assert (done.returncode, done.stdout) == (2, "")
    assert "check is null and notes do not say why" in done.stderr


@pytest.mark.slow
def test_a_folder_run_finds_what_numpy_finds(cli: Cli) -> None:
    made = manifest_of(PreprocessSpec(crop_size=2), ["a", "b", "c", "d"])
    folder = cli.folder / "folder"
    folder.mkdir()
    done = cli("folder", *folder_run(folder, made))
    assert done.returncode == 0, done.stderr
    assert_folder_run(done.stdout, made)


@pytest.mark.slow
def test_a_wrong_golden_case_fails(cli: Cli) -> None:
    cases = json.loads((GOLDEN / "golden_cases.json").read_text(encoding="utf-8"))
    cases["images"] = cases["images"][:2]
    cases["images"][1]["tensor_sha256"] = "0" * 64
    path = write_json(cli.folder / "wrong.json", cases)
    done = cli("golden", GOLDEN / "golden_spec.json", path)
    assert done.returncode == 1
    names = [failure["name"] for failure in json.loads(done.stdout)["failures"]]
    assert names == [cases["images"][1]["name"]]


def manifest_of(spec: PreprocessSpec, labels: list[str]) -> dict[str, Any]:
    """A manifest as far as EdgeCore reads it."""
    size = spec.crop_size
    return {
        **{"schema": 1, "artefact": "a.onnx", "sha256": "0", "size_bytes": 1, "target": "onnx"},
        **{"backend": "", "precision": "fp32", "model": "deit_tiny", "task": "classification"},
        "weights": {"source": "test", "sha256": "0"},
        "input": {"name": "pixels", "shape": [1, 3, size, size], "dtype": "float32"},
        "output": {"name": "logits", "shape": [1, len(labels)], "dtype": "float32"},
        "preprocessing": spec.to_json(),
        "labels": labels,
    }


BAD_INPUT: list[tuple[list[str], str]] = [
    ([], "usage"),
    (["rank", "absent.json", "logits.f32"], "absent.json cannot be read"),
    (["rank", "text.json", "logits.f32"], "not JSON"),
    (["rank", "m.json", "logits.f32"], "3 values for 2 labels"),
    (["rank", "m.json", "odd.f32"], "whole number of float32"),
    (["rank", "m.json", "nan.f32"], "NaN or infinite"),
    (["preprocess", "m.json", "odd.f32", "2", "2", "1", "out.f32"], "3 bytes a pixel"),
    (["preprocess", "m.json", "odd.f32", "two", "2", "1", "out.f32"], "WIDTH is two"),
    (["preprocess", "m.json", "logits.f32", "2", "2", "9", "out.f32"], "orientation 9"),
    (["golden", "m.json", "absent.json"], "cannot be read"),
    (["bundle", "."], "has no bundle.json"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "expected"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(
    cli: Cli, arguments: list[str], expected: str
) -> None:
    write_json(cli.folder / "m.json", manifest_of(PreprocessSpec(crop_size=2), ["a", "b"]))
    (cli.folder / "text.json").write_text("no JSON")
    np.zeros(3, "<f4").tofile(cli.folder / "logits.f32")
    np.array([0, np.nan], "<f4").tofile(cli.folder / "nan.f32")
    (cli.folder / "odd.f32").write_bytes(b"12345")
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == (6 if not arguments else 1)
    assert not (cli.folder / "out.f32").exists()


# From the photo to the classes


def python(*arguments: object) -> None:
    """`python -m ...`, which must succeed."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def exported(name: str, weights: Path, folder: Path, form: str = "pixels") -> Path:
    """A small classifier for one target, with its manifest."""
    if missing := target(name).missing():
        pytest.skip(f"needs {', '.join(missing)}")
    place = ("--weights", weights, "--output", folder, "--input", form)
    python("edge_deit.export", "--target", name, "--precision", "fp32", *place)
    (path,) = folder.glob(f"*{target(name).suffix}")
    return path


@pytest.fixture(scope="module", params=["pixels", "image"])
def artefact(
    request: pytest.FixtureRequest, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An ONNX file, which Python runs: of pixels and logits, or of bytes and probabilities."""
    return exported("onnx", tiny_weights, tmp_path_factory.mktemp("onnx"), request.param)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pixels", "image"])
def test_the_app_finds_what_bundle_placed(
    form: str, cli: Cli, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pte = exported("executorch", tiny_weights, tmp_path_factory.mktemp("executorch"), form)
    project = cli.folder / "ios_demo"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(IOS, project, ignore=shutil.ignore_patterns("Bundled", ".build"))
    python("edge_deit.bundle", pte, "--ios", project)
    done = cli("bundle", project / "DeiTDemo" / "Bundled")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["artefacts"] == {pte.name: pte.name}
    assert found["labels"] == list(read_manifest(pte).labels)
    assert found["golden"]["failures"] == []
    assert found["golden"]["images"] > 40
    assert ios_project.problems(project) == []


def swift_answer(
    cli: Cli, path: Path, manifest: Manifest, manifest_file: Path, photo: Image.Image
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """What Swift makes of a photo for the model, and Swift's ranking of what that returns."""
    orientation = photo.getexif().get(0x0112, 1)
    raw, made, returned = (cli.folder / name for name in ("photo.rgb", "made", "returned.f32"))
    raw.write_bytes(photo.tobytes())
    done = cli("preprocess", manifest_file, raw, *photo.size, orientation, made)
    assert done.returncode == 0, done.stderr
    source = np.fromfile(made, manifest.input["dtype"]).reshape(manifest.input["shape"])
    target("onnx").load_runner(path, 1)(source)[0].astype("<f4").tofile(returned)
    done = cli("rank", manifest_file, returned)
    assert done.returncode == 0, done.stderr
    return source, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_ends_in_the_same_classes(cli: Cli, artefact: Path, orientation: int) -> None:
    manifest = read_manifest(artefact)
    manifest_file = cli.folder / "manifest.json"
    shutil.copy(artefact.with_name(artefact.name + ".json"), manifest_file)
    file = cli.folder / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(hash_pixels(301, 200, seed=orientation, block=20)).save(file, exif=exif)
    contract = Contract.of(manifest)
    pixels = load_pixels(file, manifest.preprocess_spec)
    runner = contract.wrap(target("onnx").load_runner(artefact, 1))
    logits = logits_of(runner, pixels, manifest.artefact, manifest.labels)
    expected = [asdict(one) for one in rank(logits, manifest.labels, 5)]
    with Image.open(file) as photo:
        source, found = swift_answer(cli, artefact, manifest, manifest_file, photo)
    assert source.tobytes() == contract.input_of(pixels).tobytes()
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["index"] for row in found] == [row["index"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        close = 1e-6 if contract.probabilities else 1e-12  # NumPy's float32 logarithm is a bit off
        assert row["probability"] == pytest.approx(other["probability"], abs=close)
        off = abs(float(np.float32(row["logit"])) - float(np.float32(other["logit"])))
        assert off <= (1e-6 if contract.probabilities else 0)
