"""The dashboard: its form against Grafana's own schema, and its expressions against the running Prometheus."""

import json
import re
import unittest

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from stack import ROOT, Load, query, wait_for

FILE = ROOT / "grafana/dashboards/mood-app-nginx-redis.json"
TYPES = {"row", "timeseries", "stat", "gauge", "bargauge", "table", "heatmap", "state-timeline"}

# Expressions that are rightly empty when all is well, and why.
EMPTY_WHEN_WELL = {
    'ALERTS{alertstate="firing",alertname!="DeadMansSwitch"}': "nothing fires",
    "unless count by (version, commit) (mood_build_info": "nothing was deployed in the last minute",
    '!= count(up{job="app"} offset 15s)': "the number of replicas does not change",
    "mood:error_budget:remaining3d": "until the rules were evaluated once with requests",
}

# Fields that Grafana reads and that its schema for code generation does not have.
BESIDE_THE_SCHEMA = re.compile(
    r"^/id$|^/annotations/list/\d+/(titleFormat|textFormat|step|useValueForTime)$|^/templating/list/\d+/definition$"
)


def dashboard():
    return json.loads(FILE.read_text())


def panels():
    return dashboard()["panels"]


def expressions():
    found = dashboard()
    for panel in found["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in found["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


class Form(unittest.TestCase):
    def test_it_can_be_provisioned_and_imported(self):
        found = dashboard()
        self.assertIsNone(found["id"])
        self.assertEqual((found["uid"], found["schemaVersion"]), ("mood-app-nginx-redis", 42))
        self.assertNotIn("__inputs", found)
        names = {variable["name"]: variable["type"] for variable in found["templating"]["list"]}
        self.assertEqual(names, {"datasource": "datasource", "replica": "query", "interval": "interval"})
        for variable in names:
            self.assertRegex(FILE.read_text(), rf"\$\{{?{variable}\b", variable)

    def test_no_field_is_unknown_to_grafana_s_schema(self):
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
                self.assertEqual(len(one), len(other), path)
                for index, value in enumerate(one):
                    compare(value, other[index], f"{path}/{index}")
            else:
                self.assertEqual(one, other, path)

        compare(ours, theirs, "")
        self.assertEqual([path for path in lost if not BESIDE_THE_SCHEMA.search(path)], [])

    def test_panels_have_what_a_reader_needs(self):
        ids = [panel["id"] for panel in panels()]
        self.assertEqual(len(ids), len(set(ids)))
        rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
        self.assertEqual(rows, ["Overview", "App", "Nginx", "Redis"])
        for panel in panels():
            with self.subTest(panel["title"]):
                self.assertIn(panel["type"], TYPES)
                if panel["type"] == "row":
                    continue
                self.assertRegex(panel["description"], r"^[A-Z9].*\.$")
                defaults = panel["fieldConfig"]["defaults"]
                self.assertTrue(defaults["unit"])
                self.assertTrue(defaults["thresholds"]["steps"])
                for target in panel["targets"]:
                    self.assertEqual(target["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                    if "rate(" in target["expr"]:
                        self.assertIn("[$__rate_interval]", target["expr"])
                        self.assertNotRegex(target["expr"], r"rate\([^\[]*\[(?!\$__rate_interval)")
                self.assertEqual(panel["datasource"]["uid"], "${datasource}")

    def test_nothing_overlaps_and_everything_is_on_the_grid(self):
        taken = {}
        for panel in panels():
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} covers {taken.get((x, y))}")
                    taken[x, y] = panel["title"]


class Live(unittest.TestCase):
    def test_every_expression_gives_data(self):
        # Rates and ratios exist only while somebody asks.
        with Load(rate=50, clients=4):
            self.check_expressions()

    def check_expressions(self):
        for title, expression in expressions():
            for name, value in {"$__rate_interval": "1m", "$interval": "5m", "$replica": ".*"}.items():
                expression = expression.replace(name, value)
            with self.subTest(title, expression=expression):
                if any(part in expression for part in EMPTY_WHEN_WELL):
                    # It must still be one that Prometheus understands.
                    query(expression)
                else:
                    wait_for(f"{title}: {expression}", lambda expression=expression: query(expression), 60)


if __name__ == "__main__":
    unittest.main()
