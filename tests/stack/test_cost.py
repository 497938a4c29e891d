"""What the service and a request cost, within loose bounds, so that neither creeps up. docs/footprint.md has the real figures.

The machine may be shared: what misses a bound is measured once more.
"""

import json
import subprocess
import sys

import pytest

from stack import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("load_generator")]


def figures_beside_axum():
    """Medians of three rounds of ours, of axum's, and both as ratios."""
    file = ROOT / "target/bench/test_cost.json"
    command = [ROOT / "scripts/density.sh", "--peers", "axum", "--rounds", "3", "--seconds", "2", "--replicas", "0", "--json", file]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if result.returncode:
        raise AssertionError(result.stderr[-2000:])
    services = json.loads(file.read_text())["services"]
    ours, axum = services["ours"], services["axum"]
    return ours | {f"{name} of axum's": ours[name] / axum[name] for name in ours if axum.get(name)}


# Beside the same service by axum, in the same minutes: about twice what is measured on a quiet machine.
MOST = {
    "image, bytes of axum's": 0.05, "idle proportional, bytes of axum's": 0.5, "loaded proportional, bytes of axum's": 0.5,
    "CPU a request, µs, 32 of axum's": 2, "p50, ms, 32 of axum's": 2, "p99, ms, 32 of axum's": 2,
    "exec to first 200, ms of axum's": 1, "idle proportional, bytes": 1.3 * 2**20, "idle wake-ups a second": 1.5,
}


def test_the_service_costs_little_beside_axum():
    missed = MOST
    # A noisy minute hits some figures, and others the next time: what was well once is.
    for _ in range(2):
        figures = figures_beside_axum()
        for name in missed:
            print(f"{name}: {figures[name]:.2f}, at most {MOST[name]:.2f}")
        missed = [name for name in missed if figures[name] > MOST[name]]
        if not missed:
            return
    pytest.fail(str({name: (figures[name], MOST[name]) for name in missed}))


def test_passing_on_log_lines_costs_a_quarter_of_the_rest_at_most():
    shares = []
    while len(shares) < 2 and min(shares, default=1) > 1 / 4:
        shares.append(share_of_passing_on())
    assert min(shares) <= 1 / 4, shares


def share_of_passing_on():
    """The engine's CPU beside that of Nginx, the service and Redis."""
    command = [sys.executable, ROOT / "bench", "stack", "--replicas", "2", "--connections", "32", "--seconds", "4"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-1000:]
    print(result.stdout)
    nginx, mood, redis, dockerd, shim = map(float, result.stdout.splitlines()[-1].split()[5:10])
    return (dockerd + shim) / (nginx + mood + redis)
