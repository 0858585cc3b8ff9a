"""Tiles of rows: windows of two columns that lie side by side, 16 bytes at a time.

A thread folds the rows of its windows first, then neighbours, or hands gradients back to twice as many elements. On the CPU a
unit of rows is folded so, with windows of any size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import taps, vectors
from numbapool.kernels.cuda.launch import Buffer
from numbapool.kernels.cuda.scalars import counted
from numbapool.kernels.cuda.schedule import WIDE, leading_of, lengths_of, steps_in


class Tiles(NamedTuple):
    """How threads take tiles instead of elements of the result: a word for labels, steps of vectors, and scalars."""

    word: str
    steps: dict[str, Any]
    fields: dict[str, int]


def tiles_of(plan: Plan, x: Buffer, out: Buffer, widest: int = 2) -> Tiles | None:
    """Tiles, if windows of two lie side by side along rows that start at multiples of 16 bytes."""
    if not (_lie_in_pairs(plan, x) and has_aligned_rows(plan, x, False)):
        return None
    at_once, length = WIDE // x.dtype.itemsize, lengths_of(plan, True)[2]
    for loads in (widest, 1):
        inputs, outputs = loads * at_once, loads * at_once // 2
        stores_wide = outputs * out.dtype.itemsize == WIDE and out.alignment % WIDE == 0
        if length % outputs == 0 and outputs * out.dtype.itemsize <= 2 * WIDE:
            steps = vectors.tile_steps(outputs, inputs, at_once, stores_wide)
            return Tiles(f"tiles{inputs}to{outputs}{'w' * stores_wide}", steps, _fields(plan, True, inputs, outputs))
    return None


def gradient_tiles_of(plan: Plan, grad: Buffer, out: Buffer) -> Tiles | None:
    """The same for gradients, if the windows leave no column out."""
    if not (_lie_in_pairs(plan, grad) and has_aligned_rows(plan, grad, True)):
        return None
    outputs, axis = WIDE // grad.dtype.itemsize, plan.axes[2]  # type: ignore[attr-defined]
    is_whole = axis.out * 2 == axis.length and axis.out % outputs == 0
    if not (is_whole and out.dtype == grad.dtype and out.alignment % WIDE == 0):
        return None
    inputs = 2 * outputs
    steps = vectors.gradient_tile_steps(outputs, inputs)
    return Tiles(f"tiles{outputs}to{inputs}w", steps, _fields(plan, False, outputs, inputs))


def _fields(plan: Plan, of_output: bool, read: int, written: int) -> dict[str, int]:
    d, h, w = lengths_of(plan, of_output)
    return counted(plan.planes, (d, h, w // written), 1) | {"TO_UNIT": written, "TILE": read}


def _lie_in_pairs(plan: Plan, buffer: Buffer) -> bool:
    if isinstance(plan, BinPlan) or plan.channels > 1 or buffer.dtype.kind == "c":
        return False
    axis = plan.axes[2]  # type: ignore[attr-defined]
    is_paired = axis.kernel == axis.stride == 2 and axis.before == 0 and axis.out * 2 <= axis.length
    return is_paired and taps.placement_of(plan) == "sliding"


def has_aligned_rows(plan: Plan, buffer: Buffer, of_output: bool) -> bool:
    """Whether rows start at multiples of 16 bytes, and their elements are neighbours."""
    *steps, w_step, _ = steps_in(plan, buffer, of_output)
    lengths = (*leading_of(plan), *lengths_of(plan, of_output)[:2])
    are_aligned = all(step * buffer.dtype.itemsize % WIDE == 0 for step, length in zip(steps, lengths) if length > 1)
    return w_step == 1 and buffer.alignment % WIDE == 0 and are_aligned
