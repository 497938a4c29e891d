"""A start with the embedded store: time from exec to the first 200, and the memory of the idle service."""

import os
import statistics
import time

from common import need
from console import number
from process import ports, running
from stack import ROOT


def add_arguments(parser):
    parser.add_argument("--runs", type=number(1, 1000), default=20, help="number of starts (default: 20)")
    parser.add_argument("binary", metavar="BINARY", nargs="?", default=str(ROOT / "target/release/mood"), help="default: target/release/mood")


def run(arguments):
    need()
    starts, resident = zip(*(measure(arguments.binary) for _ in range(arguments.runs)))
    print(f"exec to first 200: median {statistics.median(starts):.1f} ms, fastest {min(starts):.1f}, slowest {max(starts):.1f}")
    print(f"resident when idle: {statistics.median(resident) / 2**20:.1f} MiB; binary: {os.path.getsize(arguments.binary):,} bytes")


def measure(binary):
    """Milliseconds, and bytes one second later."""
    port = next(ports)
    with running([binary], {"LISTEN_ADDR": f"127.0.0.1:{port}"}, port) as process:
        time.sleep(1)
        return process.start_ms, process.memory()["resident"]
