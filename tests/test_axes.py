"""Pooling over any axes of arrays of any rank, against the reference on arrays whose pooled axes were moved to the end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbapool
from numbapool import reference
from numbapool.kinds import Mean, Norm
from tests.checks import Array, assert_same, spread_values, tied_values
from tests.conftest import ArrayKind

KINDS = ("max", "min", "avg", "sum", "lp")
# Shape, pooled axes, and what else is asked for.
CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((9,), (0,), {"kernel_size": 3, "stride": 2}),
    ((5, 7), (0,), {"kernel_size": 2}),
    ((5, 7), (1, 0), {"kernel_size": (3, 2), "padding": (1, 0)}),
    ((2, 6, 5, 3), (1, 2), {"kernel_size": (2, 3), "stride": 1, "padding": ((0, 1), (2, 0))}),
    ((3, 4, 2, 5), (0, 2), {"kernel_size": 2, "ceil_mode": True}),
    ((2, 3, 4, 2, 5), (1,), {"kernel_size": 2, "stride": 1}),
    ((2, 3, 2, 2, 3, 5), (5,), {"kernel_size": 2, "dilation": 2, "stride": 1}),
    ((2, 2, 3, 2, 4, 5), (-1, 1, -2), {"kernel_size": (2, 1, 3), "stride": (2, 1, 1)}),
    ((3, 4, 3, 4), (0, 1, 2, 3), {"kernel_size": 2, "padding": "same", "stride": 1}),
    ((2, 3, 4, 3, 4), (4, 1, 2, 3), {"kernel_size": (2, 3, 2, 1), "stride": (1, 1, 2, 2), "padding": (0, 1, 0, 0)}),
    ((3, 2, 3, 2, 3, 2, 3), (0, 1, 2, 3, 4, 5, 6), {"kernel_size": 2, "stride": 1}),
)
# Reducers of each kind, and what the reference calls their options.
REDUCERS: dict[str, tuple[tuple[Any, dict[str, Any]], ...]] = {
    "max": (("max", {}),),
    "min": (("min", {}),),
    "avg": (
        ("avg", {}),
        (Mean(count_padding=False), {"count_include_pad": False}),
        (Mean(divisor=-3), {"divisor_override": -3}),
    ),
    "sum": (("sum", {}),),
    "lp": (
        ("lp", {}),
        (Norm(3, true_norm=True), {"norm_type": 3, "true_norm": True}),
        (Norm(math.inf), {"norm_type": math.inf}),
    ),
}
PRODUCT = [(*case, kind, *reducer) for case in CASES for kind in KINDS for reducer in REDUCERS[kind]]
# First another kind of each case: those are tried with every kind of array, see tests/selection.py.
ALL = PRODUCT[:: len(CASES)] + [each for number, each in enumerate(PRODUCT) if number % len(CASES)]


def moved(x: Array, axes: tuple[int, ...]) -> Array:
    """The pooled axes last."""
    return np.moveaxis(x, axes, range(-len(axes), 0))


def moved_back(x: Array, axes: tuple[int, ...]) -> Array:
    return np.moveaxis(x, range(-len(axes), 0), axes)


def expected(x: Array, axes: tuple[int, ...], kind: str, arguments: dict[str, Any]) -> tuple[Array, Array | None]:
    """Values, and indices of maxima and minima."""
    function = getattr(reference, f"{kind}_pool")
    defaults = {"lp": {"norm_type": 2}, "avg": {"rounding": "nearest"}}.get(kind, {})
    result = function(moved(x, axes), rank=len(axes), **defaults | arguments)
    values, indices = result if isinstance(result, tuple) else (result, None)
    return moved_back(values, axes), None if indices is None else moved_back(indices, axes)


def expected_backward(grad: Array, x: Array, axes: tuple[int, ...], kind: str, arguments: dict[str, Any]) -> Array:
    function = getattr(reference, f"{kind}_pool_backward")
    defaults = {"norm_type": 2} if kind == "lp" else {}
    result = function(moved(grad, axes), moved(x, axes), rank=len(axes), **defaults | arguments)
    return moved_back(result, axes)


def inputs(shape: tuple[int, ...], kind: str, dtype: str = "float32") -> Array:
    """Ties where elements are chosen; else values of which no sum hides another."""
    if kind in ("max", "min"):
        return tied_values(shape, dtype)
    return spread_values(shape, dtype) if kind != "lp" else np.abs(spread_values(shape, dtype)) + 0.1


def assert_equal(kind: str, actual: Array, wanted: Array, dtype: str = "float32") -> None:
    if kind in ("max", "min") or np.dtype(dtype).kind in "biu":
        assert_same(actual, wanted)
    else:
        assert actual.dtype == wanted.dtype
        eps = 1e-3 if dtype == "float16" else 1e3 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(actual, wanted, rtol=eps, atol=100 * eps if dtype != "float16" else 0)


@pytest.mark.parametrize("call", ALL)
def test_values(call: Any, backend: ArrayKind) -> None:
    shape, axes, window, kind, reducer, options = call
    x = inputs(shape, kind)
    out = numbapool.pool(backend.from_numpy(x), reducer, **window, axes=axes)
    wanted, _ = expected(x, axes, kind, window | options)
    assert type(out) is type(backend.from_numpy(x))
    assert_equal(kind, backend.to_numpy(out), wanted)


@pytest.mark.parametrize("call", ALL)
def test_gradients(call: Any, backend: ArrayKind) -> None:
    shape, axes, window, kind, reducer, options = call
    x = inputs(shape, kind)
    out, _ = expected(x, axes, kind, window | options)
    grad = np.random.default_rng(1).integers(-4, 5, out.shape).astype(np.float32)
    result = numbapool.pool_backward(backend.from_numpy(grad), backend.from_numpy(x), reducer, axes=axes, **window)
    assert_equal("", backend.to_numpy(result), expected_backward(grad, x, axes, kind, window | options))


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize(("shape", "axes", "window"), [case for case in CASES if len(case[1]) <= 3])
def test_indices(shape: Any, axes: Any, window: Any, kind: Any, backend: ArrayKind) -> None:
    x = inputs(shape, kind)
    out, indices = numbapool.pool(backend.from_numpy(x), kind, **window, axes=axes, return_indices=True)
    wanted, positions = expected(x, axes, kind, window)
    assert_same(backend.to_numpy(out), wanted)
    assert positions is not None
    np.testing.assert_array_equal(backend.to_numpy(indices), positions)
    grad = np.random.default_rng(1).integers(-4, 5, wanted.shape).astype(np.float32)
    arrays = backend.from_numpy(grad), backend.from_numpy(x)
    result = numbapool.pool_backward(*arrays, kind, axes=axes, indices=indices, **window)
    assert_equal("", backend.to_numpy(result), expected_backward(grad, x, axes, kind, window))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16", "float16"])
@pytest.mark.parametrize("axes", [(1, 2), (3, 0, 1, 2)])
def test_dtypes(kind: str, dtype: str, axes: tuple[int, ...]) -> None:
    if kind == "lp" and np.dtype(dtype).kind in "iu":
        with pytest.raises(TypeError, match=f"x has dtype {dtype}"):
            numbapool.pool(np.ones((3, 4, 3, 4), dtype), kind, 2, axes=axes)
        return
    x = np.random.default_rng(0).integers(1, 100, (3, 4, 3, 4)).astype(dtype)
    out = numbapool.pool(x, kind, 2, 1, axes=axes)
    wanted, _ = expected(x.astype("float64") if dtype == "float16" else x, axes, kind, {"kernel_size": 2, "stride": 1})
    assert_equal(kind, out, wanted.astype(dtype) if dtype == "float16" else wanted, dtype)


@pytest.mark.parametrize("kind", ["avg", "sum", "lp"])
def test_halves_are_rounded_once(kind: Any) -> None:
    """However many passes there are."""
    x = inputs((4, 3, 4, 5), kind, "float32").astype(np.float16)
    once = numbapool.pool(x.astype(np.float32), kind, 2, 1, axes=(3, 0, 1, 2))
    assert_same(numbapool.pool(x, kind, 2, 1, axes=(3, 0, 1, 2)), once.astype(np.float16))
    grad = once / np.abs(once).max()
    arrays = [each.astype(np.float16) for each in (grad, x)]
    once = numbapool.pool_backward(*(each.astype(np.float32) for each in arrays), kind, 2, 1, axes=(3, 0, 1, 2))
    assert_same(numbapool.pool_backward(*arrays, kind, 2, 1, axes=(3, 0, 1, 2)), once.astype(np.float16))


@pytest.mark.parametrize("rounding", ["truncate", "nearest"])
def test_integer_means_over_four_axes(rounding: Any) -> None:
    x = np.random.default_rng(0).integers(-2000, 2000, (4, 3, 4, 3)).astype(np.int16)
    for arguments in ({"kernel_size": 2, "stride": 1}, {"kernel_size": 3, "padding": 1}):
        out = numbapool.pool(x, Mean(rounding=rounding), **arguments)
        wanted = reference.avg_pool(x, rounding=rounding, rank=4, **arguments)
        assert_same(out, wanted)
    with pytest.raises(ValueError, match="means of integers over more than 3 axes need windows of the same number"):
        numbapool.pool(x, Mean(count_padding=False), 3, padding=1)


@pytest.mark.parametrize("kind", KINDS)
def test_named_functions_are_cases(kind: str, backend: ArrayKind) -> None:
    x = backend.from_numpy(inputs((2, 3, 6, 7), kind, "float32"))
    options: dict[str, Any] = {"norm_type": 2} if kind == "lp" else {}
    named = getattr(numbapool, f"{kind}_pool2d")(x, kernel_size=3, stride=2, ceil_mode=True, **options)
    general = numbapool.pool(x, kind, 3, 2, ceil_mode=True, axes=(2, 3))  # type: ignore[arg-type]
    assert_same(backend.to_numpy(general), backend.to_numpy(named))


def test_default_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert numbapool.pool(x, "max", 2).shape == (1, 1, 2)
    assert numbapool.pool(x, "max", (2, 2)).shape == (2, 1, 2)
    assert numbapool.pool(x, "max", [2]).shape == (2, 3, 2)
    assert numbapool.pool(x, "max", 2, axes=-2).shape == (2, 1, 4)


def test_memory_order_is_kept() -> None:
    """Channels that lie side by side in memory still do."""
    x = np.random.default_rng(0).standard_normal((2, 8, 6, 5)).astype(np.float32)
    for axes in ((1, 2), (0,), (1,)):
        assert numbapool.pool(x, "max", 2, 1, axes=axes).flags.c_contiguous


def test_empty_planes() -> None:
    for shape, axes in (((0, 4, 4), (1, 2)), ((4, 0, 2), (0,)), ((2, 0, 0, 4), (3,)), ((3, 0, 4, 4), (2, 3))):
        x = np.zeros(shape)
        out = numbapool.pool(x, "avg", 2, axes=axes)
        assert out.shape == tuple(n // 2 if i in axes else n for i, n in enumerate(shape))
        assert numbapool.pool_backward(out, x, "avg", 2, axes=axes).shape == shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (2, 3), (0, 1, 2, 3)])
def test_out(kind: Any, axes: tuple[int, ...], backend: ArrayKind) -> None:
    x = inputs((4, 4, 6, 4), kind)
    fresh = backend.to_numpy(numbapool.pool(backend.from_numpy(x), kind, 2, axes=axes))
    target = backend.from_numpy(np.zeros_like(fresh))
    if backend.refuses_out is not None:
        with pytest.raises(backend.refuses_out, match="out"):
            numbapool.pool(backend.from_numpy(x), kind, 2, axes=axes, out=target)
        return
    assert numbapool.pool(backend.from_numpy(x), kind, 2, axes=axes, out=target) is target
    assert_same(backend.to_numpy(target), fresh)
    gradient = backend.from_numpy(np.full_like(x, 7))
    arrays = backend.from_numpy(fresh), backend.from_numpy(x)
    assert numbapool.pool_backward(*arrays, kind, 2, axes=axes, out=gradient) is gradient
    assert_same(backend.to_numpy(gradient), backend.to_numpy(numbapool.pool_backward(*arrays, kind, 2, axes=axes)))


X = np.zeros((2, 4, 6))


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"kind must be one of .*'max'.*, got 'medium'; the nearest is", {"kind": "medium"}),
        (TypeError, "kind must be a name or a reducer of numbapool.kinds, got 2 of type int", {"kind": 2}),
        (ValueError, "axes must be different, got", {"axes": (1, -2)}),
        (ValueError, "axes must be ints of -3 to 2 for an array of 3 axes, got 3", {"axes": 3}),
        (ValueError, "axes must be ints", {"axes": ()}),
        (TypeError, "axes must be an int, got True", {"axes": True}),
        (TypeError, "axes must be an int, got 1.0", {"axes": 1.0}),
        (ValueError, "kernel_size must have 1 to 3 ints", {"kernel_size": (1, 1, 1, 1)}),
        (ValueError, "kernel_size must be an int or 2 ints", {"kernel_size": (1, 1, 1), "axes": (0, 1)}),
        (ValueError, "kernel size should be greater than zero", {"kernel_size": 0}),
        (ValueError, "stride should not be zero", {"stride": 0, "axes": 1}),
        (ValueError, r"Output size is too small.*x has shape.*axes \(0, 1, 2\) are pooled", {"kernel_size": 9}),
        (ValueError, "Output size is too small.*x has shape.*axes .1,. are pooled", {"kernel_size": 5, "axes": 1}),
        (TypeError, "^pool(_backward)? has no parameter norm_type: it is an option of a kind", {"norm_type": 3}),
        (TypeError, "^pool(_backward)? has no parameter divisor_override", {"divisor_override": 2}),
        (TypeError, "^pool(_backward)? has no parameter count_include_pad", {"count_include_pad": False}),
        (ValueError, r"return_indices has no meaning for kind=Sum\(\), got", {"kind": "sum", "return_indices": True}),
        (ValueError, r"index_kind has no meaning for kind=Sum\(\), got", {"kind": "sum", "index_kind": "window"}),
        (TypeError, "ceil_mode must be a bool", {"ceil_mode": 1}),
    ],
)
def test_errors(error: type[Exception], words: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        numbapool.pool(X, **{"kind": "max", "kernel_size": 2} | arguments)
    arguments = {name: value for name, value in arguments.items() if name != "return_indices"}
    if arguments != {"kind": "sum"}:
        with pytest.raises(error, match=words):
            numbapool.pool_backward(X, X, **{"kind": "max", "kernel_size": 2} | arguments)


def test_errors_of_many_axes_have_the_shape_of_the_array() -> None:
    x = np.zeros((1, 3, 8, 8))
    words = r"Output size is too small.*; x has shape \(1, 3, 8, 8\), of which axes \(0, 1, 2, 3\) are pooled"
    with pytest.raises(ValueError, match=words):
        numbapool.pool(x, "max", 3)
    with pytest.raises(ValueError, match=words):
        numbapool.pool_backward(x, x, "max", 3)


def test_errors_of_arrays() -> None:
    with pytest.raises(ValueError, match="x must have at least one axis"):
        numbapool.pool(np.zeros(()), "max", 1)
    with pytest.raises(ValueError, match="pooled axes must not be empty, but axis 1 of x is"):
        numbapool.pool(np.zeros((3, 0)), "max", 1)
    with pytest.raises(ValueError, match="grad_output must have as many axes as x"):
        numbapool.pool_backward(np.zeros(3), X, "max", 2, axes=1)
    with pytest.raises(ValueError, match="grad_output must have the shape of the output"):
        numbapool.pool_backward(np.zeros((2, 3, 6)), X, "max", 2, axes=1)
    with pytest.raises(ValueError, match="grad_output must have the lengths of x along axes that are not pooled"):
        numbapool.pool_backward(np.zeros((6, 2, 2)), X, "max", 2, axes=1)
    same = np.zeros((2, 2, 6), np.int64)
    with pytest.raises(ValueError, match="out must be two different arrays"):
        numbapool.pool(np.zeros((2, 4, 6), np.int64), "max", 2, axes=1, return_indices=True, out=(same, same))
    with pytest.raises(ValueError, match="divisor must be not zero"):
        numbapool.pool(np.zeros((2, 2, 2, 2)), Mean(divisor=0), 2)
    with pytest.raises(ValueError, match="kernel size should be greater than zero"):
        numbapool.pool(np.zeros((2, 2, 2, 2)), "max", (0, 2, 2, 2))
    with pytest.raises(TypeError, match="x has dtype bool"):
        numbapool.pool(np.zeros((2, 2, 2, 2), bool), Mean(divisor=1), 2)
    four = np.zeros((2, 2, 2, 2))
    with pytest.raises(ValueError, match="return_indices must be False for more than 3 pooled axes"):
        numbapool.pool(four, "max", 2, return_indices=True)
    with pytest.raises(ValueError, match="indices must not be given for more than 3"):
        numbapool.pool_backward(four, four, "max", 1, indices=four.astype(int))
    with pytest.raises(ValueError, match="p must be even without true_norm, got 3, for more than 3 pooled axes"):
        numbapool.pool(four, Norm(3), 2)
    with pytest.raises(TypeError, match="true_norm must be a bool, got 0"):
        numbapool.pool(four, Norm(3, true_norm=0), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"indices has no meaning for kind=Mean\(.*\), got indices="):
        numbapool.pool_backward(four, four, "mean", 1, indices=four.astype(int))
    with pytest.raises(TypeError, match="grad_output must have the dtype of x, float16, got float32"):
        numbapool.pool_backward(np.zeros((1,) * 4, "float32"), four.astype("float16"), "avg", 2)


@settings(max_examples=60)
@given(data=st.data())
def test_any_axes(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5), "shape"))
    order = data.draw(st.permutations(range(len(shape))), "order")
    axes = tuple(data.draw(st.permutations(range(len(shape))), "axes")[: data.draw(st.integers(1, len(shape)))])
    kind = data.draw(st.sampled_from(KINDS))
    kernel = tuple(data.draw(st.integers(1, shape[axis])) for axis in axes)
    stride = tuple(data.draw(st.integers(1, 3)) for _ in axes)
    x = np.transpose(inputs(tuple(shape[i] for i in np.argsort(order)), kind), np.argsort(np.argsort(order)))
    assert x.shape == shape
    window = {"kernel_size": kernel, "stride": stride}
    out = numbapool.pool(x, kind, axes=axes, **window)
    wanted, _ = expected(x, axes, kind, window)
    assert_equal(kind, out, wanted)
    grad = np.random.default_rng(1).integers(-4, 5, out.shape).astype(np.float32)
    result = numbapool.pool_backward(grad, x, kind, axes=axes, **window)
    assert_equal("", result, expected_backward(grad, x, axes, kind, window))


# torch ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "axes", [(0, 2), (0, 1, 2, 3), *(pytest.param(each, marks=pytest.mark.full) for each in ((1,), (1, 2, 0)))]
)
def test_autograd(kind: Any, axes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).permutation(4 * 3 * 4 * 2).reshape(4, 3, 4, 2) + 1.0
    x = torch.from_numpy(values).requires_grad_()
    out = numbapool.pool(x, kind, 2, 1, axes=axes)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out.backward(grad)
    wanted = numbapool.pool_backward(grad.numpy(), values, kind, 2, 1, axes=axes)
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: numbapool.pool(x, kind, 2, 1, axes=axes), (x,))


@pytest.mark.parametrize(("kind", "axes"), [("max", (0, 1)), ("max", (0, 1, 2, 3)), ("sum", (3, 1, 0, 2))])
def test_compiled(kind: str, axes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")

    def function(x: Any) -> Any:
        return numbapool.pool(x, kind, 2, axes=axes)

    torch._dynamo.reset()  # else the axes of another call make these symbols
    x = torch.arange(4.0 * 6 * 3 * 2).reshape(4, 6, 3, 2)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), function(x), rtol=0, atol=0)
