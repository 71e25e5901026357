"""An `.mlpackage` on disk: its specification, and whether all that it names is there."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from exporters.coreml.operators import OPERATORS

__all__ = ["broken", "check_operators", "check_weights", "model_file", "read_specification"]

_BLOB: Final = struct.Struct("<IIQQ")  # mark, type, bytes, where the data starts in the file
_BLOB_MARK: Final = 0xDEADBEEF


def read_specification(path: Path) -> Any:
    """The model specification inside a package (coremltools' protobuf `Model`).

    Raises:
        EdgeDeitError: the package is missing, incomplete, or not an ML Program with one input and output.
    """
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    specification = Model_pb2.Model()
    try:
        specification.ParseFromString(model_file(path).read_bytes())
    except DecodeError as error:
        raise broken(path, f"model.mlmodel: {error}") from error
    description = specification.description
    if specification.WhichOneof("Type") != "mlProgram":
        raise broken(path, "it holds no ML Program")
    if len(description.input) != 1 or len(description.output) != 1:
        raise broken(path, "it has not exactly one input and one output")
    return specification


def model_file(path: Path) -> Path:
    """Where the package's list of contents says that the model is.

    Raises:
        EdgeDeitError: the package or its model is missing, or the list is not readable.
    """
    if not path.exists():
        raise EdgeDeitError(f"{path} does not exist")
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        file: Path = Path(path, "Data", str(entry["path"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise broken(path, f"Manifest.json: {error}") from error
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        raise broken(path, f"{file.name} is missing")
    return file


def broken(path: Path, reason: object) -> EdgeDeitError:
    """The error for a package that is not whole; of `reason` its first line."""
    line = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return EdgeDeitError(f"{path} is not a whole .mlpackage: {line}; export it again")


def _operations(specification: Any) -> Iterator[Any]:
    for function in specification.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def check_operators(specification: Any, path: Path) -> None:
    """Refuse a package with operators that `OPERATORS` lacks.

    Raises:
        EdgeDeitError: one line that names them.
    """
    kinds = {operation.type for operation in _operations(specification)} - {"const"}
    if unknown := sorted(kinds - OPERATORS.keys()):
        raise EdgeDeitError(
            f"{path} holds operators that the reference for Core ML does not have: "
            f"{', '.join(unknown)}; run the package on macOS"
        )


def check_weights(specification: Any, file: Path, path: Path) -> None:
    """Every constant must lie inside the file: coremltools reads past the end of a short one.

    Raises:
        EdgeDeitError: the file is missing, cut short, or another model's.
    """
    offsets = sorted(set(_weight_offsets(specification)))
    if not offsets:
        return
    if not file.is_file():
        raise broken(path, "weight.bin is missing")
    size_bytes = file.stat().st_size
    with file.open("rb") as stream:
        for offset in offsets:
            stream.seek(offset)
            header = stream.read(_BLOB.size)
            if len(header) < _BLOB.size:
                raise broken(path, "weight.bin is cut short")
            mark, _, length, start = _BLOB.unpack(header)
            if mark != _BLOB_MARK:
                raise broken(path, "weight.bin belongs to another model")
            if start + length > size_bytes:
                raise broken(path, "weight.bin is cut short")


def _weight_offsets(specification: Any) -> Iterator[int]:
    for operation in _operations(specification):
        values = list(operation.attributes.values())
        for argument in operation.inputs.values():
            values += [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue.offset
