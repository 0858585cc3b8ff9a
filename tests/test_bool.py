"""Bools of any bytes: every one but 0 is True, as in masks of 0 and 255 that are seen as bool; results have bytes 0 and 1.

`checks.tied_values` has such bytes too, for every test that it feeds; here are values that are plain to see, and what only moves
elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import reference
from tests.checks import Array, assert_same, channels_last, in_order, tied_values

MASK = np.array([0, 255, 0, 0, 3, 128, 1, 0], np.uint8).view(bool).reshape(1, 1, 8)


def same_bools(found: Any, expected: list[int]) -> None:
    assert found.dtype == bool
    assert found.view(np.uint8).ravel().tolist() == expected


def test_a_mask_of_zeros_and_others() -> None:
    assert numbapool.sum_pool1d(MASK, 2).ravel().tolist() == [1, 0, 2, 1]
    assert numbapool.pool(MASK, "sum", 2, axes=2).ravel().tolist() == [1, 0, 2, 1]
    same_bools(numbapool.max_pool1d(MASK, 2), [1, 0, 1, 1])
    same_bools(numbapool.min_pool1d(MASK, 2), [0, 0, 1, 0])
    same_bools(numbapool.adaptive_max_pool1d(MASK, 4), [1, 0, 1, 1])
    for kind, firsts in (("plane", [1, 2, 4, 6]), ("window", [1, 0, 0, 0]), ("global", [1, 2, 4, 6])):
        values, indices = numbapool.max_pool1d(MASK, 2, return_indices=True, index_kind=kind)
        same_bools(values, [1, 0, 1, 1])
        assert indices.ravel().tolist() == firsts
    values, indices = numbapool.min_pool1d(MASK, 2, return_indices=True)
    same_bools(values, [0, 0, 1, 0])
    assert indices.ravel().tolist() == [0, 2, 4, 7]


def test_unpooling_moves_no_other_bytes() -> None:
    values, indices = MASK[..., 1::2], np.arange(4).reshape(1, 1, 4) * 2
    expected = [1, 0, 0, 0, 1, 0, 0, 0]
    same_bools(numbapool.max_unpool1d(values, indices, 2), expected)
    out = np.ones((1, 1, 8), bool)
    same_bools(numbapool.max_unpool1d(values, indices, 2, out=out), expected)
    swapped = values.transpose(0, 2, 1), indices.transpose(0, 2, 1)
    same_bools(numbapool.max_unpool1d(*swapped, 2, data_format="channels_last"), expected)


@pytest.mark.full
@pytest.mark.parametrize("layout", [in_order, channels_last], ids=["channels first", "channels last"])
def test_every_algorithm(layout: Callable[[Array, int], Array]) -> None:
    """Windows of every kind, against the same bools in bytes of 0 and 1, and those against the definition."""
    for shape, window in (
        ((2, 3, 8, 9), (2, 2)),
        ((4, 20, 5, 6), (3, 1, 1)),
        ((2, 2, 9, 30), (7, 1, 3)),
        ((1, 2, 12, 33), (5, 3, 2)),
        ((2, 3, 6, 6), (6, 6)),
        ((1, 1, 3, 3), (2, 40, 1)),
    ):
        x = tied_values(shape, "bool", 1)
        clean = x.view(np.uint8) != 0
        for name in ("max_pool", "min_pool"):
            expected, positions = getattr(reference, name)(clean, *window, rank=2)
            function = getattr(numbapool, f"{name}2d")
            assert_same(function(layout(x, 2), *window), expected)
            values, indices = function(layout(x, 2), *window, return_indices=True)
            assert_same(values, expected)
            assert_same(indices, positions)
        total = reference.sum_pool(clean, *window, rank=2)
        assert_same(numbapool.sum_pool2d(layout(x, 2), *window), total)
    x = tied_values((1, 2, 9, 8), "bool", 3)
    samples = np.random.default_rng(0).random((1, 2, 2))
    drawn = {"kernel_size": 2, "output_size": 4, "return_indices": True, "_random_samples": samples}
    for call in (
        lambda x: numbapool.fractional_max_pool2d(x, **drawn),
        lambda x: numbapool.adaptive_max_pool2d(x, (4, 5), return_indices=True),
        lambda x: numbapool.global_max_pool(x, return_indices=True),
    ):
        values, indices = call(layout(x, 2))
        expected, positions = call((x.view(np.uint8) != 0).astype(np.float32))
        assert_same(values, expected != 0)
        assert_same(indices, positions)


def test_other_libraries() -> None:
    """torch on the CPU and recorded, and a GPU that is imitated."""
    torch = pytest.importorskip("torch")
    from tests import imitation

    indices = np.arange(4).reshape(1, 1, 4) * 2
    calls: list[tuple[Callable[..., Any], tuple[Array, ...]]] = [
        (lambda x: numbapool.max_pool1d(x, 2, return_indices=True), (MASK,)),
        (lambda x: numbapool.min_pool1d(x, 2), (MASK,)),
        (lambda x: numbapool.sum_pool1d(x, 2), (MASK,)),
        (lambda x, i: numbapool.max_unpool1d(x, i, 2), (MASK[..., 1::2].copy(), indices)),
    ]

    def flat(results: Any) -> list[Any]:
        each = results if isinstance(results, tuple) else (results,)
        return [array if isinstance(array, np.ndarray) else getattr(array, "memory", array) for array in each]

    for call, arrays in calls:
        expected = flat(call(*arrays))
        tensors = [torch.from_numpy(each) for each in arrays]
        compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
        for found in (
            flat(call(*map(imitation.like, arrays))),
            *([each.numpy() for each in flat(function(*tensors))] for function in (call, compiled)),
        ):
            for one, other in zip(found, expected, strict=True):
                assert_same(one, other)
