"""What the tests of the running stack and the Python programs share: Docker, HTTP, and a steady load."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def defaults():
    """What .env says, whatever the environment does."""
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


SETTINGS = {name: os.environ.get(name, value) for name, value in defaults().items()}
PROJECT = SETTINGS["COMPOSE_PROJECT_NAME"]
PORT = int(SETTINGS["HTTP_PORT"])
URL = f"http://localhost:{PORT}"
PROMETHEUS = f"http://localhost:{SETTINGS['PROMETHEUS_PORT']}"


def docker(*arguments, check=True):
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120)
    if check and result.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout.strip() if check else result


def run(name, *arguments, timeout=60, **environment):
    """A script, and whatever came of it."""
    return subprocess.run(
        [ROOT / "scripts" / name, *arguments], capture_output=True, text=True, timeout=timeout, env=os.environ | environment
    )


def script(name, *arguments):
    """What a script says, if it succeeds."""
    result = run(name, *arguments, timeout=300)
    if result.returncode:
        raise AssertionError(f"{name}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def compose(*arguments):
    """Compose, whichever version is there."""
    command = ["docker", "compose"] if docker("compose", "version", check=False).returncode == 0 else ["docker-compose"]
    result = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def containers(service=None):
    """The running containers of the stack, as `docker inspect` tells of them."""
    filters = ["--filter", f"label=com.docker.compose.project={PROJECT}"]
    if service:
        filters += ["--filter", f"label=com.docker.compose.service={service}"]
    ids = docker("ps", "-q", *filters).split()
    return json.loads(docker("inspect", *ids)) if ids else []


def service_of(container):
    return container["Config"]["Labels"]["com.docker.compose.service"]


def address_of(container, network):
    return container["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"]


def helper(network, *command):
    """Runs a busybox command on a network (or in `container:<id>`'s) and gives the finished process."""
    image = SETTINGS["NGINX_IMAGE"]
    return docker("run", "--rm", "--network", network, "--entrypoint", "busybox", image, *command, check=False)


def connects(network, address, port):
    """Whether a TCP connection can be made from a network."""
    return helper(network, "nc", "-w", "2", address, port, "-e", "/bin/true").returncode == 0


def fetch(path, method="GET", headers=None, base=URL):
    """(status, headers, body); redirects are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    request = urllib.request.Request(base + path, method=method, headers=headers or {})
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def query(expression):
    """The result vector of a PromQL expression."""
    from urllib.parse import quote

    _, _, body = fetch(f"/api/v1/query?query={quote(expression)}", base=PROMETHEUS)
    answer = json.loads(body)
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def wait_for(what, probe, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)


class Load:
    """Asks at a constant rate until the block ends, on kept connections. A latency counts from when its request was due,
    so that a stall is not hidden."""

    def __init__(self, rate=300, clients=64, path="/mood"):
        self.rate = rate
        self.path = path
        self.failures = []
        self._latencies = []
        self._next = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    @property
    def count(self):
        return len(self._latencies)

    def p99(self, since, until):
        """Seconds, of the requests that were due between two times of time.monotonic()."""
        latencies = sorted(took for due, took in self._latencies if since <= due < until)
        assert len(latencies) > 100, f"only {len(latencies)} requests"
        return latencies[len(latencies) * 99 // 100]

    def __enter__(self):
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        connection = http.client.HTTPConnection("localhost", PORT, timeout=10)
        while True:
            with self._lock:
                due = self._began + self._next / self.rate
                self._next += 1
            if self._stop.wait(max(0, due - time.monotonic())):
                break
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                response.read()
                problem = None if response.status == 200 else f"status {response.status}"
            except OSError as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                self._latencies.append((due, time.monotonic() - due))
                if problem:
                    self.failures.append(problem)
        connection.close()


def unpause(containers_paused):
    """Until they are healthy again: a paused container counts as unhealthy, and Compose starts nothing that needs it."""
    for container in containers_paused:
        docker("unpause", container["Id"])
    ids = [container["Id"] for container in containers_paused]

    def healthy():
        return all(state == "healthy" for state in docker("inspect", "-f", "{{.State.Health.Status}}", *ids).split())

    wait_for("what was paused is healthy", healthy, 60)


def targets():
    """The health of each target of Prometheus, as of its last scrape."""
    active = json.loads(fetch("/api/v1/targets?state=active", base=PROMETHEUS)[2])["data"]["activeTargets"]
    return [target["health"] for target in active if target["labels"]["job"] != "alertmanager"]


def crash(container):
    """Ends a container's first process as a fault would. After a `docker kill` the engine would not start it again."""
    os.kill(container["State"]["Pid"], signal.SIGKILL)
