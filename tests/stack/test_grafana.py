"""The real Grafana, asked by its API: its health, the dashboard, what its panels' queries give, and the alert rules.

Runs where its image can be had: Debian has no Grafana.
"""

import base64
import json
import re
import urllib.error
import urllib.request

import pytest
import yaml

from stack import ROOT, SETTINGS, containers, docker, fetch, wait_for

GRAFANA = f"http://localhost:{SETTINGS['GRAFANA_PORT']}"
UID = "mood-app-nginx-redis"


def ask(path, body=None):
    user = f"{SETTINGS['GRAFANA_USER']}:{SETTINGS['GRAFANA_PASSWORD']}"
    headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode(), "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(GRAFANA + path, data, headers), timeout=20) as response:
        return json.load(response)


@pytest.fixture(scope="module", autouse=True)
def grafana(started_stack):
    if not containers("grafana"):
        pytest.skip("Grafana's image is available only from a registry")

    def is_well():
        try:
            return ask("/api/health")["database"] == "ok"
        except OSError:
            return False

    wait_for("Grafana is well", is_well, 120)
    for _ in range(20):
        fetch("/mood")


def test_the_dashboard_is_the_one_of_the_repository():
    loaded = ask(f"/api/dashboards/uid/{UID}")["dashboard"]
    ours = json.loads((ROOT / f"grafana/dashboards/{UID}.json").read_text())
    assert [panel["title"] for panel in loaded["panels"]] == [panel["title"] for panel in ours["panels"]]


def test_every_query_of_its_panels_is_answered():
    for panel in ask(f"/api/dashboards/uid/{UID}")["dashboard"]["panels"]:
        for target in panel.get("targets", []):
            # What the browser puts in; $__rate_interval and its like are Grafana's own.
            expression = re.sub(r"\$\{?replica\}?", ".*", re.sub(r"\$\{?interval\}?", "5m", target["expr"]))
            query = {
                "refId": "A", "datasource": {"type": "prometheus", "uid": "prometheus"}, "expr": expression,
                "range": True, "intervalMs": 15000, "maxDataPoints": 400,
            }
            try:
                answer = ask("/api/ds/query", {"queries": [query], "from": "now-15m", "to": "now"})
            except urllib.error.HTTPError as error:
                pytest.fail(error.read().decode())
            assert "error" not in answer["results"]["A"]


def test_every_alert_rule_is_loaded_and_evaluated_without_an_error():
    provisioned = yaml.safe_load((ROOT / "grafana/provisioning/alerting/mood.yaml").read_text())
    wanted = {rule["title"] for group in provisioned["groups"] for rule in group["rules"]}

    def evaluated():
        groups = ask("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return rules if wanted <= set(rules) and all(rules[name].get("lastEvaluation", "0") > "0002" for name in wanted) else None

    rules = wait_for("all rules are evaluated", evaluated, 120)
    assert {name for name in wanted if rules[name]["health"] == "error"} == set()


def test_its_log_tells_of_no_error():
    log = docker("logs", containers("grafana")[0]["Id"], check=False)
    errors = [line for line in (log.stdout + log.stderr).splitlines() if "level=error" in line]
    assert errors == []
