"""Maximum over windows, forward, with and without indices."""

from __future__ import annotations

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
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
    position_of,
    table_at,
    window_d,
    window_h,
    window_w,
)
from numbapool.kernels.cuda.lanes import (
    larger_one,
    load_one,
    lowest_one,
    mark_one,
    replace_one,
    store_mark_one,
    store_one,
)
from numbapool.kernels.cuda.launch import (
    NO_BUFFER,
    Draft,
    Operand,
    Program,
    element_of,
    index_output,
    is_large,
    layer_of,
    name_of,
    remembered,
    scalars_of,
    step_of,
)

# Lanes that carry a position each.
MARKED_LANES = 4

# Bound by the variant.
load, store, lowest, larger = load_one, store_one, lowest_one, larger_one
mark, replace, store_mark = mark_one, replace_one, store_mark_one


@remembered
def max_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False) -> Program:
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
    read = [(x[0], False)]
    layer = layer_of(plan, read)
    large = is_large(plan, read, plan.planes * plan.out_plane_size * plan.channels)
    name, placement = name_of(x[0].dtype), grid.placement_of(plan)
    table = table_of(draft, plan)
    draft.steps.append(
        step_of(
            max_windows,
            [placement, f"{name}{'.reversed' * is_reversed}"],
            element_of(x[0].dtype, is_reversed) | grid.PLACEMENTS[placement],
            layer,
            [(out[1], name), (x[1], name), (table, "int64")],
            scalars_of(layer, read, True, large),
            large,
        )
    )


def find_max(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    indices: tuple[Operand, int],
    is_reversed: bool,
) -> None:
    """Steps from x to the maxima of its windows and where they are."""
    read = [(x[0], False)]
    layer = layer_of(plan, read, MARKED_LANES)
    large = is_large(plan, read, plan.planes * plan.out_plane_size * plan.channels)
    name, placement, kind = name_of(x[0].dtype), grid.placement_of(plan), indices[0].dtype
    table = table_of(draft, plan)
    names = element_of(x[0].dtype, is_reversed) | grid.PLACEMENTS[placement] | index_output(kind)
    names["numbering"] = by_tap if kind.kind == "u" else by_position
    draft.steps.append(
        step_of(
            max_windows_indices,
            [placement, f"{name}{'.reversed' * is_reversed}", str(kind)],
            names,
            layer,
            [(out[1], name), (indices[1], str(kind)), (x[1], name), (table, "int64")],
            scalars_of(layer, read, True, large),
            large,
        )
    )


def table_of(draft: Draft, plan: Plan) -> int:
    """The buffer of a table of where windows start, one row a plane, if the plan has one."""
    if not (isinstance(plan, BinPlan) and plan.starts):
        return NO_BUFFER
    starts = [np.zeros((plan.planes, 1), np.int64)] * (3 - len(plan.starts)) + list(plan.starts)
    return draft.table(np.concatenate(starts, axis=1).ravel())


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
    at = plane_of_x(p, c, g) + np.int64(d) * g[X_D] + np.int64(h) * g[X_H] + np.int64(w) * g[X_W]
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
    at = plane_of_x(p, c, g) + np.int64(d) * g[X_D] + np.int64(h) * g[X_H] + np.int64(w) * g[X_W]
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
