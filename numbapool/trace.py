"""One input through a max and an average stage, forward and backward: what every step cost, and whether it is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import isqrt, prod
from statistics import median
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from numbapool import functional, reference
from numbapool.geometry import window_plan

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")

# How often `trace` calls its `on_step`.
STEPS = 9

# A step is timed for this long, but called this often at least and at most.
TIMED_SECONDS, FEWEST_CALLS, MOST_CALLS = 0.3, 3, 200

# Far more than any cache holds, so that the copy it is compared with runs at the speed of main memory.
COPY_BYTES = 1 << 27

# The reference needs a microsecond to list a tap of a plane, and 0.1 to visit it again in every plane: 2 to 3 s in all.
LISTED_TAPS, VISITED_TAPS = 1_500_000, 6_000_000

# Elements moved in a check by finite differences, and the length of the crop's axes, unless a window needs more.
PROBES, CROP_LENGTH = 1000, 20

# Finite differences are exact for piecewise linear operations: all there is is rounding, some 1e-16 of the gradient.
DIFFERENCE_TOLERANCE = 1e-9


class Window(NamedTuple):
    """The windows of one stage; pairs are (h, w)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def __str__(self) -> str:
        def extent(pair: tuple[int, int]) -> str:
            return str(pair[0]) if pair[0] == pair[1] else "{}x{}".format(*pair)

        return (
            "{}x{} window, stride ".format(*self.kernel_size)
            + extent(self.stride)
            + (f", padding {extent(self.padding)}" if self.padding != (0, 0) else "")
            + (f", dilation {extent(self.dilation)}" if self.dilation != (1, 1) else "")
            + (", ceil mode" if self.ceil_mode else "")
        )


@dataclass(frozen=True)
class Step:
    """What one operation did and what it cost.

    The bytes are those of its arrays, each element counted once, which is the least it can move. `copy_fraction` is its
    speed in units of the speed of a copy, which also reads and writes.
    """

    name: str
    what: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    bytes_read: int
    bytes_written: int
    first_call_s: float
    median_s: float
    gb_per_s: float
    copy_fraction: float


@dataclass(frozen=True)
class Check:
    """The largest error found on `extent`, which part of the data it is, and whether it is within the tolerance."""

    name: str
    against: str
    extent: str
    error: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class Trace:
    """What `trace` found. `gradient` is that of the sum of `averages` with respect to `x`."""

    x: Array
    maxima: Array
    averages: Array
    gradient: Array
    threads: int
    copy_gb_per_s: float
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def check_arguments(x: Array, max_window: Window, avg_window: Window) -> None:
    """Raise what is wrong with the arguments of `trace`, before it takes any time.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d` and `avg_pool2d` do, after the name of the stage.
    """
    no_batch = np.empty((0, 1, 1, 1), x.dtype)  # for its dtype: nothing is compiled or computed for an empty batch
    stage = "max"
    try:
        plan = window_plan(x.shape, 2, *max_window)
        functional.max_pool2d(no_batch, 1)
        stage = "average"
        window_plan(plan.out_shape, 2, *avg_window)
        functional.avg_pool2d(no_batch, 1)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{stage} stage: {error}") from error


def trace(
    x: Array, max_window: Window, avg_window: Window, on_step: Callable[[str], None] = lambda name: None
) -> Trace:
    """Pool the maxima of `x`, average them, take the gradient back to `x`, and check each operation.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Floats or integers. The gradient of integers is taken at their values in float64.
    max_window, avg_window : Window
        Of the two stages.
    on_step : callable
        Told the name of each of the `STEPS` steps when it begins.
    """
    import numba

    on_step("copy bandwidth")
    threads = numba.get_num_threads()
    copy_gb_per_s = _copy_gb_per_s(threads)
    steps: list[Step] = []

    def step(name: str, what: str, read: Sequence[Array], call: Callable[..., Array]) -> Array:
        on_step(name)
        out, first_call_s, median_s = _timed(call)
        bytes_read = sum(array.nbytes for array in read)
        gb_per_s = (bytes_read + out.nbytes) / median_s / 1e9
        shape_in = read[0].shape
        fraction = gb_per_s / copy_gb_per_s
        steps.append(
            Step(name, what, shape_in, out.shape, bytes_read, out.nbytes, first_call_s, median_s, gb_per_s, fraction)
        )
        return out

    max_arguments, avg_arguments = max_window._asdict(), avg_window._asdict()
    maxima = step(
        "max_pool2d", f"largest of each {max_window}", [x], partial(functional.max_pool2d, x, **max_arguments)
    )
    averages = step(
        "avg_pool2d", f"mean of each {avg_window}", [maxima], partial(functional.avg_pool2d, maxima, **avg_arguments)
    )
    real_x, real_maxima = (a if a.dtype.kind == "f" else a.astype(np.float64) for a in (x, maxima))
    ones = np.ones(averages.shape, real_x.dtype)
    maxima_gradient = step(
        "avg_pool2d_backward",
        "each average's gradient, 1, spread over its window",
        [ones],
        partial(functional.avg_pool2d_backward, ones, real_maxima, **avg_arguments),
    )
    gradient = step(
        "max_pool2d_backward",
        "each maximum's gradient, handed to where it came from",
        [maxima_gradient, real_x],
        partial(functional.max_pool2d_backward, maxima_gradient, real_x, **max_arguments),
    )

    checks: list[Check] = []
    on_step("max_pool2d against the reference")
    checks += _check_max(x, maxima, max_window)
    on_step("avg_pool2d against the reference")
    checks.append(_check_avg(maxima, averages, avg_window))
    on_step("max_pool2d_backward by finite differences")
    checks.append(_check_max_backward(x, max_window))
    on_step("avg_pool2d_backward by finite differences")
    checks.append(_check_avg_backward(maxima, avg_window))
    return Trace(x, maxima, averages, gradient, threads, copy_gb_per_s, tuple(steps), tuple(checks))


def _copy_gb_per_s(threads: int) -> float:
    """Bytes read and written by a copy in main memory, on as many threads as numbapool uses."""
    # Not np.zeros: its pages are all the same physical page until they are written to, and reading them costs nothing.
    source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
    targets, sources = np.array_split(target, threads), np.array_split(source, threads)
    with ThreadPoolExecutor(threads) as pool:

        def copy(out: object) -> None:
            for _ in pool.map(np.copyto, targets, sources):
                pass

        _, _, seconds = _timed(copy)
    return 2 * COPY_BYTES / seconds / 1e9


def _timed(call: Callable[..., T]) -> tuple[T, float, float]:
    """What `call(out=None)` returns, its seconds, and the median seconds of the calls after it.

    Those have `out`, so that page faults in fresh memory are not timed: they can cost more than pooling.
    """
    begin = time.perf_counter()
    result = call(out=None)
    first = time.perf_counter() - begin
    seconds: list[float] = []
    while len(seconds) < FEWEST_CALLS or (sum(seconds) < TIMED_SECONDS and len(seconds) < MOST_CALLS):
        begin = time.perf_counter()
        call(out=result)
        seconds.append(time.perf_counter() - begin)
    return result, first, median(seconds)


def _check_max(x: Array, maxima: Array, window: Window) -> list[Check]:
    """Values and indices, which have to be exactly the reference's."""
    sample, extent = _reference_sample(x, maxima, window)
    arguments = window._asdict()
    actual, actual_indices = functional.max_pool2d(sample, return_indices=True, **arguments)
    expected, expected_indices = reference.max_pool(sample, **arguments)
    return [
        _check("max_pool2d", "reference", extent, _largest_error(actual, expected), 0.0),
        _check("max_pool2d indices", "reference", extent, _largest_error(actual_indices, expected_indices), 0.0),
    ]


def _check_avg(x: Array, averages: Array, window: Window) -> Check:
    """Integers exactly; floats up to the rounding of a sum of a window's elements, added one by one."""
    sample, extent = _reference_sample(x, averages, window)
    arguments = window._asdict()
    actual = functional.avg_pool2d(sample, **arguments)
    tolerance = 0.0
    if x.dtype.kind == "f":
        largest = np.abs(sample).max(initial=0, where=np.isfinite(sample))
        tolerance = prod(window.kernel_size) * float(np.finfo(x.dtype).eps) * float(largest)
    expected = reference.avg_pool(sample, **arguments)
    return _check("avg_pool2d", "reference", extent, _largest_error(actual, expected), tolerance)


def _check_max_backward(x: Array, window: Window) -> Check:
    # Elements of the crop differ by 1 or more: steps of a quarter never change which one is the largest.
    crop = _tie_free_crop(x, window)
    error = _difference_error(functional.max_pool2d, functional.max_pool2d_backward, crop, window, step=0.25)
    return _check("max_pool2d_backward", "differences", str(crop.shape), error, DIFFERENCE_TOLERANCE)


def _check_avg_backward(x: Array, window: Window) -> Check:
    # The average is linear: a step may have any length, and a long one leaves the least rounding.
    crop = _tie_free_crop(x, window)
    error = _difference_error(
        functional.avg_pool2d, functional.avg_pool2d_backward, crop, window, step=float(crop.size)
    )
    return _check("avg_pool2d_backward", "differences", str(crop.shape), error, DIFFERENCE_TOLERANCE)


def _reference_sample(x: Array, out: Array, window: Window) -> tuple[Array, str]:
    """As much of `x` as the reference can pool in a few seconds, (planes, H, W), and how much that is."""
    taps = prod(window.kernel_size)
    listed = taps * prod(out.shape[-2:])
    height, width = x.shape[-2:]
    if listed > LISTED_TAPS:
        windows = max(isqrt(LISTED_TAPS // taps), 1)
        height, width = (min(n, windows * s + span) for n, s, span in _along(x, window))
        listed = taps * windows**2
    sample = x.reshape(-1, *x.shape[-2:])[: max(VISITED_TAPS // listed, 1), :height, :width]
    return sample, "all" if sample.size == x.size else str(sample.shape)


def _tie_free_crop(x: Array, window: Window) -> Array:
    """The ranks of the elements in a corner of `x`, in float64: the order of the data, but all different.

    Where equal elements share the maximum of a window it has no derivative, and photographs are full of them. Ties are
    ranked at random, so that the winner may lie anywhere in its window.
    """
    height, width = (min(n, max(CROP_LENGTH, span + 2 * s)) for n, s, span in _along(x, window))
    crop = x.reshape(-1, *x.shape[-2:])[:2, :height, :width]
    order = np.lexsort((np.random.default_rng(0).permutation(crop.size), crop.ravel()))
    ranks = np.empty(crop.size)
    ranks[order] = np.arange(crop.size)
    return ranks.reshape(crop.shape)


def _along(x: Array, window: Window) -> list[tuple[int, int, int]]:
    """Length, stride and span of a window along each pooled axis."""
    spans = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.kernel_size, strict=True)]
    return list(zip(x.shape[-2:], window.stride, spans, strict=True))


def _difference_error(
    forward: Callable[..., Array], backward: Callable[..., Array], x: Array, window: Window, step: float
) -> float:
    """Largest error of the gradient of a random weighting of the outputs, over the largest gradient there is."""
    random = np.random.default_rng(0)
    arguments = window._asdict()
    weights = random.standard_normal(forward(x, **arguments).shape)
    positions = random.permutation(x.size)[:PROBES]
    numeric = np.empty(positions.size)
    for i, position in enumerate(positions):
        moved = x.copy()
        moved.flat[position] = x.flat[position] + step
        above = forward(moved, **arguments)
        moved.flat[position] = x.flat[position] - step
        below = forward(moved, **arguments)
        numeric[i] = ((above - below) * weights).sum() / (2 * step)
    analytic = backward(weights, x, **arguments).flat[positions]
    return float(np.abs(analytic - numeric).max() / (np.abs(numeric).max() or 1.0))


def _largest_error(actual: Array, expected: Array) -> float:
    """Largest difference of two arrays of one shape; nothing between NaN and NaN, NaN between NaN and a number."""
    differ = (actual != expected) & ~(np.isnan(actual) & np.isnan(expected))
    if not differ.any():
        return 0.0
    return float(np.abs(actual[differ].astype(np.float64) - expected[differ].astype(np.float64)).max())


def _check(name: str, against: str, extent: str, error: float, tolerance: float) -> Check:
    return Check(name, against, extent, error, tolerance, passed=error <= tolerance)
