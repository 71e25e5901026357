"""Damaged files that are signed as if they were whole: outputs, or one line; never anything else."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from artefact_examples import copy_of, mutate, pixels_for, sign
from payloads import payloads

from conftest import ROOT, CommandLine
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.process import RunnerCrashError, Worker
from edge_deit.artefacts.runners import logits_of, open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters import TARGETS

Exported = Callable[[str], Path]
SLOW = [  # Core AI loads a file in half a second: test_coreai.py damages its parts, fuzzing all of them
    pytest.param(name, marks=pytest.mark.slow) for name in TARGETS if name != "coreai"
]


class Workers:
    """A process that is made again when it has died."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._worker: Worker | None = None

    @contextlib.contextmanager
    def one(self) -> Iterator[Worker]:
        """A live one."""
        self._worker = self._worker or Worker(self._target)
        try:
            yield self._worker
        except RunnerCrashError:
            self._worker.close()
            self._worker = None
            raise

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


def check_mutations(original: Path, name: str, folder: Path, count: int, seed: int) -> Counter[str]:
    """What became of `count` damaged copies; all that is not allowed fails."""
    generator = np.random.default_rng(seed)
    copy = copy_of(original, folder)
    found: Counter[str] = Counter()
    with contextlib.closing(Workers(name)) as workers:
        for number in range(count):
            where = mutate(copy, original, generator)
            try:
                with workers.one() as worker:
                    artefact = read_artefact(copy)
                    runner = open_runner(artefact, 1, worker=worker)
                    logits_of(runner, pixels_for(0), copy.name, artefact.manifest.labels)
            except EdgeDeitError as error:
                text = str(error)
                assert copy.name in text, f"{number}: {where}: {text}"
                assert text.isprintable(), f"{number}: {where}: {text}"
                assert len(text) < 1000, f"{number}: {where}: {text}"
                found["crash" if isinstance(error, RunnerCrashError) else "refused"] += 1
            else:
                found["outputs"] += 1
    return found


@pytest.mark.parametrize("name", SLOW)
def test_some_damaged_files(name: str, exported: Exported, tmp_path: Path) -> None:
    found = check_mutations(exported(name), name, tmp_path, 40, seed=0)
    assert found["outputs"] > 5  # a changed weight is no damage that anybody could see
    assert found["refused"] > 5


@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_files(name: str, exported: Exported, tmp_path: Path) -> None:
    found = check_mutations(exported(name), name, tmp_path, 500, seed=1)
    assert found.total() == 500


@pytest.mark.parametrize("name", SLOW)
def test_no_member_of_an_artefact_is_run_as_a_pickle(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    original, mark = exported(name), tmp_path / "ran"
    copy = copy_of(original, tmp_path / "copy")
    members = [copy] if copy.is_file() else sorted(p for p in copy.rglob("*") if p.is_file())
    with contextlib.closing(Workers(name)) as workers:
        for member in members:
            sound = member.read_bytes()
            for content in payloads(mark).values():
                member.write_bytes(content)
                sign(copy)
                with pytest.raises(EdgeDeitError), workers.one() as worker:
                    open_runner(read_artefact(copy), 1, worker=worker)
                assert not mark.exists(), member
            member.write_bytes(sound)


@pytest.mark.parametrize("name", SLOW)
def test_the_command_says_it_in_one_line(
    name: str, exported: Exported, tmp_path: Path, command_line: CommandLine
) -> None:
    photo = next((ROOT / "edge_deit/assets/validation").glob("*.png"))
    original = exported(name)
    copy = copy_of(original, tmp_path)
    generator = np.random.default_rng(3)
    for number in range(3):
        where = mutate(copy, original, generator)
        if not number:
            where = cut(copy)
        done = command_line("predict", copy, photo, "--json")
        assert done.returncode in ((0, 2) if number else (2,)), f"{where}: {done.stderr}"
        if done.returncode:
            assert done.stdout == ""
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1
        else:
            assert done.stderr == ""


def cut(artefact: Path) -> str:
    """Leave half of the file, or of a package's largest one."""
    files = [artefact, *artefact.rglob("*")]
    largest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    sign(artefact)
    return f"half of {largest.name}"
