"""A `.tflite` file as a flatbuffer: reading it safely, packing it, the texts embedded in it."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError

__all__ = [
    "VERSION_ENTRY",
    "add_entry",
    "allow_half",
    "contents",
    "drop_unused",
    "embed",
    "kind",
    "pack",
    "read",
    "texts",
    "unpack",
    "verify",
    "word",
]

_IDENTIFIER: Final = b"TFL3"  # bytes 4 to 8 of the file, from the schema's `file_identifier`
_ALIGNMENT_BYTES: Final = 16  # the schema's `force_align` of Buffer.data
VERSION_ENTRY: Final = b"min_runtime_version"  # the converter's one note that tools read
_HALF_ENTRY: Final = b"reduced_precision_support"
_NO_TEXTS: Final = ("min_runtime_version", "reduced_precision_support", "TFLITE_METADATA")
_HALF: Final = b"fp16accfp16"  # half precision, accumulated in it too
_BROKEN: Final = (struct.error, IndexError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a flatbuffer raises when an offset or a length in it points outside the file."""


def unpack(content: Any) -> Any:
    """The schema's ModelT of a file's bytes that are known to be whole."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(content)


def pack(model: Any) -> bytes:
    """Serialise; buffers are aligned as the schema asks, which the Python packer leaves out."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        """A buffer whose bytes start at a multiple of 16 in the file."""

        def Pack(self, builder: Any) -> Any:
            if self.data is not None:
                builder.Prep(_ALIGNMENT_BYTES, len(self.data))
            return super().Pack(builder)

    aligned = []
    for buffer in model.buffers:
        copy = AlignedBuffer()
        data = contents(buffer)
        copy.data = np.frombuffer(data, np.uint8) if data else None
        aligned.append(copy)
    model.buffers = aligned
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def kind(model: Any, operator: Any) -> str:
    """An operator's name in the schema, such as FULLY_CONNECTED."""
    from ai_edge_litert.tools import flatbuffer_utils

    return str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex))


def word(name: bytes | str | None) -> str:
    """A name of the flatbuffer as text."""
    return name.decode() if isinstance(name, bytes) else name or ""


def contents(buffer: Any) -> bytes:
    """A buffer's bytes, none for an empty one."""
    return b"" if buffer.data is None else bytes(buffer.data)


def drop_unused(model: Any) -> None:
    """Remove tensors that no operator reads or writes, and buffers that no tensor names, in place."""
    (graph,) = model.subgraphs
    ends = (graph.inputs, graph.outputs)
    lists = [*ends, *(part for op in graph.operators for part in (op.inputs, op.outputs))]
    kept = sorted({int(index) for part in lists for index in part if index >= 0})
    place = {old: new for new, old in enumerate(kept)} | {-1: -1}  # -1: an operand left out
    graph.tensors = [graph.tensors[index] for index in kept]
    for part in lists:
        part[:] = [place[int(index)] for index in part]
    for signature in model.signatureDefs or []:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = place[int(entry.tensorIndex)]
    named = [*graph.tensors, *(model.metadata or [])]
    used = [0, *sorted({int(item.buffer) for item in named} - {0})]  # buffer 0 is the empty one
    model.buffers = [model.buffers[index] for index in used]
    for item in named:
        item.buffer = used.index(int(item.buffer))


def embed(model: Any, metadata: Mapping[str, str]) -> None:
    """Store one metadata entry, name and buffer, for each text; the converter's own notes go."""
    model.metadata = [entry for entry in model.metadata or [] if entry.name == VERSION_ENTRY]
    for name, text in metadata.items():
        add_entry(model, name.encode(), text.encode())


def allow_half(model: Any) -> None:
    """Tell runtimes that float operators may be computed in half precision.

    XNNPACK does so on processors that have its arithmetic, and computes in float32 on others.

    Source: tensorflow/lite/tools/optimize/reduced_precision_metadata.h.
    """
    add_entry(model, _HALF_ENTRY, _HALF)


def add_entry(model: Any, name: bytes, content: bytes) -> None:
    """Store one metadata entry."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)


def texts(model: Any) -> dict[str, str]:
    """What `embed` stored, by name."""
    return {
        word(entry.name): contents(model.buffers[entry.buffer]).decode()
        for entry in model.metadata or []
        if word(entry.name) not in _NO_TEXTS
    }


class _Strict(bytes):
    """Bytes whose slices never come out shorter than asked, as a reader of offsets needs."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.stop is not None and key.stop > len(self):
            raise IndexError(f"byte {key.stop} of a file of {len(self)}")
        return super().__getitem__(key)


def read(path: Path) -> Any:
    """Every table, text and buffer of a file, each checked to lie inside it.

    The runtime maps the file and follows its offsets unchecked, so that a file cut short ends the
    process; reading all of it here first turns that into an error.

    Raises:
        EdgeDeitError: the file is missing, is not a `.tflite`, or is cut short.
    """
    from ai_edge_litert import schema_py_generated as schema

    _check_identifier(path)
    content = _Strict(path.read_bytes())
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        _check_buffers(model, len(content))
    except _BROKEN as error:
        raise EdgeDeitError(f"{path} is cut short or damaged ({error}); export it again") from error
    return model


def verify(path: Path) -> None:
    """Refuse a broken file; with tflite-runtime alone, which has no schema, only its first bytes.

    Raises:
        EdgeDeitError: as `read`.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        _check_identifier(path)
    else:
        read(path)


def _check_buffers(model: Any, size_bytes: int) -> None:
    """Refuse tensors without a buffer, and buffers outside the file or in other files."""
    if model.externalBufferGroups or model.externalBuffers:
        raise ValueError("it keeps weights in other files")
    for buffer in model.buffers or []:
        if buffer.offset > 1 and buffer.offset + buffer.size > size_bytes:
            raise ValueError(f"a buffer ends at byte {buffer.offset + buffer.size} of {size_bytes}")
    if not model.subgraphs:
        raise ValueError("no graph in it")
    for graph in model.subgraphs:
        for tensor in graph.tensors or []:
            if not 0 <= tensor.buffer < len(model.buffers):
                raise ValueError(f"a tensor names buffer {tensor.buffer}")


def _check_identifier(path: Path) -> None:
    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")
    with path.open("rb") as stream:
        head = stream.read(8)
    if len(head) < 8 or head[4:] != _IDENTIFIER:
        raise EdgeDeitError(f"{path} is not a .tflite file; export it again")
