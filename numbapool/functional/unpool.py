"""Undoing maximum pooling, forward beside backward."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import DataFormat, Extent, IndexKind
from numbapool.functional.engine import pooled, pooled_backward
from numbapool.operations import UNPOOL
from numbapool.requests import Pooling, Unpooled


def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Elements back to where `max_pool1d` found them, and 0 elsewhere.

    Parameters
    ----------
    x : array, shape (N, C, L) or (C, L)
        As in `max_unpool2d`; with `data_format="channels_last"` (N, L, C) or (L, C).
    indices : int64 array (see `index_kind`), shape of `x`
        Position in the row of the result, as `max_pool1d` returns it.
    kernel_size, stride, padding, output_size, index_kind, check_indices, data_format, out
        As in `max_unpool2d`, but one, or a tuple of one, where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, L_out) or (C, L_out), as in `max_unpool2d`

    Raises
    ------
    ValueError, TypeError
        As `max_unpool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.array([[[1.0, 3.0, 5.0, 4.0]]])
    >>> out, indices = numbapool.max_pool1d(x, 2, return_indices=True)
    >>> numbapool.max_unpool1d(out, indices, 2)
    array([[[0., 3., 5., 0.]]])
    """
    windows = Unpooled(1, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled(pooling, x, out, indices)


def max_unpool1d_backward(
    grad_output: Any,
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `max_unpool1d` with respect to `x`: of each element, the gradient of the place it went to.

    Parameters
    ----------
    grad_output, x, indices, kernel_size, stride, padding, output_size, index_kind, check_indices, data_format, out
        As in `max_unpool2d_backward`; shapes and sizes as in `max_unpool1d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `max_unpool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_unpool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> indices = np.array([[[1, 2]]])
    >>> numbapool.max_unpool1d_backward(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.zeros((1, 1, 2)), indices, 2)
    array([[[2., 3.]]])
    """
    windows = Unpooled(1, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, indices, out)


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Elements back to where `max_pool2d` found them, and 0 elsewhere.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    indices : int64 array (see `index_kind`), shape of `x`
        Flat position in the plane of the result, as `max_pool2d` returns it.
    kernel_size, stride, padding : int or (int, int)
        Those of the pooling that is undone, in elements; `stride` is `kernel_size` if not given. One int counts for
        every axis, in a tuple too.
    output_size : int or ints, optional
        Lengths of the pooled axes of the result, or its whole shape, as `data_format` has it: what was pooled. By default
        `(length - 1) * stride + kernel_size - 2 * padding`, from which it may be less than a stride off.
    index_kind : 'plane', 'global' or 'window', keyword-only
        What indices count, see `max_pool2d`.
    check_indices : bool, keyword-only
        Raise for an index outside the plane. On the CPU that is always so; on a GPU it makes the call wait for the device,
        and with False such indices are skipped.
    data_format : 'channels_first' or 'channels_last', keyword-only
        Which axis of all arrays, given and returned, holds the channels: with 'channels_last' their shapes are
        (N, H, W, C) or (H, W, C).
    out : array, optional, keyword-only
        Where to write the result, of its shape and dtype.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        Where several indices are the same, the last in row-major order wins.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, indices of another shape, or an
        index outside the result; the message names the argument and its value. After a wrong index the contents of `out` are
        unspecified.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that is not accepted.

    Notes
    -----
    Rules as in torch.nn.functional.max_unpool1d, max_unpool2d and max_unpool3d, where equal indices race on a GPU.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.max_unpool2d(np.array([[[[7]]]]), np.array([[[[2]]]]), 2)
    array([[[[0, 0],
             [7, 0]]]])
    """
    windows = Unpooled(2, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled(pooling, x, out, indices)


def max_unpool2d_backward(
    grad_output: Any,
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `max_unpool2d` with respect to `x`: of each element, the gradient of the place it went to.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `max_unpool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating; only its shape and dtype are used.
    indices, kernel_size, stride, padding, output_size, index_kind, check_indices, data_format
        As in the forward pass, see `max_unpool2d`.
    out : array, shape and dtype of `x`, optional, keyword-only
        Where to write the result.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`
        Where several indices are the same, each gets the gradient of their place (torch's rule).

    Raises
    ------
    ValueError
        As `max_unpool2d`; also a gradient of the wrong shape.
    TypeError
        As `max_unpool2d`; also a gradient of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> grad_output = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> numbapool.max_unpool2d_backward(grad_output, np.zeros((1, 1, 1, 1)), np.array([[[[2]]]]), 2)
    array([[[[3.]]]])
    """
    windows = Unpooled(2, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, indices, out)


def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Elements back to where `max_pool3d` found them, and 0 elsewhere.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `max_unpool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    indices : int64 array (see `index_kind`), shape of `x`
        Flat position in the volume of the result, as `max_pool3d` returns it.
    kernel_size, stride, padding, output_size, index_kind, check_indices, data_format, out
        As in `max_unpool2d`, but three where that takes two.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `max_unpool2d`

    Raises
    ------
    ValueError, TypeError
        As `max_unpool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.max_unpool3d(np.array([[[[[7]]]]]), np.array([[[[[5]]]]]), 2).ravel()
    array([0, 0, 0, 0, 0, 7, 0, 0])
    """
    windows = Unpooled(3, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled(pooling, x, out, indices)


def max_unpool3d_backward(
    grad_output: Any,
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None = None,
    padding: Extent = 0,
    output_size: Extent | None = None,
    *,
    index_kind: IndexKind = "plane",
    check_indices: bool = True,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `max_unpool3d` with respect to `x`: of each element, the gradient of the place it went to.

    Parameters
    ----------
    grad_output, x, indices, kernel_size, stride, padding, output_size, index_kind, check_indices, data_format, out
        As in `max_unpool2d_backward`; shapes and sizes as in `max_unpool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `max_unpool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `max_unpool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> grad_output = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> numbapool.max_unpool3d_backward(grad_output, np.zeros((1, 1, 1, 1, 1)), np.array([[[[[5]]]]]), 2)
    array([[[[[5.]]]]])
    """
    windows = Unpooled(3, kernel_size, stride, padding, output_size)
    pooling = Pooling(UNPOOL, windows, (), False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, indices, out)
