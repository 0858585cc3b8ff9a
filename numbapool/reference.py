"""The definition of every operation in plain Python, at any number of pooled axes: tests and `trace` judge by it.

NumPy only holds the arrays. Every window is a list of taps and every result one visit of that list, so that a reader
can check a rule by eye. Nothing here is fast, shared with the engine, or checked: arguments are taken to be good.

Arguments mean the same in every function:

x : array, shape (..., length of each pooled axis)
    The last `rank` axes are pooled; any number of axes before them is left alone.
kernel_size, stride, dilation : int or one int per pooled axis
    In elements; `stride` defaults to `kernel_size`.
padding : int, one int per axis, one pair (before, after) per axis, 'same', 'same_lower' or 'valid'
    'same' makes ceil(length / stride) windows, an odd element of padding behind ('same_lower': in front).
ceil_mode : bool
    Keep a last window that overhangs the padding.
rank : int
    Number of pooled axes; the length of `kernel_size` says it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Ints: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int] | Sequence[tuple[int, int]]


class Window(NamedTuple):
    """One window: the number of its taps in the padded input, and the flat positions of those in the input itself."""

    taps: int
    inside: list[int]


def max_pool(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    rank: int | None = None,
) -> tuple[Array, Array]:
    """Maximum over sliding windows, and where it was found.

    Returns
    -------
    out : array, dtype of `x`
        A window without input gives -inf, the minimum of an integer dtype, or False.
    indices : int64 array, shape of `out`
        Flat position in the input plane: the first of equal elements, but the last NaN; -1 for a window without input.

    Examples
    --------
    >>> image = np.array([[1, 3, 2, 4, 6, 8],
    ...                   [5, 6, 7, 8, 9, 10],
    ...                   [4, 3, 2, 1, 0, 1],
    ...                   [7, 8, 9, 10, 11, 12],
    ...                   [6, 5, 4, 3, 2, 1],
    ...                   [0, 1, 2, 3, 4, 5]])
    >>> out, indices = max_pool(image, (2, 2))
    >>> out
    array([[ 6,  8, 10],
           [ 8, 10, 12],
           [ 6,  4,  5]])
    >>> indices
    array([[ 7,  9, 11],
           [19, 21, 23],
           [24, 26, 35]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    maxima: list[Any] = []
    indices: list[int] = []
    for plane in _planes(x, plane_shape):
        for window in windows:
            best, index = _lowest(x.dtype), -1
            for position in window.inside:
                value = plane[position]
                if index == -1 or value > best or value != value:
                    best, index = value, position
            maxima.append(best)
            indices.append(index)
    shape = _leading(x, plane_shape) + out_shape
    return _array(maxima, x.dtype, shape), _array(indices, np.dtype(np.int64), shape)


def max_pool_backward(
    grad_output: Array,
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    indices: Array | None = None,
    rank: int | None = None,
) -> Array:
    """Gradient of `max_pool`: every output hands its gradient to the input element at its index, if it has one.

    Returns
    -------
    grad_input : array, shape and dtype of `x`
        Summed exactly and rounded. Without `indices` they are those of `max_pool`.

    Examples
    --------
    >>> x = np.array([[1.0, 4.0, 2.0, 0.0]])
    >>> max_pool_backward(np.array([[10.0, 20.0, 30.0]]), x, (2,), 1)
    array([[ 0., 30., 30.,  0.]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    if indices is None:
        _, indices = max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, rank=rank)
    out_shape = indices.shape[-len(plane_shape) :]
    grad_input: list[float] = []
    for gradients, targets in zip(_planes(grad_output, out_shape), _planes(indices, out_shape)):
        shares: list[list[float]] = [[] for _ in range(math.prod(plane_shape))]
        for gradient, target in zip(gradients, targets):
            if target != -1:
                shares[target].append(gradient)
        grad_input.extend(_sum(share) for share in shares)
    return _array(grad_input, x.dtype, x.shape)


def avg_pool(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
    rank: int | None = None,
) -> Array:
    """Average over sliding windows.

    The sum of a window's elements is divided by `divisor_override` if given, else by the number of its taps; those in
    the padding count with `count_include_pad`, those beyond it never do. Floats are summed exactly and rounded;
    integers are summed in 64 bits, divided towards zero and wrapped to the dtype.

    Returns
    -------
    out : array, dtype of `x`
        A window without input gives 0.

    Examples
    --------
    >>> image = np.array([[1.0, 3.0, 2.0, 4.0],
    ...                   [5.0, 6.0, 7.0, 8.0]])
    >>> avg_pool(image, (2, 2))
    array([[3.75, 5.25]])
    >>> avg_pool(image, (2, 2), padding=((1, 0), (0, 0)), count_include_pad=False)
    array([[2., 3.]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    averages: list[Any] = []
    for plane in _planes(x, plane_shape):
        for window in windows:
            values = [plane[position] for position in window.inside]
            if not values:
                averages.append(0)
            elif x.dtype.kind in "iu":
                total = _wrap(sum(values), np.dtype(np.uint64 if x.dtype.kind == "u" else np.int64))
                averages.append(_wrap(_divide(total, _divisor(window, count_include_pad, divisor_override)), x.dtype))
            else:
                averages.append(_sum(values) / _divisor(window, count_include_pad, divisor_override))
    return _array(averages, x.dtype, _leading(x, plane_shape) + out_shape)


def avg_pool_backward(
    grad_output: Array,
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Ints = 1,
    rank: int | None = None,
) -> Array:
    """Gradient of `avg_pool`: every output hands its gradient, over its divisor, to each of its input elements.

    Returns
    -------
    grad_input : array, shape and dtype of `x`
        Summed exactly and rounded.

    Examples
    --------
    >>> x = np.array([[1.0, 4.0, 2.0, 0.0]])
    >>> avg_pool_backward(np.array([[10.0, 20.0, 30.0]]), x, (2,), 1)
    array([[ 5., 15., 25., 15.]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    grad_input: list[float] = []
    for gradients in _planes(grad_output, out_shape):
        shares: list[list[float]] = [[] for _ in range(math.prod(plane_shape))]
        for gradient, window in zip(gradients, windows):
            for position in window.inside:
                shares[position].append(gradient / _divisor(window, count_include_pad, divisor_override))
        grad_input.extend(_sum(share) for share in shares)
    return _array(grad_input, x.dtype, x.shape)


def _windows(
    plane_shape: tuple[int, ...],
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    dilation: Ints,
    ceil_mode: bool,
) -> tuple[tuple[int, ...], list[Window]]:
    """Shape of an output plane, and its windows in row-major order."""
    rank = len(plane_shape)
    kernel_size = _per_axis(kernel_size, rank)
    axes = [
        _axis_windows(*arguments, ceil_mode)
        for arguments in zip(
            plane_shape,
            kernel_size,
            kernel_size if stride is None or stride == () else _per_axis(stride, rank),
            [padding] * rank if isinstance(padding, str) else _per_axis(padding, rank),
            _per_axis(dilation, rank),
        )
    ]
    windows = [
        Window(
            taps=math.prod(len(taps) for taps in window),
            inside=[
                _flat(tap, plane_shape)
                for tap in product(*window)
                if all(0 <= place < length for place, length in zip(tap, plane_shape))
            ],
        )
        for window in product(*axes)
    ]
    return tuple(len(axis) for axis in axes), windows


def _axis_windows(
    length: int, kernel: int, stride: int, padding: int | str | tuple[int, int], dilation: int, ceil_mode: bool
) -> list[list[int]]:
    """Where the taps of every window lie along one axis, padding included; the input is at 0, ..., length - 1.

    The number of windows is torch's (pooling_output_shape): as many as fit, and with `ceil_mode` one more that
    overhangs the padding behind, if it starts in the input or in the padding in front.
    """
    span = dilation * (kernel - 1) + 1
    if isinstance(padding, str):
        count = -(-length // stride)
        total = 0 if padding == "valid" else max((count - 1) * stride + span - length, 0)
        before = (total + 1) // 2 if padding == "same_lower" else total // 2
        after = total - before
    else:
        before, after = (padding, padding) if isinstance(padding, int) else padding
    room = before + length + after - span
    count = fitting = room // stride + 1
    if ceil_mode and room % stride != 0 and fitting * stride < before + length:
        count = fitting + 1
    if count < 1:
        raise ValueError("Output size is too small")
    starts = [window * stride - before for window in range(count)]
    return [[start + t * dilation for t in range(kernel) if start + t * dilation < length + after] for start in starts]


def _plane_shape(x: Array, kernel_size: Ints, rank: int | None) -> tuple[int, ...]:
    """Lengths of the pooled axes."""
    if rank is None:
        if isinstance(kernel_size, int):
            raise TypeError("give rank, or one kernel_size for each pooled axis")
        rank = len(kernel_size)
    return x.shape[x.ndim - rank :]


def _leading(x: Array, plane_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the axes that are not pooled."""
    return x.shape[: x.ndim - len(plane_shape)]


def _planes(x: Array, plane_shape: tuple[int, ...]) -> list[list[Any]]:
    """Every plane of `x` as a flat list of Python numbers."""
    planes: list[list[Any]] = x.reshape(-1, math.prod(plane_shape)).tolist()
    return planes


def _array(values: list[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    with np.errstate(over="ignore"):  # a float beyond the dtype's largest is inf
        return np.array(values, dtype).reshape(shape)


def _per_axis(value: Any, rank: int) -> tuple[Any, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _flat(position: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Row-major index of `position` in an array of `shape`."""
    flat = 0
    for place, length in zip(position, shape):
        flat = flat * length + place
    return flat


def _lowest(dtype: np.dtype[Any]) -> Any:
    """The value of a maximum over nothing."""
    if dtype.kind == "b":
        return False
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _divisor(window: Window, count_include_pad: bool, divisor_override: int | None) -> int:
    if divisor_override is not None:
        return divisor_override
    return window.taps if count_include_pad else len(window.inside)


def _sum(values: Iterable[float]) -> float:
    """The exact sum, rounded once; where that is not finite, what adding up in order gives."""
    values = list(values)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # a partial sum beyond the largest float; inf - inf
        return sum(values, 0.0)


def _divide(dividend: int, divisor: int) -> int:
    """Division of integers towards zero, as in C."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _wrap(value: int, dtype: np.dtype[Any]) -> int:
    """The value of `dtype` that equals `value` modulo 2**bits."""
    lowest = int(np.iinfo(dtype).min)
    return (value - lowest) % (1 << 8 * dtype.itemsize) + lowest
