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
from typing import Any, NamedTuple

import numpy as np

from numbapool.geometry import LARGEST_INT64, BinPlan, WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.launch import Call, run
from numbapool.kernels.cpu.marks import no_mark
from numbapool.kernels.cpu.rows import ZERO
from numbapool.kernels.cpu.schedule import STREAMED_BYTES, AnyPlan
from numbapool.kernels.cpu.taps import receivers_of, taps_along, taps_of
from numbapool.kernels.cpu.vectors import (
    STREAM_BYTES,
    accumulator_of,
    add,
    all_lanes,
    can_stream,
    element,
    finish_streams,
    indices_of,
    is_summed_in,
    keep,
    lanes,
    larger,
    load,
    lowest,
    no_sum,
    put,
    quotient,
    store,
    stream,
    sums_of,
    take,
)
from numbapool.kernels.windows import Axis

# Channels that a unit of work scatters gradients to: a cache line of float32.
OWN_CHANNELS = 16
# Sums that grow beside the gradient may take up to this many elements.
MOST_SUMS = 1 << 18


class Pixels(NamedTuple):
    """What a kernel knows, in a flat array: lengths in pixels, and where in it the tables of each axis are.

    A table says, for each output along an axis, which is the first tap inside the input and how many there are; `step` is from
    one to the next. A table of receivers says the same of the outputs that hold an input element.
    """

    channels: int
    in_d: int
    in_h: int
    in_w: int
    out_d: int
    out_h: int
    out_w: int
    step_d: int
    step_h: int
    step_w: int
    streams: int  # 1 if results are written past the caches
    table_d: int
    table_h: int
    table_w: int


(CHANNELS, IN_D, IN_H, IN_W, OUT_D, OUT_H, OUT_W, STEP_D, STEP_H, STEP_W, STREAMS, TABLE_D, TABLE_H, TABLE_W) = range(
    len(Pixels._fields)
)


def as_rows(plan: AnyPlan) -> WindowPlan | None:
    """The same windows over rows in which the channels take turns; None if windows do not move by one element."""
    if isinstance(plan, BinPlan) or plan.axes[2].stride != 1:
        return None
    w, n = plan.axes[2], plan.channels
    long = Axis(w.length * n, w.out * n, w.kernel, 1, w.dilation * n, w.before * n, w.after * n)
    return WindowPlan(plan.leading, (*plan.axes[:2], long))


def max_channels(plan: AnyPlan, dtype: np.dtype[Any]) -> Call:
    """Maximum of each window."""
    return Call(fold_max, _out_rows(plan), _forward_program(plan, dtype), ())


def max_channels_with_indices(plan: AnyPlan, dtype: np.dtype[Any]) -> Call:
    """Maximum of each window and its flat position in the plane, -1 where a window has no tap inside the input."""
    return Call(mark_max, _out_rows(plan), _forward_program(plan, dtype), (no_mark(plan),))


def avg_channels(
    plan: AnyPlan, dtype: np.dtype[Any], count_include_pad: bool, divisor_override: int | None, is_rounded: bool
) -> Call:
    """Mean of each window; integers are summed in 64 bits, see `avg.avg_pool`."""
    divisors = divisors_of_pixels(plan, accumulator_of(dtype), count_include_pad, divisor_override)
    constants = (rows.with_rounding(divisors, is_rounded),)
    return Call(fold_mean, _out_rows(plan), _forward_program(plan, dtype), constants)


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
    run(spread_mean, units, grad_input.size, grad_input, grad_output, _backward_program(plan), divisors)


def scatter_channels(plan: AnyPlan, grad_output: np.ndarray, indices: np.ndarray, grad_input: np.ndarray) -> bool:
    """Add each gradient to the element its index names; False if an index lies outside the plane (but -1 means none)."""
    bad = np.zeros(1, np.int64)
    block = OWN_CHANNELS
    if accumulator_of(grad_input.dtype) != grad_input.dtype:
        block = max(1, min(OWN_CHANNELS, MOST_SUMS // plan.plane_size))
    sizes = plan.channels, plan.plane_size, plan.out_plane_size, block
    units = plan.planes * -(-plan.channels // block)
    run(scatter, units, grad_output.size, grad_input, grad_output, indices, *sizes, bad)
    return not bad[0]


def _out_rows(plan: AnyPlan) -> int:
    d, h, _ = plan.axes
    return plan.planes * d.out * h.out


def _forward_program(plan: AnyPlan, dtype: np.dtype[Any]) -> np.ndarray:
    out_bytes = plan.planes * plan.out_plane_size * plan.channels * dtype.itemsize
    return _program(plan, False, out_bytes >= STREAMED_BYTES)


def _backward_program(plan: AnyPlan) -> np.ndarray:
    return _program(plan, True, False)


@lru_cache(maxsize=512)
def _program(plan: AnyPlan, is_backward: bool, streams: bool) -> np.ndarray:
    tables = [(receivers_of if is_backward else taps_of)(axis) for axis in plan.axes]
    ends = np.cumsum([len(Pixels._fields), *(2 * len(table.first) for table in tables)]).tolist()
    d, h, w = plan.axes
    lengths = d.length, h.length, w.length, d.out, h.out, w.out
    header = Pixels._make([plan.channels, *lengths, *(table.step for table in tables), int(streams), *ends[:3]])
    parts = [part for table in tables for part in (table.first, table.number)]
    return np.concatenate([np.array(header, np.int64), *parts])


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
    slab = number // g[OUT_H]
    image = slab // g[OUT_D]
    return image, g[TABLE_D] + slab - image * g[OUT_D], g[TABLE_H] + number - slab * g[OUT_H]


@inner
def fold_pixels(combine, finish, out, to, x, at, work, g, d, h, divisors, factor, identity):
    """Fold the windows of a row of outputs; the first pixel of its image is at `at`."""
    width, channels = lanes(work), np.uintp(g[CHANNELS])
    row_step, slab_step = g[IN_W] * g[CHANNELS], g[IN_H] * g[IN_W] * g[CHANNELS]
    corner = at + g[d] * slab_step + g[h] * row_step
    rows_d, rows_h = g[d + g[OUT_D]], g[h + g[OUT_H]]
    tap_step, target = np.uintp(g[STEP_W] * g[CHANNELS]), np.uintp(to)
    end = target + np.uintp(g[OUT_W]) * channels
    streams = g[STREAMS] != 0 and can_stream(out, target) and g[CHANNELS] * out.itemsize % STREAM_BYTES == 0
    nothing = all_lanes(identity, work, work)
    for ow in range(g[OUT_W]):
        first, taps = corner + g[g[TABLE_W] + ow] * g[CHANNELS], g[g[TABLE_W] + g[OUT_W] + ow]
        reach = first + (rows_d - 1) * g[STEP_D] * slab_step + (rows_h - 1) * g[STEP_H] * row_step
        reach += (taps - 1) * g[STEP_W] * g[CHANNELS]
        column = np.uintp(0)
        while column < channels:
            vector = nothing
            is_last = reach + np.int64(column + width) > x.size
            for i in range(rows_d if taps > 0 else ZERO):
                for j in range(rows_h):
                    p = np.uintp(first + i * g[STEP_D] * slab_step + j * g[STEP_H] * row_step) + column
                    if is_last:
                        for lane in range(min(channels - column, width)):
                            value = element(x, p + lane, work)
                            for k in range(1, taps):
                                value = combine(value, element(x, p + lane + np.uintp(k) * tap_step, work))
                            work[lane] = value
                        row = load(work, np.uintp(0), work)
                    else:
                        # Rows on their own and then together: sums of many rounded terms are closer.
                        row = load(x, p, work)
                        for _ in range(1, taps):
                            p += tap_step
                            row = combine(row, load(x, p, work))
                    vector = combine(vector, row)
            vector = finish(vector, divisors, ow, factor, work)
            if target + column + width <= end:
                stream(out, target + column, vector, streams)
            else:
                store(work, np.uintp(0), vector)
                for lane in range(min(channels - column, width)):
                    put(out, target + column + lane, work[lane])
            column += width
        target += channels
    if streams:
        finish_streams()


@entry
def fold_max(first, last, out, x, g):
    work = np.full(np.int64(lanes(np.full(1, lowest(x)))), lowest(x))
    size, out_row = g[IN_D] * g[IN_H] * g[IN_W] * g[CHANNELS], g[OUT_W] * g[CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        fold_pixels(larger, kept, out, number * out_row, x, image * size, work, g, d, h, work, work[0], lowest(x))


@entry
def fold_mean(first, last, out, x, g, divisors):
    work = np.full(np.int64(lanes(np.full(1, no_sum(x)))), no_sum(x))
    size, out_row = g[IN_D] * g[IN_H] * g[IN_W] * g[CHANNELS], g[OUT_W] * g[CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        factor = divisors[g[OUT_W] + (d - g[TABLE_D]) * g[OUT_H] + h - g[TABLE_H]]
        fold_pixels(add, divided, out, number * out_row, x, image * size, work, g, d, h, divisors, factor, no_sum(x))


@entry
def mark_max(first, last, out, indices, x, g, none):
    work = np.full(np.int64(lanes(np.full(1, lowest(x)))), lowest(x))
    marks = np.full(work.size, none)
    size, out_row = g[IN_D] * g[IN_H] * g[IN_W] * g[CHANNELS], g[OUT_W] * g[CHANNELS]
    for number in range(first, last):
        image, d, h = row_of_outputs(number, g)
        mark_pixels(out, indices, number * out_row, x, image * size, work, marks, g, d, h, lowest(x), none)


@inner
def mark_pixels(out, indices, to, x, at, work, marks, g, d, h, identity, none):
    """Scan the windows of a row of outputs in row-major order for maxima and their positions in the plane."""
    width, channels = lanes(work), np.uintp(g[CHANNELS])
    target = np.uintp(to)
    end = target + np.uintp(g[OUT_W]) * channels
    rows_d, rows_h = g[d + g[OUT_D]], g[h + g[OUT_H]]
    for ow in range(g[OUT_W]):
        in_w, taps = g[g[TABLE_W] + ow], g[g[TABLE_W] + g[OUT_W] + ow]
        corner = (g[d] * g[IN_H] + g[h]) * g[IN_W] + in_w
        count = rows_d * rows_h * taps
        reach = (
            corner + ((rows_d - 1) * g[STEP_D] * g[IN_H] + (rows_h - 1) * g[STEP_H]) * g[IN_W] + (taps - 1) * g[STEP_W]
        )
        column = np.uintp(0)
        while column < channels:
            best, mark = all_lanes(identity, work, work), all_lanes(none, marks, work)
            is_last = at + reach * g[CHANNELS] + np.int64(column + width) > x.size
            if count > 0:
                best = load_pixel(x, at + corner * g[CHANNELS], column, channels, work, is_last)
                mark = all_lanes(marks.dtype.type(corner), marks, work)
            for i in range(rows_d if taps > 0 else ZERO):
                for j in range(rows_h):
                    position = corner + (i * g[STEP_D] * g[IN_H] + j * g[STEP_H]) * g[IN_W]
                    for _ in range(taps):
                        value = load_pixel(x, at + position * g[CHANNELS], column, channels, work, is_last)
                        value_mark = all_lanes(marks.dtype.type(position), marks, work)
                        best, mark = take(best, mark, value, value_mark)
                        position += g[STEP_W]
            if target + column + width <= end:
                store(out, target + column, best)
                store(indices, target + column, indices_of(mark))
            else:
                store(work, np.uintp(0), best)
                store(marks, np.uintp(0), mark)
                for lane in range(min(channels - column, width)):
                    put(out, target + column + lane, work[lane])
                    put(indices, target + column + lane, max(np.int64(marks[lane]), np.int64(-1)))
            column += width
        target += channels


@inlined
def load_pixel(source, at, column, channels, work, is_last):
    """Channels of a pixel from `column` on; no others if it is the last of the array."""
    position = np.uintp(at) + column
    if is_last:
        for lane in range(min(channels - column, lanes(work))):
            work[lane] = element(source, position + lane, work)
        vector = load(work, np.uintp(0), work)
    else:
        vector = load(source, position, work)
    return vector


@entry
def spread_mean(first, last, grad_input, grad, g, divisors):
    stage = np.full(np.int64(lanes(np.full(1, no_sum(grad_input)))), no_sum(grad_input))
    width, channels = lanes(stage), np.uintp(g[CHANNELS])
    line = np.full(np.int64(g[OUT_W] * g[CHANNELS]) + stage.size, no_sum(grad_input))
    out_row, in_row = g[OUT_W] * g[CHANNELS], g[IN_W] * g[CHANNELS]
    for number in range(first, last):
        slab = number // g[IN_H]
        image = slab // g[IN_D]
        d, h = g[TABLE_D] + slab - image * g[IN_D], g[TABLE_H] + number - slab * g[IN_H]
        h_first, h_count = g[h], g[h + g[IN_H]]
        is_same = number > first and h > g[TABLE_H] and h_first == g[h - 1] and h_count == g[h - 1 + g[IN_H]]
        if not is_same:
            rows.fill(line, ZERO, no_sum(grad_input), out_row)
            for i in range(g[d + g[IN_D]]):
                for j in range(h_count):
                    row = (g[d] + i * g[STEP_D]) * g[OUT_H] + h_first + j * g[STEP_H]
                    at = (image * g[OUT_D] * g[OUT_H] + row) * out_row
                    add_shares(line, grad, at, stage, g, divisors, divisors[g[OUT_W] + row])
        target = np.uintp(number * in_row)
        end = target + np.uintp(in_row)
        for w in range(g[IN_W]):
            source, count = np.uintp(g[g[TABLE_W] + w] * g[CHANNELS]), g[g[TABLE_W] + g[IN_W] + w]
            column = np.uintp(0)
            while column < channels:
                vector = all_lanes(no_sum(grad_input), stage, stage)
                for k in range(count):
                    vector = add(vector, load(line, source + np.uintp(k * g[STEP_W] * g[CHANNELS]) + column, stage))
                if target + column + width <= end:
                    store(grad_input, target + column, vector)
                else:
                    store(stage, np.uintp(0), vector)
                    for lane in range(min(channels - column, width)):
                        put(grad_input, target + column + lane, stage[lane])
                column += width
            target += channels


@inner
def add_shares(line, grad, at, stage, g, divisors, factor):
    """Add a row of gradients, divided, to a line."""
    width, channels, zero = lanes(stage), np.uintp(g[CHANNELS]), stage.dtype.type(0)
    target = np.uintp(0)
    for ow in range(g[OUT_W]):
        divisor = all_lanes(divisors[ow] * factor, divisors, stage)
        column = np.uintp(0)
        while column < channels:
            is_last = at + np.int64(target + column + width) > grad.size
            vector = quotient(load_pixel(grad, at + np.int64(target), column, channels, stage, is_last), divisor, False)
            if channels - column < width:
                vector = keep(vector, channels - column, zero)
            store(line, target + column, add(load(line, target + column, stage), vector))
            column += width
        target += channels


@entry
def scatter(first, last, grad_input, grad, indices, channels, plane_size, out_plane_size, block, bad):
    """Gradients to the positions that indices name; a unit owns some channels of an image."""
    blocks = (channels + block - 1) // block
    sums = sums_of(grad_input, np.full(ZERO if is_summed_in(grad_input) else plane_size * block, no_sum(grad_input)))
    for number in range(first, last):
        image = number // blocks
        own = (number - image * blocks) * block
        n = np.uintp(min(block, channels - own))
        to = image * plane_size * channels + own
        sums_at, sums_step = np.uintp(0), np.uintp(block)
        if is_summed_in(grad_input):
            sums_at, sums_step = np.uintp(to), np.uintp(channels)
        for position in range(np.uintp(plane_size)):
            for c in range(n):
                sums[sums_at + position * sums_step + c] = no_sum(grad_input)
        at = np.uintp(image * out_plane_size * channels + own)
        for _ in range(out_plane_size):
            for c in range(n):
                index = np.int64(indices[at + c])
                if np.uintp(index) < np.uintp(plane_size):
                    sums[sums_at + np.uintp(index) * sums_step + c] += element(grad, at + c, sums)
                elif index != -1:
                    bad[0] = 1
            at += np.uintp(channels)
        if not is_summed_in(grad_input):
            for position in range(np.uintp(plane_size)):
                for c in range(n):
                    put(grad_input, np.uintp(to) + position * np.uintp(channels) + c, sums[position * sums_step + c])
