"""Minimum over sliding windows, forward beside its backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, Extent, IndexKind, Padding
from numbapool.functional.engine import backward, forward
from numbapool.operations import MIN
from numbapool.requests import Sliding


def min_pool1d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Minimum over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    kernel_size : int or (int,)
        Size of the window, in elements.
    stride : int or (int,), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which never take part: one int for all sides,
        an int, or pairs ((before, after),).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    dilation : int or (int,)
        Step between the elements of a window.
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    return_indices : bool
        Also return where each minimum is.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count: the elements of a plane, those of the whole array `x` in C order (as ONNX does), or, in the
        smallest unsigned dtype, the elements of a window, in the padding or not. Then the largest value of that dtype is
        what -1 is for the others.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, L, C) or (L, C).
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out)
        NaN where a window holds one; inf, the greatest integer or True where a window holds no input at all.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Position in the row: the first of equals, the last of several NaN; -1 where the window
        holds no input.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that cannot be ordered.

    Notes
    -----
    Rules as in `max_pool1d` with the order of the elements reversed; NaN stays what it is. torch has no such function.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.min_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]]), 3, stride=1)
    array([[[1., 2., 2.]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MIN, windows, x, out, (), (return_indices, index_kind), data_format)


def min_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `min_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `min_pool1d`
        Gradient with respect to that output.
    x : array, shape (N, C, L) or (C, L)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `min_pool1d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the minima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, L, C) or (L, C).
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all windows whose minimum an element is, added in the order of the windows: the same
        bits in every run.

    Raises
    ------
    ValueError
        As `min_pool1d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `min_pool1d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]])
    >>> numbapool.min_pool1d_backward(np.ones((1, 1, 3)), x, 3, stride=1)
    array([[[1., 0., 2., 0., 0.]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MIN, windows, grad_output, x, out, (), marks, data_format)


def min_pool2d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Minimum over sliding windows of the last two axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    kernel_size : int or (int, int)
        Size of the window, in elements. Here and below one int counts for every axis, in a tuple too.
    stride : int or (int, int), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which never take part: one int for all sides,
        one int an axis, or pairs ((top, bottom), (left, right)).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    dilation : int or (int, int)
        Step between the elements of a window.
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    return_indices : bool
        Also return where each minimum is.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count: the elements of a plane, those of the whole array `x` in C order (as ONNX does), or, in the
        smallest unsigned dtype, the elements of a window, in the padding or not. Then the largest value of that dtype is
        what -1 is for the others.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        NaN where a window holds one; inf, the greatest integer or True where a window holds no input at all.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input plane, `h * W + w`: the first of equals, the last of several NaN; -1 where the window
        holds no input.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that cannot be ordered.

    Notes
    -----
    Rules as in `max_pool2d` with the order of the elements reversed; NaN stays what it is. torch has no such function.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1, 17).reshape(1, 1, 4, 4)
    >>> numbapool.min_pool2d(x, 2)
    array([[[[ 1,  3],
             [ 9, 11]]]])
    >>> out, indices = numbapool.min_pool2d(x, 2, return_indices=True)
    >>> indices
    array([[[[ 0,  2],
             [ 8, 10]]]])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MIN, windows, x, out, (), (return_indices, index_kind), data_format)


def min_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `min_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `min_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `min_pool2d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the minima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all windows whose minimum an element is, added in the order of the windows: the same
        bits in every run.

    Raises
    ------
    ValueError
        As `min_pool2d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `min_pool2d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> out, indices = numbapool.min_pool2d(x, 2, return_indices=True)
    >>> numbapool.min_pool2d_backward(np.ones_like(out), x, 2, indices=indices)
    array([[[[1., 0., 1., 0.],
             [0., 0., 0., 0.],
             [1., 0., 1., 0.],
             [0., 0., 0., 0.]]]])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MIN, windows, grad_output, x, out, (), marks, data_format)


def min_pool3d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Minimum over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    kernel_size : int or (int, int, int)
        Size of the window, in elements. Here and below one int counts for every axis, in a tuple too.
    stride : int or (int, int, int), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which never take part: one int for all sides,
        one int an axis, or pairs ((front, back), (top, bottom), (left, right)).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    dilation : int or (int, int, int)
        Step between the elements of a window.
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    return_indices : bool
        Also return where each minimum is.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count: the elements of a plane, those of the whole array `x` in C order (as ONNX does), or, in the
        smallest unsigned dtype, the elements of a window, in the padding or not. Then the largest value of that dtype is
        what -1 is for the others.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, D, H, W, C) or (D, H, W, C).
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out)
        NaN where a window holds one; inf, the greatest integer or True where a window holds no input at all.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input volume, `(d * H + h) * W + w`: the first of equals, the last of several NaN; -1 where the window
        holds no input.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that cannot be ordered.

    Notes
    -----
    Rules as in `max_pool3d` with the order of the elements reversed; NaN stays what it is. torch has no such function.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.min_pool3d(x, 2)
    array([[[[[0.]]]]])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MIN, windows, x, out, (), (return_indices, index_kind), data_format)


def min_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    *,
    indices: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `min_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `min_pool3d`
        Gradient with respect to that output.
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `min_pool3d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the minima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, D, H, W, C) or (D, H, W, C).
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all windows whose minimum an element is, added in the order of the windows: the same
        bits in every run.

    Raises
    ------
    ValueError
        As `min_pool3d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `min_pool3d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.min_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2).ravel()
    array([1., 0., 0., 0., 0., 0., 0., 0.])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MIN, windows, grad_output, x, out, (), marks, data_format)
