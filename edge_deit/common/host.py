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

__all__ = [
    "ARM_NOTE",
    "available_memory_bytes",
    "describe_host",
    "has_vnni",
    "host_line",
    "peak_memory_bytes",
    "usable_cores",
    "version_of",
]

ARM_NOTE: Final = (
    "Int8 latency on x86 says little about int8 on Arm: phones have dot product and matrix instructions "
    "for int8 (dotprod, i8mm). Measure on the phone."
)
_CPUINFO: Final = Path("/proc/cpuinfo")
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")
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


def usable_cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """How much memory new processes can take without swapping; None where the system does not say.

    Sources: Linux's /proc/meminfo, and the limit of a version 2 control group (a container's).
    """
    if not _MEMINFO.is_file():
        return None
    free = _numbers_in(_MEMINFO).get("MemAvailable")
    limit, used = (_numbers_in(_CGROUP / f"memory.{name}").get("") for name in ("max", "current"))
    if free is None or limit is None or used is None:
        return free
    cached = _numbers_in(_CGROUP / "memory.stat").get("inactive_file", 0)  # given back when wanted
    return min(free, max(0, limit - used + cached))


def _numbers_in(path: Path) -> dict[str, int]:
    """The numbers of a file of the system's, in bytes, by the name before; a lone one has none.

    No file, no numbers.
    """
    found: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        words = line.split()
        name, rest = (words[0], words[1:]) if len(words) > 1 else ("", words)
        if rest and rest[0].isdigit():
            found[name.rstrip(":")] = int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return found


def peak_memory_bytes() -> int:
    """The most resident memory that this process, or one that it started and that has ended, has had."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    peak = max(resource.getrusage(one).ru_maxrss for one in who)
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
