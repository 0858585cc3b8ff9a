"""Mean over sliding windows, forward beside its backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, Extent, Padding, Rounding
from numbapool.functional.engine import backward, forward
from numbapool.operations import MEAN
from numbapool.requests import Sliding


def avg_pool1d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `avg_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, rounding, data_format, out
        As in `avg_pool2d`, but one, or a tuple of one, where that takes two; pairs of `padding` are ((before, after),).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `avg_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.avg_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 5.0]]]), 3, stride=1)
    array([[[2.        , 3.33333333, 4.        ]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, rounding
    return forward(MEAN, windows, x, out, options, data_format=data_format)


def avg_pool1d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format, out
        As in `avg_pool2d_backward`; shapes and sizes as in `avg_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `avg_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `avg_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 5))
    >>> numbapool.avg_pool1d_backward(np.full((1, 1, 3), 3.0), x, 3, stride=1)
    array([[[1., 2., 3., 2., 1.]]])
    """
    windows = Sliding, 1, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, "truncate"
    return backward(MEAN, windows, grad_output, x, out, options, data_format=data_format)


def avg_pool2d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last two axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, complex64, complex128 or any integer; any strides.
    kernel_size : int or (int, int)
        Size of the window, in elements. Here and below one int counts for every axis, in a tuple too.
    stride : int or (int, int), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which are zero: one int for all sides,
        one int an axis, or pairs ((top, bottom), (left, right)).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    count_include_pad : bool
        Whether padding counts in the divisor; the overhang of `ceil_mode` never does.
    divisor_override : int, optional
        Divisor of every window, instead of the number of its elements; not 0.
    dilation : int or (int, int), keyword-only
        Step between the elements of a window (torch has none; ONNX AveragePool, opset 19, has).
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
        0 where a window holds no input at all. Integers are summed in 64 bits, which wrap, and divided as `rounding` says.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that has no mean.

    Notes
    -----
    Rules as in torch.nn.functional.avg_pool1d, avg_pool2d and avg_pool3d.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    >>> numbapool.avg_pool2d(x, 2)
    array([[[[ 3.5,  5.5],
             [11.5, 13.5]]]])
    >>> numbapool.avg_pool2d(x, 3, stride=3, padding=1, count_include_pad=False)
    array([[[[ 3.5,  5.5],
             [11.5, 13.5]]]])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, rounding
    return forward(MEAN, windows, x, out, options, data_format=data_format)


def avg_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `avg_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating or complex; only its shape and dtype are used.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format
        As in the forward pass, see `avg_pool2d`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum over the windows that hold an element of their gradient over their divisor, in a fixed order: the same
        bits in every run.

    Raises
    ------
    ValueError
        As `avg_pool2d`; also a gradient of the wrong shape.
    TypeError
        As `avg_pool2d`; also a gradient of the wrong dtype, or an `x` that is neither floating nor complex.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 2, 4))
    >>> numbapool.avg_pool2d_backward(np.array([[[[4.0, 8.0]]]]), x, 2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    windows = Sliding, 2, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, "truncate"
    return backward(MEAN, windows, grad_output, x, out, options, data_format=data_format)


def avg_pool3d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    rounding: Rounding = "truncate",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `avg_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, rounding, data_format, out
        As in `avg_pool2d`, but three where that takes two; pairs of `padding` are ((front, back), (top, bottom), (left, right)).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `avg_pool2d`

    Raises
    ------
    ValueError, TypeError
        As `avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.avg_pool3d(x, 2)
    array([[[[[3.5]]]]])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, rounding
    return forward(MEAN, windows, x, out, options, data_format=data_format)


def avg_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Extent = 1,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, data_format, out
        As in `avg_pool2d_backward`; shapes and sizes as in `avg_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `avg_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `avg_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 2, 2, 2))
    >>> numbapool.avg_pool3d_backward(np.full((1, 1, 1, 1, 1), 8.0), x, 2).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    windows = Sliding, 3, kernel_size, stride, padding, dilation, ceil_mode
    options = count_include_pad, divisor_override, "truncate"
    return backward(MEAN, windows, grad_output, x, out, options, data_format=data_format)
