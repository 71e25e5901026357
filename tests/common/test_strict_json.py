"""JSON of strangers: the standard's, and nothing that two readers take for two things."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.strict_json import parse_json, read_json

pytestmark = pytest.mark.newest

texts = st.text(st.characters(codec="utf-8"))
numbers = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(values)
def test_what_json_writes_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.text() | st.binary())
def test_nothing_but_value_errors(text: str | bytes) -> None:
    try:
        parse_json(text)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("9" * 5000, "too large"),
        (f"-{'9' * 19}", "too large"),
        (str(2**63), "too large"),
        ("1e400", "too large"),
        ("NaN", "no number"),
        ("[-Infinity]", "no number"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        (r'"\ud800"', "half of a surrogate pair"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1] 2", "Extra data"),
    ],
)
def test_refused(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(EdgeDeitError, match=expected) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes('{"ä": "€"}'.encode(encoding))
        assert read_json(path) == {"ä": "€"}
    path.write_bytes('{"ä": 1}'.encode("latin-1"))
    with pytest.raises(EdgeDeitError, match="not readable"):
        read_json(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(EdgeDeitError, match="does not exist"):
        read_json(path)
    os.mkfifo(path)
    with pytest.raises(EdgeDeitError, match="is a pipe"):
        read_json(path)
    large = tmp_path / "b.json"
    with large.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(EdgeDeitError, match="16 MB"):
        read_json(large)


def test_the_greatest_number_of_64_bits_is_read() -> None:
    """Such as a seed."""
    assert parse_json(f"[{2**63 - 1}, -{2**63 - 1}]") == [2**63 - 1, 1 - 2**63]
