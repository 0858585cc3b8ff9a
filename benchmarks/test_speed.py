"""Times of numbapool, each over that of a copy of the same bytes: a number to compare between commits on one machine.

`pytest benchmarks` runs all, `pytest benchmarks -m quick` the subset of continuous integration.
"""

from __future__ import annotations

import math
import timeit
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import ALL, Timed
from benchmarks.engines import Numbapool, UnsupportedError, results_of
from benchmarks.machine import cores
from benchmarks.timing import calls_per_batch, copy_of, one_call

# "into" runs the kernels of "forward", and "training" is "forward" and "recomputing".
PASSES = ("forward", "indices", "backward", "recomputing")
# A case is measured for about this long, in rounds whose number is within these bounds.
SECONDS = 0.5
ROUNDS = range(12, 101)


@pytest.mark.parametrize(
    ("case", "pass_"),
    [
        pytest.param(case, pass_, id=f"{case}-{pass_}", marks=[pytest.mark.quick] if case.quick else [])
        for case in ALL
        for pass_ in PASSES
        if pass_ in case.passes
    ],
)
def test_speed(benchmark: BenchmarkFixture, case: Timed, pass_: str) -> None:
    """Time the call and, before it in every round, the copy: what slows the machine down for a while slows both."""
    engine = Numbapool(cores())
    try:
        work = getattr(engine, pass_)(case)
        results = results_of(work)
    except (TypeError, UnsupportedError) as reason:  # an older numbapool, without the function or the dtype
        pytest.skip(str(reason))
    moved = sum(array.nbytes for array in (*work.inputs, *results))
    call = timeit.Timer(work.call)
    copy = timeit.Timer(copy_of(moved, cores()))
    calls = calls_per_batch(one_call(work.call))
    rounds = int(SECONDS / (call.timeit(calls) + copy.timeit(calls)))
    rounds = min(max(rounds, ROUNDS.start), ROUNDS.stop - 1)
    copies: list[float] = []
    # Each round times `calls` copies and then as many calls.
    benchmark.pedantic(lambda: call.timeit(calls), setup=lambda: copies.append(copy.timeit(calls)), rounds=rounds)
    if benchmark.disabled:
        return
    # The quarter of the rounds that took least: in the others something else may have run on the machine.
    both = sorted(zip(benchmark.stats.stats.data, copies, strict=True), key=sum)
    quiet = both[: math.ceil(len(both) / 4)]
    benchmark.extra_info.update(
        calls_per_round=calls,
        moved_bytes=moved,
        seconds=median(time for time, _ in quiet) / calls,
        copy_seconds=median(copy_time for _, copy_time in quiet) / calls,
        over_copy=median(time / copy_time for time, copy_time in quiet),
        numbapool=str(engine.library.__file__),
    )
