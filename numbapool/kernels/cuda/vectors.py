"""Several elements at a time: neighbouring channels, or the same position of neighbouring planes.

The lanes of a thread share all shape arithmetic, and their loads do not wait for each other. Eight lanes are a pair of
pairs of pairs, so that a kernel is written once: each step below is written for one lane and for a pair of what `one`
does, and `steps_of` nests them. Lane number n is `n * step` elements after the first. Those of lanes with marks are in `marks`.

On the CPU the lanes of a vector are neighbours of a row, or channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numbapool.kernels.cuda import marks
from numbapool.kernels.cuda.elements import LOWEST, element, index, narrowed, put, total, turned, value, widened
from numbapool.kernels.cuda.variants import with_own
from numbapool.windows import larger as larger_of_two

# Bound by `nested`: what a pair is made of, and how many lanes its first half has.
one: Callable[..., Any] = larger_of_two
HALF = 1
# Bound by the variant: how a sum is divided.
quotient_of: Callable[..., Any] = larger_of_two


# Pairs of steps of many sorts: of no vector, of one, of two, and of one and a scalar.


def none_pair():
    return one(), one()


def each_pair(v):
    return one(v[0]), one(v[1])


def both_pair(v, other):
    return one(v[0], other[0]), one(v[1], other[1])


def with_scalar_pair(v, scalar):
    return one(v[0], scalar), one(v[1], scalar)


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


def larger_one(best, each):
    return larger_of_two(best, each)


def add_one(sums, each):
    return total(sums + total(each))


def divide_one(sums, divisor):
    return quotient_of(sums, divisor)


# Across: neighbours of a row, one window's, to one lane.


def larger_across_one(pair):
    return larger_of_two(pair[0], pair[1])


def sum_across_one(pair):
    return total(total(pair[0]) + total(pair[1]))


# And back: a gradient to the two inputs of its window.


def doubled_one(each):
    return each, each


# Neighbours of a plane, and perhaps of the next one: `left` of them are the first's.


def fill_one(own, following, left, k):
    return own if k < left else following


def fill_pair(own, following, left, k):
    return one(own, following, left, k), one(own, following, left, index(k + HALF))


def put_some_one(out, i, end, each):
    if i < end:
        put(out, i, each)


def put_some_pair(out, i, end, each):
    one(out, i, end, each[0])
    one(out, i + HALF, end, each[1])


# 16 bytes at once: replaced by the compiler; as they stand they read and write one element after the other. Then the elements are
# values, one or many, and back. Bound by `wide_load` and `wide_store`: how many there are, and the steps that they take.
COUNT = 2


def neighbours(x, i):
    return tuple([x[i + n] for n in range(COUNT)])


def put_neighbours(out, i, elements):
    for n, each in enumerate(elements):
        out[i + n] = each


def value_one(elements):
    return turned(widened(elements[0]))


def value_pair(elements):
    return one(elements[:HALF]), one(elements[HALF:])


def bits_one(each):
    return (narrowed(turned(each)),)


def bits_pair(values):
    return one(values[0]) + one(values[1])


values_of, bits_of = value_one, bits_one


def load_wide(x, i, step):
    return values_of(neighbours(x, i))


def store_wide(out, i, step, values):
    put_neighbours(out, i, bits_of(values))


STEPS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "load": (load_one, load_pair),
    "store": (store_one, store_pair),
    "lowest": (lowest_one, none_pair),
    "zero": (zero_one, none_pair),
    "larger": (larger_one, both_pair),
    "add": (add_one, both_pair),
    "divide": (divide_one, with_scalar_pair),
    "larger_across": (larger_across_one, each_pair),
    "sum_across": (sum_across_one, each_pair),
    "doubled": (doubled_one, each_pair),
    "fill": (fill_one, fill_pair),
    "put_some": (put_some_one, put_some_pair),
    "mark": (marks.mark_one, with_scalar_pair),
    "replace": (marks.replace_one, marks.replace_pair),
    "fetch": (marks.fetch_one, load_pair),
    "pair_up": (marks.mark_one, both_pair),
    "merge": (marks.merge_one, both_pair),
    "mark_across": (marks.mark_across_one, marks.mark_across_pair),
    "unmarked": (marks.unmarked_one, each_pair),
    "store_mark": (marks.store_mark_one, marks.store_mark_pair),
    "store_positions": (marks.store_positions_one, store_pair),
    "marks_at": (marks.marks_at_one, load_pair),
    "add_where": (marks.add_where_one, marks.add_where_pair),
    "nothing": (marks.nothing_one, none_pair),
    "take": (marks.take_one, marks.take_pair),
    "store_taken": (marks.store_taken_one, marks.store_taken_pair),
    "named": (marks.named_one, marks.named_pair),
    "fill_named": (marks.fill_named_one, marks.fill_named_pair),
}


def nested(single: Callable[..., Any], pair: Callable[..., Any], lanes: int, first: int = 1) -> Callable[..., Any]:
    """A step for a number of lanes, of one for `first` of them."""
    step, half = single, first
    while half < lanes:
        step = with_own(pair, one=step, HALF=half)
        half *= 2
    return step


NEIGHBOURS = {count: with_own(neighbours, COUNT=count) for count in (2, 4, 8, 16)}


def wide_load(lanes: int, single: Callable[..., Any] = value_one) -> Callable[..., Any]:
    """A load of so many elements at once, each read by `single`."""
    return with_own(load_wide, neighbours=NEIGHBOURS[lanes], values_of=nested(single, value_pair, lanes))


def wide_store(lanes: int) -> Callable[..., Any]:
    """A store of so many elements at once."""
    return with_own(store_wide, bits_of=nested(bits_one, bits_pair, lanes))


def wide_marks(at_once: int, lanes: int) -> dict[str, Any]:
    """How indices are read, so many of them from 16 aligned bytes."""
    return {"marks_at": nested(wide_load(at_once, marks.mark_of_one), load_pair, lanes, at_once)}


def steps_of(lanes: int, loads_wide: bool = False, stores_wide: bool = False) -> dict[str, Any]:
    """The steps by name, for a number of lanes; all loaded at once from 16 aligned bytes, or stored so."""
    steps: dict[str, Any] = {name: nested(*each, lanes) for name, each in STEPS.items()}
    if loads_wide:
        steps["load"] = wide_load(lanes)
    if stores_wide:
        steps |= {"store": wide_store(lanes), "store_mark": marks.wide_store_mark}
    return steps


def tile_steps(lanes: int, loaded: int, at_once: int, stores_wide: bool) -> dict[str, Any]:
    """The steps of tiles: more elements of a row are loaded, `at_once` in one load, than there are results."""
    steps = steps_of(lanes, False, stores_wide)
    steps |= {name: nested(*STEPS[name], loaded) for name in ("larger", "lowest", "add", "zero")}
    steps["load"] = nested(wide_load(at_once), load_pair, loaded, at_once)
    steps["lowest_mark"] = nested(marks.lowest_mark_one, none_pair, lanes)
    return steps


def gradient_tile_steps(outputs: int, inputs: int) -> dict[str, Any]:
    """The steps of tiles of gradients: the results are more, and `outputs` are stored at once."""
    steps = steps_of(outputs, True)
    steps |= {f"{name}_named": nested(*STEPS[name], inputs) for name in ("zero", "add")}
    steps["store"] = nested(wide_store(outputs), store_pair, inputs, outputs)
    return steps


def fill_steps(lanes: int) -> dict[str, Any]:
    """The steps of planes that are filled: so many elements are stored at once, of one or two gradients."""
    filling = {name: nested(*STEPS[name], lanes) for name in ("fill", "fill_named", "put_some")}
    return steps_of(1) | filling | {"store": wide_store(lanes)}
