"""Dtypes that most tests leave out (tests/selection.py), on windows that are drawn: one kernel of maxima and one of means each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbapool import reference
from tests.checks import INTEGERS, assert_same, public, spread_values, tied_values
from tests.selection import RARE

every_rare_integer = pytest.mark.parametrize("rare", [dtype for dtype in RARE if dtype in INTEGERS])


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], int]:
    """A shape, a window of up to three elements along each axis, and a seed: the geometries that one kernel serves."""
    rank = draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    lengths = [draw(st.integers(each + 1, 40 if rank == 1 else 20)) for each in kernel]
    window = {
        "kernel_size": tuple(kernel),
        "stride": tuple(draw(st.integers(1, 2)) for _ in kernel),
        "padding": tuple((draw(st.integers(0, each // 2)), draw(st.integers(0, each // 2))) for each in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    return (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *lengths), window, draw(st.integers(0, 1000))


@pytest.mark.parametrize("rare", ["float64", *INTEGERS, "bool"])
@given(calls())
@settings(max_examples=30, derandomize=True)
def test_maxima(rare: str, call: tuple[tuple[int, ...], dict[str, Any], int]) -> None:
    shape, window, seed = call
    x, rank = tied_values(shape, rare, seed), len(shape) - 2
    out, indices = public("max_pool", rank)(x, **window, return_indices=True)
    expected, positions = reference.max_pool(x, **window, rank=rank)
    assert_same(out, expected)
    assert_same(indices, positions)


@every_rare_integer
@given(calls(), st.sampled_from(["truncate", "nearest"]))
@settings(max_examples=30, derandomize=True)
def test_means(rare: str, call: tuple[tuple[int, ...], dict[str, Any], int], rounding: str) -> None:
    shape, window, seed = call
    x, rank = spread_values(shape, rare, seed), len(shape) - 2
    expected = reference.avg_pool(x, **window, rounding=rounding, rank=rank)
    assert_same(public("avg_pool", rank)(x, **window, rounding=rounding), expected)


@given(calls())
@settings(max_examples=30, derandomize=True)
def test_minima_of_bools(call: tuple[tuple[int, ...], dict[str, Any], int]) -> None:
    """Bytes that are reversed with respect to one, not to their least value."""
    shape, window, seed = call
    x, rank = tied_values(shape, "bool", seed), len(shape) - 2
    out, indices = public("min_pool", rank)(x, **window, return_indices=True)
    expected, positions = reference.min_pool(x, **window, rank=rank)
    assert_same(out, expected)
    assert_same(indices, positions)


@given(calls())
@settings(max_examples=30, derandomize=True)
def test_bfloat16(call: tuple[tuple[int, ...], dict[str, Any], int]) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    shape, window, seed = call
    x, rank = tied_values(shape, "float32", seed).astype(bfloat16), len(shape) - 2
    out, indices = public("max_pool", rank)(x, **window, return_indices=True)
    expected, positions = reference.max_pool(x.astype(np.float32), **window, rank=rank)
    assert_same(out.astype(np.float32), expected)
    assert_same(indices, positions)
