"""What the service and a request cost, within loose bounds, so that neither creeps up. docs/footprint.md has the real figures.

The machine is shared: what misses a bound is measured once more.
"""

import json
import subprocess
import unittest

from stack import ROOT


def twice(test):
    """A test that may miss once."""

    def run(self):
        try:
            test(self)
        except AssertionError as missed:
            print(f"once more, since {missed}")
            test(self)

    return run


class Beside(unittest.TestCase):
    """The same service by axum, in the same minutes."""

    @twice
    def test_the_service_costs_little_beside_axum(self):
        figures = ROOT / "target/bench/test_cost.json"
        command = [ROOT / "scripts/density.sh", "--peers", "axum", "--rounds", "3", "--seconds", "2", "--replicas", "0", "--json", figures]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        self.assertEqual(result.returncode, 0, result.stderr[-2000:])
        services = json.loads(figures.read_text())["services"]
        ours, axum = services["ours"], services["axum"]
        # What is measured on a quiet machine, and as much again: a busy one showed 1.9 for the CPU once.
        for name, most in (
            ("image, bytes", 0.05), ("idle proportional, bytes", 0.7), ("loaded proportional, bytes", 0.7),
            ("CPU a request, µs, 32", 2), ("p99, ms, 32", 2), ("exec to first 200, ms", 2),
        ):
            print(f"{name}: {ours[name] / axum[name]:.2f} of axum's, at most {most}")
            self.assertLessEqual(ours[name] / axum[name], most, name)
        self.assertLessEqual(ours["idle proportional, bytes"], 1.3 * 2**20)
        self.assertLessEqual(ours["idle wake-ups a second"], 1.5)


class Stack(unittest.TestCase):
    @twice
    def test_passing_on_log_lines_costs_a_quarter_of_the_rest_at_most(self):
        command = [ROOT / "bench/stack.sh", "--replicas", "2", "--connections", "32", "--seconds", "4"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 0, result.stdout[-1000:] + result.stderr[-1000:])
        print(result.stdout)
        nginx, mood, redis, dockerd, shim = map(float, result.stdout.splitlines()[-1].split()[5:10])
        self.assertLessEqual(dockerd + shim, (nginx + mood + redis) / 4)


if __name__ == "__main__":
    unittest.main()
