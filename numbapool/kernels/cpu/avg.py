"""Mean over windows, forward and backward; the algorithms are explained in `schedule`."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.geometry import LARGEST_INT64, WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.launch import Call, Source, run
from numbapool.kernels.cpu.rows import ONE, ONE_UP, ZERO, count_taps, end_tap, first_tap, plane_at, touching
from numbapool.kernels.cpu.schedule import (
    ACROSS,
    AFTER_D,
    AFTER_H,
    AFTER_W,
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    BLOCKS,
    COLS,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    DIVISORS,
    FACTORS,
    GROUP,
    IN_D,
    IN_H,
    IN_W,
    INCLUDE_PAD,
    INSIDE,
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
    OVERRIDE,
    OW,
    PITCH,
    ROWS,
    SPARE,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    UNIT_FIELDS,
    UNITS,
    WORK_SIZE,
    contiguous_out_layout,
    geometry_of,
    schedule_of,
)
from numbapool.kernels.cpu.vectors import (
    VECTOR_BYTES,
    accumulator_of,
    add,
    lanes,
    load,
    no_sum,
    one_tap,
    quotient,
    store,
    times,
    wide_sum,
)
from numbapool.kernels.windows import Axis

# Input columns whose gradients one step of the backward pass computes.
BACKWARD_TILE = 2048
# Windows wider than this (input elements, dilation included) are scattered tap by tap in the backward pass.
WIDEST_BACKWARD_WINDOW = 1 << 16


def avg_pool(
    plan: WindowPlan,
    dtype: np.dtype[Any],
    is_contiguous: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Call:
    """Mean of each window; integers are summed in 64 bits and divided towards zero."""
    algorithm, units, program = schedule_of(plan, accumulator_of(dtype).itemsize, is_contiguous, False)
    program = program.copy()
    divisors = divisors_of(plan, algorithm, program, dtype, count_include_pad, divisor_override)
    return Call(KERNELS[algorithm], units, program, (divisors,))


def avg_pool_backward(
    plan: WindowPlan,
    grad_output: Source,
    grad_input: np.ndarray,
    count_include_pad: bool,
    divisor_override: int | None,
) -> None:
    """Gradient of the mean: each input element gathers from the windows that hold it, in a fixed order."""
    grad, layout = grad_output
    w = plan.axes[2]
    span = (w.kernel - 1) * w.dilation + 1
    tile = min(w.length, max(BACKWARD_TILE, 4 * span))
    tiles = -(-w.length // tile)
    spreads = span <= WIDEST_BACKWARD_WINDOW
    most_outputs = min(w.out, (tile + span) // w.stride + 2)
    slack = VECTOR_BYTES // grad_input.itemsize
    work_size = 2 * most_outputs + tile + (4 * (tile + span) if spreads else 0) + 6 * slack
    geometry = geometry_of(plan).copy()
    geometry[INCLUDE_PAD], geometry[OVERRIDE] = count_include_pad, divisor_override or 0
    run(
        avg_gather,
        plan.planes * plan.axes[0].length * plan.axes[1].length * tiles,
        grad_input.size,
        grad_input,
        grad,
        contiguous_out_layout(plan) if layout is None else layout,
        geometry,
        np.array([tile, tiles, work_size, most_outputs, spreads]),
        grad_input.dtype.type(0),
    )


def divisors_of(
    plan: WindowPlan,
    algorithm: str,
    program: np.ndarray,
    dtype: np.dtype[Any],
    count_include_pad: bool,
    divisor_override: int | None,
) -> np.ndarray:
    """What sums are divided by, in the dtype of the sums (int64 for integers); writes into the program where it is.

    A divisor is the product of two numbers: of taps along w, of which each unit has a line, and along d and h, a factor for
    each row of the output. Where all divisors are the same there is one line and one factor behind it. For "flat" there
    is a single line, of the products.
    """
    divisor_dtype = dtype if dtype.kind == "f" else np.dtype(np.int64)
    room = VECTOR_BYTES // accumulator_of(dtype).itemsize
    units = program[program[UNITS] : program[BLOCKS]].reshape(-1, UNIT_FIELDS)
    d, h, w = plan.axes
    is_uniform = divisor_override is not None or program[INSIDE] == 1
    if divisor_override is not None:
        factors, taps_of_w = np.array([divisor_override]), 1
    else:
        rows_d, rows_h = (taps_along(axis, 0, 1 if is_uniform else axis.out, count_include_pad) for axis in (d, h))
        factors = np.multiply.outer(rows_d.astype(np.float64), rows_h).ravel()
        if dtype.kind != "f":
            factors[factors * w.kernel > LARGEST_INT64] = 0  # by which any sum gives 0, see `quotient`
        taps_of_w = w.kernel
    factors = factors.astype(divisor_dtype)
    if algorithm == "flat":
        across = np.array([taps_of_w] * w.out) if is_uniform else taps_along(w, 0, w.out, count_include_pad)
        rows_of_plane = np.resize(factors, d.out * h.out)
        products = np.multiply.outer(rows_of_plane, across.astype(divisor_dtype)).ravel()
        return np.concatenate([np.tile(products, program[GROUP]), np.ones(room, divisor_dtype)])
    program[FACTORS] = -1 if is_uniform else 0
    if is_uniform:
        lines = [np.full(room, taps_of_w)]
    else:
        # Tiles share a line if all its divisors are equal, as they are away from the padding.
        lines, positions, end = [], {}, 0
        tiles, tile_of_unit = np.unique(units[:, [OW, COLS]], axis=0, return_inverse=True)
        position_of_tile = np.empty(len(tiles), np.int64)
        for number, (ow, cols) in enumerate(tiles.tolist()):
            line = taps_along(w, ow, cols, count_include_pad)
            key = (cols, line.min(), line.max()) if line.min() == line.max() else (cols, ow)
            if key not in positions:
                positions[key] = end
                lines.append(np.append(line, np.ones(room, np.int64)))
                end += len(lines[-1])
            position_of_tile[number] = positions[key]
        units[:, DIVISORS] = position_of_tile[tile_of_unit.ravel()]
        program[FACTORS] = end
    return np.concatenate([*(line.astype(divisor_dtype) for line in lines), factors])


def taps_along(axis: Axis, first: int, count: int, count_include_pad: bool) -> np.ndarray:
    """`windows.count_taps` of `count` outputs from the `first` on; 1 where it is none."""
    taps = np.full(count, axis.kernel, np.int64)
    halo = (axis.kernel - 1) * axis.dilation
    # Windows inside the input hold all their taps and need no counting.
    inside0 = min(max(-(-axis.before // axis.stride) - first, 0), count)
    inside1 = min(max((axis.length - 1 - halo + axis.before) // axis.stride + 1 - first, inside0), count)
    edges = np.r_[:inside0, inside1:count]
    start = (first + edges) * axis.stride - axis.before
    end = axis.length + axis.after if count_include_pad else axis.length
    counted = np.minimum(axis.kernel, (end - 1 - start) // axis.dilation + 1)
    if not count_include_pad:
        counted -= np.maximum(0, (axis.dilation - 1 - start) // axis.dilation)
    taps[edges] = np.maximum(1, counted)
    return taps


@inlined
def taps_of_row(g, od, oh):
    """Taps along d and h that count towards the divisor of an output row; a float, because they may be 2**124."""
    d = count_taps(od, g[IN_D], g[KERNEL_D], g[STRIDE_D], g[DILATION_D], g[BEFORE_D], g[AFTER_D], g[INCLUDE_PAD])
    h = count_taps(oh, g[IN_H], g[KERNEL_H], g[STRIDE_H], g[DILATION_H], g[BEFORE_H], g[AFTER_H], g[INCLUDE_PAD])
    return np.float64(max(d, ONE)) * np.float64(max(h, ONE))


@inner
def write_divisors(divisors, at, g, ow, n):
    """Taps along w that count towards the divisors of n outputs of a row from `ow` on; 1 where there is none."""
    if g[OVERRIDE] != 0:
        rows.fill(divisors, at, ONE, n)
        return
    # Windows inside the input need no counting: with a count for each, a long 1-d signal took three times as long.
    halo = (g[KERNEL_W] - 1) * g[DILATION_W]
    inside0 = min(max(-(-g[BEFORE_W] // g[STRIDE_W]) - ow, ZERO), n)
    inside1 = min(max((g[IN_W] - 1 - halo + g[BEFORE_W]) // g[STRIDE_W] + 1 - ow, inside0), n)
    rows.fill(divisors, at + inside0, g[KERNEL_W], inside1 - inside0)
    for i in range(n - (inside1 - inside0)):
        o = i if i < inside0 else i + inside1 - inside0
        taps = count_taps(
            ow + o, g[IN_W], g[KERNEL_W], g[STRIDE_W], g[DILATION_W], g[BEFORE_W], g[AFTER_W], g[INCLUDE_PAD]
        )
        divisors[at + o] = max(taps, ONE)


@inner
def store_means(out, end, work, divisors, plane, planes, unit, g):
    """Divide the sums of a unit and write them to the output."""
    to, line, pitch = rows.first_output(plane, unit, g), g[ACROSS], g[PITCH] // g[STRIDE_W]
    lines, cols = planes * g[unit + ROWS], g[unit + COLS]
    varies = g[FACTORS] >= 0
    if not varies and pitch == cols == g[OUT_W]:
        lines, cols = ONE, lines * cols
    row, first_row = ZERO, g[FACTORS] + g[unit + OD] * g[OUT_H] + g[unit + OH]
    for _ in range(lines):
        factor = divisors[first_row + row if varies else divisors.size - 1]
        divide_row(out, to, end, work, line, divisors, g[unit + DIVISORS], varies, factor, cols, g[SPARE])
        to += g[OUT_W]
        line += pitch
        row = row + 1 if row + 1 < g[unit + ROWS] else ZERO  # the next plane


@inner
def divide_row(out, to, end, work, line, divisors, divisors_at, varies, factor, n, scratch):
    """`out[to + o] = work[line + o] / (factor * divisors[divisors_at + o])` for o < n, in whole vectors as far as `end`.

    Unless the divisors vary, the first of them serve for all.
    """
    width, source, target, count = lanes(work), np.uintp(line), np.uintp(to), np.uintp(n)
    divisor_at, stage = np.uintp(divisors_at), np.uintp(scratch)
    whole = rows.whole_vectors(count, target, np.uintp(end), width)
    divisor = times(load(divisors, divisor_at, divisors), factor)
    column = np.uintp(0)
    while column < count:
        if varies:
            divisor = times(load(divisors, divisor_at + column, divisors), factor)
        vector = quotient(load(work, source + column, work), divisor)
        if column < whole:
            store(out, target + column, vector)
        else:
            store(work, stage, vector)
            for lane in range((count - column) & (width - ONE_UP)):
                out[target + column + lane] = work[stage + lane]
        column += width


@entry
def avg_flat(first, last, out, x, g, divisors):
    work = np.full(g[WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    rows.write_masks(work, g)
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        line, n = rows.fold_flat(add, work, x, layout, plane, planes, g, no_sum(x))
        to = rows.first_output(plane, unit, g)
        divide_row(out, to, end, work, line, divisors, ZERO, True, one_tap(x), n, g[SPARE])


@entry
def avg_rows(first, last, out, x, g, divisors):
    work = np.full(g[WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_blocks(add, work, x, layout, plane, planes, unit, g, no_sum(x))
        rows.across_lines(add, work, g, planes * g[unit + ROWS])
        store_means(out, end, work, divisors, plane, planes, unit, g)


@entry
def avg_dense(first, last, out, x, g, divisors):
    work = np.full(g[WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_dense(add, work, x, layout, plane, unit, g, no_sum(x))
        store_means(out, end, work, divisors, plane, planes, unit, g)


@entry
def avg_strided(first, last, out, x, g, divisors):
    work = np.full(g[WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        rows.fold_blocks(add, work, x, layout, plane, planes, unit, g, no_sum(x))
        rows.across_strided(add, work, g, planes * g[unit + ROWS])
        store_means(out, end, work, divisors, plane, planes, unit, g)


@entry
def avg_windows(first, last, out, x, g, divisors):
    work = np.full(g[WORK_SIZE], no_sum(x))
    end = rows.free_end(out, last, g)
    layout = g[g[LAYOUT] : g[LAYOUT] + LAYOUT_FIELDS]
    for number in range(first, last):
        plane, planes, unit = rows.unit_of(number, g)
        for o in range(g[unit + COLS]):
            work[g[ACROSS] + o] = sum_window(
                x, plane_at(layout, plane), layout, g, g[unit + OD], g[unit + OH], g[unit + OW] + o
            )
        store_means(out, end, work, divisors, plane, planes, unit, g)


@inlined
def sum_window(x, at, layout, g, od, oh, ow):
    """Sum of the taps of one window that are inside the input."""
    d, h, w = od * g[STRIDE_D] - g[BEFORE_D], oh * g[STRIDE_H] - g[BEFORE_H], ow * g[STRIDE_W] - g[BEFORE_W]
    total = wide_sum(x)  # of more terms than any other way of adding them
    for i in range(first_tap(d, g[DILATION_D]), end_tap(d, g[IN_D], g[KERNEL_D], g[DILATION_D])):
        for j in range(first_tap(h, g[DILATION_H]), end_tap(h, g[IN_H], g[KERNEL_H], g[DILATION_H])):
            row = at + (d + i * g[DILATION_D]) * layout[rows.D_STEP] + (h + j * g[DILATION_H]) * layout[rows.H_STEP]
            for k in range(first_tap(w, g[DILATION_W]), end_tap(w, g[IN_W], g[KERNEL_W], g[DILATION_W])):
                total = total + x[row + (w + k * g[DILATION_W]) * layout[rows.W_STEP]]
    return total


@inlined
def holds(distance, kernel, dilation):
    """Whether a window holds the element at this distance from its first tap."""
    return distance >= 0 and distance % dilation == 0 and distance // dilation < kernel


@inner
def add_scaled(to, at, source, base, step, divisors, divisors_at, factor, n):
    """`to[at + o] += source[base + o * step] / (factor * divisors[divisors_at + o])`."""
    for o in range(n):
        share = source[np.uintp(base + o * step)] / (factor * divisors[np.uintp(divisors_at + o)])
        to[np.uintp(at + o)] += share


@entry
def avg_gather(first, last, grad_input, grad, layout, g, tiling, zero):
    tile, tiles, work_size, most_outputs, spreads = tiling[0], tiling[1], tiling[2], tiling[3], tiling[4]
    work = np.full(work_size, zero)
    sums, divisors, folded = ZERO, most_outputs, 2 * most_outputs
    line = folded + tile
    halo = (g[KERNEL_W] - 1) * g[DILATION_W]
    for number in range(first, last):
        row = number // tiles
        slab = row // g[IN_H]
        plane = slab // g[IN_D]
        w0 = (number - row * tiles) * tile
        n = min(tile, g[IN_W] - w0)
        in_d, in_h = slab - plane * g[IN_D], row - slab * g[IN_H]
        o0 = max(ZERO, -((halo - w0 - g[BEFORE_W]) // g[STRIDE_W]))
        outputs = max(ZERO, min(g[OUT_W], (w0 + n - 1 + g[BEFORE_W]) // g[STRIDE_W] + 1) - o0)
        if number == first or tiles > 1:
            write_divisors(work, divisors, g, o0, outputs)
        rows.fill(work, sums, zero, outputs)
        at = plane_at(layout, plane)
        od0, od1 = touching(g[IN_D], g[OUT_D], g[KERNEL_D], g[STRIDE_D], g[DILATION_D], g[BEFORE_D], in_d, in_d)
        oh0, oh1 = touching(g[IN_H], g[OUT_H], g[KERNEL_H], g[STRIDE_H], g[DILATION_H], g[BEFORE_H], in_h, in_h)
        for od in range(od0, od1):
            if not holds(in_d + g[BEFORE_D] - od * g[STRIDE_D], g[KERNEL_D], g[DILATION_D]):
                continue
            for oh in range(oh0, oh1):
                if not holds(in_h + g[BEFORE_H] - oh * g[STRIDE_H], g[KERNEL_H], g[DILATION_H]):
                    continue
                taps = np.float64(g[OVERRIDE]) if g[OVERRIDE] != 0 else taps_of_row(g, od, oh)
                out_row = at + od * layout[rows.D_STEP] + oh * layout[rows.H_STEP] + o0 * layout[rows.W_STEP]
                add_scaled(
                    work, sums, grad, out_row, layout[rows.W_STEP], work, divisors, work.dtype.type(taps), outputs
                )
        to = row * g[IN_W] + w0
        if spreads:
            # Spread out at the stride, sums become gradients by a fold of stride 1: tap t of window o is o * stride + t.
            rows.fill(work, line, zero, n + halo)
            start = w0 + g[BEFORE_W] - halo
            for o in range(outputs):
                work[line + (o0 + o) * g[STRIDE_W] - start] = work[sums + o]
            rows.fold_shifts(add, work, folded, line, line + tile + halo + 1, n, g[KERNEL_W], g[DILATION_W])
            for o in range(n):
                grad_input[np.uintp(to + o)] = work[np.uintp(folded + o)]
        else:
            rows.fill(grad_input, to, zero, n)
            for o in range(outputs):
                w = (o0 + o) * g[STRIDE_W] - g[BEFORE_W] - w0
                for k in range(first_tap(w, g[DILATION_W]), end_tap(w, n, g[KERNEL_W], g[DILATION_W])):
                    grad_input[to + w + k * g[DILATION_W]] += work[sums + o]


KERNELS = {
    "flat": avg_flat,
    "rows": avg_rows,
    "dense": avg_dense,
    "strided": avg_strided,
    "windows": avg_windows,
}
