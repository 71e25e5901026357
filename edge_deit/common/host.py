"""The machine that measured: processor, instructions, versions, load."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["ARM_NOTE", "describe_host", "has_vnni", "host_line", "peak_memory_bytes", "version_of"]

ARM_NOTE: Final = (
    "Int8 latency on x86 says little about int8 on Arm: phones have dot product and matrix instructions "
    "for int8 (dotprod, i8mm). Measure on the phone."
)
_CPUINFO: Final = Path("/proc/cpuinfo")
_FLAGS: Final = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
_VNNI: Final = ("avx_vnni", "avx512_vnni")


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, None where it is absent."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def has_vnni() -> bool | None:
    """Whether the processor multiplies int8 without saturation (VNNI); None where it cannot be known."""
    _, flags = _cpu()
    return None if flags is None else any(flag in flags for flag in _VNNI)


def peak_memory_bytes() -> int:
    """The most resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def describe_host(versions: Mapping[str, str]) -> dict[str, Any]:
    """Facts about this machine, as they go into a report; what cannot be known is null.

    `versions` are those of the tools that take part.
    """
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "instructions": None if flags is None else [flag for flag in _FLAGS if flag in flags],
        "vnni": has_vnni(),
        "load_average": list(os.getloadavg()),
        "versions": dict(versions),
    }


def _cpu() -> tuple[str, set[str] | None]:
    """The processor's name and its instruction flags, None where the system does not list them."""
    if not _CPUINFO.is_file():
        return platform.processor() or platform.machine(), None
    entries = [line.partition(":") for line in _CPUINFO.read_text(encoding="utf-8").splitlines()]
    named = {key.strip(): value.strip() for key, _, value in entries}
    flags = named.get("flags", named.get("Features", "")).split()
    return named.get("model name", platform.machine()), set(flags)


def host_line(host: dict[str, Any]) -> str:
    """One line of it.

    >>> host_line({"cpu": "X", "cores": 2, "vnni": False, "load_average": [0.1, 0, 0], "versions": {}})
    'X, 2 cores, no VNNI; load average before the run 0.10; '
    """
    vnni = {True: "VNNI", False: "no VNNI", None: "VNNI unknown"}[host["vnni"]]
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    return (
        f"{host['cpu']}, {host['cores']} cores, {vnni}; load average before the run "
        f"{host['load_average'][0]:.2f}; {versions}"
    )
