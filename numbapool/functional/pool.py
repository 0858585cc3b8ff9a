"""Pooling of any axes of an array of any rank, forward beside its backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbapool.arguments import (
    PLANE,
    Extent,
    IndexKind,
    Padding,
    as_axes,
    as_flag,
    as_index_kind,
    check_axes_not_empty,
    refuse_unknown,
    shown,
)
from numbapool.dispatch import Backend, backend_of
from numbapool.functional.axes import are_last
from numbapool.functional.engine import forward, pooled, pooled_backward
from numbapool.functional.passes import MOST_AXES
from numbapool.kinds import Kind, as_kind
from numbapool.operations import OPERATIONS
from numbapool.requests import Pooling, Sliding


def pool(
    x: Any,
    kind: Kind | str,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    axes: int | tuple[int, ...] | None = None,
    return_indices: bool = False,
    index_kind: IndexKind = "plane",
    out: Any = None,
    **unknown: Any,
) -> Any:
    """Pooling with sliding windows of any axes of an array, whatever its others are.

    `max_pool2d` and its like are this function for the last one, two or three axes, but that means of integers are rounded
    to the nearest here. Up to three axes are pooled at once; more in passes over three of them at a time.

    Parameters
    ----------
    x : array of one axis or more
        Any registered array type; the dtypes of `max_pool2d`, `avg_pool2d`, `sum_pool2d` or `lp_pool2d`; any strides.
    kind : str or reducer of `numbapool.kinds`
        What is taken of a window: 'max', 'min', 'mean' (also 'avg'), 'sum' or 'lp', or a reducer with options of its own,
        such as `kinds.Mean(count_padding=False)`. Means of integers are rounded to the nearest, halves to the even one,
        unless the reducer says otherwise.
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
        axes as `kernel_size` has elements; all if it is an int: `pool(rgb, "max", 2)` pools the colours of an image, too.
    return_indices : bool, keyword-only
        Also return where each maximum or minimum is; for up to three axes.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.
    **unknown : object
        Any other name is refused, with the one that was likely meant.

    Returns
    -------
    out : same type as `x`, dtype of `x` (for sums that of `numpy.sum`), as many axes as `x`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the plane of the pooled axes, in the order of `axes`, see `max_pool2d`.

    Raises
    ------
    ValueError
        A parameter out of its range or without meaning for the kind, an empty pooled axis, no room for a single window, or
        more than three axes where that cannot be done in passes: means of integers whose windows differ in their number of
        elements, norms by torch's rule of an odd power. The message names the argument and its value.
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
    >>> numbapool.pool(image, numbapool.kinds.Mean(count_padding=False), 3, padding=1)
    array([[ 4,  6],
           [16, 18]])
    """
    if unknown:
        _refuse(pool, unknown)
    reducer = as_kind(kind)
    if as_flag("return_indices", return_indices):
        _check_takes_indices(reducer, "return_indices", return_indices)
    window = kernel_size, stride, padding, dilation, ceil_mode
    backend = backend_of("x", x)
    # 6.6 us for a small array, where it takes 17 through the wrappers, which leave such a request as it is.
    if index_kind is PLANE and type(axes) is tuple and not backend.is_traced(x) and _are_direct(backend, x, axes):
        windows = Sliding, len(axes), *window
        return forward(reducer.operation, windows, x, out, reducer.options, (return_indices, PLANE))
    return pooled(_request(x, reducer, window, axes, (bool(return_indices), index_kind, True)), x, out)


def pool_backward(
    grad_output: Any,
    x: Any,
    kind: Kind | str,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    axes: int | tuple[int, ...] | None = None,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    out: Any = None,
    **unknown: Any,
) -> Any:
    """Gradient of `pool` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `pool`
        Gradient with respect to that output.
    x : array of one axis or more
        The input of the forward pass, floating, or complex for means and sums.
    kind, kernel_size, stride, padding, dilation, ceil_mode, axes
        As in the forward pass, see `pool`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        Of maxima and minima: the indices that the forward pass returned; without them the elements are found again.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.
    **unknown : object
        Any other name is refused, with the one that was likely meant.

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
    if unknown:
        _refuse(pool_backward, unknown)
    reducer = as_kind(kind)
    if indices is not None:
        _check_takes_indices(reducer, "indices", indices)
    window = kernel_size, stride, padding, dilation, ceil_mode
    looks = as_flag("check_indices", check_indices)
    return pooled_backward(_request(x, reducer, window, axes, (False, index_kind, looks)), grad_output, x, indices, out)


def _refuse(function: Callable[..., Any], unknown: dict[str, Any]) -> None:
    """Refuse keywords that are none, with a word on those of the functions that are named after torch's."""
    for name in unknown:
        if any(name == option.name for operation in OPERATIONS.values() for option in operation.options):
            raise TypeError(
                f"{function.__name__} has no parameter {name}: it is an option of a kind, see numbapool.kinds"
            )
    refuse_unknown(function, unknown)


def _are_direct(backend: Backend, x: Any, axes: tuple[Any, ...]) -> bool:
    """Whether axes are those of the functions named after torch's, and can be pooled: then no wrapper is needed."""
    shape, _ = backend.describe("x", x)
    is_plain = 0 < len(axes) <= MOST_AXES and all(type(each) is int for each in axes)
    return is_plain and are_last(shape, axes) and 0 not in shape[-len(axes) :]


def _request(x: Any, kind: Kind, window: tuple[Any, ...], axes: Any, indices: tuple[bool, Any, bool]) -> Pooling:
    """A request to pool some axes of an array."""
    shape, _ = backend_of("x", x).describe("x", x)
    chosen = as_axes(axes, window[0], len(shape))
    if as_index_kind(indices[1]) != "plane":
        _check_takes_indices(kind, "index_kind", indices[1])
    check_axes_not_empty(shape, chosen)
    return Pooling(kind.operation, Sliding(len(chosen), *window), kind.options, *indices, axes=chosen)


def _check_takes_indices(kind: Kind, name: str, value: Any) -> None:
    """Refuse what is about indices where elements are not taken as they are."""
    if kind.operation.with_indices is None:
        raise ValueError(f"{name} has no meaning for kind={kind}, got {name}={shown(value)}")
