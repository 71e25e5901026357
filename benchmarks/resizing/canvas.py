"""Squares drawn by a canvas in headless Chromium, which is served from a folder and nothing else."""

from __future__ import annotations

import functools
import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from resizing.geometry import placed

__all__ = ["chromium_version", "draw_squares"]

_PAGE: Final = Path(__file__).with_name("canvas.html")
_TIMEOUT_S: Final = 120  # for one photo
_PREFIX: Final = "/squares/"


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page and the jobs; what is posted goes into a queue, with where it was posted to."""

    def __init__(self, folder: Path, said: queue.Queue[tuple[str, bytes]], *rest: Any) -> None:
        self._said = said
        super().__init__(*rest, directory=str(folder))

    def do_POST(self) -> None:
        self._said.put((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: requests are no output of a benchmark."""


def chromium_version() -> str:
    """`Chromium 156.0...`.

    Raises:
        EdgeDeitError: there is none.
    """
    command = [_chromium(), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:2])


def draw_squares(
    photos: Sequence[np.ndarray],
    spec: PreprocessSpec,
    qualities: Sequence[str],
    on_square: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Quality -> squares (M, crop, crop, 3) uint8 of photos, (H, W, 3) uint8 each, scaled as `spec` says.

    Raises:
        EdgeDeitError: no Chromium, or the page failed.
    """
    keys = [(quality, index) for quality in qualities for index in range(len(photos))]
    shape = (len(photos), spec.crop_size, spec.crop_size, 4)
    found = {quality: np.zeros(shape, np.uint8) for quality in qualities}
    with tempfile.TemporaryDirectory(prefix="edge-deit-canvas-") as scratch:
        folder = Path(scratch) / "served"
        (folder / "jobs").mkdir(parents=True)
        shutil.copy(_PAGE, folder / "page.html")
        for index, rgb in enumerate(photos):  # without a profile: its bytes are sRGB's
            Image.fromarray(rgb).save(folder / f"jobs/{index}.png", compress_level=1)
        for number, (quality, index) in enumerate(keys):
            height, width = photos[index].shape[:2]
            job = {"photo": f"{index}.png", "quality": quality}
            job |= asdict(placed(width, height, spec))
            (folder / f"jobs/{number}.json").write_text(json.dumps(job), encoding="utf-8")
        with _browser(folder, f"page.html?jobs={len(keys)}", Path(scratch) / "profile") as said:
            for quality, index in keys:
                found[quality][index] = _square(said, shape[1:])
                on_square()
    return {quality: squares[..., :3] for quality, squares in found.items()}


def _square(said: queue.Queue[tuple[str, bytes]], shape: tuple[int, ...]) -> np.ndarray:
    """The next square, (crop, crop, 4): the page posts them in order."""
    try:
        place, content = said.get(timeout=_TIMEOUT_S)
    except queue.Empty as error:
        raise EdgeDeitError(f"Chromium drew nothing for {_TIMEOUT_S} s") from error
    if not place.startswith(_PREFIX):
        raise EdgeDeitError(f"Chromium: {content.decode(errors='replace'):.200}")
    return np.frombuffer(content, np.uint8).reshape(shape)


@contextmanager
def _browser(folder: Path, page: str, profile: Path) -> Iterator[queue.Queue[tuple[str, bytes]]]:
    said: queue.Queue[tuple[str, bytes]] = queue.Queue()
    handler = functools.partial(_Handler, folder, said)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/{page}"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield said
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        raise EdgeDeitError("Chromium is not installed; Debian's package is chromium")
    return found
