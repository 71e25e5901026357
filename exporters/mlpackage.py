"""An `.mlpackage` on disk: its specification, and whether all that it names is there."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.runtime import MASK_NAME

__all__ = [
    "broken",
    "check_weights",
    "class_names",
    "model_file",
    "operations_of",
    "read_specification",
    "settle_bytes",
]

_BLOB: Final = struct.Struct("<IIQQ")  # mark, type, bytes, where the data starts in the file
_BLOB_MARK: Final = 0xDEADBEEF
_WEIGHTS_NAMED: Final = "@model_path/weights/weight.bin"  # as a specification names that file


def read_specification(path: Path) -> Any:
    """The model specification inside a package (coremltools' protobuf `Model`).

    Raises:
        EdgeDeitError: the package is missing, incomplete, or not an ML Program with one input and output,
            the mask of masked images aside.
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
    label = {description.predictedFeatureName} - {""}  # a classifier names the best class too
    outputs = {one.name for one in description.output} - label
    inputs = [one.name for one in description.input if one.name != MASK_NAME]
    if len(inputs) != 1 or len(outputs) != 1:
        raise broken(path, "it has not exactly one input and one output")
    return specification


def settle_bytes(path: Path) -> None:
    """Give equal packages equal bytes, in place.

    coremltools draws the identifiers of a package's parts, and the order of protobuf's maps changes from
    process to process: here identifiers follow from the parts' paths, and maps are sorted.
    """
    file, contents = model_file(path), path / "Manifest.json"
    file.write_bytes(read_specification(path).SerializeToString(deterministic=True))
    manifest = json.loads(contents.read_text(encoding="utf-8"))
    entries = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, entries[old]["path"])) for old in entries}
    manifest["itemInfoEntries"] = {names[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    contents.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")


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
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(path, f"Manifest.json: {error}") from error
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        raise broken(path, f"{file.name} is missing")
    return file


def broken(path: Path, reason: object) -> EdgeDeitError:
    """The error for a package that is not whole; of `reason` its first line."""
    line = first_line(reason) if isinstance(reason, BaseException) else str(reason)
    return EdgeDeitError(f"{path} is not a whole .mlpackage: {line}; export it again")


def class_names(labels: str) -> tuple[str, ...]:
    """A classifier's names for labels, one a line: each once, as they are the keys of its answer.

    >>> class_names("crane\\nhen\\ncrane")
    ('crane (0)', 'hen', 'crane (2)')
    """
    names = labels.split("\n")
    twice = {name for name in names if names.count(name) > 1}
    return tuple(f"{n} ({i})" if n in twice else n for i, n in enumerate(names))


def operations_of(specification: Any) -> Iterator[Any]:
    """All operations of a specification's program, those in nested blocks too."""
    for function in specification.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from _inside(block)


def _inside(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _inside(inner)


def check_weights(specification: Any, path: Path) -> None:
    """Every constant must lie inside the package's one file of weights.

    coremltools reads past the end of a short file, and Core ML follows whatever path is named.

    Raises:
        EdgeDeitError: the file is missing, cut short, another model's, or not the one that is named.
    """
    blobs = list(_blobs(specification))
    if not blobs:
        return
    if foreign := [blob.fileName for blob in blobs if blob.fileName != _WEIGHTS_NAMED]:
        raise broken(path, f"it keeps weights in {foreign[0]!r:.80}")
    file = model_file(path).parent / "weights" / "weight.bin"
    if not file.is_file():
        raise broken(path, "weight.bin is missing")
    size_bytes = file.stat().st_size
    with file.open("rb") as stream:
        for offset in sorted({blob.offset for blob in blobs}):
            if offset + _BLOB.size > size_bytes:
                raise broken(path, "weight.bin is cut short")
            stream.seek(offset)
            mark, _, length, start = _BLOB.unpack(stream.read(_BLOB.size))
            if mark != _BLOB_MARK:
                raise broken(path, "weight.bin belongs to another model")
            if start + length > size_bytes:
                raise broken(path, "weight.bin is cut short")


def _blobs(specification: Any) -> Iterator[Any]:
    for operation in operations_of(specification):
        values = list(operation.attributes.values())
        for argument in operation.inputs.values():
            values += [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue
