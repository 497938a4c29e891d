"""Required programs, progress, and the figures of /proc."""

import os
import shutil
import sys
from pathlib import Path


def need(*programs):
    if not Path("/proc/meminfo").exists():
        raise SystemExit("error: costs are read from /proc, which only Linux has")
    for program in programs:
        if not shutil.which(program):
            raise SystemExit(f"error: {program} is missing: sudo apt-get install {program}")


def progress(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def number_after(name, file):
    """The number behind a name in a file of /proc."""
    return next(int(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(name))


def available_bytes():
    return number_after("MemAvailable:", "/proc/meminfo") * 1024


def cpu_of(pid):
    """The name of a process, and its seconds of CPU, including those of threads that have ended."""
    name, fields = Path(f"/proc/{pid}/stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
    return name, sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")
