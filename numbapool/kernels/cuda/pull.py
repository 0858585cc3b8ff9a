"""Gradients by indices, seen from the input: each element asks the windows that hold it, in their order.

Nothing is added by two threads: every run has the same bits. The CPU asks so for taps, and scatters by positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbapool.geometry import Plan
from numbapool.kernels.cuda import grid, marks, rows, taps, vectors, whole
from numbapool.kernels.cuda.codes import in_plane
from numbapool.kernels.cuda.draft import Draft
from numbapool.kernels.cuda.elements import element, element_of, index, index_output, sum_of, written_as
from numbapool.kernels.cuda.launch import NO_BUFFER, NONE, Buffer
from numbapool.kernels.cuda.max import numbers_positions
from numbapool.kernels.cuda.passes import flag_of
from numbapool.kernels.cuda.scalars import G
from numbapool.kernels.cuda.schedule import (
    WIDE,
    Layer,
    gradient_passes_of,
    has_aligned_pixels,
    is_large,
    layer_of,
    lengths_of,
    size_of,
)

# Lanes that carry an index each.
INDEXED_LANES = 4

# Bound by the variant.
load, store, zero = vectors.load_one, vectors.store_one, vectors.zero_one
add_named, zero_named = vectors.add_one, vectors.zero_one
marks_at, add_where, named, fill_named = marks.marks_at_one, marks.add_where_one, marks.named_one, marks.fill_named_one
nothing, take, store_taken = marks.nothing_one, marks.take_one, marks.store_taken_one


def pull_gradients(
    draft: Draft, plan: Plan, grad: Buffer, indices: Buffer, out: Buffer, are_maxima: bool = False
) -> None:
    """Steps from gradients and indices to the gradient of the input, of the dtype of the gradient or that of its sums.

    `are_maxima`: the indices are what `draft_max_with_indices` wrote, and not a caller's.
    """
    if whole.fills_planes(plan, out) and numbers_positions(plan, indices.dtype):
        names = element_of(grad.dtype) | written_as(out.dtype) | sum_of(grad.dtype)
        words, read = [grad.name, out.name, indices.name], [(grad, True), (indices, True)]
        whole.add_fill(draft, max_fill, words, names, plan, read, [out, grad, indices])
        return
    passes = gradient_passes_of(plan)
    if len(passes) == 1:
        _pull(draft, plan, grad, indices, out, max_holders)
        return
    positions = in_plane(draft, plan, indices)
    differ, sums, found = NONE if are_maxima else flag_of(draft), grad, positions
    for each in passes[:-1]:
        sums, found = _pull_along(draft, plan, each, sums, found, differ)
    _pull(draft, passes[-1], sums, found, out, max_holders)
    if not are_maxima:
        _pull(draft, plan, grad, positions, out, max_holders_again, differ)


def _pull(
    draft: Draft, plan: Plan, grad: Buffer, indices: Buffer, out: Buffer, function: Callable[..., None], *more: Buffer
) -> None:
    """Each element takes the gradients of all windows that name it, at once."""
    read, buffers, placement = [(grad, True), (indices, True)], [out, grad, indices, *more], taps.placement_of(plan)
    names = element_of(grad.dtype) | written_as(out.dtype) | sum_of(grad.dtype) | taps.PLACEMENTS[placement]
    names |= marks_of(plan, read, indices) | {"wanted": wanted_position, "BESIDE": 2}
    if indices.dtype.kind == "u":
        names |= {"wanted": wanted_tap, "BESIDE": 0}
    tiles = rows.gradient_tiles_of(plan, grad, out)
    if tiles is not None and function is max_holders:
        is_aligned = rows.has_aligned_rows(plan, indices, True)
        word, wide = _wide_marks(indices, tiles.fields["TILE"], is_aligned)
        function, words = max_holders_tiles, [tiles.word, grad.name, word]
        steps, fields, layer = tiles.steps | wide, tiles.fields, Layer(plan)
        draft.add(function, words, names, layer, read, buffers, of_output=False, steps=steps, fields=fields)
    else:
        layer, word, wide = _layer_of_indexed(plan, grad, indices, out)
        words, names = [placement, grad.name, out.name, word], names | wide
        draft.add(function, words, names, layer, read, buffers, of_output=False)


def _layer_of_indexed(
    plan: Plan, grad: Buffer, indices: Buffer, out: Buffer | None = None
) -> tuple[Layer, str, dict[str, Any]]:
    """The lanes for gradients and indices, a word for how these are read, and the step that does so if 16 bytes at a time."""
    layer = layer_of(plan, [(grad, True), (indices, True)], INDEXED_LANES, out)
    is_aligned = layer.kind == "channels" and has_aligned_pixels(plan, indices, True)
    return layer, *_wide_marks(indices, layer.lanes, is_aligned)


def _wide_marks(indices: Buffer, lanes: int, is_aligned: bool) -> tuple[str, dict[str, Any]]:
    at_once = WIDE // indices.dtype.itemsize
    if not (is_aligned and at_once in (2, 4) and at_once <= lanes):
        return indices.name, {}
    return f"{indices.name}r", vectors.wide_marks(at_once, lanes)


def marks_of(plan: Plan, read: list[tuple[Buffer, bool]], indices: Buffer, most: int = 0) -> dict[str, Any]:
    """How indices are compared with positions, which may have less bits."""
    is_plain = indices.dtype.itemsize < 8 or is_large(plan, read, max(most, size_of(plan, False)))
    return {"as_mark": marks.plain_mark if is_plain else marks.narrowed_mark}


def _pull_along(
    draft: Draft, plan: Plan, each: Plan, grad: Buffer, positions: Buffer, differ: Buffer
) -> tuple[Buffer, Buffer]:
    """One pass of several: sums of gradients along an axis, and the positions that they go to."""
    size, most, are_given = size_of(each, False), plan.plane_size, differ.number != NO_BUFFER
    sums, found = draft.sums(grad.dtype, size), draft.positions(plan, size)
    read, placement = [(grad, True), (positions, True)], taps.placement_of(each)
    layer, word, wide = _layer_of_indexed(each, grad, positions)
    names = element_of(grad.dtype) | sum_of(grad.dtype) | taps.PLACEMENTS[placement] | index_output(found.dtype)
    names |= marks_of(each, read, positions, most) | {"MAY_DIFFER": are_given} | wide
    _, in_h, in_w = lengths_of(plan, False)
    is_along_h = each.axes[1] == plan.axes[1]  # type: ignore[attr-defined]
    row = {"ROW_H": in_w, "ROW_SIZE": in_w} if is_along_h else {"ROW_H": 0, "ROW_SIZE": in_h * in_w}
    words = [placement, grad.name, word, found.name, "given" if are_given else "found"]
    buffers, row = [sums, found, differ, grad, positions], row | {"ROW_D": in_h * in_w}
    draft.add(max_holders_along, words, names, layer, read, buffers, of_output=False, most=most, fields=row)
    return sums, found


def wanted_position(d, h, w, i, j, k, g):
    """The index of an element at (d, h, w), which is tap (i, j, k) of a window."""
    return index((d * g[G.IN_H] + h) * g[G.IN_W] + w)


def wanted_tap(d, h, w, i, j, k, g):
    return index((i * g[G.KERNEL_H] + j) * g[G.KERNEL_W] + k)


wanted = wanted_position


def max_holders(t, buffers, g):
    """Gradients of all windows that hold an element and name it, in the order of the windows."""
    out, grad, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at, index_at = grid.plane_of_x(p, c, g), grid.plane_of_y(p, c, g)
    d0, d1 = taps.holders_d(d, g)
    h0, h1 = taps.holders_h(h, g)
    w0, w1 = taps.holders_w(w, g)
    sums = zero()
    for od in range(d0, d1):
        i = taps.tap_d(d, od, g)
        if i >= 0:
            for oh in range(h0, h1):
                j = taps.tap_h(h, oh, g)
                if j >= 0:
                    row = at + index(od * g[G.X_D] + oh * g[G.X_H])
                    index_row = index_at + index(od * g[G.Y_D] + oh * g[G.Y_H])
                    for ow in range(w0, w1):
                        k = taps.tap_w(w, ow, g)
                        if k >= 0:
                            each = load(grad, row + index(ow * g[G.X_W]), g[G.X_LANE])
                            at_each = marks_at(positions, index_row + index(ow * g[G.Y_W]), g[G.Y_LANE])
                            sums = add_where(sums, each, at_each, wanted(d, h, w, i, j, k, g))
    store(out, to, g[G.TO_LANE], sums)


def max_holders_tiles(t, buffers, g):
    """The same where windows of two columns lie side by side: 16 bytes of gradients at a time, to twice as many elements."""
    out, grad, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, group, c, to = grid.position_of(t, g)
    ow = index(group * g[G.TILE])
    at, index_at = grid.plane_of_x(p, c, g) + ow, grid.plane_of_y(p, c, g) + index(ow * g[G.Y_W])
    d0, d1 = taps.holders_d(d, g)
    h0, h1 = taps.holders_h(h, g)
    sums = zero_named()
    for od in range(d0, d1):
        for oh in range(h0, h1):
            each = load(grad, at + index(od * g[G.X_D] + oh * g[G.X_H]), 1)
            at_each = marks_at(positions, index_at + index(od * g[G.Y_D] + oh * g[G.Y_H]), g[G.Y_W])
            first = wanted(d, h, index(2 * ow), taps.tap_d(d, od, g), taps.tap_h(h, oh, g), index(0), g)
            sums = add_named(sums, named(each, at_each, first))
    store(out, to, 1, sums)


def max_holders_again(t, buffers, g):
    """The same, if windows that share a row name different elements of it, as no maxima do: those that others have written."""
    out, grad, positions, differ = buffers
    if differ[0] != 0:
        max_holders(t, (out, grad, positions), g)


def max_holders_along(t, buffers, g):
    """The sum of gradients of the windows along one axis that name an element of a row (or slab), and which element it is.

    All maxima of windows that share a row, and lie in it, are one element: so a sum and a position serve all of them.
    """
    out, places, differ, grad, positions = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at, index_at = grid.plane_of_x(p, c, g), grid.plane_of_y(p, c, g)
    first = index(d * g[G.ROW_D] + h * g[G.ROW_H])
    end = index(first + g[G.ROW_SIZE])
    d0, d1 = taps.holders_d(d, g)
    h0, h1 = taps.holders_h(h, g)
    w0, w1 = taps.holders_w(w, g)
    found = nothing()
    for od in range(d0, d1):
        if taps.tap_d(d, od, g) >= 0:
            for oh in range(h0, h1):
                if taps.tap_h(h, oh, g) >= 0:
                    row = at + index(od * g[G.X_D] + oh * g[G.X_H])
                    index_row = index_at + index(od * g[G.Y_D] + oh * g[G.Y_H])
                    for ow in range(w0, w1):
                        if taps.tap_w(w, ow, g) >= 0:
                            each = load(grad, row + index(ow * g[G.X_W]), g[G.X_LANE])
                            mark = marks_at(positions, index_row + index(ow * g[G.Y_W]), g[G.Y_LANE])
                            found = take(found, each, mark, first, end)
    store_taken(out, places, differ, to, g[G.TO_LANE], found)


def max_fill(t, buffers, g):
    """Gradients of planes that are one window each, 16 bytes at a time: 0 but for the elements that are named."""
    out, grad, positions = buffers
    if t >= g[G.UNITS]:
        return
    first, p, left = whole.filled_by(t, g)
    own, own_at = element(grad, grid.plane_of_x(p, index(0), g)), np.int64(positions[grid.plane_of_y(p, index(0), g)])
    own_at = lane_of(own_at, np.int64(left) - g[G.IN_D] * g[G.IN_H] * g[G.IN_W], left)
    following, following_at = own, np.int64(-1)
    if whole.reaches_next(first, left, g):
        p = index(p + 1)
        following, following_at = (
            element(grad, grid.plane_of_x(p, index(0), g)),
            np.int64(positions[grid.plane_of_y(p, index(0), g)]),
        )
        following_at = lane_of(following_at, np.int64(left), np.int64(left) + g[G.IN_D] * g[G.IN_H] * g[G.IN_W])
    whole.store_filled(out, first, g, fill_named(own, own_at, following, following_at, index(0)))


def lane_of(position, shift, end):
    """Where an element of a plane is among those that a thread fills; -1 if it is not in the plane."""
    lane = np.int64(position + shift)
    return lane if position >= 0 and lane < end else np.int64(-1)
