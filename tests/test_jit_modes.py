"""The kernels as plain Python (`NUMBA_DISABLE_JIT=1`), and compiled with every index checked (`NUMBA_BOUNDSCHECK=1`)."""

from __future__ import annotations

import numpy as np
import pytest

from numbapool import reference
from tests import test_family
from tests.cases import CASES, Case
from tests.checks import FLOATS, Array, assert_same, assert_sums, public, spread_values, taps, tied_values
from tests.conftest import ARRAY_KINDS
from tests.processes import call_in_process

# At least one for each algorithm of the schedule; names of `CASES`, and two of which windows lie mostly outside.
NAMES = ("vgg-odd", "resnet-odd", "inception", "asymmetric-before", "spp-5", "ragged-ceil-padded", "audio-overlap")
NAMES += ("c3d", "ragged-ceil-3d", "dilation-without-taps", "same-lower", "divisor-negative", "i3d-branch")
SELECTED = (
    *(case for case in CASES if case.name in NAMES),
    Case("flat", (4, 8, 7, 9), 3, 1, 1),
    Case("groups", (4, 10, 5, 6), 3, 2, 1),
    Case("planes", (4, 10, 4, 3), (4, 3)),
    Case("whole", (2, 1, 33, 32), (33, 32)),
    Case("halves", (2, 3, 2, 24), (1, 8), (1, 8)),
    Case("far-apart", (1, 2, 5), 3, 700, 2100, 2000),
    Case("mostly-outside", (1, 1, 3, 4), 2, (40, 1), (90, 3), (150, 1), count_include_pad=False),
)
# Kinds of dtype differ in the code that is run; the widths of integers do not.
DTYPES = ("float32", "float64", "uint8", "int64")


def gapped(array: Array) -> Array:
    memory = np.zeros([2 * length for length in array.shape], array.dtype)
    view = memory[tuple(slice(None, None, (-2, 2)[axis % 2]) for axis in range(array.ndim))]
    view[...] = array
    return view


def check_case(case: Case, dtype: str) -> None:
    """Every operation on contiguous and on strided arrays against the reference."""
    x = tied_values(case.shape, dtype)
    terms = spread_values(case.shape, dtype)
    if dtype not in FLOATS:
        terms //= 64  # without the compiler, NumPy warns of each sum that wraps
    expected, expected_indices = reference.max_pool(x, **case.max_arguments, rank=case.rank)
    average = reference.avg_pool(terms, **case.avg_arguments, rank=case.rank)
    magnitudes = case.avg_arguments | {"divisor_override": case.divisor_override and abs(case.divisor_override)}
    for layout in (np.ascontiguousarray, gapped):
        assert_same(public("max_pool", case.rank)(layout(x), **case.max_arguments), expected)
        out, indices = public("max_pool", case.rank)(layout(x), **case.max_arguments, return_indices=True)
        assert_same(out, expected)
        assert_same(indices, expected_indices)
        actual = public("avg_pool", case.rank)(layout(terms), **case.avg_arguments)
        if dtype not in FLOATS:
            assert_same(actual, average)
            continue
        assert_sums(actual, average, reference.avg_pool(np.abs(terms), **magnitudes, rank=case.rank), taps(case))
        grad = spread_values(expected.shape, dtype, seed=1)
        by_indices = {"indices": layout(expected_indices)}
        for function, arguments, more in (
            ("max_pool_backward", case.max_arguments, {}),
            ("max_pool_backward", case.max_arguments, by_indices),
            ("avg_pool_backward", case.avg_arguments, {}),
        ):
            actual = public(function, case.rank)(layout(grad), layout(x), **arguments, **more)
            definition = getattr(reference, function)
            sums = definition(grad, x, **arguments, rank=case.rank)
            sizes = definition(np.abs(grad), x, **(magnitudes if "avg" in function else arguments), rank=case.rank)
            assert_sums(actual, sums, sizes, taps(case))


def check_cases(dtype: str) -> None:
    """All selected cases; every algorithm must come up."""
    import numba

    from numbapool.geometry import window_plan
    from numbapool.kernels.cpu.schedule import DENSE, FLAT, ROWS, STRIDED, WHOLE, WINDOWS, schedule_of

    algorithms = set()
    for case in SELECTED:
        check_case(case, dtype)
        for is_contiguous in (True, False):
            plan = window_plan(case.shape, case.rank, *case.max_arguments.values())
            algorithms.add(schedule_of(plan, np.dtype(dtype).itemsize, is_contiguous, False).algorithm)
    assert algorithms == {FLAT, ROWS, DENSE, STRIDED, WHOLE, WINDOWS}
    print("jit off" if numba.config.DISABLE_JIT else f"bounds {numba.config.BOUNDSCHECK}")


def check_family() -> None:
    """Every other operation, forward and backward, on one kind of array."""
    (kind,) = (kind for kind in ARRAY_KINDS if kind.name == "numpy_strided")
    for dtype in ("float32", "uint8", "bool"):
        for call in test_family.EXTREMA:
            test_family.test_extrema(kind, call, dtype)
    for call in test_family.EXTREMA:
        test_family.test_extrema_backward(kind, call, "float32")
    for call in test_family.SUMS + test_family.MEANS:
        test_family.test_sums_backward(kind, call, "float32")
    for call in test_family.MEANS:
        test_family.test_means(kind, call, "float32")
    for call in test_family.NORMS:
        test_family.test_norms(kind, call, "float32")
    test_family.test_unpool(kind, (1, 2, 4, 3), "float32")
    test_family.test_fractional(kind, (2, 3, 9, 12), (2, 3), (5, 4), "float32")
    test_family.test_global(kind, (1, 2, 40, 41))


def test_family_without_compiler() -> None:
    call_in_process(check_family, NUMBA_DISABLE_JIT=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_compiler(dtype: str) -> None:
    assert "jit off" in call_in_process(check_cases, dtype, NUMBA_DISABLE_JIT=1)


@pytest.mark.parametrize(
    "dtype", ["uint8", *(pytest.param(each, marks=pytest.mark.full) for each in ("float32", "int64"))]
)
def test_with_checked_indices(dtype: str) -> None:
    # One thread, because an IndexError in another would not surface.
    assert "bounds 1" in call_in_process(check_cases, dtype, NUMBA_BOUNDSCHECK=1, NUMBA_NUM_THREADS=1)


def write_beyond_end() -> None:
    """A result one element too short, which no public call can pass."""
    from numbapool.geometry import window_plan
    from numbapool.kernels import cpu

    x = np.arange(16, dtype=np.float32)
    plan = window_plan((1, 1, 4, 4), 2, 2, None, 0, 1, False)
    with pytest.raises(IndexError):
        cpu.max_pool(plan, x.dtype, True).run((x, None), [np.zeros(3, np.float32)])


def test_index_out_of_bounds_surfaces() -> None:
    call_in_process(write_beyond_end, NUMBA_BOUNDSCHECK=1, NUMBA_NUM_THREADS=1)
