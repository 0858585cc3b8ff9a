"""What backends have in common whose arrays hold their values: nothing is recorded, and the host draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numbapool.requests import Pooling


class EagerBackend:
    """The part of a backend that asks nothing of its library."""

    def is_traced(self, x: Any, **others: Any) -> bool:
        """Never."""
        return False

    def trace(self, pooling: Pooling, x: Any, indices: Any, out: Any) -> Any:
        """Never called."""
        raise NotImplementedError

    def trace_backward(self, pooling: Pooling, grad_output: Any, x: Any, indices: Any, out: Any) -> Any:
        """Never called."""
        raise NotImplementedError

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Any:
        """Random numbers in [0, 1) by a generator, or others at every call."""
        return (np.random.default_rng() if generator is None else generator).random(shape, dtype.type)
