"""compose.yaml as one types it, without our scripts: with docker-compose 1.29 and with Compose v2."""

import os
import shutil
import subprocess

import pytest

from stack import ROOT, SETTINGS, docker, fetch, wait_for

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
COMMANDS = {"1.29": ["docker-compose"], "v2": ["docker", "compose"]}


def typed(command, arguments):
    result = subprocess.run(
        [*command, *arguments.split()], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


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


@pytest.mark.slow
@pytest.mark.parametrize("version", COMMANDS)
def test_compose_builds_starts_and_scales(version):
    command = COMMANDS[version]
    if subprocess.run([*command, "version"], env=ENVIRONMENT, capture_output=True).returncode:
        pytest.skip(f"Compose {version} is not installed")
    try:
        typed(command, "build")
        typed(command, "up -d")
        assert replicas(1) == 1
        typed(command, "up -d --scale app=3")
        assert replicas(3) == 3
    finally:
        typed(command, "down --volumes")
        docker("rmi", "-f", IMAGE)
        shutil.rmtree(ROOT / "state" / PROJECT, ignore_errors=True)
