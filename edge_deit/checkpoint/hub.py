"""Weights from the Hugging Face hub, or from its cache."""

from __future__ import annotations

import re
from pathlib import Path

from edge_deit.common.errors import EdgeDeitError, first_line


def download(name: str, cache_dir: Path | None) -> Path:
    """Folder of a Hugging Face repository, from the cache where it is there already."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise EdgeDeitError(
            f"hub:{name} is no hub name; write hub:ORG/NAME or hub:ORG/NAME@REVISION "
            "(a commit hash as REVISION pins the download)"
        )
    try:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils import (  # type: ignore[attr-defined] # a lazy re-export
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ImportError as error:
        raise EdgeDeitError("hub: needs huggingface_hub: pip install 'edge-deit[hub]'") from error
    wanted = [
        "config.json",
        "preprocessor_config.json",
        "*.safetensors",
        "*.safetensors.index.json",
    ]
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        for patterns in (wanted, [*wanted, "pytorch_model.bin"]):
            folder = Path(
                snapshot_download(
                    match[1], revision=match[2], allow_patterns=patterns, cache_dir=cache_dir
                )
            )
            if any(folder.glob("*.safetensors")):
                break
        return folder
    except (errors.HFValidationError, OSError) as error:
        reason = f"not in the cache, and not reachable: {first_line(error)}"
        if isinstance(error, errors.RevisionNotFoundError):
            reason = f"it has no revision {match[2]}"
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason = "there is no such repository, or it is private"
        elif isinstance(error, errors.HFValidationError):
            reason = f"no valid name: {first_line(error)}"
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: {reason}; check name, revision and network, or download "
            "the folder and name it"
        ) from error
    finally:
        if shown:
            enable_progress_bars()
