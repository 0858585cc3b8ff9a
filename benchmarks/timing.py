"""Measuring: seconds a call, and the copy that every time is compared with."""

from __future__ import annotations

import os
import time
import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import numpy as np
import psutil

from benchmarks.machine import cores

# Shorter copies stay on one thread: handing a part to another costs some 30 us, in which 1 MiB is copied.
PARALLEL_COPY = 1 << 20
# A batch of calls takes at least this many seconds, so that reading the clock (0.05 us) does not count.
BATCH_SECONDS = 1e-3


def copy_of(moved: int, threads: int) -> Callable[[], object]:
    """A call that copies so much that `moved` bytes are read and written, half of them each, on `threads` threads."""
    size = max(1, moved // 2)
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    if size < PARALLEL_COPY or threads == 1:
        return partial(np.copyto, target, source)
    pool = ThreadPoolExecutor(threads)
    parts = np.array_split(target, threads), np.array_split(source, threads)
    return lambda: list(pool.map(np.copyto, *parts))  # copyto releases the GIL


class Bystanders:
    """How busy the machine is with other processes, or with other virtual machines of its host."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), self._seconds()

    def share(self) -> float:
        """Part of the time of all cores that went elsewhere since the start."""
        clock, elsewhere = self.start
        return max(0.0, (self._seconds() - elsewhere) / ((time.perf_counter() - clock) * cores()))

    @staticmethod
    def _seconds() -> float:
        machine, own = psutil.cpu_times(), os.times()
        busy = machine.user + machine.system + getattr(machine, "nice", 0.0) + getattr(machine, "steal", 0.0)
        return float(busy - own.user - own.system)


def one_call(call: Callable[[], object]) -> float:
    """Seconds of one call, after another that compiles, or wakes threads."""
    timer = timeit.Timer(call)
    timer.timeit(1)
    return timer.timeit(1)


def calls_per_batch(seconds: float) -> int:
    """Number of calls of so many seconds that take about `BATCH_SECONDS`."""
    return max(1, round(BATCH_SECONDS / seconds))


def time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds a call, of at least three batches and of as many as fit into `seconds`; of one call that takes longer."""
    once = one_call(call)
    if once > seconds:
        return [once]
    timer, batch = timeit.Timer(call), calls_per_batch(once)
    batches = max(3, int(seconds / timer.timeit(batch)))
    return [total / batch for total in timer.repeat(batches, batch)]


def in_turn(calls: dict[str, Callable[[], object]], ready: tuple[int, float]) -> dict[str, float]:
    """Median seconds of each call, asked in turn, so that what slows the machine down slows all of them."""
    rounds, seconds = ready
    turns: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            turns[name] += time_calls(call, seconds / len(calls))
    return {name: median(each) for name, each in turns.items()}
