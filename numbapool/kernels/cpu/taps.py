"""Which elements windows read, and which windows read an element: tables along one axis, for kernels to follow."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np

from numbapool.compilable import compilable
from numbapool.windows import Axis, Bins, bin_end, bin_start


class Table(NamedTuple):
    """Of each position along an axis the first on the other side, and how many there are, `step` apart."""

    first: np.ndarray
    number: np.ndarray
    step: int


def taps_of(axis: Axis | Bins) -> Table:
    """The taps of each output."""
    if not isinstance(axis, Axis):
        start, end = bounds_of_axis(axis)
        return Table(start, end - start, 1)
    starts = np.arange(axis.out) * axis.stride - axis.before
    first = np.maximum(0, -(starts // axis.dilation))
    end = np.clip((axis.length - 1 - starts) // axis.dilation + 1, 0, axis.kernel)
    return Table(starts + first * axis.dilation, np.maximum(end - first, 0), axis.dilation)


def receivers_of(axis: Axis | Bins) -> Table:
    """The outputs of each input element: o with o * stride - before + tap * dilation at its position."""
    positions = np.arange(axis.length)
    if not isinstance(axis, Axis):
        start, end = bounds_of_axis(axis)
        first = np.searchsorted(end, positions, "right")
        return Table(first, np.searchsorted(start, positions, "right") - first, 1)
    common = gcd(axis.stride, axis.dilation)
    step, padded = axis.dilation // common, positions + axis.before
    least = np.maximum(0, -(((axis.kernel - 1) * axis.dilation - padded) // axis.stride))
    if step > 1:
        # In Python's integers, because the products may be beyond 64 bits.
        inverse = pow(axis.stride // common, -1, step)
        turn = np.array([position // common * inverse % step for position in padded.tolist()], np.int64)
        least += (turn - least) % step
    count = (np.minimum(axis.out - 1, padded // axis.stride) - least) // step + 1
    return Table(least, np.where(padded % common == 0, np.maximum(count, 0), 0), step)


def bounds_of_axis(axis: Bins) -> tuple[np.ndarray, np.ndarray]:
    """First element and end of each adaptive bin."""
    bounds = [(bin_start(o, *axis), bin_end(o, *axis)) for o in range(axis.out)]
    starts, ends = np.array(bounds, np.int64).reshape(-1, 2).T
    return starts, ends


@compilable
def inside_range(axis: Axis) -> tuple[int, int]:
    """Half-open range of the windows that are inside the input, so hold all their taps and need no counting."""
    halo = (axis.kernel - 1) * axis.dilation
    inside0 = min(-(-axis.before // axis.stride), axis.out)
    return inside0, min(max((axis.length - 1 - halo + axis.before) // axis.stride + 1, inside0), axis.out)


@compilable
def receivers_along(axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """First window, of neighbouring taps, that holds each position, and one past the last."""
    positions = np.arange(axis.length) + axis.before
    first = np.maximum((positions - axis.kernel) // axis.stride + 1, 0)
    return first, np.maximum(np.minimum(positions // axis.stride + 1, axis.out), first)


@compilable
def taps_along(axis: Axis, first: int, count: int, count_include_pad: bool) -> np.ndarray:
    """How many taps of `count` windows from the `first` on count towards the divisor of a mean; 1 where it is none.

    With `count_include_pad` those inside input plus padding (the overhang of ceil_mode never counts), else those inside
    the input. Source: torch's avg_pool kernels; with dilation, ONNX AveragePool (opset 19).
    """
    taps = np.full(count, axis.kernel, np.int64)
    inside0, inside1 = inside_range(axis)
    edges = np.concatenate(
        (np.arange(min(max(inside0 - first, 0), count)), np.arange(min(max(inside1 - first, 0), count), count))
    )
    start = (first + edges) * axis.stride - axis.before
    end = axis.length + axis.after if count_include_pad else axis.length
    counted = np.minimum(axis.kernel, (end - 1 - start) // axis.dilation + 1)
    if not count_include_pad:
        counted -= np.maximum(0, (axis.dilation - 1 - start) // axis.dilation)
    taps[edges] = np.maximum(1, counted)
    return taps
