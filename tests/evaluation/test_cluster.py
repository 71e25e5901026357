"""Shards on workers that live, die and differ, without Ray; clients/test_ray.py has a real cluster."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import SILENT
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation import cluster
from edge_deit.evaluation.accuracy import evaluate, judge
from edge_deit.evaluation.cluster_pool import HeadGoneError, Pool
from edge_deit.evaluation.cluster_worker import Failure, node_facts
from edge_deit.evaluation.request import EvaluationRequest, ModelCrashError
from evaluation_examples import everything


class RayError(Exception):
    actor_init_failed = False


class RayTaskError(RayError):
    pass


class StandIn:
    """What `Pool` uses of Ray: calls are answered in turn, the latest first, or with a death."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, answers: Any, cores: Sequence[int] = (1, 1)) -> None:
        self._answers, self._cores = answers, cores
        self.calls: list[tuple[Any, str, Any]] = []
        self.killed = 0

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": cores}} for cores in self._cores]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda work: self._actor())

    def _actor(self) -> Any:
        actor = SimpleNamespace()
        for name in ("facts", "open", "judge"):
            setattr(actor, name, SimpleNamespace(remote=self._call(actor, name)))
        return actor

    def _call(self, actor: Any, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((actor, name, arguments))
            return len(self.calls) - 1

        return call

    def wait(self, refs: list[int], **options: Any) -> tuple[list[int], list[int]]:
        return [max(refs)], []

    def get(self, ref: int) -> Any:
        actor, name, arguments = self.calls[ref]
        return self._answers(actor, name, *arguments)

    def kill(self, actor: Any) -> None:
        self.killed += 1


FACTS = replace(node_facts(), host="there", processor="another one [avx2]")


def pool(
    ray: StandIn, progress: Any = SILENT, head_answers: Callable[[], bool] = lambda: True
) -> Pool:
    work = SimpleNamespace(threads=1, float_threads=1)
    return Pool(ray, work, 6, progress, head_answers)  # type: ignore[arg-type]


SHARDS = [[Photo(Path(f"{number}.png"), None)] for number in range(6)]


def answers(actor: Any, name: str, *arguments: Any) -> Any:
    return {"facts": FACTS, "open": None}.get(name, arguments and [arguments[0][0].path.name])


def run(ray: StandIn) -> list[Any]:
    with pool(ray) as made:
        return list(made.run(SHARDS, lambda number, found, host: [number, *found, host]))


def test_shards_come_in_order_and_each_worker_ends() -> None:
    ray = StandIn(answers)
    assert run(ray) == [[number, f"{number}.png", "there"] for number in range(6)]
    assert ray.killed == 2


def test_another_processor_is_told_once() -> None:
    said: list[str] = []
    with pool(StandIn(answers), SimpleNamespace(note=said.append)) as made:
        assert len(list(made.run(SHARDS, lambda number, found, host: []))) == 6
    assert said[0].startswith("Ray: nodes 2, workers 2, cores a worker 1; no latency")
    assert said[1].startswith("there has another processor (another one): figures may differ")
    assert len(said) == 2


def test_a_death_repeats_what_that_worker_had_and_starts_another() -> None:
    doomed: list[Any] = []

    def dying(actor: Any, name: str, *arguments: Any) -> Any:
        if name == "judge" and (actor in doomed or not doomed):
            doomed.append(actor)
            raise RayError("The actor died")
        return answers(actor, name, *arguments)

    ray = StandIn(dying)
    assert run(ray) == [[number, f"{number}.png", "there"] for number in range(6)]
    assert len(set(map(id, doomed))) == 1
    assert len({id(actor) for actor, *_ in ray.calls}) == 3


@pytest.mark.parametrize("fatal", ["judge", "open", "facts"])
def test_workers_that_die_again_and_again_are_an_error(fatal: str) -> None:
    def dying(actor: Any, name: str, *arguments: Any) -> Any:
        if name == fatal:
            raise RayError("first\nout of memory")
        return answers(actor, name, *arguments)

    ray = StandIn(dying)
    with pytest.raises(EdgeDeitError, match=r"die again and again, .*: out of memory"):
        run(ray)
    assert len(ray.calls) < 40


def test_what_a_worker_cannot_do_is_said() -> None:
    def failing(actor: Any, name: str, *arguments: Any) -> Any:
        if name == "open":
            return Failure("x.onnx does not exist")
        return answers(actor, name, *arguments)

    with pytest.raises(EdgeDeitError, match=r"on there: x\.onnx does not exist; .* on every node"):
        run(StandIn(failing))
    crash = Failure("x.onnx: crashed", "x.onnx")
    with pytest.raises(ModelCrashError, match=r"x\.onnx: crashed") as found:
        run(StandIn(lambda actor, name, *more: FACTS if name == "facts" else crash))
    assert found.value.model == "x.onnx"
    for name in ("torch", "pillow", "edge-deit"):
        other = replace(FACTS, versions={**FACTS.versions, name: "1.2"})
        with pytest.raises(EdgeDeitError, match=rf"there has {name} 1\.2, this .*needs the same"):
            run(StandIn(lambda actor, called, *more, other=other: other))
    with pytest.raises(EdgeDeitError, match="no node of the Ray cluster has 1 cores"):
        run(StandIn(answers, cores=[0, 0]))


def test_a_head_node_that_is_gone_ends_all_without_another_call() -> None:
    ray, looks = StandIn(answers), iter([True] * 5)
    found = []
    with (
        pytest.raises(HeadGoneError, match=r"head node does not answer .* goes on behind it"),
        pool(ray, head_answers=lambda: next(looks, False)) as made,
    ):
        found.extend(made.run(SHARDS, lambda number, shown, host: [number]))
    assert len(found) < len(SHARDS)
    assert not ray.killed


# Records


def brightness(pixels: np.ndarray) -> np.ndarray:
    value = float(pixels.mean())
    return np.array([[value, 0.3 - value]], np.float32)


@pytest.fixture
def request_(photos: Path, tmp_path: Path) -> EvaluationRequest:
    return EvaluationRequest(
        photos=match_labels(list_photos(photos), ("cat", "dog")).photos,
        root=photos,
        spec=PreprocessSpec(resize_size=16, crop_size=16),
        labels=("cat", "dog"),
        reference=brightness,
        models={"same": brightness},
        key={},
        journal=tmp_path / "journal.jsonl",
        workers=1,
        strict=False,
    )


def test_records_that_come_in_another_order_are_those_of_one_process(
    request_: EvaluationRequest,
) -> None:
    def backwards(request: EvaluationRequest, places: Sequence[int], keep: Any) -> Any:
        found = {}
        for place in reversed(places):
            alone = replace(request, photos=[request.photos[place]], judged_by=None)
            (one,) = judge(alone)
            found[place] = cluster._checked(request, place, one, "there")
            keep(found[place])
        yield from (found[place] for place in places)

    single = evaluate(replace(request_, journal=None))
    assert everything(evaluate(replace(request_, judged_by=backwards))) == everything(single)
    again = evaluate(request_)
    assert again.resumed == len(request_.photos)
    assert everything(again) == everything(single)


def test_another_photo_there_is_refused(request_: EvaluationRequest, tmp_path: Path) -> None:
    one, other = (next(iter(judge(replace(request_, photos=[p])))) for p in request_.photos[:2])
    assert cluster._checked(request_, 0, one, "there") == one
    with pytest.raises(EdgeDeitError, match=r"cat/0\.png is another file on there than here"):
        cluster._checked(request_, 0, other, "there")
    broken = cluster.broken_image(request_, 0, EdgeDeitError("no such file"))
    with pytest.raises(EdgeDeitError, match=r"can be read here, but not on there .no such file"):
        cluster._checked(request_, 0, broken, "there")


# The address


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:0", "host:99999", "ray://host:1", ":1", "host:²", "host:" + "1" * 5000],
)
def test_what_is_no_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ray", lambda: None)
    with pytest.raises(EdgeDeitError, match=r"it must be HOST:PORT of the cluster's head node"):
        cluster.check_cluster(address)


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "\udce9"])
def test_what_is_no_name_of_a_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ray", lambda: None)
    with pytest.raises(
        EdgeDeitError, match=r"no Ray cluster answers at .*that is no name of a machine"
    ):
        cluster.check_cluster(f"{host}:6379")


def test_where_no_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ray", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer(text: bytes) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(text)

        for text, good in ((b"HTTP/1.0 400 Bad", False), (bytes([0, 0, 0, 4, *[0] * 5]), True)):
            thread = threading.Thread(target=answer, args=(text,))
            thread.start()
            if good:
                cluster.check_cluster(address)
            else:
                with pytest.raises(EdgeDeitError, match="is no Ray cluster; ray status"):
                    cluster.check_cluster(address)
            thread.join()
    with pytest.raises(EdgeDeitError, match=f"no Ray cluster answers at {address}"):
        cluster.check_cluster(address)
