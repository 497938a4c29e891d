"""With a registry: the way nearly everybody comes. A real one, served as registry-1.docker.io to a second Docker engine in
a network namespace of its own, filled with the stand-in images under their official names."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from stack import ROOT, SETTINGS, docker, wait_for

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


class WithARegistry(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # On a disk, where the engines are: the images are large.
        cls.folder = Path(tempfile.mkdtemp(dir=docker("info", "-f", "{{.DockerRootDir}}"), prefix="mood-registry-"))
        cls.addClassCleanup(cls.remove_folder)
        cls.processes = []
        cls.addClassCleanup(cls.end_processes)
        for name in ("trusted", "stranger"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:registry-1.docker.io",
                 "-keyout", cls.folder / f"{name}.key", "-out", cls.folder / f"{name}.pem"],
                check=True, capture_output=True,
            )
        cls.fill()
        cls.make_namespace()
        cls.start_registry("127.0.0.1:5443", tls=True, inside=True)
        cls.set_mode("pass", FAST)
        cls.start(
            "python3", ROOT / "tests/stack/registry_front.py", cls.folder / "mode",
            *(cls.folder / f"{name}.{kind}" for name in ("trusted", "stranger") for kind in ("pem", "key")), inside=True,
        )
        cls.start_engine()

    @classmethod
    def start(cls, *command, inside=False, **environment):
        with open(cls.folder / f"{len(cls.processes)}-{Path(command[0]).name}.log", "w") as log:
            command = cls.inside(*command) if inside else command
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        cls.processes.append(process)
        return process

    @classmethod
    def inside(cls, *command):
        """The command in the namespace, which has its own /etc/hosts. (`ip netns exec` would hide the control groups.)"""
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return ("nsenter", f"--net=/run/netns/{NAMESPACE}", "unshare", "--mount", "sh", "-c", mount, cls.hosts, *command)

    @classmethod
    def end_processes(cls):
        for process in reversed(cls.processes):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()

    @classmethod
    def remove_folder(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def start_registry(cls, address, tls=False, inside=False):
        settings = f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {cls.folder}/storage}}}}\nhttp:\n  addr: {address}\n"
        if tls:
            settings += f"  tls: {{certificate: {cls.folder}/trusted.pem, key: {cls.folder}/trusted.key}}\n"
        config = cls.folder / f"{address}.yml"
        config.write_text(settings)
        cls.registry = cls.start("docker-registry", "serve", config, inside=inside)

    @classmethod
    def fill(cls):
        """Pushes the stand-ins, without the labels by which they are known."""
        cls.start_registry("127.0.0.1:5055")
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
        cls.registry.terminate()
        cls.registry.wait()

    @classmethod
    def make_namespace(cls):
        def ip(*arguments, check=True):
            subprocess.run(["ip", *arguments], check=check, capture_output=True)

        ip("netns", "del", NAMESPACE, check=False)
        ip("netns", "add", NAMESPACE)
        cls.addClassCleanup(ip, "netns", "del", NAMESPACE, check=False)
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        cls.hosts = cls.folder / "hosts"
        cls.set_known(True)

    @classmethod
    def set_known(cls, known):
        """Whether the registry's name is known. In place: the namespace has the file itself mounted."""
        with open(cls.hosts, "w") as file:
            file.write("127.0.0.1 localhost" + (" registry-1.docker.io" if known else "") + "\n")
        # The engine looks at the file every five seconds.
        time.sleep(6)

    @classmethod
    def set_mode(cls, *words):
        new = cls.folder / "mode.new"
        new.write_text(" ".join(str(word) for word in words))
        new.rename(cls.folder / "mode")

    @classmethod
    def start_engine(cls):
        (cls.folder / "empty.json").write_text("{}")
        cls.host = f"unix://{cls.folder}/docker.sock"
        driver = docker("info", "-f", "{{.Driver}}")
        cls.start(
            "dockerd", "--config-file", cls.folder / "empty.json", "--data-root", cls.folder / "data", "--exec-root", f"/run/{NAMESPACE}",
            "-p", cls.folder / "docker.pid", "-H", cls.host, "--storage-driver", driver, inside=True,
            SSL_CERT_FILE=str(cls.folder / "trusted.pem"),
        )
        wait_for("the second engine answers", lambda: cls.engine("info", check=False).returncode == 0, 60)

    @classmethod
    def engine(cls, *arguments, check=True):
        return docker("-H", cls.host, *arguments, check=check)

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

    def setUp(self):
        self.set_mode("pass", FAST)

    def label(self, image, name):
        return self.engine("image", "inspect", "-f", '{{index .Config.Labels "%s"}}' % name, image)

    def assert_refused(self, result, *words):
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_1_what_goes_wrong_is_said_in_a_sentence(self):
        redis = image_of("REDIS")
        self.set_known(False)
        try:
            self.assert_refused(self.run_script("run.sh"), redis, "cannot be reached", "name is not known")
        finally:
            self.set_known(True)
        self.set_mode("closed")
        wait_for("nobody listens", lambda: subprocess.run(
            self.inside("bash", "-c", "! : </dev/tcp/127.0.0.1/443"), capture_output=True).returncode == 0, 10)
        self.assert_refused(self.run_script("run.sh"), redis, "cannot be reached", "connection is refused")
        self.set_mode("stranger")
        self.assert_refused(self.run_script("run.sh"), redis, "cannot be reached", "certificate")
        self.set_mode("limited")
        self.assert_refused(self.run_script("run.sh"), redis, "429", "docker login")
        self.set_mode("pass", FAST)
        self.assert_refused(self.run_script("run.sh", REDIS_IMAGE="redis:0-nonesuch"), "redis:0-nonesuch", "does not exist", "REDIS_IMAGE in the env")
        line = next(n for n, text in enumerate((ROOT / ".env").read_text().splitlines(), 1) if text.startswith("GRAFANA_IMAGE="))
        self.set_mode("pass", SLOW)
        began = threading.Timer(8, lambda: self.set_mode("stall"))
        began.start()
        self.assert_refused(self.run_script("run.sh"), redis, "no progress for 12 s", " MB of ")
        self.set_mode("pass", FAST)
        # The registry has no Grafana: all the rest is pulled, and then it is missed.
        self.assert_refused(self.run_script("run.sh", COMPOSE_PROFILES="grafana"), image_of("GRAFANA"), "does not exist", f"line {line} of .env")

    def test_2_run_pulls_builds_starts_and_serves_however_slow_the_line(self):
        builder = image_of("BUILDER")
        self.engine("rmi", "-f", *self.engine("images", "-q").split(), check=False)
        self.set_mode("pass", FAST)
        result = {}
        thread = threading.Thread(target=lambda: result.update(run=self.run_script("run.sh")))
        thread.start()
        began = time.monotonic()
        wait_for("the small ones are here", lambda: self.engine("images", "-q", image_of("REDIS_EXPORTER")), 300)
        self.set_mode("pass", SLOW)
        slow_since = time.monotonic()
        time.sleep(20)
        # In mid-pull the registry stops, and starts again.
        self.set_mode("closed")
        time.sleep(8)
        self.set_mode("pass", SLOW)
        wait_for("the builder is here", lambda: self.engine("images", "-q", builder), 1200)
        print(f"the builder took {time.monotonic() - slow_since:.0f} s, and all before it {slow_since - began:.0f} s")
        self.assertGreater(time.monotonic() - slow_since, 120, "that was no slow line")
        self.set_mode("pass", FAST)
        thread.join()
        run = result["run"]
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertRegex(run.stdout, r"Pulling " + builder + r"\n( +asking.*\n)?( +[0-9.]+ MB of [0-9.]+ MB\n)+")
        self.assertNotIn("Debian", run.stdout)
        self.assertEqual(self.run_script("smoke.sh").returncode, 0)
        again = time.monotonic()
        self.assertEqual(self.run_script("run.sh").returncode, 0)
        self.assertLess(time.monotonic() - again, 10)

    def test_3_stand_ins_are_named_and_online_goes_back(self):
        for name in (*NAMES, "ALERTMANAGER"):
            image = image_of(name if name != "ALERTMANAGER" else "REDIS_EXPORTER")
            recipe = f"FROM {image}\nLABEL mood.offline=3\n"
            subprocess.run(["docker", "-H", self.host, "build", "-q", "-t", image_of(name), "-"], input=recipe, text=True, check=True,
                           capture_output=True, env=os.environ | {"DOCKER_BUILDKIT": "0"})
        # The app's image is as it was, so nothing is to be built.
        result = self.run_script("run.sh", debian=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("stand in for the official ones", result.stdout)
        self.assertIn("scripts/run.sh --online", result.stdout)
        result = self.run_script("run.sh", "--online")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        for name in NAMES:
            self.assertEqual(self.label(image_of(name), "mood.offline"), "", name)
        self.assertNotIn("stand in", self.run_script("run.sh").stdout)

    def test_4_a_published_image_is_pulled_and_not_built(self):
        self.engine("rmi", "-f", image_of("BUILDER"), check=False)
        result = self.run_script("run.sh", APP_IMAGE="example/mood:published")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("Pulling example/mood:published", result.stdout)
        self.assertNotIn("Building", result.stdout)
        running = self.engine("ps", "-q", "--filter", "label=com.docker.compose.service=app")
        used = json.loads(self.engine("inspect", *running.split()))[0]["Config"]["Image"]
        self.assertEqual(used, "example/mood:published")
        self.assert_refused(self.run_script("run.sh", APP_IMAGE="example/mood:nonesuch"), "example/mood:nonesuch", "APP_IMAGE in the env")
        self.assertEqual(self.run_script("stop.sh").returncode, 0)


if __name__ == "__main__":
    unittest.main()
