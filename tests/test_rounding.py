"""`rounding="nearest"`: means of integers rounded to the nearest one, halves to the even one, exact in all 64 bits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import reference
from tests import test_family
from tests.cases import Case
from tests.checks import INTEGERS, Array, assert_same, public, spread_values
from tests.conftest import ArrayKind
from tests.processes import call_in_process
from tests.test_jit_modes import SELECTED, gapped

NEAREST: dict[str, Any] = {"rounding": "nearest"}
# At a stride above one, channels that lie side by side have kernels of their own.
CASES = (
    *SELECTED,
    Case("pixels", (2, 5, 7, 9), (2, 3), 2, 1),
    Case("pixels-divisor", (1, 3, 9), 4, 3, divisor_override=-6),
)

FUNCTIONS = [
    *(f"{kind}avg_pool{rank}d" for kind in ("", "adaptive_") for rank in (1, 2, 3)),
    "global_avg_pool",
]


def channels_last(array: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.ascontiguousarray,
    "strided": gapped,
    "channels_last": channels_last,
}


def values(shape: tuple[int, ...], dtype: str) -> Array:
    """Half of them so small that means often lie halfway; no sum wraps."""
    large = spread_values(shape, dtype) // (4096 if dtype.endswith("64") else 1)
    small = np.random.default_rng(1).integers(0 if dtype.startswith("u") else -4, 5, shape).astype(dtype)
    return np.where(np.random.default_rng(2).random(shape) < 0.5, small, large)


@cache
def by_reference(case: Case, dtype: str) -> tuple[Array, Array]:
    x = values(case.shape, dtype)
    return x, reference.avg_pool(x, **case.avg_arguments, **NEAREST, rank=case.rank)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_algorithm(case: Case, dtype: str, layout: str) -> None:
    x, expected = by_reference(case, dtype)
    assert_same(public("avg_pool", case.rank)(LAYOUTS[layout](x), **case.avg_arguments, **NEAREST), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_it_is_what_numpy_rounds_to(dtype: str) -> None:
    """Another judge than the reference: small sums are exact as floats, and numpy.rint takes halves to the even one."""
    x = np.random.default_rng(0).integers(0 if dtype.startswith("u") else -9, 10, (2, 3, 40)).astype(dtype)
    for size in (1, 2, 3, 4, 6, 7, 8):
        means = np.lib.stride_tricks.sliding_window_view(x, size, 2).sum(-1, dtype=np.float64) / size
        assert (means % 1 == 0.5).any() == (size % 2 == 0)
        assert_same(numbapool.avg_pool1d(x, size, 1, **NEAREST), np.rint(means).astype(dtype))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("divisor", [None, 1, 2, 3, 6, 2**62, 2**63 - 1, -1, -2, -3, -(2**62), -(2**63) + 1])
def test_extremes(dtype: str, divisor: int | None) -> None:
    """No quotient goes through a float: those of 64 bits would be off by hundreds."""
    limits = np.iinfo(dtype)
    middle = (int(limits.max) + int(limits.min)) // 2
    edges = [limits.min, limits.min + 1, middle - 1, middle, middle + 1, limits.max - 2, limits.max - 1, limits.max]
    x = np.random.default_rng(0).choice(np.array(edges, dtype), (2, 3, 9, 40))
    for arguments in ({"kernel_size": 1}, {"kernel_size": 2, "stride": 1}, {"kernel_size": (2, 3), "padding": 1}):
        arguments |= {"divisor_override": divisor}
        expected = reference.avg_pool(x, **arguments, **NEAREST, rank=2)
        for layout in LAYOUTS.values():
            assert_same(numbapool.avg_pool2d(layout(x), **arguments, **NEAREST), expected)


def test_halves_of_64_bits() -> None:
    x = np.array([[2**63 - 1, 2**63 - 3, -(2**63) + 1, -(2**63) + 3, 2**53 + 1, -(2**53) - 1]])
    expected = np.array([[2**62, 2**62 - 2, -(2**62), -(2**62) + 2, 2**52, -(2**52)]])
    assert_same(numbapool.avg_pool1d(x, 1, divisor_override=2, **NEAREST), expected)
    assert_same(numbapool.avg_pool1d(x, 1, divisor_override=-2, **NEAREST), -expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
@pytest.mark.parametrize("call", test_family.MEANS, ids=str)
def test_adaptive(backend: ArrayKind, call: test_family.Call, dtype: str) -> None:
    x = values(call.shape, dtype)
    expected = reference.adaptive_avg_pool(x, *call.args, **NEAREST, rank=call.rank)
    assert_same(backend.to_numpy(call.forward(backend.from_numpy(x), **NEAREST)), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 6, 7), (3, 2, 40, 41), (1, 2, 3, 4, 5)], ids=str)
def test_global(backend: ArrayKind, shape: tuple[int, ...], dtype: str) -> None:
    x = values(shape, dtype)
    expected = reference.avg_pool(x, shape[2:], **NEAREST)
    assert_same(backend.to_numpy(numbapool.global_avg_pool(backend.from_numpy(x), **NEAREST)), expected)
    last = backend.from_numpy(np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    out = numbapool.global_avg_pool(last, **NEAREST, data_format="channels_last")
    assert_same(backend.to_numpy(out), np.moveaxis(expected, 1, -1))


def test_both_roundings_of_one_call() -> None:
    """What is remembered of a call is remembered for its rounding."""
    x = np.array([[[3, 4]]])
    for rounding, expected in [("nearest", 4), ("truncate", 3), ("nearest", 4), ("truncate", 3)]:
        assert numbapool.avg_pool1d(x, 2, rounding=rounding).item() == expected
        assert numbapool.avg_pool1d(x, (2,), rounding=rounding).item() == expected
        assert numbapool.adaptive_avg_pool1d(x, 1, rounding=rounding).item() == expected
        assert numbapool.global_avg_pool(x, rounding=rounding).item() == expected
    assert numbapool.avg_pool1d(x, 2).item() == numbapool.global_avg_pool(x).item() == 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_not_affected(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(dtype)
    assert_same(numbapool.avg_pool2d(x, 3, 2, **NEAREST), numbapool.avg_pool2d(x, 3, 2))
    assert_same(numbapool.adaptive_avg_pool2d(x, 4, **NEAREST), numbapool.adaptive_avg_pool2d(x, 4))


def test_layers() -> None:
    x = np.array([[[3, 4, -3, -4]]])
    assert numbapool.AvgPool1d(2, **NEAREST)(x).tolist() == [[[4, -4]]]
    assert numbapool.AdaptiveAvgPool1d(2, **NEAREST)(x).tolist() == [[[4, -4]]]
    assert numbapool.GlobalAvgPool(**NEAREST)(x[..., :2]).tolist() == [[[4]]]
    assert numbapool.AvgPool1d(2, **NEAREST) != numbapool.AvgPool1d(2)
    for layer in (numbapool.AvgPool1d(2, **NEAREST), numbapool.AdaptiveAvgPool1d(2, **NEAREST)):
        out, pullback = layer.vjp(x.astype(float))
        assert pullback(out).tolist() == [[[1.75, 1.75, -1.75, -1.75]]]


def check_without_compiler() -> None:
    for case in CASES:
        for dtype in ("int16", "uint8", "int64", "uint64"):
            for layout in LAYOUTS:
                test_every_algorithm(case, dtype, layout)
    for call in test_family.MEANS:
        x = values(call.shape, "int16")
        assert_same(call.forward(x, **NEAREST), reference.adaptive_avg_pool(x, *call.args, **NEAREST, rank=call.rank))
    test_halves_of_64_bits()


def test_without_compiler() -> None:
    call_in_process(check_without_compiler, NUMBA_DISABLE_JIT=1)


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors(name: str) -> None:
    function = getattr(numbapool, name)
    rank = int(name[-2]) if name.endswith("d") else 1
    x = np.zeros((1, 1) + (4,) * rank, np.int32)
    size = [] if name == "global_avg_pool" else [2]
    assert inspect.signature(function).parameters["rounding"].kind is inspect.Parameter.KEYWORD_ONLY
    for value in ("up", "", "Nearest", "half_even", "truncate "):
        with pytest.raises(ValueError, match=rf"rounding must be one of \('truncate', 'nearest'\), got '{value}'"):
            function(x, *size, rounding=value)
    for wrong in (None, True, 1, b"nearest", ["nearest"], ("nearest",), np.rint, np.array("nearest")):
        with pytest.raises(TypeError, match="rounding must be a str, got"):
            function(x, *size, rounding=wrong)
    with pytest.raises(ValueError, match="rounding"):  # also of floats, for which it means nothing
        function(x.astype(float), *size, rounding="up")
    assert "rounding" not in inspect.signature(getattr(numbapool, f"{name}_backward")).parameters


# torch ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_dynamic", [False, True])
@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16"])
def test_tensors(dtype: str, is_dynamic: bool) -> None:
    """Eager, compiled, and batched by torch.func.vmap, in both memory formats."""
    torch = pytest.importorskip("torch")
    pools: list[tuple[Callable[[Any], Any], Callable[[Array], Array]]] = [
        (
            lambda x: numbapool.avg_pool2d(x, 3, 2, 1, divisor_override=-4, **NEAREST),
            lambda x: reference.avg_pool(x, 3, 2, 1, divisor_override=-4, **NEAREST, rank=2),
        ),
        (
            lambda x: numbapool.adaptive_avg_pool2d(x, (3, 5), **NEAREST),
            lambda x: reference.adaptive_avg_pool(x, (3, 5), **NEAREST, rank=2),
        ),
        (
            lambda x: numbapool.adaptive_avg_pool2d(x, (8, 4), **NEAREST),
            lambda x: reference.adaptive_avg_pool(x, (8, 4), **NEAREST, rank=2),
        ),
        (
            lambda x: numbapool.global_avg_pool(x, **NEAREST),
            lambda x: reference.avg_pool(x, (8, 9), **NEAREST),
        ),
    ]
    plain = values((3, 2, 8, 9), dtype)
    for pool, definition in pools:
        expected = definition(plain)
        torch._dynamo.reset()
        compiled = torch.compile(pool, fullgraph=True, dynamic=is_dynamic, backend="aot_eager")
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = torch.from_numpy(plain).contiguous(memory_format=memory_format)
            for each in (pool, compiled):
                assert_same(each(x).numpy(), expected)
            batch = x.reshape(3, 1, 2, 8, 9)
            assert_same(torch.func.vmap(pool)(batch).numpy(), expected.reshape(3, 1, *expected.shape[1:]))
        assert pool(x.to("meta")).shape == expected.shape


def test_gradients_are_those_of_the_mean() -> None:
    torch = pytest.importorskip("torch")
    x = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    for pool in (
        lambda x, **more: numbapool.avg_pool2d(x, 3, 2, **more),
        lambda x, **more: numbapool.adaptive_avg_pool2d(x, (4, 3), **more),
        lambda x, **more: numbapool.global_avg_pool(x, **more),
    ):
        compiled = torch.compile(lambda x, pool=pool: pool(x, **NEAREST), fullgraph=True, backend="aot_eager")
        (expected,) = torch.autograd.grad(pool(x).square().sum(), x)
        for out in (pool(x, **NEAREST), compiled(x)):
            assert torch.equal(torch.autograd.grad(out.square().sum(), x)[0], expected)
        assert torch.equal(torch.func.grad(lambda x, pool=pool: pool(x, **NEAREST).square().sum())(x), expected)


def test_errors_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.zeros(1, 1, 4, 4, dtype=torch.int32)
    for pool in (
        lambda x: numbapool.avg_pool2d(x, 2, rounding="up"),
        lambda x: numbapool.adaptive_avg_pool2d(x, 2, rounding="up"),
        lambda x: numbapool.global_avg_pool(x, rounding="up"),
    ):
        for tensor in (x, x.to("meta")):
            with pytest.raises(ValueError, match="rounding must be one of"):
                pool(tensor)
