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
        As in `max_pool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_kind, data_format, out
        As in `max_pool2d`, but one, or a tuple of one, where that takes two; pairs of `padding` are ((before, after),).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `min_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Position in the row, as in `min_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

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
    grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, index_kind, check_indices, data_format, out
        As in `max_pool2d_backward`; shapes and sizes as in `min_pool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `min_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

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
        As in `max_pool2d`; with `data_format="channels_last"` (N, H, W, C) or (H, W, C).
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_kind, data_format, out
        As in `max_pool2d`.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        NaN where a window holds one; inf, the greatest integer or True where a window holds no input at all.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input plane, `h * W + w`: the first of equals, the last of several NaN; -1 where the window
        holds no input.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

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
    grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, index_kind, check_indices, data_format, out
        As in `max_pool2d_backward`, of minima; shapes and sizes as in `min_pool2d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        The sum of the gradients of all windows whose minimum an element is, as in `max_pool2d_backward`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

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
        As in `max_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_kind, data_format, out
        As in `max_pool2d`, but three where that takes two; pairs of `padding` are ((front, back), (top, bottom), (left, right)).

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `min_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input volume, `(d * H + h) * W + w`, as in `min_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

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
    grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, index_kind, check_indices, data_format, out
        As in `max_pool2d_backward`; shapes and sizes as in `min_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `min_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

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
