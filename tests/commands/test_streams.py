"""A command ends with one line and a code that scripts can trust, whatever its streams are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from conftest import ROOT
from edge_deit.common.console import new_app, run

DOCTOR = [sys.executable, "-m", "edge_deit.doctor"]
MISSING = [sys.executable, "-m", "edge_deit.predict", "nö \u202e[/b].tflite", "photo.jpg"]


def call(command: list[str], **variables: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{name: value or "" for name, value in variables.items()}}
    for name, value in variables.items():
        if value is None:
            del environment[name]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=300
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONWARNINGS": "error"},
        {"HOME": None},
        {"TERM": "dumb", "COLUMNS": "20"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_odd_environments(variables: dict[str, str | None]) -> None:
    done = call(DOCTOR, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    done = call(MISSING, **variables)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert "[/b]" in done.stderr
    assert "\u202e" not in done.stderr


@pytest.mark.parametrize("command", [DOCTOR, MISSING], ids=["doctor", "missing"])
def test_a_closed_pipe(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
        )
    finally:
        os.close(writing)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("x"), "unexpected ZeroDivisionError: x; this is a bug"),
        (MemoryError(), "out of memory"),
        (RecursionError(), "nested too deeply"),
        (OSError(24, "Too many open files"), "too many files are open"),
        (OSError(36, "File name too long", "f" * 300), "the name is too long"),
        (OSError(5, "Input/output error", "f"), "Input/output error: f"),
        (
            UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
            "unexpected Unicode",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_is_one_line(
    error: Exception,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(None)

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(said.splitlines()) == 1
    assert words in said
    monkeypatch.setattr(sys, "argv", ["x", "--debug"])
    with pytest.raises(type(error)):
        run(app)


def test_an_exit_code_of_a_command_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app(None)

    @app.command()
    def judge() -> None:
        raise typer.Exit(1)

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 1
