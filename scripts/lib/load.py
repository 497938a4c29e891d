"""The load generator: oha. As a program, prints the path of oha and compiles it if it is missing.

At a constant rate the load is an open loop: a latency counts from when its request was due, so that a stall is not hidden.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from stack import ROOT, URL

VERSION = "1.16.0"
FOLDER = ROOT / "target/tools"


@dataclass(frozen=True)
class Figures:
    """What a load measured. Latencies are those of all responses, in milliseconds."""

    requests: int
    # Any response other than 2xx and 304, and any request without a response.
    failed: int
    p50: float
    p99: float
    p999: float
    slowest: float


class Oha:
    """A load in the background: at `rate` requests per second, or as fast as possible without it.

    As a context manager it does not outlive the block.
    """

    def __init__(self, seconds, rate=None, connections=64, url=f"{URL}/mood", prefix=()):
        pace = ["--latency-correction", "-q", str(rate)] if rate else []
        command = [*prefix, program(), "--no-tui", "--output-format", "json", *pace, "-w", "-t", "10s"]
        command += ["-z", f"{seconds}s", "-c", str(connections), url]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def figures(self):
        """Waits for the end of the load."""
        output, errors = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"error: the load generator failed: {errors.strip()}")
        return figures(json.loads(output))


def measure(*arguments, **options):
    """Runs a load to its end. The arguments are those of Oha."""
    with Oha(*arguments, **options) as load:
        return load.figures()


def program():
    """The path of oha, which cargo compiles if it is neither installed nor compiled yet."""
    path = shutil.which("oha", path=os.pathsep.join([os.environ.get("PATH", ""), str(FOLDER / "bin")]))
    return path or compiled()


def compiled():
    if not shutil.which("cargo"):
        raise SystemExit("error: oha is missing: brew install oha, or install cargo (https://rustup.rs) and repeat this command")
    print("==> Compiling oha, the load generator (three to six minutes, once)", file=sys.stderr)
    # The release profile of oha optimizes across all crates. That takes twice as long and is no faster here.
    profile = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    command = ["cargo", "install", "oha", "--version", VERSION, "--locked", "--no-default-features", "--features", "rustls"]
    if subprocess.run([*command, "--root", FOLDER], stdout=sys.stderr, env=os.environ | profile).returncode:
        raise SystemExit("error: oha could not be compiled; the reason is above")
    return str(FOLDER / "bin/oha")


def figures(result):
    """Of oha's JSON."""
    # A request that was still in flight at the end neither succeeded nor failed.
    errors = sum(count for text, count in result["errorDistribution"].items() if "deadline" not in text)
    statuses = result["statusCodeDistribution"]
    failed = sum(count for status, count in statuses.items() if not status.startswith("2") and status != "304")
    latencies = result["latencyPercentiles"]
    times = [latencies["p50"], latencies["p99"], latencies["p99.9"], result["summary"]["slowest"]]
    return Figures(sum(statuses.values()) + errors, failed + errors, *((seconds or 0) * 1000 for seconds in times))


if __name__ == "__main__":
    print(program())
