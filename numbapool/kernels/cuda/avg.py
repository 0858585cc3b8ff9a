"""Mean and sum over windows, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from numbapool.arguments import LARGEST_INT64
from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.elements import as_it_is, as_value, index, total, undivided
from numbapool.kernels.cuda.grid import (
    DILATION_D,
    DILATION_H,
    DILATION_W,
    DIVISOR,
    TO_LANE,
    UNITS,
    X_D,
    X_H,
    X_LANE,
    X_W,
    count_d,
    count_h,
    count_w,
    holders_d,
    holders_h,
    holders_w,
    plane_of_x,
    position_in_x,
    position_of,
    tap_d,
    tap_h,
    tap_w,
    window_d,
    window_h,
    window_w,
)
from numbapool.kernels.cuda.lanes import (
    add_one,
    divide_one,
    doubled_one,
    fill_one,
    load_one,
    store_one,
    sum_across_one,
    zero_one,
)
from numbapool.kernels.cuda.launch import (
    WIDE,
    Draft,
    Layer,
    Operand,
    Program,
    element_of,
    gradient_passes_of,
    gradient_tiling_of,
    is_large,
    layer_of,
    name_of,
    passes_of,
    plain_total,
    remembered,
    scalars_of,
    size_of,
    step_of,
    sum_of,
    tiling_of,
    written_as,
)
from numbapool.kernels.cuda.whole import (
    TEAM_BITS,
    Parts,
    fill_step,
    filled_by,
    fills_planes,
    is_whole,
    member_of,
    partners,
    parts_of,
    plan_of_parts,
    reaches_next,
    share_of,
    store_filled,
    team_step,
)
from numbapool.kernels.elements import BFLOAT16
from numbapool.kernels.windows import holds_all_windows

# Where the scalar of a tile is: its elements of a row.
TILE = grid.SOURCE + grid.SOURCE_FIELDS
# Lanes of sums in 64 bits: 16 spilled.
INTEGER_LANES = 4
# Elements that a thread adds before the sum of them joins a longer one.
RUN = 64

# Bound by the variant.
sum_across, doubled, fill = sum_across_one, doubled_one, fill_one
load, store, zero, add, divide = load_one, store_one, zero_one, add_one, divide_one
IS_UNIFORM = True


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
    division = Division(count_include_pad, divisor_override, is_rounded)
    fold_mean(draft, plan, (sources[0], 0), (results[0], 1), division)
    return draft.program()


@remembered
def sum_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Sum of each window; integers in 64 bits."""
    draft = Draft(sources, results)
    fold_mean(draft, plan, (sources[0], 0), (results[0], 1), NO_DIVISION)
    return draft.program()


@remembered
def avg_pool_backward(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> Program:
    """Gradient of the mean: each input element takes its share of the windows that hold it."""
    draft = Draft(sources, results)
    division = Division(count_include_pad, divisor_override)
    spread_mean(draft, plan, (sources[0], 0), (results[0], 1), division)
    return draft.program()


def sum_pool_backward(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Gradient of the sum."""
    return avg_pool_backward(plan, sources, results, True, 1, False)


def fold_mean(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    division: Division,
) -> None:
    """Steps from x to the means of its windows; operands with the numbers of their buffers."""
    dtype = x[0].dtype
    if is_whole(plan, x[0]):
        fold_whole(draft, plan, x, out, division)
        return
    passes = passes_of(plan)
    if len(passes) > 1:
        for each in passes:
            sums = draft.sums(dtype, size_of(each, True))
            fold_mean(draft, each, x, sums, NO_DIVISION)
            x = sums
        _divide_sums(draft, plan, x, out, dtype, division)
        return
    words, names, divisor = mean_names(plan, dtype, out[0].dtype, division)
    read, placement = [(x[0], False)], grid.placement_of(plan)
    large = is_large(plan, read, size_of(plan, True))
    names |= grid.PLACEMENTS[placement]
    buffers = [(out[1], words[1]), (x[1], words[0])]
    tiling = tiling_of(plan, x[0], out[0])
    if tiling is not None and names["IS_UNIFORM"]:
        layer = Layer(plan, "planes", 1)
        scalars = tiling.scalars(scalars_of(layer, read, True, large, divisor, division.count_include_pad), large)
        words.insert(0, tiling.word())
        draft.steps.append(step_of(avg_tiles, words, names, layer, buffers, scalars, large, tiling.steps))
        return
    layer = layer_of(plan, read, INTEGER_LANES if plain_total(dtype).kind in "iu" else WIDE, out=out[0])
    scalars = scalars_of(layer, read, True, large, divisor, division.count_include_pad)
    draft.steps.append(step_of(avg_windows, [placement, *words], names, layer, buffers, scalars, large))


def mean_names(
    plan: Plan,
    dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    division: Division,
) -> tuple[list[str], dict[str, Any], int]:
    """Words for a kernel of means, first those of the dtypes; what the variant is made of; and the divisor if there is but one."""
    word, divisor, more = divisor_names(plan, dtype, division)
    names = element_of(dtype) | sum_of(dtype, division.is_rounded) | more
    if out_dtype != dtype:  # sums, not yet divided
        names["narrowed"] = as_it_is
    elif plain_total(dtype).kind in "iu":
        names["narrowed"] = as_value
    rounding = ["nearest"] if division.is_rounded and dtype.kind in "iu" else []
    return [name_of(dtype), name_of(out_dtype), word, *rounding], names, divisor


def fold_whole(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    division: Division,
) -> None:
    """Steps to the means of whole planes: of sums of parts of them, where planes are few."""
    parts = parts_of(plan)
    if parts.number == 1:
        _fold_teams(draft, plan, parts, x, out, division)
        return
    partial, sums = (draft.sums(x[0].dtype, plan.planes * each) for each in (parts.number, 1))
    rest = plan_of_parts(plan, parts)
    _fold_teams(draft, plan, parts, x, partial, NO_DIVISION)
    _fold_teams(draft, rest, parts_of(rest), partial, sums, NO_DIVISION)
    _divide_sums(draft, plan, sums, out, x[0].dtype, division)


def _fold_teams(
    draft: Draft,
    plan: Plan,
    parts: Parts,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    division: Division,
) -> None:
    words, names, divisor = mean_names(plan, x[0].dtype, out[0].dtype, division)
    buffers, shared = [(out[1], words[1]), (x[1], words[0])], str(plain_total(x[0].dtype))
    most = plan.plane_size + RUN * parts.team  # up to where a run may reach
    options = divisor, division.count_include_pad
    draft.steps.append(team_step(avg_whole, words, names, plan, x[0], parts, shared, buffers, *options, counts_to=most))


def _divide_sums(
    draft: Draft,
    plan: Plan,
    sums: tuple[Operand, int],
    out: tuple[Operand, int],
    dtype: np.dtype[Any],
    division: Division,
) -> None:
    """The last of several passes: from sums of whole windows to their means."""
    read = [(sums[0], True)]
    layer = Layer(plan, "parts", 2) if dtype.kind == "c" else Layer(plan, "planes", 1)
    large = is_large(plan, read, size_of(plan, True))
    words, names, divisor = mean_names(plan, dtype, out[0].dtype, division)
    names |= element_of(sums[0].dtype) | written_as(out[0].dtype)
    buffers = [(out[1], words[1]), (sums[1], name_of(sums[0].dtype))]
    scalars = scalars_of(layer, read, True, large, divisor, division.count_include_pad)
    placement = grid.placement_of(plan)
    draft.steps.append(step_of(divide_sums, [placement, *words], names, layer, buffers, scalars, large))


def spread_mean(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    out: tuple[Operand, int],
    division: Division,
) -> None:
    """Steps from the gradient of means to that of the input."""
    dtype, passes = grad[0].dtype, gradient_passes_of(plan)
    _, divisor, names = divisor_names(plan, dtype, division)
    first = division
    if names["IS_UNIFORM"]:  # then the last pass divides; otherwise each by what it counts along its axis
        first, division = NO_DIVISION, division._replace(override=divisor)
    for each in passes[:-1]:
        shares = draft.sums(dtype, size_of(each, False))
        _hand_back(draft, each, grad, shares, first)
        grad = shares
    _hand_back(draft, passes[-1], grad, out, division)


def _hand_back(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    out: tuple[Operand, int],
    division: Division,
) -> None:
    dtype, name, name_of_out = grad[0].dtype, name_of(grad[0].dtype), name_of(out[0].dtype)
    read = [(grad[0], True)]
    placement = grid.placement_of(plan)
    word, divisor, more = divisor_names(plan, dtype, division)
    large = is_large(plan, read, size_of(plan, False))
    names = element_of(dtype) | written_as(out[0].dtype) | sum_of(dtype) | grid.PLACEMENTS[placement] | more
    if fills_planes(plan, out[0]):
        words, buffers = [name, name_of_out, word], [(out[1], name_of_out), (grad[1], name)]
        options = divisor, division.count_include_pad
        draft.steps.append(fill_step(avg_fill, words, names, plan, read, out[0], buffers, *options))
        return
    tiling = gradient_tiling_of(plan, grad[0], out[0])
    if tiling is not None:
        layer = Layer(plan, "planes", 1)
        scalars = scalars_of(layer, read, False, large, divisor, division.count_include_pad)
        words, buffers = [tiling.word(True), name, word], [(out[1], name), (grad[1], name)]
        scalars, steps = tiling.scalars(scalars, large, True), tiling.gradient_steps
        draft.steps.append(step_of(avg_holders_tiles, words, names, layer, buffers, scalars, large, steps))
        return
    layer = layer_of(plan, read, out=out[0])
    draft.steps.append(
        step_of(
            avg_holders,
            [placement, name, name_of_out, word],
            names,
            layer,
            [(out[1], name_of_out), (grad[1], name)],
            scalars_of(layer, read, False, large, divisor, division.count_include_pad),
            large,
        )
    )


def divisor_names(plan: Plan, dtype: np.dtype[Any], division: Division) -> tuple[str, int, dict[str, Any]]:
    """A word for what sums are divided by, the divisor if there is but one, and what the variant takes from it."""
    is_float, divisor = dtype == BFLOAT16 or dtype.kind in "fc", division.override
    if divisor is None and not isinstance(plan, BinPlan):
        taps = prod(axis.kernel for axis in plan.pooled)
        if all(map(holds_all_windows, plan.pooled)) and taps <= LARGEST_INT64:
            divisor = taps
    placement = grid.placement_of(plan)
    count = {} if placement == "drawn" else {"count": grid.COUNTS[placement, division.count_include_pad]}
    if divisor == 1:
        return "sum", 1, {"divisor_of": no_divisor, "quotient_of": undivided, "IS_UNIFORM": True}
    if divisor is not None:
        given = given_float if is_float else given_int
        return "given", divisor, {"divisor_of": given, "IS_UNIFORM": True}
    word = "bins" if placement == "adaptive" else "padded" if division.count_include_pad else "inside"
    counted = counted_float if is_float else counted_int
    return word, 0, count | {"divisor_of": counted, "IS_UNIFORM": False}


def no_divisor(od, oh, ow, g):
    return total(1)


def given_float(od, oh, ow, g):
    return total(g[DIVISOR])


def given_int(od, oh, ow, g):
    return np.int64(g[DIVISOR])


def counted_float(od, oh, ow, g):
    return total(total(total(count_d(od, g)) * total(count_h(oh, g))) * total(count_w(ow, g)))


def counted_int(od, oh, ow, g):
    """0 where the product does not fit: any sum over it is 0."""
    d, h, w = np.int64(count_d(od, g)), np.int64(count_h(oh, g)), np.int64(count_w(ow, g))
    if np.float32(d) * np.float32(h) * np.float32(w) > np.float32(9.2e18):
        return np.int64(0)
    return np.int64(d * h * w)


divisor_of: Callable[..., Any] = given_float


def avg_windows(t, buffers, g):
    """Mean of a window, of partial sums of its rows: they err less than one long sum."""
    out, x = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    d, nd, _, _ = window_d(x, 0, od, g)
    h, nh, _, _ = window_h(x, 0, oh, g)
    w, nw, _, _ = window_w(x, 0, ow, g)
    at = position_in_x(p, c, d, h, w, g)
    sums = zero()
    for i in range(nd):
        for j in range(nh):
            row = at + index(i * g[DILATION_D] * g[X_D] + j * g[DILATION_H] * g[X_H])
            sum_of_row = zero()
            for k in range(nw):
                sum_of_row = add(sum_of_row, load(x, row + index(k * g[DILATION_W] * g[X_W]), g[X_LANE]))
            sums = add(sums, sum_of_row)
    store(out, to, g[TO_LANE], divide(sums, divisor_of(od, oh, ow, g)))


def avg_holders(t, buffers, g):
    """Shares of all windows that hold an element, in the order of the windows."""
    out, grad = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at = plane_of_x(p, c, g)
    d0, d1 = holders_d(d, g)
    h0, h1 = holders_h(h, g)
    w0, w1 = holders_w(w, g)
    sums = zero()
    for od in range(d0, d1):
        if tap_d(d, od, g) >= 0:
            for oh in range(h0, h1):
                if tap_h(h, oh, g) >= 0:
                    row = at + index(od * g[X_D] + oh * g[X_H])
                    for ow in range(w0, w1):
                        if tap_w(w, ow, g) >= 0:
                            share = load(grad, row + index(ow * g[X_W]), g[X_LANE])
                            if not IS_UNIFORM:
                                share = divide(share, divisor_of(od, oh, ow, g))
                            sums = add(sums, share)
    if IS_UNIFORM:
        sums = divide(sums, divisor_of(d, h, w, g))
    store(out, to, g[TO_LANE], sums)


def avg_tiles(t, buffers, g):
    """Means of windows of two columns that lie side by side: rows folded first, 16 bytes at a time, then neighbours."""
    out, x = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, group, c, to = position_of(t, g)
    d, nd, _, _ = window_d(x, 0, od, g)
    h, nh, _, _ = window_h(x, 0, oh, g)
    at = position_in_x(p, c, d, h, index(group * g[TILE]), g)
    sums = zero()
    if nd == 1 and nh == 2:  # both loads are on their way before either is used
        upper, lower = load(x, at, 1), load(x, at + g[X_H], 1)
        sums = add(add(sums, upper), lower)
    else:
        for i in range(nd):
            for j in range(nh):
                sums = add(sums, load(x, at + index(i * g[X_D] + j * g[X_H]), 1))
    store(out, to, 1, divide(sum_across(sums), divisor_of(od, oh, group, g)))


def avg_fill(t, buffers, g):
    """The share of every element of planes that are one window each, 16 bytes at a time."""
    out, grad = buffers
    if t >= g[UNITS]:
        return
    first, p, left = filled_by(t, g)
    divisor = divisor_of(index(0), index(0), index(0), g)
    own = divide(load(grad, plane_of_x(p, index(0), g), 0), divisor)
    following = own
    if reaches_next(first, left, g):
        following = divide(load(grad, plane_of_x(index(p + 1), index(0), g), 0), divisor)
    store_filled(out, first, g, fill(own, following, left, index(0)))


def avg_holders_tiles(t, buffers, g):
    """Shares of windows of two columns that lie side by side: 16 bytes of gradients at a time, to twice as many elements."""
    out, grad = buffers
    if t >= g[UNITS]:
        return
    p, d, h, group, c, to = position_of(t, g)
    at = plane_of_x(p, c, g) + index(group * g[TILE])
    d0, d1 = holders_d(d, g)
    h0, h1 = holders_h(h, g)
    sums = zero()
    for od in range(d0, d1):
        for oh in range(h0, h1):
            share = load(grad, at + index(od * g[X_D] + oh * g[X_H]), 1)
            if not IS_UNIFORM:
                share = divide(share, divisor_of(od, oh, index(0), g))
            sums = add(sums, share)
    if IS_UNIFORM:
        sums = divide(sums, divisor_of(d, h, index(0), g))
    store(out, to, 1, doubled(sums))


def divide_sums(t, buffers, g):
    """A mean from a sum."""
    out, x = buffers
    if t >= g[UNITS]:
        return
    _, od, oh, ow, _, to = position_of(t, g)
    store(out, to, g[TO_LANE], divide(load(x, to, g[TO_LANE]), divisor_of(od, oh, ow, g)))


def avg_whole(phase, shared, b, i, buffers, g):
    """A team adds a plane: each member every so many elements, then half of the members what the others have."""
    out, x = buffers
    found, _ = shared
    number, p, first, end = share_of(b, i, g)
    if number >= g[UNITS]:
        return
    if phase == 0:
        at, sums = plane_of_x(p, index(0), g), zero()
        for run in range(first, end, RUN << TEAM_BITS):
            sum_of_run = zero()
            for each in range(run, min(index(run + (RUN << TEAM_BITS)), end), 1 << TEAM_BITS):
                sum_of_run = add(sum_of_run, load(x, at + index(each * g[X_W]), 0))
            sums = add(sums, sum_of_run)
        found[i] = sums
    elif member_of(i) < partners(phase):
        found[i] = add(found[i], found[i + partners(phase)])
    elif partners(phase) == 0 and member_of(i) == 0:
        store(out, np.int64(number), 0, divide(found[i], divisor_of(index(0), index(0), index(0), g)))
