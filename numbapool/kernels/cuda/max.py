"""Maximum over windows, forward, with and without indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid, marks, rows, taps, vectors, whole
from numbapool.kernels.cuda.codes import draft_taps
from numbapool.kernels.cuda.draft import Draft, remembered
from numbapool.kernels.cuda.elements import element_of, index, index_output
from numbapool.kernels.cuda.launch import NO_BUFFER, NONE, Buffer, Operand, Program
from numbapool.kernels.cuda.scalars import G
from numbapool.kernels.cuda.schedule import Layer, layer_of, passes_of, size_of

# Lanes that carry a position each.
MARKED_LANES = 4

# Bound by the variant.
load, store, lowest, larger = vectors.load_one, vectors.store_one, vectors.lowest_one, vectors.larger_one
larger_across, mark_across, lowest_mark = vectors.larger_across_one, marks.mark_across_one, marks.lowest_mark_one
mark, replace, store_mark = marks.mark_one, marks.replace_one, marks.store_mark_one
fetch, merge, pair_up = marks.fetch_one, marks.merge_one, marks.mark_one
TEAM_BITS = whole.TEAM_BITS


@remembered
def max_pool(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """Maximum of each window."""
    draft = Draft(sources, results)
    x, out = draft.given
    draft_max(draft, plan, x, out, is_reversed)
    return draft.program()


@remembered
def max_pool_with_indices(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input.

    Or, as an index of an unsigned dtype, which tap of the window it is, in row-major order, and all bits 1 where there is none.
    """
    draft = Draft(sources, results)
    x, out, indices = draft.given
    draft_max_with_indices(draft, plan, x, out, indices, is_reversed)
    return draft.program()


def min_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Minimum of each window."""
    return max_pool(plan, sources, results, True)


def min_pool_with_indices(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Minimum of each window and where it is."""
    return max_pool_with_indices(plan, sources, results, True)


def draft_max(draft: Draft, plan: Plan, x: Buffer, out: Buffer, is_reversed: bool) -> None:
    """Steps from x to the maxima of its windows."""
    if whole.is_whole(plan, x):
        _draft_whole(draft, plan, x, out, None, is_reversed)
        return
    *first, last = passes_of(plan)
    for each in first:
        between = draft.room(x.dtype, size_of(each, True))
        draft_max(draft, each, x, between, is_reversed)
        x = between
    read, placement = [(x, False)], taps.placement_of(last)
    word, names = word_of(x, is_reversed), element_of(x.dtype, is_reversed) | taps.PLACEMENTS[placement]
    tiles = rows.tiles_of(last, x, out)
    if tiles is not None:
        words, buffers, layer = [tiles.word, word], [out, x], Layer(last)
        draft.add(max_tiles, words, names, layer, read, buffers, of_output=True, steps=tiles.steps, fields=tiles.fields)
    else:
        words, buffers, layer = [placement, word], [out, x, draft.starts(last)], layer_of(last, read, out=out)
        draft.add(max_windows, words, names, layer, read, buffers, of_output=True)


def draft_max_with_indices(
    draft: Draft, plan: Plan, x: Buffer, out: Buffer, indices: Buffer, is_reversed: bool
) -> None:
    """Steps from x to the maxima of its windows and where they are."""
    if whole.is_whole(plan, x) and numbers_positions(plan, indices.dtype):
        _draft_whole(draft, plan, x, out, indices, is_reversed)
        return
    passes = passes_of(plan)
    if len(passes) > 1:
        _draft_passes(draft, plan, passes, x, out, indices, is_reversed)
        return
    read, placement = [(x, False)], taps.placement_of(plan)
    names = element_of(x.dtype, is_reversed) | index_output(indices.dtype) | taps.PLACEMENTS[placement]
    names |= {"numbering": by_position, "BESIDE": 2}
    if indices.dtype.kind == "u":
        names |= {"numbering": by_tap, "BESIDE": 0}
    words, buffers = [word_of(x, is_reversed), indices.name], [out, indices, x]
    tiles = rows.tiles_of(plan, x, out, 1)
    if tiles is not None:
        words, layer, steps = [tiles.word, *words], Layer(plan), tiles.steps
        draft.add(
            max_tiles_indices, words, names, layer, read, buffers, of_output=True, steps=steps, fields=tiles.fields
        )
    else:
        words, layer = [placement, *words], layer_of(plan, read, MARKED_LANES, out)
        buffers.append(draft.starts(plan))
        draft.add(max_windows_indices, words, names, layer, read, buffers, of_output=True)


def word_of(x: Buffer, is_reversed: bool) -> str:
    """The elements of a maximum or minimum, for labels."""
    return x.name + ".reversed" * is_reversed


def numbers_positions(plan: Plan, kind: np.dtype[Any]) -> bool:
    """Whether indices of a dtype are positions in the plane: as taps are, too, of a window that is the plane."""
    is_plane = not isinstance(plan, BinPlan) and all(axis.kernel == axis.length for axis in plan.pooled)
    return kind.kind == "i" or is_plane


def _draft_passes(
    draft: Draft, plan: Plan, passes: list[Plan], x: Buffer, out: Buffer, indices: Buffer, is_reversed: bool
) -> None:
    """Along w first, then rows in their order, so that the first of equals stays, and the last NaN."""
    final = indices if indices.dtype.kind == "i" else draft.positions(plan, size_of(plan, True))
    source, found = x, final
    for each in passes:
        size, is_last = size_of(each, True), each is passes[-1]
        values = out if is_last else draft.room(x.dtype, size)
        positions = final if is_last else draft.positions(plan, size)
        if each is passes[0]:
            draft_max_with_indices(draft, each, source, values, positions, is_reversed)
        else:
            read, placement = [(source, False)], taps.placement_of(each)
            names = element_of(x.dtype, is_reversed) | index_output(positions.dtype) | taps.PLACEMENTS[placement]
            words = [placement, word_of(x, is_reversed), found.name, positions.name]
            buffers, layer = [values, positions, source, found], layer_of(each, read, MARKED_LANES)
            most = plan.plane_size
            draft.add(merge_windows, words, names, layer, read, buffers, of_output=True, most=most)
        source, found = values, positions
    if final is not indices:
        draft_taps(draft, plan, final, indices)


def _draft_whole(draft: Draft, plan: Plan, x: Buffer, out: Buffer, indices: Buffer | None, is_reversed: bool) -> None:
    """Steps to the maxima of whole planes, and to where they are: of parts of them first, where planes are few."""
    parts, most, places = whole.parts_of(plan), plan.plane_size, NONE
    if parts.number > 1:
        size = plan.planes * parts.number
        found = draft.room(x.dtype, size)
        found_at = None if indices is None else draft.positions(plan, size)
        _draft_teams(draft, plan, parts, x, found, found_at, NONE, is_reversed, most)
        plan, x, places = whole.plan_of_parts(plan, parts), found, found_at or NONE
        parts = whole.parts_of(plan)
    _draft_teams(draft, plan, parts, x, out, indices, places, is_reversed, most)


def _draft_teams(
    draft: Draft,
    plan: Plan,
    parts: whole.Parts,
    x: Buffer,
    out: Buffer,
    indices: Buffer | None,
    places: Buffer,
    is_reversed: bool,
    most: int,
) -> None:
    """`places`: where what a team folds has been found, if x is that of parts of planes."""
    names, words, buffers = element_of(x.dtype, is_reversed), [word_of(x, is_reversed)], [out, x]
    shared, function = str(np.dtype(names["value"])), max_whole
    if indices is not None:
        is_found = places.number != NO_BUFFER
        names |= index_output(indices.dtype) | {"mark_at": given_mark if is_found else own_mark}
        words += [indices.name, places.name if is_found else "none"]
        buffers, function = [out, indices, x, places], max_whole_indices
    whole.add_teams(draft, function, words, names, plan, x, parts, shared, buffers, most)


def max_windows(t, buffers, g):
    """A maximum without its position."""
    out, x, table = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    d, nd, _, _ = taps.window_d(table, p, od, g)
    h, nh, _, _ = taps.window_h(table, p, oh, g)
    w, nw, _, _ = taps.window_w(table, p, ow, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    best = lowest()
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[G.DILATION_D] * g[G.X_D] + j * g[G.DILATION_H] * g[G.X_H])
            for k in range(nw):
                best = larger(best, load(x, row + index(k * g[G.DILATION_W] * g[G.X_W]), g[G.X_LANE]))
    store(out, to, g[G.TO_LANE], best)


def by_position(d, i0, nd, h, j0, nh, w, k0, nw, g):
    """Number of the first tap, and steps from tap to tap along d, h and w: flat positions in the plane."""
    first = index((d * g[G.IN_H] + h) * g[G.IN_W] + w)
    return (
        first,
        index(g[G.DILATION_D] * g[G.IN_H] * g[G.IN_W]),
        index(g[G.DILATION_H] * g[G.IN_W]),
        index(g[G.DILATION_W]),
    )


def by_tap(d, i0, nd, h, j0, nh, w, k0, nw, g):
    """The same: taps of the window."""
    return index((i0 * nh + j0) * nw + k0), index(nh * nw), index(nw), index(1)


numbering = by_position


def max_windows_indices(t, buffers, g):
    """A maximum and its position: the first tap inside the input, until another replaces it."""
    out, positions, x, table = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    d, nd, i0, kd = taps.window_d(table, p, od, g)
    h, nh, j0, kh = taps.window_h(table, p, oh, g)
    w, nw, k0, kw = taps.window_w(table, p, ow, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    best = mark(lowest(), index(-1))
    if nd > 0 and nh > 0 and nw > 0:
        first, step_d, step_h, step_w = numbering(d, i0, kd, h, j0, kh, w, k0, kw, g)
        best = mark(load(x, at, g[G.X_LANE]), first)
        for i in range(nd):
            for j in range(nh):
                row = at + index(i * g[G.DILATION_D] * g[G.X_D] + j * g[G.DILATION_H] * g[G.X_H])
                number = index(first + i * step_d + j * step_h)
                for k in range(nw):
                    each = load(x, row + index(k * g[G.DILATION_W] * g[G.X_W]), g[G.X_LANE])
                    best = replace(best, each, index(number + k * step_w))
    store_mark(out, positions, to, g[G.TO_LANE], best)


def max_tiles(t, buffers, g):
    """Maxima of windows of two columns that lie side by side: rows folded first, 16 bytes at a time, then neighbours."""
    out, x = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, group, c, to = grid.position_of(t, g)
    d, nd, _, _ = taps.window_d(x, p, od, g)
    h, nh, _, _ = taps.window_h(x, p, oh, g)
    at = grid.position_in_x(p, c, d, h, index(group * g[G.TILE]), g)
    if nd == 1 and nh == 2:  # both loads are on their way before either is used
        upper, lower = load(x, at, 1), load(x, at + g[G.X_H], 1)
        best = larger(upper, lower)
    else:
        best = lowest()
        for i in range(nd):
            for j in range(nh):
                best = larger(best, load(x, at + index(i * g[G.X_D] + j * g[G.X_H]), 1))
    store(out, to, 1, larger_across(best))


def max_tiles_indices(t, buffers, g):
    """The same with positions: neighbours first, then rows, so that the first of equals stays."""
    out, positions, x = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, group, c, to = grid.position_of(t, g)
    d, nd, i0, kd = taps.window_d(x, p, od, g)
    h, nh, j0, kh = taps.window_h(x, p, oh, g)
    w = index(group * g[G.TILE])
    at = grid.position_in_x(p, c, d, h, w, g)
    first, step_d, step_h, _ = numbering(d, i0, kd, h, j0, kh, w, index(0), index(2), g)
    best = lowest_mark()
    if nd == 1 and nh == 2:
        upper, lower = load(x, at, 1), load(x, at + g[G.X_H], 1)
        best = mark_across(upper, first)
        best = merge(best, mark_across(lower, index(first + step_h)))
    else:
        for i in range(nd):
            for j in range(nh):
                row = load(x, at + index(i * g[G.X_D] + j * g[G.X_H]), 1)
                best = merge(best, mark_across(row, index(first + i * step_d + j * step_h)))
    store_mark(out, positions, to, 1, best)


def merge_windows(t, buffers, g):
    """Maxima of maxima that have positions; taps of a window come in the order of their positions."""
    out, positions, x, places = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    d, nd, _, _ = taps.window_d(places, p, od, g)
    h, nh, _, _ = taps.window_h(places, p, oh, g)
    w, nw, _, _ = taps.window_w(places, p, ow, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    best = mark(lowest(), index(-1))
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[G.DILATION_D] * g[G.X_D] + j * g[G.DILATION_H] * g[G.X_H])
            for k in range(nw):
                tap = row + index(k * g[G.DILATION_W] * g[G.X_W])
                best = merge(best, pair_up(load(x, tap, g[G.X_LANE]), fetch(places, tap, g[G.X_LANE])))
    store_mark(out, positions, to, g[G.TO_LANE], best)


def max_whole(phase, shared, b, i, buffers, g):
    """A team folds a plane: each member every so many elements, then half of the members what the others have found."""
    out, x = buffers
    found, _ = shared
    number, p, first, end = whole.share_of(b, i, g)
    if number >= g[G.UNITS]:
        return
    if phase == 0:
        at, best = grid.plane_of_x(p, index(0), g), lowest()
        for each in range(first, end, 1 << TEAM_BITS):
            best = larger(best, load(x, at + index(each * g[G.X_W]), 0))
        found[i] = best
    elif whole.member_of(i) < whole.partners(phase):
        found[i] = larger(found[i], found[i + whole.partners(phase)])
    elif whole.partners(phase) == 0 and whole.member_of(i) == 0:
        store(out, np.int64(number), 0, found[i])


def own_mark(places, i, position):
    """The position of an element of x."""
    return position


def given_mark(places, i, position):
    """That of what has been found in a part of the plane."""
    return index(places[i])


mark_at = own_mark


def max_whole_indices(phase, shared, b, i, buffers, g):
    """The same with positions, by which equals are told apart: their order is lost."""
    out, positions, x, places = buffers
    found, found_at = shared
    number, p, first, end = whole.share_of(b, i, g)
    if number >= g[G.UNITS]:
        return
    if phase == 0:
        at, best = grid.plane_of_x(p, index(0), g), mark(lowest(), index(-1))
        for each in range(first, end, 1 << TEAM_BITS):
            source = at + index(each * g[G.X_W])
            best = merge(best, mark(load(x, source, 0), mark_at(places, source, index(each))))
        found[i], found_at[i] = best
    elif whole.member_of(i) < whole.partners(phase):
        ours, theirs, position = found[i], found[i + whole.partners(phase)], found_at[i + whole.partners(phase)]
        is_nan = not (theirs == theirs)
        is_later = position > found_at[i]
        is_better = theirs > ours or (theirs == ours and not is_later)
        if is_nan:
            is_better = ours == ours or is_later
        if position >= 0 and (found_at[i] < 0 or is_better):
            found[i], found_at[i] = theirs, position
    elif whole.partners(phase) == 0 and whole.member_of(i) == 0:
        store_mark(out, positions, np.int64(number), 0, mark(found[i], found_at[i]))
