"""`validate --ray` on a real cluster of two nodes: the figures of one process, whatever happens to a node.

The cluster runs on this machine, in an environment that has Ray; so do the commands.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from environments import HERE, python_environment

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("ray")]

COPIES = 60  # of 24 photos
MARK = "EDGE_DEIT_RAY_TEST"


@dataclass
class Cluster:
    """The cluster's address, and the process that holds it."""

    address: str
    process: subprocess.Popen[str]
    environment: dict[str, str]

    def kill(self, node: str) -> int:
        """Kill the `second` node or the `head`; how many processes it had."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(node, file=self.process.stdin, flush=True)
        return int(json.loads(self.process.stdout.readline()))

    def at_work(self) -> list[str]:
        """The command lines of our own processes there, and of those that the commands started."""
        mark = f"{MARK}={self.environment[MARK]}\0".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = mark in (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended meanwhile
                continue
            if marked and ("ShardWorker" in line or "edge_deit" in line):
                found.append(line)
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("ray") / "cluster.txt") as found:
        yield found


@contextmanager
def running(noise: Path) -> Iterator[Cluster]:
    """A cluster, until the block ends; what it prints goes to `noise`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        MARK: uuid.uuid4().hex,
    }
    with (
        noise.open("w") as errors,
        subprocess.Popen(
            [python_environment("ray", over_ours=True), HERE / "ray_cluster.py", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, noise.read_text()[-2000:]
        yield Cluster(json.loads(line), process, environment)
        process.stdin.close()


@pytest.fixture(scope="module")
def many_photos(labelled_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos many times, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("many")
    for path in labelled_photos.glob("*/*.png"):
        (folder / path.parent.name).mkdir(exist_ok=True)
        for copy in range(COPIES):
            os.link(path, folder / path.parent.name / f"{path.stem}-{copy}.png")
    (folder / "a" / "broken.png").write_bytes(b"no photo")
    return folder


def validation(files: Sequence[Path], photos: Path, output: Path, *more: object) -> list[str]:
    python = python_environment("ray", over_ours=True)
    options = ("--data", photos, "--no-latency", "--threads", 1, "--output", output)
    return list(map(str, (python, "-m", "edge_deit.validate", *files, *options, *more)))


def run(
    command: list[str], environment: dict[str, str], code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def content(output: Path) -> str:
    """The report, but for when, where, and why there is no latency."""
    found = json.loads((output / "report.json").read_text(encoding="utf-8"))
    for one in found["artefacts"]:
        one["notes"] = {key: text for key, text in one["notes"].items() if "--ray" not in text}
        one["notes"] = {k: text for k, text in one["notes"].items() if "--no-latency" not in text}
    return json.dumps(found | {"created": "", "environment": {}}, sort_keys=True)


@pytest.fixture(scope="module")
def expected(
    cluster: Cluster,
    onnx_files: tuple[Path, ...],
    many_photos: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """What one process finds."""
    output = tmp_path_factory.mktemp("single")
    run(validation(onnx_files, many_photos, output), cluster.environment)
    return content(output)


def started(cluster: Cluster, command: list[str], output: Path) -> subprocess.Popen[str]:
    """A command that is in the middle of its photos."""
    process = subprocess.Popen(
        command,
        env=cluster.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    journal, until = output / ".validate-0.jsonl", time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 100:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing was judged"
        time.sleep(0.02)
    return process


def assert_only_ours(stderr: str) -> None:
    """No line of Ray's."""
    known = ("Ray: ", "a Ray worker on ", "d32", "d64", "deit", "interrupted; ")
    assert all(line.startswith(known) or "photos" in line for line in stderr.splitlines()), stderr


def test_an_interrupt_leaves_nothing_running_and_the_rest_can_be_done_without_ray(
    cluster: Cluster,
    onnx_files: tuple[Path, ...],
    many_photos: Path,
    expected: str,
    tmp_path: Path,
) -> None:
    command = validation(onnx_files, many_photos, tmp_path, "--ray", cluster.address)
    process = started(cluster, command, tmp_path)
    assert [line for line in cluster.at_work() if "ShardWorker" in line]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert_only_ours(stderr)
    until = time.monotonic() + 20
    while (left := cluster.at_work()) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left
    done = run(validation(onnx_files, many_photos, tmp_path), cluster.environment)
    assert " photos were done before; went on behind them" in done.stderr
    assert content(tmp_path) == expected


def test_a_node_that_dies_costs_no_figure(
    cluster: Cluster,
    onnx_files: tuple[Path, ...],
    many_photos: Path,
    expected: str,
    tmp_path: Path,
) -> None:
    command = validation(onnx_files, many_photos, tmp_path, "--ray", cluster.address)
    process = started(cluster, command, tmp_path)
    assert cluster.kill("second") > 1
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "Ray: nodes 2, workers 2, cores a worker 1" in stderr
    assert stderr.count("a Ray worker on ") == stderr.count(" died; ") == 1
    assert_only_ours(stderr)
    assert content(tmp_path) == expected
    assert "not measured: photos were spread over a Ray cluster (--ray)" in stdout


def test_an_address_where_no_cluster_is(
    cluster: Cluster, onnx_files: tuple[Path, ...], many_photos: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in cluster.environment.items() if not k.startswith("RAY_")}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        threading.Thread(target=lambda: silent.accept(), daemon=True).start()
        cases = {f"127.0.0.1:{port}": "no Ray cluster", "127.0.0.1:9": "no Ray cluster answers at"}
        for address, said in {**cases, "ray://127.0.0.1:9": "it must be HOST:PORT"}.items():
            command = validation(onnx_files, many_photos, tmp_path / "out", "--ray", address)
            done = run(command, environment, 2)
            assert done.stderr.count("\n") == 1, done.stderr
            assert done.stderr.startswith("error: "), done.stderr
            assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_head_node_that_dies_ends_the_command_with_a_line_and_nothing_is_lost(
    onnx_files: tuple[Path, ...], many_photos: Path, expected: str, tmp_path: Path
) -> None:
    output = tmp_path / "found"
    output.mkdir()
    with running(tmp_path / "cluster.txt") as cluster:
        command = validation(onnx_files, many_photos, output, "--ray", cluster.address)
        process = started(cluster, command, output)
        assert cluster.kill("head") > 1
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert stderr.splitlines()[-1].startswith("error: the Ray cluster's head node does not answer")
    done = run(validation(onnx_files, many_photos, output), cluster.environment)
    assert " photos were done before; went on behind them" in done.stderr
    assert content(output) == expected
