"""The workers of a Ray cluster that share a list of shards; one that dies is replaced."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.progress import Progress
from edge_deit.data.listing import Photo
from edge_deit.evaluation.cluster_worker import Facts, Failure, ShardWorker, Work, node_facts
from edge_deit.evaluation.request import ModelCrashError

__all__ = ["HeadGoneError", "Pool"]

_AHEAD: Final = 2  # shards that a worker has got, so that it never waits for the next
_TRIES: Final = 3  # workers that one shard may cost
_START_S: Final = 300.0
_LOOK_S: Final = 5.0  # how long an answer is awaited before the head node is looked at
_FACTS, _OPEN, _JUDGE = "facts", "open", "judge"

Arrived = Callable[[int, Sequence[Any], str], list[Any]]
"""Number of a shard, what it showed, and on which host -> what is to be made of it."""


class HeadGoneError(EdgeDeitError):
    """The cluster's head node does not answer: Ray's own calls would wait for it, and end this process."""

    leaves_running = True


@dataclass(eq=False)
class _Member:
    """A worker; `numbers` are those of the shards that it has got, the first of which it judges."""

    actor: Any
    host: str = "a node"
    opened: bool = False
    numbers: deque[int] = field(default_factory=deque)


class Pool:
    """Workers that hold the models; use it as a context manager, which ends them."""

    def __init__(
        self,
        ray: Any,
        work: Work,
        shards: int,
        progress: Progress,
        answers: Callable[[], bool],
    ) -> None:
        """`answers` says whether the head node does."""
        self._ray, self._work, self._progress = ray, work, progress
        self._answers = answers
        self._cores = max(work.threads, work.float_threads)
        nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
        room = sum(cores // self._cores for cores in nodes)
        if not room:
            raise EdgeDeitError(
                f"no node of the Ray cluster has {self._cores} cores, which a worker needs; give fewer "
                "--threads, and set OMP_NUM_THREADS to as many for the float model"
            )
        self._size = min(room, shards)
        self._remote = ray.remote(num_cpus=self._cores, max_restarts=0)(ShardWorker)
        self._work_ref = ray.put(work)
        self._members: list[_Member] = []
        self._asked: dict[Any, tuple[_Member, str, int]] = {}
        self._here = node_facts()
        self._known = {self._here.processor}
        self._deaths_before_opening = 0
        self._cost: dict[int, int] = {}
        progress.note(
            f"Ray: nodes {len(nodes)}, workers {self._size}, cores a worker {self._cores}; no latency is "
            "measured there"
        )

    def run(self, shards: Sequence[Sequence[Photo]], arrived: Arrived) -> Iterator[list[Any]]:
        """What `arrived` made of each shard, in order.

        Raises:
            EdgeDeitError: a worker could not do its work, or too many died.
            ModelCrashError: the process of a model died there.
        """
        waiting = deque(range(len(shards)))
        found: dict[int, list[Any]] = {}
        for _ in range(self._size):
            self._start()
        for wanted in range(len(shards)):
            while wanted not in found:
                self._hand_out(waiting, shards, wanted)
                for number, host, records in self._next(waiting):
                    found[number] = arrived(number, records, host)
            yield found.pop(wanted)

    def _hand_out(self, waiting: deque[int], shards: Sequence[Sequence[Photo]], first: int) -> None:
        """Keep every worker busy, but none so far ahead of `first` that results pile up."""
        last = first + 16 * _AHEAD * self._size
        for _ in range(_AHEAD):
            for one in self._members:
                if one.opened and len(one.numbers) < _AHEAD and waiting and waiting[0] < last:
                    number = waiting.popleft()
                    one.numbers.append(number)
                    self._ask(one, _JUDGE, number, one.actor.judge.remote(shards[number]))

    def _next(self, waiting: deque[int]) -> Iterator[tuple[int, str, Sequence[Any]]]:
        """The shards that were judged since, at least one answer awaited."""
        ready = self._ready()
        for ref in ready:
            member, what, number = self._asked.pop(ref, (None, "", -1))
            if member is None:  # it went with a worker that died
                continue
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise EdgeDeitError(
                    f"a Ray worker on {member.host} failed: {_last(error)}"
                ) from error
            except self._ray.exceptions.RayError as error:
                self._lose(member, error, waiting)
                continue
            if isinstance(answer, Failure):
                raise _failed(answer, member.host)
            if what == _JUDGE:
                member.numbers.remove(number)
                yield number, member.host, answer
            elif what == _FACTS:
                self._look_at(answer)
                member.host = answer.host
                self._ask(member, _OPEN, -1, member.actor.open.remote())
            else:
                member.opened = True

    def _ready(self) -> list[Any]:
        """What was answered, one answer at least.

        Raises:
            HeadGoneError: the head node does not answer.
            EdgeDeitError: no worker has started within five minutes.
        """
        until = time.monotonic() + _START_S
        while True:
            ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_LOOK_S)
            if not self._answers():  # a worker that is lost with it would be asked for in vain
                raise HeadGoneError(
                    "the Ray cluster's head node does not answer any more; what was judged is kept, and "
                    "the same command goes on behind it: without --ray, or once the cluster runs again"
                )
            if ready:
                return list(ready)
            if time.monotonic() > until and not any(one.opened for one in self._members):
                raise EdgeDeitError(
                    f"no Ray worker has started within {_START_S:.0f} s; the cluster is busy, or its nodes "
                    "are gone: ray status tells"
                )

    def _start(self) -> None:
        member = _Member(self._remote.remote(self._work_ref))
        self._members.append(member)
        self._ask(member, _FACTS, -1, member.actor.facts.remote())

    def _ask(self, member: _Member, what: str, number: int, ref: Any) -> None:
        self._asked[ref] = (member, what, number)

    def _lose(self, member: _Member, error: Exception, waiting: deque[int]) -> None:
        """Its shards go back to the front, and another worker starts where there is room."""
        self._members.remove(member)
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked[0] is not member}
        self._ray.kill(member.actor)
        if getattr(error, "actor_init_failed", False):
            raise EdgeDeitError(f"no Ray worker can be started: {_last(error)}") from error
        if not member.opened:
            self._deaths_before_opening += 1
        elif member.numbers:
            first = member.numbers[0]
            self._cost[first] = self._cost.get(first, 0) + 1
        if self._deaths_before_opening > _TRIES or max(self._cost.values(), default=0) >= _TRIES:
            raise EdgeDeitError(
                f"Ray workers die again and again, at last on {member.host}: {_last(error)}"
            ) from error
        waiting.extendleft(sorted(member.numbers, reverse=True))
        again = f"{len(member.numbers)} shards are judged again" if member.numbers else "going on"
        self._progress.note(f"a Ray worker on {member.host} died; {again}")
        self._start()

    def _look_at(self, facts: Facts) -> None:
        """Refuse other versions than here; say once of each other processor what that may do."""
        ours, theirs = self._here.versions, facts.versions
        for name in sorted(ours.keys() & theirs.keys()):
            if ours[name] != theirs[name]:
                raise EdgeDeitError(
                    f"{facts.host} has {name} {theirs[name]}, this machine {ours[name]}; every node of the "
                    "cluster needs the same"
                )
        if facts.processor not in self._known:
            self._known.add(facts.processor)
            self._progress.note(
                f"{facts.host} has another processor ({facts.processor.partition(' [')[0]}): figures may "
                "differ in the last digits from those made here"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is HeadGoneError:  # nobody is there to end them
            return
        for member in self._members:
            self._ray.kill(member.actor)


def _failed(failure: Failure, host: str) -> EdgeDeitError:
    if failure.model is not None:
        return ModelCrashError(failure.model, failure.line)
    return EdgeDeitError(
        f"a Ray worker on {host}: {failure.line}; photos, files and weights must lie at the same paths on "
        "every node"
    )


def _last(error: Exception) -> str:
    """The last line of Ray's message, which ends with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_line(ValueError(lines[-1] if lines else type(error).__name__))
