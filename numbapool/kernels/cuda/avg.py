"""Mean and sum over windows, forward; `spread` is their backward."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from numbapool.arguments import LARGEST_INT64
from numbapool.elements import BFLOAT16
from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import elements, grid, rows, taps, vectors, whole
from numbapool.kernels.cuda.draft import Draft, remembered
from numbapool.kernels.cuda.elements import index, total
from numbapool.kernels.cuda.launch import Buffer, Operand, Program
from numbapool.kernels.cuda.scalars import G, along
from numbapool.kernels.cuda.schedule import WIDE, Layer, layer_of, passes_of, size_of
from numbapool.windows import holds_all_windows

# Lanes of sums in 64 bits: 16 spilled.
INTEGER_LANES = 4
# Elements that a thread adds before the sum of them joins a longer one.
RUN = 64

# Bound by the variant.
load, store, zero, add = vectors.load_one, vectors.store_one, vectors.zero_one, vectors.add_one
sum_across, divide = vectors.sum_across_one, vectors.divide_one
TEAM_BITS = whole.TEAM_BITS


class Division(NamedTuple):
    """What sums are divided by: `override`, or how many taps windows have, with those in the padding or without."""

    count_include_pad: bool
    override: int | None
    is_rounded: bool = False  # of integers: to the nearest, halves to even, or towards zero


NO_DIVISION = Division(True, 1)


@remembered
def avg_pool(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> Program:
    """Mean of each window; integers are summed in 64 bits."""
    draft = Draft(sources, results)
    x, out = draft.given
    draft_mean(draft, plan, x, out, Division(count_include_pad, divisor_override, is_rounded))
    return draft.program()


def sum_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Sum of each window; integers in 64 bits."""
    return avg_pool(plan, sources, results, *NO_DIVISION)


def draft_mean(draft: Draft, plan: Plan, x: Buffer, out: Buffer, division: Division) -> None:
    """Steps from x to the means of its windows."""
    if whole.is_whole(plan, x):
        _draft_whole(draft, plan, x, out, division)
        return
    passes = passes_of(plan)
    if len(passes) > 1:
        dtype = x.dtype
        for each in passes:
            sums = draft.sums(dtype, size_of(each, True))
            draft_mean(draft, each, x, sums, NO_DIVISION)
            x = sums
        _divide_sums(draft, plan, x, out, dtype, division)
        return
    words, names, fields = mean_names(plan, x.dtype, out.dtype, division)
    placement, read = taps.placement_of(plan), [(x, False)]
    names |= taps.PLACEMENTS[placement]
    tiles = rows.tiles_of(plan, x, out)
    if tiles is not None and names["IS_UNIFORM"]:
        words, steps, fields, layer = [tiles.word, *words], tiles.steps, fields | tiles.fields, Layer(plan)
        draft.add(avg_tiles, words, names, layer, read, [out, x], of_output=True, steps=steps, fields=fields)
        return
    layer = layer_of(plan, read, INTEGER_LANES if elements.plain_total(x.dtype).kind in "iu" else WIDE, out)
    draft.add(avg_windows, [placement, *words], names, layer, read, [out, x], of_output=True, fields=fields)


def mean_names(
    plan: Plan, dtype: np.dtype[Any], out_dtype: np.dtype[Any], division: Division
) -> tuple[list[str], dict[str, Any], dict[str, int]]:
    """Words for a kernel of means, first those of the dtypes; what the variant is made of; and scalars."""
    word, more, fields = divisor_names(plan, dtype, division)
    names = elements.element_of(dtype) | elements.sum_of(dtype, division.is_rounded) | more
    if out_dtype != dtype:  # sums, not yet divided
        names["narrowed"] = elements.as_it_is
    elif elements.plain_total(dtype).kind in "iu":
        names["narrowed"] = elements.as_value
    rounding = ["nearest"] if division.is_rounded and dtype.kind in "iu" else []
    return [elements.name_of(dtype), elements.name_of(out_dtype), word, *rounding], names, fields


def divisor_names(plan: Plan, dtype: np.dtype[Any], division: Division) -> tuple[str, dict[str, Any], dict[str, int]]:
    """A word for what sums are divided by, what the variant takes from it, and scalars."""
    is_float, divisor = dtype == BFLOAT16 or dtype.kind in "fc", division.override
    if divisor is None and not isinstance(plan, BinPlan):
        taps_of_window = prod(axis.kernel for axis in plan.pooled)
        if all(map(holds_all_windows, plan.pooled)) and taps_of_window <= LARGEST_INT64:
            divisor = taps_of_window
    if divisor == 1:
        return "sum", {"divisor_of": no_divisor, "quotient_of": elements.undivided, "IS_UNIFORM": True}, {"DIVISOR": 1}
    if divisor is not None:
        return "given", {"divisor_of": given_float if is_float else given_int, "IS_UNIFORM": True}, {"DIVISOR": divisor}
    placement = taps.placement_of(plan)
    word = "bins" if placement == "adaptive" else "padded" if division.count_include_pad else "inside"
    names = {"divisor_of": counted_float if is_float else counted_int, "IS_UNIFORM": False}
    if word != "bins":
        names["count"] = taps.COUNTS[placement, division.count_include_pad]
    return word, names, ends_of(plan, division.count_include_pad)


def ends_of(plan: Plan, count_include_pad: bool) -> dict[str, int]:
    """Up to where taps count."""
    if isinstance(plan, BinPlan):
        return {}
    axes = plan.axes  # type: ignore[attr-defined]
    return along("END", [axis.length + (axis.after if count_include_pad else 0) for axis in axes])


def _draft_whole(draft: Draft, plan: Plan, x: Buffer, out: Buffer, division: Division) -> None:
    """Steps to the means of whole planes: of sums of parts of them, where planes are few."""
    parts = whole.parts_of(plan)
    if parts.number == 1:
        _draft_teams(draft, plan, parts, x, out, division)
        return
    partial, sums = (draft.sums(x.dtype, plan.planes * each) for each in (parts.number, 1))
    rest = whole.plan_of_parts(plan, parts)
    _draft_teams(draft, plan, parts, x, partial, NO_DIVISION)
    _draft_teams(draft, rest, whole.parts_of(rest), partial, sums, NO_DIVISION)
    _divide_sums(draft, plan, sums, out, x.dtype, division)


def _draft_teams(draft: Draft, plan: Plan, parts: whole.Parts, x: Buffer, out: Buffer, division: Division) -> None:
    words, names, fields = mean_names(plan, x.dtype, out.dtype, division)
    shared = str(elements.plain_total(x.dtype))
    most = plan.plane_size + RUN * parts.team  # up to where a run may reach
    whole.add_teams(draft, avg_whole, words, names, plan, x, parts, shared, [out, x], most, fields)


def _divide_sums(draft: Draft, plan: Plan, sums: Buffer, out: Buffer, dtype: np.dtype[Any], division: Division) -> None:
    """The last of several passes: from sums of whole windows to their means."""
    layer = Layer(plan, "parts", 2) if dtype.kind == "c" else Layer(plan)
    words, names, fields = mean_names(plan, dtype, out.dtype, division)
    names |= elements.element_of(sums.dtype) | elements.written_as(out.dtype)
    placement = taps.placement_of(plan)
    names |= taps.PLACEMENTS[placement]
    draft.add(
        divide_sums, [placement, *words], names, layer, [(sums, True)], [out, sums], of_output=True, fields=fields
    )


def no_divisor(od, oh, ow, g):
    return total(1)


def given_float(od, oh, ow, g):
    return total(g[G.DIVISOR])


def given_int(od, oh, ow, g):
    return np.int64(g[G.DIVISOR])


def counted_float(od, oh, ow, g):
    return total(total(total(taps.count_d(od, g)) * total(taps.count_h(oh, g))) * total(taps.count_w(ow, g)))


def counted_int(od, oh, ow, g):
    """0 where the product does not fit: any sum over it is 0."""
    d, h, w = np.int64(taps.count_d(od, g)), np.int64(taps.count_h(oh, g)), np.int64(taps.count_w(ow, g))
    if np.float32(d) * np.float32(h) * np.float32(w) > np.float32(9.2e18):
        return np.int64(0)
    return np.int64(d * h * w)


divisor_of: Callable[..., Any] = given_float


def avg_windows(t, buffers, g):
    """Mean of a window, of partial sums of its rows: they err less than one long sum."""
    out, x = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, ow, c, to = grid.position_of(t, g)
    d, nd, _, _ = taps.window_d(x, p, od, g)
    h, nh, _, _ = taps.window_h(x, p, oh, g)
    w, nw, _, _ = taps.window_w(x, p, ow, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    sums = zero()
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[G.DILATION_D] * g[G.X_D] + j * g[G.DILATION_H] * g[G.X_H])
            sum_of_row = zero()
            for k in range(nw):
                sum_of_row = add(sum_of_row, load(x, row + index(k * g[G.DILATION_W] * g[G.X_W]), g[G.X_LANE]))
            sums = add(sums, sum_of_row)
    store(out, to, g[G.TO_LANE], divide(sums, divisor_of(od, oh, ow, g)))


def avg_tiles(t, buffers, g):
    """Means of windows of two columns that lie side by side: rows folded first, 16 bytes at a time, then neighbours."""
    out, x = buffers
    if t >= g[G.UNITS]:
        return
    p, od, oh, group, c, to = grid.position_of(t, g)
    d, nd, _, _ = taps.window_d(x, p, od, g)
    h, nh, _, _ = taps.window_h(x, p, oh, g)
    at = grid.position_in_x(p, c, d, h, index(group * g[G.TILE]), g)
    sums = zero()
    if nd == 1 and nh == 2:  # both loads are on their way before either is used
        upper, lower = load(x, at, 1), load(x, at + g[G.X_H], 1)
        sums = add(add(sums, upper), lower)
    else:
        for i in range(nd):
            for j in range(nh):
                sums = add(sums, load(x, at + index(i * g[G.X_D] + j * g[G.X_H]), 1))
    store(out, to, 1, divide(sum_across(sums), divisor_of(od, oh, group, g)))


def avg_whole(phase, shared, b, i, buffers, g):
    """A team adds a plane: each member every so many elements, then half of the members what the others have."""
    out, x = buffers
    found, _ = shared
    number, p, first, end = whole.share_of(b, i, g)
    if number >= g[G.UNITS]:
        return
    if phase == 0:
        at, sums = grid.plane_of_x(p, index(0), g), zero()
        for run in range(first, end, RUN << TEAM_BITS):
            sum_of_run = zero()
            for each in range(run, min(index(run + (RUN << TEAM_BITS)), end), 1 << TEAM_BITS):
                sum_of_run = add(sum_of_run, load(x, at + index(each * g[G.X_W]), 0))
            sums = add(sums, sum_of_run)
        found[i] = sums
    elif whole.member_of(i) < whole.partners(phase):
        found[i] = add(found[i], found[i + whole.partners(phase)])
    elif whole.partners(phase) == 0 and whole.member_of(i) == 0:
        store(out, np.int64(number), 0, divide(found[i], divisor_of(index(0), index(0), index(0), g)))


def divide_sums(t, buffers, g):
    """A mean from a sum."""
    out, x = buffers
    if t >= g[G.UNITS]:
        return
    _, od, oh, ow, _, to = grid.position_of(t, g)
    store(out, to, g[G.TO_LANE], divide(load(x, to, g[G.TO_LANE]), divisor_of(od, oh, ow, g)))
