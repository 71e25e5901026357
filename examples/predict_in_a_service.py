"""A small service that classifies the photos which are sent to it.

    python examples/predict_in_a_service.py ARTEFACT [PORT]
    curl --data-binary @photo.jpg http://127.0.0.1:8000/

The model is loaded once, in a process of its own, and may be called from several threads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from edge_deit import EdgeDeitError
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.predict import rank
from edge_deit.artefacts.runners import logits_of, open_runner
from edge_deit.data.preprocess import load_pixels

MOST_BYTES: Final = 20_000_000


def serve(artefact: Path, port: int) -> ThreadingHTTPServer:
    """A server for one artefact on this machine's own address; `serve_forever` starts it."""
    manifest = read_artefact(artefact).manifest
    runner = open_runner(artefact, threads=1)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= MOST_BYTES:
                self.send_error(413)
                return
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.rfile.read(length))
                file.flush()
                try:
                    pixels = load_pixels(Path(file.name), manifest.preprocess_spec)
                    logits = logits_of(runner, pixels, artefact.name, manifest.labels)
                    ranked = rank(logits, manifest.labels, top=3)
                    answer, status = [asdict(one) for one in ranked], 200
                except EdgeDeitError as error:
                    answer, status = [{"error": str(error)}], 400
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    serve(Path(sys.argv[1]), int((*sys.argv[2:], "8000")[0])).serve_forever()
