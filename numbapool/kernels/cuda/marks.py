"""Steps of vectors whose lanes have a mark each: where a maximum is, and the gradients that go there.

A mark is a position in the plane or a tap of the window, and -1 is none. See `vectors` for how steps are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbapool.kernels.cuda.elements import LOWEST, index, put, total, value
from numbapool.windows import replaces

# Bound by `vectors.nested`: what a pair is made of, and how many lanes its first half has; and steps that others take.
one: Callable[..., Any] = put
HALF = 1
store: Callable[..., Any] = put
store_positions: Callable[..., Any] = put
unmarked: Callable[..., Any] = put

# Bound by the variant: how positions are written, as they are, or with all bits of a tap that there is not; how far apart the
# numbers of two windows are that lie side by side; and whether positions may differ that maxima have in common.
INDEX_MASK = -1
index_type: Any = np.int64
BESIDE = 2
MAY_DIFFER = True


def mark_one(each, position):
    return each, position


def lowest_mark_one():
    return value(LOWEST), index(-1)


def replace_one(best, each, position):
    is_better = replaces(each, best[0])
    return each if is_better else best[0], position if is_better else best[1]


def replace_pair(best, each, position):
    return one(best[0], each[0], position), one(best[1], each[1], position)


def fetch_one(positions, i, step):
    return index(positions[i])


def merge_one(best, each):
    is_better = best[1] < 0 or replaces(each[0], best[0])
    return each[0] if is_better else best[0], each[1] if is_better else best[1]


def mark_across_one(pair, position):
    is_second = replaces(pair[1], pair[0])
    return pair[1] if is_second else pair[0], index(position + 1) if is_second else position


def mark_across_pair(pairs, position):
    return one(pairs[0], position), one(pairs[1], index(position + BESIDE * HALF))


def as_index(position):
    """A position as an index: -1 has all bits set, in an unsigned type too."""
    return index_type(np.int64(position) & np.int64(INDEX_MASK)) if INDEX_MASK > 0 else index_type(np.int64(position))


def store_mark_one(out, positions, i, step, best):
    put(out, i, best[0])
    positions[i] = as_index(best[1])


def store_mark_pair(out, positions, i, step, best):
    one(out, positions, i, step, best[0])
    one(out, positions, i + HALF * step, step, best[1])


def unmarked_one(best):
    return best[0]


def store_positions_one(positions, i, step, best):
    positions[i] = as_index(best[1])


def wide_store_mark(out, positions, i, step, best):
    store(out, i, step, unmarked(best))
    store_positions(positions, i, step, best)


# Bound by the variant: an index as a position; -1 is none.


def plain_mark(position):
    return index(position)


def narrowed_mark(position):
    """Of 64 bits, where positions have 32."""
    whole = np.int64(position)
    return index(whole) if whole >= 0 and whole < 2**31 else index(-1)


as_mark = plain_mark


def marks_at_one(positions, i, step):
    return as_mark(positions[i])


def mark_of_one(elements):
    return as_mark(elements[0])


# Gradients to the elements that marks name.


def add_where_one(sums, each, mark, wanted):
    return total(sums + total(each)) if mark == wanted else sums


def add_where_pair(sums, each, mark, wanted):
    return one(sums[0], each[0], mark[0], wanted), one(sums[1], each[1], mark[1], wanted)


def nothing_one():
    return total(0), index(-1)


def take_one(found, each, mark, first, end):
    """Add a gradient whose position is in a range; -2 stands for positions that differ."""
    sums, known = found
    if mark >= first and mark < end:
        is_same = known == -1 or known == mark
        return total(sums + total(each)), mark if is_same else index(-2)
    return sums, known


def take_pair(found, each, mark, first, end):
    return one(found[0], each[0], mark[0], first, end), one(found[1], each[1], mark[1], first, end)


def store_taken_one(out, marks, differ, i, step, found):
    out[i] = found[0]
    marks[i] = as_index(found[1])
    if MAY_DIFFER and found[1] == -2:
        differ[0] = np.int32(1)


def store_taken_pair(out, marks, differ, i, step, found):
    one(out, marks, differ, i, step, found[0])
    one(out, marks, differ, i + HALF * step, step, found[1])


def named_one(each, position, wanted):
    return each if position == wanted else value(0), each if position == index(wanted + 1) else value(0)


def named_pair(each, position, wanted):
    return one(each[0], position[0], wanted), one(each[1], position[1], index(wanted + BESIDE * HALF))


def fill_named_one(own, own_at, following, following_at, k):
    return own if k == own_at else following if k == following_at else value(0)


def fill_named_pair(own, own_at, following, following_at, k):
    return one(own, own_at, following, following_at, k), one(own, own_at, following, following_at, k + HALF)
