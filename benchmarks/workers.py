"""An engine in a process of its own, so that no engine's threads, allocator or settings touch another's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.cases import Timed
from benchmarks.engines import ENGINES, UnsupportedError, results_of
from benchmarks.timing import Bystanders, copy_of, time_calls


class Worker:
    """Asks a process to prepare a call and to time it; between questions the process waits at a pipe."""

    def __init__(self, engine: str, threads: int) -> None:
        self.engine, self.threads = engine, threads
        # Spawned, not forked: a forked child would share what this process has imported.
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def prepare(self, case: Timed, pass_: str) -> tuple[list[np.ndarray], int]:
        """Make ready for timing; the results of one call, and the bytes that a call reads and writes."""
        return self._process.submit(_prepare, self.engine, self.threads, case, pass_).result()

    def prepare_copy(self, moved: int) -> None:
        """Make ready for timing a copy that moves so many bytes."""
        self._process.submit(_prepare_copy, self.threads, moved).result()

    def time(self, seconds: float) -> tuple[list[float], float]:
        """Seconds a call, of the batches that fit into `seconds`, and the share of the machine that others took."""
        return self._process.submit(_time, seconds).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


# From here on: what runs in the worker's process, and its state there.
_engine = cache(lambda name, threads: ENGINES[name](threads))
_call: Callable[[], Any] | None = None


def _prepare(name: str, threads: int, case: Timed, pass_: str) -> tuple[list[np.ndarray], int]:
    global _call
    _call = None  # lets go of the previous case's memory
    method = getattr(_engine(name, threads), pass_, None)
    if method is None:
        raise UnsupportedError(f"{name} has no {pass_}")
    work = method(case)
    results = results_of(work)
    _call = work.call
    return results, sum(array.nbytes for array in (*work.inputs, *results))


def _prepare_copy(threads: int, moved: int) -> None:
    global _call
    _call = copy_of(moved, threads)


def _time(seconds: float) -> tuple[list[float], float]:
    if _call is None:
        raise RuntimeError("nothing was prepared")
    bystanders = Bystanders()
    return time_calls(_call, seconds), bystanders.share()
