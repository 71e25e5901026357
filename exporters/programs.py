"""What opens files, in words: the last line of an export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["opened_by"]

_NAMES: Final = {
    "executorch": "ExecuTorch",
    "ios": "iOS",
    "macos": "macOS",
    "litert": "LiteRT",
    "tensorflow-lite": "TensorFlow Lite",
    "onnxruntime": "ONNX Runtime",
}


def opened_by(files: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    """One line on the oldest programs that take all files, each a suffix and its manifest's `requires`.

    >>> opened_by([(".onnx", {"onnxruntime": "1.9"}), (".onnx", {"onnxruntime": "1.17"})])
    '.onnx opens in ONNX Runtime 1.17 or later'
    """
    least: dict[str, dict[str, str]] = {}
    for suffix, requires in files:
        mine = least.setdefault(suffix, {})
        for program, version in requires.items():
            mine[program] = max(mine.get(program, version), version, key=_parts)
    lines = [
        f"{suffix} opens in {', '.join(f'{_NAMES.get(n, n)} {v}' for n, v in found.items())} or later"
        for suffix, found in least.items()
        if found
    ]
    return "; ".join(lines)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
