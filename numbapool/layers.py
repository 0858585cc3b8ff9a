"""Pooling layers for any array: parameters given once, no state, `vjp` for pipelines without torch.

Constructors have the order and defaults of torch.nn. A layer is an immutable value: equal parameters, equal layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numbapool import functional
from numbapool.geometry import Extent, Padding

Pullback = Callable[..., Any]


@dataclass(frozen=True)
class _MaxPool:
    kernel_size: Extent
    stride: Extent | None = None
    padding: Padding = 0
    dilation: Extent = 1
    return_indices: bool = False
    ceil_mode: bool = False

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`; a pair (out, indices) with `return_indices`."""
        return self._forward(x, *self._window(), self.return_indices)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`.

        The indices are kept for the pullback, so backward does not search the maxima again.
        """
        out, indices = self._forward(x, *self._window(), True)

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._window(), indices=indices)

        return ((out, indices) if self.return_indices else out), pullback

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

    _forward: ClassVar[Callable[..., Any]]
    _backward: ClassVar[Callable[..., Any]]

    def __call__(self, x: Any) -> Any:
        """Pool `x`."""
        return self._forward(x, *self._window(), dilation=self.dilation)

    def vjp(self, x: Any) -> tuple[Any, Pullback]:
        """Pool `x` and return, beside the result, the function from its gradient to the gradient of `x`."""

        def pullback(grad_output: Any) -> Any:
            return self._backward(grad_output, x, *self._window(), dilation=self.dilation)

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


class MaxPool1d(_MaxPool):
    """Maximum over sliding windows of the last axis; parameters as in `numbapool.max_pool1d`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool1d(2)
    >>> layer
    MaxPool1d(kernel_size=2, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False)
    >>> y, pullback = layer.vjp(np.arange(2.0).reshape(1, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 1.])
    """

    _forward = staticmethod(functional.max_pool1d)
    _backward = staticmethod(functional.max_pool1d_backward)


class MaxPool2d(_MaxPool):
    """Maximum over sliding windows of the last two axes; parameters as in `numbapool.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool2d(2)
    >>> layer
    MaxPool2d(kernel_size=2, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False)
    >>> y, pullback = layer.vjp(np.arange(4.0).reshape(1, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.max_pool2d)
    _backward = staticmethod(functional.max_pool2d_backward)


class MaxPool3d(_MaxPool):
    """Maximum over sliding windows of the last three axes; parameters as in `numbapool.max_pool3d`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaxPool3d(2)
    >>> layer
    MaxPool3d(kernel_size=2, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False)
    >>> y, pullback = layer.vjp(np.arange(8.0).reshape(1, 2, 2, 2))
    >>> pullback(np.ones_like(y)).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 1.])
    """

    _forward = staticmethod(functional.max_pool3d)
    _backward = staticmethod(functional.max_pool3d_backward)


class AvgPool1d(_AvgPool):
    """Mean over sliding windows of the last axis; parameters as in `numbapool.avg_pool1d`.

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
