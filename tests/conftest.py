"""The running stack as a fixture, and skips for tests that this machine or this run cannot take."""

import os
import subprocess
import sys

import pytest

# A separate project on separate ports: a stack that already runs on this machine stays as it is.
for name, value in {
    "COMPOSE_PROJECT_NAME": "mood-test", "HTTP_PORT": "18080", "PROMETHEUS_PORT": "19090", "GRAFANA_PORT": "13000",
    "ALERTMANAGER_PORT": "19093", "MOOD_FAULTS": "on",
}.items():
    os.environ.setdefault(name, value)

import stack as running

ONLY_BY_NAME = {"swarm": "takes ten minutes", "purge": "removes all images"}


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "root" in item.keywords and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        for marker, reason in ONLY_BY_NAME.items():
            if marker in item.keywords and config.option.markexpr != marker:
                item.add_marker(pytest.mark.skip(reason=f"{reason}; runs only with -m {marker}"))


@pytest.fixture(scope="session")
def started_stack(pytestconfig):
    """The stack, up to date. A stack that this run started is also stopped."""
    was_running = bool(running.containers())
    # With its progress: images may have to be made first, which takes minutes.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        started = subprocess.run([running.ROOT / "scripts/run.sh"])
    if started.returncode:
        pytest.fail("scripts/run.sh failed; its message is above", pytrace=False)
    yield
    if not was_running:
        running.script("stop.sh")


@pytest.fixture(scope="session")
def load_generator():
    """oha. Compiling it takes minutes if it is missing, which no test should count as its own time."""
    subprocess.run([sys.executable, running.ROOT / "scripts/lib/load.py"], check=True)


@pytest.fixture
def stack(started_stack):
    """The running stack with one replica, before and after the test."""
    yield
    if len(running.containers("app")) != 1:
        running.script("scale.sh", "1")
