"""numbapool on torch tensors, beside torch in one process: both libraries' threads alive, no variable set."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.cases import BENCHMARKS, SMALL, Benchmark
from benchmarks.machine import cores, describe
from benchmarks.report import duration, record, table, write_option
from benchmarks.timing import in_turn

Call = Callable[[], object]

EXPLANATION = """\
The same calls on the same tensors by numbapool and by torch.nn.functional in one process, in turn; medians. By
`python -m benchmarks tensors --write`."""


@click.command()
@click.option("-k", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--rounds", default=5, help="Turns of each call.")
@click.option("--seconds", default=0.1, help="Length of a turn.")
@click.option("--alternate", default=60.0, help="Seconds of alternating calls of torch and numbapool.")
@write_option
def tensors(pattern: str, rounds: int, seconds: float, alternate: float, folder: Path | None) -> None:
    """Compare with torch on its own tensors: pools, small calls, parts of networks, alternating calls."""
    import torch

    torch.set_num_threads(cores())
    console, ready = Console(), (rounds, seconds)
    cases = [case for case in BENCHMARKS if pattern in case.name and np.dtype(case.dtype).kind == "f"]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("pools", total=len(cases))
        pools = []
        for case in cases:
            progress.update(task, description=case.name)
            pools.append(
                {"case": case.name, "description": case.describe(), "seconds": in_turn(pool_calls(case), ready)}
            )
            progress.advance(task)
        progress.add_task("networks", total=None)
        networks = [{"part": name, "seconds": in_turn(calls, ready)} for name, calls in network_calls().items()]
        progress.add_task("alternating", total=None)
        alternating = alternation(alternate)
    tables = [pool_table(pools), network_table(networks), alternation_table(alternating)]
    for each in tables:
        console.print(each)
    if folder is not None:
        results = {"machine": describe("numpy", "numba", "torch"), "pools": pools, "networks": networks}
        record(folder, "tensors", EXPLANATION, tables, results | {"alternating": alternating})


def pool_calls(case: Benchmark) -> dict[str, Call]:
    """Forward, and forward with backward, by both libraries; checked to agree."""
    import torch

    import numbapool

    name = f"{case.kind}_pool{case.geometry.rank}d"
    calls: dict[str, Call] = {}
    results: dict[str, list[Any]] = {}
    for library, place in (("numbapool", numbapool), ("torch", torch.nn.functional)):
        pool = partial(getattr(place, name), **case.arguments)
        x = torch.from_numpy(case.array())
        leaf = x.clone().requires_grad_()
        gradient = torch.from_numpy(case.array(tuple(pool(x).shape)))

        def train(pool: Any = pool, leaf: Any = leaf, gradient: Any = gradient) -> Any:
            return torch.autograd.grad(pool(leaf), leaf, gradient)[0]

        calls[f"{library} forward"] = partial(pool, x)
        calls[f"{library} graph"] = partial(pool, leaf)
        calls[f"{library} training"] = train
        results[library] = [pool(x), train()]
    for ours, theirs in zip(results["numbapool"], results["torch"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    return calls


def network_calls() -> dict[str, dict[str, Call]]:
    """Forward and backward of parts of networks, with torch's modules and with ours in place of them."""
    import torch
    from torch import nn

    import numbapool.nn

    class Pyramid(nn.Module):
        """YOLO's spatial pyramid pooling."""

        def __init__(self) -> None:
            super().__init__()
            self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))
            self.mix = nn.Conv2d(4 * 256, 256, 1)

        def forward(self, x: Any) -> Any:
            """Concatenate the input and its pools."""
            return self.mix(torch.cat([x, *(pool(x) for pool in self.pools)], 1))

    def stem() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )

    parts: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "ResNet stem, 8x3x224x224": (stem, (8, 3, 224, 224)),
        "SPP block, 8x256x20x20": (Pyramid, (8, 256, 20, 20)),
    }
    found: dict[str, dict[str, Call]] = {}
    for name, (make, shape) in parts.items():
        calls: dict[str, Call] = {}
        for library in ("torch", "numbapool"):
            torch.manual_seed(0)
            model, x = make(), torch.rand(shape)
            if library == "numbapool":
                numbapool.nn.replace_pooling(model)

            def infer(model: Any = model, x: Any = x) -> None:
                with torch.no_grad():
                    model(x)

            def train(model: Any = model, x: Any = x) -> None:
                model.zero_grad(set_to_none=True)
                model(x).sum().backward()

            calls |= {f"{library} forward": infer, f"{library} training": train}
        found[name] = calls
    return found


def alternation(seconds: float) -> dict[str, dict[str, float]]:
    """Median seconds of a call of torch and of numbapool: in turn with each other, and each with a pass of NumPy."""
    import torch

    import numbapool

    x = torch.rand(8, 64, 112, 112)
    array, out, pooled, target = (
        x.numpy(),
        np.empty(x.shape, np.float32),
        torch.empty(8, 64, 56, 56),
        torch.empty_like(x),
    )
    calls: dict[str, Call] = {
        "torch": lambda: torch.mul(x, 2.0, out=target),
        "numbapool": lambda: numbapool.max_pool2d(x, 3, 2, 1, out=pooled),
        "NumPy": lambda: np.multiply(array, np.float32(2), out=out),
    }
    pairs = (("torch", "numbapool"), ("torch", "NumPy"), ("numbapool", "NumPy"))
    times: dict[tuple[str, str], dict[str, list[float]]] = {pair: {name: [] for name in pair} for pair in pairs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for pair in pairs:
            for _ in range(50):
                for name in pair:
                    start = time.perf_counter()
                    calls[name]()
                    times[pair][name].append(time.perf_counter() - start)
    return {" and ".join(pair): {name: median(each) for name, each in found.items()} for pair, found in times.items()}


def pool_table(pools: list[dict[str, Any]]) -> Table:
    """Times of each pool."""
    columns = ("case", "forward", "torch takes", "with graph", "torch takes", "forward and backward", "torch takes")
    result = table("Pools on torch tensors", columns)
    ratios: dict[str, list[float]] = {"forward": [], "graph": [], "training": []}
    for row in pools:
        cells = [row["case"]]
        for what, found in ratios.items():
            ours, theirs = row["seconds"][f"numbapool {what}"], row["seconds"][f"torch {what}"]
            if row["case"].partition("-")[2] != SMALL.name:
                found.append(theirs / ours)
            cells += [duration(ours), f"{theirs / ours:.2f}x"]
        result.add_row(*cells)
    means = [each for found in ratios.values() for each in ("", f"{geometric_mean(found):.2f}x" if found else "")]
    result.add_row(f"geometric mean without {SMALL.name}", *means)
    return result


def network_table(networks: list[dict[str, Any]]) -> Table:
    """Times of parts of networks."""
    columns = ("part", "forward", "with torch.nn", "forward and backward", "with torch.nn")
    result = table("Parts of networks with numbapool.nn", columns)
    for row in networks:
        cells = [
            duration(row["seconds"][f"{library} {what}"])
            for what in ("forward", "training")
            for library in ("numbapool", "torch")
        ]
        result.add_row(row["part"], *cells)
    return result


def alternation_table(alternating: dict[str, dict[str, float]]) -> Table:
    """Times in alternation, over those with NumPy as neighbour."""
    result = table("Alternating calls on 8x64x112x112", ("call", "beside NumPy", "beside the other", "ratio"))
    for name in ("torch", "numbapool"):
        alone, beside = alternating[f"{name} and NumPy"][name], alternating["torch and numbapool"][name]
        result.add_row(name, duration(alone), duration(beside), f"{beside / alone:.2f}")
    return result
