"""Mean and sum over windows, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from numbapool.geometry import LARGEST_INT64, BinPlan, Plan, holds_all_windows
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
    position_of,
    tap_d,
    tap_h,
    tap_w,
    window_d,
    window_h,
    window_w,
)
from numbapool.kernels.cuda.lanes import add_one, divide_one, load_one, store_one, zero_one
from numbapool.kernels.cuda.launch import (
    Draft,
    Operand,
    Program,
    element_of,
    is_large,
    layer_of,
    name_of,
    plain_total,
    remembered,
    scalars_of,
    step_of,
    sum_of,
)
from numbapool.kernels.elements import BFLOAT16

# Bound by the variant.
load, store, zero, add, divide = load_one, store_one, zero_one, add_one, divide_one
IS_UNIFORM = True


@remembered
def avg_pool(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> Program:
    """Mean of each window; integers are summed in 64 bits and rounded to the nearest, halves to even, or towards zero."""
    draft = Draft(sources, results)
    fold_mean(draft, plan, (sources[0], 0), (results[0], 1), count_include_pad, divisor_override, is_rounded)
    return draft.program()


@remembered
def sum_pool(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Sum of each window; integers in 64 bits."""
    draft = Draft(sources, results)
    fold_mean(draft, plan, (sources[0], 0), (results[0], 1), True, 1, False)
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
    spread_mean(draft, plan, (sources[0], 0), (results[0], 1), count_include_pad, divisor_override)
    return draft.program()


def sum_pool_backward(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Gradient of the sum."""
    return avg_pool_backward(plan, sources, results, True, 1, False)


def fold_mean(
    draft: Draft,
    plan: Plan,
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> None:
    """Steps from x to the means of its windows; operands with the numbers of their buffers."""
    dtype = x[0].dtype
    read = [(x[0], False)]
    layer = layer_of(plan, read)
    placement, names = grid.placement_of(plan), element_of(dtype) | sum_of(dtype, is_rounded)
    word, divisor, more = divisor_names(plan, dtype, count_include_pad, divisor_override)
    large = is_large(plan, read, plan.planes * plan.out_plane_size * plan.channels)
    names |= grid.PLACEMENTS[placement] | more
    if dtype.kind in "iub" and dtype != BFLOAT16:
        names["narrowed"] = as_value if out[0].dtype == dtype else as_it_is
    rounding = ["nearest"] if is_rounded and dtype.kind in "iu" else []
    draft.steps.append(
        step_of(
            avg_windows,
            [placement, name_of(dtype), name_of(out[0].dtype), word, *rounding],
            names,
            layer,
            [(out[1], name_of(out[0].dtype)), (x[1], name_of(dtype))],
            scalars_of(layer, read, True, large, divisor, count_include_pad),
            large,
        )
    )


def spread_mean(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    out: tuple[Operand, int],
    count_include_pad: bool,
    divisor_override: int | None,
) -> None:
    """Steps from the gradient of means to that of the input."""
    dtype = grad[0].dtype
    read = [(grad[0], True)]
    layer = layer_of(plan, read)
    placement = grid.placement_of(plan)
    word, divisor, more = divisor_names(plan, dtype, count_include_pad, divisor_override)
    large = is_large(plan, read, plan.planes * plan.plane_size * plan.channels)
    draft.steps.append(
        step_of(
            avg_holders,
            [placement, name_of(dtype), word],
            element_of(dtype) | sum_of(dtype) | grid.PLACEMENTS[placement] | more,
            layer,
            [(out[1], name_of(out[0].dtype)), (grad[1], name_of(dtype))],
            scalars_of(layer, read, False, large, divisor, count_include_pad),
            large,
        )
    )


def divisor_names(
    plan: Plan, dtype: np.dtype[Any], count_include_pad: bool, divisor_override: int | None
) -> tuple[str, int, dict[str, Any]]:
    """A word for what sums are divided by, the divisor if there is but one, and what the variant takes from it."""
    is_float = dtype == BFLOAT16 or dtype.kind in "fc"
    if divisor_override is None and not isinstance(plan, BinPlan):
        taps = prod(axis.kernel for axis in plan.pooled)
        if all(map(holds_all_windows, plan.pooled)) and taps <= LARGEST_INT64:
            divisor_override = taps
    placement = grid.placement_of(plan)
    count = {} if placement == "drawn" else {"count": grid.COUNTS[placement, count_include_pad]}
    if divisor_override == 1:
        return "sum", 1, count | {"divisor_of": no_divisor, "quotient_of": undivided, "IS_UNIFORM": True}
    if divisor_override is not None:
        given = given_float if is_float else given_int
        return "given", divisor_override, count | {"divisor_of": given, "IS_UNIFORM": True}
    word = "bins" if placement == "adaptive" else "padded" if count_include_pad else "inside"
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
    at = plane_of_x(p, c, g) + np.int64(d) * g[X_D] + np.int64(h) * g[X_H] + np.int64(w) * g[X_W]
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
