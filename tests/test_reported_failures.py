"""Failures reported against other libraries' max and average pooling, by issue or CVE number: none may happen here."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest

import numbapool

Array = np.ndarray[Any, Any]
KINDS = ("max", "avg")
RANKS = (1, 2, 3)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_rank = pytest.mark.parametrize("rank", RANKS)


def pool(kind: str, rank: int, *args: Any, **kwargs: Any) -> Any:
    return getattr(numbapool, f"{kind}_pool{rank}d")(*args, **kwargs)


def backward(kind: str, rank: int, *args: Any, **kwargs: Any) -> Any:
    return getattr(numbapool, f"{kind}_pool{rank}d_backward")(*args, **kwargs)


def counting(*shape: int, dtype: str = "float64") -> Array:
    return np.arange(1, 1 + prod(shape)).reshape(shape).astype(dtype)


@every_kind
@every_rank
def test_stride_zero_pytorch_41767_and_149274_cve_2025_2953(kind: str, rank: int) -> None:
    """Floating point exception, denial of service."""
    x = counting(2, 3, *(4,) * rank)
    for stride in (0, (1,) * (rank - 1) + (0,)):
        with pytest.raises(ValueError, match="stride should not be zero"):
            pool(kind, rank, x, 2, stride)
        with pytest.raises(ValueError, match="stride should not be zero"):
            backward(kind, rank, x, x, 2, stride)


@every_kind
@every_rank
def test_negative_stride_pytorch_145077(kind: str, rank: int) -> None:
    x = counting(2, 3, *(4,) * rank)
    for stride in (-1, (2,) * (rank - 1) + (-(2**31),)):
        with pytest.raises(ValueError, match="stride"):
            pool(kind, rank, x, 2, stride)
        with pytest.raises(ValueError, match="stride"):
            backward(kind, rank, x, x, 2, stride)


class Huge(NamedTuple):
    """A legal call with huge arguments on axes of 4, and the number of windows along each."""

    out: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    def positions(self, o: int) -> list[int]:
        """Input positions that window `o` reads along one axis."""
        start = o * self.stride - self.padding
        steps = [divmod(position - start, self.dilation) for position in range(4)]
        return [position for position, (tap, rest) in enumerate(steps) if rest == 0 and 0 <= tap < self.kernel_size]

    def taps(self, o: int) -> int:
        """Taps of window `o` inside the input plus padding along one axis."""
        return min(self.kernel_size, -(-(4 + 2 * self.padding - o * self.stride) // self.dilation))


HUGE = (
    Huge(1, 2**32, 2**31, 2**31),
    Huge(1, 2**40, 2**40, 2**40 - 3),
    Huge(1, 2**61, 2**61, 2**60),
    Huge(2, 2**33, 2**32, 2**32, ceil_mode=True),
    Huge(5, 2**31, 1, 2**30),
    Huge(2, 2, 2**31, 2**31, 2**31),
    Huge(4, 3, 1, 2**32, 2**32),
    Huge(4, 3, 1, 2**60, 2**60),
    Huge(1, 2, 2**31),
    Huge(1, 2, 2**62),
    Huge(1, 2, 2**62, ceil_mode=True),
    Huge(2, 3, 2**32, 2**31),
    Huge(1, 1, 2**62, 2**61 - 8),
    Huge(3, 2, 2**32, 2**32, 3),
)
every_huge = pytest.mark.parametrize("case", HUGE, ids=lambda case: "-".join(map(str, case)))


@every_huge
@every_rank
def test_huge_arguments_of_max_pytorch_147613_and_189664(rank: int, case: Huge) -> None:
    """Crashes, hangs and wrong sizes for arguments from 2**31 on."""
    x = counting(1, 2, *(4,) * rank)
    grad_output = counting(1, 2, *(case.out,) * rank)
    out, indices = pool("max", rank, x, *case[1:], return_indices=True)
    expected_out, expected_indices = np.full(grad_output.shape, -np.inf), np.full(grad_output.shape, -1)
    expected_grad = np.zeros_like(x)
    for window in product(range(case.out), repeat=rank):
        positions = [case.positions(o) for o in window]
        if all(positions):
            last = tuple(axis[-1] for axis in positions)
            where = (slice(None), slice(None), *window)
            expected_out[where] = x[:, :, *last]
            expected_indices[where] = np.ravel_multi_index(last, (4,) * rank)
            expected_grad[:, :, *last] += grad_output[where]
    np.testing.assert_array_equal(out, expected_out)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(pool("max", rank, x, *case[1:]), expected_out)
    np.testing.assert_array_equal(backward("max", rank, grad_output, x, *case[1:]), expected_grad)
    np.testing.assert_array_equal(backward("max", rank, grad_output, x, *case[1:], indices=indices), expected_grad)


@every_huge
@every_rank
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_huge_arguments_of_average_pytorch_147613_and_189664(rank: int, case: Huge, count_include_pad: bool) -> None:
    """Crashes, hangs and wrong sizes for arguments from 2**31 on; divisors beyond int64 among them."""
    arguments = case._asdict() | {"count_include_pad": count_include_pad}
    shape = (case.out,) * rank
    del arguments["out"]
    x = counting(1, 2, *(4,) * rank)
    grad_output = counting(1, 2, *shape)
    expected_out, expected_grad = np.zeros_like(grad_output), np.zeros_like(x)
    for window in product(range(case.out), repeat=rank):
        positions = [case.positions(o) for o in window]
        if all(positions):
            divisor = float(prod(map(case.taps, window)) if count_include_pad else prod(map(len, positions)))
            where, inside = (slice(None), slice(None), *window), np.ix_([0], [0, 1], *positions)
            expected_out[where] = x[inside].sum(axis=tuple(range(2, rank + 2))) / divisor
            expected_grad[inside] += (grad_output[where] / divisor).reshape(1, 2, *(1,) * rank)
    np.testing.assert_allclose(pool("avg", rank, x, **arguments), expected_out, rtol=1e-13)
    np.testing.assert_allclose(backward("avg", rank, grad_output, x, **arguments), expected_grad, rtol=1e-13)


@every_rank
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_divisor_of_integers_beyond_int64(rank: int, dtype: str) -> None:
    """2**32 to the power of the rank: 0 in 64 bits, and a division by zero."""
    x = counting(1, 1, *(2,) * rank, dtype=dtype)
    assert not pool("avg", rank, x, 2**32, 2**31, 2**31).any()
    out = pool("avg", rank, x, 2**32, 2**31, 2**31, count_include_pad=False)
    assert out.ravel().tolist() == [int(x.sum()) // x.size]


@pytest.mark.large_memory
def test_plane_beyond_int32_pytorch_84018_and_68418_and_173167() -> None:
    """Positions above 2**31, and above 2**32, within one plane; np.zeros takes memory only where it is written."""
    length = 2**32 + 5
    x = np.zeros((1, length), np.uint8)
    marked = [7, 2**31 - 1, 2**31, length - 5, length - 1]
    x[0, marked] = 5, 6, 7, 8, 9
    kernel = 2**20
    out, indices = numbapool.max_pool1d(x, kernel, ceil_mode=True, return_indices=True)
    expected = np.zeros(-(-length // kernel), np.uint8)
    expected_indices = np.arange(len(expected)) * kernel
    for position in marked:
        expected[position // kernel] = x[0, position]
        expected_indices[position // kernel] = position
    np.testing.assert_array_equal(out[0], expected)
    np.testing.assert_array_equal(indices[0], expected_indices)
    np.testing.assert_array_equal(numbapool.max_pool1d(x, kernel, ceil_mode=True)[0], expected)
    last = x[0, len(expected[:-1]) * kernel :]
    means = numbapool.avg_pool1d(x, kernel, ceil_mode=True)[0]
    assert means[-1] == int(last.sum()) // len(last)
    assert not means[:-1].any()
    wide = x.reshape(1, 1, length)[:, :, ::-1]
    np.testing.assert_array_equal(numbapool.max_pool1d(wide, 5, 2**30)[0, 0, :2], [9, 0])


@pytest.mark.large_memory
@pytest.mark.parametrize("is_batched", [False, True])
def test_planes_beyond_int32_elements_pytorch_84018_and_68418_and_173167(is_batched: bool) -> None:
    """More than 2**31 elements in small planes: the last planes start above 2**31."""
    planes = 2**21 + 3
    x = np.zeros((1, planes, 32, 32) if is_batched else (planes, 32, 32), np.uint8)
    flat = x.reshape(planes, 32, 32)
    flat[-1, 31, 31], flat[-2, 3, 4], flat[0, 0, 1] = 9, 8, 7
    out, indices = (each.reshape(planes) for each in numbapool.max_pool2d(x, 32, return_indices=True))
    assert np.flatnonzero(out).tolist() == [0, planes - 2, planes - 1]
    assert out[[0, -2, -1]].tolist() == [7, 8, 9]
    assert np.flatnonzero(indices).tolist() == [0, planes - 2, planes - 1]
    assert indices[[0, -2, -1]].tolist() == [1, 3 * 32 + 4, 32 * 32 - 1]
    np.testing.assert_array_equal(numbapool.max_pool2d(x, 32).reshape(planes), out)


@pytest.mark.large_memory
def test_output_beyond_int32_pytorch_84018_and_68418_and_173167() -> None:
    """An output of more than 2**31 elements."""
    x = np.zeros((1, 2**31 + 6), np.uint8)
    x[0, -1], x[0, 0] = 9, 8
    out = numbapool.max_pool1d(x, 2, 1)
    assert out[0, [0, 1, -2, -1]].tolist() == [8, 0, 0, 9]
    assert np.count_nonzero(out) == 2


@every_kind
@every_rank
@pytest.mark.parametrize("length", [0, 1, 2, 4, 5])
def test_gradient_of_wrong_shape(kind: str, rank: int, length: int) -> None:
    """Out-of-bounds reads: pytorch#140923, #141099, #145070, tensorflow#64642, CVE-2021-29570."""
    x = counting(2, 3, *(6,) * rank)
    good = counting(2, 3, *(3,) * rank)
    for bad in (good[..., :0], good[:1], good[:, :2], good[0], np.ones((2, 3, *(length + (length == 3),) * rank))):
        with pytest.raises(ValueError, match="grad_output"):
            backward(kind, rank, bad, x, 2)


@every_rank
def test_indices_of_wrong_shape(rank: int) -> None:
    """Out-of-bounds reads and writes: pytorch#140923, #141099, #145070, CVE-2021-29570."""
    x = counting(2, 3, *(6,) * rank)
    grad_output = counting(2, 3, *(3,) * rank)
    good = np.zeros(grad_output.shape, np.int64)
    for bad in (good[..., :0], good[..., :2], good[:1], good[:, :2], good[0]):
        with pytest.raises(ValueError, match="indices"):
            backward("max", rank, grad_output, x, 2, indices=bad)
    with pytest.raises(ValueError, match="Found an invalid max index"):
        backward("max", rank, grad_output, x, 2, indices=good + x[0, 0].size)


@every_kind
@every_rank
def test_empty_batch_in_backward_cve_2021_29573(kind: str, rank: int) -> None:
    """Division by zero for an input without elements."""
    x, grad_output = np.zeros((0, 3, *(6,) * rank)), np.zeros((0, 3, *(3,) * rank))
    assert backward(kind, rank, grad_output, x, 2).shape == x.shape
    with pytest.raises(ValueError, match="may only be empty along the batch axis"):
        backward(kind, rank, grad_output[:, :0], x[:, :0], 2)


@every_kind
@every_rank
def test_dilation_larger_than_the_input_xnnpack_10457(kind: str, rank: int) -> None:
    x = counting(1, 2, *(4,) * rank)
    with pytest.raises(ValueError, match="Output size is too small"):
        pool(kind, rank, x, 2, dilation=5)
    # A tap of 3 that is 5 away from its neighbours: only the middle one is ever inside.
    out = pool(kind, rank, x, 3, 1, 5, dilation=5)
    np.testing.assert_array_equal(out, x if kind == "max" else x / 3**rank)
    grad = backward(kind, rank, x, x, 3, 1, 5, dilation=5)
    np.testing.assert_array_equal(grad, out)


def test_ceil_mode_divisor_in_backward_pytorch_198119() -> None:
    """The last window overhangs, so it divides by the elements it has."""
    grad = numbapool.avg_pool1d_backward(np.ones((1, 1, 3)), np.zeros((1, 1, 6)), 3, 2, ceil_mode=True)
    third = 1 / 3
    np.testing.assert_allclose(grad[0, 0], [third, third, 2 * third, third, third + 0.5, 0.5], rtol=1e-15)


@every_rank
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("divisor", [None, -3])
@pytest.mark.parametrize("padding", [0, 1])
def test_ceil_mode_backward_is_the_adjoint_pytorch_198119(
    rank: int, count_include_pad: bool, divisor: int | None, padding: int
) -> None:
    rng = np.random.default_rng(0)
    arguments = (3, 2, padding, True, count_include_pad, divisor)
    x = rng.standard_normal((2, 3, *(8,) * rank))
    out = pool("avg", rank, x, *arguments)
    grad_output = rng.standard_normal(out.shape)
    assert out.shape[2] == (4 if padding == 0 else 5)
    grad = backward("avg", rank, grad_output, x, *arguments)
    np.testing.assert_allclose((grad * x).sum(), (grad_output * out).sum(), rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (9, 1)])
def test_nan_in_vector_body_and_tail_tensorflow_125965(dtype: str, kernel: int, stride: int) -> None:
    """One NaN in each plane, at each position of a row in turn."""
    for width in range(kernel, 71):
        x = np.zeros((width, 1, width), dtype)
        x[np.arange(width), 0, np.arange(width)] = np.nan
        x = np.repeat(x[:, None], 2, axis=1).reshape(width, 2, width)[:, None]  # (width, 1, 2, width)
        starts = np.arange(0, width - kernel + 1, stride)
        offset = np.arange(width)[:, None] - starts
        is_nan = (offset >= 0) & (offset < kernel)
        out, indices = numbapool.max_pool2d(x, (2, kernel), (2, stride), return_indices=True)
        np.testing.assert_array_equal(np.isnan(out[:, 0, 0]), is_nan)
        np.testing.assert_array_equal(indices[:, 0, 0], np.where(is_nan, width + np.arange(width)[:, None], starts))
        np.testing.assert_array_equal(numbapool.max_pool2d(x, (2, kernel), (2, stride)), out)
        means = numbapool.avg_pool2d(x, (2, kernel), (2, stride))
        np.testing.assert_array_equal(means[:, 0, 0], np.where(is_nan, np.nan, 0))


@every_kind
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 1, 1), (5, 3, 2), (3, 1, ((2, 0), (0, 1)))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_last_with_padding_in_backward_pytorch_188344(
    kind: str, kernel: int, stride: int, padding: Any, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (2, 5, 9, 7)).astype(dtype)
    out = pool(kind, 2, x, kernel, stride, padding)
    grad_output = rng.integers(-9, 9, out.shape).astype(dtype)
    x_last, grad_last = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, grad_output))
    expected = backward(kind, 2, grad_output, x, kernel, stride, padding)
    np.testing.assert_array_equal(pool(kind, 2, x_last, kernel, stride, padding), out)
    np.testing.assert_array_equal(backward(kind, 2, grad_last, x_last, kernel, stride, padding), expected)
    np.testing.assert_array_equal(backward(kind, 2, grad_output, x_last, kernel, stride, padding), expected)
    if kind == "max":
        indices = pool("max", 2, x, kernel, stride, padding, return_indices=True)[1]
        last = pool("max", 2, x_last, kernel, stride, padding, return_indices=True)[1]
        np.testing.assert_array_equal(last, indices)
        transposed = np.asfortranarray(indices)
        np.testing.assert_array_equal(
            backward("max", 2, grad_last, x_last, kernel, stride, padding, indices=transposed), expected
        )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint8", "uint64", "bool"])
def test_windows_without_valid_taps(dtype: str) -> None:
    """torch 2.13 stores an index outside the plane, and its backward writes there."""
    arguments = (2, 1, 1, 2)
    x = np.ones((1, 6, 1, 1), dtype)
    out, indices = numbapool.max_pool2d(x, *arguments, return_indices=True)
    info = np.iinfo(dtype).min if x.dtype.kind in "iu" else False if dtype == "bool" else -np.inf
    np.testing.assert_array_equal(out, np.full((1, 6, 1, 1), info))
    np.testing.assert_array_equal(indices, np.full((1, 6, 1, 1), -1))
    np.testing.assert_array_equal(numbapool.max_pool2d(x, *arguments), out)
    if x.dtype.kind == "f":
        memory = np.full(6 + 128, 7, dtype)
        grad = memory[64:-64].reshape(x.shape)
        numbapool.max_pool2d_backward(x, x, *arguments, out=grad)
        assert not grad.any()
        numbapool.max_pool2d_backward(x, x, *arguments, indices=indices, out=grad)
        assert not grad.any()
        assert (memory[:64] == 7).all()
        assert (memory[-64:] == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_without_valid_taps_of_average(dtype: str) -> None:
    x = np.ones((1, 6, 1, 1), dtype)
    for count_include_pad in (True, False):
        for divisor in (None, 5):
            arguments = (2, 1, 1, False, count_include_pad, divisor)
            assert not numbapool.avg_pool2d(x, *arguments, dilation=2).any()
            assert not numbapool.avg_pool2d_backward(x, x, *arguments, dilation=2).any()
