"""numbapool against other libraries: every engine in its own process, asked in turn, results compared before timing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.cases import BENCHMARKS, HALVES, PASSES, Timed
from benchmarks.engines import UnsupportedError, missing, present
from benchmarks.machine import cores, describe
from benchmarks.plots import plot_bandwidth, plot_speedup
from benchmarks.report import duration, record, table, write_option
from benchmarks.workers import Worker

# An engine's threads spin for some milliseconds after a call; after this pause all of them slept (the processes used no
# more CPU), so that no engine needs a setting that its users would not make.
PAUSE_SECONDS = 0.1
# A turn in which other processes took more than this share of the machine is tried again: on two cores, one busy
# neighbour makes engines that spin at a barrier (libgomp) wait for whole time slices, 8 ms instead of 0.2.
QUIET_SHARE = 0.05
TRIES = 10
# Relative to the largest value: sums are added in different orders, by torch's gradients even in half precision.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 1e-2, "bfloat16": 5e-2}

TITLES = {
    "forward": "Forward",
    "into": "Forward into an array that is reused",
    "indices": "Forward with indices",
    "backward": "Backward, max with saved indices",
    "recomputing": "Backward of max without indices",
    "training": "Forward and backward, max without saved indices",
}

EXPLANATION = """\
Every engine in its own process, with as many threads as there are cores, asked in turn; medians. "Of copy bandwidth" is
the time of a copy that moves as many bytes, measured in the same turns, over numbapool's time; "takes 3x" means that the
engine took three times as long as numbapool. Results were compared before timing; an engine without a figure cannot do
the case or has another result. SciPy and scikit-image have one thread; JAX's functions are compiled, and its arrays
made, before the clock starts. Means are geometric. By `python -m benchmarks peers --write`."""


@click.command()
@click.option("-k", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--pass", "passes", multiple=True, type=click.Choice(PASSES), help="Only these passes, instead of all.")
@click.option("--quick", is_flag=True, help="Only the cases of the quick subset.")
@click.option("--rounds", default=3, help="Turns of each engine in each case.")
@click.option("--seconds", default=0.1, help="Length of a turn.")
@write_option
def peers(pattern: str, passes: Sequence[str], quick: bool, rounds: int, seconds: float, folder: Path | None) -> None:
    """Compare with the other libraries that are installed."""
    console = Console()
    jobs = jobs_of(BENCHMARKS, pattern, quick, passes or PASSES)
    if not jobs:
        raise click.BadParameter(f"no case's name contains {pattern!r}", param_hint="-k")
    engines = present()
    measured, refusals = measure(jobs, engines, rounds, seconds, console)
    by_pass = {name: [row for row in measured if row["pass"] == name] for name in PASSES}
    tables = [make_table(TITLES[name], rows, engines) for name, rows in by_pass.items() if rows]
    for each in tables:
        console.print(each)
    warning = " ".join(filter(None, [missing(), *refusals, disturbance(measured)]))
    console.print(f"[red]{warning}")
    if folder is not None:
        machine = describe("numpy", "numba", *engines[1:])
        results = {"machine": machine, "rounds": rounds, "cases": measured}
        plots = {}
        if forward := by_pass["forward"]:
            plots["performance-speedup.png"] = "Speed-up of each case against each library", plot_speedup(forward)
            plots["performance-bandwidth.png"] = "Bandwidth of each case beside a copy's", plot_bandwidth(forward)
        text = f"{EXPLANATION} {warning}".rstrip()
        record(folder, "peers", text, tables, results, plots)


def jobs_of(cases: Sequence[Timed], pattern: str, quick: bool, passes: Sequence[str]) -> list[tuple[Timed, str]]:
    """The cases that are asked for, with each of their passes that is."""
    return [
        (case, pass_)
        for case in cases
        if pattern in case.name and (case.quick or not quick)
        for pass_ in case.passes
        if pass_ in passes
    ]


def measure(
    jobs: Sequence[tuple[Timed, str]],
    engines: Sequence[str],
    rounds: int,
    seconds: float,
    console: Console,
    threads: int | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """What `compare_engines` finds for each case and pass, and sentences about those that numbapool itself refuses.

    Every engine has as many threads as there are cores, if not told another number.
    """
    refused: dict[str, dict[str, list[str]]] = {}  # passes by reason and case
    with ExitStack() as stack:
        workers = {name: stack.enter_context(closing(Worker(name, threads or cores()))) for name in [*engines, "copy"]}
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = progress.add_task("starting", total=len(jobs))
        measured: list[dict[str, Any]] = []
        for case, pass_ in jobs:
            progress.update(task, description=f"{case} {pass_}")
            try:
                measured.append(compare_engines(workers, case, pass_, rounds, seconds))
            except (TypeError, UnsupportedError) as reason:
                refused.setdefault(str(reason), {}).setdefault(case.name, []).append(pass_)
            progress.advance(task)
    sentences = []
    for reason, cases in refused.items():
        named = ", ".join(f"{name} ({', '.join(passes_)})" for name, passes_ in cases.items())
        sentences.append(f"Not measured, because {reason}: {named}.")
    return measured, sentences


def disturbance(measured: Iterable[dict[str, Any]]) -> str:
    """A warning, if other processes ran."""
    disturbed = sum(row["disturbed_turns"] for row in measured)
    return f"Other processes disturbed {disturbed} turns: do not trust the times." if disturbed else ""


def compare_engines(workers: dict[str, Worker], case: Timed, pass_: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Median seconds a call of every engine that can do the case and agrees with numbapool about its result."""
    refused: dict[str, str] = {}
    expected, moved = workers["numbapool"].prepare(case, pass_)
    for name, worker in workers.items():
        if name == "copy":
            worker.prepare_copy(moved)
        elif name != "numbapool":
            try:
                results, _ = worker.prepare(case, pass_)
            except UnsupportedError as reason:
                refused[name] = str(reason)
            except Exception as error:  # each library has its own way of refusing a case
                refused[name] = f"refused: {error}"
            else:
                if difference := disagreement(case, pass_, expected, results):
                    refused[name] = difference
    turns: dict[str, list[float]] = {name: [] for name in workers if name not in refused}
    disturbances = []
    for number in range(rounds):
        # Every other round runs backwards, so that no engine always follows the same one.
        for name in list(turns)[:: -1 if number % 2 else 1]:
            seconds_a_call, disturbed = quiet_turn(workers[name], seconds)
            turns[name].append(seconds_a_call)
            disturbances.append(disturbed)
    return {
        "case": case.name,
        "description": case.describe(),
        "pass": pass_,
        "moved_bytes": moved,
        "seconds": {name: median(each) for name, each in turns.items()},
        "disturbed_turns": sum(disturbances),
        "refused": refused,
    }


def quiet_turn(worker: Worker, seconds: float) -> tuple[float, bool]:
    """Median seconds a call in a turn that has the machine for itself; else of the least disturbed, and True."""
    tries = []
    for number in range(TRIES):
        time.sleep(PAUSE_SECONDS * (number + 1))
        times, share = worker.time(seconds)
        tries.append((share, median(times)))
        if share <= QUIET_SHARE:
            break
    share, least_disturbed = min(tries)
    return least_disturbed, share > QUIET_SHARE


def disagreement(case: Timed, pass_: str, expected: list[np.ndarray], results: list[np.ndarray]) -> str:
    """How an engine's results differ from numbapool's, if they do; maxima and indices must be identical."""
    tolerance = 0.0 if case.is_exact(pass_) else TOLERANCE[case.dtype]
    for ours, theirs in zip(expected, results, strict=True):
        if case.dtype in HALVES:
            ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        if ours.shape != theirs.shape:
            return f"differs: shape {theirs.shape} instead of {ours.shape}"
        if not np.allclose(theirs, ours, rtol=tolerance, atol=tolerance * float(np.abs(ours).max(initial=0))):
            return f"differs: by up to {np.abs(theirs.astype(float) - ours.astype(float)).max():.3g}"
    return ""


def make_table(title: str, rows: Sequence[dict[str, Any]], engines: Sequence[str]) -> Table:
    """Times and share of copy bandwidth of numbapool, and how many times longer each peer took."""
    others = [name for name in engines[1:] if any(name in row["seconds"] for row in rows)]
    result = table(
        title,
        ["case", "input and window", "numbapool", "of copy bandwidth", *(f"{name} takes" for name in others)],
    )
    for row in rows:
        seconds = row["seconds"]
        ratios = [times(seconds[name] / seconds["numbapool"]) if name in seconds else "" for name in others]
        share = seconds["copy"] / seconds["numbapool"]
        result.add_row(row["case"], row["description"], duration(seconds["numbapool"]), f"{share:.2f}", *ratios)
    means = [
        geometric_mean(row["seconds"][name] / row["seconds"]["numbapool"] for row in rows if name in row["seconds"])
        for name in others
    ]
    share = geometric_mean(row["seconds"]["copy"] / row["seconds"]["numbapool"] for row in rows)
    result.add_row("geometric mean", "", "", f"{share:.2f}", *map(times, means), style="bold")
    return result


def times(ratio: float) -> str:
    """A ratio for a table; in red where numbapool is slower."""
    text = f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"
    return f"[red]{text}[/red]" if ratio < 1 else text
