"""Photos spread over a Ray cluster: the same records as one process makes, in the same order.

Photos, artefacts and weights are read on each node at the paths that they have here, and held against
their hashes here.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch

from edge_deit.artefacts.float_model import FloatModel
from edge_deit.checkpoint.sources import is_path
from edge_deit.common.arguments import whole_number
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import hash_path
from edge_deit.common.progress import Progress
from edge_deit.common.quiet import quiet
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import load_pixels
from edge_deit.evaluation.cluster_pool import HeadGoneError, Pool
from edge_deit.evaluation.cluster_worker import Work
from edge_deit.evaluation.journal import Judged
from edge_deit.evaluation.request import EvaluationRequest, broken_image, shown_photo
from edge_deit.report.report import BrokenImage

__all__ = ["check_cluster", "spread"]

_SHARD: Final = 16
"""Photos that are judged at one go: what a worker's death costs."""

_ANSWER_S: Final = 5.0


def check_cluster(address: str) -> None:
    """Refuse what cannot be joined before anything is loaded.

    Raises:
        EdgeDeitError: Ray is not installed, the address is none, or nothing answers there.
    """
    _ray()
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not 0 < (whole_number(port) or 0) < 1 << 16 or "/" in host or not host:
        raise EdgeDeitError(
            f"--ray is {address[:80]!r}; it must be HOST:PORT of the cluster's head node, or auto on a "
            "machine that is one of its nodes"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S) as connection:
            answered = _speaks_http2(connection)
    except (OSError, UnicodeError) as error:  # of a name that cannot be one of a machine
        said = error.strerror if isinstance(error, OSError) else "that is no name of a machine"
        raise EdgeDeitError(
            f"no Ray cluster answers at {address} ({said or error}); start one with ray start --head"
        ) from error
    if not answered:
        raise EdgeDeitError(
            f"what answers at {address} is no Ray cluster; ray status, typed on one of its nodes, shows "
            "the address"
        )


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other side could be Ray's: it would wait for minutes where it is not.

    Source: RFC 9113, 3.4: both sides begin with a SETTINGS frame, the client with a fixed text before.
    """
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True  # it says so only behind a handshake, which is Ray's business
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    answer = b""
    while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
        answer += more
    return len(answer) == 9 and answer[3] == 4


def spread(
    address: str,
    float_model: FloatModel,
    units: str | None,
    threads: int,
    progress: Progress,
) -> Callable[..., Generator[Judged | BrokenImage, None, None]]:
    """Judges photos on the cluster.

    What is printed meanwhile is held back, as Ray prints at any time; its errors become one line.
    """

    def judges(
        request: EvaluationRequest, places: Sequence[int], keep: Callable[[Judged], None]
    ) -> Generator[Judged | BrokenImage, None, None]:
        if not places:
            return
        size = (
            -(-_SHARD // request.group) * request.group
        )  # groups of photos are those of one process
        shards = [places[start : start + size] for start in range(0, len(places), size)]
        photos = [_absolute(request, shard) for shard in shards]
        work = _work(request, float_model, units, threads)
        with (
            quiet(),
            _joined(address) as ray,
            Pool(ray, work, len(shards), progress, _answering(ray)) as pool,
        ):

            def arrived(number: int, found: Sequence[Any], host: str) -> list[Any]:
                checked = [
                    _checked(request, place, one, host)
                    for place, one in zip(shards[number], found, strict=True)
                ]
                for one in checked:
                    if isinstance(one, Judged):
                        keep(one)
                return checked

            for found in pool.run(photos, arrived):
                yield from found

    return judges


def _work(
    request: EvaluationRequest, float_model: FloatModel, units: str | None, threads: int
) -> Work:
    checkpoint, weights = float_model.checkpoint, float_model.weights
    return Work(
        artefacts=tuple(
            (str(one.path), one.path.absolute(), one.manifest.sha256)
            for one in float_model.artefacts
        ),
        weights=os.path.abspath(weights) if is_path(weights) else weights,
        weights_sha256=checkpoint.sha256,
        options=float_model.options,
        image_size=float_model.artefacts[0].manifest.image_size,
        spec=request.spec,
        labels=request.labels,
        root=request.root.absolute(),
        threads=threads,
        float_threads=torch.get_num_threads(),
        workers=request.workers,
        units=units,
        up_to_a_constant=request.up_to_a_constant,
        at_once=dict(request.at_once),
    )


def _absolute(request: EvaluationRequest, places: Sequence[int]) -> list[Photo]:
    photos = [request.photos[place] for place in places]
    return [Photo(one.path.absolute(), one.label) for one in photos]


def _checked(
    request: EvaluationRequest, place: int, one: Judged | BrokenImage, host: str
) -> Judged | BrokenImage:
    """The record with its place among all photos, if the node saw the photo that is here.

    Raises:
        EdgeDeitError: it saw another file, or none; or one that cannot be read here either, if strict.
    """
    photo = request.photos[place]
    file = shown_photo(request, photo)
    if isinstance(one, Judged):
        if hash_path(photo.path) != one.sha256:
            raise EdgeDeitError(
                f"{file} is another file on {host} than here; every node must have the same photos at "
                f"{request.root.absolute()}"
            )
        return replace(one, index=place, file=file)
    try:
        load_pixels(photo.path, request.spec)
    except EdgeDeitError as error:
        return broken_image(request, place, error)
    raise EdgeDeitError(
        f"{file} can be read here, but not on {host} ({one.reason}); every node must have the photos at "
        f"{request.root.absolute()}"
    )


# Ray


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EdgeDeitError("--ray needs Ray: pip install 'edge-deit[ray]'") from error
    return ray


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    """Ray, connected; the connection, and all that was started through it, ends with the block."""
    ray = _ray()
    if ray.is_initialized():
        raise EdgeDeitError("this process is connected to Ray already; call ray.shutdown() first")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _handlers_kept():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError) as error:
            raise EdgeDeitError(f"the Ray cluster cannot be joined: {_said(error)}") from error
    try:
        yield ray
    except HeadGoneError:
        atexit.unregister(ray.shutdown)  # it would wait for the head node, and then end the process
        raise
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()


def _answering(ray: Any) -> Callable[[], bool]:
    """Whether the cluster's head node takes connections, each time that it is called."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")

    def answers() -> bool:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S):
                return True
        except OSError:
            return False

    return answers


def _said(error: Exception) -> str:
    """Ray's message on one line."""
    return first_line(ValueError(" ".join(str(error).split())))


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it is an interrupt, as everywhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(TypeError):  # a handler that was not set from Python
            signal.signal(signal.SIGTERM, before)
