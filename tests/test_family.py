"""The rest of the family: against the reference on every kind of array, against torch, by differences, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbapool
from numbapool import reference
from numbapool.geometry import _fractional_starts
from tests.checks import (
    FLOATS,
    INTEGERS,
    Array,
    assert_same,
    channels_last,
    in_order,
    public,
    spread_values,
    tied_values,
)
from tests.conftest import ArrayKind

ORDERED = (*FLOATS, *INTEGERS, "bool")
SUMMABLE = (*FLOATS, *INTEGERS)
INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Call:
    """A call of an operation, by the name that it has without its rank, on an array (N, C, pooled axes)."""

    operation: str
    shape: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(self.kwargs)

    def forward(self, x: Any, **more: Any) -> Any:
        return public(self.operation, self.rank)(x, *self.args, **self.keywords, **more)

    def backward(self, grad: Any, x: Any, **more: Any) -> Any:
        return public(f"{self.operation}_backward", self.rank)(grad, x, *self.args, **self.keywords, **more)

    def reference(self, x: Array) -> Any:
        return getattr(reference, self.operation)(x, *self.args, **self.keywords, rank=self.rank)

    def reference_backward(self, grad: Array, x: Array) -> Array:
        result: Array = getattr(reference, f"{self.operation}_backward")(
            grad, x, *self.args, **self.keywords, rank=self.rank
        )
        return result

    def __str__(self) -> str:
        arguments = "-".join(str(each).replace(" ", "") for each in (*self.args, *self.keywords.values()))
        return f"{self.operation}-{'x'.join(map(str, self.shape))}-{arguments}"


WINDOWS = [
    ((2, 2, 9), (3, 2, 1)),
    ((1, 3, 8, 7), (2,)),
    ((2, 2, 7, 9), (3, 2, 1, 1, True)),
    ((1, 2, 9, 8), (3, 1, ((0, 1), (2, 1)), 2)),
    ((1, 1, 6, 3), (2, 1, 1, 2)),
    ((1, 1, 12, 13), (5, 1, "same")),
    ((1, 2, 5, 6, 4), (2, (1, 2, 1), 1)),
]
SIZES = [
    ((2, 2, 11), 4),
    ((1, 1, 5), 8),
    ((2, 3, 8, 9), (3, 5)),
    ((1, 2, 13, 13), 6),
    ((2, 2, 7, 10), (None, 4)),
    ((1, 2, 4, 6), (9, 7)),
    ((2, 1, 6, 6), 1),
    ((1, 2, 5, 6), (0, 3)),
    ((1, 2, 5, 7, 6), (2, 3, 4)),
    ((1, 1, 4, 4, 4), (2, None, 2)),
]
MINIMA = [Call("min_pool", *each) for each in WINDOWS]
MAXIMA = [Call("adaptive_max_pool", shape, (size,)) for shape, size in SIZES]
# The first of each list are tried with every kind of array, see tests/selection.py.
EXTREMA = [*chain.from_iterable(zip(MINIMA, MAXIMA)), *MAXIMA[len(MINIMA) :]]
SUMS = [Call("sum_pool", *each) for each in WINDOWS]
MEANS = [Call("adaptive_avg_pool", shape, (size,)) for shape, size in SIZES]
MANY_NORMS = [
    Call("lp_pool", shape, (power, 3, 2, True), (("padding", 1), ("true_norm", norm)))
    for shape in ((2, 2, 9), (1, 2, 8, 7), (1, 1, 5, 6, 4))
    for power in (1, 2, 3, 1.5, 0.5, INF)
    for norm in (False, True)
]
NORMS = [
    *MANY_NORMS[::5],
    *(call for number, call in enumerate(MANY_NORMS) if number % 5),
    Call("lp_pool", (1, 2, 9, 8), (2, (2, 3), 1), (("dilation", 2),)),
    Call("lp_pool", (1, 1, 6, 3), (2, 2, 1), (("padding", 1), ("dilation", 2), ("true_norm", True))),
]


def close(actual: Array, expected: Array, **tolerance: float) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    precise = {"rtol": 1e-4, "atol": 1e-5} if actual.dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(actual, expected, **(precise | tolerance))


def positive(call: Call, dtype: str) -> Array:
    """Magnitudes of a few orders, of any sign where the norm is a true one."""
    rng = np.random.default_rng(7)
    x = rng.uniform(0.1, 3.0, call.shape)
    if call.keywords.get("true_norm"):
        x *= rng.choice([-1, 1], x.shape)
    return x.astype(dtype)


# Values and gradients on every kind of array --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("call", EXTREMA, ids=str)
def test_extrema(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = tied_values(call.shape, dtype)
    expected, expected_indices = call.reference(x)
    out, indices = map(backend.to_numpy, call.forward(backend.from_numpy(x), return_indices=True))
    assert_same(out, expected)
    assert_same(indices, expected_indices)
    assert_same(backend.to_numpy(call.forward(backend.from_numpy(x))), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("call", EXTREMA, ids=str)
def test_extrema_backward(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = tied_values(call.shape, dtype)
    _, indices = call.reference(x)
    grad = spread_values(indices.shape, dtype, seed=1)
    expected = call.reference_backward(grad, x)
    given, array = backend.from_numpy(grad), backend.from_numpy(x)
    close(backend.to_numpy(call.backward(given, array)), expected)
    close(backend.to_numpy(call.backward(given, array, indices=backend.from_numpy(indices))), expected)


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("call", SUMS, ids=str)
def test_sums(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = tied_values(call.shape, dtype) if dtype == "bool" else spread_values(call.shape, dtype)
    close(
        backend.to_numpy(call.forward(backend.from_numpy(x))),
        call.reference(x),
        atol=1e-2 if dtype == "float32" else 1e-9,
    )


@pytest.mark.parametrize("dtype", SUMMABLE)
@pytest.mark.parametrize("call", MEANS, ids=str)
def test_means(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = spread_values(call.shape, dtype)
    close(
        backend.to_numpy(call.forward(backend.from_numpy(x))),
        call.reference(x),
        atol=1e-3 if dtype == "float32" else 1e-9,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("call", [*chain.from_iterable(zip(SUMS, MEANS)), *MEANS[len(SUMS) :]], ids=str)
def test_sums_backward(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = np.zeros(call.shape, dtype)
    shape = np.shape(call.reference(x))
    grad = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    actual = call.backward(backend.from_numpy(grad), backend.from_numpy(x))
    close(backend.to_numpy(actual), call.reference_backward(grad, x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("call", NORMS, ids=str)
def test_norms(backend: ArrayKind, call: Call, dtype: str) -> None:
    x = positive(call, dtype)
    expected = call.reference(x)
    close(backend.to_numpy(call.forward(backend.from_numpy(x))), expected)
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(dtype)
    actual = call.backward(backend.from_numpy(grad), backend.from_numpy(x))
    close(backend.to_numpy(actual), call.reference_backward(grad, x))


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize("shape", [(2, 2, 9), (1, 2, 8, 7), (1, 2, 4, 6, 5)], ids=str)
def test_unpool(backend: ArrayKind, shape: tuple[int, ...], dtype: str) -> None:
    """Duplicates too: the last one wins, and each gets the gradient of their place."""
    rank = len(shape) - 2
    x = tied_values(shape, dtype)
    lengths = tuple(2 * length + 1 for length in shape[2:])
    indices = np.random.default_rng(3).integers(0, math.prod(lengths), shape)
    function, back = public("max_unpool", rank), public("max_unpool_backward", rank)
    window = 2, 2, 0, lengths
    actual = function(backend.from_numpy(x), backend.from_numpy(indices), *window)
    assert_same(backend.to_numpy(actual), reference.max_unpool(x, indices, lengths))
    if dtype in FLOATS:
        grad = spread_values((*shape[:2], *lengths), dtype)
        actual = back(*map(backend.from_numpy, (grad, x, indices)), *window)
        assert_same(backend.to_numpy(actual), reference.max_unpool_backward(grad, x, indices, lengths))


@pytest.mark.parametrize("dtype", ORDERED)
@pytest.mark.parametrize(
    ("shape", "kernel", "size"),
    [((2, 3, 9, 12), (2, 3), (5, 4)), ((1, 2, 7, 7), 3, 1), ((2, 2, 6, 7, 8), 2, (3, 2, 4))],
)
def test_fractional(backend: ArrayKind, shape: tuple[int, ...], kernel: Any, size: Any, dtype: str) -> None:
    rank = len(shape) - 2
    x, samples = tied_values(shape, dtype), np.random.default_rng(5).random((*shape[:2], rank))
    expected, expected_indices = reference.fractional_max_pool(x, kernel, size, samples, rank=rank)
    function, back = public("fractional_max_pool", rank), public("fractional_max_pool_backward", rank)
    given = backend.from_numpy(x), kernel, size
    drawn = backend.from_numpy(samples)
    out, indices = function(*given, return_indices=True, _random_samples=drawn)
    assert_same(backend.to_numpy(out), expected)
    assert_same(backend.to_numpy(indices), expected_indices)
    assert_same(backend.to_numpy(function(*given, _random_samples=drawn)), expected)
    if dtype in FLOATS:
        grad = spread_values(expected.shape, dtype)
        gradient = reference.scatter(grad, expected_indices, shape, rank, dtype)
        for more in ({"indices": backend.from_numpy(expected_indices)}, {"_random_samples": drawn}):
            close(backend.to_numpy(back(backend.from_numpy(grad), *given, **more)), gradient)


@pytest.mark.parametrize(
    "shape", [(2, 3, 50), (2, 3, 7, 7), (1, 2, 40, 41), (1, 2, 3, 4, 5), (2, 1, 2, 3, 2, 3)], ids=str
)
def test_global(backend: ArrayKind, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    axes, ones = tuple(range(2, len(shape))), (1,) * (len(shape) - 2)
    array = backend.from_numpy(x)
    close(backend.to_numpy(numbapool.global_avg_pool(array)), x.mean(axes, keepdims=True))
    out, indices = map(backend.to_numpy, numbapool.global_max_pool(array, return_indices=True))
    assert_same(out, x.max(axes, keepdims=True))
    assert_same(indices, x.reshape(*shape[:2], -1).argmax(2).reshape(*shape[:2], *ones))
    assert_same(backend.to_numpy(numbapool.global_max_pool(array)), out)
    close(backend.to_numpy(numbapool.global_lp_pool(array, 3)), (abs(x) ** 3).sum(axes, keepdims=True) ** (1 / 3))
    grad = np.random.default_rng(1).standard_normal(out.shape)
    given = backend.from_numpy(grad)
    size = math.prod(shape[2:])
    mean = numbapool.global_avg_pool_backward(given, array)
    close(backend.to_numpy(mean), np.broadcast_to(grad / size, shape).copy())
    is_largest = (x == out) * grad
    close(backend.to_numpy(numbapool.global_max_pool_backward(given, array)), is_largest)
    back = numbapool.global_max_pool_backward(given, array, indices=backend.from_numpy(indices))
    close(backend.to_numpy(back), is_largest)
    norm = np.sqrt((x * x).sum(axes, keepdims=True))
    close(backend.to_numpy(numbapool.global_lp_pool_backward(given, array)), grad * x / norm)


# Rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ORDERED)
def test_sums_have_the_dtype_of_numpys(dtype: str) -> None:
    x = np.ones((1, 1, 4), dtype)
    assert numbapool.sum_pool1d(x, 2).dtype == {"b": "int64", "i": "int64", "u": "uint64", "f": dtype}[x.dtype.kind]


@pytest.mark.parametrize("dtype", ORDERED)
def test_a_minimum_over_nothing(dtype: str) -> None:
    x = np.zeros((1, 6, 1), dtype)
    out, indices = numbapool.min_pool1d(x, 2, 1, 1, 2, return_indices=True)
    highest = {"b": True, "f": np.inf}.get(x.dtype.kind)
    assert (out == (np.iinfo(dtype).max if highest is None else highest)).all()
    assert (indices == -1).all()


def test_means_of_64_bits_are_exact() -> None:
    x = np.array([[[2**62 + 1, 2**62 + 1, 7, -8, -7, -8, 3]]])
    np.testing.assert_array_equal(
        numbapool.adaptive_avg_pool1d(x[..., :2], 1), [[[-(2**62) + 1]]]
    )  # wraps, as NumPy's sum
    np.testing.assert_array_equal(numbapool.adaptive_avg_pool1d(x[..., 2:], 3), [[[0, -7, -2]]])  # -1/2, -23/3, -5/2


def test_bins_of_long_axes_are_exact() -> None:
    """In float32 the bounds of bins are wrong from 2^24 elements on."""
    length, count = 2**24 + 3, 7
    x = np.zeros((1, 1, length), np.int8)
    starts = [i * length // count for i in range(count)]
    x[0, 0, starts] = np.arange(count, 0, -1)
    _, indices = numbapool.adaptive_max_pool1d(x, count, return_indices=True)
    np.testing.assert_array_equal(indices.ravel(), starts)


def test_the_gradient_of_a_norm_of_zero_is_zero() -> None:
    x = np.zeros((1, 1, 4))
    for power in (1, 2, 3, 1.5, 0.5, INF):
        for norm in (False, True):
            grad = numbapool.lp_pool1d_backward(np.ones((1, 1, 2)), x, power, 2, true_norm=norm)
            assert (grad == 0).all()
    assert not numbapool.lp_pool1d_backward(np.full((1, 1, 2), INF), x, INF, 2).any()


@pytest.mark.parametrize(("power", "value"), [(2, INF), (3, NAN), (1.5, -1.0), (INF, NAN), (0.5, 0.0)])
def test_elements_in_no_window_have_no_gradient(power: float, value: float) -> None:
    x = np.array([[[1.0, value]]])
    expected = reference.lp_pool_backward(np.ones((1, 1, 1)), x, power, 1, 2, rank=1)
    assert expected.tolist() == [[[1, 0]]]
    assert_same(numbapool.lp_pool1d_backward(np.ones((1, 1, 1)), x, power, 1, 2), expected)
    slope_at_zero = numbapool.lp_pool1d_backward(np.ones((1, 1, 1)), np.array([[[0.0, 2.0]]]), 0.5, 2, true_norm=True)
    assert slope_at_zero.tolist() == [[[0, 1]]]


def test_windows_are_drawn_by_a_generator() -> None:
    x = np.random.default_rng(0).random((2, 2, 20, 20))
    draw = [numbapool.fractional_max_pool2d(x, 2, 9, generator=np.random.default_rng(s)) for s in (1, 1, 2)]
    assert_same(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    assert not np.array_equal(numbapool.fractional_max_pool2d(x, 2, 9), numbapool.fractional_max_pool2d(x, 2, 9))
    assert numbapool.fractional_max_pool2d(x[0], 2, output_ratio=(0.5, 0.25)).shape == (2, 10, 5)


def test_out(backend: ArrayKind) -> None:
    x = backend.from_numpy(np.random.default_rng(0).random((1, 2, 7, 7)))
    for call in (
        lambda **out: numbapool.adaptive_avg_pool2d(x, 3, **out),
        lambda **out: numbapool.adaptive_max_pool2d(x, 3, **out),
        lambda **out: numbapool.min_pool2d(x, 3, 2, **out),
        lambda **out: numbapool.sum_pool2d(x, 3, 2, **out),
        lambda **out: numbapool.lp_pool2d(x, 2, 3, 2, **out),
    ):
        out = backend.from_numpy(np.zeros((1, 2, 3, 3)))
        if backend.refuses_out:
            with pytest.raises(backend.refuses_out, match=r"^out must"):
                call(out=out)
        else:
            assert call(out=out) is out
            assert_same(backend.to_numpy(out), backend.to_numpy(call()))


def test_unbatched_and_empty() -> None:
    x = np.random.default_rng(0).random((3, 2, 9, 8))
    samples = np.random.default_rng(0).random((3, 2, 2))
    for call in (
        lambda x, u: numbapool.adaptive_avg_pool2d(x, 4),
        lambda x, u: numbapool.adaptive_max_pool2d(x, 4),
        lambda x, u: numbapool.lp_pool2d(x, 2, 2),
        lambda x, u: numbapool.min_pool2d(x, 2),
        lambda x, u: numbapool.sum_pool2d(x, 2),
        lambda x, u: numbapool.fractional_max_pool2d(x, 2, 3, _random_samples=u),
    ):
        whole = call(x, samples)
        assert_same(call(x[1], samples[1:2]), whole[1])
        assert call(x[:0], samples[:0]).shape == (0, *whole.shape[1:])
    assert numbapool.adaptive_avg_pool2d(x[:, :0], 4).shape == (3, 0, 4, 4)


# Derivatives by differences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [each for each in EXTREMA + SUMS + MEANS + NORMS if 0 not in each.args], ids=str)
def test_gradients_by_differences(call: Call) -> None:
    rng = np.random.default_rng(11)
    x = positive(call, "float64")
    if call.operation != "lp_pool":
        x = rng.permutation(x.size).reshape(x.shape) / 7.0
    out = call.forward(x)
    grad, step = rng.standard_normal(out.shape), 1e-6
    reaches = np.isfinite(out)
    gradient = call.backward(grad, x)
    for position in rng.choice(x.size, min(x.size, 12), replace=False):
        shifted = []
        for sign in (1, -1):
            moved = x.copy()
            moved.ravel()[position] += sign * step
            shifted.append(call.forward(moved))
        slope = ((shifted[0] - shifted[1])[reaches] * grad[reaches]).sum() / (2 * step)
        assert slope == pytest.approx(gradient.ravel()[position], rel=1e-4, abs=1e-6)


# torch as judge -------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 3),
    st.data(),
    st.sampled_from(["max", "avg"]),
    st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=100)
def test_adaptive_against_torch(rank: int, data: st.DataObject, kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    lengths = [data.draw(st.integers(1, 12 if rank < 3 else 6)) for _ in range(rank)]
    size = tuple(data.draw(st.integers(1, 14 if rank < 3 else 5)) for _ in range(rank))
    x = tied_values((2, 2, *lengths), dtype) if kind == "max" else spread_values((2, 2, *lengths), dtype)
    leaf = torch.tensor(x, requires_grad=True)
    name = f"adaptive_{kind}_pool"
    theirs = getattr(torch.nn.functional, f"{name}{rank}d")
    grad = spread_values((2, 2, *size), dtype, 1)
    if kind == "max":
        expected, positions = theirs(leaf, size, return_indices=True)
        out, indices = public(name, rank)(x, size, return_indices=True)
        assert_same(out, expected.detach().numpy())
        assert_same(indices, positions.numpy())
    else:
        expected = theirs(leaf, size)
        close(public(name, rank)(x, size), expected.detach().numpy(), atol=1e-3)
    expected.backward(torch.from_numpy(grad))
    close(public(f"{name}_backward", rank)(grad, x, size), leaf.grad.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("power", [1, 2, 3, 2.5, INF])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_norms_against_torch(rank: int, power: float) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0.1, 2, (2, 2, *[7] * rank))
    leaf = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, f"lp_pool{rank}d")(leaf, power, 3, 2, ceil_mode=True)
    out = public("lp_pool", rank)(x, power, 3, 2, True)
    close(out, expected.detach().numpy())
    grad = np.random.default_rng(1).standard_normal(out.shape)
    expected.backward(torch.from_numpy(grad))
    close(public("lp_pool_backward", rank)(grad, x, power, 3, 2, True), leaf.grad.numpy())


def test_samples_that_round_up_place_no_window_outside() -> None:
    """As float32 ones do along axes of more than 2**24 elements, and here those of half precision."""
    starts = _fractional_starts(np.array([0.5513], np.float16), 1284, 2, 1247)
    assert starts.max() == 1284 - 2
    assert (np.diff(starts) >= 0).all()


@given(st.integers(2, 3), st.data())
@settings(max_examples=60)
def test_fractional_against_torch(rank: int, data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    lengths = [data.draw(st.integers(4, 12)) for _ in range(rank)]
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    size = tuple(data.draw(st.integers(1, n - k)) for n, k in zip(lengths, kernel, strict=True))
    x = tied_values((2, 2, *lengths), "float32")
    samples = torch.rand(2, 2, rank)
    expected, positions = getattr(torch.nn.functional, f"fractional_max_pool{rank}d")(
        torch.from_numpy(x), kernel, size, return_indices=True, _random_samples=samples
    )
    function = public("fractional_max_pool", rank)
    out, indices = function(x, kernel, size, return_indices=True, _random_samples=samples.numpy())
    assert_same(out, expected.numpy())
    assert_same(indices, positions.numpy())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpool_against_torch(rank: int) -> None:
    torch = pytest.importorskip("torch")
    x = torch.rand(2, 2, *[7] * rank)
    values, indices = getattr(torch.nn.functional, f"max_pool{rank}d")(x, 3, 2, 1, return_indices=True)
    theirs, ours = getattr(torch.nn.functional, f"max_unpool{rank}d"), public("max_unpool", rank)
    for size in (None, [8] * rank, (2, 2, *[8] * rank)):
        expected = theirs(values, indices, 3, 2, 1, size)
        assert_same(ours(values.numpy(), indices.numpy(), 3, 2, 1, size), expected.numpy())


# Errors ---------------------------------------------------------------------------------------------------------------

X = np.zeros((1, 2, 6, 6), np.float32)
INDICES = np.zeros(X.shape, np.int64)
SAMPLES = np.zeros((1, 2, 2))
GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (
            ValueError,
            "elements of output_size must be greater than or equal to 0",
            lambda: numbapool.adaptive_avg_pool2d(X, -1),
        ),
        (ValueError, "output_size must be an int, None, or 2", lambda: numbapool.adaptive_avg_pool2d(X, (1, 2, 3))),
        (TypeError, "output_size must be an int, got 2.0", lambda: numbapool.adaptive_max_pool2d(X, 2.0)),
        (TypeError, "output_size must be an int, got True", lambda: numbapool.adaptive_max_pool2d(X, True)),
        (ValueError, r"output_size must be at most 2\*\*62", lambda: numbapool.adaptive_max_pool2d(X, 2**70)),
        (ValueError, "Output size is too large", lambda: numbapool.adaptive_max_pool2d(X, 2**33)),
        (ValueError, "x must have 4 axes", lambda: numbapool.adaptive_avg_pool2d(X[0, 0], 1)),
        (
            ValueError,
            "x may only be empty along the batch and channel axes",
            lambda: numbapool.adaptive_avg_pool2d(X[..., :0], 1),
        ),
        (ValueError, "grad_output must have", lambda: numbapool.adaptive_avg_pool2d_backward(X, X, 2)),
        (TypeError, "grad_output must have the dtype", lambda: numbapool.adaptive_avg_pool2d_backward(X.astype(float), X, 6)),
        (TypeError, "x has dtype bool", lambda: numbapool.adaptive_avg_pool2d(X > 0, 2)),
        (
            ValueError,
            "Found an invalid max index: 36",
            lambda: numbapool.adaptive_max_pool2d_backward(X, X, 6, indices=INDICES + 36),
        ),
        (ValueError, "norm_type must be greater than 0, got 0", lambda: numbapool.lp_pool2d(X, 0, 2)),
        (ValueError, "norm_type must be greater than 0, got nan", lambda: numbapool.lp_pool2d(X, math.nan, 2)),
        (TypeError, "norm_type must be a number, got '2'", lambda: numbapool.lp_pool2d(X, "2", 2)),
        (TypeError, "norm_type must be a number, got .*timedelta", lambda: numbapool.lp_pool2d(X, np.timedelta64(2, "ns"), 2)),
        (TypeError, "x has dtype int64", lambda: numbapool.lp_pool2d(INDICES, 2, 2)),
        (TypeError, "true_norm must be a bool", lambda: numbapool.lp_pool2d(X, 2, 2, true_norm=1)),
        (ValueError, "Found an invalid max index: -1", lambda: numbapool.max_unpool2d(X, INDICES - 1, 2)),
        (
            ValueError,
            "Found an invalid max index: 144 in indices is outside the unpooled plane of 144 elements; .* the output_size",
            lambda: numbapool.max_unpool2d(X, INDICES + 144, 2),
        ),
        (ValueError, "Found an invalid max index", lambda: numbapool.max_unpool2d(X, INDICES + 2**33, 2)),
        (
            ValueError,
            "Found an invalid max index: -1",
            lambda: numbapool.max_unpool2d_backward(np.repeat(np.repeat(X, 2, 2), 2, 3), X, INDICES - 1, 2),
        ),
        (ValueError, "indices must have the shape of x", lambda: numbapool.max_unpool2d(X, INDICES[:, :1], 2)),
        (TypeError, "indices has dtype float32", lambda: numbapool.max_unpool2d(X, X, 2)),
        (
            ValueError,
            "output_size must be less than a stride",
            lambda: numbapool.max_unpool2d(X, INDICES, 2, output_size=(14, 12)),
        ),
        (ValueError, "output_size must be 2 ints", lambda: numbapool.max_unpool2d(X, INDICES, 2, output_size=(12,) * 3)),
        (ValueError, "pad must be non-negative", lambda: numbapool.max_unpool2d(X, INDICES, 2, padding=-1)),
        (ValueError, "stride should not be zero", lambda: numbapool.max_unpool2d(X, INDICES, 2, 0)),
        (ValueError, "Output size is too small", lambda: numbapool.max_unpool2d(X, INDICES, 2, 1, 5)),
        (ValueError, "output_size or output_ratio must be given", lambda: numbapool.fractional_max_pool2d(X, 2)),
        (ValueError, "and not both", lambda: numbapool.fractional_max_pool2d(X, 2, 2, 0.5)),
        (ValueError, "output_ratio must be between 0 and 1", lambda: numbapool.fractional_max_pool2d(X, 2, None, 1.5)),
        (TypeError, "output_ratio must be a float", lambda: numbapool.fractional_max_pool2d(X, 2, None, "half")),
        (ValueError, "elements of output_size must be greater than 0", lambda: numbapool.fractional_max_pool2d(X, 2, 0)),
        (ValueError, "is too large for kernel_size", lambda: numbapool.fractional_max_pool2d(X, 2, 6)),
        (
            ValueError,
            r"_random_samples must be in \[0, 1\), got 1.0",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=SAMPLES + 1),
        ),
        (
            ValueError,
            r"_random_samples must be in \[0, 1\), got nan",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=SAMPLES * math.nan),
        ),
        (
            ValueError,
            "_random_samples must have the shape",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=SAMPLES[:, :1]),
        ),
        (
            TypeError,
            "_random_samples has dtype int64",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=SAMPLES.astype(int)),
        ),
        (
            TypeError,
            "generator must be a numpy.random.Generator",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, generator=3),
        ),
        (
            ValueError,
            "generator must not be given beside",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=SAMPLES, generator=GENERATOR),
        ),
        (
            ValueError,
            "indices or _random_samples must be given",
            lambda: numbapool.fractional_max_pool2d_backward(X[..., :2, :2], X, 2, 2),
        ),
        (ValueError, "x must have at least 3 axes", lambda: numbapool.global_avg_pool(X[0, 0])),
        (ValueError, "x may only be empty along the batch axis", lambda: numbapool.global_max_pool(X[:, :0])),
        (ValueError, "grad_output must have the shape of the output", lambda: numbapool.global_avg_pool_backward(X, X)),
        (TypeError, "x has dtype complex64", lambda: numbapool.min_pool2d(X.astype(np.complex64), 2)),
        (TypeError, "return_indices must be a bool", lambda: numbapool.min_pool2d(X, 2, return_indices=1)),
        (ValueError, "kernel size should be greater than zero", lambda: numbapool.sum_pool2d(X, 0)),
    ],
)  # fmt: skip
def test_errors(error: type[Exception], words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=words):
        call()


# In parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_norms_of_several_parts(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """One image or plane at a time, whichever way the channels lie."""
    from numbapool.kernels.cpu import lp

    x = np.random.default_rng(0).uniform(0.5, 2, (3, 4, 9, 8)).astype(dtype)
    grad = np.random.default_rng(1).uniform(0.5, 2, (3, 4, 4, 4)).astype(dtype)
    precise = {"rtol": 1e-5 if dtype == "float32" else 2e-3}
    arguments = {"norm_type": 3, "kernel_size": 2}
    exact = reference.lp_pool(x.astype(float), 3, (2, 2))
    slope = reference.lp_pool_backward(grad.astype(float), x.astype(float), 3, (2, 2))
    monkeypatch.setattr(lp, "PART_ELEMENTS", 1)
    for order in (in_order, channels_last):
        np.testing.assert_allclose(numbapool.lp_pool2d(order(x, 2), **arguments), exact, **precise)
        for gradient in (grad, order(grad, 2)):
            actual = numbapool.lp_pool2d_backward(gradient, order(x, 2), **arguments)
            np.testing.assert_allclose(actual, slope, **precise)


def test_powers_beyond_float32() -> None:
    x = np.array([[[1, 1, 0.5, 0.25]]], np.float32)
    assert numbapool.lp_pool1d(x, 1e39, 2, true_norm=True).tolist() == [[[1, 0]]]


# Channels that lie side by side -----------------------------------------------------------------------------------------


def test_channels_last_steps_beyond_32_bits() -> None:
    x = channels_last(np.random.default_rng(0).random((1, 16, 4, 4)), 2)
    grad = np.random.default_rng(1).random((1, 16, 1, 1))
    for arguments in ((2, 2**33, 2**33, 2**33 + 1), (2, 2**33 + 1, 2**33, 2**34 + 1)):
        kernel, stride, padding, dilation = arguments
        planar = numbapool.avg_pool2d(np.ascontiguousarray(x), kernel, stride, padding, dilation=dilation)
        spread = np.broadcast_to(grad, planar.shape)
        assert_same(numbapool.avg_pool2d(x, kernel, stride, padding, dilation=dilation), planar)
        expected = numbapool.avg_pool2d_backward(
            spread, np.ascontiguousarray(x), kernel, stride, padding, dilation=dilation
        )
        shared = channels_last(spread, 2)
        assert_same(numbapool.avg_pool2d_backward(shared, x, kernel, stride, padding, dilation=dilation), expected)
    for size in (2**59, 2**61):
        expected = numbapool.max_pool2d(np.ascontiguousarray(x), size, 1, size // 2)
        assert_same(numbapool.max_pool2d(x, size, 1, size // 2), expected)


def test_channels_last_means_of_many_pixels() -> None:
    x = channels_last(np.random.default_rng(0).random((1, 3, 700, 700), np.float32), 2)
    exact = x.astype(np.float64).mean((2, 3), keepdims=True)
    np.testing.assert_allclose(numbapool.global_avg_pool(x), exact, rtol=2e-7)
    np.testing.assert_allclose(numbapool.avg_pool2d(x, 700), exact, rtol=2e-7)


def test_records_are_no_numbers() -> None:
    for dtype in (np.dtype([]), np.dtype([("bfloat16", "f8")]), np.dtype([("bfloat16", ">u2")])):
        with pytest.raises(TypeError, match="x has dtype"):
            numbapool.max_pool2d(np.zeros((1, 1, 4, 4), dtype), 2)


@pytest.mark.parametrize("power", [1, 2, 2.5])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_norms_of_windows_as_large_as_a_plane(power: float, padding: Any) -> None:
    """With padding there are several of them."""
    for shape in ((2, 3, 3), (1, 2, 3, 3)):
        x, rank = np.random.default_rng(0).random(shape), len(shape) - 2
        window = {"kernel_size": 3, "stride": 1, "padding": padding, "true_norm": True}
        wanted = reference.lp_pool(x, power, **window, rank=rank)
        np.testing.assert_allclose(public("lp_pool", rank)(x, power, **window), wanted, rtol=1e-12)
        gradient = reference.lp_pool_backward(wanted, x, power, **window, rank=rank)
        result = public("lp_pool_backward", rank)(wanted, x, power, **window)
        np.testing.assert_allclose(result, gradient, rtol=1e-12)
