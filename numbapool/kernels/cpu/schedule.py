"""How the CPU cuts a plan into units of work, and which algorithm runs: the one place that decides.

A unit is a piece of the output of one plane, `rows` x `cols` outputs. Its input rows are folded into lines of `pitch`
elements, padding included, so that all rows of a unit are one long vector for the fold across. Where each unit reads and
writes is written down once, in tables that kernels follow; clipping at the edges is done here and nowhere in a kernel.
A schedule depends on the plan, the size of an element, whether the input is contiguous and whether indices are wanted,
never on the number of threads, so neither do the bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from numbapool.geometry import UNIT_AXIS, BinPlan, WindowPlan, holds_all_windows
from numbapool.kernels.cpu.vectors import VECTOR_BYTES
from numbapool.kernels.windows import Axis, end_tap, first_tap

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


class Geometry(NamedTuple):
    """What a kernel knows of a plan and its work array, in elements; kernels read it from a flat array, see below."""

    planes: int
    in_d: int
    in_h: int
    in_w: int
    out_d: int
    out_h: int
    out_w: int
    kernel_d: int
    kernel_h: int
    kernel_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    dilation_d: int
    dilation_h: int
    dilation_w: int
    before_d: int
    before_h: int
    before_w: int
    after_d: int
    after_h: int
    after_w: int
    pitch: int  # elements of the line of one output row: a multiple of the stride
    lines: int  # elements of all lines of a unit
    group: int  # planes of a unit: more than 1 only if each is one unit and the input is contiguous
    inside: int  # 1 if every window is inside the input, else 0
    folded: int  # position, in a work array, of the lines folded along d and h
    across: int  # position of the lines folded across as well: the results of a unit
    stack: int  # position of a copy of input rows
    spare: int  # position of spare lines
    stage: int  # position of a vector on its way to the end of an output row
    work_size: int
    layout: int  # position, in the program, of the layout of the input (see `launch.Source`)
    units: int  # position of the table of units of a plane
    unit_count: int
    blocks: int  # position of the table of blocks
    streams: int  # 1 if the output is written past the caches
    varies: int  # of means: 1 if not all divisors are the same
    factors: int  # and the position of their factors
    in_window: int  # of indices: 1 if they count the taps of a window, 0 if they are positions in the plane
    mark_h: int  # and how far those of neighbouring taps along h are apart
    mark_w: int


# Where a kernel finds each field of the geometry in its flat array.
(
    PLANES,
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    KERNEL_D,
    KERNEL_H,
    KERNEL_W,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    AFTER_D,
    AFTER_H,
    AFTER_W,
    PITCH,
    LINES,
    GROUP,
    INSIDE,
    FOLDED,
    ACROSS,
    STACK,
    SPARE,
    STAGE,
    WORK_SIZE,
    LAYOUT,
    UNITS,
    UNIT_COUNT,
    BLOCKS,
    STREAMS,
    VARIES,
    FACTORS,
    IN_WINDOW,
    MARK_H,
    MARK_W,
) = range(len(Geometry._fields))


class Unit(NamedTuple):
    """A row of the table of units: one piece of the output of a plane."""

    od: int
    oh: int
    ow: int
    rows: int
    cols: int
    touches_padding: int
    first_block: int
    end_block: int
    divisors: int  # means only: position of its line of divisors, see `avg.divisors_of`


(OD, OH, OW, ROWS, COLS, TOUCHES_PADDING, FIRST_BLOCK, END_BLOCK, DIVISORS) = range(len(Unit._fields))
UNIT_FIELDS = len(Unit._fields)


class Block(NamedTuple):
    """A row of the table of blocks: neighbouring output rows of a unit whose windows hold equally many input rows."""

    line: int  # where the first goes, from the start of the unit's lines
    d: int  # first input element that the first window reads
    h: int
    w: int
    d_taps: int
    h_taps: int
    rows: int
    width: int  # input elements of each row


(LINE, FIRST_D, FIRST_H, FIRST_W, D_TAPS, H_TAPS, BLOCK_ROWS, WIDTH) = range(len(Block._fields))
BLOCK_FIELDS = len(Block._fields)
LAYOUT_FIELDS = 8


class Schedule(NamedTuple):
    """The algorithm for a plan, the number of units of the whole output, and the program that kernels follow.

    The program is one int64 array, because each array costs a call 0.1 us: geometry, layout of the input, table of units,
    table of blocks. Its layout is that of a contiguous input; `with_layout` makes the program for another.
    """

    algorithm: str
    units: int
    program: np.ndarray


def with_layout(program: np.ndarray, at: int, layout: np.ndarray | None) -> np.ndarray:
    """The program for an input of another layout, whose position it holds at `at`."""
    if layout is None:
        return program
    program = program.copy()
    program[program[at] :][:LAYOUT_FIELDS] = layout
    return program


@lru_cache(maxsize=512)
def schedule_of(plan: WindowPlan, itemsize: int, contiguous: bool, indices: bool) -> Schedule:
    """Choose the algorithm for a plan on elements of `itemsize` bytes.

    "flat": stride 1, windows up to 3 along each axis, output as large as the input, contiguous, planes that are small or
        3-d. Whole planes are one vector in every pass, and taps that belong to a neighbouring row are masked.
    "rows": small windows at stride 1 or 2 across. Rows are folded into lines where they stand, lines across tap by tap.
    "dense": larger windows at stride 1. Input rows are stacked with their padding, and whole stacks folded by shifts.
    "strided": any other. Rows as in "rows", then a fold of all positions across, of which every stride-th stays.
    "indices": maxima with their positions. Each input row is folded across, then these down, both in row-major order.
    "whole": each plane is one window, and contiguous. It is folded in whole vectors where it stands.
    "windows": windows wider than any line, or mostly outside the input: tap by tap.
    """
    is_large = plan.planes * plan.plane_size * itemsize >= LARGE_BYTES
    line = (LARGE_LINE_BYTES if is_large else LINE_BYTES) // itemsize
    plan = _simplified(plan)
    if contiguous:
        plan = flattened(plan) if indices else joined(plan)
    d, h, w = plan.axes
    span = (w.kernel - 1) * w.dilation + 1
    halo = (h.kernel - 1) * h.dilation
    algorithm = _algorithm(plan, line, contiguous, indices, 4 * VECTOR_BYTES // itemsize)
    # Wide windows get wide tiles, so that the elements two tiles share stay a small part of what is read.
    # With indices tiles are of one row (see below), so rows are cut only where they are longer still.
    widest = 4 * line if indices else line
    cols = min(w.out, max(1, widest // w.stride, 4 * span // w.stride))
    pitch = -(-((cols - 1) * w.stride + span) // w.stride) * w.stride
    rows = min(h.out, max(1, line // pitch))
    group, guard = 1, 0
    slack = 4 * VECTOR_BYTES // itemsize
    units: list[Unit] = []
    blocks: list[Block] = []
    if algorithm == "flat":
        group = max(1, min(line // 2 // plan.plane_size, plan.planes // FEWEST_UNITS))
        lines = group * plan.plane_size
        steps = (h.length * w.length, w.length, 1)
        guard = max(axis.dilation * step if axis.kernel > 1 else 0 for axis, step in zip(plan.axes, steps, strict=True))
        sizes = {"folded": lines + guard, "across": lines + 2 * guard, "stack": 6 * lines, "spare": 0}
        units = [Unit(0, 0, 0, h.out, w.out, 0, 0, 0, 0)]
    elif algorithm == "whole":
        lines, sizes, units = 1, {"folded": 0, "across": 0, "stack": 0, "spare": 0}, list(_units(plan, 1, 1))
    elif algorithm == "windows":
        rows, cols, pitch = 1, min(w.out, line), 1
        lines = cols
        sizes = {"folded": 0, "across": lines, "stack": 0, "spare": 0}
        units = list(_units(plan, rows, cols))
    else:
        if algorithm == "dense":
            rows = min(h.out, max(rows, 8, min(2 * halo, 2 * h.length // 3)))  # the work array: two padded planes
        elif algorithm == "indices":
            # Rows of tiles would give the gradients of an element at a seam another order than that of the outputs.
            high = max(2 * halo, min(8 * halo, STACK_ELEMENTS // pitch - halo)) // h.stride
            # The work arrays: two padded planes, except for windows nearly as high as a plane.
            high = max(rows, min(high, max((2 * h.length - 3 * halo) // 7, halo // 8)))
            rows = 1 if h.stride > halo + 1 or cols < w.out else min(h.out, high)
        elif contiguous and d.out == 1 and rows == h.out and cols == w.out:
            group = max(1, min(line // (rows * pitch), plan.planes // FEWEST_UNITS))
        lines = group * rows * pitch
        slab = (rows + halo if algorithm == "dense" else min((rows - 1) * h.stride + halo + 1, h.length)) * pitch
        for unit in _units(plan, rows, cols):
            first = len(blocks)
            padded = (
                _stack_block(plan, unit, pitch, blocks)
                if algorithm in ("dense", "indices")
                else _blocks(plan, unit, pitch, blocks)
            )
            units.append(unit._replace(touches_padding=int(padded), first_block=first, end_block=len(blocks)))
        sizes = {"folded": lines + span, "across": lines // w.stride + span}
        if algorithm == "dense":
            sizes = {"folded": slab + span, "stack": slab + span, "spare": slab if d.kernel > 1 else 0}
        elif algorithm == "indices":
            # "folded" last, because the marks need no place for it.
            others = (lines if d.kernel > 1 else 0) + (
                slab // w.stride + 2 * span if w.kernel > 3 or w.stride > 2 else 0
            )
            phases = slab + 2 * span if w.stride > 1 else 0
            sizes = {
                "across": lines // w.stride + span,
                "stack": slab // w.stride + span,
                "spare": others + phases + 2 * (pitch + slack),
                "folded": slab + span,
            }
        else:
            # Input is copied only where it is not contiguous, then all slabs of a window at once.
            copies = 0 if contiguous else min(d.kernel, d.length)
            sizes |= {"stack": slab * copies + span, "spare": 2 * lines + 3 * span + 4 * slack}
    sizes = {region: size + slack for region, size in ({"stage": 0} | sizes).items()}
    at = dict(zip(sizes, np.cumsum([guard, *sizes.values()]).tolist()))
    at.setdefault("across", at["stack"])  # "dense" is done with its stack when it folds across
    layout_at = len(Geometry._fields)
    units_at = layout_at + LAYOUT_FIELDS
    geometry = _geometry(plan.planes, plan.axes)._replace(
        pitch=pitch,
        lines=lines,
        group=group,
        inside=int(all(map(holds_all_windows, plan.axes))),
        **at,
        work_size=guard + sum(sizes.values()),
        layout=layout_at,
        units=units_at,
        unit_count=len(units),
        mark_h=min(h.dilation, h.length) * w.length,  # a tap further off has no neighbour in the input
        mark_w=w.dilation,
        streams=int(plan.planes * plan.out_plane_size * itemsize >= STREAMED_BYTES),
        blocks=units_at + UNIT_FIELDS * len(units),
    )
    program = [np.array(geometry, dtype=np.int64), contiguous_layout(plan)]
    program += [np.array(table, dtype=np.int64).reshape(-1) for table in (units, blocks)]
    return Schedule(algorithm, -(-plan.planes // group) * len(units), np.concatenate(program))


def counting_taps(program: np.ndarray) -> np.ndarray:
    """The program whose indices count the taps of a window, in row-major order."""
    program = program.copy()
    program[[IN_WINDOW, MARK_H, MARK_W]] = 1, program[KERNEL_W], 1
    return program


def geometry_of(plan: AnyPlan) -> np.ndarray:
    """Geometry of a plan for kernels that need no work array of the schedule."""
    return _geometry_of_axes(plan.planes, plan.axes)


@lru_cache(maxsize=512)
def _geometry_of_axes(planes: int, axes: tuple[Any, ...]) -> np.ndarray:
    return np.array(_geometry(planes, axes), dtype=np.int64)


def _geometry(planes: int, axes: tuple[Any, ...]) -> Geometry:
    fields = [getattr(axis, name, 0) for name in Axis._fields for axis in axes]  # bins have no windows
    return Geometry(planes, *fields, *[0] * (len(Geometry._fields) - 1 - len(fields)))


def contiguous_layout(plan: AnyPlan) -> np.ndarray:
    """Layout (see `launch.Source`) of a C-contiguous array with the shape of a plan's input."""
    _, h, w = plan.axes
    return np.array([0, 0, plan.plane_size, max(plan.planes, 1), h.length * w.length, w.length, 1, 1], dtype=np.int64)


def contiguous_out_layout(plan: AnyPlan) -> np.ndarray:
    """The same with the shape of its output."""
    return _contiguous_out_layout(plan.planes, plan.axes)


@lru_cache(maxsize=512)
def _contiguous_out_layout(planes: int, axes: tuple[Any, ...]) -> np.ndarray:
    d, h, w = (axis.out for axis in axes)
    return np.array([0, 0, d * h * w, max(planes, 1), h * w, w, 1, 1], dtype=np.int64)


def _simplified(plan: WindowPlan) -> WindowPlan:
    """The same plan without strides and dilations that matter to nothing, but that could be of any size."""
    pooled = tuple(
        axis._replace(
            stride=1 if axis.out == 1 else axis.stride,
            dilation=1 if axis.kernel == 1 else axis.dilation,
        )
        for axis in plan.pooled
    )
    return plan if pooled == plan.pooled else WindowPlan(plan.leading, pooled)


def joined(plan: WindowPlan) -> WindowPlan:
    """The same plan with fewer axes, where windows hold whole rows or planes, or tile rows without a rest.

    Then neighbouring windows are neighbouring runs of a contiguous input: a global mean of many small planes becomes one long
    row with windows as long as a plane.
    """
    plan = flattened(plan)
    d, h, w = plan.axes
    if _is_whole(w) and w.length * h.length <= LARGEST_JOINED_WINDOW:
        if _is_whole(h):
            size = h.length * w.length
            h, w = UNIT_AXIS, Axis(size, 1, size, size, 1, 0, 0)
        else:
            w = w._replace(stride=w.length)
        plan = WindowPlan(plan.leading, (d, h, w))
    is_tiling = w.kernel <= w.stride and w.dilation == 1 and w.out * w.stride == w.length and w.before == w.after == 0
    if is_tiling and all(a.kernel == a.stride == 1 and a.before == 0 and a.out == a.length for a in (d, h)):
        lines = plan.planes * d.length * h.length
        return WindowPlan((1,), (w._replace(length=lines * w.length, out=lines * w.out),))
    return plan


def flattened(plan: WindowPlan) -> WindowPlan:
    """The same plan with one axis, where a window holds a whole plane."""
    if is_whole(plan):
        return WindowPlan(plan.leading, (Axis(plan.plane_size, 1, plan.plane_size, 1, 1, 0, 0),))
    return plan


def is_whole(plan: WindowPlan) -> bool:
    """Whether a window holds a whole plane."""
    return all(map(_is_whole, plan.axes))


def _is_whole(axis: Axis) -> bool:
    """Whether one window holds an axis from end to end."""
    return axis.out == 1 and axis.kernel == axis.length and axis.before == axis.after == 0 and axis.dilation == 1


def _algorithm(plan: WindowPlan, line: int, contiguous: bool, indices: bool, four_vectors: int) -> str:
    d, h, w = plan.axes
    smallest_whole = four_vectors if indices else LARGEST_JOINED_WINDOW + 1
    span_w, span_h = (w.kernel - 1) * w.dilation + 1, (h.kernel - 1) * h.dilation + 1
    if contiguous and d.length == h.length == 1 and _is_whole(w) and w.length >= smallest_whole:
        return "whole"
    reach = (min(w.out, max(1, line // w.stride)) - 1) * w.stride + span_w + w.stride
    mostly_outside = reach > 4 * (w.length + line) or span_h > 2 * h.length + 64
    if mostly_outside or span_w > WIDEST_LINE_WINDOW or span_w * span_h * d.kernel > LARGEST_LINE_WINDOW:
        return "windows"
    if indices:
        return "indices"
    is_trivial = d.kernel == h.kernel == w.kernel == 1
    is_small = plan.plane_size <= LARGEST_FLAT_PLANE if d.kernel > 1 else plan.plane_size <= line // 2
    if (
        contiguous
        and is_small
        and plan.planes >= FEWEST_FLAT_PLANES
        and all(map(_is_flat, plan.axes))
        and not is_trivial
    ):
        return "flat"
    is_small = w.kernel <= WIDEST_TAP_WINDOW and (h.stride > 1 or h.kernel <= HIGHEST_ROW_WINDOW)
    if w.stride <= 2 and is_small:
        return "rows"
    is_sparse = h.dilation > 1 and (h.kernel - 1) * h.dilation * min(w.length, line) > MOST_SPARSE_LINES * line
    return "dense" if h.stride == w.stride == 1 and not is_sparse else "strided"


def _is_flat(axis: Axis) -> bool:
    """Whether windows along an axis have up to three taps, at stride 1, of which only the outer two can be outside."""
    if axis.out != axis.length or axis.stride != 1 or axis.kernel > 3 or axis.dilation > axis.length:
        return False
    return axis.before == axis.after == 0 if axis.kernel == 1 else axis.before == (axis.kernel - 1) * axis.dilation // 2


def _units(plan: WindowPlan, rows: int, cols: int) -> Iterator[Unit]:
    d, h, w = plan.axes
    for od in range(d.out):
        for oh in range(0, h.out, rows):
            for ow in range(0, w.out, cols):
                yield Unit(od, oh, ow, min(rows, h.out - oh), min(cols, w.out - ow), 0, 0, 0, 0)


def _taps(axis: Axis, out_position: int) -> tuple[int, int]:
    """First input element of a window that is inside the input, and the number of taps inside."""
    start = out_position * axis.stride - axis.before
    first = first_tap(start, axis.dilation)
    return start + first * axis.dilation, max(0, end_tap(start, axis.length, axis.kernel, axis.dilation) - first)


def _columns(axis: Axis, unit: Unit) -> tuple[int, int, int]:
    """Input columns that a unit reads: padding before them, the first, and how many are inside the input."""
    start = unit.ow * axis.stride - axis.before
    reach = (unit.cols - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1
    first = max(0, start)
    return first - start, first, min(axis.length, start + reach) - first


def _blocks(plan: WindowPlan, unit: Unit, pitch: int, blocks: list[Block]) -> bool:
    """Append the blocks of a unit; whether any of its lines need padding written, because other units differ there."""
    d, h, w = plan.axes
    left, first_w, width = _columns(w, unit)
    first_d, d_taps = _taps(d, unit.od)
    tiled = unit.cols < w.out and (left > 0 or width < (unit.cols - 1) * w.stride + (w.kernel - 1) * w.dilation + 1)
    if d_taps == 0 or width <= 0:
        return True
    row, has_empty_row = 0, False
    while row < unit.rows:
        first_h, h_taps = _taps(h, unit.oh + row)
        count = 1
        if h_taps == h.kernel:  # neighbouring windows with all rows inside share their passes
            count = min(unit.rows - row, (h.length - 1 - first_h - (h.kernel - 1) * h.dilation) // h.stride + 1)
        if h_taps > 0:
            blocks.append(Block(row * pitch + left, first_d, first_h, first_w, d_taps, h_taps, count, width))
        has_empty_row |= h_taps == 0
        row += count
    return tiled or has_empty_row


def _stack_block(plan: WindowPlan, unit: Unit, pitch: int, blocks: list[Block]) -> bool:
    """Append the block of input rows that a "dense" unit stacks; whether anything of its stack is padding."""
    d, h, w = plan.axes
    left, first_w, width = _columns(w, unit)
    first_d, d_taps = _taps(d, unit.od)
    start = unit.oh * h.stride - h.before
    end = start + (unit.rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1
    first_h, end_h = max(start, 0), min(end, h.length)
    if d_taps > 0 and width > 0 and end_h > first_h:
        line = (first_h - start) * pitch + left
        blocks.append(Block(line, first_d, first_h, first_w, d_taps, end_h - first_h, 1, width))
    return width < pitch or end_h - first_h < end - start or d_taps == 0
