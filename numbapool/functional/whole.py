"""Pooling over all axes of a channel, forward beside backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, IndexKind, Rounding
from numbapool.functional.engine import backward, forward
from numbapool.operations import MAX, MEAN, NORM
from numbapool.requests import Whole


def global_avg_pool(
    x: Any,
    *,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean of each channel: over all axes after the first two.

    Parameters
    ----------
    x : array, shape (N, C, ...) with at least one more axis
        Any registered array type; float16, bfloat16, float32, float64, complex64, complex128 or any integer; any strides.
    rounding : 'truncate' or 'nearest', keyword-only
        How quotients of integers are rounded: towards zero, or to the nearest integer, halves to the even one;
        nothing else is affected.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, ..., C).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, 1, ...)
        Integers are summed in 64 bits, which wrap, and divided as `rounding` says.

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[[[1.5]],
    <BLANKLINE>
            [[5.5]]]])
    """
    return forward(MEAN, (Whole,), x, out, (True, None, rounding), data_format=data_format)


def global_avg_pool_backward(
    grad_output: Any, x: Any, *, data_format: DataFormat = "channels_first", out: Any = None
) -> Any:
    """Gradient of `global_avg_pool` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape (N, C, 1, ...)
        Gradient with respect to the output.
    x : array, shape (N, C, ...)
        The input of the forward pass, floating or complex; only its shape and dtype are used.
    data_format
        As in the forward pass, see `global_avg_pool`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The gradient of its channel over the number of its elements.

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch, or a gradient of the wrong shape.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_avg_pool_backward(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 2, 2)))
    array([[[[0.25, 0.25],
             [0.25, 0.25]]]])
    """
    options = True, None, "truncate"
    return backward(MEAN, (Whole,), grad_output, x, out, options, data_format=data_format)


def global_max_pool(
    x: Any,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum of each channel: over all axes after the first two.

    Parameters
    ----------
    x : array, shape (N, C, ...) with at least one more axis
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    return_indices : bool
        Also return where each maximum is.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, ..., C).
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, 1, ...)
        NaN where a channel holds one.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the channel: the first of equals, the last of several NaN.

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_max_pool(np.arange(8).reshape(1, 2, 2, 2)).ravel()
    array([3, 7])
    """
    return forward(MAX, (Whole,), x, out, (), (return_indices, index_kind), data_format)


def global_max_pool_backward(
    grad_output: Any,
    x: Any,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `global_max_pool` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape (N, C, 1, ...)
        Gradient with respect to the output.
    x : array, shape (N, C, ...)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient.
    index_kind, data_format
        As in the forward pass, see `global_max_pool`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The gradient of its channel for the maximum, 0 for all other elements.

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch, a gradient or indices of the wrong shape, or an index
        outside the channel.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_max_pool_backward(np.ones((1, 1, 1)), np.array([[[1.0, 3.0, 2.0]]]))
    array([[[0., 1., 0.]]])
    """
    marks = indices, index_kind, check_indices
    return backward(MAX, (Whole,), grad_output, x, out, (), marks, data_format)


def global_lp_pool(x: Any, norm_type: float = 2, *, data_format: DataFormat = "channels_first", out: Any = None) -> Any:
    """Norm of each channel, `(sum |x|^p)^(1/p)`, over all axes after the first two, as in ONNX's GlobalLpPool.

    Parameters
    ----------
    x : array, shape (N, C, ...) with at least one more axis
        Any registered array type; float16, bfloat16, float32 or float64; any strides.
    norm_type : float
        The power p > 0, or infinity, which gives the largest magnitude.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, ..., C).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, 1, ...)

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch, or a `norm_type` that is not greater than 0.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_lp_pool(np.array([[[3.0, -4.0]]]))
    array([[[5.]]])
    """
    return forward(NORM, (Whole,), x, out, (norm_type, True), data_format=data_format)


def global_lp_pool_backward(
    grad_output: Any, x: Any, norm_type: float = 2, *, data_format: DataFormat = "channels_first", out: Any = None
) -> Any:
    """Gradient of `global_lp_pool` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape (N, C, 1, ...)
        Gradient with respect to the output.
    x : array, shape (N, C, ...)
        The input of the forward pass, floating.
    norm_type, data_format
        As in the forward pass, see `global_lp_pool`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        0 in channels whose norm is 0.

    Raises
    ------
    ValueError
        `x` with fewer than three axes, or empty but for the batch, a gradient of the wrong shape, or a `norm_type` that is
        not greater than 0.
    TypeError
        No backend for this array type, or a dtype that is not accepted.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.global_lp_pool_backward(np.array([[[5.0]]]), np.array([[[3.0, -4.0]]]))
    array([[[ 3., -4.]]])
    """
    return backward(NORM, (Whole,), grad_output, x, out, (norm_type, True), data_format=data_format)
