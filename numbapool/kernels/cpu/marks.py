"""Marked row primitives: maxima and where they are, folded across first and then down.

A mark is, after folding across, how far from the first tap of its window the maximum stands, and after folding down its
position in the plane. Marks live in an array of their own, at the positions of their maxima in the work array; see `rows`
for how lines are laid out and written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.kernels.cpu.compile import inlined, inner
from numbapool.kernels.cpu.rows import (
    ONE,
    ONE_UP,
    ZERO,
    copy_rows,
    end_tap,
    fill,
    first_output,
    first_tap,
    gather_block,
    plane_at,
    whole_vectors,
)
from numbapool.kernels.cpu.schedule import AnyPlan
from numbapool.kernels.cpu.tables import blocks as B
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.vectors import (
    add,
    all_lanes,
    evens,
    indices_of,
    lanes,
    larger,
    load,
    load_marks,
    put,
    shifted,
    store,
    take,
)


def no_mark(plan: AnyPlan) -> Any:
    """A mark that stays negative whatever position in a plane is added to it, in the narrowest dtype where it does."""
    return np.int32(-(1 << 30)) if plan.plane_size < 1 << 30 else np.int64(-(1 << 62))


@inner
def mark_starts(marks, starts, ow, n, g):
    """The column of the first tap of n outputs of a row, inside the input or not; 0 where taps are counted."""
    for o in range(n):
        marks[starts + o] = ZERO if g[G.IN_WINDOW] else (ow + o) * g[G.STRIDE_W] - g[G.BEFORE_W]


@inner
def split_phases(work, to, room, line, n):
    """Elements of even and odd positions of a line, n of each, to lines of their own, `room` apart."""
    width, column = lanes(work), np.uintp(0)
    while column < np.uintp(n):
        near, target = np.uintp(line) + column + column, np.uintp(to) + column
        first, second = load(work, near, work), load(work, near + width, work)
        store(work, target, evens(first, second))
        near += ONE_UP
        store(work, target + np.uintp(room), evens(load(work, near, work), load(work, near + width, work)))
        column += width


@inner
def mark_taps(work, marks, to, first, second, third, taps, step, n):
    """The larger of 1 to 3 lines and its mark: 0, `step` or twice that."""
    width, end, column = lanes(work), np.uintp(n), np.uintp(0)
    at, second, third, target = np.uintp(first), np.uintp(second), np.uintp(third), np.uintp(to)
    zero = all_lanes(marks.dtype.type(0), marks, work)
    one, two = shifted(zero, marks.dtype.type(step)), shifted(zero, marks.dtype.type(2 * step))
    if taps == 3:
        while column < end:
            best, mark = take(load(work, at + column, work), zero, load(work, second + column, work), one)
            best, mark = take(best, mark, load(work, third + column, work), two)
            store(work, target + column, best)
            store(marks, target + column, mark)
            column += width
    elif taps == 2:
        while column < end:
            best, mark = take(load(work, at + column, work), zero, load(work, second + column, work), one)
            store(work, target + column, best)
            store(marks, target + column, mark)
            column += width
    else:
        while column < end:
            store(work, target + column, load(work, at + column, work))
            store(marks, target + column, zero)
            column += width


@inner
def mark_next(work, marks, to, line, mark_line, next_line, distance, n):
    """A line of maxima and its marks, or where it is larger another line and its marks plus a distance.

    The marks of the other are at `mark_line`, or all 0 if that is negative. Never in place: LLVM would make masked stores.
    """
    width, column, target = lanes(work), np.uintp(0), np.uintp(to)
    first, second, third = np.uintp(line), np.uintp(next_line), np.uintp(mark_line if mark_line >= 0 else ZERO)
    apart = marks.dtype.type(distance)
    value_mark = all_lanes(apart, marks, work)
    while column < np.uintp(n):
        if mark_line >= 0:
            value_mark = shifted(load_marks(marks, third + column, work), apart)
        best, mark = load(work, first + column, work), load_marks(marks, first + column, work)
        best, mark = take(best, mark, load(work, second + column, work), value_mark)
        store(work, target + column, best)
        store(marks, target + column, mark)
        column += width


@inner
def mark_edges(marks, to, pitch, rows, ow, n, g, none):
    """Mend the marks of windows whose first tap is outside: that of their first tap inside at least, or `none`."""
    for o in range(n):
        start = (ow + o) * g[G.STRIDE_W] - g[G.BEFORE_W]
        if 0 <= start < g[G.IN_W]:
            continue
        tap = first_tap(start, g[G.DILATION_W])
        is_inside = start + tap * g[G.DILATION_W] < g[G.IN_W] and tap < g[G.KERNEL_W]
        for r in range(rows):
            at = to + r * pitch + o
            marks[at] = max(np.int64(marks[at]), tap * g[G.MARK_W]) if is_inside else none


@inlined
def mark_across(work, marks, to, spare, lines, rows, unit, g, none):
    """Fold lines across in order to maxima and how far from the first tap they are.

    At stride 1 after the second tap by doubling; else tap by tap, from lines of even and odd elements at stride 2.
    """
    pitch, stride, taps, dilation = g[G.PITCH] // g[G.STRIDE_W], g[G.STRIDE_W], g[G.KERNEL_W], g[G.DILATION_W]
    n = rows * pitch
    room = n + (taps - 1) * dilation // 2 + 1 + np.int64(lanes(work))
    done = ONE
    if stride <= 2:
        done = taps if taps <= 3 else ONE + stride
    phases = spare + n + taps * dilation + np.int64(lanes(work)) if done < taps else spare
    steps, reached = taps - done, done
    if stride == 1:
        steps = ZERO
        while reached < taps:
            reached += min(reached, taps - reached)
            steps += 1
    # Results go back and forth between two places, so that the last pass writes to where they belong.
    line, other = (to, spare) if steps % 2 == 0 else (spare, to)
    if stride == 1:
        reach = n + (taps - done) * dilation
        mark_taps(work, marks, line, lines, lines + dilation, lines + 2 * dilation, done, g[G.MARK_W], reach)
    elif stride == 2:
        split_phases(work, phases, room, lines, room - np.int64(lanes(work)))
        odd = phases + dilation % 2 * room + dilation // 2
        mark_taps(work, marks, line, phases, odd, phases + dilation, done, g[G.MARK_W], n)
    else:
        gather_block(work, phases, ZERO, work, lines, ZERO, stride, ONE, n)
        mark_taps(work, marks, line, phases, phases, phases, done, g[G.MARK_W], n)
    while done < taps:
        step, mark_line, next_line = ONE, -ONE, lines + done * dilation
        if stride == 1:
            step = min(done, taps - done)
            mark_line = next_line = line + step * dilation
        elif stride == 2:
            next_line = phases + done * dilation % 2 * room + done * dilation // 2
        else:
            gather_block(work, phases, ZERO, work, next_line, ZERO, stride, ONE, n)
            next_line = phases
        distance = (step if stride == 1 else done) * g[G.MARK_W]
        done += step
        reach = n + (taps - done) * dilation if stride == 1 else n
        mark_next(work, marks, other, line, mark_line, next_line, distance, reach)
        line, other = other, line
    edge = (g[G.BEFORE_W] + stride - 1) // stride - g[unit + U.OW]
    beyond = (g[G.IN_W] + g[G.BEFORE_W] + stride - 1) // stride - g[unit + U.OW]
    if edge > 0 or beyond < g[unit + U.COLS]:
        mark_edges(marks, to, pitch, rows, g[unit + U.OW], g[unit + U.COLS], g, none)


@inner
def mark_down(work, marks, to, before, line, slab_mark, line_h, tap_step, starts, unit, g, identity, none):
    """Fold lines of maxima down in order, to maxima and their positions in the plane, or the taps that they are.

    The lines at `line` are those of the input rows from `line_h` on, of a slab whose first element, or tap, has the mark
    `slab_mark`; taps are `tap_step` elements apart. The results of earlier slabs are at `before`, if that is not negative.
    """
    pitch, n, width = g[G.PITCH] // g[G.STRIDE_W], np.uintp(g[unit + U.COLS]), lanes(work)
    for r in range(g[unit + U.ROWS]):
        start = (g[unit + U.OH] + r) * g[G.STRIDE_H] - g[G.BEFORE_H]
        tap = first_tap(start, g[G.DILATION_H])
        taps = end_tap(start, g[G.IN_H], g[G.KERNEL_H], g[G.DILATION_H]) - tap
        in_h = start + tap * g[G.DILATION_H]
        first = marks.dtype.type(slab_mark + (tap * g[G.MARK_H] if g[G.IN_WINDOW] else in_h * g[G.IN_W]))
        step = marks.dtype.type(g[G.MARK_H])
        next_line = np.uintp(tap_step)
        i, target = np.uintp(line + (in_h - line_h) * pitch), np.uintp(to + r * pitch)
        earlier = np.uintp(before + r * pitch if before >= 0 else ZERO)
        column = np.uintp(0)
        if taps <= 0:
            for o in range(n):
                work[target + o] = identity
                marks[target + o] = none
            column = n
        elif taps == 3 and before < 0:
            second, third = i + next_line, i + next_line + next_line
            while column < n:
                best, mark = load(work, i + column, work), shifted(load_marks(marks, i + column, work), first)
                value_mark = shifted(load_marks(marks, second + column, work), first + step)
                best, mark = take(best, mark, load(work, second + column, work), value_mark)
                value_mark = shifted(load_marks(marks, third + column, work), first + step + step)
                best, mark = take(best, mark, load(work, third + column, work), value_mark)
                store(work, target + column, best)
                store(marks, target + column, add(mark, load_marks(marks, np.uintp(starts) + column, work)))
                column += width
        elif taps == 2 and before < 0:
            second = i + next_line
            while column < n:
                best, mark = load(work, i + column, work), shifted(load_marks(marks, i + column, work), first)
                value_mark = shifted(load_marks(marks, second + column, work), first + step)
                best, mark = take(best, mark, load(work, second + column, work), value_mark)
                store(work, target + column, best)
                store(marks, target + column, add(mark, load_marks(marks, np.uintp(starts) + column, work)))
                column += width
        while column < n:
            at, position = i + column, first
            best, mark = load(work, at, work), shifted(load_marks(marks, at, work), position)
            for _ in range(1, taps):
                at += next_line
                position += step
                value_mark = shifted(load_marks(marks, at, work), position)
                best, mark = take(best, mark, load(work, at, work), value_mark)
            mark = add(mark, load_marks(marks, np.uintp(starts) + column, work))
            if before >= 0:
                best, mark = take(
                    load(work, earlier + column, work), load_marks(marks, earlier + column, work), best, mark
                )
            store(work, target + column, best)
            store(marks, target + column, mark)
            column += width


@inlined
def mark_unit(work, marks, x, layout, plane, unit, g, is_first, identity, none):
    """Maxima of a unit and their positions in the plane, as lines of "across".

    Across first, then down: in this order equals go to the first in row-major order, whatever a window holds.
    """
    pitch, cols, rows = g[G.PITCH] // g[G.STRIDE_W], g[unit + U.COLS], g[unit + U.ROWS]
    lines, starts = g[G.FOLDED], g[G.SPARE]
    others = starts + pitch + np.int64(lanes(work))
    phases = others + (rows * pitch if g[G.KERNEL_D] > 1 else ZERO) + np.int64(lanes(work))
    is_tile = cols < g[G.OUT_W]
    if is_first or is_tile:
        mark_starts(marks, starts, g[unit + U.OW], cols, g)
    if g[unit + U.FIRST_BLOCK] == g[unit + U.END_BLOCK]:
        fill(work, g[G.ACROSS], identity, rows * pitch)
        fill(marks, g[G.ACROSS], none, rows * pitch)
    for number in range(g[unit + U.FIRST_BLOCK], g[unit + U.END_BLOCK]):
        b = g[G.BLOCKS] + number * B.FIELDS
        left, n, first, step, count = g[b + B.LINE] % g[G.PITCH], g[b + B.WIDTH], ZERO, ONE, g[b + B.H_TAPS]
        if rows == 1:  # only the rows that its windows hold are of interest
            start, step = g[unit + U.OH] * g[G.STRIDE_H] - g[G.BEFORE_H], g[G.DILATION_H]
            first = start + first_tap(start, step) * step - g[b + B.FIRST_H]
            count = (count - first + step - 1) // step
        if is_tile:
            fill(work, lines, identity, count * g[G.PITCH])
        slab, results = plane_at(layout, plane) + g[b + B.FIRST_W] * layout[L.W_STEP], g[G.ACROSS]
        if g[b + B.D_TAPS] % 2 == 0:  # so that the last are written to "across"
            results, others = others, results
        for d in range(g[b + B.D_TAPS]):
            in_d, in_h = g[b + B.FIRST_D] + d * g[G.DILATION_D], g[b + B.FIRST_H] + first
            row, row_step = slab + in_d * layout[L.D_STEP] + in_h * layout[L.H_STEP], step * layout[L.H_STEP]
            slab_mark = in_d * g[G.IN_H] * g[G.IN_W]
            if g[G.IN_WINDOW]:
                tap_d = (in_d + g[G.BEFORE_D] - g[unit + U.OD] * g[G.STRIDE_D]) // g[G.DILATION_D]
                slab_mark = tap_d * g[G.KERNEL_H] * g[G.KERNEL_W]
            copy_rows(larger, work, lines + left, x, layout, row, row_step, count, n, g, identity)
            mark_across(work, marks, g[G.STACK], phases, lines, count, unit, g, none)
            before, tap_step = others if d > 0 else -ONE, pitch if rows == 1 else g[G.DILATION_H] * pitch
            lines_h = g[G.STACK]
            mark_down(work, marks, results, before, lines_h, slab_mark, in_h, tap_step, starts, unit, g, identity, none)
            results, others = others, results


@inner
def store_marks(out, indices, end, work, marks, plane, unit, g):
    """Write maxima and their marks to the outputs; all bits of a mark are 1 for windows without a tap inside the input."""
    width, n, pitch = lanes(work), np.uintp(g[unit + U.COLS]), np.uintp(g[G.PITCH] // g[G.STRIDE_W])
    to, line = np.uintp(first_output(plane, unit, g)), np.uintp(g[G.ACROSS])
    for _ in range(g[unit + U.ROWS]):
        whole = whole_vectors(n, to, np.uintp(end), width)
        column = np.uintp(0)
        while column < whole:
            store(out, to + column, load(work, line + column, work))
            store(indices, to + column, indices_of(load_marks(marks, line + column, work), indices))
            column += width
        for lane in range((n - column) & (width - ONE_UP) if column < n else np.uintp(0)):
            mark = np.int64(marks[line + column + lane])
            put(out, to + column + lane, work[line + column + lane])
            indices[to + column + lane] = mark if mark >= 0 else -ONE
        to += np.uintp(g[G.OUT_W])
        line += pitch
