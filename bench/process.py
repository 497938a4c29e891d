"""A service as a process on loopback, and the Redis that it uses."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from common import cpu_of, number_after
from stack import wait_for

UNPRIVILEGED = 65532
REDIS_PORT = 15099
REDIS_URL = f"redis://127.0.0.1:{REDIS_PORT}"
# Every process gets another port, because the previous one may still be ending.
ports = itertools.count(REDIS_PORT + 1)


@dataclass
class Process:
    """A running service with its descendants."""

    pid: int
    url: str
    # From the spawn to the first 200.
    start_ms: float

    def pids(self):
        found, pending = [], [self.pid]
        while pending:
            found.append(pending.pop())
            for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
                pending += map(int, children.read_text().split())
        return found

    def cpu_seconds(self):
        return sum(cpu_of(pid)[1] for pid in self.pids())

    def memory(self):
        """In bytes, by kind."""
        kinds = {"resident": "Rss:", "proportional": "Pss:", "anonymous": "Anonymous:"}
        return {kind: 1024 * sum(number_after(name, f"/proc/{pid}/smaps_rollup") for pid in self.pids()) for kind, name in kinds.items()}

    def threads(self):
        """Of each thread: seconds of CPU, and the number of wake-ups."""
        return {
            thread: (int((thread / "schedstat").read_text().split()[0]) / 1e9, number_after("voluntary_ctxt", thread / "status"))
            for pid in self.pids() for thread in Path(f"/proc/{pid}/task").iterdir()
        }


@contextlib.contextmanager
def running(command, environment, port, path="/mood", root=None, folder="/"):
    """A Process that has sent its first 200. With `root`, it is unprivileged and sees only the files in that folder."""
    reader, writer = os.pipe()
    group = os.fork()
    if group == 0:
        spawn(writer, command, environment, root, folder)
    try:
        os.close(writer)
        with os.fdopen(reader) as pipe:
            began, pid = map(int, pipe.readline().split() or (0, 0))
        if not pid:
            raise SystemExit(f"error: {command[0]} could not be started")
        yield Process(pid, f"http://127.0.0.1:{port}{path}", (first_response(port, path) - began) / 1e6)
    finally:
        os.killpg(group, signal.SIGKILL)
        os.waitpid(group, 0)


def spawn(writer, command, environment, root, folder):
    """In a forked child: spawns the command, writes the time before and the process id, and ends with it."""
    try:
        # A process group, to end all descendants. Not a session, because the kernel shares the cores between sessions first.
        os.setpgid(0, 0)
        if root:
            os.chroot(root)
            os.chdir(folder)
            os.setgroups([])
            os.setgid(UNPRIVILEGED)
            os.setuid(UNPRIVILEGED)
        silence = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
        began = time.monotonic_ns()
        # Not exec: to free the memory of this interpreter takes as long as a start of the service.
        pid = os.posix_spawnp(command[0], command, environment, file_actions=silence)
        os.write(writer, f"{began} {pid}\n".encode())
        os.waitpid(pid, 0)
    finally:
        os._exit(127)


def first_response(port, path, limit=30):
    """The time of the first 200, in nanoseconds of the monotonic clock."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=limit) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                if connection.recv(12).endswith(b" 200"):
                    return time.monotonic_ns()
        except OSError:
            pass
        # A client that does not wait uses the core that the service needs.
        time.sleep(50e-6)
    raise SystemExit(f"error: no 200 from port {port} within {limit} s")


@contextlib.contextmanager
def redis():
    server = subprocess.Popen(["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        wait_for(f"Redis responds on port {REDIS_PORT}", lambda: redis_cli("ping") == "PONG\n", 10)
        yield
    finally:
        server.terminate()
        server.wait()


def redis_cli(*command):
    return subprocess.run(["redis-cli", "-p", str(REDIS_PORT), *command], capture_output=True, text=True).stdout


def redis_reads():
    """How often Redis has read from clients: the number of round trips, not of commands."""
    return int(re.search(r"total_reads_processed:(\d+)", redis_cli("info", "stats"))[1])
