"""The examples that tutorials on pooling work by hand, through the public functions; the results are written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbapool

SIX_BY_SIX = [
    [1, 3, 2, 4, 6, 8],
    [5, 6, 7, 8, 9, 10],
    [4, 3, 2, 1, 0, 1],
    [7, 8, 9, 10, 11, 12],
    [6, 5, 4, 3, 2, 1],
    [0, 1, 2, 3, 4, 5],
]
ONE_TO_SIXTEEN = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
    [9, 10, 11, 12],
    [13, 14, 15, 16],
]
FLOATS = ["float32", "float64"]
NUMBERS = [*FLOATS, "int8", "uint8", "int16", "int32", "int64"]


def image(rows: list[list[float]], dtype: str) -> np.ndarray[Any, Any]:
    """One sample of one channel, (1, 1, H, W)."""
    return np.array(rows, dtype)[None, None]


def assert_plane(actual: np.ndarray[Any, Any], expected: list[list[float]], dtype: str) -> None:
    assert actual.dtype == dtype
    assert actual.tolist() == [[expected]]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_max_2x2_of_six_by_six(dtype: str) -> None:
    # A widely read tutorial prints [7, 9, 12] as the last row.
    expected = [[6, 8, 10], [8, 10, 12], [6, 4, 5]]
    assert_plane(numbapool.max_pool2d(image(SIX_BY_SIX, dtype), 2), expected, dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_max_2x2_of_six_by_six_indices(dtype: str) -> None:
    out, indices = numbapool.max_pool2d(image(SIX_BY_SIX, dtype), 2, return_indices=True)
    assert_plane(out, [[6, 8, 10], [8, 10, 12], [6, 4, 5]], dtype)
    assert_plane(indices, [[7, 9, 11], [19, 21, 23], [24, 26, 35]], "int64")


@pytest.mark.parametrize("dtype", FLOATS)
def test_max_2x2_of_six_by_six_backward(dtype: str) -> None:
    x = image(SIX_BY_SIX, dtype)
    grad_output = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype)
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 2, 0, 3],
        [0, 0, 0, 0, 0, 0],
        [0, 4, 0, 5, 0, 6],
        [7, 0, 8, 0, 0, 0],
        [0, 0, 0, 0, 0, 9],
    ]
    _, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    assert_plane(numbapool.max_pool2d_backward(grad_output, x, 2), expected, dtype)
    assert_plane(numbapool.max_pool2d_backward(grad_output, x, 2, indices=indices), expected, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_average_2x2_of_six_by_six(dtype: str) -> None:
    expected = [[3.75, 5.25, 8.25], [5.5, 5.5, 6.0], [3.0, 3.0, 3.0]]
    assert_plane(numbapool.avg_pool2d(image(SIX_BY_SIX, dtype), 2), expected, dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_average_2x2_of_six_by_six_integers(dtype: str) -> None:
    # Integers are divided towards zero.
    assert_plane(numbapool.avg_pool2d(image(SIX_BY_SIX, dtype), 2), [[3, 5, 8], [5, 5, 6], [3, 3, 3]], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_average_2x2_of_six_by_six_backward(dtype: str) -> None:
    x = image(SIX_BY_SIX, dtype)
    grad_output = image([[4, 8, 12], [16, 20, 24], [28, 32, 36]], dtype)
    expected = [
        [1, 1, 2, 2, 3, 3],
        [1, 1, 2, 2, 3, 3],
        [4, 4, 5, 5, 6, 6],
        [4, 4, 5, 5, 6, 6],
        [7, 7, 8, 8, 9, 9],
        [7, 7, 8, 8, 9, 9],
    ]
    assert_plane(numbapool.avg_pool2d_backward(grad_output, x, 2), expected, dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[6, 8], [14, 16]]),
        ({"stride": 1}, [[6, 7, 8], [10, 11, 12], [14, 15, 16]]),
        ({"padding": 1}, [[1, 3, 4], [9, 11, 12], [13, 15, 16]]),
    ],
    ids=["plain", "stride 1", "padding 1"],
)
def test_max_2x2_of_one_to_sixteen(dtype: str, arguments: dict[str, int], expected: list[list[float]]) -> None:
    assert_plane(numbapool.max_pool2d(image(ONE_TO_SIXTEEN, dtype), 2, **arguments), expected, dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_padding_never_wins(dtype: str) -> None:
    # Padding is not zeros: below zero it would win. (An unsigned dtype has only the zeros to tie with.)
    x = -image(ONE_TO_SIXTEEN, dtype) if dtype != "uint8" else image([[0] * 4] * 4, dtype)
    expected = [[-1, -2, -4], [-5, -6, -8], [-13, -14, -16]] if dtype != "uint8" else [[0] * 3] * 3
    first = [[0, 1, 3], [4, 5, 7], [12, 13, 15]]
    out, indices = numbapool.max_pool2d(x, 2, padding=1, return_indices=True)
    assert_plane(out, expected, dtype)
    assert_plane(indices, first, "int64")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[3.5, 5.5], [11.5, 13.5]]),
        ({"stride": 1}, [[3.5, 4.5, 5.5], [7.5, 8.5, 9.5], [11.5, 12.5, 13.5]]),
        ({"padding": 1}, [[0.25, 1.25, 1.0], [3.5, 8.5, 5.0], [3.25, 7.25, 4.0]]),
        ({"padding": 1, "count_include_pad": False}, [[1, 2.5, 4], [7, 8.5, 10], [13, 14.5, 16]]),
        ({"divisor_override": 1}, [[14, 22], [46, 54]]),
    ],
    ids=["plain", "stride 1", "padding 1", "padding 1 not counted", "sum"],
)
def test_average_2x2_of_one_to_sixteen(dtype: str, arguments: dict[str, Any], expected: list[list[float]]) -> None:
    assert_plane(numbapool.avg_pool2d(image(ONE_TO_SIXTEEN, dtype), 2, **arguments), expected, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_overlapping_windows_add_their_gradients(dtype: str) -> None:
    x = image(ONE_TO_SIXTEEN, dtype)
    ones = np.ones((1, 1, 2, 2), dtype)
    # All four 3x3 windows of a 4x4 have their maximum, which is the last element, to themselves ...
    assert_plane(numbapool.max_pool2d_backward(ones, x, 3, 1), [[0] * 4, [0] * 4, [0, 0, 1, 1], [0, 0, 1, 1]], dtype)
    # ... and share it in the mirrored image's middle peak.
    peak = image([[0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype)
    assert_plane(numbapool.max_pool2d_backward(ones, peak, 3, 1), [[0] * 4, [0, 4, 0, 0], [0] * 4, [0] * 4], dtype)
    assert_plane(
        numbapool.avg_pool2d_backward(9 * ones, x, 3, 1),
        [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]],
        dtype,
    )
