"""A page in headless Chromium that posts what it found: served from folders, and nothing else."""

from __future__ import annotations

import functools
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

__all__ = ["run_page"]

TIMEOUT_S = 300


class _Handler(SimpleHTTPRequestHandler):
    """/NAME/... is in the folder called so; a POST is what the page has to say."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def __init__(
        self, folders: Mapping[str, Path], said: queue.Queue[Any], *arguments: Any
    ) -> None:
        self._folders, self._said = folders, said
        super().__init__(*arguments)

    def translate_path(self, path: str) -> str:
        name, _, rest = path.partition("?")[0].lstrip("/").partition("/")
        return str(self._folders.get(name, Path("/nowhere")) / rest)

    def do_POST(self) -> None:
        self._said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not for requests."""


def run_page(page: str, folders: Mapping[str, Path], profile: Path) -> dict[str, Any]:
    """What `page` (`NAME/file.html?...`) posts; `profile` is a folder for the browser's own files."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed; Debian's package is chromium")
    said: queue.Queue[Any] = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, folders, said))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
    ]
    address = f"http://127.0.0.1:{server.server_port}/{page}"
    browser = subprocess.Popen(
        [*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        found: dict[str, Any] = said.get(timeout=TIMEOUT_S)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    assert "error" not in found, found["error"]
    return found
