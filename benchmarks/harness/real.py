"""The real checkpoint and photos that benchmarks run on."""

from __future__ import annotations

import os
from pathlib import Path

from edge_deit.common.errors import EdgeDeitError

__all__ = ["real_folder"]


def real_folder() -> Path:
    """The folder that EDGE_DEIT_REAL names.

    Raises:
        EdgeDeitError: it names none.
    """
    folder = os.environ.get("EDGE_DEIT_REAL")
    if not folder:
        raise EdgeDeitError(
            "set EDGE_DEIT_REAL to a folder with deit_tiny_patch16_224/model.safetensors and imagenet400/, "
            "or give --weights and --data"
        )
    return Path(folder)
