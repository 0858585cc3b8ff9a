"""Pooling layers for any array: parameters given once, no state, `vjp` for pipelines without torch.

Constructors have the order and defaults of torch.nn. A layer is an immutable value: equal parameters, equal layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from numbapool import functional
from numbapool.arguments import DataFormat, Extent, Padding, Rounding, Sizes, as_flag

Pullback = Callable[..., Any]


@dataclass(frozen=True)
class _MaxPool:
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    return_indices: bool = False
    ceil_mode: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`; a pair (out, indices) with `return_indices`."""
        return self._forward(x, *self._window(), self.return_indices, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`.

        The indices are kept for the pullback, so backward does not search the maxima again.
        """
        shows_indices = as_flag("return_indices", self.return_indices)
        out, indices = self._forward(x, *self._window(), True, data_format=self.data_format)

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._window(), indices=indices, data_format=self.data_format)

        return ((out, indices) if shows_indices else out), pullback

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode


@dataclass(frozen=True)
class _AvgPool:
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

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        options = {"dilation": self.dilation, "rounding": self.rounding, "data_format": self.data_format}
        return self._forward(x, *self._window(), **options)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._window(), dilation=self.dilation, data_format=self.data_format)

        return self(x), pullback

    def _window(self) -> tuple[Any, ...]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


@dataclass(frozen=True)
class _SumPool:
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    ceil_mode: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return self._forward(x, *self._window(), data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._window(), data_format=self.data_format)

        return self(x), pullback

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode


@dataclass(frozen=True)
class _LPPool:
    norm_type: float
    kernel_size: Extent
    stride: Extent | None = None
    ceil_mode: bool = False
    padding: Padding = 0
    dilation: Extent = 1
    true_norm: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return self._forward(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode, **self._keywords())

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            window = self.kernel_size, self.stride, self.ceil_mode
            return self._backward(grad_output, x, self.norm_type, *window, **self._keywords())

        return self(x), pullback

    def _keywords(self) -> dict[str, Any]:
        names = "padding", "dilation", "true_norm", "data_format"
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _AdaptiveMaxPool:
    output_size: Sizes
    return_indices: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`; a pair (out, indices) with `return_indices`."""
        return self._forward(x, self.output_size, self.return_indices, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""
        shows_indices = as_flag("return_indices", self.return_indices)
        out, indices = self._forward(x, self.output_size, True, data_format=self.data_format)

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, self.output_size, indices=indices, data_format=self.data_format)

        return ((out, indices) if shows_indices else out), pullback


@dataclass(frozen=True)
class _AdaptiveAvgPool:
    output_size: Sizes
    _: KW_ONLY
    rounding: Rounding = "truncate"
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return self._forward(x, self.output_size, rounding=self.rounding, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, self.output_size, data_format=self.data_format)

        return self(x), pullback


@dataclass(frozen=True)
class _FractionalMaxPool:
    kernel_size: Extent
    output_size: Extent | None = None
    output_ratio: float | Sequence[float] | None = None
    return_indices: bool = False
    generator: np.random.Generator | None = None
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`, with windows drawn anew; a pair (out, indices) with `return_indices`."""
        return self._forward(
            x, *self._sizes(), self.return_indices, generator=self.generator, data_format=self.data_format
        )

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""
        shows_indices = as_flag("return_indices", self.return_indices)
        out, indices = self._forward(x, *self._sizes(), True, generator=self.generator, data_format=self.data_format)

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._sizes(), indices=indices, data_format=self.data_format)

        return ((out, indices) if shows_indices else out), pullback

    def _sizes(self) -> tuple[Any, ...]:
        return self.kernel_size, self.output_size, self.output_ratio


@dataclass(frozen=True)
class _MaxUnpool:
    kernel_size: Extent
    stride: Extent | None = None
    padding: Extent = 0
    _: KW_ONLY
    check_indices: bool = True
    data_format: DataFormat = "channels_first"

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any, indices: Any, output_size: Extent | None = None) -> Any:
        """Unpool `x`."""
        return self._forward(x, indices, *self._window(), output_size, **self._keywords())

    def vjp(self, x: Any, indices: Any, output_size: Extent | None = None) -> tuple[Any, Pullback]:
        """Unpool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, indices, *self._window(), output_size, **self._keywords())

        return self(x, indices, output_size), pullback

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding

    def _keywords(self) -> dict[str, Any]:
        return {"check_indices": self.check_indices, "data_format": self.data_format}


class MaxPool1d(_MaxPool):
    """Maximum over sliding windows of the last axis; parameters as in `numbapool.max_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool1d(2)
    >>> layer  # doctest: +ELLIPSIS
    MaxPool1d(kernel_size=2, stride=None, ..., data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(2.0).reshape(1, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 1.])
    """

    _forward = staticmethod(functional.max_pool1d)
    _backward = staticmethod(functional.max_pool1d_backward)


class MaxPool2d(_MaxPool):
    """Maximum over sliding windows of the last two axes; parameters as in `numbapool.max_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool2d(2)
    >>> layer  # doctest: +ELLIPSIS
    MaxPool2d(kernel_size=2, stride=None, ..., data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.max_pool2d)
    _backward = staticmethod(functional.max_pool2d_backward)


class MaxPool3d(_MaxPool):
    """Maximum over sliding windows of the last three axes; parameters as in `numbapool.max_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool3d(2)
    >>> layer  # doctest: +ELLIPSIS
    MaxPool3d(kernel_size=2, stride=None, ..., data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.max_pool3d)
    _backward = staticmethod(functional.max_pool3d_backward)


class AvgPool1d(_AvgPool):
    """Mean over sliding windows of the last axis; parameters as in `numbapool.avg_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AvgPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item()
    0.5
    >>> pullback(np.ones_like(y)).ravel()
    array([0.5, 0.5])
    """

    _forward = staticmethod(functional.avg_pool1d)
    _backward = staticmethod(functional.avg_pool1d_backward)


class AvgPool2d(_AvgPool):
    """Mean over sliding windows of the last two axes; parameters as in `numbapool.avg_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AvgPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item()
    1.5
    >>> pullback(np.ones_like(y)).ravel()
    array([0.25, 0.25, 0.25, 0.25])
    """

    _forward = staticmethod(functional.avg_pool2d)
    _backward = staticmethod(functional.avg_pool2d_backward)


class AvgPool3d(_AvgPool):
    """Mean over sliding windows of the last three axes; parameters as in `numbapool.avg_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AvgPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item()
    3.5
    >>> pullback(np.ones_like(y)).ravel()
    array([0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125])
    """

    _forward = staticmethod(functional.avg_pool3d)
    _backward = staticmethod(functional.avg_pool3d_backward)


class MinPool1d(_MaxPool):
    """Minimum over sliding windows of the last axis; parameters as in `numbapool.min_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = MinPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 0.])
    """

    _forward = staticmethod(functional.min_pool1d)
    _backward = staticmethod(functional.min_pool1d_backward)


class MinPool2d(_MaxPool):
    """Minimum over sliding windows of the last two axes; parameters as in `numbapool.min_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = MinPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 0., 0., 0.])
    """

    _forward = staticmethod(functional.min_pool2d)
    _backward = staticmethod(functional.min_pool2d_backward)


class MinPool3d(_MaxPool):
    """Minimum over sliding windows of the last three axes; parameters as in `numbapool.min_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = MinPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 0., 0., 0., 0., 0., 0., 0.])
    """

    _forward = staticmethod(functional.min_pool3d)
    _backward = staticmethod(functional.min_pool3d_backward)


class SumPool1d(_SumPool):
    """Sum over sliding windows of the last axis; parameters as in `numbapool.sum_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = SumPool1d(2).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item()
    1.0
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 1.])
    """

    _forward = staticmethod(functional.sum_pool1d)
    _backward = staticmethod(functional.sum_pool1d_backward)


class SumPool2d(_SumPool):
    """Sum over sliding windows of the last two axes; parameters as in `numbapool.sum_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = SumPool2d(2).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item()
    6.0
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 1., 1., 1.])
    """

    _forward = staticmethod(functional.sum_pool2d)
    _backward = staticmethod(functional.sum_pool2d_backward)


class SumPool3d(_SumPool):
    """Sum over sliding windows of the last three axes; parameters as in `numbapool.sum_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = SumPool3d(2).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item()
    28.0
    >>> pullback(np.ones_like(y)).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """

    _forward = staticmethod(functional.sum_pool3d)
    _backward = staticmethod(functional.sum_pool3d_backward)


class LPPool1d(_LPPool):
    """Power mean, or norm, over sliding windows of the last axis; parameters as in `numbapool.lp_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = LPPool1d(1, 2).vjp(np.ones((1, 2)))
    >>> y.item(), pullback(y).ravel()[0].item()
    (2.0, 2.0)
    """

    _forward = staticmethod(functional.lp_pool1d)
    _backward = staticmethod(functional.lp_pool1d_backward)


class LPPool2d(_LPPool):
    """Power mean, or norm, over sliding windows of the last two axes; parameters as in `numbapool.lp_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = LPPool2d(1, 2).vjp(np.ones((1, 2, 2)))
    >>> y.item(), pullback(y).ravel()[0].item()
    (4.0, 4.0)
    """

    _forward = staticmethod(functional.lp_pool2d)
    _backward = staticmethod(functional.lp_pool2d_backward)


class LPPool3d(_LPPool):
    """Power mean, or norm, over sliding windows of the last three axes; parameters as in `numbapool.lp_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = LPPool3d(1, 2).vjp(np.ones((1, 2, 2, 2)))
    >>> y.item(), pullback(y).ravel()[0].item()
    (8.0, 8.0)
    """

    _forward = staticmethod(functional.lp_pool3d)
    _backward = staticmethod(functional.lp_pool3d_backward)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum over bins of the last axis; parameters as in `numbapool.adaptive_max_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = AdaptiveMaxPool1d(1)
    >>> layer
    AdaptiveMaxPool1d(output_size=1, return_indices=False, data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(2.0).reshape(1, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 1.])
    """

    _forward = staticmethod(functional.adaptive_max_pool1d)
    _backward = staticmethod(functional.adaptive_max_pool1d_backward)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum over bins of the last two axes; parameters as in `numbapool.adaptive_max_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = AdaptiveMaxPool2d(1)
    >>> layer
    AdaptiveMaxPool2d(output_size=1, return_indices=False, data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.adaptive_max_pool2d)
    _backward = staticmethod(functional.adaptive_max_pool2d_backward)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum over bins of the last three axes; parameters as in `numbapool.adaptive_max_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = AdaptiveMaxPool3d(1)
    >>> layer
    AdaptiveMaxPool3d(output_size=1, return_indices=False, data_format='channels_first')
    >>> y, pullback = layer.vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.adaptive_max_pool3d)
    _backward = staticmethod(functional.adaptive_max_pool3d_backward)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean over bins of the last axis; parameters as in `numbapool.adaptive_avg_pool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AdaptiveAvgPool1d(1).vjp(np.arange(2.0).reshape(1, 2))
    >>> y.item()
    0.5
    >>> pullback(np.full_like(y, 2.0)).ravel()
    array([1., 1.])
    """

    _forward = staticmethod(functional.adaptive_avg_pool1d)
    _backward = staticmethod(functional.adaptive_avg_pool1d_backward)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean over bins of the last two axes; parameters as in `numbapool.adaptive_avg_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AdaptiveAvgPool2d(1).vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> y.item()
    1.5
    >>> pullback(np.full_like(y, 4.0)).ravel()
    array([1., 1., 1., 1.])
    """

    _forward = staticmethod(functional.adaptive_avg_pool2d)
    _backward = staticmethod(functional.adaptive_avg_pool2d_backward)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean over bins of the last three axes; parameters as in `numbapool.adaptive_avg_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = AdaptiveAvgPool3d(1).vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> y.item()
    3.5
    >>> pullback(np.full_like(y, 8.0)).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """

    _forward = staticmethod(functional.adaptive_avg_pool3d)
    _backward = staticmethod(functional.adaptive_avg_pool3d_backward)


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum over windows of the last two axes that are drawn at every call; parameters as in `numbapool.fractional_max_pool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = FractionalMaxPool2d(2, output_ratio=0.5)
    >>> y, pullback = layer.vjp(np.zeros((1, 6, 6)))
    >>> y.shape, pullback(np.ones_like(y)).sum().item()
    ((1, 3, 3), 9.0)
    """

    _forward = staticmethod(functional.fractional_max_pool2d)
    _backward = staticmethod(functional.fractional_max_pool2d_backward)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maximum over windows of the last three axes that are drawn at every call; parameters as in `numbapool.fractional_max_pool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    Examples
    --------
    >>> import numpy as np
    >>> layer = FractionalMaxPool3d(2, output_ratio=0.5)
    >>> y, pullback = layer.vjp(np.zeros((1, 6, 6, 6)))
    >>> y.shape, pullback(np.ones_like(y)).sum().item()
    ((1, 3, 3, 3), 27.0)
    """

    _forward = staticmethod(functional.fractional_max_pool3d)
    _backward = staticmethod(functional.fractional_max_pool3d_backward)


class MaxUnpool1d(_MaxUnpool):
    """Elements back to where `numbapool.max_pool1d` found them; parameters as in `numbapool.max_unpool1d`.

    With `data_format="channels_last"` shapes are (N, L, C) or (L, C).

    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    Examples
    --------
    >>> import numpy as np
    >>> indices = np.full((1, 1), 1)
    >>> y, pullback = MaxUnpool1d(2).vjp(np.full((1, 1), 5.0), indices)
    >>> y.ravel()
    array([0., 5.])
    >>> pullback(y).item()
    5.0
    """

    _forward = staticmethod(functional.max_unpool1d)
    _backward = staticmethod(functional.max_unpool1d_backward)


class MaxUnpool2d(_MaxUnpool):
    """Elements back to where `numbapool.max_pool2d` found them; parameters as in `numbapool.max_unpool2d`.

    With `data_format="channels_last"` shapes are (N, H, W, C) or (H, W, C).

    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    Examples
    --------
    >>> import numpy as np
    >>> indices = np.full((1, 1, 1), 3)
    >>> y, pullback = MaxUnpool2d(2).vjp(np.full((1, 1, 1), 5.0), indices)
    >>> y.ravel()
    array([0., 0., 0., 5.])
    >>> pullback(y).item()
    5.0
    """

    _forward = staticmethod(functional.max_unpool2d)
    _backward = staticmethod(functional.max_unpool2d_backward)


class MaxUnpool3d(_MaxUnpool):
    """Elements back to where `numbapool.max_pool3d` found them; parameters as in `numbapool.max_unpool3d`.

    With `data_format="channels_last"` shapes are (N, D, H, W, C) or (D, H, W, C).

    With `check_indices=False` indices out of range are skipped on a GPU, and nobody waits for it to look for them.

    Examples
    --------
    >>> import numpy as np
    >>> indices = np.full((1, 1, 1, 1), 7)
    >>> y, pullback = MaxUnpool3d(2).vjp(np.full((1, 1, 1, 1), 5.0), indices)
    >>> y.ravel()
    array([0., 0., 0., 0., 0., 0., 0., 5.])
    >>> pullback(y).item()
    5.0
    """

    _forward = staticmethod(functional.max_unpool3d)
    _backward = staticmethod(functional.max_unpool3d_backward)


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean of each channel; parameters as in `numbapool.global_avg_pool`.

    With `data_format="channels_last"` shapes are (N, ..., C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = GlobalAvgPool().vjp(np.arange(4.0).reshape(1, 1, 4))
    >>> y.item(), pullback(y).ravel()[0].item()
    (1.5, 0.375)
    """

    _: KW_ONLY
    rounding: Rounding = "truncate"
    data_format: DataFormat = "channels_first"

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return functional.global_avg_pool(x, rounding=self.rounding, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return functional.global_avg_pool_backward(grad_output, x, data_format=self.data_format)

        return self(x), pullback


@dataclass(frozen=True)
class GlobalMaxPool:
    """Maximum of each channel; parameters as in `numbapool.global_max_pool`.

    With `data_format="channels_last"` shapes are (N, ..., C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = GlobalMaxPool().vjp(np.array([[[1.0, 3.0, 2.0]]]))
    >>> pullback(y)
    array([[[0., 3., 0.]]])
    """

    return_indices: bool = False
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    def __call__(self, x: Any) -> Any:
        """Pool `x`; a pair (out, indices) with `return_indices`."""
        return functional.global_max_pool(x, self.return_indices, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""
        shows_indices = as_flag("return_indices", self.return_indices)
        out, indices = functional.global_max_pool(x, True, data_format=self.data_format)

        def pullback(grad_output: Any) -> Any:
            return functional.global_max_pool_backward(grad_output, x, indices=indices, data_format=self.data_format)

        return ((out, indices) if shows_indices else out), pullback


@dataclass(frozen=True)
class GlobalLPPool:
    """Norm of each channel; parameters as in `numbapool.global_lp_pool`.

    With `data_format="channels_last"` shapes are (N, ..., C).

    Examples
    --------
    >>> import numpy as np
    >>> y, pullback = GlobalLPPool().vjp(np.array([[[3.0, -4.0]]]))
    >>> y.item(), pullback(y)
    (5.0, array([[[ 3., -4.]]]))
    """

    norm_type: float = 2
    _: KW_ONLY
    data_format: DataFormat = "channels_first"

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return functional.global_lp_pool(x, self.norm_type, data_format=self.data_format)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return functional.global_lp_pool_backward(grad_output, x, self.norm_type, data_format=self.data_format)

        return self(x), pullback
