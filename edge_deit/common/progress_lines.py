"""Progress where there is no terminal for bars: now and then a plain line on what is done and left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

__all__ = ["ProgressLines", "in_pace", "in_words"]

_EVERY_S: Final = 10.0
_PACE_LINES: Final = 6  # the time left follows from the pace since so many lines ago


class ProgressLines:
    """Says how far tasks of ten seconds and more are, at most once in ten seconds for all together.

    A task that took at least that long has a line at its end as well; short ones have none.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._lock = threading.Lock()
        self._said = clock()

    @contextmanager
    def task(
        self, what: str, total: int | None = None, *, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """Something that takes a while; the function gets the steps since its last call.

        With a `unit` the lines say how many of it a second are done.
        """
        started, done = self._clock(), 0
        said: deque[tuple[float, int]] = deque(maxlen=_PACE_LINES)

        def advance(steps: int) -> None:
            nonlocal done
            with self._lock:
                done += steps
                now = self._clock()
                if now - max(self._said, started) >= _EVERY_S and done != total:
                    self._said = now
                    self._say(f"{what}: {_how_far(done, total, now, said, unit)}")
                    said.append((now, done))
                elif not said:  # what came before the first step was preparation
                    said.append((now, done))

        yield advance
        with self._lock:
            now = self._clock()
            if now - started >= _EVERY_S:
                self._said = now
                self._say(f"{what}: done in {in_words(now - started)}")


def _how_far(
    done: int, total: int | None, now: float, said: Sequence[tuple[float, int]], unit: str
) -> str:
    counted = f"{done}" if total is None else f"{done} of {total}"
    if not said:
        return counted
    before, at_that_time = said[0]
    steps, seconds = max(1, done - at_that_time), now - before
    pace = f" {unit}, {in_pace(steps / seconds, unit)}" if unit and seconds > 0 else ""
    if total is None:
        return f"{counted}{pace}"
    return f"{counted}{pace}, about {in_words(seconds / steps * max(0, total - done))} left"


def in_pace(per_second: float, unit: str) -> str:
    """How fast, with two digits that matter.

    >>> [in_pace(rate, "photos") for rate in (1234.5, 12.34, 0.123)]
    ['1234 photos/s', '12 photos/s', '0.12 photos/s']
    """
    digits = 0 if per_second >= 10 else 1 if per_second >= 1 else 2
    return f"{per_second:.{digits}f} {unit}/s"


def in_words(seconds: float) -> str:
    """A time as short as it makes sense.

    >>> [in_words(s) for s in (0.2, 59, 119, 3700, 40000)]
    ['1 s', '59 s', '2 min', '1 h 2 min', '11 h']
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 10 and rest else f"{round(minutes / 60)} h"
