"""Artefacts in processes of their own: same answers, named deaths, nothing left behind."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artefact_examples import copy_of, pixels_for

from conftest import ROOT
from edge_deit.artefacts import worker as worker_process
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.inside import open_layer_reader
from edge_deit.artefacts.process import RunnerCrashError, Worker
from edge_deit.artefacts.runners import open_runner
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters import TARGETS, target

Exported = Callable[[str], Path]
QUICK = ("onnx", "tflite")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TARGETS]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")


def process_of(worker: Worker) -> subprocess.Popen[bytes]:
    return worker._process


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", ALL)
def test_answers_are_those_of_this_process(name: str, exported: Exported) -> None:
    path = exported(name)
    here = target(name).load_runner(path, 1)
    with open_runner(path, 1) as runner:
        for seed in range(3):
            assert np.array_equal(runner(pixels_for(seed)), here(pixels_for(seed)))


@pytest.mark.parametrize("name", ALL)
def test_the_next_answer_does_not_change_the_last(name: str, exported: Exported) -> None:
    runner = open_runner(exported(name), 1, isolated=False)
    strided = np.ascontiguousarray(pixels_for(0).transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    first = runner(pixels_for(0))
    kept = first.copy()
    runner(pixels_for(1))
    assert np.array_equal(first, kept)
    assert np.array_equal(runner(strided), kept)  # the same values in another order of memory


@LINUX
@pytest.mark.parametrize("name", QUICK)
def test_the_process_loads_no_torch(name: str, exported: Exported) -> None:
    with Worker(name) as worker:
        worker.load(exported(name), 1)(pixels_for(0))
        maps = Path(f"/proc/{process_of(worker).pid}/maps").read_text(encoding="utf-8")
    assert "libtorch" not in maps
    assert name.replace("tflite", "litert") in maps  # the right process was looked at


@LINUX
@pytest.mark.slow
def test_the_process_loads_no_converter(exported: Exported) -> None:
    """What coremltools would bring along, four times its own work, reads no file."""
    with Worker("coreml") as worker:
        worker.load(exported("coreml"), 1)(pixels_for(0))
        maps = Path(f"/proc/{process_of(worker).pid}/maps").read_text(encoding="utf-8")
    assert "coremltools" in maps or "libtorch" in maps  # the right process was looked at
    for name in ("sklearn", "torchao", "tokenizers"):
        assert f"/{name}/" not in maps


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """ONNX Runtime would name the machine in the user's cache, and tell its maker what it runs."""
    for name in ("cache", "temporary"):
        (tmp_path / name).mkdir()
    code = "from exporters import runtime_of; runtime_of('onnx').warm_up(); import onnxruntime"
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "temporary")}
    environment = {**os.environ, **places}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "cache", tmp_path / "temporary"]


def test_a_file_written_while_its_folder_goes_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remove = tmp_path / "scratch", shutil.rmtree
    folder.mkdir()
    (folder / "first").touch()

    def late(path: str, **options: bool) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        (folder / "first").unlink()
        (folder / "second").touch()  # by another thread, so that the folder cannot go

    monkeypatch.setattr(shutil, "rmtree", late)
    worker_process._remove(str(folder))
    assert not folder.exists()


def test_what_no_file_needs_can_be_imported_later(tmp_path: Path) -> None:
    (tmp_path / "first_of_two.py").write_text(
        "try:\n    import second_of_two\nexcept ImportError:\n    second_of_two = None\n", "utf-8"
    )
    (tmp_path / "second_of_two.py").write_text("", encoding="utf-8")
    code = (
        "from dataclasses import replace\nfrom exporters import runtime_of\n"
        "replace(runtime_of('onnx'), modules=('first_of_two',), needless=('second_of_two',)).warm_up()\n"
        "import first_of_two, second_of_two\nprint(first_of_two.second_of_two)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
    )  # fmt: skip
    assert done.stdout == "None\n"


def test_predict_loads_no_torch() -> None:
    code = "import sys, edge_deit.predict; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_is_named_and_concerns_nobody_else(
    number: signal.Signals, exported: Exported
) -> None:
    path = exported("onnx")
    with Worker("onnx") as doomed, open_runner(path, 1) as other:
        runner = doomed.load(path, 1)
        process_of(doomed).send_signal(number)
        process_of(doomed).wait()
        for _ in range(2):  # the second call does not wait for what is dead
            with pytest.raises(RunnerCrashError, match=rf"ONNX Runtime .*\({number.name}\) while"):
                runner(pixels_for(0))
        assert other(pixels_for(0)).shape == (1, 10)


def test_a_hang_is_named(exported: Exported) -> None:
    path = exported("onnx")
    with Worker("onnx", timeout_s=0.5) as worker:
        worker._timeout_s = 60
        runner = worker.load(path, 1)
        worker._timeout_s = 0.5
        process_of(worker).send_signal(signal.SIGSTOP)
        with pytest.raises(RunnerCrashError, match=r"did not answer within 0\.5 s while running"):
            runner(pixels_for(0))
        assert process_of(worker).returncode == -signal.SIGKILL


def test_an_interrupted_call_leaves_no_answer_for_the_next(exported: Exported) -> None:
    with Worker("onnx") as worker:
        runner = worker.load(exported("onnx"), 1)
        process_of(worker).send_signal(signal.SIGSTOP)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            runner(pixels_for(0))
        with pytest.raises(RunnerCrashError, match="was closed"):
            runner(pixels_for(1))


def test_a_replaced_file_is_not_run(exported: Exported, tmp_path: Path) -> None:
    path = exported("onnx")
    with Worker("onnx") as worker:
        first = worker.load(path, 1)
        second = worker.load(copy_of(path, tmp_path), 1)
        with pytest.raises(EdgeDeitError, match="has loaded another file since"):
            first(pixels_for(0))
        assert second(pixels_for(0)).shape == (1, 10)


@LINUX
def test_nothing_is_left_open(exported: Exported) -> None:
    path = exported("onnx")
    before = open_descriptors()
    processes = []
    for _ in range(3):
        with Worker("onnx") as worker:
            worker.load(path, 1)(pixels_for(0))
            processes.append(process_of(worker))
    forgotten = Worker("onnx")
    processes.append(process_of(forgotten))
    del forgotten
    gc.collect()
    assert all(one.returncode is not None for one in processes)  # ended, and looked after
    assert open_descriptors() == before


def test_no_temporary_file_is_left(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for ends in (lambda worker: None, lambda worker: process_of(worker).kill()):
        with Worker("onnx") as worker:
            worker.load(exported("onnx"), 1)
            (scratch,) = tmp_path.iterdir()
            (scratch / "half-made").write_bytes(b"compiled")
            ends(worker)
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(EdgeDeitError, match="no process for ONNX Runtime can be started"):
        Worker("onnx")
    assert not list(tmp_path.iterdir())


@LINUX
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit()", "1 / 0"])
def test_the_process_ends_with_ours(end: str, exported: Exported, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom edge_deit.artefacts.process import Worker\n"
        f"from pathlib import Path\nworker = Worker('onnx')\n"
        f"worker.load(Path({str(exported('onnx'))!r}), 1)\n"
        f"print(worker._process.pid, flush=True)\n{end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    status = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 60
    while is_running(status) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(status)
    assert not list(tmp_path.iterdir())


def is_running(status: Path) -> bool:
    """Whether a process is there and no zombie that nobody has looked after."""
    try:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_modules_beside_the_user_are_not_run(exported: Exported, tmp_path: Path) -> None:
    """What lies in the folder that a command is started in is nobody's code."""
    for name in ("numpy", "onnxruntime", "json", "queue"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    (tmp_path / "edge_deit").mkdir()
    (tmp_path / "edge_deit" / "__init__.py").write_text("open('ran', 'w')\n", encoding="utf-8")
    photo = next((ROOT / "edge_deit/assets/validation").glob("*.png"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "edge_deit.predict", exported("onnx"), photo],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_what_a_runtime_prints_is_not_seen(
    exported: Exported, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_runner(exported("tflite"), 1) as runner:  # XNNPACK's delegate says that it was made
        runner(pixels_for(0))
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("EDGE_DEIT_VERBOSE", "1")
    with open_runner(exported("tflite"), 1) as runner:
        runner(pixels_for(0))
    assert "XNNPACK" in capfd.readouterr().err


@pytest.mark.parametrize("name", ALL)
def test_the_inside_is_that_of_this_process(
    name: str, exported: Exported, tiny_weights: Path
) -> None:
    path = exported(name)
    config = load_model(str(tiny_weights)).config
    reader = target(name).layer_reader
    if reader is None:
        pytest.skip(f"{name}: the runtime shows nothing of what is inside a file")
    here = reader(path, config)
    with open_layer_reader(read_artefact(path), config) as there:
        assert there.method == here.method
        expected, found = here.read(pixels_for(0)), there.read(pixels_for(0))
    assert list(found) == list(expected)
    for point, values in expected.items():
        assert np.array_equal(found[point], values), point


def test_the_inside_of_another_model_is_refused(exported: Exported, tiny_weights: Path) -> None:
    config = replace(load_model(str(tiny_weights)).config, depth=5)
    with (
        pytest.raises(EdgeDeitError, match="graph"),
        open_layer_reader(read_artefact(exported("onnx")), config),
    ):
        pass
