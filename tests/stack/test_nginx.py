"""nginx/start.sh: the configuration that it writes for each environment, and the client address that Nginx passes on."""

import json
import time

import pytest

from stack import PROJECT, ROOT, SETTINGS, containers, docker, fetch, wait_for

FILES = [f"-v{ROOT}/nginx.conf:/etc/nginx/nginx.conf:ro", f"-v{ROOT}/nginx:/etc/nginx/mood:ro"]
LOCKED_DOWN = ["--read-only", "--user", "101", "--cap-drop", "ALL", "--tmpfs", "/tmp:size=64m,mode=1777"]


def written(*options, network="none", **environment):
    """Checks the configuration as the start script does, and returns the lines that it wrote."""
    variables = [f"-e{name}={value}" for name, value in environment.items()]
    show = "sh /etc/nginx/mood/start.sh -t -q && cat /tmp/environment/*"
    text = docker("run", "--rm", "--network", network, *LOCKED_DOWN, *FILES, *options, *variables, "--entrypoint", "sh", SETTINGS["NGINX_IMAGE"], "-c", show)
    return [line.strip() for line in text.splitlines()]


@pytest.fixture
def resolv_conf(tmp_path):
    """Makes an option that mounts a resolv.conf with this content."""

    def option(text):
        (tmp_path / "resolv.conf").write_text(text)
        return f"-v{tmp_path}/resolv.conf:/etc/resolv.conf:ro"

    return option


@pytest.fixture
def network():
    """A network with IPv4 and IPv6."""
    name = f"{PROJECT}-two-families"
    docker("network", "create", "--ipv6", "--subnet", "fd00:6d6f:6f64::/64", name)
    yield name
    docker("network", "rm", name)


@pytest.mark.parametrize("text, resolver, host", [
    ("nameserver 127.0.0.11\noptions ndots:0\n", "127.0.0.11", "app"),
    ("search dns.podman\nnameserver 10.89.0.1\nnameserver 192.0.2.1\n", "10.89.0.1", "app"),
    ("nameserver fd00::53\n", "[fd00::53]", "app"),
    ("search shop.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n", "10.96.0.10", "app.shop.svc.cluster.local"),
    ("# empty\n", "127.0.0.1", "app"),
], ids=["Docker", "Podman", "IPv6", "Kubernetes", "no server"])
def test_dns_server_and_name_of_the_replicas(resolv_conf, text, resolver, host):
    lines = written(resolv_conf(text))
    assert f"resolver {resolver} valid=1s ipv6=off;" in lines
    assert len([line for line in lines if line.startswith(f"server {host}:5000 resolve ")]) == 2


def test_the_name_of_the_replicas_can_be_set():
    lines = written(NGINX_APP_HOST="mood.example.com")
    assert any(line.startswith("server mood.example.com:5000 ") for line in lines)


def test_ports_listen_on_both_address_families_where_both_exist(network):
    lines = written(network=network)
    assert {"listen 8080;", "listen [::]:8080;", "listen 8081;", "listen [::]:8081;"} <= set(lines)
    assert not any("::]" in line for line in written())


def test_the_inner_port_is_limited_to_addresses_and_networks():
    lines = written(NGINX_INNER_ADDRESSES="127.0.0.1 127.0.0.2", NGINX_INNER_CLIENTS="192.0.2.0/24")
    assert [line for line in lines if line.startswith(("listen", "allow", "deny"))] == [
        "listen 127.0.0.1:8081;", "listen 127.0.0.2:8081;", "allow 192.0.2.0/24;", "deny all;", "listen 8080;",
    ]


def test_limits_per_client_are_on_by_default():
    assert 'map "" $limited_client { default $binary_remote_addr; }' in written()
    assert 'map "" $limited_client { default ""; }' in written(NGINX_LIMITS="off")


@pytest.fixture
def trusting_nginx(stack):
    """A second Nginx in the running stack that trusts proxies on private networks."""
    container = docker(
        "run", "-d", *LOCKED_DOWN, *FILES, f"--network={PROJECT}_backend", "-eNGINX_LIMITS=off",
        "-eNGINX_TRUSTED_PROXIES=172.16.0.0/12 192.168.0.0/16 10.0.0.0/8", "--entrypoint", "sh", SETTINGS["NGINX_IMAGE"], "/etc/nginx/mood/start.sh",
    )
    yield container
    docker("rm", "-f", container)


def client_addresses(nginx, request_id):
    """The client addresses of a request in the logs of Nginx and of the replica."""

    def logged():
        logs = [docker("logs", "--tail=100", one) for one in (nginx, *(replica["Id"] for replica in containers("app")))]
        lines = [json.loads(line) for log in logs for line in log.splitlines() if request_id in line]
        return [line["remote"] for line in lines] if len(lines) == 2 else None

    return wait_for("both log lines", logged, 10)


def test_a_forged_client_address_is_not_passed_on(stack):
    request_id = f"forged-{time.time_ns()}"
    fetch("/mood", headers={"X-Forwarded-For": "203.0.113.7", "X-Request-Id": request_id})
    ours, theirs = client_addresses(containers("nginx")[0]["Id"], request_id)
    assert ours == theirs != "203.0.113.7"


def test_the_client_address_of_a_trusted_proxy_is_passed_on(trusting_nginx):
    request_id = f"trusted-{time.time_ns()}"
    # 198.51.100.1 is what the client claimed; the proxy appended the address that it saw.
    headers = ["--header=X-Forwarded-For: 198.51.100.1, 203.0.113.7", f"--header=X-Request-Id: {request_id}"]
    own_address = json.loads(docker("inspect", trusting_nginx))[0]["NetworkSettings"]["Networks"][f"{PROJECT}_backend"]["IPAddress"]
    wait_for("Nginx responds", lambda: docker("exec", trusting_nginx, "busybox", "wget", "-q", "-O", "-", *headers,
                                              f"http://{own_address}:8080/mood", check=False).returncode == 0, 10)
    assert set(client_addresses(trusting_nginx, request_id)) == {"203.0.113.7"}
