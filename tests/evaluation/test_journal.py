"""A journal that was damaged costs the damaged lines, and never bends a figure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.accuracy import Evaluation, EvaluationRequest, evaluate
from edge_deit.evaluation.journal import Journal, Judged
from edge_deit.evaluation.tally import Answer, Seen
from evaluation_examples import everything

PHOTOS = 16


def scores(pixels: np.ndarray) -> np.ndarray:
    """A model of two classes."""
    value = float(pixels.mean())
    return np.array([[value, 0.3 - value]], np.float32)


def noisy(pixels: np.ndarray) -> np.ndarray:
    return scores(pixels) + np.float32(0.1) * np.sin(pixels[0, 0, 0, :2])[None]


@pytest.fixture
def request_(photos: Path, tmp_path: Path) -> EvaluationRequest:
    return EvaluationRequest(
        photos=match_labels(list_photos(photos), ("cat", "dog")).photos,
        root=photos,
        spec=PreprocessSpec(resize_size=16, crop_size=16),
        labels=("cat", "dog"),
        reference=scores,
        models={"same": scores, "noisy": noisy},
        key={"artefacts": ["1", "2"]},
        journal=tmp_path / "journal.jsonl",
        workers=2,
        strict=False,
    )


def again(request: EvaluationRequest) -> tuple[Evaluation, list[str]]:
    """A second run, which must find what an undisturbed one does, and leave a sound journal."""
    said: list[str] = []
    found = evaluate(request, note=said.append)
    assert everything(found) == everything(evaluate(replace(request, journal=None)))
    assert request.journal is not None
    assert request.journal.read_bytes().count(b"\n") == PHOTOS + 1
    assert evaluate(request).resumed == PHOTOS
    return found, said


def edited(change: Callable[[dict[str, object]], object]) -> Callable[[list[bytes]], object]:
    """A change of the fourth line's content that leaves it JSON."""

    def damage(lines: list[bytes]) -> None:
        data = json.loads(lines[3])
        change(data)
        lines[3] = json.dumps(data).encode() + b"\n"

    return damage


def cut(lines: list[bytes]) -> None:
    lines[-1] = lines[-1][:-20]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], object], int]] = {
    "NULs": (lambda lines: lines.__setitem__(2, b"\0" * 40 + b"\n"), 15),
    "NULs at the end": (lambda lines: lines.__setitem__(-1, b"\0" * 40), 15),
    "cut at the end": (cut, 15),
    "cut in the middle": (lambda lines: lines.__setitem__(5, lines[5][:30] + b"\n"), 15),
    "a line end lost": (lambda lines: lines.__setitem__(5, lines[5][:-1]), 14),
    "empty line": (lambda lines: lines.insert(3, b"\n"), 16),
    "no UTF-8": (lambda lines: lines.__setitem__(4, lines[4].replace(b"cat", b"c\xe9t")), 15),
    "every line twice": (
        lambda lines: lines.__setitem__(slice(1, None), sorted(lines[1:] * 2)),
        16,
    ),
    "some lines twice": (lambda lines: lines.extend(lines[3:6]), 16),
    "lines swapped": (lambda lines: lines.__setitem__(slice(2, 4), [lines[3], lines[2]]), 16),
    "lines reversed": (lambda lines: lines.__setitem__(slice(1, None), lines[:0:-1]), 16),
    "first line gone": (lambda lines: lines.pop(0), 16),
    "first line broken": (lambda lines: lines.__setitem__(0, b"{\n"), 16),
    "a line gone": (lambda lines: lines.pop(7), 15),
    "all gone": (lambda lines: lines.clear(), 0),
    "no journal at all": (lambda lines: lines.__setitem__(slice(None), [b"\x7fELF\2\1"]), 0),
    "other types": (edited(lambda data: data.update(index="3")), 15),
    "a list": (lambda lines: lines.__setitem__(3, b"[1, 2]\n"), 15),
    "another label": (edited(lambda data: data.update(label=1)), 15),
    "label out of range": (edited(lambda data: data.update(label=7)), 15),
    "index out of range": (edited(lambda data: data.update(index=10**9)), 15),
    "negative index": (edited(lambda data: data.update(index=-1)), 15),
    "another answer": (edited(lambda data: data["seen"][1].update(cosine=0.5)), 15),  # type: ignore
    "a model less": (edited(lambda data: data["seen"].pop()), 15),  # type: ignore
    "NaN": (edited(lambda data: data["seen"][0].update(noise=float("nan"))), 15),  # type: ignore
    "unknown field": (edited(lambda data: data.update(more=1)), 15),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_the_damaged_lines(name: str, request_: EvaluationRequest) -> None:
    evaluate(request_)
    assert request_.journal is not None
    lines = request_.journal.read_bytes().splitlines(keepends=True)
    change, left = DAMAGE[name]
    before = list(lines)
    change(lines)
    assert lines != before
    request_.journal.write_bytes(b"".join(lines))
    found, said = again(request_)
    assert found.resumed == left
    damaged = name not in (
        "lines swapped",
        "lines reversed",
        "first line gone",
        "a line gone",
        "all gone",
    )
    assert [line for line in said if "left out" in line] == said[: int(damaged)]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_happens_to_the_bytes(request_: EvaluationRequest, data: st.DataObject) -> None:
    evaluate(request_)
    assert request_.journal is not None
    content = bytearray(request_.journal.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 30, 400]))
        new = data.draw(
            st.one_of(st.binary(max_size=8), st.just(bytes(length)), st.just(content[:length]))
        )
        content[start : start + length] = new
    request_.journal.write_bytes(content)
    again(request_)


def test_lines_of_many_former_runs_make_one_run(request_: EvaluationRequest) -> None:
    """Stopped again and again, each time with some of its lines lost."""
    generator = random.Random(0)  # noqa: S311
    assert request_.journal is not None
    for _ in range(20):
        evaluate(request_)
        head, *lines = request_.journal.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if generator.random() < 0.6]
        request_.journal.write_bytes(head + b"".join(kept) + lines[0][:9])
    again(request_)


def test_a_line_moved_to_another_photo_is_found(request_: EvaluationRequest) -> None:
    """A journal that says soundly, for each photo, what another one showed."""
    assert request_.journal is not None
    turned = replace(request_, photos=request_.photos[::-1])
    evaluate(turned)
    lines = request_.journal.read_bytes().splitlines(keepends=True)
    found, _ = again(request_)
    assert found.resumed == 0
    assert not set(lines[1:]) & set(request_.journal.read_bytes().splitlines(keepends=True))


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(values=st.lists(finite, min_size=7, max_size=7), label=st.none() | st.integers(0, 9))
def test_a_line_gives_back_every_bit(
    values: list[float], label: int | None, tmp_path: Path
) -> None:
    first, second, signal, noise, cosine, kl, point = values
    seen = Seen(Answer((1, 0), first), signal, noise, cosine, kl, ((point, second), (0.1, -0.0)))
    line = Judged(0, 'a \u00e9 "b".png', label, "0" * 64, Answer((3, 9), second), (seen, seen))
    journal = Journal(tmp_path / "one.jsonl", {"a": 1})
    journal.restore(lambda one: False)
    with journal:
        journal.add(line)
    again = Journal(tmp_path / "one.jsonl", {"a": 1})
    assert again.restore(lambda one: True) == [0]
    (found,) = again.kept()
    assert (found, repr(found)) == (line, repr(line))
