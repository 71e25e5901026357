"""A hub on this machine, and what answers in its place: pages, circles, cut and changed downloads."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["COMMIT", "serving"]

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
_API: Final = "/api/models/org/name"


@contextmanager
def serving(folder: Path, mode: str = "sound") -> Iterator[str]:
    """The address of a hub with the repository org/name, whose files are the folder's.

    Modes: `sound`; `circle` redirects to itself; a status (`403`) answers everything; `gated`, `private`
    as the hub says it, `gated-files` for the files alone; `cut` breaks a download off in the middle,
    `changed` sends other bytes; any other text is the answer to everything.
    """
    files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}

    class Handler(_Handler):
        pass

    Handler.files, Handler.mode = files, mode
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(
        f"blob {len(content)}\0".encode() + content, usedforsecurity=False
    ).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    mode: str

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        match self.mode:
            case "circle":
                self._answer(302, Location=self.path)
            case "gated":
                self._error(403, "GatedRepo")
            case "private":
                self._error(401, "RepoNotFound")
            case status if status.isdigit() and len(status) == 3:
                self._answer(int(status), b"no")
            case "sound" | "cut" | "changed" | "gated-files":
                self._repository()
            case text:
                self._answer(200, text.encode(), Content_Type="text/html")

    do_HEAD = do_GET

    def _repository(self) -> None:
        if self.path.startswith(f"{_API}/revision/"):
            if self.path.removeprefix(f"{_API}/revision/") not in ("main", COMMIT):
                self._error(404, "RevisionNotFound")
                return
            self._json({"id": "org/name", "sha": COMMIT})
        elif self.path.startswith(f"{_API}/tree/"):
            self._json([self._entry(name, content) for name, content in self.files.items()])
        elif "/resolve/" in self.path and self.path.startswith("/org/name/"):
            self._file(self.path.rsplit("/", 1)[1])
        else:
            self._error(404, "RepoNotFound")

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), Content_Type="application/json")

    @staticmethod
    def _entry(name: str, content: bytes) -> dict[str, object]:
        entry: dict[str, object] = {
            "type": "file", "path": name, "size": len(content), "oid": _git_hash(content)
        }  # fmt: skip
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    def _file(self, name: str) -> None:
        content = self.files[name]
        if self.mode == "gated-files":
            self._error(403, "GatedRepo")
            return
        large = name.endswith(".safetensors")
        tag = hashlib.sha256(content).hexdigest() if large else _git_hash(content)
        size = str(len(content))
        if large and self.mode == "changed":
            content = bytes(len(content))
        if large and self.mode == "cut":
            content = content[: len(content) // 2]
            self.close_connection = True
        self._answer(200, content, Content_Length=size, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
