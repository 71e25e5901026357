"""What a user names as weights -> the file or folder, or what to do instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from edge_deit.checkpoint.hub import download
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.opening import check_regular
from edge_deit.common.whereabouts import shareable

__all__ = ["check_content", "check_weights_file", "is_path", "locate", "shareable_source"]

_SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".pt.tar")
_ARCHIVES: Final = (
    ".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst",
)  # fmt: skip
_HUB_ADDRESS: Final = re.compile(
    r"^(?:hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/)(?:models/)?"
)
_LFS: Final = b"version https://git-lfs"
_PAGE: Final = re.compile(rb"\s*<(!doctype\s+html|html|\?xml)", re.IGNORECASE)
_FORMS: Final = "a file, a folder, hub:ORG/NAME or bundled"


def is_path(weights: str) -> bool:
    """Whether `weights` name a file or folder, not the bundled weights or the hub's."""
    return weights != "bundled" and not weights.startswith("hub:")


def shareable_source(weights: str) -> str:
    """What a file for others may say of where the weights come from (`common.whereabouts.shareable`)."""
    if not is_path(weights):
        return weights
    name = shareable(weights)
    return name if is_path(name) else f"./{name}"


def locate(weights: str, cache_dir: Path | None) -> Path:
    """The file or folder that `weights` names, fetched first where it is `hub:ORG/NAME[@REVISION]`.

    Raises:
        EdgeDeitError: an address, an archive, nothing at that place, or a hub that does not answer.
    """
    if weights.startswith("hub:"):
        return download(weights[4:], cache_dir)
    if "://" in weights:
        name = "/".join(_HUB_ADDRESS.sub("", weights).split("/")[:2])
        hub = f"hub:{name}" if _HUB_ADDRESS.match(weights) else "hub:ORG/NAME"
        raise EdgeDeitError(
            f"weights {weights} are an address, which is not fetched; download the file and name it, or "
            f"write {hub}"
        )
    path = Path(weights)
    _refuse_archive(path)
    if not _is_folder(path):
        if not _is_there(path) and re.fullmatch(r"[\w.-]+/[\w.-]+", weights):
            raise EdgeDeitError(
                f"weights {path} do not exist; give {_FORMS}; for the hub's write hub:{weights}"
            )
        check_weights_file(path)
    return path


def check_weights_file(path: Path) -> None:
    """Refuse what cannot be a weights file before it is read.

    Raises:
        EdgeDeitError: nothing there, no regular file, of another kind by its name or its first bytes.
    """
    if not _is_there(path):
        raise EdgeDeitError(f"weights {path} do not exist; give {_FORMS}")
    _refuse_archive(path)
    if not path.name.lower().endswith(_SUFFIXES):
        raise EdgeDeitError(
            f"weights {path}: .safetensors, .pth, .pt or .bin is expected (also .ckpt, .pth.tar)"
        )
    check_content(path, "weights")


def check_content(path: Path, what: str) -> None:
    """Refuse what is no regular file, and one whose first bytes say that a download left something else.

    Raises:
        EdgeDeitError: nothing there, a pipe or another kind of file, a pointer of Git LFS, or a web page.
    """
    check_regular(path, what)
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(_LFS):
        raise EdgeDeitError(
            f"{path} is a pointer of Git LFS, not the file itself; run git lfs pull in its folder"
        )
    if _PAGE.match(start):
        raise EdgeDeitError(f"{path} is a web page, not the file itself; download it again")


def _refuse_archive(path: Path) -> None:
    name = path.name.lower()
    if name.endswith(_ARCHIVES) and not name.endswith(_SUFFIXES) and not _is_folder(path):
        raise EdgeDeitError(
            f"weights {path} are an archive, which is not read; unpack it and name the file or folder in it"
        )


def _is_there(path: Path) -> bool:
    """Whether something has that name, be it out of reach or a link to nothing."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):  # a name too long, or no right to look: opening it says so
        return True
    return True


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
