"""Indices of one kind as another: positions in the plane, in the whole array, and taps of the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.geometry import Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.elements import index, quotient, whole_quotient
from numbapool.kernels.cuda.grid import (
    DILATION_D,
    DILATION_D_M,
    DILATION_H,
    DILATION_H_M,
    DILATION_W,
    DILATION_W_M,
    IN_D,
    IN_H,
    IN_W,
    SOURCE,
    UNITS,
    position_in_x,
    position_of,
    table_at,
    window_d,
    window_h,
    window_w,
)
from numbapool.kernels.cuda.lanes import as_index
from numbapool.kernels.cuda.launch import (
    NO_BUFFER,
    Draft,
    Layer,
    Operand,
    Program,
    index_output,
    is_large,
    scalars_of,
    size_of,
    step_of,
    table_of,
)
from numbapool.kernels.cuda.passes import flag_of

# Where the scalars of a kernel go on, behind those of one source.
MORE = SOURCE + grid.SOURCE_FIELDS

# Bound by the variant: what stands for no tap, whether positions are written, or taps only checked, and whether there is a flag for
# taps outside the input, or they are skipped.
NONE = -1
IS_WRITTEN, IS_FLAGGED = True, True


def decode_taps(
    draft: Draft, plan: Plan, taps: tuple[Operand, int], positions: tuple[Operand, int] | None = None
) -> None:
    """Positions in the plane of taps of the window, -1 for none, and for what is no tap inside the input.

    That sets the draft's flag, if it has one. Without `positions`, taps are only checked.
    """
    kind, read = taps[0].dtype, [(taps[0], True)]
    large = is_large(plan, read, size_of(plan, True))
    layer, placement = Layer(plan, "planes", 1), grid.placement_of(plan)
    none = int(np.iinfo(kind).max) if kind.itemsize < 8 else -1
    names = grid.PLACEMENTS[placement] | {"NONE": none, "IS_WRITTEN": positions is not None}
    names["IS_FLAGGED"] = draft.flag != NO_BUFFER
    out, written = (NO_BUFFER, "none") if positions is None else (positions[1], str(positions[0].dtype))
    if positions is not None:
        names |= index_output(positions[0].dtype)
    table = table_of(draft, plan)
    draft.steps.append(
        step_of(
            decode,
            [placement, str(kind), written, "flagged" if draft.flag != NO_BUFFER else "skipped"],
            names,
            layer,
            [(out, written if positions else "int32"), (taps[1], str(kind)), (table, "int64"), (draft.flag, "int32")],
            scalars_of(layer, read, True, large),
            large,
        )
    )


def encode_positions(draft: Draft, plan: Plan, positions: tuple[Operand, int], taps: tuple[Operand, int]) -> None:
    """Taps of the window of positions in the plane, contiguous both."""
    kind, read = positions[0].dtype, [(positions[0], True)]
    large = is_large(plan, read, size_of(plan, True))
    layer, placement = Layer(plan, "planes", 1), grid.placement_of(plan)
    magic = grid.magic_of(large)
    _, in_h, in_w = (axis.length for axis in plan.axes)  # type: ignore[attr-defined]
    draft.steps.append(
        step_of(
            encode,
            [placement, str(kind), str(taps[0].dtype)],
            grid.PLACEMENTS[placement] | index_output(taps[0].dtype),
            layer,
            [(taps[1], str(taps[0].dtype)), (positions[1], str(kind))],
            scalars_of(layer, read, True, large) + (magic(in_w), magic(in_h)),
            large,
        )
    )


def to_global(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    first: tuple[int, ...],
    steps: tuple[int, ...],
) -> Program:
    """Positions in the plane to those in an array whose planes start at `first` and whose pooled axes have these steps."""
    draft = Draft(sources, results)
    _renumber(draft, plan, sources[0], widen, first, steps, [])
    return draft.program()


def from_global(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    first: tuple[int, ...],
    steps: tuple[int, ...],
) -> Program:
    """The other way round; the flag is set by an index that is not in the plane of its output."""
    draft = Draft(sources, results)
    draft.flag = flag_of(draft)
    _renumber(draft, plan, sources[0], narrow, first, steps, [(draft.flag, "int32")])
    return draft.program()


def _renumber(
    draft: Draft,
    plan: Plan,
    indices: Operand,
    kernel: Any,
    first: tuple[int, ...],
    steps: tuple[int, ...],
    more: list[tuple[int, str]],
) -> None:
    table = draft.table(np.array(first, np.int64))
    read = [(indices, True)]
    layer = Layer(plan, "planes", 1)
    three = (0,) * (3 - len(steps)) + tuple(steps)
    _, in_h, in_w = (axis.length for axis in plan.axes)  # type: ignore[attr-defined]
    scalars = scalars_of(layer, read, True, True)
    scalars += three if kernel is narrow else (*three, grid.magic64(in_w), grid.magic64(in_h))
    scalars += tuple(grid.magic64(each) for each in three) if kernel is narrow else ()
    scalars += tuple(grid.magic64(axis.length) for axis in plan.axes) if kernel is narrow else ()  # type: ignore[attr-defined]
    buffers = [(1, "int64"), (0, "int64"), (table, "int64"), *more]
    draft.steps.append(step_of(kernel, [], {}, layer, buffers, scalars, True))


def decode(t, buffers, g):
    """A position in the plane from a tap of the window."""
    positions, taps, table, flag = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    at = position_in_x(p, c, od, oh, ow, g)
    tap, position = np.int64(taps[at]), np.int64(-1)
    if tap != NONE:
        starts = table_at(p, g)
        d, nd, i0, kd = window_d(table, starts, od, g)
        h, nh, j0, kh = window_h(table, starts, oh, g)
        w, nw, k0, kw = window_w(table, starts, ow, g)
        is_inside = tap >= 0 and tap < np.int64(np.int64(np.int64(kd) * kh) * kw)
        if is_inside:
            row = whole_quotient(index(tap), kw)
            i = whole_quotient(row, kh)
            j, k = index(row - i * kh - j0), index(tap - np.int64(row) * kw - k0)
            i = index(i - i0)
            is_inside = i >= 0 and i < nd and j >= 0 and j < nh and k >= 0 and k < nw
            if is_inside:
                in_d, in_h = index(d + i * g[DILATION_D]), index(h + j * g[DILATION_H])
                position = np.int64(index((in_d * g[IN_H] + in_h) * g[IN_W] + w + k * g[DILATION_W]))
        if IS_FLAGGED and not is_inside:
            flag[0] = np.int32(1)
    if IS_WRITTEN:
        positions[to] = as_index(position)


def encode(t, buffers, g):
    """A tap of the window from a position in the plane."""
    taps, positions = buffers
    if t >= g[UNITS]:
        return
    _, od, oh, ow, _, to = position_of(t, g)
    position, tap = index(positions[to]), index(-1)
    if position >= 0:
        row = quotient(position, g[IN_W], g[MORE])
        in_d = quotient(row, g[IN_H], g[MORE + 1])
        in_h, in_w = index(row - in_d * g[IN_H]), index(position - row * g[IN_W])
        d, _, i0, _ = window_d(positions, 0, od, g)
        h, _, j0, kh = window_h(positions, 0, oh, g)
        w, _, k0, kw = window_w(positions, 0, ow, g)
        i = index(quotient(index(in_d - d), g[DILATION_D], g[DILATION_D_M]) + i0)
        j = index(quotient(index(in_h - h), g[DILATION_H], g[DILATION_H_M]) + j0)
        k = index(quotient(index(in_w - w), g[DILATION_W], g[DILATION_W_M]) + k0)
        tap = index((i * kh + j) * kw + k)
    taps[to] = as_index(tap)


def widen(t, buffers, g):
    """A position in the whole array from one in the plane."""
    out, positions, first = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    at = position_in_x(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    number = position
    if position >= 0:
        row = quotient(position, g[IN_W], g[MORE + 3])
        d = quotient(row, g[IN_H], g[MORE + 4])
        number = first[p] + d * g[MORE] + (row - d * g[IN_H]) * g[MORE + 1] + (position - row * g[IN_W]) * g[MORE + 2]
    out[to] = number


def part_of(number, length, step, step_magic, length_magic):
    """Position along an axis of a global index."""
    if length == 1:
        return np.int64(0)
    whole = quotient(number, step, step_magic)
    return np.int64(whole - quotient(whole, length, length_magic) * length)


def narrow(t, buffers, g):
    """A position in the plane from one in the whole array, whose axes have these steps, in any order."""
    out, positions, first, flag = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    at = position_in_x(p, c, od, oh, ow, g)
    number = np.int64(positions[at])
    position = np.int64(-1)
    if number >= 0:
        d = part_of(number, g[IN_D], g[MORE], g[MORE + 3], g[MORE + 6])
        h = part_of(number, g[IN_H], g[MORE + 1], g[MORE + 4], g[MORE + 7])
        w = part_of(number, g[IN_W], g[MORE + 2], g[MORE + 5], g[MORE + 8])
        position = np.int64((d * g[IN_H] + h) * g[IN_W] + w)
        if np.int64(first[p] + d * g[MORE] + h * g[MORE + 1] + w * g[MORE + 2]) != number:
            flag[0] = np.int32(1)
            position = np.int64(-1)
    elif number != -1:
        flag[0] = np.int32(1)
    out[to] = position
