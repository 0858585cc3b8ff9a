"""The plots of docs/performance.md. Each is narrow, because it must be read on a phone as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from benchmarks.machine import binary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each engine's own colour and marker, whichever others are there; copies are black.
STYLES = {
    "numbapool": ("#1f5fa8", "o"),
    "onnxruntime": ("#a6447f", "s"),
    "openvino": ("#e6a000", "D"),
    "torch": ("#d95f02", "^"),
    "jax": ("#1b9e77", "v"),
    "scipy": ("#7f7f7f", "P"),
    "skimage": ("#4fb0e0", "X"),
    "cv2": ("#7a4a1e", "<"),
}
# Passes of the plot of windows, from the least to the most time.
COLOURS = ("#1b9e77", "#1f5fa8", "#d95f02", "#a6447f")
WIDTH = 5.2  # inches; on a phone, where the picture is 360 pixels wide, a letter of size 9 has the height of 9 pixels


@contextmanager
def figure_of(height: float, panels: int = 1) -> Iterator[Figure]:
    """A figure of so many inches, with its panels one above the other."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.3}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.subplots(panels)
        yield figure


@contextmanager
def case_rows(measured: Sequence[dict[str, Any]], label: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure with a band for each case, from top to bottom, the case's name above its markers; a logarithmic axis."""
    with figure_of(0.29 * len(measured) + 1.6) as figure:
        axes = figure.axes[0]
        yield figure, axes
        for position, row in enumerate(measured):
            if position % 2 == 0:
                axes.axhspan(position - 0.7, position + 0.3, color="#f3f3f3", zorder=0)
            ground = {"facecolor": "#f3f3f3" if position % 2 == 0 else "white", "edgecolor": "none", "pad": 0.6}
            axes.annotate(
                row["case"],
                (0, position - 0.42),
                (2, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                verticalalignment="center",
                fontsize=7.5,
                bbox=ground,
                zorder=1.5,  # above lines, and below markers
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(measured) - 0.7, -0.7)
        axes.grid(axis="x")
        axes.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, frameon=False)


def plot_speedup(measured: Sequence[dict[str, Any]]) -> Figure:
    """How many times longer each peer takes in each case."""
    label = "time over numbapool's; right of the line numbapool is faster"
    with case_rows(measured, label) as (figure, axes):
        axes.axvline(1, color="black", linewidth=1, zorder=1)
        for name, (colour, marker) in STYLES.items():
            points = [
                (row["seconds"][name] / row["seconds"]["numbapool"], position)
                for position, row in enumerate(measured)
                if name in row["seconds"]
            ]
            if points and name != "numbapool":
                mean = geometric_mean(ratio for ratio, _ in points)
                label = f"{name}, mean {mean:.3g}x of {len(points)}"
                axes.scatter(*zip(*points, strict=True), s=20, color=colour, marker=marker, label=label, zorder=2)
    return figure


def plot_bandwidth(measured: Sequence[dict[str, Any]]) -> Figure:
    """Bytes that a call reads and writes a second, by numbapool and the fastest other library, and those of a copy."""
    peers = [name for name in STYLES if name != "numbapool"]
    with case_rows(measured, "GB/s read and written, forward") as (figure, axes):
        series: dict[str, list[tuple[float, int]]] = {"a copy": [], "numbapool": [], "fastest other library": []}
        for position, row in enumerate(measured):
            speeds = {name: row["moved_bytes"] / seconds / 1e9 for name, seconds in row["seconds"].items()}
            others = [speeds[name] for name in peers if name in speeds]
            series["a copy"].append((speeds["copy"], position))
            series["numbapool"].append((speeds["numbapool"], position))
            series["fastest other library"] += [(max(others), position)] if others else []
        styles = {
            "a copy": {"color": "black", "marker": "|", "s": 60},
            "numbapool": {"color": STYLES["numbapool"][0], "s": 20},
            "fastest other library": {"facecolors": "none", "edgecolors": "#7f7f7f", "s": 20},
        }
        for name, points in series.items():
            if points:
                axes.scatter(*zip(*points, strict=True), label=name, zorder=2, **styles[name])
    return figure


def plot_windows(measured: Sequence[dict[str, Any]]) -> Figure:
    """Time of each pass against the size of the window."""
    windows = [row["window"] for row in measured]
    names = [name for name in measured[0]["seconds"] if name != "copy"]
    passes = ["forward", "backward with indices", "indices", "backward"]
    with figure_of(4.6) as figure:
        axes = figure.axes[0]
        for name in names:
            times = [1e3 * row["seconds"][name] for row in measured]
            kind, _, pass_ = name.partition(" ")
            colour = COLOURS[passes.index(pass_)]
            axes.plot(windows, times, "o-" if kind == "max" else "s--", color=colour, markersize=4, label=name)
        copies = [1e3 * row["seconds"]["copy"] for row in measured]
        axes.plot(windows, copies, color="black", linewidth=1, label="copy of the image")
        axes.set_xlabel("side of the window, stride 1, elements")
        axes.set_ylabel("ms for an image of 1024x1024 float32")
        axes.set_yscale("log")
        axes.set_xscale("log")
        # From 9 on, every other one: there would be no room.
        shown = [window for number, window in enumerate(windows) if window < 9 or number % 2]
        axes.set_xticks(shown, [str(window) for window in shown])
        axes.yaxis.set_major_locator(_one_two_five())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid()
        figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, frameon=False)
    return figure


def plot_sizes(measured: Sequence[dict[str, Any]], bandwidth: bool) -> Figure:
    """Time of a call against the size of its input, or GB/s; one panel a pooling, one thread dashed, all solid."""
    poolings = list(dict.fromkeys(row["pooling"] for row in measured))
    threads = sorted({row["threads"] for row in measured})
    with figure_of(2.3 * len(poolings) + 0.9, len(poolings)) as figure:
        for pooling, axes in zip(poolings, figure.axes, strict=True):
            for name in ("numbapool", "torch", "copy"):
                colour, marker = STYLES.get(name, ("black", ""))
                for count in threads:
                    rows = [row for row in measured if (row["pooling"], row["threads"]) == (pooling, count)]
                    rows = [row for row in rows if name in row["seconds"]]
                    scales = [row["moved_bytes"] / 1e9 if bandwidth else 1e3 for row in rows]
                    seconds = [row["seconds"][name] for row in rows]
                    values = [
                        scale / time if bandwidth else scale * time for scale, time in zip(scales, seconds, strict=True)
                    ]
                    axes.plot(
                        [row["input_bytes"] for row in rows],
                        values,
                        "-" if count == threads[-1] else "--",
                        color=colour,
                        marker=marker,
                        markersize=4,
                        linewidth=1.2 if marker else 1,
                        label=f"{name}, {count} thread{'s' if count > 1 else ''}",
                    )
            sizes = sorted({row["input_bytes"] for row in measured})[::2]
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(sizes, [binary(size) for size in sizes])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(pooling, loc="left", fontsize=9)
            axes.set_ylabel("GB/s" if bandwidth else "ms")
            axes.grid()
        figure.axes[-1].set_xlabel("size of the input, float32, 16 channels")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8.5, frameon=False)
    return figure


def _one_two_five() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1, 2, 5))
