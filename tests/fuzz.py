"""Random calls against `numbapool.reference` and torch: `python tests/fuzz.py --seconds 60 --seed 1`.

Each case is drawn from the seed and its own number: an operation, good or bad arguments, which axes of the arrays are
pooled, the memory layout of every array, and a number of threads. Its result must be the reference's, and torch's too where
torch is installed and has the same rule; where an argument is bad, it must be an error that names it. An operation joins
with one entry in `OPERATIONS`.

Judges know one order of axes and one kind of indices only: they get planes, one after the other, and give positions in
planes. `Arrangement` and `Call.numbered` say what the arrays of a call make of them.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import queue
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ml_dtypes
import numpy as np
from rich.progress import Progress, TextColumn

import numbapool
from numbapool import kinds, reference
from tests.checks import FLOATS, INTEGERS, Array, assert_same, assert_sums

HALVES = ("float16", "bfloat16")
FLOATING = (*HALVES, *FLOATS)
INEXACT = (*FLOATING, "complex64", "complex128")
AVERAGED = (*INEXACT, *INTEGERS)
SUMMED = (*AVERAGED, "bool")
ORDERED = (*FLOATING, *INTEGERS, "bool")

ANY_RANK = {1: 3, 2: 5, 3: 2, 4: 1}
# Axes that `pool` takes at once; more in passes over as many at a time.
MOST_AXES = 3
INDEX_KINDS = ("plane", "global", "window")
# What `pool` calls a kind: its reducer, and names of that with its defaults.
REDUCERS: dict[str, tuple[type[kinds.Kind], tuple[str, ...]]] = {
    "max": (kinds.Max, ("max",)),
    "min": (kinds.Min, ("min",)),
    "avg": (kinds.Mean, ("mean", "avg")),
    "sum": (kinds.Sum, ("sum",)),
    "lp": (kinds.Norm, ("lp",)),
}
# What reducers call the options of torch's functions, and their defaults.
OPTIONS: dict[str, tuple[str, Any]] = {
    "count_include_pad": ("count_padding", None),
    "divisor_override": ("divisor", None),
    "rounding": ("rounding", "nearest"),
    "norm_type": ("p", 2),
    "true_norm": ("true_norm", False),
}
DEFAULTS = dict(OPTIONS.values())

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


class Reducer(NamedTuple):
    """A kind as a caller may write it: made by the call, because bad options are refused there."""

    kind: str
    options: dict[str, Any]
    name: str | None = None  # instead of a reducer

    def made(self) -> Any:
        return REDUCERS[self.kind][0](**self.options) if self.name is None else self.name

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"numbapool.kinds.{REDUCERS[self.kind][0].__name__}({options})" if self.name is None else repr(self.name)


class Geometry(NamedTuple):
    """Lengths of the pooled axes, the parameters in full (one entry an axis, pairs for padding), and what follows."""

    lengths: tuple[int, ...]
    parameters: dict[str, Any]
    out: tuple[int, ...] | None  # lengths of the output; None where not one window fits
    taps: int  # of all windows of a plane, about
    terms: int = 0  # of a sum, forward or backward, at most; see `checks.assert_sums`
    is_full: bool = True  # no window is without input
    has_gaps: bool = False  # some element is in no window


class Windows(NamedTuple):
    """Where windows lie: for each pooled axis where they start and what they hold, in any shape that goes with the output's."""

    starts: Sequence[Array]
    sizes: Sequence[Array]
    steps: Sequence[int]  # from one element to the next

    @property
    def most(self) -> int:
        """Elements of the largest."""
        return math.prod(int(each.max(initial=0)) for each in self.sizes)

    def held(self, out: Sequence[int], place: Sequence[int]) -> int:
        """Elements of the window at one place of an output plane; those of all planes hold as many."""
        planes = (each[0] if each.ndim > len(out) else each for each in self.sizes)
        return math.prod(int(np.broadcast_to(each, out)[tuple(place)]) for each in planes)

    def of_places(self, places: Sequence[Array]) -> Array:
        """Which element of its window is at which place along each axis, in row-major order."""
        number: Any = 0
        for place, start, size, step in zip(places, *self, strict=True):
            number = number * size + (place - start) // step
        return np.asarray(number)


@dataclass(frozen=True)
class Arrangement:
    """How planes lie in the arrays of a call."""

    leading: tuple[int, ...]  # lengths of the axes that are not pooled
    axes: tuple[int, ...]  # those that are
    copies: Array  # which of the different planes each one is

    def put(self, planes: Array) -> Array:
        """All planes, as an array of the call."""
        array = planes.reshape(self.leading + planes.shape[1:])
        return np.moveaxis(array, range(len(self.leading), array.ndim), self.axes)

    def stretched(self, distinct: Array) -> Array:
        """The different planes, as an array of the call."""
        return self.put(distinct[self.copies])

    def planes(self, array: Array) -> Array:
        """All planes of an array of the call."""
        moved = np.moveaxis(array, self.axes, range(-len(self.axes), 0))
        return plain(moved).reshape(len(self.copies), *moved.shape[len(self.leading) :])


Drawer: TypeAlias = Callable[[random.Random, int], tuple[Any, Error, dict[str, Any]]]


@dataclass(frozen=True)
class Operation:
    """A public function with some fixed arguments: what it takes, and its definition."""

    function: str  # the public name, less the number of axes
    dtypes: Sequence[str]
    geometry: Callable[[random.Random, int], Geometry]
    # Results from x, the other arrays and the parameters, all by name.
    definition: Callable[..., tuple[Array, ...]]
    # torch's function of a tensor that computes the same, also for the gradient; None where torch has other rules.
    theirs: Callable[[Any, Call], Callable[[Any], Any] | None] | None = None
    others: Sequence[str] = ()  # arrays besides x: "grad_output", "indices", "_random_samples"
    indices: Callable[..., Array] | None = None  # good ones, from what `definition` takes
    windows: Callable[..., Windows] | None = None  # from the lengths of a plane and what `definition` takes
    fixed: dict[str, Any] = field(default_factory=dict)
    kind: str = ""  # of `pool`
    options: dict[str, Any] = field(default_factory=dict)  # of its reducer, beside those that geometry draws
    sums: str = ""  # the array of which results are sums; those of floats compare within rounding
    values: Callable[[random.Random, Array, Geometry], Array] | None = None  # a change to the drawn x
    bad: Mapping[str, Drawer] = field(default_factory=dict)  # of parameters
    ranks: Mapping[int, int] = field(default_factory=lambda: {1: 3, 2: 5, 3: 2})  # with their weights

    @property
    def is_global(self) -> bool:
        return self.function.startswith("global")

    @property
    def is_of_any_axes(self) -> bool:
        return self.function in ("pool", "pool_backward")

    @property
    def has_index_kind(self) -> bool:
        return self.windows is not None

    @property
    def is_backward(self) -> bool:
        return self.function.endswith("backward")

    @property
    def is_unpooling(self) -> bool:
        return "unpool" in self.function


@dataclass
class Call:
    """One case: a call, and what it should do."""

    operation: Operation
    rank: int
    geometry: Geometry
    spelled: dict[str, Any]  # the parameters as they are passed
    dtype: np.dtype[Any]
    arrangement: Arrangement
    index_kind: str = "plane"
    arrays: dict[str, Any] = field(default_factory=dict)  # as they are passed
    distinct: dict[str, Array] = field(default_factory=dict)  # their different planes
    out: Any = None
    error: Error | None = None
    threads: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        function, has_no_rank = self.operation.function, self.operation.is_global or self.operation.is_of_any_axes
        return function if has_no_rank else function.replace("pool", f"pool{self.rank}d")

    def run(self) -> Any:
        first = [self.arrays[name] for name in ("grad_output", "x") if name in self.arrays]
        others = {name: self.arrays[name] for name in self.arrays if name not in ("grad_output", "x")}
        arguments = {**self.operation.fixed, **self.spelled, **others, "out": self.out}
        if isinstance(arguments.get("kind"), Reducer):
            arguments["kind"] = arguments["kind"].made()
        return getattr(numbapool, self.name)(*first, **arguments)

    @property
    def judged(self) -> dict[str, Array]:
        """What judges get."""
        return {name: widened(array) for name, array in self.distinct.items()}

    def exact(self, **changes: Any) -> tuple[Array, ...]:
        """What the reference gives, half precision not yet rounded; with `changes` to its arguments."""
        arguments = {**self.judged, **self.geometry.parameters, "rank": self.rank, **changes}
        return self.arranged(self.operation.definition(**arguments))

    def expected(self) -> tuple[Array, ...]:
        """The results as the reference has them."""
        values, *indices = self.exact()
        return narrowed(values, self.dtype) if is_half(self.dtype) else values, *indices

    def arranged(self, results: Sequence[Array]) -> tuple[Array, ...]:
        """Results of a judge as the call has them: values, and perhaps indices."""
        values, *positions = results
        return self.arrangement.stretched(values), *map(self.numbered, positions)

    def numbered(self, positions: Array) -> Array:
        """Positions in the different planes as indices of the kind that is asked for, arranged."""
        if self.index_kind == "global":
            positions = positions[self.arrangement.copies]
            first = np.arange(len(positions)).reshape(-1, *[1] * self.rank) * math.prod(self.indexed_lengths)
            numbers = self.arrangement.planes(self.numbers).ravel()[first + np.maximum(positions, 0)]
            return self.arrangement.put(np.where(positions < 0, -1, numbers))
        if self.index_kind == "window":
            none = np.iinfo(self.index_dtype).max
            taps = self.windows.of_places(np.unravel_index(np.maximum(positions, 0), self.indexed_lengths))
            positions = np.where(positions < 0, none, taps).astype(self.index_dtype)
        return self.arrangement.stretched(positions)

    @property
    def indexed_lengths(self) -> tuple[int, ...]:
        """Lengths of the planes in which positions are."""
        return (self.geometry.out or ()) if self.operation.is_unpooling else self.geometry.lengths

    @property
    def numbers(self) -> Array:
        """Of every element of the array in which positions are."""
        shape = self.arrangement.put(np.empty((len(self.arrangement.copies), *self.indexed_lengths), bool)).shape
        return np.arange(math.prod(shape)).reshape(shape)

    @cached_property
    def windows(self) -> Windows:
        assert self.operation.windows is not None
        samples = {name: array for name, array in self.distinct.items() if name == "_random_samples"}
        return self.operation.windows(self.geometry.lengths, **self.geometry.parameters, **samples)

    @property
    def index_dtype(self) -> np.dtype[Any]:
        if self.index_kind != "window":
            return np.dtype(np.int64)
        sizes = (np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
        return next(each for each in sizes if self.windows.most <= np.iinfo(each).max)

    def torchs(self) -> tuple[Array, ...] | None:
        """What torch gives, if it has the same rule: gradients are those of its autograd."""
        if self.dtype.kind == "c":
            real, imag = (self.part(name).torchs() for name in ("real", "imag"))
            return None if real is None or imag is None else tuple(map(joined, real, imag))
        torch = torch_module()
        function = self.operation.theirs and torch and self.operation.theirs(torch, self)
        if not function or not self.distinct["x"].size:
            return None
        tensors = {name: torch.tensor(array[:, None]) for name, array in self.judged.items()}
        leaf = tensors.pop("x")
        gradient = tensors.pop("grad_output", None)
        leaf.requires_grad = gradient is not None
        results = function(leaf, **tensors)
        results = results if isinstance(results, tuple) else (results,)
        if gradient is not None:
            results[0].backward(gradient)
            results = (leaf.grad,)
        elif "return_indices" not in self.operation.fixed:
            results = results[:1]
        return self.arranged([each[:, 0].numpy() for each in results])

    def part(self, name: str) -> Call:
        """The same with the real or the imaginary parts of all arrays."""
        distinct = {key: np.ascontiguousarray(getattr(array, name)) for key, array in self.distinct.items()}
        return replace(self, dtype=distinct["x"].dtype, distinct=distinct)

    @property
    def has_sums(self) -> bool:
        """Whether results are sums; the norm of power infinity is an element."""
        is_largest = self.geometry.parameters.get("norm_type") == math.inf and not self.operation.is_backward
        return bool(self.operation.sums) and not is_largest

    def magnitude(self) -> Array:
        """The expected sums with the magnitude of every term; of complex ones, those of each part."""
        summed = self.operation.sums
        terms = self.judged[summed]
        changes = {summed: joined(*map(np.abs, parts_of(terms))) if terms.dtype.kind == "c" else np.abs(terms)}
        divisor = self.geometry.parameters.get("divisor_override")
        if divisor is not None:
            changes["divisor_override"] = abs(divisor)
        return self.exact(**changes)[0]

    def __str__(self) -> str:
        texts = {key: array_text(value) for key, value in self.arrays.items()}
        texts |= {key: repr(value) for key, value in {**self.operation.fixed, **self.spelled}.items()}
        if self.out is not None:
            outs = self.out if isinstance(self.out, tuple) else (self.out,)
            texts["out"] = ", ".join(map(array_text, outs))
        arguments = ", ".join(f"{key}={text}" for key, text in texts.items())
        return f"numbapool.{self.name}({arguments})  # threads: {self.threads}; {', '.join(self.notes)}"


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
    if kind == "small":
        length, kernel = rng.randint(1, 4), rng.randint(1, 3)
    dilation = rng.choice((1, 1, 1, 1, 2, 3, 5))
    before, after = (rng.choice((0, 0, 1, kernel // 2, rng.randint(0, kernel + 2))) for _ in range(2))
    if rng.random() < 0.7:
        after = before
    return length, kernel, rng.choice((1, 1, 2, 2, 3, 4, 7)), (before, after), dilation


def window_geometry(rng: random.Random, rank: int) -> Geometry:
    """Windows that mostly fit the input."""
    while True:
        kind = rng.choices(("usual", "same size", "vector", "huge", "wide"), (70, 12, 12, 5, 1))[0]
        kind = "small" if rank > MOST_AXES else kind
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
        taps = taps_of(lengths, parameters)
        if taps <= (20_000 if kind == "wide" else BUDGET):
            break
    try:
        _, indices = reference.max_pool(np.zeros((1, *lengths), bool), **parameters, rank=rank)
    except ValueError:
        return Geometry(lengths, parameters, None, taps)
    is_full = bool((indices != -1).all())
    reached = reference.sum_pool_backward(np.ones(indices.shape), np.ones((1, *lengths)), **parameters, rank=rank)
    return Geometry(
        lengths, parameters, indices.shape[1:], taps, math.prod(kernels), is_full, bool((reached == 0).any())
    )


def average_geometry(rng: random.Random, rank: int) -> Geometry:
    """The same with the divisor of an average."""
    geometry = window_geometry(rng, rank)
    divisors = (1, 2, 7, -1, -3, 2**31 + 1, 2**53 + 1, -(2**63) + 1, 2**63 - 1)
    geometry.parameters["count_include_pad"] = rng.random() < 0.5
    geometry.parameters["divisor_override"] = rng.choice(divisors) if rng.random() < 0.25 else None
    return geometry


def norm_geometry(rng: random.Random, rank: int) -> Geometry:
    """The same with a power."""
    geometry = window_geometry(rng, rank)
    geometry.parameters["true_norm"] = rng.random() < 0.5
    return with_power(rng, geometry, passes=-(-rank // MOST_AXES))


def with_power(rng: random.Random, geometry: Geometry, passes: int = 1) -> Geometry:
    """The power of a norm, and what it does to rounding.

    A sum of n powers is off by n + c rounding errors in the worst case, its root by 1 / p times as many and c more: c is
    what pow itself adds, and the rounding of an exponent times the logarithm of the result, which `norm_values` keeps
    below 50. Gradients add up n products of two such results.
    """
    power = geometry.parameters["norm_type"] = rng.choice((0.3, 0.5, 1, 1, 1.5, 2, 2, 2.0, 2.5, 3, 4, 7, math.inf))
    own = 55 * passes
    return geometry._replace(terms=math.ceil(geometry.terms + own + (geometry.terms + own) * (1 + 1 / power)))


def adaptive_geometry(rng: random.Random, rank: int) -> Geometry:
    """Fewer bins than elements, or more, or none; often all of one size."""
    while True:
        choices = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, *([70, 1027] if rng.random() < 0.05 else []))
        lengths = tuple(rng.choice(choices) for _ in range(rank))
        sizes = tuple(rng.choice((None, 1, 2, 3, 4, 5, 7, 8, 15, max(length // 2, 1), length)) for length in lengths)
        if rng.random() < 0.3:
            sizes = sizes[:1] * rank
        if rng.random() < 0.02:
            sizes = (*sizes[1:], 0)
        out = tuple(length if size is None else size for length, size in zip(lengths, sizes, strict=True))
        taps = math.prod(count + length for count, length in zip(out, lengths, strict=True))
        if taps <= BUDGET:
            # A bin holds up to ceil(L / O) + 1 elements, and an element is in up to ceil(O / L) + 1 bins.
            terms = math.prod(max(-(-n // max(o, 1)), -(-o // n)) + 1 for n, o in zip(lengths, out, strict=True))
            return Geometry(lengths, {"output_size": sizes}, out, taps, terms)


def fractional_geometry(rng: random.Random, rank: int) -> Geometry:
    """Windows from as many as can be to a single one."""
    while True:
        lengths = tuple(rng.choice((2, 3, 4, 5, 6, 7, 9, 12, 20)) for _ in range(rank))
        kernels = tuple(rng.randint(1, min(4, length - 1)) for length in lengths)
        most = [length - kernel + (rank == 2) for length, kernel in zip(lengths, kernels, strict=True)]
        out = tuple(rng.choice((count, rng.randint(1, count))) for count in most)
        taps = math.prod(out) * math.prod(kernels)
        if taps <= BUDGET:
            # Windows start at least an element apart, but for rounding in front of the last.
            terms = math.prod(kernel + 1 for kernel in kernels)
            return Geometry(lengths, {"kernel_size": kernels, "output_size": out}, out, taps, terms)


def unpool_geometry(rng: random.Random, rank: int) -> Geometry:
    """Lengths that a pooling with these parameters may have had."""
    while True:
        lengths = tuple(rng.choice((1, 2, 3, 4, 5, 7, 9)) for _ in range(rank))
        kernels, strides = (tuple(rng.choice((1, 2, 2, 3, 4)) for _ in range(rank)) for _ in range(2))
        paddings = tuple(rng.choice((0, 0, 1, 2)) for _ in range(rank))
        parameters: dict[str, Any] = {"kernel_size": kernels, "stride": strides}
        if rng.random() < 0.2:
            parameters["stride"], strides = None, kernels
        parameters["padding"] = paddings
        out = unpooled(lengths, **parameters)
        if rng.random() < 0.5:
            steps = [rng.randint(1 - stride, stride - 1) for stride in strides]
            out = tuple(length + step for length, step in zip(out, steps, strict=True))
            batch_and_channels = [rng.randint(0, 9) for _ in range(rng.choice((0, 2)))]  # which nothing depends on
            parameters["output_size"] = [*batch_and_channels, *out]
        taps = math.prod(lengths) + math.prod(out)
        if taps <= BUDGET:
            return Geometry(lengths, parameters, out if min(out) > 0 else None, taps)


def unpooled(
    lengths: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int],
    output_size: Sequence[int] = (),
) -> tuple[int, ...]:
    """Lengths of an unpooled plane: torch's formula, where they are not given."""
    axes = zip(lengths, kernel_size, stride or kernel_size, padding, strict=True)
    return tuple(output_size[-len(lengths) :]) or tuple((n - 1) * s + k - 2 * p for n, k, s, p in axes)


def global_geometry(rng: random.Random, rank: int) -> Geometry:
    """One window for all elements."""
    while True:
        lengths = tuple(rng.choice((1, 2, 3, 4, 5, 7, 8, 12, 33, 200)) for _ in range(rank))
        if math.prod(lengths) <= BUDGET:
            return Geometry(lengths, {}, (1,) * rank, math.prod(lengths), math.prod(lengths))


def global_norm_geometry(rng: random.Random, rank: int) -> Geometry:
    """The same with a power."""
    return with_power(rng, global_geometry(rng, rank))


def taps_of(lengths: Sequence[int], p: dict[str, Any]) -> int:
    """Taps of all windows of a plane, about."""
    total = 1
    for axis, length in enumerate(lengths):
        stride = (p["stride"] or p["kernel_size"])[axis]
        room = length + (0 if isinstance(p["padding"], str) else sum(p["padding"][axis]))
        total *= (room // stride + 2) * p["kernel_size"][axis]
    return total


def spell(rng: random.Random, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as a caller may write them: one int for equal axes, lists, NumPy integers, defaults left out."""
    spelled: dict[str, Any] = {}
    for name, value in parameters.items():
        if name == "padding" and not isinstance(value, str) and isinstance(value[0], tuple):
            if all(before == after for before, after in value) and rng.random() < 0.8:
                value = tuple(before for before, _ in value)
        elif not isinstance(value, tuple):
            value = np.bool_(value) if isinstance(value, bool) and rng.random() < 0.05 else value
        if isinstance(value, tuple):
            if len(set(value)) == 1 and isinstance(value[0], int) and rng.random() < 0.7:
                value = value[0]
                if rng.random() < 0.05 and abs(value) < 2**31:
                    value = rng.choice((np.int64, np.int32, np.uint64))(value)
            elif set(value) == {None} and rng.random() < 0.7:
                value = None
            elif (chance := rng.random()) < 0.2:
                value = list(value)
            elif chance > 0.7 and len(set(value)) == 1 and not isinstance(value[0], tuple):
                value = value[:1]
        spelled[name] = value
    if rng.random() < 0.5:
        defaults = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "divisor_override": None}
        is_default = {n: type(v) is type(defaults[n]) and v == defaults[n] for n, v in spelled.items() if n in defaults}
        spelled = {n: v for n, v in spelled.items() if not is_default.get(n)}
    elif spelled.get("stride", 0) is None and rng.random() < 0.3:
        spelled["stride"] = ()
    return spelled


def with_reducer(rng: random.Random, operation: Operation, spelled: dict[str, Any]) -> dict[str, Any]:
    """The same with its options in a reducer, defaults left out or not; a name for it if there are no others."""
    options = {OPTIONS[name][0]: value for name, value in (operation.options | spelled).items() if name in OPTIONS}
    if operation.kind == "avg" and "rounding" not in options:  # which gradients do not depend on
        options["rounding"] = rng.choice(("nearest", "truncate"))
    if options.get("count_padding") and rng.random() < 0.6:
        options["count_padding"] = None
    others = {name: value for name, value in options.items() if value != DEFAULTS[name]}
    name = rng.choice(REDUCERS[operation.kind][1]) if not others and rng.random() < 0.7 else None
    reducer = Reducer(operation.kind, options if rng.random() < 0.5 else others, name)
    return {name: value for name, value in spelled.items() if name not in OPTIONS} | {"kind": reducer}


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
    np.timedelta64(2, "ns"),
)
TOO_LARGE = (2**62 + 1, 2**63, 2**64, 10**40)


def bad_extent(name: str, least: int, none_is_bad: bool = True) -> Drawer:
    """A value that is not an int, too small or large, or not one for each axis."""

    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        kind = rng.choice(("type", "entry", "small", "large", "count"))
        full = [rng.randint(1, 3) for _ in range(rank)]
        spot = rng.randrange(rank)
        if kind in ("type", "entry"):
            pool = [v for v in NOT_INTS if not (name == "padding" and isinstance(v, str))]
            if kind == "type":
                pool += [None] if none_is_bad and name not in ("stride", "output_size") else []
                return rng.choice(pool), Error(TypeError, name), {}
            full[spot] = rng.choice([*pool, *([None] if none_is_bad else [])])
            return tuple(full), Error(TypeError, name), {}
        if kind == "count":
            wrong = rng.choice([n for n in (0, 2, 3, 4, 5) if n != rank and not (n == 0 and name == "stride")])
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


def bad_flag(name: str, none_is_bad: bool = True) -> Drawer:
    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        values = (0, 1, "True", 1.0, (), [True], *((None,) if none_is_bad else ()))
        return rng.choice(values), Error(TypeError, f"{name} must be a bool"), {}

    return draw


def bad_divisor(name: str) -> Drawer:
    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        if rng.random() < 0.5:
            return rng.choice((True, 1.0, "3", (2,), [2], np.float32(2))), Error(TypeError, f"{name} must be"), {}
        if rng.random() < 0.5:
            return rng.choice((0, np.int64(0))), Error(ValueError, f"divisor must be not zero, got {name}=0"), {}
        return rng.choice((2**63, 2**64, -(10**30))), Error(ValueError, f"{name} must fit into 64 bits"), {}

    return draw


def bad_power(name: str) -> Drawer:
    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        if rng.random() < 0.5:
            values = (True, "2", None, [2], 2j, np.True_, np.timedelta64(2, "ns"))
            return rng.choice(values), Error(TypeError, f"{name} must be a number"), {}
        values = (0, 0.0, -1, -0.5, -math.inf, math.nan)
        return rng.choice(values), Error(ValueError, f"{name} must be greater than 0"), {}

    return draw


def bad_unpooled_size(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.3:
        entry = rng.choice((True, 2.0, "2", None))
        return [entry] * rank, Error(TypeError, "output_size"), {}
    wrong = ([4] * (rank + 4), [4] * (rank + 3), (), 10**6, [10**6] * rank, [2**63] * rank, [-(2**40)] * (rank + 2))
    return rng.choice(wrong), Error(ValueError, "output_size"), {}


def bad_word(name: str) -> Drawer:
    """Of a parameter that is one of a few words."""

    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        if rng.random() < 0.5:
            return rng.choice(("", "NHWC", "channels-last", "Plane", "mean", "max ")), Error(ValueError, name), {}
        return rng.choice((None, True, 1, 2.0, b"max", ("plane",), ["window"])), Error(TypeError, name), {}

    return draw


def bad_kind(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.4:
        word, near = rng.choice((("maximum", "max"), ("Mean", "mean"), ("max ", "max"), ("summ", "sum"), ("l", "lp")))
        return word, Error(ValueError, f"got {word!r}; the nearest is {near!r}"), {}
    if rng.random() < 0.4:
        reducer, _ = rng.choice(list(REDUCERS.values()))
        return reducer, Error(TypeError, f"got the class {reducer.__name__}: write {reducer.__name__}()"), {}
    values = ("", None, True, 1, 2.0, b"max", ("max",), ["mean"], max, kinds.Kind(), np.array("max"))
    value = rng.choice(values)
    return value, Error(ValueError if isinstance(value, str) else TypeError, "kind must be"), {}


def unknown(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    """A parameter that there is not, whatever its value."""
    return rng.choice((0, (0,), None)), Error(TypeError, "has no parameter axis: axes is one"), {}


def without_meaning(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    """Indices of a kind that has none."""
    return rng.choice(("window", "global")), Error(ValueError, "index_kind has no meaning for kind="), {}


def bad_axes(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.5:
        return rng.choice((True, 1.0, "0", (1.0,), [None], {0}, b"1", 1j)), Error(TypeError, "axes"), {}
    return rng.choice((99, -99, (), [], (0, 0), (-1, -1), (2**64,), [*range(rank), 0])), Error(ValueError, "axes"), {}


BAD_WINDOWS: dict[str, Drawer] = {
    "kernel_size": bad_kernel,
    "stride": bad_extent("stride", 1),
    "padding": bad_padding,
    "dilation": bad_dilation,
    "ceil_mode": bad_flag("ceil_mode"),
}
BAD_AVERAGES = {
    **BAD_WINDOWS,
    "count_include_pad": bad_flag("count_include_pad"),
    "divisor_override": bad_divisor("divisor_override"),
}
BAD_NORMS = {**BAD_WINDOWS, "norm_type": bad_power("norm_type"), "true_norm": bad_flag("true_norm")}
# Of options of reducers.
BAD_OPTIONS: dict[str, dict[str, Drawer]] = {
    "avg": {
        "count_padding": bad_flag("count_padding", none_is_bad=False),
        "divisor": bad_divisor("divisor"),
        "rounding": bad_word("rounding"),
    },
    "lp": {"p": bad_power("p"), "true_norm": bad_flag("true_norm")},
}
BAD_BINS = {"output_size": bad_extent("output_size", 0, none_is_bad=False)}
BAD_FRACTIONS = {"kernel_size": bad_extent("kernel_size", 1), "output_size": bad_extent("output_size", 1)}
BAD_UNPOOLING = {
    "kernel_size": bad_extent("kernel_size", 1),
    "stride": bad_extent("stride", 1),
    "padding": bad_extent("padding", 0),
    "output_size": bad_unpooled_size,
}


# Arrays ---------------------------------------------------------------------------------------------------------------


def values_of(rng: random.Random, shape: tuple[int, ...], dtype: np.dtype[Any], sums: bool) -> Array:
    """Ties, special values, extremes; for sums, floats that no order of adding takes out of range."""
    if dtype.kind == "c":
        return joined(*(values_of(rng, shape, np.zeros(1, dtype).real.dtype, sums) for _ in range(2)))
    generator = np.random.default_rng(rng.getrandbits(32))
    kind = rng.choice(("few", "special", "spread", "same"))
    if dtype.kind == "b":
        truth = generator.random(shape) < rng.choice((0.0, 0.1, 0.5, 1.0))
        return (truth * generator.integers(1, 256, shape, np.uint8)).view(bool) if kind == "special" else truth
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if kind == "spread":
            return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        choices = [limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max] if kind == "special" else [0, 1, 2]
    elif kind == "spread" or (sums and kind == "few"):
        return (generator.standard_normal(shape) * 10.0 ** generator.integers(-2, 3, shape)).astype(dtype)
    else:
        limits = ml_dtypes.finfo(dtype)
        special = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -2.5]
        if not sums:
            special += [limits.smallest_subnormal, -limits.smallest_subnormal, limits.max, limits.min]
        choices = special if kind == "special" else [-0.0, 0.0, 1.0, -3.25]
    table = np.array(choices, dtype)
    if kind == "same":
        return np.full(shape, rng.choice(list(table)), dtype)
    return table[generator.integers(len(table), size=shape)]


def norm_values(rng: random.Random, x: Array, geometry: Geometry) -> Array:
    """Magnitudes whose powers stay in range, and sums of powers without cancellation.

    A root of a sum of both signs has no bound on its error near zero, and an odd power is what makes one; the roots of
    negative numbers are NaN, but C's pow says inf for minus infinity where sqrt says NaN. Where torch multiplies 0 with
    what is not finite we say 0 and it NaN: the gradients of elements in no window, of infinity, and of powers below 1 at 0. So
    do passes over some axes with what other passes have made; those of power 1 also hand on a NaN, whose sign is NaN, where
    one pass asks for the signs of the elements only.
    """
    if is_half(x.dtype):
        return norm_values(rng, widened(x), geometry).astype(x.dtype)
    power, is_in_passes = geometry.parameters["norm_type"], len(geometry.lengths) > MOST_AXES
    magnitudes = np.where(np.isfinite(x) & (x != 0), np.clip(np.abs(x), 1e-3, 1e3), np.abs(x)).astype(x.dtype)
    if power < 1 or is_in_passes:
        magnitudes[magnitudes == 0] = 1
    magnitudes[np.isinf(magnitudes) & (power > 1 or is_in_passes)] = 2
    magnitudes[np.isnan(magnitudes) & (power == 1 and is_in_passes)] = 2
    if geometry.has_gaps:
        magnitudes[~np.isfinite(magnitudes)] = 2
    if geometry.parameters.get("true_norm", True) or power % 2 == 0 or power == math.inf:
        return np.copysign(magnitudes, x)
    if geometry.has_gaps or rng.random() < 0.8:
        return magnitudes
    magnitudes[np.isinf(magnitudes)] = 2
    return -magnitudes


def samples_of(rng: random.Random, count: int, rank: int) -> Array:
    """Of both dtypes, evenly drawn or at the ends of their range."""
    dtype = np.dtype(rng.choice(FLOATS))
    generator = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.6:
        return generator.random((count, rank), dtype)
    return generator.choice(np.array([0, 0.5, np.nextafter(dtype.type(1), 0)], dtype), (count, rank))


def negative(rng: random.Random, array: Array) -> Array:
    flips = tuple(slice(None, None, rng.choice((1, -1))) for _ in range(array.ndim))
    return array[flips].copy()[flips]


def gapped(rng: random.Random, array: Array) -> Array:
    """A view of larger memory, axes in any order and direction; between its elements are those that would win."""
    order = rng.sample(range(array.ndim), array.ndim)
    steps = [rng.choice((1, 1, 2, 3, -1, -2)) for _ in range(array.ndim)]
    extents = [length * abs(step) + rng.randint(0, 2) for length, step in zip(array.shape, steps, strict=True)]
    kind = array.dtype.kind
    highest = np.iinfo(array.dtype).max if kind in "iu" else True if kind == "b" else np.nan
    memory = np.full([extents[axis] for axis in order], highest, array.dtype)
    memory = memory.transpose(np.argsort(order))
    view = memory[tuple(slice(None, None, step) for step in steps)]
    view = view[tuple(slice(0, length) for length in array.shape)]
    view[...] = array
    return view


def transposed(rng: random.Random, array: Array) -> Array:
    order = rng.sample(range(array.ndim), array.ndim)
    return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))


def channels_last(rng: random.Random, array: Array) -> Array:
    """The channel axis steps least, the rest as it was; the last pooled axis may have a gap."""
    if array.ndim == 1:
        return array
    channels = 1 if array.ndim > 3 else 0
    moved = np.moveaxis(array, channels, -1)
    return np.moveaxis(
        rng.choice((np.ascontiguousarray, lambda each: each.repeat(2, -2)[..., ::2, :]))(moved), -1, channels
    )


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
    channels_last,
    broadcast,
    overlapping,
    byteswapped,
    unaligned,
    field_of_records,
    readonly,
)
CHANGE_VALUES = (broadcast, overlapping, readonly)
FAITHFUL = tuple(layout for layout in LAYOUTS if layout not in CHANGE_VALUES)
OUT_LAYOUTS = (contiguous, negative, gapped, transposed, unaligned, field_of_records)


def plain(array: Array) -> Array:
    """The values in native byte order, contiguous."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def is_half(dtype: np.dtype[Any]) -> bool:
    return dtype.name in HALVES


def widened(array: Array) -> Array:
    """Half precision as float64; all else as it is."""
    if not is_half(array.dtype):
        return array
    with np.errstate(invalid="ignore"):  # of NaNs that would raise it
        return array.astype(np.float64)


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """float64 in half precision."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return array.astype(dtype)


def joined(real: Array, imag: Array) -> Array:
    """A complex array of its parts."""
    array = np.empty(real.shape, f"c{2 * real.itemsize}")
    array.real, array.imag = real, imag
    return array


def parts_of(array: Array) -> Array:
    """Real and imaginary parts of a complex array, one after the other."""
    return np.stack([array.real, array.imag])


def array_text(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return repr(array)
    flags = ["" if array.flags.writeable else "read-only", "" if array.flags.aligned else "unaligned"]
    layout = f"strides {array.strides}" + "".join(f" {flag}" for flag in flags if flag)
    if array.size > 300:
        return f"<{array.dtype.name} array of shape {array.shape}, {layout}>"
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        return f"{array_text(array.view(np.uint8))}.view(bool)"
    values = repr(array.tolist()).replace("inf", "np.inf").replace("nan", "np.nan")
    dtype = "ml_dtypes.bfloat16" if array.dtype.name == "bfloat16" else repr(array.dtype.str)
    return f"np.array({values}, {dtype}).reshape({array.shape})" + ("" if array.flags.carray else f"<{layout}>")


# torch ----------------------------------------------------------------------------------------------------------------


@cache
def torch_module() -> Any:
    """torch, if it is installed, on one thread: the cores are for what is tested."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def torch_window(call: Call) -> dict[str, Any] | None:
    """The window as torch takes it: padding of both sides, of half a window at most, and no extent that it may overflow."""
    parameters = dict(call.geometry.parameters)
    kernels, padding = parameters["kernel_size"], parameters["padding"]
    if (
        call.rank > 3
        or isinstance(padding, str)
        or any(b != a or 2 * b > k for (b, a), k in zip(padding, kernels, strict=True))
    ):
        return None
    if max(*kernels, *(parameters["stride"] or kernels), *parameters["dilation"]) > 2**20:
        return None
    parameters["padding"] = tuple(before for before, _ in padding)
    return parameters


def torch_max(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    """Not where a window without input makes torch return an index outside the plane."""
    window = torch_window(call)
    signed = ("uint8", "int8", "int16", "int32", "int64")
    if window is None or not call.geometry.is_full or call.judged["x"].dtype.name not in (*FLOATS, *signed):
        return None
    function = getattr(torch.nn.functional, f"max_pool{call.rank}d")
    return lambda x: function(x, **window, return_indices=True)


def torch_min(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    function = torch_max(torch, call) if call.judged["x"].dtype.kind == "f" else None

    def of_negated(x: Any) -> Any:
        values, indices = function(-x)
        return -values, indices

    return function and of_negated


def torch_mean(torch: Any, call: Call, **changes: Any) -> Callable[[Any], Any] | None:
    """Not with dilation, nor where torch's 3-d check refuses windows larger than the input.

    Of integers only int64, and no divisor by which the least of them cannot be divided: that ends the process.
    """
    window = torch_window(call)
    if window is None or set(window.pop("dilation")) != {1}:
        return None
    kernels = window["kernel_size"]
    if call.rank == 3 and any(n < k for n, k in zip(call.geometry.lengths, kernels, strict=True)):
        return None
    window = {"divisor_override": None, **window, **changes}
    kind = call.judged["x"].dtype
    if kind.kind != "f" and (kind != np.int64 or window["divisor_override"] not in (None, 1)):
        return None
    if call.rank > 1:
        return lambda x: getattr(torch.nn.functional, f"avg_pool{call.rank}d")(x, **window)
    # In 1-d torch has no divisor_override.
    rows = {
        "kernel_size": (1, *kernels),
        "stride": (1, *(window["stride"] or kernels)),
        "padding": (0, *window["padding"]),
    }
    return lambda x: torch.nn.functional.avg_pool2d(x[:, :, None], **window | rows)[:, :, 0]


def torch_sum(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    return torch_mean(torch, call, divisor_override=1)


def torch_norm(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    """torch's function, or a composition for a true norm: that has NaN for the gradient of a norm of 0.

    Neither for gradients of NaN, whose sign is 0 in torch, nor of a largest magnitude of 0, which torch multiplies with the
    gradient: that may be infinite.
    """
    x, parameters = call.judged["x"], dict(call.geometry.parameters)
    power, is_norm = parameters.pop("norm_type"), parameters.pop("true_norm")
    if call.operation.is_backward and (np.isnan(x).any() or ((is_norm or power == math.inf) and (x == 0).any())):
        return None
    unpowered = replace(call, geometry=call.geometry._replace(parameters=parameters))
    if power == math.inf:
        largest = torch_max(torch, unpowered)
        return largest and (lambda x: largest(x.abs())[0])
    if is_norm:
        total = torch_sum(torch, unpowered)
        return total and (lambda x: total(x.abs().pow(power)).pow(1 / power))
    window = torch_mean(torch, unpowered) and torch_window(unpowered)
    if not window or any(window["padding"]):
        return None
    kernels = window["kernel_size"]  # lp_pool1d documents a tuple, but fails with one
    arguments = power, kernels if call.rank > 1 else kernels[0], window["stride"], window["ceil_mode"]
    return lambda x: getattr(torch.nn.functional, f"lp_pool{call.rank}d")(x, *arguments)


def torch_adaptive(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    out, name = call.geometry.out, call.name.removesuffix("_backward")
    if 0 in out or call.judged["x"].dtype.kind != "f":
        return None
    more = {"return_indices": True} if "max" in name else {}
    return lambda x: getattr(torch.nn.functional, name)(x, out, **more)


def torch_fractional(torch: Any, call: Call) -> Callable[..., Any] | None:
    """Where samples and input have one dtype."""
    if call.judged["x"].dtype != call.judged["_random_samples"].dtype:
        return None
    function = getattr(torch.nn.functional, f"fractional_max_pool{call.rank}d")
    return lambda x, **samples: function(x, **call.geometry.parameters, return_indices=True, **samples)


def torch_unpool(torch: Any, call: Call) -> Callable[..., Any] | None:
    if call.judged["x"].dtype.kind != "f":
        return None
    function = getattr(torch.nn.functional, f"max_unpool{call.rank}d")
    arguments = {**call.geometry.parameters, "output_size": list(call.geometry.out)}
    return lambda x, indices: function(x, indices, **arguments)


def torch_global_max(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    if call.judged["x"].dtype.kind != "f":
        return None

    def largest(x: Any) -> Any:
        results = torch.nn.functional.adaptive_max_pool1d(x.flatten(2), 1, return_indices=True)
        return tuple(each.reshape(-1, 1, *call.geometry.out) for each in results)

    return largest


def torch_global_mean(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    axes = tuple(range(2, call.rank + 2))
    return (lambda x: x.mean(axes, keepdim=True)) if call.judged["x"].dtype.kind == "f" else None


def torch_global_norm(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    """Not its gradients of the largest of several, which all get it, of NaN, whose sign is 0, and of 0 times infinity."""
    power, axes = call.geometry.parameters["norm_type"], tuple(range(2, call.rank + 2))
    special = np.isnan(call.judged["x"]).any() or not np.isfinite(call.judged.get("grad_output", 0)).all()
    if call.operation.is_backward and (power == math.inf or special):
        return None
    return lambda x: torch.linalg.vector_norm(x, power, axes, keepdim=True)


# Operations -----------------------------------------------------------------------------------------------------------


def finding(
    function: str,
    geometry: Callable[[random.Random, int], Geometry],
    definition: Callable[..., tuple[Array, Array]],
    others: tuple[str, ...] = (),
    windows: Callable[..., Windows] | None = None,
    **more: Any,
) -> dict[str, Operation]:
    """The entries of an operation that takes elements, `definition` giving them and their indices.

    Windows are where it finds them, unless they are given.
    """
    more["windows"] = windows or partial(found_windows, definition)

    def scattered(grad_output: Array, indices: Array | None = None, **a: Any) -> tuple[Array]:
        indices = definition(**a)[1] if indices is None else indices
        return (reference.scatter(grad_output, indices, a["x"].shape, a["rank"], a["x"].dtype),)

    back = f"{function}_backward"
    given = {**more, "theirs": None, "indices": lambda rng, **a: definition(**a)[1]}
    grads = ("grad_output", *others)
    return {
        function: Operation(function, ORDERED, geometry, lambda **a: definition(**a)[:1], others=others, **more),
        f"{function} with indices": Operation(
            function, ORDERED, geometry, definition, others=others, fixed={"return_indices": True}, **more
        ),
        back: Operation(back, FLOATING, geometry, scattered, others=grads, sums="grad_output", **more),
        f"{back} with indices": Operation(
            back, FLOATING, geometry, scattered, others=("grad_output", "indices"), sums="grad_output", **given
        ),
    }


def adding(
    function: str,
    dtypes: Sequence[str],
    geometry: Callable[[random.Random, int], Geometry],
    definition: Callable[..., Array],
    backward: Callable[..., Array],
    **more: Any,
) -> dict[str, Operation]:
    """The entries of an operation that adds up elements."""
    back = f"{function}_backward"
    gradients = [each for each in dtypes if each in INEXACT]
    return {
        function: Operation(function, dtypes, geometry, lambda **a: (definition(**a),), sums="x", **more),
        back: Operation(
            back, gradients, geometry, lambda **a: (backward(**a),), others=("grad_output",), sums="grad_output", **more
        ),
    }


def drawn_windows(
    x: Array, kernel_size: Any, output_size: Any, rank: int, _random_samples: Array | None = None
) -> tuple[Array, Array]:
    samples = np.full((len(x), rank), 0.5) if _random_samples is None else _random_samples
    return reference.fractional_max_pool(x, kernel_size, output_size, samples, rank=rank)


def unpool(x: Array, indices: Array, rank: int, **parameters: Any) -> tuple[Array]:
    return (reference.max_unpool(x, indices, unpooled(x.shape[-rank:], **parameters)),)


def unpool_backward(grad_output: Array, x: Array, indices: Array, rank: int, **parameters: Any) -> tuple[Array]:
    return (reference.max_unpool_backward(grad_output, x, indices, unpooled(x.shape[-rank:], **parameters)),)


def places(rng: random.Random, x: Array, rank: int, windows: Windows | None = None, **parameters: Any) -> Array:
    """Anywhere in the unpooled plane, or many in few places; in their windows, if these matter."""
    lengths = unpooled(x.shape[-rank:], **parameters)
    size = math.prod(lengths)
    if windows is not None:
        generator = np.random.default_rng(rng.getrandbits(32))
        axes = zip(windows.starts, windows.sizes, lengths, strict=True)
        ends = [(np.maximum(start, 0), np.minimum(start + held, n)) for start, held, n in axes]
        return np.ravel_multi_index([generator.integers(*each, x.shape) for each in ends], lengths)
    first = rng.randrange(size)
    return np.random.default_rng(rng.getrandbits(32)).integers(*rng.choice(((0, size), (first, size))), x.shape)


def along(values: Any, axis: int, rank: int) -> Array:
    """Values for one of the pooled axes, to go with arrays of planes."""
    return np.asarray(values, np.int64).reshape(-1, *[1] * (rank - 1 - axis))


def sliding_windows(lengths: tuple[int, ...], ceil_mode: bool, padding: Any, **parameters: Any) -> Windows:
    rank = len(lengths)
    kernels, steps = parameters["kernel_size"], parameters["dilation"]
    pads = [padding] * rank if isinstance(padding, str) else padding
    axes = zip(lengths, kernels, parameters["stride"] or kernels, pads, steps, strict=True)
    starts = [[taps[0] for taps in reference._axis_windows(*axis, ceil_mode)] for axis in axes]
    sizes = [along(kernel, axis, rank) for axis, kernel in enumerate(kernels)]
    return Windows([along(each, axis, rank) for axis, each in enumerate(starts)], sizes, steps)


def unpooled_windows(
    lengths: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, output_size: Any = None
) -> Windows:
    """Those of the pooling that is undone."""
    rank = len(lengths)
    axes = enumerate(zip(lengths, stride or kernel_size, padding, strict=True))
    starts = [along(np.arange(n) * step - before, axis, rank) for axis, (n, step, before) in axes]
    return Windows(starts, [along(kernel, axis, rank) for axis, kernel in enumerate(kernel_size)], (1,) * rank)


def found_windows(definition: Callable[..., Any], lengths: tuple[int, ...], **parameters: Any) -> Windows:
    """From their first to their last element: there are the maxima of what falls or rises."""
    samples = parameters.get("_random_samples", [None])
    rising = np.broadcast_to(np.arange(math.prod(lengths)).reshape(lengths), (len(samples), *lengths))
    ends = [definition(x=each, rank=len(lengths), **parameters)[1] for each in (-rising, rising)]
    starts, lasts = (np.unravel_index(each, lengths) for each in ends)
    sizes = [last - start + 1 for start, last in zip(starts, lasts, strict=True)]
    return Windows(starts, sizes, (1,) * len(lengths))


def whole(x: Array, rank: int) -> tuple[Array, Array]:
    return reference.max_pool(x, x.shape[-rank:])


OPERATIONS = {
    **finding(
        "max_pool",
        window_geometry,
        reference.max_pool,
        theirs=torch_max,
        windows=sliding_windows,
        bad=BAD_WINDOWS,
    ),
    **finding(
        "min_pool",
        window_geometry,
        reference.min_pool,
        theirs=torch_min,
        windows=sliding_windows,
        bad=BAD_WINDOWS,
    ),
    **adding(
        "sum_pool",
        SUMMED,
        window_geometry,
        reference.sum_pool,
        reference.sum_pool_backward,
        theirs=torch_sum,
        bad=BAD_WINDOWS,
    ),
    **adding(
        "avg_pool",
        AVERAGED,
        average_geometry,
        reference.avg_pool,
        reference.avg_pool_backward,
        theirs=torch_mean,
        bad=BAD_AVERAGES,
    ),
    **adding(
        "lp_pool",
        FLOATING,
        norm_geometry,
        reference.lp_pool,
        reference.lp_pool_backward,
        theirs=torch_norm,
        bad=BAD_NORMS,
        values=norm_values,
    ),
    **finding("adaptive_max_pool", adaptive_geometry, reference.adaptive_max_pool, theirs=torch_adaptive, bad=BAD_BINS),
    **adding(
        "adaptive_avg_pool",
        AVERAGED,
        adaptive_geometry,
        reference.adaptive_avg_pool,
        reference.adaptive_avg_pool_backward,
        theirs=torch_adaptive,
        bad=BAD_BINS,
    ),
    **finding(
        "fractional_max_pool",
        fractional_geometry,
        drawn_windows,
        others=("_random_samples",),
        theirs=torch_fractional,
        bad=BAD_FRACTIONS,
        ranks={2: 5, 3: 2},
    ),
    "max_unpool": Operation(
        "max_unpool",
        ORDERED,
        unpool_geometry,
        unpool,
        theirs=torch_unpool,
        others=("indices",),
        indices=places,
        windows=unpooled_windows,
        bad=BAD_UNPOOLING,
    ),
    "max_unpool_backward": Operation(
        "max_unpool_backward",
        FLOATING,
        unpool_geometry,
        unpool_backward,
        theirs=torch_unpool,
        others=("grad_output", "indices"),
        indices=places,
        windows=unpooled_windows,
        bad=BAD_UNPOOLING,
    ),
    **finding("global_max_pool", global_geometry, whole, theirs=torch_global_max, ranks=ANY_RANK),
    **adding(
        "global_avg_pool",
        AVERAGED,
        global_geometry,
        lambda x, rank, **more: reference.adaptive_avg_pool(x, 1, rank=rank, **more),
        lambda grad_output, x, rank: reference.adaptive_avg_pool_backward(grad_output, x, 1, rank=rank),
        theirs=torch_global_mean,
        ranks=ANY_RANK,
    ),
    **adding(
        "global_lp_pool",
        FLOATING,
        global_norm_geometry,
        lambda x, norm_type, rank: reference.lp_pool(x, norm_type, x.shape[-rank:], true_norm=True),
        lambda grad_output, x, norm_type, rank: reference.lp_pool_backward(
            grad_output, x, norm_type, x.shape[-rank:], true_norm=True
        ),
        theirs=torch_global_norm,
        bad={"norm_type": bad_power("norm_type")},
        values=norm_values,
        ranks=ANY_RANK,
    ),
}
# Means once more: of integers rounded to the nearest, of floats the same.
OPERATIONS |= {
    f"{name} to the nearest": replace(
        OPERATIONS[name],
        definition=partial(OPERATIONS[name].definition, rounding="nearest"),
        theirs=None,
        fixed={"rounding": "nearest"},
    )
    for name in ("avg_pool", "adaptive_avg_pool", "global_avg_pool")
}
# What slides along the last axes, along any of an array.
OPERATIONS |= {
    f"{name} of any axes": replace(
        operation,
        function="pool_backward" if operation.is_backward else "pool",
        fixed={option: value for option, value in operation.fixed.items() if option not in OPTIONS},
        kind=kind,
        options={"rounding": operation.fixed.get("rounding", "truncate")}
        if kind == "avg" and not operation.is_backward
        else {},
        bad={
            **BAD_WINDOWS,
            **BAD_OPTIONS.get(kind, {}),
            "kind": bad_kind,
            "axes": bad_axes,
            "axis": unknown,
            **({} if operation.has_index_kind else {"index_kind": without_meaning}),
        },
        ranks={1: 4, 2: 4, 3: 3} if "indices" in name else {1: 4, 2: 4, 3: 3, 4: 2, 5: 1},
    )
    for name, operation in OPERATIONS.items()
    for kind in REDUCERS
    if name.startswith(f"{kind}_pool")
}


# A case ---------------------------------------------------------------------------------------------------------------


def draw(seed: int, number: int, most_threads: int, name: str | None = None, dtypes: Sequence[str] = SUMMED) -> Call:
    """Case `number` of a seed; of one operation and of some dtypes only, on request."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choice(list(OPERATIONS)) if name is None else name
    operation = OPERATIONS[name]
    rank = rng.choices(list(operation.ranks), list(operation.ranks.values()))[0]
    geometry = operation.geometry(rng, rank)
    lengths, parameters = geometry.lengths, geometry.parameters
    out_lengths = lengths if geometry.out is None else geometry.out
    dtype = np.dtype(rng.choice([each for each in operation.dtypes if each in dtypes]))

    # Large inputs repeat a few planes, so that the reference need not compute more.
    is_large = rng.random() < 0.01
    planes = (
        math.ceil(LARGE / math.prod(lengths)) if is_large else rng.randint(1, max(1, BUDGET // max(geometry.taps, 1)))
    )
    is_unbatched = not operation.is_global and rng.random() < 0.3
    leading, axes, settings = arranged(rng, operation, planes, rank, is_unbatched)
    planes = math.prod(leading)
    count = min(3, planes) if is_large else planes
    copies = np.array([rng.randrange(count) for _ in range(planes)], int) if is_large else np.arange(planes)
    spelled = spell(rng, parameters) | settings
    if operation.kind:
        spelled = with_reducer(rng, operation, spelled)
    if operation.is_unpooling and "channels_last" in settings.values() and len(spelled.get("output_size", ())) > rank:
        batch, channels, *sizes = spelled["output_size"]
        spelled["output_size"] = [batch, *sizes, channels]
    call = Call(operation, rank, geometry, spelled, dtype, Arrangement(leading, axes, copies))
    call.threads = rng.randint(1, most_threads)
    call.notes += [name, dtype.name]

    def add_array(key: str, distinct: Array, layouts: Sequence[Layout], given: Array | None = None) -> None:
        layout = rng.choice(layouts) if rng.random() < 0.65 else contiguous
        if is_large and layout in CHANGE_VALUES:
            layout = gapped
        call.notes.append(layout.__name__)
        array = layout(rng, call.arrangement.stretched(distinct) if given is None else given)
        call.arrays[key] = array
        if not is_large and given is None:
            distinct = call.arrangement.planes(array)
        call.distinct[key] = distinct

    def add_samples() -> None:
        samples = samples_of(rng, count, rank)
        add_array("_random_samples", samples, FAITHFUL, samples[copies].reshape(*leading, rank))
        if is_unbatched:
            call.arrays["_random_samples"] = call.arrays["_random_samples"][None]

    x = values_of(rng, (count, *lengths), dtype, sums=operation.sums == "x")
    add_array("x", x if operation.values is None else operation.values(rng, x, geometry), LAYOUTS)
    if "grad_output" in operation.others:
        add_array("grad_output", values_of(rng, (count, *out_lengths), dtype, sums=True), LAYOUTS)
    if "_random_samples" in operation.others:
        add_samples()
    if geometry.out is None:
        call.error = Error(ValueError, "Output size is too small")
    if operation.has_index_kind:
        call.index_kind = rng.choice(("plane", *INDEX_KINDS))
        if call.index_kind == "window":
            if "indices" in operation.others and "fractional" in operation.function:
                add_samples()  # which say where windows are
            if operation.is_unpooling and geometry.out is not None and not has_places(call.windows, geometry.out):
                call.index_kind = "plane"
        if call.index_kind != "plane" or rng.random() < 0.2:
            call.spelled["index_kind"] = call.index_kind
    if operation.indices is not None:
        shape = count, *(lengths if operation.is_unpooling else out_lengths)
        indices = np.full(shape, 0 if operation.is_unpooling else -1, np.int64)
        if call.error is None:
            where = {"windows": call.windows} if operation.is_unpooling and call.index_kind == "window" else {}
            others = {key: array for key, array in call.judged.items() if key != "grad_output"}
            indices = operation.indices(rng, **others, **where, rank=rank, **parameters)
            if not operation.is_unpooling:  # -1: no gradient
                generator = np.random.default_rng(rng.getrandbits(32))
                indices = np.where(generator.random(shape) < rng.choice((0, 0, 0.3)), -1, indices)
        given = call.numbered(indices) if call.error is None else call.arrangement.stretched(indices)
        add_array("indices", indices, FAITHFUL, given)
    if call.error is None:
        call.error = refusal(call)
    if call.error is None:
        is_sum = "sum_pool" in name and not operation.is_backward and dtype.kind in "biu"
        result_dtype = np.zeros(1, dtype).sum().dtype if is_sum else dtype
        shape = (count, *(lengths if operation.is_backward else out_lengths))
        results = [np.array(call.arrangement.stretched(np.zeros(shape, result_dtype)), order="C")]
        if "return_indices" in operation.fixed:
            results.append(np.zeros(results[0].shape, call.index_dtype))
        if rng.random() < 0.2:
            add_out(rng, call, results)
        if rng.random() < 0.22:
            spoil(rng, call, results)
    is_last = axes == tuple(range(len(leading), len(leading) + rank))
    has_number = (
        isinstance(call.spelled.get("kernel_size"), (tuple, list)) and len(call.spelled["kernel_size"]) == call.rank
    )
    if operation.is_of_any_axes and call.error is None and is_last and has_number and rng.random() < 0.3:
        del call.spelled["axes"]
    return call


def arranged(
    rng: random.Random, operation: Operation, planes: int, rank: int, is_unbatched: bool
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Lengths of the axes that are not pooled, those that are, and the arguments that say so; about as many planes."""
    channels = rng.choice([n for n in range(1, min(planes, 12) + 1) if planes % n == 0])
    if not operation.is_of_any_axes:
        leading = (planes,) if is_unbatched else (planes // channels, channels)
        if len(leading) == 2 and rng.random() < 0.01:
            leading = (0, channels)
        first = len(leading)
        settings: dict[str, Any] = {"data_format": "channels_first"} if rng.random() < 0.1 else {}
        if rng.random() < 0.35:
            first, settings = first - 1, {"data_format": "channels_last"}
        return leading, tuple(range(first, first + rank)), settings
    leading = rng.choice(((), (planes,), (planes // channels, channels), (channels, 1, planes // channels)))
    if leading and rng.random() < 0.01:
        leading = (0, *leading[1:])
    axes = tuple(range(len(leading), len(leading) + rank))
    if rng.random() < 0.6:
        axes = tuple(rng.sample(range(len(leading) + rank), rank))
    spelled = [axis - rng.choice((0, 0, 1)) * (len(leading) + rank) for axis in axes]
    is_one = rank == 1 and rng.random() < 0.5
    return leading, axes, {"axes": spelled[0] if is_one else rng.choice((tuple, list))(spelled)}


def has_places(windows: Windows, lengths: tuple[int, ...]) -> bool:
    """Whether every window holds an element of a plane."""
    axes = zip(windows.starts, windows.sizes, lengths, strict=True)
    return all(bool(((start < length) & (start + size > 0)).all()) for start, size, length in axes)


def refusal(call: Call) -> Error | None:
    """What passes over some of many axes cannot do."""
    operation, parameters = call.operation, call.geometry.parameters
    if call.rank <= MOST_AXES or not operation.is_of_any_axes:
        return None
    power = parameters.get("norm_type", 2)
    if not parameters.get("true_norm", True) and power != math.inf and power % 2 != 0:
        return Error(ValueError, "p must be even without true_norm")
    if operation.kind == "avg" and call.dtype.kind in "iu" and parameters["divisor_override"] is None:
        window = [parameters[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
        _, windows = reference._windows(call.geometry.lengths, *window)
        counts = {each.taps if parameters["count_include_pad"] else len(each.inside) for each in windows}
        if counts != {math.prod(parameters["kernel_size"])}:
            return Error(ValueError, "means of integers over more than 3 axes")
    return None


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
    operation = call.operation
    bad = dict(operation.bad)
    if not operation.is_of_any_axes:
        bad["data_format"] = bad_word("data_format")
    if operation.has_index_kind:
        bad["index_kind"] = bad_word("index_kind")
    name = rng.choice([*call.arrays, *call.arrays, *bad, "out"])
    call.notes.append(f"bad {name}")
    if name in bad:
        value, call.error, others = bad[name](rng, call.rank)
        if operation.kind in BAD_OPTIONS and name in BAD_OPTIONS[operation.kind]:
            reducer = call.spelled["kind"]
            name, value = "kind", Reducer(reducer.kind, {**reducer.options, name: value})
        call.spelled |= {**others, name: value}
    elif name == "out":
        call.out, call.error = bad_out(rng, results)
    else:
        call.arrays[name], call.error = bad_array(rng, name, call.arrays[name], call)


def bad_indices(rng: random.Random, call: Call, good: Array) -> Array:
    """One of them is none of its kind; empty if there is no such number."""
    bad = plain(good)
    place = [rng.randrange(length) for length in bad.shape]
    is_unpooling = call.operation.is_unpooling
    none = int(np.iinfo(bad.dtype).max) if call.index_kind == "window" else -1
    wrong = [none] if is_unpooling else []
    if call.index_kind == "window":
        axes = call.arrangement.axes
        held = call.windows.held([bad.shape[axis] for axis in axes], [place[axis] for axis in axes])
        wrong += [number for number in (held, none - 1) if held <= number < none]
    else:
        numbers = call.numbers
        size = numbers.size if call.index_kind == "global" else math.prod(call.indexed_lengths)
        wrong += [-2, size, size + 1, 2**31, 2**32 - 1, 2**62, -(2**63)]
        if call.index_kind == "global":  # an element of another plane
            at = [0 if axis in call.arrangement.axes else spot for axis, spot in enumerate(place)]
            other = [0 if axis in call.arrangement.axes else rng.randrange(n) for axis, n in enumerate(bad.shape)]
            wrong += [int(numbers[tuple(other)])] * 3 if other != at else []
    if not wrong:
        return bad[:0]
    bad[tuple(place)] = rng.choice(wrong)
    return bad


def bad_array(rng: random.Random, name: str, array: Array, call: Call) -> tuple[Any, Error]:
    kind = rng.choice(("library", "dtype", "shape", "value"))
    if kind == "value" and name == "indices" and array.size:
        bad = bad_indices(rng, call, array)
        return bad, Error(ValueError, "invalid max index" if bad.size else "indices")
    if kind == "value" and name == "_random_samples" and array.size:
        bad = plain(array)
        bad.flat[rng.randrange(bad.size)] = rng.choice((1, 1.5, -0.1, 2.0**40, math.nan, math.inf, -math.inf))
        return bad, Error(ValueError, name)
    if kind == "library":
        others = [array.tolist(), None, 3.0, "x", np.ma.masked_array(array), memoryview(bytes(8))]
        if name in ("indices", "_random_samples"):
            others.remove(None)
        return rng.choice(others), Error(TypeError, name)
    if kind == "shape":
        shapes = [(1, *array.shape, 1), array.shape[-1:], ()]
        if name != "x":
            shapes += [(*array.shape[:-1], array.shape[-1] + 1), array.shape + (1,), array.shape[1:]]
        elif call.operation.is_of_any_axes:
            axis = rng.choice(call.arrangement.axes)
            shapes = [(), (*array.shape[:axis], 0, *array.shape[axis + 1 :])]
        else:
            shapes += [(*array.shape[:-1], 0), (*array.shape[: -call.rank - 1], 0, *array.shape[-call.rank :])]
        shapes = [shape for shape in shapes if shape != array.shape and not (name == "x" and is_good(shape, call))]
        return np.zeros(rng.choice(shapes), plain(array).dtype), Error(ValueError, name)
    known = {"x": call.operation.dtypes, "_random_samples": FLOATS}
    accepted = known.get(name, (array.dtype.newbyteorder("=").name,))
    kinds: list[Any] = ["complex64", "object", "M8[s]", "m8[s]", "U3", "S2", "V4", "float16", "longdouble"]
    kinds += ["bool", "int32", "uint64", "float32", "float64", [("a", "f4")]]
    refused = [each for each in kinds if np.dtype(each).name not in accepted]
    return np.zeros(array.shape, rng.choice(refused)), Error(TypeError, name)


def is_good(shape: tuple[int, ...], call: Call) -> bool:
    """Whether the operation takes an x of this shape."""
    if call.operation.is_of_any_axes:
        return False
    if call.spelled.get("data_format") == "channels_last" and len(shape) > call.rank:
        shape = (*shape[: -call.rank - 1], shape[-1], *shape[-call.rank - 1 : -1])
    if "adaptive" in call.operation.function:  # which takes no channels at all, too
        return call.rank < len(shape) < call.rank + 3 and 0 not in shape[-call.rank :]
    is_ranked = len(shape) > 2 if call.operation.is_global else call.rank < len(shape) < call.rank + 3
    return is_ranked and 0 not in shape


def bad_out(rng: random.Random, results: list[Array]) -> tuple[Any, Error]:
    arrays = [each.copy() for each in results]
    spot = rng.randrange(len(arrays))
    good = arrays[spot]
    kind = rng.choice(("library", "dtype", "shape", "read-only", "pair", "overlap"))
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
    elif kind == "overlap" and good.size > 1:
        bad, error = np.lib.stride_tricks.as_strided(good, strides=(0,) * good.ndim), Error(ValueError, "out")
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
    magnitude = cache(call.magnitude)  # the same for both judges
    try:
        for judged in filter(None, (call.exact(), call.torchs())):
            for result, expected in zip(results, judged, strict=True):
                assert_agrees(call, result, expected, magnitude)
        for result, out in zip(results, outs if call.out is not None else results, strict=True):
            assert result is out, "out is not what is returned"
            if call.out is None and not call.operation.is_of_any_axes:
                orders = result, np.moveaxis(result, -1 - call.rank, -1), np.moveaxis(result, -1, -1 - call.rank)
                is_dense = any(each.flags.c_contiguous for each in orders)  # with the channels first, or last
                assert is_dense, "result is not contiguous"
        if not is_in_place:
            for key, (array, values) in inputs.items():
                assert plain(array).tobytes() == values.tobytes(), f"{key} was written to"
            for out, memory in guarded:
                out[...] = 0
                assert memory_of(out).tobytes() == memory, "memory beside out was written to"
    except AssertionError as error:
        return str(error).strip() or traceback.format_exc()
    return None


def assert_agrees(call: Call, result: Array, exact: Array, magnitude: Callable[[], Array]) -> None:
    """A result is what a judge says; sums within rounding, of complex numbers each part on its own."""
    if exact.dtype.kind == "c":
        assert result.dtype == exact.dtype
        result, exact = parts_of(result), parts_of(exact)
    if is_half(call.dtype) and exact.dtype == np.float64:
        assert result.dtype == call.dtype
        assert result.shape == exact.shape
        assert_rounded(result, exact, magnitude() if call.has_sums else np.zeros_like(exact), call.geometry.terms)
    elif call.has_sums and exact.dtype.kind == "f" and not np.array_equal(result, exact):
        sizes = magnitude()
        sizes = parts_of(sizes) if sizes.dtype.kind == "c" else sizes
        assert_sums(result, exact, np.abs(sizes), call.geometry.terms)
    else:
        assert_same(result, exact)


def assert_rounded(actual: Array, exact: Array, magnitude: Array, terms: int) -> None:
    """Sums in float32, as in `checks.assert_sums`, that are rounded once to half precision: rounding keeps their order."""
    with np.errstate(invalid="ignore"):
        off = np.where(np.isfinite(exact), (terms + 2) * np.finfo(np.float32).eps * np.abs(magnitude), 0)
    least, most = (widened(narrowed(exact + sign * off, actual.dtype)) for sign in (-1, 1))
    values = widened(actual)
    agree = ((least <= values) & (values <= most)) | (np.isnan(exact) & np.isnan(values))
    worst = np.argmin(agree) if agree.size else None
    assert worst is None or agree.flat[worst], (
        f"{values.flat[worst]} instead of {exact.flat[worst]}, allowed from {least.flat[worst]} to {most.flat[worst]}"
    )


def memory_of(array: Array) -> Array:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# A run ----------------------------------------------------------------------------------------------------------------


def work(seed: int, numbers: range, done: Any, current: Any, failures: Any) -> None:
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
        numbers = range(job, sys.maxsize if cases is None else cases, jobs)
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
