"""Plain Python that compiled code calls, too: what plans are made with, for `numbapool.jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Compilable = TypeVar("Compilable", bound=Callable[..., Any])

# All of them; `kernels.cpu.embedded` tells Numba, which others need not wait for.
COMPILABLE: list[Callable[..., Any]] = []


def compilable(function: Compilable) -> Compilable:
    """Mark a function that Numba can compile; it stays what it is."""
    COMPILABLE.append(function)
    return function
