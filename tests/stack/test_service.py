"""New replicas behind a Service of Kubernetes, which chooses one for each connection and not for each request: the rules of its
proxy, as kube-proxy writes them for iptables, in a network namespace of their own. Needs root.
"""

import json
import os
import re
import subprocess
import time
import unittest

from stack import ROOT, wait_for

NAMESPACE = "mood-service"
SERVICE = "10.96.0.10"
PORT = 5000
BEFORE, AFTER = 3, 7


def inside(*command, **options):
    return subprocess.run(["ip", "netns", "exec", NAMESPACE, *map(str, command)], check=True, capture_output=True, text=True, timeout=30, **options).stdout


def pod(number):
    return f"10.244.0.{number + 1}"


class Service(unittest.TestCase):
    def setUp(self):
        subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "del", NAMESPACE], check=True)
        inside("ip", "link", "set", "lo", "up")
        for address in (SERVICE, *map(pod, range(AFTER))):
            inside("ip", "address", "add", f"{address}/32", "dev", "lo")

    def start(self, numbers, **environment):
        """Replicas, and the Service's rules for all that there are from now on."""
        for number in numbers:
            settings = os.environ | environment | {"LISTEN_ADDR": f"{pod(number)}:{PORT}", "DRAIN_MS": "0"}
            command = ["ip", "netns", "exec", NAMESPACE, ROOT / "target/release/mood"]
            process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL)
            self.addCleanup(process.wait)
            self.addCleanup(process.terminate)
            wait_for("the replica answers", lambda number=number: self.answered(number) is not None, 10)
        count = numbers[-1] + 1
        rules = [
            f"-A OUTPUT -d {SERVICE}/32 -p tcp --dport 80 -m statistic --mode random --probability {1 / (count - number):.10f} "
            f"-j DNAT --to-destination {pod(number)}:{PORT}"
            for number in range(count)
        ]
        inside("iptables-restore", input="\n".join(["*nat", *rules, "COMMIT", ""]))

    def answered(self, number):
        """How many requests of users a replica has answered; None if it does not listen yet."""
        try:
            text = inside("curl", "-sf", f"http://{pod(number)}:{PORT}/metrics")
        except subprocess.CalledProcessError:
            return None
        return sum(float(count) for count in re.findall(r'^http_requests_total\{[^}]*path="/mood"[^}]*\} (\S+)$', text, re.M))

    def shares(self, **environment):
        """Requests of each replica in six seconds, four seconds after the new ones have come."""
        self.start(range(BEFORE), **environment)
        command = ["ip", "netns", "exec", NAMESPACE, ROOT / "target/tools/bin/oha", "--no-tui", "--output-format", "json",
                   "-c", "32", "-q", "500", "-z", "14s", f"http://{SERVICE}/mood"]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        self.start(range(BEFORE, AFTER), **environment)
        time.sleep(4)
        before = [self.answered(number) for number in range(AFTER)]
        time.sleep(6)
        shares = [self.answered(number) - earlier for number, earlier in enumerate(before)]
        result = json.loads(load.communicate(timeout=30)[0])
        self.assertEqual(set(result["statusCodeDistribution"]), {"200"})
        self.assertEqual({error for error in result["errorDistribution"] if "deadline" not in error}, set())
        self.assertGreater(sum(shares), 2000)
        print(f"requests by replica, the last {AFTER - BEFORE} are new: {[int(share) for share in shares]}")
        return shares

    def test_kept_connections_leave_new_replicas_without_any(self):
        """What the age is for; and that this test would tell."""
        self.assertEqual(sum(self.shares()[BEFORE:]), 0)

    def test_connections_that_age_give_new_replicas_their_share(self):
        shares = self.shares(MAX_CONNECTION_AGE_S="1")
        # Chance spreads 32 connections anew every second: over six of them the least gets more than a third of its share.
        self.assertGreater(min(shares[BEFORE:]), sum(shares) / AFTER / 3)


if __name__ == "__main__":
    unittest.main()
