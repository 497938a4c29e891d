"""chaos.sh around its experiments: mistakes, results for other programs, and that nothing stays broken."""

import json
import os
import signal
import subprocess
import time

import pytest

from stack import ROOT, containers, docker, fetch, run, wait_for

pytestmark = pytest.mark.usefixtures("stack")


def chaos(*arguments):
    return run("chaos.sh", *arguments, timeout=120)


def test_mistakes_are_named():
    for arguments, named in ((["no-such"], "no-such"), (["--rate", "5"], "10 to 5000"), (["--seconds"], "--seconds"),
                             (["--rate", "many"], "--rate"), (["--bogus"], "--bogus")):
        result = chaos(*arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert named in result.stderr


def test_each_experiment_is_listed_and_documented():
    listed = [line.split()[0] for line in chaos("--list").stdout.splitlines()]
    assert len(listed) > 15
    code = (ROOT / "scripts/experiments.sh").read_text()
    table = (ROOT / "docs/faults.md").read_text()
    for name in listed:
        assert f"break_{name.replace('-', '_')}() {{" in code
        assert f"| `{name}` |" in table


def test_the_results_are_there_for_other_programs_and_a_missed_bound_is_an_exit_code():
    result = chaos("--json", "--seconds", "2", "--rate", "100", "reload-nginx")
    assert result.returncode == 0, result.stderr
    experiment = json.loads(result.stdout)["experiments"][0]
    assert (experiment["name"], experiment["failed"]) == ("reload-nginx", 0)
    assert experiment["requests"] > 500
    assert [bound["kept"] for bound in experiment["bounds"]] == [True]


def test_what_was_broken_is_healed_on_ctrl_c():
    redis = containers("redis")[0]["Id"]
    replicas = len(containers("app"))

    def is_paused():
        return docker("inspect", "-f", "{{.State.Paused}}", redis) == "true"

    process = subprocess.Popen(
        [ROOT / "scripts/chaos.sh", "pause-redis"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        # Whoever runs the tests in the background has it ignored, and then bash cannot but ignore it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for("Redis is paused", is_paused, 60)
        # Past the command itself, into the ten seconds that it lasts.
        time.sleep(2)
    finally:
        # As a terminal does: the whole group.
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not is_paused()
    assert len(containers("app")) == replicas
    wait_for("moods are cached", lambda: fetch("/mood")[1]["X-Cache"] == "HIT")
