"""Threads, forks, and libraries with threads of their own in the same process."""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

import numbapool
from numbapool.kernels.cpu import threads as cpu_threads
from tests.checks import Array
from tests.processes import call_in_process

LAYERS = ("omp", "workqueue", "tbb")
# One huge plane, many planes, a signal and a volume: all large enough for threads.
SHAPES = ((1, 1, 300, 310), (24, 16, 14, 15), (1, 1, 90_001), (1, 3, 12, 50, 60))

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this operating system")


def pools(shape: tuple[int, ...], dtype: str = "float32") -> Iterator[tuple[str, Callable[[], Array]]]:
    """Every operation on a large input, with its name."""
    rank = len(shape) - 2
    rng = np.random.default_rng(len(shape))
    x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(dtype)

    def function(name: str) -> Callable[..., Any]:
        return getattr(numbapool, name.replace("pool", f"pool{rank}d"))

    for kernel, stride, padding in ((2, 2, 0), (3, 1, 1), (5, 3, 2)):
        out, indices = function("max_pool")(x, kernel, stride, padding, return_indices=True)
        grad = rng.standard_normal(out.shape).astype(dtype)
        geometry = (kernel, stride, padding)
        yield f"max {geometry}", functools.partial(function("max_pool"), x, *geometry)
        yield (
            f"max indices {geometry}",
            functools.partial(lambda *a: function("max_pool")(*a, return_indices=True)[1], x, *geometry),
        )
        yield f"max backward {geometry}", functools.partial(function("max_pool_backward"), grad, x, *geometry)
        yield (
            f"max backward with indices {geometry}",
            functools.partial(function("max_pool_backward"), grad, x, *geometry, indices=indices),
        )
        yield f"average {geometry}", functools.partial(function("avg_pool"), x, *geometry)
        yield f"average backward {geometry}", functools.partial(function("avg_pool_backward"), grad, x, *geometry)


def some_pools() -> list[tuple[Callable[[], Array], Array]]:
    """A few operations, with their results on one thread; after this call, parallel ones are compiled."""
    calls = [call for _, call in pools(SHAPES[1])][:6]
    numba.set_num_threads(1)
    expected = [call() for call in calls]
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for call in calls:
        call()
    return list(zip(calls, expected, strict=True))


def check_all(calls: list[tuple[Callable[[], Array], Array]]) -> None:
    for call, expected in calls:
        assert call().tobytes() == expected.tobytes()


def in_fork(function: Callable[[], Any]) -> None:
    """Call `function` in a forked child, which must end well within a minute."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"the child ended with {status}"
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def require_layer(layer: str) -> None:
    """Skip the test where a threading layer cannot be loaded."""
    module = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}[layer]
    try:
        importlib.import_module(f"numba.np.ufunc.{module}")
    except ImportError as error:
        pytest.skip(f"{layer}: {error}")


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    """A threading layer of Numba that can be loaded here."""
    require_layer(request.param)
    return str(request.param)


# 16 threads -----------------------------------------------------------------------------------------------------------


def call_from_16_threads(layer: str, repetitions: int) -> None:
    calls = some_pools()
    assert numba.threading_layer() == layer
    start = threading.Barrier(16)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        start.wait()
        try:
            for i in range(repetitions):
                check_all([calls[(number + i) % len(calls)]])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_16_threads(layer: str) -> None:
    call_in_process(call_from_16_threads, layer, 12, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)


@pytest.mark.full
def test_16_threads_for_long(layer: str) -> None:
    call_in_process(call_from_16_threads, layer, 500, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)


def first_calls_from_16_threads() -> None:
    """Nothing is compiled, loaded or started before the threads."""
    x = np.arange(400_000, dtype=np.float32).reshape(4, 10, 100, 100)
    results: list[Any] = [None] * 16
    start = threading.Barrier(16)

    def work(number: int) -> None:
        start.wait()
        results[number] = numbapool.max_pool2d(x, 2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, x[:, :, 1::2, 1::2])


def test_first_calls_from_16_threads(layer: str) -> None:
    call_in_process(first_calls_from_16_threads, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)


# Forks ----------------------------------------------------------------------------------------------------------------


@numba.njit(parallel=True)
def parallel_sum(array: Array) -> float:
    """A parallel function of the caller's own."""
    total = 0.0
    for i in numba.prange(array.size):
        total += array[i]
    return total


def fork_after_call() -> None:
    calls = some_pools()
    for _ in range(3):
        in_fork(lambda: check_all(calls))
        check_all(calls)
    in_fork(lambda: in_fork(lambda: check_all(calls)))


def fork_before_call() -> None:
    """Both parent and child start their threads after the fork."""
    in_fork(lambda: check_all(some_pools()))
    check_all(some_pools())


def fork_after_other_function() -> None:
    parallel_sum(np.ones(100_000))
    in_fork(lambda: check_all(some_pools()))
    check_all(some_pools())


def fork_during_calls() -> None:
    calls = some_pools()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            check_all(calls)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            in_fork(lambda: check_all(calls))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    check_all(calls)


def call_number(number: int) -> bytes:
    call, _ = _calls_of_pool[number]
    return call().tobytes()


_calls_of_pool: list[tuple[Callable[[], Array], Array]] = []


def multiprocessing_after_call() -> None:
    _calls_of_pool[:] = some_pools()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(call_number, range(len(_calls_of_pool))).get(timeout=60)
    for result, (_, expected) in zip(results, _calls_of_pool, strict=True):
        assert result == expected.tobytes()


FORKS = (fork_after_call, fork_before_call, fork_after_other_function, fork_during_calls, multiprocessing_after_call)


@needs_fork
@pytest.mark.parametrize("scenario", FORKS, ids=lambda scenario: scenario.__name__)
def test_fork(scenario: Callable[[], None], layer: str) -> None:
    call_in_process(scenario, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)


# torch in the same process --------------------------------------------------------------------------------------------


def beside_torch(is_first: bool) -> None:
    if is_first:
        import torch
    calls = some_pools()
    import torch

    torch.set_num_threads(2)
    matrix = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    product = matrix @ matrix
    failures: list[BaseException] = []

    def multiply() -> None:
        try:
            for _ in range(20):
                torch.testing.assert_close(matrix @ matrix, product)
        except BaseException as error:
            failures.append(error)

    for _ in range(5):
        check_all(calls)
        torch.testing.assert_close(matrix @ matrix, product)
    thread = threading.Thread(target=multiply)
    thread.start()
    check_all(calls)
    thread.join()
    if failures:
        raise failures[0]


def fork_after_torch() -> None:
    """The parent's OpenMP threads are torch's, and numbapool has not been called."""
    import torch

    torch.set_num_threads(2)
    matrix = torch.ones(300, 300)
    matrix @ matrix
    (matrix + 1).sum()
    in_fork(lambda: check_all(some_pools()))
    calls = some_pools()
    matrix @ matrix
    in_fork(lambda: check_all(calls))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("is_first", [True, False], ids=["torch first", "numbapool first"])
def test_beside_torch(is_first: bool) -> None:
    call_in_process(beside_torch, is_first, NUMBA_NUM_THREADS=2)


@needs_fork
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_fork_after_torch() -> None:
    call_in_process(fork_after_torch, NUMBA_NUM_THREADS=2)


# Number of threads ----------------------------------------------------------------------------------------------------


def compare_thread_counts() -> None:
    most = numba.config.NUMBA_NUM_THREADS
    for dtype in ("float32", "float64"):
        for shape in SHAPES:
            for name, call in pools(shape, dtype):
                numba.set_num_threads(1)
                expected = call().tobytes()
                for threads in range(2, most + 1):
                    numba.set_num_threads(threads)
                    assert call().tobytes() == expected, f"{name} on {shape}, {dtype}, {threads} threads"


def test_bits_do_not_depend_on_threads() -> None:
    call_in_process(compare_thread_counts, NUMBA_NUM_THREADS=5)


@pytest.fixture
def chunk_counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Chunks of each parallel launch; the number of threads is put back."""
    counts: list[int] = []
    run_chunks = cpu_threads.run_chunks

    def recorded(address: int, chunks: int, *arguments: Any) -> None:
        counts.append(chunks)
        run_chunks(address, chunks, *arguments)

    monkeypatch.setattr(cpu_threads, "run_chunks", recorded)
    threads = numba.get_num_threads()
    yield counts
    numba.set_num_threads(threads)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_thread_starts_no_others(shape: tuple[int, ...], chunk_counts: list[int]) -> None:
    numba.set_num_threads(1)
    for _, call in pools(shape):
        call()
    assert chunk_counts == []


def test_small_work_stays_in_its_thread(chunk_counts: list[int]) -> None:
    for _, call in pools((1, 2, 40, 40)):
        call()
    assert chunk_counts == []


def test_large_work_uses_all_threads(chunk_counts: list[int]) -> None:
    most = numba.config.NUMBA_NUM_THREADS
    numba.set_num_threads(most)
    numbapool.max_pool2d(np.zeros((8, 8, 64, 64), np.float32), 2)
    assert chunk_counts == ([most] if most > 1 else [])


class Interrupted:
    """The lock of the workqueue layer, during whose `acquire` the user interrupts: Python raises that as soon as it returns."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def acquire(self, blocking: bool) -> bool:
        self.lock.acquire(blocking=blocking)
        raise KeyboardInterrupt

    def release(self) -> None:
        self.lock.release()


def is_taken_elsewhere(lock: Any) -> bool:
    """Whether another thread finds a lock taken."""
    found: list[bool] = []

    def look() -> None:
        found.append(not lock.acquire(blocking=False))
        if not found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_an_interrupt_leaves_no_lock_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as it is, at work, and not taken at all because another thread has it, which then keeps it."""
    runs: list[str] = []
    kernel = lambda *_: runs.append("serial")  # noqa: E731
    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    monkeypatch.setattr(cpu_threads, "address_of", lambda *_: 0)
    monkeypatch.setattr(cpu_threads, "_is_serial", False)
    monkeypatch.setattr(cpu_threads, "run_chunks", lambda *_: runs.append("parallel"))

    def run() -> None:
        cpu_threads.run(kernel, 8, cpu_threads.SERIAL_OPERATIONS)

    lock = cpu_threads._workqueue
    run()
    interrupted = Interrupted()
    monkeypatch.setattr(cpu_threads, "_workqueue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not is_taken_elsewhere(interrupted.lock)
    monkeypatch.setattr(cpu_threads, "_workqueue", lock)

    def interrupt(*_: Any) -> None:
        assert is_taken_elsewhere(lock)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cpu_threads, "run_chunks", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not is_taken_elsewhere(lock)

    begin, end = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            begin.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begin.wait()
    run()
    assert is_taken_elsewhere(lock)
    end.set()
    thread.join()
    run()
    assert runs == ["parallel", "serial", "parallel"]
