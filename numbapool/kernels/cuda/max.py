"""Maximum over windows, forward, with and without indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.codes import encode_positions
from numbapool.kernels.cuda.elements import index
from numbapool.kernels.cuda.grid import (
    DILATION_D,
    DILATION_H,
    DILATION_W,
    IN_H,
    IN_W,
    TO_LANE,
    UNITS,
    X_D,
    X_H,
    X_LANE,
    X_W,
    plane_of_x,
    position_in_x,
    position_of,
    table_at,
    window_d,
    window_h,
    window_w,
)
from numbapool.kernels.cuda.lanes import (
    fetch_one,
    larger_across_one,
    larger_one,
    load_one,
    lowest_mark_one,
    lowest_one,
    mark_across_one,
    mark_one,
    merge_one,
    pair_up_one,
    replace_one,
    store_mark_one,
    store_one,
)
from numbapool.kernels.cuda.launch import (
    LARGEST,
    NO_BUFFER,
    Draft,
    Layer,
    Operand,
    Program,
    element_of,
    index_output,
    is_large,
    layer_of,
    name_of,
    passes_of,
    remembered,
    scalars_of,
    size_of,
    step_of,
    table_of,
    tiling_of,
)
from numbapool.kernels.cuda.whole import (
    TEAM_BITS,
    Parts,
    is_whole,
    member_of,
    partners,
    parts_of,
    plan_of_parts,
    share_of,
    team_step,
)

# Lanes that carry a position each.
MARKED_LANES = 4

# Where the scalar of a tile is: its elements of a row.
TILE = grid.SOURCE + grid.SOURCE_FIELDS

# Bound by the variant.
larger_across, mark_across, lowest_mark = larger_across_one, mark_across_one, lowest_mark_one
fetch, merge, pair_up = fetch_one, merge_one, pair_up_one
load, store, lowest, larger = load_one, store_one, lowest_one, larger_one
mark, replace, store_mark = mark_one, replace_one, store_mark_one


@remembered
def max_pool(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """Maximum of each window."""
    draft = Draft(sources, results)
    fold_max(draft, plan, (sources[0], 0), (results[0], 1), is_reversed)
    return draft.program()


@remembered
def max_pool_with_indices(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input.

    Or, as an index of an unsigned dtype, which tap of the window it is, in row-major order, and all bits 1 where there is none.
    """
    draft = Draft(sources, results)
    find_max(draft, plan, (sources[0], 0), (results[0], 1), (results[1], 2), is_reversed)
    return draft.program()


def min_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Minimum of each window."""
    return max_pool(plan, sources, results, True)


def min_pool_with_indices(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Minimum of each window and where it is."""
    return max_pool_with_indices(plan, sources, results, True)


def fold_max(draft: Draft, plan: Plan, x: tuple[Operand, int], out: tuple[Operand, int], is_reversed: bool) -> None:
    """Steps from x to the maxima of its windows; operands with the numbers of their buffers."""
    name = name_of(x[0].dtype)
    word, names = f"{name}{'.reversed' * is_reversed}", element_of(x[0].dtype, is_reversed)
    if is_whole(plan, x[0]):
        fold_whole(draft, plan, x, out, None, is_reversed)
        return
    *first, last = passes_of(plan)
    for each in first:
        between = draft.elements(x[0].dtype, size_of(each, True))
        fold_max(draft, each, x, between, is_reversed)
        x = between
    read, placement = [(x[0], False)], grid.placement_of(last)
    large = is_large(last, read, size_of(last, True))
    tiling = tiling_of(last, x[0], out[0])
    if tiling is not None:
        layer = Layer(last, "planes", 1)
        scalars = tiling.scalars(scalars_of(layer, read, True, large), large)
        buffers = [(out[1], name), (x[1], name)]
        words = [tiling.word(), word]
        names |= grid.PLACEMENTS[placement]
        draft.steps.append(step_of(max_tiles, words, names, layer, buffers, scalars, large, tiling.steps))
        return
    layer = layer_of(last, read, out=out[0])
    buffers = [(out[1], name), (x[1], name), (table_of(draft, last), "int64")]
    scalars = scalars_of(layer, read, True, large)
    names |= grid.PLACEMENTS[placement]
    draft.steps.append(step_of(max_windows, [placement, word], names, layer, buffers, scalars, large))


def find_max(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    indices: tuple[Operand, int],
    is_reversed: bool,
) -> None:
    """Steps from x to the maxima of its windows and where they are."""
    name, kind = name_of(x[0].dtype), indices[0].dtype
    word, names = f"{name}{'.reversed' * is_reversed}", element_of(x[0].dtype, is_reversed) | index_output(kind)
    if is_whole(plan, x[0]) and numbers_positions(plan, kind):
        fold_whole(draft, plan, x, out, indices, is_reversed)
        return
    passes = passes_of(plan)
    if len(passes) > 1:
        _find_by_passes(draft, plan, passes, x, out, indices, is_reversed)
        return
    read, placement = [(x[0], False)], grid.placement_of(plan)
    large = is_large(plan, read, size_of(plan, True))
    names |= grid.PLACEMENTS[placement] | {"numbering": by_position, "BESIDE": 2}
    if kind.kind == "u":
        names |= {"numbering": by_tap, "BESIDE": 0}
    tiling = tiling_of(plan, x[0], out[0], 1)
    if tiling is not None:
        layer = Layer(plan, "planes", 1)
        scalars = tiling.scalars(scalars_of(layer, read, True, large), large)
        buffers = [(out[1], name), (indices[1], str(kind)), (x[1], name)]
        words = [tiling.word(), word, str(kind)]
        draft.steps.append(step_of(max_tiles_indices, words, names, layer, buffers, scalars, large, tiling.steps))
        return
    layer = layer_of(plan, read, MARKED_LANES, out=out[0])
    buffers = [(out[1], name), (indices[1], str(kind)), (x[1], name), (table_of(draft, plan), "int64")]
    scalars = scalars_of(layer, read, True, large)
    draft.steps.append(
        step_of(max_windows_indices, [placement, word, str(kind)], names, layer, buffers, scalars, large)
    )


def numbers_positions(plan: Plan, kind: np.dtype[Any]) -> bool:
    """Whether indices of a dtype are positions in the plane: as taps are, too, of a window that is the plane."""
    is_plane = not isinstance(plan, BinPlan) and all(axis.kernel == axis.length for axis in plan.pooled)
    return kind.kind == "i" or is_plane


def _find_by_passes(
    draft: Draft,
    plan: Plan,
    passes: list[Plan],
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    indices: tuple[Operand, int],
    is_reversed: bool,
) -> None:
    """Along w first, then rows in their order, so that the first of equals stays, and the last NaN."""
    name, outputs = name_of(x[0].dtype), size_of(plan, True)
    final = indices if indices[0].dtype.kind == "i" else draft.positions(plan, outputs)
    marks = x, final
    for i, each in enumerate(passes):
        size = size_of(each, True)
        if i < len(passes) - 1:
            values = draft.elements(x[0].dtype, size)
            positions = draft.positions(plan, size)
        else:
            values, positions = out, final
        if i == 0:
            find_max(draft, each, x, values, positions, is_reversed)
        else:
            (source, number), (kind, numbers) = marks
            read, placement = [(source, False)], grid.placement_of(each)
            large = is_large(each, read, size) or plan.plane_size > LARGEST
            layer = layer_of(each, read, MARKED_LANES)
            names = element_of(x[0].dtype, is_reversed) | index_output(positions[0].dtype) | grid.PLACEMENTS[placement]
            words = [placement, f"{name}{'.reversed' * is_reversed}", str(kind.dtype), str(positions[0].dtype)]
            buffers = [(values[1], name), (positions[1], words[3]), (number, name), (numbers, words[2])]
            scalars = scalars_of(layer, read, True, large)
            draft.steps.append(step_of(merge_windows, words, names, layer, buffers, scalars, large))
        marks = values, positions
    if final is not indices:
        encode_positions(draft, plan, final, indices)


def fold_whole(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    indices: tuple[Operand, int] | None,
    is_reversed: bool,
) -> None:
    """Steps to the maxima of whole planes, and to where they are: of parts of them first, where planes are few."""
    parts, positions, marks = parts_of(plan), plan.plane_size, None
    if parts.number > 1:
        size = plan.planes * parts.number
        found = draft.elements(x[0].dtype, size)
        marks = draft.positions(plan, size) if indices is not None else None
        _fold_teams(draft, plan, parts, x, found, marks, None, is_reversed, positions)
        plan, x = plan_of_parts(plan, parts), found
        parts = parts_of(plan)
    _fold_teams(draft, plan, parts, x, out, indices, marks, is_reversed, positions)


def _fold_teams(
    draft: Draft,
    plan: Plan,
    parts: Parts,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    indices: tuple[Operand, int] | None,
    marks: tuple[Operand, int] | None,
    is_reversed: bool,
    most_positions: int,
) -> None:
    name, names = name_of(x[0].dtype), element_of(x[0].dtype, is_reversed)
    words, buffers = [f"{name}{'.reversed' * is_reversed}"], [(out[1], name), (x[1], name)]
    if indices is not None:
        names |= index_output(indices[0].dtype) | {"mark_at": own_mark if marks is None else given_mark}
        kinds = [str(each[0].dtype) if each is not None else "none" for each in (indices, marks)]
        words += kinds
        buffers = [
            buffers[0],
            (indices[1], kinds[0]),
            buffers[1],
            (NO_BUFFER, "int32") if marks is None else (marks[1], kinds[1]),
        ]
    function = max_whole if indices is None else max_whole_indices
    shared = str(np.dtype(names["value"]))
    draft.steps.append(team_step(function, words, names, plan, x[0], parts, shared, buffers, counts_to=most_positions))


def max_windows(t, buffers, g):
    """A maximum without its position."""
    out, x, table = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    starts = table_at(p, g)
    d, nd, _, _ = window_d(table, starts, od, g)
    h, nh, _, _ = window_h(table, starts, oh, g)
    w, nw, _, _ = window_w(table, starts, ow, g)
    at = position_in_x(p, c, d, h, w, g)
    best = lowest()
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[DILATION_D] * g[X_D] + j * g[DILATION_H] * g[X_H])
            for k in range(nw):
                best = larger(best, load(x, row + index(k * g[DILATION_W] * g[X_W]), g[X_LANE]))
    store(out, to, g[TO_LANE], best)


def by_position(d, i0, nd, h, j0, nh, w, k0, nw, g):
    """Number of the first tap, and steps from tap to tap along d, h and w: flat positions in the plane."""
    first = index((d * g[IN_H] + h) * g[IN_W] + w)
    return first, index(g[DILATION_D] * g[IN_H] * g[IN_W]), index(g[DILATION_H] * g[IN_W]), index(g[DILATION_W])


def by_tap(d, i0, nd, h, j0, nh, w, k0, nw, g):
    """The same: taps of the window."""
    return index((i0 * nh + j0) * nw + k0), index(nh * nw), index(nw), index(1)


numbering = by_position


def max_windows_indices(t, buffers, g):
    """A maximum and its position: the first tap inside the input, until another replaces it."""
    out, positions, x, table = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    starts = table_at(p, g)
    d, nd, i0, kd = window_d(table, starts, od, g)
    h, nh, j0, kh = window_h(table, starts, oh, g)
    w, nw, k0, kw = window_w(table, starts, ow, g)
    at = position_in_x(p, c, d, h, w, g)
    best = mark(lowest(), index(-1))
    if nd > 0 and nh > 0 and nw > 0:
        first, step_d, step_h, step_w = numbering(d, i0, kd, h, j0, kh, w, k0, kw, g)
        best = mark(load(x, at, g[X_LANE]), first)
        for i in range(nd):
            for j in range(nh):
                row = at + index(i * g[DILATION_D] * g[X_D] + j * g[DILATION_H] * g[X_H])
                number = index(first + i * step_d + j * step_h)
                for k in range(nw):
                    each = load(x, row + index(k * g[DILATION_W] * g[X_W]), g[X_LANE])
                    best = replace(best, each, index(number + k * step_w))
    store_mark(out, positions, to, g[TO_LANE], best)


def max_tiles(t, buffers, g):
    """Maxima of windows of two columns that lie side by side: rows folded first, 16 bytes at a time, then neighbours."""
    out, x = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, group, c, to = position_of(t, g)
    d, nd, _, _ = window_d(x, 0, od, g)
    h, nh, _, _ = window_h(x, 0, oh, g)
    at = position_in_x(p, c, d, h, index(group * g[TILE]), g)
    if nd == 1 and nh == 2:  # both loads are on their way before either is used
        upper, lower = load(x, at, 1), load(x, at + g[X_H], 1)
        best = larger(upper, lower)
    else:
        best = lowest()
        for i in range(nd):
            for j in range(nh):
                best = larger(best, load(x, at + index(i * g[X_D] + j * g[X_H]), 1))
    store(out, to, 1, larger_across(best))


def max_tiles_indices(t, buffers, g):
    """The same with positions: neighbours first, then rows, so that the first of equals stays."""
    out, positions, x = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, group, c, to = position_of(t, g)
    d, nd, i0, kd = window_d(x, 0, od, g)
    h, nh, j0, kh = window_h(x, 0, oh, g)
    w = index(group * g[TILE])
    at = position_in_x(p, c, d, h, w, g)
    first, step_d, step_h, _ = numbering(d, i0, kd, h, j0, kh, w, index(0), index(2), g)
    best = lowest_mark()
    if nd == 1 and nh == 2:
        upper, lower = load(x, at, 1), load(x, at + g[X_H], 1)
        best = mark_across(upper, first)
        best = merge(best, mark_across(lower, index(first + step_h)))
    else:
        for i in range(nd):
            for j in range(nh):
                row = load(x, at + index(i * g[X_D] + j * g[X_H]), 1)
                best = merge(best, mark_across(row, index(first + i * step_d + j * step_h)))
    store_mark(out, positions, to, 1, best)


def merge_windows(t, buffers, g):
    """Maxima of maxima that have positions; taps of a window come in the order of their positions."""
    out, positions, x, marks = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    d, nd, _, _ = window_d(marks, 0, od, g)
    h, nh, _, _ = window_h(marks, 0, oh, g)
    w, nw, _, _ = window_w(marks, 0, ow, g)
    at = position_in_x(p, c, d, h, w, g)
    best = mark(lowest(), index(-1))
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[DILATION_D] * g[X_D] + j * g[DILATION_H] * g[X_H])
            for k in range(nw):
                tap = row + index(k * g[DILATION_W] * g[X_W])
                best = merge(best, pair_up(load(x, tap, g[X_LANE]), fetch(marks, tap, g[X_LANE])))
    store_mark(out, positions, to, g[TO_LANE], best)


def max_whole(phase, shared, b, i, buffers, g):
    """A team folds a plane: each member every so many elements, then half of the members what the others have found."""
    out, x = buffers
    found, _ = shared
    number, p, first, end = share_of(b, i, g)
    if number >= g[UNITS]:
        return
    if phase == 0:
        at, best = plane_of_x(p, index(0), g), lowest()
        for each in range(first, end, 1 << TEAM_BITS):
            best = larger(best, load(x, at + index(each * g[X_W]), 0))
        found[i] = best
    elif member_of(i) < partners(phase):
        found[i] = larger(found[i], found[i + partners(phase)])
    elif partners(phase) == 0 and member_of(i) == 0:
        store(out, np.int64(number), 0, found[i])


def own_mark(marks, i, position):
    """The position of an element of x."""
    return position


def given_mark(marks, i, position):
    """That of what has been found in a part of the plane."""
    return index(marks[i])


mark_at = own_mark


def max_whole_indices(phase, shared, b, i, buffers, g):
    """The same with positions, by which equals are told apart: their order is lost."""
    out, positions, x, marks = buffers
    found, places = shared
    number, p, first, end = share_of(b, i, g)
    if number >= g[UNITS]:
        return
    if phase == 0:
        at, best = plane_of_x(p, index(0), g), mark(lowest(), index(-1))
        for each in range(first, end, 1 << TEAM_BITS):
            source = at + index(each * g[X_W])
            best = merge(best, mark(load(x, source, 0), mark_at(marks, source, index(each))))
        found[i], places[i] = best
    elif member_of(i) < partners(phase):
        ours, theirs, position = found[i], found[i + partners(phase)], places[i + partners(phase)]
        is_nan = not (theirs == theirs)
        is_later = position > places[i]
        is_better = theirs > ours or (theirs == ours and not is_later)
        if is_nan:
            is_better = ours == ours or is_later
        if position >= 0 and (places[i] < 0 or is_better):
            found[i], places[i] = theirs, position
    elif partners(phase) == 0 and member_of(i) == 0:
        store_mark(out, positions, np.int64(number), 0, mark(found[i], places[i]))
