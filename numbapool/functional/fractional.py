"""Maximum over windows that are drawn, forward beside backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbapool.arguments import DataFormat, Extent, IndexKind
from numbapool.functional.engine import pooled, pooled_backward
from numbapool.operations import MAX
from numbapool.requests import Fractional, Pooling


def fractional_max_pool2d(
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    generator: np.random.Generator | None = None,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum over windows of the last two axes whose places are drawn for each plane.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (C, H, W)
        Any registered array type; float16, bfloat16, float32, float64, any integer or bool; any strides.
    kernel_size : int or (int, int)
        Size of the window, in elements. Here and below one int counts for every axis, in a tuple too.
    output_size : int or (int, int), optional
        Lengths of the pooled axes of the output; this or `output_ratio` must be given.
    output_ratio : float or 2 floats, optional
        The same as a part of the lengths of the input, between 0 and 1; rounded down.
    return_indices : bool
        Also return where each maximum is.
    _random_samples : floating array of the library of `x`, shape (N, C, 2), (1, C, 2) without batch, optional
        Numbers in [0, 1) that place the windows of each plane: the first of the width, the second of the height.
    generator : numpy.random.Generator, optional, keyword-only
        Draws the samples, where they are not given, so that equal seeds give equal results.
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
        NaN where a window holds one.
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input plane, `h * W + w`: the first of equals, the last of several NaN.

    Raises
    ------
    ValueError
        A parameter out of its range, `x` of the wrong rank or empty but for the batch, both or none of `output_size` and
        `output_ratio`, windows that do not fit, or samples of another shape, not in [0, 1) or beside a generator.
    TypeError
        A parameter of the wrong type, no backend for this array type, or a dtype that is not accepted.

    Notes
    -----
    Rules as in torch.nn.functional.fractional_max_pool2d and fractional_max_pool3d, after Graham, Fractional Max-Pooling,
    2014. Arithmetic on the samples is in their own dtype, on those of half precision in float32 (in torch windows of these
    may end outside `x`).

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1, 26).reshape(1, 1, 5, 5)
    >>> numbapool.fractional_max_pool2d(x, 2, 2, _random_samples=np.array([[[0.5, 0.5]]]))
    array([[[[ 7, 10],
             [22, 25]]]])
    >>> generator = np.random.default_rng(0)
    >>> numbapool.fractional_max_pool2d(x, 2, output_ratio=0.6, generator=generator).shape
    (1, 1, 3, 3)
    """
    windows = Fractional(2, kernel_size, output_size, output_ratio, _random_samples, generator)
    pooling = Pooling(MAX, windows, (), return_indices, index_kind, data_format=data_format)
    return pooled(pooling, x, out)


def fractional_max_pool2d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    *,
    indices: Any = None,
    _random_samples: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `fractional_max_pool2d` with respect to `x`.

    Parameters
    ----------
    grad_output : array of the type and dtype of `x`, shape of the output of `fractional_max_pool2d`
        Gradient with respect to that output.
    x : array, shape (N, C, H, W) or (C, H, W)
        The input of the forward pass, floating. With `indices` only its shape and dtype are used.
    kernel_size, output_size, output_ratio, index_kind, data_format
        As in the forward pass, see `fractional_max_pool2d`.
    indices : int64 array (see `index_kind`), shape of `grad_output`, optional, keyword-only
        The indices that the forward pass returned. -1 means no gradient.
    _random_samples : floating array, optional, keyword-only
        The samples of the forward pass, with which the maxima are found again; these or `indices` must be given.
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
        As `fractional_max_pool2d`; also a gradient or indices of the wrong shape, an index outside the plane, or neither
        indices nor samples.
    TypeError
        As `fractional_max_pool2d`; also a gradient or indices of the wrong dtype, or an `x` that is not floating.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    >>> samples = np.array([[[0.5, 0.5]]])
    >>> numbapool.fractional_max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 2, 1, _random_samples=samples)
    array([[[[0., 0., 0.],
             [0., 0., 0.],
             [0., 0., 1.]]]])
    """
    windows = Fractional(2, kernel_size, output_size, output_ratio, _random_samples)
    pooling = Pooling(MAX, windows, (), False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, indices, out)


def fractional_max_pool3d(
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    generator: np.random.Generator | None = None,
    index_kind: IndexKind = "plane",
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Maximum over windows of the last three axes whose places are drawn for each plane.

    Parameters
    ----------
    x : array, shape (N, C, D, H, W) or (C, D, H, W)
        As in `fractional_max_pool2d`; with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    kernel_size, output_size, output_ratio, return_indices, generator, index_kind, data_format, out
        As in `fractional_max_pool2d`, but three where that takes two.
    _random_samples : floating array of the library of `x`, shape (N, C, 3), (1, C, 3) without batch, optional
        Numbers in [0, 1) that place the windows of each plane: of depth, height and width, in this order.

    Returns
    -------
    out : same type and dtype as `x`, shape (N, C, D_out, H_out, W_out) or (C, D_out, H_out, W_out), as in `fractional_max_pool2d`
    indices : int64 (see `index_kind`), shape of `out`, only with `return_indices`
        Flat position in the input volume, `(d * H + h) * W + w`, as in `fractional_max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As `fractional_max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.arange(64).reshape(1, 1, 4, 4, 4)
    >>> numbapool.fractional_max_pool3d(x, 2, 2, _random_samples=np.zeros((1, 1, 3))).ravel()
    array([21, 23, 29, 31, 53, 55, 61, 63])
    """
    windows = Fractional(3, kernel_size, output_size, output_ratio, _random_samples, generator)
    pooling = Pooling(MAX, windows, (), return_indices, index_kind, data_format=data_format)
    return pooled(pooling, x, out)


def fractional_max_pool3d_backward(
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None = None,
    output_ratio: float | Sequence[float] | None = None,
    *,
    indices: Any = None,
    _random_samples: Any = None,
    index_kind: IndexKind = "plane",
    check_indices: bool = False,
    data_format: DataFormat = "channels_first",
    out: Any = None,
) -> Any:
    """Gradient of `fractional_max_pool3d` with respect to `x`.

    Parameters
    ----------
    grad_output, x, kernel_size, output_size, output_ratio, indices, _random_samples, index_kind, check_indices, data_format, out
        As in `fractional_max_pool2d_backward`; shapes and sizes as in `fractional_max_pool3d`.

    Returns
    -------
    grad_input : same type, dtype and shape as `x`, as in `fractional_max_pool2d_backward`

    Raises
    ------
    ValueError, TypeError
        As `fractional_max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> x = np.zeros((1, 1, 3, 3, 3))
    >>> indices = np.array([[[[[4]]]]])
    >>> grad_input = numbapool.fractional_max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2, 1, indices=indices)
    >>> grad_input[0, 0, 0]
    array([[0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.]])
    """
    windows = Fractional(3, kernel_size, output_size, output_ratio, _random_samples)
    pooling = Pooling(MAX, windows, (), False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, indices, out)
