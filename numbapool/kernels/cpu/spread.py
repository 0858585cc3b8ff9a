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

from numbapool.kernels.cpu.compile import inlined, inner
from numbapool.kernels.cpu.rows import (
    D_STEP,
    DIRECT,
    H_STEP,
    INNER_STEP,
    ONE,
    ONE_UP,
    W_STEP,
    ZERO,
    fill,
    fold_shifts,
    gather_block,
    plane_at,
    whole_vectors,
)
from numbapool.kernels.cpu.schedule import (
    FEWEST_UNITS,
    LAYOUT_FIELDS,
    LINE_BYTES,
    STACK_ELEMENTS,
    STREAMED_BYTES,
    Planes,
    contiguous_layout_of,
    joined,
    plane_size,
)
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
from numbapool.kernels.windows import Axis

# More kinds of phases than this, along h times along w (strides and dilations that have no common factor), are left to
# "windows": each kind has lines of its own.
MOST_KINDS = 16
# Phases are listed one by one up to this stride if windows are dilated as well; else there are up to three runs of them.
LARGEST_DILATED_STRIDE = 4096
# Stacks with more elements than this and than four planes are left to "windows".
LARGEST_STACK = 1 << 18


class Kind(NamedTuple):
    """Phases whose elements are in equally many windows: of step j those of o = j + first + i * step, i < taps."""

    first: int
    step: int
    taps: int


class Run(NamedTuple):
    """Neighbouring phases of one kind."""

    kind: int
    first: int
    end: int


KIND_FIELDS, RUN_FIELDS = len(Kind._fields), len(Run._fields)


class Phases(NamedTuple):
    """The phases of an axis: their kinds, the runs in which they lie, and how far windows reach beyond a tile's steps.

    Tables have a row for each; there are no kinds if they are too many to list.
    """

    kinds: np.ndarray
    runs: np.ndarray
    before: int
    after: int


class Tiling(NamedTuple):
    """What the kernel knows, in elements; it reads it from a flat array, as `schedule.Geometry`."""

    layout: int  # position of the layout of the gradient of the output
    in_d: int
    in_h: int
    in_w: int
    out_d: int
    out_h: int
    out_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    planes: int
    group: (
        int  # planes of a tile: more than 1 only if it holds whole planes, of one slab, and the gradient is contiguous
    )
    steps_h: int  # steps of a tile
    steps_w: int
    tiles_h: int  # tiles of a slab
    tiles_w: int
    before_h: int  # how many outputs before and after those of its steps a tile takes
    before_w: int
    extra_h: int  # before and after together
    extra_w: int
    pitch: int
    fills: int  # 1 if zeros around the stacked outputs are not in the same place in every tile
    kinds_d: int  # positions of the tables of kinds and of runs
    kinds_h: int
    kinds_w: int
    runs_d: int
    runs_h: int
    runs_w: int
    kind_count_h: int
    kind_count_w: int
    run_count_h: int
    run_count_w: int
    streams: int  # 1 if the result is written past the caches
    varies: int  # 1 if not all divisors are the same
    full_w: int  # taps along w of windows that are inside the input: those from inside0 up to inside1
    inside0: int
    inside1: int
    edges: int  # position in the divisors of the taps along w of all other windows
    stack: int  # positions in the work array
    down: int
    across: int
    region: int  # elements of each line of "down" and "across"
    spare: int
    columns: int
    zeros: int
    stage: int
    work_size: int


(
    LAYOUT,
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    PLANES,
    GROUP,
    STEPS_H,
    STEPS_W,
    TILES_H,
    TILES_W,
    BEFORE_H,
    BEFORE_W,
    EXTRA_H,
    EXTRA_W,
    PITCH,
    FILLS,
    KINDS_D,
    KINDS_H,
    KINDS_W,
    RUNS_D,
    RUNS_H,
    RUNS_W,
    KIND_COUNT_H,
    KIND_COUNT_W,
    RUN_COUNT_H,
    RUN_COUNT_W,
    STREAMS,
    VARIES,
    FULL_W,
    INSIDE0,
    INSIDE1,
    EDGES,
    STACK,
    DOWN,
    ACROSS,
    REGION,
    SPARE,
    COLUMNS,
    ZEROS,
    STAGE,
    WORK_SIZE,
) = range(len(Tiling._fields))
TILING_FIELDS = len(Tiling._fields)


# From here to the kernels functions are written in what Numba, too, can compile, as in `schedule`.


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
    kinds, runs = np.zeros((MOST_KINDS, KIND_FIELDS), np.int64), np.zeros((len(starts), RUN_FIELDS), np.int64)
    kind_count, run_count, before, after = 0, 0, 0, 0
    for number in range(len(starts)):
        start = starts[number]
        end = starts[number + 1] if number + 1 < len(starts) else count
        first, step, taps = _kind_of(axis, start)
        kind = 0
        while kind < kind_count and not (kinds[kind, 0] == first and kinds[kind, 1] == step and kinds[kind, 2] == taps):
            kind += 1
        if kind == kind_count:
            if kind == MOST_KINDS:
                kind_count = 0
                break
            kinds[kind, 0], kinds[kind, 1], kinds[kind, 2] = first, step, taps
            kind_count += 1
        if run_count > 0 and runs[run_count - 1, 0] == kind:
            runs[run_count - 1, 2] = end
        else:
            runs[run_count, 0], runs[run_count, 1], runs[run_count, 2] = kind, start, end
            run_count += 1
        if taps > 0:
            before, after = max(before, -first), max(after, first + (taps - 1) * step)
    return Phases(kinds[:kind_count], runs[:run_count], before, after)


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


def inverse(number: int, modulus: int) -> int:
    """What times a number is 1, modulo what has no divisor in common with it (Euclid's algorithm)."""
    result, following, rest, divisor = 0, 1, modulus, number % modulus
    while divisor > 0:
        times_ = rest // divisor
        result, following = following, result - times_ * following
        rest, divisor = divisor, rest - times_ * divisor
    return result % modulus


def spread_program(planes: Planes, itemsize: int, is_contiguous: bool) -> tuple[int, np.ndarray]:
    """Number of tiles and the program of the kernel, with the layout of a contiguous gradient; no tiles if it cannot."""
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
    header = TILING_FIELDS + LAYOUT_FIELDS
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
    program[LAYOUT] = TILING_FIELDS
    program[IN_D], program[IN_H], program[IN_W] = d.length, h.length, w.length
    program[OUT_D], program[OUT_H], program[OUT_W] = d.out, h.out, w.out
    program[STRIDE_D], program[STRIDE_H], program[STRIDE_W] = d.stride, h.stride, w.stride
    program[PLANES], program[GROUP] = planes.number, group
    program[STEPS_H], program[STEPS_W] = steps_h, steps_w
    program[TILES_H], program[TILES_W] = tiles_h, tiles_w
    program[BEFORE_H], program[BEFORE_W] = phases_h.before, phases_w.before
    program[EXTRA_H], program[EXTRA_W] = extra_h, extra_w
    program[PITCH] = pitch
    program[FILLS] = int(tiles_h * tiles_w > 1)
    program[KINDS_D] = header
    program[KINDS_H] = program[KINDS_D] + phases_d.kinds.size
    program[KINDS_W] = program[KINDS_H] + phases_h.kinds.size
    program[RUNS_D] = program[KINDS_W] + phases_w.kinds.size
    program[RUNS_H] = program[RUNS_D] + phases_d.runs.size
    program[RUNS_W] = program[RUNS_H] + phases_h.runs.size
    program[KIND_COUNT_H], program[KIND_COUNT_W] = len(phases_h.kinds), len(phases_w.kinds)
    program[RUN_COUNT_H], program[RUN_COUNT_W] = len(phases_h.runs), len(phases_w.runs)
    program[STREAMS] = int(planes.number * plane_size(planes) * itemsize >= STREAMED_BYTES)
    program[REGION] = region
    # The work array: the stack, then one region behind the other.
    taps_h, taps_w = phases_h.kinds[:, 2], phases_w.kinds[:, 2]
    program[DOWN] = region
    program[ACROSS] = program[DOWN] + (region * len(phases_h.kinds) if taps_h.max() > 1 else 0)
    program[SPARE] = program[ACROSS] + (region * kinds if taps_w.max() > 1 else 0)
    program[COLUMNS] = program[SPARE] + (0 if is_contiguous else region)
    program[ZEROS] = program[COLUMNS] + pitch + slack
    program[STAGE] = program[ZEROS] + (region if min(taps_h.min(), taps_w.min()) == 0 else 0)
    program[WORK_SIZE] = program[STAGE] + slack
    program[TILING_FIELDS:header] = contiguous_layout_of(planes.number, d.out, h.out, w.out)
    program[header:] = tables
    return -(-planes.number // group) * d.length * tiles_h * tiles_w, program


def simplified_for_spread(planes: Planes, is_contiguous: bool) -> Planes:
    """The same with one step where an axis has one output, and fewer axes and planes where windows tile the input."""
    if is_contiguous:
        planes = joined(planes)
    count, d, h, w = planes.number, _simplified(planes.d), _simplified(planes.h), _simplified(planes.w)
    tiles = h.before == h.after == 0 and h.kernel <= h.stride and h.dilation == 1 and h.out * h.stride == h.length
    if is_contiguous and tiles and d.kernel == d.stride == 1 and d.out == d.length:
        slabs = count * d.length
        h = Axis(slabs * h.length, slabs * h.out, h.kernel, h.stride, 1, 0, 0)
        return Planes(1, Axis(1, 1, 1, 1, 1, 0, 0), h, w)
    return Planes(count, d, h, w)


def _simplified(axis: Axis) -> Axis:
    stride = max(axis.length + axis.before, axis.kernel) if axis.out == 1 else axis.stride
    dilation = 1 if axis.kernel == 1 else axis.dilation
    return Axis(axis.length, axis.out, axis.kernel, stride, dilation, axis.before, axis.after)


@inlined
def kind_of_phase(g, runs, phase):
    """Number of the kind of a phase."""
    while phase >= g[runs + 2]:
        runs += RUN_FIELDS
    return g[runs]


@inner
def fill_columns(work, g, divisors, first, n):
    """For n outputs of a row from `first` on: taps along w that count towards their divisors; 1 behind them."""
    fill(work, g[COLUMNS] + n, work.dtype.type(1), np.int64(lanes(work)))
    for i in range(n):
        o = first + i
        taps = work.dtype.type(g[FULL_W])
        if o < g[INSIDE0]:
            taps = divisors[g[EDGES] + o]
        elif o >= g[INSIDE1]:
            taps = divisors[g[EDGES] + g[INSIDE0] + o - g[INSIDE1]]
        work[g[COLUMNS] + i] = taps


@inner
def scale_rows(
    work,
    to,
    pitch,
    source,
    row,
    step,
    rows,
    n,
    planes,
    plane_step,
    plane_pitch,
    divisors,
    factor_at,
    varies,
    columns,
    adds,
):
    """Divide rows of the source by their divisors, into lines or, if it `adds`, onto them; behind a line is 0.

    So `rows` times for each plane.
    """
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
    step_d = d // g[STRIDE_D]
    kind = g[KINDS_D] + KIND_FIELDS * kind_of_phase(g, g[RUNS_D], d - step_d * g[STRIDE_D])
    first_h, first_w = step_h - g[BEFORE_H], step_w - g[BEFORE_W]
    h0, h1 = max(ZERO, -first_h), min(rows + g[EXTRA_H], g[OUT_H] - first_h)
    w0, w1 = max(ZERO, -first_w), min(cols + g[EXTRA_W], g[OUT_W] - first_w)
    n, adds = w1 - w0, False
    has_zeros = h0 > 0 or w0 > 0 or h1 < rows + g[EXTRA_H] or w1 < cols + g[EXTRA_W]
    if g[FILLS] and has_zeros:
        fill(work, g[STACK], work.dtype.type(0), g[REGION])
    if g[VARIES] and n > 0 and (is_first or g[TILES_W] > 1):
        fill_columns(work, g, divisors, first_w + w0, n)
    for i in range(g[kind + 2]):
        od = step_d + g[kind] + i * g[kind + 1]
        if od < 0 or od >= g[OUT_D] or n <= 0 or h1 <= h0:
            continue
        row = plane_at(layout, plane) + od * layout[D_STEP]
        row += (first_h + h0) * layout[H_STEP] + (first_w + w0) * layout[W_STEP]
        to = g[STACK] + h0 * g[PITCH] + w0
        factor_at = od * g[OUT_H] + first_h + h0 if g[VARIES] else ZERO
        if layout[DIRECT]:
            scale_rows(
                work,
                to,
                g[PITCH],
                grad,
                row,
                layout[H_STEP],
                h1 - h0,
                n,
                planes,
                layout[INNER_STEP],
                (rows + g[EXTRA_H]) * g[PITCH],
                divisors,
                factor_at,
                g[VARIES],
                g[COLUMNS],
                adds,
            )
        else:
            gather_block(work, g[SPARE], n, grad, row, layout[H_STEP], layout[W_STEP], h1 - h0, n)
            scale_rows(
                work,
                to,
                g[PITCH],
                work,
                g[SPARE],
                n,
                h1 - h0,
                n,
                ONE,
                ZERO,
                ZERO,
                divisors,
                factor_at,
                g[VARIES],
                g[COLUMNS],
                adds,
            )
        adds = True
    if not adds:
        fill(work, g[STACK], work.dtype.type(0), g[REGION])


@inlined
def spread_stack(work, lines, g, planes, rows):
    """Fold the stack down and across for every kind of phase; writes into `lines` where the results are."""
    n = ((planes - ONE) * (rows + g[EXTRA_H]) + rows) * g[PITCH]
    for kind_h in range(g[KIND_COUNT_H]):
        kind = g[KINDS_H] + kind_h * KIND_FIELDS
        count_h, down = g[kind + 2], g[STACK] + (g[kind] + g[BEFORE_H]) * g[PITCH]
        if count_h > 1:
            to = g[DOWN] + kind_h * g[REGION]
            fold_shifts(add, work, to, down, n, count_h, g[kind + 1] * g[PITCH])
            down = to
        for kind_w in range(g[KIND_COUNT_W]):
            number = kind_h * g[KIND_COUNT_W] + kind_w
            kind = g[KINDS_W] + kind_w * KIND_FIELDS
            line = down + g[kind] + g[BEFORE_W]
            if count_h == 0 or g[kind + 2] == 0:
                line = g[ZEROS]
            elif g[kind + 2] > 1:
                to = g[ACROSS] + number * g[REGION]
                fold_shifts(add, work, to, line, n - g[EXTRA_W], g[kind + 2], g[kind + 1])
                line = to
            lines[number] = line


@inner
def write_rows(out, to, end, work, lines, offset, step_h, rows, n, g):
    """Write the rows of a tile in ascending order, n elements each, phases side by side.

    Nothing from `end` on is touched that is not of the row itself. All loops are in one function: called once a row, it took
    50 ns a row more, for the reference counts of its arrays.
    """
    width, count, stage, two = lanes(work), np.uintp(n), np.uintp(g[STAGE]), lanes(work) + lanes(work)
    streams = g[STREAMS] != 0 and can_stream(out, np.uintp(to)) and (g[IN_W] * out.itemsize) % STREAM_BYTES == 0
    for row in range(rows):
        h = (step_h + row) * g[STRIDE_H]
        for number_h in range(g[RUN_COUNT_H]):
            run_h = g[RUNS_H] + number_h * RUN_FIELDS
            kind = g[run_h] * g[KIND_COUNT_W]
            first = np.uintp(lines[kind + g[g[RUNS_W]]] + offset)
            for _ in range(min(g[run_h + 2], g[IN_H] - h) - g[run_h + 1]):
                target, column = np.uintp(to), np.uintp(0)
                if g[STRIDE_W] == 1:
                    whole = whole_vectors(count, target, np.uintp(end), width)
                    while column < whole:
                        stream(out, target + column, load(work, first + column, work), streams)
                        column += width
                    if column < count:
                        for lane in range((count - column) & (width - ONE_UP)):
                            put(out, target + column + lane, work[first + column + lane])
                elif g[STRIDE_W] == 2:
                    second = np.uintp(lines[kind + g[g[RUNS_W] + (g[RUN_COUNT_W] - 1) * RUN_FIELDS]] + offset)
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
                elif g[RUN_COUNT_W] == 1 and g[STRIDE_W] <= np.int64(width):
                    stride, step = np.uintp(g[STRIDE_W]), np.uintp(0)
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
                    for step in range(-(-n // g[STRIDE_W])):
                        for number_w in range(g[RUN_COUNT_W]):
                            run = g[RUNS_W] + number_w * RUN_FIELDS
                            value = work[lines[kind + g[run]] + offset + step]
                            vector = all_lanes(value, work, work)
                            column = target + np.uintp(step * g[STRIDE_W] + g[run + 1])
                            stop = target + np.uintp(min(step * g[STRIDE_W] + g[run + 2], n))
                            while column < stop and column + width <= np.uintp(end):
                                store(out, column, vector)
                                column += width
                            while column < stop:
                                put(out, column, value)
                                column += ONE_UP
                to += g[IN_W]
        offset += g[PITCH]
    if streams:
        finish_streams()


@inlined
def tile_of(number, g):
    """First slab of a tile (plane * in_d + d), and the first of its steps along h and w."""
    row = number // g[TILES_W]
    slab = row // g[TILES_H]
    if g[GROUP] > 1:
        return number * g[GROUP], ZERO, ZERO
    return slab, (row - slab * g[TILES_H]) * g[STEPS_H], (number - row * g[TILES_W]) * g[STEPS_W]


@inlined
def first_input(slab, step_h, step_w, g):
    """Position of the first input element of a tile."""
    return (slab * g[IN_H] + step_h * g[STRIDE_H]) * g[IN_W] + step_w * g[STRIDE_W]


@inlined
def extent_of_tile(step_h, step_w, g):
    """How many steps a tile has along h and w."""
    return (
        min(g[STEPS_H], (g[IN_H] + g[STRIDE_H] - 1) // g[STRIDE_H] - step_h),
        min(g[STEPS_W], (g[IN_W] + g[STRIDE_W] - 1) // g[STRIDE_W] - step_w),
    )


@inlined
def free_end(out, last, g):
    """How far tiles before `last` may write over results to come: they are theirs too, and written in ascending order."""
    slab, step_h, step_w = tile_of(last, g)
    end = first_input(slab, step_h, step_w, g) if g[TILES_W] == 1 or g[IN_H] == 1 else ZERO
    return end if end < out.size else out.size


@inlined
def write_tile(out, end, work, lines, slab, planes, step_h, rows, step_w, g):
    """Write the rows of a tile in ascending order."""
    n = min(g[STEPS_W] * g[STRIDE_W], g[IN_W] - step_w * g[STRIDE_W])
    for plane in range(planes):
        to, offset = first_input(slab + plane, step_h, step_w, g), plane * (rows + g[EXTRA_H]) * g[PITCH]
        write_rows(out, to, end, work, lines, offset, step_h, rows, n, g)
