"""The web page in headless Chromium: made, served as `python -m http.server` serves it, and used."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_deit.mobile.bundle import bundle_artefacts
from environments import HERE, node_environment

__all__ = ["PAGE_FILES", "Handler", "Isolating", "make_page", "visit"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300

PAGE_FILES = (
    *("fp32.onnx", "fp16.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"),
    *("int8.image.onnx", "int8.image.tflite"),
)
"""How the names of the files end that the page is tried with."""


def make_page(artefacts: Sequence[Path], made: Path) -> None:
    """web_demo with the runtimes of its lock file, filled with artefacts."""
    ignored = shutil.ignore_patterns("node_modules", "edge_deit")
    shutil.copytree(ROOT / "web_demo", made, ignore=ignored)
    modules = node_environment("web_demo", ROOT) / "node_modules"
    (made / "node_modules").symlink_to(modules, target_is_directory=True)
    if artefacts:
        bundle_artefacts(artefacts, web=made)


class Handler(SimpleHTTPRequestHandler):
    """A folder's files, with more headers where a test asks for them."""

    headers_more: Mapping[str, str] = {}

    def end_headers(self) -> None:
        for name, value in self.headers_more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not for requests."""


class Isolating(Handler):
    """What WebAssembly's threads need."""

    headers_more: Mapping[str, str] = {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }


@contextmanager
def served(page: Path, handler: type[Handler] = Handler) -> Iterator[str]:
    made = functools.partial(handler, directory=str(page))
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def visit(
    page: Path,
    *steps: dict[str, Any],
    work: Path,
    handler: type[Handler] = Handler,
    **options: bool,
) -> list[Any]:
    """What each step found; the page asked nobody but its server and broke none of its own rules."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed; Debian's package is chromium")
    driver = node_environment("page")
    with served(page, handler) as address:
        plan = {"address": f"{address}/", "chromium": chromium, "seconds": PATIENCE_S}
        (work / "plan.json").write_text(json.dumps({**plan, **options, "steps": steps}))
        done = subprocess.run(
            ["node", str(HERE / "drive_page.mjs"), str(driver), str(work / "plan.json")],
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["faults"] == []
        assert {host for host in said["hosts"] if host != "null"} == {address}
    results: list[Any] = said["results"]
    return results
