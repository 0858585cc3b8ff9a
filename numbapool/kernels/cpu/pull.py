"""Gradients by the taps of windows that move by one element: each input element asks the windows that hold it.

An element adds what windows hand it in the order of the outputs, as `indexed.scatter_taps` does: the bits are the same.
"""

from __future__ import annotations

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu.codes import no_tap
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.launch import run
from numbapool.kernels.cpu.rows import ZERO
from numbapool.kernels.cpu.schedule import (
    BEFORE_D,
    BEFORE_H,
    BEFORE_W,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    IN_D,
    IN_H,
    IN_W,
    KERNEL_D,
    KERNEL_H,
    KERNEL_W,
    OUT_D,
    OUT_H,
    OUT_W,
    geometry_of,
)
from numbapool.kernels.cpu.vectors import add, element, lanes, load, load_marks, no_sum, put, store, where_equal

# Windows of up to this many elements are pulled: every element looks at all of them.
MOST_PULLED = 27


def is_pulled(plan: WindowPlan) -> bool:
    """Whether windows are small and move by one element."""
    return plan.taps <= MOST_PULLED and all(axis.stride == 1 for axis in plan.pooled)


def pull_gradients(plan: WindowPlan, grad: np.ndarray, taps: np.ndarray, grad_input: np.ndarray) -> bool:
    """The gradient of each input element; False if a tap is none of a window's. All arrays contiguous."""
    d, h, _ = plan.axes
    bad, none = np.zeros(1, np.int64), no_tap(taps.dtype)
    units, operations = plan.planes * d.length * h.length, grad_input.size * plan.taps
    run(pull_rows, units, operations, grad_input, grad, taps, geometry_of(plan), np.int64(units), none, bad)
    return not bad[0]


@inlined
def tap_range(position, out, kernel, dilation):
    """The taps as which windows may hold a position: position - tap * dilation is a window."""
    first = max(ZERO, (position - out) // dilation + 1)
    return first, min(kernel, position // dilation + 1)


@entry
def pull_rows(first, last, grad_input, grad, taps, g, units, none, bad):
    line, known = np.full(lanes_of(grad_input), no_sum(grad_input)), g[KERNEL_D] * g[KERNEL_H] * g[KERNEL_W]
    # Of each tap that holds a row: how far from the element its window is, how far along w, and its number.
    distances, across = np.empty(MOST_PULLED, np.int64), np.empty(MOST_PULLED, np.int64)
    numbers = np.empty(MOST_PULLED, taps.dtype)
    width, reach = lanes(line), (g[KERNEL_W] - 1) * g[DILATION_W]
    inside0, inside1 = max(ZERO, reach - g[BEFORE_W]), min(g[IN_W], g[OUT_W] - g[BEFORE_W])
    is_vector = inside1 - inside0 >= np.int64(width)
    is_bad, largest, none_of_dtype = False, taps.dtype.type(known - 1), taps.dtype.type(none)
    for i in range(np.uintp(first * taps.size // units), np.uintp(last * taps.size // units)):
        is_bad |= (taps[i] > largest) & (taps[i] != none_of_dtype)
    if is_bad:
        bad[0] = 1
    for number in range(first, last):
        slab = number // g[IN_H]
        plane = slab // g[IN_D]
        d, h = slab - plane * g[IN_D] + g[BEFORE_D], number - slab * g[IN_H] + g[BEFORE_H]
        d0, d1 = tap_range(d, g[OUT_D], g[KERNEL_D], g[DILATION_D])
        h0, h1 = tap_range(h, g[OUT_H], g[KERNEL_H], g[DILATION_H])
        count = np.uintp(0)
        for i in range(d1 - 1, d0 - 1, -1):
            for j in range(h1 - 1, h0 - 1, -1):
                row = ((plane * g[OUT_D] + d - i * g[DILATION_D]) * g[OUT_H] + h - j * g[DILATION_H]) * g[OUT_W]
                for k in range(g[KERNEL_W] - 1, -1, -1):
                    across[count] = g[BEFORE_W] - k * g[DILATION_W]
                    distances[count] = row + across[count]
                    numbers[count] = (i * g[KERNEL_H] + j) * g[KERNEL_W] + k
                    count += np.uintp(1)
        column, to = ZERO, number * g[IN_W]
        while column < g[IN_W]:
            if is_vector and inside0 <= column < inside1:
                # The last vector of the inside computes some elements again.
                at = min(column, inside1 - np.int64(width))
                total = load(line, np.uintp(0), line)
                for t in range(count):
                    source = np.uintp(distances[t] + at)
                    share = where_equal(load(grad, source, line), load_marks(taps, source, line), numbers[t])
                    total = add(total, share)
                store(grad_input, np.uintp(to + at), total)
                column = at + np.int64(width)
            else:
                sum_ = no_sum(grad_input)
                for t in range(count):
                    if 0 <= column + across[t] < g[OUT_W]:
                        source = np.uintp(distances[t] + column)
                        if taps[source] == numbers[t]:
                            sum_ += element(grad, source, line)
                put(grad_input, np.uintp(to + column), sum_)
                column += 1


@inlined
def lanes_of(grad_input):
    """Elements of a vector of sums."""
    return np.int64(lanes(np.full(1, no_sum(grad_input))))
