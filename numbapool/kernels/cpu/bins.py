"""Maximum and mean over windows of any bounds: adaptive bins, and the windows of fractional pooling.

A row of outputs is a unit: the input rows that its windows hold are folded into one line, in whole vectors, and the line is
folded across, window by window. Backward, a row of inputs is a unit, and sums what the windows that hold it hand it: neighbours
are in the same windows as a rule, so most rows are copies of the one before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from numbapool.geometry import BinPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.launch import Call, Source, run
from numbapool.kernels.cpu.marks import no_mark
from numbapool.kernels.cpu.rows import ONE, ZERO, plane_at
from numbapool.kernels.cpu.schedule import (
    IN_D,
    IN_H,
    IN_W,
    LAYOUT,
    LAYOUT_FIELDS,
    OUT_D,
    OUT_H,
    OUT_W,
    Geometry,
    contiguous_layout,
    contiguous_out_layout,
    geometry_of,
)
from numbapool.kernels.cpu.taps import bounds_of_axis, receivers_of
from numbapool.kernels.cpu.vectors import (
    VECTOR_BYTES,
    accumulator_of,
    add,
    all_lanes,
    element,
    lanes,
    larger,
    load,
    load_marks,
    lowest,
    no_sum,
    put,
    quotient,
    store,
    take,
)
from numbapool.kernels.elements import value_dtype

# Rows that are folded at once, see `rows.fold_rows`.
ROWS_AT_ONCE = 3


def max_bins(plan: BinPlan, dtype: np.dtype[Any]) -> Call:
    """Maximum of each window."""
    return Call(fold_max, _out_rows(plan), _program(plan), (bounds_of(plan), _work_size(plan, dtype)))


def max_bins_with_indices(plan: BinPlan, dtype: np.dtype[Any]) -> Call:
    """Maximum of each window and its flat position in the plane."""
    constants = bounds_of(plan), _work_size(plan, dtype), no_mark(plan)
    return Call(mark_max, _out_rows(plan), _program(plan), constants)


def avg_bins(plan: BinPlan, dtype: np.dtype[Any], is_rounded: bool) -> Call:
    """Mean of each window; integers are summed in 64 bits, see `avg.avg_pool`."""
    constants = bounds_of(plan), _work_size(plan, accumulator_of(dtype)), is_rounded
    return Call(fold_mean, _out_rows(plan), _program(plan), constants)


def avg_bins_backward(plan: BinPlan, grad_output: Source, grad_input: np.ndarray) -> None:
    """The sum over the windows that hold an element of their gradient over their number of elements."""
    flat, layout = grad_output
    d, h, _ = plan.axes
    source = flat, contiguous_out_layout(plan) if layout is None else layout
    units, operations = plan.planes * d.length * h.length, plan.planes * (plan.plane_size + plan.out_plane_size)
    run(spread_mean, units, operations, grad_input, *source, geometry_of(plan), bounds_of(plan), _receivers(plan))


def _out_rows(plan: BinPlan) -> int:
    d, h, _ = plan.axes
    return plan.planes * d.out * h.out


def _program(plan: BinPlan) -> np.ndarray:
    """Geometry and layout of the input."""
    geometry = geometry_of(plan).copy()
    geometry[LAYOUT] = len(Geometry._fields)
    return np.concatenate([geometry, contiguous_layout(plan)])


def _work_size(plan: BinPlan, dtype: np.dtype[Any]) -> np.int64:
    """Elements of a line with room for vectors behind it; there are two, and as many rows as are folded at once."""
    return np.int64(plan.axes[2].length + 2 * VECTOR_BYTES // value_dtype(dtype).itemsize)


def bounds_of(plan: BinPlan) -> np.ndarray:
    """First elements of the windows along d, their ends, and the same along h and w; one such table, or one for each plane."""
    return _bounds_of_starts(plan) if plan.serves_once else _bounds_of_bins(plan)


@lru_cache(maxsize=512)
def _bounds_of_bins(plan: BinPlan) -> np.ndarray:
    return np.concatenate([each for axis in plan.axes for each in bounds_of_axis(axis)])


def _bounds_of_starts(plan: BinPlan) -> np.ndarray:
    missing = 3 - len(plan.starts)
    zeros = np.zeros((plan.planes, 1), np.int64)
    starts, kernel = (zeros,) * missing + plan.starts, (1,) * missing + plan.kernel
    tables = [each for start, size in zip(starts, kernel, strict=True) for each in (start, start + size)]
    return np.concatenate(tables, axis=1).reshape(-1)


@lru_cache(maxsize=512)
def _receivers(plan: BinPlan) -> np.ndarray:
    """For each input position along d the first bin that holds it, and one past the last; the same along h and w."""
    tables = [receivers_of(axis) for axis in plan.axes]
    return np.concatenate([each for table in tables for each in (table.first, table.first + table.number)])


@inlined
def row_of(number, depth, height):
    """Plane, d and h of a row."""
    slab = number // height
    plane = slab // depth
    return plane, slab - plane * depth, number - slab * height


@inlined
def windows_of_row(number, g, bounds):
    """Plane of a row of outputs, bounds of its windows along d and h, and the position of those along w in the table."""
    plane, od, oh = row_of(number, g[OUT_D], g[OUT_H])
    size = 2 * (g[OUT_D] + g[OUT_H] + g[OUT_W])
    d = (plane * size if bounds.size > size else ZERO) + od
    h, w = d - od + 2 * g[OUT_D] + oh, d - od + 2 * (g[OUT_D] + g[OUT_H])
    return plane, bounds[d], bounds[d + g[OUT_D]], bounds[h], bounds[h + g[OUT_H]], w


@inner
def fold_rows_of_window(combine, work, pitch, x, layout, at, d0, d1, h0, h1, n, identity):
    """Fold the rows d0 <= d < d1, h0 <= h < h1 of a plane into a line; which of the two lines, that is returned."""
    h_step, stack, line, folded = layout[rows.H_STEP], 2 * pitch, ZERO, -ONE
    for d in range(d0, d1):
        for h in range(h0, h1, ROWS_AT_ONCE):
            taps = min(ROWS_AT_ONCE, h1 - h)
            row = at + d * layout[rows.D_STEP] + h * h_step
            if layout[rows.DIRECT]:
                rows.fold_rows(
                    combine,
                    work,
                    line,
                    pitch,
                    x,
                    row,
                    taps,
                    h_step,
                    folded,
                    ZERO,
                    ONE,
                    n,
                    identity,
                    True,
                    ONE,
                    ZERO,
                    ZERO,
                    -ONE,
                )
            else:
                rows.gather_block(work, stack, pitch, x, row, h_step, layout[rows.W_STEP], taps, n)
                rows.fold_rows(
                    combine,
                    work,
                    line,
                    pitch,
                    work,
                    stack,
                    taps,
                    pitch,
                    folded,
                    ZERO,
                    ONE,
                    n,
                    identity,
                    True,
                    ONE,
                    ZERO,
                    ZERO,
                    -ONE,
                )
            folded = line
            line = pitch - line
    return folded


@entry
def fold_max(first, last, out, x, g, bounds, pitch):
    work = np.full((2 + ROWS_AT_ONCE) * pitch, lowest(x))
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, d0, d1, h0, h1, w = windows_of_row(number, g, bounds)
        at = plane_at(layout, plane)
        line = fold_rows_of_window(larger, work, pitch, x, layout, at, d0, d1, h0, h1, g[IN_W], lowest(x))
        to, ends = number * g[OUT_W], w + g[OUT_W]
        for o in range(g[OUT_W]):
            best = work[np.uintp(line + bounds[w + o])]
            for i in range(bounds[w + o] + 1, bounds[ends + o]):
                best = larger(best, work[np.uintp(line + i)])
            put(out, np.uintp(to + o), best)


@entry
def fold_mean(first, last, out, x, g, bounds, pitch, is_rounded):
    work = np.full((2 + ROWS_AT_ONCE) * pitch, no_sum(x))
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, d0, d1, h0, h1, w = windows_of_row(number, g, bounds)
        at = plane_at(layout, plane)
        line = fold_rows_of_window(add, work, pitch, x, layout, at, d0, d1, h0, h1, g[IN_W], no_sum(x))
        to, ends, count = number * g[OUT_W], w + g[OUT_W], (d1 - d0) * (h1 - h0)
        for o in range(g[OUT_W]):
            total = no_sum(x)
            for i in range(bounds[w + o], bounds[ends + o]):
                total = add(total, work[np.uintp(line + i)])
            size = work.dtype.type(count * (bounds[ends + o] - bounds[w + o]))
            put(out, np.uintp(to + o), quotient(total, size, is_rounded))


@entry
def mark_max(first, last, out, indices, x, g, bounds, pitch, none):
    work = np.full(2 * pitch, lowest(x))
    marks = np.full(pitch, none)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, d0, d1, h0, h1, w = windows_of_row(number, g, bounds)
        is_first = True
        for in_d in range(d0, d1):
            for in_h in range(h0, h1):
                at = plane_at(layout, plane) + in_d * layout[rows.D_STEP] + in_h * layout[rows.H_STEP]
                rows.copy_rows(larger, work, ZERO, x, layout, at, ZERO, ONE, g[IN_W], g, lowest(x))
                mark_row(work, marks, pitch, (in_d * g[IN_H] + in_h) * g[IN_W], g[IN_W], is_first)
                is_first = False
        to, ends = number * g[OUT_W], w + g[OUT_W]
        for o in range(g[OUT_W]):
            i = bounds[w + o]
            best, index = work[np.uintp(pitch + i)], np.int64(marks[np.uintp(i)]) + i
            for i in range(bounds[w + o] + 1, bounds[ends + o]):
                value, position = work[np.uintp(pitch + i)], np.int64(marks[np.uintp(i)]) + i
                # Down came before across: the first of equals is that of the least position, the last NaN of the greatest.
                is_nan, equals = value != value, value == best and position < index
                if value > best or equals or (is_nan and (best == best or position > index)):
                    best, index = value, position
            put(out, np.uintp(to + o), best)
            indices[np.uintp(to + o)] = index


@inner
def mark_row(work, marks, line, mark, n, is_first):
    """Take the elements of the line at 0 into that at `line`, with their mark, where they replace what is there."""
    column, at, own = np.uintp(0), np.uintp(line), marks.dtype.type(mark)
    while column < np.uintp(n):
        best, best_mark = load(work, column, work), all_lanes(own, marks, work)
        if not is_first:
            best, best_mark = take(load(work, at + column, work), load_marks(marks, column, work), best, best_mark)
        store(work, at + column, best)
        store(marks, column, best_mark)
        column += lanes(work)


@entry
def spread_mean(first, last, grad_input, grad, layout, g, bounds, receivers):
    sums = np.full(g[OUT_W], no_sum(grad_input))
    line = np.full(g[IN_W], no_sum(grad_input))
    ends_h, h_table, w_table = g[IN_H], 2 * g[OUT_D], 2 * (g[OUT_D] + g[OUT_H])
    for number in range(first, last):
        plane, d, h = row_of(number, g[IN_D], g[IN_H])
        at_h = 2 * g[IN_D] + h
        oh0, oh1 = receivers[at_h], receivers[at_h + ends_h]
        if number == first or h == 0 or oh0 != receivers[at_h - 1] or oh1 != receivers[at_h - 1 + ends_h]:
            rows.fill(sums, ZERO, no_sum(grad_input), g[OUT_W])
            for od in range(receivers[d], receivers[d + g[IN_D]]):
                for oh in range(oh0, oh1):
                    row = plane_at(layout, plane) + od * layout[rows.D_STEP] + oh * layout[rows.H_STEP]
                    count = bounds[g[OUT_D] + od] - bounds[od]
                    count *= bounds[h_table + g[OUT_H] + oh] - bounds[h_table + oh]
                    for o in range(g[OUT_W]):
                        size = count * (bounds[w_table + g[OUT_W] + o] - bounds[w_table + o])
                        gradient = element(grad, np.uintp(row + o * layout[rows.W_STEP]), sums)
                        sums[np.uintp(o)] += gradient / sums.dtype.type(size)
            rows.fill(line, ZERO, no_sum(grad_input), g[IN_W])
            for o in range(g[OUT_W]):
                for w in range(np.uintp(bounds[w_table + o]), np.uintp(bounds[w_table + g[OUT_W] + o])):
                    line[w] += sums[np.uintp(o)]
        rows.write_line(grad_input, np.uintp(number * g[IN_W]), line, np.uintp(g[IN_W]))
