"""Debian's packages without installing any: apt with a database of its own, checked and unpacked."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.emulation.sysroot import SUITE, Part

__all__ = ["AGAIN", "KEYRING", "apt_environment", "call", "unpack_debian"]

_MIRROR: Final = "http://deb.debian.org/debian"

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

AGAIN: Final = "run --setup again, it goes on where it stopped"


def apt_environment(downloads: Path) -> dict[str, str]:
    """The environment in which apt-get has a package database of its own, filled on first use."""
    state = downloads / "apt"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    source = f"[signed-by={KEYRING}] {_MIRROR} {SUITE} main\n"
    (state / "sources.list").write_text(f"deb {source}deb-src {source}", encoding="utf-8")
    (state / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Sandbox::User": "root",  # that is: do not change the user
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    lines.append('APT::Architectures {"arm64"; "amd64";};')
    (state / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(state / "apt.conf"), "LC_ALL": "C"}
    if not (state / "updated").is_file():
        call("Debian's package lists", ["apt-get", "update", "-q"], env=environment)
        (state / "updated").touch()
    return environment


def unpack_debian(
    part: Part, architecture: str, downloads: Path, target: Path, without: str = ""
) -> None:
    """Download a part's packages with all that they depend on, and unpack them.

    Packages whose file name begins with `without` are left out.
    """
    environment = apt_environment(downloads)
    archives = downloads / part.name / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-q", "-y", "--no-install-recommends", "--download-only"]
    options += ["-o", f"Dir::Cache::archives={archives}", "-o", f"APT::Architecture={architecture}"]
    call(part.what, ["apt-get", "install", *options, *part.packages], env=environment)
    for name, digest in _listed(part, architecture, environment).items():
        if not without or not name.startswith(without):
            package = archives / name
            _check_hash(package, digest)
            call(name, ["dpkg-deb", "-x", str(package), str(target)])


def _listed(part: Part, architecture: str, environment: Mapping[str, str]) -> dict[str, str]:
    """File name -> sha256 of each package that a part needs, as Debian's signed lists have them."""
    with tempfile.TemporaryDirectory() as empty:  # apt names only what is not there yet
        (Path(empty) / "partial").mkdir()
        options = ["-qq", "-y", "--no-install-recommends", "--print-uris"]
        settings = (
            f"Dir::Cache::archives={empty}",
            f"APT::Architecture={architecture}",
            "Acquire::ForceHash=SHA256",  # it would name the first hash that a list has
        )
        options += [word for setting in settings for word in ("-o", setting)]
        command = ["apt-get", "install", *options, *part.packages]
        said = call(part.what, command, env=environment)
    found = re.findall(r"^'\S+' (\S+\.deb) \d+ SHA256:([0-9a-f]{64})$", said, re.MULTILINE)
    if not found:
        raise EdgeDeitError(f"{part.what}: apt-get names no package; {AGAIN}")
    return dict(found)


def _check_hash(file: Path, digest: str) -> None:
    """Refuse a file that is not the one with this sha256."""
    if not file.is_file() or file.is_symlink() or hash_path(file) != digest:
        file.unlink(missing_ok=True)
        raise EdgeDeitError(f"{file.name} in the cache is not the file that was asked for; {AGAIN}")


def call(what: str, command: list[str], **options: object) -> str:
    """Run a program and return what it printed; its last words become the error."""
    done = subprocess.run(  # type: ignore[call-overload] # noqa: S603 # our own arguments, no shell
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise EdgeDeitError(f"{what}: {command[0]} failed: {last}; {AGAIN}")
    return str(done.stdout)
