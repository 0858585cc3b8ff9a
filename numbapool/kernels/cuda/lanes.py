"""Several elements at a time: neighbouring channels, or the same position of neighbouring planes.

The lanes of a thread share all shape arithmetic, and their loads do not wait for each other. Eight lanes are a pair of
pairs of pairs, so that a kernel is written once: each step below is written for one lane and for a pair of what `one`
does, and `steps_of` nests them. Lane number n is `n * step` elements after the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbapool.kernels.cuda.elements import element, index, narrowed, put, total, turned, value, widened
from numbapool.kernels.cuda.variants import with_own
from numbapool.kernels.windows import larger as larger_of_two
from numbapool.kernels.windows import replaces

# Bound by `steps_of`: what a pair is made of, and how many lanes its first half has; and steps that others take.
one: Callable[..., Any] = larger_of_two
HALF = 1
store: Callable[..., Any] = larger_of_two
store_positions: Callable[..., Any] = larger_of_two
unmarked: Callable[..., Any] = larger_of_two

# Bound by the variant: the value of a maximum without any element, and how a sum is divided.
LOWEST: Any = np.float32(-np.inf)
quotient_of: Callable[..., Any] = larger_of_two


def load_one(x, i, step):
    return element(x, i)


def load_pair(x, i, step):
    return one(x, i, step), one(x, i + HALF * step, step)


def store_one(out, i, step, best):
    put(out, i, best)


def store_pair(out, i, step, best):
    one(out, i, step, best[0])
    one(out, i + HALF * step, step, best[1])


def lowest_one():
    return value(LOWEST)


def zero_one():
    return total(0)


def none_pair():
    return one(), one()


def larger_one(best, each):
    return larger_of_two(best, each)


def add_one(sums, each):
    return total(sums + total(each))


def both_pair(best, each):
    return one(best[0], each[0]), one(best[1], each[1])


def mark_one(each, position):
    return each, position


def mark_pair(each, position):
    return one(each[0], position), one(each[1], position)


def replace_one(best, each, position):
    is_better = replaces(each, best[0])
    return each if is_better else best[0], position if is_better else best[1]


def replace_pair(best, each, position):
    return one(best[0], each[0], position), one(best[1], each[1], position)


def fetch_one(positions, i, step):
    return index(positions[i])


def fetch_pair(positions, i, step):
    return one(positions, i, step), one(positions, i + HALF * step, step)


def pair_up_one(each, position):
    return each, position


def pair_up_pair(each, position):
    return one(each[0], position[0]), one(each[1], position[1])


def merge_one(best, each):
    is_better = best[1] < 0 or replaces(each[0], best[0])
    return each[0] if is_better else best[0], each[1] if is_better else best[1]


def store_mark_one(out, positions, i, step, best):
    put(out, i, best[0])
    positions[i] = as_index(best[1])


def store_mark_pair(out, positions, i, step, best):
    one(out, positions, i, step, best[0])
    one(out, positions, i + HALF * step, step, best[1])


def unmarked_one(best):
    return best[0]


def unmarked_pair(best):
    return one(best[0]), one(best[1])


def store_positions_one(positions, i, step, best):
    positions[i] = as_index(best[1])


def store_positions_pair(positions, i, step, best):
    one(positions, i, step, best[0])
    one(positions, i + HALF * step, step, best[1])


def wide_store_mark(out, positions, i, step, best):
    store(out, i, step, unmarked(best))
    store_positions(positions, i, step, best)


def divide_one(sums, divisor):
    return quotient_of(sums, divisor)


def divide_pair(sums, divisor):
    return one(sums[0], divisor), one(sums[1], divisor)


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


def add_where_one(sums, each, mark, wanted):
    return total(sums + total(each)) if mark == wanted else sums


def add_where_pair(sums, each, mark, wanted):
    return one(sums[0], each[0], mark[0], wanted), one(sums[1], each[1], mark[1], wanted)


# Bound by the variant: whether positions may differ that maxima have in common.
MAY_DIFFER = True


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


# Across: neighbours of a row, one window's, to one lane. Bound by the variant: how far apart the numbers of two windows are.
BESIDE = 2


def larger_across_one(pair):
    return larger_of_two(pair[0], pair[1])


def sum_across_one(pair):
    return total(total(pair[0]) + total(pair[1]))


def across_pair(pairs):
    return one(pairs[0]), one(pairs[1])


def mark_across_one(pair, position):
    is_second = replaces(pair[1], pair[0])
    return pair[1] if is_second else pair[0], index(position + 1) if is_second else position


def mark_across_pair(pairs, position):
    return one(pairs[0], position), one(pairs[1], index(position + BESIDE * HALF))


# And back: a gradient to the two inputs of its window, or to the one of them that is named.


def doubled_one(each):
    return each, each


def doubled_pair(each):
    return one(each[0]), one(each[1])


def named_one(each, position, wanted):
    return each if position == wanted else value(0), each if position == index(wanted + 1) else value(0)


def named_pair(each, position, wanted):
    return one(each[0], position[0], wanted), one(each[1], position[1], index(wanted + BESIDE * HALF))


# Neighbours of a plane, and perhaps of the next one: `left` of them are the first's.


def fill_one(own, following, left, k):
    return own if k < left else following


def fill_pair(own, following, left, k):
    return one(own, following, left, k), one(own, following, left, index(k + HALF))


def fill_named_one(own, own_at, following, following_at, k):
    return own if k == own_at else following if k == following_at else value(0)


def fill_named_pair(own, own_at, following, following_at, k):
    return one(own, own_at, following, following_at, k), one(own, own_at, following, following_at, k + HALF)


def put_some_one(out, i, end, each):
    if i < end:
        put(out, i, each)


def put_some_pair(out, i, end, each):
    one(out, i, end, each[0])
    one(out, i + HALF, end, each[1])


# How positions are written: as they are, or with all bits of a tap that there is not; bound by the variant.
INDEX_MASK = -1
index_type: Any = np.int64


def as_index(position):
    """A position as an index: -1 has all bits set, in an unsigned type too."""
    return index_type(np.int64(position) & np.int64(INDEX_MASK)) if INDEX_MASK > 0 else index_type(np.int64(position))


# 16 bytes at once: replaced by the compiler; as they stand they read and write one element after the other.


def neighbours_2(x, i):
    return x[i], x[i + 1]


def neighbours_4(x, i):
    return x[i], x[i + 1], x[i + 2], x[i + 3]


def neighbours_8(x, i):
    return x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]


def neighbours_16(x, i):
    return (
        x[i],
        x[i + 1],
        x[i + 2],
        x[i + 3],
        x[i + 4],
        x[i + 5],
        x[i + 6],
        x[i + 7],
        x[i + 8],
        x[i + 9],
        x[i + 10],
        x[i + 11],
        x[i + 12],
        x[i + 13],
        x[i + 14],
        x[i + 15],
    )


def pair_of(a, b):
    return turned(widened(a)), turned(widened(b))


def wide_load_2(x, i, step):
    v = neighbours_2(x, i)
    return pair_of(v[0], v[1])


def wide_load_4(x, i, step):
    v = neighbours_4(x, i)
    return pair_of(v[0], v[1]), pair_of(v[2], v[3])


def wide_load_8(x, i, step):
    v = neighbours_8(x, i)
    return (pair_of(v[0], v[1]), pair_of(v[2], v[3])), (pair_of(v[4], v[5]), pair_of(v[6], v[7]))


def wide_load_16(x, i, step):
    v = neighbours_16(x, i)
    return (
        ((pair_of(v[0], v[1]), pair_of(v[2], v[3])), (pair_of(v[4], v[5]), pair_of(v[6], v[7]))),
        ((pair_of(v[8], v[9]), pair_of(v[10], v[11])), (pair_of(v[12], v[13]), pair_of(v[14], v[15]))),
    )


def both_marks(a, b):
    return as_mark(a), as_mark(b)


def wide_marks_2(positions, i, step):
    v = neighbours_2(positions, i)
    return both_marks(v[0], v[1])


def wide_marks_4(positions, i, step):
    v = neighbours_4(positions, i)
    return both_marks(v[0], v[1]), both_marks(v[2], v[3])


def wide_store_2(out, i, step, v):
    put_neighbours_2(out, i, (bits_of(v[0]), bits_of(v[1])))


def wide_store_4(out, i, step, v):
    put_neighbours_4(out, i, (bits_of(v[0][0]), bits_of(v[0][1]), bits_of(v[1][0]), bits_of(v[1][1])))


def wide_store_8(out, i, step, v):
    put_neighbours_8(out, i, octet_of(v))


def wide_store_16(out, i, step, v):
    put_neighbours_16(out, i, octet_of(v[0]) + octet_of(v[1]))


def octet_of(v):
    a, b = v
    return (
        bits_of(a[0][0]),
        bits_of(a[0][1]),
        bits_of(a[1][0]),
        bits_of(a[1][1]),
        bits_of(b[0][0]),
        bits_of(b[0][1]),
        bits_of(b[1][0]),
        bits_of(b[1][1]),
    )


def bits_of(each):
    return narrowed(turned(each))


def put_neighbours_2(out, i, v):
    for n in range(2):
        out[i + n] = v[n]


def put_neighbours_4(out, i, v):
    for n in range(4):
        out[i + n] = v[n]


def put_neighbours_8(out, i, v):
    for n in range(8):
        out[i + n] = v[n]


def put_neighbours_16(out, i, v):
    for n in range(16):
        out[i + n] = v[n]


NEIGHBOURS = {2: neighbours_2, 4: neighbours_4, 8: neighbours_8, 16: neighbours_16}
PUT_NEIGHBOURS = {2: put_neighbours_2, 4: put_neighbours_4, 8: put_neighbours_8, 16: put_neighbours_16}
WIDE_STORES = {2: wide_store_2, 4: wide_store_4, 8: wide_store_8, 16: wide_store_16}
WIDE_MARKS = {2: wide_marks_2, 4: wide_marks_4}
WIDE_LOADS = {2: wide_load_2, 4: wide_load_4, 8: wide_load_8, 16: wide_load_16}

STEPS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "load": (load_one, load_pair),
    "store": (store_one, store_pair),
    "lowest": (lowest_one, none_pair),
    "zero": (zero_one, none_pair),
    "larger": (larger_one, both_pair),
    "add": (add_one, both_pair),
    "mark": (mark_one, mark_pair),
    "replace": (replace_one, replace_pair),
    "store_mark": (store_mark_one, store_mark_pair),
    "store_positions": (store_positions_one, store_positions_pair),
    "unmarked": (unmarked_one, unmarked_pair),
    "divide": (divide_one, divide_pair),
    "fetch": (fetch_one, fetch_pair),
    "pair_up": (pair_up_one, pair_up_pair),
    "merge": (merge_one, both_pair),
    "larger_across": (larger_across_one, across_pair),
    "sum_across": (sum_across_one, across_pair),
    "mark_across": (mark_across_one, mark_across_pair),
    "doubled": (doubled_one, doubled_pair),
    "named": (named_one, named_pair),
    "marks_at": (marks_at_one, fetch_pair),
    "add_where": (add_where_one, add_where_pair),
    "fill": (fill_one, fill_pair),
    "fill_named": (fill_named_one, fill_named_pair),
    "put_some": (put_some_one, put_some_pair),
    "nothing": (nothing_one, none_pair),
    "take": (take_one, take_pair),
    "store_taken": (store_taken_one, store_taken_pair),
}


def nested(single: Callable[..., Any], pair: Callable[..., Any], lanes: int, first: int = 1) -> Callable[..., Any]:
    """A step for a number of lanes, of one for `first` of them."""
    step, half = single, first
    while half < lanes:
        step = with_own(pair, one=step, HALF=half)
        half *= 2
    return step


def steps_of(lanes: int, loads_wide: bool, stores_wide: bool) -> dict[str, Any]:
    """The steps by name, for a number of lanes; all loaded at once from 16 aligned bytes, or stored so."""
    steps: dict[str, Any] = {name: nested(*each, lanes) for name, each in STEPS.items()}
    if loads_wide:
        steps["load"] = WIDE_LOADS[lanes]
    if stores_wide:
        steps["store"] = WIDE_STORES[lanes]
        steps["store_mark"] = wide_store_mark
    return steps


def tile_steps(lanes: int, loaded: int, at_once: int, stores_wide: bool) -> dict[str, Any]:
    """The steps of tiles: more elements of a row are loaded, `at_once` in one load, than there are results."""
    steps = steps_of(lanes, False, stores_wide)
    steps |= {name: nested(*STEPS[name], loaded) for name in ("larger", "lowest", "add", "zero")}
    steps["load"] = nested(WIDE_LOADS[at_once], load_pair, loaded, at_once)
    steps["lowest_mark"] = nested(lowest_mark_one, none_pair, lanes)
    return steps


def wide_marks(at_once: int, lanes: int) -> dict[str, Any]:
    """How indices are read, so many of them from 16 aligned bytes."""
    return {"marks_at": nested(WIDE_MARKS[at_once], fetch_pair, lanes, at_once)}


def gradient_tile_steps(outputs: int, inputs: int) -> dict[str, Any]:
    """The steps of tiles of gradients: the results are more, and `outputs` are stored at once."""
    steps = steps_of(outputs, True, False)
    steps |= {f"{name}_named": nested(*STEPS[name], inputs) for name in ("zero", "add")}
    steps["store"] = nested(WIDE_STORES[outputs], store_pair, inputs, outputs)
    return steps


def fill_steps(lanes: int) -> dict[str, Any]:
    """The steps of planes that are filled: so many elements are stored at once, of one or two gradients."""
    filling = {name: nested(*STEPS[name], lanes) for name in ("fill", "fill_named", "put_some")}
    return steps_of(1, False, False) | filling | {"store": WIDE_STORES[lanes]}


def lowest_mark_one():
    return value(LOWEST), index(-1)
