"""Passes over contiguous buffers, an element a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbapool.kernels.cuda.elements import element, put
from numbapool.kernels.cuda.launch import LARGEST, Draft, Operand, Step, element_of, index_names, name_of, written_as
from numbapool.kernels.cuda.variants import Kernel

UNITS, FILLING = range(2)


def pass_over(
    draft: Draft,
    function: Callable[..., None],
    words: list[str],
    names: dict[str, Any],
    buffers: list[tuple[int, str]],
    size: int,
    *scalars: int,
) -> None:
    """A launch of a thread for each of `size` elements."""
    large = size > LARGEST
    label = ".".join([function.__name__, *words, "64" if large else "32"])
    every = names | index_names(large)
    kernel = Kernel(function, label, tuple(every.items()), tuple(name for _, name in buffers), 1 + len(scalars))
    blocks = -(-size // kernel.threads)
    draft.steps.append(Step(kernel, blocks, tuple((number, 0) for number, _ in buffers), (size, *scalars)))


def clear(draft: Draft, buffer: int, size: int, dtype: np.dtype[Any], filling: int) -> None:
    """Fill a buffer of integers."""
    pass_over(draft, fill, [str(dtype)], {}, [(buffer, str(dtype))], size, filling)


def convert(draft: Draft, source: tuple[Operand, int], out: tuple[Operand, int], size: int) -> None:
    """Floats to another precision."""
    names = element_of(source[0].dtype) | written_as(out[0].dtype)
    buffers = [(out[1], name_of(out[0].dtype)), (source[1], name_of(source[0].dtype))]
    pass_over(draft, copy, [name for _, name in buffers], names, buffers, size)


def flag_of(draft: Draft) -> int:
    """A new flag, not set."""
    flag = draft.room(1, np.int32)
    clear(draft, flag, 1, np.dtype(np.int32), 0)
    return flag


def fill(t, buffers, g):
    (out,) = buffers
    if t < g[UNITS]:
        out[np.int64(t)] = g[FILLING]


def copy(t, buffers, g):
    out, x = buffers
    if t < g[UNITS]:
        put(out, np.int64(t), element(x, np.int64(t)))
