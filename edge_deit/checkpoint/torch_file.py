"""PyTorch's two file layouts: pickles with names and shapes, and the storages of the tensors.

Since torch 1.6 a zip archive with `data.pkl` and a record for each storage; before, five pickles (a magic
number, a version, the system, the object, the storages' keys) followed by the storages.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import IO, Final

from edge_deit.checkpoint.pickles import MOST_PICKLE_BYTES, load_pickle
from edge_deit.checkpoint.rebuild import Storage

__all__ = ["read_torch_file"]

_ZIP: Final = b"PK\x03\x04"
_MAGIC: Final = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
_VERSION: Final = 1001  # torch.serialization.PROTOCOL_VERSION


def read_torch_file(path: Path) -> object:
    """The object in the file, each tensor as a `StoredTensor`; no code in it is run.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OSError, pickle.UnpicklingError,
        zipfile.BadZipFile, struct.error: not such a file, or a damaged one.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            return _read_zip(path)
        file.seek(0)
        return _read_legacy(path, file)


class _ZipRecords:
    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix = path, prefix
        self._last: tuple[str, bytearray] = ("", bytearray())

    def read(self, key: str, size_bytes: int) -> bytearray:
        if self._last[0] != key or len(self._last[1]) != size_bytes:
            self._last = ("", bytearray())
            self._last = (key, self._read(key, size_bytes))
        return self._last[1]

    def _read(self, key: str, size_bytes: int) -> bytearray:
        with zipfile.ZipFile(self._path) as archive:
            record = archive.getinfo(f"{self._prefix}data/{key}")
            if record.file_size != size_bytes:
                raise ValueError(
                    f"record data/{key} has {record.file_size} bytes, its tensors need {size_bytes}"
                )
            with archive.open(record) as stream:
                return bytearray(stream.read())


def _read_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        found = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        prefix = found[0].removesuffix("data.pkl") if len(found) == 1 else None
        if prefix is None or f"{prefix}constants.pkl" in names:
            raise ValueError(
                "it is a program (TorchScript, torch.export) or another archive, not model.state_dict()"
            )
        packed = [record for record in records if record.compress_type != zipfile.ZIP_STORED]
        if packed or sum(record.file_size for record in records) > path.stat().st_size:
            name = (packed or records)[0].filename
            raise ValueError(f"record {name!r:.60} is compressed, as no record of PyTorch's is")
        if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") != b"little":
            raise ValueError("it was saved on a big-endian machine")
        if archive.getinfo(found[0]).file_size > MOST_PICKLE_BYTES:
            raise ValueError("its pickle is far larger than names and shapes of weights are")
        content = archive.read(found[0])
    return load_pickle(io.BytesIO(content), _ZipRecords(path, prefix))


class _LegacyRecords:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.places: dict[str, int] = {}  # key -> offset of its bytes in the file

    def read(self, key: str, size_bytes: int) -> bytearray:
        with self._path.open("rb") as file:
            file.seek(self.places[key])
            return bytearray(file.read(size_bytes))


def _read_legacy(path: Path, file: IO[bytes]) -> object:
    records = _LegacyRecords(path)
    if load_pickle(file, records) != _MAGIC or load_pickle(file, records) != _VERSION:
        raise ValueError("it is no file of PyTorch's")
    system = load_pickle(file, records)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was saved on a big-endian machine")
    storages: dict[str, Storage] = {}
    found = load_pickle(file, records, lambda one: storages.setdefault(one.key, one))
    keys = load_pickle(file, records)
    size = path.stat().st_size
    for key in keys if isinstance(keys, list) else []:
        (count,) = struct.unpack("<q", file.read(8))
        if key not in storages or storages[key].count != count:
            raise ValueError(f"storage {key!r:.40} has {count} values, its tensors need others")
        records.places[key] = file.tell()
        end = file.seek(count * storages[key].dtype.itemsize, io.SEEK_CUR)
        if end > size:
            raise ValueError(f"storage {key!r:.40} is cut short")
    if lost := storages.keys() - records.places.keys():
        raise ValueError(f"storage {sorted(lost)[0]!r:.40} is not in the file")
    return found
