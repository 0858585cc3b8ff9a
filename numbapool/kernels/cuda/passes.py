"""Passes over contiguous buffers, an element a thread: of scratch, which the CPU does without."""

from __future__ import annotations

import numpy as np

from numbapool.kernels.cuda.draft import Draft
from numbapool.kernels.cuda.elements import element, element_of, put, written_as
from numbapool.kernels.cuda.launch import Buffer
from numbapool.kernels.cuda.scalars import G


def clear(draft: Draft, buffer: Buffer, size: int, filling: int) -> None:
    """Fill a buffer of integers."""
    draft.pass_over(fill, [buffer.name], {}, [buffer], size, {"FILLING": filling})


def convert(draft: Draft, source: Buffer, out: Buffer, size: int) -> None:
    """Floats to another precision."""
    names = element_of(source.dtype) | written_as(out.dtype)
    draft.pass_over(copy, [out.name, source.name], names, [out, source], size)


def flag_of(draft: Draft) -> Buffer:
    """A new flag, not set."""
    flag = draft.room(np.int32, 1)
    clear(draft, flag, 1, 0)
    return flag


def fill(t, buffers, g):
    (out,) = buffers
    if t < g[G.UNITS]:
        out[np.int64(t)] = g[G.FILLING]


def copy(t, buffers, g):
    out, x = buffers
    if t < g[G.UNITS]:
        put(out, np.int64(t), element(x, np.int64(t)))
