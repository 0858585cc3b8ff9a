"""Checked values and shapes to a plan: every rule about shapes of a pooling call.

A `WindowPlan` is made once for each combination of shape and parameters and then cached; kernels and backends do no shape
arithmetic of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import gcd, prod
from typing import Any, TypeAlias

import numpy as np

from numbapool.arguments import (
    LARGEST_EXTENT,
    Extent,
    Padding,
    adaptive_sizes,
    check_extents,
    check_not_empty,
    check_rank,
    check_whole,
    per_axis,
    ratios_per_axis,
    shape_error,
    shown,
    undone_window,
    unpooled_lengths,
    window_arguments,
)
from numbapool.dtypes import smallest_unsigned
from numbapool.elements import values as values_of
from numbapool.windows import Axis, Bins, bin_end, bin_start

# min or max of two lengths; other functions where lengths are symbols.
Least: TypeAlias = Callable[[int, int], int]
# Results of up to so many elements have at most 2**63 - 1 bytes, whatever their dtype: to no library larger ones are arrays.
LARGEST_SIZE = 2**59 - 1
# A last axis of up to this length, shorter than the window, is likely to hold the channels of an image.
MOST_COLORS = 4
UNIT_AXIS = Axis(length=1, out=1, kernel=1, stride=1, dilation=1, before=0, after=0)


@dataclass(frozen=True, eq=False)  # equal arguments give the same cached plan, and identity is what hashes quickly
class Plan:
    """What a pooling call computes: leading axes, and the pooled ones."""

    leading: tuple[int, ...]
    pooled: tuple[Any, ...]
    channels: int = field(default=1, kw_only=True)  # that lie side by side in memory, behind the pooled axes

    @property
    def serves_once(self) -> bool:
        """Whether it is made for one call, and nothing about it is worth remembering."""
        return False

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return self.leading + tuple(axis.length for axis in self.pooled)

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.leading + tuple(axis.out for axis in self.pooled)

    @cached_property
    def planes(self) -> int:
        """Number of planes pooled independently: the product of the leading axes."""
        return prod(self.leading)

    @cached_property
    def plane_size(self) -> int:
        """Input elements of one plane."""
        return prod(axis.length for axis in self.pooled)

    @cached_property
    def out_plane_size(self) -> int:
        """Output elements of one plane."""
        return prod(axis.out for axis in self.pooled)

    @property
    def taps(self) -> int:
        """Elements of the largest window."""
        raise NotImplementedError

    def window(self, axis: int, number: int) -> range:
        """Where the taps of a window are along one pooled axis, in elements of the input."""
        raise NotImplementedError

    @cached_property
    def index_dtype(self) -> np.dtype[Any]:
        """The smallest unsigned dtype for positions in a window, whose largest value means none."""
        return smallest_unsigned(self.taps)

    @cached_property
    def channels_last(self) -> Plan:
        """The same for an array whose channels, the last of its leading axes, lie side by side in memory."""
        return replace(self, leading=self.leading[:-1], channels=self.leading[-1])

    @cached_property
    def in_parts(self) -> Plan:
        """The same for a complex array seen as a real one: the parts of an element lie side by side, as channels do."""
        return replace(self, channels=2 * self.channels)

    def batched(self, size: int) -> Plan:
        """The same for `size` inputs, one after the other along the first axis."""
        first, *others = self.leading
        return replace(self, leading=(size * first, *others))


@dataclass(frozen=True, eq=False)
class WindowPlan(Plan):
    """Windows of one size, a stride apart."""

    pooled: tuple[Axis, ...]

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The pooled axes as (d, h, w): unit axes in front for lower ranks."""
        return (UNIT_AXIS,) * (3 - len(self.pooled)) + self.pooled

    @cached_property
    def taps(self) -> int:
        """Elements of a window."""
        return prod(axis.kernel for axis in self.pooled)

    def window(self, axis: int, number: int) -> range:
        """Where the taps of a window are along one pooled axis; outside the input, too."""
        along = self.pooled[axis]
        start = number * along.stride - along.before
        return range(start, start + (along.kernel - 1) * along.dilation + 1, along.dilation)


@dataclass(frozen=True, eq=False)
class BinPlan(Plan):
    """Windows where a rule says: the bins of adaptive pooling, or windows of `kernel` where `samples` places them."""

    pooled: tuple[Bins, ...]
    kernel: tuple[int, ...] = ()  # none: adaptive bins
    samples: np.ndarray | None = None  # shape (planes, pooled axes)

    @property
    def serves_once(self) -> bool:
        """Whether it is made for one call, and nothing about it is worth remembering."""
        return self.samples is not None

    @cached_property
    def starts(self) -> tuple[np.ndarray, ...]:
        """Where the windows of `samples` start: for each pooled axis, shape (planes, windows)."""
        if self.samples is None:
            return ()
        return tuple(
            _fractional_starts(self.samples[:, i], axis.length, self.kernel[i], axis.out)
            for i, axis in enumerate(self.pooled)
        )

    @cached_property
    def axes(self) -> tuple[Bins, ...]:
        """The pooled axes as (d, h, w): unit axes in front for lower ranks."""
        return (Bins(1, 1),) * (3 - len(self.pooled)) + self.pooled

    @cached_property
    def taps(self) -> int:
        """Elements of the largest window."""
        return prod(self.kernel or [bin_sizes(axis)[1] for axis in self.pooled])

    def window(self, axis: int, number: int) -> range:
        """Where the elements of a window are along one pooled axis; with `samples`, of the first plane, or at 0 without planes."""
        bins = self.pooled[axis]
        if self.samples is None:
            return range(bin_start(number, *bins), bin_end(number, *bins))
        first = _fractional_starts(self.samples[:1, axis], bins.length, self.kernel[axis], bins.out, number)
        start = int(first[0, 0]) if self.planes else 0
        return range(start, start + self.kernel[axis])

    def batched(self, size: int) -> BinPlan:
        """The same for `size` inputs, one after the other along the first axis; samples are those of the first."""
        first, *others = self.leading
        samples = None if self.samples is None else np.tile(self.samples, (size, 1))
        return replace(self, leading=(size * first, *others), samples=samples)


def bin_sizes(axis: Bins) -> tuple[int, int]:
    """Elements of the smallest and of the largest bin along an axis.

    With r = i * length mod out, bin i has ceil((length + r) / out) elements, and r takes every multiple of their greatest
    common divisor below out.
    """
    length, out = axis
    return (-(-length // out), -(-(length + out - gcd(length, out)) // out)) if out else (0, 0)


def window_plan(
    shape: tuple[int, ...],
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
) -> WindowPlan:
    """The plan for pooling the last `rank` axes of an array of `shape`.

    Raises
    ------
    TypeError
        A parameter of the wrong type.
    ValueError
        A parameter out of its range, a shape of the wrong rank or with an empty axis, or an output of length below 1.
    """
    if (
        type(kernel_size) is type(padding) is type(dilation) is int
        and (stride is None or type(stride) is int)
        and type(ceil_mode) is bool
    ):
        return _plan_of_ints(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    return _window_plan(shape, *window_arguments(rank, kernel_size, stride, padding, dilation, ceil_mode))


@lru_cache(maxsize=1024)
def _plan_of_ints(
    shape: tuple[int, ...], rank: int, kernel: int, stride: int | None, padding: int, dilation: int, ceil_mode: bool
) -> WindowPlan:
    """`window_plan` where every parameter is one int for all axes: 0.3 us for a call, where tuples take 1.5."""
    kernels = (kernel,) * rank
    strides = kernels if stride is None else (stride,) * rank
    return _window_plan(shape, kernels, strides, ((padding, padding),) * rank, (dilation,) * rank, ceil_mode)


@lru_cache(maxsize=1024)
def _window_plan(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...] | str,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> WindowPlan:
    plan = WindowPlan(shape[: -len(kernel)], pooled_axes(shape, kernel, stride, padding, dilation, ceil_mode))
    if max(axis.length + axis.before + axis.after for axis in plan.pooled) > LARGEST_EXTENT:
        raise shape_error(
            f"padding must make axes of at most 2**62 elements, got padding={padding} for x of shape {shape}"
        )
    check_size(plan.out_shape, shape, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
    return plan


def check_size(out_shape: tuple[int, ...], shape: tuple[int, ...], **causes: Any) -> None:
    """Refuse an output that no memory holds; `causes` are the arguments it comes from."""
    if prod(max(length, 1) for length in out_shape) > LARGEST_SIZE:  # NumPy, too, refuses such shapes if empty
        given = ", ".join(f"{name}={shown(value)}" for name, value in causes.items())
        raise shape_error(
            f"Output size is too large: {out_shape} has more than 2**59 - 1 elements, of x of shape {shape} by {given}"
        )


def pooled_axes(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...] | str,
    dilation: tuple[int, ...],
    ceil_mode: bool,
    least: Least = min,
    greatest: Least = max,
) -> tuple[Axis, ...]:
    """The pooled axes of an array of `shape`, whose lengths may be symbols: then `least` and `greatest` take their kind."""
    rank = len(kernel)
    check_extents("kernel_size", kernel, 1, "kernel size should be greater than zero")
    check_extents("stride", stride, 1, "stride should not be zero or negative")
    check_extents("dilation", dilation, 1, "dilation should be greater than zero")
    check_rank(shape, rank, is_sliding=True)
    check_not_empty(shape, rank, "batch axis")
    lengths = shape[-rank:]
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    pads = padding_for(padding, lengths, kernel, stride, dilation, greatest)
    if not isinstance(padding, str):
        for pair in pads:
            check_extents("padding", pair, 0, "pad must be non-negative")
    if any(span > LARGEST_EXTENT for span in spans):
        raise ValueError(f"windows of kernel_size={kernel} with dilation={dilation} must span at most 2**62 elements")
    axes = tuple(
        Axis(
            length=lengths[i],
            out=output_length(lengths[i], kernel[i], stride[i], pads[i], dilation[i], ceil_mode, least, greatest),
            kernel=kernel[i],
            stride=stride[i],
            dilation=dilation[i],
            before=pads[i][0],
            after=pads[i][1],
        )
        for i in range(rank)
    )
    out_lengths = tuple(axis.out for axis in axes)
    if any(length < 1 for length in out_lengths):
        text = (
            f"Output size is too small: windows of kernel_size={kernel} with dilation={dilation} do not fit into x of shape "
            f"{shape} with padding={shown(padding)}; the pooled axes would have lengths {out_lengths}"
        )
        if rank > 1 and min(out_lengths[:-1]) > 0 and lengths[-1] <= MOST_COLORS < shape[-rank - 1]:
            text += (
                f"; the last axis, of length {lengths[-1]}, is pooled here: channels come before the pooled axes, or last "
                "with data_format='channels_last'"
            )
        raise shape_error(text)
    return axes


@lru_cache(maxsize=1024)
def _adaptive_plan(shape: tuple[int, ...], sizes: tuple[int | None, ...]) -> Plan:
    out = adaptive_lengths(shape, sizes)
    rank = len(out)
    lengths = shape[-rank:]
    check_size(shape[:-rank] + out, shape, output_size=sizes)
    bins = tuple(zip(lengths, out, strict=True))
    if all(0 < count <= length and length % count <= 1 for length, count in bins):
        # Then bins are windows of equal size and stride: start and end of bin i are i * (length // count) and that plus
        # length // count + length % count.
        return WindowPlan(
            shape[:-rank],
            tuple(
                Axis(length, count, length // count + length % count, length // count, 1, 0, 0)
                for length, count in bins
            ),
        )
    return BinPlan(shape[:-rank], tuple(Bins(*each) for each in bins))


def adaptive_plan(shape: tuple[int, ...], rank: int, output_size: Any) -> Plan:
    """The plan for adaptive pooling of the last `rank` axes of an array of `shape` to `output_size`; None keeps an axis.

    Raises
    ------
    TypeError
        An output size of the wrong type.
    ValueError
        A negative one, or a shape of the wrong rank or with an empty axis other than batch and channels.
    """
    return _adaptive_plan(shape, adaptive_sizes(rank, output_size))


def adaptive_lengths(shape: tuple[int, ...], sizes: tuple[int | None, ...]) -> tuple[int, ...]:
    """Lengths of the pooled axes of the output; lengths may be symbols."""
    rank = len(sizes)
    check_rank(shape, rank)
    check_not_empty(shape, rank, "batch and channel axes")
    given = [each for each in sizes if each is not None]
    if given:
        check_extents("output_size", given, 0, "elements of output_size must be greater than or equal to 0")
    return tuple(length if each is None else each for each, length in zip(sizes, shape[-rank:], strict=True))


def fractional_lengths(
    shape: tuple[int, ...], rank: int, kernel_size: Extent, output_size: Any, output_ratio: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Window and output lengths of fractional pooling, checked against each other.

    Raises
    ------
    TypeError
        A parameter of the wrong type.
    ValueError
        A parameter out of its range, none or both of `output_size` and `output_ratio`, or no room for the windows.
    """
    kernel = per_axis("kernel_size", kernel_size, rank)
    check_extents("kernel_size", kernel, 1, "kernel size should be greater than zero")
    check_rank(shape, rank)
    check_not_empty(shape, rank, "batch axis")
    lengths = shape[-rank:]
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"output_size or output_ratio must be given, and not both, got output_size={shown(output_size)} and "
            f"output_ratio={shown(output_ratio)}"
        )
    if output_size is not None:
        out = per_axis("output_size", output_size, rank)
    else:
        out = tuple(int(n * ratio) for n, ratio in zip(lengths, ratios_per_axis(rank, output_ratio), strict=True))
    check_extents("output_size", out, 1, "elements of output_size must be greater than 0")
    room = 1 if rank == 2 else 0  # torch's rule: in 2-d windows may lie edge to edge, in 3-d not quite
    for length, window, count in zip(lengths, kernel, out, strict=True):
        if count + window - 1 >= length + room:
            raise shape_error(
                f"output_size={out} is too large for kernel_size={kernel} on x of shape {shape}: output_size + kernel_size "
                f"- 1 must be {'at most' if room else 'less than'} the length of the axis"
            )
    return kernel, out


def fractional_plan(
    shape: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...], samples: np.ndarray
) -> BinPlan:
    """The plan for fractional pooling whose windows start where `samples`, of shape (N, C, rank) and in [0, 1), say.

    torch's rule: in 2-d the first sample is that of the width, in 3-d of the depth; arithmetic in the dtype of the samples,
    of half precision in float32.
    """
    rank = len(kernel)
    flat = _as_numbers(samples).reshape(-1, rank)
    different = flat[:1] if flat.strides[0] == 0 else flat
    if not bool(np.all((different >= 0) & (different < 1))):
        bad = different[~((different >= 0) & (different < 1))]
        raise ValueError(f"_random_samples must be in [0, 1), got {bad.flat[0]}")
    bins = tuple(Bins(*each) for each in zip(shape[-rank:], out, strict=True))
    return BinPlan(shape[:-rank], bins, kernel, flat if rank == 3 else flat[:, ::-1])


def _as_numbers(samples: np.ndarray) -> np.ndarray:
    """Samples as numbers of which there are enough: those in half precision as float32."""
    if samples.dtype.names:
        return values_of(samples)
    return samples.astype(np.float32) if samples.dtype.itemsize == 2 else samples


def _fractional_starts(
    samples: np.ndarray, length: int, kernel: int, out: int, number: int | None = None
) -> np.ndarray:
    """Where the windows of each plane start along one axis, or one of them: shape (planes, windows)."""
    numbers = np.arange(out) if number is None else np.array([number])
    starts = np.full((len(samples), len(numbers)), length - kernel, np.int64)
    if out > 1:
        scalar = samples.dtype.type
        alpha = scalar(length - kernel) / scalar(out - 1)
        steps = (numbers.astype(samples.dtype) + samples[:, None]) * alpha
        drawn = steps.astype(np.int64) - (samples * alpha).astype(np.int64)[:, None]
        np.minimum(starts, drawn, out=starts)  # float32 rounds up along axes of more than 2**24 elements
        starts[:, numbers == out - 1] = length - kernel
    return starts


def samples_shape(shape: tuple[int, ...], rank: int) -> tuple[int, int, int]:
    """The shape of the samples for an array of `shape`: one for each plane and pooled axis."""
    return shape[0] if len(shape) == rank + 2 else 1, shape[-rank - 1], rank


@lru_cache(maxsize=1024)
def whole_plan(shape: tuple[int, ...]) -> tuple[WindowPlan, tuple[int, ...]]:
    """The plan for pooling all axes but the first two, taken for one, and the shape of the output."""
    check_whole(shape)
    length = prod(shape[2:])
    return WindowPlan(shape[:2], (Axis(length, 1, length, length, 1, 0, 0),)), shape[:2] + (1,) * (len(shape) - 2)


def unpool_plan(
    shape: tuple[int, ...],
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Extent,
    output_size: Extent | None,
) -> BinPlan:
    """The plan whose *output* is unpooled: an array of `shape`, whose elements go to an input-shaped result.

    Raises
    ------
    TypeError
        A parameter of the wrong type.
    ValueError
        A parameter out of its range, a shape of the wrong rank or with an empty axis, or an output size that no pooling with
        these parameters could have had.
    """
    sizes = unpool_lengths(shape, rank, kernel_size, stride, padding, output_size)
    causes = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "output_size": output_size}
    check_size((*shape[:-rank], *sizes), shape, **causes)
    return placed_plan(shape, sizes)


@lru_cache(maxsize=1024)
def placed_plan(shape: tuple[int, ...], sizes: tuple[int, ...]) -> BinPlan:
    """The plan for an output of `shape` whose elements have their places in planes of `sizes`."""
    rank = len(sizes)
    return BinPlan(shape[:-rank], tuple(Bins(*each) for each in zip(sizes, shape[-rank:], strict=True)))


def unpooled_windows(plan: Plan, kernel_size: Extent, stride: Extent | None, padding: Extent) -> WindowPlan:
    """The plan of the pooling that is undone, whose windows say where their taps are."""
    axes = zip(plan.pooled, *undone_window(len(plan.pooled), kernel_size, stride, padding), strict=True)
    return WindowPlan(plan.leading, tuple(Axis(bins.length, bins.out, k, s, 1, p, p) for bins, k, s, p in axes))


def unpool_lengths(
    shape: tuple[int, ...],
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Extent,
    output_size: Extent | None,
) -> tuple[int, ...]:
    """Lengths of the unpooled axes: by default `(length - 1) * stride + kernel_size - 2 * padding`, at most a stride off."""
    kernel, strides, pads = undone_window(rank, kernel_size, stride, padding)
    check_extents("kernel_size", kernel, 1, "kernel size should be greater than zero")
    check_extents("stride", strides, 1, "stride should not be zero or negative")
    check_extents("padding", pads, 0, "pad must be non-negative")
    check_rank(shape, rank)
    check_not_empty(shape, rank, "batch axis")
    default = tuple((n - 1) * s + k - 2 * p for n, s, k, p in zip(shape[-rank:], strides, kernel, pads, strict=True))
    sizes = default
    if output_size is not None:
        sizes = unpooled_lengths(output_size, len(shape), rank)
        for size, usual, step in zip(sizes, default, strides, strict=True):
            if not usual - step < size < usual + step:
                raise ValueError(
                    f"output_size must be less than a stride ({strides}) from the default {default}, got {shown(sizes)}"
                )
    if min(sizes) < 1:
        raise shape_error(
            f"Output size is too small: unpooling x of shape {shape} with kernel_size={kernel}, stride={strides} and "
            f"padding={pads} gives lengths {sizes}; every one must be at least 1"
        )
    return sizes


def output_length(
    length: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    ceil_mode: bool,
    least: Least = min,
    greatest: Least = max,
) -> int:
    """Number of windows along one axis; below 1 where not even one fits.

    torch's rule (pooling_output_shape): with `ceil_mode` a last, overhanging window is kept if it starts inside the input
    or the padding before it. The lower bound by the floor result matters only for padding beyond what torch allows.
    """
    before, after = padding
    room = length + before + after - dilation * (kernel - 1) - 1
    floor_length = room // stride + 1
    if not ceil_mode:
        return floor_length
    ceil_length = -(-room // stride) + 1
    return least(ceil_length, greatest(floor_length, -(-(length + before) // stride)))


def padding_for(
    padding: tuple[tuple[int, int], ...] | str,
    lengths: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    greatest: Least = max,
) -> tuple[tuple[int, int], ...]:
    """Padding by name: 'same' makes `ceil(length / stride)` outputs, the odd element after ('same_lower': before)."""
    if not isinstance(padding, str):
        return padding
    if padding == "valid":
        return ((0, 0),) * len(lengths)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    totals = [greatest((-(-n // s) - 1) * s + span - n, 0) for n, span, s in zip(lengths, spans, stride, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return tuple((small, large) if padding == "same" else (large, small) for small, large in halves)
