"""The dashboard: its form against Grafana's own schema, and its expressions against the running Prometheus."""

import json
import os
import re
import subprocess
import sys

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from stack import ROOT, Load, containers, fetch, query, script, wait_for

FILE = ROOT / "grafana/dashboards/mood-app-nginx-redis.json"
TYPES = {"row", "timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "state-timeline"}

# Expressions that are rightly empty when all is well, and why.
EMPTY_WHEN_WELL = {
    "ALERTS{": "no page and no ticket begins or ends",
    "count by (version, commit) (mood_build_info": "nothing was deployed, and the number of replicas does not change",
    "mood:error_budget:remaining3d": "until the rules were evaluated once with requests",
}

# The series that can occur, by the label that names them. Hosts are named by nobody beforehand.
NAMES = {
    "status": "200 303 304 400 404 405 408 411 413 414 417 429 431 499 500 502 503 504 505".split(),
    "result": {"Cache": ["hit", "miss", "bypass"], "Upstream tries that failed": ["retried", "failed"]},
    "state": ["idle", "in_use"],
    "kind": ["connect", "timeout", "io", "reply", "busy"],
    "cmd": ["get", "expiretime", "set"],
}
# What a colour says. Everything else is neutral.
MEANINGS = {
    r"2\d\d|hit|hits": {"green"},
    r"3\d\d|miss": {"blue"},
    r"4\d\d|retried|maxmemory": {"orange"},
    r"5\d\d|bypass|failed|stuck|error: .*": {"red"},
    r".*": {"blue", "light-blue", "super-light-blue", "purple", "light-purple", "text"},
}

# Fields that Grafana reads and that its schema for code generation does not have.
BESIDE_THE_SCHEMA = re.compile(
    r"^/id$|^/annotations/list/\d+/(titleFormat|textFormat|step|useValueForTime)$|^/templating/list/\d+/definition$"
)


def dashboard():
    return json.loads(FILE.read_text())


def panels(*types):
    return [panel for panel in dashboard()["panels"] if not types or panel["type"] in types]


def series_of(panel):
    """The names that can stand in a panel's legend; None for hosts."""
    for target in panel["targets"]:
        label = re.search(r"\{\{(\w+)\}\}", target["legendFormat"])
        if not label:
            yield target["legendFormat"]
        elif label[1] == "host":
            yield None
        else:
            names = NAMES[label[1]]
            for name in names[panel["title"]] if isinstance(names, dict) else names:
                yield target["legendFormat"].replace(label[0], name)


def replica_variable():
    return next(variable for variable in dashboard()["templating"]["list"] if variable["name"] == "replica")


def expressions():
    found = dashboard()
    for panel in found["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in found["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


def test_it_can_be_provisioned_and_imported():
    found = dashboard()
    assert found["id"] is None
    assert (found["uid"], found["schemaVersion"]) == ("mood-app-nginx-redis", 42)
    assert "__inputs" not in found
    names = {variable["name"]: variable["type"] for variable in found["templating"]["list"]}
    assert names == {"datasource": "datasource", "replica": "query", "interval": "interval"}
    for variable in names:
        assert re.search(rf"\$\{{?{variable}\b", FILE.read_text()), variable


def test_no_field_is_unknown_to_grafana_s_schema():
    plugins.register_default_plugins()
    ours = dashboard()
    theirs = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
    lost = []

    def compare(one, other, path):
        if isinstance(one, dict):
            for key, value in one.items():
                if not isinstance(other, dict) or key not in other:
                    lost.append(f"{path}/{key}")
                else:
                    compare(value, other[key], f"{path}/{key}")
        elif isinstance(one, list):
            assert len(one) == len(other), path
            for index, value in enumerate(one):
                compare(value, other[index], f"{path}/{index}")
        else:
            assert one == other, path

    compare(ours, theirs, "")
    assert [path for path in lost if not BESIDE_THE_SCHEMA.search(path)] == []


@pytest.mark.slow
def test_the_schema_of_grafana_11_6_has_every_field_too():
    """Of the dashboard and the alert rules. The pinned version of Grafana lies between the two schemas."""
    folder = ROOT / "target/python/grafana-11.6"
    package = "grafana-foundation-sdk==1769699379!11.6.0"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", folder, package], check=True)
    tests = [ROOT / "tests/stack" / f"test_{name}.py::test_no_field_is_unknown_to_grafana_s_schema" for name in ("dashboard", "alerts")]
    result = subprocess.run([sys.executable, "-m", "pytest", *tests], env=os.environ | {"PYTHONPATH": str(folder)})
    assert result.returncode == 0


def test_panels_have_what_a_reader_needs():
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Overview", "App", "Nginx", "Redis"]
    for panel in panels():
        assert panel["type"] in TYPES
        if panel["type"] == "row":
            continue
        assert re.search(r"^[A-Z9].*\.$", panel["description"])
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert defaults["thresholds"]["steps"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            if "rate(" in target["expr"]:
                assert "[$__rate_interval]" in target["expr"]
                assert not re.search(r"rate\([^\[]*\[(?!\$__rate_interval)", target["expr"])
        assert panel["datasource"]["uid"] == "${datasource}"


def test_nothing_overlaps_and_everything_is_on_the_grid():
    taken = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_colours_say_what_is_wrong():
    for panel in panels("timeseries"):
        defaults = panel["fieldConfig"]["defaults"]
        for name in series_of(panel):
            if name is None:
                # A palette would paint the fourth replica red.
                assert defaults["color"] == {"mode": "shades", "fixedColor": "blue"}
                continue
            matching = [override for override in panel["fieldConfig"]["overrides"]
                        if re.fullmatch(override["matcher"]["options"], name)]
            assert len(matching) == 1
            colour = matching[0]["properties"][0]
            assert (colour["id"], colour["value"]["mode"]) == ("color", "fixed")
            meant = next(meant for pattern, meant in MEANINGS.items() if re.fullmatch(pattern, name))
            assert colour["value"]["fixedColor"] in meant


def test_calm_looks_calm():
    for panel in panels("timeseries"):
        custom = panel["fieldConfig"]["defaults"]["custom"]
        if custom["stacking"]["mode"] == "normal":
            # A series that is zero would draw its line along the top of the stack.
            assert (custom["lineWidth"], custom["fillOpacity"]) == (0, 70), panel["title"]
        if panel["title"] in ("Rate-limited", "Upstream tries that failed"):
            # Else an empty axis runs to 100.
            assert custom["axisSoftMax"] == 1, panel["title"]
    for panel in panels("stat"):
        if panel["options"]["graphMode"] != "none":
            # Else the scale is cut to the noise.
            assert panel["fieldConfig"]["defaults"]["min"] == 0, panel["title"]
    for panel in panels("stat", "timeseries"):
        if any("increase(" in target["expr"] for target in panel["targets"]):
            assert all(target["expr"].startswith("round(") for target in panel["targets"]), panel["title"]
            assert panel["fieldConfig"]["defaults"]["decimals"] == 0, panel["title"]


def test_alerts_are_marked_where_they_begin_or_end_alone():
    marks = {mark["name"]: mark for mark in dashboard()["annotations"]["list"] if "expr" in mark}
    assert list(marks) == ["Pages", "Pages end", "Tickets", "Changes"]
    for name in ("Pages", "Pages end", "Tickets"):
        # What holds for a while would be painted over every panel.
        assert re.search(r"^(.+?)( offset 15s)? unless \1( offset 15s)?$", marks[name]["expr"])
    assert 'severity="page"' in marks["Pages"]["expr"]
    assert {name for name, mark in marks.items() if not mark["enable"]} == {"Tickets"}


def test_the_header_fits_on_one_line():
    """At 1,500 pixels, by widths as measured in Grafana 12.2; the time picker begins at 857."""
    marks = [mark["name"] for mark in dashboard()["annotations"]["list"] if not mark["hide"]]
    labels = [variable["label"] for variable in dashboard()["templating"]["list"] if variable["hide"] == 0]
    assert labels == ["Replica", "Interval"]
    variables = {"Prometheus": 125, "Replica": 172, "Interval": 119}
    widths = [*variables.values(), *(58 + 8 * len(mark) for mark in marks)]
    assert 16 + sum(11 + width for width in widths) < 857


@pytest.mark.usefixtures("stack")
def test_replicas_go_by_the_names_of_the_log():
    hosts = {container["Config"]["Hostname"] for container in containers("app")}
    wait_for("those that are gone are forgotten", lambda: len(query('up{job="app"} == 1')) == len(hosts))
    wait_for("they are known", lambda: {row["metric"]["host"] for row in query("mood:replica_host:info")} >= hosts)
    assert fetch("/mood")[1]["X-Served-By"] in hosts
    # As Grafana writes a series for the regex of a variable.
    variable = replica_variable()
    assert variable["query"]["query"] == variable["definition"]
    expression = re.fullmatch(r"query_result\((.*)\)", variable["definition"])[1]
    pattern = variable["regex"].strip("/").replace("(?<", "(?P<")
    instances = {row["metric"]["instance"] for row in query('up{job="app"} == 1')}
    found = set()
    for row in query(expression):
        labels = {name: value for name, value in row["metric"].items() if name != "__name__"}
        text = row["metric"]["__name__"] + "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "} 1"
        match = re.search(pattern, text)
        found.add((match["text"], match["value"]))
    assert {text for text, value in found if value in instances} == hosts


@pytest.mark.usefixtures("stack")
def test_today_s_mood_is_the_newest():
    """Each replica goes on reporting what it answered last."""
    script("scale.sh", "3")
    try:
        served = set()
        while len(served) < 3:
            served.add(fetch("/mood")[1]["X-Served-By"])
        refreshed = json.loads(fetch("/refresh", "POST")[2])["mood"].lower()
        panel = next(panel for panel in panels("stat") if panel["title"] == "Today's mood")
        wait_for("three replicas tell of two moods",
                 lambda: len(query('mood_info{job="app"}')) == 3
                 and len(query('count by (mood) (mood_info{job="app"})')) == 2)
        assert [row["metric"]["mood"] for row in query(panel["targets"][0]["expr"])] == [refreshed]
    finally:
        script("scale.sh", "1")


@pytest.mark.usefixtures("stack")
def test_every_expression_gives_data():
    # Rates and ratios exist only while somebody asks.
    with Load(rate=50, clients=4):
        check_expressions()


def check_expressions():
    for title, expression in expressions():
        for name, value in {"$__rate_interval": "1m", "$interval": "5m", "$replica": ".*"}.items():
            expression = expression.replace(name, value)
        if any(part in expression for part in EMPTY_WHEN_WELL):
            # It must still be one that Prometheus understands.
            query(expression)
        else:
            wait_for(f"{title}: {expression}", lambda expression=expression: query(expression), 60)
