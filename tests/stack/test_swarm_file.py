"""deploy/swarm/stack.yaml, held against compose.yaml: what both say is the same; what differs is named here."""

from compose_files import services

COMPOSE = services("compose.yaml")
STACK = services("deploy/swarm/stack.yaml", MOOD_CONFIG="1")
# Prometheus scrapes each Nginx directly. Alertmanager and Grafana run outside the Swarm.
LEFT_OUT = {"nginx-exporter", "alertmanager", "grafana"}


def pairs():
    """Name, Swarm's service, Compose's service."""
    return [(name, ours, COMPOSE[name]) for name, ours in STACK.items()]


def test_services():
    assert set(STACK) == set(COMPOSE) - LEFT_OUT


def test_images_users_networks_and_limits():
    for name, ours, theirs in pairs():
        for key in ("image", "user", "read_only", "cap_drop", "logging", "working_dir", "stop_grace_period"):
            # A task that moves has its Nginx end what it has first.
            if (name, key) != ("nginx", "stop_grace_period"):
                assert ours.get(key) == theirs.get(key), (name, key)
        assert ours["deploy"]["resources"]["limits"]["memory"].upper() == theirs["mem_limit"].upper(), name
        assert list(ours["networks"]) == list(theirs["networks"]), name
        # Swarm's own balancer would take a connection for a request.
        assert ours["deploy"]["endpoint_mode"] == "dnsrr", name


def test_environments():
    changed = {
        "app": {"REDIS_URL", "REDIS_URL_FILE", "DRAIN_MS"},
        "redis-exporter": {"REDIS_PASSWORD_FILE"},
        # On Swarm the inner port listens on all addresses, since an alias of a service has many.
        "nginx": {"NGINX_INNER_ADDRESSES"},
    }
    for name, ours, theirs in pairs():
        ours, theirs = ours.get("environment", {}), theirs.get("environment", {})
        different = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
        assert different == changed.get(name, set()), name


def test_commands():
    for name in ("nginx", "prometheus"):
        for key in ("entrypoint", "command"):
            # The runbook is read where it stands.
            theirs = [one for one in COMPOSE[name].get(key, []) if "console" not in one]
            assert STACK[name].get(key, []) == theirs, name
    command = " ".join(COMPOSE["redis"]["entrypoint"])
    assert STACK["redis"]["entrypoint"][-1] == f'exec {command} --requirepass "$$(cat /run/secrets/redis-password)"'


def test_health_is_asked_in_the_same_way():
    for name, ours, theirs in pairs():
        ours, theirs = ours.get("healthcheck"), theirs.get("healthcheck")
        # With the password; the exporters have none.
        if name == "redis":
            assert "redis-cli ping" in ours["test"][1]
        else:
            assert (ours and ours["test"]) == (theirs and theirs["test"]), name


def test_memory_disks():
    sizes = {name: [volume["tmpfs"]["size"] for volume in ours.get("volumes", []) if isinstance(volume, dict)] for name, ours in STACK.items()}
    for name, ours, theirs in pairs():
        assert [f"/tmp:size={size // 2**20}m,mode=1777" for size in sizes[name]] == theirs.get("tmpfs", []), name
