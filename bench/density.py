"""What services cost, side by side: called by scripts/density.sh, as root, in a mount namespace of its own.

Each service runs out of its image's files (chroot), on loopback, beside one Redis and one load generator; rounds are
interleaved, so that a noisy machine hits all alike, and medians are given. The last part runs real containers.
"""

import argparse
import ctypes
import itertools
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

USER = 65532
CONNECTIONS = (1, 32, 256)
IDLE_SECONDS = 5
# A round takes the median of so many.
STARTS = 9
REDIS_PORT = 15099
# Each that starts has one of its own: another may still be ending.
ports = itertools.count(REDIS_PORT + 1)
# What a ready-made service is asked for, and how it is told its port. Ours and the written ones know LISTEN_ADDR.
PATHS = {"whoami": "/api", "podinfo": "/version", "http-echo": "/"}
PORT_OPTIONS = {"whoami": "--port={}", "podinfo": "--port={}", "http-echo": "-listen=:{}"}


@dataclass
class Service:
    name: str
    image: str
    root: Path
    # Beside that of the image.
    environment: dict = field(default_factory=dict)

    def __post_init__(self):
        inspected = json.loads(output("docker", "image", "inspect", self.image))[0]
        config = inspected["Config"]
        self.image_bytes = inspected["Size"]
        self.command = (config["Entrypoint"] or []) + (config["Cmd"] or [])
        self.folder = config["WorkingDir"] or "/"
        self.image_environment = dict(pair.split("=", 1) for pair in config["Env"] or [])
        self.path = PATHS.get(self.name, "/mood")

    @property
    def is_ready_made(self):
        return self.name in PATHS

    def arguments(self, port):
        return [*self.command, *([PORT_OPTIONS[self.name].format(port)] if self.is_ready_made else [])]

    def settings(self, port):
        return self.environment | {"LISTEN_ADDR": f"127.0.0.1:{port}", "REDIS_URL": f"redis://127.0.0.1:{REDIS_PORT}"}

    @property
    def binary_bytes(self):
        """Of what is executed; an interpreter is not the program."""
        program = self.root / self.command[0].lstrip("/")
        return None if self.name == "flask" else program.stat().st_size


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def progress(text):
    print(f"    {text}", file=sys.stderr, flush=True)


class Process:
    """A service that runs out of its image's files, with all that it starts."""

    def __init__(self, service):
        self.port, self.path = next(ports), service.path
        environment = service.image_environment | service.settings(self.port)
        reader, writer = os.pipe()
        silence = os.open(os.devnull, os.O_WRONLY)
        self.launcher = os.fork()
        if self.launcher == 0:
            try:
                # A group to be ended, but no session: the kernel would share the cores between sessions first.
                os.setpgid(0, 0)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                os.chroot(service.root)
                os.chdir(service.folder)
                os.setgroups([])
                os.setgid(USER)
                os.setuid(USER)
                began = time.monotonic_ns()
                # Spawned rather than become: to take down this interpreter's memory takes as long as a start of ours.
                pid = os.posix_spawnp(service.command[0], service.arguments(self.port), environment)
                os.write(writer, f"{began} {pid}".encode())
                os.waitpid(pid, 0)
            finally:
                os._exit(127)
        os.close(silence)
        os.close(writer)
        launched = os.read(reader, 64).split()
        os.close(reader)
        if not launched:
            raise SystemExit(f"{service.command[0]} of {service.image} could not be started")
        self.pid = int(launched[1])
        try:
            self.first_answer = first_answer(self.port, self.path) - int(launched[0]) / 1e6
        except BaseException:
            self.stop()
            raise

    def pids(self):
        """This process and its descendants."""
        found, rest = [], [self.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                rest += map(int, (thread / "children").read_text().split())
        return found

    def threads(self):
        return [thread for pid in self.pids() for thread in Path(f"/proc/{pid}/task").iterdir()]

    def activity(self):
        """Of each thread: seconds of CPU, and how often it was woken."""
        return {
            thread: (int((thread / "schedstat").read_text().split()[0]) / 1e9,
                     number_after((thread / "status").read_text(), "voluntary_ctxt_switches:"))
            for thread in self.threads()
        }

    def cpu_ticks_seconds(self):
        """Also of threads that have ended."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident, proportional and anonymous bytes."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return [sum(number_after(rollup, name) for rollup in rollups) * 1024 for name in ("Rss:", "Pss:", "Anonymous:")]

    def stop(self):
        os.killpg(self.launcher, signal.SIGKILL)
        os.waitpid(self.launcher, 0)


def number_after(text, name):
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def first_answer(port, path, limit=30):
    """When the first 200 came, in milliseconds of the monotonic clock. Waits between tries: a client that spins takes
    the core that the service needs."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=limit) as connection:
                connection.sendall(request)
                if connection.recv(12).endswith(b" 200"):
                    return time.monotonic_ns() / 1e6
        except OSError:
            pass
        time.sleep(50e-6)
    raise SystemExit(f"no answer on port {port} within {limit} s")


class Redis:
    def __init__(self):
        command = ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not self.answers():
            if self.process.poll() is not None:
                raise SystemExit(f"redis-server could not be started on port {REDIS_PORT}")
            time.sleep(0.05)

    def answers(self):
        try:
            return self.reads() >= 0
        except OSError:
            return False

    def reads(self):
        """How often it read from clients: round trips."""
        with socket.create_connection(("127.0.0.1", REDIS_PORT)) as connection:
            connection.sendall(b"INFO stats\r\nQUIT\r\n")
            text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        return int(next(line.split(":")[1] for line in text.splitlines() if line.startswith("total_reads_processed")))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def load(oha, process, connections, seconds, rate=None):
    """oha's figures: requests, a second, and latencies in milliseconds. Fails if a request did."""
    pace = ["--latency-correction", "-q", str(rate)] if rate else []
    url = f"http://127.0.0.1:{process.port}{process.path}"
    command = [oha, "--no-tui", "--output-format", "json", *pace, "-w", "-z", f"{seconds}s", "-c", str(connections), url]
    result = json.loads(output(*command))
    statuses = result["statusCodeDistribution"]
    if set(statuses) != {"200"}:
        raise SystemExit(f"{url}: {statuses or 'no answer'}")
    requests, latencies = statuses["200"], result["latencyPercentiles"]
    figures = {"requests": requests, "requests/s": requests / seconds}
    return figures | {name: latencies[name] * 1000 for name in ("p50", "p99", "p99.9")}


def measure_process(service, redis, oha, seconds):
    """One round of what a process shows."""
    starts = []
    for _ in range(STARTS):
        process = Process(service)
        starts.append(process.first_answer)
        process.stop()
    process = Process(service)
    try:
        time.sleep(1)
        figures = {"exec to first 200, ms": statistics.median(starts)}
        figures |= idle(process)
        for connections in CONNECTIONS:
            load(oha, process, connections, 1)
            reads, cpu = redis.reads(), process.cpu_ticks_seconds()
            under_load = load(oha, process, connections, seconds)
            requests = under_load["requests"]
            figures[f"requests/s, {connections}"] = under_load["requests/s"]
            figures[f"CPU a request, µs, {connections}"] = (process.cpu_ticks_seconds() - cpu) / requests * 1e6
            for name in ("p50", "p99", "p99.9"):
                figures[f"{name}, ms, {connections}"] = under_load[name]
            if not service.is_ready_made:
                figures[f"Redis round trips a request, {connections}"] = (redis.reads() - reads) / requests
            if connections == 32:
                resident, proportional, anonymous = process.memory()
                figures |= {"loaded resident, bytes": resident, "loaded proportional, bytes": proportional}
                figures |= {"loaded anonymous, bytes": anonymous, "loaded threads": len(process.threads())}
        return figures
    finally:
        process.stop()


def idle(process):
    resident, proportional, anonymous = process.memory()
    before = process.activity()
    time.sleep(IDLE_SECONDS)
    after = process.activity()
    # A thread that has ended meanwhile takes its counts with it.
    cpu, wakeups = (sum(after[thread][n] - before[thread][n] for thread in after if thread in before) for n in (0, 1))
    return {
        "idle resident, bytes": resident, "idle proportional, bytes": proportional, "idle anonymous, bytes": anonymous,
        "idle threads": len(after),
        "idle CPU, ms a second": cpu * 1000 / IDLE_SECONDS,
        "idle wake-ups a second": wakeups / IDLE_SECONDS,
    }


def measure_at_rate(service, oha, seconds, rate):
    process = Process(service)
    try:
        load(oha, process, 32, 1)
        return load(oha, process, 32, seconds, rate)["p99"]
    finally:
        process.stop()


def available_bytes():
    return number_after(Path("/proc/meminfo").read_text(), "MemAvailable:") * 1024


def shim_bytes(containers):
    """Memory of the shims of these containers that they share with nobody and no file."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            if "containerd-shim" in command and any(container in command for container in containers):
                total += number_after((process / "smaps_rollup").read_text(), "Anonymous:") * 1024
        except OSError:
            continue
    return total


def charged_bytes(container):
    """What its control group is charged with."""
    pid = output("docker", "inspect", "-f", "{{.State.Pid}}", container).strip()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            file = Path(f"/sys/fs/cgroup{group}/memory.current")
        elif "memory" in controllers.split(","):
            file = Path(f"/sys/fs/cgroup/memory{group}/memory.usage_in_bytes")
        else:
            continue
        if file.exists():
            return int(file.read_text())
    return None


def measure_containers(service, replicas):
    """What replicas really cost the host, as containers."""
    created = {}
    try:
        for _ in range(replicas):
            port = next(ports)
            settings = service.settings(port)
            options = [option for name, value in settings.items() for option in ("-e", f"{name}={value}")]
            arguments = service.arguments(port)[len(service.command):]
            created[port] = output("docker", "create", "--network", "host", *options, service.image, *arguments).strip()
        # What the containers before took comes back slowly.
        time.sleep(5)
        before = available_bytes()
        starts = []
        for port, container in created.items():
            began = time.monotonic_ns() / 1e6
            output("docker", "start", container)
            starts.append(first_answer(port, service.path) - began)
        time.sleep(3)
        cost = (before - available_bytes()) / replicas
        return {
            "container start to first 200, ms": statistics.median(starts),
            "charged to a container, bytes": charged_bytes(container),
            "cost of a replica, bytes": cost,
            "of it the shim's, bytes": shim_bytes(created.values()) / replicas,
            "replicas per GiB": 2**30 / cost,
        }
    finally:
        if created:
            output("docker", "rm", "-f", *created.values())


def prepare(root):
    """The files that every container has."""
    for name in ("proc", "dev"):
        (root / name).mkdir(exist_ok=True)
        mounted = ctypes.CDLL(None, use_errno=True).mount(f"/{name}".encode(), bytes(root / name), None, 4096 | 16384, None)
        if mounted:
            raise SystemExit(f"/{name} could not be bound into {root}: {os.strerror(ctypes.get_errno())}")
    (root / "tmp").mkdir(mode=0o1777, exist_ok=True)


def medians(rounds):
    """Of each figure over all rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def spread(rounds, name):
    values = sorted(one[name] for one in rounds)
    return (values[-1] - values[0]) / statistics.median(values)


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory = number_after(Path("/proc/meminfo").read_text(), "MemTotal:") / 2**20
    return {
        "processor": model, "cores": os.cpu_count(), "memory, GiB": round(memory, 1), "kernel": platform.release(),
        "engine": output("docker", "version", "-f", "{{.Server.Version}}").strip(), "date": time.strftime("%Y-%m-%d"),
    }


def measure(services, arguments):
    redis = Redis()
    rounds = {service.name: [] for service in services}
    try:
        for number in range(1, arguments.rounds + 1):
            for service in services:
                progress(f"round {number} of {arguments.rounds}: {service.name}")
                rounds[service.name].append(measure_process(service, redis, arguments.oha, arguments.seconds))
            if "axum" in rounds:
                rate = int(rounds["axum"][-1]["requests/s, 32"] / 2)
                for service in (service for service in services if not service.is_ready_made):
                    # What it cannot carry would only show how long the queue became.
                    if rounds[service.name][-1]["requests/s, 32"] < rate * 1.1:
                        continue
                    progress(f"round {number} of {arguments.rounds}: {service.name} at {rate} requests a second")
                    p99 = measure_at_rate(service, arguments.oha, arguments.seconds, rate)
                    rounds[service.name][-1]["p99, ms, 32, at half of axum's rate"] = p99
        results = {}
        for service in services:
            # The figure at a rate is there where each round has it.
            common = set.intersection(*(set(one) for one in rounds[service.name]))
            rows = [{name: one[name] for name in one if name in common} for one in rounds[service.name]]
            results[service.name] = {"image, bytes": service.image_bytes, "binary, bytes": service.binary_bytes} | medians(rows)
            results[service.name]["spread of CPU a request, 32"] = spread(rows, "CPU a request, µs, 32")
        if arguments.replicas:
            # The engine's own memory grows with its first containers, and is kept.
            progress(f"{arguments.replicas} containers that do not count")
            measure_containers(services[0], arguments.replicas)
        for service in services:
            if arguments.replicas and service.name != "axum-1":
                progress(f"{arguments.replicas} containers of {service.name}")
                results[service.name] |= measure_containers(service, arguments.replicas)
        return results
    finally:
        redis.stop()


def shown(name, value):
    if value is None:
        return "-"
    if "bytes" in name:
        return f"{value / 2**20:.2f} MB" if value >= 2**20 / 10 else f"{value / 1024:.0f} KB"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def times(ratio):
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def table(results):
    """A row a figure, a column a service; behind each value how many times ours it is."""
    names = list(results)
    rows = [["", *names]]
    for figure in results["ours"]:
        ours = results["ours"][figure]
        row = [figure]
        for name in names:
            value = results[name].get(figure)
            ratio = f" ({times(value / ours)})" if name != "ours" and value is not None and ours else ""
            row.append(shown(figure, value) + ratio)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths))) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oha", required=True)
    parser.add_argument("--roots", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("services", nargs="+", metavar="NAME=IMAGE")
    arguments = parser.parse_args()
    services = []
    for pair in arguments.services:
        name, image = pair.split("=", 1)
        root = arguments.roots / name
        prepare(root)
        services.append(Service(name, image, root))
        if name == "axum":
            # Once more on a runtime of one thread.
            services.append(Service("axum-1", image, root, {"RUNTIME": "current_thread"}))
    results = measure(services, arguments)
    arguments.json.write_text(json.dumps({"machine": machine(), "services": results}, indent=2, ensure_ascii=False) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
