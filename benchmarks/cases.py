"""What is timed. `BENCHMARKS`: maxima and means, `NETWORK_CASES` of the tests and a few more geometries, each as the
pooling it has in practice. `FAMILY`: the other operations. `CHANNELS_LAST` and `HALF`: maxima and means once more, of
arrays whose channels are last in memory, and of half precision beside float32.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from tests.cases import NETWORK_CASES, Case

# What is done with a case. "into" is a forward into an array that the caller reuses; "recomputing" is the backward of
# max that finds the maxima again instead of being given indices; "training" is a forward and a backward, as a training
# step without saved indices does them.
PASSES = ("forward", "into", "indices", "backward", "recomputing", "training")
FORWARD_PASSES = ("forward", "into", "indices")
INDEXED_PASSES = ("indices", "recomputing")


# Operations whose gradient does not depend on the input.
LINEAR = ("avg_pool", "sum_pool", "adaptive_avg_pool", "global_avg_pool", "max_unpool")
HALVES = ("float16", "bfloat16")


class Timed:
    """A call that is timed, as engines see it. Subclasses say what of."""

    name: str  # of one word, for tables and for selecting
    operation: str  # name of the public functions without the number of pooled axes: 'max_pool'
    shape: tuple[int, ...]  # of the input: (N, C, pooled axes)
    arguments: dict[str, Any]  # after `x`, as a caller would write them
    dtype: str
    channels_last = False  # in memory
    passes: tuple[str, ...]  # what can be done with it

    @property
    def rank(self) -> int:
        """Number of pooled axes."""
        return len(self.shape) - 2

    @property
    def function(self) -> str:
        """Name of the public function: 'max_pool2d'."""
        return self.operation if self.operation.startswith("global_") else f"{self.operation}{self.rank}d"

    @property
    def operands(self) -> dict[str, np.ndarray]:
        """Arrays that are arguments, too."""
        return {}

    @property
    def is_linear(self) -> bool:
        """Whether backward does without the input."""
        return self.operation in LINEAR

    @property
    def quick(self) -> bool:
        """Whether it belongs to the subset that continuous integration runs."""
        return self.name in QUICK

    def is_exact(self, pass_: str) -> bool:
        """Whether the results of all engines must be identical: where elements are chosen, and not computed with."""
        chooses = "max" in self.operation or "min" in self.operation
        return chooses and pass_ in FORWARD_PASSES

    def array(self, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Random numbers of the dtype, the same in every process; in the shape of the input where none is given."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        shape = self.shape if shape is None else shape
        if self.dtype == "bfloat16":
            import ml_dtypes  # noqa: F401 - which gives NumPy this dtype
        if self.dtype.startswith(("int", "uint")):
            return random.integers(0, np.iinfo(self.dtype).max, shape, self.dtype, endpoint=True)
        array = random.random(shape).astype(self.dtype)
        return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1) if self.channels_last else array

    def describe(self) -> str:
        """Shape, dtype and arguments: '8x64x112x112 float32, kernel_size=3, stride=2'."""
        array = f"{'x'.join(map(str, self.shape))} {self.dtype}{' channels-last' if self.channels_last else ''}"
        return ", ".join([array, *(f"{name}={value}" for name, value in self.arguments.items())])

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Benchmark(Timed):
    """Maxima or means, of one geometry and dtype."""

    kind: Literal["max", "avg"]
    geometry: Case
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """The kind and the geometry: 'max-resnet-64x112x112'."""
        name = f"{self.kind}-{self.geometry.name}"
        return name if self.dtype == "float32" else f"{name}-{self.dtype}"

    @property
    def operation(self) -> str:
        """'max_pool' or 'avg_pool'."""
        return f"{self.kind}_pool"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the geometry."""
        return self.geometry.shape

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that differ from their defaults."""
        values = self.geometry.max_arguments if self.kind == "max" else self.geometry.avg_arguments
        return {name: value for name, value in values.items() if value != DEFAULTS[name]}

    @property
    def passes(self) -> tuple[str, ...]:
        """What can be done with it: integers have no gradient, averages no indices and so only one way back."""
        passes = PASSES if np.dtype(self.dtype).kind == "f" else FORWARD_PASSES
        return passes if self.kind == "max" else tuple(each for each in passes if each not in INDEXED_PASSES)


@dataclass(frozen=True)
class FamilyBenchmark(Timed):
    """Any operation, by what its functions take, beside torch."""

    operation: str
    label: str
    shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    channels_last: bool = False

    @property
    def name(self) -> str:
        """Operation, label and what is special: 'adaptive-max-57-to-7', 'avg-resnet-channels-last'."""
        name = f"{self.operation.replace('_pool', '').replace('_', '-')}-{self.label}"
        name = f"{name}-channels-last" if self.channels_last else name
        return name if self.dtype == "float32" else f"{name}-{self.dtype}"

    @property
    def passes(self) -> tuple[str, ...]:
        """Backward is from saved indices where there are some."""
        has_indices = self.operation.endswith(("max_pool", "min_pool"))
        return ("forward", "indices", "backward") if has_indices else ("forward", "backward")

    @cached_property
    def operands(self) -> dict[str, np.ndarray]:
        """Places for what is unpooled, one in each window, and samples for windows that are drawn."""
        random = np.random.default_rng(0)
        if self.operation == "fractional_max_pool":
            return {"_random_samples": random.random((*self.shape[:2], self.rank), np.float32)}
        if self.operation == "max_unpool":
            size = self.arguments["kernel_size"]
            corners = np.indices(self.shape[2:], sparse=True)
            axes = [size * corner + random.integers(0, size, self.shape) for corner in corners]
            return {"indices": np.ravel_multi_index(axes, [size * length for length in self.shape[2:]])}
        return {}


DEFAULTS = {field.name: field.default for field in fields(Case) if field.default is not MISSING} | {"kernel_size": None}

# Networks that average where others take the maximum.
AVERAGING = ("densenet", "global", "text-cnn")

SMALL = Case("small-1x6x6", (1, 1, 6, 6), 2)
INCEPTION = next(case for case in NETWORK_CASES if case.name.startswith("inception-branch"))
RESNET = next(case for case in NETWORK_CASES if case.name.startswith("resnet"))
VGG = NETWORK_CASES[0]

BENCHMARKS = (
    Benchmark("max", SMALL),
    Benchmark("avg", SMALL),
    *(Benchmark("avg" if case.name.startswith(AVERAGING) else "max", case) for case in NETWORK_CASES),
    Benchmark("avg", INCEPTION),
    Benchmark("max", Case("resnet-single", (1, *RESNET.shape[1:]), 3, 2, 1)),
    Benchmark("max", Case("dilated-64x60x60", (4, 64, 60, 60), 5, 1, 2, 2)),
    Benchmark("max", Case("megapixel-31", (1, 1, 1024, 1024), 31, 1, 15)),
    Benchmark("avg", Case("megapixel-25", (1, 1, 1024, 1024), 25, 1, 12)),
    Benchmark("avg", Case("photograph", (1, 3, 4096, 4096), 2)),
    Benchmark("max", Case("signal-4", (16, 64, 16384), 4)),
    Benchmark("avg", Case("signal-100", (16, 16, 16384), 100)),
    Benchmark("max", RESNET, "float64"),
    Benchmark("max", VGG, "uint8"),
)


def _family() -> Iterator[FamilyBenchmark]:
    adaptive: tuple[tuple[str, tuple[int, ...], Any], ...] = (
        ("14-to-7", (8, 512, 14, 14), 7),
        ("56-to-7", (8, 256, 56, 56), 7),
        ("57-to-7", (8, 256, 57, 57), 7),
        ("13-to-6", (8, 256, 13, 13), 6),
        ("7-to-1", (8, 2048, 7, 7), 1),
        ("7-to-10", (8, 512, 7, 7), 10),  # more bins than elements
        ("signal-1000-to-128", (16, 128, 1000), 128),
        ("video-to-4x7x7", (1, 192, 16, 28, 28), (4, 7, 7)),
    )
    for operation in ("adaptive_max_pool", "adaptive_avg_pool"):
        for label, shape, size in adaptive:
            yield FamilyBenchmark(operation, label, shape, {"output_size": size})

    for power in (2, 3, 2.5):
        norm = {"norm_type": power, "kernel_size": 2}
        yield FamilyBenchmark("lp_pool", f"{power}-resnet", RESNET.shape, norm | {"kernel_size": 3, "stride": 2})
        yield FamilyBenchmark("lp_pool", f"{power}-inception", INCEPTION.shape, norm | {"kernel_size": 3, "stride": 1})
        yield FamilyBenchmark("lp_pool", f"{power}-vgg", (8, 128, 112, 112), norm)
        yield FamilyBenchmark("lp_pool", f"{power}-signal", (16, 64, 16384), norm | {"kernel_size": 4})

    # A part of 1 / sqrt(2) an axis, as in Graham's paper.
    for label, shape, out in (
        ("112-to-79", (8, 64, 112, 112), 79),
        ("25-to-17", (8, 160, 25, 25), 17),
        ("video-to-11x39x39", (1, 32, 16, 56, 56), (11, 39, 39)),
    ):
        yield FamilyBenchmark("fractional_max_pool", label, shape, {"kernel_size": 2, "output_size": out})

    for label, shape in (
        ("segnet-112", (8, 64, 112, 112)),
        ("segnet-14", (8, 512, 14, 14)),
        ("signal", (16, 64, 4096)),
        ("video", (1, 64, 8, 28, 28)),
    ):
        yield FamilyBenchmark("max_unpool", label, shape, {"kernel_size": 2})

    for operation in ("min_pool", "sum_pool"):
        for label, shape, arguments in WINDOWS:
            yield FamilyBenchmark(operation, label, shape, arguments)

    for operation in ("global_max_pool", "global_avg_pool", "global_lp_pool"):
        for shape in ((8, 2048, 7, 7), (8, 512, 28, 28), (8, 64, 112, 112), (1, 192, 16, 28, 28)):
            yield FamilyBenchmark(operation, "x".join(map(str, shape[1:])), shape)


# Windows of networks, and the two of `limits` on arrays of 128 MiB, past every cache.
PAST_CACHE = (8, 64, 256, 256)
WINDOWS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("large-2x2", PAST_CACHE, {"kernel_size": 2}),
    ("large-3x3", PAST_CACHE, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("vgg", (8, 128, 112, 112), {"kernel_size": 2}),
    ("resnet", RESNET.shape, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("inception", INCEPTION.shape, {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("spp-13", (8, 256, 20, 20), {"kernel_size": 13, "stride": 1, "padding": 6}),
    ("c3d", (1, 128, 16, 56, 56), {"kernel_size": 2}),
)
FAMILY = tuple(_family())
CHANNELS_LAST = tuple(
    FamilyBenchmark(operation, label, shape, arguments, channels_last=True)
    for operation in ("max_pool", "avg_pool")
    for label, shape, arguments in WINDOWS
)
HALF = tuple(
    FamilyBenchmark(operation, label, shape, arguments, dtype)
    for operation in ("max_pool", "avg_pool")
    for label, shape, arguments in WINDOWS
    for dtype in ("float32", *HALVES)
)
ALL = BENCHMARKS + FAMILY + CHANNELS_LAST + HALF

# The subset that continuous integration runs: every kernel once, on inputs of a few MiB.
QUICK = {
    "max-small-1x6x6",
    "avg-small-1x6x6",
    "max-vgg-512x14x14",
    "max-resnet-single",
    "max-googlenet-480x28x28",
    "max-inception-branch-512x14x14",
    "max-spp-13-256x20x20",
    "avg-inception-branch-192x28x28",
    "avg-densenet-transition-512x28x28",
    "avg-global-512x7x7",
    "max-c3d-128x16x56x56",
    "max-m5-audio-128x1997",
    "adaptive-max-57-to-7",
    "adaptive-avg-57-to-7",
    "lp-2-resnet",
    "fractional-max-25-to-17",
    "max-unpool-segnet-14",
    "min-resnet",
    "sum-resnet",
    "global-max-512x28x28",
    "global-avg-512x28x28",
    "global-lp-512x28x28",
    "max-resnet-channels-last",
    "avg-resnet-channels-last",
    "max-resnet",
    "max-resnet-float16",
    "max-resnet-bfloat16",
    "avg-resnet",
    "avg-resnet-float16",
    "avg-resnet-bfloat16",
}
if unknown := QUICK - {benchmark.name for benchmark in ALL}:
    raise LookupError(f"QUICK names no benchmark by {sorted(unknown)}")
