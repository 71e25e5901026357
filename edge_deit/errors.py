"""The one exception that a user is meant to read."""

__all__ = ["EdgeDeitError"]


class EdgeDeitError(Exception):
    """Bad input or a refused request: one line that says what failed and what to do about it.

    The library raises it; the command line prints it on stderr and exits with status 2.
    """
