"""Pooling of any axes of an array of any rank: its other axes become planes; more than three axes are pooled pass by pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any, Literal, TypeAlias

from numbapool.dispatch import Backend, backend_of
from numbapool.functional.arrangement import Arrangement, from_global, refuse_traced, to_global
from numbapool.functional.calls import (
    CHANNELS_FIRST,
    GLOBAL,
    backend_for_indices,
    extremum,
    extremum_backward,
    mean,
    mean_backward,
    norm,
    norm_backward,
    outs_of,
    window_sum,
    window_sum_backward,
)
from numbapool.geometry import (
    AVERAGED,
    HALVES,
    INTEGERS,
    Extent,
    IndexKind,
    Padding,
    Rounding,
    as_axes,
    as_divisor,
    as_flag,
    as_index_kind,
    as_kind,
    as_norm_type,
    as_rounding,
    check_axes_not_empty,
    check_dtype,
    check_options,
    dtype_name,
    pooled_axes,
    shown,
    window_arguments,
)
from numbapool.kernels.windows import holds_all_windows, overhangs

Kind: TypeAlias = Literal["max", "min", "avg", "sum", "lp"]

# Pooled axes that kernels take at once.
MOST_AXES = 3


def pool(
    x: Any,
    kind: Kind,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    axes: int | tuple[int, ...] | None = None,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    rounding: Rounding = "truncate",
    norm_type: float = 2,
    true_norm: bool = False,
    return_indices: bool = False,
    index_kind: IndexKind = "plane",
    out: Any = None,
) -> Any:
    """Pooling with sliding windows of any axes of an array, whatever its others are.

    `max_pool2d` and its like are this function for the last one, two or three axes. Up to three axes are pooled at once;
    more in passes over three of them at a time.

    Parameters
    ----------
    x : array of one axis or more
        Any registered array type; the dtypes of `max_pool2d`, `avg_pool2d`, `sum_pool2d` or `lp_pool2d`; any strides.
    kind : 'max', 'min', 'avg', 'sum' or 'lp'
        What is taken of a window: its maximum, minimum, mean, sum or norm.
    kernel_size : int or ints
        Size of the window, in elements: one int for all pooled axes, or one for each. Here and below one int in a tuple
        counts for all of `axes`.
    stride : int or ints, optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input: one int for all sides, one int an axis, or pairs (before, after), one an axis; 'same',
        'same_lower' or 'valid'. See `max_pool2d` and `avg_pool2d`.
    dilation : int or ints
        Step between the elements of a window.
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    axes : int or ints, keyword-only
        The pooled axes, in the order of the parameters; negative ones count from the end. If not given, as many of the last
        axes as `kernel_size` has elements; all if it is an int.
    count_include_pad, divisor_override, rounding
        Of 'avg', see `avg_pool2d`. Means of integers over more than three axes need windows that all have the same number
        of elements.
    norm_type, true_norm
        Of 'lp', see `lp_pool2d`: negative elements need an even power, or `true_norm`. Over more than three axes torch's rule
        is for even powers only.
    return_indices : bool, keyword-only
        Also return where each maximum or minimum is; for up to three axes.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type as `x`, dtype of `x` (for sums that of `numpy.sum`), as many axes as `x`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the plane of the pooled axes, in the order of `axes`, see `max_pool2d`.

    Raises
    ------
    ValueError
        A parameter out of its range or without meaning for the kind, an empty pooled axis, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that the kind does not take.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> image = np.arange(24).reshape(4, 6)
    >>> numbapool.pool(image, "max", 2)
    array([[ 7,  9, 11],
           [19, 21, 23]])
    >>> numbapool.pool(image, "sum", 3, axes=1)
    array([[ 3, 12],
           [21, 30],
           [39, 48],
           [57, 66]])
    """
    options: dict[str, Any] = {
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
        "rounding": rounding,
        "norm_type": norm_type,
        "true_norm": true_norm,
        "return_indices": as_flag("return_indices", return_indices),
        "index_kind": as_index_kind(index_kind),
    }
    backend = backend_of("x", x)
    shape, _ = backend.describe("x", x)
    chosen = as_axes(axes, kernel_size, len(shape))
    pooling = Pooling(as_kind(kind), chosen, kernel_size, stride, padding, dilation, ceil_mode, **options)
    check_options(kind, options)
    check_axes_not_empty(shape, chosen)
    if len(chosen) <= MOST_AXES:
        return _forward(backend, pooling, x, out)
    _check_outs(backend, out, pooling.return_indices)
    result = _forward_in_passes(backend, pooling, x)
    return _handed_back(backend, result, out)


def pool_backward(
    grad_output: Any,
    x: Any,
    kind: Kind,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    axes: int | tuple[int, ...] | None = None,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    norm_type: float = 2,
    true_norm: bool = False,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    out: Any = None,
) -> Any:
    """Gradient of `pool` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `pool`
        Gradient with respect to that output.
    x : array of one axis or more
        The input of the forward pass, floating, or complex for 'avg' and 'sum'.
    kind, kernel_size, stride, padding, dilation, ceil_mode, axes, count_include_pad, divisor_override, norm_type, true_norm
        As in the forward pass, see `pool`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        Of 'max' and 'min': the indices that the forward pass returned; without them the elements are found again.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`

    Raises
    ------
    ValueError
        As `pool`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `pool`; also a gradient or indices of the wrong dtype.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> image = np.arange(8.0).reshape(2, 4)
    >>> numbapool.pool_backward(np.ones((2, 2)), image, "max", 2, axes=1)
    array([[0., 1., 0., 1.],
           [0., 1., 0., 1.]])
    """
    options: dict[str, Any] = {
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
        "norm_type": norm_type,
        "true_norm": true_norm,
        "index_kind": as_index_kind(index_kind),
    }
    backend = backend_for_indices(x, check_indices)
    shape, _ = backend.describe("x", x)
    chosen = as_axes(axes, kernel_size, len(shape))
    pooling = Pooling(
        as_kind(kind), chosen, kernel_size, stride, padding, dilation, ceil_mode, **options, check_indices=check_indices
    )
    check_options(kind, options | {"indices": indices})
    check_axes_not_empty(shape, chosen)
    if len(chosen) <= MOST_AXES:
        return _backward(backend, pooling, grad_output, x, indices, out)
    if indices is not None:
        raise ValueError(f"indices must not be given for more than {MOST_AXES} pooled axes, got axes={chosen}")
    _check_outs(backend, out, False)
    return _handed_back(backend, _backward_in_passes(backend, pooling, grad_output, x), out)


@dataclass(frozen=True)
class Pooling:
    """What is asked for, whatever the array."""

    kind: str
    axes: tuple[int, ...]
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    norm_type: float
    true_norm: bool
    index_kind: IndexKind
    rounding: Rounding = "truncate"
    return_indices: bool = False
    check_indices: bool = False

    def forward(self, x: Any, out: Any) -> Any:
        """The function of this kind, on an array whose last axes are the pooled ones."""
        rank, sizes = len(self.axes), (self.kernel_size, self.stride)
        last = CHANNELS_FIRST, out
        if self.kind == "avg":
            divisor = self.count_include_pad, self.divisor_override
            return mean(rank, x, *sizes, self.padding, self.ceil_mode, *divisor, self.dilation, self.rounding, *last)
        if self.kind == "lp":
            norm_type = self.norm_type
            return norm(rank, x, norm_type, *sizes, self.ceil_mode, self.padding, self.dilation, self.true_norm, *last)
        window = *sizes, self.padding, self.dilation, self.ceil_mode
        if self.kind == "sum":
            return window_sum(rank, x, *window, *last)
        return extremum(f"{self.kind}_pool", rank, x, *window, self.return_indices, self.index_kind, *last)

    def backward(self, grad_output: Any, x: Any, indices: Any, out: Any) -> Any:
        """Its gradient."""
        rank, sizes = len(self.axes), (self.kernel_size, self.stride)
        last = CHANNELS_FIRST, out
        if self.kind == "avg":
            divisor = self.count_include_pad, self.divisor_override
            return mean_backward(
                rank, grad_output, x, *sizes, self.padding, self.ceil_mode, *divisor, self.dilation, *last
            )
        if self.kind == "lp":
            others = self.ceil_mode, self.padding, self.dilation, self.true_norm
            return norm_backward(rank, grad_output, x, self.norm_type, *sizes, *others, *last)
        window = *sizes, self.padding, self.dilation, self.ceil_mode
        if self.kind == "sum":
            return window_sum_backward(rank, grad_output, x, *window, *last)
        marks = indices, self.index_kind, self.check_indices
        return extremum_backward(f"{self.kind}_pool", rank, grad_output, x, *window, *marks, *last)


def _arrangement(backend: Backend, pooling: Pooling, x: Any) -> Arrangement | None:
    """How an array is arranged for a pooling; None if kernels take it as it is."""
    shape, _ = backend.describe("x", x)
    rank, axes = len(pooling.axes), pooling.axes
    others = tuple(axis for axis in range(len(shape)) if axis not in axes)
    order = others + axes
    if order == tuple(range(len(shape))) and len(others) in (1, 2) and shape[others[-1]] != 0:
        return None
    split = len(others)
    if prod([shape[axis] for axis in others]) > 0:  # else (0, 1), because kernels refuse an empty second axis
        # As many of the last as are neighbours in memory: they may be channels that lie side by side.
        strides, reach = backend.strides("x", x), None
        while split > 0 and (reach is None or shape[others[split - 1]] == 1 or strides[others[split - 1]] == reach):
            split -= 1
            if shape[others[split]] > 1 or reach is None:
                reach = strides[others[split]] * shape[others[split]]
    return Arrangement(shape, order, rank, split)


def _forward(backend: Backend, pooling: Pooling, x: Any, out: Any) -> Any:
    arrangement = _arrangement(backend, pooling, x)
    if arrangement is None:
        return pooling.forward(x, out)
    _check_outs(backend, out, pooling.return_indices)
    is_global = pooling.index_kind == GLOBAL and pooling.kind in ("max", "min")
    try:
        in_planes = replace(pooling, index_kind="plane") if is_global else pooling
        results = in_planes.forward(arrangement.arranged(backend, "x", x), None)
    except ValueError as error:
        raise _explained(error, arrangement.shape, pooling.axes) from None
    if isinstance(results, tuple):
        values, indices = (arrangement.restored(backend, each) for each in results)
        results = values, to_global(backend, indices, arrangement.shape, pooling.axes) if is_global else indices
    else:
        results = arrangement.restored(backend, results)
    return _handed_back(backend, results, out)


def _backward(backend: Backend, pooling: Pooling, grad_output: Any, x: Any, indices: Any, out: Any) -> Any:
    arrangement = _arrangement(backend, pooling, x)
    if arrangement is None:
        return pooling.backward(grad_output, x, indices, out)
    _check_outs(backend, out, False)
    if indices is not None and pooling.index_kind == GLOBAL:
        refuse_traced(backend, x, grad_output=grad_output, indices=indices)
        indices = from_global(backend, indices, arrangement.shape, pooling.axes)
        pooling = replace(pooling, index_kind="plane")
    gradient = arrangement.arranged(backend, "grad_output", grad_output)
    marks = None if indices is None else arrangement.arranged(backend, "indices", indices)
    try:
        result = pooling.backward(gradient, arrangement.arranged(backend, "x", x), marks, None)
    except ValueError as error:
        raise _explained(error, arrangement.shape, pooling.axes) from None
    return _handed_back(backend, arrangement.restored(backend, result), out)


def _explained(error: ValueError, shape: tuple[int, ...], axes: tuple[int, ...]) -> ValueError:
    if "shape" not in f"{error}":
        return error
    return ValueError(f"{error}; x has shape {shape}, of which axes {axes} are pooled and come last here")


def _check_outs(backend: Backend, out: Any, return_indices: bool) -> None:
    """What can be said of `out` before there are results to be written to it."""
    if out is not None:
        backend.check_outs(outs_of(out, return_indices))


def _handed_back(backend: Backend, results: Any, out: Any) -> Any:
    """The results, in `out` if it is given."""
    if out is None:
        return results
    if not isinstance(results, tuple):
        backend.write(out, results)
        return out
    for target, result in zip(outs_of(out, True), results, strict=True):
        backend.write(target, result)
    return tuple(out)


def _forward_in_passes(backend: Backend, pooling: Pooling, x: Any) -> Any:
    if pooling.return_indices:
        raise ValueError(f"return_indices must be False for more than {MOST_AXES} pooled axes, got axes={pooling.axes}")
    wide = _widened(backend, pooling, x)
    result = wide
    for each in _passes(backend, pooling, x):
        result = _forward(backend, each, result, None)
    is_cast = wide is not x or (pooling.kind == "avg" and backend.describe("x", x)[1] in INTEGERS)
    return backend.cast(result, x) if is_cast else result


def _backward_in_passes(backend: Backend, pooling: Pooling, grad_output: Any, x: Any) -> Any:
    passes = list(_passes(backend, pooling, x))
    backend.is_traced(x, grad_output=grad_output)  # for its errors
    wide = _widened(backend, pooling, x)
    inputs = [wide]
    for each in passes[:-1]:
        inputs.append(_forward(backend, each, inputs[-1], None))
    gradient = grad_output
    if wide is not x:
        given, expected = (backend.describe(*each)[1] for each in (("grad_output", grad_output), ("x", x)))
        if given != expected:
            raise TypeError(f"grad_output must have the dtype of x, {dtype_name(expected)}, got {dtype_name(given)}")
        gradient = backend.cast(grad_output, None)
    for each, input_ in zip(reversed(passes), reversed(inputs), strict=True):
        gradient = _backward(backend, each, gradient, input_, None, None)
    return gradient if wide is x else backend.cast(gradient, x)


def _widened(backend: Backend, pooling: Pooling, x: Any) -> Any:
    """Half precision as float32 where sums go from one pass to the next."""
    _, dtype = backend.describe("x", x)
    return backend.cast(x, None) if dtype in HALVES and pooling.kind in ("avg", "sum", "lp") else x


def _passes(backend: Backend, pooling: Pooling, x: Any) -> Iterator[Pooling]:
    """Poolings of up to three axes that one after the other do the same, from the last axes to the first.

    In this order equal maxima have their gradients where one pass over all axes would have them.
    """
    shape, dtype = backend.describe("x", x)
    if pooling.kind == "avg":
        check_dtype("x", dtype, AVERAGED)
    rank = len(pooling.axes)
    arguments = pooling.kernel_size, pooling.stride, pooling.padding, pooling.dilation, pooling.ceil_mode
    kernel, stride, padding, dilation, ceil_mode = window_arguments(rank, *arguments)
    # Everything is checked before the first pass.
    lengths = tuple(shape[axis] for axis in pooling.axes)
    try:
        axes = pooled_axes((1, *lengths), kernel, stride, padding, dilation, ceil_mode)
    except ValueError as error:
        raise _explained(error, shape, pooling.axes) from None
    as_flag("count_include_pad", pooling.count_include_pad)
    as_divisor(pooling.divisor_override)
    as_rounding(pooling.rounding)
    norm_type, true_norm = as_norm_type(pooling.norm_type), as_flag("true_norm", pooling.true_norm)
    if pooling.kind == "lp" and not true_norm and norm_type != inf and norm_type % 2 != 0:
        raise ValueError(
            f"norm_type must be even for more than {MOST_AXES} pooled axes without true_norm, got {shown(pooling.norm_type)}"
        )
    divisor, inner = pooling.divisor_override, pooling
    if pooling.kind == "avg" and dtype in INTEGERS and divisor is None:
        if any(map(overhangs, axes)) if pooling.count_include_pad else not all(map(holds_all_windows, axes)):
            raise ValueError(
                f"means of integers over more than {MOST_AXES} axes need windows of the same number of elements, got "
                f"padding={shown(pooling.padding)} and ceil_mode={ceil_mode} for lengths {lengths}"
            )
        divisor = prod(kernel)
    if pooling.kind == "avg" and divisor is not None:
        inner = replace(pooling, kind="sum")
        pooling = replace(pooling, divisor_override=divisor)
    for end in range(rank, 0, -MOST_AXES):
        some = slice(max(0, end - MOST_AXES), end)
        yield replace(
            inner if end > MOST_AXES else pooling,
            axes=pooling.axes[some],
            kernel_size=kernel[some],
            stride=stride[some],
            padding=padding if isinstance(padding, str) else padding[some],
            dilation=dilation[some],
            ceil_mode=ceil_mode,
            return_indices=False,
        )
