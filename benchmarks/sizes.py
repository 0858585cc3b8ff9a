"""Time against the size of the array, from 1 KiB to 1 GiB, beside torch, on one thread and on all."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any, Literal

import click
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Benchmark
from benchmarks.engines import present
from benchmarks.machine import binary, cores, describe
from benchmarks.peers import disturbance, measure, times
from benchmarks.plots import plot_sizes
from benchmarks.report import duration, record, table, write_option
from tests.cases import Case

SMALLEST, LARGEST, FACTOR = 1 << 10, 1 << 30, 4
# Square images of so many channels, which torch shares out among its threads: from 4x4 to 4096x4096.
CHANNELS = 16
# The array as random doubles and as float32, and its copies by two engines with the results of both.
MEMORY = 8
KINDS: tuple[Literal["max", "avg"], ...] = ("max", "avg")
WINDOWS = (Case("2x2/2", (), 2), Case("3x3/2", (), 3, 2, 1))

EXPLANATION = f"""\
Forward of square images of {CHANNELS} channels, float32, from 4x4 to 4096x4096; 3x3 windows have a padding of 1. Every engine
in its own process, first all with one thread and then with as many as there are cores, asked in turn; medians. Results were
compared before timing. A copy moves as many bytes on as many threads, up to 1 MiB on one. Calls return new arrays, whose
pages the system clears, and the copy's target is reused. By `python -m benchmarks sizes --write`."""


@click.command()
@click.option("--largest", default=LARGEST >> 10, help="Size of the largest array, KiB.")
@click.option("--rounds", default=3, help="Turns of each engine in each case.")
@click.option("--seconds", default=0.1, help="Length of a turn.")
@write_option
def sizes(largest: int, rounds: int, seconds: float, folder: Path | None) -> None:
    """Measure arrays from 1 KiB to 1 GiB beside torch, on one thread and on all."""
    console = Console()
    fitting = min(largest << 10, psutil.virtual_memory().available // MEMORY)
    cases = {case.name: (case, pooling) for case, pooling in cases_of(fitting)}
    engines = [name for name in ("numbapool", "torch") if name in present()]
    jobs = [(case, "forward") for case, _ in cases.values()]
    measured = []
    for threads in sorted({1, cores()}):
        found, _ = measure(jobs, engines, rounds, seconds, console, threads)
        for row in found:
            case, pooling = cases[row["case"]]
            measured.append(row | {"pooling": pooling, "threads": threads, "input_bytes": bytes_of(case)})
    tables = size_tables(measured)
    for each in tables:
        console.print(each)
    warnings = [disturbance(measured)]
    if fitting < largest << 10:
        warnings.append(f"Arrays above {fitting >> 20} MiB were left out, for which there was too little memory.")
    console.print(*(f"[red]{each}" for each in filter(None, warnings)), sep="\n")
    if folder is not None:
        plots = {
            "performance-sizes.png": ("Time against the size of the array", plot_sizes(measured, bandwidth=False)),
            "performance-sizes-bandwidth.png": (
                "Bandwidth against the size of the array",
                plot_sizes(measured, bandwidth=True),
            ),
        }
        results = {"machine": describe("numpy", "numba", *engines[1:]), "rounds": rounds, "cases": measured}
        record(folder, "sizes", " ".join(filter(None, [EXPLANATION, *warnings])), tables, results, plots)


def cases_of(largest: int) -> list[tuple[Benchmark, str]]:
    """Each pooling of each array up to the largest one, and the pooling's name."""
    cases = []
    for kind in KINDS:
        for window in WINDOWS:
            size = SMALLEST
            while size <= largest:
                side = isqrt(size // 4 // CHANNELS)
                name = f"{window.name}-{binary(size).replace(' ', '-')}"
                shape = (1, CHANNELS, side, side)
                geometry = Case(name, shape, window.kernel_size, window.stride, window.padding)
                cases.append((Benchmark(kind, geometry), f"{kind} {window.name}"))
                size *= FACTOR
    return cases


def bytes_of(case: Benchmark) -> int:
    """Size of the input."""
    return 4 * CHANNELS * case.shape[-1] ** 2


def size_tables(measured: Sequence[dict[str, Any]]) -> list[Table]:
    """A table a pooling: times of both libraries, and share of copy bandwidth, on one thread and on all."""
    counts = sorted({row["threads"] for row in measured})
    columns = ["input"]
    for count in counts:
        on = f"{count} thread{'s' if count > 1 else ''}"
        columns += [f"numbapool, {on}", "of copy bandwidth", "torch takes"]
    tables = []
    for pooling in dict.fromkeys(row["pooling"] for row in measured):
        result = table(f"{pooling} by size", columns)
        rows = [row for row in measured if row["pooling"] == pooling]
        for size in sorted({row["input_bytes"] for row in rows}):
            cells = []
            for row in sorted((row for row in rows if row["input_bytes"] == size), key=lambda row: row["threads"]):
                taken = row["seconds"]
                ours = taken["numbapool"]
                other = times(taken["torch"] / ours) if "torch" in taken else ""
                cells += [duration(ours), f"{taken['copy'] / ours:.2f}", other]
            result.add_row(binary(size), *cells)
        tables.append(result)
    return tables
