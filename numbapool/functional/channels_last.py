"""Wrapper: arrays whose channels are their last axis, as views that have them first; results are moved back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numbapool.arguments import as_data_format, is_about_shape
from numbapool.dispatch import Backend
from numbapool.requests import Onward, Pooling, Unpooled


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether the channels are last by shape."""
    return as_data_format(pooling.data_format) == "channels_last"


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    move = _Move(backend, pooling, x)
    targets = tuple([move.first("out", each) for each in out]) if isinstance(out, (tuple, list)) else out
    if out is not None and targets is out:
        targets = move.first("out", out)
    results = move.explained(onward.pooled, move.pooling, move.first("x", x), targets, move.first("indices", indices))
    if out is not None:
        return tuple(out) if isinstance(out, (tuple, list)) else out
    return tuple([move.back(each) for each in results]) if isinstance(results, tuple) else move.back(results)


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient."""
    grad_output, x, indices = arrays
    move = _Move(backend, pooling, x)
    moved = [move.first(*each) for each in (("grad_output", grad_output), ("x", x), ("indices", indices), ("out", out))]
    result = move.explained(onward.pooled_backward, move.pooling, *moved)
    return move.back(result) if out is None else out


class _Move:
    """From the axes of an array to channels first, and back."""

    def __init__(self, backend: Backend, pooling: Pooling, x: Any) -> None:
        self.backend = backend
        self.shape, _ = backend.describe("x", x)
        pooling.windows.check_axes(self.shape, "channels_last")
        windows = pooling.windows
        if isinstance(windows, Unpooled):
            windows = windows.channels_first()
        self.pooling = replace(pooling, windows=windows, data_format="channels_first")
        self.leading = len(self.shape) - 1 - pooling.rank(len(self.shape))

    def first(self, name: str, array: Any) -> Any:
        """A view of an array that has as many axes as `x`, with the channels first."""
        if array is None:
            return None
        given, _ = self.backend.describe(name, array)
        axes = len(self.shape)
        if len(given) != axes:
            raise ValueError(f"{name} must have as many axes as x, which has shape {self.shape}, got shape {given}")
        order = *range(self.leading), axes - 1, *range(self.leading, axes - 1)
        return self.backend.permute(name, array, order)

    def back(self, result: Any) -> Any:
        """A view of a result with the channels last."""
        axes = len(self.shape)
        order = *range(self.leading), *range(self.leading + 1, axes), self.leading
        return self.backend.permute("result", result, order)

    def explained(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call, whose errors show shapes that have the channels first."""
        try:
            return call(*arguments)
        except ValueError as error:
            if not is_about_shape(error):
                raise
            # In the message, for str(error) does not show notes (PEP 678).
            raise ValueError(f"{error}; shapes here have the channels first, data_format is 'channels_last'") from None
