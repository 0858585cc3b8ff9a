"""`data_format="channels_last"`: what the channels-first call computes, with the channel axis moved to its place and back."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import functional
from numbapool.backends import numpy as numpy_backend
from tests.checks import Array, assert_same, tied_values
from tests.conftest import ArrayKind
from tests.test_family import close, public

LAST = {"data_format": "channels_last"}


@dataclass(frozen=True)
class Call:
    """A call of an operation, by the name that it has without its rank, on an array (N, C, pooled axes)."""

    operation: str
    shape: tuple[int, ...]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def has_indices(self) -> bool:
        return "max" in self.operation or "min" in self.operation

    def x(self, is_batched: bool) -> Array:
        """Ties, infinities and NaN; positive for powers."""
        x = tied_values(self.shape, "float64", seed=4)
        x = np.abs(x) + 0.5 if "lp" in self.operation else x
        return x if is_batched else x[0]

    def forward(self, x: Any, kind: ArrayKind | None = None, **more: Any) -> Any:
        return self._function("")(x, *self.args, **self._keywords(x, kind), **more)

    def backward(self, grad: Any, x: Any, kind: ArrayKind | None = None, **more: Any) -> Any:
        keywords = {} if "indices" in more else self._keywords(x, kind)
        return self._function("_backward")(grad, x, *self.args, **keywords, **more)

    def _function(self, suffix: str) -> Callable[..., Any]:
        if self.operation.startswith("global"):
            function: Callable[..., Any] = getattr(numbapool, self.operation + suffix)
            return function
        return public(self.operation + suffix, self.rank)

    def _keywords(self, x: Any, kind: ArrayKind | None) -> dict[str, Any]:
        if "fractional" not in self.operation:
            return dict(self.kwargs)
        planes = self.shape[:2] if len(x.shape) == len(self.shape) else (1, self.shape[1])
        samples = np.random.default_rng(5).random((*planes, self.rank))
        return {"_random_samples": samples if kind is None else kind.from_numpy(samples)}

    def __str__(self) -> str:
        return f"{self.operation}{self.rank}d-{'-'.join(str(each).replace(' ', '') for each in self.args)}"


def options(**kwargs: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(kwargs.items())


CALLS: tuple[Call, ...] = (
    Call("max_pool", (2, 3, 9), (3, 2, 1)),
    Call("max_pool", (2, 3, 8, 7), (2,)),
    Call("max_pool", (2, 3, 9, 10), ((3, 2), (2, 3), ((0, 1), (2, 1)), 2, True)),
    Call("max_pool", (2, 2, 5, 4, 6), (3, 2, 1)),
    Call("min_pool", (2, 3, 7, 8), (3, 2, "same")),
    Call("avg_pool", (2, 3, 9), (3, 2, 1)),
    Call("avg_pool", (2, 3, 8, 7), (2,)),
    Call("avg_pool", (2, 3, 9, 10), (3, 2, 1, True, False), options(dilation=2)),
    Call("avg_pool", (2, 2, 5, 4, 6), (2, 1, 0, False, True, 3)),
    Call("sum_pool", (2, 3, 8, 9), (3, 2, 1, 1, True)),
    Call("lp_pool", (2, 3, 8, 9), (2, 3, 2, True), options(padding=1, true_norm=True)),
    Call("adaptive_max_pool", (2, 3, 7, 10), ((None, 4),)),
    Call("adaptive_max_pool", (2, 3, 11), (4,)),
    Call("adaptive_avg_pool", (2, 3, 7, 10), ((3, 5),)),
    Call("adaptive_avg_pool", (2, 2, 5, 7, 6), ((2, 3, 4),)),
    Call("fractional_max_pool", (2, 3, 9, 12), ((2, 3), (5, 4))),
    Call("fractional_max_pool", (2, 3, 6, 7, 8), (2, (3, 2, 4))),
    Call("global_max_pool", (2, 3, 5, 6)),
    Call("global_avg_pool", (2, 3, 5, 6)),
    Call("global_lp_pool", (2, 3, 7), (3,)),
)
# First those that are tried with every kind of array, see tests/selection.py.
CALLS = CALLS[::3] + CALLS[1::3] + CALLS[2::3]
every_call = pytest.mark.parametrize("call", CALLS, ids=str)
with_indices = pytest.mark.parametrize("call", [call for call in CALLS if call.has_indices], ids=str)


def last(array: Array, rank: int) -> Array:
    """A C-contiguous copy with the channels last."""
    return np.ascontiguousarray(np.moveaxis(array, -1 - rank, -1))


def batches(call: Call) -> tuple[bool, ...]:
    return (True,) if call.operation.startswith("global") else (True, False)


# Values and gradients on every kind of array --------------------------------------------------------------------------


@every_call
def test_forward(backend: ArrayKind, call: Call) -> None:
    for is_batched in batches(call):
        x = call.x(is_batched)
        given = backend.from_numpy(last(x, call.rank))
        actual = call.forward(given, backend, **LAST)
        assert isinstance(actual, type(given))
        close(backend.to_numpy(actual), last(call.forward(x), call.rank))


@with_indices
def test_indices(backend: ArrayKind, call: Call) -> None:
    """Flat within the plane, whatever the data format."""
    for is_batched in batches(call):
        x = call.x(is_batched)
        results = call.forward(backend.from_numpy(last(x, call.rank)), backend, return_indices=True, **LAST)
        assert isinstance(results, tuple)
        for actual, expected in zip(results, call.forward(x, return_indices=True), strict=True):
            assert_same(backend.to_numpy(actual), last(expected, call.rank))


@every_call
def test_backward(backend: ArrayKind, call: Call) -> None:
    for is_batched in batches(call):
        x = call.x(is_batched)
        grad = np.random.default_rng(1).standard_normal(call.forward(x).shape)
        expected = last(call.backward(grad, x), call.rank)
        given, array = (backend.from_numpy(last(each, call.rank)) for each in (grad, x))
        close(backend.to_numpy(call.backward(given, array, backend, **LAST)), expected)
        if call.has_indices:
            _, indices = call.forward(x, return_indices=True)
            saved = backend.from_numpy(last(indices, call.rank))
            close(backend.to_numpy(call.backward(given, array, backend, indices=saved, **LAST)), expected)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 2, 3, 4, 2)], ids=str)
def test_unpool(backend: ArrayKind, shape: tuple[int, ...]) -> None:
    """Also with a whole shape as `output_size`, which is in the order of the data format."""
    rank = len(shape) - 2
    lengths = tuple(2 * length + 1 for length in shape[2:])
    x = np.random.default_rng(0).random(shape)
    indices = np.random.default_rng(1).integers(0, np.prod(lengths), shape)
    grad = np.random.default_rng(2).random((*shape[:2], *lengths))
    window = 2, 2, 0
    function, back = public("max_unpool", rank), public("max_unpool_backward", rank)
    for part in (slice(None), 0):
        arrays = x[part], indices[part]
        expected = last(function(*arrays, *window, lengths), rank)
        expected_gradient = last(back(grad[part], *arrays, *window, lengths), rank)
        given = [backend.from_numpy(last(each, rank)) for each in arrays]
        gradient = backend.from_numpy(last(grad[part], rank))
        for size in (lengths, (shape[0], *lengths, shape[1])):
            assert_same(backend.to_numpy(function(*given, *window, size, **LAST)), expected)
            assert_same(backend.to_numpy(back(gradient, *given, *window, size, **LAST)), expected_gradient)


@every_call
def test_out(backend: ArrayKind, call: Call) -> None:
    x = call.x(True)
    expected = last(call.forward(x), call.rank)
    given = backend.from_numpy(last(x, call.rank))
    out = backend.from_numpy(np.zeros_like(expected))
    if backend.refuses_out:
        with pytest.raises(backend.refuses_out, match=r"^out must"):
            call.forward(given, backend, out=out, **LAST)
        return
    assert call.forward(given, backend, out=out, **LAST) is out
    close(backend.to_numpy(out), expected)
    if call.has_indices:
        pair = backend.from_numpy(np.zeros_like(expected)), backend.from_numpy(np.zeros(expected.shape, np.int64))
        results = call.forward(given, backend, return_indices=True, out=pair, **LAST)
        assert [id(each) for each in results] == [id(each) for each in pair]
        _, indices = call.forward(x, return_indices=True)
        assert_same(backend.to_numpy(pair[0]), expected)
        assert_same(backend.to_numpy(pair[1]), last(indices, call.rank))
    grad = np.ones_like(expected)
    grad_input = backend.from_numpy(np.zeros(last(x, call.rank).shape))
    assert call.backward(backend.from_numpy(grad), given, backend, out=grad_input, **LAST) is grad_input
    close(
        backend.to_numpy(grad_input),
        last(call.backward(np.moveaxis(grad, -1, -1 - call.rank), x), call.rank),
    )


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
def test_other_dtypes(backend: ArrayKind, dtype: str) -> None:
    x = tied_values((2, 3, 9, 8), dtype)
    out, indices = numbapool.max_pool2d(backend.from_numpy(last(x, 2)), 3, 2, 1, return_indices=True, **LAST)
    expected, expected_indices = numbapool.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert_same(backend.to_numpy(out), last(expected, 2))
    assert_same(backend.to_numpy(indices), last(expected_indices, 2))


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels get the memory of the caller's array, and the caller that of the result."""
    x = np.random.default_rng(0).random((2, 6, 7, 3))
    seen = []
    bind = numpy_backend.NumpyBackend.bind

    def spy(self: Any, *arguments: Any) -> Any:
        call = bind(self, *arguments)

        def watched(x: Array, out: Any) -> Any:
            seen.append((x, result := call(x, out)))
            return result

        return watched

    monkeypatch.setattr(numpy_backend.NumpyBackend, "bind", spy)
    result = numbapool.max_pool2d(x, (5, 2), (1, 3), **LAST)
    ((given, made),) = seen
    assert np.shares_memory(given, x)
    assert np.shares_memory(made, result)
    assert given.shape == (2, 3, 6, 7)


def test_empty_batch() -> None:
    assert numbapool.max_pool2d(np.zeros((0, 6, 4, 3)), 2, **LAST).shape == (0, 3, 2, 3)
    assert numbapool.adaptive_avg_pool2d(np.zeros((2, 6, 4, 0)), 2, **LAST).shape == (2, 2, 2, 0)
    assert numbapool.global_avg_pool(np.zeros((0, 6, 4, 3)), **LAST).shape == (0, 1, 1, 3)


def test_channels_first_by_name() -> None:
    x = np.random.default_rng(0).random((2, 3, 6, 5))
    name = "".join(["channels", "_first"])  # equal, but another string
    assert_same(numbapool.max_pool2d(x, 2, data_format=name), numbapool.max_pool2d(x, 2))


# torch ----------------------------------------------------------------------------------------------------------------


def differentiable() -> list[Call]:
    return [call for call in CALLS if "global_lp" not in call.operation]


@pytest.mark.parametrize("call", differentiable(), ids=str)
def test_autograd(call: Call) -> None:
    torch = pytest.importorskip("torch")
    kind = ArrayKind("torch", torch.tensor)
    x = np.random.default_rng(0).uniform(0.1, 2, call.shape)
    grad = np.random.default_rng(1).standard_normal(call.forward(x).shape)
    leaf = torch.tensor(last(x, call.rank), requires_grad=True)
    out = call.forward(leaf, kind, **LAST)
    out.backward(torch.tensor(last(grad, call.rank)))
    close(out.detach().numpy(), last(call.forward(x), call.rank))
    close(leaf.grad.numpy(), last(call.backward(grad, x), call.rank))


@pytest.mark.parametrize("call", differentiable(), ids=str)
def test_compiled(call: Call) -> None:
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    x = np.random.default_rng(0).uniform(0.1, 2, call.shape)
    grad = np.random.default_rng(1).standard_normal(call.forward(x).shape)
    keywords = {
        name: torch.tensor(each) if isinstance(each, np.ndarray) else each
        for name, each in call._keywords(x, None).items()
    }
    function = call._function("")

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(tensor: Any) -> Any:
        return function(tensor, *call.args, **keywords, **LAST)

    leaf = torch.tensor(last(x, call.rank), requires_grad=True)
    out = compiled(leaf)
    out.backward(torch.tensor(last(grad, call.rank)))
    close(out.detach().numpy(), last(call.forward(x), call.rank))
    close(leaf.grad.numpy(), last(call.backward(grad, x), call.rank))


def test_compiled_with_out_and_explicit_backward() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).random((2, 3, 7, 8))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def pooled(x: Any, out: Any) -> Any:
        values, indices = numbapool.max_pool2d(x, 3, 2, return_indices=True, **LAST)
        numbapool.avg_pool2d(x, 3, 2, out=out, **LAST)
        return values, numbapool.max_pool2d_backward(values, x, 3, 2, indices=indices, **LAST)

    out = torch.zeros(2, 3, 3, 3, dtype=torch.float64)
    values, gradient = pooled(torch.tensor(last(x, 2)), out)
    expected = numbapool.max_pool2d(x, 3, 2)
    assert_same(values.numpy(), last(expected, 2))
    close(gradient.numpy(), last(numbapool.max_pool2d_backward(expected, x, 3, 2), 2))
    close(out.numpy(), last(numbapool.avg_pool2d(x, 3, 2), 2))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # by torch.func.jvp, once
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_transforms(name: str) -> None:
    torch = pytest.importorskip("torch")
    function = getattr(numbapool, name)
    x = torch.rand(4, 2, 6, 7, 3, dtype=torch.float64)

    def loss(each: Any, **data_format: Any) -> Any:
        return (function(each, 2, **data_format) ** 2).sum()

    def first(x: Any) -> Any:
        return x.movedim(-1, -3)

    torch.testing.assert_close(
        torch.func.vmap(lambda each: function(each, 2, **LAST))(x),
        torch.stack([function(first(each), 2).movedim(-3, -1) for each in x]),
    )
    torch.testing.assert_close(
        first(torch.func.vmap(torch.func.grad(lambda each: loss(each, **LAST)))(x)),
        torch.func.vmap(torch.func.grad(loss))(first(x)),
    )
    tangent = torch.rand_like(x[0])
    out, change = torch.func.jvp(lambda each: function(each, 2, **LAST), (x[0],), (tangent,))
    expected, expected_change = torch.func.jvp(lambda each: function(each, 2), (first(x[0]),), (first(tangent),))
    torch.testing.assert_close(first(out), expected)
    torch.testing.assert_close(first(change), expected_change)


def test_tensors_without_values() -> None:
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert numbapool.max_pool2d(torch.empty(2, 6, 7, 3, device="meta"), 2, **LAST).shape == (2, 3, 3, 3)
    with FakeTensorMode():
        out = numbapool.adaptive_avg_pool2d(torch.empty(2, 6, 7, 3), (5, 4), **LAST)
    assert out.shape == (2, 5, 4, 3)


def test_tensors_are_views() -> None:
    """Contiguous tensors of this shape are what torch calls channels_last once moved, and results come out so."""
    torch = pytest.importorskip("torch")
    for call in CALLS:
        if call.rank in (2, 3) and "lp" not in call.operation and not call.operation.startswith("global"):
            x = torch.tensor(last(call.x(True), call.rank))
            assert call.forward(x, ArrayKind("torch", torch.tensor), **LAST).is_contiguous()


# Layers ---------------------------------------------------------------------------------------------------------------

LAYERS = (
    numbapool.MaxPool1d(2),
    numbapool.MaxPool2d(3, 2, 1),
    numbapool.MaxPool3d(2, ceil_mode=True),
    numbapool.MinPool2d(3, 2, 1, return_indices=True),
    numbapool.AvgPool2d(3, 2, 1, dilation=2),
    numbapool.SumPool2d(3),
    numbapool.LPPool2d(2, 3, true_norm=True),
    numbapool.AdaptiveMaxPool2d((2, 3)),
    numbapool.AdaptiveAvgPool3d(2),
    numbapool.GlobalMaxPool(),
    numbapool.GlobalAvgPool(),
    numbapool.GlobalLPPool(),
)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers(layer: Any) -> None:
    name = type(layer).__name__
    rank = int(name[-2]) if name.endswith("d") else 2
    x = np.random.default_rng(0).random((2, 3) + (7,) * rank)
    other = dataclasses.replace(layer, **LAST)
    assert other != layer
    assert repr(other).endswith("data_format='channels_last')")
    out, pullback = layer.vjp(x)
    other_out, other_pullback = other.vjp(last(x, rank))
    if isinstance(out, tuple):
        assert_same(other_out[1], last(out[1], rank))
        assert_same(other(last(x, rank))[1], last(out[1], rank))
        out, other_out = out[0], other_out[0]
    else:
        assert_same(other(last(x, rank)), other_out)
    close(other_out, last(out, rank))
    close(other_pullback(other_out), last(pullback(out), rank))


def test_layers_of_unpooling_and_drawn_windows() -> None:
    x = np.random.default_rng(0).random((2, 6, 7, 3))
    values, indices = numbapool.MaxPool2d(2, return_indices=True, **LAST)(x)
    out, pullback = numbapool.MaxUnpool2d(2, **LAST).vjp(values, indices, x.shape)
    assert out.shape == x.shape
    assert_same(np.sort(out[out != 0]), np.sort(values.ravel()))
    assert_same(pullback(out), values)
    layer = numbapool.FractionalMaxPool2d(2, 3, generator=np.random.default_rng(0), **LAST)
    out, pullback = layer.vjp(x)
    assert out.shape == (2, 3, 3, 3)
    assert pullback(np.ones_like(out)).shape == x.shape


# Errors ---------------------------------------------------------------------------------------------------------------

X = np.zeros((2, 6, 5, 3))
GRAD = np.zeros((2, 3, 2, 3))


@pytest.mark.parametrize("name", [name for name in functional.__all__ if name not in ("pool", "pool_backward")])
def test_bad_data_format(name: str) -> None:
    """Of every function, and before anything else is looked at."""
    function = getattr(numbapool, name)
    parameters = inspect.signature(function).parameters.values()
    assert [each.name for each in parameters][-2:] == ["data_format", "out"]
    required = [None for each in parameters if each.default is each.empty]
    for value in ("NHWC", "", "channels-last"):
        with pytest.raises(ValueError, match=rf"data_format must be one of .*'channels_last'\), got '{value}'"):
            function(*required, data_format=value)
    for wrong in (None, True, 1, -1, ("channels_last",), b"channels_last"):
        with pytest.raises(TypeError, match="data_format must be a str, got"):
            function(*required, data_format=wrong)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (
            ValueError,
            r"x must have 4 axes \(N, H, W, C\) or 3 axes \(H, W, C\), got shape \(6, 5\) with 2",
            lambda: numbapool.max_pool2d(X[0, ..., 0], 2, **LAST),
        ),
        (ValueError, r"\(N, L, C\) or 2 axes \(L, C\), got shape", lambda: numbapool.avg_pool1d(X, 2, **LAST)),
        (ValueError, r"\(N, D, H, W, C\)", lambda: numbapool.adaptive_avg_pool3d(X[0], 2, **LAST)),
        (
            ValueError,
            r"x must have at least 3 axes \(N, \.\.\., C\), got shape \(6, 5\) with 2",
            lambda: numbapool.global_avg_pool(X[0, ..., 0], **LAST),
        ),
        (ValueError, r"got shape \(2, 0, 5, 3\)$", lambda: numbapool.global_avg_pool(X[:, :0], **LAST)),
        (
            ValueError,
            r"x of shape \(2, 3, 6, 5\).*; shapes here have the channels first, data_format is 'channels_last'$",
            lambda: numbapool.max_pool2d(X, 7, **LAST),
        ),
        (ValueError, r"got stride=\(0, 0\)$", lambda: numbapool.max_pool2d(X, 2, 0, **LAST)),
        (
            ValueError,
            r"grad_output must have the shape of the output, \(2, 3, 3, 2\), got shape \(2, 2, 3, 3\); shapes here",
            lambda: numbapool.max_pool2d_backward(np.moveaxis(GRAD, -1, 1), X, 2, **LAST),
        ),
        (
            ValueError,
            r"grad_output must have as many axes as x, which has shape \(2, 6, 5, 3\), got shape \(3, 2, 3\)",
            lambda: numbapool.max_pool2d_backward(GRAD[0], X, 2, **LAST),
        ),
        (
            ValueError,
            "indices must have as many axes as x",
            lambda: numbapool.max_pool2d_backward(GRAD, X, 2, indices=np.zeros((), np.int64), **LAST),
        ),
        (ValueError, "out must have as many axes as x", lambda: numbapool.avg_pool2d(X, 2, out=GRAD[0], **LAST)),
        (ValueError, "out must have the shape", lambda: numbapool.avg_pool2d(X, 2, out=GRAD[:1], **LAST)),
        (TypeError, "out must be a pair", lambda: numbapool.max_pool2d(X, 2, return_indices=True, out=GRAD, **LAST)),
        (TypeError, "out must be a NumPy array", lambda: numbapool.max_pool2d(X, 2, out=(GRAD, GRAD), **LAST)),
        (
            TypeError,
            "out must be a NumPy array",
            lambda: numbapool.max_pool2d(X, 2, return_indices=True, out=(GRAD, None), **LAST),
        ),
        (TypeError, "grad_output must be", lambda: numbapool.max_pool2d_backward(None, X, 2, **LAST)),
        (TypeError, "grad_output must be", lambda: numbapool.max_pool2d_backward([1.0], X, 2, **LAST)),
        (TypeError, "x must be an array", lambda: numbapool.max_pool2d([[1.0]], 2, **LAST)),
        (TypeError, "x is a masked array", lambda: numbapool.max_pool2d(np.ma.array(X), 2, **LAST)),
        (TypeError, "x has dtype bool", lambda: numbapool.avg_pool2d(X > 0, 2, **LAST)),
        (
            ValueError,
            "_random_samples must have the shape",
            lambda: numbapool.fractional_max_pool2d(X, 2, 2, _random_samples=np.zeros((2, 2)), **LAST),
        ),
        (
            ValueError,
            "output_size must be 2 ints",
            lambda: numbapool.max_unpool2d(X, np.zeros(X.shape, np.int64), 2, output_size=(12,) * 3, **LAST),
        ),
    ],
)  # fmt: skip
def test_errors(error: type[Exception], words: str, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the caller's order of axes where only that is in question; before any kernel runs."""

    def fail() -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(numpy_backend, "_target", fail)
    with pytest.raises(error, match=words):
        call()


def test_index_out_of_range() -> None:
    with pytest.raises(ValueError, match="Found an invalid max index: 30 "):
        numbapool.max_pool2d_backward(GRAD, X, 2, indices=np.full(GRAD.shape, 30), **LAST)


# Memory order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "is_batched"), [(call, each) for call in CALLS for each in batches(call)])
def test_results_are_c_contiguous(call: Call, is_batched: bool) -> None:
    """The axes come back in the order of the input's memory: it is the NumPy backend that allocates results so."""
    x = last(call.x(is_batched), call.rank)
    out = call.forward(x, **LAST)
    assert out.flags.c_contiguous
    gradient = call.backward(np.ones_like(out), x, **LAST)
    assert gradient.flags.c_contiguous
    if call.has_indices:
        out, indices = call.forward(x, return_indices=True, **LAST)
        assert out.flags.c_contiguous
        assert indices.flags.c_contiguous
        assert call.backward(np.ones_like(out), x, indices=indices, **LAST).flags.c_contiguous
