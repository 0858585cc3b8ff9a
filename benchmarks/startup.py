"""What starting costs: the import, and the first call, compiled or from the cache. Every figure from new processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.report import duration, record, table, write_option

ROOT = Path(__file__).parents[1]

# What the project promises, in seconds: import above NumPy's, first call with an empty cache, and with a full one above
# the first call of a trivial cached function.
IMPORT_BAR, COLD_BAR, WARM_BAR = 0.03, 4.0, 0.15

SMALL = "x = np.ones((1, 1, 6, 6), np.float32)"
LARGE = "x = np.ones((8, 64, 112, 112), np.float32)"
GRADIENT = "; grad = np.ones((1, 1, 3, 3), np.float32)"

# First calls: what is prepared before the clock starts, and what is timed.
CALLS = {
    "max_pool2d, 1x1x6x6": (SMALL, "numbapool.max_pool2d(x, 2)"),
    "max_pool2d, 8x64x112x112": (LARGE, "numbapool.max_pool2d(x, 3, 2, 1)"),
    "max_pool2d with indices": (SMALL, "numbapool.max_pool2d(x, 2, return_indices=True)"),
    "max_pool2d_backward with indices": (
        f"{SMALL}{GRADIENT}; indices = np.zeros((1, 1, 3, 3), np.int64)",
        "numbapool.max_pool2d_backward(grad, x, 2, indices=indices)",
    ),
    "max_pool2d_backward": (f"{SMALL}{GRADIENT}", "numbapool.max_pool2d_backward(grad, x, 2)"),
    "avg_pool2d, 1x1x6x6": (SMALL, "numbapool.avg_pool2d(x, 2)"),
    "avg_pool2d, 8x64x112x112": (LARGE, "numbapool.avg_pool2d(x, 3, 2, 1)"),
    "avg_pool2d_backward": (f"{SMALL}{GRADIENT}", "numbapool.avg_pool2d_backward(grad, x, 2)"),
}

PROGRAM = """
import json, sys, time
import numpy as np
{prepare}
start = time.perf_counter()
import {module}
imported = time.perf_counter()
numba_came = "numba" in sys.modules
{call}
end = time.perf_counter()
print(json.dumps({{"import": imported - start, "call": end - imported, "numba": numba_came}}))
"""

TRIVIAL = """
import numba

@numba.njit(cache=True)
def first(x):
    return x[0]
"""

EXPLANATION = """\
Medians of several new processes. "Above a trivial function": both from just after `import numpy` to the result, the
trivial function being one line with `numba.njit(cache=True)`. By `python -m benchmarks startup --write`."""


@click.command()
@click.option("--repeats", default=7, help="Processes for each import and each call with a full cache.")
@click.option("--cold-repeats", default=3, help="Processes for each call with an empty cache.")
@write_option
def startup(repeats: int, cold_repeats: int, folder: Path | None) -> None:
    """Measure the import and the first calls."""
    console = Console()
    with TemporaryDirectory() as temporary, Progress(console=console, transient=True) as progress:
        folder = Path(temporary)
        (folder / "trivial.py").write_text(TRIVIAL)
        task = progress.add_task("start-up", total=(len(CALLS) + 1) * repeats + len(CALLS) * cold_repeats)

        def run(cache: str, prepare: str, call: str, module: str = "numbapool") -> dict[str, Any]:
            progress.advance(task)
            return first_call(folder, cache, prepare, call, module)

        cold = {
            name: [run(f"{number}-{repeat}", *work) for repeat in range(cold_repeats)]
            for number, (name, work) in enumerate(CALLS.items())
        }
        # All start from what the cold calls left; one after the other, so that a slow moment does not hit one alone.
        warm: dict[str, list[dict[str, Any]]] = {name: [] for name in ("trivial", *CALLS)}
        first_call(folder, "trivial", "x = np.ones(1)", "trivial.first(x)", "trivial")
        for _ in range(repeats):
            warm["trivial"].append(run("trivial", "x = np.ones(1)", "trivial.first(x)", "trivial"))
            for number, (name, work) in enumerate(CALLS.items()):
                warm[name].append(run(f"{number}-0", *work))

    imports = [each["import"] for name in CALLS for each in warm[name]]
    trivial = median(each["import"] + each["call"] for each in warm["trivial"])
    results = {
        "machine": describe("numpy", "numba"),
        "import": median(imports),
        "import_brings_numba": any(each["numba"] for name in CALLS for each in warm[name]),
        "trivial": trivial,
        "cold": {name: median(each["call"] for each in cold[name]) for name in CALLS},
        # The trivial function's import is that of Numba, which numbapool's first call imports.
        "warm": {name: median(each["import"] + each["call"] for each in warm[name]) for name in CALLS},
    }
    result = make_table(results)
    console.print(result)
    if folder is not None:
        record(folder, "startup", EXPLANATION, [result], results)


def first_call(folder: Path, cache: str, prepare: str, call: str, module: str) -> dict[str, Any]:
    """Seconds of the import and of the call, in a new process with a cache directory of that name."""
    program = PROGRAM.format(prepare=prepare, call=call, module=module)
    search_path = os.pathsep.join([str(folder), str(ROOT)])
    environment: Mapping[str, str] = os.environ | {
        "PYTHONPATH": search_path,
        "NUMBA_CACHE_DIR": str(folder / cache),
    }
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{call} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def make_table(results: dict[str, Any]) -> Table:
    """Every figure beside its bar, red where it is missed."""
    result = table("Start-up", ["", "measured", "bar"])

    def add(name: str, seconds: float, bar: float) -> None:
        text = duration(seconds)
        result.add_row(name, text if seconds <= bar else f"[red]{text}[/red]", duration(bar))

    add("import numbapool after import numpy", results["import"], IMPORT_BAR)
    result.add_row("it imports Numba", "[red]yes[/red]" if results["import_brings_numba"] else "no", "no")
    for name, seconds in results["cold"].items():
        add(f"first {name}, empty cache", seconds, COLD_BAR)
    for name, seconds in results["warm"].items():
        add(f"first {name}, full cache, above a trivial function", seconds - results["trivial"], WARM_BAR)
    result.add_row("for comparison: first call of a trivial cached function", duration(results["trivial"]), "")
    return result
