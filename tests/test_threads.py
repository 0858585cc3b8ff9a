"""Threads, forks and other libraries in the process: right results, no abort, the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import numba
import numpy as np
import pytest

import numbapool


@pytest.fixture(autouse=True)
def all_threads() -> Iterator[None]:
    """Give back the number of threads that a test changes."""
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def gradient_of(function: str) -> Callable[[np.ndarray], np.ndarray]:
    def run(x: np.ndarray) -> np.ndarray:
        rank = x.ndim - 2
        out = getattr(numbapool, f"{function}{rank}d")(x, 3, 2, 1)
        return getattr(numbapool, f"{function}{rank}d_backward")(out / 3, x, 3, 2, 1)

    return run


def with_indices(x: np.ndarray) -> np.ndarray:
    rank = x.ndim - 2
    out, indices = getattr(numbapool, f"max_pool{rank}d")(x, 3, 2, 1, return_indices=True)
    return getattr(numbapool, f"max_pool{rank}d_backward")(out / 3, x, 3, 2, 1, indices=indices)


OPERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max, stride 2": lambda x: getattr(numbapool, f"max_pool{x.ndim - 2}d")(x, 3, 2, 1),
    "max, stride 1": lambda x: getattr(numbapool, f"max_pool{x.ndim - 2}d")(x, 5, 1, 2),
    "average, stride 2": lambda x: getattr(numbapool, f"avg_pool{x.ndim - 2}d")(x, 3, 2, 1),
    "average, stride 1": lambda x: getattr(numbapool, f"avg_pool{x.ndim - 2}d")(x, 7, 1, 3),
    "max backward": gradient_of("max_pool"),
    "average backward": gradient_of("avg_pool"),
    "max backward with indices": with_indices,
}
SHAPES = {"many planes": (16, 8, 28, 28), "one huge plane": (1, 1, 700, 900), "a signal": (1, 1, 300_001)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_same_bits_for_any_number_of_threads(
    operation: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    results = []
    for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        numba.set_num_threads(threads)
        results.append(operation(x).tobytes())
    assert len(set(results)) == 1


def test_set_num_threads_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    from numbapool.kernels.cpu import launch

    launches = []
    run_chunks = launch.run_chunks
    monkeypatch.setattr(
        launch, "run_chunks", lambda *arguments: (launches.append(arguments[1]), run_chunks(*arguments))
    )
    x = np.zeros((8, 8, 64, 64), np.float32)
    numba.set_num_threads(1)
    numbapool.max_pool2d(x, 2)
    assert launches == []
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    numbapool.max_pool2d(x, 2)
    assert launches == ([numba.config.NUMBA_NUM_THREADS] if numba.config.NUMBA_NUM_THREADS > 1 else [])
    launches.clear()
    numbapool.max_pool2d(x[:1, :1], 2)
    assert launches == []


def run(script: str, **variables: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith("done")


SIXTEEN_THREADS = """
    import threading
    import numpy as np, numbapool

    x = np.random.default_rng(0).standard_normal((4, 8, 96, 96), dtype=np.float32)
    calls = [
        lambda: numbapool.max_pool2d(x, 3, 2, 1),
        lambda: numbapool.avg_pool2d(x, 2),
        lambda: numbapool.max_pool2d(x, 3, 1, 1),
        lambda: numbapool.max_pool2d(x, 2, return_indices=True)[1],
    ]
    expected = [call() for call in calls]
    wrong = []

    def work(number):
        for i in range(40):
            k = (number + i) % len(calls)
            if not np.array_equal(calls[k](), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not wrong
    print("done")
"""


@pytest.mark.parametrize("layer", ["default", "omp", "workqueue"])
def test_sixteen_threads_at_once(layer: str) -> None:
    run(SIXTEEN_THREADS, **({} if layer == "default" else {"NUMBA_THREADING_LAYER": layer}))


FORK = """
    import os
    import numpy as np, numbapool
    {before}
    x = np.random.default_rng(0).standard_normal((4, 8, 96, 96), dtype=np.float32)
    expected = numbapool.max_pool2d(x, 3, 2, 1)
    child = os.fork()
    if child == 0:
        right = np.array_equal(numbapool.max_pool2d(x, 3, 2, 1), expected)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if np.array_equal(numbapool.max_pool2d(x, 3, 2, 1), expected) else 1)
        os._exit(0 if right and os.waitpid(grandchild, 0)[1] == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(numbapool.max_pool2d(x, 3, 2, 1), expected)
    print("done")
"""
USERS_OWN = """
    import numba
    @numba.njit(parallel=True)
    def users_own(a):
        for i in numba.prange(a.size): a[i] += 1
    users_own(np.zeros(1000))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", ["default", "omp", "workqueue"])
@pytest.mark.parametrize("before", ["", USERS_OWN], ids=["ours", "after a parallel function of the user's"])
def test_fork_after_a_parallel_call(layer: str, before: str) -> None:
    run(FORK.format(before=before), **({} if layer == "default" else {"NUMBA_THREADING_LAYER": layer}))


@pytest.mark.parametrize("imports", ["import torch, numbapool", "import numbapool, torch"])
def test_torch_in_the_same_process(imports: str) -> None:
    pytest.importorskip("torch")
    run(f"""
        {imports}
        import numpy as np
        torch.set_num_threads(2)
        x = np.random.default_rng(0).standard_normal((4, 8, 96, 96), dtype=np.float32)
        expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), 3, 2, 1).numpy()
        for _ in range(20):
            torch.from_numpy(x) @ torch.from_numpy(x)
            assert np.array_equal(numbapool.max_pool2d(x, 3, 2, 1), expected)
        print("done")
    """)
