"""The plots of docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

from benchmarks.report import DOCS

# From most to least saturated, so that neighbours differ in print as well.
COLOURS = ("#1f5fa8", "#d95f02", "#1b9e77", "#a6447f", "#7f7f7f")


def plot_speedup(measured: Sequence[dict[str, Any]], peers: Sequence[str]) -> None:
    """docs/performance-speedup.png: how many times longer each peer takes for the forward of each case."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    rows = [row for row in measured if row["pass"] == "forward"][::-1]
    figure = Figure(figsize=(9, 0.26 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(peers, COLOURS, strict=False):
        points = [
            (row["seconds"][name] / row["seconds"]["numbapool"], position)
            for position, row in enumerate(rows)
            if name in row["seconds"]
        ]
        if points:
            mean = geometric_mean(ratio for ratio, _ in points)
            axes.scatter(*zip(*points, strict=True), s=22, color=colour, label=f"{name} (geometric mean {mean:.1f}x)")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(alpha=0.3)
    axes.set_xlabel("time of the other library over numbapool's; right of the line numbapool is faster")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(DOCS / "performance-speedup.png", dpi=120)


def plot_windows(measured: Sequence[dict[str, Any]]) -> None:
    """docs/performance-windows.png: time of each pass against the size of the window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    windows = [row["window"] for row in measured]
    names = [name for name in measured[0]["seconds"] if name != "copy"]
    for name in names:
        times = [1e3 * row["seconds"][name] for row in measured]
        kind, _, pass_ = name.partition(" ")
        order = sorted({each.partition(" ")[2] for each in names}).index(pass_)
        axes.plot(windows, times, "o-" if kind == "max" else "s--", color=COLOURS[order], markersize=4, label=name)
    copies = [1e3 * row["seconds"]["copy"] for row in measured]
    axes.plot(windows, copies, color="black", linewidth=1, label="copy of the image")
    axes.set_xlabel("side of the window, stride 1, elements")
    axes.set_ylabel("ms for an image of 1024x1024 float32")
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_xticks(windows, [str(window) for window in windows])
    axes.minorticks_off()
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(DOCS / "performance-windows.png", dpi=120)
