"""Variants of kernels: plain Python functions whose global names are bound to what the variant is made of.

A kernel calls `load`, `larger` or `index` by their names alone, or `grid.position_of` by that of its module. Which element type,
how many lanes, how wide the index arithmetic is, is said when it is bound: the function is copied with other globals, and so is
every function of this package that it calls. A compiler then sees constants and small functions, as if each variant had been
written out; and without a compiler the copies are Python that runs. The CPU needs no such thing: it compiles types.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np

PACKAGE = "numbapool."


class Kernel(NamedTuple):
    """A function `thread(t, buffers, g)` that one thread runs, and what its variant is made of.

    `buffers` is a tuple of pointers, `g` one of int64 scalars. A cooperative kernel has some phases, and barriers between them:
    it is called `block(phase, shared, b, i, buffers, g)` instead, for thread i of block b, with `shared` memory of its block.
    """

    function: Callable[..., None]
    label: str  # tells variants apart
    names: tuple[tuple[str, Any], ...]
    buffers: tuple[str, ...]  # dtype of each buffer, by name
    scalars: tuple[str, ...]  # those that it reads, in the order in which it gets them
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

    def resolved(each: Any) -> tuple[str, Any]:
        if _is_ours(each, FunctionType) and each in substitutes:
            return f"{each.__name__} {each.__dict__} of the target", substitutes[each]
        if _is_ours(each, FunctionType):
            key = _bind(each, names, jit, memo, substitutes)
            return key, memo[key]
        if _is_ours(each, ModuleType):
            parts = {name: resolved(part) for name, part in _parts_used(each, function, names)}
            module = ModuleType(f"{each.__name__} {[key for key, _ in parts.values()]}")
            module.__dict__.update({name: part for name, (_, part) in parts.items()})
            return module.__name__, module
        if isinstance(
            each, ModuleType
        ):  # of positions of scalars those matter that the function reads: variants share more
            words = function.__code__.co_names
            return repr({name: at for name, at in vars(each).items() if name in words and type(at) is int}), each
        return repr(each), each

    used = {name: resolved(each) for name, each in _used(function, names)}
    described = [f"{function.__module__}.{function.__name__}", *(f"{name}={said}" for name, (said, _) in used.items())]
    key = f"{function.__name__}_{hashlib.sha256(repr(described).encode()).hexdigest()[:16]}"
    if key not in memo:
        ours = {name: each for name, (_, each) in used.items()}
        copy = FunctionType(function.__code__, {**function.__globals__, **ours}, key)
        copy.__qualname__ = key
        memo[key] = jit(copy)
    return key


def _used(function: Callable[..., Any], names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The global names that a function uses, and what they are in a variant."""
    assert isinstance(function, FunctionType)
    known = ChainMap(function.__dict__.get("own", {}), names, function.__globals__)  # type: ignore[arg-type]
    return ((name, known[name]) for name in function.__code__.co_names if known.get(name) is not None)


def _parts_used(module: Any, function: Any, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The same of a module by whose name the function has them."""
    words = [name for name in function.__code__.co_names if hasattr(module, name)]
    return ((name, names.get(name, getattr(module, name))) for name in words)


def _is_ours(each: Any, kind: type) -> bool:
    home = getattr(each, "__name__" if kind is ModuleType else "__module__", None)
    return isinstance(each, kind) and str(home).startswith(PACKAGE)


def scalars_read(function: Callable[..., Any], names: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the scalars that a function, or any that it calls, reads as `g[G.NAME]`, in the order that they have in `G`.

    Sorted by name, those along an axis were no neighbours any more, and kernels took up to 8 registers more.
    """
    found: set[str] = set()
    order: Mapping[str, Any] = {}
    left, seen = [function], set()
    while left:
        each: Any = left.pop()
        if each in seen:
            continue
        seen.add(each)
        for name, used in _used(each, names):
            if name == "G":
                order = used.__members__
                found.update(order.keys() & set(each.__code__.co_names))
            modules = _parts_used(used, each, names) if _is_ours(used, ModuleType) else ((name, used),)
            left += [part for _, part in modules if _is_ours(part, FunctionType)]
    return tuple([name for name in order if name in found])


@cache
def layout_of(scalars: Sequence[str]) -> ModuleType:
    """What `G` is in a variant that gets these scalars: their positions."""
    layout = ModuleType(" ".join(scalars))
    layout.__dict__.update({name: at for at, name in enumerate(scalars)})
    return layout


def buffer_dtype(name: str) -> np.dtype[Any]:
    """What the elements of a buffer are in memory."""
    return np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(name, name))
