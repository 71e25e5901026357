"""Where training computes and in which number format: CUDA, Apple's MPS or the processor.

Sources: automatic mixed precision and loss scaling, arXiv 1710.03740, as in torch.amp.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.deit import DeiT

__all__ = [
    "CPU",
    "Compute",
    "DeviceChoice",
    "PrecisionChoice",
    "choose_compute",
    "choose_device",
    "choose_format",
    "devices_here",
    "on_cpu",
]

DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
PrecisionChoice = Literal["auto", "float32", "bfloat16", "float16"]

Placed = TypeVar("Placed", bound=nn.Module)

_PREFERENCE: Final = ("cuda", "mps", "cpu")
_FORMATS: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Compute:
    """A device, and the format that autocast uses there; weights and optimizer stay float32."""

    device: torch.device
    format: torch.dtype = torch.float32

    @property
    def on_cuda(self) -> bool:
        """Whether pinned memory, overlapped copies and channels-last convolutions pay."""
        return self.device.type == "cuda"

    def words(self) -> str:
        """Device and format, as `cuda, bfloat16`."""
        return f"{self.device.type}, {str(self.format).removeprefix('torch.')}"

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a training step's forward pass."""
        mixed = self.format != torch.float32
        return torch.autocast(
            self.device.type if mixed else "cpu",
            dtype=self.format if mixed else None,
            enabled=mixed,
        )

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small float16 gradients from becoming zero; it does nothing in other formats."""
        return torch.amp.GradScaler("cuda", enabled=self.on_cuda and self.format == torch.float16)

    def pixels(self, batch: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) on the device; on CUDA channels last, as convolutions like it."""
        if not self.on_cuda:
            return batch.to(self.device)
        return batch.to(self.device, non_blocking=True, memory_format=torch.channels_last)

    def labels(self, batch: Tensor) -> Tensor:
        """Labels (B) on the device."""
        return batch.to(self.device, non_blocking=self.on_cuda)

    def place(self, model: Placed) -> Placed:
        """Move the model, in place; on CUDA a DeiT's patch convolution becomes channels last."""
        model.to(self.device)
        if self.on_cuda and isinstance(model, DeiT):
            weight = model.patch_embed.proj.weight
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return model


CPU: Final = Compute(torch.device("cpu"))
"""The processor in float32: what gives the same bits in every run."""


def choose_compute(device: DeviceChoice, precision: PrecisionChoice, number: int = 0) -> Compute:
    """What training uses on this machine; `number` is that of the CUDA device, one for each process.

    Raises:
        EdgeDeitError: a device that is not here, or a format that it has not.
    """
    found = choose_device(device, devices_here())
    bfloat16 = found != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if found == "cuda" and number >= torch.cuda.device_count():
        raise EdgeDeitError(
            f"process {number} of this machine has no CUDA device: there are {torch.cuda.device_count()}; "
            "start as many processes (torchrun --nproc-per-node)"
        )
    place = torch.device(found, number) if found == "cuda" else torch.device(found)
    return Compute(place, choose_format(precision, found, bfloat16=bfloat16))


def devices_here() -> tuple[str, ...]:
    """The devices that this machine and this PyTorch have, the preferred one first."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return tuple(name for name in _PREFERENCE if have.get(name, True))


def choose_device(wanted: DeviceChoice, here: Sequence[str]) -> str:
    """The device to take of those that are `here`; `auto` is the first of CUDA, MPS and CPU.

    Raises:
        EdgeDeitError: it is not here; the message says which are.

    >>> choose_device("auto", ("mps", "cpu"))
    'mps'
    """
    if wanted == "auto":
        return next(name for name in _PREFERENCE if name in here)
    if wanted not in here:
        build = f"PyTorch {torch.__version__}"
        raise EdgeDeitError(
            f"--device {wanted}: {build} finds no such device on this machine; here: {', '.join(here)}, "
            "or --device auto"
        )
    return wanted


def choose_format(wanted: PrecisionChoice, device: str, *, bfloat16: bool) -> torch.dtype:
    """The format of the forward pass; `bfloat16` says whether the device computes in it.

    `auto` is bfloat16 on CUDA where the device has it, float16 on other CUDA devices, float32 elsewhere.

    Raises:
        EdgeDeitError: a format that the device has not.

    >>> choose_format("auto", "cuda", bfloat16=False)
    torch.float16
    """
    if wanted == "auto":
        wanted = ("bfloat16" if bfloat16 else "float16") if device == "cuda" else "float32"
    if wanted == "float16" and device != "cuda":
        raise EdgeDeitError(
            f"--precision float16 needs a CUDA device, where losses are scaled; on {device} give float32 "
            "or bfloat16"
        )
    if wanted == "bfloat16" and not bfloat16:
        raise EdgeDeitError(
            "--precision bfloat16: this CUDA device has none; give float16, or float32"
        )
    return _FORMATS[wanted]


def on_cpu(data: Any) -> Any:
    """A state with its tensors copied to the processor, in plain order: any machine can read it."""
    if isinstance(data, Tensor):
        return data.detach().to("cpu").contiguous()
    if isinstance(data, dict):
        return {key: on_cpu(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(on_cpu(value) for value in data)
    return data
