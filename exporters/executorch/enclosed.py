"""The Core ML package inside a `.pte` for ExecuTorch's Core ML delegate, taken out and held to the program.

The delegate hands a package its tensors by the names in `metadata.json`, in the order of its call.

Source: executorch/backends/apple/coreml/compiler/coreml_preprocess.py (`preprocess_model`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import open_regular
from edge_deit.common.strict_json import parse_json
from edge_deit.exporters.executorch.delegated import Delegated, read_delegated
from edge_deit.exporters.executorch.flattened import Files, read_flattened, write_files
from edge_deit.exporters.mlpackage import read_specification
from edge_deit.exporters.runtime import in_order

__all__ = ["COREML_BACKEND", "unpack"]

COREML_BACKEND: Final = "CoreMLBackend"
"""The delegate's name inside a file."""
_TOP: Final = "lowered_module"
_PACKAGE: Final = (_TOP, "model.mlpackage")
_COMPILED: Final = (_TOP, "model.mlmodelc")
_NAMES: Final = (_TOP, "metadata.json")
_SHARED: Final = b"CMJR"  # a name of data that methods share, in place of a package


def unpack(path: Path, folder: Path) -> Path:
    """Write the package in a `.pte` into an empty folder, and return it.

    Raises:
        EdgeDeitError: the file is missing, cut short or damaged, does anything besides the one call of the
            Core ML delegate, or the package does not fit that call; or it cannot be written.
    """
    package = folder.joinpath(*_PACKAGE)
    try:
        with open_regular(path) as stream:
            delegated = read_delegated(stream.read(), COREML_BACKEND)
        files = _files(delegated.data)
        names = _parsed(files[_NAMES])
        write_files({k: v for k, v in files.items() if k[: len(_PACKAGE)] == _PACKAGE}, folder)
        _check_ends(read_specification(package).description, names, delegated)
    except OSError as error:
        raise EdgeDeitError(
            f"the package in {path} cannot be written to {folder}: {error.strerror}; "
            "free some space there, or name another folder as TMPDIR"
        ) from error
    except ValueError as error:
        raise EdgeDeitError(
            f"{path} is not one Core ML package in an ExecuTorch program: {error}; export it again"
        ) from error
    except EdgeDeitError as error:
        said = str(error).replace(str(package), f"{package.name} in {path}")
        raise EdgeDeitError(said) from error
    return package


def _files(data: memoryview) -> Files:
    """What the delegate's data holds.

    Raises:
        ValueError: no package, in words.
    """
    if bytes(data[: len(_SHARED)]) == _SHARED:
        raise ValueError("its package is one that methods share")
    files = read_flattened(data)
    tops = {names[: len(_PACKAGE)] for names in files}
    if _COMPILED in tops:
        raise ValueError("its package is compiled, which Core ML alone reads")
    if _PACKAGE not in tops or _NAMES not in files:
        found = ", ".join(sorted({"/".join(names) for names in tops}))
        raise ValueError(f"its delegate holds {found:.200}, no package and its names")
    return files


def _parsed(names: memoryview) -> Any:
    try:
        return parse_json(bytes(names))
    except ValueError as error:
        raise ValueError(f"{_NAMES[-1]} is not readable: {error}") from error


def _check_ends(description: Any, names: Any, delegated: Delegated) -> None:
    """Hold a package's inputs and outputs to the names and shapes of the call that it stands for.

    Raises:
        ValueError: they are others, in words.
    """
    for what, ends, called, shapes in (
        ("inputs", description.input, "inputNames", delegated.takes),
        ("outputs", description.output, "outputNames", delegated.returns),
    ):
        wanted = names.get(called) if isinstance(names, dict) else None
        found = [one.name for one in ends]
        if found != wanted:
            raise ValueError(f"the package's {what} are {found!r:.80}, called are {wanted!r:.80}")
        own = tuple(tuple(one.type.multiArrayType.shape) for one in ends)
        if own != shapes:
            raise ValueError(f"the package's {what} are {own!r:.80}, the program's {shapes!r:.80}")
    photo, *masks = in_order([one.name for one in description.input], Path(_PACKAGE[-1]))
    if [photo, *masks] != sorted([photo, *masks]):
        raise ValueError("it takes its mask before its photo")
