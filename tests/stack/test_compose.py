"""compose.yaml as one types it, without our scripts: with docker-compose 1.29 and with Compose v2."""

import os
import shutil
import subprocess

import pytest

from programs import unpacked
from stack import ROOT, SETTINGS, docker, fetch, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.builds]

PROJECT, IMAGE, PORT = "mood-typed", "mood-of-the-day:typed", 18081
ENVIRONMENT = os.environ | {
    "COMPOSE_PROJECT_NAME": PROJECT,
    "APP_IMAGE": IMAGE,
    "HTTP_PORT": str(PORT),
    "PROMETHEUS_PORT": "19091",
    "GRAFANA_PORT": "13001",
    # As scripts/run.sh does where Grafana's image cannot be had.
    "COMPOSE_PROFILES": "grafana" if docker("image", "inspect", SETTINGS["GRAFANA_IMAGE"], check=False).returncode == 0 else "",
}


def replicas(wanted):
    """How many replicas Nginx reaches, once it is as many as wanted."""

    def reached():
        try:
            answers = [fetch("/mood", base=f"http://localhost:{PORT}") for _ in range(8 * wanted)]
        except OSError:
            return 0
        hosts = {headers["X-Served-By"] for status, headers, _ in answers if status == 200}
        return len(hosts) if len(hosts) >= wanted else 0

    return wait_for(f"{wanted} replicas answer", reached, 60)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """With Compose v2 from Debian where this machine has none. The second build finds the layers of the first one."""
    plugin = "cli-plugins/docker-compose"
    folder = tmp_path_factory.mktemp("docker")
    if docker("compose", "version", check=False).returncode:
        (folder / plugin).parent.mkdir()
        (folder / plugin).symlink_to(unpacked("docker-compose") / "usr/libexec/docker" / plugin)
        yield ENVIRONMENT | {"DOCKER_CONFIG": str(folder)}
    else:
        yield ENVIRONMENT
    docker("rmi", "-f", IMAGE)


@pytest.mark.parametrize("command", (["docker-compose"], ["docker", "compose"]), ids=" ".join)
def test_compose_builds_starts_and_scales(environment, command):
    def typed(arguments):
        result = subprocess.run(command + arguments.split(), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]

    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    try:
        typed("build")
        typed("up -d")
        assert replicas(1) == 1
        typed("up -d --scale app=3")
        assert replicas(3) == 3
    finally:
        typed("down --volumes")
        shutil.rmtree(ROOT / "state" / PROJECT, ignore_errors=True)
