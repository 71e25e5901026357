"""Say what can be made and run on this machine: `python -m edge_deit.doctor`."""

from __future__ import annotations

import importlib.metadata
import platform

from rich.table import Table

from edge_deit.common.console import new_app, out, run
from edge_deit.common.quiet import quiet
from edge_deit.exporters import TARGETS, Target
from edge_deit.exporters import target as find_target

__all__ = ["doctor"]

app = new_app(__doc__)


def doctor() -> None:
    """List the targets: whether they can be exported and run here, versions, and what to install.

    Exits with 0 when at least one target can be exported, otherwise with 1.
    """
    table = Table(
        title=f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    for name in ("target", "export", "run", "precisions", "versions"):
        table.add_column(name, overflow="fold")
    remedies, notes = [], []
    for name in TARGETS:
        target = find_target(name)
        missing = target.remedy()
        with quiet():
            absent = target.runtime.remedy()
            reason = None if absent else target.runs_on()
        runs = "no" if absent else ("reference*" if reason else "yes")
        table.add_row(
            name, "no" if missing else "yes", runs, ", ".join(target.precisions), _versions(target)
        )
        if missing:
            remedies.append(missing)
        if reason:
            notes.append(f"* {name}: {reason}")
    out().print(table)
    for line in notes + remedies:
        out().print(line)
    if len(remedies) == len(TARGETS):
        raise SystemExit(1)


def _versions(target: Target) -> str:
    found = []
    for distribution in target.requires.values():
        try:
            found.append(f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{distribution} -")
    return ", ".join(found)


app.command()(doctor)

if __name__ == "__main__":
    run(app, "python -m edge_deit.doctor")
