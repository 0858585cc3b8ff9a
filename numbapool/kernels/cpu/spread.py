"""Backward of sums: each output's value goes to every input element of its window.

Seen from the input this is a fold again: element w takes the outputs whose windows hold it, neighbours o, o + 1, ..., and
which they are depends on w only by its phase, w % stride. So output values are stacked with zeros around them, the stack is
folded down once for each phase along h, each result across for each phase along w, and the lines of all phases are written
side by side. All rows of a tile are one long vector in every pass, the cost does not grow with the window's area, nothing
is subtracted, and each input element is written once, by the thread that owns its tile.

Of a tile, "steps" are its extents divided by the stride: h = step * stride + phase.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np

from numbapool.compilable import compilable
from numbapool.kernels.cpu.compile import inlined, inner
from numbapool.kernels.cpu.rows import ONE, ONE_UP, ZERO, fill, fold_shifts, gather_block, plane_at, whole_vectors
from numbapool.kernels.cpu.schedule import (
    FEWEST_UNITS,
    LINE_BYTES,
    STACK_ELEMENTS,
    STREAMED_BYTES,
    Planes,
    contiguous_layout_of,
    joined,
    plane_size,
)
from numbapool.kernels.cpu.tables import kinds as K
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import runs as R
from numbapool.kernels.cpu.tables import tiling as T
from numbapool.kernels.cpu.vectors import (
    STREAM_BYTES,
    VECTOR_BYTES,
    add,
    all_lanes,
    can_stream,
    element,
    finish_streams,
    keep,
    lanes,
    load,
    put,
    quotient,
    store,
    stream,
    times,
    zipped_high,
    zipped_low,
)
from numbapool.windows import Axis

# More kinds of phases than this, along h times along w (strides and dilations that have no common factor), are left to
# `avg.avg_scatter`: each kind has lines of its own.
MOST_KINDS = 16
# Phases are listed one by one up to this stride if windows are dilated as well; else there are up to three runs of them.
LARGEST_DILATED_STRIDE = 4096
# Stacks with more elements than this and than four planes are left to `avg.avg_scatter`, too.
LARGEST_STACK = 1 << 18


class Phases(NamedTuple):
    """The phases of an axis: their kinds, the runs in which they lie, and how far windows reach beyond a tile's steps.

    Tables have a row for each; there are no kinds if they are too many to list.
    """

    kinds: np.ndarray
    runs: np.ndarray
    before: int
    after: int


@compilable
def phases_of(axis: Axis) -> Phases:
    """The phases of an axis."""
    count = min(axis.stride, axis.length)
    starts = [0]
    if axis.dilation == 1:
        # Windows begin to hold elements, and cease to, at one phase each.
        begins, ceases = -axis.before % axis.stride, (axis.kernel - axis.before) % axis.stride
        for start in (min(begins, ceases), max(begins, ceases)):
            if starts[-1] < start < count:
                starts.append(start)
    elif axis.stride > 1:
        starts = list(range(count if count <= LARGEST_DILATED_STRIDE else 0))
    kinds, runs = np.zeros((MOST_KINDS, K.FIELDS), np.int64), np.zeros((len(starts), R.FIELDS), np.int64)
    kind_count, run_count, before, after = 0, 0, 0, 0
    for number in range(len(starts)):
        start = starts[number]
        end = starts[number + 1] if number + 1 < len(starts) else count
        first, step, taps = _kind_of(axis, start)
        kind = 0
        while kind < kind_count and not (
            kinds[kind, K.FIRST] == first and kinds[kind, K.STEP] == step and kinds[kind, K.TAPS] == taps
        ):
            kind += 1
        if kind == kind_count:
            if kind == MOST_KINDS:
                kind_count = 0
                break
            kinds[kind, K.FIRST], kinds[kind, K.STEP], kinds[kind, K.TAPS] = first, step, taps
            kind_count += 1
        if run_count > 0 and runs[run_count - 1, R.KIND] == kind:
            runs[run_count - 1, R.END] = end
        else:
            runs[run_count, R.KIND], runs[run_count, R.FIRST], runs[run_count, R.END] = kind, start, end
            run_count += 1
        if taps > 0:
            before, after = max(before, -first), max(after, first + (taps - 1) * step)
    return Phases(kinds[:kind_count], runs[:run_count], before, after)


@compilable
def _kind_of(axis: Axis, phase: int) -> tuple[int, int, int]:
    """Which outputs o hold element j * stride + phase: some tap t of theirs is there, o * stride + t * dilation - before."""
    common = gcd(axis.dilation, axis.stride)
    offset = phase + axis.before
    if offset % common:
        return 0, 1, 0
    period = axis.stride // common
    tap = offset // common % period * inverse(axis.dilation // common, period) % period
    if tap >= axis.kernel:
        return 0, 1, 0
    last = (axis.kernel - 1 - tap) // period
    first = (offset - (tap + last * period) * axis.dilation) // axis.stride
    return first, axis.dilation // common, last + 1


@compilable
def inverse(number: int, modulus: int) -> int:
    """What times a number is 1, modulo what has no divisor in common with it (Euclid's algorithm)."""
    result, following, rest, divisor = 0, 1, modulus, number % modulus
    while divisor > 0:
        times_ = rest // divisor
        result, following = following, result - times_ * following
        rest, divisor = divisor, rest - times_ * divisor
    return result % modulus


@compilable
def spread_program(planes: Planes, itemsize: int, is_contiguous: bool) -> tuple[int, np.ndarray]:
    """Number of tiles and the program of the kernel, with the layout of a contiguous gradient; no program if it cannot."""
    d, h, w = planes.d, planes.h, planes.w
    phases_d, phases_h, phases_w = phases_of(d), phases_of(h), phases_of(w)
    kinds = len(phases_h.kinds) * len(phases_w.kinds)
    if len(phases_d.kinds) == 0 or not 0 < kinds <= MOST_KINDS:
        return 0, np.zeros(0, np.int64)
    line = LINE_BYTES // itemsize
    slack = 2 * VECTOR_BYTES // itemsize
    extra_h, extra_w = phases_h.before + phases_h.after, phases_w.before + phases_w.after
    # Large windows get large tiles, so that what two tiles share stays a small part of what is read.
    steps_w = min(-(-w.length // w.stride), max(1, line // w.stride, 4 * extra_w))
    pitch = steps_w + extra_w
    all_h = -(-h.length // h.stride)
    high = max(min(8 * extra_h, STACK_ELEMENTS // pitch - extra_h), 2 * extra_h)
    # Up to two padded planes for the work array.
    steps_h = min(all_h, max(1, line // (pitch * w.stride), min(high, (2 * all_h - extra_h) // 3)))
    group = 1
    if is_contiguous and d.length == 1 and steps_h * h.stride >= h.length and steps_w * w.stride >= w.length:
        group = max(1, min(line // ((steps_h + extra_h) * pitch), planes.number // FEWEST_UNITS))
    tiles_h, tiles_w = -(-h.length // (steps_h * h.stride)), -(-w.length // (steps_w * w.stride))
    region = group * (steps_h + extra_h) * pitch + slack
    if region > LARGEST_STACK and region > 4 * max(h.length * w.length, h.out * w.out):
        return 0, np.zeros(0, np.int64)
    header = T.FIELDS + L.FIELDS
    tables = np.concatenate(
        (
            phases_d.kinds.ravel(),
            phases_h.kinds.ravel(),
            phases_w.kinds.ravel(),
            phases_d.runs.ravel(),
            phases_h.runs.ravel(),
            phases_w.runs.ravel(),
        )
    )
    program = np.zeros(header + len(tables), np.int64)
    program[T.LAYOUT] = T.FIELDS
    program[T.IN_D], program[T.IN_H], program[T.IN_W] = d.length, h.length, w.length
    program[T.OUT_D], program[T.OUT_H], program[T.OUT_W] = d.out, h.out, w.out
    program[T.STRIDE_D], program[T.STRIDE_H], program[T.STRIDE_W] = d.stride, h.stride, w.stride
    program[T.PLANES], program[T.GROUP] = planes.number, group
    program[T.STEPS_H], program[T.STEPS_W] = steps_h, steps_w
    program[T.TILES_H], program[T.TILES_W] = tiles_h, tiles_w
    program[T.BEFORE_H], program[T.BEFORE_W] = phases_h.before, phases_w.before
    program[T.EXTRA_H], program[T.EXTRA_W] = extra_h, extra_w
    program[T.PITCH] = pitch
    program[T.FILLS] = int(tiles_h * tiles_w > 1)
    program[T.KINDS_D] = header
    program[T.KINDS_H] = program[T.KINDS_D] + phases_d.kinds.size
    program[T.KINDS_W] = program[T.KINDS_H] + phases_h.kinds.size
    program[T.RUNS_D] = program[T.KINDS_W] + phases_w.kinds.size
    program[T.RUNS_H] = program[T.RUNS_D] + phases_d.runs.size
    program[T.RUNS_W] = program[T.RUNS_H] + phases_h.runs.size
    program[T.KIND_COUNT_H], program[T.KIND_COUNT_W] = len(phases_h.kinds), len(phases_w.kinds)
    program[T.RUN_COUNT_H], program[T.RUN_COUNT_W] = len(phases_h.runs), len(phases_w.runs)
    program[T.STREAMS] = int(planes.number * plane_size(planes) * itemsize >= STREAMED_BYTES)
    program[T.REGION] = region
    # The work array: the stack, then one region behind the other.
    taps_h, taps_w = phases_h.kinds[:, K.TAPS], phases_w.kinds[:, K.TAPS]
    program[T.DOWN] = region
    program[T.ACROSS] = program[T.DOWN] + (region * len(phases_h.kinds) if taps_h.max() > 1 else 0)
    program[T.SPARE] = program[T.ACROSS] + (region * kinds if taps_w.max() > 1 else 0)
    program[T.COLUMNS] = program[T.SPARE] + (0 if is_contiguous else region)
    program[T.ZEROS] = program[T.COLUMNS] + pitch + slack
    program[T.STAGE] = program[T.ZEROS] + (region if min(taps_h.min(), taps_w.min()) == 0 else 0)
    program[T.WORK_SIZE] = program[T.STAGE] + slack
    program[T.FIELDS : header] = contiguous_layout_of(planes.number, d.out, h.out, w.out)
    program[header:] = tables
    return -(-planes.number // group) * d.length * tiles_h * tiles_w, program


@compilable
def simplified_for_spread(planes: Planes, is_contiguous: bool) -> Planes:
    """The same with one step where an axis has one output, and fewer axes and planes where windows tile the input."""
    if is_contiguous:
        planes = joined(planes)
    count, d, h, w = planes.number, _simplified(planes.d), _simplified(planes.h), _simplified(planes.w)
    tiles = h.before == h.after == 0 and h.kernel <= h.stride and h.dilation == 1 and h.out * h.stride == h.length
    if count > 0 and is_contiguous and tiles and d.kernel == d.stride == 1 and d.out == d.length:
        slabs = count * d.length
        h = Axis(slabs * h.length, slabs * h.out, h.kernel, h.stride, 1, 0, 0)
        return Planes(1, Axis(1, 1, 1, 1, 1, 0, 0), h, w)
    return Planes(count, d, h, w)


@compilable
def _simplified(axis: Axis) -> Axis:
    stride = max(axis.length + axis.before, axis.kernel) if axis.out == 1 else axis.stride
    dilation = 1 if axis.kernel == 1 else axis.dilation
    return Axis(axis.length, axis.out, axis.kernel, stride, dilation, axis.before, axis.after)


@inlined
def kind_of_phase(g, runs, phase):
    """Number of the kind of a phase."""
    while phase >= g[runs + R.END]:
        runs += R.FIELDS
    return g[runs + R.KIND]


@inner
def fill_columns(work, g, divisors, first, n):
    """For n outputs of a row from `first` on: taps along w that count towards their divisors; 1 behind them."""
    fill(work, g[T.COLUMNS] + n, work.dtype.type(1), np.int64(lanes(work)))
    for i in range(n):
        o = first + i
        taps = work.dtype.type(g[T.FULL_W])
        if o < g[T.INSIDE0]:
            taps = divisors[g[T.EDGES] + o]
        elif o >= g[T.INSIDE1]:
            taps = divisors[g[T.EDGES] + g[T.INSIDE0] + o - g[T.INSIDE1]]
        work[g[T.COLUMNS] + i] = taps


@inner
def scale_rows(work, to, source, row, step, rows, n, planes, plane_step, plane_pitch, divisors, factor_at, adds, g):
    """Divide rows of the source by their divisors, into lines or, if it `adds`, onto them; behind a line is 0.

    So `rows` times for each plane.
    """
    pitch, varies, columns = g[T.PITCH], g[T.VARIES], g[T.COLUMNS]
    if pitch == n == step and not varies and planes == 1:
        rows, n = ONE, rows * n
    width, end, zero = lanes(work), np.uintp(n), work.dtype.type(0)
    reach = np.int64((end + width - ONE_UP) // width * width)
    r = ZERO
    for _ in range(planes * rows):
        at, line, factor = np.uintp(row), np.uintp(to), divisors[factor_at + r if varies else factor_at]
        divisor = all_lanes(factor, work, work)
        is_last = row + reach > source.size
        column = np.uintp(0)
        while column < end:
            if varies:
                divisor = times(load(work, np.uintp(columns) + column, work), factor)
            if end - column < width and is_last:
                for lane in range((end - column) & (width - ONE_UP)):
                    i = column + lane
                    taps = work[np.uintp(columns) + i] * factor if varies else factor
                    value = element(source, at + i, work) / taps
                    work[line + i] = work[line + i] + value if adds else value
                break
            vector = quotient(load(source, at + column, work), divisor, False)
            if end - column < width:
                vector = keep(vector, end - column, zero)
            if adds:
                vector = add(vector, load(work, line + column, work))
            store(work, line + column, vector)
            column += width
        row += step
        to += pitch
        r += ONE
        if r == rows:
            r = ZERO
            row += plane_step - rows * step
            to += plane_pitch - rows * pitch


@inlined
def stack_outputs(work, grad, layout, g, divisors, plane, planes, d, step_h, rows, step_w, cols, is_first):
    """Stack the outputs, divided, that a tile takes, with zeros where there are none."""
    step_d = d // g[T.STRIDE_D]
    kind = g[T.KINDS_D] + K.FIELDS * kind_of_phase(g, g[T.RUNS_D], d - step_d * g[T.STRIDE_D])
    first_h, first_w = step_h - g[T.BEFORE_H], step_w - g[T.BEFORE_W]
    h0, h1 = max(ZERO, -first_h), min(rows + g[T.EXTRA_H], g[T.OUT_H] - first_h)
    w0, w1 = max(ZERO, -first_w), min(cols + g[T.EXTRA_W], g[T.OUT_W] - first_w)
    n, adds = w1 - w0, False
    has_zeros = h0 > 0 or w0 > 0 or h1 < rows + g[T.EXTRA_H] or w1 < cols + g[T.EXTRA_W]
    if g[T.FILLS] and has_zeros:
        fill(work, g[T.STACK], work.dtype.type(0), g[T.REGION])
    if g[T.VARIES] and n > 0 and (is_first or g[T.TILES_W] > 1):
        fill_columns(work, g, divisors, first_w + w0, n)
    for i in range(g[kind + K.TAPS]):
        od = step_d + g[kind + K.FIRST] + i * g[kind + K.STEP]
        if od < 0 or od >= g[T.OUT_D] or n <= 0 or h1 <= h0:
            continue
        row = plane_at(layout, plane) + od * layout[L.D_STEP]
        row += (first_h + h0) * layout[L.H_STEP] + (first_w + w0) * layout[L.W_STEP]
        to = g[T.STACK] + h0 * g[T.PITCH] + w0
        factor_at = od * g[T.OUT_H] + first_h + h0 if g[T.VARIES] else ZERO
        if layout[L.DIRECT]:
            step, plane_step, plane_pitch = layout[L.H_STEP], layout[L.INNER_STEP], (rows + g[T.EXTRA_H]) * g[T.PITCH]
            scale_rows(
                work, to, grad, row, step, h1 - h0, n, planes, plane_step, plane_pitch, divisors, factor_at, adds, g
            )
        else:
            gather_block(work, g[T.SPARE], n, grad, row, layout[L.H_STEP], layout[L.W_STEP], h1 - h0, n)
            scale_rows(work, to, work, g[T.SPARE], n, h1 - h0, n, ONE, ZERO, ZERO, divisors, factor_at, adds, g)
        adds = True
    if not adds:
        fill(work, g[T.STACK], work.dtype.type(0), g[T.REGION])


@inlined
def spread_stack(work, lines, g, planes, rows):
    """Fold the stack down and across for every kind of phase; writes into `lines` where the results are."""
    n = ((planes - ONE) * (rows + g[T.EXTRA_H]) + rows) * g[T.PITCH]
    for kind_h in range(g[T.KIND_COUNT_H]):
        kind = g[T.KINDS_H] + kind_h * K.FIELDS
        count_h, down = g[kind + K.TAPS], g[T.STACK] + (g[kind + K.FIRST] + g[T.BEFORE_H]) * g[T.PITCH]
        if count_h > 1:
            to = g[T.DOWN] + kind_h * g[T.REGION]
            fold_shifts(add, work, to, down, n, count_h, g[kind + K.STEP] * g[T.PITCH])
            down = to
        for kind_w in range(g[T.KIND_COUNT_W]):
            number = kind_h * g[T.KIND_COUNT_W] + kind_w
            kind = g[T.KINDS_W] + kind_w * K.FIELDS
            line = down + g[kind + K.FIRST] + g[T.BEFORE_W]
            if count_h == 0 or g[kind + K.TAPS] == 0:
                line = g[T.ZEROS]
            elif g[kind + K.TAPS] > 1:
                to = g[T.ACROSS] + number * g[T.REGION]
                fold_shifts(add, work, to, line, n - g[T.EXTRA_W], g[kind + K.TAPS], g[kind + K.STEP])
                line = to
            lines[number] = line


@inner
def write_rows(out, to, end, work, lines, offset, step_h, rows, n, g):
    """Write the rows of a tile in ascending order, n elements each, phases side by side.

    Nothing from `end` on is touched that is not of the row itself. All loops are in one function: called once a row, it took
    50 ns a row more, for the reference counts of its arrays.
    """
    width, count, stage, two = lanes(work), np.uintp(n), np.uintp(g[T.STAGE]), lanes(work) + lanes(work)
    streams = g[T.STREAMS] != 0 and can_stream(out, np.uintp(to)) and (g[T.IN_W] * out.itemsize) % STREAM_BYTES == 0
    for row in range(rows):
        h = (step_h + row) * g[T.STRIDE_H]
        for number_h in range(g[T.RUN_COUNT_H]):
            run_h = g[T.RUNS_H] + number_h * R.FIELDS
            kind = g[run_h + R.KIND] * g[T.KIND_COUNT_W]
            first = np.uintp(lines[kind + g[g[T.RUNS_W] + R.KIND]] + offset)
            for _ in range(min(g[run_h + R.END], g[T.IN_H] - h) - g[run_h + R.FIRST]):
                target, column = np.uintp(to), np.uintp(0)
                if g[T.STRIDE_W] == 1:
                    whole = whole_vectors(count, target, np.uintp(end), width)
                    while column < whole:
                        stream(out, target + column, load(work, first + column, work), streams)
                        column += width
                    if column < count:
                        for lane in range((count - column) & (width - ONE_UP)):
                            put(out, target + column + lane, work[first + column + lane])
                elif g[T.STRIDE_W] == 2:
                    last = g[T.RUNS_W] + (g[T.RUN_COUNT_W] - 1) * R.FIELDS
                    second = np.uintp(lines[kind + g[last + R.KIND]] + offset)
                    whole = whole_vectors(count, target, np.uintp(end), two)
                    while column < whole:
                        at = column // np.uintp(2)
                        even, odd = load(work, first + at, work), load(work, second + at, work)
                        stream(out, target + column, zipped_low(even, odd), streams)
                        stream(out, target + column + width, zipped_high(even, odd), streams)
                        column += two
                    if column < count:
                        at = column // np.uintp(2)
                        even, odd = load(work, first + at, work), load(work, second + at, work)
                        store(work, stage, zipped_low(even, odd))
                        store(work, stage + width, zipped_high(even, odd))
                        for lane in range((count - column) & (two - ONE_UP)):
                            put(out, target + column + lane, work[stage + lane])
                elif g[T.RUN_COUNT_W] == 1 and g[T.STRIDE_W] <= np.int64(width):
                    stride, step = np.uintp(g[T.STRIDE_W]), np.uintp(0)
                    while column + width <= count and target + column + width <= np.uintp(end):
                        store(out, target + column, all_lanes(work[first + step], work, work))
                        column += stride
                        step += ONE_UP
                    while column < count:
                        stop = column + stride if column + stride < count else count
                        for i in range(column, stop):
                            put(out, target + i, work[first + step])
                        column = stop
                        step += ONE_UP
                else:
                    for step in range(-(-n // g[T.STRIDE_W])):
                        for number_w in range(g[T.RUN_COUNT_W]):
                            run = g[T.RUNS_W] + number_w * R.FIELDS
                            value = work[lines[kind + g[run + R.KIND]] + offset + step]
                            vector = all_lanes(value, work, work)
                            column = target + np.uintp(step * g[T.STRIDE_W] + g[run + R.FIRST])
                            stop = target + np.uintp(min(step * g[T.STRIDE_W] + g[run + R.END], n))
                            while column < stop and column + width <= np.uintp(end):
                                store(out, column, vector)
                                column += width
                            while column < stop:
                                put(out, column, value)
                                column += ONE_UP
                to += g[T.IN_W]
        offset += g[T.PITCH]
    if streams:
        finish_streams()


@inlined
def tile_of(number, g):
    """First slab of a tile (plane * in_d + d), and the first of its steps along h and w."""
    row = number // g[T.TILES_W]
    slab = row // g[T.TILES_H]
    if g[T.GROUP] > 1:
        return number * g[T.GROUP], ZERO, ZERO
    return slab, (row - slab * g[T.TILES_H]) * g[T.STEPS_H], (number - row * g[T.TILES_W]) * g[T.STEPS_W]


@inlined
def first_input(slab, step_h, step_w, g):
    """Position of the first input element of a tile."""
    return (slab * g[T.IN_H] + step_h * g[T.STRIDE_H]) * g[T.IN_W] + step_w * g[T.STRIDE_W]


@inlined
def extent_of_tile(step_h, step_w, g):
    """How many steps a tile has along h and w."""
    return (
        min(g[T.STEPS_H], (g[T.IN_H] + g[T.STRIDE_H] - 1) // g[T.STRIDE_H] - step_h),
        min(g[T.STEPS_W], (g[T.IN_W] + g[T.STRIDE_W] - 1) // g[T.STRIDE_W] - step_w),
    )


@inlined
def free_end(out, last, g):
    """How far tiles before `last` may write over results to come: they are theirs too, and written in ascending order."""
    slab, step_h, step_w = tile_of(last, g)
    end = first_input(slab, step_h, step_w, g) if g[T.TILES_W] == 1 or g[T.IN_H] == 1 else ZERO
    return end if end < out.size else out.size


@inlined
def write_tile(out, end, work, lines, slab, planes, step_h, rows, step_w, g):
    """Write the rows of a tile in ascending order."""
    n = min(g[T.STEPS_W] * g[T.STRIDE_W], g[T.IN_W] - step_w * g[T.STRIDE_W])
    for plane in range(planes):
        to, offset = first_input(slab + plane, step_h, step_w, g), plane * (rows + g[T.EXTRA_H]) * g[T.PITCH]
        write_rows(out, to, end, work, lines, offset, step_h, rows, n, g)
