"""What a stock file was made with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_deit.artefacts.manifest import manifest_path
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path

__all__ = ["Stamp", "read_stamp"]


@dataclass(frozen=True)
class Stamp:
    """What lies beside a stock file; `inputs` decides whether the file must be made again."""

    name: str
    target: str
    precision: str
    description: str
    inputs: dict[str, Any]
    sha256: str
    size_bytes: int
    seconds: float


def read_stamp(path: Path) -> Stamp:
    """The stamp of a stock file, checked against it.

    Raises:
        EdgeDeitError: no stamp, an unreadable one, or a file that is not the one it describes.
    """
    remedy = "make it again with benchmarks/stock.py"
    try:
        stamp = Stamp(**json.loads(manifest_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EdgeDeitError(f"{manifest_path(path)} is not readable ({error}); {remedy}") from error
    if not path.exists() or hash_path(path) != stamp.sha256:
        raise EdgeDeitError(f"{path} is not the file that its stamp describes; {remedy}")
    return stamp
