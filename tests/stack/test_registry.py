"""Pulling images from a registry that works, and from registries that fail. A second Docker daemon, in a separate network
namespace, reaches a local registry under the name of Docker Hub. This registry holds the images from Debian packages."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from stack import ROOT, SETTINGS, docker, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.registry]

NAMESPACE = "mood-registry"
HUB = "registry-1.docker.io"
NAMES = ("REDIS", "NGINX", "PROMETHEUS", "NGINX_EXPORTER", "REDIS_EXPORTER", "BUILDER")
IMAGES = {name: SETTINGS[f"{name}_IMAGE"] for name in NAMES}
PUBLISHED = "example/mood:published"


class Registry:
    """The registry, and the second daemon."""

    def __init__(self, cleanup):
        # Beside the images of the first daemon, because there is enough space.
        self.folder = Path(tempfile.mkdtemp(dir=docker("info", "-f", "{{.DockerRootDir}}"), prefix="mood-registry-"))
        cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.cleanup = cleanup
        self.server = None
        for name in ("trusted", "stranger"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{HUB}",
                 "-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.pem"],
                check=True, capture_output=True,
            )
        self.fill()
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True)
        subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
        cleanup.callback(subprocess.run, ["ip", "netns", "del", NAMESPACE])
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        self.hosts = self.folder / "hosts"
        self.set_name_known(True)
        self.start_daemon()

    def start(self, *command, **environment):
        with open(self.folder / f"{Path(command[0]).name}.log", "a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        self.cleanup.callback(stop, process)
        return process

    def inside(self, *command):
        """The command in the namespace, with a separate /etc/hosts. (`ip netns exec` would hide the control groups.)"""
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("nsenter", f"--net=/run/netns/{NAMESPACE}", "unshare", "--mount", "sh", "-c", mount, self.hosts, *command)

    def registry(self, address, certificate=None):
        """The command that serves the images."""
        http = {"addr": address}
        if certificate:
            http["tls"] = {"certificate": f"{self.folder}/{certificate}.pem", "key": f"{self.folder}/{certificate}.key"}
        config = self.folder / f"{address}-{certificate}.yml"
        storage = {"filesystem": {"rootdirectory": f"{self.folder}/storage"}}
        config.write_text(json.dumps({"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": http}))
        return ("docker-registry", "serve", config)

    def fill(self):
        """Pushes the images, without the labels that distinguish them from the official ones."""
        server = self.start(*self.registry("127.0.0.1:5055"))
        images = {image: image if "/" in image else f"library/{image}" for image in IMAGES.values()}
        for source, name in (images | {SETTINGS["APP_IMAGE"]: PUBLISHED}).items():
            target = f"localhost:5055/{name}"
            recipe = f"FROM {source}\nLABEL mood.offline= mood.lock= mood.source=\n"
            subprocess.run(["docker", "build", "-q", "-t", target, "-"], input=recipe, text=True, check=True, capture_output=True,
                           env=os.environ | {"DOCKER_BUILDKIT": "0"})
            wait_for(f"push of {target}", lambda: docker("push", "-q", target, check=False).returncode == 0, 120)
            docker("rmi", target)
        stop(server)

    def set_name_known(self, known):
        # In place, because the namespace has mounted the file itself.
        self.hosts.write_text("127.0.0.1 localhost" + (f" {HUB}" if known else "") + "\n")
        # The daemon reads the file every five seconds.
        time.sleep(6)

    def serve(self, kind):
        """Makes the registry work, or fail in one way."""
        if self.server:
            stop(self.server)
        if kind == "refused":
            self.server = None
            return
        if kind in ("trusted", "stranger"):
            command = self.registry("127.0.0.1:443", kind)
        else:
            status = {"silent": 0, "limited": 429, "denied": 403}[kind]
            command = ("python3", ROOT / "tests/stack/registry_errors.py", str(status), self.folder / "trusted.pem", self.folder / "trusted.key")
        self.server = self.start(*self.inside(*command))
        connect = self.inside("bash", "-c", ": </dev/tcp/127.0.0.1/443")
        wait_for("the registry listens", lambda: subprocess.run(connect, capture_output=True).returncode == 0, 20)

    def start_daemon(self):
        (self.folder / "empty.json").write_text("{}")
        self.host = f"unix://{self.folder}/docker.sock"
        command = (
            "dockerd", "--config-file", self.folder / "empty.json", "--data-root", self.folder / "data", "--exec-root", f"/run/{NAMESPACE}",
            "-p", self.folder / "docker.pid", "-H", self.host, "--storage-driver", docker("info", "-f", "{{.Driver}}"),
        )
        self.start(*self.inside(*command), SSL_CERT_FILE=str(self.folder / "trusted.pem"))
        wait_for("the second daemon responds", lambda: self.docker("info", check=False).returncode == 0, 60)

    def docker(self, *arguments, check=True):
        return docker("-H", self.host, *arguments, check=check)

    def has(self, image):
        return bool(self.docker("images", "-q", image))

    def is_from_debian(self, image):
        return bool(self.docker("image", "inspect", "-f", '{{index .Config.Labels "mood.offline"}}', image))

    def run(self, *command, **environment):
        """A command whose Docker daemon is the second one."""
        stack = {"COMPOSE_PROJECT_NAME": "mood-pulled", "COMPOSE_PROFILES": "", "DOCKER_HOST": self.host}
        return subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ | stack | environment)

    def script(self, name, *arguments, **environment):
        """A script in the namespace, on a machine without apt-get."""
        path = self.folder / "path"
        if not path.exists():
            path.mkdir()
            for program in (program for directory in reversed(os.environ["PATH"].split(":")) for program in Path(directory).glob("*")):
                if program.name != "apt-get":
                    (path / program.name).unlink(missing_ok=True)
                    (path / program.name).symlink_to(program)
        return self.run(*self.inside(ROOT / "scripts" / name, *arguments), **{"PATH": str(path)} | environment)


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def registry():
    with contextlib.ExitStack() as cleanup:
        yield Registry(cleanup)


def assert_refused(result, *words):
    assert result.returncode == 1, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def assert_succeeds(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("kind, words", [
    ("refused", ["cannot be reached", "connection refused"]),
    ("silent", ["cannot be reached"]),
    ("stranger", ["cannot be reached", "certificate"]),
    ("limited", ["429", "docker login"]),
    ("denied", ["denied", "REDIS_IMAGE in .env", "docker login"]),
])
def test_a_failing_registry_is_explained_within_30_s(registry, kind, words):
    registry.serve(kind)
    began = time.monotonic()
    assert_refused(registry.script("run.sh"), IMAGES["REDIS"], *words)
    assert time.monotonic() - began < 30


def test_an_unknown_name_of_the_registry_is_explained_within_30_s(registry):
    registry.set_name_known(False)
    try:
        began = time.monotonic()
        assert_refused(registry.script("run.sh"), IMAGES["REDIS"], "cannot be reached", "name cannot be resolved")
        assert time.monotonic() - began < 30
    finally:
        registry.set_name_known(True)


def test_an_unknown_image_is_explained(registry):
    registry.serve("trusted")
    assert_refused(registry.script("run.sh", REDIS_IMAGE="redis:0-nonesuch"), "redis:0-nonesuch", "does not exist", "REDIS_IMAGE in the environment")
    # This registry has no Grafana.
    assert_refused(registry.script("run.sh", COMPOSE_PROFILES="grafana"), SETTINGS["GRAFANA_IMAGE"], "GRAFANA_IMAGE in .env")


def test_run_pulls_builds_starts_and_serves(registry):
    output = assert_succeeds(registry.script("run.sh"))
    assert f"Pulling {IMAGES['BUILDER']}" in output
    assert "Debian" not in output
    assert_succeeds(registry.script("smoke.sh"))
    began = time.monotonic()
    assert "Pulling" not in assert_succeeds(registry.script("run.sh"))
    assert time.monotonic() - began < 10


def test_a_published_image_is_pulled_and_not_built(registry):
    registry.docker("rmi", "-f", IMAGES["BUILDER"])
    output = assert_succeeds(registry.script("run.sh", APP_IMAGE=PUBLISHED))
    assert f"Pulling {PUBLISHED}" in output
    assert "Building" not in output
    running = registry.docker("ps", "-q", "--filter", "label=com.docker.compose.service=app")
    assert registry.docker("inspect", "-f", "{{.Config.Image}}", running) == PUBLISHED
    assert_refused(registry.script("run.sh", APP_IMAGE="example/mood:nonesuch"), "example/mood:nonesuch", "APP_IMAGE in the environment")


def test_without_a_registry_debian_packages_are_used_until_online_is_given(registry):
    assert_succeeds(registry.script("stop.sh"))
    registry.docker("rmi", "-f", *(IMAGES[name] for name in NAMES if name != "BUILDER"))
    registry.serve("refused")
    # Outside the namespace, where a Debian mirror is reachable.
    script = f"source {ROOT}/scripts/lib/common.sh; source {ROOT}/scripts/lib/images.sh; provide stack REDIS_IMAGE NGINX_IMAGE"
    output = assert_succeeds(registry.run("bash", "-c", script))
    assert "cannot be reached" in output
    for name in NAMES:
        assert name == "BUILDER" or registry.is_from_debian(IMAGES[name]), name

    registry.serve("trusted")
    output = assert_succeeds(registry.run(*registry.inside(ROOT / "scripts/run.sh")))
    assert "Pulling" not in output
    assert "from Debian packages; scripts/run.sh --online" in output
    output = assert_succeeds(registry.script("run.sh", "--online"))
    assert "Debian" not in output
    for name in NAMES:
        assert name == "BUILDER" or not registry.is_from_debian(IMAGES[name]), name
    assert_succeeds(registry.script("stop.sh"))
