"""Gradients by the taps of windows, seen from the input: each element asks the windows that hold it.

For windows that move by one element, and for those that do not overlap, of which one holds it at most. An element adds what
windows hand it in the order of the outputs, as `indexed.scatter_taps` does: the bits are the same.
"""

from __future__ import annotations

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu.codes import no_tap
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.rows import ONE_UP, ZERO
from numbapool.kernels.cpu.schedule import STREAMED_BYTES, geometry_of
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.threads import run
from numbapool.kernels.cpu.vectors import (
    STREAM_BYTES,
    add,
    can_stream,
    element,
    finish_streams,
    lanes,
    load,
    load_marks,
    no_sum,
    put,
    store,
    stream,
    where_equal,
    zipped_high,
    zipped_low,
)

# Windows of up to this many elements are pulled: every element looks at all of them.
MOST_PULLED = 9


def is_pulled(plan: WindowPlan) -> bool:
    """Whether windows are apart, or small and move by one element."""
    return _are_apart(plan) or (plan.taps <= MOST_PULLED and all(axis.stride == 1 for axis in plan.pooled))


def _are_apart(plan: WindowPlan) -> bool:
    return all(axis.kernel <= axis.stride and (axis.dilation == 1 or axis.kernel == 1) for axis in plan.pooled)


def pull_gradients(plan: WindowPlan, grad: np.ndarray, taps: np.ndarray, grad_input: np.ndarray) -> bool:
    """The gradient of each input element; False if a tap is none of a window's. All arrays contiguous."""
    d, h, _ = plan.axes
    bad, none = np.zeros(1, np.int64), no_tap(taps.dtype)
    units, operations = plan.planes * d.length * h.length, grad_input.size
    if _are_apart(plan):
        streams = int(grad_input.nbytes >= STREAMED_BYTES)
        run(pull_apart, units, operations, grad_input, grad, taps, geometry_of(plan), units, none, streams, bad)
    else:
        operations *= plan.taps
        run(pull_rows, units, operations, grad_input, grad, taps, geometry_of(plan), np.int64(units), none, bad)
    return not bad[0]


@inlined
def tap_range(position, out, kernel, dilation):
    """The taps as which windows may hold a position: position - tap * dilation is a window."""
    first = max(ZERO, (position - out) // dilation + 1)
    return first, min(kernel, position // dilation + 1)


@inner
def has_bad(taps, first, last, g, none):
    """Whether any tap of rows first <= row < last of outputs is none of its window's, or outside the input."""
    known, largest = g[G.KERNEL_D] * g[G.KERNEL_H] * g[G.KERNEL_W], taps.dtype.type(none)
    last_known, is_bad, n = taps.dtype.type(known - 1), False, g[G.OUT_W]
    for i in range(np.uintp(first * n), np.uintp(last * n)):
        is_bad |= (taps[i] > last_known) & (taps[i] != largest)
    if is_bad:
        return True
    # Windows inside the input have all their taps there.
    inside0 = min(n, (g[G.BEFORE_W] + g[G.STRIDE_W] - 1) // g[G.STRIDE_W])
    reach = g[G.IN_W] - 1 - (g[G.KERNEL_W] - 1) * g[G.DILATION_W] + g[G.BEFORE_W]
    inside1 = max(inside0, min(n, reach // g[G.STRIDE_W] + 1))
    for number in range(first, last):
        slab = number // g[G.OUT_H]
        d = slab % g[G.OUT_D] * g[G.STRIDE_D] - g[G.BEFORE_D]
        h = (number - slab * g[G.OUT_H]) * g[G.STRIDE_H] - g[G.BEFORE_H]
        is_inside = d >= 0 and d + (g[G.KERNEL_D] - 1) * g[G.DILATION_D] < g[G.IN_D]
        is_inside = is_inside and h >= 0 and h + (g[G.KERNEL_H] - 1) * g[G.DILATION_H] < g[G.IN_H]
        o = ZERO
        while o < n:
            if is_inside and o == inside0:
                o = inside1
                if o == n:
                    break
            tap = taps[np.uintp(number * n + o)]
            if tap != largest:
                row = np.int64(tap) // g[G.KERNEL_W]
                i = row // g[G.KERNEL_H]
                in_d, in_h = d + i * g[G.DILATION_D], h + (row - i * g[G.KERNEL_H]) * g[G.DILATION_H]
                in_w = o * g[G.STRIDE_W] - g[G.BEFORE_W] + (np.int64(tap) - row * g[G.KERNEL_W]) * g[G.DILATION_W]
                if not (0 <= in_d < g[G.IN_D] and 0 <= in_h < g[G.IN_H] and 0 <= in_w < g[G.IN_W]):
                    return True
            o += 1
    return False


@entry
def pull_apart(first, last, grad_input, grad, taps, g, units, none, streams, bad):
    """Each row of the input by the one row of windows that may hold it."""
    rows = g[G.PLANES] * g[G.OUT_D] * g[G.OUT_H]
    if has_bad(taps, first * rows // units, last * rows // units, g, none):
        bad[0] = 1
    size, end = np.uintp(g[G.IN_W]), np.uintp(g[G.OUT_W])
    line, zero = np.zeros(g[G.IN_W] + 1, grad_line(grad_input).dtype), no_sum(grad_input)
    width, two = lanes(line), lanes(line) + lanes(line)
    is_halved = g[G.KERNEL_W] == g[G.STRIDE_W] == 2 and g[G.BEFORE_W] == 0
    row_bytes = g[G.IN_W] * grad_input.itemsize
    past_caches = streams != 0 and can_stream(grad_input, np.uintp(first) * size) and row_bytes % STREAM_BYTES == 0
    for number in range(first, last):
        slab = number // g[G.IN_H]
        plane = slab // g[G.IN_D]
        d, h = slab - plane * g[G.IN_D] + g[G.BEFORE_D], number - slab * g[G.IN_H] + g[G.BEFORE_H]
        od, oh = d // g[G.STRIDE_D], h // g[G.STRIDE_H]
        i, j = d - od * g[G.STRIDE_D], h - oh * g[G.STRIDE_H]
        is_held = i < g[G.KERNEL_D] and j < g[G.KERNEL_H] and od < g[G.OUT_D] and oh < g[G.OUT_H]
        source = np.uintp(((plane * g[G.OUT_D] + od) * g[G.OUT_H] + oh) * g[G.OUT_W])
        tap = (i * g[G.KERNEL_H] + j) * g[G.KERNEL_W]
        to, column, o = np.uintp(number) * size, np.uintp(0), np.uintp(0)
        if is_held and is_halved:
            left, right = taps.dtype.type(tap), taps.dtype.type(tap + 1)
            while o + width <= end and column + two <= size:  # windows may reach beyond the input
                vector, marks = load(grad, source + o, line), load_marks(taps, source + o, line)
                even, odd = where_equal(vector, marks, left), where_equal(vector, marks, right)
                stream(grad_input, to + column, zipped_low(even, odd), past_caches)
                stream(grad_input, to + column + width, zipped_high(even, odd), past_caches)
                column += two
                o += width
        for c in range(column, size):
            line[c] = zero
        if is_held:
            start = g[G.STRIDE_W] * np.int64(o) - g[G.BEFORE_W]
            while o < end:
                # What is not for this row goes behind it.
                own = np.uintp(np.int64(taps[source + o]) - tap)
                at = np.uintp(start) + own
                line[at if own < np.uintp(g[G.KERNEL_W]) and at < size else size] = element(grad, source + o, line)
                start += g[G.STRIDE_W]
                o += ONE_UP
        while column + width <= size:
            stream(grad_input, to + column, load(line, column, line), past_caches)
            column += width
        while column < size:
            put(grad_input, to + column, line[column])
            column += ONE_UP
    if past_caches:
        finish_streams()


@inlined
def grad_line(grad_input):
    """An array of the dtype of sums."""
    return np.full(1, no_sum(grad_input))


@entry
def pull_rows(first, last, grad_input, grad, taps, g, units, none, bad):
    line = np.full(lanes_of(grad_input), no_sum(grad_input))
    # Of each tap that holds a row: how far from the element its window is, how far along w, and its number.
    distances, across = np.empty(MOST_PULLED, np.int64), np.empty(MOST_PULLED, np.int64)
    numbers = np.empty(MOST_PULLED, taps.dtype)
    width, reach = lanes(line), (g[G.KERNEL_W] - 1) * g[G.DILATION_W]
    inside0, inside1 = max(ZERO, reach - g[G.BEFORE_W]), min(g[G.IN_W], g[G.OUT_W] - g[G.BEFORE_W])
    is_vector = inside1 - inside0 >= np.int64(width)
    rows = g[G.PLANES] * g[G.OUT_D] * g[G.OUT_H]
    if has_bad(taps, first * rows // units, last * rows // units, g, none):
        bad[0] = 1
    for number in range(first, last):
        slab = number // g[G.IN_H]
        plane = slab // g[G.IN_D]
        d, h = slab - plane * g[G.IN_D] + g[G.BEFORE_D], number - slab * g[G.IN_H] + g[G.BEFORE_H]
        d0, d1 = tap_range(d, g[G.OUT_D], g[G.KERNEL_D], g[G.DILATION_D])
        h0, h1 = tap_range(h, g[G.OUT_H], g[G.KERNEL_H], g[G.DILATION_H])
        count = np.uintp(0)
        for i in range(d1 - 1, d0 - 1, -1):
            for j in range(h1 - 1, h0 - 1, -1):
                row = ((plane * g[G.OUT_D] + d - i * g[G.DILATION_D]) * g[G.OUT_H] + h - j * g[G.DILATION_H]) * g[
                    G.OUT_W
                ]
                for k in range(g[G.KERNEL_W] - 1, -1, -1):
                    across[count] = g[G.BEFORE_W] - k * g[G.DILATION_W]
                    distances[count] = row + across[count]
                    numbers[count] = (i * g[G.KERNEL_H] + j) * g[G.KERNEL_W] + k
                    count += np.uintp(1)
        column, to = ZERO, number * g[G.IN_W]
        while column < g[G.IN_W]:
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
                    if 0 <= column + across[t] < g[G.OUT_W]:
                        source = np.uintp(distances[t] + column)
                        if taps[source] == numbers[t]:
                            sum_ += element(grad, source, line)
                put(grad_input, np.uintp(to + column), sum_)
                column += 1


@inlined
def lanes_of(grad_input):
    """Elements of a vector of sums."""
    return np.int64(lanes(grad_line(grad_input)))
