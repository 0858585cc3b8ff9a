"""One int counts for every axis, alone or in a sequence: each extent of each function, and a whole shape for unpooling."""

from __future__ import annotations

from typing import Any, get_type_hints

import numpy as np
import pytest

import numbapool
from numbapool import functional, reference
from numbapool.arguments import Extent, Padding, Sizes

# Types of parameters that take one int an axis, and a good one for each name.
EXTENTS = (Extent, Extent | None, Sizes, Padding)
GOOD = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "output_size": 5}
SEVERAL_AXES = [name for name in functional.__all__ if "2d" in name or "3d" in name or name.startswith("pool")]


def rank_of(name: str) -> int:
    return 3 if "3d" in name else 2


def arguments_of(name: str) -> tuple[dict[str, int], dict[str, Any]]:
    """The extents of a function, and what it needs beside them."""
    hints = get_type_hints(getattr(functional, name))
    extents = {each: GOOD[each] for each, hint in hints.items() if hint in EXTENTS}
    if "unpool" in name:
        extents["output_size"] = 10  # of 5 windows, 9 by default
    others: dict[str, Any] = {"norm_type": 2} if name.startswith("lp") else {}
    if name.startswith("pool"):
        others |= {"kind": "max", "axes": (1, 3)}
    if name.startswith("fractional"):
        others["_random_samples"] = np.full((2, 3, rank_of(name)), 0.5)
    return extents, others


@pytest.mark.parametrize("name", SEVERAL_AXES)
def test_a_sequence_of_one_int(name: str) -> None:
    extents, others = arguments_of(name)
    assert extents
    shape = (2, 3, *(5 if "unpool" in name else 9 for _ in range(rank_of(name))))
    if name.startswith("pool"):
        shape = (3, 9, 2, 9)
    expected = numbapool.explain(name, shape, **extents, **others)
    assert expected.error is None
    for sequence in ((lambda each: (each,)), (lambda each: [each]), (lambda each: (np.int32(each),))):
        found = numbapool.explain(name, shape, **{key: sequence(each) for key, each in extents.items()}, **others)
        assert (found.results, found.axes) == (expected.results, expected.axes)


@pytest.mark.parametrize("name", SEVERAL_AXES)
def test_a_sequence_of_one_int_on_tensors_without_values(name: str) -> None:
    torch = pytest.importorskip("torch")
    extents, others = arguments_of(name)
    x = torch.zeros((2, 3, *(5 if "unpool" in name else 9 for _ in range(rank_of(name)))), device="meta")
    if name.startswith("pool"):
        x = torch.zeros((3, 9, 2, 9), device="meta")
    if "_random_samples" in others:
        others["_random_samples"] = torch.zeros(2, 3, rank_of(name), device="meta")
    if "unpool" in name:
        others["indices"] = torch.zeros_like(x, dtype=torch.int64)

    def call(name: str, **arguments: Any) -> Any:
        return getattr(functional, name)(**arguments, **extents, **others)

    expected = call(name.removesuffix("_backward"), x=x)
    arrays = {"x": x}
    if name.endswith("_backward"):
        arrays["grad_output"], expected = expected, x
    extents = {key: (each,) for key, each in extents.items()}
    assert call(name, **arrays).shape == expected.shape


def test_values_of_a_sequence_of_one_int() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    mean = numbapool.avg_pool2d(x, 3, (1, 1), (1,))
    np.testing.assert_array_equal(mean, numbapool.avg_pool2d(x, 3, 1, 1))
    np.testing.assert_array_equal(numbapool.AvgPool2d((3,), (1,), [1])(x), mean)
    np.testing.assert_allclose(reference.avg_pool(x, (3,), [1], (1,), rank=2), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        reference.adaptive_max_pool(x, (4,), rank=2)[0], numbapool.adaptive_max_pool2d(x, (4,))
    )
    np.testing.assert_array_equal(numbapool.adaptive_max_pool2d(x, (None,)), x)
    for ratio in (0.5, (0.5,), [0.5, 0.5]):
        drawn = numbapool.fractional_max_pool2d(x, (2,), output_ratio=ratio, generator=np.random.default_rng(1))
        assert drawn.shape == (2, 3, 4, 4)
    text = str(numbapool.explain("fractional_max_pool2d", x.shape, 2, output_ratio=(0.5,)))
    assert "W        floor(9 * 0.5) = 4" in text


def test_a_sequence_of_one_int_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    import numbapool.nn

    x = torch.rand(2, 3, 9, 9, 9)
    for ours, theirs in (
        (numbapool.max_pool2d(x[0], (3,), (1,), (1,), (2,)), torch.max_pool2d(x[0], (3,), (1,), (1,), (2,))),
        (numbapool.avg_pool3d(x, (3,), (2, 1, 2), [1]), torch.nn.functional.avg_pool3d(x, (3,), (2, 1, 2), [1])),
        (numbapool.nn.AvgPool3d((3,))(x), torch.nn.AvgPool3d((3,))(x)),
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_other_numbers_of_ints(number: int) -> None:
    x = np.zeros((1, 1, 9, 9, 9), np.float32)
    for name, first in (("max_pool3d", ()), ("adaptive_avg_pool3d", ()), ("pool", ("max",))):
        axes = {"axes": (2, 3, 4)} if name == "pool" else {}
        with pytest.raises(ValueError, match=r"must be an int.* 3"):
            getattr(numbapool, name)(x, *first, (3,) * number, **axes)
    with pytest.raises(ValueError, match="output_ratio must be a float or 3 floats"):
        numbapool.fractional_max_pool3d(x, 2, output_ratio=(0.5,) * number)


def test_a_single_pair_is_not_one_int() -> None:
    with pytest.raises(ValueError, match="padding must be an int, 2 ints or 2 pairs"):
        numbapool.max_pool2d(np.zeros((1, 9, 9)), 3, padding=((1, 0),))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_to_a_whole_shape(rank: int, data_format: str) -> None:
    """`output_size=x.shape`, batched or not, which torch refuses of unbatched ones."""
    lengths = (7, 6, 9)[:rank]
    x = np.random.default_rng(2).permutation(np.arange(np.prod((2, 3, *lengths)))).reshape(2, 3, *lengths)
    x = x.astype(np.float32) if data_format == "channels_first" else np.moveaxis(x, 1, -1).astype(np.float32)
    max_pool, unpool = (getattr(numbapool, f"max_{kind}{rank}d") for kind in ("pool", "unpool"))
    back = getattr(numbapool, f"max_unpool{rank}d_backward")
    for given in (x, x[0]):
        values, indices = max_pool(given, 2, return_indices=True, data_format=data_format)
        sizes = [given.shape, list(given.shape), lengths, x.shape]
        for size in sizes:
            result = unpool(values, indices, 2, output_size=size, data_format=data_format)
            assert result.shape == given.shape
            np.testing.assert_array_equal(result, np.where(np.isin(given, values), given, 0))
            gradient = back(result, values, indices, 2, output_size=size, data_format=data_format)
            np.testing.assert_array_equal(gradient, values)
        layer = getattr(numbapool, f"MaxUnpool{rank}d")(2, data_format=data_format)
        np.testing.assert_array_equal(layer(values, indices, given.shape), result)
    values, indices = max_pool(x, 2, return_indices=True, data_format=data_format)
    for wrong in (x[0].shape, (*x.shape, 1), ()):
        with pytest.raises(ValueError, match=rf"output_size must be {rank} ints"):
            unpool(values, indices, 2, output_size=wrong, data_format=data_format)


def test_unpooling_of_tensors_to_a_whole_shape() -> None:
    torch = pytest.importorskip("torch")
    import numbapool.nn

    x = torch.rand(3, 9)
    values, indices = torch.nn.functional.max_pool1d(x, 2, return_indices=True)
    expected = torch.nn.functional.max_unpool1d(values, indices, 2, output_size=[9])
    for size in (x.shape, x.size(), [9], 9):
        assert torch.equal(numbapool.max_unpool1d(values, indices, 2, output_size=size), expected)
        assert numbapool.max_unpool1d(values.to("meta"), indices.to("meta"), 2, output_size=size).shape == x.shape
        assert torch.equal(numbapool.nn.MaxUnpool1d(2)(values, indices, size), expected)
    with numbapool.nn.routed():
        for size in (x.shape, [9]):
            assert torch.equal(torch.nn.functional.max_unpool1d(values, indices, 2, output_size=size), expected)
            assert torch.equal(torch.nn.MaxUnpool1d(2)(values, indices, output_size=size), expected)
        default = torch.nn.functional.max_unpool1d(values, indices, (2,))
        assert torch.equal(default, expected[:, :8])
