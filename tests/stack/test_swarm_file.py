"""deploy/swarm/stack.yaml, held against compose.yaml: what both say is the same; what differs is named here."""

import shlex
import unittest

from compose_files import services

COMPOSE = services("compose.yaml")
STACK = services("deploy/swarm/stack.yaml", MOOD_REPLICAS="3", MOOD_CONFIG="1", MOOD_FILES=".")
# Each Nginx is scraped itself; who is paged and who looks at dashboards stands beside a Swarm.
LEFT_OUT = {"nginx-exporter", "alertmanager", "grafana"}


def pairs():
    """Name, Swarm's service, Compose's service."""
    return [(name, ours, COMPOSE[name]) for name, ours in STACK.items()]


class LikeCompose(unittest.TestCase):
    def test_services(self):
        self.assertEqual(set(STACK), set(COMPOSE) - LEFT_OUT)

    def test_images_users_networks_and_limits(self):
        for name, ours, theirs in pairs():
            for key in ("image", "user", "read_only", "cap_drop", "logging", "working_dir", "stop_grace_period"):
                # A task that moves has its Nginx end what it has first.
                if (name, key) != ("nginx", "stop_grace_period"):
                    self.assertEqual(ours.get(key), theirs.get(key), (name, key))
            self.assertEqual(ours["deploy"]["resources"]["limits"]["memory"], theirs["mem_limit"].upper(), name)
            self.assertEqual(list(ours["networks"]), list(theirs["networks"]), name)
            # Swarm's own balancer would take a connection for a request.
            self.assertEqual(ours["deploy"]["endpoint_mode"], "dnsrr", name)

    def test_environments(self):
        changed = {"app": {"REDIS_URL", "REDIS_URL_FILE", "DRAIN_MS"}, "redis-exporter": {"REDIS_PASSWORD_FILE"}}
        for name, ours, theirs in pairs():
            ours, theirs = ours.get("environment", {}), theirs.get("environment", {})
            different = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
            self.assertEqual(different, changed.get(name, set()), name)

    def test_commands(self):
        for name in ("nginx", "prometheus"):
            for key in ("entrypoint", "command"):
                # The runbook is read where it stands.
                theirs = [one for one in COMPOSE[name].get(key, []) if "console" not in one]
                self.assertEqual(STACK[name].get(key, []), theirs, name)
        words = shlex.split(STACK["redis"]["entrypoint"][-1])
        at = words.index("--requirepass")
        self.assertEqual(words[at + 1], "$$(cat /run/secrets/redis-password)")
        # Redis asks for the protected mode where there is no password.
        self.assertEqual(words[1:at] + words[at + 2:] + ["--protected-mode", "no"], COMPOSE["redis"]["entrypoint"])

    def test_health_is_asked_in_the_same_way(self):
        for name, ours, theirs in pairs():
            ours, theirs = ours.get("healthcheck"), theirs.get("healthcheck")
            # With the password; the exporters have none.
            if name == "redis":
                self.assertIn("redis-cli ping", ours["test"][1])
            else:
                self.assertEqual(ours and ours["test"], theirs and theirs["test"], name)

    def test_memory_disks(self):
        sizes = {name: [volume["tmpfs"]["size"] for volume in ours.get("volumes", []) if isinstance(volume, dict)] for name, ours in STACK.items()}
        for name, ours, theirs in pairs():
            self.assertEqual([f"/tmp:size={size // 2**20}m,mode=1777" for size in sizes[name]], theirs.get("tmpfs", []), name)


if __name__ == "__main__":
    unittest.main()
