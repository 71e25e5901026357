"""Bundles: what an app gets, what is refused, and that a failed or interrupted run changes nothing."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import CommandLine
from edge_deit import __version__, bundle
from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.manifest import Manifest, manifest_path, read_manifest, write_manifest
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, size_of
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import RUNTIMES, Runner, runtime_of
from edge_deit.exporters import target as find_target
from edge_deit.mobile import bundle as writing
from edge_deit.mobile import replace as exchanging
from edge_deit.mobile.deliveries import Delivery
from source_tree import ROOT

ANDROID, IOS, WEB = "app/src/main/assets/edge_deit", "DeiTDemo/Bundled", "edge_deit"
LABELS = ["Übergröße", "b", "c"]


@dataclass
class Place:
    """A project of each kind and a folder of made-up artefacts."""

    root: Path

    @property
    def android(self) -> Path:
        return self.root / "android"

    @property
    def ios(self) -> Path:
        return self.root / "ios"

    @property
    def web(self) -> Path:
        return self.root / "web"

    def artefact(self, name: str, target: str = "tflite", **changes: Any) -> Path:
        path = self.root / "out" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".mlpackage"):
            (path / "Data" / "weights").mkdir(parents=True)
            (path / "Data" / "weights" / "w.bin").write_bytes(b"weights")
            table = {"itemInfoEntries": {"1": {"path": "weights"}}}
            (path / "Manifest.json").write_text(json.dumps(table))
        else:
            path.write_bytes(name.encode())
        write_manifest(made_up(path, target, **changes), manifest_path(path))
        return path

    def files(self) -> dict[str, bytes]:
        """Everything in the projects, hidden folders too."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes() if path.is_file() else b""
            for project in (self.android, self.ios, self.web)
            for path in project.rglob("*")
        }


def made_up(path: Path, target: str, **changes: Any) -> Manifest:
    manifest = Manifest(
        schema=1,
        artefact=path.name,
        sha256=hash_path(path),
        size_bytes=size_of(path),
        target=target,
        backend=find_target(target).backends[0],
        precision="fp32",
        model="deit_tiny",
        task="classification",
        config={"image_size": 32},
        weights={"source": "w.safetensors", "sha256": "1" * 64},
        input={"name": "pixels", "shape": [1, 3, 32, 32], "dtype": "float32", "layout": "NCHW"},
        output={"name": "logits", "shape": [1, 3], "dtype": "float32"},
        preprocessing=PreprocessSpec(resize_size=36, crop_size=32).to_json(),
        labels=LABELS,
        scheme={"precision": "fp32"},
        calibration=None,
        parity={},
        tools={},
    )
    return replace(manifest, **changes)


def fake_runner(artefact: Artefact, threads: int) -> AbstractContextManager[Runner]:
    """Logits that tell the file apart; real runtimes have their own tests."""
    name = artefact.path.name
    return nullcontext(lambda pixels: np.float32([[len(name), threads, pixels.mean()]]))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "android" / "app" / "src" / "main").mkdir(parents=True)
    (tmp_path / "ios" / "DeiTDemo").mkdir(parents=True)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<!doctype html>")
    for name, module in RUNTIMES.items():
        stand_in = "a stand-in" if name == "coreml" else None
        fake = replace(
            runtime_of(name),
            modules=(),
            runs_on=lambda said=stand_in: said,
        )
        monkeypatch.setattr(importlib.import_module(module), "RUNTIME", fake)
    monkeypatch.setattr(writing, "open_runner", fake_runner)
    return Place(tmp_path)


def call(*arguments: object) -> str:
    """What the command prints; its EdgeDeitError is raised."""
    done = CliRunner().invoke(bundle.app, [str(part) for part in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


# What an app gets


def test_both_apps_get_what_they_can_run(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    lite = place.artefact("a.int8.tflite", precision="int8")
    torch = place.artefact("a.fp32.pte", "executorch")
    core = place.artefact("a.fp16.mlpackage", "coreml", precision="fp16")
    bundle.bundle([core, lite, torch], android=place.android, ios=place.ios, threads=1)
    said = capsys.readouterr().out
    golden = {"golden_spec.json", "golden_cases.json", "labels.txt", "bundle.json"}
    for folder, files, engines in (
        (place.android / ANDROID, [lite, torch], ("LiteRT", "ExecuTorch")),
        (place.ios / IOS, [core, torch], ("Core ML", "ExecuTorch, XNNPACK")),
    ):
        names = {path.name for path in files} | {manifest_path(path).name for path in files}
        assert {path.name for path in folder.iterdir()} == names | golden
        assert [entry["file"] for entry in read(folder, "bundle.json")["artefacts"]] == [
            path.name for path in files
        ]
        for path in files:
            assert read_manifest(folder / path.name) == read_manifest(path)
        assert (folder / "labels.txt").read_text(encoding="utf-8") == "Übergröße\nb\nc\n"
        assert all(engine in said for engine in engines)
        assert f"{size_of(folder) / 1e6:.1f} MB" in said
    assert list(place.android.rglob(".edge_deit-*")) == list(place.ios.rglob(".Bundled-*")) == []
    assert "a.fp16.mlpackage: a stand-in" in said


def test_the_page_gets_what_a_browser_runs(place: Place) -> None:
    onnx = place.artefact("a.int8.onnx", "onnx", precision="int8")
    lite, torch = place.artefact("a.fp32.tflite"), place.artefact("a.fp32.pte", "executorch")
    said = call(onnx, lite, torch, "--web", place.web, "--android", place.android)
    listed = {
        folder: [entry["file"] for entry in read(folder, "bundle.json")["artefacts"]]
        for folder in (place.web / WEB, place.android / ANDROID)
    }
    assert list(listed.values()) == [[onnx.name, lite.name], [lite.name, torch.name]]
    assert "onnxruntime-web" in said
    assert "LiteRT.js" in said
    assert "web app, deit_tiny, 3 classes" in said


def other_form(place: Place) -> Path:
    """A file that takes a photo's bytes and returns probabilities."""
    source = {"name": "image", "shape": [1, 32, 32, 3], "dtype": "uint8", "layout": "NHWC"}
    returned = {"name": "probabilities", "shape": [1, 3], "dtype": "float32"}
    return place.artefact("a.fp32.image.tflite", input=source, output=returned)


def test_the_page_takes_every_form_of_file(place: Place) -> None:
    path = other_form(place)
    call(path, "--web", place.web)
    assert read(place.web / WEB, "golden_spec.json")["input"]["dtype"] == "uint8"


def test_bundle_json_is_the_contract(place: Place) -> None:
    path = place.artefact("a.int8.tflite", precision="int8")
    call(path, "--android", place.android)
    assert read(place.android / ANDROID, "bundle.json") == {
        "schema": 1,
        "created_by": f"edge-deit {__version__}",
        "artefacts": [
            {
                "file": "a.int8.tflite",
                "manifest": "a.int8.tflite.json",
                "sha256": hash_path(path),
                "size_bytes": len("a.int8.tflite"),
                "target": "tflite",
                "precision": "int8",
                "model": "deit_tiny",
            }
        ],
    }


def test_golden_logits_come_from_a_real_runtime_where_there_is_one(place: Place) -> None:
    core = place.artefact("a.fp16.mlpackage", "coreml")
    torch = place.artefact("a.fp32.pte", "executorch")
    call(core, torch, "--ios", place.ios, "--threads", 1)
    spec, cases = (read(place.ios / IOS, f"golden_{name}.json") for name in ("spec", "cases"))
    assert spec["artefact"] == torch.name
    assert spec["artefact_sha256"] == hash_path(torch)
    assert cases["classification"][0]["logits"][:2] == [len(torch.name), 1]
    answers = [case for case in cases["classification"] if case["image"] is not None]
    assert {case["artefact"] for case in answers} == {core.name, torch.name}
    for case in answers:
        assert case["logits"][0] == len(case["artefact"])


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs the Core ML delegate itself")
def test_a_package_in_a_file_is_a_stand_in(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    apple = place.artefact("a.fp32-coreml.pte", "executorch", backend="coreml")
    bundle.bundle([apple], ios=place.ios, threads=1)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "a.fp32-coreml.pte: the Core ML delegate runs only on macOS and iOS; the package" in printed
    )
    assert read(place.ios / IOS, "golden_spec.json")["artefact"] == apple.name


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs the Core ML delegate itself")
def test_what_cannot_run_here_takes_the_logits_of_another(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(RUNTIMES["coreml"])
    monkeypatch.setattr(module, "RUNTIME", replace(module.RUNTIME, modules=("no_such.part",)))
    apple = place.artefact("a.fp32-coreml.pte", "executorch", backend="coreml")
    lite = place.artefact("a.fp32.tflite")
    bundle.bundle([apple, lite], android=place.android, ios=place.ios, threads=1)
    printed = " ".join(capsys.readouterr().out.split())
    assert "a.fp32-coreml.pte was not run: the reference for Core ML is not installed" in printed
    for folder in (place.android / ANDROID, place.ios / IOS):
        assert read(folder, "golden_spec.json")["artefact"] == lite.name
    assert not (place.ios / IOS / lite.name).exists()
    with pytest.raises(
        EdgeDeitError, match=r"coreml\.pte was not run: .*add an artefact of the sa"
    ):
        call(apple, "--ios", place.ios)


def test_files_of_images_go_where_the_others_go(place: Place) -> None:
    """Two files of one model that take and return different things share an app."""
    image = {
        "input": {"name": "image", "shape": [1, 32, 32, 3], "dtype": "uint8", "layout": "NHWC"},
        "output": {"name": "probabilities", "shape": [1, 3], "dtype": "float32"},
    }
    files = [
        place.artefact("a.int8.image.tflite", **image),
        place.artefact("a.fp16.image.mlpackage", "coreml", **image),
        place.artefact("a.int8.pte", "executorch"),
    ]
    call(*files, "--android", place.android, "--ios", place.ios)
    for folder, expected in ((ANDROID, files[::2]), (IOS, files[1:])):
        root = (place.android if folder == ANDROID else place.ios) / folder
        entries = read(root, "bundle.json")["artefacts"]
        assert [entry["file"] for entry in entries] == [path.name for path in expected]


def test_a_new_bundle_replaces_the_former_one(place: Place) -> None:
    folder = place.ios / IOS
    folder.mkdir()
    (folder / ".gitkeep").write_text("kept")
    call(place.artefact("a.fp16.mlpackage", "coreml"), "--ios", place.ios)
    new = place.artefact("b.fp16.mlpackage", "coreml")
    call(new, "--ios", place.ios)
    assert not (folder / "a.fp16.mlpackage").exists()
    assert hash_path(folder / new.name) == hash_path(new)
    assert (folder / ".gitkeep").read_text() == "kept"
    call(folder / new.name, "--ios", place.ios)  # its own content, once more
    assert hash_path(folder / new.name) == hash_path(new)


# What is refused

Case = Callable[[Place], list[object]]


def with_path(place: Place) -> Path:
    """An artefact whose manifest was edited so that its name leaves the folder."""
    path = place.artefact("a.tflite")
    found = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(found | {"artefact": "../a.tflite"}))
    return path


def renamed(place: Place) -> Path:
    path = place.artefact("a.tflite")
    manifest_path(path).rename(path.with_name("b.tflite.json"))
    return path.rename(path.with_name("b.tflite"))


def named_outside(place: Place) -> Path:
    path = place.artefact("a.mlpackage", "coreml")
    table = {"itemInfoEntries": {"1": {"path": "../../secret"}}}
    (path / "Manifest.json").write_text(json.dumps(table))
    write_manifest(made_up(path, "coreml"), manifest_path(path))
    return path


def linked(place: Place) -> Path:
    path = place.artefact("a.mlpackage", "coreml")
    (path / "Data" / "link").symlink_to("/etc/hostname")
    return path


def changed(place: Place) -> Path:
    path = place.artefact("a.tflite")
    path.write_bytes(b"other")
    return path


def foreign(place: Place) -> Path:
    folder = place.android / ANDROID
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    return place.artefact("a.tflite")


def two(place: Place, **changes: Any) -> list[object]:
    first, second = place.artefact("a.tflite"), place.artefact("b.tflite", **changes)
    return [first, second, "--android", place.android]


def in_two_folders(place: Place) -> list[object]:
    shutil.copytree(place.artefact("a.tflite").parent, place.root / "again")
    return [*place.root.glob("*/a.tflite"), "--android", place.android]


REFUSED: dict[str, tuple[Case, str]] = {
    "no project": (
        lambda p: [p.artefact("a.tflite")],
        "add --android DIR or --ios DIR or --web DIR",
    ),
    "no threads": (
        lambda p: [p.artefact("a.tflite"), "--android", p.android, "--threads", 0],
        "--threads is 0",
    ),
    "no such project": (
        lambda p: [p.artefact("a.tflite"), "--android", p.root / "android/app"],
        "app is no Android project: it has no app/src/main",
    ),
    "the other project": (
        lambda p: [p.artefact("a.fp16.mlpackage", "coreml"), "--ios", p.android],
        "is no iOS project: it has no DeiTDemo",
    ),
    "missing artefact": (lambda p: [p.root / "no.tflite", "--ios", p.ios], "does not exist"),
    "folder of artefacts": (
        lambda p: [p.artefact("a.tflite").parent, "--android", p.android],
        "does not exist",
    ),
    "changed artefact": (lambda p: [changed(p), "--android", p.android], "sha256 differs"),
    "renamed artefact": (lambda p: [renamed(p), "--android", p.android], "exported as 'a.tflite'"),
    "name with a path": (
        lambda p: [with_path(p), "--android", p.android],
        r'artefact is "\.\./a\.tflite"; it must be a file name without folders',
    ),
    "target": (
        lambda p: [p.artefact("a.onnx", "onnx"), "--android", p.android],
        r"made for onnx \(cpu\), which the app cannot run; export for Android: --target tflite",
    ),
    "backend": (
        lambda p: [p.artefact("a.pte", "executorch", backend="coreml"), "--android", p.android],
        r"made for executorch \(coreml\), which the app cannot run",
    ),
    "page": (
        lambda p: [p.artefact("a.tflite"), "--web", p.android],
        r"is no web project: it has no index\.html; --web takes the project's top folder",
    ),
    "ExecuTorch in a browser": (
        lambda p: [p.artefact("a.pte", "executorch"), "--web", p.web],
        r"a\.pte is made for executorch \(xnnpack\), which the app cannot run; "
        "export for web: --target onnx --backend cpu, --target tflite --backend xnnpack",
    ),
    "Core ML in a browser": (
        lambda p: [p.artefact("a.fp16.mlpackage", "coreml"), "--web", p.web],
        r"mlpackage is made for coreml \(mlprogram\), which the app cannot run; export for web",
    ),
    "nothing for one app": (
        lambda p: [p.artefact("a.tflite"), "--android", p.android, "--ios", p.ios],
        "nothing for --ios; export for iOS: --target coreml",
    ),
    "features": (
        lambda p: [p.artefact("a.tflite", task="features"), "--android", p.android],
        "returns features, not classes",
    ),
    "several photos at once": (
        lambda p: [
            p.artefact(
                "a.tflite", input={"name": "x", "shape": [4, 3, 32, 32], "dtype": "float32"}
            ),
            *("--android", p.android),
        ],
        "takes 4 photos at once .*, and the apps classify one at a time",
    ),
    "number of classes": (
        lambda p: [p.artefact("a.tflite", labels=["a"]), "--android", p.android],
        "returns 3 values for 1 labels",
    ),
    "weights": (
        lambda p: two(p, weights={"source": "w", "sha256": "2" * 64}),
        "different weights; bundle artefacts of one checkpoint",
    ),
    "labels": (lambda p: two(p, labels=["a", "b", "c"]), "different labels"),
    "preprocessing": (
        lambda p: two(p, preprocessing=PreprocessSpec(crop_size=32).to_json()),
        "different preprocessing",
    ),
    "same name": (in_two_folders, "two artefacts are called a.tflite"),
    "link": (lambda p: [linked(p), "--ios", p.ios], "link is no plain file"),
    "path in the package": (
        lambda p: [named_outside(p), "--ios", p.ios],
        r"names '\.\./\.\./secret', outside its folder",
    ),
    "foreign files": (
        lambda p: [foreign(p), "--android", p.android],
        r"holds files that no bundle wrote \(mine\.txt\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_change_nothing(name: str, place: Place) -> None:
    case, message = REFUSED[name]
    arguments = case(place)
    before = place.files()
    with pytest.raises(EdgeDeitError, match=message) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    assert place.files() == before


def test_logits_that_are_not_finite_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = nullcontext(lambda _: np.float32([[1, np.nan, 2]]))
    monkeypatch.setattr(writing, "open_runner", lambda artefact, threads: broken)
    with pytest.raises(EdgeDeitError, match=r"a\.tflite returned NaN or infinite"):
        call(place.artefact("a.tflite"), "--android", place.android)
    assert not (place.android / "app/src/main/assets").exists()


def test_missing_runtime_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(RUNTIMES["tflite"])
    absent = replace(module.RUNTIME, modules=("no_such.part",), older="none_such")
    monkeypatch.setattr(module, "RUNTIME", absent)
    said = r"a\.tflite was not run: LiteRT is not installed: pip install 'edge-deit\[runtime\]'"
    with pytest.raises(EdgeDeitError, match=said):
        call(place.artefact("a.tflite"), "--android", place.android)


# Where no project is


@pytest.mark.parametrize("there", ["nothing", "an empty folder"])
def test_a_project_is_made_from_the_template(there: str, place: Place) -> None:
    new = place.root / "my apps" / "android"
    if there != "nothing":
        new.mkdir(parents=True)
    call(place.artefact("a.tflite"), "--android", new, "--web", place.root / "page")
    for project, folder in ((new, "android_demo"), (place.root / "page", "web_demo")):
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "."], capture_output=True, check=True, cwd=ROOT / folder
        )
        wanted = {name for name in os.fsdecode(tracked.stdout).split("\0") if name}
        made = {str(f.relative_to(project)) for f in project.rglob("*") if f.is_file()}
        bundled = {name for name in made if "edge_deit/" in name}
        assert made - bundled == wanted
        assert {"a.tflite", "bundle.json"} < {Path(name).name for name in bundled}
    assert os.access(new / "gradlew", os.X_OK)
    call(place.artefact("b.tflite"), "--android", new)  # now it is one like any other
    assert not (new / "app/src/main/assets/edge_deit/a.tflite").exists()


def test_no_project_is_made_by_a_bundle_that_fails(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path, **options: Any) -> Path:
        raise OSError(28, "No space left on device", str(target))

    artefact, before = place.artefact("a.tflite"), set(place.root.iterdir())
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(EdgeDeitError, match="cannot be written"):
        call(artefact, "--android", place.root / "deep/new")
    assert set(place.root.iterdir()) == before


def test_two_new_projects_lie_apart(place: Place) -> None:
    files = place.artefact("a.tflite"), place.artefact("a.fp16.mlpackage", "coreml")
    new = place.root / "new"
    with pytest.raises(EdgeDeitError, match="one in the other"):
        call(*files, "--android", new, "--ios", new / "ios")
    assert not new.exists()


# What goes wrong half-way


def failing(kind: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one step of the next run fail: a copy, or the second rename of the swap."""
    real_copy, real_rename = shutil.copyfile, Path.rename

    def cut(source: Path, target: Path, **options: Any) -> Path:
        real_copy(source, target, **options)
        if str(target).endswith(".tflite"):
            target.write_bytes(b"cut")
        return target

    def full(source: Path, target: Path, **options: Any) -> Path:
        raise OSError(28, "No space left on device", str(target))

    def stop(path: Path, target: Path) -> Path:
        if path.name == "new":
            if kind == "interrupt":
                signal.raise_signal(signal.SIGINT)
            raise OSError(5, "Input/output error", str(path))
        return real_rename(path, target)

    if kind in ("cut", "full"):
        monkeypatch.setattr(shutil, "copyfile", cut if kind == "cut" else full)
    else:
        monkeypatch.setattr(exchanging, "_exchange_at_once", lambda new, place: errno.ENOSYS)
        monkeypatch.setattr(Path, "rename", stop)


@pytest.mark.parametrize("former", [True, False], ids=["with a former set", "first"])
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("cut", EdgeDeitError, "sha256 differs"),
        ("full", EdgeDeitError, "the project is as before: .*No space left"),
        ("rename", EdgeDeitError, "the project is as before: .*Input/output"),
        ("interrupt", KeyboardInterrupt, None),
    ],
)
def test_failures_keep_the_former_set(
    kind: str,
    error: type[BaseException],
    message: str | None,
    former: bool,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place.android / "app/src/main/assets").mkdir()
    if former:
        call(place.artefact("a.tflite"), "--android", place.android)
    before = place.files()
    failing(kind, place, monkeypatch)
    with pytest.raises(error, match=message):
        bundle.bundle([place.artefact("b.tflite")], android=place.android, ios=None, threads=1)
    assert place.files() == before


def test_a_failure_in_one_project_leaves_the_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.artefact("a.pte", "executorch")
    call(path, "--android", place.android, "--ios", place.ios)
    before = place.files()
    real = writing._stage  # the second project's copy fails when the first is complete

    def stage(delivery: Delivery, *rest: Any) -> Any:
        if delivery.platform.name == "iOS":
            raise EdgeDeitError("no")
        return real(delivery, *rest)

    monkeypatch.setattr(writing, "_stage", stage)
    new = place.artefact("b.pte", "executorch")
    with pytest.raises(EdgeDeitError, match="no"):
        call(new, "--android", place.android, "--ios", place.ios)
    assert place.files() == before


# The command, with real files


@pytest.mark.slow
def test_from_weights_to_app(
    tmp_path: Path, tiny_weights: Path, photos: Path, command_line: CommandLine
) -> None:
    if missing := find_target("tflite").missing():
        pytest.skip(f"needs {', '.join(missing)}")
    project = tmp_path / "android"
    (project / "app" / "src" / "main").mkdir(parents=True)
    done = command_line(
        "export", "--target", "tflite", "--precision", "fp32", "--weights", tiny_weights,
        "--calibration", photos, "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (artefact,) = (tmp_path / "out").glob("*.tflite")
    done = command_line("bundle", artefact, "--android", project)
    assert (done.returncode, done.stderr) == (0, "")
    folder = project / ANDROID
    assert hash_path(folder / artefact.name) == read_manifest(artefact).sha256
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == read(folder, "golden_spec.json")["labels"] == read_manifest(artefact).labels
    done = command_line("bundle", artefact, "--android", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} is no Android project")
    assert len(done.stderr.splitlines()) == 1
