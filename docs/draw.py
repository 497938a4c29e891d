#!/usr/bin/env python3
"""Draws the dashboard's rows as Prometheus recorded them: the expressions are those of the dashboard itself.

Usage: docs/draw.py PROMETHEUS_URL FROM TO     (Unix seconds; writes docs/story-<row>.png)
"""
import json
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

DOCS = Path(__file__).resolve().parent
DASHBOARD = DOCS.parent / "grafana/dashboards/mood-app-nginx-redis.json"
STEP = 5
COLOURS = {
    "green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "blue": "#3274d9", "light-blue": "#6e9fe6",
    "super-light-blue": "#a9c8f5", "purple": "#8f3bb8", "light-purple": "#b877d9", "text": "#8e8e8e",
}
FACTOR = {"s": (1000, "ms"), "bytes": (1 / 1048576, "MB"), "percentunit": (100, "%")}


def recorded(prometheus, expression, begin, end):
    """[(labels, times in minutes, values)] of an expression over the time; NaN where there was no value."""
    for name, value in {"$__rate_interval": "20s", "$interval": "1m", "$replica": ".*"}.items():
        expression = expression.replace(name, value)
    query = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": STEP})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as response:
        result = json.load(response)["data"]["result"]
    steps = range(begin, end + 1, STEP)
    times = [(at - begin) / 60 for at in steps]
    found = [(series["metric"], dict(series["values"])) for series in result]
    return [(labels, times, [float(values.get(at, "nan")) for at in steps]) for labels, values in found]


def legend_of(target, labels):
    text = target["legendFormat"]
    for name, value in labels.items():
        text = text.replace("{{%s}}" % name, value)
    return text


def colour_of(panel, legend, place):
    """The colour of a series; of those without one of their own a shade, by its place from 0 to 1."""
    for override in panel["fieldConfig"]["overrides"]:
        if re.search(override["matcher"]["options"], legend):
            return COLOURS[override["properties"][0]["value"]["fixedColor"]]
    return plt.cm.Blues(0.45 + 0.5 * place)


def draw(axes, panel, prometheus, begin, end):
    lines = [
        (legend_of(target, labels), times, values)
        for target in panel["targets"]
        for labels, times, values in recorded(prometheus, target["expr"], begin, end)[:8]
    ]
    factor, unit = FACTOR.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
    if unit == "ms" and any(value > 10 for _, _, values in lines for value in values):
        factor, unit = 1, "s"
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    lines = [(legend, times, [value * factor for value in values], colour_of(panel, legend, place / max(1, len(lines) - 1)))
             for place, (legend, times, values) in enumerate(lines)]
    if custom.get("stacking", {}).get("mode") == "normal" and lines:
        axes.stackplot(lines[0][1], *(np.nan_to_num(values) for _, _, values, _ in lines), lw=0, alpha=0.7,
                       labels=[legend for legend, *_ in lines], colors=[colour for *_, colour in lines])
    else:
        for legend, times, values, colour in lines:
            axes.plot(times, values, lw=1.3, label=legend, color=colour)
    axes.set_title(panel["title"] + (f" ({unit})" if unit else ""), fontsize=10, loc="left")
    # Room for the legend above the lines, by its rows.
    axes.set_ylim(0, axes.get_ylim()[1] * (1.05 + 0.1 * -(-len(lines) // 2)))
    axes.set_xlim(0, (end - begin) / 60)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    if lines:
        axes.legend(fontsize=7, loc="upper left", ncols=2, framealpha=0.6)


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    prometheus, begin, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rows, name = {}, None
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            name = panel["title"]
            rows[name] = []
        elif panel["type"] in ("timeseries", "stat", "gauge") and panel["title"] != "Today's mood":
            rows[name].append(panel)
    for name, panels in rows.items():
        height = -(-len(panels) // 3)
        figure, grid = plt.subplots(height, 3, figsize=(13.5, 2.6 * height), squeeze=False, layout="constrained")
        for axes, panel in zip(grid.flat, panels):
            draw(axes, panel, prometheus, begin, end)
        for axes in list(grid.flat)[len(panels):]:
            axes.set_visible(False)
        figure.supxlabel("minutes", fontsize=9)
        figure.savefig(DOCS / f"story-{name.lower()}.png", dpi=85)
        plt.close(figure)
        print(f"docs/story-{name.lower()}.png")


if __name__ == "__main__":
    main()
