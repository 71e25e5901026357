"""What MediaPipe and Android Studio read in a `.tflite` that takes images: metadata and a file of labels.

The entry `TFLITE_METADATA` holds a flatbuffer of its own schema, and the labels lie behind the model as a
ZIP archive, uncompressed, so that the file can still be mapped. Numbers below are places of fields and
values of enumerations in that schema.

Source: metadata_schema.fbs of TensorFlow Lite Support.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["ENTRY", "image_metadata", "labels_archive"]

ENTRY: Final = "TFLITE_METADATA"
_LABELS: Final = "labels.txt"
_IDENTIFIER: Final = b"M001"
_PARSER: Final = "1.0.0"  # the oldest reader that knows all fields used here
_RGB: Final = 1  # ColorSpaceType
_AXIS_LABELS: Final = 2  # AssociatedFileType: a line for each element of the tensor's last axis
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_NORMALIZATION: Final = 1  # ProcessUnitOptions
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # equal models give equal bytes


def image_metadata(texts: Mapping[str, str], input_name: str, output_name: str) -> bytes:
    """The flatbuffer: one image in, one score for each class out, whose names `labels_archive` holds.

    `texts` has `description`, `version`, `author` and `license`. The graph takes the bytes as they are, so
    the normalisation is mean 0 and standard deviation 1.
    """
    import flatbuffers

    make = _Tables(flatbuffers.Builder(1024))
    identity = make.table({0: make.floats([0.0]), 1: make.floats([1.0])})
    source = {
        0: make.text(input_name),
        1: make.text("RGB photo, cut to the input's size"),
        3: make.table({1: make.table({}, {0: _RGB})}, {0: _IMAGE}),
        4: make.tables([make.table({1: identity}, {0: _NORMALIZATION})]),
    }
    result = {
        0: make.text(output_name),
        1: make.text("A score for each class"),
        3: make.table({1: make.table({})}, {0: _FEATURE}),
        6: make.tables([make.table({0: make.text(_LABELS)}, {2: _AXIS_LABELS})]),
    }
    graph = {2: make.tables([make.table(source)]), 3: make.tables([make.table(result)])}
    return make.finish(
        {
            0: make.text("DeiT image classifier"),
            1: make.text(texts["description"]),
            2: make.text(texts["version"]),
            3: make.tables([make.table(graph)]),
            4: make.text(texts["author"]),
            5: make.text(texts["license"]),
            7: make.text(_PARSER),
        }
    )


def labels_archive(labels: str) -> bytes:
    """The ZIP archive that goes behind the model: the names of the classes, one a line."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_LABELS, _EPOCH), labels + "\n")
    return stream.getvalue()


class _Tables:
    """Tables of a schema whose code is not at hand, by the places of their fields."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def text(self, value: str) -> int:
        return int(self._builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return int(self._builder.EndVector())

    def tables(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def table(self, fields: Mapping[int, int], small: Mapping[int, int] | None = None) -> int:
        """A table of what was made before, by place; `small` are bytes: enumerations, kinds of unions."""
        small = small or {}
        self._builder.StartObject(max([*fields, *small, -1]) + 1)
        for place, offset in fields.items():
            self._builder.PrependUOffsetTRelativeSlot(place, offset, 0)
        for place, value in small.items():
            self._builder.PrependInt8Slot(place, value, 0)
        return int(self._builder.EndObject())

    def finish(self, fields: Mapping[int, int]) -> bytes:
        self._builder.Finish(self.table(fields), file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())
