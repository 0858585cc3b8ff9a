"""Elements by their indices: gradients to where maxima are, saved or found again, and unpooling.

Nothing is added by two threads, and what several may claim goes to the one with the largest number: every run has the same bits.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.codes import draft_positions, in_plane
from numbapool.kernels.cuda.draft import Draft, remembered
from numbapool.kernels.cuda.elements import (
    atomic_max,
    element,
    element_of,
    index,
    plain_total,
    put,
    quotient,
    sum_of,
    total,
    value,
)
from numbapool.kernels.cuda.launch import Buffer, Operand, Program
from numbapool.kernels.cuda.max import draft_max_with_indices
from numbapool.kernels.cuda.passes import clear, convert, flag_of
from numbapool.kernels.cuda.pull import pull_gradients
from numbapool.kernels.cuda.scalars import G, counted
from numbapool.kernels.cuda.schedule import LARGEST, Layer, is_large, lengths_of, size_of

# Threads that share the planes of a scan, and elements that each owns at least.
SCANNERS = 1 << 16
OWNED = 32
# Outputs of a row whose positions are looked at together, at least.
SEGMENT = 64

# Bound by the variant.
LEAST = 0


@remembered
def scatter_add(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], checks: bool) -> Program:
    """Add each gradient to the element its index names (-1 means none); indices of an unsigned dtype are taps of the window.

    Where windows slide only the windows that hold an element are asked for it: an index outside its window adds nothing.
    """
    draft = Draft(sources, results)
    grad, indices, out = draft.given
    if checks:
        draft.flag = flag_of(draft)
        if indices.dtype.kind == "u":
            draft_positions(draft, plan, indices)
        else:
            draft.add(check, [indices.name], {}, Layer(plan), [(indices, True)], [draft.flag, indices], of_output=True)
    draft_gradients(draft, plan, grad, indices, out)
    return draft.program()


@remembered
def max_pool_backward(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """The same with the positions of the maxima found again."""
    draft = Draft(sources, results)
    grad, x, out = draft.given
    draft_gradients_of_maxima(draft, plan, grad, x, out, is_reversed)
    return draft.program()


def min_pool_backward(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Gradient of the minimum."""
    return max_pool_backward(plan, sources, results, True)


@remembered
def gather(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """The element that each index names, 0 for -1: the adjoint of `scatter_add`."""
    return _gather(plan, sources, results, -1)


@remembered
def gather_all(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """The same where -1, too, is outside the plane: the gradient of `place`."""
    return _gather(plan, sources, results, 0)


def _gather(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], least: int) -> Program:
    draft = Draft(sources, results)
    draft.flag = flag_of(draft)
    x, indices, out = draft.given
    x, out, indices = moved(x), moved(out), in_plane(draft, plan, indices)
    names, words = element_of(x.dtype) | {"LEAST": least}, [x.name, indices.name, "all" if least == 0 else "some"]
    read, buffers = [(x, False), (indices, True)], [out, x, indices, draft.flag]
    draft.add(pick, words, names, Layer(plan), read, buffers, of_output=True)
    return draft.program()


@remembered
def place(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Each element where its index says, the last in row-major order where several say the same, and 0 elsewhere."""
    draft = Draft(sources, results)
    draft.flag = flag_of(draft)
    x, indices, out = draft.given
    x, out, indices = moved(x), moved(out), in_plane(draft, plan, indices)
    read, layer = [(x, True), (indices, True)], Layer(plan)
    targets = size_of(plan, False)
    most = max(targets, size_of(plan, True))
    large = is_large(plan, read, most)
    most = LARGEST + 1 if large else most  # both launches have positions of as many bits
    winners = draft.room(np.int64 if large else np.int32, targets)
    clear(draft, winners, targets, -1)
    buffers = [winners, indices, draft.flag]
    draft.add(claim, [indices.name], {}, layer, read[1:], buffers, of_output=True, most=most)
    names, buffers = element_of(x.dtype), [out, x, winners]
    draft.add(collect, [x.name], names, layer, read, buffers, of_output=False, most=most)
    return draft.program()


def moved(buffer: Buffer) -> Buffer:
    """One whose elements are only moved: unsigned integers of their size, but for bool, which is 0 or 1 when it arrives."""
    if buffer.dtype.kind == "b":
        return buffer
    return buffer._replace(dtype=np.dtype(f"u{buffer.dtype.itemsize}"))


def draft_gradients_of_maxima(
    draft: Draft, plan: Plan, grad: Buffer, x: Buffer, out: Buffer, is_reversed: bool
) -> None:
    """Steps from gradients and the input to the gradient of the input, of the dtype of the gradient or that of its sums."""
    outputs = size_of(plan, True)
    values, positions = draft.room(x.dtype, outputs), draft.positions(plan, outputs)
    draft_max_with_indices(draft, plan, x, values, positions, is_reversed)
    draft_gradients(draft, plan, grad, positions, out, True)


def draft_gradients(
    draft: Draft, plan: Plan, grad: Buffer, indices: Buffer, out: Buffer, are_maxima: bool = False
) -> None:
    """The same from gradients and indices; `are_maxima` if they are not a caller's."""
    if isinstance(plan, BinPlan):
        scan_gradients(draft, plan, grad, in_plane(draft, plan, indices), out)
    else:
        pull_gradients(draft, plan, grad, indices, out, are_maxima)


def scan_gradients(draft: Draft, plan: Plan, grad: Buffer, indices: Buffer, out: Buffer) -> None:
    """The same for indices that may name any element of the plane."""
    dtype, read, pixels = grad.dtype, [(grad, True), (indices, True)], plan.planes * plan.channels
    sums = out if out.dtype == plain_total(dtype) else draft.sums(dtype, pixels * plan.plane_size)
    most, layer = max(size_of(plan, False), size_of(plan, True)), Layer(plan)
    out_d, out_h, out_w = lengths_of(plan, True)
    length = max(1, min(out_w, max(SEGMENT, isqrt(plan.out_plane_size))))
    segments = -(-out_w // length)
    kind = np.int64 if is_large(plan, read, most) else np.int32
    lows, highs = (draft.room(kind, pixels * out_d * out_h * segments) for _ in range(2))
    fields = counted(plan.planes, (out_d, out_h, segments), plan.channels) | {"LENGTH": length}
    buffers = [lows, highs, indices]
    draft.add(span, [indices.name], {}, layer, read, buffers, of_output=True, most=most, fields=fields)
    parts = max(1, min(-(-plan.plane_size // OWNED), SCANNERS // max(1, pixels)))
    fields = counted(plan.planes, (1, 1, parts), plan.channels) | {"LENGTH": length, "SEGMENTS": segments}
    fields["OWN"] = -(-plan.plane_size // parts)
    names, words, buffers = (
        element_of(dtype) | sum_of(dtype),
        [grad.name, indices.name],
        [sums, grad, indices, lows, highs],
    )
    draft.add(scan, words, names, layer, read, buffers, of_output=True, most=most, fields=fields)
    if sums is not out:
        convert(draft, sums, out, pixels * plan.plane_size)


def check(t, buffers, g):
    """Whether an index is outside the plane."""
    flag, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, _ = grid.position_of(t, g)
    at = grid.position_in_x(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    if position < -1 or position >= np.int64(g[G.IN_D] * g[G.IN_H] * g[G.IN_W]):
        flag[0] = np.int32(1)


def span(t, buffers, g):
    """The smallest and the largest position in a segment of a row of outputs, so that whoever looks for others need not read it."""
    lows, highs, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, segment, c, _ = grid.position_of(t, g)
    at = grid.position_in_y(p, c, od, oh, index(0), g)
    size = np.int64(g[G.IN_D] * g[G.IN_H] * g[G.IN_W])
    low, high = size, np.int64(-1)
    first = index(segment * g[G.LENGTH])
    for ow in range(first, min(index(first + g[G.LENGTH]), index(g[G.OUT_W]))):
        position = np.int64(positions[at + index(ow * g[G.Y_W])])
        if position >= 0 and position < size:
            low, high = min(low, position), max(high, position)
    lows[np.int64(t)], highs[np.int64(t)] = index(low), index(high)


def scan(t, buffers, g):
    """A thread owns some elements of a plane, and looks for them among all indices of the plane."""
    out, grad, positions, lows, highs = buffers
    if t >= g[G.UNITS]:
        return
    p, _, _, part, c, _ = grid.position_of(t, g)
    size = np.int64(g[G.IN_D] * g[G.IN_H] * g[G.IN_W])
    first = np.int64(part) * g[G.OWN]
    end = min(np.int64(first + g[G.OWN]), size)
    to = np.int64(np.int64(p) * size * g[G.CHANNELS] + c)
    for i in range(first, end):
        out[to + i * g[G.CHANNELS]] = total(0)
    at, index_at = grid.plane_of_x(p, c, g), grid.plane_of_y(p, c, g)
    for od in range(index(g[G.OUT_D])):
        for oh in range(index(g[G.OUT_H])):
            row = at + index(od * g[G.X_D] + oh * g[G.X_H])
            index_row = index_at + index(od * g[G.Y_D] + oh * g[G.Y_H])
            rows = np.int64(p) * g[G.OUT_D] * g[G.OUT_H] + od * g[G.OUT_H] + oh
            for segment in range(index(g[G.SEGMENTS])):
                number = (rows * g[G.SEGMENTS] + segment) * g[G.CHANNELS] + c
                if lows[number] < end and highs[number] >= first:
                    start = index(segment * g[G.LENGTH])
                    for ow in range(start, min(index(start + g[G.LENGTH]), index(g[G.OUT_W]))):
                        position = np.int64(positions[index_row + index(ow * g[G.Y_W])])
                        if first <= position < end:
                            own = to + position * g[G.CHANNELS]
                            out[own] = total(out[own] + total(element(grad, row + index(ow * g[G.X_W]))))


def pick(t, buffers, g):
    """The element that an index names."""
    out, x, positions, flag = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    at = grid.position_in_y(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    if position >= 0 and position < np.int64(g[G.IN_D] * g[G.IN_H] * g[G.IN_W]):
        row = quotient(index(position), g[G.IN_W], g[G.IN_W_M])
        w = index(position - row * g[G.IN_W])
        d = quotient(row, g[G.IN_H], g[G.IN_H_M])
        h = index(row - d * g[G.IN_H])
        put(out, to, element(x, grid.position_in_x(p, c, d, h, w, g)))
    else:
        put_zero(out, to)
        if position < LEAST - 1 or position >= 0 or (position == -1 and LEAST == 0):
            flag[0] = np.int32(1)


def put_zero(out, i):
    out[i] = value(0)


def claim(t, buffers, g):
    """Each output names its target, where the last one stays."""
    winners, positions, flag = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, _ = grid.position_of(t, g)
    at = grid.position_in_x(p, c, od, oh, ow, g)
    position, size = np.int64(positions[at]), np.int64(g[G.IN_D] * g[G.IN_H] * g[G.IN_W])
    if position >= 0 and position < size:
        atomic_max(winners, np.int64(p) * size + position, index((od * g[G.OUT_H] + oh) * g[G.OUT_W] + ow))
    else:
        flag[0] = np.int32(1)


def collect(t, buffers, g):
    """Each target takes the element that it has been named by last, if any."""
    out, x, winners = buffers
    if t >= g[G.UNITS]:
        return
    p, _, _, _, c, to = grid.position_of(t, g)
    number = index(winners[np.int64(t)])
    if number >= 0:
        row = quotient(number, g[G.OUT_W], g[G.OUT_W_M])
        w = index(number - row * g[G.OUT_W])
        d = quotient(row, g[G.OUT_H], g[G.OUT_H_M])
        h = index(row - d * g[G.OUT_H])
        put(out, to, element(x, grid.position_in_x(p, c, d, h, w, g)))
    else:
        put_zero(out, to)
