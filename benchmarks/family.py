"""All other operations against torch, and maxima and means with channels last in memory and in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.cases import CHANNELS_LAST, FAMILY, HALF, HALVES, PAST_CACHE
from benchmarks.engines import present
from benchmarks.machine import describe
from benchmarks.peers import disturbance, jobs_of, make_table, measure, times
from benchmarks.report import duration, record, table, write_option

PASSES = ("forward", "indices", "backward")
CASES = {case.name: case for case in (*FAMILY, *CHANNELS_LAST, *HALF)}
# Other libraries than torch have some of the operations, and neither the layout nor, on the CPU, half precision.
SECTIONS = {
    "The family": (FAMILY, ("numbapool", "onnxruntime", "torch")),
    "Channels last": (CHANNELS_LAST, ("numbapool", "torch")),
    "Half precision": (HALF, ("numbapool", "torch")),
}

EXPLANATION = """\
As `peers`, for the other operations, and for maxima and means of arrays with channels last in memory (as torch's
`channels_last`) and in half precision. Backward is from saved indices where there are some. Where torch has no such function
it does what its users write: minima are `-max_pool(-x)`, sums `avg_pool` with a divisor of 1, global pools `adaptive` ones to
1 or `torch.linalg.vector_norm`. By `python -m benchmarks family --write`."""


@click.command()
@click.option("-k", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--pass", "passes", multiple=True, type=click.Choice(PASSES), help="Only these passes, instead of all.")
@click.option("--quick", is_flag=True, help="Only the cases of the quick subset.")
@click.option("--rounds", default=5, help="Turns of each engine in each case.")
@click.option("--seconds", default=0.2, help="Length of a turn.")
@write_option
def family(pattern: str, passes: Sequence[str], quick: bool, rounds: int, seconds: float, folder: Path | None) -> None:
    """Compare every other operation with torch, and half precision and channels-last arrays."""
    console = Console()
    tables, sentences, results = [], [], {}
    for title, (cases, candidates) in SECTIONS.items():
        engines = [name for name in candidates if name in present()]
        jobs = jobs_of(cases, pattern, quick, passes or PASSES)
        measured, refusals = measure(jobs, engines, rounds, seconds, console)
        results[title] = measured
        sentences += refusals
        tables += half_tables(measured) if cases is HALF else section_tables(title, measured, engines)
    for each in tables:
        console.print(each)
    sentences.append(disturbance(row for measured in results.values() for row in measured))
    console.print(*(f"[red]{each}" for each in sentences), sep="\n")
    if folder is not None:
        machine = describe("numpy", "numba", "onnxruntime", "torch")
        text = "\n\n".join([EXPLANATION, *filter(None, sentences)])
        record(folder, "family", text, tables, {"machine": machine, "rounds": rounds, "cases": results})


def section_tables(title: str, measured: Sequence[dict[str, Any]], engines: Sequence[str]) -> list[Table]:
    """A summary by operation, and every case by pass."""
    by_pass = {name: [row for row in measured if row["pass"] == name] for name in PASSES}
    tables = [make_table(f"{title}: {name}", rows, engines) for name, rows in by_pass.items() if rows]
    return [summary(title, measured, engines[1:]), *tables] if measured else []


def summary(title: str, measured: Sequence[dict[str, Any]], others: Sequence[str]) -> Table:
    """Geometric means of each operation and pass, and where numbapool's lead is least."""
    columns = ["operation", "pass", "cases", "of copy bandwidth", "past the cache"]
    for name in others:
        columns += [f"{name} takes", "at least"]
    result = table(f"{title}, geometric means by operation", columns)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in measured:
        groups.setdefault((CASES[row["case"]].operation, row["pass"]), []).append(row)
    for (operation, pass_), rows in groups.items():
        large = [row for row in rows if CASES[row["case"]].shape == PAST_CACHE]
        cells = [operation, pass_, str(len(rows)), share_of_copy(rows), share_of_copy(large)]
        for name in others:
            ratios = {row["case"]: ratio(row, name) for row in rows if name in row["seconds"]}
            least = min(ratios, key=ratios.__getitem__, default="")
            cells += [mean_of(list(ratios.values())), f"{times(ratios[least])} ({least})" if least else ""]
        result.add_row(*cells)
    return result


def half_tables(measured: Sequence[dict[str, Any]]) -> list[Table]:
    """Half precision beside float32, if it could be measured: elements a second, and times of torch."""
    by_dtype: dict[str, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for row in measured:
        case = CASES[row["case"]]
        by_dtype.setdefault(case.dtype, {})[case.operation, case.label, row["pass"]] = row
    dtypes = [dtype for dtype in HALVES if dtype in by_dtype]
    if not dtypes or "float32" not in by_dtype:
        return []
    columns = ["case", "input and window", "pass", "float32", "torch takes"]
    for dtype in dtypes:
        columns += [dtype, "elements a second over float32", "torch takes"]
    result = table("Half precision", columns)
    speeds: dict[str, dict[str, list[float]]] = {}  # over float32, by what they are the mean of and dtype
    for key, base in by_dtype["float32"].items():
        _, label, pass_ = key
        cells = [base["case"], base["description"].replace(" float32", ""), pass_, *time_and_torch(base)]
        for dtype in dtypes:
            row = by_dtype[dtype].get(key)
            if row is None:
                cells += [""] * 3
                continue
            speed = base["seconds"]["numbapool"] / row["seconds"]["numbapool"]
            seconds, torchs = time_and_torch(row)
            cells += [seconds, times(speed), torchs]
            for group in ["all", *([f"2x2/2 past the cache, {pass_}"] if label == "large-2x2" else [])]:
                speeds.setdefault(group, {}).setdefault(dtype, []).append(speed)
        result.add_row(*cells)
    for group, found in speeds.items():
        means = [cell for dtype in dtypes for cell in ("", mean_of(found.get(dtype, [])), "")]
        result.add_row(f"geometric mean, {group}", "", "", "", "", *means, style="bold")
    return [result]


def time_and_torch(row: dict[str, Any]) -> tuple[str, str]:
    """Numbapool's time, and how many times longer torch takes."""
    return duration(row["seconds"]["numbapool"]), times(ratio(row, "torch")) if "torch" in row["seconds"] else ""


def ratio(row: dict[str, Any], name: str) -> float:
    """Time of a call over numbapool's."""
    return float(row["seconds"][name] / row["seconds"]["numbapool"])


def share_of_copy(rows: Sequence[dict[str, Any]]) -> str:
    """Geometric mean of the parts of copy bandwidth."""
    return f"{geometric_mean(ratio(row, 'copy') for row in rows):.2f}" if rows else ""


def mean_of(ratios: Sequence[float]) -> str:
    """Geometric mean of some ratios."""
    return times(geometric_mean(ratios)) if ratios else ""
