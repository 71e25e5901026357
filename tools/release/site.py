"""Lays out the documents for mkdocs: python tools/release/site.py FOLDER

README becomes the first page, the documents in `docs` keep their place. A link to a page stays a link, one
to any other file of the repository becomes its name; one that leads nowhere stays, and mkdocs refuses it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
LINK = re.compile(r"(?<!!)\[([^\]\[]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def main(folder: Path) -> None:
    """Write all pages into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder / "docs")
    pages = PAGES | {f"docs/{path.name}": f"docs/{path.name}" for path in ROOT.glob("docs/*.md")}
    for name, place in (pages | {"docs/api.md": "api.md"}).items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = LINK.sub(lambda found, name=name, place=place: link(found, name, place, pages), text)
        (folder / place).write_text(text, encoding="utf-8")
    (folder / "docs/api.md").unlink()


def link(found: re.Match[str], name: str, place: str, pages: dict[str, str]) -> str:
    """A link of the document `name`, as the page at `place` has it."""
    words, target, anchor = found[1], found[2], found[3] or ""
    wanted = os.path.normpath(Path(name).parent / target)
    if wanted in pages:
        return f"[{words}]({os.path.relpath(pages[wanted], Path(place).parent)}{anchor})"
    return words if (ROOT / wanted).exists() else found[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
