"""A chart of the figures that `density` has written, as SVG. Needs matplotlib."""

import json
from pathlib import Path

PANELS = (
    ("image, bytes", "Image", "MiB", 2**20),
    ("idle proportional, bytes", "Memory, idle", "MiB", 2**20),
    ("exec to first 200, ms", "Start to first response", "ms", 1),
    ("CPU a request, µs, 32", "CPU per request", "µs", 1),
)
TITLES = {"ours": "Mood of the Day", "go": "Go", "flask": "Flask"}
OURS, OTHERS, INK = "#1f77b4", "#b8c4ce", "#57606a"


def add_arguments(parser):
    parser.add_argument("figures", metavar="FIGURES.json", type=Path)
    parser.add_argument("chart", metavar="CHART.svg", type=Path)


def run(arguments):
    draw(json.loads(arguments.figures.read_text())["services"], arguments.chart)


def draw(services, file):
    try:
        import matplotlib.pyplot as pyplot
    except ImportError:
        raise SystemExit("error: matplotlib is missing: python3 -m pip install matplotlib")
    # axum-1 is the same program as axum.
    names = [name for name in services if name != "axum-1"]
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
        panel.spines[:].set_visible(False)
    panels[0].set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


def table(services):
    """A row per figure and a column per service. The ratio to ours stands behind each value."""
    rows = [["", *services]]
    for figure, ours in services["ours"].items():
        values = [figures.get(figure) for figures in services.values()]
        ratios = [f" ({times(value / ours)})" if value is not None and ours else "" for value in values]
        rows.append([figure, *(shown(figure, value) + ratio for value, ratio in zip(values, ["", *ratios[1:]]))])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(f"{row[0]:{widths[0]}}  " + "  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows)


def shown(figure, value):
    if value is None:
        return "-"
    if "bytes" in figure:
        return f"{value / 2**20:.2f} MiB"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def times(ratio):
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.2g}×"
