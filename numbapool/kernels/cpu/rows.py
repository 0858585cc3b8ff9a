"""Row primitives: fold rows of a plane into lines, fold lines across, with windows as they come from the schedule.

All lines of a unit live in one flat work array and are named by the position of their first element. Lines are written in
whole vectors (see `vectors`), in ascending order: what the last vector of a line writes beyond its end is `identity`, so
it is padding or is overwritten by the next line. Every region of the work array has room for one vector more.

Rules of speed, measured on this code with AVX2 (float32):

- A line is never folded into itself: `line[j] = larger(line[j], row[j])` in a plain loop becomes a masked store, 4 ns for
  8 elements against 0.8 ns with another destination.
- In plain loops positions are cast to uintp once and added to counters from 0: a signed sum as an index brings the check
  for negative indices into the loop, and nothing vectorises (10 times slower).
- Every small function costs 25 ms of compilation at the first call, so rules are written out where they are used once.
- Scalar loops over less than a vector end at `& (width - ONE_UP)`, which tells LLVM not to vectorise them: a first call
  takes 0.3 s less.
"""

from __future__ import annotations

import numpy as np

from numbapool import windows
from numbapool.kernels.cpu.compile import argument, inlined, inner
from numbapool.kernels.cpu.schedule import LONGEST_OVERLAP
from numbapool.kernels.cpu.tables import blocks as B
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.vectors import (
    STREAM_BYTES,
    can_stream,
    choose,
    element,
    evens,
    finish_streams,
    keep,
    lanes,
    load,
    put,
    quotient,
    store,
    stream,
    times,
)

# Python constants would become literal types, and every function that is called with one would be compiled again.
ZERO = np.int64(0)
ONE = np.int64(1)
ONE_UP = np.uintp(1)

replaces = inner(windows.replaces)
first_tap = inner(windows.first_tap)
end_tap = inner(windows.end_tap)
touching = inner(windows.touching)


@inner
def fill(work, at, value, n):
    """`work[at : at + n] = value`."""
    at = np.uintp(at)
    for j in range(np.uintp(n)):
        work[at + j] = value


@inner
def gather_block(work, at, pitch, source, base, row_step, step, rows, n):
    """Copy rows whose elements are `step` apart into lines: where strides are dealt with, and other dtypes converted."""
    for r in range(rows):
        for j in range(n):
            work[np.uintp(at + r * pitch + j)] = element(source, np.uintp(base + r * row_step + j * step), work)


# One plane for `fold_rows`, without a limit to what is written.
ONE_PLANE = (ONE, ZERO, ZERO, -ONE)


@inner
def fold_rows(combine, work, to, source, row, taps, tap_step, folded, step, rows, n, identity, many, g):
    """Fold 1 to 3 rows of the source, `tap_step` apart, and a line that is `folded` already (if >= 0), into a line.

    So `rows` times, with the rows of the source moving by `step` and the lines by their pitch; and all this for each of `many`
    planes: how many, how far apart they and their lines are, and their room. Nothing is written more than `room` elements behind
    the beginning of the first line of a plane, unless that is -1. Behind a line is `identity`, or where no window reaches padding,
    which saves time, anything. Two and three taps have loops of their own for whole vectors, 0.5 and 0.9 ns each; the last loop,
    which serves all cases, takes 1.3, and a loop over the taps took 1.9 and 2.6.
    """
    planes, plane_step, plane_pitch, room = many
    pitch, spills = g[G.PITCH], g[G.INSIDE]
    width, end = lanes(work), np.uintp(n)
    above = (taps - 1) * tap_step if tap_step > 0 else ZERO
    reach = np.int64((end + width - ONE_UP) // width * width)
    for plane in range(planes):
        at, start = row + plane * plane_step, to + plane * plane_pitch
        line, before = np.uintp(start), np.uintp(folded + plane * plane_pitch if folded >= 0 else ZERO)
        for _ in range(rows):
            first, second, third = np.uintp(at), np.uintp(at + tap_step), np.uintp(at + 2 * tap_step)
            # Whether a last vector would read beyond the array, or write beyond the room.
            is_last = at + above + reach > source.size or ZERO <= room < np.int64(line) - start + reach
            whole = end if spills and not is_last else end // width * width
            column = np.uintp(0)
            if taps == 2 and folded < 0:
                while column < whole:
                    vector = combine(load(source, first + column, work), load(source, second + column, work))
                    store(work, line + column, vector)
                    column += width
            elif taps == 3 and folded < 0:
                while column < whole:
                    vector = combine(load(source, first + column, work), load(source, second + column, work))
                    vector = combine(vector, load(source, third + column, work))
                    store(work, line + column, vector)
                    column += width
            while column < end:
                if end - column < width and is_last:
                    for lane in range((end - column) & (width - ONE_UP)):
                        i = column + lane
                        value = element(source, first + i, work)
                        if taps > 1:
                            value = combine(value, element(source, second + i, work))
                        if taps > 2:
                            value = combine(value, element(source, third + i, work))
                        if folded >= 0:
                            value = combine(work[before + i], value)
                        work[line + i] = value
                    break
                vector = load(source, first + column, work)
                if taps > 1:
                    vector = combine(vector, load(source, second + column, work))
                if taps > 2:
                    vector = combine(vector, load(source, third + column, work))
                if folded >= 0:
                    vector = combine(load(work, before + column, work), vector)
                if end - column < width:
                    vector = keep(vector, end - column, identity)
                store(work, line + column, vector)
                column += width
            at += step
            line += np.uintp(pitch)
            before += np.uintp(pitch)


@inlined
def whole_vectors(n, to, end, width):
    """How many of n elements to write to `to` in whole vectors: all, if even the last stays before `end`."""
    return n if to + (n + width - ONE_UP) // width * width <= end else n // width * width


@argument
def as_it_is(vector, divisors, at, factor):
    """How maxima are finished."""
    return vector


def with_rounding(divisors: np.ndarray, is_rounded: bool) -> np.ndarray:
    """Divisors for `divided`."""
    return np.concatenate([divisors, np.array([is_rounded], divisors.dtype)])


@argument
def divided(vector, divisors, at, factor):
    """How sums are finished: divided by a factor and the divisors from `at` on, lane by lane.

    The last of the divisors is 1 if integers are rounded to the nearest, else 0.
    """
    return quotient(vector, times(load(divisors, at, divisors), factor), divisors[divisors.size - 1] != 0)


@inner
def across_rows(combine, finish, out, target, work, lines, window, stage, streams, divisors, division):
    """Fold 1 to 3 taps across at stride 1 or 2, from lines into rows of outputs.

    Of the rows it takes the position of the first, their distance and `end`; of the lines the same two, how many they are and
    the outputs of each; of the windows stride, taps and dilation.

    Rows are written in ascending order, in whole vectors as far as `end`, beyond which nothing but the rows is touched.
    Frequent cases have loops of their own. Sums are divided on the way, by the divisors from a position on and a factor for each
    row, from another position on, in turn; if there are no `factors`, by the first divisors and the one factor. (In a pass of their
    own, means of 2x2 windows took 15 % longer.)
    """
    to, to_pitch, end = target
    line, pitch, rows, cols = lines
    stride, taps, dilation = window
    divisor, factor_at, factors = division
    width, varies = lanes(work), factors > 0
    second, third, staged = np.uintp(dilation), np.uintp(2 * dilation), np.uintp(stage)
    if to_pitch == cols and pitch == cols * stride and not varies:
        rows, cols = ONE, rows * cols
    n = np.uintp(cols)
    streams = streams and can_stream(out, np.uintp(to)) and (to_pitch * out.itemsize) % STREAM_BYTES == 0
    number = ZERO
    for r in range(rows):
        i, j = np.uintp(line + r * pitch), np.uintp(to + r * to_pitch)
        whole = whole_vectors(n, j, np.uintp(end), width)
        factor, at = divisors[factor_at + number], np.uintp(divisor)
        number = number + 1 if number + 1 < factors else ZERO  # the next plane
        step = width if varies else np.uintp(0)
        column = np.uintp(0)
        if stride == 2 and taps == 2:
            while column < whole:
                near = i + column + column
                vector = evens(load(work, near, work), load(work, near + width, work))
                neighbour = evens(load(work, near + second, work), load(work, near + second + width, work))
                stream(out, j + column, finish(combine(vector, neighbour), divisors, at, factor), streams)
                column += width
                at += step
        elif stride == 2 and taps == 3:
            while column < whole:
                near = i + column + column
                vector = evens(load(work, near, work), load(work, near + width, work))
                neighbour = evens(load(work, near + second, work), load(work, near + second + width, work))
                vector = combine(vector, neighbour)
                neighbour = evens(load(work, near + third, work), load(work, near + third + width, work))
                stream(out, j + column, finish(combine(vector, neighbour), divisors, at, factor), streams)
                column += width
                at += step
        elif stride == 1 and taps == 3:
            while column < whole:
                near = i + column
                vector = combine(load(work, near, work), load(work, near + second, work))
                vector = combine(vector, load(work, near + third, work))
                stream(out, j + column, finish(vector, divisors, at, factor), streams)
                column += width
                at += step
        elif stride == 1 and taps == 1:
            while column < whole:
                stream(out, j + column, finish(load(work, i + column, work), divisors, at, factor), streams)
                column += width
                at += step
        while column < n:
            if stride == 1:
                vector = load(work, i + column, work)
                if taps > 1:
                    vector = combine(vector, load(work, i + column + second, work))
                if taps > 2:
                    vector = combine(vector, load(work, i + column + third, work))
            else:
                near = i + column + column
                vector = evens(load(work, near, work), load(work, near + width, work))
                if taps > 1:
                    neighbour = evens(load(work, near + second, work), load(work, near + second + width, work))
                    vector = combine(vector, neighbour)
                if taps > 2:
                    neighbour = evens(load(work, near + third, work), load(work, near + third + width, work))
                    vector = combine(vector, neighbour)
            vector = finish(vector, divisors, at, factor)
            if column < whole:
                stream(out, j + column, vector, streams)
            else:
                store(work, staged, vector)
                for lane in range((n - column) & (width - ONE_UP)):
                    put(out, j + column + lane, work[staged + lane])
            column += width
            at += step
    if streams:
        finish_streams()


@inner
def fold_halves(combine, work, to, source, line, n):
    """`work[to + j]` = fold of `source[line + 2 j]` and its neighbour; the source is read up to 2 vectors further."""
    width, column = lanes(work), np.uintp(0)
    while column < np.uintp(n):
        near = np.uintp(line) + column + column
        vector = evens(load(source, near, work), load(source, near + width, work))
        neighbour = evens(load(source, near + ONE_UP, work), load(source, near + ONE_UP + width, work))
        store(work, np.uintp(to) + column, combine(vector, neighbour))
        column += width


@inner
def fold_windows(combine, work, to, source, line, stride, taps, n, identity):
    """Fold n windows of more than a vector of neighbours to a vector each; the source is read up to a vector further."""
    width, count, target = lanes(work), np.uintp(taps), np.uintp(to)
    whole = count // width * width
    for o in range(n):
        first, column = np.uintp(line + o * stride), width
        vector = load(source, first, work)
        while column < whole:
            vector = combine(vector, load(source, first + column, work))
            column += width
        if whole < count:
            vector = combine(vector, keep(load(source, first + whole, work), count - whole, identity))
        store(work, target, vector)
        target += width


@inner
def fold_whole(combine, work, to, source, at, n):
    """Fold n neighbours of the source, at least four vectors of them, to the element `to` of the work array."""
    width, count, first = lanes(work), np.uintp(n), np.uintp(at)
    # Four side by side, because a vector waits for the one before, 4 cycles, longer than it takes to come from memory.
    column = width + width
    a, b = load(source, first, work), load(source, first + width, work)
    c, d = load(source, first + column, work), load(source, first + column + width, work)
    column += column
    step = column
    while column + step <= count:
        at = first + column
        a, b = combine(a, load(source, at, work)), combine(b, load(source, at + width, work))
        at += width + width
        c, d = combine(c, load(source, at, work)), combine(d, load(source, at + width, work))
        column += step
    while column + width <= count:
        a = combine(a, load(source, first + column, work))
        column += width
    store(work, np.uintp(to), combine(combine(a, b), combine(c, d)))
    total = work[np.uintp(to)]
    for lane in range(ONE_UP, width):
        total = combine(total, work[np.uintp(to) + lane])
    while column < count:
        total = combine(total, element(source, first + column, work))
        column += ONE_UP
    return total


@inner
def fold_lines(combine, work, to, a, b, c, n):
    """Fold three lines into another, or the first into itself; only two if c is negative.

    The second comes first: the other way round, LLVM makes a masked store of a line that is folded into itself, and a
    maximum takes 6 ns a vector instead of 1.2.
    """
    width, end, line = lanes(work), np.uintp(n), np.uintp(to)
    first, second, third = np.uintp(a), np.uintp(b), np.uintp(c if c >= 0 else ZERO)
    column = np.uintp(0)
    if c < 0:
        while column < end:
            vector = combine(load(work, second + column, work), load(work, first + column, work))
            store(work, line + column, vector)
            column += width
    else:
        while column < end:
            vector = combine(load(work, second + column, work), load(work, first + column, work))
            store(work, line + column, combine(vector, load(work, third + column, work)))
            column += width


@inner
def write_line(out, to, source, at, n, like):
    """Write n elements of a source from `at` on to where they belong: as values of the array `like`, rounded if need be."""
    width, column = lanes(like), np.uintp(0)
    while column + width <= n:
        store(out, to + column, load(source, at + column, like))
        column += width
    while column < n:
        put(out, to + column, element(source, at + column, like))
        column += ONE_UP


@inner
def copy_line(work, to, source, at, n):
    """Copy a line; as far as it goes beyond n, the source must go too."""
    column = np.uintp(0)
    while column < np.uintp(n):
        store(work, np.uintp(to) + column, load(source, np.uintp(at) + column, work))
        column += lanes(work)


@inlined
def shorter(taps):
    """How many taps are folded before these are: three times as few if possible, else half, with one to add."""
    return taps // 3 if taps % 3 == 0 else taps // 2


@inner
def fold_shifts(combine, work, to, line, n, taps, step):
    """`work[to + j]` = fold of `taps` elements of `line`, `step` apart, for j < n, in at most log2(taps) passes.

    Each pass folds a line of `done` taps with itself further on, once or twice, or once and with one more tap, to at least
    twice as many: 1, 3, 7, 21, 63. (Only by doubling, windows of 63 took a pass more down and across.) Sums only add, so
    nothing cancels. From the second pass on in place, which is safe since a vector is written after all those that read
    it; so `to` has room for n + (taps - 2) * step elements and a vector.
    """
    if taps == 1:
        copy_line(work, to, work, line, n)
        return
    passes, reached = 0, taps
    while reached > 1:
        reached = shorter(reached)
        passes += 1
    folded = line
    while passes > 0:
        passes -= 1
        reached = taps
        for _ in range(passes):
            reached = shorter(reached)
        done, third = shorter(reached), -ONE
        if reached == 3 * done:
            third = folded + 2 * done * step
        elif reached > 2 * done:
            third = line + 2 * done * step
        fold_lines(combine, work, to, folded, folded + done * step, third, n + (taps - reached) * step)
        folded = to


@inlined
def plane_at(layout, plane):
    """Position of the first element of a plane in a source."""
    outer = plane // layout[L.INNER_COUNT]
    return (
        layout[L.OFFSET] + outer * layout[L.OUTER_STEP] + (plane - outer * layout[L.INNER_COUNT]) * layout[L.INNER_STEP]
    )


@inlined
def fold_blocks(combine, work, x, layout, plane, planes, unit, g, identity):
    """Fold the input rows of each window of a unit into lines, block by block.

    Rows are read where they stand if they are runs of neighbours, else from a copy of the rows of a block.
    """
    lines, stack, spare = g[G.FOLDED], g[G.STACK], g[G.SPARE]
    plane_step, plane_pitch = layout[L.INNER_STEP], g[unit + U.ROWS] * g[G.PITCH]
    at = plane_at(layout, plane)
    if g[unit + U.TOUCHES_PADDING]:
        fill(work, lines, identity, g[G.LINES])
    for number in range(g[unit + U.FIRST_BLOCK], g[unit + U.END_BLOCK]):
        b = g[G.BLOCKS] + number * B.FIELDS
        n, rows, taps = g[b + B.WIDTH], g[b + B.ROWS], g[b + B.H_TAPS]
        d_step, h_step = g[G.DILATION_D] * layout[L.D_STEP], g[G.DILATION_H] * layout[L.H_STEP]
        next_step = g[G.STRIDE_H] * layout[L.H_STEP]
        row = (
            at
            + g[b + B.FIRST_D] * layout[L.D_STEP]
            + g[b + B.FIRST_H] * layout[L.H_STEP]
            + g[b + B.FIRST_W] * layout[L.W_STEP]
        )
        if not layout[L.DIRECT]:
            rows_in = (rows - 1) * g[G.STRIDE_H] + (taps - 1) * g[G.DILATION_H] + 1
            for d in range(g[b + B.D_TAPS]):
                gather_block(work, stack + d * rows_in * n, n, x, row, layout[L.H_STEP], layout[L.W_STEP], rows_in, n)
                row += d_step
            row, d_step, h_step, next_step = stack, rows_in * n, g[G.DILATION_H] * n, g[G.STRIDE_H] * n
        folded = -ONE
        for d in range(g[b + B.D_TAPS]):
            for done in range(0, taps, 3):
                # Lines go back and forth between two spares, so that the last pass writes to where they belong.
                to, room = lines + g[b + B.LINE], -ONE
                if planes > 1 and g[unit + U.END_BLOCK] - g[unit + U.FIRST_BLOCK] > 1:
                    room = plane_pitch - g[b + B.LINE]  # other blocks of the next plane may be done
                if d < g[b + B.D_TAPS] - 1 or done + 3 < taps:
                    to, room = spare + g[G.LINES] + np.int64(lanes(work)) if folded == spare else spare, -ONE
                part, first = taps - done if taps - done < 3 else 3, row + done * h_step
                if layout[L.DIRECT]:
                    many = planes, plane_step, plane_pitch, room
                    fold_rows(combine, work, to, x, first, part, h_step, folded, next_step, rows, n, identity, many, g)
                else:
                    fold_rows(
                        combine, work, to, work, first, part, h_step, folded, next_step, rows, n, identity, ONE_PLANE, g
                    )
                folded = to
            row += d_step


@inlined
def fold_strided(combine, work, x, layout, plane, planes, unit, g, identity):
    """Fold the windows of a unit, at any stride, as far as `across_rows` can go on: returns a line, its stride and taps.

    Down first. Then long windows are folded to a vector each; lines are folded by halves as long as window and stride are
    even; and what is left at every position, of which every stride-th stays. Windows of a single row are read where they
    are.
    """
    width, n = np.int64(lanes(work)), planes * g[unit + U.ROWS] * g[G.PITCH] // g[G.STRIDE_W]
    line, taps, stride, dilation = g[G.FOLDED], g[G.KERNEL_W], g[G.STRIDE_W], g[G.DILATION_W]
    is_long = dilation == 1 and 2 * width <= taps <= LONGEST_OVERLAP * stride and stride >= width
    is_even = dilation == 1 and taps % 2 == 0 and stride % 2 == 0 and taps + stride > 4
    in_place = False
    if (
        (is_long or is_even)
        and g[G.INSIDE]
        and layout[L.DIRECT]
        and g[G.KERNEL_D] * g[G.KERNEL_H] * planes * g[unit + U.ROWS] == 1
    ):
        b = g[G.BLOCKS] + g[unit + U.FIRST_BLOCK] * B.FIELDS
        row = (
            plane_at(layout, plane)
            + g[b + B.FIRST_D] * layout[L.D_STEP]
            + g[b + B.FIRST_H] * layout[L.H_STEP]
            + g[b + B.FIRST_W]
        )
        in_place = row + g[unit + U.COLS] * stride + taps + 4 * width <= x.size
    if in_place:
        n = g[unit + U.COLS]
    else:
        fold_blocks(combine, work, x, layout, plane, planes, unit, g, identity)
    room = n * width if is_long else (n * stride + taps) // 2 + width
    if is_long:
        line = g[G.SPARE]
        if in_place:
            fold_windows(combine, work, line, x, row, stride, taps, n, identity)
        else:
            fold_windows(combine, work, line, work, g[G.FOLDED], stride, taps, n, identity)
        taps, stride, in_place = width, width, False
    while dilation == 1 and taps % 2 == 0 and stride % 2 == 0 and taps + stride > 4:
        taps //= 2
        stride //= 2
        to = g[G.SPARE] + room if line == g[G.SPARE] else g[G.SPARE]
        if in_place:
            fold_halves(combine, work, to, x, row, (n - 1) * stride + taps)
        else:
            fold_halves(combine, work, to, work, line, (n - 1) * stride + taps)
        line, in_place = to, False
    if stride > 2 or taps > 3:
        reach = (n - 1) * stride + 1
        spare = g[G.SPARE] + 2 * room
        fold_shifts(combine, work, spare, line, reach, taps, dilation)
        line, taps, step = g[G.ACROSS], ONE, stride
        stride = ONE
        for o in range(n):
            work[np.uintp(line + o)] = work[np.uintp(spare + o * step)]
    return line, stride, taps


@inlined
def copy_rows(combine, work, line, x, layout, row, row_step, rows, n, g, identity):
    """Copy rows of n input elements into lines; behind each is `identity` if any window reaches padding."""
    if layout[L.DIRECT]:
        fold_rows(combine, work, line, x, row, ONE, ZERO, -ONE, row_step, rows, n, identity, ONE_PLANE, g)
    else:
        gather_block(work, line, g[G.PITCH], x, row, row_step, layout[L.W_STEP], rows, n)


@inlined
def fold_dense(combine, work, x, layout, plane, unit, g, identity):
    """Stack the input rows of a unit and fold whole stacks by shifts, down and across."""
    stack = g[G.STACK] if g[G.KERNEL_H] > 1 else g[G.FOLDED]
    spare = g[G.SPARE]
    size = (g[unit + U.ROWS] + (g[G.KERNEL_H] - 1) * g[G.DILATION_H]) * g[G.PITCH]
    if g[unit + U.TOUCHES_PADDING]:
        fill(work, stack, identity, size)
    if g[unit + U.FIRST_BLOCK] < g[unit + U.END_BLOCK]:
        b = g[G.BLOCKS] + g[unit + U.FIRST_BLOCK] * B.FIELDS
        row = (
            plane_at(layout, plane)
            + g[b + B.FIRST_D] * layout[L.D_STEP]
            + g[b + B.FIRST_H] * layout[L.H_STEP]
            + g[b + B.FIRST_W] * layout[L.W_STEP]
        )
        n, rows, h_step = g[b + B.WIDTH], g[b + B.H_TAPS], layout[L.H_STEP]
        for t in range(g[b + B.D_TAPS]):
            onto = stack
            if t > 0:
                onto = spare
                fill(work, onto, identity, size)
            line = onto + g[b + B.LINE]
            copy_rows(combine, work, line, x, layout, row, h_step, rows, n, g, identity)
            if t > 0:
                fold_lines(combine, work, stack, stack, onto, -ONE, size)
            row += g[G.DILATION_D] * layout[L.D_STEP]
    n, lines = g[unit + U.ROWS] * g[G.PITCH], g[G.FOLDED]
    if g[G.KERNEL_H] > 1:
        fold_shifts(combine, work, lines, stack, n, g[G.KERNEL_H], g[G.DILATION_H] * g[G.PITCH])
    fold_shifts(combine, work, g[G.ACROSS], lines, n, g[G.KERNEL_W], g[G.DILATION_W])


@inner
def write_masks(work, g):
    """For "flat": lines that are 1 where the first and the last tap along each axis are inside the plane, else 0."""
    position = g[G.STACK]
    for row in range(g[G.GROUP] * g[G.IN_D] * g[G.IN_H]):
        for w in range(g[G.IN_W]):
            at, coordinate = position, w
            for axis in range(3):  # w, h, d
                if axis > 0:
                    coordinate = row % g[G.IN_H] if axis == 1 else row // g[G.IN_H] % g[G.IN_D]
                first = coordinate - g[G.BEFORE_W - axis]
                last = first + (g[G.KERNEL_W - axis] - 1) * g[G.DILATION_W - axis]
                work[at] = first >= 0
                work[at + g[G.LINES]] = last < g[G.IN_W - axis]
                at += 2 * g[G.LINES]
            position += 1


@inner
def fold_masked(combine, work, to, line, masks, g, axis, step, n, identity):
    """Fold 2 or 3 taps along an axis, all planes of a unit as one vector, without those outside their plane."""
    width, end, target, middle = lanes(work), np.uintp(n), np.uintp(to), np.uintp(line)
    first = np.uintp(line - g[G.BEFORE_W - axis] * step)
    last = first + np.uintp((g[G.KERNEL_W - axis] - 1) * g[G.DILATION_W - axis] * step)
    first_mask, last_mask = np.uintp(masks), np.uintp(masks + g[G.LINES])
    has_middle = g[G.KERNEL_W - axis] == 3
    column = np.uintp(0)
    while column < end:
        a = choose(load(work, first_mask + column, work), load(work, first + column, work), identity)
        b = choose(load(work, last_mask + column, work), load(work, last + column, work), identity)
        if has_middle:
            a = combine(a, load(work, middle + column, work))
        store(work, target + column, combine(a, b))
        column += width


@inlined
def fold_flat(combine, work, x, layout, plane, planes, g, identity):
    """Fold whole planes along each axis as one vector; returns where in the work array the result is, and its length."""
    n = planes * g[G.IN_D] * g[G.IN_H] * g[G.IN_W]
    line, other, whole = g[G.FOLDED], g[G.ACROSS], n - n % np.int64(lanes(work))
    at = plane_at(layout, plane)
    copy_line(work, line, x, at, whole)
    for i in range(whole, n):
        work[line + i] = element(x, np.uintp(at + i), work)
    step = ONE
    for axis in range(3):
        if g[G.KERNEL_W - axis] > 1:
            masks = g[G.STACK] + 2 * axis * g[G.LINES]
            fold_masked(combine, work, other, line, masks, g, axis, step, n, identity)
            line, other = other, line
        step *= g[G.IN_W - axis]
    return line, n


@inlined
def unit_of(number, g):
    """First plane of a unit, how many planes it covers, and its row of the table."""
    plane = number // g[G.UNIT_COUNT]
    unit = g[G.UNITS] + (number - plane * g[G.UNIT_COUNT]) * U.FIELDS
    plane *= g[G.GROUP]
    planes = g[G.PLANES] - plane
    return plane, planes if planes < g[G.GROUP] else g[G.GROUP], unit


@inlined
def first_output(plane, unit, g):
    """Position in the output of the first result of a unit."""
    return ((plane * g[G.OUT_D] + g[unit + U.OD]) * g[G.OUT_H] + g[unit + U.OH]) * g[G.OUT_W] + g[unit + U.OW]


@inlined
def free_end(out, last, g):
    """How far units before `last` may write over results to come: they are theirs too, and written in ascending order."""
    plane, _, unit = unit_of(last, g)
    end = first_output(plane, unit, g) if g[unit + U.COLS] == g[G.OUT_W] else ZERO
    return end if end < out.size else out.size


@inlined
def store_unit(combine, finish, out, end, work, divisors, plane, planes, unit, g, line, stride, taps):
    """Fold the lines of a unit across (or take them as they are: one tap at stride 1) and write them to the output."""
    target = first_output(plane, unit, g), g[G.OUT_W], end
    lines = line, g[G.PITCH] // g[G.STRIDE_W] * stride, planes * g[unit + U.ROWS], g[unit + U.COLS]
    window = stride, taps, g[G.DILATION_W]
    division = g[unit + U.DIVISORS], g[G.FACTORS], ZERO
    if g[G.VARIES]:
        row = g[unit + U.OD] * g[G.OUT_H] + g[unit + U.OH]
        division = g[unit + U.DIVISORS], g[G.FACTORS] + row, g[unit + U.ROWS]
    streams = g[G.STREAMS] != 0
    across_rows(combine, finish, out, target, work, lines, window, g[G.STAGE], streams, divisors, division)


@inlined
def store_flat(combine, finish, out, end, work, divisors, factor_at, plane, unit, g, line, n):
    """Write the line of whole planes that "flat" folded, of n elements, to the output."""
    target, lines, window = (first_output(plane, unit, g), n, end), (line, n, ONE, n), (ONE, ONE, ONE)
    division, streams = (ZERO, factor_at, ONE), g[G.STREAMS] != 0
    across_rows(combine, finish, out, target, work, lines, window, g[G.STAGE], streams, divisors, division)
