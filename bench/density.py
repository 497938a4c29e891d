"""The service compared with others, side by side; or, with --wall, many replicas of it behind one Nginx.

Each service runs from the files of its image (chroot) on loopback, with one Redis and one load generator. The rounds are
interleaved, because a noisy machine should affect all services alike, and the medians count. At the end real containers run.
Needs Linux, root, Docker and redis-server. Machines are noisy: compare the ratios to ours, in brackets.
"""

import ctypes
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import load
import report
import services
import wall
from common import available_bytes, need, number_after, progress
from console import number
from process import first_response, ports, redis, redis_reads
from stack import ROOT, docker

CONNECTIONS = (1, 32, 256)
IDLE_SECONDS = 5
# A round takes the median of these.
STARTS = 9
AT_RATE = "p99, ms, 32, at half of axum's rate"


def add_arguments(parser):
    parser.add_argument("--peers", type=services.chosen, metavar='"NAME…"', help="of axum, go, flask, whoami, podinfo and http-echo; the last three need a registry (default: all available)")
    parser.add_argument("--replicas", type=number(0, 200), default=30, help="containers of each, for the cost of a replica (default: 30)")
    parser.add_argument("--rounds", type=number(1, 50), default=3, help="default: 3")
    parser.add_argument("--seconds", type=number(1, 120), default=5, help="duration of each load (default: 5)")
    parser.add_argument("--json", type=Path, default=ROOT / "target/bench/density.json", help="file for the figures (default: target/bench/density.json)")
    parser.add_argument("--chart", type=Path, help="file for a chart of them, as SVG")
    parser.add_argument("--wall", type=number(1, 1000), metavar="N", help="start N replicas, send requests until every one has responded, and stop them")


def run(arguments):
    need("docker", "redis-server")
    if arguments.wall:
        return not wall.measure(arguments.wall)
    if os.geteuid():
        raise SystemExit("error: only root can read the cost of the processes of others: sudo scripts/density.sh")
    load.program()
    enter_mount_namespace()
    compared = [services.OURS, *(arguments.peers or services.available())]
    for service in compared:
        service.prepare()
    with redis():
        results = measure_processes(compared, arguments.rounds, arguments.seconds)
        if arguments.replicas:
            measure_replicas(compared, arguments.replicas, results)
    host = machine()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": host, "services": results}, indent=2, ensure_ascii=False) + "\n")
    print(report.table(results))
    print(f"\nmachine  {host['cores']} cores, kernel {host['kernel']}, engine {host['engine']}; figures in {arguments.json}")
    if arguments.chart:
        report.draw(results, arguments.chart)


def enter_mount_namespace():
    """Mounts end with this process."""
    clone_newns = 0x20000
    if ctypes.CDLL(None).unshare(clone_newns):
        raise SystemExit("error: the kernel permits no mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def machine():
    models = [line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = number_after("MemTotal:", "/proc/meminfo") / 2**20
    return {
        "processor": [*models, "?"][0], "cores": os.cpu_count(), "memory, GiB": round(memory, 1), "kernel": platform.release(),
        "engine": docker("version", "-f", "{{.Server.Version}}"), "date": time.strftime("%Y-%m-%d"),
    }


def measure_processes(compared, rounds, seconds):
    """The medians of all rounds, by service."""
    measured = {service.name: [] for service in compared}
    for this in range(1, rounds + 1):
        for service in compared:
            progress(f"round {this} of {rounds}: {service.name}")
            measured[service.name].append(measure_process(service, seconds))
        for service in compared if "axum" in measured else ():
            rate = int(measured["axum"][-1]["requests/s, 32"] / 2)
            # A rate above the capacity would only show how long the queue becomes.
            if not service.is_ready_made and measured[service.name][-1]["requests/s, 32"] >= rate * 1.1:
                progress(f"round {this} of {rounds}: {service.name} at {rate} requests per second")
                measured[service.name][-1][AT_RATE] = p99_at(rate, service, seconds)
    return {service.name: service.sizes() | summary(measured[service.name]) for service in compared}


def summary(rounds):
    common = [figure for figure in rounds[0] if all(figure in figures for figures in rounds)]
    medians = {figure: statistics.median(figures[figure] for figures in rounds) for figure in common}
    costs = [figures["CPU a request, µs, 32"] for figures in rounds]
    return medians | {"spread of CPU a request, 32": (max(costs) - min(costs)) / statistics.median(costs)}


def measure_process(service, seconds):
    """One round of a service."""
    starts = []
    for _ in range(STARTS):
        with service.running() as process:
            starts.append(process.start_ms)
    with service.running() as process:
        time.sleep(1)
        figures = {"exec to first 200, ms": statistics.median(starts)} | idle(process)
        for connections in CONNECTIONS:
            loaded(process, 1, connections)
            reads, cpu = redis_reads(), process.cpu_seconds()
            result = loaded(process, seconds, connections)
            cpu = process.cpu_seconds() - cpu
            figures |= {
                f"requests/s, {connections}": result.requests / seconds,
                f"CPU a request, µs, {connections}": cpu / result.requests * 1e6,
                f"p50, ms, {connections}": result.p50, f"p99, ms, {connections}": result.p99, f"p99.9, ms, {connections}": result.p999,
            }
            if not service.is_ready_made:
                figures[f"Redis round trips a request, {connections}"] = (redis_reads() - reads) / result.requests
            if connections == 32:
                figures |= {f"loaded {kind}, bytes": size for kind, size in process.memory().items()}
                figures["loaded threads"] = len(process.threads())
        return figures


def idle(process):
    figures = {f"idle {kind}, bytes": size for kind, size in process.memory().items()}
    before = process.threads()
    time.sleep(IDLE_SECONDS)
    after = process.threads()
    # A thread that has ended takes its counts with it.
    cpu, wakeups = (sum(after[thread][n] - before[thread][n] for thread in after if thread in before) for n in (0, 1))
    return figures | {
        "idle threads": len(after), "idle CPU, ms a second": cpu * 1000 / IDLE_SECONDS, "idle wake-ups a second": wakeups / IDLE_SECONDS,
    }


def p99_at(rate, service, seconds):
    with service.running() as process:
        loaded(process, 1, 32)
        return loaded(process, seconds, 32, rate).p99


def loaded(process, seconds, connections, rate=None):
    figures = load.measure(seconds, rate, connections, process.url)
    if figures.failed or not figures.requests:
        raise SystemExit(f"error: {figures.failed} of {figures.requests} requests to {process.url} failed")
    return figures


def measure_replicas(compared, replicas, results):
    """Adds the cost of replicas as containers to the results."""
    progress(f"{replicas} containers that do not count: the memory of the Docker daemon grows with its first ones")
    measure_containers(compared[0], replicas)
    for service in compared:
        if service.name != "axum-1":
            progress(f"{replicas} containers of {service.name}")
            results[service.name] |= measure_containers(service, replicas)


def measure_containers(service, replicas):
    created = {}
    try:
        for _ in range(replicas):
            port = next(ports)
            variables = (f"--env={name}={value}" for name, value in service.settings(port).items())
            created[port] = docker("create", "--network", "host", *variables, service.image, *service.options(port))
        # The memory of the previous containers is freed slowly.
        time.sleep(5)
        before = available_bytes()
        starts = []
        for port, container in created.items():
            began = time.monotonic_ns()
            docker("start", container)
            starts.append((first_response(port, service.path) - began) / 1e6)
        time.sleep(3)
        cost = (before - available_bytes()) / replicas
        return {
            "container start to first 200, ms": statistics.median(starts),
            "charged to a container, bytes": charged_bytes(docker("inspect", "-f", "{{.State.Pid}}", container)),
            "cost of a replica, bytes": cost,
            "of it the shim's, bytes": shim_bytes(created.values()) / replicas,
            "replicas per GiB": 2**30 / cost,
        }
    finally:
        for container in created.values():
            docker("rm", "-f", container)


def charged_bytes(pid):
    """The memory that is charged to the control group of a process, in version 2 or 1."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    files = f"/sys/fs/cgroup{groups.get('')}/memory.current", f"/sys/fs/cgroup/memory{groups.get('memory')}/memory.usage_in_bytes"
    return next((int(Path(file).read_text()) for file in files if Path(file).exists()), None)


def shim_bytes(containers):
    """The memory of the shims of these containers that is neither shared nor backed by a file."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text(errors="replace")
            if "containerd-shim" in command and any(container in command for container in containers):
                total += number_after("Anonymous:", process / "smaps_rollup") * 1024
        except OSError:
            continue
    return total
