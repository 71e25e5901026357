"""Weights from the Hugging Face hub, or from its cache, held against the hashes that the hub gave."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError, first_line

__all__ = ["download"]

_DESCRIBING: Final = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
)
_SAFE: Final = ("*.safetensors", "*.safetensors.index.json")
_PICKLED: Final = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_SIGN_IN: Final = "log in with `hf auth login`, or set HF_TOKEN to a token that may read it"
_DENIED: Final = (401, 403)
_NO_HUB: Final = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What its client raises on answers that are not the hub's: pages, empty objects, lists."""


def download(name: str, cache_dir: Path | None) -> Path:
    """Folder of a Hugging Face repository, from the cache where it is there already.

    Raises:
        EdgeDeitError: no name of a repository, one that is missing, private or gated, something that
            answers and is no hub, a hub that cannot be reached, or a file that is not the hub's.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise EdgeDeitError(
            f"hub:{name} is no hub name; write hub:ORG/NAME or hub:ORG/NAME@REVISION "
            "(a commit hash as REVISION pins the download)"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EdgeDeitError("hub: needs huggingface_hub: pip install 'edge-deit[hub]'") from error
    wanted = [*_DESCRIBING, *_SAFE]
    with _silent(), _explained(name, match[2]):
        for patterns in (wanted, [*wanted, *_PICKLED]):
            folder = Path(
                snapshot_download(
                    match[1], revision=match[2], allow_patterns=patterns, cache_dir=cache_dir
                )
            )
            if any(folder.glob("*.safetensors")):
                break
    for path in sorted(folder.iterdir()):
        _check_hash(name, path)
    return folder


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bars, and no lines of its own about what fails: the error says it."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # a lazy re-export
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    shown, level = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            enable_progress_bars()


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """Whatever its client raises, as one line that says what answered and what to do."""
    from huggingface_hub import constants, errors

    endpoint = constants.ENDPOINT
    try:
        yield
    except errors.HFValidationError as error:
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: no valid name: {first_line(error)}"
        ) from error
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined] # httpx's, by its version
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: {_reason(error, revision, endpoint)}"
        ) from error
    except _NO_HUB as error:
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: what answers at {endpoint} is no Hugging Face hub "
            f"({type(error).__name__}: {first_line(error)}); a network's sign-in page, perhaps: open a "
            "browser, check HF_ENDPOINT and proxies, or download the folder and name it"
        ) from error


def _reason(error: BaseException, revision: str | None, endpoint: str) -> str:
    """What went wrong, from the error or those that led to it, and what to do."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    for one in chain:
        if reason := _known_reason(one, revision, endpoint):
            return reason
    return (
        f"not in the cache, and not reachable: {first_line(error)}; check name, revision and network, or "
        "download the folder and name it"
    )


def _known_reason(error: BaseException, revision: str | None, endpoint: str) -> str | None:
    from huggingface_hub import errors

    instead = "check HF_ENDPOINT and proxies, or download the folder and name it"
    match error:
        case errors.RevisionNotFoundError():
            return f"it has no revision {revision}; check it"
        case errors.GatedRepoError():
            return f"it is gated: accept its terms on its page, then {_SIGN_IN}"
        case errors.RepositoryNotFoundError():
            return f"there is no such repository, or it is private: then {_SIGN_IN}"
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status in _DENIED:
                return f"the hub denies it ({status}): {_SIGN_IN}"
            return f"{endpoint} answers {status}; check name and revision, {instead}"
        case errors.FileMetadataError():
            return (
                f"what answers at {endpoint} is no Hugging Face hub: {first_line(error)}; {instead}"
            )
    if type(error).__name__ == "TooManyRedirects":
        return f"what answers at {endpoint} is no Hugging Face hub: it redirects in a circle; {instead}"
    if type(error).__name__ == "RemoteProtocolError":
        return f"the download was cut short: {first_line(error)}; run it again to go on"
    return None


def _check_hash(name: str, path: Path) -> None:
    """A file in the hub's cache is a link to a blob that is named by its hash: sha256, or git's sha1."""
    blob = path.resolve()
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
        return
    size = blob.stat().st_size
    digest = hashlib.sha256()
    if len(blob.name) == 40:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        raise EdgeDeitError(
            f"hub:{name}: {path.name} is not the file that the hub has (hash {digest.hexdigest()[:12]}, "
            f"{blob.name[:12]} is expected): its download was cut or changed; delete {blob} and run again"
        )
