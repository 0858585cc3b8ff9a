"""Scalar rules that every target shares: how values compare, which taps of a window are inside.

Plain Python functions of scalars, without Numba: each target compiles them for itself, and with the compiler switched off
they run as they stand. Positions are in elements of the *unpadded* axis, so padding before the input is negative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numbapool.compilable import compilable


class Axis(NamedTuple):
    """One pooled axis: the input length, the output length and the windows between them, all in elements."""

    length: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int


class Bins(NamedTuple):
    """One pooled axis whose windows lie where a rule or a draw says: the input length and the number of windows."""

    length: int
    out: int


def larger(best: Any, value: Any) -> Any:
    """Larger of two values, NaN if either is NaN."""
    bigger = best if best > value else value
    return best if not (best == best) else bigger


def replaces(value: Any, best: Any) -> Any:
    """Whether `value` replaces `best` in a row-major scan: the first of equals stays, the last NaN wins (torch's rule).

    `not (value == value)` and not `value != value`: one GPU compiler folds the latter to False.
    """
    return (value > best) | (not (value == value))


@compilable
def first_tap(start: int, dilation: int) -> int:
    """Number of the first tap of a window at `start` that is not before the input."""
    return 0 if start >= 0 else (dilation - 1 - start) // dilation


@compilable
def end_tap(start: int, length: int, kernel: int, dilation: int) -> int:
    """One past the last tap of a window at `start` that lies before `length`."""
    if start + (kernel - 1) * dilation < length:  # spares most windows the division
        return kernel
    return (length - 1 - start) // dilation + 1 if start < length else 0


def bin_start(number: int, length: int, out: int) -> int:
    """First element of bin `number` of `out` over an axis: torch's rule for adaptive pooling, in exact integers."""
    return number // out * length + number % out * length // out


def bin_end(number: int, length: int, out: int) -> int:
    """One past the last element of a bin."""
    return 1 + ((number + 1) * length - 1) // out


@compilable
def holds_all_windows(axis: Axis) -> bool:
    """Whether every window along an axis is inside the input."""
    return axis.before == 0 and _reach(axis) <= axis.length


def overhangs(axis: Axis) -> bool:
    """Whether the last window of an axis reaches beyond the padding, as it may in ceil_mode."""
    return _reach(axis) > axis.before + axis.length + axis.after


@compilable
def _reach(axis: Axis) -> int:
    return (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1


def touching(
    length: int, out: int, kernel: int, stride: int, dilation: int, before: int, first: int, last: int
) -> tuple[int, int]:
    """Half-open range of windows along one axis that may read an input position in [first, last].

    Windows that read nothing of the input are given to its first and last position, so that together all are covered.
    """
    o0, o1 = 0, out
    if first > 0:
        o0 = max(0, -(((kernel - 1) * dilation - first - before) // stride))
    if last < length - 1:
        o1 = min(out, (last + before) // stride + 1)
    return o0, o1
