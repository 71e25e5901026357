"""Keeps the converters' chatter from the user, and gives it all back when something goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from edge_deit.common.errors import EdgeDeitError

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back everything written to file descriptors 1 and 2, Python's and C++'s alike.

    When the block ends well the text is dropped; when it raises, the text goes to stderr before the
    exception travels on, so that a converter's real message is never lost. An EdgeDeitError is a line
    for the user already, and comes alone. `EDGE_DEIT_VERBOSE=1`
    turns the holding back off. The command line's own console writes to a duplicate of the terminal
    (see `common.console`), so progress bars go on meanwhile.
    """
    if os.environ.get("EDGE_DEIT_VERBOSE", "") not in ("", "0"):
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 1)
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        except EdgeDeitError:
            failed = False  # it says in one line what the converter said
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for handler in logging.getLogger().handlers:
                handler.flush()
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
            if failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
                sys.stderr.flush()
