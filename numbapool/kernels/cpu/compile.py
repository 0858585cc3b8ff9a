"""Compiling for the CPU: entry points are cached on disk, what they call is compiled into them.

Numba's own cache (`cache=True`) is not safe for us: it does not notice a change in a jitted function of another file
(numba#8396), and two processes that compile different signatures of one function at the same time can exchange their code,
because the index and the code are separate files. Here one file holds one compiled signature, and its name is a digest of
everything the machine code depends on, so it is either the right code or not there.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import compiler, config
from numba.core.caching import NullCache
from numba.core.serialize import dumps
from numba.extending import overload

from numbapool.kernels import cache

# Inner functions are only ever called by jitted code. Without their two wrappers a kernel compiles in 1.6 s, with in 2.0.
# None inherits fastmath from a caller that is compiled with it: its code would be cached for all.
inner = numba.njit(error_model="numpy", fastmath=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

# Steps of an algorithm become part of the kernel that calls them: a function of their own would go through LLVM once more.
inlined = numba.njit(error_model="numpy", fastmath=False, inline="always")


def argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let compiled code call a plain function that one of its functions is given as an argument.

    A compiled function as a value is an address in this process: Numba's cache would refuse all that call it.
    """
    overload(function, jit_options={"fastmath": False}, inline="always", strict=False)(lambda *_: function)
    return function


def entry(function: Callable[..., None]) -> Any:
    """Compile `function` for calls from Python: without the GIL, cached on disk."""
    return _cached(numba.njit(function, nogil=True, error_model="numpy", fastmath=False, no_cfunc_wrapper=True))


def parallel_entry(function: Callable[..., None]) -> Any:
    """`entry` for a function that contains a prange."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": False, "no_cfunc_wrapper": True}
    return _cached(numba.njit(function, parallel=True, **options))


def _cached(dispatcher: Any) -> Any:
    if not config.DISABLE_JIT:
        dispatcher._cache = KernelCache(dispatcher)
    return dispatcher


class KernelCache(NullCache):  # type: ignore[misc]
    """Compiled signatures of one entry point, each in a file of its own; a directory that cannot be used is passed over."""

    def __init__(self, dispatcher: Any) -> None:
        self.name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
        self.options = repr(sorted(dispatcher.targetoptions.items()))

    @property
    def cache_path(self) -> str:
        """First directory of the cache, as `Dispatcher.stats` shows it."""
        return str(next(cache_directories(), None))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for `sig`, or None where no file holds it."""
        target_context.refresh()
        for directory in cache_directories():
            try:
                payload = (directory / self._file_name(sig, target_context.codegen())).read_bytes()
            except OSError:
                continue
            try:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception:  # noqa: S112 - a damaged file, whatever unpickling makes of it, is a miss
                continue
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the compiled code to the first directory that takes it; where none does, it serves this process only."""
        name = self._file_name(sig, data.codegen)
        payload = dumps(data._reduce())
        for directory in cache_directories():
            try:
                cache.write_whole(directory, name, payload)
            except OSError:
                continue
            return

    def _file_name(self, sig: Any, codegen: Any) -> str:
        key = repr((self.name, self.options, sig, codegen.magic_tuple(), environment_digest()))
        return f"numbapool.{self.name.rpartition('.')[2]}.{hashlib.sha256(key.encode()).hexdigest()[:32]}.nbc"


def cache_directories() -> Iterator[Path]:
    """Where compiled code may be, in order."""
    return cache.directories(config.CACHE_DIR)


@lru_cache(maxsize=1)
def environment_digest() -> str:
    """Digest of what machine code depends on besides the function and the processor: sources, versions, switches."""
    digest = cache.digest_of("cpu")
    switches = (config.BOUNDSCHECK, config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT)
    digest.update(repr((sys.version, np.__version__, numba.__version__, llvmlite.__version__, switches)).encode())
    return digest.hexdigest()
