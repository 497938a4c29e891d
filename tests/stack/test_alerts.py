"""Alerts against the running stack: they fire when they should, clear again, and every expression gives data."""

import json
import re
import time
import unittest

import yaml
from grafana_foundation_sdk.models.alerting import Query, Rule

from stack import PROJECT, PROMETHEUS, ROOT, SETTINGS, compose, containers, docker, fetch, helper, query, script, wait_for


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


class Provisioned(unittest.TestCase):
    """Grafana's copy of the core set."""

    def setUp(self):
        ours = yaml.safe_load((ROOT / "alerts.yml").read_text())["groups"]
        self.alerts = {rule["alert"]: rule for group in ours for rule in group["rules"] if "alert" in rule}
        self.grafana = yaml.safe_load((ROOT / "grafana/provisioning/alerting/mood.yaml").read_text())
        self.rules = self.grafana["groups"][0]["rules"]

    def test_its_expressions_and_severities_are_those_of_alerts_yml(self):
        for rule in self.rules:
            ours = self.alerts[rule["title"]]
            self.assertEqual(rule["data"][0]["model"]["expr"], ours["expr"], rule["title"])
            self.assertEqual(rule["labels"], ours["labels"])
            self.assertEqual(rule["for"], ours.get("for", "0s"))
            self.assertEqual(rule["annotations"]["runbook_url"], ours["annotations"]["runbook_url"])

    def test_it_names_a_contact_point_and_a_datasource_that_exist(self):
        points = {point["name"] for point in self.grafana["contactPoints"]}
        self.assertIn(self.grafana["policies"][0]["receiver"], points)
        source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text())
        self.assertEqual(source["datasources"][0]["uid"], "prometheus")
        for rule in self.rules:
            self.assertEqual([data["datasourceUid"] for data in rule["data"]], ["prometheus", "__expr__"])

    def test_every_dollar_is_one_that_grafana_understands(self):
        """Seen in Grafana 12.2: a doubled one is kept as it stands, and not one rule evaluated."""
        self.assertNotIn("$$", (ROOT / "grafana/provisioning/alerting/mood.yaml").read_text())
        labels = {"instance", "job", "alertname"}
        for rule in self.rules:
            query, condition = rule["data"]
            # What Grafana's math knows: a function of the result of another query of this rule.
            self.assertRegex(condition["model"]["expression"], r"^is_number\(\$" + query["refId"] + r"\)$")
            for text in rule["annotations"].values():
                for template in re.findall(r"\{\{(.*?)\}\}", text):
                    known = re.fullmatch(r" \$(labels\.(\w+)|values\.A\.Value)( \| humanize\w*)? ", template)
                    self.assertTrue(known, template)
                    self.assertIn(known[2], {None, *labels})
                # A dollar outside of a template is shown as it stands.
                self.assertNotIn("$", re.sub(r"\{\{.*?\}\}", "", text))

    def test_no_field_is_unknown_to_grafana_s_schema(self):
        known = set(vars(Rule()))
        names = {"for": "for_val", "noDataState": "no_data_state", "execErrState": "exec_err_state"}
        for rule in self.rules:
            for field in rule:
                self.assertIn(names.get(field, field), known)
            for data in rule["data"]:
                self.assertLessEqual({"refId", "datasourceUid", "model"}, set(data))
                back = Query.from_json(data)
                self.assertEqual((back.ref_id, back.datasource_uid), (data["refId"], data["datasourceUid"]))

    def test_prometheus_understands_every_expression(self):
        for rule in self.rules:
            query(rule["data"][0]["model"]["expr"])


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
        # Other tests may have left errors in the window: these must come on top.
        ratio = query("mood:errors:ratio_rate5m")
        before = ratio[0]["value"][1] if ratio else 0
        began = time.monotonic()
        docker("kill", *replicas)
        try:
            wait_for("NoReplica fires", lambda: "NoReplica" in firing(), 60)
            self.assertLess(time.monotonic() - began, 60)
            self.assertEqual({fetch("/mood")[0] for _ in range(20)}, {502})
            wait_for("each 502 is an error", lambda: query(f"mood:errors:ratio_rate5m > {before}"), 30)
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

    def test_alertmanager_s_profile_works_as_it_stands(self):
        compose("--profile", "alertmanager", "up", "-d", "--no-deps", "alertmanager")
        try:
            alertmanager = "http://localhost:" + SETTINGS["ALERTMANAGER_PORT"]

            def received():
                try:
                    alerts = json.loads(fetch("/api/v2/alerts", base=alertmanager)[2])
                except OSError:
                    return False
                return "DeadMansSwitch" in {alert["labels"]["alertname"] for alert in alerts}

            wait_for("the dead man's switch arrives", received, 90)
            wait_for("Nginx logs it", lambda: "DeadMansSwitch" in self.alerts_in_nginx_s_log(), 90)
        finally:
            compose("rm", "-s", "-f", "alertmanager")

    def alerts_in_nginx_s_log(self):
        """The names of the alerts that came by webhook."""
        lines = docker("logs", containers("nginx")[0]["Id"]).splitlines()
        alerts = [json.loads(line) for line in lines if '"msg":"alert"' in line]
        return {alert["alertname"] for alert in alerts if alert["status"] == "firing"}

    def test_a_webhook_cannot_forge_a_line(self):
        """Asked as Grafana does, from its network."""
        url = "http://nginx:8081/alerts"
        alert = {"status": "firing", "labels": {"alertname": 'A"}\n{"msg":"forged"}'}}
        nginx = containers("nginx")[0]["Id"]
        for body, accepted in ((json.dumps({"alerts": [alert]}), True), ("nonsense", False), ("{}", False)):
            result = helper(f"{PROJECT}_observability", "wget", "-q", "-O", "-", "--post-data", body, url)
            self.assertEqual(result.returncode == 0, accepted, body)
        self.assertIn(alert["labels"]["alertname"], self.alerts_in_nginx_s_log())
        self.assertNotIn('\n{"msg":"forged"}', docker("logs", nginx))

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
