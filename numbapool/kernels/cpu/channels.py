"""Pooling where channels lie side by side in memory (channels-last), forward and backward.

Windows that move by one element are those of a longer row, in which an element of the same channel is `channels` elements
further on: `as_rows` makes that plan, and everything in `rows` serves it. Otherwise channels are what a vector holds: each
output pixel folds its taps, vector by vector, where they stand. (Folding rows into lines first, as for planes, reads no
less at windows up to 3x3, and writes the lines besides.)

Vectors may reach beyond the channels of a pixel: pixels are written in ascending order, so the next one overwrites that,
and the last of a row is written element by element.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from numbapool.arguments import LARGEST_EXTENT, LARGEST_INT64
from numbapool.geometry import BinPlan, WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.marks import no_mark
from numbapool.kernels.cpu.rows import ONE_UP, ZERO
from numbapool.kernels.cpu.schedule import AnyPlan
from numbapool.kernels.cpu.tables import pixels as T
from numbapool.kernels.cpu.taps import receivers_of, taps_along, taps_of
from numbapool.kernels.cpu.threads import Launch, run
from numbapool.kernels.cpu.vectors import (
    accumulator_of,
    add,
    all_lanes,
    element,
    indices_of,
    keep,
    lanes,
    larger,
    load,
    load_marks,
    lowest,
    no_sum,
    put,
    quotient,
    store,
    take,
    wide_sum,
)
from numbapool.windows import Axis

# Taps that are folded at once.
GROUP = 4
# Sums of more terms than this are made in float64: a float32 mean of 2 million pixels was 1.3e-5 off without.
MOST_TAPS = 1 << 10


@lru_cache(maxsize=512)
def as_rows(plan: AnyPlan) -> WindowPlan | None:
    """The same windows over rows in which the channels take turns; None if windows do not move by one element."""
    if isinstance(plan, BinPlan) or plan.axes[2].stride != 1:
        return None
    w, n = plan.axes[2], plan.channels
    if max(w.length + w.before + w.after, (w.kernel - 1) * w.dilation) * n > LARGEST_EXTENT:
        return None
    long = Axis(w.length * n, w.out * n, w.kernel, 1, w.dilation * n, w.before * n, w.after * n)
    return WindowPlan(plan.leading, (*plan.axes[:2], long))


def max_channels(plan: AnyPlan) -> Launch:
    """Maximum of each window."""
    return Launch(max_pixels, _out_rows(plan), _program(plan, False), ())


def max_channels_with_indices(plan: AnyPlan) -> Launch:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input."""
    return Launch(max_pixels_indices, _out_rows(plan), _program(plan, False), (no_mark(plan),))


def avg_channels(
    plan: AnyPlan, dtype: np.dtype[Any], count_include_pad: bool, divisor_override: int | None, is_rounded: bool
) -> Launch:
    """Mean of each window; integers are summed in 64 bits, see `avg.avg_pool`."""
    divisors = divisors_of_pixels(plan, accumulator_of(dtype), count_include_pad, divisor_override)
    constants = (rows.with_rounding(divisors, is_rounded),)
    taps = prod(int(taps_of(axis).number.max(initial=0)) for axis in plan.axes)
    return Launch(
        avg_large_pixels if taps > MOST_TAPS else avg_pixels, _out_rows(plan), _program(plan, False), constants
    )


def avg_channels_backward(
    plan: AnyPlan,
    grad_output: np.ndarray,
    grad_input: np.ndarray,
    count_include_pad: bool,
    divisor_override: int | None,
) -> None:
    """Gradient of the mean: each input element takes its share of the windows that hold it."""
    divisors = divisors_of_pixels(plan, accumulator_of(grad_input.dtype), count_include_pad, divisor_override)
    d, h, _ = plan.axes
    units = plan.planes * d.length * h.length
    run(avg_pixels_backward, units, grad_input.size, grad_input, grad_output, _program(plan, True), divisors)


def _out_rows(plan: AnyPlan) -> int:
    d, h, _ = plan.axes
    return plan.planes * d.out * h.out


@lru_cache(maxsize=512)
def _program(plan: AnyPlan, is_backward: bool) -> np.ndarray:
    """What the kernels know of a plan, see `tables.pixels`."""
    tables = [(receivers_of if is_backward else taps_of)(axis) for axis in plan.axes]
    parts = [part for table in tables for part in (table.first, table.number)]
    program = np.concatenate([np.zeros(T.FIELDS, np.int64), *parts])
    program[T.CHANNELS] = plan.channels
    program[[T.IN_D, T.IN_H, T.IN_W]] = [axis.length for axis in plan.axes]
    program[[T.OUT_D, T.OUT_H, T.OUT_W]] = [axis.out for axis in plan.axes]
    program[[T.STEP_D, T.STEP_H, T.STEP_W]] = [table.step for table in tables]
    along_d, along_h, _ = (2 * len(table.first) for table in tables)
    program[[T.TABLE_D, T.TABLE_H, T.TABLE_W]] = np.cumsum([T.FIELDS, along_d, along_h])
    return program


@lru_cache(maxsize=512)
def divisors_of_pixels(
    plan: AnyPlan, dtype: np.dtype[Any], count_include_pad: bool, divisor_override: int | None
) -> np.ndarray:
    """What sums are divided by, as products of two: of each output pixel along w, and before those of each row of outputs."""
    d, h, w = plan.axes
    if divisor_override is not None:
        factors, across = np.full(d.out * h.out, divisor_override), np.ones(w.out)
    else:
        along_d, along_h, across = (
            taps_along(axis, 0, axis.out, count_include_pad) if isinstance(axis, Axis) else taps_of(axis).number
            for axis in plan.axes
        )
        factors = np.multiply.outer(along_d.astype(np.float64), along_h).ravel()
        if dtype.kind != "f":
            factors[factors * across.max(initial=1) > LARGEST_INT64] = 0  # by which any sum gives 0, see `quotient`
    divisor_dtype = dtype if dtype.kind == "f" else np.dtype(np.int64)
    return np.concatenate([across.astype(divisor_dtype), factors.astype(divisor_dtype)])


@inlined
def kept(vector, divisors, at, factor, like):
    """How maxima are finished."""
    return vector


@inlined
def divided(vector, divisors, at, factor, like):
    """How sums are finished, see `rows.divided`."""
    return quotient(vector, all_lanes(divisors[at] * factor, divisors, like), divisors[divisors.size - 1] != 0)


@inlined
def row_of_outputs(number, g):
    """Number of a row's image, and positions of its entries in the tables along d and h."""
    slab = number // g[T.OUT_H]
    image = slab // g[T.OUT_D]
    return image, g[T.TABLE_D] + slab - image * g[T.OUT_D], g[T.TABLE_H] + number - slab * g[T.OUT_H]


@inlined
def next_tap(i, j, k, rows_h, taps):
    """The tap after one in row-major order."""
    k += 1
    if k == taps:
        k = ZERO
        j += 1
        if j == rows_h:
            j = ZERO
            i += 1
    return i, j, k


@inlined
def tap_at(g, corner, i, j, k):
    """Pixel of a tap in its image, `corner` being the first of the window."""
    return corner + (i * g[T.STEP_D] * g[T.IN_H] + j * g[T.STEP_H]) * g[T.IN_W] + k * g[T.STEP_W]


@inlined
def rounded_up(n, width):
    """As many elements as the vectors hold that n elements take."""
    return (n + width - ONE_UP) // width * width


@inlined
def fold_group(combine, finish, out, to, end, x, a, b, c, d, taps, work, has_before, n, divisors, divisor, factor):
    """Fold up to `GROUP` pixels, and what the work array holds if anything is there before, to a pixel of n channels.

    The pixels are in ascending order. Nothing from `end` on is touched but channels of the pixel itself.
    """
    width, last = lanes(work), d
    if taps < GROUP:
        last = c if taps == 3 else b if taps == 2 else a
    stage = rounded_up(n, width)
    whole = n if last + stage <= x.size and to + stage <= end else n // width * width
    column = np.uintp(0)
    if taps == GROUP and not has_before:
        while column < whole:
            vector = combine(load(x, a + column, work), load(x, b + column, work))
            other = combine(load(x, c + column, work), load(x, d + column, work))
            vector = finish(combine(vector, other), divisors, divisor, factor, work)
            store(out, to + column, vector)
            column += width
    elif taps == GROUP:
        while column < whole:
            vector = combine(load(x, a + column, work), load(x, b + column, work))
            other = combine(load(x, c + column, work), load(x, d + column, work))
            vector = combine(load(work, column, work), combine(vector, other))
            store(out, to + column, finish(vector, divisors, divisor, factor, work))
            column += width
    while column < whole:
        vector = load(x, a + column, work)
        if taps > 1:
            vector = combine(vector, load(x, b + column, work))
        if taps > 2:
            vector = combine(vector, load(x, c + column, work))
        if has_before:
            vector = combine(load(work, column, work), vector)
        store(out, to + column, finish(vector, divisors, divisor, factor, work))
        column += width
    if column < n:
        for lane in range((n - column) & (width - ONE_UP)):
            value = element(x, a + column + lane, work)
            if taps > 1:
                value = combine(value, element(x, b + column + lane, work))
            if taps > 2:
                other = element(x, c + column + lane, work)
                if taps > 3:
                    other = combine(other, element(x, d + column + lane, work))
                value = combine(value, other)
            work[stage + lane] = combine(work[column + lane], value) if has_before else value
        store(work, stage, finish(load(work, stage, work), divisors, divisor, factor, work))
        for lane in range((n - column) & (width - ONE_UP)):
            put(out, to + column + lane, work[stage + lane])


@inner
def fold_pixels(combine, finish, out, to, x, at, work, g, d, h, divisors, factor, identity):
    """Fold the windows of a row of outputs; the first pixel of its image is at `at`."""
    width, n = lanes(work), np.uintp(g[T.CHANNELS])
    rows_d, rows_h = g[d + g[T.OUT_D]], g[h + g[T.OUT_H]]
    target, start, room = np.uintp(to), np.uintp(0), rounded_up(n, width)
    end = target + np.uintp(g[T.OUT_W]) * n
    for ow in range(g[T.OUT_W]):
        taps = g[g[T.TABLE_W] + g[T.OUT_W] + ow]
        corner, left = (g[d] * g[T.IN_H] + g[h]) * g[T.IN_W] + g[g[T.TABLE_W] + ow], rows_d * rows_h * taps
        if left == 0:
            nothing = finish(all_lanes(identity, work, work), divisors, ow, factor, work)
            store(work, np.uintp(0), nothing)
            for c in range(n):
                put(out, target + c, work[0])
        i, j, k, has_before = ZERO, ZERO, ZERO, False
        while left > 0:
            count = min(left, GROUP)
            p = np.uintp(at + tap_at(g, corner, i, j, k) * g[T.CHANNELS])
            q, r, s = p, p, p
            i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 1:
                q = np.uintp(at + tap_at(g, corner, i, j, k) * g[T.CHANNELS])
                i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 2:
                r = np.uintp(at + tap_at(g, corner, i, j, k) * g[T.CHANNELS])
                i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 3:
                s = np.uintp(at + tap_at(g, corner, i, j, k) * g[T.CHANNELS])
                i, j, k = next_tap(i, j, k, rows_h, taps)
            left -= count
            if left > 0:
                fold_group(
                    combine, kept, work, start, room, x, p, q, r, s, count, work, has_before, n, divisors, ow, factor
                )
                has_before = True
            else:
                fold_group(
                    combine, finish, out, target, end, x, p, q, r, s, count, work, has_before, n, divisors, ow, factor
                )
        target += n


@inlined
def work_size(g, like):
    """Elements of a pixel, and of a vector on its way to the end of one."""
    width = lanes(like)
    return np.int64(rounded_up(np.uintp(g[T.CHANNELS]), width) + width)


@entry
def max_pixels(first, last, out, x, g):
    work = np.full(work_size(g, np.full(1, lowest(x))), lowest(x))
    size, out_row = g[T.IN_D] * g[T.IN_H] * g[T.IN_W] * g[T.CHANNELS], g[T.OUT_W] * g[T.CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        fold_pixels(larger, kept, out, number * out_row, x, image * size, work, g, d, h, work, work[0], lowest(x))


@entry
def avg_pixels(first, last, out, x, g, divisors):
    work = np.full(work_size(g, np.full(1, no_sum(x))), no_sum(x))
    size, out_row = g[T.IN_D] * g[T.IN_H] * g[T.IN_W] * g[T.CHANNELS], g[T.OUT_W] * g[T.CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        factor = divisors[g[T.OUT_W] + (d - g[T.TABLE_D]) * g[T.OUT_H] + h - g[T.TABLE_H]]
        fold_pixels(add, divided, out, number * out_row, x, image * size, work, g, d, h, divisors, factor, no_sum(x))


@entry
def avg_large_pixels(first, last, out, x, g, divisors):
    """`avg_pixels` with sums that lose nothing however many terms they have."""
    work, n = np.full(1, no_sum(x)), np.uintp(g[T.CHANNELS])
    totals = np.full(g[T.CHANNELS], wide_sum(x))
    size, out_row = g[T.IN_D] * g[T.IN_H] * g[T.IN_W] * g[T.CHANNELS], g[T.OUT_W] * g[T.CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        factor = divisors[g[T.OUT_W] + (d - g[T.TABLE_D]) * g[T.OUT_H] + h - g[T.TABLE_H]]
        for ow in range(g[T.OUT_W]):
            corner = (g[d] * g[T.IN_H] + g[h]) * g[T.IN_W] + g[g[T.TABLE_W] + ow]
            for c in range(n):
                totals[c] = 0
            for i in range(g[d + g[T.OUT_D]]):
                for j in range(g[h + g[T.OUT_H]]):
                    for k in range(g[g[T.TABLE_W] + g[T.OUT_W] + ow]):
                        at = np.uintp(image * size + tap_at(g, corner, i, j, k) * g[T.CHANNELS])
                        for c in range(n):
                            totals[c] += element(x, at + c, work)
            to, divisor = np.uintp(number * out_row + ow * g[T.CHANNELS]), divisors[ow] * factor
            for c in range(n):
                total = work.dtype.type(totals[c])
                put(out, to + c, quotient(total, divisor, divisors[divisors.size - 1] != 0))


@entry
def max_pixels_indices(first, last, out, indices, x, g, none):
    work = np.full(work_size(g, np.full(1, lowest(x))), lowest(x))
    marks = np.full(work.size, none)
    size, out_row = g[T.IN_D] * g[T.IN_H] * g[T.IN_W] * g[T.CHANNELS], g[T.OUT_W] * g[T.CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        mark_pixels(out, indices, number * out_row, x, image * size, work, marks, g, d, h, lowest(x), none)


@inlined
def mark_group(x, a, b, c, d, at, channels, taps, work, marks, is_first, n):
    """Take up to `GROUP` pixels of the image at `at` into the maxima and marks before, in order."""
    width, column = lanes(work), np.uintp(0)
    p, q = np.uintp(at + a * channels), np.uintp(at + b * channels)
    r, s = np.uintp(at + c * channels), np.uintp(at + d * channels)
    last = s
    if taps < GROUP:
        last = r if taps == 3 else q if taps == 2 else p
    whole = n if last + rounded_up(n, width) <= x.size else n // width * width
    mark_a, mark_b = all_lanes(marks.dtype.type(a), marks, work), all_lanes(marks.dtype.type(b), marks, work)
    mark_c, mark_d = all_lanes(marks.dtype.type(c), marks, work), all_lanes(marks.dtype.type(d), marks, work)
    while column < whole:
        best, mark = load(x, p + column, work), mark_a
        if not is_first:
            best, mark = take(load(work, column, work), load_marks(marks, column, work), best, mark)
        if taps > 1:
            best, mark = take(best, mark, load(x, q + column, work), mark_b)
        if taps > 2:
            best, mark = take(best, mark, load(x, r + column, work), mark_c)
        if taps > 3:
            best, mark = take(best, mark, load(x, s + column, work), mark_d)
        store(work, column, best)
        store(marks, column, mark)
        column += width
    if column < n:
        for lane in range((n - column) & (width - ONE_UP)):
            i = column + lane
            value = element(x, p + i, work)
            if is_first or rows.replaces(value, work[i]):
                work[i], marks[i] = value, a
            if taps > 1:
                value = element(x, q + i, work)
                if rows.replaces(value, work[i]):
                    work[i], marks[i] = value, b
            if taps > 2:
                value = element(x, r + i, work)
                if rows.replaces(value, work[i]):
                    work[i], marks[i] = value, c
            if taps > 3:
                value = element(x, s + i, work)
                if rows.replaces(value, work[i]):
                    work[i], marks[i] = value, d


@inner
def mark_pixels(out, indices, to, x, at, work, marks, g, d, h, identity, none):
    """Scan the windows of a row of outputs in row-major order for maxima and their positions in the plane."""
    width, n = lanes(work), np.uintp(g[T.CHANNELS])
    rows_d, rows_h = g[d + g[T.OUT_D]], g[h + g[T.OUT_H]]
    target = np.uintp(to)
    end = target + np.uintp(g[T.OUT_W]) * n
    for ow in range(g[T.OUT_W]):
        taps = g[g[T.TABLE_W] + g[T.OUT_W] + ow]
        corner, left = (g[d] * g[T.IN_H] + g[h]) * g[T.IN_W] + g[g[T.TABLE_W] + ow], rows_d * rows_h * taps
        if left == 0:
            rows.fill(work, ZERO, identity, np.int64(n))
            rows.fill(marks, ZERO, none, np.int64(n))
        i, j, k, is_first = ZERO, ZERO, ZERO, True
        while left > 0:
            count = min(left, GROUP)
            p = tap_at(g, corner, i, j, k)
            q, r, s = p, p, p
            i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 1:
                q = tap_at(g, corner, i, j, k)
                i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 2:
                r = tap_at(g, corner, i, j, k)
                i, j, k = next_tap(i, j, k, rows_h, taps)
            if count > 3:
                s = tap_at(g, corner, i, j, k)
                i, j, k = next_tap(i, j, k, rows_h, taps)
            left -= count
            mark_group(x, p, q, r, s, at, g[T.CHANNELS], count, work, marks, is_first, n)
            is_first = False
        whole, column = rows.whole_vectors(n, target, end, width), np.uintp(0)
        while column < whole:
            store(out, target + column, load(work, column, work))
            store(indices, target + column, indices_of(load_marks(marks, column, work), indices))
            column += width
        if column < n:
            for lane in range((n - column) & (width - ONE_UP)):
                put(out, target + column + lane, work[column + lane])
                put(indices, target + column + lane, max(np.int64(marks[column + lane]), np.int64(-1)))
        target += n


@entry
def avg_pixels_backward(first, last, grad_input, grad, g, divisors):
    n, out_row, in_row = np.uintp(g[T.CHANNELS]), g[T.OUT_W] * g[T.CHANNELS], g[T.IN_W] * g[T.CHANNELS]
    stage = np.full(work_size(g, np.full(1, no_sum(grad_input))), no_sum(grad_input))
    line = np.full(out_row + stage.size, no_sum(grad_input))
    width = lanes(line)
    for number in range(first, last):
        slab = number // g[T.IN_H]
        image = slab // g[T.IN_D]
        d, h = g[T.TABLE_D] + slab - image * g[T.IN_D], g[T.TABLE_H] + number - slab * g[T.IN_H]
        h_first, h_count = g[h], g[h + g[T.IN_H]]
        is_same = number > first and h > g[T.TABLE_H] and h_first == g[h - 1] and h_count == g[h - 1 + g[T.IN_H]]
        if not is_same:
            adds = False
            for i in range(g[d + g[T.IN_D]]):
                for j in range(h_count):
                    row = (g[d] + i * g[T.STEP_D]) * g[T.OUT_H] + h_first + j * g[T.STEP_H]
                    at = (image * g[T.OUT_D] * g[T.OUT_H] + row) * out_row
                    add_shares(line, grad, at, stage, g, divisors, divisors[g[T.OUT_W] + row], adds)
                    adds = True
            if not adds:
                rows.fill(line, ZERO, no_sum(grad_input), out_row)
        target = np.uintp(number * in_row)
        end = target + np.uintp(in_row)
        for w in range(g[T.IN_W]):
            source, count = np.uintp(g[g[T.TABLE_W] + w] * g[T.CHANNELS]), g[g[T.TABLE_W] + g[T.IN_W] + w]
            step, column = np.uintp(g[T.STEP_W] * g[T.CHANNELS]), np.uintp(0)
            whole = rows.whole_vectors(n, target, end, width)
            while column < n:
                vector = all_lanes(no_sum(grad_input), line, line)
                if count > 0:
                    vector = load(line, source + column, line)
                    for k in range(1, count):
                        vector = add(vector, load(line, source + np.uintp(k) * step + column, line))
                if column < whole:
                    store(grad_input, target + column, vector)
                else:
                    store(stage, np.uintp(0), vector)
                    for lane in range((n - column) & (width - ONE_UP)):
                        put(grad_input, target + column + lane, stage[lane])
                column += width
            target += n


@inner
def add_shares(line, grad, at, stage, g, divisors, factor, adds):
    """A row of gradients, divided, to a line, or if it `adds`, onto it."""
    width, n, zero = lanes(line), np.uintp(g[T.CHANNELS]), line.dtype.type(0)
    source, target = np.uintp(at), np.uintp(0)
    for ow in range(g[T.OUT_W]):
        divisor = all_lanes(divisors[ow] * factor, divisors, line)
        whole = n if source + rounded_up(n, width) <= grad.size else n // width * width
        column = np.uintp(0)
        while column < n:
            if column < whole:
                vector = load(grad, source + column, line)
            else:
                for lane in range((n - column) & (width - ONE_UP)):
                    stage[lane] = element(grad, source + column + lane, line)
                vector = load(stage, np.uintp(0), line)
            vector = quotient(vector, divisor, False)
            if adds:
                if n - column < width:
                    vector = keep(vector, n - column, zero)
                vector = add(load(line, target + column, line), vector)
            store(line, target + column, vector)
            column += width
        source += n
        target += n
