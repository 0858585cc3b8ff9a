"""Random calls against `numbapool.reference`: `python tests/fuzz.py --seconds 60 --seed 1`.

Each case is drawn from the seed and its own number: an operation, good or bad arguments, the memory layout of every
array, and a number of threads. Its result must be the reference's, or where an argument is bad, an error that names it.
An operation joins with one entry in `OPERATIONS`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import queue
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.progress import Progress, TextColumn

from numbapool import reference
from tests.checks import FLOATS, INTEGERS, Array, assert_same, assert_sums, public

SUMMABLE = (*FLOATS, *INTEGERS)
ORDERED = (*SUMMABLE, "bool")

# Taps that the reference may visit in a case: it takes about 0.3 us for each.
BUDGET = 1500
# Elements from which numbapool uses threads, with room for windows that do not reach all of them.
LARGE = 40_000
# A case that takes longer (even if it compiles) counts as hung.
HUNG_SECONDS = 120


class Error(NamedTuple):
    """What a bad call must raise, and what the message must say."""

    kind: type[Exception]
    words: str


class Geometry(NamedTuple):
    """Lengths of the pooled axes, and the parameters in full: one entry an axis, pairs for padding."""

    lengths: tuple[int, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """A public function with some fixed arguments: what it takes, and its definition."""

    function: str  # as `checks.public` takes it
    dtypes: Sequence[str]
    geometry: Callable[[random.Random, int], Geometry]
    # Results from x, the other arrays and the parameters, all by name.
    definition: Callable[..., tuple[Array, ...]]
    others: Sequence[str] = ()  # arrays besides x, in the shape of the output: "grad_output", "indices"
    fixed: dict[str, Any] = field(default_factory=dict)
    sums: str = ""  # the array of which results are sums; those of floats compare within rounding


@dataclass
class Call:
    """One case: a call, and what it should do."""

    operation: Operation
    rank: int
    geometry: Geometry
    spelled: dict[str, Any]  # the parameters as they are passed
    arrays: dict[str, Any] = field(default_factory=dict)  # as they are passed
    distinct: dict[str, Array] = field(default_factory=dict)  # their different planes, for the reference
    stretch: Callable[[Array], Array] = np.asarray  # from those to all planes
    out: Any = None
    error: Error | None = None
    threads: int = 1
    notes: list[str] = field(default_factory=list)

    def run(self) -> Any:
        first = [self.arrays[name] for name in ("grad_output", "x") if name in self.arrays]
        others = {name: self.arrays[name] for name in self.arrays if name not in ("grad_output", "x")}
        arguments = {**self.spelled, **others, **self.operation.fixed, "out": self.out}
        return public(self.operation.function, self.rank)(*first, **arguments)

    def expected(self, **changes: Any) -> tuple[Array, ...]:
        """What the reference gives; with `changes` to its arguments."""
        arguments = {**self.distinct, **self.geometry.parameters, "rank": self.rank, **changes}
        return tuple(map(self.stretch, self.operation.definition(**arguments)))

    def magnitude(self) -> Array:
        """The expected sums with the magnitude of every term."""
        summed = self.operation.sums
        changes = {summed: np.abs(self.distinct[summed])}
        divisor = self.geometry.parameters.get("divisor_override")
        if divisor is not None:
            changes["divisor_override"] = abs(divisor)
        return self.expected(**changes)[0]

    def __str__(self) -> str:
        name = self.operation.function.replace("pool", f"pool{self.rank}d")
        texts = {key: array_text(value) for key, value in self.arrays.items()}
        texts |= {key: repr(value) for key, value in {**self.spelled, **self.operation.fixed}.items()}
        if self.out is not None:
            outs = self.out if isinstance(self.out, tuple) else (self.out,)
            texts["out"] = ", ".join(map(array_text, outs))
        arguments = ", ".join(f"{key}={text}" for key, text in texts.items())
        return f"numbapool.{name}({arguments})  # threads: {self.threads}; {', '.join(self.notes)}"


# Parameters -----------------------------------------------------------------------------------------------------------


def axis_of(rng: random.Random, kind: str) -> tuple[int, int, int | None, tuple[int, int], int]:
    """Length, kernel, stride, padding and dilation of one axis."""
    length = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12))
    if kind == "same size":
        kernel, dilation = rng.choice(((1, 1), (2, 1), (3, 1), (3, 1), (3, 2), (3, 3)))
        before = (kernel - 1) * dilation // 2
        return length, kernel, 1, (before, (kernel - 1) * dilation - before), dilation
    if kind == "huge":
        scale = rng.choice((100, 3000, 2**20, 2**31, 2**32 + 1, 2**40, 2**60))
        kernel, dilation = rng.randint(1, 3), rng.choice((1, 2, scale // 2, scale))
        before, after = (rng.choice((0, 1, scale // 3, scale)) for _ in range(2))
        return length, kernel, rng.choice((scale, scale // 2 + 1, scale + 3)), (before, after), dilation
    if kind == "wide" and rng.random() < 0.5:
        length = rng.choice((70, 1024, 2047, 2050, 4100))
    if kind == "vector":
        length = rng.randint(1, 70)
    kernel = rng.choice((1, 2, 2, 3, 3, 3, 4, 5, 7, 13))
    dilation = rng.choice((1, 1, 1, 1, 2, 3, 5))
    before, after = (rng.choice((0, 0, 1, kernel // 2, rng.randint(0, kernel + 2))) for _ in range(2))
    if rng.random() < 0.7:
        after = before
    return length, kernel, rng.choice((1, 1, 2, 2, 3, 4, 7)), (before, after), dilation


def window_geometry(rng: random.Random, rank: int) -> Geometry:
    """Windows that mostly fit the input."""
    while True:
        kind = rng.choices(("usual", "same size", "vector", "huge", "wide"), (70, 12, 12, 5, 1))[0]
        axes = [axis_of(rng, kind) for _ in range(rank)]
        if rng.random() < 0.4:  # one value for all axes
            axes = [(axis[0], *axes[0][1:]) for axis in axes]
        lengths, kernels, strides, paddings, dilations = map(tuple, zip(*axes, strict=True))
        automatic = kind != "huge" and rng.random() < 0.12
        parameters = {
            "kernel_size": kernels,
            "stride": None if kind != "same size" and rng.random() < 0.2 else strides,
            "padding": rng.choice(("same", "same_lower", "valid")) if automatic else paddings,
            "dilation": dilations,
            "ceil_mode": rng.random() < 0.3,
        }
        budget = 20_000 if kind == "wide" else BUDGET
        if taps_of(Geometry(lengths, parameters)) <= budget:
            return Geometry(lengths, parameters)


def average_geometry(rng: random.Random, rank: int) -> Geometry:
    """The same with the divisor of an average."""
    lengths, parameters = window_geometry(rng, rank)
    divisors = (1, 2, 7, -1, -3, 2**31 + 1, 2**53 + 1, -(2**63) + 1, 2**63 - 1)
    parameters["count_include_pad"] = rng.random() < 0.5
    parameters["divisor_override"] = rng.choice(divisors) if rng.random() < 0.25 else None
    return Geometry(lengths, parameters)


def taps_of(geometry: Geometry) -> int:
    """Taps of all windows of a plane, about."""
    total = 1
    p = geometry.parameters
    for axis, length in enumerate(geometry.lengths):
        stride = (p["stride"] or p["kernel_size"])[axis]
        room = length + (0 if isinstance(p["padding"], str) else sum(p["padding"][axis]))
        total *= (room // stride + 2) * p["kernel_size"][axis]
    return total


def spell(rng: random.Random, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as a caller may write them: ints for equal axes, lists, NumPy integers, defaults left out."""
    spelled: dict[str, Any] = {}
    for name, value in parameters.items():
        if name == "padding" and not isinstance(value, str):
            if all(before == after for before, after in value) and rng.random() < 0.8:
                value = tuple(before for before, _ in value)
        elif not isinstance(value, tuple):
            value = np.bool_(value) if isinstance(value, bool) and rng.random() < 0.05 else value
        if isinstance(value, tuple):
            if len(set(value)) == 1 and isinstance(value[0], int) and rng.random() < 0.7:
                value = value[0]
                if rng.random() < 0.05 and abs(value) < 2**31:
                    value = rng.choice((np.int64, np.int32, np.uint64))(value)
            elif rng.random() < 0.2:
                value = list(value)
        spelled[name] = value
    if rng.random() < 0.5:
        defaults = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "divisor_override": None}
        spelled = {n: v for n, v in spelled.items() if n not in defaults or type(v) is bool or v != defaults[n]}
        spelled = {n: v for n, v in spelled.items() if not (n == "ceil_mode" and v is False)}
    elif spelled.get("stride", 0) is None and rng.random() < 0.3:
        spelled["stride"] = ()
    return spelled


# Bad parameters: each draws a value, what must be raised, and other parameters that make sure of it -----------------

NOT_INTS = (
    True,
    np.True_,
    2.0,
    1.5,
    "2",
    b"2",
    1j,
    math.nan,
    np.float64(2),
    {"a": 1},
    {1, 2},
    slice(2),
    np.timedelta64(2),
)
TOO_LARGE = (2**62 + 1, 2**63, 2**64, 10**40)


def bad_extent(name: str, least: int) -> Callable[[random.Random, int], tuple[Any, Error, dict[str, Any]]]:
    """A value that is not an int, too small or large, or not one for each axis."""

    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        kind = rng.choice(("type", "entry", "small", "large", "count"))
        full = [rng.randint(1, 3) for _ in range(rank)]
        spot = rng.randrange(rank)
        if kind in ("type", "entry"):
            pool = [v for v in NOT_INTS if not (name == "padding" and isinstance(v, str))]
            if kind == "type":
                pool += [None] if name != "stride" else []
                return rng.choice(pool), Error(TypeError, name), {}
            full[spot] = rng.choice([*pool, None])
            return tuple(full), Error(TypeError, name), {}
        if kind == "count":
            wrong = rng.choice([n for n in (0, 1, 2, 3, 4, 5) if n != rank and not (n == 0 and name == "stride")])
            return rng.choice((tuple, list))([1] * wrong), Error(ValueError, name), {}
        value = rng.choice((least - 1, least - 2, -(2**31), -(2**63), -(10**30)) if kind == "small" else TOO_LARGE)
        words = "pad" if name == "padding" else name
        if rng.random() < 0.5:
            return value, Error(ValueError, words), {}
        full[spot] = value
        return tuple(full), Error(ValueError, words), {}

    return draw


def bad_kernel(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.15:  # in range, but larger than any input here
        never = {"padding": 0, "ceil_mode": False}
        return rng.choice((5000, 2**31, 2**32, 2**40, 2**61)), Error(ValueError, "kernel_size"), never
    return bad_extent("kernel_size", 1)(rng, rank)


def bad_dilation(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.15:
        never = {"padding": 0, "ceil_mode": False, "kernel_size": rng.choice((2, 3, 2**40))}
        return rng.choice((5000, 2**31, 2**32, 2**40, 2**61)), Error(ValueError, "dilation"), never
    return bad_extent("dilation", 1)(rng, rank)


def bad_padding(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(("full", "SAME", "", "0", "same ")), Error(ValueError, "padding"), {}
    if kind < 0.2:
        return ((1, 2, 3),) * rank, Error(ValueError, "padding"), {}
    if kind < 0.3:
        entry = rng.choice(((True, 1), (1, 0.5), ("1", 1), (None, 0), ([1], 1)))
        return (entry,) * rank, Error(TypeError, "padding"), {}
    if kind < 0.4:
        return ((rng.choice((-1, -(2**40))), 5),) * rank, Error(ValueError, "pad"), {}
    if kind < 0.5:  # more outputs than can be counted
        words = "Output size is too large" if rank > 1 else "padding"
        return 2**60 if rank > 1 else 2**61, Error(ValueError, words), {"stride": 1, "kernel_size": 1, "dilation": 1}
    return bad_extent("padding", 0)(rng, rank)


def bad_flag(name: str) -> Callable[[random.Random, int], tuple[Any, Error, dict[str, Any]]]:
    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        return rng.choice((0, 1, None, "True", 1.0, (), [True])), Error(TypeError, name), {}

    return draw


def bad_divisor(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.5:
        return rng.choice((True, 1.0, "3", (2,), [2], np.float32(2))), Error(TypeError, "divisor_override"), {}
    return rng.choice((0, np.int64(0), 2**63, 2**64, -(10**30))), Error(ValueError, "divisor_override"), {}


BAD_PARAMETERS = {
    "kernel_size": bad_kernel,
    "stride": bad_extent("stride", 1),
    "padding": bad_padding,
    "dilation": bad_dilation,
    "ceil_mode": bad_flag("ceil_mode"),
    "count_include_pad": bad_flag("count_include_pad"),
    "divisor_override": bad_divisor,
}


# Arrays ---------------------------------------------------------------------------------------------------------------


def values_of(rng: random.Random, shape: tuple[int, ...], dtype: np.dtype[Any], sums: bool) -> Array:
    """Ties, special values, extremes; for sums, floats that no order of adding takes out of range."""
    generator = np.random.default_rng(rng.getrandbits(32))
    kind = rng.choice(("few", "special", "spread", "same"))
    if dtype.kind == "b":
        return generator.random(shape) < rng.choice((0.0, 0.1, 0.5, 1.0))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if kind == "spread":
            return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        choices = [limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max] if kind == "special" else [0, 1, 2]
    elif kind == "spread" or (sums and kind == "few"):
        return (generator.standard_normal(shape) * 10.0 ** generator.integers(-2, 3, shape)).astype(dtype)
    else:
        limits = np.finfo(dtype)
        special = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.5]
        if not sums:
            special += [limits.smallest_subnormal, -limits.smallest_subnormal, limits.max, limits.min]
        choices = special if kind == "special" else [-0.0, 0.0, 1.0, -3.25]
    table = np.array(choices, dtype)
    if kind == "same":
        return np.full(shape, rng.choice(list(table)), dtype)
    return table[generator.integers(len(table), size=shape)]


def negative(rng: random.Random, array: Array) -> Array:
    flips = tuple(slice(None, None, rng.choice((1, -1))) for _ in range(array.ndim))
    return array[flips].copy()[flips]


def gapped(rng: random.Random, array: Array) -> Array:
    """A view of larger memory, axes in any order and direction; between its elements are those that would win."""
    order = rng.sample(range(array.ndim), array.ndim)
    steps = [rng.choice((1, 1, 2, 3, -1, -2)) for _ in range(array.ndim)]
    extents = [length * abs(step) + rng.randint(0, 2) for length, step in zip(array.shape, steps, strict=True)]
    highest = {"b": True, "f": np.nan}.get(array.dtype.kind)
    memory = np.full(
        [extents[axis] for axis in order], np.iinfo(array.dtype).max if highest is None else highest, array.dtype
    )
    memory = memory.transpose(np.argsort(order))
    view = memory[tuple(slice(None, None, step) for step in steps)]
    view = view[tuple(slice(0, length) for length in array.shape)]
    view[...] = array
    return view


def transposed(rng: random.Random, array: Array) -> Array:
    order = rng.sample(range(array.ndim), array.ndim)
    return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))


def broadcast(rng: random.Random, array: Array) -> Array:
    """Some axes of stride 0: the values change."""
    first = tuple(slice(0, rng.choice((1, length, length))) if length else slice(None) for length in array.shape)
    return np.broadcast_to(array[first].copy(), array.shape)


def overlapping(rng: random.Random, array: Array) -> Array:
    """Neighbouring rows share memory: the values change."""
    if array.size < 2:
        return array
    memory = array.reshape(-1)
    steps = [array.itemsize * rng.choice((0, 1, 1, 2)) for _ in array.shape]
    reach = sum((length - 1) * step for length, step in zip(array.shape, steps, strict=True))
    return np.lib.stride_tricks.as_strided(memory, array.shape, steps) if reach < memory.nbytes else array


def readonly(rng: random.Random, array: Array) -> Array:
    view = rng.choice(LAYOUTS[:-1])(rng, array).view()
    view.flags.writeable = False
    return view


def byteswapped(rng: random.Random, array: Array) -> Array:
    return rng.choice((gapped, negative, contiguous))(rng, array).astype(array.dtype.newbyteorder())


def unaligned(rng: random.Random, array: Array) -> Array:
    memory = np.empty(array.nbytes + 16, np.uint8)
    view = np.ndarray(array.shape, array.dtype, memory.data, offset=rng.choice((1, 3, 4)))
    view[...] = array
    return view


def field_of_records(rng: random.Random, array: Array) -> Array:
    """Strides that are no multiples of the item's size."""
    records = np.zeros(array.shape, np.dtype([("flag", np.uint8), ("value", array.dtype), ("rest", np.uint16)]))
    records["value"] = array
    return records["value"]


def contiguous(rng: random.Random, array: Array) -> Array:
    return array


Layout: TypeAlias = Callable[[random.Random, Array], Array]
LAYOUTS: tuple[Layout, ...] = (
    contiguous,
    negative,
    gapped,
    transposed,
    broadcast,
    overlapping,
    byteswapped,
    unaligned,
    field_of_records,
    readonly,
)
CHANGE_VALUES = (broadcast, overlapping, readonly)
OUT_LAYOUTS = (contiguous, negative, gapped, transposed, unaligned, field_of_records)


def plain(array: Array) -> Array:
    """The values in native byte order, contiguous."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def array_text(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return repr(array)
    flags = ["" if array.flags.writeable else "read-only", "" if array.flags.aligned else "unaligned"]
    layout = f"strides {array.strides}" + "".join(f" {flag}" for flag in flags if flag)
    if array.size > 300:
        return f"<{array.dtype.str} array of shape {array.shape}, {layout}>"
    values = repr(array.tolist()).replace("inf", "np.inf").replace("nan", "np.nan")
    return f"np.array({values}, {array.dtype.str!r}).reshape({array.shape})" + (
        "" if array.flags.carray else f"<{layout}>"
    )


# Operations -----------------------------------------------------------------------------------------------------------


OPERATIONS = {
    "max": Operation("max_pool", ORDERED, window_geometry, lambda **a: reference.max_pool(**a)[:1]),
    "max with indices": Operation(
        "max_pool", ORDERED, window_geometry, reference.max_pool, fixed={"return_indices": True}
    ),
    "max backward": Operation(
        "max_pool_backward",
        FLOATS,
        window_geometry,
        lambda **a: (reference.max_pool_backward(**a),),
        others=("grad_output",),
        sums="grad_output",
    ),
    "max backward with indices": Operation(
        "max_pool_backward",
        FLOATS,
        window_geometry,
        lambda **a: (reference.max_pool_backward(**a),),
        others=("grad_output", "indices"),
        sums="grad_output",
    ),
    "min": Operation("min_pool", ORDERED, window_geometry, lambda **a: reference.min_pool(**a)[:1]),
    "min with indices": Operation(
        "min_pool", ORDERED, window_geometry, reference.min_pool, fixed={"return_indices": True}
    ),
    "min backward": Operation(
        "min_pool_backward",
        FLOATS,
        window_geometry,
        lambda **a: (reference.min_pool_backward(**a),),
        others=("grad_output",),
        sums="grad_output",
    ),
    "sum": Operation("sum_pool", SUMMABLE, window_geometry, lambda **a: (reference.sum_pool(**a),), sums="x"),
    "sum backward": Operation(
        "sum_pool_backward",
        FLOATS,
        window_geometry,
        lambda **a: (reference.sum_pool_backward(**a),),
        others=("grad_output",),
        sums="grad_output",
    ),
    "average": Operation("avg_pool", SUMMABLE, average_geometry, lambda **a: (reference.avg_pool(**a),), sums="x"),
    "average backward": Operation(
        "avg_pool_backward",
        FLOATS,
        average_geometry,
        lambda **a: (reference.avg_pool_backward(**a),),
        others=("grad_output",),
        sums="grad_output",
    ),
}


# A case ---------------------------------------------------------------------------------------------------------------


def draw(seed: int, number: int, most_threads: int) -> Call:
    """Case `number` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choice(list(OPERATIONS))
    operation = OPERATIONS[name]
    rank = rng.choices((1, 2, 3), (3, 5, 2))[0]
    geometry = operation.geometry(rng, rank)
    lengths, parameters = geometry
    dtype = np.dtype(rng.choice(operation.dtypes))
    call = Call(operation, rank, geometry, spell(rng, parameters), threads=rng.randint(1, most_threads))
    call.notes += [name, dtype.name]

    # Large inputs repeat a few planes, so that the reference need not compute more.
    is_large = rng.random() < 0.01
    planes = math.ceil(LARGE / math.prod(lengths)) if is_large else rng.randint(1, max(1, BUDGET // taps_of(geometry)))
    channels = rng.choice([n for n in range(1, min(planes, 12) + 1) if planes % n == 0])
    leading = (planes,) if rng.random() < 0.3 else (planes // channels, channels)
    if len(leading) == 2 and rng.random() < 0.01:
        leading = (0, channels)
    planes = math.prod(leading)
    copies = (
        np.array([rng.randrange(min(3, planes)) for _ in range(planes)]) if is_large and planes else np.arange(planes)
    )
    call.stretch = lambda array: array[copies].reshape(leading + array.shape[1:])

    def add_array(key: str, distinct: Array, layouts: Sequence[Layout]) -> None:
        layout = rng.choice(layouts) if rng.random() < 0.65 else contiguous
        if is_large and layout in CHANGE_VALUES:
            layout = gapped
        call.notes.append(layout.__name__)
        array = call.arrays[key] = layout(rng, call.stretch(distinct))
        call.distinct[key] = distinct if is_large else plain(array).reshape(distinct.shape)

    windows = {key: parameters[key] for key in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")}
    try:
        out_lengths = reference.max_pool(np.zeros((1, *lengths), bool), **windows, rank=rank)[0].shape[1:]
    except ValueError:
        call.error = Error(ValueError, "Output size is too small")
        out_lengths = lengths
    count = min(3, planes) if is_large else planes
    add_array("x", values_of(rng, (count, *lengths), dtype, sums=operation.sums == "x"), LAYOUTS)
    if "grad_output" in operation.others:
        add_array("grad_output", values_of(rng, (count, *out_lengths), dtype, sums=True), LAYOUTS)
    if "indices" in operation.others:
        indices = np.zeros((count, *out_lengths), np.int64)
        if call.error is None:
            indices = reference.max_pool(call.distinct["x"], **windows, rank=rank)[1]
        without_gradient = np.random.default_rng(rng.getrandbits(32)).random(indices.shape) < rng.choice((0, 0, 0.3))
        add_array("indices", np.where(without_gradient, -1, indices), [e for e in LAYOUTS if e not in CHANGE_VALUES])
    if call.error is None:
        x_shape, out_shape = leading + lengths, leading + out_lengths
        result_dtype = np.zeros(1, dtype).sum().dtype if operation.function == "sum_pool" else dtype
        results = [np.zeros(x_shape if operation.function.endswith("backward") else out_shape, result_dtype)]
        results += [np.zeros(out_shape, np.int64)] if "return_indices" in operation.fixed else []
        if rng.random() < 0.2:
            add_out(rng, call, results)
        if rng.random() < 0.22:
            spoil(rng, call, results)
    return call


def add_out(rng: random.Random, call: Call, results: list[Array]) -> None:
    outs = [rng.choice(OUT_LAYOUTS)(rng, each) for each in results]
    same = [e for e in call.arrays.values() if len(outs) == 1 and e.shape == outs[0].shape and e.dtype == outs[0].dtype]
    if same and same[0].flags.writeable and not is_overlapping(same[0]) and rng.random() < 0.5:
        outs = same[:1]
        call.notes.append("out is an input")
    call.out = outs[0] if len(outs) == 1 else tuple(outs)


def is_overlapping(array: Array) -> bool:
    """Whether two elements may share memory."""
    reach = 0
    for step, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += (length - 1) * step
    return False


def spoil(rng: random.Random, call: Call, results: list[Array]) -> None:
    """Make one argument of a good call bad."""
    names = [*call.arrays, *[name for name in call.geometry.parameters if name in BAD_PARAMETERS], "out"]
    name = rng.choice(names)
    call.notes.append(f"bad {name}")
    if name in BAD_PARAMETERS:
        value, call.error, others = BAD_PARAMETERS[name](rng, call.rank)
        call.spelled |= {**others, name: value}
    elif name == "out":
        call.out, call.error = bad_out(rng, results)
    else:
        call.arrays[name], call.error = bad_array(rng, name, call.arrays[name], call)


def bad_array(rng: random.Random, name: str, array: Array, call: Call) -> tuple[Any, Error]:
    kind = rng.choice(("library", "dtype", "shape", "value"))
    if kind == "value" and name == "indices" and array.size:
        bad = plain(array)
        size = math.prod(call.arrays["x"].shape[-call.rank :])
        bad.flat[rng.randrange(bad.size)] = rng.choice((-2, size, size + 1, 2**31, 2**32 - 1, 2**62, -(2**63)))
        return bad, Error(ValueError, "indices")
    if kind == "library":
        others = [array.tolist(), None, 3.0, "x", np.ma.masked_array(array), memoryview(plain(array))]
        if name == "indices":
            others.remove(None)
        return rng.choice(others), Error(TypeError, name)
    if kind == "shape":
        shapes = [(1, *array.shape, 1), array.shape[-1:], ()]
        if name != "x":
            shapes += [(*array.shape[:-1], array.shape[-1] + 1), array.shape + (1,), array.shape[1:]]
        else:
            shapes += [(*array.shape[:-1], 0), (*array.shape[: -call.rank - 1], 0, *array.shape[-call.rank :])]
        shapes = [
            shape
            for shape in shapes
            if shape != array.shape and not (name == "x" and call.rank < len(shape) < call.rank + 3 and 0 not in shape)
        ]
        return np.zeros(rng.choice(shapes), plain(array).dtype), Error(ValueError, name)
    accepted = {"x": call.operation.dtypes, "indices": ("int64",)}.get(name, (array.dtype.newbyteorder("=").name,))
    kinds: list[Any] = ["complex64", "object", "M8[s]", "m8[s]", "U3", "S2", "V4", "float16", "longdouble"]
    kinds += ["bool", "int32", "uint64", "float32", "float64", [("a", "f4")]]
    refused = [each for each in kinds if np.dtype(each).name not in accepted]
    return np.zeros(array.shape, rng.choice(refused)), Error(TypeError, name)


def bad_out(rng: random.Random, results: list[Array]) -> tuple[Any, Error]:
    arrays = [each.copy() for each in results]
    spot = rng.randrange(len(arrays))
    good = arrays[spot]
    kind = rng.choice(("library", "dtype", "shape", "read-only", "pair"))
    error = Error(TypeError, "out")
    if kind == "pair":
        if len(arrays) == 1:
            return (good,), error
        return rng.choice((good, [good], (good,) * 3)), error
    if kind == "library":
        bad = rng.choice((good.tolist(), 3, "out", np.ma.masked_array(good)))
    elif kind == "dtype":
        bad = np.zeros(
            good.shape, rng.choice([each for each in ("int16", "float32", "float64", "c8") if each != good.dtype])
        )
    elif kind == "shape":
        bad, error = (
            np.zeros(
                rng.choice(((*good.shape, 1), good.shape[1:], (*good.shape[:-1], good.shape[-1] + 1))), good.dtype
            ),
            Error(ValueError, "out"),
        )
    else:
        good.flags.writeable = False
        bad, error = good, Error(ValueError, "out")
    arrays[spot] = bad
    return (arrays[0] if len(arrays) == 1 else tuple(arrays)), error


def check(call: Call) -> str | None:
    """Run a case; what is wrong with it, if anything."""
    import numba  # after the number of threads is set

    numba.set_num_threads(call.threads)
    inputs = {key: (array, plain(array)) for key, array in call.arrays.items() if call.error is None}
    outs = call.out if isinstance(call.out, tuple) else (call.out,)
    is_in_place = "out is an input" in call.notes
    guarded = [(each, memory_of(each).tobytes()) for each in outs if call.error is None and each is not None]
    try:
        results = call.run()
    except Exception as error:
        if call.error is None:
            return "".join(traceback.format_exception(error))
        if type(error) is not call.error.kind or call.error.words not in str(error):
            return f"{type(error).__name__}({error}) instead of {call.error.kind.__name__} with {call.error.words!r}"
        return None
    if call.error is not None:
        return f"no error instead of {call.error.kind.__name__} with {call.error.words!r}"
    results = results if isinstance(results, tuple) else (results,)
    try:
        for result, expected in zip(results, call.expected(), strict=True):
            if call.operation.sums and expected.dtype.kind == "f" and not np.array_equal(result, expected):
                terms = math.prod(call.geometry.parameters["kernel_size"])
                assert_sums(result, expected, call.magnitude(), terms)
            else:
                assert_same(result, expected)
        for result, out in zip(results, outs if call.out is not None else results, strict=True):
            assert result is out, "out is not what is returned"
            assert call.out is not None or result.flags.c_contiguous, "result is not contiguous"
        if not is_in_place:
            for key, (array, values) in inputs.items():
                assert plain(array).tobytes() == values.tobytes(), f"{key} was written to"
            for out, memory in guarded:
                out[...] = 0
                assert memory_of(out).tobytes() == memory, "memory beside out was written to"
    except AssertionError as error:
        return str(error).strip() or traceback.format_exc()
    return None


def memory_of(array: Array) -> Array:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# A run ----------------------------------------------------------------------------------------------------------------


def work(seed: int, numbers: Iterator[int], done: Any, current: Any, failures: Any) -> None:
    """A process that checks cases until one fails."""
    warnings.simplefilter("error")
    import numba

    for number in numbers:
        current.value = number
        call = draw(seed, number, numba.config.NUMBA_NUM_THREADS)
        wrong = check(call)
        if wrong is not None:
            again = draw(
                seed, number, numba.config.NUMBA_NUM_THREADS
            )  # the call may have changed the first one's arrays
            failures.put((number, f"{wrong}\n{again}"))
            return
        done.value += 1


def run(seed: int, seconds: float, cases: int | None, jobs: int) -> int:
    """Check cases in several processes until time is up, all are done or one fails; the exit status."""
    os.environ.setdefault("NUMBA_NUM_THREADS", "4")
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    workers = []
    for job in range(jobs):
        # Without locks, for a worker may be killed while it holds one; only it writes to them.
        done, current = context.Value("q", 0, lock=False), context.Value("q", -1, lock=False)
        numbers = itertools.count(job, jobs) if cases is None else range(job, cases, jobs)
        worker = context.Process(target=work, args=(seed, numbers, done, current, failures), daemon=True)
        worker.start()
        workers.append((worker, done, current))
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + seconds
    moved = {job: (-1, time.monotonic()) for job in range(jobs)}
    failure: tuple[int, str] | None = None
    with Progress(
        *Progress.get_default_columns(), TextColumn("{task.fields[checked]} cases"), disable=None
    ) as progress:
        task = progress.add_task("checking", total=cases or seconds, checked=0)
        while failure is None and time.monotonic() < end and any(worker.is_alive() for worker, _, _ in workers):
            try:
                failure = failures.get(timeout=0.2)
            except queue.Empty:
                failure = None
            for job, (worker, _, current) in enumerate(workers):
                if moved[job][0] != current.value:
                    moved[job] = (current.value, time.monotonic())
                elif failure is None and worker.is_alive() and time.monotonic() - moved[job][1] > HUNG_SECONDS:
                    failure = (current.value, f"no result after {HUNG_SECONDS} s")
                if failure is None and worker.exitcode:
                    failure = (current.value, f"the process ended with {worker.exitcode}")
            checked = sum(done.value for _, done, _ in workers)
            progress.update(task, completed=checked if cases else seconds - (end - time.monotonic()), checked=checked)
    if failure is None and not failures.empty():
        failure = failures.get()
    for worker, _, current in workers:
        if failure is None and worker.exitcode:
            failure = (current.value, f"the process ended with {worker.exitcode}")
    for worker, _, _ in workers:
        worker.kill()
        worker.join()
    checked = sum(done.value for _, done, _ in workers)
    if failure is not None:
        print(f"case {failure[0]}: {failure[1]}\nagain: python tests/fuzz.py --seed {seed} --only {failure[0]}")
    print(f"{checked} cases, seed {seed}: {'a mismatch' if failure else 'no mismatch'}")
    return int(failure is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="time to run (60)")
    parser.add_argument("--cases", type=int, help="stop after this many cases")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="(from the clock)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (one for each processor)")
    parser.add_argument("--only", type=int, metavar="CASE", help="check this case of the seed in this process")
    options = parser.parse_args()
    if options.only is None:
        return run(options.seed, options.seconds, options.cases, options.jobs)
    os.environ.setdefault("NUMBA_NUM_THREADS", "4")
    import numba

    call = draw(options.seed, options.only, numba.config.NUMBA_NUM_THREADS)
    print(call, flush=True)
    wrong = check(call)
    print(wrong or "as expected")
    return int(wrong is not None)


if __name__ == "__main__":
    sys.exit(main())
