"""Wrapper: indices that count in the whole array, by those that count in planes."""

from __future__ import annotations

from typing import Any

from numbapool.arguments import PLANE, as_data_format, as_flag, as_index_kind
from numbapool.dispatch import Backend
from numbapool.functional.arrangement import from_global, refuse_traced, to_global
from numbapool.requests import Onward, Pooling, Unpooled


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether there are such indices, made or given."""
    if pooling.index_kind is PLANE:
        return False
    is_global = as_index_kind(pooling.index_kind) == "global"
    return is_global and (indices is not None or as_flag("return_indices", pooling.return_indices))


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    refuse_traced(backend, x, indices=indices)
    in_planes = pooling._replace(index_kind="plane")
    if indices is not None:
        return onward.pooled(in_planes, x, out, _in_planes(backend, pooling, x, indices))
    values, positions = onward.pooled(in_planes, x, out)
    shape, _ = backend.describe("x", x)
    renumbered = to_global(backend, positions, shape, _pooled_axes(pooling, shape))
    if out is None:
        return values, renumbered
    backend.write(positions, renumbered)
    return values, positions


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient."""
    grad_output, x, indices = arrays
    refuse_traced(backend, x, grad_output=grad_output, indices=indices)
    return onward.pooled_backward(
        pooling._replace(index_kind="plane"), grad_output, x, _in_planes(backend, pooling, x, indices), out
    )


def _in_planes(backend: Backend, pooling: Pooling, x: Any, indices: Any) -> Any:
    shape, _ = backend.describe("x", x)
    axes, windows = _pooled_axes(pooling, shape), pooling.windows
    if isinstance(windows, Unpooled):
        if pooling.data_format == "channels_last":
            windows = windows.channels_first()
        shape = windows.unpooled(shape, axes)
    return from_global(backend, indices, shape, axes)


def _pooled_axes(pooling: Pooling, shape: tuple[int, ...]) -> tuple[int, ...]:
    data_format, ndim = as_data_format(pooling.data_format), len(shape)
    pooling.windows.check_axes(shape, data_format)
    end = ndim if data_format == "channels_first" else ndim - 1
    return tuple(range(end - pooling.rank(ndim), end))
