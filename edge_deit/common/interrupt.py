"""Ctrl-C: a line and exit code 130 while Python imports a command; held back where work must be whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

__all__ = ["INTERRUPTED", "say_interrupts", "uninterrupted"]

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

_HELD: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGCHLD") if hasattr(signal, name)
)
"""Signals whose handlers may raise: PyTorch's for SIGCHLD does where a process that decodes photos dies."""


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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What Ctrl-C, termination and a child's end ask for inside the block happens at its end.

    For a few milliseconds' work that must be whole, or where Python drops what handlers raise, as it does
    where a process is forked. Only Python's own handlers are held back, and only in the main thread, where
    they run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in _HELD}
    held = {number: handler for number, handler in before.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda which, frame: asked.append(which))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for which in dict.fromkeys(asked):
        held[signal.Signals(which)](which, None)
