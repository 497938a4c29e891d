"""The stack on a Swarm of three nodes, each an engine in a container, under load from outside. Takes about five minutes, so it is run by
its marker: pytest -m swarm tests/stack/test_swarm.py
"""

import collections
import http.client
import json
import re
import subprocess
import time

import pytest

from stack import PORT, ROOT, SETTINGS, docker, wait_for

pytestmark = pytest.mark.swarm

NODES = ["mood-swarm-1", "mood-swarm-2", "mood-swarm-3"]


def swarm(*arguments, check=True):
    result = subprocess.run([ROOT / "scripts/swarm.sh", "--lab", *arguments], capture_output=True, text=True, timeout=900)
    assert not check or result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result


def address(node):
    return docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", node)


def served_by(node, count=60):
    """Which replicas answered so many requests to a node's Nginx."""
    connection = http.client.HTTPConnection(address(node), PORT, timeout=5)
    replicas = collections.Counter()
    for _ in range(count):
        connection.request("GET", "/mood")
        response = connection.getresponse()
        response.read()
        replicas[response.getheader("X-Served-By")] += 1
    connection.close()
    return replicas


def running():
    """How many replicas run on each node."""
    return {node: int(count) for node, count in re.findall(r"(\S+) +(\d+) of \d+ replicas run", swarm("status").stdout)}


class Load:
    """A steady load on some nodes' Nginx, by oha, until the block ends."""

    def __init__(self, *nodes):
        self.nodes = nodes

    def __enter__(self):
        command = [ROOT / "target/tools/bin/oha", "--no-tui", "--output-format", "json", "-q", "50", "-c", "8", "-t", "5s", "-z", "900s"]
        self.processes = [
            subprocess.Popen([*command, f"http://{address(node)}:{PORT}/mood"], stdout=subprocess.PIPE, text=True) for node in self.nodes
        ]
        time.sleep(2)
        return self

    def __exit__(self, *_):
        time.sleep(2)
        self.results = []
        for process in self.processes:
            process.send_signal(2)
            self.results.append(json.loads(process.communicate(timeout=30)[0]))

    def failures(self):
        """Of all requests but those that the end cut off."""
        found = collections.Counter()
        for result in self.results:
            found.update({status: count for status, count in result["statusCodeDistribution"].items() if status != "200"})
            found.update({error: count for error, count in result["errorDistribution"].items() if "deadline" not in error})
        return dict(found)


@pytest.fixture(scope="module", autouse=True)
def lab():
    swarm("up")
    swarm("scale", "6")
    yield
    swarm("down")


def assert_none_failed(load):
    assert sum(result["statusCodeDistribution"].get("200", 0) for result in load.results) > 200
    assert load.failures() == {}


@pytest.fixture
def changed_image(request):
    """Makes a changed image of the app."""
    name = f"mood-of-the-day:{request.node.name}"

    def changed(change):
        recipe = f"FROM {SETTINGS['APP_IMAGE']}\n{change}\n"
        subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=recipe, text=True, check=True, capture_output=True)
        return name

    yield changed
    docker("rmi", name)


def test_1_replicas_are_on_all_nodes_and_each_nginx_reaches_all():
    assert running() == {node: 2 for node in NODES}
    for node in NODES:
        wait_for("all six answer", lambda node=node: len(served_by(node)) == 6, 30)
        replicas = served_by(node)
        assert min(replicas.values()) > 3, replicas


def test_2_a_killed_node_costs_its_neighbours_no_request():
    with Load(*NODES[:2]) as load:
        docker("kill", NODES[2])
        began = time.monotonic()
        wait_for("six replicas run on two nodes", lambda: sum(running().get(node, 0) for node in NODES[:2]) == 6, 180)
        print(f"six replicas again after {time.monotonic() - began:.0f} s")
    docker("start", NODES[2])
    assert_none_failed(load)
    wait_for("the node is ready again", lambda: swarm("status").stdout.count(" Ready ") == 3, 120)


def test_3_a_rolling_update_loses_no_request(changed_image):
    image = changed_image("LABEL mood.test=update")
    with Load(NODES[0]) as load:
        assert "updated" in swarm("update", image).stdout
    assert_none_failed(load)


def test_4_a_broken_image_is_taken_back_without_a_failed_request(changed_image):
    image = changed_image('ENTRYPOINT ["/mood", "--broken"]')
    with Load(NODES[0]) as load:
        result = swarm("update", image, check=False)
    assert result.returncode == 1, result.stdout
    assert "was taken back" in result.stderr
    assert_none_failed(load)


def test_5_a_node_is_drained_and_joins_again():
    with Load(NODES[0]) as load:
        swarm("drain", NODES[1])
        assert running().get(NODES[1], 0) == 0
        swarm("join", NODES[1])
        swarm("scale", "9")
        assert running().get(NODES[1], 0) > 0
    assert_none_failed(load)
