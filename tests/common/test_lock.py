"""A folder that one run at a time writes into."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.lock import claimed


def refusal(folder: Path) -> str:
    with pytest.raises(EdgeDeitError) as caught, claimed(folder, "validation"):
        pass
    return str(caught.value)


def test_a_second_run_is_told_who_has_it(tmp_path: Path) -> None:
    with claimed(tmp_path, "validation"):
        said = refusal(tmp_path)
        assert f"in use by another validation, process {os.getpid()} on {platform.node()}" in said
        assert refusal(tmp_path) == said, "a refused run leaves the holder's name there"
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(refusal(tmp_path)))
        thread.start()
        thread.join()
        assert found == [said]
    with claimed(tmp_path, "validation"):
        (tmp_path / "report").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_other_work_in_the_same_folder_goes_on(tmp_path: Path) -> None:
    with claimed(tmp_path, "validation"), claimed(tmp_path, "training"):
        assert len(list(tmp_path.iterdir())) == 2


def test_folders_that_stay_empty_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with claimed(folder, "validation"):
        assert folder.is_dir()
    assert not (tmp_path / "a").exists()
    with pytest.raises(EdgeDeitError, match="bad input"), claimed(folder, "validation"):
        raise EdgeDeitError("bad input")
    assert not (tmp_path / "a").exists()
    folder.mkdir(parents=True)
    with claimed(folder, "validation"):
        pass
    assert folder.is_dir()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom edge_deit.common.lock import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1]), 'validation'):\n print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert f"process {process.pid} on" in refusal(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with claimed(tmp_path, "validation"):
        assert f"process {os.getpid()} on" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["file", "file/below", "n" * 300])
def test_places_that_cannot_be_written_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "choose another --output" in refusal(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
