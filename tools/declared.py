"""Write what follows from the declarations: JSON schemas and the tables of limits and figures in docs/.

python tools/declared.py           # writes them
python tools/declared.py --check   # exit code 1 where one is not what it would write
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_deit.artefacts.manifest import MANIFEST_FILE
from edge_deit.gating.limits import ARM64_LIMIT, BASELINE, DEVICE_LIMITS, LIMITS, Bound
from edge_deit.report.device_report import DEVICE_FILE
from edge_deit.report.report import REPORT_FILE
from edge_deit.report.result import FIGURES, ArtefactResult

DOCS = Path(__file__).parents[1] / "docs"


def documents() -> dict[Path, str]:
    """Each file that has something generated, and all of its text."""
    gate, validation = DOCS / "gate.md", DOCS / "validation.md"
    limits = _with_table(gate.read_text(encoding="utf-8"), "limits", _limits())
    return {
        DOCS / "report.schema.json": _schema(REPORT_FILE.json_schema()),
        DOCS / "device-report.schema.json": _schema(DEVICE_FILE.json_schema()),
        DOCS / "manifest.schema.json": _schema(MANIFEST_FILE.json_schema()),
        gate: _with_table(limits, "baseline", _changes()),
        validation: _with_table(validation.read_text(encoding="utf-8"), "figures", _figures()),
    }


def _schema(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _with_table(text: str, name: str, lines: Iterator[str]) -> str:
    """The text with a new table between the comments of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    table = "\n".join((begin, "", *lines, "", end))
    found, count = re.subn(f"{begin}.*?{end}", lambda _: table, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"no single {begin} ... {end} in a document")
    return found


def _limits() -> Iterator[str]:
    yield "| limit | compares | unit | from | to |"
    yield "|---|---|---|--:|--:|"
    for one in (*LIMITS.values(), ARM64_LIMIT, *DEVICE_LIMITS.values()):
        unit = one.figure.unit.words
        yield f"| `{one.limit.key}` | {one.limit.compares} | {unit} | {_range(one.bound)} |"


def _changes() -> Iterator[str]:
    yield "| limit | worse by | unit | from | to |"
    yield "|---|---|---|--:|--:|"
    for key, one in BASELINE.items():
        unit = "share of the baseline's" if one.relative else one.figure.unit.words
        compares = one.figure.change.compares if one.figure.change else ""
        yield f"| `{key}` | {compares} | {unit} | {_range(one.bound)} |"


def _range(bound: Bound) -> str:
    return f"{bound.low:g} | {'-' if math.isinf(bound.high) else f'{bound.high:g}'}"


def _figures() -> Iterator[str]:
    yield "| figure | in report.json | unit | better | definition |"
    yield "|---|---|---|---|---|"
    for name, one in FIGURES.items():
        better = "" if one.better == "neither" else one.better
        key = f"`{name}`" if name in ArtefactResult.__dataclass_fields__ else ""
        yield f"| {one.label} | {key} | {one.unit.words} | {better} | {one.explanation} |"


def main() -> int:
    """Write the files, or compare them."""
    other = {
        path: text
        for path, text in documents().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv[1:]:
        print(*(f"{path.name} is not what tools/declared.py writes" for path in other), sep="\n")
        return 1 if other else 0
    for path, text in other.items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
