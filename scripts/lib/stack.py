"""The running stack, for its tests and for the Python programs: settings, scripts, Docker, Compose, HTTP, Prometheus, load."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """A command or a request failed. The message is for users."""


# --- Settings ---


def defaults():
    """The values in .env."""
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


# Environment variables override .env.
SETTINGS = {name: os.environ.get(name, value) for name, value in defaults().items()}
PROJECT = SETTINGS["COMPOSE_PROJECT_NAME"]
PORT = int(SETTINGS["HTTP_PORT"])
URL = f"http://localhost:{PORT}"
PROMETHEUS = f"http://localhost:{SETTINGS['PROMETHEUS_PORT']}"


# --- Scripts, Docker, and Compose ---


def finished(command, timeout, **options):
    # A command that heals after a Ctrl-C (console.main) must not receive the next one from the terminal.
    heals = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, start_new_session=heals, **options)


def run(name, *arguments, timeout=60, **environment):
    """The finished process of a script."""
    return finished([ROOT / "scripts" / name, *arguments], timeout, env=os.environ | environment)


def script(name, *arguments, timeout=300):
    """The output of a script that must succeed."""
    result = run(name, *arguments, timeout=timeout)
    if result.returncode:
        raise StackError(f"{name}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout


def docker(*arguments, check=True):
    """The output of a Docker command that must succeed; without `check` its finished process."""
    result = finished(["docker", *arguments], 120)
    if check and result.returncode:
        raise StackError(f"docker {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout.strip() if check else result


def compose(*arguments, timeout=120, **environment):
    """Runs Compose, in the version that is installed."""
    command = ["docker", "compose"] if docker("compose", "version", check=False).returncode == 0 else ["docker-compose"]
    # As in stack.sh: with more parallel calls, those of hundreds of replicas time out.
    patient = {"COMPOSE_PARALLEL_LIMIT": "8", "COMPOSE_HTTP_TIMEOUT": "300"}
    result = finished([*command, *arguments], timeout, cwd=ROOT, env=patient | os.environ | environment)
    if result.returncode:
        raise StackError(result.stderr)


def need_stack():
    """Ends the program with one line if Docker is not usable or the stack does not run."""
    check = 'source "$0/common.sh" && source "$0/stack.sh" && need_docker'
    if subprocess.run(["bash", "-c", check, ROOT / "scripts/lib"]).returncode:
        raise SystemExit(1)
    if not containers("nginx"):
        raise StackError("the stack does not run: scripts/run.sh")


# --- Containers ---


def containers(service=None):
    """The running containers of the stack, as `docker inspect` describes them."""
    filters = ["--filter", f"label=com.docker.compose.project={PROJECT}"]
    if service:
        filters += ["--filter", f"label=com.docker.compose.service={service}"]
    ids = docker("ps", "-q", *filters).split()
    return json.loads(docker("inspect", *ids)) if ids else []


def service_of(container):
    return container["Config"]["Labels"]["com.docker.compose.service"]


def address_of(container, network):
    return container["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"]


def replica_count():
    return len(containers("app"))


def scale_to(count):
    if replica_count() != count:
        script("scale.sh", str(count))


def helper(network, *command):
    """The finished process of a busybox command on a network (or on that of `container:<id>`)."""
    image = SETTINGS["NGINX_IMAGE"]
    return docker("run", "--rm", "--network", network, "--entrypoint", "busybox", image, *command, check=False)


def connects(network, address, port):
    """Whether a TCP connection can be made from a network."""
    return helper(network, "nc", "-w", "2", address, port, "-e", "/bin/true").returncode == 0


def crash(*crashed):
    """Kills the first process of each container, as a fault would. After `docker kill` the daemon does not restart it."""
    kill_processes([container["State"]["Pid"] for container in crashed])


def kill_processes(pids):
    """Kills processes of the Docker host, which is this machine or (on a Mac) a virtual one."""
    try:
        if all("docker" in Path(f"/proc/{pid}/cgroup").read_text() for pid in pids):
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            return
    except OSError:
        # The host is another machine, or its processes belong to another user.
        pass
    kill = ["sh", SETTINGS["NGINX_IMAGE"], "-c", 'kill -9 "$@"', "-", *map(str, pids)]
    docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", *kill)


def unpause(containers_paused):
    """Waits until they are healthy again: a paused container counts as unhealthy, and Compose starts nothing that needs it."""
    for container in containers_paused:
        docker("unpause", container["Id"])
    ids = [container["Id"] for container in containers_paused]

    def healthy():
        return all(state == "healthy" for state in docker("inspect", "-f", "{{.State.Health.Status}}", *ids).split())

    wait_for("the unpaused containers are healthy", healthy, 60)


# --- HTTP and Prometheus ---


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def fetch(path, method="GET", headers=None, base=URL, timeout=10):
    """(status, headers, body). Redirects are not followed."""
    request = urllib.request.Request(base + path, method=method, headers=headers or {})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def try_fetch(path="/mood", base=URL, timeout=2):
    """Like fetch, but (None, {}, b"") if there is no response in time."""
    try:
        return fetch(path, base=base, timeout=timeout)
    except (OSError, http.client.HTTPException):
        return None, {}, b""


def hosts(requests):
    """The replicas that respond to this many requests."""
    return {try_fetch()[1].get("X-Served-By") for _ in range(requests)} - {None}


def query(expression):
    """The result vector of a PromQL expression."""
    status, _, body = fetch(f"/api/v1/query?query={urllib.parse.quote(expression)}", base=PROMETHEUS)
    if status == 503:
        raise StackError("Prometheus is not ready yet")
    response = json.loads(body)
    if response["status"] != "success":
        raise StackError(f"{expression}: {response['error']}")
    return response["data"]["result"]


def targets():
    """The health of each target of Prometheus, as of its last scrape."""
    active = json.loads(fetch("/api/v1/targets?state=active", base=PROMETHEUS)[2])["data"]["activeTargets"]
    return [target["health"] for target in active if target["labels"]["job"] != "alertmanager"]


def wait_for(what, probe, seconds=60):
    """The first value of `probe` that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise StackError(f"not within {seconds} s: {what}")
        time.sleep(0.3)


class Load:
    """Sends requests at a constant rate until the block ends, on keep-alive connections.

    Unlike oha (load.py) it is installed everywhere, ends with its block, and keeps the time and the failure of each request.
    A latency counts from when its request was due, so that a stall is not hidden.
    """

    def __init__(self, rate=300, clients=64, path="/mood", accept="*/*"):
        self.rate = rate
        self.path = path
        self.headers = {"Accept": accept}
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
        """In seconds, of the requests that were due between two times of time.monotonic()."""
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
                connection.request("GET", self.path, headers=self.headers)
                response = connection.getresponse()
                response.read()
                problem = None if response.status == 200 else f"status {response.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                self._latencies.append((due, time.monotonic() - due))
                if problem:
                    self.failures.append(problem)
        connection.close()
