"""Indices of one kind as another: positions in the plane, in the whole array, and taps of the window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numbapool.geometry import Plan
from numbapool.kernels.cuda import grid, taps
from numbapool.kernels.cuda.draft import Draft
from numbapool.kernels.cuda.elements import index, index_output, quotient, whole_quotient
from numbapool.kernels.cuda.launch import NO_BUFFER, NONE, Buffer, Operand, Program
from numbapool.kernels.cuda.marks import as_index
from numbapool.kernels.cuda.passes import flag_of
from numbapool.kernels.cuda.scalars import G, along
from numbapool.kernels.cuda.schedule import LARGEST, Layer, size_of

# Bound by the variant: what stands for no tap, whether positions are written, or taps only checked, and whether there is a flag for
# taps outside the input, or they are skipped.
NO_TAP = -1
IS_WRITTEN, IS_FLAGGED = True, True


def in_plane(draft: Draft, plan: Plan, indices: Buffer) -> Buffer:
    """Indices as positions in the plane; -1 for what is not a tap inside the input, or stands for none."""
    if indices.dtype.kind == "i":
        return indices
    positions = draft.positions(plan, size_of(plan, True))
    draft_positions(draft, plan, indices, positions)
    return positions


def draft_positions(draft: Draft, plan: Plan, indices: Buffer, positions: Buffer = NONE) -> None:
    """Positions in the plane of taps of the window, -1 for none, and for what is no tap inside the input.

    That sets the draft's flag, if it has one. Without `positions`, taps are only checked.
    """
    kind, placement = indices.dtype, taps.placement_of(plan)
    is_written, is_flagged = (each.number != NO_BUFFER for each in (positions, draft.flag))
    names = taps.PLACEMENTS[placement] | {"NO_TAP": int(np.iinfo(kind).max) if kind.itemsize < 8 else -1}
    names |= {"IS_WRITTEN": is_written, "IS_FLAGGED": is_flagged} | index_output(positions.dtype)
    words = [placement, str(kind), positions.name if is_written else "none", "flagged" if is_flagged else "skipped"]
    buffers = [positions, indices, draft.starts(plan), draft.flag]
    draft.add(decode, words, names, Layer(plan), [(indices, True)], buffers, of_output=True)


def draft_taps(draft: Draft, plan: Plan, positions: Buffer, indices: Buffer) -> None:
    """Taps of the window of positions in the plane, contiguous both."""
    placement = taps.placement_of(plan)
    names = taps.PLACEMENTS[placement] | index_output(indices.dtype)
    words, buffers = [placement, positions.name, indices.name], [indices, positions]
    draft.add(encode, words, names, Layer(plan), [(positions, True)], buffers, of_output=True)


def to_global(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    first: tuple[int, ...],
    steps: tuple[int, ...],
) -> Program:
    """Positions in the plane to those in an array whose planes start at `first` and whose pooled axes have these steps."""
    draft = Draft(sources, results)
    _renumber(draft, plan, widen, first, steps)
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
    _renumber(draft, plan, narrow, first, steps, draft.flag)
    return draft.program()


def _renumber(
    draft: Draft,
    plan: Plan,
    kernel: Callable[..., None],
    first: tuple[int, ...],
    steps: tuple[int, ...],
    *more: Buffer,
) -> None:
    indices, out = draft.given
    read, buffers, fields = (
        [(indices, True)],
        [out, indices, draft.table(first), *more],
        along("STEP", (0, 0, *steps)[-3:]),
    )
    draft.add(kernel, [], {}, Layer(plan), read, buffers, of_output=True, most=LARGEST + 1, fields=fields)


def decode(t, buffers, g):
    """A position in the plane from a tap of the window."""
    positions, indices, table, flag = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, od, oh, ow, g)
    tap, position = np.int64(indices[at]), np.int64(-1)
    if tap != NO_TAP:
        d, nd, i0, kd = taps.window_d(table, p, od, g)
        h, nh, j0, kh = taps.window_h(table, p, oh, g)
        w, nw, k0, kw = taps.window_w(table, p, ow, g)
        is_inside = tap >= 0 and tap < np.int64(np.int64(np.int64(kd) * kh) * kw)
        if is_inside:
            row = whole_quotient(index(tap), kw)
            i = whole_quotient(row, kh)
            j, k = index(row - i * kh - j0), index(tap - np.int64(row) * kw - k0)
            i = index(i - i0)
            is_inside = i >= 0 and i < nd and j >= 0 and j < nh and k >= 0 and k < nw
            if is_inside:
                in_d, in_h = index(d + i * g[G.DILATION_D]), index(h + j * g[G.DILATION_H])
                position = np.int64(index((in_d * g[G.IN_H] + in_h) * g[G.IN_W] + w + k * g[G.DILATION_W]))
        if IS_FLAGGED and not is_inside:
            flag[0] = np.int32(1)
    if IS_WRITTEN:
        positions[to] = as_index(position)


def encode(t, buffers, g):
    """A tap of the window from a position in the plane."""
    indices, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, _, to = grid.position_of(t, g)
    position, tap = index(positions[to]), index(-1)
    if position >= 0:
        row = quotient(position, g[G.IN_W], g[G.IN_W_M])
        in_d = quotient(row, g[G.IN_H], g[G.IN_H_M])
        in_h, in_w = index(row - in_d * g[G.IN_H]), index(position - row * g[G.IN_W])
        d, _, i0, _ = taps.window_d(positions, p, od, g)
        h, _, j0, kh = taps.window_h(positions, p, oh, g)
        w, _, k0, kw = taps.window_w(positions, p, ow, g)
        i = index(quotient(index(in_d - d), g[G.DILATION_D], g[G.DILATION_D_M]) + i0)
        j = index(quotient(index(in_h - h), g[G.DILATION_H], g[G.DILATION_H_M]) + j0)
        k = index(quotient(index(in_w - w), g[G.DILATION_W], g[G.DILATION_W_M]) + k0)
        tap = index((i * kh + j) * kw + k)
    indices[to] = as_index(tap)


def widen(t, buffers, g):
    """A position in the whole array from one in the plane."""
    out, positions, first = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    number = position
    if position >= 0:
        row = quotient(position, g[G.IN_W], g[G.IN_W_M])
        d = quotient(row, g[G.IN_H], g[G.IN_H_M])
        number = (
            first[p]
            + d * g[G.STEP_D]
            + (row - d * g[G.IN_H]) * g[G.STEP_H]
            + (position - row * g[G.IN_W]) * g[G.STEP_W]
        )
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
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, od, oh, ow, g)
    number = np.int64(positions[at])
    position = np.int64(-1)
    if number >= 0:
        d = part_of(number, g[G.IN_D], g[G.STEP_D], g[G.STEP_D_M], g[G.IN_D_M])
        h = part_of(number, g[G.IN_H], g[G.STEP_H], g[G.STEP_H_M], g[G.IN_H_M])
        w = part_of(number, g[G.IN_W], g[G.STEP_W], g[G.STEP_W_M], g[G.IN_W_M])
        position = np.int64((d * g[G.IN_H] + h) * g[G.IN_W] + w)
        if np.int64(first[p] + d * g[G.STEP_D] + h * g[G.STEP_H] + w * g[G.STEP_W]) != number:
            flag[0] = np.int32(1)
            position = np.int64(-1)
    elif number != -1:
        flag[0] = np.int32(1)
    out[to] = position
