"""The alert rules, replayed by promtool."""

import json

import pytest

import alert_ends
from stack import ROOT, SETTINGS, docker

FEW_DURATIONS = alert_ends.DURATIONS[::4]


def promtool(*arguments):
    image = SETTINGS["PROMETHEUS_IMAGE"]
    result = docker("run", "--rm", "--network=none", f"-v{ROOT}:/rules:ro", "-w/rules/tests", "--entrypoint", "promtool", image, *arguments, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_rules_are_valid():
    promtool("check", "rules", "../prometheus/alerts.yml")


def test_each_alert_fires_and_is_silent():
    promtool("test", "rules", "alerts.yml")


@pytest.mark.parametrize("durations", [
    FEW_DURATIONS,
    pytest.param(sorted({*alert_ends.DURATIONS} - {*FEW_DURATIONS}), marks=pytest.mark.slow),
], ids=str)
def test_no_alert_begins_after_its_fault(durations):
    cases = ROOT / "target/alert-ends.json"
    cases.write_text(json.dumps(alert_ends.cases("../prometheus/alerts.yml", durations)))
    promtool("test", "rules", "../target/alert-ends.json")
