"""Maximum over sliding windows, forward beside its backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, Extent, IndexKind, Padding
from numbapool.functional.engine import backward, forward
from numbapool.operations import MAX
from numbapool.requests import Sliding


def max_pool1d(
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
    """Maximum over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `max_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_kind, data_format, out
        As in `max_pool2d`, but one, or a tuple of one, where that takes two; pairs of `padding` are ((before, after),).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `max_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Position in the row, as in `max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.max_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]]), 3, stride=1)
    array([[[3., 5., 5.]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MAX, windows, x, out, (), (return_indices, index_kind), data_format)


def max_pool1d_backward(
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
    """Gradient of `max_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, index_kind, check_indices, data_format, out
        As in `max_pool2d_backward`; shapes and sizes as in `max_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `max_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]])
    >>> numbapool.max_pool1d_backward(np.ones((1, 1, 3)), x, 3, stride=1)
    array([[[0., 1., 0., 2., 0.]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MAX, windows, grad_output, x, out, (), marks, data_format)


def max_pool2d(
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
    """Maximum over sliding windows of the last two axes.

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
        Also return where each maximum is.
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
        NaN where a window holds one; -inf, the least integer or False where a window holds no input at all.
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
    Rules as in torch.nn.functional.max_pool1d, max_pool2d and max_pool3d, but for windows without any input, where torch's
    index is out of bounds.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1, 17).reshape(1, 1, 4, 4)
    >>> numbapool.max_pool2d(x, 2)
    array([[[[ 6,  8],
             [14, 16]]]])
    >>> out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    >>> indices
    array([[[[ 5,  7],
             [13, 15]]]])
    >>> numbapool.max_pool2d(x.reshape(1, 4, 4, 1), 2, data_format="channels_last").shape
    (1, 2, 2, 1)
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MAX, windows, x, out, (), (return_indices, index_kind), data_format)


def max_pool2d_backward(
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
    """Gradient of `max_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `max_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode, index_kind, data_format
        As in the forward pass, see `max_pool2d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU such indices are skipped unless this is
        True, which makes the call wait for the device.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all windows whose maximum an element is, added in the order of the windows: the same
        bits in every run.

    Raises
    ------
    ValueError
        As `max_pool2d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `max_pool2d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    >>> numbapool.max_pool2d_backward(np.ones_like(out), x, 2, indices=indices)
    array([[[[0., 0., 0., 0.],
             [0., 1., 0., 1.],
             [0., 0., 0., 0.],
             [0., 1., 0., 1.]]]])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MAX, windows, grad_output, x, out, (), marks, data_format)


def max_pool3d(
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
    """Maximum over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `max_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_kind, data_format, out
        As in `max_pool2d`, but three where that takes two; pairs of `padding` are ((front, back), (top, bottom), (left, right)).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `max_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input volume, `(d * H + h) * W + w`, as in `max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.max_pool3d(x, 2)
    array([[[[[7.]]]]])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    return forward(MAX, windows, x, out, (), (return_indices, index_kind), data_format)


def max_pool3d_backward(
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
    """Gradient of `max_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, index_kind, check_indices, data_format, out
        As in `max_pool2d_backward`; shapes and sizes as in `max_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `max_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 1.])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    marks = indices, index_kind, check_indices
    return backward(MAX, windows, grad_output, x, out, (), marks, data_format)
