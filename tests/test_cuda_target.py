"""The CUDA target's arithmetic, what it imports, and its kernels in Numba's simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbapool
from numbapool.kernels.cuda import compiler, elements, grid
from numbapool.kernels.cuda.variants import bound

ROOT = Path(numbapool.__file__).parents[1]


def plain(function: Any, **names: Any) -> Any:
    """A function of the target in plain Python."""
    return bound(function, names, lambda each: each, {})


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_quotients_of_32_bits(n: int, divisor: int) -> None:
    for dividend in {n, n // divisor * divisor, max(0, n // divisor * divisor - 1)}:
        assert elements.quotient32(dividend, divisor, grid.magic32(divisor)) == dividend // divisor


@given(st.integers(0, 2**62), st.integers(1, 2**62))
def test_quotients_of_64_bits(n: int, divisor: int) -> None:
    with np.errstate(over="ignore"):
        for dividend in {n, n // divisor * divisor, max(0, n // divisor * divisor - 1)}:
            assert elements.quotient64(dividend, divisor, grid.magic64(divisor)) == dividend // divisor


def test_every_half() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = np.array([elements.float_of_half(each) for each in bits])
    np.testing.assert_array_equal(values, bits.view(np.float16).astype(np.float32))
    back = np.array([elements.half_of_float(each) for each in values], np.uint16)
    np.testing.assert_array_equal(back.view(np.float16), bits.view(np.float16))


@given(st.floats(width=32))
def test_rounding_to_half(each: float) -> None:
    with np.errstate(over="ignore"):
        expected = np.float32(each).astype(np.float16)
    np.testing.assert_array_equal(elements.half_of_float(np.float32(each)).view(np.float16), expected)


@given(st.floats(width=32))
def test_rounding_to_bfloat(each: float) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = elements.bfloat_of_float(np.float32(each))
    np.testing.assert_array_equal(
        elements.float_of_bfloat(bits), np.float32(np.float32(each).astype(ml_dtypes.bfloat16))
    )


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63) + 1, 2**63 - 1).filter(bool))
def test_quotients_of_sums(each: int, divisor: int) -> None:
    names = {"total": np.int64, "magnitude_of": elements.magnitude_signed}
    magnitude, is_negative = abs(each) // abs(divisor), (each < 0) != (divisor < 0)
    rest = 2 * (abs(each) % abs(divisor)) - abs(divisor)
    nearest = magnitude + (rest > 0 or (rest == 0 and magnitude % 2))
    with np.errstate(over="ignore"):
        given_sum = np.int64(each)
        for function, expected in ((elements.int_quotient, magnitude), (elements.rounded_quotient, nearest)):
            divide = plain(function, **names | {"signed": magnitude_and_sign})
            assert divide(given_sum, np.int64(divisor)) == (expected, is_negative)


def magnitude_and_sign(q: Any, is_negative: Any) -> tuple[int, bool]:
    """In place of the signed quotient, which may not fit."""
    return int(q), bool(is_negative)


@pytest.mark.parametrize(("dtype", "reciprocal"), [(np.float32, "reciprocal32"), (np.float64, "reciprocal64")])
def test_quotients_of_floats(dtype: Any, reciprocal: str) -> None:
    """To the last bit but one, without fused operations; exact where the quotient is."""
    divide = plain(elements.float_quotient, total=dtype, reciprocal=getattr(elements, reciprocal))
    rng = np.random.default_rng(0)
    for divisor in [1, 2, 3, 4, 7, 9, 49, 81, 1000, 12544, 2**40 + 1, -3, -(2**62)]:
        for each in [*rng.standard_normal(50) * 10.0 ** rng.integers(-9, 9, 50), 0.0, 3.0]:
            actual, expected = divide(dtype(each), dtype(divisor)), dtype(each) / dtype(divisor)
            assert abs(actual - expected) <= abs(expected) * np.finfo(dtype).eps, (each, divisor)
            whole = dtype(round(each) % 1000) * dtype(divisor)
            if abs(divisor) < 2**13:
                assert divide(whole, dtype(divisor)) == whole / dtype(divisor)
    with np.errstate(invalid="ignore"):
        for each in (np.inf, -np.inf):
            assert divide(dtype(each), dtype(3)) == each
    assert np.isnan(divide(dtype(np.nan), dtype(3)))
    assert divide(dtype(0), dtype(0)) == 0


def test_cpu_calls_import_nothing_of_it() -> None:
    code = (
        "import sys, numpy, numbapool; numbapool.max_pool1d(numpy.zeros((1, 1, 4)), 2); "
        "loaded = [m for m in sys.modules if m.startswith(('numbapool.kernels.cuda', 'numba.cuda', 'cuda'))]; "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_planning_imports_no_numba() -> None:
    code = "import sys, numbapool.kernels.cuda; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_numbas_own_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Core Numba still ships a numba.cuda: it is named, and the command that installs the right one."""
    built_in = SimpleNamespace(implementation="Built-in", __name__="numba.cuda")
    monkeypatch.setattr(compiler.importlib, "import_module", lambda name: built_in)
    with pytest.raises(ImportError, match=r"not the numba.cuda that Numba comes with: pip install 'numbapool\[cuda\]'"):
        compiler.numba_cuda.__wrapped__()


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(compiler.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'numbapool\[cuda\]'"):
        compiler.numba_cuda.__wrapped__()


@pytest.mark.parametrize("arranged", ["planes", "channels last", "strided"])
@pytest.mark.parametrize("dtype", ["float16", *(pytest.param(d, marks=pytest.mark.full) for d in ("float32", "int8"))])
def test_fast_paths(dtype: str, arranged: str) -> None:
    """Tiles, windows an axis at a time, whole planes, and 16 bytes of channels at once, each with the CPU's results."""
    from tests.emulation import EmulatedArray

    x = (np.random.default_rng(0).standard_normal((2, 16, 18, 32)) * 3).astype(dtype)
    if arranged == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    elif arranged == "strided":
        x = x[::-1, :, ::-1, ::2]
    for size, *window in ((2,), (9, 2, 3), ((7, 5), 1, 2), (x.shape[2:],)):
        values, indices = numbapool.max_pool2d(x, size, *window, return_indices=True)
        ours = numbapool.max_pool2d(EmulatedArray(x), size, *window, return_indices=True)
        np.testing.assert_array_equal(ours[0].array, values)
        np.testing.assert_array_equal(ours[1].array, indices)
        alone = numbapool.max_pool2d(EmulatedArray(x), size, *window)
        np.testing.assert_array_equal(alone.array, values)
        mean = numbapool.avg_pool2d(EmulatedArray(x), size, *window)
        tolerance = 2e-3 if dtype == "float16" else 1e-5
        expected = numbapool.avg_pool2d(x, size, *window)
        np.testing.assert_allclose(mean.array, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.full), "int8"])
def test_simulator(dtype: str) -> None:
    """Small cases of every kernel, block by block, see `tests.simulation`."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "tests.simulation", dtype]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert ended.returncode == 0, ended.stderr
    seen = set(ended.stdout.split())
    assert {"max_tiles_indices", "avg_whole", "max_whole_indices", "merge_windows", "claim", "collect", "scan"} <= seen
