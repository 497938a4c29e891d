"""Measures the cost of the service: python3 bench COMMAND --help"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "scripts/lib"))
# Benchmarks start a separate stack alongside any other, without limits per client. stack.py reads these when it is imported.
os.environ.update(
    COMPOSE_PROJECT_NAME="mood-bench", COMPOSE_PROFILES="", HTTP_PORT="18180", PROMETHEUS_PORT="19190",
    GRAFANA_PORT="13100", ALERTMANAGER_PORT="19193", NGINX_LIMITS="off",
)

import console, cpu, density, report, soak, start, whole_stack  # noqa: E401, E402


def main():
    parser = argparse.ArgumentParser(prog="python3 bench", description="Measures the cost of the service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in {"cpu": cpu, "start": start, "stack": whole_stack, "soak": soak, "density": density, "chart": report}.items():
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    console.main(main)
