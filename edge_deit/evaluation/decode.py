"""Photos decoded ahead, in order: by processes where there are many, by threads where there are few.

Threads of this process would take turns with what the runners do in it; processes do not, but starting them
takes as long as some dozens of photos. The pixels are the same.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from edge_deit.artefacts.wire import receive, send
from edge_deit.common.child import end_child, start_child
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.data.preprocess import PreprocessSpec, load_pixels

__all__ = ["Decoded", "DecoderDiedError", "decoded", "decoded_ahead"]

Decoded = tuple[np.ndarray, str]
"""Pixels (1, 3, H, W) and the sha256 of the file."""

_FEW: Final = 64
_WORKER: Final = "edge_deit.evaluation.decoder"
_CRASHES: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


class DecoderDiedError(EdgeDeitError):
    """A process that decodes photos ended, and not because of a photo."""


def decoded_ahead(
    paths: Sequence[Path], spec: PreprocessSpec, workers: int
) -> Generator[Future[Decoded], None, None]:
    """What each path will be, in order; at most two photos a worker are held ahead.

    A result raises EdgeDeitError where the photo cannot be read, DecoderDiedError where that says nothing
    of the photo. Close it where not all are taken: its workers end then, and not when it is collected.
    """
    with (
        contextlib.nullcontext(decoded) if len(paths) <= _FEW else _elsewhere(workers) as decode,
        ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool,
    ):
        waiting: deque[Future[Decoded]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(decode, path, spec))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def decoded(path: Path, spec: PreprocessSpec) -> Decoded:
    """One photo.

    Raises:
        EdgeDeitError: it cannot be read, or went while it was.
    """
    pixels = load_pixels(path, spec)
    try:
        return pixels, hash_path(path)
    except OSError as error:
        raise EdgeDeitError(f"image {path} cannot be read any more: {error.strerror}") from error


@contextmanager
def _elsewhere(workers: int) -> Iterator[Callable[[Path, PreprocessSpec], Decoded]]:
    """A function that as many threads may call, each of which gets a process to itself."""
    decoders = [_Decoder() for _ in range(workers)]
    free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
    for decoder in decoders:
        free.put(decoder)

    def decode(path: Path, spec: PreprocessSpec) -> Decoded:
        decoder = free.get()
        try:
            return decoder(path, spec)
        finally:
            free.put(decoder)

    try:
        yield decode
    finally:
        for decoder in decoders:
            decoder.close()


class _Decoder:
    """A process that decodes one photo at a time; it starts with the first, and again after a crash."""

    def __init__(self) -> None:
        self._running = False

    def __call__(self, path: Path, spec: PreprocessSpec) -> Decoded:
        try:
            if not self._running:
                self._process, self._connection = start_child(_WORKER)
                self._running = True
            send(self._connection, {"path": os.fspath(path), "spec": spec.to_json()})
            answer, found = receive(self._connection)
        except (EOFError, ConnectionError) as error:
            raise self._ended(path) from error
        except OSError as error:
            self.close()
            raise DecoderDiedError(
                f"no process that decodes photos can be had ({error.strerror or error}); "
                "give fewer --workers"
            ) from error
        if "memory" in answer:
            raise DecoderDiedError(f"out of memory while {path} was decoded; give fewer --workers")
        if "error" in answer:
            raise EdgeDeitError(str(answer["error"]))
        return found[0], str(answer["sha256"])

    def _ended(self, path: Path) -> EdgeDeitError:
        """What to say of a process that is gone: a crash is the photo's, all else is not."""
        code = self._process.wait()
        self.close()
        if -code in _CRASHES:
            return EdgeDeitError(
                f"{path} is not readable: it crashed the decoder ({signal.Signals(-code).name})"
            )
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
        return DecoderDiedError(
            f"the process that decoded {path} {how}; memory may have run out: give fewer --workers"
        )

    def close(self) -> None:
        """End the process, if there is one."""
        if self._running:
            self._running = False
            end_child(os.getpid(), self._process, self._connection)
