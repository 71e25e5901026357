"""Ctrl-C before a command has begun, while Python still imports it: one line and exit code 130."""

from __future__ import annotations

import os
import sys
import warnings
from types import TracebackType
from typing import Final

__all__ = ["INTERRUPTED", "say_interrupts"]

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def say_interrupts() -> None:
    """Where nothing else catches an interrupt, let it end the process without a traceback."""
    if "error" in os.environ.get("PYTHONWARNINGS", ""):  # other people's warnings end no command
        del os.environ["PYTHONWARNINGS"]
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        print("interrupted; nothing was begun", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    sys.excepthook = hook
