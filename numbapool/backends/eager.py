"""What backends have in common whose arrays hold their values: nothing is recorded, and the host draws."""

from __future__ import annotations

from typing import Any

import numpy as np


class EagerBackend:
    """The part of a backend that asks nothing of its library."""

    def is_traced(self, x: Any, **others: Any) -> bool:
        """Never."""
        return False

    def trace(self, function: str, rank: int, out: Any, x: Any, *arguments: Any) -> Any:
        """Never called."""
        raise NotImplementedError

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Any:
        """Random numbers in [0, 1) by a generator, or others at every call."""
        return (np.random.default_rng() if generator is None else generator).random(shape, dtype.type)
