#!/usr/bin/env python3
"""Draws what bench/density.py measured: bench/chart.py FIGURES.json CHART.svg"""

import json
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

PANELS = (
    ("image, bytes", "Image", "MB", 2**20),
    ("idle proportional, bytes", "Memory, idle", "MB", 2**20),
    ("exec to first 200, ms", "Start to first answer", "ms", 1),
    ("CPU a request, µs, 32", "CPU a request", "µs", 1),
)
NAMES = {"ours": "Mood of the Day", "axum": "axum", "go": "Go", "flask": "Flask"}
OURS, OTHERS, INK = "#1f77b4", "#b8c4ce", "#57606a"


def times(ratio):
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def main():
    source, target = sys.argv[1:]
    services = json.load(open(source))["services"]
    names = [name for name in services if name in NAMES or name in ("whoami", "podinfo", "http-echo")]
    pyplot.rcParams.update({"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "mood"})
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(10, 0.42 * len(names) + 0.9), sharey=True)
    for panel, (name, title, unit, scale) in zip(panels, PANELS):
        values = [services[service][name] / scale for service in names]
        panel.barh(range(len(names)), values, color=[OURS if service == "ours" else OTHERS for service in names], height=0.62)
        for place, value in enumerate(values):
            text = f"{value:.3g}" if value < 100 else f"{value:.0f}"
            ratio = "" if place == 0 else f"  {times(value / values[0])}"
            panel.annotate(f"{text} {unit}{ratio}", (value, place), (3, 0), textcoords="offset points", va="center", color=INK, fontsize=8)
        panel.set_title(title, loc="left", color=INK, fontsize=10, fontweight="bold")
        panel.set_xlim(0, max(values) * 1.75)
        panel.xaxis.set_visible(False)
        panel.tick_params(left=False, colors=INK)
        for side in panel.spines.values():
            side.set_visible(False)
    panels[0].set_yticks(range(len(names)), [NAMES.get(name, name) for name in names])
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(target, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
