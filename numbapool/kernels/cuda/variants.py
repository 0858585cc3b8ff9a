"""Variants of kernels: plain Python functions whose global names are bound to what the variant is made of.

A kernel calls `load`, `larger` or `index` by their names alone. Which element type, how many lanes, how wide the index
arithmetic is, is said when it is bound: the function is copied with other globals, and so is every function of this
package that it calls. A compiler then sees constants and small functions, as if each variant had been written out; and
without a compiler the copies are Python that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np

PACKAGE = "numbapool.kernels."


class Kernel(NamedTuple):
    """A function `thread(t, buffers, g)` that one thread runs, and what its variant is made of.

    `buffers` is a tuple of pointers, `g` one of int64 scalars. A cooperative kernel has some phases, and barriers between them:
    it is called `block(phase, shared, b, i, buffers, g)` instead, for thread i of block b, with `shared` memory of its block.
    """

    function: Callable[..., None]
    label: str  # tells variants apart
    names: tuple[tuple[str, Any], ...]
    buffers: tuple[str, ...]  # dtype of each buffer, by name
    scalars: int
    threads: int = 256  # in a block
    shared: tuple[str, ...] = ()  # dtypes of the two arrays in shared memory, an element a thread, of a cooperative kernel
    phases: int = 1


def with_own(function: Callable[..., Any], **own: Any) -> Callable[..., Any]:
    """A copy of a function with some of its global names fixed, whatever the variant says."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__dict__["own"] = own
    return copy


def bound(
    function: Callable[..., Any],
    names: Mapping[str, Any],
    jit: Callable[[Callable[..., Any]], Any],
    memo: dict[Any, Any],
    substitutes: Mapping[Any, Any] = MappingProxyType({}),
) -> Any:
    """`jit` of a function, and of all functions of this package that it calls, with names bound.

    `memo` keeps what has been made with this `jit`: variants share the functions that are the same in both. `substitutes` are a
    target's own for some functions.
    """
    assert isinstance(function, FunctionType)
    own = function.__dict__.get("own", {})
    used = {}
    for name in function.__code__.co_names:
        each = own[name] if name in own else names.get(name, function.__globals__.get(name))
        if isinstance(each, FunctionType) and each in substitutes:
            each = substitutes[each]
        elif isinstance(each, FunctionType) and (each.__module__ or "").startswith(PACKAGE):
            each = bound(each, names, jit, memo, substitutes)
        if each is not None:
            used[name] = each
    # By identity, because 1, 1.0 and True are equal; what is kept here stays alive, so no identity is used again.
    key = (function.__code__, *[(name, id(each)) for name, each in used.items()])
    if key not in memo:
        memo[key] = jit(FunctionType(function.__code__, {**function.__globals__, **used}, function.__name__)), used
    return memo[key][0]


def buffer_dtype(name: str) -> np.dtype[Any]:
    """What the elements of a buffer are in memory."""
    return np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(name, name))
