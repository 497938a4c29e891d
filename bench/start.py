#!/usr/bin/env python3
"""Measures the time from exec to the first 200, and the resident memory of the idle service.

Usage: bench/start.py [--runs N] [BINARY]   (default: 20 runs of target/release/mood)
"""
import argparse
import os
import statistics
import time

import density


def first_answer(binary, port):
    """Starts the binary; gives (milliseconds to the first 200, resident KiB a second later)."""
    environment = {"LISTEN_ADDR": f"127.0.0.1:{port}", "DRAIN_MS": "0"}
    began = time.monotonic_ns() / 1e6
    # posix_spawn rather than fork: a large parent would be measured too.
    pid = os.posix_spawn(binary, [binary], environment, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    try:
        took = density.first_answer(port, "/mood", 10) - began
        time.sleep(1)
        with open(f"/proc/{pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        return took, resident
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("binary", nargs="?", default=os.path.join(root, "target/release/mood"))
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    if not os.access(arguments.binary, os.X_OK):
        raise SystemExit(f"{arguments.binary} is not there: cargo build --release")
    results = [first_answer(arguments.binary, 15500 + run) for run in range(arguments.runs)]
    times = sorted(took for took, _ in results)
    resident = statistics.median(kib for _, kib in results)
    print(f"exec to first 200: median {statistics.median(times):.1f} ms, fastest {times[0]:.1f}, slowest {times[-1]:.1f}")
    print(f"resident when idle: {resident / 1024:.1f} MB; binary: {os.path.getsize(arguments.binary):,} bytes")


if __name__ == "__main__":
    main()
