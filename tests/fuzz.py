"""Random calls against `numbapool.reference` and torch: `python tests/fuzz.py --seconds 60 --seed 1`.

Each case is drawn from the seed and its own number: an operation, good or bad arguments, the memory layout of every
array, and a number of threads. Its result must be the reference's, and torch's too where torch is installed and has the
same rule; where an argument is bad, it must be an error that names it. An operation joins with one entry in `OPERATIONS`.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.progress import Progress, TextColumn

import numbapool
from numbapool import reference
from tests.checks import FLOATS, INTEGERS, Array, assert_same, assert_sums

SUMMABLE = (*FLOATS, *INTEGERS)
ORDERED = (*SUMMABLE, "bool")
ANY_RANK = {1: 3, 2: 5, 3: 2, 4: 1}

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
    """Lengths of the pooled axes, the parameters in full (one entry an axis, pairs for padding), and what follows."""

    lengths: tuple[int, ...]
    parameters: dict[str, Any]
    out: tuple[int, ...] | None  # lengths of the output; None where not one window fits
    taps: int  # of all windows of a plane, about
    terms: int = 0  # of a sum, forward or backward, at most; see `checks.assert_sums`
    is_full: bool = True  # no window is without input
    has_gaps: bool = False  # some element is in no window


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
    fixed: dict[str, Any] = field(default_factory=dict)
    sums: str = ""  # the array of which results are sums; those of floats compare within rounding
    values: Callable[[random.Random, Array, Geometry], Array] | None = None  # a change to the drawn x
    bad: Mapping[str, Drawer] = field(default_factory=dict)  # of parameters
    ranks: Mapping[int, int] = field(default_factory=lambda: {1: 3, 2: 5, 3: 2})  # with their weights

    @property
    def is_global(self) -> bool:
        return self.function.startswith("global")

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
    arrays: dict[str, Any] = field(default_factory=dict)  # as they are passed
    distinct: dict[str, Array] = field(default_factory=dict)  # their different planes, for the reference
    stretch: Callable[[Array], Array] = np.asarray  # from those to all planes
    out: Any = None
    error: Error | None = None
    threads: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        function = self.operation.function
        return function if self.operation.is_global else function.replace("pool", f"pool{self.rank}d")

    def run(self) -> Any:
        first = [self.arrays[name] for name in ("grad_output", "x") if name in self.arrays]
        others = {name: self.arrays[name] for name in self.arrays if name not in ("grad_output", "x")}
        arguments = {**self.spelled, **others, **self.operation.fixed, "out": self.out}
        return getattr(numbapool, self.name)(*first, **arguments)

    def expected(self, **changes: Any) -> tuple[Array, ...]:
        """What the reference gives; with `changes` to its arguments."""
        arguments = {**self.distinct, **self.geometry.parameters, "rank": self.rank, **changes}
        return tuple(map(self.stretch, self.operation.definition(**arguments)))

    def torchs(self) -> tuple[Array, ...] | None:
        """What torch gives, if it has the same rule: gradients are those of its autograd."""
        torch = torch_module()
        function = self.operation.theirs and torch and self.operation.theirs(torch, self)
        if not function or not self.distinct["x"].size:
            return None
        tensors = {name: torch.tensor(array[:, None]) for name, array in self.distinct.items()}
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
        return tuple(self.stretch(each[:, 0].numpy()) for each in results)

    @property
    def has_sums(self) -> bool:
        """Whether results are sums; the norm of power infinity is an element."""
        is_largest = self.geometry.parameters.get("norm_type") == math.inf and not self.operation.is_backward
        return bool(self.operation.sums) and not is_largest

    def magnitude(self) -> Array:
        """The expected sums with the magnitude of every term."""
        summed = self.operation.sums
        changes = {summed: np.abs(self.distinct[summed])}
        divisor = self.geometry.parameters.get("divisor_override")
        if divisor is not None:
            changes["divisor_override"] = abs(divisor)
        return np.abs(self.expected(**changes)[0])

    def __str__(self) -> str:
        texts = {key: array_text(value) for key, value in self.arrays.items()}
        texts |= {key: repr(value) for key, value in {**self.spelled, **self.operation.fixed}.items()}
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
    return with_power(rng, geometry)


def with_power(rng: random.Random, geometry: Geometry) -> Geometry:
    """The power of a norm, and what it does to rounding.

    A sum of n powers is off by n + c rounding errors in the worst case, its root by 1 / p times as many and c more: c is
    what pow itself adds, and the rounding of an exponent times the logarithm of the result, which `norm_values` keeps
    below 50. Gradients add up n products of two such results.
    """
    power = geometry.parameters["norm_type"] = rng.choice((0.3, 0.5, 1, 1, 1.5, 2, 2, 2.0, 2.5, 3, 4, 7, math.inf))
    own = 55
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
    """The parameters as a caller may write them: ints for equal axes, lists, NumPy integers, defaults left out."""
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


def bad_flag(name: str) -> Drawer:
    def draw(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
        return rng.choice((0, 1, None, "True", 1.0, (), [True])), Error(TypeError, name), {}

    return draw


def bad_divisor(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.5:
        return rng.choice((True, 1.0, "3", (2,), [2], np.float32(2))), Error(TypeError, "divisor_override"), {}
    return rng.choice((0, np.int64(0), 2**63, 2**64, -(10**30))), Error(ValueError, "divisor_override"), {}


def bad_power(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.5:
        return rng.choice((True, "2", None, [2], 2j, np.True_)), Error(TypeError, "norm_type"), {}
    return rng.choice((0, 0.0, -1, -0.5, -math.inf, math.nan)), Error(ValueError, "norm_type"), {}


def bad_unpooled_size(rng: random.Random, rank: int) -> tuple[Any, Error, dict[str, Any]]:
    if rng.random() < 0.3:
        entry = rng.choice((True, 2.0, "2", None))
        return [entry] * rank, Error(TypeError, "output_size"), {}
    wrong = ([4] * (rank + 1), [4] * (rank + 3), (), 4, [10**6] * rank, [2**63] * rank, [-(2**40)] * (rank + 2))
    return rng.choice(wrong), Error(ValueError, "output_size"), {}


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
    "divisor_override": bad_divisor,
}
BAD_NORMS = {**BAD_WINDOWS, "norm_type": bad_power, "true_norm": bad_flag("true_norm")}
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


def norm_values(rng: random.Random, x: Array, geometry: Geometry) -> Array:
    """Magnitudes whose powers stay in range, and sums of powers without cancellation.

    A root of a sum of both signs has no bound on its error near zero, and an odd power is what makes one; the roots of
    negative numbers are NaN, but C's pow says inf for minus infinity where sqrt says NaN. Where torch multiplies 0 with
    what is not finite we say 0 and it NaN: the gradients of elements in no window, of infinity, and of powers below 1 at 0.
    """
    power = geometry.parameters["norm_type"]
    magnitudes = np.where(np.isfinite(x) & (x != 0), np.clip(np.abs(x), 1e-3, 1e3), np.abs(x)).astype(x.dtype)
    if power < 1:
        magnitudes[magnitudes == 0] = 1
    magnitudes[np.isinf(magnitudes) & (power > 1)] = 2
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


def channels_last(rng: random.Random, array: Array) -> Array:
    """The channel axis steps least, the rest as it was; the last pooled axis may have a gap."""
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
    if isinstance(padding, str) or any(b != a or 2 * b > k for (b, a), k in zip(padding, kernels, strict=True)):
        return None
    if max(*kernels, *(parameters["stride"] or kernels), *parameters["dilation"]) > 2**20:
        return None
    parameters["padding"] = tuple(before for before, _ in padding)
    return parameters


def torch_max(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    """Not where a window without input makes torch return an index outside the plane."""
    window = torch_window(call)
    signed = ("uint8", "int8", "int16", "int32", "int64")
    if window is None or not call.geometry.is_full or call.distinct["x"].dtype.name not in (*FLOATS, *signed):
        return None
    function = getattr(torch.nn.functional, f"max_pool{call.rank}d")
    return lambda x: function(x, **window, return_indices=True)


def torch_min(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    function = torch_max(torch, call) if call.distinct["x"].dtype.kind == "f" else None

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
    kind = call.distinct["x"].dtype
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
    x, parameters = call.distinct["x"], dict(call.geometry.parameters)
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
    if 0 in out or call.distinct["x"].dtype.kind != "f":
        return None
    more = {"return_indices": True} if "max" in name else {}
    return lambda x: getattr(torch.nn.functional, name)(x, out, **more)


def torch_fractional(torch: Any, call: Call) -> Callable[..., Any] | None:
    """Where samples and input have one dtype."""
    if call.distinct["x"].dtype != call.distinct["_random_samples"].dtype:
        return None
    function = getattr(torch.nn.functional, f"fractional_max_pool{call.rank}d")
    return lambda x, **samples: function(x, **call.geometry.parameters, return_indices=True, **samples)


def torch_unpool(torch: Any, call: Call) -> Callable[..., Any] | None:
    if call.distinct["x"].dtype.kind != "f":
        return None
    function = getattr(torch.nn.functional, f"max_unpool{call.rank}d")
    arguments = {**call.geometry.parameters, "output_size": list(call.geometry.out)}
    return lambda x, indices: function(x, indices, **arguments)


def torch_global_max(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    if call.distinct["x"].dtype.kind != "f":
        return None

    def largest(x: Any) -> Any:
        results = torch.nn.functional.adaptive_max_pool1d(x.flatten(2), 1, return_indices=True)
        return tuple(each.reshape(-1, 1, *call.geometry.out) for each in results)

    return largest


def torch_global_mean(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    axes = tuple(range(2, call.rank + 2))
    return (lambda x: x.mean(axes, keepdim=True)) if call.distinct["x"].dtype.kind == "f" else None


def torch_global_norm(torch: Any, call: Call) -> Callable[[Any], Any] | None:
    """Not its gradients of the largest of several, which all get it, of NaN, whose sign is 0, and of 0 times infinity."""
    power, axes = call.geometry.parameters["norm_type"], tuple(range(2, call.rank + 2))
    special = np.isnan(call.distinct["x"]).any() or not np.isfinite(call.distinct.get("grad_output", 0)).all()
    if call.operation.is_backward and (power == math.inf or special):
        return None
    return lambda x: torch.linalg.vector_norm(x, power, axes, keepdim=True)


# Operations -----------------------------------------------------------------------------------------------------------


def finding(
    function: str,
    geometry: Callable[[random.Random, int], Geometry],
    definition: Callable[..., tuple[Array, Array]],
    others: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Operation]:
    """The entries of an operation that takes elements, `definition` giving them and their indices."""

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
        back: Operation(back, FLOATS, geometry, scattered, others=grads, sums="grad_output", **more),
        f"{back} with indices": Operation(
            back, FLOATS, geometry, scattered, others=("grad_output", "indices"), sums="grad_output", **given
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
    return {
        function: Operation(function, dtypes, geometry, lambda **a: (definition(**a),), sums="x", **more),
        back: Operation(
            back, FLOATS, geometry, lambda **a: (backward(**a),), others=("grad_output",), sums="grad_output", **more
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


def places(rng: random.Random, x: Array, rank: int, **parameters: Any) -> Array:
    """Anywhere in the unpooled plane, or many in few places."""
    size = math.prod(unpooled(x.shape[-rank:], **parameters))
    first = rng.randrange(size)
    return np.random.default_rng(rng.getrandbits(32)).integers(*rng.choice(((0, size), (first, size))), x.shape)


def whole(x: Array, rank: int) -> tuple[Array, Array]:
    return reference.max_pool(x, x.shape[-rank:])


OPERATIONS = {
    **finding("max_pool", window_geometry, reference.max_pool, theirs=torch_max, bad=BAD_WINDOWS),
    **finding("min_pool", window_geometry, reference.min_pool, theirs=torch_min, bad=BAD_WINDOWS),
    **adding(
        "sum_pool",
        ORDERED,
        window_geometry,
        reference.sum_pool,
        reference.sum_pool_backward,
        theirs=torch_sum,
        bad=BAD_WINDOWS,
    ),
    **adding(
        "avg_pool",
        SUMMABLE,
        average_geometry,
        reference.avg_pool,
        reference.avg_pool_backward,
        theirs=torch_mean,
        bad=BAD_AVERAGES,
    ),
    **adding(
        "lp_pool",
        FLOATS,
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
        SUMMABLE,
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
        bad=BAD_UNPOOLING,
    ),
    "max_unpool_backward": Operation(
        "max_unpool_backward",
        FLOATS,
        unpool_geometry,
        unpool_backward,
        theirs=torch_unpool,
        others=("grad_output", "indices"),
        indices=places,
        bad=BAD_UNPOOLING,
    ),
    **finding("global_max_pool", global_geometry, whole, theirs=torch_global_max, ranks=ANY_RANK),
    **adding(
        "global_avg_pool",
        SUMMABLE,
        global_geometry,
        lambda x, rank, **more: reference.adaptive_avg_pool(x, 1, rank=rank, **more),
        lambda grad_output, x, rank: reference.adaptive_avg_pool_backward(grad_output, x, 1, rank=rank),
        theirs=torch_global_mean,
        ranks=ANY_RANK,
    ),
    **adding(
        "global_lp_pool",
        FLOATS,
        global_norm_geometry,
        lambda x, norm_type, rank: reference.lp_pool(x, norm_type, x.shape[-rank:], true_norm=True),
        lambda grad_output, x, norm_type, rank: reference.lp_pool_backward(
            grad_output, x, norm_type, x.shape[-rank:], true_norm=True
        ),
        theirs=torch_global_norm,
        bad={"norm_type": bad_power},
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


# A case ---------------------------------------------------------------------------------------------------------------


def draw(seed: int, number: int, most_threads: int) -> Call:
    """Case `number` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    name = rng.choice(list(OPERATIONS))
    operation = OPERATIONS[name]
    rank = rng.choices(list(operation.ranks), list(operation.ranks.values()))[0]
    geometry = operation.geometry(rng, rank)
    lengths, parameters = geometry.lengths, geometry.parameters
    out_lengths = lengths if geometry.out is None else geometry.out
    dtype = np.dtype(rng.choice(operation.dtypes))
    call = Call(operation, rank, geometry, spell(rng, parameters), threads=rng.randint(1, most_threads))
    call.notes += [name, dtype.name]

    # Large inputs repeat a few planes, so that the reference need not compute more.
    is_large = rng.random() < 0.01
    planes = (
        math.ceil(LARGE / math.prod(lengths)) if is_large else rng.randint(1, max(1, BUDGET // max(geometry.taps, 1)))
    )
    channels = rng.choice([n for n in range(1, min(planes, 12) + 1) if planes % n == 0])
    is_unbatched = not operation.is_global and rng.random() < 0.3
    leading = (planes,) if is_unbatched else (planes // channels, channels)
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

    count = min(3, planes) if is_large else planes
    x = values_of(rng, (count, *lengths), dtype, sums=operation.sums == "x")
    add_array("x", x if operation.values is None else operation.values(rng, x, geometry), LAYOUTS)
    if "grad_output" in operation.others:
        add_array("grad_output", values_of(rng, (count, *out_lengths), dtype, sums=True), LAYOUTS)
    if "_random_samples" in operation.others:
        add_array("_random_samples", samples_of(rng, count, rank), LAYOUTS)
        if is_unbatched:
            call.arrays["_random_samples"] = call.arrays["_random_samples"][None]
    if geometry.out is None:
        call.error = Error(ValueError, "Output size is too small")
    if operation.indices is not None:
        indices = np.zeros((count, *(lengths if operation.is_unpooling else out_lengths)), np.int64)
        if call.error is None:
            indices = operation.indices(rng, x=call.distinct["x"], rank=rank, **parameters)
        if not operation.is_unpooling:
            generator = np.random.default_rng(rng.getrandbits(32))
            indices = np.where(generator.random(indices.shape) < rng.choice((0, 0, 0.3)), -1, indices)  # no gradient
        add_array("indices", indices, [each for each in LAYOUTS if each not in CHANGE_VALUES])
    if call.error is None:
        x_shape, out_shape = leading + lengths, leading + out_lengths
        result_dtype = np.zeros(1, dtype).sum().dtype if operation.function == "sum_pool" else dtype
        results = [np.zeros(x_shape if operation.is_backward else out_shape, result_dtype)]
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
    bad = call.operation.bad
    names = [*call.arrays, *[name for name in call.geometry.parameters if name in bad], "out"]
    name = rng.choice(names)
    call.notes.append(f"bad {name}")
    if name in bad:
        value, call.error, others = bad[name](rng, call.rank)
        call.spelled |= {**others, name: value}
    elif name == "out":
        call.out, call.error = bad_out(rng, results)
    else:
        call.arrays[name], call.error = bad_array(rng, name, call.arrays[name], call)


def bad_array(rng: random.Random, name: str, array: Array, call: Call) -> tuple[Any, Error]:
    kind = rng.choice(("library", "dtype", "shape", "value"))
    if kind == "value" and name == "indices" and array.size:
        bad = plain(array)
        is_unpooling = call.operation.is_unpooling
        size = math.prod(call.geometry.out if is_unpooling else call.geometry.lengths)
        wrong = (-2, size, size + 1, 2**31, 2**32 - 1, 2**62, -(2**63), *([-1] if is_unpooling else []))
        bad.flat[rng.randrange(bad.size)] = rng.choice(wrong)
        return bad, Error(ValueError, "indices")
    if kind == "value" and name == "_random_samples" and array.size:
        bad = plain(array)
        bad.flat[rng.randrange(bad.size)] = rng.choice((1, 1.5, -0.1, 2.0**40, math.nan, math.inf, -math.inf))
        return bad, Error(ValueError, name)
    if kind == "library":
        others = [array.tolist(), None, 3.0, "x", np.ma.masked_array(array), memoryview(plain(array))]
        if name in ("indices", "_random_samples"):
            others.remove(None)
        return rng.choice(others), Error(TypeError, name)
    if kind == "shape":
        shapes = [(1, *array.shape, 1), array.shape[-1:], ()]
        if name != "x":
            shapes += [(*array.shape[:-1], array.shape[-1] + 1), array.shape + (1,), array.shape[1:]]
        else:
            shapes += [(*array.shape[:-1], 0), (*array.shape[: -call.rank - 1], 0, *array.shape[-call.rank :])]
        shapes = [shape for shape in shapes if shape != array.shape and not (name == "x" and is_good(shape, call))]
        return np.zeros(rng.choice(shapes), plain(array).dtype), Error(ValueError, name)
    function = call.operation.function
    # Dtypes that are not drawn, but accepted.
    undrawn = ("float16", "complex64") if "avg" in function or "sum" in function else ("float16",)
    known = {"x": (*call.operation.dtypes, *undrawn), "indices": ("int64",), "_random_samples": FLOATS}
    accepted = known.get(name, (array.dtype.newbyteorder("=").name,))
    kinds: list[Any] = ["complex64", "object", "M8[s]", "m8[s]", "U3", "S2", "V4", "float16", "longdouble"]
    kinds += ["bool", "int32", "uint64", "float32", "float64", [("a", "f4")]]
    refused = [each for each in kinds if np.dtype(each).name not in accepted]
    return np.zeros(array.shape, rng.choice(refused)), Error(TypeError, name)


def is_good(shape: tuple[int, ...], call: Call) -> bool:
    """Whether the operation takes an x of this shape."""
    if "adaptive" in call.operation.function:  # which takes no channels at all, too
        return call.rank < len(shape) < call.rank + 3 and 0 not in shape[-call.rank :]
    is_ranked = len(shape) > 2 if call.operation.is_global else call.rank < len(shape) < call.rank + 3
    return is_ranked and 0 not in shape


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
    magnitude = cache(call.magnitude)  # the same for both judges
    try:
        for judged in filter(None, (call.expected(), call.torchs())):
            for result, expected in zip(results, judged, strict=True):
                if call.has_sums and expected.dtype.kind == "f" and not np.array_equal(result, expected):
                    assert_sums(result, expected, magnitude(), call.geometry.terms)
                else:
                    assert_same(result, expected)
        for result, out in zip(results, outs if call.out is not None else results, strict=True):
            assert result is out, "out is not what is returned"
            orders = result, np.moveaxis(result, -1 - call.rank, -1), np.moveaxis(result, -1, -1 - call.rank)
            is_dense = any(each.flags.c_contiguous for each in orders)  # with the channels first, or last
            assert call.out is not None or is_dense, "result is not contiguous"
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
