"""A folder is replaced as a whole: foreign files stay, a kill leaves the old set or the new one."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.mobile import replace
from edge_deit.mobile.replace import OWN_NAMES, owned_files, set_replaced

KILLS = 30
WRITER = """
import sys
from pathlib import Path
from edge_deit.mobile.replace import set_replaced
place = Path(sys.argv[1])
for number in range(1_000_000):
    with set_replaced(place, {f"part{i}" for i in range(5)}) as new:
        for i in range(5):
            (new / f"part{i}").write_text(str(number))
    print(number, flush=True)
"""


def table(place: Path, *files: str) -> None:
    entries = [{"file": name, "manifest": f"{name}.json"} for name in files]
    (place / "bundle.json").write_text(json.dumps({"artefacts": entries}))


def test_only_what_the_table_lists_is_the_former_set(tmp_path: Path) -> None:
    assert owned_files(tmp_path) == frozenset()
    table(tmp_path, "a.tflite", "b.pte")
    assert owned_files(tmp_path) == OWN_NAMES | {"a.tflite", "a.tflite.json", "b.pte", "b.pte.json"}


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", ""])
def test_a_table_that_names_other_folders_is_refused(tmp_path: Path, name: str) -> None:
    table(tmp_path, name)
    with pytest.raises(EdgeDeitError, match="no file of its folder"):
        owned_files(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artefacts": 5}', "[" * 100_000])
def test_a_damaged_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(EdgeDeitError, match="cannot be read"):
        owned_files(tmp_path)


@pytest.mark.parametrize("at_once", [True, False])
def test_files_of_others_stay(
    tmp_path: Path, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(replace, "_exchange_at_once", lambda new, place: errno.ENOSYS)
    place = tmp_path / "set"
    (place / "folder").mkdir(parents=True)
    for name in ("mine.txt", "folder/mine too", "old"):
        (place / name).write_text(name)
    (place / "link").symlink_to("mine.txt")
    with set_replaced(place, {"old"}) as new:
        (new / "fresh").write_text("fresh")
    assert sorted(p.name for p in place.iterdir()) == ["folder", "fresh", "link", "mine.txt"]
    assert (place / "folder/mine too").read_text() == "folder/mine too"
    assert (place / "link").readlink() == Path("mine.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_name_of_the_new_set_that_is_another_s_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    (place / "labels.txt").write_text("mine")
    with (
        pytest.raises(EdgeDeitError, match=r"labels.txt was not written by a bundle"),
        set_replaced(place, ()) as new,
    ):
        (new / "labels.txt").write_text("ours")
    assert (place / "labels.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_set(tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    (place / "mine").write_text("mine")
    generator = random.Random(0)  # noqa: S311 # when to kill
    seen = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        time.sleep(generator.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (place / "mine").read_text() == "mine"
        numbers = {(place / f"part{index}").read_text() for index in range(5)}
        assert len(numbers) == 1, f"a mixed set: {numbers}"
        seen += sum(1 for entry in tmp_path.iterdir() if entry != place)
    with set_replaced(place, {f"part{index}" for index in range(5)}):
        pass
    assert sorted(entry.name for entry in place.iterdir()) == ["mine"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"], "leftovers were not cleared"
    assert seen, "no kill fell into the work, so nothing was tried"
