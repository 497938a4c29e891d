"""Many replicas behind one Nginx: how long they take to start, whether each one responds, and what each one costs the host."""

import statistics
import time
from collections import Counter
from pathlib import Path

from common import available_bytes, number_after, progress
from stack import URL, address_of, compose, containers, fetch, wait_for
from whole_stack import isolated_stack

# Nearly all of it is the memory of the Docker daemon's shim.
BYTES_PER_REPLICA = 10 * 2**20
# Health checks of the daemon take 55 ms of CPU or more each: together more than a core. Here /readyz is polled instead.
NO_HEALTH_CHECKS = {"APP_HEALTH_INTERVAL": "1h"}


def measure(replicas):
    """Prints the figures. Whether every replica has responded and no request failed."""
    neighbours = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    if replicas > 250 and int(neighbours.read_text()) < 16384:
        progress("warning: connections will time out: sudo sysctl -w net.ipv4.neigh.default.gc_thresh3=16384")
    if replicas * BYTES_PER_REPLICA > available_bytes() * 0.8:
        progress(f"warning: {replicas} replicas take about {replicas * BYTES_PER_REPLICA / 2**20:.0f} MiB, and {available_bytes() / 2**20:.0f} MiB are available")
    with isolated_stack(1):
        before, began = available_bytes(), time.monotonic()
        progress(f"starting {replicas} replicas")
        options = "--no-build", "--no-deps", "--no-recreate", "--scale", f"app={replicas}"
        compose("up", "-d", *options, "app", timeout=3600, **NO_HEALTH_CHECKS)
        started = time.monotonic() - began
        apps = containers("app")
        for app in apps:
            wait_for("every replica is ready", lambda: server(f"http://{address_of(app, 'backend')}:5000", "/readyz"), 600)
        ready = time.monotonic() - began
        progress("sending requests until every replica has responded")
        served = responses(replicas)
        taken = (before - available_bytes()) / 2**20
        alone = statistics.mean(number_after("Pss:", f"/proc/{app['State']['Pid']}/smaps_rollup") for app in apps) / 1024
    requests, failed = sum(served.values()), served.pop(None, 0)
    print(f"replicas        {replicas}, all started after {started:.0f} s, all ready after {ready:.0f} s")
    print(f"responded       {len(served)} of {replicas}, {failed} failed of {requests} requests")
    print(f"spread          least {min(served.values())}, median {statistics.median_low(served.values())}, most {max(served.values())} requests per replica")
    print(f"memory          {taken:.0f} MiB of the host, {taken / max(replicas - 1, 1):.1f} MiB per replica with its shim")
    print(f"of it           {alone:.2f} MiB per replica by itself (proportional)")
    return len(served) == replicas and not failed


def responses(replicas):
    """The number of requests by replica, until every replica has responded or ten rounds have reached no further one."""
    served, in_vain = Counter(), 0
    while len(served) - (None in served) < replicas and in_vain < 10:
        reached = len(served)
        served.update(server() for _ in range(max(100, 2 * replicas)))
        in_vain = 0 if len(served) > reached else in_vain + 1
    return served


def server(base=URL, path="/mood"):
    """The name of the replica that responds with 200, or None."""
    try:
        status, headers, _ = fetch(path, base=base)
        return headers["X-Served-By"] if status == 200 else None
    except OSError:
        return None
