"""Alerts against the running stack: they fire when they should, soon, never too late, and every expression gives data."""

import contextlib
import datetime
import json
import re
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.alerting import Query, Rule

import alert_ends
from stack import (
    PROJECT, PROMETHEUS, ROOT, SETTINGS, Load, compose, containers, docker, fetch, helper, query, script, unpause, wait_for,
)



# Grafana's copy of the core set.
GRAFANA = yaml.safe_load((ROOT / "grafana/provisioning/alerting/mood.yaml").read_text())
GRAFANA_RULES = GRAFANA["groups"][0]["rules"]
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text())["groups"] for rule in group["rules"] if "alert" in rule
}


def firing():
    alerts = json.loads(fetch("/api/v1/alerts", base=PROMETHEUS)[2])["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def rules():
    groups = json.loads(fetch("/api/v1/rules", base=PROMETHEUS)[2])["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def told(since=0):
    """The alerts that came to Nginx's log by webhook and began, those written after `since` (of time.time())."""
    lines = docker("logs", containers("nginx")[0]["Id"]).splitlines()
    alerts = [json.loads(line) for line in lines if '"msg":"alert"' in line]
    for alert in alerts:
        alert["at"] = datetime.datetime.fromisoformat(alert["ts"].replace("Z", "+00:00")).timestamp()
    return [alert for alert in alerts if alert["status"] == "firing" and alert["at"] > since]


def sent(since=0):
    return {alert["alertname"] for alert in told(since)}


def test_every_alert_has_its_paragraph_and_both_test_cases():
    text = (ROOT / "prometheus/alerts.yml").read_text()
    runbook = (ROOT / "docs/runbook.md").read_text()
    cases = (ROOT / "tests/alerts.yml").read_text()
    names = re.findall(r"- alert: (\w+)", text)
    assert len(names) > 20
    for name in names:
        assert f"\n### {name}\n" in runbook
        assert f"runbook_url: '{{{{ $externalLabels.runbook }}}}#{name.lower()}'\n" in text
        if name != "DeadMansSwitch":
            assert f"- name: {name} fires\n" in cases
            assert f"- name: {name} is silent\n" in cases
    for field in ("severity: ", "summary: ", "description: ", "runbook_url: "):
        assert text.count(field) == len(names), field
    # And its fault, which ends.
    ending = set().union(*(alerts for alerts, _ in alert_ends.FAULTS.values()))
    assert sorted(ending | alert_ends.EVENTS) == sorted(names)


def test_what_probes_ask_is_the_same_everywhere():
    probes = r"health|livez|readyz|metrics|version"
    assert rf'"~^/({probes})$" probe;' in (ROOT / "nginx.conf").read_text()
    left_out = "|".join("/" + probe for probe in probes.split("|"))
    for name in ("prometheus/alerts.yml", "grafana/dashboards/mood-app-nginx-redis.json"):
        found = set(re.findall(r'path!~\\?"([^"\\]*)', (ROOT / name).read_text()))
        assert found == {left_out}, name
    for probe in left_out.split("|"):
        assert f"`{probe}`" in (ROOT / "docs/service-level.md").read_text()


def test_its_expressions_and_severities_are_those_of_alerts_yml():
    for rule in GRAFANA_RULES:
        ours = ALERTS[rule["title"]]
        assert rule["data"][0]["model"]["expr"] == ours["expr"], rule["title"]
        assert rule["labels"] == ours["labels"]
        assert rule["for"] == ours.get("for", "0s")
        assert rule.get("keepFiringFor") == ours.get("keep_firing_for")
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['title'].lower()}"


def test_each_links_to_its_panel():
    """By annotations: Grafana 12.2 takes these over, and drops the fields dashboardUid and panelId."""
    dashboard = json.loads((ROOT / "grafana/dashboards/mood-app-nginx-redis.json").read_text())
    panels = {str(panel["id"]) for panel in dashboard["panels"] if panel["type"] != "row"}
    for rule in GRAFANA_RULES:
        annotations = rule["annotations"]
        if rule["title"] == "DeadMansSwitch":
            # It always fires: a panel would always show it.
            assert "__panelId__" not in annotations
            continue
        assert annotations["__dashboardUid__"] == dashboard["uid"]
        assert annotations["__panelId__"] in panels


def test_the_runbook_s_address_is_set_in_one_place():
    """With the entry point as compose.yaml has it, and a script in place of Grafana's own that shows the result."""
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]
    shell, option, line = service["entrypoint"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.sh"
        run.write_text('#!/bin/sh\ncat "$GF_PATHS_PROVISIONING/alerting/mood.yaml"\n')
        run.chmod(0o755)
        written = yaml.safe_load(docker(
            "run", "--rm", "--network", "none", "-v", f"{ROOT}/grafana/provisioning:/etc/grafana/provisioning:ro", "-v", f"{run}:/run.sh:ro",
            "--read-only", "--tmpfs", "/tmp", "--user", "472:0", "-e", "RUNBOOK_URL=https://example.org/runbook",
            "-e", "GF_PATHS_PROVISIONING=" + service["environment"]["GF_PATHS_PROVISIONING"],
            "--entrypoint", shell, SETTINGS["NGINX_IMAGE"], option, line.replace("$$", "$")))
    for rule in written["groups"][0]["rules"]:
        assert rule["annotations"]["runbook_url"] == f"https://example.org/runbook#{rule['title'].lower()}"


def test_it_names_a_contact_point_and_a_datasource_that_exist():
    points = {point["name"] for point in GRAFANA["contactPoints"]}
    assert GRAFANA["policies"][0]["receiver"] in points
    source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["uid"] == "prometheus"
    for rule in GRAFANA_RULES:
        assert [data["datasourceUid"] for data in rule["data"]] == ["prometheus", "__expr__"]


def test_every_dollar_is_one_that_grafana_understands():
    """Seen in Grafana 12.2: a doubled one is kept as it stands, and not one rule evaluated."""
    assert "$$" not in (ROOT / "grafana/provisioning/alerting/mood.yaml").read_text()
    labels = {"host": "3f2a", "instance": "a:5000", "job": "app", "alertname": "A"}
    for rule in GRAFANA_RULES:
        query, condition = rule["data"]
        # What Grafana's math knows: a function of the result of another query of this rule.
        assert re.search(r"^is_number\(\$" + query["refId"] + r"\)$", condition["model"]["expression"])
        for text in rule["annotations"].values():
            for template in re.findall(r"\{\{(.*?)\}\}", text):
                known = re.fullmatch(r" \$(labels\.(\w+)|values\.A\.Value)( \| humanize\w*)? ", template)
                assert known, template
                assert known[2] in {None, *labels}
            rendered = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda label: labels[label[1]], text)
            rendered = re.sub(r"\{\{ \$values\.A\.Value( \| \w+)? \}\}", "1", rendered)
            # What is left is shown as it stands.
            assert not re.search(r"[${}]", rendered)


def test_no_field_is_unknown_to_grafana_s_schema():
    known = set(vars(Rule()))
    names = {"for": "for_val", "noDataState": "no_data_state", "execErrState": "exec_err_state",
             "keepFiringFor": "keep_firing_for"}
    # Grafana 11.6 does not know that one, and leaves it out.
    known.add("keep_firing_for")
    for rule in GRAFANA_RULES:
        for field in rule:
            assert names.get(field, field) in known
        for data in rule["data"]:
            assert {"refId", "datasourceUid", "model"} <= set(data)
            back = Query.from_json(data)
            assert (back.ref_id, back.datasource_uid) == (data["refId"], data["datasourceUid"])


@pytest.mark.usefixtures("stack")
def test_prometheus_understands_every_expression():
    for rule in GRAFANA_RULES:
        query(rule["data"][0]["model"]["expr"])


@pytest.mark.usefixtures("stack")
def test_every_rule_is_evaluated_without_an_error():
    wait_for("the rules are loaded", rules)
    wait_for("every rule was evaluated", lambda: all(rule["health"] == "ok" for rule in rules()), 60)
    for rule in rules():
        assert rule.get("lastError", "") == "", rule["name"]


@pytest.mark.usefixtures("stack")
def test_every_recorded_indicator_has_data():
    # A rate needs requests between two scrapes.
    with Load(rate=20, clients=2):
        for window in ("5m", "30m", "1h", "6h", "3d"):
            for name in ("mood:requests:rate", "mood:errors:ratio_rate", "mood:slow:ratio_rate"):
                wait_for(name + window, lambda name=name, window=window: query(name + window), 60)
    assert wait_for("the expected number", lambda: query("mood:replicas:expected"))


@pytest.mark.usefixtures("stack")
def test_the_dead_man_s_switch_is_on():
    wait_for("the switch", lambda: "DeadMansSwitch" in firing())


@pytest.mark.usefixtures("stack")
def test_a_webhook_cannot_forge_a_line():
    """Asked as Grafana does, from its network."""
    url = "http://nginx:8081/alerts"
    alert = {"status": "firing", "labels": {"alertname": 'A"}\n{"msg":"forged"}'}}
    nginx = containers("nginx")[0]["Id"]
    for body, accepted in ((json.dumps({"alerts": [alert]}), True), ("nonsense", False), ("{}", False)):
        result = helper(f"{PROJECT}_observability", "wget", "-q", "-O", "-", "--post-data", body, url)
        assert (result.returncode == 0) == accepted, body
    wait_for("the log line", lambda: alert["labels"]["alertname"] in sent(), 10)
    assert '\n{"msg":"forged"}' not in docker("logs", nginx)


@pytest.mark.usefixtures("stack")
def test_answers_are_counted_by_status():
    def total(status):
        result = query(f'nginx_responses_total{{client="user",status="{status}"}}')
        return float(result[0]["value"][1]) if result else -1

    wait_for("the counter", lambda: total(429) >= 0)
    before = total(429)
    limited = sum(fetch("/refresh", "POST")[0] == 429 for _ in range(20))
    assert limited > 0
    wait_for("each 429 is counted", lambda: total(429) == before + limited, 20)


# --- Real outages, one after the other, and one wait for late alerts at the end ---

# A restart has happened, or the alert always fires.
EVENTS = {"RedisRestarted", "MonitoringRestarted", "DeadMansSwitch"}


def unexpected(names):
    """Without latency, because one slow response in a thousand is a ticket, and other programs use this machine too."""
    return {name for name in names if name not in EVENTS and not name.startswith("Latency")}


@pytest.fixture
def alertmanager(stack):
    """Alertmanager, which sends to Nginx, while nothing else is wrong. Error budgets take minutes to recover."""
    compose("--profile", "alertmanager", "up", "-d", "--no-deps", "alertmanager")
    wait_for("the dead man's switch is sent", lambda: "DeadMansSwitch" in sent(), 90)
    wait_for("nothing is wrong", lambda: all("Burn" in name for name in unexpected(firing())), 180)
    yield
    compose("rm", "-s", "-f", "alertmanager")


def assert_sent_within_30_s(name, began):
    alert = wait_for(f"{name} is sent", lambda: [alert for alert in told(began) if alert["alertname"] == name], 60)[0]
    print(f"{name} is sent {alert['at'] - began:.0f} s after its fault")
    assert alert["at"] - began < 30, name


@contextlib.contextmanager
def redis_is_lost(load):
    redis = containers("redis")[0]["Id"]
    failures = 'sum(nginx_responses_total{client="user",status=~"5.."})'
    before, began = query(failures)[0]["value"][1], time.time()
    docker("stop", "-t", "0", redis)
    try:
        assert_sent_within_30_s("RedisDown", began)
        # It fires, and is not sent, because RedisDown explains it.
        wait_for("RunningOnBypass fires", lambda: "RunningOnBypass" in firing(), 60)
        assert "RunningOnBypass" not in sent(began)
        # An uptime checker notices, and no user has a failure.
        assert {fetch("/health")[0] for _ in range(60)} == {503}
        assert query(failures)[0]["value"][1] == before
        assert load.failures == []
        yield
    finally:
        docker("start", redis)


def lose_all_replicas():
    replicas = [container["Id"] for container in containers("app")]
    began = time.time()
    docker("kill", *replicas)
    try:
        assert_sent_within_30_s("NoReplica", began)
        effects = {"ErrorRatioHigh", "ReplicasFewerThanExpected"}
        wait_for("its effects fire", lambda: effects <= firing(), 30)
        assert {fetch("/mood")[0] for _ in range(20)} == {502}
        wait_for("each 502 is a failure", lambda: query("mood:errors:ratio_rate15s > 0.9"), 30)
    finally:
        docker("start", *replicas)


def let_nginx_hang():
    """Nginx also receives the alerts, so this one is read from Prometheus."""
    nginx = containers("nginx")
    docker("pause", nginx[0]["Id"])
    try:
        wait_for("NginxDown fires", lambda: "NginxDown" in firing(), 29)
    finally:
        unpause(nginx)


@pytest.mark.slow
def test_outages_are_sent_within_30_s_and_nothing_fires_after_them_or_after_scaling_down(alertmanager):
    with Load(rate=30, clients=8) as load:
        with redis_is_lost(load):
            lose_all_replicas()
    assert set(load.failures) == {"status 502"}
    let_nginx_hang()
    script("scale.sh", "3")
    wait_for("moods are cached", lambda: fetch("/mood")[1]["X-Cache"] == "HIT")
    # Until Prometheus has noticed that all is well, an alert may begin.
    time.sleep(10)
    before, began = unexpected(firing()), time.time()
    script("scale.sh", "1")
    with Load(rate=30, clients=4) as load:
        while time.time() < began + 60:
            assert unexpected(firing()) <= before
            time.sleep(2)
    assert load.failures == []
    assert unexpected(sent(began + 2)) == set()
