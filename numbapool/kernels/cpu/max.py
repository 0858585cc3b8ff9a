"""Maximum over windows, forward, with and without indices; the algorithms are explained in `schedule`."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.launch import Source, chunks_for, run
from numbapool.kernels.cpu.rows import ONE, ZERO, end_tap, first_tap, larger, plane_at, replaces
from numbapool.kernels.cpu.schedule import (
    ACROSS,
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    COLS,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    IN_D,
    IN_H,
    IN_W,
    KERNEL_D,
    KERNEL_H,
    KERNEL_W,
    LINES,
    OD,
    OH,
    OUT_D,
    OUT_H,
    OUT_W,
    OW,
    ROWS,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    WORK_SIZE,
    schedule_of,
)


def max_pool(plan: WindowPlan, x: Source, out: np.ndarray) -> None:
    """Maximum of each window into the flat array `out`."""
    schedule = schedule_of(plan, x.flat.itemsize, x.is_contiguous, False)
    chunks = chunks_for(schedule.units, x.flat.size)
    work = np.empty(chunks * schedule.work_size, x.flat.dtype)
    source = x.flat if x.layout[rows.DIRECT] else work
    layout = x.layout if schedule.layout is None else schedule.layout
    tables = schedule.geometry, schedule.unit_table, schedule.block_table
    run(KERNELS[schedule.algorithm], chunks, schedule.units, out, work, x.flat, source, layout, *tables, lowest(out.dtype))


def max_pool_with_indices(plan: WindowPlan, x: Source, out: np.ndarray, indices: np.ndarray) -> None:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input."""
    schedule = schedule_of(plan, x.flat.itemsize, x.is_contiguous, True)
    chunks = chunks_for(schedule.units, x.flat.size)
    work = np.empty(chunks * schedule.work_size, x.flat.dtype)
    none = no_mark(plan)
    marks = np.empty(work.size, none.dtype)
    source = x.flat if x.layout[rows.DIRECT] else work
    tables = schedule.geometry, schedule.unit_table, schedule.block_table
    kernel = max_windows_indices if schedule.algorithm == "windows" else max_strided_indices
    low = lowest(out.dtype)
    run(kernel, chunks, schedule.units, out, indices, work, marks, x.flat, source, x.layout, *tables, low, none)


def lowest(dtype: np.dtype[Any]) -> Any:
    """What a window without any tap gives: -inf, or the least value of an integer dtype."""
    return dtype.type(-np.inf) if dtype.kind == "f" else dtype.type(np.iinfo(dtype).min)


def no_mark(plan: WindowPlan) -> Any:
    """A mark larger than any flat position of a plane, in the narrowest dtype that vectorises with float32."""
    return np.int32(1 << 30) if plan.plane_size < 1 << 30 else np.int64(1 << 62)


@entry
def max_flat(first, last, chunk, out, work, x, source, layout, g, units, blocks, lowest):
    base = chunk * g[WORK_SIZE]
    rows.write_masks(work, base, g)
    for number in range(first, last):
        line, n = rows.fold_flat(larger, work, base, x, layout, number, g, lowest)
        rows.copy_block(out, number * g[LINES], ZERO, work, line, ZERO, ONE, n)


@entry
def max_dense(first, last, chunk, out, work, x, source, layout, g, units, blocks, lowest):
    base = chunk * g[WORK_SIZE]
    rows.fill(work, base, lowest, g[ACROSS])
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        rows.fold_dense(larger, work, base, x, source, layout, plane_at(layout, plane), unit, blocks, g, lowest)
        rows.store_unit(out, work, base, plane, unit, g)


@entry
def max_pairs(first, last, chunk, out, work, x, source, layout, g, units, blocks, lowest):
    base = chunk * g[WORK_SIZE]
    rows.fill(work, base, lowest, g[ACROSS])
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        rows.fold_blocks(larger, work, base, x, source, layout, plane_at(layout, plane), unit, blocks, g, lowest)
        rows.across_pairs(larger, work, base, g, unit[ROWS])
        rows.store_unit(out, work, base, plane, unit, g)


@entry
def max_strided(first, last, chunk, out, work, x, source, layout, g, units, blocks, lowest):
    base = chunk * g[WORK_SIZE]
    rows.fill(work, base, lowest, g[ACROSS])
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        rows.fold_blocks(larger, work, base, x, source, layout, plane_at(layout, plane), unit, blocks, g, lowest)
        rows.across_strided(larger, work, base, g, unit[ROWS])
        rows.store_unit(out, work, base, plane, unit, g)


@entry
def max_windows(first, last, chunk, out, work, x, source, layout, g, units, blocks, lowest):
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        to = ((plane * g[OUT_D] + unit[OD]) * g[OUT_H] + unit[OH]) * g[OUT_W]
        at = plane_at(layout, plane)
        for ow in range(unit[OW], unit[OW] + unit[COLS]):
            best, _ = scan_window(x, at, layout, g, unit[OD], unit[OH], ow, lowest)
            out[to + ow] = best


@entry
def max_strided_indices(
    first, last, chunk, out, indices, work, marks, x, source, layout, g, units, blocks, lowest, none
):
    base = chunk * g[WORK_SIZE]
    rows.fill(work, base, lowest, g[ACROSS])
    rows.fill(marks, base, none, g[ACROSS])
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        at = plane_at(layout, plane)
        rows.mark_blocks(work, marks, base, x, source, layout, at, unit, blocks, g, lowest, none)
        rows.mark_across(work, marks, base, g, unit[ROWS])
        rows.store_unit(out, work, base, plane, unit, g)
        rows.store_marks(indices, marks, base, plane, unit, g, none)


@entry
def max_windows_indices(
    first, last, chunk, out, indices, work, marks, x, source, layout, g, units, blocks, lowest, none
):
    for number in range(first, last):
        plane = number // len(units)
        unit = units[number - plane * len(units)]
        to = ((plane * g[OUT_D] + unit[OD]) * g[OUT_H] + unit[OH]) * g[OUT_W]
        at = plane_at(layout, plane)
        for ow in range(unit[OW], unit[OW] + unit[COLS]):
            best, index = scan_window(x, at, layout, g, unit[OD], unit[OH], ow, lowest)
            out[to + ow] = best
            indices[to + ow] = index


@inlined
def scan_window(x, at, layout, g, od, oh, ow, lowest):
    """Maximum of one window and its flat position in the plane, in row-major order over the taps inside the input."""
    d, h, w = od * g[STRIDE_D] - g[BEFORE_D], oh * g[STRIDE_H] - g[BEFORE_H], ow * g[STRIDE_W] - g[BEFORE_W]
    best, index = lowest, -ONE
    for i in range(first_tap(d, g[DILATION_D]), end_tap(d, g[IN_D], g[KERNEL_D], g[DILATION_D])):
        in_d = d + i * g[DILATION_D]
        for j in range(first_tap(h, g[DILATION_H]), end_tap(h, g[IN_H], g[KERNEL_H], g[DILATION_H])):
            in_h = h + j * g[DILATION_H]
            row = at + in_d * layout[rows.D_STEP] + in_h * layout[rows.H_STEP]
            for k in range(first_tap(w, g[DILATION_W]), end_tap(w, g[IN_W], g[KERNEL_W], g[DILATION_W])):
                in_w = w + k * g[DILATION_W]
                value = x[row + in_w * layout[rows.W_STEP]]
                if index < 0 or replaces(value, best):
                    best, index = value, (in_d * g[IN_H] + in_h) * g[IN_W] + in_w
    return best, index


KERNELS = {
    "flat": max_flat,
    "dense": max_dense,
    "pairs": max_pairs,
    "strided": max_strided,
    "windows": max_windows,
}
