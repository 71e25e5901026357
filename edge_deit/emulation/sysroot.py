"""What the cache holds: each part's recipe, and where it lies.

A part's folder carries a hash of its recipe in its name. So one that is there is whole and up to date, and
a changed recipe simply finds its part missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.common.cache import user_cache
from edge_deit.common.errors import EdgeDeitError

__all__ = [
    "CPUS",
    "PARTS",
    "RUNTIMES",
    "SUITE",
    "TRIPLET",
    "Cpu",
    "Part",
    "cache_folder",
    "find_cpu",
    "missing_parts",
    "parts_for",
]

SUITE: Final = "bookworm"
"""The Debian release that everything but the runtimes comes from; its Python is 3.11."""

TRIPLET: Final = "x86_64-linux-gnu"
"""Debian's name of the host's architecture, as in its library folders."""

_HERE: Final = Path(__file__).parent
_BASE_FEATURES: Final = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_V8_2: Final = f"{_BASE_FEATURES} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Cpu:
    """An emulated core.

    `qemu` is its name for QEMU, `features` and `part` (of implementer Arm) what Linux would write into
    /proc/cpuinfo on it, which the runtimes choose their kernels by.
    """

    name: str
    qemu: str
    features: str
    part: int

    @property
    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo."""
        return (
            f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {self.features}\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
            f"CPU part\t: {self.part:#05x}\nCPU revision\t: 0\n\n"
        )


CPUS: Final = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "cortex-a53", f"{_BASE_FEATURES} cpuid", 0xD03),
        Cpu("cortex-a76", "cortex-a76", _V8_2, 0xD0B),
        Cpu("i8mm", "max,sve=off", f"{_V8_2} jscvt fcma flagm asimdfhm i8mm bf16", 0xD47),
    )
}
"""A core without dot products, one with them, and one with the int8 matrix instructions too.

The last is QEMU's `max` without SVE (QEMU 7.2 crashes with it), which says that it is a Cortex-A710.
"""


@dataclass(frozen=True)
class Part:
    """Something that the set-up makes.

    `packages` are Debian's, `sources` our files that it is built from, `wheels` Python packages with the
    sha256 of the one file that may be taken, `imports` the modules that must then be there.
    """

    name: str
    what: str
    packages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    wheels: tuple[tuple[str, str], ...] = ()
    imports: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Its folder; it is there when the part is."""
        recipe = repr((SUITE, self.packages, self.wheels)).encode()
        recipe += b"".join((_HERE / source).read_bytes() for source in self.sources)
        return cache_folder() / f"{self.name}-{hashlib.sha256(recipe).hexdigest()[:12]}"


_NUMPY: Final = ("numpy==2.4.6", "0ab0a9c4ffb1a6d95ef519fe4247dba8eb6b18ad93999f76b7f657039acabd47")
_FLATBUFFERS: Final = (
    "flatbuffers==25.12.19",
    "7634f50c427838bb021c2d66a3d1168e9d199b0607e6329399f04846d42e20b4",
)
_PROTOBUF: Final = (
    "protobuf==7.36.2",
    "e11e1f0180583a2af89db6a2ecd9e8dc40aa6d2988ca175bfd0e6d12ea72d74e",
)

PARTS: Final = {
    part.name: part
    for part in (
        Part("qemu", "QEMU's emulator of Arm programs", packages=("qemu-user",)),
        Part(
            "sysroot",
            "Debian's Python for Arm",
            packages=("python3.11", "libstdc++6", "libgomp1"),
        ),
        Part("counter", "the instruction counter", packages=("qemu",), sources=("counter.c",)),
        Part(
            "tflite",
            "LiteRT for Arm",
            imports=("numpy", "ai_edge_litert.interpreter"),
            wheels=(
                (
                    "ai-edge-litert==2.3.0",
                    "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
                ),
                (
                    "ml_dtypes==0.6.0",
                    "7728c0420ec1c338564fc8b01015ff2d58567e70f17fedce5a0a7c0308c0d5b9",
                ),
                _FLATBUFFERS,
                _PROTOBUF,
                _NUMPY,
            ),
        ),
        Part(
            "executorch",
            "ExecuTorch for Arm",
            packages=("g++-12-aarch64-linux-gnu",),
            sources=("pte.cpp",),
            wheels=(
                (
                    "executorch==1.5.1",
                    "8ee02348a3ea80ddf770822911ebf78da616b73afce0fbaaa79f23311c88c66a",
                ),
                _NUMPY,
            ),
            imports=("numpy",),
        ),
        Part(
            "onnx",
            "ONNX Runtime for Arm",
            imports=("numpy", "onnxruntime"),
            wheels=(
                (
                    "onnxruntime==1.32.0",
                    "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
                ),
                (
                    "packaging==26.3",
                    "d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c",
                ),
                _FLATBUFFERS,
                _PROTOBUF,
                _NUMPY,
            ),
        ),
    )
}

_COMMON: Final = ("qemu", "sysroot", "counter")

RUNTIMES: Final = tuple(name for name in PARTS if name not in _COMMON)
"""Targets whose files can be run."""


def cache_folder() -> Path:
    """${XDG_CACHE_HOME:-~/.cache}/edge-deit/arm64.

    Raises:
        EdgeDeitError: there is no home to keep it in.
    """
    if (base := user_cache()) is None:
        raise EdgeDeitError("there is no home folder; set XDG_CACHE_HOME to a folder that stays")
    return base / "arm64"


def find_cpu(name: str) -> Cpu:
    """A core by its name.

    Raises:
        EdgeDeitError: there is none of that name.
    """
    if name not in CPUS:
        raise EdgeDeitError(f"there is no core {name!r}; --cpu takes {', '.join(CPUS)}")
    return CPUS[name]


def parts_for(targets: Sequence[str]) -> list[Part]:
    """All parts that files of these targets need to run.

    Raises:
        EdgeDeitError: a target whose runtime is not known to run on an emulated core.
    """
    for target in targets:
        if target not in RUNTIMES:
            raise EdgeDeitError(
                f"files of target {target} run on no emulated core; those of {', '.join(RUNTIMES)} do"
            )
    return [PARTS[name] for name in (*_COMMON, *dict.fromkeys(targets))]


def missing_parts(targets: Sequence[str]) -> list[Part]:
    """Those of `parts_for` that are not in the cache."""
    return [part for part in parts_for(targets) if not part.path.is_dir()]
