"""Every public operation, forward beside its backward: arguments to a plan, the plan to the array's backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from numbapool.dispatch import Backend, Spec, backend_of
from numbapool.geometry import (
    FLOATS,
    INDICES,
    ORDERED,
    SUMMABLE,
    Extent,
    Padding,
    WindowPlan,
    as_divisor,
    as_flag,
    check_dtype,
    check_same_shape,
    window_plan,
)

INDEX = np.dtype(np.int64)


def max_pool1d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Any = None,
) -> Any:
    """Maximum over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        Any registered array type; float32, float64, any integer or bool; any strides.
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
        Also return where each maximum is.
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out)
        NaN where a window holds one; -inf, the least integer or False where a window holds no input at all.
    indices : int64, shape of `out`, only with `return_indices`
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
    Rules as in torch.nn.functional.max_pool1d, but for windows without any input, where torch's index is out of bounds.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.max_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]]), 3, stride=1)
    array([[[3., 5., 5.]]])
    """
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `max_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `max_pool1d`
        Gradient with respect to that output.
    x : array, shape (N, C, L) or (C, L)
        The input of the forward pass; float32 or float64. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `max_pool1d`.
    indices : int64 array, shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
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
        As `max_pool1d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `max_pool1d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([[[1.0, 3.0, 2.0, 5.0, 4.0]]])
    >>> numbapool.max_pool1d_backward(np.ones((1, 1, 3)), x, 3, stride=1)
    array([[[0., 1., 0., 2., 0.]]])
    """
    return _max_pool_backward(1, grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out)


def max_pool2d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Any = None,
) -> Any:
    """Maximum over sliding windows of the last two axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float32, float64, any integer or bool; any strides.
    kernel_size : int or (int, int)
        Size of the window, in elements.
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
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        NaN where a window holds one; -inf, the least integer or False where a window holds no input at all.
    indices : int64, shape of `out`, only with `return_indices`
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
    Rules as in torch.nn.functional.max_pool2d, but for windows without any input, where torch's index is out of bounds.

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
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `max_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `max_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass; float32 or float64. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `max_pool2d`.
    indices : int64 array, shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
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
    return _max_pool_backward(2, grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out)


def max_pool3d(
    x: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Padding = 0,
    dilation: Extent = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Any = None,
) -> Any:
    """Maximum over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        Any registered array type; float32, float64, any integer or bool; any strides.
    kernel_size : int or (int, int, int)
        Size of the window, in elements.
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
        Also return where each maximum is.
    out : array, or pair of arrays with `return_indices`, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out)
        NaN where a window holds one; -inf, the least integer or False where a window holds no input at all.
    indices : int64, shape of `out`, only with `return_indices`
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
    Rules as in torch.nn.functional.max_pool3d, but for windows without any input, where torch's index is out of bounds.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.max_pool3d(x, 2)
    array([[[[[7.]]]]])
    """
    return _max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `max_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `max_pool3d`
        Gradient with respect to that output.
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        The input of the forward pass; float32 or float64. With `indices` only its shape and dtype are used.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward pass, see `max_pool3d`.
    indices : int64 array, shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned; without them the maxima are found again. -1 means no gradient. An
        index inside the plane but outside its window is the caller's mistake and gives an unspecified result.
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
        As `max_pool3d`; also a gradient or indices of the wrong shape, or an index outside the plane.
    TypeError
        As `max_pool3d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 1.])
    """
    return _max_pool_backward(3, grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out)


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
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last axis.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        Any registered array type; float32, float64 or any integer; any strides.
    kernel_size : int or (int,)
        Size of the window, in elements.
    stride : int or (int,), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which are zero: one int for all sides,
        an int, or pairs ((before, after),).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    count_include_pad : bool
        Whether padding counts in the divisor; the overhang of `ceil_mode` never does.
    divisor_override : int, optional
        Divisor of every window, instead of the number of its elements; not 0.
    dilation : int or (int,), keyword-only
        Step between the elements of a window (torch has none; ONNX AveragePool, opset 19, has).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out)
        0 where a window holds no input at all. Integers are summed in 64 bits, which wrap, and divided towards zero.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that has no mean.

    Notes
    -----
    Rules as in torch.nn.functional.avg_pool1d.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.avg_pool1d(np.array([[[1.0, 3.0, 2.0, 5.0, 5.0]]]), 3, stride=1)
    array([[[2.        , 3.33333333, 4.        ]]])
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool1d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `avg_pool1d`
        Gradient with respect to that output.
    x : array, shape (N, C, L) or (C, L)
        The input of the forward pass, float32 or float64; only its shape and dtype are used.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As in the forward pass, see `avg_pool1d`.
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
        As `avg_pool1d`; also a gradient of the wrong shape.
    TypeError
        As `avg_pool1d`; also a gradient of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 5))
    >>> numbapool.avg_pool1d_backward(np.full((1, 1, 3), 3.0), x, 3, stride=1)
    array([[[1., 2., 3., 2., 1.]]])
    """
    return _avg_pool_backward(
        1, grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
    )


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
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last two axes.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float32, float64 or any integer; any strides.
    kernel_size : int or (int, int)
        Size of the window, in elements.
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
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        0 where a window holds no input at all. Integers are summed in 64 bits, which wrap, and divided towards zero.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that has no mean.

    Notes
    -----
    Rules as in torch.nn.functional.avg_pool2d.

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
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `avg_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, float32 or float64; only its shape and dtype are used.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
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
        As `avg_pool2d`; also a gradient of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 2, 4))
    >>> numbapool.avg_pool2d_backward(np.array([[[[4.0, 8.0]]]]), x, 2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    return _avg_pool_backward(
        2, grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
    )


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
    out: Any = None,
) -> Any:
    """Mean over sliding windows of the last three axes.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        Any registered array type; float32, float64 or any integer; any strides.
    kernel_size : int or (int, int, int)
        Size of the window, in elements.
    stride : int or (int, int, int), optional
        Step from one window to the next, in elements; `kernel_size` if not given.
    padding : int, ints, pairs or str
        Elements around the input, which are zero: one int for all sides,
        one int an axis, or pairs ((front, back), (top, bottom), (left, right)).
        'same' makes `ceil(length / stride)` outputs, an odd element of padding coming after ('same_lower': before);
        'valid' means none. Any padding >= 0 is allowed (torch: up to half the window).
    ceil_mode : bool
        Keep a last window that overhangs the end, if it starts inside the input or the padding before it.
    count_include_pad : bool
        Whether padding counts in the divisor; the overhang of `ceil_mode` never does.
    divisor_override : int, optional
        Divisor of every window, instead of the number of its elements; not 0.
    dilation : int or (int, int, int), keyword-only
        Step between the elements of a window (torch has none; ONNX AveragePool, opset 19, has).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out)
        0 where a window holds no input at all. Integers are summed in 64 bits, which wrap, and divided towards zero.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, or no room for a single window;
        the message names the argument and its value.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that has no mean.

    Notes
    -----
    Rules as in torch.nn.functional.avg_pool3d.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.avg_pool3d(x, 2)
    array([[[[[3.5]]]]])
    """
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out)


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
    out: Any = None,
) -> Any:
    """Gradient of `avg_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `avg_pool3d`
        Gradient with respect to that output.
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        The input of the forward pass, float32 or float64; only its shape and dtype are used.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As in the forward pass, see `avg_pool3d`.
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
        As `avg_pool3d`; also a gradient of the wrong shape.
    TypeError
        As `avg_pool3d`; also a gradient of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 2, 2, 2))
    >>> numbapool.avg_pool3d_backward(np.full((1, 1, 1, 1, 1), 8.0), x, 2).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    return _avg_pool_backward(
        3, grad_output, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
    )


def _max_pool(
    rank: int,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    return_indices: bool,
    out: Any,
) -> Any:
    backend = backend_of("x", x)
    spec = backend.describe("x", x)
    if backend.is_traced(x):
        arguments = kernel_size, stride, padding, dilation, ceil_mode, return_indices
        return backend.trace("max_pool", rank, out, x, *arguments)
    is_plain = (
        type(kernel_size) is type(padding) is type(dilation) is int
        and type(ceil_mode) is type(return_indices) is bool
        and (stride is None or type(stride) is int)
    )
    bind = _bind_plain_max_pool if is_plain else _bind_max_pool
    bound = bind(backend, spec, rank, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    if out is None:
        return bound(x, None)
    if not return_indices:
        return bound(x, (out,))
    if not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError(f"out must be a pair (values, indices) with return_indices, got {type(out).__name__}")
    return bound(x, out)


def _bind_max_pool(
    backend: Backend,
    spec: Spec,
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    return_indices: bool,
) -> Callable[..., Any]:
    shape, dtype = spec
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    check_dtype("x", dtype, ORDERED)
    if as_flag("return_indices", return_indices):
        return _bind(backend, "max_pool_with_indices", plan, ((plan.out_shape, dtype), (plan.out_shape, INDEX)))
    return _bind(backend, "max_pool", plan, ((plan.out_shape, dtype),))


def _avg_pool(
    rank: int,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Extent,
    out: Any,
) -> Any:
    backend = backend_of("x", x)
    spec = backend.describe("x", x)
    if backend.is_traced(x):
        arguments = kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
        return backend.trace("avg_pool", rank, out, x, *arguments)
    is_plain = (
        type(kernel_size) is type(padding) is type(dilation) is int
        and type(ceil_mode) is type(count_include_pad) is bool
        and (stride is None or type(stride) is int)
        and (divisor_override is None or type(divisor_override) is int)
    )
    bind = _bind_plain_avg_pool if is_plain else _bind_avg_pool
    bound = bind(
        backend, spec, rank, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override
    )
    return bound(x, None if out is None else (out,))


def _bind_avg_pool(
    backend: Backend,
    spec: Spec,
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Callable[..., Any]:
    shape, dtype = spec
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    check_dtype("x", dtype, SUMMABLE)
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    return _bind(backend, "avg_pool", plan, ((plan.out_shape, dtype),), *parameters)


@lru_cache(maxsize=1024)
def _bind(
    backend: Backend, operation: str, plan: WindowPlan, specs: tuple[Spec, ...], *parameters: Any
) -> Callable[..., Any]:
    return backend.bind(operation, plan, specs, *parameters)


# The way from arguments to a bound call, remembered. Only for parameters of exactly these types, which are told apart as
# keys of a cache: True equals 1 there, and (2.0, 2) equals (2, 2).
_bind_plain_max_pool = lru_cache(maxsize=1024)(_bind_max_pool)
_bind_plain_avg_pool = lru_cache(maxsize=1024)(_bind_avg_pool)


def _max_pool_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    indices: Any,
    out: Any,
) -> Any:
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output, indices):
        arguments = grad_output, kernel_size, stride, padding, dilation, ceil_mode, indices
        return backend.trace("max_pool_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(backend, plan, grad_output, dtype)
    if indices is None:
        return backend.run_backward("max_pool_backward", plan, (grad_output, x), (shape, dtype), out)
    index_shape, index_dtype = backend.describe("indices", indices)
    check_same_shape("indices", index_shape, plan.out_shape, "the shape of the output,")
    check_dtype("indices", index_dtype, INDICES)
    inputs = grad_output, indices
    return backend.run_backward("max_pool_backward_from_indices", plan, inputs, (shape, dtype), out)


def _avg_pool_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Extent,
    out: Any,
) -> Any:
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output):
        arguments = (
            grad_output,
            kernel_size,
            stride,
            padding,
            dilation,
            ceil_mode,
            count_include_pad,
            divisor_override,
        )
        return backend.trace("avg_pool_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(backend, plan, grad_output, dtype)
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    return backend.run_backward("avg_pool_backward", plan, (grad_output,), (shape, dtype), out, *parameters)


def _check_gradient(backend: Backend, plan: WindowPlan, grad_output: Any, dtype: np.dtype[Any]) -> None:
    check_dtype("x", dtype, FLOATS)
    grad_shape, grad_dtype = backend.describe("grad_output", grad_output)
    check_same_shape("grad_output", grad_shape, plan.out_shape, "the shape of the output,")
    if grad_dtype != dtype:
        raise TypeError(f"grad_output must have the dtype of x, {dtype}, got {grad_dtype}")
