"""Which packages make and run `.aimodel` files: betas, so each is pinned to the version that was tested."""

from __future__ import annotations

import platform
import sys
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import version_of

__all__ = ["CORE", "PINS", "TORCH", "check_version", "not_here"]

CORE: Final = "coreai-core"
TORCH: Final = "coreai-torch"

PINS: Final = {CORE: "1.0.0b3", TORCH: "0.4.3"}
"""Distribution -> the one version that this version of Edge DeiT was tested with."""


def check_version(distribution: str) -> None:
    """Refuse another version than the pinned one: file and interface change from one beta to the next.

    Raises:
        EdgeDeitError: it names both versions and what to install.
    """
    found, wanted = version_of(distribution), PINS[distribution]
    if found != wanted:
        raise EdgeDeitError(
            f"coreai needs {distribution} {wanted}, a beta that changes with each version; "
            f"{found or 'none'} is installed: pip install 'edge-deit[coreai]'"
        )


def not_here() -> str | None:
    """None on systems that Apple makes `coreai-core` for, otherwise one line on why there is none."""
    machine = platform.machine().lower()
    if (sys.platform, machine) in (("linux", "x86_64"), ("darwin", "arm64")):
        return None
    return (
        f"Apple has no {CORE} for {platform.system()} on {machine}: it is made for Linux on x86_64 (glibc "
        "2.34 or newer) and macOS 26 or newer on arm64"
    )
