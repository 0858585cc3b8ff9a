"""Maximum over windows, forward, with and without indices; the algorithms are explained in `schedule`."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.elements import value_dtype
from numbapool.geometry import BinPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.bins import max_bins, max_bins_with_indices
from numbapool.kernels.cpu.channels import as_rows, max_channels, max_channels_with_indices
from numbapool.kernels.cpu.codes import CallInWindow
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.marks import mark_unit, no_mark, store_marks
from numbapool.kernels.cpu.rows import ONE, ONE_UP, ZERO, as_it_is, end_tap, first_tap, plane_at, replaces
from numbapool.kernels.cpu.schedule import (
    DENSE,
    FLAT,
    INDICES,
    ROWS,
    STRIDED,
    WHOLE,
    WINDOWS,
    AnyPlan,
    counting_taps,
    schedule_of,
)
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.threads import Launch
from numbapool.kernels.cpu.vectors import element, larger, lowest, put

# Elements that are compared with a maximum before it matters whether it is among them: a loop without an exit is vectorised.
SEARCHED = np.uintp(64)


def max_pool(plan: AnyPlan, dtype: np.dtype[Any], is_contiguous: bool) -> Launch:
    """Maximum of each window."""
    if plan.channels > 1:
        long = as_rows(plan)
        if long is None:
            return max_channels(plan)
        plan = long
    if isinstance(plan, BinPlan):
        return max_bins(plan, dtype, is_contiguous)
    algorithm, units, program = schedule_of(plan, value_dtype(dtype).itemsize, is_contiguous, False)
    return Launch(KERNELS[algorithm], units, program, ())


def max_pool_with_indices(
    plan: AnyPlan, dtype: np.dtype[Any], is_contiguous: bool, in_window: bool = False
) -> Launch | CallInWindow:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input.

    Or, `in_window`, which tap of the window it is, in row-major order, and all bits 1 where there is none.
    """
    if plan.channels > 1:
        call = max_channels_with_indices(plan)
        return CallInWindow(call, plan) if in_window else call
    if isinstance(plan, BinPlan):
        call = max_bins_with_indices(plan, dtype, is_contiguous)
        return CallInWindow(call, plan) if in_window else call
    algorithm, units, program = schedule_of(plan, value_dtype(dtype).itemsize, is_contiguous, True)
    program = counting_taps(program) if in_window else program
    return Launch(INDEX_KERNELS[algorithm], units, program, (no_mark(plan),))


@entry
def max_flat(first, last, out, x, g):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    rows.write_masks(work, g)
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        line, n = rows.fold_flat(larger, work, x, layout, plane, planes, g, lowest(x))
        rows.store_flat(larger, as_it_is, out, end, work, work, ZERO, plane, unit, g, line, n)


@entry
def max_rows(first, last, out, x, g):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_blocks(larger, work, x, layout, plane, planes, unit, g, lowest(x))
        rows.store_unit(
            larger, as_it_is, out, end, work, work, plane, planes, unit, g, g[G.FOLDED], g[G.STRIDE_W], g[G.KERNEL_W]
        )


@entry
def max_dense(first, last, out, x, g):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_dense(larger, work, x, layout, plane, unit, g, lowest(x))
        rows.store_unit(larger, as_it_is, out, end, work, work, plane, planes, unit, g, g[G.ACROSS], ONE, ONE)


@entry
def max_strided(first, last, out, x, g):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        line, stride, taps = rows.fold_strided(larger, work, x, layout, plane, planes, unit, g, lowest(x))
        rows.store_unit(larger, as_it_is, out, end, work, work, plane, planes, unit, g, line, stride, taps)


@entry
def max_whole(first, last, out, x, g):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for plane in range(first, last):
        put(out, np.uintp(plane), rows.fold_whole(larger, work, ZERO, x, plane_at(layout, plane), g[G.IN_W]))


@entry
def max_windows(first, last, out, x, g):
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, _, unit = rows.unit_of(number, g)
        to = rows.first_output(plane, unit, g) - g[unit + U.OW]
        at = plane_at(layout, plane)
        for ow in range(g[unit + U.OW], g[unit + U.OW] + g[unit + U.COLS]):
            best, _, _ = scan_window(x, at, layout, g, g[unit + U.OD], g[unit + U.OH], ow)
            put(out, np.uintp(to + ow), best)


@entry
def max_indices(first, last, out, indices, x, g, none):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    marks = np.full(g[G.FOLDED], none)
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, _, unit = rows.unit_of(number, g)
        mark_unit(work, marks, x, layout, plane, unit, g, number == first, lowest(x), none)
        store_marks(out, indices, end, work, marks, plane, unit, g)


@entry
def max_whole_indices(first, last, out, indices, x, g, none):
    work = np.full(g[G.WORK_SIZE], lowest(x))
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for plane in range(first, last):
        at = plane_at(layout, plane)
        best = rows.fold_whole(larger, work, ZERO, x, at, g[G.IN_W])
        index = position_of(best, x, at, g[G.IN_W])
        put(out, np.uintp(plane), element(x, np.uintp(at + index), x))
        indices[plane] = index


@inner
def position_of(best, x, at, n):
    """Where the first element is that equals the largest, or the last NaN, for which it need not be searched in a hurry."""
    first, end = np.uintp(at), np.uintp(n)
    if best != best:
        end -= ONE_UP
        while element(x, first + end, x) == element(x, first + end, x):
            end -= ONE_UP
        return np.int64(end)
    start = np.uintp(0)
    while start + SEARCHED <= end:
        number = np.uintp(0)
        for i in range(SEARCHED):
            number += np.uintp(element(x, first + start + i, x) == best)
        if number > 0:
            break
        start += SEARCHED
    while element(x, first + start, x) != best:
        start += ONE_UP
    return np.int64(start)


@entry
def max_windows_indices(first, last, out, indices, x, g, none):
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, _, unit = rows.unit_of(number, g)
        to = rows.first_output(plane, unit, g) - g[unit + U.OW]
        at = plane_at(layout, plane)
        for ow in range(g[unit + U.OW], g[unit + U.OW] + g[unit + U.COLS]):
            best, index, tap = scan_window(x, at, layout, g, g[unit + U.OD], g[unit + U.OH], ow)
            put(out, np.uintp(to + ow), best)
            indices[to + ow] = tap if g[G.IN_WINDOW] else index


@inlined
def scan_window(x, at, layout, g, od, oh, ow):
    """Maximum of one window, its flat position in the plane and which tap it is, in row-major order of those in the input."""
    d, h, w = od * g[G.STRIDE_D] - g[G.BEFORE_D], oh * g[G.STRIDE_H] - g[G.BEFORE_H], ow * g[G.STRIDE_W] - g[G.BEFORE_W]
    best, index, tap = lowest(x), -ONE, -ONE
    for i in range(first_tap(d, g[G.DILATION_D]), end_tap(d, g[G.IN_D], g[G.KERNEL_D], g[G.DILATION_D])):
        in_d = d + i * g[G.DILATION_D]
        for j in range(first_tap(h, g[G.DILATION_H]), end_tap(h, g[G.IN_H], g[G.KERNEL_H], g[G.DILATION_H])):
            in_h = h + j * g[G.DILATION_H]
            row = at + in_d * layout[L.D_STEP] + in_h * layout[L.H_STEP]
            for k in range(first_tap(w, g[G.DILATION_W]), end_tap(w, g[G.IN_W], g[G.KERNEL_W], g[G.DILATION_W])):
                in_w = w + k * g[G.DILATION_W]
                value = element(x, np.uintp(row + in_w * layout[L.W_STEP]), x)
                if index < 0 or replaces(value, best):
                    best, index = value, (in_d * g[G.IN_H] + in_h) * g[G.IN_W] + in_w
                    tap = (i * g[G.KERNEL_H] + j) * g[G.KERNEL_W] + k
    return best, index, tap


INDEX_KERNELS = {INDICES: max_indices, WHOLE: max_whole_indices, WINDOWS: max_windows_indices}
KERNELS = {
    FLAT: max_flat,
    ROWS: max_rows,
    DENSE: max_dense,
    STRIDED: max_strided,
    WHOLE: max_whole,
    WINDOWS: max_windows,
}
