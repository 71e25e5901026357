"""A Ray cluster of two nodes on this machine, for `test_ray`: `python ray_cluster.py CORES`.

It prints its address as JSON. At a line on standard input, `second` or `head`, it kills that node's
processes and says how many they were; it ends everything when standard input is closed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster


def children(pid: int) -> list[int]:
    """Those of a process, theirs included."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found += [child, *children(child)]
    return found


def main(cores: int) -> None:
    """Start, obey, end."""
    folder = tempfile.mkdtemp(prefix="ray")
    common = {"num_cpus": cores, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**common, "temp_dir": folder})
    try:
        second = cluster.add_node(num_cpus=cores, object_store_memory=100 << 20)
        print(json.dumps(cluster.address), flush=True)
        nodes = {"second": second, "head": cluster.head_node}
        for line in sys.stdin:
            services = nodes[line.strip()].all_processes.values()
            own = [one.process.pid for service in services for one in service]
            everything = [*own, *(below for pid in own for below in children(pid))]
            for pid in everything:
                os.kill(pid, signal.SIGKILL)
            print(json.dumps(len(everything)), flush=True)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
