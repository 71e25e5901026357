"""Names are text: on every surface they appear as themselves, or visibly escaped."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table

from edge_deit.common.console import PlainConsole
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.text import visible
from edge_deit.report.junit import junit
from edge_deit.report.text import markdown
from edge_deit.report.verdict import Check, Verdict
from report_examples import artefact, report

NAMES = st.text(min_size=1, max_size=30)
ODD = (
    "dog [male]", "x [/b]", ":smile:", "a|b", "<script>", "a&b", "`code`", "\"'", "a\nb", "\x1b[31mred",
    "\u202egpj.exe", "\ud800", "::error::x", "  ::set-output name=a::b", "##[error]x", "\x00", "\r",
    "\u2028",    "[link](http://x)", "[bold red]x[/]", "\\", "*a*", "é", "\N{DOG FACE}",
)  # fmt: skip


def shows_nothing(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


@pytest.mark.parametrize("text", [*ODD, "co\u05cdt"])
def test_an_error_shows_what_it_quotes(text: str) -> None:
    said = str(EdgeDeitError(f"an operator called {text} is not known"))
    assert said.isprintable()
    assert str(EdgeDeitError(said)) == said


@pytest.mark.parametrize(
    "text", ["dog [male]", ":smile:", "é", "a|b & <c>", "名前", "a  b", "\\x1b"]
)
def test_plain_names_stay(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    shown = visible(text)
    assert not any(map(shows_nothing, shown))
    assert not shown.lstrip().startswith(("::", "##["))
    shown.encode("utf-8")


def with_odd_names(test):  # type: ignore[no-untyped-def]
    for name in ODD:
        test = example(name)(test)
    return given(NAMES)(settings(deadline=None)(test))


@with_odd_names
def test_console(name: str) -> None:
    stream = io.StringIO()
    console = PlainConsole(stream, soft_wrap=True)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console.print(table)
    console.print(name)
    text = stream.getvalue()
    assert not any(map(shows_nothing, text.replace("\n", "")))
    assert text.splitlines()[-1].rstrip() == visible(name).rstrip()
    assert not any(line.lstrip().startswith(("::", "##[")) for line in text.splitlines())


@with_odd_names
def test_markdown_keeps_its_columns(name: str) -> None:
    found = report(
        replace(artefact(), path=f"out/{name.replace('/', '_')}", worst_image=name, runner=name)
    )
    lines = [line for line in markdown(found).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    text = markdown(found)
    assert not any(map(shows_nothing, text.replace("\n", "")))
    assert "<script" not in text


@with_odd_names
def test_junit_is_xml(name: str) -> None:
    check = Check(name, "min_snr_db", 1.0, 2.0, "failed", name)
    root = ET.fromstring(junit(report(artefact()), Verdict((check,), (name,))))  # noqa: S314 # ours
    assert root.get("failures") == "1"
    (failure,) = root.iter("failure")
    assert failure.get("message") == visible(name) or not name.isprintable()


def test_names_in_json_come_back() -> None:
    for name in ODD:
        assert json.loads(json.dumps(name)) == name


def test_every_text_of_the_console_passes_the_one_function() -> None:
    """No command prints but through the console, whose one method escapes."""
    from source_tree import FILES

    for module, path in FILES.items():
        if re.fullmatch(r"edge_deit\.\w+", module):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if re.search(r"(?<![\w.])print\(", line):
                    assert "json.dumps" in line or "visible(" in line, f"{path}:{number}: {line}"
