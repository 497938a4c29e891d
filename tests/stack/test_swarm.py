"""The stack on a Swarm of three nodes under load, deployed with the commands of deploy/swarm/README.md.

Each node is a Docker daemon in a container. Takes about ten minutes, so it only runs with `pytest -m swarm`. Linux only.
"""

import collections
import http.client
import json
import re
import signal
import subprocess
import time

import pytest

from compose_files import services
from load import program
from stack import ROOT, SETTINGS, defaults, docker, wait_for

pytestmark = [pytest.mark.swarm, pytest.mark.root]

NODES = ["mood-swarm-1", "mood-swarm-2", "mood-swarm-3"]
IMAGE = NETWORK = "mood-swarm-node"
PACKAGES = "docker.io,docker-cli,iptables,iproute2,fuse-overlayfs"
PORT = int(defaults()["HTTP_PORT"])


# --- The lab: three Docker daemons in containers ---


@pytest.fixture(scope="module", autouse=True)
def lab():
    make_node_image()
    docker("network", "create", NETWORK)
    try:
        for node in NODES:
            start_node(node)
        on(NODES[0], "docker", "swarm", "init", "--advertise-addr", address(NODES[0]))
        # All are managers, so that any of them may be lost.
        token = on(NODES[0], "docker", "swarm", "join-token", "-q", "manager")
        for node in NODES[1:]:
            on(node, "docker", "swarm", "join", "--token", token, f"{address(NODES[0])}:2377")
        load_images(SETTINGS["APP_IMAGE"], *(service["image"] for name, service in stack_services().items() if name != "app"))
        deploy()
        scale(6)
        yield
    finally:
        docker("rm", "-f", "-v", *NODES, check=False)
        docker("network", "rm", NETWORK)


def make_node_image():
    if docker("image", "inspect", IMAGE, check=False).returncode == 0:
        return
    # The label lets scripts/stop.sh --purge find it.
    command = f"set -o pipefail; offline/debian-tar.sh minbase {PACKAGES} | docker import --change 'LABEL mood.stage=lab' - {IMAGE}"
    made = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr


def start_node(node):
    """A Docker daemon in a container that may change everything but the limits of this machine."""
    options = "--cap-add ALL --cap-drop SYS_RESOURCE --device /dev/fuse --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    mounts = "--cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup:rw -v /var/lib/docker --tmpfs /run"
    daemon = f"mount -o remount,rw /proc/sys; exec dockerd --cgroup-parent /{node} --storage-driver fuse-overlayfs"
    docker(
        "run", "-d", "--name", node, "--hostname", node, "--network", NETWORK, "--device-cgroup-rule", "a *:* rwm",
        *options.split(), *mounts.split(), IMAGE, "sh", "-c", daemon,
    )
    wait_for(f"the Docker daemon of {node} responds", lambda: docker("exec", node, "docker", "info", check=False).returncode == 0)


def load_images(*images):
    for node in NODES:
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "exec", "-i", node, "docker", "load", "-q"], stdin=saved.stdout, check=True, capture_output=True, timeout=600)


def on(node, *command):
    return docker("exec", node, *command)


def manager():
    """The first node whose daemon manages the Swarm now."""
    return next(node for node in NODES if docker("exec", node, "docker", "node", "ls", check=False).returncode == 0)


def swarm(*arguments):
    return on(manager(), "docker", *arguments)


def address(node):
    return docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", node)


# --- The stack on it ---


def stack_services():
    return services("deploy/swarm/stack.yaml", MOOD_CONFIG="1")


def deploy():
    """Runs the commands of the README on a manager, without a registry."""
    text = (ROOT / "deploy/swarm/README.md").read_text()
    commands = "".join(re.findall(r"```sh\n(.*?)```", text, re.S)[:2])
    for written, here in (("APP_IMAGE=registry/name:tag", f"APP_IMAGE={SETTINGS['APP_IMAGE']}"), ("--with-registry-auth", "--resolve-image never")):
        assert written in commands
        commands = commands.replace(written, here)
    files = ["tar", "-C", ROOT, "-cf", "-", ".env", "nginx.conf", "nginx", "redis", "prometheus.yml", "prometheus", "deploy/swarm"]
    with subprocess.Popen(files, stdout=subprocess.PIPE) as packed:
        subprocess.run(["docker", "exec", "-i", NODES[0], "tar", "-C", "/srv", "-xf", "-"], stdin=packed.stdout, check=True, timeout=60)
    on(NODES[0], "sh", "-euc", f"cd /srv\n{commands}")
    settled()


def scale(count):
    swarm("service", "scale", "-d", f"mood_app={count}")
    settled()


def settled():
    """Waits until every service has all its tasks."""
    time.sleep(3)

    def complete():
        counts = [line.split("/") for line in swarm("service", "ls", "--format", "{{.Replicas}}").splitlines()]
        return len(counts) == len(stack_services()) and all(running == wanted != "0" for running, wanted in counts)

    wait_for("all services run", complete, 300)


def running():
    """The number of replicas that run on each node."""
    tasks = swarm("service", "ps", "-f", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}", "mood_app").splitlines()
    return collections.Counter(task.split()[0] for task in tasks if task.split()[1] == "Running")


def updated(image):
    """Updates the app and returns the final state of the update."""
    load_images(image)
    swarm("service", "update", "-d", "--no-resolve-image", "--image", image, "mood_app")

    def state():
        now = swarm("service", "inspect", "-f", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", "mood_app")
        return now if now in ("completed", "rollback_completed", "paused", "rollback_paused") else None

    return wait_for("the update ends", state, 600)


def served_by(node, count=60):
    """The number of responses by replica, of requests to the Nginx of a node."""
    connection = http.client.HTTPConnection(address(node), PORT, timeout=5)
    replicas = collections.Counter()
    for _ in range(count):
        connection.request("GET", "/mood")
        response = connection.getresponse()
        response.read()
        replicas[response.getheader("X-Served-By")] += 1
    connection.close()
    return replicas


class Load:
    """A steady load on the Nginx of some nodes, until the block ends. No request may fail."""

    def __init__(self, *nodes):
        self.nodes = nodes

    def __enter__(self):
        command = [program(), "--no-tui", "--output-format", "json", "-q", "50", "-c", "8", "-t", "5s", "-z", "900s"]
        self.processes = [
            subprocess.Popen([*command, f"http://{address(node)}:{PORT}/mood"], stdout=subprocess.PIPE, text=True) for node in self.nodes
        ]
        time.sleep(2)

    def __exit__(self, *exception):
        time.sleep(2)
        succeeded, failures = 0, collections.Counter()
        for process in self.processes:
            process.send_signal(signal.SIGINT)
            result = json.loads(process.communicate(timeout=30)[0])
            statuses = collections.Counter(result["statusCodeDistribution"])
            succeeded += statuses.pop("200", 0)
            # Requests in progress at the end are cut off: "deadline".
            failures += statuses + collections.Counter({error: count for error, count in result["errorDistribution"].items() if "deadline" not in error})
        if exception == (None, None, None):
            assert not failures
            assert succeeded > 200


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


# --- The tests, in this order ---


def test_replicas_are_on_all_nodes_and_each_nginx_reaches_all():
    assert running() == {node: 2 for node in NODES}
    for node in NODES:
        wait_for("all six respond", lambda node=node: len(served_by(node)) == 6, 30)
        replicas = served_by(node)
        assert min(replicas.values()) > 3, replicas


def test_prometheus_scrapes_each_nginx_and_no_alert_fires():
    prometheus = swarm("service", "ps", "-f", "desired-state=running", "--format", "{{.Node}}", "mood_prometheus")
    task = on(prometheus, "docker", "ps", "-q", "--filter", "name=mood_prometheus")

    def query(expression):
        command = ["docker", "exec", task, "promtool", "query", "instant", "-o", "json", "http://localhost:9090", expression]
        return json.loads(on(prometheus, *command))

    wait_for("three Nginxes are targets", lambda: len(query('up{job="nginx-responses"} == 1')) == 3)
    assert query("up == 0") == []
    assert query('ALERTS{alertname="NginxDown"}') == []


def test_a_killed_node_costs_its_neighbours_no_request():
    with Load(*NODES[:2]):
        docker("kill", NODES[2])
        began = time.monotonic()
        wait_for("six replicas run on two nodes", lambda: sum(running()[node] for node in NODES[:2]) == 6, 180)
        print(f"six replicas again after {time.monotonic() - began:.0f} s")
    docker("start", NODES[2])
    wait_for("the node is ready again", lambda: swarm("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * 3, 120)


def test_a_rolling_update_loses_no_request(changed_image):
    with Load(NODES[0]):
        assert updated(changed_image("LABEL mood.test=update")) == "completed"


def test_a_broken_image_is_rolled_back_without_a_failed_request(changed_image):
    with Load(NODES[0]):
        assert updated(changed_image('ENTRYPOINT ["/mood", "--broken"]')) == "rollback_completed"


def test_a_node_is_drained_and_joins_again():
    with Load(NODES[0]):
        swarm("node", "update", "--availability", "drain", NODES[1])
        settled()
        assert running()[NODES[1]] == 0
        swarm("node", "update", "--availability", "active", NODES[1])
        settled()
        scale(9)
        assert running()[NODES[1]] > 0
