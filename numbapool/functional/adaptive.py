"""Maximum and mean over as many bins as asked for, forward beside backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, IndexKind, Rounding, Sizes
from numbapool.functional.engine import backward, forward
from numbapool.operations import MAX, MEAN
from numbapool.requests import Adaptive

# Of means, whose gradients do not depend on the rounding.
DEFAULTS = True, None, "truncate"


def adaptive_max_pool1d(
    x: Any,
    output_size: Sizes,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum over bins of the last axis, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `adaptive_max_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    output_size, return_indices, index_kind, data_format, out
        As in `adaptive_max_pool2d`, but one, or a tuple of one, where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `adaptive_max_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Position in the row, as in `adaptive_max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `adaptive_max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_max_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]]), 2)
    array([[[3., 5.]]])
    """
    return forward(MAX, (Adaptive, 1, output_size), x, out, (), (return_indices, index_kind), data_format)


def adaptive_max_pool1d_backward(
    grad_output: Any,
    x: Any,
    output_size: Sizes,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `adaptive_max_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, output_size, indices, index_kind, check_indices, data_format, out
        As in `adaptive_max_pool2d_backward`; shapes and sizes as in `adaptive_max_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `adaptive_max_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]])
    >>> numbapool.adaptive_max_pool1d_backward(np.ones((1, 1, 2)), x, 2)
    array([[[0., 1., 0., 1., 0.]]])
    """
    marks = indices, index_kind, check_indices
    return backward(MAX, (Adaptive, 1, output_size), grad_output, x, out, (), marks, data_format)


def adaptive_max_pool2d(
    x: Any,
    output_size: Sizes,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum over bins of the last two axes, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    output_size : int, None, or 2 of them
        Length of each pooled axis of the output; None keeps the input's. May be larger than the input's, or 0. One counts for
        every axis, in a tuple too.
    return_indices : bool
        Also return where each maximum is.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        NaN where a bin holds one.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input plane, `h * W + w`: the first of equals, the last of several NaN.

    Raises
    ------
    ValueError
        A negative `output_size`, or `x` of the wrong rank or with an empty pooled axis; the message names the argument and
        its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that is not accepted.

    Notes
    -----
    Bin i of O over an axis of length L holds the elements from floor(i L / O) up to, but not including, ceil((i + 1) L / O):
    torch's rule, in exact integers.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1, 10).reshape(1, 1, 3, 3)
    >>> out, indices = numbapool.adaptive_max_pool2d(x, 2, return_indices=True)
    >>> out
    array([[[[5, 6],
             [8, 9]]]])
    >>> indices
    array([[[[4, 5],
             [7, 8]]]])
    """
    return forward(MAX, (Adaptive, 2, output_size), x, out, (), (return_indices, index_kind), data_format)


def adaptive_max_pool2d_backward(
    grad_output: Any,
    x: Any,
    output_size: Sizes,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `adaptive_max_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `adaptive_max_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    output_size, index_kind, data_format
        As in the forward pass, see `adaptive_max_pool2d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all bins whose maximum an element is, added in the order of the bins: the same bits in
        every run.

    Raises
    ------
    ValueError
        As `adaptive_max_pool2d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `adaptive_max_pool2d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    >>> numbapool.adaptive_max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 1)
    array([[[[0., 0., 0.],
             [0., 0., 0.],
             [0., 0., 1.]]]])
    """
    marks = indices, index_kind, check_indices
    return backward(MAX, (Adaptive, 2, output_size), grad_output, x, out, (), marks, data_format)


def adaptive_max_pool3d(
    x: Any,
    output_size: Sizes,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum over bins of the last three axes, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `adaptive_max_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    output_size, return_indices, index_kind, data_format, out
        As in `adaptive_max_pool2d`, but three where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `adaptive_max_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input volume, `(d * H + h) * W + w`, as in `adaptive_max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `adaptive_max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_max_pool3d(np.arange(8).reshape(1, 1, 2, 2, 2), (2, 1, 1)).ravel()
    array([3, 7])
    """
    return forward(MAX, (Adaptive, 3, output_size), x, out, (), (return_indices, index_kind), data_format)


def adaptive_max_pool3d_backward(
    grad_output: Any,
    x: Any,
    output_size: Sizes,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `adaptive_max_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, output_size, indices, index_kind, check_indices, data_format, out
        As in `adaptive_max_pool2d_backward`; shapes and sizes as in `adaptive_max_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `adaptive_max_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.adaptive_max_pool3d_backward(np.ones((1, 1, 2, 1, 1)), x, (2, 1, 1)).ravel()
    array([0., 0., 0., 1., 0., 0., 0., 1.])
    """
    marks = indices, index_kind, check_indices
    return backward(MAX, (Adaptive, 3, output_size), grad_output, x, out, (), marks, data_format)


def adaptive_avg_pool1d(
    x: Any,
    output_size: Sizes,
    *,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over bins of the last axis, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `adaptive_avg_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    output_size, rounding, data_format, out
        As in `adaptive_avg_pool2d`, but one, or a tuple of one, where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `adaptive_avg_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_avg_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 5.0]]]), 2)
    array([[[2., 4.]]])
    """
    options = True, None, rounding
    return forward(MEAN, (Adaptive, 1, output_size), x, out, options, data_format=data_format)


def adaptive_avg_pool1d_backward(
    grad_output: Any, x: Any, output_size: Sizes, *, data_format: DataFormat = "channels_first", out: Any = None
) -> Any:
    """Gradient of `adaptive_avg_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, output_size, data_format, out
        As in `adaptive_avg_pool2d_backward`; shapes and sizes as in `adaptive_avg_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `adaptive_avg_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_avg_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_avg_pool1d_backward(np.full((1, 1, 2), 3.0), np.zeros((1, 1, 5)), 2)
    array([[[1., 1., 2., 1., 1.]]])
    """
    return backward(MEAN, (Adaptive, 1, output_size), grad_output, x, out, DEFAULTS, data_format=data_format)


def adaptive_avg_pool2d(
    x: Any,
    output_size: Sizes,
    *,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over bins of the last two axes, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, complex64, complex128 or any integer; any strides.
    output_size : int, None, or 2 of them
        Length of each pooled axis of the output; None keeps the input's. May be larger than the input's, or 0. One counts for
        every axis, in a tuple too.
    rounding : 'truncate' or 'nearest', keyword-only
        How quotients of integers are rounded: towards zero, or to the nearest integer, halves to the even one;
        nothing else is affected.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        Integers are summed in 64 bits, which wrap, and divided as `rounding` says.

    Raises
    ------
    ValueError
        A negative `output_size`, or `x` of the wrong rank or with an empty pooled axis; the message names the argument and
        its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that is not accepted.

    Notes
    -----
    Bin i of O over an axis of length L holds the elements from floor(i L / O) up to, but not including, ceil((i + 1) L / O):
    torch's rule, in exact integers.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    >>> numbapool.adaptive_avg_pool2d(x, (2, None))
    array([[[[ 3.,  4.,  5.,  6.],
             [11., 12., 13., 14.]]]])
    """
    options = True, None, rounding
    return forward(MEAN, (Adaptive, 2, output_size), x, out, options, data_format=data_format)


def adaptive_avg_pool2d_backward(
    grad_output: Any, x: Any, output_size: Sizes, *, data_format: DataFormat = "channels_first", out: Any = None
) -> Any:
    """Gradient of `adaptive_avg_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `adaptive_avg_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating or complex; only its shape and dtype are used.
    output_size, data_format
        As in the forward pass, see `adaptive_avg_pool2d`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum over the bins that hold an element of their gradient over their number of elements, in a fixed order: the
        same bits in every run.

    Raises
    ------
    ValueError
        As `adaptive_avg_pool2d`; also a gradient of the wrong shape.
    TypeError
        As `adaptive_avg_pool2d`; also a gradient of the wrong dtype, or an `x` that is neither floating nor complex.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_avg_pool2d_backward(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 2, 2)), 1)
    array([[[[0.25, 0.25],
             [0.25, 0.25]]]])
    """
    return backward(MEAN, (Adaptive, 2, output_size), grad_output, x, out, DEFAULTS, data_format=data_format)


def adaptive_avg_pool3d(
    x: Any,
    output_size: Sizes,
    *,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over bins of the last three axes, as many as `output_size` says.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `adaptive_avg_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    output_size, rounding, data_format, out
        As in `adaptive_avg_pool2d`, but three where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `adaptive_avg_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 1)
    array([[[[[3.5]]]]])
    """
    options = True, None, rounding
    return forward(MEAN, (Adaptive, 3, output_size), x, out, options, data_format=data_format)


def adaptive_avg_pool3d_backward(
    grad_output: Any, x: Any, output_size: Sizes, *, data_format: DataFormat = "channels_first", out: Any = None
) -> Any:
    """Gradient of `adaptive_avg_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, output_size, data_format, out
        As in `adaptive_avg_pool2d_backward`; shapes and sizes as in `adaptive_avg_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `adaptive_avg_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `adaptive_avg_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.adaptive_avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), np.zeros((1, 1, 2, 2, 2)), 1).ravel()
    array([0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125])
    """
    return backward(MEAN, (Adaptive, 3, output_size), grad_output, x, out, DEFAULTS, data_format=data_format)
