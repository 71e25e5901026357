"""What all processes of torchrun would say is said once: by the first of a machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

__all__ = ["let_the_first_speak", "training_begins"]

_SECONDS: Final = 10.0
_BEGUN: Final = threading.Event()


def training_begins() -> None:
    """From here on an error is one process's own."""
    _BEGUN.set()


def let_the_first_speak() -> None:
    """Wait before an error that is probably everybody's is said: torchrun ends this process meanwhile.

    The first process of a machine does not wait, nor one without torchrun, nor one that trains already.
    """
    if os.environ.get("LOCAL_RANK", "0") in ("", "0") or _BEGUN.is_set():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(_SECONDS)
