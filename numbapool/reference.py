"""The definition of every operation in plain Python, at any number of pooled axes: tests and `trace` judge by it.

NumPy only holds the arrays. Every window is a list of taps and every result one visit of that list, so that a reader
can check a rule by eye. Nothing here is fast, shared with the engine, or checked: arguments are taken to be good.

The real and the imaginary parts of complex arrays are pooled on their own (sums and means take them).

Arguments mean the same in every function:

x : array, shape (..., length of each pooled axis)
    The last `rank` axes are pooled; any number of axes before them is left alone.
kernel_size, stride, dilation : int or one int per pooled axis
    In elements; `stride` defaults to `kernel_size`. A sequence of one int counts for every axis, here and below.
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
from fractions import Fraction
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
    return scatter(grad_output, indices, x.shape, len(plane_shape), x.dtype)


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
    rounding: str = "truncate",
    rank: int | None = None,
) -> Array:
    """Average over sliding windows.

    The sum of a window's elements is divided by `divisor_override` if given, else by the number of its taps; those in
    the padding count with `count_include_pad`, those beyond it never do. Floats are summed exactly and rounded;
    integers are summed in 64 bits, divided as `rounding` says ('truncate': towards zero; 'nearest': halves to the even
    integer) and wrapped to the dtype.

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
    >>> halves = np.array([[-3, -4, 2, 3, 3, 4]])
    >>> avg_pool(halves, (2,)), avg_pool(halves, (2,), rounding="nearest")
    (array([[-3,  2,  3]]), array([[-4,  2,  4]]))
    >>> avg_pool(np.array([[1 + 2j, 3 - 4j]]), (2,))
    array([[2.-1.j]])
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
                divisor = _divisor(window, count_include_pad, divisor_override)
                averages.append(_wrap(_divide(total, divisor, rounding), x.dtype))
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


def min_pool(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    rank: int | None = None,
) -> tuple[Array, Array]:
    """Minimum over sliding windows, and where it was found.

    Returns
    -------
    out : array, dtype of `x`
        A window without input gives inf, the maximum of an integer dtype, or True.
    indices : int64 array, shape of `out`
        Flat position in the input plane: the first of equal elements, but the last NaN; -1 for a window without input.

    Examples
    --------
    >>> out, indices = min_pool(np.array([[3, 1, 2, 2]]), (2,))
    >>> out, indices
    (array([[1, 2]]), array([[1, 2]]))
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    minima: list[Any] = []
    indices: list[int] = []
    for plane in _planes(x, plane_shape):
        for window in windows:
            best, index = _highest(x.dtype), -1
            for position in window.inside:
                value = plane[position]
                if index == -1 or value < best or value != value:
                    best, index = value, position
            minima.append(best)
            indices.append(index)
    shape = _leading(x, plane_shape) + out_shape
    return _array(minima, x.dtype, shape), _array(indices, np.dtype(np.int64), shape)


def min_pool_backward(
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
    """Gradient of `min_pool`: every output hands its gradient to the input element at its index, if it has one.

    Examples
    --------
    >>> x = np.array([[1.0, 4.0, 2.0, 0.0]])
    >>> min_pool_backward(np.array([[10.0, 20.0, 30.0]]), x, (2,), 1)
    array([[10.,  0., 20., 30.]])
    """
    if indices is None:
        _, indices = min_pool(x, kernel_size, stride, padding, dilation, ceil_mode, rank=rank)
    return scatter(grad_output, indices, x.shape, len(_plane_shape(x, kernel_size, rank)), x.dtype)


def sum_pool(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    rank: int | None = None,
) -> Array:
    """Sum over sliding windows; floats exactly and rounded, integers in 64 bits that wrap.

    Returns
    -------
    out : array, dtype of `numpy.sum(x)`
        A window without input gives 0.

    Examples
    --------
    >>> sum_pool(np.array([[3, 1, 2, 2]]), (2,))
    array([[4, 4]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    is_integer = x.dtype.kind in "biu"
    dtype = np.dtype(np.uint64 if x.dtype.kind == "u" else np.int64) if is_integer else x.dtype
    sums: list[Any] = []
    for plane in _planes(x, plane_shape):
        for window in windows:
            values = [plane[position] for position in window.inside]
            sums.append(_wrap(sum(values), dtype) if is_integer else _sum(values))
    return _array(sums, dtype, _leading(x, plane_shape) + out_shape)


def sum_pool_backward(
    grad_output: Array,
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    rank: int | None = None,
) -> Array:
    """Gradient of `sum_pool`: every output hands its gradient to each of its input elements.

    Examples
    --------
    >>> sum_pool_backward(np.array([[10.0, 20.0, 30.0]]), np.zeros((1, 4)), (2,), 1)
    array([[10., 30., 50., 30.]])
    """
    return avg_pool_backward(
        grad_output, x, kernel_size, stride, padding, ceil_mode, True, 1, dilation=dilation, rank=rank
    )


def lp_pool(
    x: Array,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Ints = 1,
    true_norm: bool = False,
    rank: int | None = None,
) -> Array:
    """Norm over sliding windows, `(sum |x|^p)^(1/p)`, or torch's power mean `(mean(x^p) * K)^(1/p)`, K being a whole window.

    For p = infinity it is the largest magnitude. A window without input gives 0.

    Examples
    --------
    >>> lp_pool(np.array([[3.0, 4.0]]), 2, (2,))
    array([[5.]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    whole = math.prod(_per_axis(kernel_size, len(plane_shape)))
    norms = []
    for plane in _planes(x, plane_shape):
        for window in windows:
            values = [plane[position] for position in window.inside]
            norms.append(_norm(values, norm_type, 1.0 if true_norm else whole / max(window.taps, 1), true_norm)[0])
    return _array(norms, x.dtype, _leading(x, plane_shape) + out_shape)


def lp_pool_backward(
    grad_output: Array,
    x: Array,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Ints = 1,
    true_norm: bool = False,
    rank: int | None = None,
) -> Array:
    """Gradient of `lp_pool`; 0 from windows whose norm is 0, and for p = infinity to the first largest magnitude.

    A window that hands on 0, because its gradient is 0 or its norm infinite, does so whatever the slope of an element. Of a
    true norm the gradient is 0 for elements that are 0, as in torch.linalg.vector_norm.

    Examples
    --------
    >>> lp_pool_backward(np.array([[5.0]]), np.array([[3.0, 4.0]]), 2, (2,))
    array([[3., 4.]])
    """
    plane_shape = _plane_shape(x, kernel_size, rank)
    if norm_type == math.inf:
        arguments = kernel_size, stride, padding, dilation, ceil_mode
        grad_input = max_pool_backward(grad_output, np.abs(x), *arguments, rank=rank)
        with np.errstate(invalid="ignore"):  # infinity times the sign of 0
            return np.where((grad_input == 0) | (x == 0), x.dtype.type(0), grad_input * np.sign(x))
    out_shape, windows = _windows(plane_shape, kernel_size, stride, padding, dilation, ceil_mode)
    whole = math.prod(_per_axis(kernel_size, len(plane_shape)))
    slopes: list[float] = []
    for plane, gradients in zip(_planes(x, plane_shape), _planes(grad_output, out_shape)):
        shares: list[list[float]] = [[] for _ in plane]
        for gradient, window in zip(gradients, windows):
            values = [plane[position] for position in window.inside]
            scale = 1.0 if true_norm else whole / max(window.taps, 1)
            _, total = _norm(values, norm_type, scale, true_norm)
            for position, value in zip(window.inside, values):
                if total != 0:
                    if true_norm:  # a magnitude has a corner at 0, where its slope is taken for 0
                        slope = float(np.sign(value)) * _power(abs(value), norm_type - 1) if value != 0 else 0.0
                    else:
                        slope = _power(value, norm_type - 1)
                    share = gradient * _power(total, 1 / norm_type - 1) * scale
                    shares[position].append(share * slope if share != 0 else 0.0)
        slopes.extend(_sum(share) for share in shares)
    return _array(slopes, x.dtype, x.shape)


def adaptive_max_pool(x: Array, output_size: Any, *, rank: int) -> tuple[Array, Array]:
    """Maximum over bins, and where it was found: bin i of O over L elements is floor(i L / O), ..., ceil((i + 1) L / O) - 1.

    Examples
    --------
    >>> adaptive_max_pool(np.array([[1, 3, 2, 5, 4]]), 2, rank=1)
    (array([[3, 5]]), array([[1, 3]]))
    """
    out_shape, bins = _bins(x, output_size, rank)
    return _maxima(x, out_shape, [bins] * len(_planes(x, x.shape[-rank:])), rank)


def adaptive_max_pool_backward(
    grad_output: Array, x: Array, output_size: Any, *, indices: Array | None = None, rank: int
) -> Array:
    """Gradient of `adaptive_max_pool`.

    Examples
    --------
    >>> adaptive_max_pool_backward(np.array([[1.0, 2.0]]), np.array([[1.0, 3.0, 2.0]]), 2, rank=1)
    array([[0., 3., 0.]])
    """
    if indices is None:
        _, indices = adaptive_max_pool(x, output_size, rank=rank)
    return scatter(grad_output, indices, x.shape, rank, x.dtype)


def adaptive_avg_pool(x: Array, output_size: Any, *, rounding: str = "truncate", rank: int) -> Array:
    """Mean over bins, see `adaptive_max_pool`; integers are divided as in `avg_pool`.

    Examples
    --------
    >>> adaptive_avg_pool(np.array([[1.0, 3.0, 2.0, 5.0, 5.0]]), 2, rank=1)
    array([[2., 4.]])
    """
    out_shape, bins = _bins(x, output_size, rank)
    means: list[Any] = []
    for plane in _planes(x, x.shape[-rank:]):
        for positions in bins:
            values = [plane[position] for position in positions]
            if x.dtype.kind in "iu":
                total = _wrap(sum(values), np.dtype(np.uint64 if x.dtype.kind == "u" else np.int64))
                means.append(_divide(total, len(values), rounding))
            else:
                means.append(_sum(values) / len(values))
    return _array(means, x.dtype, x.shape[: x.ndim - rank] + out_shape)


def adaptive_avg_pool_backward(grad_output: Array, x: Array, output_size: Any, *, rank: int) -> Array:
    """Gradient of `adaptive_avg_pool`: every output hands its gradient, over the size of its bin, to each element there.

    Examples
    --------
    >>> adaptive_avg_pool_backward(np.array([[4.0, 6.0]]), np.zeros((1, 3)), 2, rank=1)
    array([[2., 5., 3.]])
    """
    out_shape, bins = _bins(x, output_size, rank)
    grad_input: list[float] = []
    for gradients in _planes(grad_output, out_shape):
        shares: list[list[float]] = [[] for _ in range(math.prod(x.shape[-rank:]))]
        for gradient, positions in zip(gradients, bins):
            for position in positions:
                shares[position].append(gradient / len(positions))
        grad_input.extend(_sum(share) for share in shares)
    return _array(grad_input, x.dtype, x.shape)


def fractional_max_pool(
    x: Array, kernel_size: Ints, output_size: Ints, samples: Array, *, rank: int
) -> tuple[Array, Array]:
    """Maximum over windows that start at `trunc((i + u) a) - trunc(u a)`, the last one at L - k; a = (L - k) / (O - 1).

    `samples`, of shape (planes, rank), hold u for each plane: in 2-d that of the last axis first, in 3-d that of the first.
    Arithmetic is in their dtype, of half precision in float32; none starts behind L - k.

    Examples
    --------
    >>> fractional_max_pool(np.array([[[1, 2, 3], [4, 9, 6], [7, 8, 5]]]), 2, 1, np.array([[0.5, 0.5]]), rank=2)
    (array([[[9]]]), array([[[4]]]))
    """
    lengths, kernel, out = x.shape[-rank:], _per_axis(kernel_size, rank), _per_axis(output_size, rank)
    samples = samples.astype(np.float32) if samples.dtype.itemsize == 2 else samples
    windows = []
    for plane_samples in samples.reshape(-1, rank):
        ordered = plane_samples if rank == 3 else plane_samples[::-1]
        axes = []
        for length, k, count, u in zip(lengths, kernel, out, ordered):
            scalar = samples.dtype.type
            alpha = scalar(length - k) / scalar(count - 1) if count > 1 else scalar(0)
            starts = [int((scalar(i) + u) * alpha) - int(u * alpha) for i in range(count - 1)] + [length - k]
            axes.append([range(start, start + k) for start in (min(start, length - k) for start in starts)])
        windows.append([[_flat(tap, lengths) for tap in product(*window)] for window in product(*axes)])
    return _maxima(x, tuple(out), windows, rank)


def max_unpool(x: Array, indices: Array, lengths: tuple[int, ...]) -> Array:
    """Each element where its index says, in planes of `lengths`; the last of those with the same index, and 0 elsewhere.

    Examples
    --------
    >>> max_unpool(np.array([[5, 6, 7]]), np.array([[1, 3, 1]]), (4,))
    array([[0, 7, 0, 6]])
    """
    rank = len(lengths)
    places: list[Any] = []
    for values, targets in zip(_planes(x, x.shape[-rank:]), _planes(indices, x.shape[-rank:])):
        plane = [0] * math.prod(lengths)
        for value, target in zip(values, targets):
            plane[target] = value
        places.extend(plane)
    return _array(places, x.dtype, x.shape[: x.ndim - rank] + lengths)


def max_unpool_backward(grad_output: Array, x: Array, indices: Array, lengths: tuple[int, ...]) -> Array:
    """Gradient of `max_unpool`: each element takes that of the place it went to, also where another overwrote it.

    Examples
    --------
    >>> gradients = np.array([[1.0, 2.0, 3.0, 4.0]])
    >>> max_unpool_backward(gradients, np.zeros((1, 3)), np.array([[1, 3, 1]]), (4,))
    array([[2., 4., 2.]])
    """
    rank = len(lengths)
    taken = [
        plane[target]
        for plane, targets in zip(_planes(grad_output, lengths), _planes(indices, x.shape[-rank:]))
        for target in targets
    ]
    return _array(taken, x.dtype, x.shape)


def scatter(grad_output: Array, indices: Array, shape: tuple[int, ...], rank: int, dtype: Any) -> Array:
    """Every gradient added to the element of an array of `shape` that its index names, unless that is -1.

    Examples
    --------
    >>> scatter(np.array([[1.0, 2.0, 4.0]]), np.array([[1, -1, 1]]), (1, 3), 1, float)
    array([[0., 5., 0.]])
    """
    out_shape = indices.shape[-rank:]
    sums: list[float] = []
    for gradients, targets in zip(_planes(grad_output, out_shape), _planes(indices, out_shape)):
        shares: list[list[float]] = [[] for _ in range(math.prod(shape[-rank:]))]
        for gradient, target in zip(gradients, targets):
            if target != -1:
                shares[target].append(gradient)
        sums.extend(_sum(share) for share in shares)
    return _array(sums, np.dtype(dtype), shape)


def _maxima(x: Array, out_shape: tuple[int, ...], windows: list[list[list[int]]], rank: int) -> tuple[Array, Array]:
    """Maxima and their positions, over the windows of each plane."""
    maxima: list[Any] = []
    indices: list[int] = []
    for plane, own in zip(_planes(x, x.shape[-rank:]), windows, strict=True):
        for positions in own:
            index = positions[0]
            for position in positions:
                value, best = plane[position], plane[index]
                if value > best or value != value:
                    index = position
            maxima.append(plane[index])
            indices.append(index)
    shape = x.shape[: x.ndim - rank] + out_shape
    return _array(maxima, x.dtype, shape), _array(indices, np.dtype(np.int64), shape)


def _bins(x: Array, output_size: Any, rank: int) -> tuple[tuple[int, ...], list[list[int]]]:
    """Shape of an output plane of adaptive pooling, and the flat positions in each of its bins."""
    lengths = x.shape[-rank:]
    out = tuple(length if size is None else size for size, length in zip(_per_axis(output_size, rank), lengths))
    axes = [
        [range(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        for length, count in zip(lengths, out)
    ]
    return out, [[_flat(tap, lengths) for tap in product(*taps)] for taps in product(*axes)]


def _norm(values: list[float], p: float, scale: float, is_norm: bool) -> tuple[float, float]:
    """Norm, or power mean, of the elements of a window, and the sum of powers whose root it is."""
    if p == math.inf:
        magnitudes = [abs(value) for value in values]
        largest = math.nan if any(value != value for value in values) else max(magnitudes, default=0.0)
        return largest, largest
    total = _sum(_power(abs(value) if is_norm else value, p) for value in values) * scale
    return _power(total, 1 / p), total


def _power(value: float, exponent: float) -> float:
    """`value ** exponent` by C's rules: NaN for the root of a negative number, inf for a negative power of 0."""
    with np.errstate(all="ignore"):
        return float(np.float64(value) ** exponent)


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
            _per_axis(padding, rank),
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
    """Every plane of `x` as a flat list of Python numbers: of complex ones all real parts, then all imaginary ones."""
    if x.dtype.kind == "c":
        return _planes(x.real, plane_shape) + _planes(x.imag, plane_shape)
    planes: list[list[Any]] = x.reshape(math.prod(_leading(x, plane_shape)), math.prod(plane_shape)).tolist()
    return planes


def _array(values: list[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Values in the order of `_planes` as an array."""
    if dtype.kind == "c":
        array = np.empty(shape, dtype)
        array.real, array.imag = _array(values, array.real.dtype, (2, *shape))
        return array
    with np.errstate(over="ignore"):  # a float beyond the dtype's largest is inf
        return np.array(values, dtype).reshape(shape)


def _per_axis(value: Any, rank: int) -> tuple[Any, ...]:
    """One entry an axis of what has one for all axes, alone or in a sequence, or one for each."""
    if value is None or isinstance(value, (int, str)):
        return (value,) * rank
    return tuple(value) * rank if len(value) == 1 else tuple(value)


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


def _highest(dtype: np.dtype[Any]) -> Any:
    """The value of a minimum over nothing."""
    if dtype.kind == "b":
        return True
    return math.inf if dtype.kind == "f" else np.iinfo(dtype).max


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


def _divide(dividend: int, divisor: int, rounding: str) -> int:
    """Division of integers: to the nearest one, halves to the even one, or towards zero, as in C."""
    if rounding == "nearest":
        return round(Fraction(dividend, divisor))  # exact, and so Python rounds
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _wrap(value: int, dtype: np.dtype[Any]) -> int:
    """The value of `dtype` that equals `value` modulo 2**bits."""
    lowest = int(np.iinfo(dtype).min)
    return (value - lowest) % (1 << 8 * dtype.itemsize) + lowest
