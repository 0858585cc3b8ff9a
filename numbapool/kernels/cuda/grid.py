"""Which element a thread computes, which windows belong to it, and where both are in memory.

A thread has one position of a result (d, h, w) in a group of planes or of channels, its lanes. Everything is counted in
integers of one width, 32 bits wherever they are enough, and planes start at 64-bit addresses. Divisions by lengths and strides
are multiplications with numbers that the host has prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda.elements import index, quotient

# Scalars of a kernel. Grid: lengths of the result along which threads are counted, channels last, with the magic numbers for
# division by them.
(
    UNITS,
    CHANNELS,
    CHANNELS_M,
    GRID_W,
    GRID_W_M,
    GRID_H,
    GRID_H_M,
    GRID_D,
    GRID_D_M,
    INNER,  # planes that lie one inner step apart
    INNER_M,
    TO_PLANE,  # from one group of planes of the result to the next, from one unit in it to the next, from lane to lane
    TO_UNIT,
    TO_LANE,
    IN_D,
    IN_H,
    IN_W,
    OUT_D,
    OUT_H,
    OUT_W,
    KERNEL_D,
    KERNEL_H,
    KERNEL_W,
    STRIDE_D,
    STRIDE_H,
    STRIDE_W,
    STRIDE_D_M,
    STRIDE_H_M,
    STRIDE_W_M,
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    DILATION_D_M,
    DILATION_H_M,
    DILATION_W_M,
    END_D,  # up to where taps count towards a divisor
    END_H,
    END_W,
    DIVISOR,
    SOURCE,  # where the fields of the first source start
) = range(43)

# Fields of a source: steps in elements, from one outer and inner group of planes to the next, along the axes, from one group of
# channels to the next, and from lane to lane.
OUTER, INNER_STEP, D_STEP, H_STEP, W_STEP, GROUP, LANE = range(7)
SOURCE_FIELDS = 7
X_OUTER, X_INNER, X_D, X_H, X_W, X_GROUP, X_LANE = range(SOURCE, SOURCE + 7)
Y_OUTER, Y_INNER, Y_D, Y_H, Y_W, Y_GROUP, Y_LANE = range(SOURCE + 7, SOURCE + 14)
EXTRA = SOURCE + 14

LARGEST_INDEX = 2**31 - 1


def position_of(t, g):
    """Group of planes, position along d, h and w, and group of channels of unit t; and where it is in the result."""
    rest = quotient(t, g[CHANNELS], g[CHANNELS_M])
    c = index(t - rest * g[CHANNELS])
    row = quotient(rest, g[GRID_W], g[GRID_W_M])
    w = index(rest - row * g[GRID_W])
    slab = quotient(row, g[GRID_H], g[GRID_H_M])
    h = index(row - slab * g[GRID_H])
    p = quotient(slab, g[GRID_D], g[GRID_D_M])
    d = index(slab - p * g[GRID_D])
    unit = index(t - p * g[GRID_D] * g[GRID_H] * g[GRID_W] * g[CHANNELS])
    return p, d, h, w, c, np.int64(p) * g[TO_PLANE] + np.int64(unit) * g[TO_UNIT]


def plane_of_x(p, c, g):
    """Where a group of planes, and of channels in it, starts in the first source."""
    outer = quotient(p, g[INNER], g[INNER_M])
    inner = index(p - outer * g[INNER])
    return np.int64(outer) * g[X_OUTER] + np.int64(inner) * g[X_INNER] + np.int64(c) * g[X_GROUP]


def plane_of_y(p, c, g):
    """The same in the second source."""
    outer = quotient(p, g[INNER], g[INNER_M])
    inner = index(p - outer * g[INNER])
    return np.int64(outer) * g[Y_OUTER] + np.int64(inner) * g[Y_INNER] + np.int64(c) * g[Y_GROUP]


def position_in_x(p, c, d, h, w, g):
    """Where the element at (d, h, w) of a plane is in the first source."""
    return plane_of_x(p, c, g) + np.int64(index(d * g[X_D] + h * g[X_H] + w * g[X_W]))


def position_in_y(p, c, d, h, w, g):
    """The same in the second source."""
    return plane_of_y(p, c, g) + np.int64(index(d * g[Y_D] + h * g[Y_H] + w * g[Y_W]))


# Each gives first tap inside the input, number of taps inside, number of taps before them, and extent of the window in taps.


def sliding(table, at, o, length, kernel, stride, before, dilation, magic):
    """Windows a stride apart, of neighbouring taps."""
    start = index(o * stride - before)
    end = index(min(index(start + kernel), index(length)))
    first = index(max(start, index(0)))
    return first, index(end - first), index(first - start), index(kernel)


def dilated(table, at, o, length, kernel, stride, before, dilation, magic):
    """Windows a stride apart whose taps are `dilation` apart."""
    start = index(o * stride - before)
    skipped = index(0)
    if start < 0:
        skipped = quotient(index(dilation - 1 - start), dilation, magic)
    end = index(0)
    if start < length:
        end = index(min(index(kernel), index(quotient(index(length - 1 - start), dilation, magic) + 1)))
    return index(start + skipped * dilation), index(end - skipped), skipped, index(kernel)


def adaptive(table, at, o, length, out, stride, before, dilation, magic):
    """Bins of equal size, as far as integers are."""
    first = quotient(index(o * length), out, magic)
    end = index(quotient(index(o * length + length - 1), out, magic) + 1)
    taps = index(end - first)
    return first, taps, index(0), taps


def drawn(table, at, o, length, kernel, stride, before, dilation, magic):
    """Windows that start where a table says."""
    return index(table[np.int64(at + o)]), index(kernel), index(0), index(kernel)


# Bound by the variant.
window: Callable[..., Any] = sliding


def window_d(table, at, o, g):
    return window(table, at, o, g[IN_D], g[KERNEL_D], g[STRIDE_D], g[BEFORE_D], g[DILATION_D], g[DILATION_D_M])


def window_h(table, at, o, g):
    at = np.int64(at + g[OUT_D])
    return window(table, at, o, g[IN_H], g[KERNEL_H], g[STRIDE_H], g[BEFORE_H], g[DILATION_H], g[DILATION_H_M])


def window_w(table, at, o, g):
    at = np.int64(at + g[OUT_D] + g[OUT_H])
    return window(table, at, o, g[IN_W], g[KERNEL_W], g[STRIDE_W], g[BEFORE_W], g[DILATION_W], g[DILATION_W_M])


def table_at(p, g):
    """Where the starts of a plane's windows are in a table."""
    return np.int64(p) * np.int64(g[OUT_D] + g[OUT_H] + g[OUT_W])


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


def count_adaptive(o, length, out, stride, before, dilation, magic):
    first = quotient(index(o * length), out, magic)
    return index(quotient(index(o * length + length - 1), out, magic) + 1 - first)


# Bound by the variant.
count: Callable[..., Any] = count_inside


def count_d(o, g):
    return count(o, g[END_D], g[KERNEL_D], g[STRIDE_D], g[BEFORE_D], g[DILATION_D], g[DILATION_D_M])


def count_h(o, g):
    return count(o, g[END_H], g[KERNEL_H], g[STRIDE_H], g[BEFORE_H], g[DILATION_H], g[DILATION_H_M])


def count_w(o, g):
    return count(o, g[END_W], g[KERNEL_W], g[STRIDE_W], g[BEFORE_W], g[DILATION_W], g[DILATION_W_M])


# Each gives the range of windows along an axis that may hold position i.


def sliding_holders(i, length, out, kernel, stride, stride_magic, before, dilation):
    reach = index(i + before)
    first = index(reach - (kernel - 1) * dilation)
    o0 = index(0)
    if first > 0:
        o0 = quotient(index(first + stride - 1), stride, stride_magic)
    o1 = index(quotient(reach, stride, stride_magic) + 1)
    return o0, index(min(o1, index(out)))


def adaptive_holders(i, length, out, kernel, stride, stride_magic, before, dilation):
    """The magic number is that of the length."""
    o0 = quotient(index(i * out), length, stride_magic)
    return o0, quotient(index(i * out + out + length - 1), length, stride_magic)


# Bound by the variant.
holders: Callable[..., Any] = sliding_holders


def holders_d(i, g):
    return holders(i, g[IN_D], g[OUT_D], g[KERNEL_D], g[STRIDE_D], g[STRIDE_D_M], g[BEFORE_D], g[DILATION_D])


def holders_h(i, g):
    return holders(i, g[IN_H], g[OUT_H], g[KERNEL_H], g[STRIDE_H], g[STRIDE_H_M], g[BEFORE_H], g[DILATION_H])


def holders_w(i, g):
    return holders(i, g[IN_W], g[OUT_W], g[KERNEL_W], g[STRIDE_W], g[STRIDE_W_M], g[BEFORE_W], g[DILATION_W])


# Which tap of a window a position is that it may hold: below 0 if none, which only dilation makes possible.


def neighbouring_tap(distance, dilation, magic):
    return distance


def dilated_tap(distance, dilation, magic):
    tap = quotient(distance, dilation, magic)
    return tap if index(tap * dilation) == distance else index(-1)


def some_tap(distance, dilation, magic):
    """Bins hold all between their ends."""
    return index(0)


tap_at: Callable[..., Any] = neighbouring_tap


def tap_d(i, o, g):
    return tap_at(index(i + g[BEFORE_D] - o * g[STRIDE_D]), g[DILATION_D], g[DILATION_D_M])


def tap_h(i, o, g):
    return tap_at(index(i + g[BEFORE_H] - o * g[STRIDE_H]), g[DILATION_H], g[DILATION_H_M])


def tap_w(i, o, g):
    return tap_at(index(i + g[BEFORE_W] - o * g[STRIDE_W]), g[DILATION_W], g[DILATION_W_M])


PLACEMENTS: dict[str, dict[str, Any]] = {
    "sliding": {"window": sliding, "holders": sliding_holders, "tap_at": neighbouring_tap},
    "dilated": {"window": dilated, "holders": sliding_holders, "tap_at": dilated_tap},
    "adaptive": {"window": adaptive, "holders": adaptive_holders, "tap_at": some_tap, "count": count_adaptive},
    "drawn": {"window": drawn},
}
COUNTS: dict[tuple[str, bool], Callable[..., Any]] = {
    ("sliding", True): count_with_padding,
    ("sliding", False): count_inside,
    ("dilated", True): count_with_padding_dilated,
    ("dilated", False): count_inside_dilated,
    ("adaptive", True): count_adaptive,
    ("adaptive", False): count_adaptive,
}


def placement_of(plan: Plan) -> str:
    """Where the windows of a plan lie, by name."""
    if isinstance(plan, BinPlan):
        return "drawn" if plan.starts else "adaptive"
    return "dilated" if any(axis.dilation > 1 and axis.kernel > 1 for axis in plan.pooled) else "sliding"


def magic_of(is_large: bool) -> Callable[[int], int]:
    """How the number for division by a divisor is made, for this width of index arithmetic."""
    return magic64 if is_large else magic32


def magic32(divisor: int) -> int:
    """The number by which `quotient32` divides: a factor of 32 bits, and above it how far the product is shifted.

    With `2**(k - 1) < divisor <= 2**k` the factor is `2**(31 + k) / divisor`, rounded up by at most 1: over any n below 2**31 that
    is less than the 1 / divisor by which the quotient may be too large (Granlund and Montgomery, 1994).
    """
    shift = 31 + (max(1, divisor) - 1).bit_length()
    return shift << 32 | (1 << shift) // max(1, divisor) + 1


def magic64(divisor: int) -> int:
    """The number by which `quotient64` divides."""
    return min(2**63 - 1, (1 << 63) // max(1, divisor))
