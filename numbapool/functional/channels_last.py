"""Wrapper: arrays whose channels are their last axis, as views that have them first; results are moved back."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import as_data_format, explained
from numbapool.dispatch import Backend
from numbapool.requests import Onward, Pooling, Unpooled


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether the channels are last by shape."""
    return as_data_format(pooling.data_format) == "channels_last"


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    shape, first, last = _orders(backend, pooling, x)
    targets = out
    if isinstance(out, (tuple, list)):
        targets = tuple([_moved(backend, "out", each, shape, first) for each in out])
    elif out is not None:
        targets = _moved(backend, "out", out, shape, first)
    if indices is not None:
        indices = _moved(backend, "indices", indices, shape, first)
    results = explained(
        _in_order, onward.pooled, _channels_first(pooling), backend.permute("x", x, first), targets, indices
    )
    if out is not None:
        return tuple(out) if isinstance(out, (tuple, list)) else out
    if isinstance(results, tuple):
        return tuple([backend.permute("result", each, last) for each in results])
    return backend.permute("result", results, last)


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient."""
    grad_output, x, indices = arrays
    shape, first, last = _orders(backend, pooling, x)
    named = ("grad_output", grad_output), ("x", x), ("indices", indices), ("out", out)
    moved = [None if each is None else _moved(backend, name, each, shape, first) for name, each in named]
    result = explained(_in_order, onward.pooled_backward, _channels_first(pooling), *moved)
    return backend.permute("result", result, last) if out is None else out


def _channels_first(pooling: Pooling) -> Pooling:
    """The request for arrays that have their channels first."""
    windows = pooling.windows
    if isinstance(windows, Unpooled):
        windows = windows.channels_first()
    return Pooling(pooling.operation, windows, *pooling[2:6])  # in a third of the time of _replace


def _orders(backend: Backend, pooling: Pooling, x: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shape of an array, and the orders of its axes that bring the channels to the front, and back."""
    shape, _ = backend.describe("x", x)
    pooling.windows.check_axes(shape, "channels_last")
    axes = len(shape), len(shape) - 1 - pooling.rank(len(shape))
    return shape, *(ORDERS[axes] if axes in ORDERS else _orders_of(*axes))


def _orders_of(ndim: int, leading: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first = *range(leading), ndim - 1, *range(leading, ndim - 1)
    return first, (*range(leading), *range(leading + 1, ndim), leading)


# Of arrays with up to three pooled axes; not a cache, which torch.compile would warn of.
ORDERS = {(ndim, leading): _orders_of(ndim, leading) for ndim in (2, 3, 4, 5) for leading in (0, 1)}


def _moved(backend: Backend, name: str, array: Any, shape: tuple[int, ...], order: tuple[int, ...]) -> Any:
    """A view of an array that has as many axes as `x`, in another order."""
    given, _ = backend.describe(name, array)
    if len(given) != len(shape):
        raise ValueError(f"{name} must have as many axes as x, which has shape {shape}, got shape {given}")
    return backend.permute(name, array, order)


def _in_order() -> str:
    return "shapes here have the channels first, data_format is 'channels_last'"
