"""A request through the whole stack at full speed: CPU time by process, requests per second and latencies.

Starts a separate stack and stops it. CPU time is in microseconds per request and that of all processes of a name, so other
stacks should be idle. The load generator, and docker-proxy (only for clients on this machine), use the same cores.
"""

import contextlib
from collections import Counter
from pathlib import Path

import load
from common import cpu_of, need, progress
from console import number, step
from stack import script

COLUMNS = {"nginx": "nginx", "mood": "mood", "redis-server": "redis", "dockerd": "dockerd", "containerd-shim": "shim"}


def add_arguments(parser):
    parser.add_argument("--seconds", type=number(2, 120), default=8, help="duration of each load (default: 8)")
    parser.add_argument("--replicas", type=number(1, 999), nargs="+", default=[1, 2, 8], help="in turn (default: 1 2 8)")
    parser.add_argument("--connections", type=number(1, 999), nargs="+", default=[32, 256], help="in turn (default: 32 256)")


def run(arguments):
    need("docker")
    load.program()
    with isolated_stack(arguments.replicas[0]):
        titles = (f"{title:>8}" for title in (*COLUMNS.values(), "sum", "proxy"))
        print(f"{'replicas':>8} {'conns':>6} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8}", *titles, flush=True)
        for replicas in arguments.replicas:
            script("scale.sh", str(replicas))
            for connections in arguments.connections:
                measure(replicas, connections, arguments.seconds)


def measure(replicas, connections, seconds):
    load.measure(2, connections=connections)
    before = cpu_by_name()
    figures = load.measure(seconds, connections=connections)
    cpu = cpu_by_name()
    cpu.subtract(before)
    costs = [cpu[name] / figures.requests * 1e6 for name in COLUMNS]
    cells = (f"{cost:8.1f}" for cost in (*costs, sum(costs), cpu["docker-proxy"] / figures.requests * 1e6))
    print(f"{replicas:8} {connections:6} {figures.requests / seconds:10.0f} {figures.p50:8.1f} {figures.p99:8.1f}", *cells, flush=True)
    if figures.failed:
        progress(f"warning: {figures.failed} of {figures.requests} requests failed")


def cpu_by_name():
    """Seconds of CPU, added up for all processes of a name."""
    total = Counter()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, seconds = cpu_of(process.name)
            total[name] += seconds
    return total


@contextlib.contextmanager
def isolated_stack(replicas):
    """A separate stack whose Nginx does not limit its clients, for the duration of a block."""
    step("Starting a separate stack")
    try:
        script("run.sh", "--replicas", str(replicas), timeout=1200)
        yield
    finally:
        script("stop.sh")
