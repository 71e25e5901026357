"""Pickles that leave a mark when something runs them, in the layouts that readers know."""

from __future__ import annotations

import io
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["payloads"]


class _Touch:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", str(self.mark)],)


def payloads(mark: Path) -> dict[str, bytes]:
    """What to put in a file's place: a bare pickle, PyTorch's two layouts, and NumPy's."""
    touch, found = _Touch(mark), {"pickle": pickle.dumps(_Touch(mark))}
    for name, new in (("torch", True), ("torch before 1.6", False)):
        stream = io.BytesIO()
        torch.save({"model": touch}, stream, _use_new_zipfile_serialization=new)
        found[name] = stream.getvalue()
    stream = io.BytesIO()
    np.savez(stream, a=np.array([touch], dtype=object))
    found["npz"] = stream.getvalue()
    return found
