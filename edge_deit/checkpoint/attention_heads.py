"""How many attention heads a model has: tensors do not tell, so a file, the user or a convention has to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig

__all__ = ["check_stated_heads", "heads_of_tensors", "heads_of_timm"]

_HEAD_VALUES: Final = 64  # in every published DeiT (arXiv 2012.12877, table 1)
_HUGE: Final = 1280, 16  # width and heads of a ViT-H (arXiv 2010.11929, table 1)
_TIMM: Final = {
    "tiny": (192, 3),
    "little": (320, 5),
    "small": (384, 6),
    "medium": (512, 8),
    "base": (768, 12),
    "large": (1024, 16),
    "huge": (1280, 16),
}  # width and heads of timm's deit_SIZE, deit3_SIZE and vit_SIZE
_TIMM_NAME: Final = re.compile(rf"^(?:deit3?|vit)_({'|'.join(_TIMM)})_")


def check_stated_heads(path: Path, stated: int, asked: int | None) -> None:
    """Refuse another number of heads than the file states.

    Raises:
        EdgeDeitError: they differ.
    """
    if asked is not None and asked != stated:
        raise EdgeDeitError(
            f"{path} says that it has {stated} attention heads, {asked} are asked for (--heads); leave the "
            "option out, or correct the file"
        )


def heads_of_tensors(
    path: Path, width: int, asked: int | None, expected: DeiTConfig | None
) -> tuple[int, tuple[str, ...]]:
    """Heads of a file that does not state them: what the user or the variant says, else 64 values a head.

    The second value has a line for the user where that was assumed.

    Raises:
        EdgeDeitError: nothing says it, and the width is no multiple of 64.
    """
    if asked is not None:
        return asked, ()
    if expected is not None and expected.embed_dim == width:
        return expected.num_heads, ()
    if width % _HEAD_VALUES:
        raise EdgeDeitError(
            f"{path} has width {width}, no multiple of 64, so its number of attention heads is not known; "
            "say it: --heads N"
        )
    heads = _HUGE[1] if width == _HUGE[0] else width // _HEAD_VALUES
    return heads, (
        f"assumed: {heads} attention heads for width {width}, {width // heads} values each as in every "
        f"published {'ViT-H' if width == _HUGE[0] else 'DeiT'}; {path.name} does not say it; --heads N "
        "changes it",
    )


def heads_of_timm(path: Path, data: Mapping[str, Any], width: int) -> int | None:
    """Heads that timm's config.json states, by `model_args` or by its architecture; None where it does not.

    Raises:
        EdgeDeitError: an architecture of another width than the tensors'.
    """
    arguments = data.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise EdgeDeitError(f"{path}: model_args is {arguments!r:.40}, not an object")
    if (stated := arguments.get("num_heads")) is not None:
        if type(stated) is not int or stated < 1:
            raise EdgeDeitError(
                f"{path}: num_heads is {stated!r:.40}; a whole number, 1 up, is expected"
            )
        return stated
    match = _TIMM_NAME.match(str(data.get("architecture")))
    if match is None or arguments.get("embed_dim") is not None:
        return None
    usual, heads = _TIMM[match[1]]
    if usual != width:
        raise EdgeDeitError(
            f"{path}: architecture {data['architecture']} has width {usual}, the tensors have {width}; "
            "correct it, or give the weights file alone, with --heads"
        )
    return heads
