"""Holding back what third parties print: nested, in threads, in failure; the streams are always whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = """
import os, sys, threading
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
def shout(text):  # as C++ and Python do
    os.write(1, f"{text} raw\\n".encode())
    os.write(2, f"{text} raw\\n".encode())
    print(f"{text} print")
    print(f"{text} print", file=sys.stderr)
"""
END = """
shout("after")
"""
AFTER = "after raw\nafter print\n"


def outcome(code: str, redirection: str = "") -> tuple[str, str]:
    """What a process prints that runs the code: pytest's own capture has other streams in Python."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, START + code + END],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_what_goes_well_is_dropped() -> None:
    code = """
print("before")
with quiet():
    shout("inside")
"""
    assert outcome(code) == ("before\n" + AFTER, AFTER)


def test_nested_blocks_hold_until_the_last() -> None:
    code = """
with quiet():
    with quiet():
        shout("inner")
    shout("outer")
"""
    assert outcome(code) == (AFTER, AFTER)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_failure_gives_the_text_back(levels: int) -> None:
    code = f"""
try:
    with {", ".join(["quiet()"] * levels)}:
        shout("inside")
        raise ValueError
except ValueError:
    pass
with quiet():
    shout("later")
"""
    out, err = outcome(code)
    assert out == AFTER
    assert sorted(err.splitlines()) == sorted(
        ["inside raw", "inside print"] * 2 + AFTER.splitlines()
    )


def test_a_line_for_the_user_comes_alone() -> None:
    code = """
try:
    with quiet():
        shout("inside")
        raise EdgeDeitError
except EdgeDeitError:
    pass
"""
    assert outcome(code) == (AFTER, AFTER)


def test_threads_never_lose_the_streams() -> None:
    code = """
before = os.listdir("/dev/fd")
def work():
    for step in range(100):
        try:
            with quiet():
                shout(step)
                if step % 10 == 3:
                    raise EdgeDeitError
        except EdgeDeitError:
            pass
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert os.listdir("/dev/fd") == before
"""
    assert outcome(code) == (AFTER, AFTER)


@pytest.mark.parametrize(
    ("number", "left"),
    [(1, ("", AFTER)), (2, (AFTER + "after print\n", ""))],  # print(file=None) means stdout
)
def test_closed_streams_stay_closed(number: int, left: tuple[str, str]) -> None:
    code = f"""
with quiet():
    os.write(1, b"inside")
try:
    os.fstat({number})
except OSError:
    os.open("/dev/null", os.O_WRONLY)  # takes the number that is free
    os.dup2(os.open("/dev/null", os.O_WRONLY), {number})
else:
    sys.exit("it is open")
"""
    assert outcome(code, f"{number}>&-") == left
