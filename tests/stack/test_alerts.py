"""Alerts against the running stack: they fire when they should, clear again, and every expression gives data."""

import json
import re
import time
import unittest

from stack import PROMETHEUS, ROOT, containers, docker, fetch, query, script, wait_for

def firing():
    alerts = json.loads(fetch("/api/v1/alerts", base=PROMETHEUS)[2])["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def rules():
    groups = json.loads(fetch("/api/v1/rules", base=PROMETHEUS)[2])["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


class Written(unittest.TestCase):
    def test_every_alert_has_its_paragraph_and_both_test_cases(self):
        text = (ROOT / "alerts.yml").read_text()
        runbook = (ROOT / "docs/runbook.md").read_text()
        cases = (ROOT / "tests/alerts.yml").read_text()
        names = re.findall(r"- alert: (\w+)", text)
        self.assertGreater(len(names), 20)
        for name in names:
            self.assertIn(f"\n### {name}\n", runbook)
            self.assertIn(f"docs/runbook.md#{name.lower()}\n", text)
            if name != "DeadMansSwitch":
                self.assertIn(f"- name: {name} fires\n", cases)
                self.assertIn(f"- name: {name} is silent\n", cases)
        for field in ("severity: ", "summary: ", "description: ", "runbook_url: "):
            self.assertEqual(text.count(field), len(names), field)


class Live(unittest.TestCase):
    def test_every_rule_is_evaluated_without_an_error(self):
        wait_for("the rules are loaded", rules)
        wait_for("every rule was evaluated", lambda: all(rule["health"] == "ok" for rule in rules()), 60)
        for rule in rules():
            self.assertEqual(rule.get("lastError", ""), "", rule["name"])

    def test_every_recorded_indicator_has_data(self):
        for _ in range(30):
            fetch("/mood")
        for window in ("5m", "30m", "1h", "6h", "3d"):
            for name in ("mood:requests:rate", "mood:errors:ratio_rate", "mood:slow:ratio_rate"):
                wait_for(name + window, lambda name=name, window=window: query(name + window), 60)
        self.assertTrue(wait_for("the expected number", lambda: query("mood:replicas:expected")))

    def test_the_dead_man_s_switch_is_on(self):
        wait_for("the switch", lambda: "DeadMansSwitch" in firing())

    def test_losing_redis_fires_and_clears(self):
        redis = containers("redis")[0]["Id"]
        docker("stop", "-t", "1", redis)
        try:
            def both():
                fetch("/mood")
                return {"RedisDown", "RunningOnBypass"} <= firing()

            wait_for("RedisDown and RunningOnBypass fire", both, 90)
        finally:
            docker("start", redis)
        wait_for("both clear", lambda: not firing() & {"RedisDown", "RunningOnBypass"}, 150)

    def test_killing_all_replicas_fires_within_a_minute(self):
        replicas = [container["Id"] for container in containers("app")]
        began = time.monotonic()
        docker("kill", *replicas)
        try:
            wait_for("NoReplica fires", lambda: "NoReplica" in firing(), 60)
            self.assertLess(time.monotonic() - began, 60)
            wait_for("so does ReplicasFewerThanExpected", lambda: "ReplicasFewerThanExpected" in firing(), 60)
        finally:
            docker("start", *replicas)
        wait_for("both clear", lambda: not firing() & {"NoReplica", "ReplicasFewerThanExpected"}, 90)

    def test_scaling_down_fires_nothing(self):
        script("scale.sh", "3")
        time.sleep(10)
        before = firing()
        script("scale.sh", "1")
        for _ in range(20):
            self.assertEqual(firing() - before, set())
            time.sleep(2)

    def test_answers_are_counted_by_status(self):
        def total(status):
            result = query(f'nginx_responses_total{{status="{status}"}}')
            return float(result[0]["value"][1]) if result else -1

        wait_for("the counter", lambda: total(429) >= 0)
        before = total(429)
        limited = sum(fetch("/refresh", "POST")[0] == 429 for _ in range(20))
        self.assertGreater(limited, 0)
        wait_for("each 429 is counted", lambda: total(429) == before + limited, 20)


if __name__ == "__main__":
    unittest.main()
