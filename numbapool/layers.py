"""Pooling layers for any array: parameters given once, no state, `vjp` for pipelines without torch.

Constructors have the order and defaults of torch.nn. A layer is an immutable value: equal parameters, equal layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from numbapool import functional
from numbapool.arguments import DataFormat, Extent, IndexKind, Padding, Rounding, Sizes, as_axes, as_flag
from numbapool.dispatch import backend_of
from numbapool.functional.passes import MOST_AXES
from numbapool.kinds import Kind, as_kind

Pullback = Callable[..., Any]

# What only the forward of a function takes.
OF_THE_RESULT = "return_indices", "rounding", "generator"


class _Layer:
    """A public function and its backward; the fields of a layer are their arguments, by name."""

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]
    _names: ClassVar[tuple[str, ...]]  # of its fields

    def __init_subclass__(cls, *, function: Callable[..., Any] | None = None) -> None:
        if function is not None:
            cls._forward = staticmethod(function)
            cls._backward = staticmethod(getattr(functional, f"{function.__name__}_backward"))
            annotated = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
            cls._names = tuple([name for name in inspect.signature(function).parameters if name in annotated])

    def _arguments(self) -> dict[str, Any]:
        own = self.__dict__
        return {name: own[name] for name in self._names}

    def _of_backward(self) -> dict[str, Any]:
        return {name: value for name, value in self._arguments().items() if name not in OF_THE_RESULT}


class _Pool(_Layer):
    def __call__(self, x: Any) -> Any:
        """Pool `x`; a pair (out, indices) with `return_indices`."""
        return self._forward(x, **self._arguments())

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, **self._of_backward())

        return self(x), pullback


class _Extremum(_Pool):
    return_indices: bool

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`.

        The indices are kept for the pullback, so backward does not search the maxima again.
        """
        shows_indices = as_flag("return_indices", self.return_indices)
        out, indices = self._forward(x, **self._arguments() | {"return_indices": True})

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, indices=indices, **self._of_backward())

        return ((out, indices) if shows_indices else out), pullback


@dataclass(frozen=True)
class _MaxPool(_Extremum):
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    return_indices: bool = False
    ceil_mode: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _AvgPool(_Pool):
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    dilation: Extent = 1
    _: KW_ONLY
    rounding: Rounding = "truncate"
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _SumPool(_Pool):
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    ceil_mode: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _LPPool(_Pool):
    norm_type: float
    kernel_size: Extent
    stride: Extent | None = None
    ceil_mode: bool = False
    padding: Padding = 0
    dilation: Extent = 1
    true_norm: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _AdaptiveMaxPool(_Extremum):
    output_size: Sizes
    return_indices: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _AdaptiveAvgPool(_Pool):
    output_size: Sizes
    _: KW_ONLY
    rounding: Rounding = "truncate"
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _FractionalMaxPool(_Extremum):
    kernel_size: Extent
    output_size: Extent | None = None
    output_ratio: float | Sequence[float] | None = None
    return_indices: bool = False
    generator: np.random.Generator | None = None
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class _MaxUnpool(_Layer):
    kernel_size: Extent
    stride: Extent | None = None
    padding: Extent = 0
    _: KW_ONLY
    check_indices: bool = True
    data_format: DataFormat = "channels_first"

    def __call__(self, x: Any, indices: Any, output_size: Extent | None = None) -> Any:
        """Unpool `x`."""
        return self._forward(x, indices, output_size=output_size, **self._arguments())

    def vjp(self, x: Any, indices: Any, output_size: Extent | None = None) -> tuple[Any, Pullback]:
        """Unpool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, indices, output_size=output_size, **self._arguments())

        return self(x, indices, output_size), pullback


@dataclass(frozen=True)
class Pool(_Extremum, function=functional.pool):
    """Pooling of any axes by any kind.

    Parameters as in `numbapool.pool`: kind, kernel_size, stride, padding, dilation, ceil_mode, axes, return_indices, index_kind.
    Arrays have any shape whose `axes` can be pooled: by default as many of the last as `kernel_size` has ints, or all.

    >>> from numbapool import kinds
    >>> y, pullback = Pool(kinds.Norm(p=1), 2, axes=0).vjp(np.ones((2, 3)))
    >>> y.tolist(), pullback(y).tolist()
    ([[2.0, 2.0, 2.0]], [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
    """

    kind: Kind | str
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    ceil_mode: bool = False
    _: KW_ONLY
    axes: int | tuple[int, ...] | None = None
    return_indices: bool = False
    index_kind: IndexKind = "plane"

    def __post_init__(self) -> None:
        """Names become the reducers that they stand for."""
        object.__setattr__(self, "kind", as_kind(self.kind))

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`.

        Of maxima and minima of up to three axes the indices are kept for the pullback, so that backward does not search again.
        """
        shape, _ = backend_of("x", x).describe("x", x)
        pooled = len(as_axes(self.axes, self.kernel_size, len(shape)))
        has_indices = pooled <= MOST_AXES and as_kind(self.kind).operation.with_indices is not None
        return super().vjp(x) if has_indices else _Pool.vjp(self, x)


class MaxPool1d(_MaxPool, function=functional.max_pool1d):
    """Maximum over sliding windows of the last axis.

    Parameters as in `numbapool.max_pool1d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = MaxPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [0.0, 1.0])
    """


class MaxPool2d(_MaxPool, function=functional.max_pool2d):
    """Maximum over sliding windows of the last two axes.

    Parameters as in `numbapool.max_pool2d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> layer = MaxPool2d(2)
    >>> layer  # doctest: +ELLIPSIS
    MaxPool2d(kernel_size=2, stride=None, ..., data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (3.0, [0.0, 0.0, 0.0, 3.0])
    """


class MaxPool3d(_MaxPool, function=functional.max_pool3d):
    """Maximum over sliding windows of the last three axes.

    Parameters as in `numbapool.max_pool3d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = MaxPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (7.0, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0])
    """


class AvgPool1d(_AvgPool, function=functional.avg_pool1d):
    """Mean over sliding windows of the last axis.

    Parameters as in `numbapool.avg_pool1d`: kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation,
    rounding, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = AvgPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item(), pullback(2 * y).ravel().tolist()
    (0.5, [0.5, 0.5])
    """


class AvgPool2d(_AvgPool, function=functional.avg_pool2d):
    """Mean over sliding windows of the last two axes.

    Parameters as in `numbapool.avg_pool2d`: kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation,
    rounding, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = AvgPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item(), pullback(4 * y).ravel().tolist()
    (1.5, [1.5, 1.5, 1.5, 1.5])
    """


class AvgPool3d(_AvgPool, function=functional.avg_pool3d):
    """Mean over sliding windows of the last three axes.

    Parameters as in `numbapool.avg_pool3d`: kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation,
    rounding, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = AvgPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item(), pullback(8 * y).ravel().tolist()
    (3.5, [3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5])
    """


class MinPool1d(_MaxPool, function=functional.min_pool1d):
    """Minimum over sliding windows of the last axis.

    Parameters as in `numbapool.min_pool1d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = MinPool1d(2).vjp(np.arange(2.0).reshape(1, 2) + 1)
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [1.0, 0.0])
    """


class MinPool2d(_MaxPool, function=functional.min_pool2d):
    """Minimum over sliding windows of the last two axes.

    Parameters as in `numbapool.min_pool2d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = MinPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2) + 1)
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [1.0, 0.0, 0.0, 0.0])
    """


class MinPool3d(_MaxPool, function=functional.min_pool3d):
    """Minimum over sliding windows of the last three axes.

    Parameters as in `numbapool.min_pool3d`: kernel_size, stride, padding, dilation, return_indices, ceil_mode, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = MinPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2) + 1)
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """


class SumPool1d(_SumPool, function=functional.sum_pool1d):
    """Sum over sliding windows of the last axis.

    Parameters as in `numbapool.sum_pool1d`: kernel_size, stride, padding, dilation, ceil_mode, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = SumPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [1.0, 1.0])
    """


class SumPool2d(_SumPool, function=functional.sum_pool2d):
    """Sum over sliding windows of the last two axes.

    Parameters as in `numbapool.sum_pool2d`: kernel_size, stride, padding, dilation, ceil_mode, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = SumPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (6.0, [6.0, 6.0, 6.0, 6.0])
    """


class SumPool3d(_SumPool, function=functional.sum_pool3d):
    """Sum over sliding windows of the last three axes.

    Parameters as in `numbapool.sum_pool3d`: kernel_size, stride, padding, dilation, ceil_mode, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = SumPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (28.0, [28.0, 28.0, 28.0, 28.0, 28.0, 28.0, 28.0, 28.0])
    """


class LPPool1d(_LPPool, function=functional.lp_pool1d):
    """Power mean, or norm, over sliding windows of the last axis.

    Parameters as in `numbapool.lp_pool1d`: norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = LPPool1d(1, 2).vjp(np.ones((1, 2)))
    >>> y.item(), pullback(y).ravel().tolist()
    (2.0, [2.0, 2.0])
    """


class LPPool2d(_LPPool, function=functional.lp_pool2d):
    """Power mean, or norm, over sliding windows of the last two axes.

    Parameters as in `numbapool.lp_pool2d`: norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = LPPool2d(1, 2).vjp(np.ones((1, 2, 2)))
    >>> y.item(), pullback(y).ravel().tolist()
    (4.0, [4.0, 4.0, 4.0, 4.0])
    """


class LPPool3d(_LPPool, function=functional.lp_pool3d):
    """Power mean, or norm, over sliding windows of the last three axes.

    Parameters as in `numbapool.lp_pool3d`: norm_type, kernel_size, stride, ceil_mode, padding, dilation, true_norm, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = LPPool3d(1, 2).vjp(np.ones((1, 2, 2, 2)))
    >>> y.item(), pullback(y).ravel().tolist()
    (8.0, [8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0])
    """


class AdaptiveMaxPool1d(_AdaptiveMaxPool, function=functional.adaptive_max_pool1d):
    """Maximum over bins of the last axis.

    Parameters as in `numbapool.adaptive_max_pool1d`: output_size, return_indices, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = AdaptiveMaxPool1d(1).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (1.0, [0.0, 1.0])
    """


class AdaptiveMaxPool2d(_AdaptiveMaxPool, function=functional.adaptive_max_pool2d):
    """Maximum over bins of the last two axes.

    Parameters as in `numbapool.adaptive_max_pool2d`: output_size, return_indices, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> layer = AdaptiveMaxPool2d(1)
    >>> layer
    AdaptiveMaxPool2d(output_size=1, return_indices=False, data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (3.0, [0.0, 0.0, 0.0, 3.0])
    """


class AdaptiveMaxPool3d(_AdaptiveMaxPool, function=functional.adaptive_max_pool3d):
    """Maximum over bins of the last three axes.

    Parameters as in `numbapool.adaptive_max_pool3d`: output_size, return_indices, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = AdaptiveMaxPool3d(1).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item(), pullback(y).ravel().tolist()
    (7.0, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0])
    """


class AdaptiveAvgPool1d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool1d):
    """Mean over bins of the last axis.

    Parameters as in `numbapool.adaptive_avg_pool1d`: output_size, rounding, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).

    >>> y, pullback = AdaptiveAvgPool1d(1).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item(), pullback(2 * y).ravel().tolist()
    (0.5, [0.5, 0.5])
    """


class AdaptiveAvgPool2d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool2d):
    """Mean over bins of the last two axes.

    Parameters as in `numbapool.adaptive_avg_pool2d`: output_size, rounding, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = AdaptiveAvgPool2d(1).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item(), pullback(4 * y).ravel().tolist()
    (1.5, [1.5, 1.5, 1.5, 1.5])
    """


class AdaptiveAvgPool3d(_AdaptiveAvgPool, function=functional.adaptive_avg_pool3d):
    """Mean over bins of the last three axes.

    Parameters as in `numbapool.adaptive_avg_pool3d`: output_size, rounding, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = AdaptiveAvgPool3d(1).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item(), pullback(8 * y).ravel().tolist()
    (3.5, [3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5])
    """


class FractionalMaxPool2d(_FractionalMaxPool, function=functional.fractional_max_pool2d):
    """Maximum over windows of the last two axes that are drawn at every call.

    Parameters as in `numbapool.fractional_max_pool2d`: kernel_size, output_size, output_ratio, return_indices, generator,
    data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).

    >>> y, pullback = FractionalMaxPool2d(2, output_ratio=0.5).vjp(np.zeros((1, 6, 6)))
    >>> y.shape, pullback(np.ones_like(y)).sum().item()
    ((1, 3, 3), 9.0)
    """


class FractionalMaxPool3d(_FractionalMaxPool, function=functional.fractional_max_pool3d):
    """Maximum over windows of the last three axes that are drawn at every call.

    Parameters as in `numbapool.fractional_max_pool3d`: kernel_size, output_size, output_ratio, return_indices, generator,
    data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).

    >>> y, pullback = FractionalMaxPool3d(2, output_ratio=0.5).vjp(np.zeros((1, 6, 6, 6)))
    >>> y.shape, pullback(np.ones_like(y)).sum().item()
    ((1, 3, 3, 3), 27.0)
    """


class MaxUnpool1d(_MaxUnpool, function=functional.max_unpool1d):
    """Elements back to where `numbapool.max_pool1d` found them.

    Parameters as in `numbapool.max_unpool1d`: kernel_size, stride, padding, check_indices, data_format.
    Shapes are (N, C, L) or (C, L); with `data_format="channels_last"` (N, L, C) or (L, C).
    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    >>> y, pullback = MaxUnpool1d(2).vjp(np.full((1, 1), 5.0), np.full((1, 1), 1))
    >>> y.ravel().tolist(), pullback(y).item()
    ([0.0, 5.0], 5.0)
    """


class MaxUnpool2d(_MaxUnpool, function=functional.max_unpool2d):
    """Elements back to where `numbapool.max_pool2d` found them.

    Parameters as in `numbapool.max_unpool2d`: kernel_size, stride, padding, check_indices, data_format.
    Shapes are (N, C, H, W) or (C, H, W); with `data_format="channels_last"` (N, H, W, C) or (H, W, C).
    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    >>> y, pullback = MaxUnpool2d(2).vjp(np.full((1, 1, 1), 5.0), np.full((1, 1, 1), 3))
    >>> y.ravel().tolist(), pullback(y).item()
    ([0.0, 0.0, 0.0, 5.0], 5.0)
    """


class MaxUnpool3d(_MaxUnpool, function=functional.max_unpool3d):
    """Elements back to where `numbapool.max_pool3d` found them.

    Parameters as in `numbapool.max_unpool3d`: kernel_size, stride, padding, check_indices, data_format.
    Shapes are (N, C, D, H, W) or (C, D, H, W); with `data_format="channels_last"` (N, D, H, W, C) or (D, H, W, C).
    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    >>> y, pullback = MaxUnpool3d(2).vjp(np.full((1, 1, 1, 1), 5.0), np.full((1, 1, 1, 1), 7))
    >>> y.ravel().tolist(), pullback(y).item()
    ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0], 5.0)
    """


@dataclass(frozen=True)
class GlobalAvgPool(_Pool, function=functional.global_avg_pool):
    """Mean of each channel.

    Parameters as in `numbapool.global_avg_pool`: rounding, data_format.
    Shapes are (N, C, ...); with `data_format="channels_last"` (N, ..., C).

    >>> y, pullback = GlobalAvgPool().vjp(np.arange(4.0).reshape(1, 1, 4))
    >>> y.item(), pullback(y).ravel().tolist()
    (1.5, [0.375, 0.375, 0.375, 0.375])
    """

    _: KW_ONLY
    rounding: Rounding = "truncate"
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class GlobalMaxPool(_Extremum, function=functional.global_max_pool):
    """Maximum of each channel.

    Parameters as in `numbapool.global_max_pool`: return_indices, data_format.
    Shapes are (N, C, ...); with `data_format="channels_last"` (N, ..., C).

    >>> y, pullback = GlobalMaxPool().vjp(np.array([[[1.0, 3.0, 2.0]]]))
    >>> y.item(), pullback(y).ravel().tolist()
    (3.0, [0.0, 3.0, 0.0])
    """

    return_indices: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"


@dataclass(frozen=True)
class GlobalLPPool(_Pool, function=functional.global_lp_pool):
    """Norm of each channel.

    Parameters as in `numbapool.global_lp_pool`: norm_type, data_format.
    Shapes are (N, C, ...); with `data_format="channels_last"` (N, ..., C).

    >>> y, pullback = GlobalLPPool().vjp(np.array([[[3.0, -4.0]]]))
    >>> y.item(), pullback(y).ravel().tolist()
    (5.0, [3.0, -4.0])
    """

    norm_type: float = 2
    _: KW_ONLY
    data_format: DataFormat = "channels_first"
