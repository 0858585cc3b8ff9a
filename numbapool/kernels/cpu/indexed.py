"""Gradient of a maximum: each output's gradient goes to the position of its maximum, saved or found again.

Threads own ranges of the *input*, so none writes where another does, and each element sums its gradients in the order of
the outputs: the bits are the same for any number of threads.
"""

from __future__ import annotations

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.launch import Source, chunks_for, run
from numbapool.kernels.cpu.max import lowest, no_mark, scan_window
from numbapool.kernels.cpu.rows import ONE, ZERO, plane_at, touching
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
    OD,
    OH,
    OUT_D,
    OUT_H,
    OUT_W,
    OW,
    PITCH,
    ROWS,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    WORK_SIZE,
    geometry_of,
    schedule_of,
)


def max_pool_backward_from_indices(
    plan: WindowPlan, grad_output: Source, indices: Source, grad_input: np.ndarray
) -> bool:
    """Add each gradient to the element its index names; False if an index lies outside the plane (but -1 means none)."""
    owned = _owned(plan)
    units = plan.planes * plan.plane_size // owned
    chunks = chunks_for(units, plan.planes * plan.out_plane_size)
    bad = np.zeros(chunks, np.int64)
    arguments = grad_input, grad_output.flat, grad_output.layout, indices.flat, indices.layout, geometry_of(plan), owned, bad
    run(scatter, chunks, units, *arguments)
    return not bad.any()


def max_pool_backward(plan: WindowPlan, grad_output: Source, x: Source, grad_input: np.ndarray) -> None:
    """The same with the positions of the maxima found again."""
    schedule = schedule_of(plan, x.flat.itemsize, x.is_contiguous, True)
    owned = _owned(plan)
    units = plan.planes * plan.plane_size // owned
    chunks = chunks_for(units, x.flat.size)
    none = no_mark(plan)
    work = np.empty(chunks * schedule.work_size, x.flat.dtype)
    marks = np.empty(work.size, none.dtype)
    source = x.flat if x.layout[rows.DIRECT] else work
    tables = schedule.geometry, schedule.unit_table, schedule.block_table
    gradients = grad_input, grad_output.flat, grad_output.layout
    low = lowest(x.flat.dtype)
    if schedule.algorithm == "windows":
        run(scan_and_scatter, chunks, units, *gradients, x.flat, x.layout, schedule.geometry, owned, low)
    else:
        arguments = *gradients, work, marks, x.flat, source, x.layout, *tables, owned, low, none
        run(mark_and_scatter, chunks, units, *arguments)


def _owned(plan: WindowPlan) -> int:
    """Input elements that threads share out: whole planes where there are many, else single elements."""
    return plan.plane_size if plan.planes >= 64 else 1


@inlined
def windows_of_range(g, first, last):
    """Ranges of windows along d, h and w that may read flat positions first <= i < last of a plane."""
    row0, row1 = first // g[IN_W], (last - 1) // g[IN_W]
    d0, d1 = row0 // g[IN_H], row1 // g[IN_H]
    h0, h1 = (row0 - d0 * g[IN_H], row1 - d1 * g[IN_H]) if d0 == d1 else (ZERO, g[IN_H] - 1)
    w0, w1 = (first - row0 * g[IN_W], last - 1 - row1 * g[IN_W]) if row0 == row1 else (ZERO, g[IN_W] - 1)
    od0, od1 = touching(g[IN_D], g[OUT_D], g[KERNEL_D], g[STRIDE_D], g[DILATION_D], g[BEFORE_D], d0, d1)
    oh0, oh1 = touching(g[IN_H], g[OUT_H], g[KERNEL_H], g[STRIDE_H], g[DILATION_H], g[BEFORE_H], h0, h1)
    ow0, ow1 = touching(g[IN_W], g[OUT_W], g[KERNEL_W], g[STRIDE_W], g[DILATION_W], g[BEFORE_W], w0, w1)
    return od0, od1, oh0, oh1, ow0, ow1


@entry
def scatter(first, last, chunk, grad_input, grad, layout, indices, index_layout, g, owned, bad):
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    begin, end = first * owned, last * owned
    rows.fill(grad_input, begin, grad_input.dtype.type(0), end - begin)
    plane = begin // plane_size
    while plane * plane_size < end:
        origin = plane * plane_size
        own0, own1 = max(begin - origin, ZERO), min(end - origin, plane_size)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        at, index_at = plane_at(layout, plane), plane_at(index_layout, plane)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row = at + od * layout[rows.D_STEP] + oh * layout[rows.H_STEP]
                index_row = index_at + od * index_layout[rows.D_STEP] + oh * index_layout[rows.H_STEP]
                for ow in range(ow0, ow1):
                    index = indices[np.uintp(index_row + ow * index_layout[rows.W_STEP])]
                    if own0 <= index < own1:
                        grad_input[np.uintp(origin + index)] += grad[np.uintp(row + ow * layout[rows.W_STEP])]
                    elif index < -1 or index >= plane_size:
                        bad[chunk] = 1
        plane += 1


@entry
def mark_and_scatter(
    first, last, chunk, grad_input, grad, layout, work, marks, x, source, x_layout, g, units, blocks, owned, lowest, none
):
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    base = chunk * g[WORK_SIZE]
    rows.fill(work, base, lowest, g[ACROSS])
    rows.fill(marks, base, none, g[ACROSS])
    begin, end = first * owned, last * owned
    rows.fill(grad_input, begin, grad_input.dtype.type(0), end - begin)
    plane = begin // plane_size
    while plane * plane_size < end:
        origin = plane * plane_size
        own0, own1 = max(begin - origin, ZERO), min(end - origin, plane_size)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        at = plane_at(layout, plane)
        for number in range(len(units)):
            unit = units[number]
            outside = unit[OD] < od0 or unit[OD] >= od1 or unit[OH] + unit[ROWS] <= oh0 or unit[OH] >= oh1
            if outside or unit[OW] + unit[COLS] <= ow0 or unit[OW] >= ow1:
                continue
            x_at = plane_at(x_layout, plane)
            rows.mark_blocks(work, marks, base, x, source, x_layout, x_at, unit, blocks, g, lowest, none)
            rows.mark_across(work, marks, base, g, unit[ROWS])
            for r in range(unit[ROWS]):
                line = base + g[ACROSS] + r * (g[PITCH] // g[STRIDE_W])
                row = at + unit[OD] * layout[rows.D_STEP] + (unit[OH] + r) * layout[rows.H_STEP]
                row += unit[OW] * layout[rows.W_STEP]
                for o in range(unit[COLS]):
                    mark = np.int64(marks[np.uintp(line + o)])
                    if own0 <= mark < own1:
                        grad_input[np.uintp(origin + mark)] += grad[np.uintp(row + o * layout[rows.W_STEP])]
        plane += 1


@entry
def scan_and_scatter(first, last, chunk, grad_input, grad, layout, x, x_layout, g, owned, lowest):
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    begin, end = first * owned, last * owned
    rows.fill(grad_input, begin, grad_input.dtype.type(0), end - begin)
    plane = begin // plane_size
    while plane * plane_size < end:
        origin = plane * plane_size
        own0, own1 = max(begin - origin, ZERO), min(end - origin, plane_size)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        at = plane_at(layout, plane)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row = at + od * layout[rows.D_STEP] + oh * layout[rows.H_STEP]
                for ow in range(ow0, ow1):
                    _, index = scan_window(x, plane_at(x_layout, plane), x_layout, g, od, oh, ow, lowest)
                    if own0 <= index < own1:
                        grad_input[np.uintp(origin + index)] += grad[np.uintp(row + ow * layout[rows.W_STEP])]
        plane += 1
