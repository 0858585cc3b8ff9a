"""How near numbapool is to the limits of the machine, and what its speed does not depend on: each section is one promise."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import cores, describe
from benchmarks.plots import plot_windows
from benchmarks.report import duration, record, table, write_option
from benchmarks.timing import copy_of, in_turn
from tests.cases import Case
from tests.memory import peak_of

IMAGE = (1, 1, 1024, 1024)
WINDOWS = (3, 5, 7, 9, 11, 13, 15, 19, 23, 31, 39, 47, 55, 63)

# 128 MiB: at least four times the last-level cache, where that is 32 MiB.
LARGE = (
    Case("2x2/2", (8, 64, 256, 256), 2),
    Case("2x2/2, one plane", (1, 1, 8192, 4096), 2),
    Case("2x2/2, small planes", (32, 1024, 32, 32), 2),
    Case("4x4/4", (8, 64, 256, 256), 4),
    Case("8x8/8", (8, 64, 256, 256), 8),
    Case("2x2x2/2", (8, 8, 32, 128, 128), 2),
    Case("4/4, signals", (16, 64, 32768), 4),
    Case("whole planes", (32, 1024, 32, 32), 32),
    Case("3x3/2", (8, 64, 256, 256), 3, 2, 1),
    Case("3x3/1", (8, 64, 256, 256), 3, 1, 1),
    Case("3x3/1, one plane", (1, 1, 8192, 4096), 3, 1, 1),
    Case("5x5/1", (8, 64, 256, 256), 5, 1, 2),
)

# One plane, and the same number of elements as many planes.
PLANES = (
    (Case("2x2/2", (1, 1, 4096, 4096), 2), Case("2x2/2", (1, 256, 256, 256), 2)),
    (Case("3x3/2", (1, 1, 4096, 4096), 3, 2, 1), Case("3x3/2", (1, 256, 256, 256), 3, 2, 1)),
    (Case("3x3/1", (1, 1, 4096, 4096), 3, 1, 1), Case("3x3/1", (1, 256, 256, 256), 3, 1, 1)),
)

# Past the cache-bound cases: more work an element than memory takes.
THREADED = (
    Case("3x3/1", (8, 192, 28, 28), 3, 1, 1),
    Case("5x5/1", (8, 256, 20, 20), 5, 1, 2),
    Case("13x13/1", (8, 256, 20, 20), 13, 1, 6),
    Case("31x31/1", IMAGE, 31, 1, 15),
    Case("3x3/2", (8, 64, 56, 56), 3, 2, 1),
    Case("3x3x3/1", (1, 192, 16, 28, 28), 3, 1, 1),
)

MEMORY = (
    Case("2x2/2", (8, 64, 112, 112), 2),
    Case("3x3/2", (8, 64, 112, 112), 3, 2, 1),
    Case("3x3/1", (8, 192, 28, 28), 3, 1, 1),
    Case("63x63/1", IMAGE, 63, 1, 31),
    Case("255x255/1", (1, 2, 512, 512), 255, 1, 127),
    Case("31x31/2", IMAGE, 31, 2, 15),
    Case("3x3x3/1", (1, 64, 16, 56, 56), 3, 1, 1),
    Case("100/100, signals", (16, 16, 16384), 100),
    Case("3/1, long signal", (1, 1, 4_000_000), 3, 1, 1),
)

Call = Callable[[], Any]


@click.command()
@click.option("--rounds", default=7, help="Turns of each call.")
@click.option("--seconds", default=0.1, help="Length of a turn.")
@write_option
def limits(rounds: int, seconds: float, folder: Path | None) -> None:
    """Measure against the copy bandwidth of this machine: windows, large arrays, planes, threads and memory."""
    console = Console()
    ready = (rounds, seconds)
    # Maxima have four passes and means two.
    sections = {
        "windows": (partial(_windows, ready), len(WINDOWS)),
        "large": (partial(_large, ready), 2 * len(LARGE)),
        "planes": (partial(_planes, ready), 6 * len(PLANES)),
        "threads": (partial(_threads, ready), 6 * len(THREADED)),
        "memory": (_memory, 2 * len(MEMORY)),
    }
    results: dict[str, list[dict[str, Any]]] = {}
    with Progress(console=console, transient=True) as progress:
        for name, (section, steps) in sections.items():
            results[name] = section(partial(progress.advance, progress.add_task(name, total=steps)))
    tables = [make(results[name]) for name, make in TABLES.items()]
    for each in tables:
        console.print(each)
    if folder is not None:
        plots = {"performance-windows.png": ("Time against window size", plot_windows(results["windows"]))}
        record(folder, "limits", EXPLANATION, tables, {"machine": describe("numpy", "numba"), **results}, plots)


EXPLANATION = """\
In one process, each call in turn with a copy on as many threads; medians. "Of copy bandwidth" is the bytes that a call
reads and writes a second, over those of the copy. All calls write to an `out=` that is reused. By
`python -m benchmarks limits --write`."""


def calls_of(kind: str, case: Case) -> dict[str, tuple[Call, int]]:
    """Passes of a case as calls that allocate nothing, and the bytes that each reads and writes."""
    import numbapool  # here, because the processes of all other engines import this file too

    arguments = case.max_arguments if kind == "max" else case.avg_arguments
    pool = partial(getattr(numbapool, f"{kind}_pool{case.rank}d"), **arguments)
    back = partial(getattr(numbapool, f"{kind}_pool{case.rank}d_backward"), **arguments)
    x = np.random.default_rng(0).random(case.shape, np.float32)
    out = pool(x)
    gradient = np.empty_like(x)
    calls = {"forward": (partial(pool, x, out=out), x.nbytes + out.nbytes)}
    if kind == "avg":
        return calls | {"backward": (partial(back, out, x, out=gradient), x.nbytes + out.nbytes)}
    values, indices = pool(x, return_indices=True)
    moved = x.nbytes + values.nbytes + indices.nbytes
    return calls | {
        "indices": (partial(pool, x, return_indices=True, out=(values, indices)), moved),
        "backward with indices": (partial(back, values, x, indices=indices, out=gradient), moved),
        "backward": (partial(back, values, x, out=gradient), 2 * x.nbytes + values.nbytes),
    }


def _windows(ready: tuple[int, float], step: Call) -> list[dict[str, Any]]:
    found = []
    for window in WINDOWS:
        case = Case(str(window), IMAGE, window, 1, window // 2)
        calls = {kind: calls_of(kind, case) for kind in ("max", "avg")}
        flat = {f"{kind} {name}": call for kind, each in calls.items() for name, (call, _) in each.items()}
        seconds = in_turn({"copy": copy_of(2 * 4 * 1024 * 1024, cores()), **flat}, ready)
        found.append({"window": window, "seconds": seconds})
        step()
    return found


def _large(ready: tuple[int, float], step: Call) -> list[dict[str, Any]]:
    found = []
    for case in LARGE:
        for kind in ("max", "avg"):
            call, moved = calls_of(kind, case)["forward"]
            seconds = in_turn({"copy": copy_of(moved, cores()), "call": call}, ready)
            overlaps = int(np.max(case.kernel_size)) > int(np.max(case.stride or case.kernel_size))
            found.append({"case": case.name, "shape": case.shape, "kind": kind, "overlaps": overlaps} | seconds)
            step()
    return found


def _planes(ready: tuple[int, float], step: Call) -> list[dict[str, Any]]:
    found = []
    for one, many in PLANES:
        for kind in ("max", "avg"):
            ones, manies = calls_of(kind, one), calls_of(kind, many)
            for name in ones:
                seconds = in_turn({"one": ones[name][0], "many": manies[name][0]}, ready)
                found.append({"case": one.name, "kind": kind, "pass": name} | seconds)
                step()
    return found


def _threads(ready: tuple[int, float], step: Call) -> list[dict[str, Any]]:
    import numba

    def on(threads: int, call: Call) -> Call:
        def run() -> None:
            numba.set_num_threads(threads)
            call()

        return run

    found = []
    for case in THREADED:
        for kind in ("max", "avg"):
            for name, (call, _) in calls_of(kind, case).items():
                seconds = in_turn({"one": on(1, call), "all": on(cores(), call)}, ready)
                found.append({"case": case.name, "shape": case.shape, "kind": kind, "pass": name} | seconds)
                step()
    numba.set_num_threads(cores())
    return found


def _memory(step: Call) -> list[dict[str, Any]]:
    found = []
    for case in MEMORY:
        for kind in ("max", "avg"):
            # A process of its own for each case, whose memory is that of nothing else.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                for name, extra in process.submit(peaks, kind, case).result():
                    padded_plane = 4 * prod(n + 2 * case.padding for n in case.shape[2:])
                    allowed = cores() * max(2 * padded_plane, 1 << 20)
                    row = {"case": case.name, "shape": case.shape, "kind": kind, "pass": name}
                    found.append(row | {"extra": extra, "allowed": allowed})
            step()
    return found


def peaks(kind: str, case: Case) -> list[tuple[str, int]]:
    """Bytes by which each pass raises the peak of this process's resident memory; it writes into arrays that exist."""
    return [(name, peak_of(call)) for name, (call, _) in calls_of(kind, case).items()]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _windows_table(found: list[dict[str, Any]]) -> Table:
    names = [name for name in found[0]["seconds"] if name != "copy"]
    result = table("Time over that of a copy of the image, 1024x1024 float32, stride 1", ["window", "copy", *names])
    for row in found:
        copy = row["seconds"]["copy"]
        ratios = [f"{row['seconds'][name] / copy:.1f}x" for name in names]
        result.add_row(f"{row['window']}x{row['window']}", duration(copy), *ratios)
    at = {row["window"]: row["seconds"] for row in found}
    result.add_row("63x63 over 15x15", "", *(f"{at[63][name] / at[15][name]:.2f}x" for name in names), style="bold")
    return result


def _large_table(found: list[dict[str, Any]]) -> Table:
    result = table(
        "Arrays past the cache, into a reused output", ["windows", "input", "max", "avg", "max share", "avg share"]
    )
    for kinds in zip(found[::2], found[1::2], strict=True):
        shares = [f"{each['copy'] / each['call']:.2f}" for each in kinds]
        result.add_row(
            kinds[0]["case"], _shape(kinds[0]["shape"]), *(duration(each["call"]) for each in kinds), *shares
        )
    for overlaps in (False, True):
        for_mean = [each["copy"] / each["call"] for each in found if each["overlaps"] == overlaps]
        name = "windows that overlap" if overlaps else "windows that do not overlap"
        result.add_row(f"{name}, geometric mean", "", "", "", f"{geometric_mean(for_mean):.2f}", "", style="bold")
    return result


def _planes_table(found: list[dict[str, Any]]) -> Table:
    result = table("One plane of 4096x4096 against 256 of 256x256", ["windows", "pass", "one", "many", "one over many"])
    for row in found:
        name = f"{row['kind']} {row['pass']}"
        result.add_row(
            row["case"], name, duration(row["one"]), duration(row["many"]), f"{row['one'] / row['many']:.2f}"
        )
    return result


def _threads_table(found: list[dict[str, Any]]) -> Table:
    result = table(f"One thread against {cores()}", ["windows", "input", "pass", "one", "all", "speed-up"])
    for row in found:
        times = duration(row["one"]), duration(row["all"]), f"{row['one'] / row['all']:.2f}x"
        result.add_row(row["case"], _shape(row["shape"]), f"{row['kind']} {row['pass']}", *times)
    mean = geometric_mean(row["one"] / row["all"] for row in found)
    result.add_row("geometric mean", "", "", "", "", f"{mean:.2f}x", style="bold")
    return result


def _memory_table(found: list[dict[str, Any]]) -> Table:
    title = "Peak of resident memory above input, output and what was there before, MiB, all threads"
    result = table(title, ["windows", "input", "pass", "extra", "allowed"])
    for row in found:
        sizes = (f"{row[name] / 2**20:.2f}" for name in ("extra", "allowed"))
        result.add_row(row["case"], _shape(row["shape"]), f"{row['kind']} {row['pass']}", *sizes)
    return result


TABLES = {
    "windows": _windows_table,
    "large": _large_table,
    "planes": _planes_table,
    "threads": _threads_table,
    "memory": _memory_table,
}
