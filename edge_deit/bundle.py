"""Put exported files into the phone apps' projects and the web page: `python -m edge_deit.bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from edge_deit.common.console import Bars, new_app, out, run
from edge_deit.common.files import size_of

if TYPE_CHECKING:
    from edge_deit.mobile.deliveries import Delivery


__all__ = ["bundle"]

app = new_app(__doc__)


def bundle(
    artefacts: Annotated[
        list[Path], typer.Argument(help="Exported files of one checkpoint, with their manifests.")
    ],
    android: Annotated[
        Path | None, typer.Option(help="The Android project, or a new folder: it is made.")
    ] = None,
    ios: Annotated[
        Path | None, typer.Option(help="The Xcode project's folder, or a new one: it is made.")
    ] = None,
    web: Annotated[Path | None, typer.Option(help="The web page's folder, or a new one.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the runners.")] = 2,
) -> None:
    """Copy artefacts, labels and the self-test's golden cases into the apps, in place of the former set.

    Example: python -m edge_deit.bundle out/deit_tiny.int8.tflite --android my_app

    Where a folder is not there, or empty, the app's project is made in it. With several
    projects each gets the files that its app can run. All is verified and copied before anything is
    replaced.
    """
    from edge_deit.mobile.bundle import bundle_artefacts

    with Bars() as bars:
        done = bundle_artefacts(
            artefacts, android=android, ios=ios, web=web, threads=threads, progress=bars
        )
    for delivery in done.deliveries:
        _print(delivery, done.specs[delivery.platform.name])
    for note in done.notes:
        out().print(note)


def _print(delivery: Delivery, spec: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{delivery.platform.name} app, {spec['model']}, {len(spec['labels'])} classes",
        box=box.SIMPLE,
        title_justify="left",
    )
    for name in ("engine", "precision"):
        table.add_column(name)
    table.add_column("MB", justify="right")
    table.add_column("file", overflow="fold")
    for artefact in delivery.artefacts:
        manifest = artefact.manifest
        table.add_row(
            delivery.platform.engines[artefact.engine_key],
            manifest.precision,
            f"{manifest.size_bytes / 1e6:.1f}",
            artefact.path.name,
        )
    out().print(table)
    out().print(
        f"adds {size_of(delivery.place) / 1e6:.1f} MB to the app, in {delivery.place}; "
        f"golden logits are those of {spec['artefact']}",
    )


app.command()(bundle)

if __name__ == "__main__":
    run(app, "python -m edge_deit.bundle")
