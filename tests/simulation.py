"""Small cases of every kernel in Numba's simulator of CUDA: blocks, threads, shared memory and barriers, in plain Python.

Run in a process of its own, with NUMBA_ENABLE_CUDASIM=1, because it takes the place of numba.cuda (tests/test_cuda_target.py).
Every access is checked: it must be inside the array that its pointer points to.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numbapool
from numbapool.kernels.cuda.compile import numba_cuda
from numbapool.kernels.cuda.launch import Step
from numbapool.kernels.cuda.variants import bound, buffer_dtype
from tests import emulation
from tests.emulation import EmulatedArray

SEEN: set[str] = set()
cuda = numba_cuda()


def simulate(step: Step, arguments: tuple[int, ...]) -> None:
    """A launch, in the simulator."""
    kernel, names = step.kernel, dict(step.kernel.names)
    function, index = bound(kernel.function, names, lambda each: each, {}), names.get("index", np.int64)
    count = len(step.buffers)
    buffers, g = emulation.pointers_in_python(kernel, arguments[:count]), arguments[count:]
    SEEN.add(kernel.function.__name__)
    if not kernel.shared:

        def entry(at: Any) -> None:
            function(index(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x), buffers, g)

    else:
        first, last = (buffer_dtype(name) for name in kernel.shared)
        phases, threads = kernel.phases, kernel.threads

        def entry(at: Any) -> None:
            one = cuda.shared.array(threads, first)
            two = cuda.shared.array(threads, last)  # on a line of its own: the simulator tells arrays apart by theirs
            shared = one, two
            for phase in range(phases):
                function(phase, shared, index(cuda.blockIdx.x), index(cuda.threadIdx.x), buffers, g)
                cuda.syncthreads()

    with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the simulator's own, about grids that are too small to be worth it
        cuda.jit(entry)[step.blocks, kernel.threads](0)


def wrapped(value: Any) -> Any:
    """Arrays as emulated ones."""
    return EmulatedArray(value) if isinstance(value, np.ndarray) else value


def assert_as_on_cpu(name: str, *arguments: Any, **options: Any) -> Any:
    """The same from both targets."""
    function = getattr(numbapool, name)
    expected = function(*arguments, **options)
    actual = function(*map(wrapped, arguments), **{key: wrapped(value) for key, value in options.items()})
    pairs = zip(actual, expected) if isinstance(expected, tuple) else [(actual, expected)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.array, theirs, rtol=1e-3, err_msg=f"{name} {arguments[1:]} {options}")
    return expected


def check(x: NDArray[Any], size: Any, window: tuple[Any, ...]) -> None:
    """Every operation on one array."""
    for kind in ("max", "min"):
        assert_as_on_cpu(f"{kind}_pool2d", x, size, *window)
        for index_kind in ("plane", "window"):
            options = {"index_kind": index_kind}
            y, i = assert_as_on_cpu(f"{kind}_pool2d", x, size, *window, return_indices=True, **options)
            if x.dtype.kind == "f":
                assert_as_on_cpu(f"{kind}_pool2d_backward", y, x, size, *window, indices=i, **options)
    y = assert_as_on_cpu("avg_pool2d", x, size, *window)
    assert_as_on_cpu("sum_pool2d", x, size, *window)
    if x.dtype.kind == "f":
        assert_as_on_cpu("avg_pool2d_backward", y, x, size, *window)
        assert_as_on_cpu("max_pool2d_backward", y, x, size, *window)


def main() -> None:
    """All of it; prints the kernels that have run."""
    emulation.LAUNCHER[0] = simulate
    rng = np.random.default_rng(0)
    for dtype in sys.argv[1:] or ("float32", "float16", "int8"):
        x = (4 * rng.standard_normal((1, 2, 5, 8))).round().astype(dtype)
        check(x, 3, (2, 1))  # lanes over planes
        check(x, 2, ())
        check(np.moveaxis(x, -1, 1), 2, (1,))  # channels last
        check(x[:, :, ::-1, ::3], 2, ())
    x = rng.standard_normal((1, 2, 8, 16)).astype(np.float32)
    check(x, 2, ())  # tiles
    check(x, (7, 9), (1, (3, 4)))  # passes
    y, i = numbapool.max_pool2d(x, (7, 9), 1, (3, 4), return_indices=True)
    i[0, 0, 3:5, 8] = 3 * 16 + 7, 3 * 16 + 9  # which share a row, and differ
    assert_as_on_cpu("max_pool2d_backward", y, x, (7, 9), 1, (3, 4), indices=i)
    planes = rng.standard_normal((2, 1, 20, 20)).astype(np.float32)
    check(planes, 20, ())  # whole planes, in shared memory
    check(planes.round().astype(np.int16), 20, ())
    check(rng.standard_normal((3, 1, 6, 6)).astype(np.float32), 6, ())  # several planes a block
    large = rng.standard_normal((1, 1, 96, 100)).astype(np.float32).round(2)  # in parts
    assert_as_on_cpu("max_pool2d", large, (96, 100), return_indices=True)
    assert_as_on_cpu("max_pool2d", large, (96, 100))
    assert_as_on_cpu("avg_pool2d", large, (96, 100))
    assert_as_on_cpu("adaptive_avg_pool2d", x, (3, 5))
    y, i = assert_as_on_cpu("adaptive_max_pool2d", x, (3, 5), return_indices=True)
    assert_as_on_cpu("adaptive_max_pool2d_backward", y, x, (3, 5), indices=i)
    assert_as_on_cpu("lp_pool2d", abs(x), 2.5, 3)
    y = assert_as_on_cpu("lp_pool2d", abs(x), 2, 3)
    assert_as_on_cpu("lp_pool2d_backward", y, abs(x), 2, 3)
    y = assert_as_on_cpu("lp_pool2d", x, np.inf, 3)
    assert_as_on_cpu("lp_pool2d_backward", y, x, np.inf, 3)
    assert_as_on_cpu("fractional_max_pool2d", x, 2, (3, 5), _random_samples=rng.random((1, 2, 2)))
    for index_kind in ("plane", "window", "global"):
        y, i = assert_as_on_cpu("max_pool2d", x, 2, return_indices=True, index_kind=index_kind)
        z = assert_as_on_cpu("max_unpool2d", y, i, 2, index_kind=index_kind)
        assert_as_on_cpu("max_unpool2d_backward", z, y, i, 2, index_kind=index_kind)
    half = x.astype(np.float16)
    y, i = assert_as_on_cpu("adaptive_max_pool2d", half, (3, 5), return_indices=True)
    assert_as_on_cpu("adaptive_max_pool2d_backward", y, half, (3, 5), indices=i)  # sums in scratch, then converted
    print(*sorted(SEEN))


if __name__ == "__main__":
    main()
