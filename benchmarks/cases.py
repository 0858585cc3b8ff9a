"""What is timed: `NETWORK_CASES` of the tests and a few more geometries, each as the pooling it has in practice."""

from __future__ import annotations

import zlib
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import numpy as np

from tests.cases import NETWORK_CASES, Case

# What is done with a case. "into" is a forward into an array that the caller reuses; "recomputing" is the backward of
# max that finds the maxima again instead of being given indices; "training" is a forward and a backward, as a training
# step without saved indices does them.
PASSES = ("forward", "into", "indices", "backward", "recomputing", "training")
FORWARD_PASSES = ("forward", "into", "indices")
INDEXED_PASSES = ("indices", "recomputing")


@dataclass(frozen=True)
class Benchmark:
    """One kind of pooling of one geometry and dtype."""

    kind: Literal["max", "avg"]
    geometry: Case
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Name of one word, for tables and for selecting: 'max-resnet-64x112x112'."""
        name = f"{self.kind}-{self.geometry.name}"
        return name if self.dtype == "float32" else f"{name}-{self.dtype}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments after `x`, as a caller would write them: only those that differ from their defaults."""
        values = self.geometry.max_arguments if self.kind == "max" else self.geometry.avg_arguments
        return {name: value for name, value in values.items() if value != DEFAULTS[name]}

    @property
    def passes(self) -> tuple[str, ...]:
        """What can be done with it: integers have no gradient, averages no indices and so only one way back."""
        passes = PASSES if np.dtype(self.dtype).kind == "f" else FORWARD_PASSES
        return passes if self.kind == "max" else tuple(each for each in passes if each not in INDEXED_PASSES)

    def array(self, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Random numbers of the dtype, the same in every process; in the shape of the input where none is given."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        shape = self.geometry.shape if shape is None else shape
        if np.dtype(self.dtype).kind == "f":
            return random.random(shape).astype(self.dtype)
        return random.integers(0, np.iinfo(self.dtype).max, shape, self.dtype, endpoint=True)

    @property
    def quick(self) -> bool:
        """Whether it belongs to the subset that continuous integration runs."""
        return self.name in QUICK

    def describe(self) -> str:
        """Shape, dtype and arguments: '8x64x112x112 float32, kernel_size=3, stride=2'."""
        shape = "x".join(map(str, self.geometry.shape))
        return ", ".join([f"{shape} {self.dtype}", *(f"{name}={value}" for name, value in self.arguments.items())])

    def __str__(self) -> str:
        return self.name


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
}
if unknown := QUICK - {benchmark.name for benchmark in BENCHMARKS}:
    raise LookupError(f"QUICK names no benchmark by {sorted(unknown)}")
