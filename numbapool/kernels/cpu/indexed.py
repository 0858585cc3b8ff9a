"""Gradient of a maximum: each output's gradient goes to the position of its maximum, saved or found again.

Threads own ranges of the *input*, so none writes where another does, and each element sums its gradients in the order of
the outputs: the bits are the same for any number of threads.
"""

from __future__ import annotations

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.launch import Source, run
from numbapool.kernels.cpu.max import no_mark, scan_window
from numbapool.kernels.cpu.rows import ZERO, plane_at, touching
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
    LAYOUT,
    LAYOUT_FIELDS,
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
    UNIT_COUNT,
    UNIT_FIELDS,
    UNITS,
    WORK_SIZE,
    contiguous_out_layout,
    geometry_of,
    schedule_of,
    with_layout,
)
from numbapool.kernels.cpu.vectors import lowest


def max_pool_backward_from_indices(
    plan: WindowPlan, grad_output: Source, indices: Source, grad_input: np.ndarray
) -> bool:
    """Add each gradient to the element its index names; False if an index lies outside the plane (but -1 means none)."""
    owned = _owned(plan)
    bad = np.zeros(1, np.int64)
    arguments = grad_input, *_of_output(plan, grad_output), *_of_output(plan, indices), geometry_of(plan), owned, bad
    run(scatter, plan.planes * plan.plane_size // owned, plan.planes * plan.out_plane_size, *arguments)
    return not bad[0]


def max_pool_backward(plan: WindowPlan, grad_output: Source, x: Source, grad_input: np.ndarray) -> None:
    """The same with the positions of the maxima found again."""
    flat, layout = x
    schedule = schedule_of(plan, flat.itemsize, layout is None, True)
    owned = _owned(plan)
    kernel = scan_and_scatter if schedule.algorithm == "windows" else mark_and_scatter
    program = with_layout(schedule.program, LAYOUT, layout)
    arguments = flat, program, owned, no_mark(plan)
    run(
        kernel,
        plan.planes * plan.plane_size // owned,
        flat.size,
        grad_input,
        *_of_output(plan, grad_output),
        *arguments,
    )


def _of_output(plan: WindowPlan, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Flat array and layout of a source with the shape of the output."""
    flat, layout = source
    return flat, contiguous_out_layout(plan) if layout is None else layout


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
def scatter(first, last, grad_input, grad, layout, indices, index_layout, g, owned, bad):
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
                        bad[0] = 1
        plane += 1


@entry
def mark_and_scatter(first, last, grad_input, grad, layout, x, g, owned, none):
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    work = np.full(g[WORK_SIZE], lowest(x))
    marks = np.full(g[WORK_SIZE], none)
    x_layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    begin, end = first * owned, last * owned
    rows.fill(grad_input, begin, grad_input.dtype.type(0), end - begin)
    plane = begin // plane_size
    is_first = True
    while plane * plane_size < end:
        origin = plane * plane_size
        own0, own1 = max(begin - origin, ZERO), min(end - origin, plane_size)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        at = plane_at(layout, plane)
        for number in range(g[UNIT_COUNT]):
            unit = g[UNITS] + number * UNIT_FIELDS
            outside = (
                g[unit + OD] < od0 or g[unit + OD] >= od1 or g[unit + OH] + g[unit + ROWS] <= oh0 or g[unit + OH] >= oh1
            )
            if outside or g[unit + OW] + g[unit + COLS] <= ow0 or g[unit + OW] >= ow1:
                continue
            rows.mark_unit(work, marks, x, x_layout, plane, unit, g, is_first, lowest(x), none)
            is_first = False
            for r in range(g[unit + ROWS]):
                line = g[ACROSS] + r * (g[PITCH] // g[STRIDE_W])
                row = at + g[unit + OD] * layout[rows.D_STEP] + (g[unit + OH] + r) * layout[rows.H_STEP]
                row += g[unit + OW] * layout[rows.W_STEP]
                for o in range(g[unit + COLS]):
                    mark = np.int64(marks[np.uintp(line + o)])
                    if own0 <= mark < own1:
                        grad_input[np.uintp(origin + mark)] += grad[np.uintp(row + o * layout[rows.W_STEP])]
        plane += 1


@entry
def scan_and_scatter(first, last, grad_input, grad, layout, x, g, owned, none):
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    x_layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
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
                    _, index = scan_window(x, plane_at(x_layout, plane), x_layout, g, od, oh, ow)
                    if own0 <= index < own1:
                        grad_input[np.uintp(origin + index)] += grad[np.uintp(row + ow * layout[rows.W_STEP])]
        plane += 1
