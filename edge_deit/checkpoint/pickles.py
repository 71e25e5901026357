"""Pickles of PyTorch's as plain data: containers, numbers, texts, and tensors that are not read yet.

No code in them is run: the standard library's Unpickler reads them, and its `find_class` hands out nothing
but what is inert. Whatever an unknown class or function would have made becomes an `Inert`; training
frameworks leave such objects beside the weights.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any, Final

import torch

from edge_deit.checkpoint.rebuild import REBUILD, STORAGES, Function, Records, Storage

__all__ = ["MOST_PICKLE_BYTES", "Inert", "load_pickle"]

MOST_PICKLE_BYTES: Final = 1 << 26
"""Of one pickle: tensors are not in it, only their names and shapes."""

_MOST_OPCODES: Final = (
    1_500_000  # each makes at most 250 bytes; a DeiT-base with its optimizer has 50,000
)
_MOST_TUPLES: Final = 50_000  # hashing tuples in tuples recurses in C without a limit
_MOST_NAMES: Final = 2_000
_TUPLES: Final = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MEMO: Final = ("PUT", "BINPUT", "LONG_BINPUT")
_CODE: Final = frozenset(
    ("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty", "runpy", "importlib", "ctypes",
     "webbrowser", "code", "pdb", "commands")
)  # fmt: skip
_CODE_BUILTINS: Final = frozenset(
    ("eval", "exec", "compile", "open", "input", "breakpoint", "__import__")
)


class _Table(dict[Any, Any]):
    """Stands for OrderedDict, whose attributes a pickle may set, its methods among them."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Forget the attributes."""


class Inert(dict[Any, Any]):
    """Stands for an object of a class that is not known here: it keeps a mapping's items and does nothing.

    `origin` is the class's name.
    """

    origin = ""
    __hash__ = object.__hash__  # type: ignore[assignment] # it may be a key, as a path may
    __eq__ = object.__eq__

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget the attributes."""

    def __call__(self, *_: object, **__: object) -> Inert:
        return self

    def append(self, item: object) -> None:
        """Forget an item of a list."""

    def extend(self, items: object) -> None:
        """Forget items of a list."""

    def add(self, item: object) -> None:
        """Forget an item of a set."""


def load_pickle(
    file: IO[bytes], records: Records, on_storage: Callable[[Storage], object] = lambda _: None
) -> object:
    """The next pickle of the file; `on_storage` is called with each storage that it names.

    Raises:
        ValueError, pickle.UnpicklingError, and what a damaged pickle makes the Unpickler raise.
    """
    start = file.tell()
    _scan(file)
    length = file.tell() - start
    file.seek(start)
    return _Reader(file.read(length), records, on_storage).load()


def _scan(file: IO[bytes]) -> None:
    """Refuse what would cost memory or the C stack before it is loaded; stops behind the pickle's end."""
    tuples = 0
    start = file.tell()
    for number, (opcode, argument, place) in enumerate(pickletools.genops(file)):
        tuples += opcode.name in _TUPLES
        far = opcode.name in _MEMO and isinstance(argument, int) and argument > number
        length = 0 if place is None else place - start
        if far or tuples > _MOST_TUPLES or number > _MOST_OPCODES or length > MOST_PICKLE_BYTES:
            raise ValueError("its pickle is far larger than names and shapes of weights are")


class _Reader(pickle.Unpickler):
    """Hands out inert names only."""

    def __init__(
        self, content: bytes, records: Records, on_storage: Callable[[Storage], object]
    ) -> None:
        super().__init__(io.BytesIO(content), encoding="latin-1")
        self._records, self._on_storage = records, on_storage
        self._classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Our own function or class for that name.

        Raises:
            pickle.UnpicklingError: a name that only a pickle with code in it asks for.
        """
        if (module, name) == ("collections", "OrderedDict"):
            return _Table
        if module in ("torch._utils", "torch._tensor") and name in REBUILD:
            return REBUILD[name]
        if module == "torch" or module.startswith("torch."):
            if name.endswith("Storage"):
                return STORAGES.get(name, torch.uint8)
            if isinstance(kind := vars(torch).get(name), torch.dtype):
                return kind
        builtin = module in ("builtins", "__builtin__")
        if builtin and name == "getattr":  # how protocol 2 names a class in a class
            return Function(lambda *_: self._inert("a nested class"))
        if module.split(".")[0] in _CODE or (builtin and name in _CODE_BUILTINS):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:80])
        return self._inert(f"{module}.{name}")

    def _inert(self, origin: str) -> type[Inert]:
        if len(self._classes) > _MOST_NAMES:
            raise pickle.UnpicklingError(f"it names more than {_MOST_NAMES} classes")
        if origin not in self._classes:
            self._classes[origin] = type("Inert", (Inert,), {"origin": origin})
        return self._classes[origin]

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a tensor names.

        Raises:
            pickle.UnpicklingError: not a storage.
        """
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(count), *view) if count >= 0:
                storage = Storage(self._records, key, dtype, int(count))
            case _:
                raise pickle.UnpicklingError(f"{pid!r:.60} is no storage")
        self._on_storage(storage)
        match view:
            case [(str(), int(start), int(size))] if 0 <= start <= start + size <= count:
                return Storage(self._records, key, dtype, int(count), int(start))
            case [] | [None]:
                return storage
            case _:
                raise pickle.UnpicklingError(f"{view!r:.60} is no part of storage {key!r:.40}")
