"""With a registry: the way nearly everybody comes. A real one, served as registry-1.docker.io to a second Docker engine in
a network namespace of its own, filled with the stand-in images under their official names."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from stack import ROOT, SETTINGS, docker, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.registry]

NAMESPACE = "mood-registry"
STACK = {"COMPOSE_PROJECT_NAME": "mood-pulled", "COMPOSE_PROFILES": "", "MOOD_STALL_SECONDS": "12"}
# Bytes a second. The builder has several hundred MB.
FAST, SLOW = 400_000_000, 4_000_000
NAMES = ("NGINX", "REDIS", "PROMETHEUS", "NGINX_EXPORTER", "REDIS_EXPORTER", "BUILDER")


def image_of(name):
    return SETTINGS[f"{name}_IMAGE"]


def repository(image):
    """Where a registry keeps an image of this name."""
    return image if "/" in image else f"library/{image}"


class Registry:
    """A registry, the front that misbehaves, and the second Docker daemon."""

    def __init__(self, cleanup):
        # On a disk, where the engines are: the images are large.
        self.folder = Path(tempfile.mkdtemp(dir=docker("info", "-f", "{{.DockerRootDir}}"), prefix="mood-registry-"))
        cleanup.callback(self.remove_folder)
        self.processes = []
        cleanup.callback(self.end_processes)
        for name in ("trusted", "stranger"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:registry-1.docker.io",
                 "-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.pem"],
                check=True, capture_output=True,
            )
        self.fill()
        self.make_namespace(cleanup)
        self.start_registry("127.0.0.1:5443", tls=True, inside=True)
        self.set_mode("pass", FAST)
        self.start(
            "python3", ROOT / "tests/stack/registry_front.py", self.folder / "mode",
            *(self.folder / f"{name}.{kind}" for name in ("trusted", "stranger") for kind in ("pem", "key")), inside=True,
        )
        self.start_engine()

    def start(self, *command, inside=False, **environment):
        with open(self.folder / f"{len(self.processes)}-{Path(command[0]).name}.log", "w") as log:
            command = self.inside(*command) if inside else command
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        self.processes.append(process)
        return process

    def inside(self, *command):
        """The command in the namespace, which has its own /etc/hosts. (`ip netns exec` would hide the control groups.)"""
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("nsenter", f"--net=/run/netns/{NAMESPACE}", "unshare", "--mount", "sh", "-c", mount, self.hosts, *command)

    def end_processes(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()

    def remove_folder(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_registry(self, address, tls=False, inside=False):
        settings = f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {self.folder}/storage}}}}\nhttp:\n  addr: {address}\n"
        if tls:
            settings += f"  tls: {{certificate: {self.folder}/trusted.pem, key: {self.folder}/trusted.key}}\n"
        config = self.folder / f"{address}.yml"
        config.write_text(settings)
        self.registry = self.start("docker-registry", "serve", config, inside=inside)

    def fill(self):
        """Pushes the stand-ins, without the labels by which they are known."""
        self.start_registry("127.0.0.1:5055")
        images = {image_of(name): image_of(name) for name in NAMES}
        images[SETTINGS["APP_IMAGE"]] = "example/mood:published"
        for source, name in images.items():
            target = f"localhost:5055/{repository(name)}"
            recipe = f"FROM {source}\nLABEL mood.offline= mood.lock= mood.source=\n"
            subprocess.run(["docker", "build", "-q", "-t", target, "-"], input=recipe, text=True, check=True, capture_output=True,
                           env=os.environ | {"DOCKER_BUILDKIT": "0"})
            for attempt in range(20):
                if docker("push", "-q", target, check=False).returncode == 0:
                    break
                time.sleep(0.5)
            else:
                raise AssertionError(f"{target} cannot be pushed")
            docker("rmi", target)
        self.registry.terminate()
        self.registry.wait()

    def make_namespace(self, cleanup):
        def ip(*arguments, check=True):
            subprocess.run(["ip", *arguments], check=check, capture_output=True)

        ip("netns", "del", NAMESPACE, check=False)
        ip("netns", "add", NAMESPACE)
        cleanup.callback(ip, "netns", "del", NAMESPACE, check=False)
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        self.hosts = self.folder / "hosts"
        self.set_known(True)

    def set_known(self, known):
        """Whether the registry's name is known. In place: the namespace has the file itself mounted."""
        with open(self.hosts, "w") as file:
            file.write("127.0.0.1 localhost" + (" registry-1.docker.io" if known else "") + "\n")
        # The engine looks at the file every five seconds.
        time.sleep(6)

    def set_mode(self, *words):
        new = self.folder / "mode.new"
        new.write_text(" ".join(str(word) for word in words))
        new.rename(self.folder / "mode")

    def start_engine(self):
        (self.folder / "empty.json").write_text("{}")
        self.host = f"unix://{self.folder}/docker.sock"
        driver = docker("info", "-f", "{{.Driver}}")
        self.start(
            "dockerd", "--config-file", self.folder / "empty.json", "--data-root", self.folder / "data", "--exec-root", f"/run/{NAMESPACE}",
            "-p", self.folder / "docker.pid", "-H", self.host, "--storage-driver", driver, inside=True,
            SSL_CERT_FILE=str(self.folder / "trusted.pem"),
        )
        wait_for("the second engine answers", lambda: self.engine("info", check=False).returncode == 0, 60)

    def engine(self, *arguments, check=True):
        return docker("-H", self.host, *arguments, check=check)

    def run_script(self, name, *arguments, debian=False, **environment):
        """A script on the second engine; where not `debian`, on a machine without apt-get."""
        path = os.environ["PATH"] if debian else self.path_without("apt-get")
        return subprocess.run(
            self.inside(ROOT / "scripts" / name, *arguments), capture_output=True, text=True, timeout=1800,
            env=os.environ | STACK | {"PATH": path, "DOCKER_HOST": self.host} | environment,
        )

    def path_without(self, tool):
        folder = self.folder / "path"
        if not folder.exists():
            folder.mkdir()
            for directory in reversed(os.environ["PATH"].split(":")):
                for program in Path(directory).glob("*"):
                    if program.name != tool:
                        (folder / program.name).unlink(missing_ok=True)
                        (folder / program.name).symlink_to(program)
        return str(folder)

    def label(self, image, name):
        return self.engine("image", "inspect", "-f", '{{index .Config.Labels "%s"}}' % name, image)


@pytest.fixture(scope="module")
def running_registry():
    with contextlib.ExitStack() as cleanup:
        yield Registry(cleanup)


@pytest.fixture
def registry(running_registry):
    running_registry.set_mode("pass", FAST)
    return running_registry


def assert_refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_1_what_goes_wrong_is_said_in_a_sentence(registry):
    redis = image_of("REDIS")
    registry.set_known(False)
    try:
        assert_refused(registry.run_script("run.sh"), redis, "cannot be reached", "name is not known")
    finally:
        registry.set_known(True)
    registry.set_mode("closed")
    wait_for("nobody listens", lambda: subprocess.run(
        registry.inside("bash", "-c", "! : </dev/tcp/127.0.0.1/443"), capture_output=True).returncode == 0, 10)
    assert_refused(registry.run_script("run.sh"), redis, "cannot be reached", "connection is refused")
    registry.set_mode("stranger")
    assert_refused(registry.run_script("run.sh"), redis, "cannot be reached", "certificate")
    registry.set_mode("limited")
    assert_refused(registry.run_script("run.sh"), redis, "429", "docker login")
    registry.set_mode("pass", FAST)
    assert_refused(registry.run_script("run.sh", REDIS_IMAGE="redis:0-nonesuch"), "redis:0-nonesuch", "does not exist", "REDIS_IMAGE in the env")
    line = next(n for n, text in enumerate((ROOT / ".env").read_text().splitlines(), 1) if text.startswith("GRAFANA_IMAGE="))
    registry.set_mode("pass", SLOW)
    began = threading.Timer(8, lambda: registry.set_mode("stall"))
    began.start()
    assert_refused(registry.run_script("run.sh"), redis, "no progress for 12 s", " MB of ")
    registry.set_mode("pass", FAST)
    # The registry has no Grafana: all the rest is pulled, and then it is missed.
    assert_refused(registry.run_script("run.sh", COMPOSE_PROFILES="grafana"), image_of("GRAFANA"), "does not exist", f"line {line} of .env")


def test_2_run_pulls_builds_starts_and_serves_however_slow_the_line(registry):
    builder = image_of("BUILDER")
    registry.engine("rmi", "-f", *registry.engine("images", "-q").split(), check=False)
    registry.set_mode("pass", FAST)
    result = {}
    thread = threading.Thread(target=lambda: result.update(run=registry.run_script("run.sh")))
    thread.start()
    began = time.monotonic()
    wait_for("the small ones are here", lambda: registry.engine("images", "-q", image_of("REDIS_EXPORTER")), 300)
    registry.set_mode("pass", SLOW)
    slow_since = time.monotonic()
    time.sleep(20)
    # In mid-pull the registry stops, and starts again.
    registry.set_mode("closed")
    time.sleep(8)
    registry.set_mode("pass", SLOW)
    wait_for("the builder is here", lambda: registry.engine("images", "-q", builder), 1200)
    print(f"the builder took {time.monotonic() - slow_since:.0f} s, and all before it {slow_since - began:.0f} s")
    assert time.monotonic() - slow_since > 120, "that was no slow line"
    registry.set_mode("pass", FAST)
    thread.join()
    run = result["run"]
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Pulling " + builder + r"\n( +asking.*\n)?( +[0-9.]+ MB of [0-9.]+ MB\n)+", run.stdout)
    assert "Debian" not in run.stdout
    assert registry.run_script("smoke.sh").returncode == 0
    again = time.monotonic()
    assert registry.run_script("run.sh").returncode == 0
    assert time.monotonic() - again < 10


def test_3_stand_ins_are_named_and_online_goes_back(registry):
    for name in (*NAMES, "ALERTMANAGER"):
        image = image_of(name if name != "ALERTMANAGER" else "REDIS_EXPORTER")
        recipe = f"FROM {image}\nLABEL mood.offline=3\n"
        subprocess.run(["docker", "-H", registry.host, "build", "-q", "-t", image_of(name), "-"], input=recipe, text=True, check=True,
                       capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"})
    # The app's image is as it was, so nothing is to be built.
    result = registry.run_script("run.sh", debian=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "stand in for the official ones" in result.stdout
    assert "scripts/run.sh --online" in result.stdout
    result = registry.run_script("run.sh", "--online")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in NAMES:
        assert registry.label(image_of(name), "mood.offline") == "", name
    assert "stand in" not in registry.run_script("run.sh").stdout


def test_4_a_published_image_is_pulled_and_not_built(registry):
    registry.engine("rmi", "-f", image_of("BUILDER"), check=False)
    result = registry.run_script("run.sh", APP_IMAGE="example/mood:published")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Pulling example/mood:published" in result.stdout
    assert "Building" not in result.stdout
    running = registry.engine("ps", "-q", "--filter", "label=com.docker.compose.service=app")
    used = json.loads(registry.engine("inspect", *running.split()))[0]["Config"]["Image"]
    assert used == "example/mood:published"
    assert_refused(registry.run_script("run.sh", APP_IMAGE="example/mood:nonesuch"), "example/mood:nonesuch", "APP_IMAGE in the env")
    assert registry.run_script("stop.sh").returncode == 0
