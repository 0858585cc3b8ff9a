"""Wrapper: what is asked of arrays without values is written down, for `explain`."""

from __future__ import annotations

from typing import Any

from numbapool.backends.outline import Outline
from numbapool.dispatch import Backend
from numbapool.requests import Onward, Pooling


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether nothing has been written down yet."""
    return isinstance(x, Outline) and x.record.pooling is None


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    x.record.pooling = pooling
    return onward.pooled(pooling, x, out, indices)


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient."""
    arrays[1].record.pooling = pooling
    return onward.pooled_backward(pooling, *arrays, out)
