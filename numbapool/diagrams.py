"""The picture of an explanation: input, padding, windows and outputs of one plane."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from numbapool.arguments import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numbapool.explanation import AxisWindows, Explanation

# Elements of an axis that are drawn, unless the first two windows need more; and slices of a third axis, which are panels.
MOST_CELLS, MOST_SLICES = 20, 8

# Windows along an axis, and panels, that are drawn at most, whatever the first two windows need.
MOST_WINDOWS, MOST_PANELS = 64, 24

# Axes of more elements are drawn without lines between them, and windows of more taps without their taps.
MOST_LINES, MOST_TAPS = 64, 400

TIMES = " \N{MULTIPLICATION SIGN} "
INPUT, LINE, PADDING, TOUCHING = "#dce6f2", "#ffffff", "#8a94a3", "#f3dfc1"
COLOURS = "#0b6bcb", "#d1480f", "#2d7d46"  # of the windows that are picked out


def draw(explanation: Explanation, figure: Figure | None = None) -> Figure:
    """Draw up to three pooled axes: one as a strip with all its windows, two as planes, three as slices of planes."""
    try:
        from matplotlib.figure import Figure, FigureBase  # without pyplot, which would look for a screen
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install 'numbapool[demo]'") from error
    axes = explanation.axes
    if explanation.error is not None:
        raise ValueError(
            f"there is nothing to draw, for the call will raise {explanation.error}"
        ) from explanation.error
    if not 1 <= len(axes) <= 3:
        raise ValueError(f"pictures have up to three pooled axes, got {len(axes)}")
    if explanation.windows == 0:
        raise ValueError(f"there is nothing to draw: {explanation.call} has no windows")
    extents = [_Extent(axis, MOST_CELLS) for axis in axes[-2:]]
    if len(axes) == 3:
        extents.insert(0, _Extent(axes[0], MOST_SLICES, MOST_PANELS))
    figure = Figure() if figure is None else figure
    if not isinstance(figure, FigureBase):
        raise TypeError(f"figure must be a matplotlib Figure, got {shown(figure)} of type {type(figure).__name__}")
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    if len(axes) == 1:
        _draw_strip(figure, explanation, extents[0])
    else:
        _draw_planes(figure, explanation, extents)
    width = int(figure.get_size_inches()[0] * 10.5)
    figure.suptitle(textwrap.fill(explanation.call, width), fontsize=11, family="monospace")
    return figure


class _Extent:
    """The part of an axis that is drawn: from the first padding or tap on, to the end or to a whole window."""

    def __init__(self, axis: AxisWindows, most: int, limit: int | None = None) -> None:
        self.axis = axis
        self.first = min(-axis.padding[0], axis.window(0).start, 0)
        end = max(axis.length + axis.padding[1], axis.window(axis.out - 1)[-1] + 1)
        least = axis.window(min(1, axis.out - 1))[-1] + 1  # of the second window
        self.end = min(end, max(self.first + most, least))
        if limit is not None:
            self.end = min(self.end, self.first + limit)
        numbers = range(min(axis.out, MOST_WINDOWS if limit is None else limit))
        self.outs = len(numbers)
        if self.end < end:
            # Windows begin one after the other.
            self.outs = max(1, next((o for o in numbers if axis.window(o)[-1] >= self.end), self.outs))

    @property
    def input_end(self) -> int:
        """Where the input ends, or what is drawn of it."""
        return max(0, min(self.axis.length, self.end))

    @property
    def padded_end(self) -> int:
        """Where the padding ends, or what is drawn of it."""
        return min(self.axis.length + self.axis.padding[1], self.end)

    @property
    def size(self) -> int:
        """Elements that are drawn."""
        return self.end - self.first

    def touches(self, number: int) -> bool:
        """Whether a window has a tap outside the input."""
        taps = self.axis.window(number)
        return taps[0] < 0 or taps[-1] >= self.axis.length

    def text(self, length: int, drawn: int) -> str:
        """A length, and how much of it is drawn."""
        return f"{length}" if drawn == length else f"{drawn} of {length}"


def _names(explanation: Explanation) -> tuple[str, str, bool]:
    """What is pooled, what the outputs of windows are, and whether values go from the first to the second."""
    if explanation.is_unpooling:
        return ("grad_output", "grad_input", True) if explanation.is_backward else ("out", "x", False)
    return ("grad_input", "grad_output", False) if explanation.is_backward else ("x", "out", True)


def _draw_strip(figure: Figure, explanation: Explanation, extent: _Extent) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    axis, outs = extent.axis, extent.outs
    # Windows go to lines, one below the other, so that none covers another.
    ends: list[int] = []
    lines = []
    for number in range(outs):
        taps = axis.window(number)
        line = next((i for i, end in enumerate(ends) if end < taps[0]), len(ends))
        ends[line : line + 1] = [taps[-1]]
        lines.append(line)
    pitch = 0.55
    bottom = -0.7 - pitch * len(ends)
    figure.set_size_inches(min(max(0.45 * extent.size, 7.2), 13), 1.7 + 0.45 * (2.2 - bottom))
    axes = figure.subplots()
    _show_cells(axes, [_UNIT, extent], 0)
    for number, line in enumerate(lines):
        taps, colour, y = axis.window(number), COLOURS[number % len(COLOURS)], -0.95 - pitch * line
        box = (taps[0] - 0.42, y - 0.17), taps[-1] - taps[0] + 0.84, 0.34
        axes.add_patch(FancyBboxPatch(*box, boxstyle="round,pad=0,rounding_size=0.17", fc="none", ec=colour, lw=1.4))
        if len(taps) <= MOST_TAPS:
            axes.plot(list(taps), [y] * len(taps), "o", color=colour, ms=4.5)
        middle = (taps[0] + taps[-1]) / 2
        axes.plot([middle, middle], [y - 0.17, bottom], color=colour, lw=0.8, alpha=0.45, zorder=0)
        out = Rectangle(
            (middle - 0.4, bottom - 0.8), 0.8, 0.8, fc=TOUCHING if extent.touches(number) else INPUT, ec=colour, lw=1.4
        )
        axes.add_patch(out)
        axes.text(middle, bottom - 0.4, f"{number}", ha="center", va="center", fontsize=9, color=colour)
    if extent.size <= MOST_LINES:
        for position in range(extent.first, extent.end):
            inside = 0 <= position < axis.length
            axes.text(
                position, 0, f"{position}" if inside else "", ha="center", va="center", fontsize=8, color="#47566b"
            )
    name, out_name, is_forward = _names(explanation)
    left = extent.first - 0.9
    axes.text(left, 0, f"{name}\n{extent.text(axis.length, extent.input_end)}", ha="right", va="center", fontsize=10)
    axes.text(left, bottom - 0.4, f"{out_name}\n{extent.text(axis.out, outs)}", ha="right", va="center", fontsize=10)
    axes.text(left, (bottom - 0.5) / 2, "↓" if is_forward else "↑", ha="right", va="center", fontsize=14, color=PADDING)
    axes.set_xlim(extent.first - 2.6, extent.end - 0.3)
    axes.set_ylim(bottom - 1.0, 0.7)
    axes.set_axis_off()
    _add_legend(figure, explanation, [extent])


def _draw_planes(figure: Figure, explanation: Explanation, extents: Sequence[_Extent]) -> None:
    *depth, rows, columns = extents
    picked = _picked(extents)
    slices = range(depth[0].first, depth[0].end) if depth else range(1)
    out_slices = range(depth[0].outs) if depth else range(1)
    across = max(len(slices), len(out_slices))
    if depth:
        panels = figure.subplots(2, across, squeeze=False)
        figure.set_size_inches(max(7.2, 1.6 * across), 2 * 1.6 * min(rows.size / columns.size, 1.6) + 1.8)
        inputs, outputs = panels[0], panels[1]
    else:
        widths = [columns.size, max(columns.outs, 0.3 * columns.size)]
        inputs, outputs = figure.subplots(1, 2, squeeze=False, width_ratios=widths)[0].reshape(2, 1)
        cell = min(0.33, 7.5 / columns.size, 7.5 / rows.size)
        figure.set_size_inches(max(cell * sum(widths) + 2.2, 7.2), max(cell * rows.size, 1.6) + 1.9)
    name, out_name, is_forward = _names(explanation)
    for panel, where in zip(inputs, slices, strict=False):
        is_inside = not depth or 0 <= where < depth[0].axis.length
        _show_cells(panel, (rows, columns), 0, is_inside)
        for colour, window in picked:
            if not depth or where in extents[0].axis.window(window[0]):
                _show_window(
                    panel, colour, *(each.axis.window(o) for each, o in zip(extents[-2:], window[-2:], strict=True))
                )
        if depth:
            panel.set_title(f"{depth[0].axis.name} {where}" if is_inside else "padding", fontsize=9)
        _frame(panel, rows, columns)
    for panel, number in zip(outputs, out_slices, strict=False):
        _show_outputs(panel, extents, (number,) if depth else (), picked)
        if depth:
            panel.set_title(f"{depth[0].axis.name} {number}", fontsize=9)
    for panel in [*inputs[len(slices) :], *outputs[len(out_slices) :]]:
        panel.set_axis_off()
    lengths = TIMES.join(each.text(each.axis.length, each.input_end) for each in extents)
    out_lengths = TIMES.join(each.text(each.axis.out, each.outs) for each in extents)
    arrow = ("↓" if is_forward else "↑") if depth else ("→" if is_forward else "←")
    if depth:
        inputs[0].set_ylabel(f"{name}\n{lengths}", fontsize=10)
        outputs[0].set_ylabel(f"{arrow}  {out_name}\n{out_lengths}", fontsize=10)
    else:
        inputs[0].set_title(f"{name}   {lengths}", fontsize=10)
        outputs[0].set_title(f"{arrow}  {out_name}   {out_lengths}", fontsize=10)
    _add_legend(figure, explanation, extents)


def _picked(extents: Sequence[_Extent]) -> list[tuple[str, tuple[int, ...]]]:
    """The first window, its neighbour, and the last one that is drawn."""
    first, last = tuple(0 for _ in extents), tuple(each.outs - 1 for each in extents)
    # The neighbour along the last axis that has one.
    step = max((i for i, each in enumerate(extents) if each.outs > 1), default=None)
    neighbour = tuple(int(i == step) for i in range(len(extents)))
    return list(zip(COLOURS, dict.fromkeys([first, neighbour, last]), strict=False))


class _Unit:
    """What a strip has across: one element."""

    first, end, input_end, padded_end, size = 0, 1, 1, 1, 1


_UNIT: Any = _Unit()


def _show_cells(panel: Axes, extents: Sequence[_Extent], origin: float, is_inside: bool = True) -> None:
    """The elements of the input, and around them the padding and what `ceil_mode` reaches beyond it."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    rows, columns = extents

    def box(bottoms: tuple[int, int], sides: tuple[int, int], **style: Any) -> None:
        (top, bottom), (left, right) = bottoms, sides
        panel.add_patch(Rectangle((left - 0.5, top - 0.5 + origin), right - left, bottom - top, **style))

    everything = (rows.first, rows.end), (columns.first, columns.end)
    padded = (rows.first, rows.padded_end), (columns.first, columns.padded_end)
    if everything != padded:
        box(*everything, fill=False, ec=PADDING, lw=0.8, ls=(0, (2, 2)), zorder=0.5)
    box(*padded, fc="white", ec=PADDING, lw=0, hatch="////", alpha=0.35, zorder=0.6)
    box(*padded, fill=False, ec=PADDING, lw=0.8, zorder=0.7)
    if is_inside:
        box((0, rows.input_end), (0, columns.input_end), fc=INPUT, ec="none", zorder=0.8)
    if max(rows.size, columns.size) <= MOST_LINES:
        style: dict[str, Any] = {"colors": LINE, "linewidths": 1.0, "zorder": 0.9}
        across = [
            [(columns.first - 0.5, y - 0.5), (columns.end - 0.5, y - 0.5)] for y in range(rows.first + 1, rows.end)
        ]
        down = [[(x - 0.5, rows.first - 0.5), (x - 0.5, rows.end - 0.5)] for x in range(columns.first + 1, columns.end)]
        panel.add_collection(LineCollection(across + down, **style), autolim=False)


def _show_window(panel: Axes, colour: str, rows: range, columns: range) -> None:
    from matplotlib.patches import Rectangle

    corner = columns[0] - 0.5, rows[0] - 0.5
    size = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    panel.add_patch(Rectangle(corner, *size, fc=colour, ec="none", alpha=0.10, zorder=2))
    panel.add_patch(Rectangle(corner, *size, fill=False, ec=colour, lw=2.0, zorder=3, joinstyle="round"))
    if len(rows) * len(columns) <= MOST_TAPS:
        taps = list(product(columns, rows))
        panel.plot([x for x, _ in taps], [y for _, y in taps], "o", color=colour, ms=4, zorder=3, alpha=0.85, mew=0)


def _show_outputs(
    panel: Axes, extents: Sequence[_Extent], front: tuple[int, ...], picked: Sequence[tuple[str, tuple[int, ...]]]
) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = extents[-2:]
    panel.add_patch(Rectangle((-0.5, -0.5), columns.outs, rows.outs, fc=INPUT, ec="none"))
    for row, column in _touching(extents, front):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fc=TOUCHING, ec="none"))
    if max(rows.outs, columns.outs) <= MOST_LINES:
        for x in range(1, columns.outs):
            panel.plot([x - 0.5, x - 0.5], [-0.5, rows.outs - 0.5], color=LINE, lw=1.0)
        for y in range(1, rows.outs):
            panel.plot([-0.5, columns.outs - 0.5], [y - 0.5, y - 0.5], color=LINE, lw=1.0)
    for colour, window in picked:
        if window[:-2] == front:
            panel.add_patch(
                Rectangle((window[-1] - 0.5, window[-2] - 0.5), 1, 1, fc=colour, ec="white", lw=1.0, zorder=3)
            )
    panel.set_xlim(-0.7, columns.outs - 0.3)
    panel.set_ylim(rows.outs - 0.3, -0.7)
    _clear(panel)


def _touching(extents: Sequence[_Extent], front: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Outputs of a plane, or of a slice, whose windows touch padding."""
    rows, columns = extents[-2:]
    whole_slice = any(each.touches(number) for each, number in zip(extents[:-2], front, strict=True))
    touching_rows, touching_columns = ([each.touches(o) for o in range(each.outs)] for each in (rows, columns))
    for row, column in product(range(rows.outs), range(columns.outs)):
        if whole_slice or touching_rows[row] or touching_columns[column]:
            yield row, column


def _frame(panel: Axes, rows: _Extent, columns: _Extent) -> None:
    panel.set_xlim(columns.first - 0.7, columns.end - 0.3)
    panel.set_ylim(rows.end - 0.3, rows.first - 0.7)
    _clear(panel)


def _clear(panel: Axes) -> None:
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _add_legend(figure: Figure, explanation: Explanation, extents: Sequence[_Extent]) -> None:
    from matplotlib.patches import Patch

    entries = [Patch(fc=INPUT, ec="none", label="elements")]
    if any(each.padded_end > each.input_end or each.first < 0 for each in extents):
        entries.append(Patch(fc="white", ec=PADDING, hatch="////", lw=0.8, label="padding"))
    if any(each.end > each.padded_end for each in extents):  # in ceil_mode
        entries.append(Patch(fc="white", ec=PADDING, ls=(0, (2, 2)), lw=0.8, label="beyond the end"))
    if explanation.windows_touching_padding:
        text = f"outputs of windows that touch padding: {explanation.windows_touching_padding} of {explanation.windows}"
        entries.append(Patch(fc=TOUCHING, ec="none", label=text))
    if len(entries) > 1:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9)
