"""The operations on vectors against their Python twins, which say what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from numbapool import windows
from numbapool.elements import BFLOAT16
from numbapool.kernels.cpu import vectors

DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
LANES = {dtype: vectors.VECTOR_BYTES // np.dtype(dtype).itemsize for dtype in DTYPES}

Array = NDArray[Any]


def values(dtype: str, seed: int) -> Array:
    """Two vectors of a dtype, of numbers that equal each other often, with its extremes."""
    random = np.random.default_rng(seed)
    info = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    pool = [info.min, info.max, 0, 1, 2, 3]
    if dtype.startswith("float"):
        pool += [np.nan, np.inf, -np.inf, -0.0]
    return random.choice(np.array(pool, dtype), 2 * LANES[dtype])


def compiled(operation: Callable[..., Array]) -> Callable[..., Any]:
    return numba.njit(error_model="numpy")(operation)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", DTYPES)
def test_larger(dtype: str, seed: int) -> None:
    a, b = values(dtype, seed), values(dtype, seed + 100)
    larger, load, store = vectors.larger, vectors.load, vectors.store

    @compiled
    def run(a, b, out):
        store(out, np.uintp(0), larger(load(a, np.uintp(0), a), load(b, np.uintp(0), b)))
        for i in range(len(a)):
            out[i + len(a)] = larger(a[i], b[i])

    out = np.zeros(2 * len(a), dtype)
    run(a, b, out)
    expected = np.array([windows.larger(*pair) for pair in zip(a, b, strict=True)])
    np.testing.assert_array_equal(out[: LANES[dtype]], expected[: LANES[dtype]])
    np.testing.assert_array_equal(out[len(a) :], expected)
    np.testing.assert_array_equal(np.signbit(out[len(a) :]), np.signbit(expected))
    assert not out[LANES[dtype] : len(a)].any()  # a store writes a vector and no more


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", DTYPES)
def test_take_is_a_scan_in_order(dtype: str, seed: int) -> None:
    best, value = values(dtype, seed), values(dtype, seed + 100)
    marks, value_marks = np.arange(len(best), dtype=np.int32), np.arange(len(best), dtype=np.int32) + 1000
    take, load, load_marks, store = vectors.take, vectors.load, vectors.load_marks, vectors.store

    @compiled
    def run(best, marks, value, value_marks):
        at = np.uintp(0)
        taken, mark = take(
            load(best, at, best), load_marks(marks, at, best), load(value, at, best), load_marks(value_marks, at, best)
        )
        store(best, at, taken)
        store(marks, at, mark)

    replaces = np.array([windows.replaces(*pair) for pair in zip(value, best, strict=True)])[: LANES[dtype]]
    n = LANES[dtype]
    expected = np.where(replaces, value[:n], best[:n])
    expected_marks = np.where(replaces, value_marks[:n], marks[:n])
    run(best, marks, value, value_marks)
    np.testing.assert_array_equal(best[: LANES[dtype]], expected)
    np.testing.assert_array_equal(marks[: LANES[dtype]], expected_marks)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes(dtype: str) -> None:
    x, n = np.arange(2 * LANES[dtype]).astype(dtype), np.uintp(LANES[dtype])
    evens, keep, load, store = vectors.evens, vectors.keep, vectors.load, vectors.store
    zipped_low, zipped_high, all_lanes = vectors.zipped_low, vectors.zipped_high, vectors.all_lanes

    @compiled
    def run(x, out, n, other):
        store(out, np.uintp(0), evens(load(x, np.uintp(0), x), load(x, n, x)))
        store(out, n, keep(load(x, np.uintp(0), x), n // np.uintp(2), other))
        store(out, n + n, zipped_low(load(x, np.uintp(0), x), load(x, n, x)))
        store(out, n + n + n, zipped_high(load(x, np.uintp(0), x), load(x, n, x)))
        store(out, n + n + n + n, all_lanes(other, x, x))

    out = np.zeros(5 * n, dtype)
    run(x, out, n, x[7])
    half = int(n) // 2
    np.testing.assert_array_equal(out[:n], x[::2])
    np.testing.assert_array_equal(out[n : 2 * n], [*x[:half], *[x[7]] * half])
    np.testing.assert_array_equal(out[2 * n : 4 * n], np.column_stack([x[:n], x[n:]]).ravel())
    np.testing.assert_array_equal(out[4 * n :], np.full(n, x[7]))


@pytest.mark.parametrize("is_rounded", [False, True])
@pytest.mark.parametrize("divisor", [1, 2, 3, 14, -1, -2, -7, 2**62])
@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_quotient(dtype: str, divisor: int, is_rounded: bool) -> None:
    info = np.finfo(dtype) if dtype == "float64" else np.iinfo(dtype)
    x = np.array([info.min, info.max, 7, 8], dtype)
    divisors = np.full(4, divisor, "float64" if dtype == "float64" else "int64")
    load, quotient, store = vectors.load, vectors.quotient, vectors.store

    @compiled
    def run(x, divisors, out, is_rounded):
        at = np.uintp(0)
        store(out, at, quotient(load(x, at, x), load(divisors, at, divisors), is_rounded))
        for i in range(4):
            out[i + 4] = quotient(x[i], x.dtype.type(divisors[i]), is_rounded)

    out = np.zeros(8, dtype)
    run(x, divisors, out, is_rounded)
    if dtype == "float64":
        expected = x / divisors
    else:  # by C's rule, towards zero, or as Python rounds, halves to the even one; in 64 bits that wrap
        quotients = [(round if is_rounded else math.trunc)(Fraction(int(each), divisor)) for each in x]
        expected = np.array([each % 2**64 for each in quotients], np.uint64).astype(dtype)
    np.testing.assert_array_equal(out[:4], expected)
    if dtype != "uint64" or divisor > 0:  # a scalar divisor has the dtype of the sum
        np.testing.assert_array_equal(out[4:], expected)


def test_integers_are_widened_and_cut() -> None:
    x = np.array([-128, -1, 0, 127], np.int8)
    load, store = vectors.load, vectors.store

    @compiled
    def run(x, wide, out):
        store(wide, np.uintp(0), load(x, np.uintp(0), wide))
        store(out, np.uintp(0), load(wide, np.uintp(0), wide))

    wide, out = np.zeros(4, np.int64), np.zeros(4, np.int8)
    run(x, wide, out)
    assert wide.tolist() == out.tolist() == x.tolist()


def test_bfloat16() -> None:
    """Every number is read as the float32 that it is, and float32 between two of them is rounded, from the middle to the even."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    every = np.arange(1 << 16, dtype=np.uint16)
    between = np.concatenate([every.astype(np.uint32) << 16 | rest for rest in (1, 0x7FFF, 0x8000, 0x8001)])
    load, store, width = vectors.load, vectors.store, LANES["float32"]

    @compiled
    def run(x, floats, out):
        for i in range(0, x.size, width):
            store(floats, np.uintp(i), load(x, np.uintp(i), floats))
        for i in range(0, out.size, width):
            store(out, np.uintp(i), load(floats, np.uintp(x.size + i), floats))

    floats = np.concatenate([np.empty(1 << 16, np.float32), between.view(np.float32)])
    out = np.empty(between.size, BFLOAT16)
    run(every.view(BFLOAT16), floats, out)
    np.testing.assert_array_equal(floats[: 1 << 16], every.view(bfloat16).astype(np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = between.view(np.float32).astype(bfloat16)
    np.testing.assert_array_equal(out.view(bfloat16).astype(np.float32), expected.astype(np.float32))


def test_indices() -> None:
    marks, x = np.array([5, -1, 0, -(1 << 30)], np.int32), np.zeros(4)
    indices_of, load_marks, shifted, store = vectors.indices_of, vectors.load_marks, vectors.shifted, vectors.store

    @compiled
    def run(marks, x, indices):
        store(indices, np.uintp(0), indices_of(shifted(load_marks(marks, np.uintp(0), x), np.int32(2)), indices))

    for dtype in (np.int64, np.int32, np.uint8, np.uint16):
        indices = np.zeros(4, dtype)
        run(marks, x, indices)
        assert indices.tolist() == [7, 1, 2, np.int64(-1).astype(dtype)]


@pytest.mark.parametrize("past_caches", [False, True])
def test_stream(past_caches: bool) -> None:
    x = np.arange(8, dtype=np.float32)
    load, stream = vectors.load, vectors.stream
    can_stream, finish_streams = vectors.can_stream, vectors.finish_streams

    @compiled
    def run(x, out, at, past_caches):
        stream(out, at, load(x, np.uintp(0), x), past_caches and can_stream(out, at))
        finish_streams()
        return can_stream(out, at)

    for at in range(4):  # of which one is aligned
        out = np.zeros(16, np.float32)
        is_aligned = run(x, out, np.uintp(at), past_caches)
        assert is_aligned == ((out.ctypes.data + 4 * at) % vectors.STREAM_BYTES == 0)
        np.testing.assert_array_equal(out, [*[0] * at, *x, *[0] * (8 - at)])


@pytest.mark.parametrize("exponent", [2.5, -1.5, 1 / 3, 0.1, 4, 5, -1, -3, -2, 12.5, 100, 0.01])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_power(dtype: str, exponent: float) -> None:
    """Of numbers of every magnitude, and of zeros, infinities and NaN; negative ones have powers of whole exponents."""
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, 1e-38, 2.0]
    bases = np.concatenate([10 ** rng.uniform(-38, 38, 500), -(10 ** rng.uniform(-3, 3, 500)), special, [3.0] * 4])
    x = bases.astype(dtype)
    load, power, store = vectors.load, vectors.power, vectors.store
    width = np.uintp(LANES[dtype])

    @compiled
    def run(x, exponent, out):
        at = np.uintp(0)
        while at + width <= np.uintp(x.size):
            store(out, at, power(load(x, at, x), exponent))
            at += width

    out = np.zeros_like(x)
    run(x, float(exponent), out)
    with np.errstate(all="ignore"):
        exact = x.astype(np.longdouble) ** np.longdouble(exponent)
        expected = exact.astype(dtype)
    np.testing.assert_array_max_ulp(out[np.isfinite(expected)], expected[np.isfinite(expected)], 1)
    np.testing.assert_array_equal(out[~np.isfinite(expected)], expected[~np.isfinite(expected)])
