"""The services that are compared: their images, and how they are started."""

import argparse
import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from common import progress
from process import REDIS_URL, ports, running
from stack import ROOT, SETTINGS, docker, script


@dataclass
class Service:
    name: str
    image: str
    path: str = "/mood"
    # A ready-made service takes its port as an option, the others take LISTEN_ADDR.
    port_option: str = ""
    # Where images are made from Debian packages: the build argument for the base, its packages, and the variant of mmdebstrap.
    debian: tuple = ()
    # In addition to that of the image.
    environment: dict = field(default_factory=dict)

    @property
    def is_ready_made(self):
        return bool(self.port_option)

    @property
    def root(self):
        return ROOT / "target/bench/roots" / self.name

    def settings(self, port):
        return self.environment | {"LISTEN_ADDR": f"127.0.0.1:{port}", "REDIS_URL": REDIS_URL}

    def options(self, port):
        return [self.port_option.format(port)] if self.port_option else []

    def running(self):
        """A process that sees only the files of the image."""
        port, config = next(ports), self.inspect()["Config"]
        environment = dict(pair.split("=", 1) for pair in config["Env"] or []) | self.settings(port)
        command = [*(config["Entrypoint"] or []), *(config["Cmd"] or []), *self.options(port)]
        return running(command, environment, port, self.path, self.root, config["WorkingDir"] or "/")

    def inspect(self):
        return json.loads(docker("image", "inspect", self.image))[0]

    def sizes(self):
        image = self.inspect()
        program = self.root / (image["Config"]["Entrypoint"] or image["Config"]["Cmd"])[0].lstrip("/")
        # The executable of flask is an interpreter.
        return {"image, bytes": image["Size"], "binary, bytes": None if self.name == "flask" else program.stat().st_size}

    def prepare(self):
        """Makes the image, and unpacks its files, with /proc and /dev as in a container."""
        make_image(self)
        unpacked, image_id = self.root.with_suffix(".id"), self.inspect()["Id"]
        if not unpacked.exists() or unpacked.read_text() != image_id:
            shutil.rmtree(self.root, ignore_errors=True)
            self.root.mkdir(parents=True)
            container = docker("create", self.image, "/nothing")
            docker("cp", f"{container}:/.", str(self.root))
            docker("rm", container)
            unpacked.write_text(image_id)
        for folder in ("proc", "dev"):
            (self.root / folder).mkdir(exist_ok=True)
            subprocess.run(["mount", "--rbind", f"/{folder}", self.root / folder], check=True)


AXUM = ("BASE", "base-files,libc6,libgcc-s1,ca-certificates,tzdata", "extract")
GO = ("BUILDER", "golang-go,golang-github-redis-go-redis-dev,golang-github-prometheus-client-golang-dev", "minbase")
FLASK = ("BASE", "python3-flask,gunicorn,python3-redis,python3-prometheus-client", "minbase")
OURS = Service("ours", SETTINGS["APP_IMAGE"])
PEERS = [
    Service("axum", "mood-bench-axum:local", debian=AXUM),
    Service("axum-1", "mood-bench-axum:local", debian=AXUM, environment={"RUNTIME": "current_thread"}),
    Service("go", "mood-bench-go:local", debian=GO),
    Service("flask", "mood-bench-flask:local", debian=FLASK),
    Service("whoami", "traefik/whoami:v1.11", "/api", "--port={}"),
    Service("podinfo", "ghcr.io/stefanprodan/podinfo:6.9.2", "/version", "--port={}"),
    Service("http-echo", "hashicorp/http-echo:1.0", "/", "-listen=:{}"),
]


def chosen(text):
    """The type of --peers. With axum comes axum-1, the same on one thread."""
    peers = [peer for name in text.split() for peer in PEERS if peer.name.removesuffix("-1") == name]
    if not peers or {peer.name for peer in peers} < set(text.split()):
        raise argparse.ArgumentTypeError(f"'{text}' are not names of peers")
    return peers


def available():
    """All peers, without the ready-made ones if the images come from Debian packages."""
    return [peer for peer in PEERS if not (peer.is_ready_made and is_offline())]


def is_offline():
    return bool(label(SETTINGS["BUILDER_IMAGE"], "mood.offline"))


def label(image, name):
    return docker("image", "inspect", "-f", f'{{{{index .Config.Labels "{name}"}}}}', image, check=False).stdout.strip()


def make_image(service):
    """Pulls or builds the image if it is missing or, for a peer that is written here, of other sources."""
    exists = docker("images", "-q", service.image)
    if service.name == "ours" and not exists:
        script("build.sh", timeout=1200)
    elif service.is_ready_made and not exists:
        docker("pull", service.image)
    elif service.debian:
        build(service)


def build(service):
    source = ROOT / "bench" / service.image.split(":")[0].removeprefix("mood-bench-")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target"))
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if label(service.image, "mood.bench.source") == digest:
            return
        progress(f"building {service.image}")
        options = from_debian(service, Path(folder)) if is_offline() else []
        command = ["docker", "build", "-q", *options, "--label", f"mood.bench.source={digest}", "-t", service.image, folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def from_debian(service, folder):
    """Makes the base of the image from Debian packages, and fetches the crates. The options for the build."""
    argument, packages, variant = service.debian
    base = service.image.replace(":local", "-base")
    if not docker("images", "-q", base):
        packed = subprocess.Popen([ROOT / "offline/debian-tar.sh", variant, packages], stdout=subprocess.PIPE)
        command = ["docker", "import", "--change", "LABEL mood.bench=base", "-"]
        image = subprocess.run(command, stdin=packed.stdout, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        # Named last: an incomplete archive gives an image, too.
        if packed.wait():
            raise SystemExit(f"error: {base} could not be made from Debian packages")
        docker("tag", image, base)
    options = ["--network", "none", "--build-arg", f"{argument}={base}"]
    if (folder / "Cargo.lock").exists():
        vendor = subprocess.run(["cargo", "vendor", "--locked"], cwd=folder, check=True, capture_output=True, text=True)
        (folder / ".cargo").mkdir()
        (folder / ".cargo/config.toml").write_text(vendor.stdout)
        options += ["--build-arg", "BUILDER=mood-of-the-day-builder-base"]
    return options
