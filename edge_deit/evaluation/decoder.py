"""The process that decodes photos for `evaluation.decode`.

It answers each request, a path and a preprocessing, with pixels and the sha256 of the file, with `error`, a
line about the photo, or with `memory` where that ran out. It ends when the other side does.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge_deit.artefacts.wire import Message, receive, send
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.decode import decoded

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Serve until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that we work for
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported, not dumped
    with Connection(descriptor) as connection, contextlib.suppress(EOFError, ConnectionError):
        while True:
            header, _ = receive(connection)
            answer, arrays = _decoded(header)
            send(connection, answer, arrays)


def _decoded(header: dict[str, Any]) -> Message:
    path = Path(header["path"])
    try:
        pixels, sha256 = decoded(path, PreprocessSpec.from_json(header["spec"]))
        return {"sha256": sha256}, [pixels]
    except EdgeDeitError as error:
        return {"error": str(error)}, []
    except MemoryError:
        return {"memory": "ran out"}, []
