"""Which layers of a form can be computed in half precision (IEEE 754 binary16), on the calibration photos.

On a core that computes in half precision twice as many numbers fit into an instruction. Its eleven bits are
fine enough for a DeiT, but its range is narrow: from 6.1e-5, below which processors lose bits or flush to
zero, to 65504. So every operator of the form is looked at while it computes in single precision: what it
reads, what it writes and the sums on the way must fit on all photos, and on 16 of them what half precision
alone would add to the operator's result must stay 40 dB below it, or 20 dB in a file that is integer apart
from that. Numbers of other photos may be four times as large or as small as those that were seen, in a
norm, which squares them, sixteen times.

A layer is the module in which an operator stands, a norm being one layer, as `model.mixed` names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, log10
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from edge_deit.data.listing import pick_evenly
from edge_deit.model.form import DeployDeiT, RMSNorm, TokenScale
from edge_deit.model.mixed import MODEL

__all__ = ["INTEGER_LEAST_DB", "LEAST_DB", "beyond_half"]

LEAST_DB: Final = 40.0
"""A layer that half precision brings closer to its noise is not computed in it."""

INTEGER_LEAST_DB: Final = 20.0
"""The same for what stays float between integer layers, whose own noise is greater."""
_MARGIN: Final = 4.0
_LIMITS: Final = torch.finfo(torch.float16)
_BELOW_NORMAL: Final = (1 - _LIMITS.eps) * _LIMITS.tiny
_NOISE_PHOTOS: Final = 16
_TOGETHER: Final = 4  # photos that go through the form at once
_PRODUCTS: Final = ("addmm", "baddbmm", "bmm", "convolution", "mm")
"""Operators that sum products; a processor may hold the partial sums in half precision as well."""


def beyond_half(
    form: DeployDeiT,
    photos: Sequence[tuple[Tensor, ...]],
    *,
    integer: Collection[str] = (),
    least_db: float = LEAST_DB,
    on_photo: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Layers that cannot be computed in half precision, and why: `values reach 1.2e+05`, `31 dB`.

    `photos` are the form's arguments, one tuple a photo: pixels (1, 3, H, W) or an image, and a mask where
    the form takes one. Of layers in `integer`, which are computed in int8, only results count. Noise must
    stay `least_db` below an operator's result.
    """
    survey = _Survey(form, frozenset(integer))
    together = 1 if form.config.task == "masked-image" else _TOGETHER  # a decoder takes one photo
    with torch.no_grad(), survey.watching():
        some = set(pick_evenly(range(len(photos)), _NOISE_PHOTOS))
        for noise in (True, False):
            chosen = [photo for place, photo in enumerate(photos) if (place in some) == noise]
            for start in range(0, len(chosen), together):
                group = chosen[start : start + together]
                survey.next_photos(noise=noise)
                form(*(torch.cat(parts) for parts in zip(*group, strict=True)))
                for _ in group:
                    on_photo()
    return survey.reasons(least_db)


@dataclass
class _Seen:
    """One layer: the greatest number in it, and of each operator noise and signal.

    `worst_token` is the greatest ratio of the two of any token of a norm.
    """

    greatest: float = 0.0
    worst_token: float = 0.0
    sums: dict[int, list[float]] = field(default_factory=dict)

    def reason(self, least_db: float) -> str | None:
        """Why the layer cannot be computed in half precision, None if it can."""
        if not self.greatest <= _LIMITS.max:
            return f"values reach {self.greatest:.1e}"
        shares = [noise / signal for noise, signal in self.sums.values() if signal > 0.0]
        share = max([self.worst_token, *shares])
        if share <= 10 ** (-least_db / 10):
            return None
        return "nothing is left" if share == inf else f"{-10 * log10(share):.0f} dB"


class _Survey(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at each operator of a form, and knows in which layer it stands."""

    def __init__(self, form: DeployDeiT, integer: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._form, self._integer = form, integer
        self._constants = {one.untyped_storage().data_ptr() for one in form.state_dict().values()}
        self._layers = [MODEL]
        self._factor = 1.0  # of a norm's input
        self._places = Counter[str]()
        self._noise = False
        self._seen: dict[str, _Seen] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow which modules are entered and left."""
        handles: list[RemovableHandle] = []
        for name, module in self._form.named_modules():
            if name and not self._inside_norm(name):
                handles.append(module.register_forward_pre_hook(self._entering(name)))
                handles.append(module.register_forward_hook(self._leaving))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def next_photos(self, *, noise: bool) -> None:
        """Operators are counted anew; `noise`: what half precision adds to them is computed too."""
        self._places.clear()
        self._noise = noise

    def reasons(self, least_db: float) -> dict[str, str]:
        """Each layer that cannot be computed in half precision, in the order of the graph, and why."""
        found = {name: seen.reason(least_db) for name, seen in self._seen.items()}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _inside_norm(self, name: str) -> bool:
        parts = name.split(".")[:-1]
        above = (".".join(parts[: end + 1]) for end in range(len(parts)))
        return any(isinstance(self._form.get_submodule(one), _NORMS) for one in above)

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: self._layers.append(name)

    def _leaving(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        """Of a norm, what it does with larger and smaller tokens counts too.

        A quiet token's scale is only looked at as it is: what is computed of such a token stays quiet.
        """
        if isinstance(module, _NORMS):
            for factor in (_MARGIN, 1 / _MARGIN) if isinstance(module, RMSNorm) else (_MARGIN,):
                self._factor = factor
                module.forward(inputs[0] * factor)
            self._factor = 1.0
        self._layers.pop()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        reads = [one for one in tree_leaves(args) if _is_float(one)]
        if _is_float(out) and not any(_shares_memory(one, out) for one in reads):
            self._look(func, reads, (args, kwargs or {}), out)
        return out

    def _look(self, func: Any, reads: list[Tensor], call: Any, out: Tensor) -> None:
        name, (args, kwargs) = self._layers[-1], call
        seen = self._seen.setdefault(name, _Seen())
        norm = name != MODEL and isinstance(self._form.get_submodule(name), _NORMS)
        margin = 1.0 if norm else _MARGIN
        if name in self._integer:
            self._hold(seen, [out], margin)
            return
        self._hold(seen, [*reads, out], margin)
        if func.overloadpacket.__name__ in _PRODUCTS:
            self._hold(seen, [func(*tree_map(_magnitude, args), **kwargs)], margin)
        if self._noise and not (norm and self._factor > 1.0):
            halved = _halved(func(*tree_map(_halved, args), **kwargs))
            self._add(name, seen, (halved - out).square(), out.square(), norm=norm)

    def _add(self, name: str, seen: _Seen, noise: Tensor, signal: Tensor, *, norm: bool) -> None:
        """Noise and signal of one operator; in a norm each token is divided by its own size."""
        if norm:
            share = noise.sum(-1) / signal.sum(-1).clamp_min(torch.finfo(signal.dtype).tiny)
            seen.worst_token = max(seen.worst_token, float(share.nan_to_num(inf).max()))
        elif torch.isfinite(total := noise.sum()):
            sums = seen.sums.setdefault(self._places[name], [0.0, 0.0])
            sums[0] += float(total)
            sums[1] += float(signal.sum())
        self._places[name] += 1

    def _hold(self, seen: _Seen, tensors: Iterable[Tensor], margin: float) -> None:
        for one in tensors:
            constant = one.untyped_storage().data_ptr() in self._constants
            least, greatest = one.aminmax()
            magnitude = float(torch.maximum(greatest, -least)) * (1.0 if constant else margin)
            seen.greatest = max(seen.greatest, magnitude)


_NORMS: Final = (RMSNorm, TokenScale)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _shares_memory(one: Tensor, other: Tensor) -> bool:
    """Whether one is a view of the other, so that nothing was computed."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _magnitude(value: Any) -> Any:
    return value.abs() if _is_float(value) else value


def _halved(value: Any) -> Any:
    """What half precision has of the numbers; those below its normal range become 0."""
    if not _is_float(value):
        return value
    return F.hardshrink(value.half().float(), _BELOW_NORMAL)
