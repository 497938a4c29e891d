"""A request to a replica at 1, 32 and 256 connections: CPU time, requests per second, p99 and memory.

The load comes from wrk with one thread. Several binaries are measured in turn, with one Redis.
"""

import os
import re
import subprocess

from common import need
from console import number
from process import REDIS_URL, ports, redis, running
from stack import ROOT


def add_arguments(parser):
    parser.add_argument("--seconds", type=number(1, 99), default=5, help="duration of each load (default: 5)")
    parser.add_argument("binaries", metavar="BINARY", nargs="*", default=[str(ROOT / "target/release/mood")], help="default: target/release/mood")


def run(arguments):
    need("wrk", "redis-server")
    print(f"{'binary':28} {'conns':>5} {'requests/s':>10} {'CPU/request':>12} {'p99':>10} {'resident':>10}", flush=True)
    with redis():
        for connections in (1, 32, 256):
            for binary in arguments.binaries:
                measure(binary, connections, arguments.seconds)


def measure(binary, connections, seconds):
    port = next(ports)
    environment = os.environ | {"LISTEN_ADDR": f"127.0.0.1:{port}", "REDIS_URL": REDIS_URL}
    with running([binary], environment, port) as process:
        wrk(process.url, connections, 1)
        before = process.cpu_seconds()
        report = wrk(process.url, connections, seconds)
        cpu, resident = process.cpu_seconds() - before, process.memory()["resident"] / 2**20
    requests, rate, p99 = (re.search(pattern, report)[1] for pattern in (r"(\d+) requests in", r"Requests/sec: +(\S+)", r"99% +(\S+)"))
    print(
        f"{os.path.basename(binary):28} {connections:5} {float(rate):10.0f} {cpu / int(requests) * 1e6:9.1f} µs {p99:>10} {resident:6.1f} MiB",
        *re.findall("Non-2xx.*|Socket errors.*", report), flush=True,
    )


def wrk(url, connections, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
