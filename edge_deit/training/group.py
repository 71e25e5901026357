"""The processes that train one model together, started by torchrun; or this one alone.

Each step's photos are dealt out to them, and gradients are averaged (DistributedDataParallel), so that a
step is that of one process with the whole batch. The first process validates, writes and speaks.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import torch
from torch import Tensor, distributed, nn

from edge_deit.common.arguments import whole_number
from edge_deit.common.errors import EdgeDeitError, first_line

__all__ = ["ALONE", "Group", "group_here", "joined"]

Item = TypeVar("Item")

_LIMIT: Final = timedelta(hours=2)  # others wait so long for the first, which validates
_NAMES: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what torchrun sets


@dataclass(frozen=True)
class Group:
    """This process's number among `size` that train together, and among those of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, writes and speaks."""
        return self.rank == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this process takes of a step's items; where there are too few, one that counts nothing."""
        return items[self.rank :: self.size] or items[:1]

    def weight(self, items: int) -> float:
        """By how much this process's mean over its part counts in the mean over processes."""
        return len(range(self.rank, items, self.size)) * self.size / items

    def together(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients become means over the processes."""
        if self.size == 1:
            return module
        # positions and tokens have such gradients, which are copied: it costs nothing that can be measured
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(module)

    def mean(self, value: Tensor) -> float:
        """The mean over the processes of one number each."""
        if self.size == 1:
            return float(value.detach())
        whole = value.detach().clone()
        distributed.all_reduce(whole)
        return float(whole) / self.size

    def told(self, number: int, device: torch.device) -> int:
        """What the first process says; the others wait for it."""
        if self.size == 1:
            return number
        heard = torch.tensor(number, device=device)
        distributed.broadcast(heard, src=0)
        return int(heard)


ALONE: Final = Group()


def group_here() -> Group:
    """What torchrun says of this process; without torchrun it is alone.

    Raises:
        EdgeDeitError: its variables are set in part, or to what they cannot be.
    """
    said = {name: os.environ.get(name, "") for name in _NAMES}
    if not any(said.values()):
        return ALONE
    numbers = [whole_number(text) for text in said.values()]
    rank, size, local = (-1 if number is None else number for number in numbers)
    if not 0 <= rank < size or not 0 <= local <= rank:  # waiting for such a group would never end
        shown = ", ".join(f"{name}={text[:20]}" for name, text in said.items())
        raise EdgeDeitError(
            f"the environment has {shown}, which torchrun would not set; start with torchrun "
            "--nproc-per-node N -m edge_deit.finetune, or unset them"
        )
    return Group(rank, size, local)


@contextmanager
def joined(group: Group, device: torch.device) -> Iterator[None]:
    """Connected with the other processes, until the block ends.

    Raises:
        EdgeDeitError: another process has gone, or they cannot be reached.
    """
    if group.size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=_LIMIT)
        yield
    except (RuntimeError, ValueError) as error:
        if not _of_the_connection(error):
            raise
        raise EdgeDeitError(
            f"another process of this training has gone, or does not answer ({_said(error)}); its own "
            "output says why, and --resume goes on from the last state"
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _said(error: Exception) -> str:
    """Its first sentence, without the place in gloo's source."""
    return re.sub(r"^\[\S+:\d+\] ", "", first_line(error)).split(". ")[0]


def _of_the_connection(error: Exception) -> bool:
    """Whether it is about the other processes; gloo's errors have no type of their own."""
    own = isinstance(error, torch.distributed.DistError)
    return own or "gloo" in str(error).lower() or "rendezvous" in str(error).lower()
