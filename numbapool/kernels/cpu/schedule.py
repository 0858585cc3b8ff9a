"""How the CPU cuts a plan into units of work, and which algorithm runs: the one place that decides.

A unit is a piece of the output of one plane, `rows` x `cols` outputs. Its input rows are folded into lines of `pitch`
elements, padding included, so that all rows of a unit are one long vector for the fold across. Where each unit reads and
writes is written down once, in tables that kernels follow; clipping at the edges is done here and nowhere in a kernel.
A schedule depends on the plan, the size of an element, whether the input is contiguous and whether indices are wanted,
never on the number of threads, so neither do the bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from numbapool.compilable import compilable
from numbapool.geometry import BinPlan, WindowPlan
from numbapool.kernels.cpu.tables import blocks as B
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.vectors import VECTOR_BYTES
from numbapool.windows import Axis, end_tap, first_tap, holds_all_windows

# Bytes of all lines of a unit: a few times this fits the first-level cache (32 KiB) beside the rows that are read.
LINE_BYTES = 8192
# Inputs of so many bytes come from memory at every call. For them fewer and longer units are better: 2x2 windows on 128 MiB
# reach 0.85 of copy bandwidth instead of 0.80.
LARGE_BYTES = 1 << 25
LARGE_LINE_BYTES = 32768
# Stacks of up to this many elements, which fit the second-level cache beside what is folded from them, may be made higher,
# so that units share less: one plane of 4096x4096 took 1.5 times as long as 256 of 256x256.
STACK_ELEMENTS = 4 << 13
# Outputs of so many bytes are written past the caches: 3x3 windows at stride 1 on 128 MiB take 10.4 ms instead of 11.3.
STREAMED_BYTES = 1 << 24
# Windows wider (along w) or larger (all axes) than these many elements are read tap by tap instead of through lines, so
# that work arrays stay below 1 MiB or two planes.
WIDEST_LINE_WINDOW = 1 << 16
LARGEST_LINE_WINDOW = 1 << 18
# Small planes are put together into units, but not into fewer than this many, for threads to share.
FEWEST_UNITS = 16
# "flat" takes planes up to this many elements, where there are several to share the masks.
LARGEST_FLAT_PLANE = 1 << 14
FEWEST_FLAT_PLANES = 16
# Windows of whole rows or planes with more elements than this stay as they are.
LARGEST_JOINED_WINDOW = 1 << 8
# Dilated windows that span more lines than this are folded row by row: stacks would hold mostly rows between the taps.
MOST_SPARSE_LINES = 8
# Windows up to this wide are folded across tap by tap ("rows"): one pass over a line.
WIDEST_TAP_WINDOW = 3
# At stride 1, windows of up to this many rows are folded down row by row; higher ones by shifts ("dense").
HIGHEST_ROW_WINDOW = 9
# Windows across of up to this many strides are folded one by one; longer ones, which overlap more, by shifts.
LONGEST_OVERLAP = 8


AnyPlan: TypeAlias = WindowPlan | BinPlan


class Planes(NamedTuple):
    """What is pooled, as the functions below take it: so many planes, each with three axes."""

    number: int
    d: Axis
    h: Axis
    w: Axis


class Schedule(NamedTuple):
    """The algorithm for a plan, the number of units of the whole output, and the program that kernels follow.

    The program is one int64 array, because each array costs a call 0.1 us: geometry, layout of the input, table of units,
    table of blocks. Its layout is that of a contiguous input; `with_layout` makes the program for another.
    """

    algorithm: int
    units: int
    program: np.ndarray


# The algorithms.
#
# FLAT: stride 1, windows up to 3 along each axis, output as large as the input, contiguous, planes that are small or
#     3-d. Whole planes are one vector in every pass, and taps that belong to a neighbouring row are masked.
# ROWS: small windows at stride 1 or 2 across. Rows are folded into lines where they stand, lines across tap by tap.
# DENSE: larger windows at stride 1. Input rows are stacked with their padding, and whole stacks folded by shifts.
# STRIDED: any other. Rows as in ROWS, then a fold of all positions across, of which every stride-th stays.
# INDICES: maxima with their positions. Each input row is folded across, then these down, both in row-major order.
# WHOLE: each plane is one window, and contiguous. It is folded in whole vectors where it stands.
# WINDOWS: windows wider than any line, or mostly outside the input: tap by tap.
FLAT, ROWS, DENSE, STRIDED, INDICES, WHOLE, WINDOWS = range(7)


def with_layout(program: np.ndarray, layout: np.ndarray | None) -> np.ndarray:
    """The program for an input of another layout."""
    if layout is None:
        return program
    program = program.copy()
    program[program[L.POSITION] :][: L.FIELDS] = layout
    return program


def planes_of(plan: WindowPlan) -> Planes:
    """What a plan pools."""
    return Planes(plan.planes, *plan.axes)


@lru_cache(maxsize=512)
def schedule_of(plan: WindowPlan, itemsize: int, contiguous: bool, indices: bool) -> Schedule:
    """Choose the algorithm for a plan on elements of `itemsize` bytes, and write the program for it."""
    return Schedule(*schedule_of_planes(planes_of(plan), itemsize, contiguous, indices))


@compilable
def schedule_of_planes(planes: Planes, itemsize: int, contiguous: bool, indices: bool) -> tuple[int, int, np.ndarray]:
    """`schedule_of`, as a plain tuple."""
    is_large = plane_size(planes) * planes.number * itemsize >= LARGE_BYTES
    line = (LARGE_LINE_BYTES if is_large else LINE_BYTES) // itemsize
    planes = simplified(planes)
    if contiguous:
        planes = flattened(planes) if indices else joined(planes)
    d, h, w = planes.d, planes.h, planes.w
    span = (w.kernel - 1) * w.dilation + 1
    halo = (h.kernel - 1) * h.dilation
    slack = 4 * VECTOR_BYTES // itemsize
    algorithm = algorithm_for(planes, line, contiguous, indices, slack)
    # Wide windows get wide tiles, so that the elements two tiles share stay a small part of what is read.
    # With indices tiles are of one row (see below), so rows are cut only where they are longer still.
    widest = 4 * line if indices else line
    cols = min(w.out, max(1, widest // w.stride, 4 * span // w.stride))
    pitch = -(-((cols - 1) * w.stride + span) // w.stride) * w.stride
    rows = min(h.out, max(1, line // pitch))
    group, guard, lines, slab = 1, 0, 1, 0
    folded, across, stack, spare = 0, 0, 0, 0
    if algorithm == FLAT:
        group = max(1, min(line // 2 // plane_size(planes), planes.number // FEWEST_UNITS))
        lines = group * plane_size(planes)
        guard = max(
            d.dilation * h.length * w.length if d.kernel > 1 else 0,
            h.dilation * w.length if h.kernel > 1 else 0,
            w.dilation if w.kernel > 1 else 0,
        )
        folded, across, stack = lines + guard, lines + 2 * guard, 6 * lines
        rows, cols = h.out, w.out
    elif algorithm == WHOLE:
        rows = cols = 1
    elif algorithm == WINDOWS:
        rows, cols, pitch = 1, min(w.out, line), 1
        lines = across = cols
    else:
        if algorithm == DENSE:
            rows = min(h.out, max(rows, 8, min(2 * halo, 2 * h.length // 3)))  # the work array: two padded planes
        elif algorithm == INDICES:
            # Rows of tiles would give the gradients of an element at a seam another order than that of the outputs.
            high = max(2 * halo, min(8 * halo, STACK_ELEMENTS // pitch - halo)) // h.stride
            # The work arrays: two padded planes, except for windows nearly as high as a plane.
            high = max(rows, min(high, max((2 * h.length - 3 * halo) // 7, halo // 8)))
            rows = 1 if h.stride > halo + 1 or cols < w.out else min(h.out, high)
        elif contiguous and d.out == 1 and rows == h.out and cols == w.out:
            group = max(1, min(line // (rows * pitch), planes.number // FEWEST_UNITS))
        lines = group * rows * pitch
        slab = (rows + halo if algorithm == DENSE else min((rows - 1) * h.stride + halo + 1, h.length)) * pitch
        folded, across = lines + span, lines // w.stride + span
        if algorithm == DENSE:
            folded, stack, spare = slab + span, slab + span, slab if d.kernel > 1 else 0
        elif algorithm == INDICES:
            folded, stack = slab + span, slab // w.stride + span
            spare = 2 * (pitch + slack)
            if d.kernel > 1:
                spare += lines
            if w.kernel > 3 or w.stride > 2:
                spare += slab // w.stride + 2 * span
            if w.stride > 1:
                spare += slab + 2 * span
        else:
            # Input is copied only where it is not contiguous, then all slabs of a window at once.
            stack = (0 if contiguous else slab * min(d.kernel, d.length)) + span
            spare = 2 * lines + 3 * span + 4 * slack
    units, blocks = _tables(planes, algorithm, rows, cols, pitch)
    layout_at = G.FIELDS
    units_at = layout_at + L.FIELDS
    blocks_at = units_at + len(units)
    program = np.zeros(blocks_at + len(blocks), np.int64)
    describe(program, planes)
    program[G.PITCH] = pitch
    program[G.LINES] = lines
    program[G.GROUP] = group
    program[G.INSIDE] = int(holds_all_windows(d) and holds_all_windows(h) and holds_all_windows(w))
    # The work array: a guard, then one region behind the other.
    program[G.STAGE] = guard
    at = guard + slack
    if algorithm != INDICES:
        program[G.FOLDED] = at
        at += folded + slack
    if algorithm != DENSE:
        program[G.ACROSS] = at
        at += across + slack
    program[G.STACK] = at
    at += stack + slack
    program[G.SPARE] = at
    at += spare + slack
    if algorithm == INDICES:  # last, because the marks need no place for it
        program[G.FOLDED] = at
        at += folded + slack
    elif algorithm == DENSE:  # it is done with its stack when it folds across
        program[G.ACROSS] = program[G.STACK]
    program[G.WORK_SIZE] = at
    program[G.LAYOUT] = layout_at
    program[G.UNITS] = units_at
    program[G.UNIT_COUNT] = len(units) // U.FIELDS
    program[G.MARK_H] = min(h.dilation, h.length) * w.length  # a tap further off has no neighbour in the input
    program[G.MARK_W] = w.dilation
    program[G.STREAMS] = int(planes.number * out_plane_size(planes) * itemsize >= STREAMED_BYTES)
    program[G.BLOCKS] = blocks_at
    program[layout_at:units_at] = contiguous_layout_of(planes.number, d.length, h.length, w.length)
    program[units_at:blocks_at] = np.array(units)
    if len(blocks) > 0:
        program[blocks_at:] = np.array(blocks)
    return algorithm, -(-planes.number // group) * (len(units) // U.FIELDS), program


@compilable
def _tables(planes: Planes, algorithm: int, rows: int, cols: int, pitch: int) -> tuple[list[int], list[int]]:
    """The table of units of a plane, of `rows` and `cols` at most, and that of their blocks, row after row."""
    d, h, w = planes.d, planes.h, planes.w
    units, blocks = [0 for _ in range(0)], [0 for _ in range(0)]  # lists whose type Numba knows
    for od in range(1 if algorithm == FLAT else d.out):
        for oh in range(0, h.out, rows):
            for ow in range(0, w.out, cols):
                unit_rows, unit_cols = min(rows, h.out - oh), min(cols, w.out - ow)
                first, padded = len(blocks) // B.FIELDS, False
                if algorithm in (DENSE, INDICES):
                    padded = _stack_block(planes, od, oh, ow, unit_rows, unit_cols, pitch, blocks)
                elif algorithm in (ROWS, STRIDED):
                    padded = _blocks(planes, od, oh, ow, unit_rows, unit_cols, pitch, blocks)
                unit = _new_row(units, U.FIELDS)
                units[unit + U.OD], units[unit + U.OH], units[unit + U.OW] = od, oh, ow
                units[unit + U.ROWS], units[unit + U.COLS] = unit_rows, unit_cols
                units[unit + U.TOUCHES_PADDING] = int(padded)
                units[unit + U.FIRST_BLOCK], units[unit + U.END_BLOCK] = first, len(blocks) // B.FIELDS
    return units, blocks


@compilable
def _new_row(table: list[int], fields: int) -> int:
    """Append a row of zeros to a table; where it starts."""
    at = len(table)
    table.extend([0] * fields)
    return at


def counting_taps(program: np.ndarray) -> np.ndarray:
    """The program whose indices count the taps of a window, in row-major order."""
    program = program.copy()
    program[G.IN_WINDOW], program[G.MARK_H], program[G.MARK_W] = 1, program[G.KERNEL_W], 1
    return program


def geometry_of(plan: AnyPlan) -> np.ndarray:
    """Geometry of a plan for kernels that need no work array of the schedule."""
    return geometry_of_axes(plan.planes, plan.axes)


@lru_cache(maxsize=512)
def geometry_of_axes(planes: int, axes: tuple[Any, ...]) -> np.ndarray:
    """The same of planes with these axes."""
    if isinstance(axes[0], Axis):
        return geometry_of_planes(Planes(planes, *axes))
    geometry = np.zeros(G.FIELDS, np.int64)  # bins have no windows
    geometry[G.PLANES] = planes
    geometry[[G.IN_D, G.IN_H, G.IN_W]] = [axis.length for axis in axes]
    geometry[[G.OUT_D, G.OUT_H, G.OUT_W]] = [axis.out for axis in axes]
    return geometry


@compilable
def geometry_of_planes(planes: Planes) -> np.ndarray:
    """The same of planes."""
    geometry = np.zeros(G.FIELDS, np.int64)
    describe(geometry, planes)
    return geometry


@compilable
def describe(program: np.ndarray, planes: Planes) -> None:
    """Write the extents of planes to the beginning of a program."""
    d, h, w = planes.d, planes.h, planes.w
    program[G.PLANES] = planes.number
    program[G.IN_D], program[G.IN_H], program[G.IN_W] = d.length, h.length, w.length
    program[G.OUT_D], program[G.OUT_H], program[G.OUT_W] = d.out, h.out, w.out
    program[G.KERNEL_D], program[G.KERNEL_H], program[G.KERNEL_W] = d.kernel, h.kernel, w.kernel
    program[G.STRIDE_D], program[G.STRIDE_H], program[G.STRIDE_W] = d.stride, h.stride, w.stride
    program[G.DILATION_D], program[G.DILATION_H], program[G.DILATION_W] = d.dilation, h.dilation, w.dilation
    program[G.BEFORE_D], program[G.BEFORE_H], program[G.BEFORE_W] = d.before, h.before, w.before
    program[G.AFTER_D], program[G.AFTER_H], program[G.AFTER_W] = d.after, h.after, w.after


@compilable
def plane_size(planes: Planes) -> int:
    """Input elements of a plane."""
    return planes.d.length * planes.h.length * planes.w.length


@compilable
def out_plane_size(planes: Planes) -> int:
    """Output elements of a plane."""
    return planes.d.out * planes.h.out * planes.w.out


def contiguous_layout(plan: AnyPlan) -> np.ndarray:
    """Layout (see `tables.layout`) of a C-contiguous array with the shape of a plan's input."""
    return contiguous_layout_of(plan.planes, *(axis.length for axis in plan.axes))


def contiguous_out_layout(plan: AnyPlan) -> np.ndarray:
    """The same with the shape of its output."""
    return _contiguous_out_layout(plan.planes, plan.axes)


@lru_cache(maxsize=512)
def _contiguous_out_layout(planes: int, axes: tuple[Any, ...]) -> np.ndarray:
    return contiguous_layout_of(planes, *(axis.out for axis in axes))


@compilable
def contiguous_layout_of(planes: int, d: int, h: int, w: int) -> np.ndarray:
    """The same of so many planes of these lengths."""
    layout = np.zeros(L.FIELDS, np.int64)
    layout[L.INNER_STEP], layout[L.INNER_COUNT] = d * h * w, max(planes, 1)
    layout[L.D_STEP], layout[L.H_STEP], layout[L.W_STEP], layout[L.DIRECT] = h * w, w, 1, 1
    return layout


@compilable
def simplified(planes: Planes) -> Planes:
    """The same without strides and dilations that matter to nothing, but that could be of any size."""
    return Planes(planes.number, _simplified(planes.d), _simplified(planes.h), _simplified(planes.w))


@compilable
def _simplified(axis: Axis) -> Axis:
    stride = 1 if axis.out == 1 else axis.stride
    dilation = 1 if axis.kernel == 1 else axis.dilation
    return Axis(axis.length, axis.out, axis.kernel, stride, dilation, axis.before, axis.after)


@compilable
def joined(planes: Planes) -> Planes:
    """The same with fewer axes, where windows hold whole rows or planes, or tile rows without a rest.

    Then neighbouring windows are neighbouring runs of a contiguous input: a global mean of many small planes becomes one long
    row with windows as long as a plane.
    """
    planes = flattened(planes)
    count, d, h, w = planes.number, planes.d, planes.h, planes.w
    if holds_axis(w) and w.length * h.length <= LARGEST_JOINED_WINDOW:
        if holds_axis(h):
            size = h.length * w.length
            h, w = Axis(1, 1, 1, 1, 1, 0, 0), Axis(size, 1, size, size, 1, 0, 0)
        else:
            w = Axis(w.length, 1, w.length, w.length, 1, 0, 0)
    is_tiling = w.kernel <= w.stride and w.dilation == 1 and w.out * w.stride == w.length and w.before == w.after == 0
    if count > 0 and is_tiling and _is_kept(d) and _is_kept(h):
        lines, unit = count * d.length * h.length, Axis(1, 1, 1, 1, 1, 0, 0)
        return Planes(1, unit, unit, Axis(lines * w.length, lines * w.out, w.kernel, w.stride, 1, 0, 0))
    return Planes(count, d, h, w)


@compilable
def flattened(planes: Planes) -> Planes:
    """The same with one axis, where a window holds a whole plane."""
    if is_whole(planes):
        size, unit = plane_size(planes), Axis(1, 1, 1, 1, 1, 0, 0)
        return Planes(planes.number, unit, unit, Axis(size, 1, size, 1, 1, 0, 0))
    return planes


@compilable
def is_whole(planes: Planes) -> bool:
    """Whether a window holds a whole plane."""
    return holds_axis(planes.d) and holds_axis(planes.h) and holds_axis(planes.w)


@compilable
def holds_axis(axis: Axis) -> bool:
    """Whether one window holds an axis from end to end."""
    return axis.out == 1 and axis.kernel == axis.length and axis.before == axis.after == 0 and axis.dilation == 1


@compilable
def _is_kept(axis: Axis) -> bool:
    """Whether windows are single elements, one after the other."""
    return axis.kernel == axis.stride == 1 and axis.before == 0 and axis.out == axis.length


@compilable
def algorithm_for(planes: Planes, line: int, contiguous: bool, indices: bool, four_vectors: int) -> int:
    """The algorithm for lines of up to so many elements."""
    d, h, w = planes.d, planes.h, planes.w
    smallest_whole = four_vectors if indices else LARGEST_JOINED_WINDOW + 1
    span_w, span_h = (w.kernel - 1) * w.dilation + 1, (h.kernel - 1) * h.dilation + 1
    if contiguous and d.length == h.length == 1 and holds_axis(w) and w.length >= smallest_whole:
        return WHOLE
    reach = (min(w.out, max(1, line // w.stride)) - 1) * w.stride + span_w + w.stride
    mostly_outside = reach > 4 * (w.length + line) or span_h > 2 * h.length + 64
    if mostly_outside or span_w > WIDEST_LINE_WINDOW or span_w * span_h * d.kernel > LARGEST_LINE_WINDOW:
        return WINDOWS
    if indices:
        return INDICES
    size = plane_size(planes)
    is_small = size <= LARGEST_FLAT_PLANE if d.kernel > 1 else size <= line // 2
    is_trivial = d.kernel == h.kernel == w.kernel == 1
    if contiguous and is_small and planes.number >= FEWEST_FLAT_PLANES and not is_trivial and _are_flat(planes):
        return FLAT
    is_small = w.kernel <= WIDEST_TAP_WINDOW and (h.stride > 1 or h.kernel <= HIGHEST_ROW_WINDOW)
    if w.stride <= 2 and is_small:
        return ROWS
    is_sparse = h.dilation > 1 and (h.kernel - 1) * h.dilation * min(w.length, line) > MOST_SPARSE_LINES * line
    return DENSE if h.stride == w.stride == 1 and not is_sparse else STRIDED


@compilable
def _are_flat(planes: Planes) -> bool:
    return _is_flat(planes.d) and _is_flat(planes.h) and _is_flat(planes.w)


@compilable
def _is_flat(axis: Axis) -> bool:
    """Whether windows along an axis have up to three taps, at stride 1, of which only the outer two can be outside."""
    if axis.out != axis.length or axis.stride != 1 or axis.kernel > 3 or axis.dilation > axis.length:
        return False
    if axis.kernel == 1:
        return axis.before == axis.after == 0
    return axis.before == (axis.kernel - 1) * axis.dilation // 2


@compilable
def _taps(axis: Axis, out_position: int) -> tuple[int, int]:
    """First input element of a window that is inside the input, and the number of taps inside."""
    start = out_position * axis.stride - axis.before
    first = first_tap(start, axis.dilation)
    return start + first * axis.dilation, max(0, end_tap(start, axis.length, axis.kernel, axis.dilation) - first)


@compilable
def _columns(axis: Axis, ow: int, cols: int) -> tuple[int, int, int]:
    """Input columns that a unit reads: padding before them, the first, and how many are inside the input."""
    start = ow * axis.stride - axis.before
    reach = (cols - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
    first = max(0, start)
    return first - start, first, min(axis.length, start + reach) - first


@compilable
def _blocks(planes: Planes, od: int, oh: int, ow: int, rows: int, cols: int, pitch: int, blocks: list[int]) -> bool:
    """Append the blocks of a unit; whether any of its lines need padding written, because other units differ there."""
    h, w = planes.h, planes.w
    left, first_w, width = _columns(w, ow, cols)
    first_d, d_taps = _taps(planes.d, od)
    tiled = cols < w.out and (left > 0 or width < (cols - 1) * w.stride + (w.kernel - 1) * w.dilation + 1)
    if d_taps == 0 or width <= 0:
        return True
    row, has_empty_row = 0, False
    while row < rows:
        first_h, h_taps = _taps(h, oh + row)
        count = 1
        if h_taps == h.kernel:  # neighbouring windows with all rows inside share their passes
            count = min(rows - row, (h.length - 1 - first_h - (h.kernel - 1) * h.dilation) // h.stride + 1)
        if h_taps > 0:
            block = _new_row(blocks, B.FIELDS)
            blocks[block + B.LINE], blocks[block + B.WIDTH] = row * pitch + left, width
            blocks[block + B.FIRST_D], blocks[block + B.FIRST_H], blocks[block + B.FIRST_W] = first_d, first_h, first_w
            blocks[block + B.D_TAPS], blocks[block + B.H_TAPS], blocks[block + B.ROWS] = d_taps, h_taps, count
        has_empty_row |= h_taps == 0
        row += count
    return tiled or has_empty_row


@compilable
def _stack_block(
    planes: Planes, od: int, oh: int, ow: int, rows: int, cols: int, pitch: int, blocks: list[int]
) -> bool:
    """Append the block of input rows that a unit stacks; whether anything of its stack is padding."""
    h = planes.h
    left, first_w, width = _columns(planes.w, ow, cols)
    first_d, d_taps = _taps(planes.d, od)
    start = oh * h.stride - h.before
    end = start + (rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1
    first_h, end_h = max(start, 0), min(end, h.length)
    if d_taps > 0 and width > 0 and end_h > first_h:
        block = _new_row(blocks, B.FIELDS)
        blocks[block + B.LINE], blocks[block + B.WIDTH] = (first_h - start) * pitch + left, width
        blocks[block + B.FIRST_D], blocks[block + B.FIRST_H], blocks[block + B.FIRST_W] = first_d, first_h, first_w
        blocks[block + B.D_TAPS], blocks[block + B.H_TAPS], blocks[block + B.ROWS] = d_taps, end_h - first_h, 1
    return width < pitch or end_h - first_h < end - start or d_taps == 0
