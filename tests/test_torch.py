"""torch tensors: the functions of torch.nn.functional are the judge; nothing is copied; derivatives of every order."""

from __future__ import annotations

import inspect
import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

import numbapool
from tests.cases import CASES, Case
from tests.checks import FLOATS, INTEGERS, public, spread_values, tied_values
from tests.processes import call_in_process

torch = pytest.importorskip("torch")
F = torch.nn.functional
# torch.func.hessian and gradcheck, the first time, use a decorator that torch itself calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

DTYPES = (*FLOATS, *INTEGERS, "bool")
GEOMETRIES = [
    Case("vgg", (2, 3, 8, 8), 2),
    Case("resnet", (2, 3, 11, 12), 3, 2, 1),
    Case("dilated", (2, 2, 9, 9), 3, 1, 1, 2),
    Case("ceil", (2, 2, 8, 9), 3, 2, 1, ceil_mode=True),
    Case("text", (2, 3, 21), 3, 2, 1),
    Case("unet", (1, 2, 6, 6, 7), 2),
    Case("volume", (2, 2, 5, 6, 7), 3, 1, 1, count_include_pad=False),
    Case("divisor", (1, 2, 8, 8), 3, 2, 1, divisor_override=5),
]


def formats(rank: int) -> list[Any]:
    """Memory formats of tensors with `rank` pooled axes."""
    return [torch.contiguous_format, *{2: [torch.channels_last], 3: [torch.channels_last_3d]}.get(rank, [])]


def in_format(x: np.ndarray, memory_format: Any) -> Any:
    return torch.from_numpy(x.copy()).contiguous(memory_format=memory_format)


def torch_can(kind: str, case: Case) -> bool:
    """Whether torch has such a pool: symmetric padding up to half the window, no dilation of averages."""
    kernels = [case.kernel_size] * case.rank if isinstance(case.kernel_size, int) else list(case.kernel_size)
    pads = [case.padding] * case.rank if isinstance(case.padding, int) else case.padding
    if isinstance(pads, str) or any(isinstance(p, tuple) for p in pads):
        return False
    if any(2 * p > k for p, k in zip(pads, kernels, strict=True)):
        return False
    if kind == "avg":
        if case.rank == 3 and any(n < k for n, k in zip(case.shape[2:], kernels, strict=True)):
            return False  # torch refuses windows larger than the input, padded or not
        return case.dilation in (1, (1,) * case.rank) and not (case.rank == 1 and case.divisor_override)
    return True


def functions(kind: str, case: Case) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """numbapool's function of one tensor, and torch's."""
    name = f"{kind}_pool{case.rank}d"
    arguments = case.max_arguments if kind == "max" else case.avg_arguments
    theirs = dict(arguments)
    if kind == "avg":
        del theirs["dilation"]
        if case.rank == 1:
            del theirs["divisor_override"]
    return lambda x: getattr(numbapool, name)(x, **arguments), lambda x: getattr(F, name)(x, **theirs)


JUDGED = [
    pytest.param(kind, case, id=f"{kind}-{case}")
    for kind in ("max", "avg")
    for case in GEOMETRIES
    if torch_can(kind, case)
]
MORE = [
    pytest.param(kind, case, id=f"{kind}-{case}")
    for kind in ("max", "avg")
    for case in CASES
    if torch_can(kind, case) and case.name != "dilation-without-taps"  # where torch writes out of bounds
]


def close(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}.get(actual.dtype, 0)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=10 * tolerance, equal_nan=True)


@pytest.mark.parametrize(("kind", "case"), MORE)
def test_values_and_gradients_are_torchs(kind: str, case: Case) -> None:
    ours, theirs = functions(kind, case)
    for memory_format in formats(case.rank):
        x = in_format(spread_values(case.shape, "float32"), memory_format)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = ours(a), theirs(b)
        close(out, expected)
        if (kind, case.rank) == ("avg", 3):  # torch forgets the format here
            assert out.is_contiguous(memory_format=memory_format)
        else:
            assert out.stride() == expected.stride()
        gradient = torch.randn(out.shape)
        out.backward(gradient)
        expected.backward(gradient)
        close(a.grad, b.grad)


@pytest.mark.parametrize("case", [case for case in GEOMETRIES if torch_can("max", case)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_indices_are_torchs(case: Case, dtype: str) -> None:
    for memory_format in formats(case.rank):
        x = in_format(tied_values(case.shape, dtype), memory_format)
        out, indices = public("max_pool", case.rank)(x, **case.max_arguments, return_indices=True)
        # torch pools neither all integers nor bool; int64 and float64 hold all their values but the largest of uint64.
        judge = x if dtype in FLOATS else torch.from_numpy(np.argsort(np.argsort(x.numpy(), axis=None, kind="stable")))
        if dtype not in FLOATS:
            _, ranks = np.unique(x.numpy(), return_inverse=True)
            judge = torch.from_numpy(ranks.reshape(case.shape).astype(np.float64))
        expected, expected_indices = getattr(F, f"max_pool{case.rank}d")(
            judge.contiguous(memory_format=memory_format), **case.max_arguments, return_indices=True
        )
        assert out.dtype == x.dtype
        assert indices.dtype == torch.int64
        torch.testing.assert_close(indices, expected_indices, rtol=0, atol=0)
        assert out.stride() == indices.stride()
        if dtype in FLOATS:
            close(out, expected)
            assert out.stride() == expected.stride()


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_means_of_other_dtypes(dtype: str) -> None:
    x = torch.from_numpy(np.random.default_rng(0).integers(-1000, 1000, (2, 3, 8, 9)).astype(dtype))
    close(numbapool.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1))


@pytest.mark.parametrize(("kind", "case"), JUDGED)
def test_unbatched_and_empty(kind: str, case: Case) -> None:
    ours, theirs = functions(kind, case)
    x = torch.from_numpy(spread_values(case.shape, "float32"))
    close(ours(x[0]), theirs(x[0]))
    empty = x[:0].requires_grad_()
    out = ours(empty)
    assert out.shape == theirs(empty).shape
    out.sum().backward()
    assert empty.grad.shape == empty.shape


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((2, 1, 4, 5), (20, 20, 5, 1)),
        ((2, 1, 4, 5), (20, 1, 5, 1)),
        ((2, 3, 2, 2), (12, 1, 6, 3)),
        ((1, 4, 4, 4), (64, 1, 16, 4)),
        ((1, 4, 4, 4), (1, 1, 16, 4)),
        ((4, 1, 2, 2), (4, 4, 2, 1)),
        ((4, 1, 2, 2), (4, 1, 2, 1)),
        ((2, 4, 4, 4), (128, 2, 32, 8)),
        ((2, 4, 4, 4), (0, 1, 16, 4)),
        ((3, 2, 4, 2), (16, 1, 4, 2)),
    ],
)
def test_ambiguous_memory_formats(name: str, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    memory = torch.arange(1000.0)
    x = memory.as_strided(shape, stride)
    out, expected = getattr(numbapool, name)(x, 2), getattr(F, name)(x, 2)
    assert out.stride() == expected.stride()
    assert torch.equal(out, expected)


@contextmanager
def calls_to_numpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Addresses of the input and of the result of every forward call that reaches the NumPy backend."""
    from numbapool.backends import torch as adapter
    from numbapool.backends import torch_jobs
    from numbapool.functional import engine

    seen = []
    bind = adapter.numpy_backend.bind

    def watched(*arguments: Any) -> Any:
        call = bind(*arguments)

        def run(x: Any, out: Any) -> Any:
            result = call(x, out)
            seen.append((x.ctypes.data, (result[0] if isinstance(result, tuple) else result).ctypes.data))
            return result

        return run

    caches = engine._bound_for, engine._remembered_binding, torch_jobs._remembered_job
    for each in caches:
        each.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(adapter.numpy_backend), "bind", lambda self, *arguments: watched(*arguments))
        yield seen
    for each in caches:
        each.cache_clear()


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_storage_is_shared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 4, 8, 8)
    inputs = {
        "contiguous": x,
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "sliced": torch.rand(2, 4, 20, 20)[:, 1::2, 3:11, ::2],
        "transposed": x.mT,
        "requires_grad": x.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(x.clone()),
        "not a leaf": x.clone().requires_grad_() * 2,
        "expanded": torch.rand(1, 4, 1, 8).expand(2, 4, 8, 8),
    }
    for kind, each in inputs.items():
        with calls_to_numpy(monkeypatch) as seen:
            out = getattr(numbapool, name)(each, 2)
        assert [address for address, _ in seen] == [each.data_ptr()], kind
        assert [address for _, address in seen] == [out.data_ptr()], kind
        close(out.detach(), getattr(F, name)(each, 2).detach())


class Recorder(torch.overrides.TorchFunctionMode):
    """The names of all of torch's functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_nothing_is_made_contiguous(name: str) -> None:
    for x in (torch.rand(2, 4, 8, 8), torch.rand(2, 4, 20, 20)[:, :, ::2, ::2], torch.rand(2, 8, 8, 4).movedim(3, 1)):
        leaf = x.detach().requires_grad_()
        with Recorder() as recorder:
            getattr(numbapool, name)(x, 2)
            out = getattr(numbapool, name)(leaf, 2)
            out.backward(torch.ones_like(out))
        assert not {"contiguous", "clone", "copy_", "to", "reshape"} & set(recorder.names)


def test_inference_mode() -> None:
    x = torch.rand(1, 2, 6, 6)
    with torch.inference_mode():
        out = numbapool.max_pool2d(x, 2)
    assert out.is_inference()
    assert torch.equal(out, F.max_pool2d(x, 2))


def test_out() -> None:
    x = torch.rand(1, 2, 6, 6)
    out, indices = torch.empty(1, 2, 3, 3), torch.empty(1, 2, 3, 3, dtype=torch.int64)
    assert numbapool.max_pool2d(x, 2, out=out) is out
    assert torch.equal(out, F.max_pool2d(x, 2))
    values = numbapool.max_pool2d(x, 2, return_indices=True, out=(out, indices))
    assert values[0] is out
    assert values[1] is indices
    grad = torch.empty_like(x)
    assert numbapool.max_pool2d_backward(torch.ones_like(out), x, 2, indices=indices, out=grad) is grad
    assert grad.sum() == 18
    last = torch.empty(1, 2, 3, 3, memory_format=torch.channels_last)
    numbapool.avg_pool2d(x, 2, out=last)
    close(last, F.avg_pool2d(x, 2))


def test_errors() -> None:
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    with pytest.raises(ValueError, match="out must not be given where derivatives"):
        numbapool.max_pool2d(x, 2, out=torch.empty(1, 2, 3, 3))
    with pytest.raises(ValueError, match="out must not require a gradient"):
        numbapool.max_pool2d(x.detach(), 2, out=torch.empty(1, 2, 3, 3, requires_grad=True))
    with pytest.raises(TypeError, match="out must be a torch tensor"):
        numbapool.max_pool2d(x.detach(), 2, out=np.empty((1, 2, 3, 3), np.float32))
    with pytest.raises(TypeError, match="grad_output must be a torch tensor"):
        numbapool.max_pool2d_backward(np.ones((1, 2, 3, 3), np.float32), x, 2)
    with pytest.raises(TypeError, match="grad_output must be a NumPy array"):
        numbapool.max_pool2d_backward(torch.ones(1, 2, 3, 3), np.ones((1, 2, 6, 6), np.float32), 2)
    with pytest.raises(TypeError, match="x has dtype complex64; accepted here"):
        numbapool.max_pool2d(x.detach().to(torch.complex64), 2)
    with pytest.raises(TypeError, match="sparse"):
        numbapool.max_pool2d(torch.zeros(1, 2, 6, 6).to_sparse(), 2)
    with pytest.raises(ValueError, match="stride should not be zero"):
        numbapool.max_pool2d(x, 2, 0)
    for device in ("xpu:0", "mps:0"):
        with torch._subclasses.FakeTensorMode(), pytest.raises(TypeError, match=f"x is on device {device}"):
            numbapool.max_pool2d(torch.empty(1, 1, 4, 4, device=device), 2)


def saved_tensors(function: Callable[[Any], Any], x: Any) -> list[Any]:
    saved = []

    def pack(tensor: Any) -> Any:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(x.clone().requires_grad_())
    return saved


def test_little_is_saved() -> None:
    x = torch.rand(2, 3, 8, 8)
    (indices,) = saved_tensors(lambda x: numbapool.max_pool2d(x, 2), x)
    assert (indices.dtype, indices.shape) == (torch.uint8, (2, 3, 4, 4))
    (indices,) = saved_tensors(lambda x: numbapool.max_pool2d(x, 2), x.to(memory_format=torch.channels_last))
    assert indices.dtype == torch.int32
    (indices,) = saved_tensors(lambda x: numbapool.max_pool2d(x, 16, 1, 8), torch.rand(2, 3, 8, 8))
    assert indices.dtype == torch.int32
    (indices,) = saved_tensors(lambda x: numbapool.max_pool2d(x, 2, return_indices=True), x)
    assert indices.dtype == torch.int64
    assert saved_tensors(lambda x: numbapool.avg_pool2d(x, 2), x) == []


@pytest.mark.parametrize(("kind", "case"), JUDGED)
def test_derivatives_by_differences(kind: str, case: Case) -> None:
    ours, _ = functions(kind, case)
    shape = (1, 2, *(min(n, 6) for n in case.shape[2:]))
    count = int(np.prod(shape))
    # Far apart, so that no maximum changes places.
    x = torch.from_numpy(np.random.default_rng(0).permutation(count).reshape(shape) / 8.0).requires_grad_()
    assert torch.autograd.gradcheck(ours, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, x, check_fwd_over_rev=True)


def test_gradients_of_backward() -> None:
    x = torch.rand(1, 2, 6, 6, dtype=torch.float64)
    grad = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    _, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    for function in (
        lambda g: numbapool.max_pool2d_backward(g, x, 2),
        lambda g: numbapool.max_pool2d_backward(g, x, 2, indices=indices),
        lambda g: numbapool.avg_pool2d_backward(g, x, 2),
    ):
        assert torch.autograd.gradcheck(function, grad, check_forward_ad=True)


@pytest.mark.parametrize(("kind", "case"), JUDGED)
def test_transforms(kind: str, case: Case) -> None:
    ours, theirs = functions(kind, case)
    shape = (1, 2, *(min(n, 6) for n in case.shape[2:]))
    x = torch.from_numpy(np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape) / 8.0)
    tangent = torch.randn_like(x)
    jacobian = torch.func.jacrev(theirs)(x)
    assert jacobian.abs().sum() > 0
    close(torch.func.jacrev(ours)(x), jacobian)
    close(torch.func.jacfwd(ours)(x), jacobian)
    out, derivative = torch.func.jvp(ours, (x,), (tangent,))
    close(out, theirs(x))
    close(derivative, torch.tensordot(jacobian, tangent, x.dim()))
    out, pullback = torch.func.vjp(ours, x)
    cotangent = torch.randn_like(out)
    close(pullback(cotangent)[0], torch.tensordot(cotangent, jacobian, out.dim()))
    batch = torch.stack([x, -x, x.flip(-1)])
    expected = torch.stack([theirs(each) for each in batch])
    for axis in (0, 2, -1):
        moved = batch.movedim(0, axis)
        close(torch.func.vmap(ours, in_dims=axis)(moved), expected)
    close(torch.func.vmap(torch.func.vmap(ours))(batch.unsqueeze(1)), expected.unsqueeze(1))
    squares = torch.func.vmap(torch.func.grad(lambda each: ours(each).square().sum()))(batch)
    close(squares, torch.func.vmap(torch.func.grad(lambda each: theirs(each).square().sum()))(batch))
    hessian = torch.func.hessian(lambda each: ours(each).pow(3).sum())(x)
    close(hessian, torch.func.hessian(lambda each: theirs(each).pow(3).sum())(x))


def test_vmap_with_indices() -> None:
    x = torch.rand(4, 2, 3, 6, 6)
    out, indices = torch.func.vmap(lambda x: numbapool.max_pool2d(x, 2, return_indices=True))(x)
    expected, expected_indices = F.max_pool2d(x.flatten(0, 1), 2, return_indices=True)
    assert torch.equal(out.flatten(0, 1), expected)
    assert torch.equal(indices.flatten(0, 1), expected_indices)


def test_hooks_and_retained_graphs() -> None:
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    seen = []
    out = numbapool.max_pool2d(x, 2)
    out.register_hook(lambda grad: seen.append("out"))
    x.register_hook(lambda grad: seen.append("x"))
    out.sum().backward(retain_graph=True)
    first = x.grad.clone()
    out.sum().backward()
    assert seen == ["out", "x"] * 2
    assert torch.equal(x.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


def test_detached_parts_get_no_graph() -> None:
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    with torch.no_grad():
        assert not numbapool.max_pool2d(x, 2).requires_grad
    assert not numbapool.max_pool2d(x.detach(), 2).requires_grad
    _, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    assert not indices.requires_grad


def test_autocast() -> None:
    model = torch.nn.Conv2d(1, 2, 3)
    x = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        features = model(x)
        assert features.dtype == torch.bfloat16
        pooled = [numbapool.max_pool2d(features, 2), numbapool.avg_pool2d(features, 2)]
    assert [each.dtype for each in pooled] == [torch.bfloat16, torch.bfloat16]
    sum(each.float().sum() for each in pooled).backward()
    assert torch.equal(pooled[0].float(), F.max_pool2d(features.float(), 2))
    torch.testing.assert_close(pooled[1].float(), F.avg_pool2d(features.float(), 2), rtol=2**-8, atol=0)
    assert model.weight.grad.abs().sum() > 0


def test_windows_without_input_have_no_gradient() -> None:
    """torch 2.13 writes outside the gradient here."""
    x = torch.ones(1, 6, 1, 1, requires_grad=True)
    out, indices = numbapool.max_pool2d(x, 2, 1, 1, 2, return_indices=True)
    assert torch.all(indices == -1)
    assert torch.all(out == -torch.inf)
    out.backward(torch.ones_like(out))
    assert torch.all(x.grad == 0)


POOLS = [
    pytest.param(lambda x: numbapool.max_pool2d(x, 2), id="max"),
    pytest.param(lambda x: numbapool.avg_pool2d(x, 3, 2, 1, True), id="avg"),
]


class Subclass(torch.Tensor):
    """A tensor that somebody may follow."""


@pytest.mark.parametrize("pool", POOLS)
def test_transforms_of_calls_that_are_recorded(pool: Callable[[Any], Any]) -> None:
    """Dispatch modes, tensor subclasses and make_fx see operators, of which transforms know nothing by themselves."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    def loss(x: Any) -> Any:
        return (pool(x) ** 2).sum()

    def tangent(x: Any) -> Any:
        return torch.func.jvp(pool, (x,), (x,))[1]

    x = torch.randn(3, 2, 3, 6, 6, dtype=torch.float64)
    each = [tangent, torch.func.vmap(pool), torch.func.grad(loss), torch.func.vmap(torch.func.grad(loss))]
    for transformed in each:
        expected = transformed(x) if transformed in (each[1], each[3]) else transformed(x[0])
        given = x if transformed in (each[1], each[3]) else x[0]
        with FlopCounterMode(display=False):
            torch.testing.assert_close(transformed(given), expected)
        torch.testing.assert_close(make_fx(transformed)(given)(given), expected)
        torch.testing.assert_close(transformed(given.as_subclass(Subclass)).as_subclass(torch.Tensor), expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x[0].as_subclass(Subclass), x[0])
        found = torch.autograd.forward_ad.unpack_dual(pool(dual)).tangent
    torch.testing.assert_close(found.as_subclass(torch.Tensor), tangent(x[0]))


@pytest.mark.parametrize("pool", POOLS)
def test_batched_gradients(pool: Callable[[Any], Any]) -> None:
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    out = pool(x)
    gradients = torch.randn(4, *out.shape, dtype=torch.float64)
    (batched,) = torch.autograd.grad(out, x, gradients, is_grads_batched=True, retain_graph=True)
    for i in range(4):
        (single,) = torch.autograd.grad(out, x, gradients[i], retain_graph=True)
        assert torch.equal(batched[i], single)
    assert torch.autograd.gradcheck(pool, x, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(pool, x, check_batched_grad=True)
    jacobian = torch.autograd.functional.jacobian(pool, x, vectorize=True)
    assert torch.equal(jacobian, torch.func.jacrev(pool)(x.detach()))


def test_forward_mode_in_compiled_code_is_refused() -> None:
    compiled = torch.compile(
        lambda x: torch.func.jvp(lambda z: numbapool.max_pool2d(z, 2), (x,), (x,))[1],
        backend="aot_eager",
        fullgraph=True,
    )
    with pytest.raises(Exception, match="no forward-mode derivatives inside compiled code"):
        compiled(torch.randn(1, 1, 4, 4))


def test_vmap_of_compiled_code() -> None:
    x = torch.randn(3, 2, 4, 4)
    compiled = torch.compile(torch.func.vmap(lambda z: numbapool.max_pool2d(z, 2)), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), numbapool.max_pool2d(x, 2))
    shapes = torch.empty(2, 4, 4)
    backward = torch.func.vmap(lambda gradient: numbapool.avg_pool2d_backward(gradient, shapes, 2))
    compiled, gradient = torch.compile(backward, backend="aot_eager", fullgraph=True), torch.randn(3, 2, 2, 2)
    assert torch.equal(compiled(gradient), numbapool.avg_pool2d_backward(gradient, torch.empty(3, 2, 4, 4), 2))


def test_saved_outputs_that_are_overwritten() -> None:
    x, out = torch.randn(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    weight = torch.randn(1, 1, 2, 2, requires_grad=True)
    product = (out * weight).sum()
    numbapool.max_pool2d(x, 2, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_outs_that_are_refused() -> None:
    x = torch.randn(2, 1, 4, 4)
    good = torch.empty(2, 1, 2, 2)
    with torch.inference_mode():
        inference = torch.empty(2, 1, 2, 2)
    bad = {
        "not overlap itself": (good[:1].expand(2, 1, 2, 2), ValueError),
        "inference tensor": (inference, ValueError),
        "negated": (torch._neg_view(good), ValueError),
        "must be a plain tensor like x": (good.to("meta"), ValueError),
        "must have the shape of the result": (good[:1], ValueError),
        "must have the dtype of the result": (good.double(), TypeError),
        "gradient": (good.clone().requires_grad_(), ValueError),
    }
    for words, (out, error) in bad.items():
        with pytest.raises(error, match=f"^out must .*{words.removeprefix('must ')}"):
            numbapool.max_pool2d(x, 2, out=out)
    meta = x.to("meta")
    for out, error in ((good[:1].to("meta"), ValueError), (good.int().to("meta"), TypeError), (np.ones(1), TypeError)):
        with pytest.raises(error, match=r"^out must"):
            numbapool.max_pool2d(meta, 2, out=out)
    with pytest.raises(TypeError, match=r"^out must be a pair"):
        numbapool.max_pool2d(meta, 2, return_indices=True, out=good.to("meta"))
    with pytest.raises(ValueError, match=r"^out must not be given where derivatives"):
        numbapool.max_pool2d(meta.requires_grad_(), 2, out=good.to("meta"))


def test_arguments_without_values_are_checked() -> None:
    x, grad = torch.randn(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    for gradient, given in ((grad, x.to("meta")), (grad.to("meta"), x)):
        for backward in (numbapool.max_pool2d_backward, numbapool.avg_pool2d_backward):
            with pytest.raises(ValueError, match=r"^grad_output must be on the device of x"):
                backward(gradient, given, 2)
    meta, meta_grad = x.to("meta"), grad.to("meta")
    with pytest.raises(TypeError, match=r"^grad_output must have the dtype of x"):
        numbapool.max_pool2d_backward(meta_grad.double(), meta, 2)
    with pytest.raises(TypeError, match=r"^x has dtype torch.int32"):
        numbapool.avg_pool2d_backward(meta_grad, meta.int(), 2)
    with pytest.raises(TypeError, match=r"^indices has dtype torch.int16"):
        numbapool.max_pool2d_backward(meta_grad, meta, 2, indices=meta_grad.short())
    with pytest.raises(ValueError, match="stride should not be zero"):
        numbapool.max_pool2d(meta, 2, 0, "same")
    with pytest.raises(ValueError, match="x must have 4 axes"):
        numbapool.max_pool2d(meta[0, 0, 0], 2, padding="same")
    indices = numbapool.max_pool2d(x, 2, return_indices=True)[1]
    with pytest.raises(ValueError, match="x and indices must be on the same device"):
        torch.ops.numbapool.max_pool_gather(x, indices.to("meta"), [2, 2], [2, 2], [0] * 4, [1, 1], False)


def test_default_device_is_not_asked() -> None:
    x = torch.randn(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.device("meta"):
        assert numbapool.max_pool2d(x, 2).is_cpu


@pytest.mark.parametrize("dynamic", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize(("kind", "case"), JUDGED)
def test_compile(kind: str, case: Case, dynamic: bool) -> None:
    ours, theirs = functions(kind, case)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: ours(x * 2).square(), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for extra in (0, 1, 2):
        shape = (*case.shape[:-1], case.shape[-1] + extra)
        for memory_format in formats(case.rank):
            x = in_format(spread_values(shape, "float32"), memory_format).requires_grad_()
            y = x.detach().clone().requires_grad_()
            out, expected = compiled(x), theirs(y * 2).square()
            close(out, expected)
            out.sum().backward()
            expected.sum().backward()
            close(x.grad, y.grad)
    with torch.no_grad():
        close(compiled(x), expected.detach())


def test_compile_with_the_default_compiler_and_options() -> None:
    torch._dynamo.reset()

    def network(x: Any) -> Any:
        out, indices = numbapool.max_pool2d(x, 3, 2, "same", return_indices=True)
        return numbapool.avg_pool2d(out, 2, dilation=2), indices

    x = torch.rand(1, 2, 9, 9)
    out, indices = torch.compile(network, fullgraph=True, backend="aot_eager")(x)
    expected, expected_indices = network(x)
    assert torch.equal(out, expected)
    assert torch.equal(indices, expected_indices)


def compile_first() -> None:
    """Nothing of numbapool's was called before, or imported but numbapool itself."""

    def network(x: Any) -> Any:
        return numbapool.avg_pool2d(numbapool.max_pool2d(x, 3, 2, 1).relu(), 2)

    x = torch.rand(2, 3, 20, 20, requires_grad=True)
    out = torch.compile(network, fullgraph=True, backend="aot_eager")(x)
    out.sum().backward()
    assert torch.equal(out, network(x))
    assert x.grad.abs().sum() > 0


def test_compile_as_the_first_call() -> None:
    call_in_process(compile_first)


def test_export() -> None:
    class Network(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return numbapool.avg_pool2d(numbapool.max_pool2d(x, 3, 2, 1), 2)

    network, width = Network(), torch.export.Dim("width", min=8, max=1000)
    program = torch.export.export(network, (torch.rand(1, 2, 12, 12),), dynamic_shapes=({3: width},))
    assert "numbapool.max_pool.default" in str(program.graph)
    x = torch.rand(1, 2, 12, 31)
    assert torch.equal(program.module()(x), network(x))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("padding", [1, "same"])
def test_export_for_every_size(padding: int | str, strict: bool) -> None:
    class Pools(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            x = numbapool.max_pool2d(x, 3, 2, padding)
            return numbapool.avg_pool2d(x, 2, ceil_mode=True)

    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(
        Pools(), (torch.randn(2, 3, 12, 12),), dynamic_shapes=(free,), strict=strict
    ).module()
    for shape in ((2, 3, 12, 12), (2, 3, 17, 11), (2, 3, 8, 31)):
        x = torch.randn(shape)
        assert torch.equal(exported(x), Pools()(x))


def test_autocast_of_recorded_calls() -> None:
    x = torch.randn(1, 3, 4, 4)
    compiled = torch.compile(lambda z: numbapool.max_pool2d(z, 2), backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = compiled(x.bfloat16())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, numbapool.max_pool2d(x.bfloat16(), 2))


def test_fake_and_meta_tensors() -> None:
    for kind, case in ((kind, case) for kind in ("max", "avg") for case in GEOMETRIES if torch_can(kind, case)):
        ours, _ = functions(kind, case)
        for memory_format in formats(case.rank):
            x = in_format(spread_values(case.shape, "float32"), memory_format)
            expected = ours(x)
            meta = ours(x.to("meta"))
            with torch._subclasses.FakeTensorMode() as mode:
                fake = ours(mode.from_tensor(x))
            for each in (meta, fake):
                assert (each.shape, each.dtype, each.stride()) == (expected.shape, expected.dtype, expected.stride())
    with pytest.raises(ValueError, match="Output size is too small"):
        numbapool.max_pool2d(torch.empty(1, 1, 2, 2, device="meta"), 3)


WINDOW = [2, 3], [2, 1], [1, 0, 1, 1], [1, 1], True


def operator_inputs() -> Iterator[tuple[str, tuple[Any, ...]]]:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.rand(2, 3, 7, 8, dtype=torch.float64).contiguous(memory_format=memory_format)
        samples = torch.rand(2, 3, 2, dtype=torch.float64)
        for kind, windows in (
            ("max_pool", WINDOW),
            ("min_pool", WINDOW),
            ("adaptive_max_pool", ([3, 4],)),
            ("fractional_max_pool", ([2, 2], [3, 4], samples)),
        ):
            yield kind, (x.clone().requires_grad_(), *windows)
            for index_kind in ("plane", "narrow", "window"):
                values, indices = getattr(torch.ops.numbapool, f"{kind}_with_indices")(x, *windows, index_kind)
                yield f"{kind}_with_indices", (x.clone().requires_grad_(), *windows, index_kind)
                of_both = kind.replace("min", "max")  # which elements were taken, indices say
                yield f"{of_both}_gather", (x.clone().requires_grad_(), indices, *windows)
                yield f"{of_both}_scatter", (values.clone().requires_grad_(), indices, list(x.shape), *windows)
        for kind, windows in (
            ("avg_pool", (*WINDOW, False, None, True)),
            ("sum_pool", WINDOW),
            ("adaptive_avg_pool", ([3, 4], False, None, True)),
        ):
            for given in (x, torch.complex(x, 1 - x)):
                values = getattr(torch.ops.numbapool, kind)(given, *windows)
                yield kind, (given.clone().requires_grad_(), *windows)
                yield f"{kind}_backward", (values.clone().requires_grad_(), list(x.shape), *windows)
        large = [*x.shape[:2], 14, 16]
        places = torch.randint(14 * 16, x.shape)
        gradient = torch.rand(large, dtype=torch.float64).contiguous(memory_format=memory_format)
        for check_indices in (True, False):
            yield "max_unpool", (x.clone().requires_grad_(), places, large, 2, check_indices)
        yield "max_unpool_gather", (gradient.requires_grad_(), places, 2)
        yield "max_unpool_scatter", (x.clone().requires_grad_(), places, large, 2)


def test_operators_pass_torchs_own_checks() -> None:
    from numbapool.backends.torch_operators import OPERATORS

    checked = set()
    for name, arguments in operator_inputs():
        torch.library.opcheck(getattr(torch.ops.numbapool, name).default, arguments)
        checked.add(name)
    assert checked == set(OPERATORS)


@pytest.mark.parametrize("said", [{}, {"check_indices": True}, {"check_indices": False}])
def test_unpooling_that_is_recorded_checks_indices_as_it_was_told(said: dict[str, bool]) -> None:
    calls = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append((function, args))
            return function(*args, **(kwargs or {}))

    x, indices = torch.rand(1, 2, 3, 3, requires_grad=True), torch.arange(9).reshape(3, 3).expand(1, 2, 3, 3)
    with Recorder():
        numbapool.max_unpool2d(x, indices, 2, **said).sum().backward()
    assert [args[-1] for function, args in calls if function is torch.ops.numbapool.max_unpool.default] == [
        said.get("check_indices", True)
    ]


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="torch is older than this tag")
def test_operators_whose_values_the_host_reads_are_in_no_graph() -> None:
    from numbapool.backends.torch_operators import OPERATORS

    unsafe = {
        name for name in OPERATORS if torch.Tag.cudagraph_unsafe in getattr(torch.ops.numbapool, name).default.tags
    }
    assert unsafe == {"max_unpool", *(name for name in OPERATORS if name.startswith("fractional"))}


def test_operators_check_their_arguments() -> None:
    numbapool.max_pool2d(torch.empty(1, 1, 2, 2, device="meta"), 2)
    x = torch.rand(1, 1, 4, 4)
    window = [2, 2], [2, 2], [0, 0, 0, 0], [1, 1], False
    values, indices = torch.ops.numbapool.max_pool_with_indices(x, *window, "narrow")
    with pytest.raises(ValueError, match="shape"):
        torch.ops.numbapool.max_pool_scatter(values, indices, [1, 1, 8, 8], *window)
    with pytest.raises(ValueError, match="Found an invalid max index"):
        torch.ops.numbapool.max_pool_scatter(values, indices + 100, list(x.shape), *window)
    with pytest.raises(TypeError, match="indices must have one of the dtypes"):
        torch.ops.numbapool.max_pool_gather(x, indices.double(), *window)


FAMILY = {
    "min": lambda x: numbapool.min_pool2d(x, 3, 2, 1),
    "sum": lambda x: numbapool.sum_pool2d(x, 3, 2, 1),
    "power mean": lambda x: numbapool.lp_pool2d(x, 2.5, 3, 2, True),
    "norm": lambda x: numbapool.lp_pool2d(x, 3, 3, 2, padding=1, true_norm=True),
    "largest magnitude": lambda x: numbapool.lp_pool2d(x, float("inf"), 3, 2),
    "adaptive maximum": lambda x: numbapool.adaptive_max_pool2d(x, (3, 4)),
    "adaptive mean": lambda x: numbapool.adaptive_avg_pool2d(x, (9, 4)),
    "regular bins": lambda x: numbapool.adaptive_avg_pool2d(x, (7, None)),
    "global mean": numbapool.global_avg_pool,
    "global maximum": numbapool.global_max_pool,
    "global norm": numbapool.global_lp_pool,
    "unpooling": lambda x: numbapool.max_unpool2d(
        x, torch.arange(56, device=x.device).reshape(1, 1, 7, 8).expand(x.shape), 2
    ),
    "fractional": lambda x: numbapool.fractional_max_pool2d(
        x, 2, 3, _random_samples=torch.full((*x.shape[:2], 2), 0.3, device=x.device)
    ),
}
family = pytest.mark.parametrize("pool", [pytest.param(pool, id=name) for name, pool in FAMILY.items()])


@family
def test_derivatives_of_the_family(pool: Callable[[Any], Any]) -> None:
    """Against differences, once and twice, and in all modes; vmap against a loop."""
    x = (torch.randperm(2 * 2 * 7 * 8).reshape(2, 2, 7, 8).double() / 50 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(pool, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(pool, x, check_fwd_over_rev=True)
    tangent = torch.randn_like(x)
    out, pullback = torch.func.vjp(pool, x)
    _, pushed = torch.func.jvp(pool, (x,), (tangent,))
    cotangent = torch.randn_like(out)
    torch.testing.assert_close((pushed * cotangent).sum(), (pullback(cotangent)[0] * tangent).sum())
    batch = torch.randn(3, 2, 2, 7, 8, dtype=torch.float64).abs()
    torch.testing.assert_close(torch.func.vmap(pool)(batch), torch.stack([pool(each) for each in batch]))


@family
def test_the_family_compiled(pool: Callable[[Any], Any]) -> None:
    x = torch.rand(2, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(pool, backend="aot_eager", fullgraph=True)
    out, expected = compiled(x), pool(x)
    torch.testing.assert_close(out, expected)
    gradient = torch.rand_like(out)
    (actual,) = torch.autograd.grad(out, x, gradient)
    torch.testing.assert_close(actual, torch.autograd.grad(expected, x, gradient)[0])
    assert pool(x.detach().to("meta")).shape == expected.shape


def test_samples_are_drawn_as_torch_draws_them() -> None:
    x = torch.randn(2, 3, 9, 10)
    torch.manual_seed(3)
    expected = F.fractional_max_pool2d(x, 2, 4)
    torch.manual_seed(3)
    assert torch.equal(numbapool.fractional_max_pool2d(x, 2, 4), expected)


def test_backward_functions_of_the_family_are_differentiable() -> None:
    x = torch.rand(1, 2, 7, 8, dtype=torch.float64) + 0.2
    signed, norm = x * (torch.arange(8) % 3 - 1.5), {"norm_type": 3, "kernel_size": 3, "true_norm": True}
    for pool, backward in (
        (
            lambda z: numbapool.lp_pool2d(z * (signed / x), **norm),
            lambda g: numbapool.lp_pool2d_backward(g, signed, **norm) * (signed / x),
        ),
        (lambda z: numbapool.min_pool2d(z, 3, 2), lambda g: numbapool.min_pool2d_backward(g, x, 3, 2)),
        (lambda z: numbapool.lp_pool2d(z, 3, 3, 2), lambda g: numbapool.lp_pool2d_backward(g, x, 3, 3, 2)),
        (lambda z: numbapool.adaptive_avg_pool2d(z, 3), lambda g: numbapool.adaptive_avg_pool2d_backward(g, x, 3)),
        (lambda z: numbapool.adaptive_max_pool2d(z, 3), lambda g: numbapool.adaptive_max_pool2d_backward(g, x, 3)),
    ):
        leaf = x.clone().requires_grad_()
        out = pool(leaf)
        gradient = torch.rand_like(out).requires_grad_()
        (expected,) = torch.autograd.grad(out, leaf, gradient, create_graph=True)
        torch.testing.assert_close(backward(gradient), expected)
        assert torch.autograd.gradcheck(backward, gradient)


MODULES = [
    ("MaxPool1d", (3, 2, 1), {"ceil_mode": True}),
    ("MaxPool2d", ((3, 2), None, 1, 1, False, False), {}),
    ("MaxPool2d", (2,), {"return_indices": True}),
    ("MaxPool3d", (2, 1, 0, 2), {}),
    ("AvgPool1d", (3, 2, 1, True, False), {}),
    ("AvgPool2d", (3, 2), {"padding": 1, "divisor_override": 4}),
    ("AvgPool3d", (2,), {"count_include_pad": False}),
    ("AdaptiveMaxPool1d", (3,), {"return_indices": True}),
    ("AdaptiveMaxPool2d", ((3, None),), {}),
    ("AdaptiveMaxPool3d", (3, True), {}),
    ("AdaptiveAvgPool1d", (3,), {}),
    ("AdaptiveAvgPool2d", ((None, 5),), {}),
    ("AdaptiveAvgPool3d", ((2, 3, 12),), {}),
    ("LPPool1d", (2, 3), {"stride": 2}),
    ("LPPool2d", (1.5, (3, 2), None, True), {}),
    ("LPPool3d", (float("inf"), 2), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), MODULES)
def test_modules_are_drop_in(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from numbapool import nn

    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    assert isinstance(ours, getattr(torch.nn, name))
    assert repr(ours) == repr(theirs)
    x = torch.rand(2, 3, *[8] * int(name[-2]))
    again = pickle.loads(pickle.dumps(ours))
    assert repr(again) == repr(ours)
    for module in (ours, again):
        actual, expected = module(x), theirs(x)
        for a, b in zip(*((each if isinstance(each, tuple) else (each,)) for each in (actual, expected)), strict=True):
            close(a, b)


def test_replace_pooling() -> None:
    from numbapool import nn

    class Own(torch.nn.MaxPool2d):
        def forward(self, x: Any) -> Any:
            return x

    shared = torch.nn.MaxPool2d(2)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), shared, torch.nn.Sequential(torch.nn.AvgPool2d(2), Own(2)), shared
    )
    called = []
    shared.register_forward_hook(lambda *_: called.append(1))
    x = torch.rand(1, 1, 30, 30)
    expected = model(x)
    replaced = nn.replace_pooling(model)
    assert list(replaced) == ["1", "2.0", "3"]
    assert type(model[1]) is type(model[3]) is nn.MaxPool2d
    assert type(model[2][0]) is nn.AvgPool2d
    assert type(model[2][1]) is Own
    close(model(x), expected)
    assert len(called) == 4
    assert nn.restore_pooling(model) == replaced
    assert nn.restore_pooling(model) == {}
    kinds = [type(each) for each in model.modules()]
    assert not any(kind.__module__.startswith("numbapool") for kind in kinds)
    assert type(model[1]) is torch.nn.MaxPool2d
    assert type(model[2][1]) is Own
    close(model(x), expected)
    assert len(called) == 6
    alone = torch.nn.MaxPool1d(2)
    assert nn.replace_pooling(alone) == {"": alone} == nn.restore_pooling(alone)
    assert type(alone) is torch.nn.MaxPool1d


def test_modules_in_graphs() -> None:
    """torch.fx finds pooling modules as nodes, and one value in a tuple stands for all axes, as in torch.nn."""
    import torch.fx

    model = torch.nn.Sequential(torch.nn.MaxPool2d((2,)), torch.nn.AvgPool2d((2,), padding=(1,)))
    x = torch.randn(1, 2, 12, 12)
    expected = model(x)
    assert set(numbapool.nn.replace_pooling(model)) == {"0", "1"}
    graph = pickle.loads(pickle.dumps(torch.fx.symbolic_trace(model)))
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [
        numbapool.max_pool2d,
        numbapool.avg_pool2d,
    ]
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(graph(x), expected)
    with numbapool.nn.routed():
        assert F.max_pool2d(x, 3, 2, (1,)).shape == (1, 2, 6, 6)


def test_routed(monkeypatch: pytest.MonkeyPatch) -> None:
    from numbapool import nn

    calls = [
        (F.max_pool1d, (2,), {}, 1),
        (F.max_pool2d, (2,), {"return_indices": True}, 2),
        (F.max_pool2d_with_indices, (2,), {}, 2),
        (F.max_pool3d, (2,), {"stride": 1}, 3),
        (torch.max_pool1d, (2, 1), {}, 1),
        (torch.max_pool2d, (2, 1), {}, 2),
        (torch.max_pool3d, (2, 1), {}, 3),
        (F.avg_pool1d, (2,), {}, 1),
        (F.avg_pool2d, (2,), {"divisor_override": 3}, 2),
        (F.avg_pool3d, (2,), {}, 3),
        (torch.nn.MaxPool2d(3, 2, 1), (), {}, 2),
    ]
    for function, args, kwargs, rank in calls:
        x = torch.rand(2, 3, *[6] * rank)
        expected = function(x, *args, **kwargs)
        with calls_to_numpy(monkeypatch) as seen, nn.routed():
            actual = function(x, *args, **kwargs)
        assert len(seen) == 1, function
        for a, b in zip(*((e if isinstance(e, tuple) else (e,)) for e in (actual, expected)), strict=True):
            close(a, b)
    with calls_to_numpy(monkeypatch) as seen, nn.routed():
        F.max_pool2d(input=torch.rand(1, 1, 4, 4), kernel_size=2)
        assert len(seen) == 1
        assert F.max_pool2d(torch.rand(1, 1, 4, 4, device="meta"), 2).device.type == "meta"
        assert F.relu(torch.ones(1)) == 1
    assert len(seen) == 1


def test_torch_is_not_imported_for_arrays() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy, numbapool; x = numpy.random.rand(1, 1, 4, 4).astype('f'); "
        "y, i = numbapool.max_pool2d(x, 2, return_indices=True); numbapool.max_pool2d_backward(y, x, 2, indices=i); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_samples_of_half_precision(dtype: Any) -> None:
    """They are computed with in float32: torch's own arithmetic on these places windows outside the input."""
    x = torch.rand(1, 1, 1284, 4).to(dtype)

    def drawn(x: Any, samples: Any) -> Any:
        return numbapool.fractional_max_pool2d(x, 2, (1247, 2), return_indices=True, _random_samples=samples)

    recorded = torch.compile(drawn, backend="eager", fullgraph=True)
    assert recorded(x, None)[0].shape == (1, 1, 1247, 2)
    samples = torch.full((1, 1, 2), 0.5513, dtype=dtype)
    expected = drawn(x, samples.float())
    transformed = torch.func.vmap(lambda x: drawn(x, samples))(x[None])
    for found in (drawn(x, samples), recorded(x, samples), [each[0] for each in transformed]):
        assert all(map(torch.equal, found, expected))
    gradient = torch.ones_like(expected[0])
    arguments = gradient, x, 2, (1247, 2)
    back = numbapool.fractional_max_pool2d_backward(*arguments, _random_samples=samples)
    assert torch.equal(back, numbapool.fractional_max_pool2d_backward(*arguments, indices=expected[1]))


def good_tensors(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Arguments of a function, and on "meta" each set of tensors that it may be given beside them, `out` included."""
    rank = next((n for n in (1, 2, 3) if f"{n}d" in name), 2)
    forward = name.removesuffix("_backward")
    arguments: dict[str, Any] = {} if name.startswith("global") else {"kernel_size": 2}
    arguments |= {"norm_type": 2.0} if name.startswith("lp") else {}
    if name.startswith(("adaptive", "fractional")):
        arguments = {"output_size": 3, **({"kernel_size": 2} if name.startswith("fractional") else {})}
    if name.startswith("pool"):
        arguments |= {"kind": "max", "axes": (0, 3)}
    x = torch.empty(2, 3, *[6] * rank, device="meta")
    tensors = {"x": x}
    if "fractional" in name:
        tensors["_random_samples"] = torch.empty(2, 3, rank, device="meta")
    if "unpool" in name:
        tensors["indices"] = torch.empty_like(x, dtype=torch.int64)
    out = getattr(numbapool, forward)(**tensors, **arguments)
    if name == forward:
        return arguments, [tensors, tensors | {"out": torch.empty_like(out)}]
    tensors |= {"grad_output": out}
    sets = [tensors, tensors | {"out": x}]
    if "indices" in inspect.signature(getattr(numbapool, name)).parameters and "unpool" not in name:
        without = {key: each for key, each in tensors.items() if key != "_random_samples"}
        sets.append(without | {"indices": torch.empty_like(out, dtype=torch.int64)})
    return arguments, sets


@pytest.mark.parametrize("name", numbapool.functional.__all__)
def test_tensors_with_values_and_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mixture is an error that names both, whatever the kind of indices, and no kernel runs."""
    if not name.startswith("pool"):  # which writes to `out` when it is done
        monkeypatch.setattr("numbapool.backends.numpy._target", None)
    arguments, sets = good_tensors(name)
    for tensors in sets:
        for are_real in itertools.product((True, False), repeat=len(tensors)):
            if len(set(are_real)) == 1:
                continue
            mixed = {
                key: torch.zeros_like(each, device="cpu") if is_real else each
                for (key, each), is_real in zip(tensors.items(), are_real, strict=True)
            }
            for kind in ("plane", "global") if "indices" in tensors and "out" not in tensors else ("plane",):
                more = {"index_kind": kind} if kind == "global" else {}
                with pytest.raises(ValueError, match=r"(cpu.*meta|meta.*cpu)"):
                    getattr(numbapool, name)(**mixed, **arguments, **more)


def test_samples_without_values() -> None:
    """They are named, whoever records or transforms."""
    x, samples = torch.rand(1, 2, 8, 8), torch.empty(1, 2, 2, device="meta")

    def drawn(x: Any, samples: Any = samples) -> Any:
        return numbapool.fractional_max_pool2d(x, 2, 3, _random_samples=samples)

    for call in (
        drawn,
        lambda x: drawn(x.requires_grad_()),
        lambda x: torch.func.vmap(drawn)(x[None]),
        lambda x: torch.func.grad(lambda x: drawn(x).sum())(x),
    ):
        with pytest.raises(ValueError, match="_random_samples must be on the device of x, cpu, got meta"):
            call(x.clone())
    with pytest.raises(
        torch._dynamo.exc.Unsupported, match="_random_samples must be on the device of x, cpu, got meta"
    ):
        torch.compile(drawn, backend="eager", fullgraph=True)(x)
    with pytest.raises(ValueError, match="samples must be on the device of x, cpu, got meta"):
        torch.ops.numbapool.fractional_max_pool(x, [2, 2], [3, 3], samples)
    with pytest.raises(ValueError, match="_random_samples must have values"):
        torch.func.vmap(drawn)(x[None].to("meta"))
    assert drawn(x.to("meta")).shape == (1, 2, 3, 3)
    generated = numbapool.fractional_max_pool2d(x.to("meta"), 2, 3, generator=np.random.default_rng(0))
    assert (generated.shape, generated.device.type) == ((1, 2, 3, 3), "meta")


def traced(function: Callable[..., Any], *tensors: Any) -> Any:
    """What `torch.jit.trace`, which torch itself calls deprecated, makes of a function or model, and compares with it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        return torch.jit.trace(function, tensors)


def same_results(recorded: Any, function: Any, *tensors: Any) -> None:
    found, expected = recorded(*tensors), function(*tensors)
    for each, other in zip(*((a if isinstance(a, tuple) else (a,)) for a in (found, expected)), strict=True):
        torch.testing.assert_close(each, other)


def test_traced_models() -> None:
    """By `torch.jit.trace`, gradients or not, in every mode; what depends on lengths says that it is for these only."""
    from numbapool import nn

    x, larger = torch.rand(2, 3, 9, 8), torch.rand(3, 3, 11, 10)
    for pooling, is_bound in (
        (torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True), False),
        (torch.nn.MaxPool2d(2, return_indices=True), False),
        (torch.nn.AvgPool2d(3, 2, ceil_mode=True), False),
        (torch.nn.LPPool2d(2, 3), False),
        (torch.nn.AdaptiveMaxPool2d(3), False),
        (torch.nn.AdaptiveAvgPool2d((3, None)), True),
    ):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), pooling)
        nn.replace_pooling(model)
        for needs_gradient in (False, True):
            leaf = x.clone().requires_grad_(needs_gradient)
            with pytest.warns(torch.jit.TracerWarning, match="constants of this trace") if is_bound else nullcontext():
                recorded = traced(model, leaf)
            same_results(recorded, model, leaf)
            if not is_bound:
                same_results(recorded, model, larger)
        out = recorded(leaf)
        (found,) = torch.autograd.grad((out[0] if isinstance(out, tuple) else out).square().sum(), leaf)
        out = model(leaf)
        (expected,) = torch.autograd.grad((out[0] if isinstance(out, tuple) else out).square().sum(), leaf)
        torch.testing.assert_close(found, expected)


def test_traced_functions() -> None:
    x = torch.rand(2, 3, 9, 8)
    y, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    norms = torch.rand(2, 3, 1, 1)
    bound: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (lambda x: numbapool.avg_pool2d(x, 3, 2, "same"), (x,)),
        (lambda y, i: numbapool.max_unpool2d(y, i, 2, output_size=(9, 8)), (y, indices)),
        (lambda g, y, i: numbapool.max_unpool2d_backward(g, y, i, 2, output_size=(9, 8)), (x, y, indices)),
        (lambda g, x: numbapool.max_pool2d_backward(g, x, 2), (y, x)),
        (lambda g, x, i: numbapool.max_pool2d_backward(g, x, 2, indices=i), (y, x, indices)),
        (lambda g, x: numbapool.avg_pool2d_backward(g, x, 2), (y, x)),
        (lambda g, x: numbapool.lp_pool2d_backward(g, x, 2, 2), (y, x)),
        (lambda g, x: numbapool.adaptive_avg_pool2d_backward(g, x, 4), (y, x)),
        (lambda g, x: numbapool.global_lp_pool_backward(g, x), (norms, x)),
        (lambda x: numbapool.global_lp_pool(x), (x,)),
    ]
    for function, tensors in bound:
        with pytest.warns(torch.jit.TracerWarning, match="constants of this trace"):
            recorded = traced(function, *tensors)
        same_results(recorded, function, *tensors)
    for function in (numbapool.global_avg_pool, lambda x: numbapool.max_pool2d(x, 2, data_format="channels_last")):
        same_results(traced(function, x), function, torch.rand(3, 3, 7, 5))
    with pytest.raises(NotImplementedError, match=r"index_kind='global' cannot be recorded.*: take 'plane'"):
        traced(lambda x: numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global"), x)


@family
def test_functionalized(pool: Callable[[Any], Any]) -> None:
    """By `torch.func.functionalize`, inside of other transforms, around vmap, and with mutations; around others a refusal."""
    functionalize = torch.func.functionalize
    x = torch.rand(2, 2, 7, 8, dtype=torch.float64)

    def mutating(x: Any) -> Any:
        return pool(x.clone().mul_(2).add_(1))

    expected = mutating(x)
    torch.testing.assert_close(functionalize(mutating)(x), expected)
    torch.testing.assert_close(functionalize(torch.func.vmap(pool))(x[None])[0], pool(x))
    torch.testing.assert_close(torch.func.vmap(functionalize(pool))(x[None])[0], pool(x))
    for derivative in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(derivative(functionalize(mutating))(x), derivative(mutating)(x))
    with pytest.raises(NotImplementedError, match=r"torch.func.grad\(torch.func.functionalize\(function\)\)"):
        functionalize(torch.func.grad(lambda x: pool(x).sum()))(x)


def test_functionalized_and_recorded() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.rand(1, 2, 6, 6)
    graph = make_fx(torch.func.functionalize(lambda x: numbapool.max_pool2d(x.clone().neg_(), 2)))(x)
    assert "numbapool.max_pool" in graph.code
    assert "neg_" not in graph.code
    assert torch.equal(graph(x), numbapool.max_pool2d(-x, 2))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "lp_pool2d", "sum_pool2d", "min_pool2d"])
def test_order_of_memory_is_that_of_the_input_whoever_asks(name: str) -> None:
    """With a gradient, compiled, and on meta as without."""
    more = (2.0,) if name.startswith("lp") else ()
    function = getattr(numbapool, name)
    x = torch.rand(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    strides = function(x, *more, 2).stride()
    assert strides == (27, 1, 9, 3)
    assert function(x.clone().requires_grad_(), *more, 2).stride() == strides
    assert function(x.to("meta"), *more, 2).stride() == strides
    assert torch.func.vmap(lambda x: function(x, *more, 2))(x[None]).stride()[1:] == strides
