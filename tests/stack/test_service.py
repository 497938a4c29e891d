"""New replicas behind a Service of Kubernetes, which chooses one for each connection and not for each request: the rules of its
proxy, as kube-proxy writes them for iptables, in a network namespace of their own. Needs root.
"""

import os
import re
import subprocess
import time

import pytest

from load import Oha
from stack import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.usefixtures("load_generator")]

NAMESPACE = "mood-service"
SERVICE = "10.96.0.10"
PORT = 5000
BEFORE, AFTER = 3, 7


def inside(*command, **options):
    return subprocess.run(["ip", "netns", "exec", NAMESPACE, *map(str, command)], check=True, capture_output=True, text=True, timeout=30, **options).stdout


def pod(number):
    return f"10.244.0.{number + 1}"


@pytest.fixture
def namespace(request):
    """The addresses of the Service and its pods."""
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    request.addfinalizer(lambda: subprocess.run(["ip", "netns", "del", NAMESPACE], check=True))
    inside("ip", "link", "set", "lo", "up")
    for address in (SERVICE, *map(pod, range(AFTER))):
        inside("ip", "address", "add", f"{address}/32", "dev", "lo")
    return request


def start(namespace, numbers, **environment):
    """Replicas, and the Service's rules for all that there are from now on."""
    for number in numbers:
        settings = os.environ | environment | {"LISTEN_ADDR": f"{pod(number)}:{PORT}", "DRAIN_MS": "0"}
        command = ["ip", "netns", "exec", NAMESPACE, ROOT / "target/release/mood"]
        process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL)
        namespace.addfinalizer(process.wait)
        namespace.addfinalizer(process.terminate)
        wait_for("the replica answers", lambda number=number: answered(number) is not None, 10)
    count = numbers[-1] + 1
    rules = [
        f"-A OUTPUT -d {SERVICE}/32 -p tcp --dport 80 -m statistic --mode random --probability {1 / (count - number):.10f} "
        f"-j DNAT --to-destination {pod(number)}:{PORT}"
        for number in range(count)
    ]
    inside("iptables-restore", input="\n".join(["*nat", *rules, "COMMIT", ""]))


def answered(number):
    """How many requests of users a replica has answered; None if it does not listen yet."""
    try:
        text = inside("curl", "-sf", f"http://{pod(number)}:{PORT}/metrics")
    except subprocess.CalledProcessError:
        return None
    return sum(float(count) for count in re.findall(r'^http_requests_total\{[^}]*path="/mood"[^}]*\} (\S+)$', text, re.M))


def shares_of(namespace, **environment):
    """Requests of each replica in six seconds, four seconds after the new ones have come."""
    start(namespace, range(BEFORE), **environment)
    with Oha(14, rate=500, connections=32, url=f"http://{SERVICE}/mood", prefix=["ip", "netns", "exec", NAMESPACE]) as load:
        time.sleep(2)
        start(namespace, range(BEFORE, AFTER), **environment)
        time.sleep(4)
        before = [answered(number) for number in range(AFTER)]
        time.sleep(6)
        shares = [answered(number) - earlier for number, earlier in enumerate(before)]
        assert load.figures().failed == 0
    assert sum(shares) > 2000
    print(f"requests by replica, the last {AFTER - BEFORE} are new: {[int(share) for share in shares]}")
    return shares


def test_kept_connections_leave_new_replicas_without_any(namespace):
    """What the age is for; and that this test would tell."""
    assert sum(shares_of(namespace)[BEFORE:]) == 0


def test_connections_that_age_give_new_replicas_their_share(namespace):
    shares = shares_of(namespace, MAX_CONNECTION_AGE_S="1")
    # Chance spreads 32 connections anew every second: over six of them the least gets more than a third of its share.
    assert min(shares[BEFORE:]) > sum(shares) / AFTER / 3
