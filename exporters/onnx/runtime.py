"""ONNX Runtime: an `.onnx` file loaded and run on the CPU, alone: it may name no other file."""

from __future__ import annotations

import importlib.util
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.onnx.session import open_session
from edge_deit.exporters.runtime import FileRunner, Runtime, contiguous, in_order

__all__ = ["RUNTIME", "check", "load_runner", "runs_on"]

_LOCATION: Final = b"location"  # the key under which a tensor names the file that holds its values


def check(path: Path) -> None:
    """Refuse a file whose tensors lie in other files, which no hash covers.

    Raises:
        EdgeDeitError: it names one, or it may name one and the package that tells is absent.
    """
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return  # the runtime says that it is empty
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_LOCATION) < 0:
                return
    if importlib.util.find_spec("onnx") is None:
        raise EdgeDeitError(
            f"{path} may keep weights in other files: pip install 'edge-deit[onnx]'"
        )
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return  # the runtime refuses it
    if (name := next(_files_named(model), None)) is not None:
        raise EdgeDeitError(
            f"{path} keeps weights in another file, {name!r:.80}, which its manifest does not cover; "
            "save it as one file, or export it again"
        )


def _files_named(message: Any) -> Iterator[str]:
    """The files that the tensors in a protobuf message name, whatever holds the tensors."""
    if message.DESCRIPTOR.name == "TensorProto" and (
        message.external_data or message.data_location == message.EXTERNAL
    ):
        yield next((e.value for e in message.external_data if e.key == _LOCATION.decode()), "")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _files_named(inner)


def load_runner(path: Path, threads: int) -> FileRunner:
    """Load a file into an ONNX Runtime session on the CPU.

    Raises:
        EdgeDeitError: ONNX Runtime is absent, or the file is missing, cut short or invalid.
    """
    if (reason := runs_on()) is not None:
        raise EdgeDeitError(reason)
    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")
    check(path)
    try:
        session = open_session(path, threads)
        inputs, outputs = session.get_inputs(), session.get_outputs()
    except Exception as error:  # ONNX Runtime has a class of its own for each of its status codes
        raise EdgeDeitError(
            f"{path} is not a usable .onnx file: {first_line(error)}; export it again"
        ) from error
    if len(outputs) != 1:
        raise EdgeDeitError(f"{path} has not one input and one output; export it again")
    names = [one.name for one in inputs]
    return _OnnxRunner(session, tuple(names[place] for place in in_order(names, path)))


def runs_on() -> str | None:
    """None when ONNX Runtime is installed, otherwise why the file cannot be run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed: pip install 'edge-deit[runtime-onnx]'"
    return None


@dataclass(frozen=True)
class _OnnxRunner:
    """A session and its inputs' names; sessions may be run by several threads at once."""

    session: Any
    names: tuple[str, ...]

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        arrays = (contiguous(one) for one in (pixels, *more))
        feed = dict(zip(self.names, arrays, strict=True))
        (result,) = self.session.run(None, feed)
        return np.asarray(result)


RUNTIME: Final = Runtime(
    name="onnx",
    label="ONNX Runtime",
    suffix=".onnx",
    extra="onnx",
    alone="runtime-onnx",
    modules=("onnxruntime",),
    load=lambda path, threads, units: load_runner(path, threads),
    runs_on=runs_on,
    check=check,
)
