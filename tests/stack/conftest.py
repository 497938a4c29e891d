"""The running stack as a fixture, and the tests that this machine cannot run."""

import os

import pytest

# A separate project on separate ports: a stack that already runs on this machine stays as it is.
for name, value in {
    "COMPOSE_PROJECT_NAME": "mood-test", "HTTP_PORT": "18080", "PROMETHEUS_PORT": "19090", "GRAFANA_PORT": "13000",
    "ALERTMANAGER_PORT": "19093", "MOOD_FAULTS": "on",
}.items():
    os.environ.setdefault(name, value)

from stack import containers, run, script


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "root" in item.keywords and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if "swarm" in item.keywords and config.option.markexpr != "swarm":
            item.add_marker(pytest.mark.skip(reason="takes five minutes; runs only with -m swarm"))


@pytest.fixture(scope="session")
def started_stack():
    """The stack, up to date. A stack that this run started is also stopped."""
    was_running = bool(containers())
    # The image of the app may have to be built first.
    started = run("run.sh", timeout=1800)
    assert started.returncode == 0, started.stdout + started.stderr
    yield
    if not was_running:
        script("stop.sh")


@pytest.fixture
def stack(started_stack):
    """The running stack with one replica, before and after the test."""
    yield
    if len(containers("app")) != 1:
        script("scale.sh", "1")
