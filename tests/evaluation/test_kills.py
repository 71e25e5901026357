"""A validation that is killed again and again, with another beside it, finds what an undisturbed one does.

The runs are forked from one process that has imported everything, so that a round takes little time.
Nothing is computed there before a fork: threads of a runtime would not be in the child. The page's plots,
which would take most of the time and have no part in this, are not drawn.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.slow

KILLS = 10

FORKS = """
import json, os, signal, sys
from pathlib import Path
import onnx, onnxruntime, scipy.stats
from edge_deit.common.errors import EdgeDeitError
import edge_deit.evaluation.run
import torch
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.exporters import tool_versions
edge_deit.evaluation.run.write_html = lambda report, path, **more: path.write_text("page")
tool_versions()
with torch.device("meta"):
    DeiT(DeiTConfig(depth=1))
print(0, flush=True)
for line in sys.stdin:
    word, *rest = json.loads(line)
    if word == "start":
        artefacts, data, output, errors = rest
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        code = 1
        try:
            edge_deit.evaluation.run.validate_artefacts([Path(one) for one in artefacts],
                data=Path(data), runs=None, threads=1, workers=1, layer_images=2, output=Path(output))
            code = 0
        except EdgeDeitError as error:
            Path(errors).write_text(str(error))
            code = 2
        except BaseException as error:
            Path(errors).write_text(repr(error))
        os._exit(code)
    (pid,) = rest
    if word == "kill":
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass
class Forks:
    """Talks to the process that forks."""

    process: subprocess.Popen[str]
    artefacts: list[str]
    data: Path
    errors: Path

    def _ask(self, *words: object) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def start(self, output: Path) -> int:
        self.errors.unlink(missing_ok=True)
        return self._ask("start", self.artefacts, str(self.data), str(output), str(self.errors))

    def end(self, pid: int, word: str) -> int:
        """The exit code after `kill` or `wait`; a refusal must be the lock's."""
        code = self._ask(word, pid)
        assert code in (0, 2, -9), self.errors.read_text()
        if code == 2:
            assert "is in use by another validation, " in self.errors.read_text()
        return code


@pytest.fixture
def many_photos(labelled_photos: Path, tmp_path: Path) -> Path:
    """Twice as many, so that most of a run's time goes into them."""
    folder = tmp_path / "photos"
    for path in labelled_photos.glob("*/*.png"):
        for copy in range(2):
            place = folder / path.parent.name / f"{copy}-{path.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def forks(onnx_files: tuple[Path, ...], many_photos: Path, tmp_path: Path) -> Iterator[Forks]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # all is imported
        artefacts = [str(path) for path in onnx_files]
        yield Forks(process, artefacts, many_photos, tmp_path / "errors.txt")
        assert process.stdin is not None
        process.stdin.close()


def content(output: Path) -> str:
    """The report without when and where it was made."""
    found = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return json.dumps(found | {"created": "", "environment": {}}, sort_keys=True)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.fuzz)])
def test_kills_at_random_moments_change_nothing(rounds: int, forks: Forks, tmp_path: Path) -> None:
    started = time.monotonic()
    assert forks.end(forks.start(tmp_path / "whole"), "wait") == 0
    whole_seconds = time.monotonic() - started
    expected = content(tmp_path / "whole")
    photos = json.loads(expected)["data"]["images"]
    generator = random.Random(0)  # noqa: S311
    killed = refused = 0
    for number in range(rounds):
        output = tmp_path / str(number)
        for _ in range(KILLS):
            pids = [forks.start(output) for _ in range(generator.choice([1, 2]))]
            time.sleep(generator.uniform(0, whole_seconds / 2))
            codes = [forks.end(pid, "kill") for pid in generator.sample(pids, len(pids))]
            killed, refused = killed + codes.count(-9), refused + codes.count(2)
            for journal in output.glob(".validate-*.jsonl"):
                assert journal.read_bytes().count(b"\n") <= photos + 1
            if (output / "report.json").exists():
                assert content(output) == expected
                break
        assert forks.end(forks.start(output), "wait") == 0
        assert content(output) == expected
        assert {path.name for path in output.iterdir()} == {
            "report.json",
            "report.html",
            "report.md",
        }
    print(f"{killed} killed, {refused} refused, {time.monotonic() - started:.0f} s")
    assert killed > 0
    assert refused > 0 or rounds < 20  # two at a time are drawn for half of the starts
