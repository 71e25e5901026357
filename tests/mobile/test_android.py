"""The Android demo, checked on a computer: its core against Python, the app against Android's API.

tools/mobile/android/check.py does the work; what it needs is brought by setup.sh beside it.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_examples import assert_folder_run, folder_run
from golden_examples import golden_file, ported_images
from PIL import Image

from conftest import ROOT, CommandLine
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import Manifest, manifest_path, read_manifest
from edge_deit.artefacts.predict import rank
from edge_deit.artefacts.runners import logits_of
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.exporters import target
from edge_deit.mobile.golden_images import ImageCase
from edge_deit.report.device_records import PROTOCOL, ModelCheck
from edge_deit.report.device_report import read_device_report

PROJECT = ROOT / "android_demo"
TOOLS = ROOT / "tools/mobile/android"
MAIN = PROJECT / "app/src/main"
pytestmark = pytest.mark.xdist_group("android")  # one build of the core serves all
GOLDEN = ROOT / "tests/golden"
RUNTIMES = ("tflite", "executorch")
FORMS = ("pixels", "image")
TOP = 5

Check = Callable[..., subprocess.CompletedProcess[str]]


def run_check(build: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "check.py"), "--build", str(build)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The core compiled and tested, once: (folder of what was built, what was printed)."""
    build = tmp_path_factory.mktemp("android")
    done = run_check(build, "core")
    if done.returncode == 2:
        pytest.skip(f"the Android demo is NOT checked: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    return build, done.stdout


@pytest.fixture
def check(core: tuple[Path, str]) -> Check:
    """Runs steps of check.py beside the compiled core."""
    return lambda *arguments: run_check(core[0], *arguments)


# The core


@pytest.mark.slow
def test_unit_tests_ran(core: tuple[Path, str]) -> None:
    found = {
        word: int(number)
        for number, word in re.findall(r"\[ +(\d+) tests (found|successful|skipped)", core[1])
    }
    assert found["found"] == found["successful"] > 20
    assert found["skipped"] == 0
    assert "every golden case passes() ✔" in core[1]


@pytest.mark.slow
def test_preprocessing_is_pythons_bit_for_bit(check: Check, tmp_path: Path) -> None:
    """240 generated photos, then photos of phones' sizes at a real model's, in one process."""
    images = ported_images(240)
    cases = golden_file(tmp_path / "cases.json", images)
    done = check("run", "golden", GOLDEN / "golden_spec.json", cases)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(images)} passed, 0 failed\n"


@pytest.mark.slow
def test_one_wrong_bit_is_found(check: Check, tmp_path: Path) -> None:
    case = ImageCase("photo", 9, 7, PreprocessSpec(resize_size=8, crop_size=8)).to_json()
    wrong = {**case, "name": "other seed", "pixels": {"hash": {"seed": 1, "block": 1}}}
    cases = golden_file(tmp_path / "cases.json", [case, wrong])
    done = check("run", "golden", GOLDEN / "golden_spec.json", cases)
    assert done.returncode == 1
    assert re.match(r"IMAGE other seed: the tensor differs; value \d+ is .*\n1 passed", done.stdout)


@pytest.mark.slow
def test_bad_input_is_one_line(check: Check, tmp_path: Path) -> None:
    broken = tmp_path / "m.json"
    broken.write_text('{"schema": 2}', encoding="utf-8")
    for arguments, message in (
        (["rank", broken, tmp_path / "none.f32"], "schema is 2; it must be 1"),
        (["rank", tmp_path / "absent.json", broken], "absent.json"),
        (["preprocess", broken, broken, "1", "x", "1", tmp_path / "out"], "x is no whole number"),
    ):
        done = check("run", *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert message in done.stderr


@pytest.mark.slow
def test_a_folder_run_finds_what_numpy_finds(check: Check, tmp_path: Path) -> None:
    name = "tiny.fp32.tflite"
    made = json.loads((GOLDEN / "golden_spec.json").read_text(encoding="utf-8"))
    made |= {"artefact": name, "sha256": "0" * 64, "size_bytes": 1, "target": "tflite"}
    made |= {"backend": "xnnpack", "precision": "fp32", "task": "classification"}
    done = check("run", "folder", *folder_run(tmp_path, made))
    assert done.returncode == 0, done.stderr
    assert_folder_run(done.stdout, made)


# From a photo to an answer


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """A tiny model for each of the app's runtimes that can be had here, in both forms."""
    folder = tmp_path_factory.mktemp("artefacts")
    for name, form in product(RUNTIMES, FORMS):
        if not target(name).missing():
            command = [sys.executable, "-m", "edge_deit.export", "--precision", "fp32"]
            command += ["--target", name, "--weights", str(tiny_weights), "--output", str(folder)]
            command += ["--input", form]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            assert done.returncode == 0, done.stderr
    return folder


def artefact_of(folder: Path, name: str, form: str) -> Path:
    """The file of pixels and logits, or that of bytes and probabilities."""
    if missing := target(name).missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    mark = ".image" if form == "image" else ""
    (path,) = folder.glob(f"*.fp32{mark}{target(name).suffix}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RUNTIMES)
def test_kotlin_around_the_runner_answers_like_predict(
    name: str,
    form: str,
    orientation: int,
    check: Check,
    artefacts: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    artefact = artefact_of(artefacts, name, form)
    manifest = read_manifest(artefact)
    contract = Contract.of(manifest)
    assert contract.image == contract.probabilities == (form == "image")
    with Image.open(photos / "dog/3.png") as stored:
        exif = stored.getexif()
        exif[0x0112] = orientation
        stored.save(tmp_path / "photo.png", exif=exif)
        width, height = stored.size
        (tmp_path / "photo.rgb").write_bytes(stored.convert("RGB").tobytes())
    words = [tmp_path / "photo.rgb", width, height, orientation, tmp_path / "made"]
    done = check("run", "preprocess", manifest_path(artefact), *words)
    assert done.returncode == 0, done.stderr
    pixels = load_pixels(tmp_path / "photo.png", manifest.preprocess_spec)
    expected = contract.input_of(pixels)
    made = np.fromfile(tmp_path / "made", expected.dtype).reshape(manifest.input["shape"])
    assert np.array_equal(made, expected)
    runner = target(name).load_runner(artefact, 1)
    np.asarray(runner(made), "<f4").tofile(tmp_path / "returned.f32")
    done = check("run", "rank", manifest_path(artefact), tmp_path / "returned.f32")
    assert done.returncode == 0, done.stderr
    logits = logits_of(contract.wrap(runner), pixels, manifest.artefact, manifest.labels)
    ranked = [asdict(one) for one in rank(logits, manifest.labels, TOP)]
    assert_same_answer(json.loads(done.stdout), ranked, manifest)


def assert_same_answer(
    actual: list[dict[str, Any]], expected: list[dict[str, Any]], manifest: Manifest
) -> None:
    assert len(actual) == len(expected) == TOP
    for mine, theirs in zip(actual, expected, strict=True):
        assert (mine["index"], mine["label"]) == (theirs["index"], theirs["label"])
        if Contract.of(manifest).probabilities:  # NumPy's float32 logarithm is a bit off
            assert mine["logit"] == pytest.approx(theirs["logit"], abs=1e-6)
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-6)
        else:
            assert mine["logit"] == theirs["logit"]
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-12)
        assert mine["label"] == manifest.labels[mine["index"]]


@pytest.mark.slow
def test_the_core_reads_what_the_bundle_command_writes(
    check: Check, artefacts: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    chosen = [artefact_of(artefacts, name, form) for name in RUNTIMES for form in FORMS]
    project = tmp_path / "android_demo"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("build", "assets"))
    done = command_line("bundle", *chosen, "--android", project)
    assert done.returncode == 0, done.stderr
    folder = project / "app/src/main/assets/edge_deit"
    done = check("run", "bundle", folder)
    assert done.returncode == 0, done.stderr
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == {c.name for c in chosen}
    done = check("run", "golden", folder / "golden_spec.json", folder / "golden_cases.json")
    assert done.returncode == 0, done.stdout
    with (folder / chosen[0].name).open("r+b") as stream:
        stream.write(b"damaged!")
    done = check("run", "bundle", folder)
    assert (done.returncode, done.stderr) == (2, f"error: {chosen[0].name} is damaged\n")


@pytest.mark.slow
def test_python_reads_the_apps_device_report(core: tuple[Path, str]) -> None:
    report = read_device_report(core[0] / "device_report.json")
    assert report.app.name == "edge-deit-android"
    assert report.device.soc is None
    (row,) = report.artefacts
    assert (row.latency_ms_p50, row.runs, row.threads) == (50.5, 100, 4)
    assert row.delegate == "XNNPACK"
    assert (row.load_ms, row.load_warm_ms, row.first_run_ms) == (12.5, 7.5, 90.0)
    assert (report.app.build, report.protocol) == ("release", PROTOCOL)
    assert row.check == ModelCheck("tiny.fp32.onnx", 4, 3, 0.75)
    assert row.peak_rss_bytes == 123456789012


# The app


@pytest.mark.slow
def test_the_app_type_checks_against_the_official_api(check: Check) -> None:
    done = check("app")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wrong_call_is_found(core: tuple[Path, str], tmp_path: Path) -> None:
    """The stub jar is strict: an unknown member, a wrong type and an unsafe null are errors."""
    project = tmp_path / "android_demo"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("build", "assets", "*.kt"))
    wrong = project / "app/src/main/kotlin/Wrong.kt"
    lines = [
        "package org.edgedeit.demo",
        "fun a(activity: android.app.Activity) = activity.setContentView(1.5)",
        "fun b(activity: android.app.Activity) = activity.enableEdgeToEdge()",
        "fun c(state: android.os.Bundle) = state.getString(null).length",
        'fun d(engine: com.google.ai.edge.litert.TensorBuffer) = engine.writeFloat("x")',
        "fun e() = getString(R.string.absent)",
    ]
    wrong.write_text("\n".join(lines) + "\n", encoding="utf-8")
    build = tmp_path / "build"
    shutil.copytree(core[0] / "core", build / "core")
    done = run_check(build, "--project", project, "app")
    assert done.returncode == 1
    found = {int(line) for line in re.findall(r"Wrong\.kt:(\d+):\d+: error", done.stderr)}
    assert found == {2, 3, 4, 5, 6}, done.stderr


@pytest.mark.slow
def test_kotlin_style(check: Check) -> None:
    done = check("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def strings(folder: str) -> dict[str, list[str]]:
    """Name -> the placeholders of each of its texts, in order."""
    root = ElementTree.parse(MAIN / f"res/{folder}/strings.xml").getroot()  # noqa: S314 - our own file
    texts = {e.attrib["name"]: list(e) or [e] for e in root}
    pattern = r"%(?:\d\$)?[.\d]*[a-z%]"
    return {
        name: [",".join(sorted(re.findall(pattern, part.text or ""))) for part in parts]
        for name, parts in texts.items()
    }


def test_every_text_is_there_in_both_languages_and_used() -> None:
    english, german = strings("values"), strings("values-de")
    assert english == german
    sources = [*MAIN.rglob("*.kt"), *MAIN.rglob("layout/*.xml"), MAIN / "AndroidManifest.xml"]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    used = set(re.findall(r"(?:R\.(?:string|plurals)\.|@string/)(\w+)", text))
    assert used == english.keys()


def test_versions_agree() -> None:
    """The app's runtimes are those that the exporters were tested with."""
    catalogue = tomllib.loads((PROJECT / "gradle/libs.versions.toml").read_text(encoding="utf-8"))
    versions = catalogue["versions"]
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    assert f"ai-edge-litert=={versions['litert']}" in extras["tflite"]
    assert f"executorch=={versions['executorch']}" in extras["executorch"]
    npm = json.loads((TOOLS / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((TOOLS / "package-lock.json").read_text(encoding="utf-8"))
    assert npm["kotlin-compiler"] == versions["kotlin"]
    assert locked["packages"][""]["dependencies"] == npm


# The compile-only android.jar

API = """// Signature format: 2.0
package a.b {

  public abstract class Box<T extends java.util.List<? super T>> implements a.b.Lid java.io.Closeable {
    ctor public Box(@NonNull String, int...);
    method @Nullable public final T get(java.util.Map<java.lang.String,T[]>) throws java.io.IOException;
    method protected abstract void shut();
    field public static final int SIZE = 7; // 0x7
    field public static final String TEXT = "a;\\u00e4 = 1";
  }

  public static class Box.Part {
    ctor public Box.Part();
  }

  public interface Lid {
    method public default long close(double, boolean);
    method public a.b.Box.Part part();
  }

}
"""


@pytest.fixture
def stub_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a jar of API texts with the project's own script."""
    monkeypatch.syspath_prepend(str(TOOLS))
    script = importlib.import_module("api_stub_jar")

    def make(*texts: str) -> Path:
        files = [tmp_path / f"{index}.txt" for index in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        assert script.main([str(tmp_path / "a.jar"), *map(str, files)]) == 0
        return tmp_path / "a.jar"

    return make


def members(jar: Path, name: str) -> list[str]:
    """What the JDK's own reader of class files sees."""
    if shutil.which("javap") is None:
        pytest.skip(
            "javap is missing; it comes with a JDK: apt-get install openjdk-17-jdk-headless"
        )
    command = ["javap", "-protected", "-constants", "-cp", str(jar), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines() if line != "}"]


def test_a_stub_class_is_what_the_text_says(stub_jar: Callable[..., Path]) -> None:
    jar = stub_jar(API)
    assert members(jar, "a.b.Box") == [
        "public abstract class a.b.Box<T extends java.util.List<? super T>>"
        " implements a.b.Lid, java.io.Closeable {",
        "public static final int SIZE = 7;",
        'public static final java.lang.String TEXT = "a;\\u00e4 = 1";',
        "public a.b.Box(java.lang.String, int...);",
        "public final T get(java.util.Map<java.lang.String, T[]>) throws java.io.IOException;",
        "protected abstract void shut();",
    ]
    assert members(jar, "a.b.Lid") == [
        "public interface a.b.Lid {",
        "public default long close(double, boolean);",
        "public abstract a.b.Box$Part part();",
    ]


def test_additions_join_a_class_and_never_repeat_it(
    stub_jar: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = "    field public static final int NEW = 1;\n"
    more = f"package a.b {{\n\n  public interface Lid {{\n{member}  }}\n\n}}\n"
    assert "public static final int NEW = 1;" in members(stub_jar(API, more), "a.b.Lid")
    script = importlib.import_module("api_stub_jar")
    files = [tmp_path / "0.txt", tmp_path / "1.txt", tmp_path / "1.txt"]
    assert script.main([str(tmp_path / "b.jar"), *map(str, files)]) == 2
    assert "a.b.Lid.NEW is in the API already" in capsys.readouterr().err
    assert not (tmp_path / "b.jar").exists()
