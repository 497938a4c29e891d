"""A second Docker daemon in a network namespace, for faults that would harm every container of this machine."""

import os
import platform
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from console import healing, step
from stack import ROOT, SETTINGS, StackError, defaults, docker, wait_for

NAMESPACE = "mood-chaos"
# The project in the second daemon. Its state is kept in the folder of that name.
ENGINE_PROJECT = "mood-chaos-engine"


class Engine:
    """Keeps everything in `folder`. Its containers log to a small disk of their own, which can be filled."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.logs = self.folder / "data/containers"

    def command(self, *command):
        """A command that uses this daemon and its network."""
        prefix = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "env", f"DOCKER_HOST=unix://{self.folder}/docker.sock"]
        return [*prefix, f"COMPOSE_PROJECT_NAME={ENGINE_PROJECT}", f"MOOD_ENGINE={self.folder}", *command]

    def run(self, *command, **options):
        return subprocess.run(self.command(*command), **options)

    def start(self):
        # `ip netns exec` would hide the control groups. `setsid --fork` protects the daemon from Ctrl-C, and makes it no
        # child of this program, which would have to wait for it.
        options = {
            "config-file": self.folder / "empty.json", "data-root": self.folder / "data", "exec-root": f"/run/{NAMESPACE}",
            "pidfile": self.folder / "docker.pid", "host": f"unix://{self.folder}/docker.sock",
            "storage-driver": (self.folder / "driver").read_text(),
        }
        with open(self.folder / "log", "a") as log:
            subprocess.run(
                ["setsid", "--fork", "nsenter", f"--net=/run/netns/{NAMESPACE}", "dockerd",
                 *(f"--{name}={value}" for name, value in options.items())], stdout=log, stderr=log, check=True,
            )
        wait_for("the second daemon responds", lambda: self.run("docker", "info", capture_output=True).returncode == 0)

    def stop(self):
        """As its service manager does."""
        try:
            pid = int((self.folder / "docker.pid").read_text())
            if str(self.folder) not in Path(f"/proc/{pid}/cmdline").read_text():
                # The daemon ended without removing the file, and another process has its number.
                return
            os.kill(pid, signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError):
            return
        # Unlike /proc/<pid>, the link to the executable does not outlive the process until it is reaped.
        wait_for("the second daemon ends", lambda: not Path(f"/proc/{pid}/exe").exists())


def current():
    """The second daemon that this process was started in, or None."""
    folder = os.environ.get("MOOD_ENGINE")
    return Engine(folder) if folder else None


def obstacle():
    """Why there can be no second daemon here, or None."""
    if platform.system() != "Linux":
        return "it needs a second Docker daemon, and therefore Linux"
    if os.geteuid() != 0:
        return "it needs a second Docker daemon, and therefore root"
    missing = [tool for tool in ("dockerd", "ip", "nsenter", "setsid") if not shutil.which(tool)]
    return f"it needs {', '.join(missing)} (packages docker.io, iproute2, util-linux)" if missing else None


@contextmanager
def second(replicas):
    """A second daemon with the images of the first one, in which the stack runs."""
    step("Starting a second Docker daemon, and the stack in it (about a minute)")
    # On the same disk as the data of the first one: the images are large.
    engine = Engine(Path(docker("info", "-f", "{{.DockerRootDir}}")) / "mood-chaos")
    # An earlier one may have been killed.
    remove(engine)
    with healing(remove, engine):
        engine.logs.mkdir(parents=True)
        (engine.folder / "empty.json").write_text("{}")
        (engine.folder / "driver").write_text(docker("info", "-f", "{{.Driver}}"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", engine.logs], check=True)
        subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        engine.start()
        names = [name for name in defaults() if name.endswith("_IMAGE") and name != "BUILDER_IMAGE"]
        images = [SETTINGS[name] for name in names if docker("image", "inspect", SETTINGS[name], check=False).returncode == 0]
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as save:
            engine.run("docker", "load", stdin=save.stdout, stdout=subprocess.DEVNULL, check=True)
        started = engine.run(ROOT / "scripts/run.sh", "--replicas", str(replicas), capture_output=True, text=True)
        if started.returncode:
            raise StackError(f"the stack does not start in a second Docker daemon: {started.stderr[-1000:]}")
        yield engine


def remove(engine):
    if (engine.folder / "docker.sock").exists():
        engine.run(ROOT / "scripts/stop.sh", capture_output=True)
    engine.stop()
    subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True)
    subprocess.run(["umount", engine.logs], capture_output=True)
    for folder in (engine.folder, f"/run/{NAMESPACE}", ROOT / "state" / ENGINE_PROJECT):
        shutil.rmtree(folder, ignore_errors=True)
