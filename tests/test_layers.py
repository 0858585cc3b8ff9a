"""Layers: torch.nn's constructors, immutable values, and pullbacks that agree with torch's autograd."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import numbapool

NAMES = [f"{kind}Pool{rank}d" for kind in ("Max", "Avg") for rank in (1, 2, 3)]
every_layer = pytest.mark.parametrize("name", NAMES)
every_max_layer = pytest.mark.parametrize("name", [name for name in NAMES if "Max" in name])


def make(name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(numbapool, name)(*args, **kwargs)


def sample(name: str, length: int = 7) -> np.ndarray[Any, Any]:
    """Distinct float64 values in random order, so that every maximum is unique."""
    shape = (2, 3) + (length,) * int(name[-2])
    return np.random.default_rng(0).permutation(np.arange(float(np.prod(shape)))).reshape(shape)


def constructor(layer: type) -> dict[str, Any]:
    parameters = inspect.signature(layer).parameters.values()
    return {each.name: each.default for each in parameters}


@every_layer
def test_constructor_is_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = constructor(getattr(torch.nn, name))
    ours = constructor(getattr(numbapool, name))
    assert list(ours.items())[: len(theirs)] == list(theirs.items())
    beyond_torch = {"divisor_override", "dilation", "rounding"} if "Avg" in name else set()
    assert set(ours) - set(theirs) <= beyond_torch | {"data_format"}


@every_layer
def test_positional_order_is_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    flags = (1, False, True) if "Max" in name else (True, False)
    arguments = (3, 2, 1, *flags)
    x = sample(name)
    expected = getattr(torch.nn, name)(*arguments)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(make(name, *arguments)(x), expected, rtol=1e-13)


@every_layer
def test_call_is_the_function(name: str) -> None:
    function = getattr(numbapool, name.replace("Pool", "_pool").lower())
    arguments = {"kernel_size": 3, "stride": 2, "padding": "same", "dilation": 2, "ceil_mode": True}
    np.testing.assert_array_equal(make(name, **arguments)(sample(name)), function(sample(name), **arguments))


@every_max_layer
def test_return_indices(name: str) -> None:
    function = getattr(numbapool, name.replace("Pool", "_pool").lower())
    x = sample(name)
    out, indices = make(name, 3, return_indices=True)(x)
    expected, expected_indices = function(x, 3, return_indices=True)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    (vjp_out, vjp_indices), pullback = make(name, 3, return_indices=True).vjp(x)
    np.testing.assert_array_equal(vjp_out, expected)
    np.testing.assert_array_equal(vjp_indices, expected_indices)
    np.testing.assert_array_equal(pullback(out), make(name, 3).vjp(x)[1](out))


@every_layer
def test_repr_makes_an_equal_layer(name: str) -> None:
    layer = make(name, 3, stride=(2,) * int(name[-2]), padding="same", ceil_mode=True)
    again = eval(repr(layer), vars(numbapool))
    assert repr(layer).startswith(f"{name}(kernel_size=3, stride=(2,")
    assert again == layer
    assert repr(again) == repr(layer)


@every_layer
def test_equality(name: str) -> None:
    layer = make(name, 3, 2)
    assert layer == make(name, kernel_size=3, stride=2)
    assert hash(layer) == hash(make(name, 3, 2))
    assert layer == copy.deepcopy(layer) == pickle.loads(pickle.dumps(layer))
    assert layer != make(name, 3, 1)
    assert all(layer != make(other, 3, 2) for other in NAMES if other != name)
    assert layer != (3, 2)


@every_layer
def test_stateless(name: str) -> None:
    layer = make(name, 3, 2)
    before = dict(vars(layer))
    x = sample(name)
    first, pullback = layer.vjp(x)
    _, other_pullback = layer.vjp(-sample(name, 9))
    grad = pullback(first)
    assert vars(layer) == before
    np.testing.assert_array_equal(layer(x), first)
    np.testing.assert_array_equal(pullback(first), grad)
    assert other_pullback(layer(sample(name, 9))).shape == sample(name, 9).shape
    np.testing.assert_array_equal(x, sample(name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.stride = 1


@every_layer
def test_bad_arguments(name: str) -> None:
    with pytest.raises(TypeError, match="kernel_size"):
        make(name)
    with pytest.raises(ValueError, match="stride should not be zero"):
        make(name, 2, 0)(sample(name))
    with pytest.raises(ValueError, match="stride should not be zero"):
        make(name, 2, 0).vjp(sample(name))
    with pytest.raises(ValueError, match="grad_output"):
        make(name, 2).vjp(sample(name))[1](sample(name))


WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 1, "padding": 1},
]


@every_layer
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_batched", [True, False])
def test_vjp_is_torchs_autograd(name: str, window: dict[str, Any], dtype: str, is_batched: bool) -> None:
    check_against_torch(name, window, sample(name).astype(dtype)[slice(None) if is_batched else 0])


@every_layer
def test_vjp_of_particular_parameters_is_torchs_autograd(name: str) -> None:
    if "Max" in name:
        particular: list[dict[str, Any]] = [{"dilation": 2}, {"dilation": 2, "padding": 1, "ceil_mode": True}]
    else:
        particular = [{"padding": 1, "count_include_pad": False}]
        if "1d" not in name:
            particular += [{"divisor_override": 5}, {"divisor_override": -2, "padding": 1, "ceil_mode": True}]
    for each in particular:
        check_against_torch(name, {"kernel_size": 3, "stride": 2} | each, sample(name))


def test_vjp_is_the_backward_function_of_every_parameter() -> None:
    """Of those that torch's layers do not have, too."""
    window = {"kernel_size": 2, "stride": 1, "padding": ((1, 0), (0, 2)), "dilation": (2, 1), "ceil_mode": True}
    x = sample("AvgPool2d").astype(np.float32)
    for name, parameters in (
        ("MaxPool2d", window),
        ("MinPool2d", window),
        ("AvgPool2d", window | {"count_include_pad": False}),
        ("SumPool2d", window),
        ("LPPool2d", window | {"norm_type": 3, "true_norm": True}),
    ):
        backward = getattr(numbapool, f"{name.replace('Pool', '_pool').lower()}_backward")
        out, pullback = make(name, **parameters).vjp(x)
        np.testing.assert_array_equal(pullback(out), backward(out, x, **parameters), err_msg=name)


def check_against_torch(name: str, window: dict[str, Any], x: np.ndarray[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    expected = getattr(torch.nn, name)(**window)(leaf)
    grad_output = np.random.default_rng(1).standard_normal(tuple(expected.shape)).astype(x.dtype)
    expected.backward(torch.from_numpy(grad_output))
    out, pullback = make(name, **window).vjp(x)
    tolerance = 64 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=tolerance)
    np.testing.assert_allclose(pullback(grad_output), leaf.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_pipeline() -> None:
    """Pullbacks compose in reverse order."""
    torch = pytest.importorskip("torch")
    x = sample("MaxPool2d", 13)
    hidden, max_pullback = numbapool.MaxPool2d(3, 2, 1).vjp(x)
    out, avg_pullback = numbapool.AvgPool2d(2, 2).vjp(hidden)
    leaf = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.Sequential(torch.nn.MaxPool2d(3, 2, 1), torch.nn.AvgPool2d(2, 2))(leaf)
    expected.sum().backward()
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(max_pullback(avg_pullback(np.ones_like(out))), leaf.grad.numpy(), rtol=1e-14)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_is_checked_on_the_cpu_whatever_is_said(rank: int) -> None:
    layer = getattr(numbapool, f"MaxUnpool{rank}d")
    values, indices = np.ones((1, 1) + (1,) * rank), np.full((1, 1) + (1,) * rank, 1)
    assert layer(2) == layer(2, check_indices=True) != layer(2, check_indices=False)
    assert eval(repr(layer(2, check_indices=False)), vars(numbapool)) == layer(2, check_indices=False)
    for check_indices in (True, False):
        out, pullback = layer(2, check_indices=check_indices).vjp(values, indices)
        np.testing.assert_array_equal(np.flatnonzero(out), [1])
        np.testing.assert_array_equal(pullback(3 * out), 3 * values)
        with pytest.raises(ValueError, match="Found an invalid max index: 99"):
            layer(2, check_indices=check_indices)(values, indices + 98)
    with pytest.raises(TypeError, match="check_indices must be a bool"):
        layer(2, check_indices=1)(values, indices)
    with pytest.raises(TypeError, match="positional"):
        layer(2, None, 0, False)


def test_what_subclasses_add_is_their_own() -> None:
    """A field or a remembered property of a subclass is no argument of the function."""

    @dataclasses.dataclass(frozen=True)
    class Named(numbapool.MaxPool2d):
        label: str = "first"

    layer = Named(2)
    object.__setattr__(layer, "remembered", 1)
    x = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(layer(x), numbapool.max_pool2d(x, 2))
    out, pullback = layer.vjp(x)
    np.testing.assert_array_equal(pullback(out), numbapool.max_pool2d_backward(out, x, 2))


@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize("axes", [(1, 2), (0, 1, 2, 3)])
def test_any_kind(kind: str, axes: tuple[int, ...]) -> None:
    """The layer of all kinds is `pool`; names are the reducers that they stand for."""
    layer = numbapool.Pool(kind, 2, axes=axes)
    assert layer == numbapool.Pool(numbapool.kinds.as_kind(kind), 2, axes=axes)
    x = np.random.default_rng(0).permutation(2 * 4 * 4 * 2).reshape(2, 4, 4, 2).astype(float)
    out, pullback = layer.vjp(x)
    np.testing.assert_array_equal(out, layer(x))
    np.testing.assert_array_equal(out, numbapool.pool(x, kind, 2, axes=axes))
    np.testing.assert_array_equal(pullback(out), numbapool.pool_backward(out, x, kind, 2, axes=axes))
    assert pickle.loads(pickle.dumps(layer)) == layer
    if len(axes) <= 3 and kind == "max":
        (values, indices), pullback = dataclasses.replace(layer, return_indices=True).vjp(x)
        np.testing.assert_array_equal(values, out)
        np.testing.assert_array_equal(
            pullback(values), numbapool.pool_backward(out, x, kind, 2, axes=axes, indices=indices)
        )
