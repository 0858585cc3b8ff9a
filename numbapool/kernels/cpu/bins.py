"""Maximum and mean over windows of any bounds: adaptive bins, and the windows of fractional pooling.

A unit is some rows of outputs of a plane. The input rows that one of them holds are folded into a line; the lines are folded
across at every position, as one long vector, for the narrowest windows and for those that are wider by one (the bins of an axis
differ by no more); and the windows are picked out of that by a table. Backward, a row of inputs is a unit, and sums what the
windows that hold it hand it: neighbours are in the same windows as a rule, so most rows are copies of the one before.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from numbapool.compilable import compilable
from numbapool.elements import value_dtype
from numbapool.geometry import BinPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.marks import no_mark
from numbapool.kernels.cpu.rows import ONE, ONE_UP, ZERO, as_it_is, divided, plane_at, replaces
from numbapool.kernels.cpu.schedule import (
    FEWEST_UNITS,
    LINE_BYTES,
    LONGEST_OVERLAP,
    STREAMED_BYTES,
    contiguous_layout_of,
    contiguous_out_layout,
    geometry_of,
    with_layout,
)
from numbapool.kernels.cpu.tables import bins as T
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.taps import bounds_of_axis, receivers_of
from numbapool.kernels.cpu.threads import Launch, Source, run
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
    nearest,
    no_sum,
    put,
    quotient,
    store,
    take,
    times,
)
from numbapool.windows import Bins

# First of some positions, and one past the last.
Bounds: TypeAlias = tuple[np.ndarray, np.ndarray]


def max_bins(plan: BinPlan, dtype: np.dtype[Any], is_contiguous: bool) -> Launch:
    """Maximum of each window."""
    return Launch(max_binned, *_units(plan, value_dtype(dtype).itemsize, is_contiguous, False), (bounds_of(plan),))


def max_bins_with_indices(plan: BinPlan, dtype: np.dtype[Any], is_contiguous: bool) -> Launch:
    """Maximum of each window and its flat position in the plane."""
    constants = bounds_of(plan), no_mark(plan)
    return Launch(max_binned_indices, *_units(plan, value_dtype(dtype).itemsize, is_contiguous, True), constants)


def avg_bins(plan: BinPlan, dtype: np.dtype[Any], is_contiguous: bool, is_rounded: bool) -> Launch:
    """Mean of each window; integers are summed in 64 bits, see `avg.avg_pool`."""
    sums = accumulator_of(dtype)
    divisors = rows.with_rounding(
        divisors_of_bins(plan.axes, sums if sums.kind == "f" else np.dtype(np.int64)), is_rounded
    )
    return Launch(avg_binned, *_units(plan, sums.itemsize, is_contiguous, False), (bounds_of(plan), divisors))


def avg_bins_backward(plan: BinPlan, grad_output: Source, grad_input: np.ndarray) -> None:
    """The sum over the windows that hold an element of their gradient over their number of elements."""
    flat, layout = grad_output
    d, h, _ = plan.axes
    units, operations = plan.planes * d.length * h.length, plan.planes * (plan.plane_size + plan.out_plane_size)
    program = with_layout(_backward_program(plan), layout)
    divisors = divisors_of_bins(plan.axes, accumulator_of(grad_input.dtype))
    run(avg_handed_out, units, operations, grad_input, flat, program, divisors)


@lru_cache(maxsize=512)
def _backward_program(plan: BinPlan) -> np.ndarray:
    tables = [receivers_of(axis) for axis in plan.axes]
    return receivers_program(
        geometry_of(plan), contiguous_out_layout(plan), *((each.first, each.first + each.number) for each in tables)
    )


def _units(plan: BinPlan, itemsize: int, is_contiguous: bool, has_marks: bool) -> tuple[int, np.ndarray]:
    """Number of units, and the program: geometry of plane and work array, and layout of the input."""
    return _units_of(plan.planes, plan.axes, plan.kernel, itemsize, is_contiguous, has_marks)


@lru_cache(maxsize=512)
def _units_of(
    planes: int, axes: tuple[Bins, ...], kernel: tuple[int, ...], itemsize: int, is_contiguous: bool, has_marks: bool
) -> tuple[int, np.ndarray]:
    d, h, w = axes
    width, line = VECTOR_BYTES // itemsize, LINE_BYTES // itemsize
    slack = 4 * width
    narrowest = kernel[-1] if kernel else int(_sizes(w).min(initial=w.length))
    # Wide windows that hardly overlap are folded to a vector each, and those by halves.
    is_wide = not has_marks and narrowest >= 2 * width and narrowest * w.out <= LONGEST_OVERLAP * w.length
    kept = width if is_wide else 1
    longest = max(w.length, w.out * kept, 1)
    group = max(1, min(line // longest, h.out, planes * d.out * h.out // FEWEST_UNITS))
    if kernel and not is_contiguous:
        group = 1  # any number of rows may lie between theirs
    lines = group * longest + slack
    units = planes * d.out * -(-h.out // group)
    layout = contiguous_layout_of(planes, d.length, h.length, w.length)
    program = np.concatenate([np.zeros(T.FIELDS, np.int64), layout])
    program[T.LAYOUT] = T.FIELDS
    program[T.IN_D], program[T.IN_H], program[T.IN_W] = d.length, h.length, w.length
    program[T.OUT_D], program[T.OUT_H], program[T.OUT_W] = d.out, h.out, w.out
    program[T.ROWS], program[T.KEPT], program[T.NARROWEST] = group, kept, narrowest
    program[T.LINES], program[T.UNIT_COUNT] = lines, max(1, -(-h.out // group))
    program[T.STREAMS] = planes * d.out * h.out * w.out * itemsize >= STREAMED_BYTES
    # The work array: a vector on its way to the end of a row of outputs, and one region behind the other.
    program[T.FOLDED] = slack
    program[T.SPARE] = program[T.FOLDED] + lines
    program[T.ACROSS] = program[T.SPARE] + 2 * lines
    program[T.STACK] = program[T.ACROSS] + max(group * w.out, w.length) + slack
    copied = 0 if is_contiguous else _rows_of_unit(axes, kernel, group) * w.length + slack
    program[T.WORK_SIZE] = program[T.STACK] + copied
    return units, program


def _rows_of_unit(axes: tuple[Bins, ...], kernel: tuple[int, ...], group: int) -> int:
    """Input rows that a unit reads at most."""
    if kernel:
        return prod(kernel[:-1])
    d, h, _ = axes
    starts, ends = bounds_of_axis(h)
    last = np.minimum(np.arange(0, h.out, group) + group, h.out) - 1
    return int(_sizes(d).max(initial=1)) * int((ends[last] - starts[::group]).max(initial=1))


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


def _sizes(axis: Bins) -> np.ndarray:
    start, end = bounds_of_axis(axis)
    sizes: np.ndarray = end - start
    return sizes


@lru_cache(maxsize=512)
def divisors_of_bins(axes: tuple[Bins, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Numbers of elements of the bins along w, room for a vector, and those along d and h, a factor for each row of outputs."""
    d, h, w = (_sizes(axis) for axis in axes)
    return np.concatenate([w, np.ones(VECTOR_BYTES // dtype.itemsize), np.outer(d, h).reshape(-1)]).astype(dtype)


@compilable
def receivers_program(
    geometry: np.ndarray, layout: np.ndarray, along_d: Bounds, along_h: Bounds, along_w: Bounds
) -> np.ndarray:
    """Geometry, layout of the gradients, and tables of the windows that hold each element.

    For each position along d the first window that holds it, and one past the last; the same along h. Then, along w, lines of the
    first window that holds each position, of the second and so on, or where there are no more, of the last place in
    `avg_handed_out`'s line of sums, which holds 0.
    """
    first, number = along_w[0], along_w[1] - along_w[0]
    most = max(1, number.max())
    lines = np.full(most * len(number), geometry[G.OUT_W] + VECTOR_BYTES - 1)
    for turn in range(most):
        start = turn * len(number)
        lines[start : start + len(number)] = np.where(turn < number, first + turn, lines[start : start + len(number)])
    program = np.concatenate((geometry, layout, along_d[0], along_d[1], along_h[0], along_h[1], lines))
    program[G.LAYOUT] = len(geometry)
    program[G.UNITS] = len(geometry) + len(layout)
    return program


@inlined
def work_size(layout, g):
    """Elements of the work array: rows that are runs of neighbours need no copy."""
    return g[T.STACK] if layout[L.DIRECT] else g[T.WORK_SIZE]


@inlined
def outputs_before(number, g):
    """Number of outputs in the units before this one."""
    slab = number // g[T.UNIT_COUNT]
    return (slab * g[T.OUT_H] + (number - slab * g[T.UNIT_COUNT]) * g[T.ROWS]) * g[T.OUT_W]


@inlined
def unit_of(number, g, bounds):
    """Plane of a unit, slab and first row of its outputs, and their rows; its first slab of inputs, and how many; where the bounds
    of its rows and of the columns start.
    """
    slab = number // g[T.UNIT_COUNT]
    plane = slab // g[T.OUT_D]
    od, oh = slab - plane * g[T.OUT_D], (number - slab * g[T.UNIT_COUNT]) * g[T.ROWS]
    size = 2 * (g[T.OUT_D] + g[T.OUT_H] + g[T.OUT_W])
    d = (plane * size if bounds.size > size else ZERO) + od
    h, w = d - od + 2 * g[T.OUT_D] + oh, d - od + 2 * (g[T.OUT_D] + g[T.OUT_H])
    d0 = bounds[d]
    return plane, od, oh, min(g[T.ROWS], g[T.OUT_H] - oh), d0, bounds[d + g[T.OUT_D]] - d0, h, w


@inner
def fold_down(combine, work, to, source, at, d_step, h_step, slabs, bounds, h, ends, count, n, identity):
    """Fold the input rows of each of some rows of windows, in all slabs, to a line; the next starts where a line ends."""
    width, end, line = lanes(work), np.uintp(n), np.uintp(to)
    reach = np.int64((end + width - ONE_UP) // width * width) + max(ZERO, (slabs - 1) * d_step)
    for r in range(count):
        row, taps = at + bounds[h + r] * h_step, bounds[ends + r] - bounds[h + r]
        whole = end if row + max(ZERO, (taps - 1) * h_step) + reach <= source.size else end // width * width
        first, second = np.uintp(row), np.uintp(row + (h_step if taps > 1 else d_step if slabs > 1 else ZERO))
        column = np.uintp(0)
        if slabs * taps == 1:
            while column < whole:
                store(work, line + column, load(source, first + column, work))
                column += width
        elif slabs * taps == 2:
            while column < whole:
                vector = combine(load(source, first + column, work), load(source, second + column, work))
                store(work, line + column, vector)
                column += width
        while column < whole:
            vector, slab = all_lanes(identity, work, work), row + np.int64(column)
            for _ in range(slabs):
                tap = slab
                for _ in range(taps):
                    vector = combine(vector, load(source, np.uintp(tap), work))
                    tap += h_step
                slab += d_step
            store(work, line + column, vector)
            column += width
        while column < end:
            value, slab = identity, row + np.int64(column)
            for _ in range(slabs):
                tap = slab
                for _ in range(taps):
                    value = combine(value, element(source, np.uintp(tap), work))
                    tap += h_step
                slab += d_step
            work[line + column] = value
            column += ONE_UP
        line += end


@inner
def gather_slabs(work, to, pitch, x, layout, at, d0, slabs, h0, count):
    """Copy rows of a few slabs to lines: where strides are dealt with."""
    for d in range(slabs):
        row = at + (d0 + d) * layout[L.D_STEP] + h0 * layout[L.H_STEP]
        rows.gather_block(work, to, pitch, x, row, layout[L.H_STEP], layout[L.W_STEP], count, pitch)
        to += count * pitch


@inner
def picks_of(picks, bounds, w, ends, narrowest, apart):
    """Where windows are on a line of the narrowest, or if they are wider, on one that is so far behind it."""
    for o in range(picks.size):
        start = bounds[w + o]
        picks[o] = start + (apart if bounds[ends + o] - start > narrowest else ZERO)


@inner
def pick(work, to, line, pitch, count, picks):
    """Put the windows of some rows side by side."""
    target = np.uintp(to)
    for r in range(count):
        row = line + r * pitch
        for o in range(picks.size):
            work[target] = work[np.uintp(row + picks[o])]
            target += ONE_UP


@inlined
def fold_unit(combine, finish, out, end, number, work, picks, x, layout, g, bounds, divisors, factors, identity):
    """Fold the windows of a unit and write them to the output."""
    plane, od, oh, count, d0, slabs, h, w = unit_of(number, g, bounds)
    at, line, n = plane_at(layout, plane), g[T.FOLDED], g[T.IN_W]
    if layout[L.DIRECT]:
        d_step, h_step = layout[L.D_STEP], layout[L.H_STEP]
        at += d0 * d_step
        fold_down(combine, work, line, x, at, d_step, h_step, slabs, bounds, h, h + g[T.OUT_H], count, n, identity)
    else:
        h0 = bounds[h]
        high = bounds[h + g[T.OUT_H] + count - 1] - h0
        gather_slabs(work, g[T.STACK], n, x, layout, at, d0, slabs, h0, high)
        at, d_step = g[T.STACK] - h0 * n, high * n
        fold_down(combine, work, line, work, at, d_step, n, slabs, bounds, h, h + g[T.OUT_H], count, n, identity)
    narrowest, stride = g[T.NARROWEST], g[T.KEPT]
    if stride > 1:
        to = g[T.SPARE]
        for r in range(count):
            for o in range(g[T.OUT_W]):
                first, taps = bounds[w + o], bounds[w + g[T.OUT_W] + o] - bounds[w + o]
                rows.fold_windows(combine, work, to, work, line + r * n + first, ZERO, taps, ONE, identity)
                to += stride
        line = g[T.SPARE]
        while stride > 2:
            stride //= 2
            to = g[T.SPARE] + g[T.LINES] if line == g[T.SPARE] else g[T.SPARE]
            rows.fold_halves(combine, work, to, work, line, count * g[T.OUT_W] * stride)
            line = to
    else:
        if narrowest > 1:
            rows.fold_shifts(combine, work, g[T.SPARE], line, count * n - narrowest + 1, narrowest, ONE)
            line = g[T.SPARE]
        wider = g[T.SPARE] + g[T.LINES]
        rows.fold_lines(combine, work, wider, line, g[T.FOLDED] + narrowest, -ONE, count * n - narrowest)
        picks_of(picks, bounds, w, w + g[T.OUT_W], narrowest, wider - line)
        pick(work, g[T.ACROSS], line, n, count, picks)
        line = g[T.ACROSS]
    target, lines = (outputs_before(number, g), g[T.OUT_W], end), (line, g[T.OUT_W] * stride, count, g[T.OUT_W])
    window, division, streams = (stride, stride, ONE), (ZERO, ZERO, ZERO), g[T.STREAMS] != 0
    if factors > 0:
        division = ZERO, factors + od * g[T.OUT_H] + oh, count
    rows.across_rows(combine, finish, out, target, work, lines, window, ZERO, streams, divisors, division)


@entry
def max_binned(first, last, out, x, g, bounds):
    layout = g[g[T.LAYOUT] : g[T.LAYOUT] + L.FIELDS]
    work, picks = np.full(work_size(layout, g), lowest(x)), np.empty(g[T.OUT_W], np.int64)
    end = min(outputs_before(last, g), out.size)
    for number in range(first, last):
        fold_unit(larger, as_it_is, out, end, number, work, picks, x, layout, g, bounds, work, ZERO, lowest(x))


@entry
def avg_binned(first, last, out, x, g, bounds, divisors):
    layout = g[g[T.LAYOUT] : g[T.LAYOUT] + L.FIELDS]
    work, picks = np.full(work_size(layout, g), no_sum(x)), np.empty(g[T.OUT_W], np.int64)
    nothing = -no_sum(x)  # -0.0 of floats, which leaves the sign of all others as it is
    end = min(outputs_before(last, g), out.size)
    factors = divisors.size - 1 - g[T.OUT_D] * g[T.OUT_H]
    for number in range(first, last):
        fold_unit(add, divided, out, end, number, work, picks, x, layout, g, bounds, divisors, factors, nothing)


@inner
def mark_down(work, marks, to, source, at, d_step, h_step, d0, slabs, bounds, h, ends, count, ramp, g):
    """As `fold_down`, maxima and their positions in the plane; `ramp` is a line of marks 0, 1, 2..."""
    width, end, line, along = lanes(work), np.uintp(g[T.IN_W]), np.uintp(to), np.uintp(ramp)
    reach = np.int64((end + width - ONE_UP) // width * width) + max(ZERO, (slabs - 1) * d_step)
    for r in range(count):
        row, taps = at + bounds[h + r] * h_step, bounds[ends + r] - bounds[h + r]
        whole = end if row + max(ZERO, (taps - 1) * h_step) + reach <= source.size else end // width * width
        own = (d0 * g[T.IN_H] + bounds[h + r]) * g[T.IN_W]
        column = np.uintp(0)
        while column < whole:
            slab, slab_mark = row + np.int64(column), own
            best = load(source, np.uintp(slab), work)
            mark = all_lanes(marks.dtype.type(own), marks, work)
            for _ in range(slabs):
                tap, tap_mark = slab, slab_mark
                for _ in range(taps):
                    value_mark = all_lanes(marks.dtype.type(tap_mark), marks, work)
                    best, mark = take(best, mark, load(source, np.uintp(tap), work), value_mark)
                    tap += h_step
                    tap_mark += g[T.IN_W]
                slab += d_step
                slab_mark += g[T.IN_H] * g[T.IN_W]
            store(work, line + column, best)
            store(marks, line + column, add(mark, load_marks(marks, along + column, work)))
            column += width
        while column < end:
            slab, slab_mark = row + np.int64(column), own
            highest, position = element(source, np.uintp(slab), work), own
            for _ in range(slabs):
                tap, tap_mark = slab, slab_mark
                for _ in range(taps):
                    value = element(source, np.uintp(tap), work)
                    if replaces(value, highest):
                        highest, position = value, tap_mark
                    tap += h_step
                    tap_mark += g[T.IN_W]
                slab += d_step
                slab_mark += g[T.IN_H] * g[T.IN_W]
            work[line + column] = highest
            marks[line + column] = position + np.int64(column)
            column += ONE_UP
        line += end


@inner
def mark_both(work, marks, to, line, distance, n):
    """The larger of each element of a line and the one a distance behind, and its mark."""
    width, column, target, first = lanes(work), np.uintp(0), np.uintp(to), np.uintp(line)
    second = first + np.uintp(distance)
    while column < np.uintp(n):
        best, mark = load(work, first + column, work), load_marks(marks, first + column, work)
        value, value_mark = load(work, second + column, work), load_marks(marks, second + column, work)
        best, mark = nearest(best, mark, value, value_mark)
        store(work, target + column, best)
        store(marks, target + column, mark)
        column += width


@entry
def max_binned_indices(first, last, out, indices, x, g, bounds, none):
    layout = g[g[T.LAYOUT] : g[T.LAYOUT] + L.FIELDS]
    work, marks = np.full(work_size(layout, g), lowest(x)), np.full(g[T.STACK], none)
    picks = np.empty(g[T.OUT_W], np.int64)
    n, narrowest, ramp = g[T.IN_W], g[T.NARROWEST], g[T.ACROSS]
    for column in range(n):
        marks[ramp + column] = column
    for number in range(first, last):
        plane, _, _, count, d0, slabs, h, w = unit_of(number, g, bounds)
        at, line, ends = plane_at(layout, plane), g[T.FOLDED], h + g[T.OUT_H]
        if layout[L.DIRECT]:
            d_step, h_step = layout[L.D_STEP], layout[L.H_STEP]
            at += d0 * d_step
            mark_down(work, marks, line, x, at, d_step, h_step, d0, slabs, bounds, h, ends, count, ramp, g)
        else:
            h0 = bounds[h]
            high = bounds[ends + count - 1] - h0
            gather_slabs(work, g[T.STACK], n, x, layout, at, d0, slabs, h0, high)
            at, d_step = g[T.STACK] - h0 * n, high * n
            mark_down(work, marks, line, work, at, d_step, n, d0, slabs, bounds, h, ends, count, ramp, g)
        # From one place to another and back: in place, LLVM would make masked stores.
        other, done = g[T.SPARE], ONE
        while done < narrowest:
            step = min(done, narrowest - done)
            done += step
            mark_both(work, marks, other, line, step, count * n - done + 1)
            line, other = other, line
        mark_both(work, marks, other, line, ONE, count * n - narrowest)
        picks_of(picks, bounds, w, w + g[T.OUT_W], narrowest, other - line)
        to = np.uintp(outputs_before(number, g))
        for r in range(count):
            row = line + r * n
            for o in range(g[T.OUT_W]):
                i = np.uintp(row + picks[o])
                put(out, to, work[i])
                indices[to] = marks[i]
                to += ONE_UP


@inlined
def row_of(number, depth, height):
    """Plane, d and h of a row."""
    slab = number // height
    plane = slab // depth
    return plane, slab - plane * depth, number - slab * height


@inner
def add_shares(sums, source, row, step, n, divisors, factor):
    """Add a row of gradients over the numbers of elements of their windows."""
    width, end, first, column = lanes(sums), np.uintp(n), np.uintp(row), np.uintp(0)
    if step == 1:
        whole = end if row + np.int64((end + width - ONE_UP) // width * width) <= source.size else end // width * width
        while column < whole:
            shares = quotient(load(source, first + column, sums), times(load(divisors, column, sums), factor), False)
            store(sums, column, add(load(sums, column, sums), shares))
            column += width
    while column < end:
        gradient = element(source, np.uintp(row + np.int64(column) * step), sums)
        sums[column] += gradient / (divisors[column] * factor)
        column += ONE_UP


@inner
def hand_out(line, sums, receivers, at, n):
    """Sum for each element what the windows that hold it hand it."""
    first = np.uintp(at)
    second = first + np.uintp(n)
    if receivers.size == second:
        for w in range(np.uintp(n)):
            line[w] = sums[np.uintp(receivers[first + w])]
        return
    for w in range(np.uintp(n)):
        line[w] = sums[np.uintp(receivers[first + w])] + sums[np.uintp(receivers[second + w])]
    for turn in range(np.int64(second) + n, receivers.size, n):
        next_one = np.uintp(turn)
        for w in range(np.uintp(n)):
            line[w] += sums[np.uintp(receivers[next_one + w])]


@entry
def avg_handed_out(first, last, grad_input, grad, g, divisors):
    layout, receivers = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS], g[g[G.UNITS] :]
    n, depth, height, factors = g[G.IN_W], g[G.IN_D], g[G.IN_H], divisors.size - g[G.OUT_D] * g[G.OUT_H]
    room = np.int64(VECTOR_BYTES)
    sums, line = np.full(g[G.OUT_W] + room, no_sum(grad_input)), np.full(n + room, no_sum(grad_input))
    for number in range(first, last):
        plane, d, h = row_of(number, depth, height)
        od0, od1, at_h = receivers[d], receivers[d + depth], 2 * depth + h
        oh0, oh1, to = receivers[at_h], receivers[at_h + height], np.uintp(number * n)
        if d > 0 and number - height >= first and od0 == receivers[d - 1] and od1 == receivers[d - 1 + depth]:
            rows.write_line(grad_input, to, grad_input, np.uintp((number - height) * n), np.uintp(n), line)
            continue
        if number == first or h == 0 or oh0 != receivers[at_h - 1] or oh1 != receivers[at_h - 1 + height]:
            rows.fill(sums, ZERO, no_sum(grad_input), g[G.OUT_W])
            for od in range(od0, od1):
                for oh in range(oh0, oh1):
                    row = plane_at(layout, plane) + od * layout[L.D_STEP] + oh * layout[L.H_STEP]
                    factor = divisors[factors + od * g[G.OUT_H] + oh]
                    add_shares(sums, grad, row, layout[L.W_STEP], g[G.OUT_W], divisors, factor)
            hand_out(line, sums, receivers, 2 * (depth + height), n)
        rows.write_line(grad_input, to, line, np.uintp(0), np.uintp(n), line)
