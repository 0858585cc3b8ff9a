"""Power means and norms over sliding windows, forward beside backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, Extent, Padding
from numbapool.functional.engine import backward, forward
from numbapool.operations import NORM
from numbapool.requests import Sliding


def lp_pool1d(
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Power mean, or p-norm, over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `lp_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format, out
        As in `lp_pool2d`, but one, or a tuple of one, where that takes two; pairs of `padding` are ((before, after),).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `lp_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `lp_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([1.0, 2.0, 2.0, -4.0]).reshape(1, 1, 4)
    >>> numbapool.lp_pool1d(x, 2, 4)
    array([[[5.]]])
    >>> numbapool.lp_pool1d(x, 1, 4), numbapool.lp_pool1d(x, 1, 4, true_norm=True)
    (array([[[1.]]]), array([[[9.]]]))
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    return forward(NORM, windows, x, out, (norm_type, true_norm), data_format=data_format)


def lp_pool1d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `lp_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format, out
        As in `lp_pool2d_backward`; shapes and sizes as in `lp_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `lp_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `lp_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 1, 4)
    >>> numbapool.lp_pool1d_backward(np.full((1, 1, 1), 5.0), x, 2, 4).ravel()
    array([3., 4., 0., 0.])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    return backward(NORM, windows, grad_output, x, out, (norm_type, true_norm), data_format=data_format)


def lp_pool2d(
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Power mean, or p-norm, over sliding windows of the last two axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32 or float64; any strides.
    norm_type : float
        The power p > 0, or infinity, which gives the largest magnitude. Negative elements need an even one, or `true_norm`,
        see Notes.
    kernel_size : int or (int, int)
        Size of the window, in elements. Here and below one int counts for every axis, in a tuple too.
    stride : int or (int, int), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    padding : int, ints, pairs or str, keyword-only
        Elements around the input, which are zero: one int for all sides,
        one int an axis, or pairs ((top, bottom), (left, right)).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none.
    dilation : int or (int, int), keyword-only
        Step between the elements of a window.
    true_norm : bool, keyword-only
        Compute the norm, `(sum |x|^p)^(1/p)`, as ONNX does, instead of torch's rule, see Notes.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        0 where a window holds no input at all.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that is not accepted.

    Notes
    -----
    torch's rule is `(mean(x^p) * K)^(1/p)`, with K elements in a whole window and no absolute value. So windows that overhang the
    end are scaled up, and negative elements are not taken for their magnitudes: if p is no whole number (2.5), one of them
    makes its window NaN; if p is odd, a window whose sum of powers is negative is NaN, for p = 1 negative. The true norm,
    `true_norm=True`, has none of this. For p = infinity both rules are the largest magnitude.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([1.0, 2.0, 2.0, -4.0]).reshape(1, 1, 2, 2)
    >>> numbapool.lp_pool2d(x, 2, 2)
    array([[[[5.]]]])
    >>> numbapool.lp_pool2d(x, 1, 2), numbapool.lp_pool2d(x, 1, 2, true_norm=True)
    (array([[[[1.]]]]), array([[[[9.]]]]))
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    return forward(NORM, windows, x, out, (norm_type, true_norm), data_format=data_format)


def lp_pool2d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `lp_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `lp_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating.
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format
        As in the forward pass, see `lp_pool2d`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        0 from windows whose norm is 0, and the same bits in every run.

    Raises
    ------
    ValueError
        As `lp_pool2d`; also a gradient of the wrong shape.
    TypeError
        As `lp_pool2d`; also a gradient of the wrong dtype.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    >>> numbapool.lp_pool2d_backward(np.full((1, 1, 1, 1), 5.0), x, 2, 2).ravel()
    array([3., 4., 0., 0.])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    return backward(NORM, windows, grad_output, x, out, (norm_type, true_norm), data_format=data_format)


def lp_pool3d(
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Power mean, or p-norm, over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `lp_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format, out
        As in `lp_pool2d`, but three where that takes two; pairs of `padding` are ((front, back), (top, bottom), (left, right)).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `lp_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `lp_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([1.0, 2.0, 2.0, -4.0]).reshape(1, 1, 1, 2, 2)
    >>> numbapool.lp_pool3d(x, 2, (1, 2, 2))
    array([[[[[5.]]]]])
    >>> numbapool.lp_pool3d(x, 1, (1, 2, 2)), numbapool.lp_pool3d(x, 1, (1, 2, 2), true_norm=True)
    (array([[[[[1.]]]]]), array([[[[[9.]]]]]))
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    return forward(NORM, windows, x, out, (norm_type, true_norm), data_format=data_format)


def lp_pool3d_backward(
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Extent = 1,
    true_norm: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `lp_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format, out
        As in `lp_pool2d_backward`; shapes and sizes as in `lp_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `lp_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `lp_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 1, 1, 2, 2)
    >>> numbapool.lp_pool3d_backward(np.full((1, 1, 1, 1, 1), 5.0), x, 2, (1, 2, 2)).ravel()
    array([3., 4., 0., 0.])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    return backward(NORM, windows, grad_output, x, out, (norm_type, true_norm), data_format=data_format)
