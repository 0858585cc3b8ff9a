"""Where arrays lie in memory; and the rule for arrays that results go to: no two of their elements share any."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

# The device of memory that is the CPU's.
HOST = -1


class View(NamedTuple):
    """Where an array is, and how it lies there."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in bytes
    dtype: np.dtype[Any]
    device: int = HOST

    @property
    def span(self) -> tuple[int, int]:
        """The first address, and the one behind the last."""
        reaches = [(length - 1) * step for length, step in zip(self.shape, self.strides)]
        low = sum(each for each in reaches if each < 0)
        high = sum(each for each in reaches if each > 0)
        return self.address + low, self.address + high + self.dtype.itemsize


def check_outs(views: Sequence[View]) -> None:
    """Refuse arrays for results whose elements share memory, within one of them or between two: one would overwrite the other.

    Nearly always strides and spans tell that none do, in microseconds; else memory is marked where an element is.
    """
    for view in views:
        if _may_overlap(view) and _overlap([view]):
            raise ValueError(
                f"out must not overlap itself, but elements of its shape {view.shape} with strides {view.strides} (in bytes) "
                "share memory"
            )
    for number, view in enumerate(views):
        for other in views[:number]:
            if are_near(view, other) and _overlap([view, other]):
                raise ValueError("out must be two different arrays, got values and indices that share memory")


def are_near(one: View, other: View) -> bool:
    """Whether an element of one array lies between the first and the last of another."""
    if 0 in one.shape or 0 in other.shape or one.device != other.device:
        return False
    (low, high), (other_low, other_high) = one.span, other.span
    return low < other_high and other_low < high


def _may_overlap(view: View) -> bool:
    """Whether a step along some axis is less than all that the axes with smaller steps cover; if not, nothing overlaps."""
    if 0 in view.shape:
        return False
    covered = view.dtype.itemsize
    for step, length in sorted((abs(step), length) for step, length in zip(view.strides, view.shape) if length > 1):
        if step < covered:
            return True
        covered += (length - 1) * step
    return False


def _overlap(views: Sequence[View]) -> bool:
    """Whether any two elements, of one array or of several, share memory: found out by marking where they are."""
    spans = [view.span for view in views]
    start, end = min(low for low, _ in spans), max(high for _, high in spans)
    if sum(prod(view.shape) * view.dtype.itemsize for view in views) > end - start:
        return True
    unit = gcd(*[each for view in views for each in (view.address - start, view.dtype.itemsize, *view.strides)])
    marks, count = np.zeros((end - start) // unit, bool), 0
    for view in views:
        shape = (*view.shape, view.dtype.itemsize // unit)
        steps = (*[step // unit for step in view.strides], 1)
        first = marks[(view.address - start) // unit :]
        np.lib.stride_tricks.as_strided(first, shape, steps)[...] = True
        count += prod(shape)
    return int(np.count_nonzero(marks)) < count
