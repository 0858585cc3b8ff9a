"""Variants of kernels: plain Python functions whose global names are bound to what the variant is made of.

A kernel calls `load`, `larger` or `index` by their names alone. Which element type, how many lanes, how wide the index
arithmetic is, is said when it is bound: the function is copied with other globals, and so is every function of this
package that it calls. A compiler then sees constants and small functions, as if each variant had been written out; and
without a compiler the copies are Python that runs.
"""

from __future__ import annotations

import hashlib
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
    shared: tuple[
        str, ...
    ] = ()  # dtypes of the two arrays in shared memory, an element a thread, of a cooperative kernel
    phases: int = 1
    resident: int = 4  # blocks that a multiprocessor shall have room for: 64 registers a thread


def with_own(function: Callable[..., Any], **own: Any) -> Callable[..., Any]:
    """A copy of a function with some of its global names fixed, whatever the variant says."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__dict__["own"] = own
    return copy


def bound(
    function: Callable[..., Any],
    names: Mapping[str, Any],
    jit: Callable[[Callable[..., Any]], Any],
    memo: dict[str, Any],
    substitutes: Mapping[Any, Any] = MappingProxyType({}),
) -> Any:
    """`jit` of a function, and of all functions of this package that it calls, with names bound.

    `memo` keeps what has been made with this `jit`: variants share the functions that are the same in both. `substitutes` are a
    target's own for some functions.
    """
    return memo[_bind(function, names, jit, memo, substitutes)]


def _bind(
    function: Callable[..., Any],
    names: Mapping[str, Any],
    jit: Callable[[Callable[..., Any]], Any],
    memo: dict[str, Any],
    substitutes: Mapping[Any, Any],
) -> str:
    """The key of what `bound` makes: it says all that the copy is made of.

    The copy is named after it, since compilers take functions of one name for the same, in files that other processes wrote too.
    """
    assert isinstance(function, FunctionType)
    own = function.__dict__.get("own", {})
    used, described = {}, [f"{function.__module__}.{function.__name__}"]
    for name in function.__code__.co_names:
        each = own[name] if name in own else names.get(name, function.__globals__.get(name))
        if each is None:
            continue
        described.append(f"{name}={each!r}")
        if isinstance(each, FunctionType) and each in substitutes:
            described[-1] = f"{name}={each.__name__} of the target"
            each = substitutes[each]
        elif isinstance(each, FunctionType) and (each.__module__ or "").startswith(PACKAGE):
            key = _bind(each, names, jit, memo, substitutes)
            described[-1] = f"{name}={key}"
            each = memo[key]
        used[name] = each
    key = f"{function.__name__}_{hashlib.sha256(repr(described).encode()).hexdigest()[:16]}"
    if key not in memo:
        copy = FunctionType(function.__code__, {**function.__globals__, **used}, key)
        copy.__qualname__ = key
        memo[key] = jit(copy)
    return key


def buffer_dtype(name: str) -> np.dtype[Any]:
    """What the elements of a buffer are in memory."""
    return np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(name, name))
