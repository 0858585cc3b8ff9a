"""Complex arrays: sums and means, and their gradients, are those of the real and of the imaginary parts.

The judge is the reference on each part, and torch's autograd on tensors of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import reference
from numbapool.backends import numpy as numpy_backend
from tests import test_family
from tests.cases import CASES, Case
from tests.checks import Array, assert_same, assert_sums, out_shape, public, spread_values, taps
from tests.conftest import ArrayKind
from tests.processes import call_in_process
from tests.test_jit_modes import SELECTED

PARTS = {"complex64": "float32", "complex128": "float64"}
NAN, INF = np.nan, np.inf
every_dtype = pytest.mark.parametrize("dtype", PARTS)
# The kernels are those of float32 and float64, which other tests tell apart.
one_dtype = pytest.mark.parametrize("dtype", ["complex64", pytest.param("complex128", marks=pytest.mark.full)])

NAMES = ("resnet-odd", "googlenet-overhang", "spp-5", "audio-overlap", "c3d", "stride-of-none", "asymmetric-before")
NAMES += ("same-stride-2", "padding-beyond-kernel", "dilated-mixed", "dilation-without-taps", "ragged-ceil-3d")
NAMES += ("divisor-negative", "divisor-3d", "global", "single-padded", "wide-1d-gaps", "kernel-1", "i3d-branch")
CHOSEN = [case for case in CASES if case.name in NAMES]
every_case = pytest.mark.parametrize("case", CHOSEN, ids=str)


def complex_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    x = np.empty(shape, dtype)
    x.real, x.imag = (spread_values(shape, PARTS[dtype], seed=2 * seed + part) for part in range(2))
    return x


def parts_of(array: Array) -> tuple[Array, Array]:
    return np.ascontiguousarray(array.real), np.ascontiguousarray(array.imag)


@cache
def by_reference(operation: str, case: Case, dtype: str) -> tuple[Array, tuple[tuple[Array, Array], ...]]:
    """What is pooled, and of each part the result and the sum of the magnitudes of its terms."""
    arguments = case.avg_arguments if "avg" in operation else case.max_arguments
    definition = getattr(reference, operation)
    if "backward" not in operation:
        given = complex_values(case.shape, dtype)
        results = [(definition(p, **arguments, rank=case.rank), p) for p in parts_of(given)]
        return given, tuple((out, np.abs(definition(np.abs(p), **arguments, rank=case.rank))) for out, p in results)
    given, x = complex_values(out_shape(case), dtype, seed=1), np.zeros(case.shape, PARTS[dtype])
    results = [(definition(p, x, **arguments, rank=case.rank), p) for p in parts_of(given)]
    return given, tuple((out, np.abs(definition(np.abs(p), x, **arguments, rank=case.rank))) for out, p in results)


def check(actual: Array, expected: tuple[tuple[Array, Array], ...], dtype: str, terms: int) -> None:
    assert actual.dtype == dtype
    for part, sums in zip(parts_of(actual), expected, strict=True):
        assert_sums(part, *sums, terms)


# Values and gradients on every kind of array --------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["avg_pool", "sum_pool"])
@one_dtype
@every_case
def test_forward(backend: ArrayKind, case: Case, dtype: str, operation: str) -> None:
    plain, expected = by_reference(operation, case, dtype)
    arguments = case.avg_arguments if "avg" in operation else case.max_arguments
    x = backend.from_numpy(plain)
    out = public(operation, case.rank)(x, **arguments)
    assert type(out) is type(x)
    check(backend.to_numpy(out), expected, dtype, taps(case))


@pytest.mark.parametrize("operation", ["avg_pool", "sum_pool"])
@one_dtype
@every_case
def test_backward(backend: ArrayKind, case: Case, dtype: str, operation: str) -> None:
    plain, expected = by_reference(f"{operation}_backward", case, dtype)
    arguments = case.avg_arguments if "avg" in operation else case.max_arguments
    gradient, x = backend.from_numpy(plain), backend.from_numpy(np.full(case.shape, complex(NAN, INF), dtype))
    grad_input = public(f"{operation}_backward", case.rank)(gradient, x, **arguments)
    assert type(grad_input) is type(x)
    check(backend.to_numpy(grad_input), expected, dtype, taps(case))


@every_dtype
@pytest.mark.parametrize("call", test_family.MEANS, ids=str)
def test_adaptive(backend: ArrayKind, call: test_family.Call, dtype: str) -> None:
    x = complex_values(call.shape, dtype)
    out = backend.to_numpy(call.forward(backend.from_numpy(x)))
    assert out.dtype == dtype
    size = int(np.prod(call.shape[2:]))
    for actual, part in zip(parts_of(out), parts_of(x), strict=True):
        assert_sums(actual, call.reference(part), call.reference(np.abs(part)), size)
    grad = complex_values(out.shape, dtype, seed=1)
    grad_input = backend.to_numpy(call.backward(backend.from_numpy(grad), backend.from_numpy(x)))
    for actual, part in zip(parts_of(grad_input), parts_of(grad), strict=True):
        expected, magnitude = (call.reference_backward(each, x.real) for each in (part, np.abs(part)))
        assert_sums(actual, expected, magnitude, max(size, out.size))


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 6, 7), (1, 2, 40, 41), (1, 2, 3, 2, 2, 3)], ids=str)
def test_global(backend: ArrayKind, shape: tuple[int, ...], dtype: str) -> None:
    x, axes = complex_values(shape, dtype), tuple(range(2, len(shape)))
    out = backend.to_numpy(numbapool.global_avg_pool(backend.from_numpy(x)))
    size = int(np.prod(shape[2:]))
    exact = np.float64 if dtype == "complex64" else np.longdouble
    for actual, part in zip(parts_of(out), parts_of(x), strict=True):
        expected, magnitude = (each.astype(exact).mean(axes, keepdims=True) for each in (part, np.abs(part)))
        assert_sums(actual, expected.astype(part.dtype), magnitude, size)
    grad_input = numbapool.global_avg_pool_backward(backend.from_numpy(out.copy()), backend.from_numpy(x))
    np.testing.assert_allclose(backend.to_numpy(grad_input), np.broadcast_to(out, shape) / size, rtol=1e-6)


def test_a_large_mean_is_exact_enough() -> None:
    """Two channels side by side would be added up in float32, element by element: 0.1005."""
    x = np.full((1, 1, 1500, 1500), 0.1 - 0.2j, np.complex64)
    np.testing.assert_allclose(numbapool.avg_pool2d(x, 1500), 0.1 - 0.2j, rtol=1e-6)
    np.testing.assert_allclose(numbapool.global_avg_pool(x), 0.1 - 0.2j, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_with_threads(stride: int) -> None:
    x = complex_values((4, 16, 60, 61), "complex128").round(3)
    out = numbapool.avg_pool2d(x, 3, stride, 1)
    gradient = numbapool.avg_pool2d_backward(out, x, 3, stride, 1)
    for part, pooled, spread in zip(parts_of(x), parts_of(out), parts_of(gradient), strict=True):
        np.testing.assert_allclose(pooled, numbapool.avg_pool2d(part, 3, stride, 1), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            spread, numbapool.avg_pool2d_backward(pooled, part, 3, stride, 1), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("name", ["real", "imag"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_what_is_not_finite_stays_in_its_part_and_windows(axis: int, stride: int, value: float, name: str) -> None:
    """A complex division would spread it: in Python, (inf + 1j) / (2 + 0j) is inf + nan j."""
    x = np.moveaxis(np.moveaxis(complex_values((1, 4, 8, 9), "complex64"), axis, -1).copy(), -1, axis)
    clean = numbapool.avg_pool2d(x, 3, stride, 1)
    getattr(x, name)[0, 2, 3, 4] = value
    out = numbapool.avg_pool2d(x, 3, stride, 1)
    other = "imag" if name == "real" else "real"
    assert_same(getattr(out, other), getattr(clean, other))
    touched = getattr(out, name) != getattr(clean, name)
    assert touched.sum() == (9 if stride == 1 else 2)
    assert not np.isfinite(getattr(out, name)[touched]).any()
    back = numbapool.avg_pool2d_backward(out, x, 3, stride, 1)
    assert np.isfinite(getattr(back, other)).all()
    assert not np.isfinite(getattr(back, name)).all()


def test_the_reference_pools_parts() -> None:
    x, grad = complex_values((2, 3, 6, 7), "complex128"), complex_values((2, 3, 3, 3), "complex128", seed=1)
    for operation, arguments in (
        ("avg_pool", (2,)),
        ("sum_pool", (2,)),
        ("adaptive_avg_pool", (3,)),
    ):
        forward, backward = getattr(reference, operation), getattr(reference, f"{operation}_backward")
        out, grad_input = forward(x, *arguments, rank=2), backward(grad, x, *arguments, rank=2)
        assert out.dtype == grad_input.dtype == np.complex128
        for name in ("real", "imag"):
            part, gradient = getattr(x, name), getattr(grad, name)
            assert_same(getattr(out, name), forward(part, *arguments, rank=2))
            assert_same(getattr(grad_input, name), backward(gradient, part, *arguments, rank=2))


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_every_order_of_axes(order: tuple[int, ...], stride: int) -> None:
    """In memory, of the input and of `out`; results have the channels last in memory if inputs have."""
    x = complex_values((2, 3, 6, 7), "complex64")
    expected = numbapool.avg_pool2d(x, 3, stride, 1)
    back = tuple(np.argsort(order))
    moved = np.ascontiguousarray(x.transpose(order)).transpose(back)
    out = numbapool.avg_pool2d(moved, 3, stride, 1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert (out if order != (0, 2, 3, 1) else np.moveaxis(out, 1, -1)).flags.c_contiguous
    given = np.empty(tuple(expected.shape[axis] for axis in order), np.complex64).transpose(back)
    assert numbapool.avg_pool2d(moved, 3, stride, 1, out=given) is given
    assert_same(given, out)
    gradient = numbapool.avg_pool2d_backward(expected, x, 3, stride, 1)
    actual = numbapool.avg_pool2d_backward(given, moved, 3, stride, 1)
    np.testing.assert_allclose(actual, gradient, rtol=1e-5, atol=1e-5)


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """What kernels read is the memory of the caller's array, whatever its strides."""
    x = complex_values((4, 6, 12, 14), "complex64")
    read = []
    source = numpy_backend._source

    def watched(*arguments: Any) -> Any:
        flat, layout = source(*arguments)
        read.append(flat)
        return flat, layout

    monkeypatch.setattr(numpy_backend, "_source", watched)
    last = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    frozen = x.copy()
    frozen.flags.writeable = False
    for given in (x, last, frozen, x[::-1, 1::2, :, ::-2], x.swapaxes(2, 3)):
        for stride in (1, 2):
            read.clear()
            out = numbapool.avg_pool2d(given, 2, stride)
            assert read
            assert all(np.shares_memory(flat, given) for flat in read)
            assert not np.shares_memory(out, given)


def test_out(backend: ArrayKind) -> None:
    for stride in (1, 2):
        plain = complex_values((2, 3, 8, 9), "complex128")
        x = np.array(plain) if backend.library == "numpy" else backend.from_numpy(plain)
        expected = numbapool.avg_pool2d(plain, 2, stride)
        out = backend.from_numpy(np.zeros_like(expected))
        if refusal := backend.refuses_out:
            with pytest.raises(refusal, match="out"):
                numbapool.avg_pool2d(x, 2, stride, out=out)
            continue
        assert numbapool.avg_pool2d(x, 2, stride, out=out) is out
        np.testing.assert_allclose(backend.to_numpy(out), expected, rtol=1e-12)
        grad_input = backend.from_numpy(np.ones_like(plain))
        grad = np.array(expected) if backend.library == "numpy" else backend.from_numpy(expected)
        assert numbapool.avg_pool2d_backward(grad, x, 2, stride, out=grad_input) is grad_input
        gradient = numbapool.avg_pool2d_backward(expected, plain, 2, stride)
        np.testing.assert_allclose(backend.to_numpy(grad_input), gradient, rtol=1e-12)


@pytest.mark.parametrize("offset", [0, 1, 7, 40, 600])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_out_that_overlaps_the_input(offset: int, padding: str) -> None:
    for stride in (1, 2):
        memory = complex_values((2000,), "complex64")
        x = memory[:1200].reshape(1, 3, 20, 20)
        expected = numbapool.avg_pool2d(x, 3, stride, padding)
        out = memory[offset : offset + expected.size].reshape(expected.shape)
        numbapool.avg_pool2d(x, 3, stride, padding, out=out)
        assert_same(out, expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_and_empty(rank: int) -> None:
    x = complex_values((2, 3, 4, 5, 6)[: rank + 2], "complex64")
    for stride in (1, 2):
        out = public("avg_pool", rank)(x, 2, stride)
        assert_same(public("avg_pool", rank)(x[0], 2, stride), out[0])
        gradient = public("avg_pool_backward", rank)(out, x, 2, stride)
        assert_same(public("avg_pool_backward", rank)(out[0], x[0], 2, stride), gradient[0])
        empty = public("avg_pool", rank)(x[:0], 2, stride)
        assert empty.shape == (0, *out.shape[1:])
        assert empty.dtype == x.dtype
        assert public("avg_pool_backward", rank)(empty, x[:0], 2, stride).shape == x[:0].shape


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_data_format(backend: ArrayKind, rank: int) -> None:
    x = complex_values((2, 3, 4, 5, 6)[: rank + 2], "complex128")
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    given = backend.from_numpy(last)
    for operation, arguments in (
        ("avg_pool", (2, 1)),
        ("avg_pool", (3, 2, 1)),
        ("sum_pool", (2,)),
        ("adaptive_avg_pool", (3,)),
    ):
        out = public(operation, rank)(x, *arguments)
        moved = public(operation, rank)(given, *arguments, data_format="channels_last")
        np.testing.assert_allclose(backend.to_numpy(moved), np.moveaxis(out, 1, -1), rtol=1e-12)
        gradient = public(f"{operation}_backward", rank)(out, x, *arguments)
        grad = backend.from_numpy(np.ascontiguousarray(np.moveaxis(out, 1, -1)))
        moved = public(f"{operation}_backward", rank)(grad, given, *arguments, data_format="channels_last")
        np.testing.assert_allclose(backend.to_numpy(moved), np.moveaxis(gradient, 1, -1), rtol=1e-12)


def test_layers() -> None:
    x = complex_values((2, 3, 8, 8), "complex64")
    for layer, pool in (
        (numbapool.AvgPool2d(2), "avg_pool2d"),
        (numbapool.SumPool2d(2), "sum_pool2d"),
        (numbapool.AdaptiveAvgPool2d(2), "adaptive_avg_pool2d"),
        (numbapool.GlobalAvgPool(), "global_avg_pool"),
    ):
        out, pullback = layer.vjp(x)
        arguments = [] if pool.startswith("global") else [2]
        assert_same(out, getattr(numbapool, pool)(x, *arguments))
        assert_same(pullback(out), getattr(numbapool, f"{pool}_backward")(out, x, *arguments))


def check_without_compiler() -> None:
    for case in SELECTED:
        for operation in ("avg_pool", "sum_pool_backward"):
            plain, expected = by_reference(operation, case, "complex64")
            arguments = case.avg_arguments if "avg" in operation else case.max_arguments
            arrays = (plain,) if operation == "avg_pool" else (plain, np.zeros(case.shape, plain.dtype))
            for lay_out in (np.array, np.asfortranarray):
                actual = public(operation, case.rank)(*map(lay_out, arrays), **arguments)
                check(actual, expected, "complex64", taps(case))


def test_without_compiler() -> None:
    call_in_process(check_without_compiler, NUMBA_DISABLE_JIT=1)


# Arguments ------------------------------------------------------------------------------------------------------------


X = np.ones((2, 3, 6, 7), np.complex64)
REAL = X.real.copy()
INDICES = np.zeros(X.shape, np.int64)
REFUSING: dict[str, Callable[[Any], Any]] = {
    "max": lambda x: numbapool.max_pool2d(x, 2),
    "max backward": lambda x: numbapool.max_pool2d_backward(x, x, 1),
    "min": lambda x: numbapool.min_pool2d(x, 2),
    "lp": lambda x: numbapool.lp_pool2d(x, 2, 2),
    "lp backward": lambda x: numbapool.lp_pool2d_backward(x, x, 2, 1),
    "adaptive max": lambda x: numbapool.adaptive_max_pool2d(x, 2),
    "fractional max": lambda x: numbapool.fractional_max_pool2d(x, 2, 2),
    "unpool": lambda x: numbapool.max_unpool2d(x, INDICES[: len(x)], 2),
    "unpool backward": lambda x: numbapool.max_unpool2d_backward(x, x, INDICES[: len(x)], 1),
    "global max": lambda x: numbapool.global_max_pool(x),
    "global lp": lambda x: numbapool.global_lp_pool(x),
}


@every_dtype
@pytest.mark.parametrize("name", REFUSING)
def test_what_has_no_order_is_refused(name: str, dtype: str) -> None:
    with pytest.raises(TypeError, match=f"x has dtype {dtype}; accepted here: float16, bfloat16, float32") as caught:
        REFUSING[name](X.astype(dtype))
    assert "complex" not in str(caught.value).partition("accepted")[2]
    REFUSING[name](REAL[:0])  # an empty batch, for which no kernel runs


def test_errors() -> None:
    out, grad = np.zeros((2, 3, 3, 3), np.complex64), np.zeros((2, 3, 3, 3), np.float32)
    for wrong in (grad, out.astype(np.complex128)):
        with pytest.raises(TypeError, match="out must have the dtype of the result, complex64, got"):
            numbapool.avg_pool2d(X, 2, out=wrong)
        with pytest.raises(TypeError, match="grad_output must have the dtype of x, complex64, got"):
            numbapool.avg_pool2d_backward(wrong, X, 2)
    with pytest.raises(TypeError, match="grad_output must have the dtype of x, float32, got complex64"):
        numbapool.avg_pool2d_backward(out, REAL, 2)
    with pytest.raises(TypeError, match="out must have the dtype of the result, float32, got complex64"):
        numbapool.avg_pool2d(REAL, 2, out=out)
    for pool in (numbapool.avg_pool2d, numbapool.sum_pool2d, numbapool.adaptive_avg_pool2d):
        with pytest.raises(
            TypeError, match="accepted here: float16, bfloat16, float32, float64, complex64, complex128"
        ):
            pool(X.astype(object), 2)
    if np.clongdouble(0).itemsize > 16:
        with pytest.raises(TypeError, match="x has dtype complex"):
            numbapool.avg_pool2d(X.astype(np.clongdouble), 2)


# torch ----------------------------------------------------------------------------------------------------------------

POOLS: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: numbapool.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "moving mean": lambda x: numbapool.avg_pool2d(x, 3, 1, 1, divisor_override=4),
    "sum": lambda x: numbapool.sum_pool2d(x, 2, 1, dilation=2),
    "bins": lambda x: numbapool.adaptive_avg_pool2d(x, (3, 4)),
    "regular bins": lambda x: numbapool.adaptive_avg_pool2d(x, (2, 3)),
    "channels": numbapool.global_avg_pool,
}
every_pool = pytest.mark.parametrize("name", POOLS)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def tensor(torch: Any, dtype: str, channels_last: bool = False) -> Any:
    x = torch.from_numpy(complex_values((2, 2, 6, 6), dtype).round(3))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("channels_last", [False, True])
@every_dtype
@every_pool
def test_autograd(name: str, dtype: str, channels_last: bool) -> None:
    """As through torch.complex of the pooled parts; eager and compiled."""
    torch = pytest.importorskip("torch")
    pool = POOLS[name]
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    for ours in (pool, compiled):
        x, y = (tensor(torch, dtype, channels_last).requires_grad_() for _ in range(2))
        out, expected = ours(x), torch.complex(pool(y.real), pool(y.imag))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4)
        if name != "channels":
            assert out.is_contiguous(memory_format=torch.channels_last) == channels_last
        gradient = torch.from_numpy(complex_values(tuple(out.shape), dtype, seed=3))
        for each in (out, expected):
            each.backward(gradient)
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-4)


@every_pool
def test_derivatives_by_differences(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = tensor(torch, "complex128")[:1, :, :4, :5].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(POOLS[name], x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: POOLS[name](x) * POOLS[name](x).conj(), x)


@every_pool
def test_transforms(name: str) -> None:
    torch = pytest.importorskip("torch")
    pool, x = POOLS[name], tensor(torch, "complex128")
    batch = torch.stack([x, 2j * x, x.conj()])
    torch.testing.assert_close(torch.func.vmap(pool)(batch), torch.stack([pool(each) for each in batch]))
    out, derivative = torch.func.jvp(pool, (x,), (1j * x,))
    torch.testing.assert_close(out, pool(x))
    torch.testing.assert_close(derivative, pool(1j * x))
    assert pool(x.to("meta")).shape == out.shape
    assert pool(x.to("meta")).dtype == out.dtype


def test_views_of_tensors() -> None:
    """Lazily conjugated ones are read as what they stand for, and cannot be written to."""
    torch = pytest.importorskip("torch")
    x = tensor(torch, "complex64")
    expected = numbapool.avg_pool2d(x, 2)
    assert torch.equal(numbapool.avg_pool2d(x.conj(), 2), expected.conj())
    assert torch.equal(numbapool.avg_pool2d(x.conj().imag, 2), -expected.imag.clone())
    torch.testing.assert_close(numbapool.avg_pool2d(x.mT, 2), expected.mT)
    for out in (torch.empty_like(expected).conj(), torch.empty_like(expected).conj().imag):
        x_like = x if out.is_complex() else x.real
        with pytest.raises(ValueError, match="out must not be a lazily negated or conjugated view"):
            numbapool.avg_pool2d(x_like, 2, out=out)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_errors_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.zeros(1, 1, 4, 4, dtype=torch.complex64)
    for each in (x, x.to("meta")):
        with pytest.raises(TypeError, match=r"x has dtype .*complex64; accepted here: "):
            numbapool.max_pool2d(each, 2)
        with pytest.raises(TypeError, match=r"x has dtype .*complex64; accepted here: "):
            numbapool.lp_pool2d_backward(each, each, 2, 1)
    with pytest.raises(TypeError, match=r"torch\.complex32; accepted at most"):
        numbapool.avg_pool2d(x.to(torch.complex32), 2)
