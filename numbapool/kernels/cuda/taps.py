"""Which elements windows read, and which windows read an element, along one axis: windows that slide, with dilation or without.

Those of `bins` take the place of these where a plan has bins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import bins
from numbapool.kernels.cuda.elements import index, quotient
from numbapool.kernels.cuda.scalars import G

# Each gives first tap inside the input, number of taps inside, number of taps before them, and extent of the window in taps.
# `table` and the plane `p` are for windows that are drawn.


def sliding(o, length, kernel, stride, before, dilation, magic):
    """Windows a stride apart, of neighbouring taps."""
    start = index(o * stride - before)
    end = index(min(index(start + kernel), index(length)))
    first = index(max(start, index(0)))
    return first, index(end - first), index(first - start), index(kernel)


def dilated(o, length, kernel, stride, before, dilation, magic):
    """Windows a stride apart whose taps are `dilation` apart."""
    start = index(o * stride - before)
    skipped = index(0)
    if start < 0:
        skipped = quotient(index(dilation - 1 - start), dilation, magic)
    end = index(0)
    if start < length:
        end = index(min(index(kernel), index(quotient(index(length - 1 - start), dilation, magic) + 1)))
    return index(start + skipped * dilation), index(end - skipped), skipped, index(kernel)


# Bound by the variant.
window: Callable[..., Any] = sliding


def window_d(table, p, o, g):
    return window(o, g[G.IN_D], g[G.KERNEL_D], g[G.STRIDE_D], g[G.BEFORE_D], g[G.DILATION_D], g[G.DILATION_D_M])


def window_h(table, p, o, g):
    return window(o, g[G.IN_H], g[G.KERNEL_H], g[G.STRIDE_H], g[G.BEFORE_H], g[G.DILATION_H], g[G.DILATION_H_M])


def window_w(table, p, o, g):
    return window(o, g[G.IN_W], g[G.KERNEL_W], g[G.STRIDE_W], g[G.BEFORE_W], g[G.DILATION_W], g[G.DILATION_W_M])


# How many taps of a window count towards a divisor along one axis; `end` is that of the padding, or of the input.


def count_with_padding(o, end, kernel, stride, before, dilation, magic):
    start = index(o * stride - before)
    return index(max(index(0), index(min(index(kernel), index(end - start)))))


def count_inside(o, end, kernel, stride, before, dilation, magic):
    start = index(o * stride - before)
    last = index(min(index(start + kernel), index(end)))
    return index(max(index(0), index(last - index(max(start, index(0))))))


def count_with_padding_dilated(o, end, kernel, stride, before, dilation, magic):
    start = index(o * stride - before)
    if start >= end:
        return index(0)
    return index(min(index(kernel), index(quotient(index(end - 1 - start), dilation, magic) + 1)))


def count_inside_dilated(o, end, kernel, stride, before, dilation, magic):
    start = index(o * stride - before)
    if start >= end:
        return index(0)
    taps = index(min(index(kernel), index(quotient(index(end - 1 - start), dilation, magic) + 1)))
    if start < 0:
        taps = index(taps - quotient(index(dilation - 1 - start), dilation, magic))
    return index(max(index(0), taps))


# Bound by the variant.
count: Callable[..., Any] = count_inside


def count_d(o, g):
    return count(o, g[G.END_D], g[G.KERNEL_D], g[G.STRIDE_D], g[G.BEFORE_D], g[G.DILATION_D], g[G.DILATION_D_M])


def count_h(o, g):
    return count(o, g[G.END_H], g[G.KERNEL_H], g[G.STRIDE_H], g[G.BEFORE_H], g[G.DILATION_H], g[G.DILATION_H_M])


def count_w(o, g):
    return count(o, g[G.END_W], g[G.KERNEL_W], g[G.STRIDE_W], g[G.BEFORE_W], g[G.DILATION_W], g[G.DILATION_W_M])


# The range of windows along an axis that may hold position i.


def holders(i, out, kernel, stride, stride_magic, before, dilation):
    reach = index(i + before)
    first = index(reach - (kernel - 1) * dilation)
    o0 = index(0)
    if first > 0:
        o0 = quotient(index(first + stride - 1), stride, stride_magic)
    o1 = index(quotient(reach, stride, stride_magic) + 1)
    return o0, index(min(o1, index(out)))


def holders_d(i, g):
    return holders(i, g[G.OUT_D], g[G.KERNEL_D], g[G.STRIDE_D], g[G.STRIDE_D_M], g[G.BEFORE_D], g[G.DILATION_D])


def holders_h(i, g):
    return holders(i, g[G.OUT_H], g[G.KERNEL_H], g[G.STRIDE_H], g[G.STRIDE_H_M], g[G.BEFORE_H], g[G.DILATION_H])


def holders_w(i, g):
    return holders(i, g[G.OUT_W], g[G.KERNEL_W], g[G.STRIDE_W], g[G.STRIDE_W_M], g[G.BEFORE_W], g[G.DILATION_W])


# Which tap of a window a position is that it may hold: below 0 if none, which only dilation makes possible.


def neighbouring_tap(distance, dilation, magic):
    return distance


def dilated_tap(distance, dilation, magic):
    tap = quotient(distance, dilation, magic)
    return tap if index(tap * dilation) == distance else index(-1)


# Bound by the variant.
tap_at: Callable[..., Any] = neighbouring_tap


def tap_d(i, o, g):
    return tap_at(index(i + g[G.BEFORE_D] - o * g[G.STRIDE_D]), g[G.DILATION_D], g[G.DILATION_D_M])


def tap_h(i, o, g):
    return tap_at(index(i + g[G.BEFORE_H] - o * g[G.STRIDE_H]), g[G.DILATION_H], g[G.DILATION_H_M])


def tap_w(i, o, g):
    return tap_at(index(i + g[G.BEFORE_W] - o * g[G.STRIDE_W]), g[G.DILATION_W], g[G.DILATION_W_M])


# What kernels take from where windows lie, by the word that labels have for it.
PLACEMENTS: dict[str, dict[str, Any]] = {
    "sliding": {"window": sliding, "tap_at": neighbouring_tap},
    "dilated": {"window": dilated, "tap_at": dilated_tap},
    "adaptive": bins.ADAPTIVE,
    "drawn": bins.DRAWN,
}
# The same of how many taps count, those in the padding, too, or not.
COUNTS: dict[tuple[str, bool], Callable[..., Any]] = {
    ("sliding", True): count_with_padding,
    ("sliding", False): count_inside,
    ("dilated", True): count_with_padding_dilated,
    ("dilated", False): count_inside_dilated,
}


def placement_of(plan: Plan) -> str:
    """Where the windows of a plan lie."""
    if isinstance(plan, BinPlan):
        return "drawn" if plan.kernel else "adaptive"
    return "dilated" if any(axis.dilation > 1 and axis.kernel > 1 for axis in plan.pooled) else "sliding"
