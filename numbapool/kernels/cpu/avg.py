"""Mean over windows, forward and backward; the algorithms are explained in `schedule`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from numbapool.arguments import LARGEST_INT64
from numbapool.compilable import compilable
from numbapool.geometry import BinPlan, WindowPlan
from numbapool.kernels.cpu import rows, spread
from numbapool.kernels.cpu.bins import avg_bins, avg_bins_backward, avg_handed_out, receivers_program
from numbapool.kernels.cpu.channels import as_rows, avg_channels, avg_channels_backward
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.rows import ONE, ZERO, divided, end_tap, first_tap, plane_at, touching
from numbapool.kernels.cpu.schedule import (
    DENSE,
    FLAT,
    ROWS,
    STRIDED,
    WHOLE,
    WINDOWS,
    AnyPlan,
    Planes,
    contiguous_layout_of,
    geometry_of_planes,
    planes_of,
    schedule_of,
    with_layout,
)
from numbapool.kernels.cpu.spread import simplified_for_spread, spread_program
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import tiling as T
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.taps import inside_range, receivers_along, taps_along
from numbapool.kernels.cpu.threads import Launch, Source, run
from numbapool.kernels.cpu.vectors import VECTOR_BYTES, accumulator_of, add, element, no_sum, put, quotient, wide_sum
from numbapool.windows import Axis, holds_all_windows

# Elements that are summed in their own dtype before their sum is added in float64: a float32 mean of 2 million elements was
# 1.2e-3 off without, and is 3e-7 off with.
WHOLE_BLOCK = 2048
# Windows at least this far apart, and of up to so many strides, may be handed out, in rows that receive from so many rows, and
# whose tables stay below 1 MiB.
SMALLEST_STRIDE = 3
MOST_OVERLAP = 6
MOST_ROWS = 12
LONGEST_TABLE = 1 << 14

# The ways of a backward pass.
#
# SPREAD: gradients are stacked and folded by shifts.
# HANDED_OUT: each row is picked from the gradients that it receives, by tables.
# SCATTER: tap by tap.
SPREAD, HANDED_OUT, SCATTER = range(3)


def avg_pool(
    plan: AnyPlan,
    dtype: np.dtype[Any],
    is_contiguous: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> Launch:
    """Mean of each window; integers are summed in 64 bits and rounded to the nearest, halves to even, or towards zero."""
    if plan.channels > 1:
        long = as_rows(plan)
        if long is None:
            return avg_channels(plan, dtype, count_include_pad, divisor_override, is_rounded)
        plan = long
    if isinstance(plan, BinPlan):
        return avg_bins(plan, dtype, is_contiguous, is_rounded)
    sums = accumulator_of(dtype)
    is_integer = sums.kind != "f"
    algorithm, units, program = schedule_of(plan, sums.itemsize, is_contiguous, False)
    program, like = program.copy(), np.empty(0, np.int64 if is_integer else sums)
    arguments = like, is_integer, count_include_pad, divisor_override or 0
    divisors = divisors_of(planes_of(plan), algorithm, program, *arguments)
    return Launch(KERNELS[algorithm], units, program, (rows.with_rounding(divisors, is_rounded),))


def sum_pool(plan: WindowPlan, dtype: np.dtype[Any], is_contiguous: bool) -> Launch:
    """Sum of each window; integers in 64 bits."""
    return avg_pool(plan, dtype, is_contiguous, True, 1, False)


def sum_pool_backward(plan: WindowPlan, grad_output: Source, grad_input: np.ndarray) -> None:
    """Gradient of the sum: each input element takes the gradients of the windows that hold it."""
    avg_pool_backward(plan, grad_output, grad_input, True, 1, False)


def avg_pool_backward(
    plan: AnyPlan,
    grad_output: Source,
    grad_input: np.ndarray,
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> None:
    """Gradient of the mean: each input element takes its share of the windows that hold it (integers have none)."""
    if plan.channels > 1:
        long = as_rows(plan)
        if long is None:
            avg_channels_backward(plan, grad_output[0], grad_input, count_include_pad, divisor_override)
            return
        plan = long
    if isinstance(plan, BinPlan):
        avg_bins_backward(plan, grad_output, grad_input)
        return
    grad, layout = grad_output
    sums = accumulator_of(grad_input.dtype)
    way, units, program, divisors = _backward_of(plan, sums, layout is None, count_include_pad, divisor_override or 0)
    run(
        BACKWARD_KERNELS[way],
        units,
        grad_input.size,
        grad_input,
        grad,
        with_layout(program, layout),
        divisors,
    )


@lru_cache(maxsize=512)
def _backward_of(
    plan: WindowPlan, dtype: np.dtype[Any], is_contiguous: bool, count_include_pad: bool, divisor: int
) -> tuple[int, int, np.ndarray, np.ndarray]:
    return backward_program(planes_of(plan), np.empty(0, dtype), is_contiguous, count_include_pad, divisor)


# A divisor of 0 means the number of elements.


@compilable
def backward_program(
    planes: Planes, like: np.ndarray, is_contiguous: bool, count_include_pad: bool, divisor: int
) -> tuple[int, int, np.ndarray, np.ndarray]:
    """The way of a backward pass, its units, program and divisors, of the dtype of `like`."""
    planes = simplified_for_spread(planes, is_contiguous)
    d, h, w = planes.d, planes.h, planes.w
    is_uniform = divisor != 0 or (holds_all_windows(d) and holds_all_windows(h) and holds_all_windows(w))
    if is_uniform:
        factors = np.full(1, divisor if divisor != 0 else w.kernel * h.kernel * d.kernel).astype(like.dtype)
        across = np.ones(w.out, like.dtype)
    else:
        factors = factors_of(d, d.out, h, h.out, count_include_pad).astype(like.dtype)
        across = taps_along(w, 0, w.out, count_include_pad).astype(like.dtype)
    if is_handed_out(planes):
        layout = contiguous_layout_of(planes.number, d.out, h.out, w.out)
        receivers = receivers_along(d), receivers_along(h), receivers_along(w)
        program = receivers_program(geometry_of_planes(planes), layout, *receivers)
        room = np.ones(VECTOR_BYTES // like.itemsize, like.dtype)
        divisors = np.concatenate((across, room, factor_of_rows(factors, d, h)))
        return HANDED_OUT, planes.number * d.length * h.length, program, divisors
    units, program = spread_program(planes, like.itemsize, is_contiguous)
    if len(program) == 0:
        program = np.concatenate((geometry_of_planes(planes), contiguous_layout_of(planes.number, d.out, h.out, w.out)))
        program[G.LAYOUT] = len(program) - L.FIELDS
        divisors = np.concatenate((factor_of_rows(factors, d, h), across))
        return SCATTER, planes.number * d.length * h.length, program, divisors
    if is_uniform:
        return SPREAD, units, program, factors
    inside0, inside1 = inside_range(w)
    program[T.VARIES] = 1
    program[T.FULL_W] = w.kernel
    program[T.INSIDE0], program[T.INSIDE1] = inside0, inside1
    program[T.EDGES] = len(factors)
    return SPREAD, units, program, np.concatenate((factors, across[:inside0], across[inside1:]))


@compilable
def factor_of_rows(factors: np.ndarray, d: Axis, h: Axis) -> np.ndarray:
    """A factor for each row of outputs, of one that serves all or of as many."""
    return factors if len(factors) == d.out * h.out else np.full(d.out * h.out, factors[0])


@compilable
def is_handed_out(planes: Planes) -> bool:
    """Whether rows of gradients are made by tables: windows of neighbours far apart that overlap, or reach padding.

    8x64x112x112 in ms, folded and by tables: 5x5/3 43 and 14, 9x9/8 15 and 9, 3x3/3 with padding 44 and 9, without 8.3 and 9.0;
    5x5/2 3.4 and 25. 16x64x16384, windows of 20/3: 149 and 174. 4x16x224x224, at strides 1 down and 3 across: windows of 9x5 8.7
    and 4.6, of 31x5 9.3 and 12.9.
    """
    d, h, w = planes.d, planes.h, planes.w
    overlaps = w.stride < w.kernel <= MOST_OVERLAP * w.stride or (w.kernel <= w.stride and w.before > 0)
    rows = -(-h.kernel // h.stride) * -(-d.kernel // d.stride)
    is_dense = d.dilation == h.dilation == w.dilation == 1
    return w.stride >= SMALLEST_STRIDE and overlaps and is_dense and rows <= MOST_ROWS and w.length <= LONGEST_TABLE


@compilable
def factors_of(d: Axis, rows_d: int, h: Axis, rows_h: int, count_include_pad: bool) -> np.ndarray:
    """The number of elements, along d and h, of windows of the first so many rows of outputs."""
    taps_d, taps_h = taps_along(d, 0, rows_d, count_include_pad), taps_along(h, 0, rows_h, count_include_pad)
    return (taps_d.astype(np.float64).reshape(-1, 1) * taps_h.astype(np.float64)).ravel()


@compilable
def divisors_of(
    planes: Planes,
    algorithm: int,
    program: np.ndarray,
    like: np.ndarray,
    is_integer: bool,
    count_include_pad: bool,
    divisor: int,
) -> np.ndarray:
    """What sums are divided by, in the dtype of `like`: that of the sums, or int64. Writes into the program where it is.

    A divisor is the product of two numbers: of taps along w, of which each unit has a line, and along d and h, a factor for
    each row of the output. Where all divisors are the same there is one line and one factor behind it. For FLAT there
    is a single line, of the products.
    """
    d, h, w = planes.d, planes.h, planes.w
    is_uniform = divisor != 0 or program[G.INSIDE] == 1
    taps_of_w, room = w.kernel if divisor == 0 else 1, VECTOR_BYTES // like.itemsize
    ones = np.ones(room, like.dtype)
    if divisor != 0:
        factors = np.full(1, divisor).astype(like.dtype)
    else:
        counts = factors_of(d, 1 if is_uniform else d.out, h, 1 if is_uniform else h.out, count_include_pad)
        if is_integer:
            counts[counts * w.kernel > LARGEST_INT64] = 0  # by which any sum gives 0, see `quotient`
        factors = counts.astype(like.dtype)
    if algorithm == FLAT:
        across = np.full(w.out, taps_of_w) if is_uniform else taps_along(w, 0, w.out, count_include_pad)
        products = (np.ones(d.out * h.out, like.dtype) * factors).reshape(-1, 1) * across.astype(like.dtype)
        group = np.ones(program[G.GROUP], like.dtype).reshape(-1, 1)
        return np.concatenate(((group * products.ravel()).ravel(), ones))
    program[G.VARIES] = int(not is_uniform)
    if is_uniform:
        lines = np.full(room, taps_of_w).astype(like.dtype)
    else:
        units = program[program[G.UNITS] : program[G.BLOCKS]].reshape(-1, U.FIELDS)
        widest = units[0, U.COLS]
        positions = np.zeros(-(-w.out // widest), np.int64)
        lines, known_cols, known_taps, known_at = np.zeros(0, like.dtype), 0, 0, 0
        for tile in range(len(positions)):
            cols = min(widest, w.out - tile * widest)
            line = taps_along(w, tile * widest, cols, count_include_pad)
            is_even = line.min() == line.max()
            # Tiles share a line if all its divisors are equal, as they are away from the padding.
            if is_even and cols == known_cols and line[0] == known_taps:
                positions[tile] = known_at
                continue
            positions[tile] = len(lines)
            if is_even:
                known_cols, known_taps, known_at = cols, line[0], len(lines)
            lines = np.concatenate((lines, line.astype(like.dtype), ones))
        units[:, U.DIVISORS] = positions[units[:, U.OW] // widest]
    program[G.FACTORS] = len(lines)
    return np.concatenate((lines, factors))


@entry
def avg_flat(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    rows.write_masks(work, g)
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        line, n = rows.fold_flat(add, work, x, layout, plane, planes, g, no_sum(x))
        rows.store_flat(add, divided, out, end, work, divisors, divisors.size - 2, plane, unit, g, line, n)


@entry
def avg_rows(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_blocks(add, work, x, layout, plane, planes, unit, g, no_sum(x))
        rows.store_unit(
            add, divided, out, end, work, divisors, plane, planes, unit, g, g[G.FOLDED], g[G.STRIDE_W], g[G.KERNEL_W]
        )


@entry
def avg_dense(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_dense(add, work, x, layout, plane, unit, g, no_sum(x))
        rows.store_unit(add, divided, out, end, work, divisors, plane, planes, unit, g, g[G.ACROSS], ONE, ONE)


@entry
def avg_strided(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        line, stride, taps = rows.fold_strided(add, work, x, layout, plane, planes, unit, g, no_sum(x))
        rows.store_unit(add, divided, out, end, work, divisors, plane, planes, unit, g, line, stride, taps)


@entry
def avg_whole(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    divisor = divisors[0] * divisors[g[G.FACTORS]]
    for plane in range(first, last):
        at, total, start = plane_at(layout, plane), wide_sum(x), ZERO
        while start < g[G.IN_W]:
            # The last takes what is left, because less than four vectors cannot be folded.
            n = WHOLE_BLOCK if start + 2 * WHOLE_BLOCK <= g[G.IN_W] else g[G.IN_W] - start
            total = total + rows.fold_whole(add, work, ZERO, x, at + start, n)
            start += n
        put(out, np.uintp(plane), quotient(work.dtype.type(total), divisor, divisors[divisors.size - 1] != 0))


@entry
def avg_windows(first, last, out, x, g, divisors):
    work = np.full(g[G.WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        for o in range(g[unit + U.COLS]):
            work[g[G.ACROSS] + o] = sum_window(
                x, plane_at(layout, plane), layout, g, g[unit + U.OD], g[unit + U.OH], g[unit + U.OW] + o
            )
        rows.store_unit(add, divided, out, end, work, divisors, plane, planes, unit, g, g[G.ACROSS], ONE, ONE)


@inlined
def sum_window(x, at, layout, g, od, oh, ow):
    """Sum of the taps of one window that are inside the input."""
    d, h, w = od * g[G.STRIDE_D] - g[G.BEFORE_D], oh * g[G.STRIDE_H] - g[G.BEFORE_H], ow * g[G.STRIDE_W] - g[G.BEFORE_W]
    total = wide_sum(x)  # of more terms than any other way of adding them
    for i in range(first_tap(d, g[G.DILATION_D]), end_tap(d, g[G.IN_D], g[G.KERNEL_D], g[G.DILATION_D])):
        for j in range(first_tap(h, g[G.DILATION_H]), end_tap(h, g[G.IN_H], g[G.KERNEL_H], g[G.DILATION_H])):
            row = at + (d + i * g[G.DILATION_D]) * layout[L.D_STEP] + (h + j * g[G.DILATION_H]) * layout[L.H_STEP]
            for k in range(first_tap(w, g[G.DILATION_W]), end_tap(w, g[G.IN_W], g[G.KERNEL_W], g[G.DILATION_W])):
                total = total + element(x, np.uintp(row + (w + k * g[G.DILATION_W]) * layout[L.W_STEP]), x)
    return total


@entry
def avg_spread(first, last, grad_input, grad, g, divisors):
    work = np.full(g[T.WORK_SIZE], no_sum(grad_input))
    lines = np.zeros(spread.MOST_KINDS, np.int64)
    layout = g[g[T.LAYOUT] : g[T.LAYOUT] + L.FIELDS]
    end = spread.free_end(grad_input, last, g)
    for number in range(first, last):
        slab, step_h, step_w = spread.tile_of(number, g)
        high, wide = spread.extent_of_tile(step_h, step_w, g)
        plane = slab // g[T.IN_D]
        planes, d = min(g[T.GROUP], g[T.PLANES] - plane), slab - plane * g[T.IN_D]
        is_first = number == first
        spread.stack_outputs(work, grad, layout, g, divisors, plane, planes, d, step_h, high, step_w, wide, is_first)
        spread.spread_stack(work, lines, g, planes, high)
        spread.write_tile(grad_input, end, work, lines, slab, planes, step_h, high, step_w, g)


@inlined
def holds(distance, kernel, dilation):
    """Whether a window holds the element at this distance from its first tap."""
    return distance >= 0 and distance % dilation == 0 and distance // dilation < kernel


@entry
def avg_scatter(first, last, grad_input, grad, g, divisors):
    line = np.full(g[G.IN_W], no_sum(grad_input))
    layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    across = g[G.OUT_D] * g[G.OUT_H]
    for row in range(first, last):
        slab = row // g[G.IN_H]
        plane = slab // g[G.IN_D]
        in_d, in_h, to = slab - plane * g[G.IN_D], row - slab * g[G.IN_H], row * g[G.IN_W]
        rows.fill(line, ZERO, no_sum(grad_input), g[G.IN_W])
        at = plane_at(layout, plane)
        od0, od1 = touching(
            g[G.IN_D], g[G.OUT_D], g[G.KERNEL_D], g[G.STRIDE_D], g[G.DILATION_D], g[G.BEFORE_D], in_d, in_d
        )
        oh0, oh1 = touching(
            g[G.IN_H], g[G.OUT_H], g[G.KERNEL_H], g[G.STRIDE_H], g[G.DILATION_H], g[G.BEFORE_H], in_h, in_h
        )
        for od in range(od0, od1):
            if not holds(in_d + g[G.BEFORE_D] - od * g[G.STRIDE_D], g[G.KERNEL_D], g[G.DILATION_D]):
                continue
            for oh in range(oh0, oh1):
                if not holds(in_h + g[G.BEFORE_H] - oh * g[G.STRIDE_H], g[G.KERNEL_H], g[G.DILATION_H]):
                    continue
                out_row = at + od * layout[L.D_STEP] + oh * layout[L.H_STEP]
                for ow in range(g[G.OUT_W]):
                    divisor = divisors[od * g[G.OUT_H] + oh] * divisors[across + ow]
                    share = element(grad, np.uintp(out_row + ow * layout[L.W_STEP]), line) / divisor
                    w = ow * g[G.STRIDE_W] - g[G.BEFORE_W]
                    for k in range(
                        first_tap(w, g[G.DILATION_W]), end_tap(w, g[G.IN_W], g[G.KERNEL_W], g[G.DILATION_W])
                    ):
                        line[w + k * g[G.DILATION_W]] += share
        for w in range(g[G.IN_W]):
            put(grad_input, np.uintp(to + w), line[w])


KERNELS = {
    FLAT: avg_flat,
    ROWS: avg_rows,
    DENSE: avg_dense,
    STRIDED: avg_strided,
    WHOLE: avg_whole,
    WINDOWS: avg_windows,
}

BACKWARD_KERNELS = {SPREAD: avg_spread, HANDED_OUT: avg_handed_out, SCATTER: avg_scatter}
