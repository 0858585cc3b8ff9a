"""Row primitives: fold rows of a plane into lines, fold lines across, with windows as they come from the schedule.

All lines of a unit live in one flat work array and are named by the position of their first element. Rules of speed,
measured on this code with AVX2 (float32, lines of 2,048):

- A line is never folded into itself: `line[j] = larger(line[j], row[j])` becomes a masked store, 4 ns for 8 elements
  against 0.8 ns with another destination.
- Positions are cast to uintp once and added to counters from 0: a signed sum as an index brings the check for negative
  indices into the loop, and nothing vectorises (10 times slower).
- Every small function costs 25 ms of compilation at the first call, so rules are written out where they are used once.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from numbapool.kernels import windows
from numbapool.kernels.cpu.compile import inlined, inner
from numbapool.kernels.cpu.schedule import (
    ACROSS,
    BEFORE_W,
    BLOCK_FIELDS,
    BLOCK_ROWS,
    BLOCKS,
    COLS,
    D_TAPS,
    DILATION_D,
    DILATION_H,
    DILATION_W,
    END_BLOCK,
    FIRST_BLOCK,
    FIRST_D,
    FIRST_H,
    FIRST_W,
    FOLDED,
    GROUP,
    H_TAPS,
    IN_D,
    IN_H,
    IN_W,
    KERNEL_H,
    KERNEL_W,
    LINE,
    LINES,
    OD,
    OH,
    OUT_D,
    OUT_H,
    OUT_W,
    OW,
    PITCH,
    PLANES,
    ROWS,
    SPARE,
    STACK,
    STRIDE_H,
    STRIDE_W,
    TOUCHES_PADDING,
    WIDTH,
)

# Python constants would become literal types, and every function that is called with one would be compiled again.
ZERO = np.int64(0)
ONE = np.int64(1)

# Layout of a source: position of its first element and steps between elements, see `launch.Source`.
OFFSET, OUTER_STEP, INNER_STEP, INNER_COUNT, D_STEP, H_STEP, W_STEP, DIRECT = range(8)

larger = inner(windows.larger)
add = inner(windows.add)
replaces = inner(windows.replaces)
replaces_out_of_order = inner(windows.replaces_out_of_order)
first_tap = inner(windows.first_tap)
end_tap = inner(windows.end_tap)
count_taps = inner(windows.count_taps)
touching = inner(windows.touching)


def source_of(x, work, is_direct):
    """Where rows are folded from: `x` itself if its rows are runs of neighbours, else copies in `work`.

    Compiled, both have one type; if the dtypes differ, rows must be converted and `is_direct` has to be False.
    """
    return x if is_direct else work


@overload(source_of)
def _source_of(x, work, is_direct):
    if x == work:
        return lambda x, work, is_direct: x if is_direct else work
    return lambda x, work, is_direct: work


def same_dtype(x, work):
    """Whether two arrays have one dtype, a constant in compiled code."""
    return x.dtype == work.dtype


@overload(same_dtype)
def _same_dtype(x, work):
    answer = x.dtype == work.dtype
    return lambda x, work: answer


@inner
def fill(work, at, value, n):
    """`work[at : at + n] = value`."""
    at = np.uintp(at)
    for j in range(np.uintp(n)):
        work[at + j] = value


@inner
def copy_block(to, at, pitch, source, base, step, rows, n):
    """Copy `rows` runs of n elements, `step` apart in the source and `pitch` apart in `to`, converting them."""
    for r in range(rows):
        i, k = np.uintp(at + r * pitch), np.uintp(base + r * step)
        for j in range(np.uintp(n)):
            to[i + j] = source[k + j]


@inner
def gather_block(work, at, pitch, source, base, row_step, step, rows, n):
    """The same for a source whose elements are `step` apart: where strides and byte order are dealt with."""
    for r in range(rows):
        for j in range(n):
            work[np.uintp(at + r * pitch + j)] = source[np.uintp(base + r * row_step + j * step)]


@inner
def fold2(combine, work, to, pitch, source, a, b, step, rows, n):
    """Fold two rows of the source into a line; `rows` times, the source moving by `step` and the line by `pitch`."""
    for r in range(rows):
        i, k, m = np.uintp(to + r * pitch), np.uintp(a + r * step), np.uintp(b + r * step)
        for j in range(np.uintp(n)):
            work[i + j] = combine(source[k + j], source[m + j])


@inner
def fold3(combine, work, to, pitch, source, a, b, c, step, rows, n):
    """The same of three rows: one pass where two times `fold2` takes two."""
    for r in range(rows):
        i, k, m, q = np.uintp(to + r * pitch), np.uintp(a + r * step), np.uintp(b + r * step), np.uintp(c + r * step)
        for j in range(np.uintp(n)):
            work[i + j] = combine(combine(source[k + j], source[m + j]), source[q + j])


@inner
def fold_onto(combine, work, to, folded, pitch, source, a, step, rows, n):
    """Fold one more row of the source with a line that is folded already."""
    for r in range(rows):
        i, k, m = np.uintp(to + r * pitch), np.uintp(folded + r * pitch), np.uintp(a + r * step)
        for j in range(np.uintp(n)):
            work[i + j] = combine(work[k + j], source[m + j])


@inner
def fold_shifts(combine, work, to, line, spare, n, taps, step):
    """`work[to + j]` = fold of `taps` elements of `line`, `step` apart, for j < n, in log2(taps) passes.

    Reads the bits of `taps` from the second highest on: folds the line of m taps with itself m taps further on, and where
    the bit is set with tap 2m too. Sums only add, so nothing cancels. `spare` has room for two lines of
    n + (taps - 1) * step elements.
    """
    if taps == 1:
        copy_block(work, to, ZERO, work, line, ZERO, ONE, n)
        return
    bit = 1
    while 4 * bit <= taps:
        bit *= 2
    size = n + (taps - 1) * step
    done = 1
    folded = line
    while bit > 0:
        onto = to if bit == 1 else (spare + size if folded == spare else spare)
        second = folded + done * step
        done *= 2
        if taps & bit:
            third = line + done * step
            done += 1
            fold3(combine, work, onto, ZERO, work, folded, second, third, ZERO, ONE, n + (taps - done) * step)
        else:
            fold2(combine, work, onto, ZERO, work, folded, second, ZERO, ONE, n + (taps - done) * step)
        folded = onto
        bit //= 2


@inlined
def plane_at(layout, plane):
    """Position of the first element of a plane in a source."""
    outer = plane // layout[INNER_COUNT]
    return layout[OFFSET] + outer * layout[OUTER_STEP] + (plane - outer * layout[INNER_COUNT]) * layout[INNER_STEP]


@inlined
def fold_blocks(combine, work, x, source, is_direct, layout, plane, unit, g, identity):
    """Fold the input rows of each window of a unit into lines, block by block.

    Rows are read where they stand if that `is_direct` (neighbours, and no conversion), else from a copy of the rows of a
    block.
    """
    lines, stack, spare = g[FOLDED], g[STACK], g[SPARE]
    if g[unit + TOUCHES_PADDING]:
        fill(work, lines, identity, g[LINES])
    for number in range(g[unit + FIRST_BLOCK], g[unit + END_BLOCK]):
        b = g[BLOCKS] + number * BLOCK_FIELDS
        n, rows, taps = g[b + WIDTH], g[b + BLOCK_ROWS], g[b + D_TAPS] * g[b + H_TAPS]
        d_step, h_step, next_step = g[DILATION_D] * layout[D_STEP], layout[H_STEP], g[STRIDE_H] * layout[H_STEP]
        row = (
            plane + g[b + FIRST_D] * layout[D_STEP] + g[b + FIRST_H] * layout[H_STEP] + g[b + FIRST_W] * layout[W_STEP]
        )
        if not is_direct:
            rows_in = (rows - 1) * g[STRIDE_H] + (g[b + H_TAPS] - 1) * g[DILATION_H] + 1
            for t in range(g[b + D_TAPS]):
                gather_block(work, stack + t * rows_in * n, n, x, row + t * d_step, h_step, layout[W_STEP], rows_in, n)
            row, d_step, h_step, next_step = stack, rows_in * n, n, g[STRIDE_H] * n
        h_step *= g[DILATION_H]
        to = folded = lines + g[b + LINE]
        done = in_slab = ZERO
        while done < taps:
            # Three rows in the first pass if there are so many, then one in each.
            together = min(taps, 3) if done == 0 else ONE
            first = second = third = row
            for _ in range(together):
                first, second, third = second, third, row
                row += h_step
                in_slab += 1
                if in_slab == g[b + H_TAPS]:
                    row += d_step - g[b + H_TAPS] * h_step
                    in_slab = ZERO
            done += together
            onto = to if done == taps else (spare if folded != spare else spare + g[LINES])
            if together == 3:
                fold3(combine, work, onto, g[PITCH], source, first, second, third, next_step, rows, n)
            elif together == 2:
                fold2(combine, work, onto, g[PITCH], source, second, third, next_step, rows, n)
            elif taps == 1:
                copy_block(work, onto, g[PITCH], source, third, next_step, rows, n)
            else:
                fold_onto(combine, work, onto, folded, g[PITCH], source, third, next_step, rows, n)
            folded = onto


@inner
def across_pairs(combine, work, g, rows):
    """Fold across at stride 2 with 2 or 3 neighbouring taps."""
    to, line, two = np.uintp(g[ACROSS]), np.uintp(g[FOLDED]), np.uintp(2)
    n = np.uintp(rows * g[PITCH]) // two
    if g[KERNEL_W] == 2:
        for o in range(n):
            i = line + two * o
            work[to + o] = combine(work[i], work[i + np.uintp(1)])
    else:
        for o in range(n):
            i = line + two * o
            work[to + o] = combine(combine(work[i], work[i + np.uintp(1)]), work[i + two])


@inlined
def across_strided(combine, work, g, rows):
    """Fold across at every position, in long vectors, and keep every stride-th."""
    n = rows * g[PITCH] // g[STRIDE_W]
    reach = (n - 1) * g[STRIDE_W] + 1
    spare, to = g[SPARE], g[ACROSS]
    fold_shifts(combine, work, spare, g[FOLDED], spare + reach, reach, g[KERNEL_W], g[DILATION_W])
    for o in range(n):
        work[np.uintp(to + o)] = work[np.uintp(spare + o * g[STRIDE_W])]


@inlined
def fold_dense(combine, work, x, layout, plane, unit, g, identity):
    """Stack the input rows of a unit and fold whole stacks by shifts, down and across."""
    stack = g[STACK] if g[KERNEL_H] > 1 else g[FOLDED]
    spare = g[SPARE]
    size = (g[unit + ROWS] + (g[KERNEL_H] - 1) * g[DILATION_H]) * g[PITCH]
    folded = stack
    if g[unit + TOUCHES_PADDING]:
        fill(work, stack, identity, size)
    if g[unit + FIRST_BLOCK] < g[unit + END_BLOCK]:
        b = g[BLOCKS] + g[unit + FIRST_BLOCK] * BLOCK_FIELDS
        row = (
            plane + g[b + FIRST_D] * layout[D_STEP] + g[b + FIRST_H] * layout[H_STEP] + g[b + FIRST_W] * layout[W_STEP]
        )
        for t in range(g[b + D_TAPS]):
            onto = folded
            if t > 0:
                onto = spare + size
                fill(work, onto, identity, size)
            if layout[W_STEP] == 1:
                copy_block(work, onto + g[b + LINE], g[PITCH], x, row, layout[H_STEP], g[b + H_TAPS], g[b + WIDTH])
            else:
                gather_block(
                    work,
                    onto + g[b + LINE],
                    g[PITCH],
                    x,
                    row,
                    layout[H_STEP],
                    layout[W_STEP],
                    g[b + H_TAPS],
                    g[b + WIDTH],
                )
            if t > 0:
                to = spare if folded == stack else stack
                fold2(combine, work, to, ZERO, work, folded, onto, ZERO, ONE, size)
                folded = to
            row += g[DILATION_D] * layout[D_STEP]
        if folded != stack:
            copy_block(work, stack, ZERO, work, folded, ZERO, ONE, size)
    n, lines = g[unit + ROWS] * g[PITCH], g[FOLDED]
    if g[KERNEL_H] > 1:
        fold_shifts(combine, work, lines, stack, spare, n, g[KERNEL_H], g[DILATION_H] * g[PITCH])
    fold_shifts(combine, work, g[ACROSS], lines, spare, n, g[KERNEL_W], g[DILATION_W])


@inlined
def store_unit(out, work, plane, unit, g):
    """Write the results of a unit to the output, converted."""
    at = ((plane * g[OUT_D] + g[unit + OD]) * g[OUT_H] + g[unit + OH]) * g[OUT_W] + g[unit + OW]
    copy_block(out, at, g[OUT_W], work, g[ACROSS], g[PITCH] // g[STRIDE_W], g[unit + ROWS], g[unit + COLS])


@inner
def write_masks(work, g):
    """For "flat": lines that are 1 where the first and the last tap along each axis are inside the plane, else 0."""
    step = ONE
    for axis in range(3):  # w, h, d
        length, kernel = g[IN_W - axis], g[KERNEL_W - axis]
        at = g[STACK] + 2 * axis * g[LINES]
        for i in range(g[LINES]):
            first = i // step % length - g[BEFORE_W - axis]
            last = first + (kernel - 1) * g[DILATION_W - axis]
            work[at + i] = 0 <= first
            work[at + g[LINES] + i] = last < length
        step *= length


@inner
def fold_masked(combine, work, to, line, masks, g, axis, step, n, identity):
    """Fold 2 or 3 taps along an axis, all planes of a unit as one vector, without those outside their plane."""
    to, line = np.uintp(to), np.uintp(line)
    first = line - np.uintp(g[BEFORE_W - axis] * step)
    last = first + np.uintp((g[KERNEL_W - axis] - 1) * g[DILATION_W - axis] * step)
    first_mask, last_mask = np.uintp(masks), np.uintp(masks + g[LINES])
    if g[KERNEL_W - axis] == 3:
        for i in range(np.uintp(n)):
            a = work[first + i] if work[first_mask + i] != 0 else identity
            b = work[last + i] if work[last_mask + i] != 0 else identity
            work[to + i] = combine(combine(a, work[line + i]), b)
    else:
        for i in range(np.uintp(n)):
            a = work[first + i] if work[first_mask + i] != 0 else identity
            b = work[last + i] if work[last_mask + i] != 0 else identity
            work[to + i] = combine(a, b)


@inlined
def fold_flat(combine, work, x, layout, number, g, identity):
    """Fold whole planes along each axis as one vector; returns where in the work array the result is, and its length."""
    plane_size = g[IN_D] * g[IN_H] * g[IN_W]
    n = min(g[GROUP], g[PLANES] - number * g[GROUP]) * plane_size
    line, other = g[FOLDED], g[ACROSS]
    copy_block(work, line, ZERO, x, layout[OFFSET] + number * g[LINES], ZERO, ONE, n)
    step = ONE
    for axis in range(3):
        if g[KERNEL_W - axis] > 1:
            masks = g[STACK] + 2 * axis * g[LINES]
            fold_masked(combine, work, other, line, masks, g, axis, step, n, identity)
            line, other = other, line
        step *= g[IN_W - axis]
    return line, n


@inner
def mark_rows(work, marks, to, pitch, source, row, step, mark, mark_step, rows, n):
    """Copy rows into lines, and their flat positions in the plane into the lines of marks."""
    for r in range(rows):
        i, k, first_mark = np.uintp(to + r * pitch), np.uintp(row + r * step), mark + r * mark_step
        for j in range(np.uintp(n)):
            work[i + j] = source[k + j]
            marks[i + j] = first_mark + np.int64(j)


@inner
def mark_rows_onto(work, marks, to, folded, pitch, source, row, step, mark, mark_step, rows, n):
    """Fold the next rows, in row-major order, with lines and marks that are folded already."""
    for r in range(rows):
        i, f, k = np.uintp(to + r * pitch), np.uintp(folded + r * pitch), np.uintp(row + r * step)
        first_mark = mark + r * mark_step
        for j in range(np.uintp(n)):
            value, best = source[k + j], work[f + j]
            takes = replaces(value, best)
            work[i + j] = value if takes else best
            marks[i + j] = first_mark + np.int64(j) if takes else np.int64(marks[f + j])


@inlined
def mark_blocks(work, marks, x, source, is_direct, layout, plane, unit, g, identity, none):
    """`fold_blocks` for maxima with the flat position of each in its plane."""
    lines, stack, spare = g[FOLDED], g[STACK], g[SPARE]
    if g[unit + TOUCHES_PADDING]:
        fill(work, lines, identity, g[LINES])
        fill(marks, lines, none, g[LINES])
    for number in range(g[unit + FIRST_BLOCK], g[unit + END_BLOCK]):
        b = g[BLOCKS] + number * BLOCK_FIELDS
        n, rows, taps = g[b + WIDTH], g[b + BLOCK_ROWS], g[b + D_TAPS] * g[b + H_TAPS]
        d_step, h_step, next_step = g[DILATION_D] * layout[D_STEP], layout[H_STEP], g[STRIDE_H] * layout[H_STEP]
        row = (
            plane + g[b + FIRST_D] * layout[D_STEP] + g[b + FIRST_H] * layout[H_STEP] + g[b + FIRST_W] * layout[W_STEP]
        )
        if not is_direct:
            rows_in = (rows - 1) * g[STRIDE_H] + (g[b + H_TAPS] - 1) * g[DILATION_H] + 1
            for t in range(g[b + D_TAPS]):
                gather_block(work, stack + t * rows_in * n, n, x, row + t * d_step, h_step, layout[W_STEP], rows_in, n)
            row, d_step, h_step, next_step = stack, rows_in * n, n, g[STRIDE_H] * n
        h_step *= g[DILATION_H]
        to = folded = lines + g[b + LINE]
        for tap in range(taps):
            i = tap // g[b + H_TAPS]
            j = tap - i * g[b + H_TAPS]
            in_d, in_h = g[b + FIRST_D] + i * g[DILATION_D], g[b + FIRST_H] + j * g[DILATION_H]
            mark, mark_step = (in_d * g[IN_H] + in_h) * g[IN_W] + g[b + FIRST_W], g[STRIDE_H] * g[IN_W]
            tap_row = row + i * d_step + j * h_step
            onto = to if tap == taps - 1 else (spare if folded != spare else spare + g[LINES])
            if tap == 0:
                mark_rows(work, marks, onto, g[PITCH], source, tap_row, next_step, mark, mark_step, rows, n)
            else:
                mark_rows_onto(
                    work, marks, onto, folded, g[PITCH], source, tap_row, next_step, mark, mark_step, rows, n
                )
            folded = onto


@inner
def mark_pick(work, marks, to, line, step, n):
    """Every step-th element of a line and its marks."""
    for o in range(n):
        work[np.uintp(to + o)] = work[np.uintp(line + o * step)]
        marks[np.uintp(to + o)] = marks[np.uintp(line + o * step)]


@inner
def mark_merge(work, marks, to, folded, line, step, n):
    """Fold every step-th element of a line with results that are folded already, marks deciding between equals."""
    to, folded, line = np.uintp(to), np.uintp(folded), np.uintp(line)
    if step == 1:
        for o in range(np.uintp(n)):
            value, mark, best, best_mark = work[line + o], marks[line + o], work[folded + o], marks[folded + o]
            takes = replaces_out_of_order(value, mark, best, best_mark)
            work[to + o] = value if takes else best
            marks[to + o] = mark if takes else best_mark
    elif step == 2:
        for o in range(np.uintp(n)):
            i = line + np.uintp(2) * o
            value, mark, best, best_mark = work[i], marks[i], work[folded + o], marks[folded + o]
            takes = replaces_out_of_order(value, mark, best, best_mark)
            work[to + o] = value if takes else best
            marks[to + o] = mark if takes else best_mark
    else:
        for o in range(np.uintp(n)):
            i = line + np.uintp(step) * o
            value, mark, best, best_mark = work[i], marks[i], work[folded + o], marks[folded + o]
            takes = replaces_out_of_order(value, mark, best, best_mark)
            work[to + o] = value if takes else best
            marks[to + o] = mark if takes else best_mark


@inlined
def mark_across(work, marks, g, rows):
    """Fold across, tap by tap."""
    n = rows * g[PITCH] // g[STRIDE_W]
    line, spare, to = g[FOLDED], g[SPARE], g[ACROSS]
    folded = to
    for tap in range(g[KERNEL_W]):
        onto = to if tap == g[KERNEL_W] - 1 else (spare if folded != spare else spare + n)
        if tap == 0:
            mark_pick(work, marks, onto, line, g[STRIDE_W], n)
        else:
            mark_merge(work, marks, onto, folded, line + tap * g[DILATION_W], g[STRIDE_W], n)
        folded = onto


@inner
def store_marks(indices, marks, plane, unit, g, none):
    """Write the marks of a unit to the indices, -1 for windows without a tap inside the input."""
    at = ((plane * g[OUT_D] + g[unit + OD]) * g[OUT_H] + g[unit + OH]) * g[OUT_W] + g[unit + OW]
    for r in range(g[unit + ROWS]):
        to, line = np.uintp(at + r * g[OUT_W]), np.uintp(g[ACROSS] + r * g[PITCH] // g[STRIDE_W])
        for o in range(np.uintp(g[unit + COLS])):
            mark = marks[line + o]
            indices[to + o] = np.int64(mark) if mark < none else -ONE
