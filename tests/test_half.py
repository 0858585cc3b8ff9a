"""Half precision: float16 and bfloat16 (ml_dtypes), computed in float32 and rounded once, on every algorithm.

The judge is the reference in float64 on the same values, and NumPy's and ml_dtypes' own conversions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import numbapool
from numbapool import reference
from tests import test_family
from tests.cases import Case
from tests.checks import Array, public, spread_values, tied_values
from tests.processes import call_in_process
from tests.test_jit_modes import SELECTED, gapped
from tests.test_max_pool import torch_calls

ml_dtypes = pytest.importorskip("ml_dtypes")

HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
every_half = pytest.mark.parametrize("dtype", HALVES)
every_case = pytest.mark.parametrize("case", SELECTED, ids=str)

LAYOUTS: dict[str, Callable[[Array], Array]] = {"contiguous": np.ascontiguousarray, "strided": gapped}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def widened(array: Array) -> Array:
    with np.errstate(invalid="ignore"):  # of NaNs that would raise it
        return array.astype(np.float64)


def assert_equal(actual: Array, expected: Array) -> None:
    """Equal values, `expected` being float64 that the dtype can hold; zeros of either sign are equal."""
    np.testing.assert_array_equal(widened(actual), expected)


def assert_rounded(actual: Array, exact: Array, magnitude: Array) -> None:
    """Equal to the exact values but for one rounding, and what float32 lost before.

    Half a step of the dtype; in float32, sums of up to 2**12 terms are off by less than 2**-11 of their magnitudes.
    """
    precision = ml_dtypes.finfo(actual.dtype)
    with np.errstate(over="ignore"):
        expected = exact.astype(actual.dtype)
    finite = np.isfinite(widened(expected)) & np.isfinite(widened(actual))
    np.testing.assert_array_equal(widened(actual)[~finite], widened(expected)[~finite])
    difference = np.abs(widened(actual)[finite] - exact[finite])
    step = float(precision.eps) * np.abs(exact[finite]) + float(precision.smallest_subnormal)
    assert (difference <= step / 2 * 1.001 + magnitude[finite] * 2.0**-20).all()


@every_layout
@every_half
@every_case
def test_maxima_and_minima(case: Case, dtype: str, layout: str) -> None:
    x = tied_values(case.shape, "float32").astype(HALVES[dtype])
    for operation in ("max_pool", "min_pool"):
        definition = getattr(reference, operation)
        expected, expected_indices = definition(widened(x), **case.max_arguments, rank=case.rank)
        pool = public(operation, case.rank)
        out, indices = pool(LAYOUTS[layout](x), **case.max_arguments, return_indices=True)
        assert out.dtype == x.dtype
        assert_equal(out, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        assert_equal(pool(LAYOUTS[layout](x), **case.max_arguments), expected)


@every_layout
@every_half
@every_case
def test_means_and_sums(case: Case, dtype: str, layout: str) -> None:
    x = spread_values(case.shape, "float32").astype(HALVES[dtype])
    for operation, arguments in (("avg_pool", case.avg_arguments), ("sum_pool", case.max_arguments)):
        definition = getattr(reference, operation)
        out = public(operation, case.rank)(LAYOUTS[layout](x), **arguments)
        assert out.dtype == x.dtype
        size = definition(np.abs(widened(x)), **arguments, rank=case.rank)
        assert_rounded(out, definition(widened(x), **arguments, rank=case.rank), np.abs(size))


@every_layout
@every_half
@every_case
def test_gradients(case: Case, dtype: str, layout: str) -> None:
    x = tied_values(case.shape, "float32").astype(HALVES[dtype])
    _, indices = reference.max_pool(widened(x), **case.max_arguments, rank=case.rank)
    grad = spread_values(indices.shape, "float32", seed=1).astype(HALVES[dtype])
    view = LAYOUTS[layout]
    for operation, arguments, more in (
        ("max_pool", case.max_arguments, {}),
        ("max_pool", case.max_arguments, {"indices": view(indices)}),
        ("avg_pool", case.avg_arguments, {}),
    ):
        definition = getattr(reference, f"{operation}_backward")
        actual = public(f"{operation}_backward", case.rank)(view(grad), view(x), **arguments, **more)
        assert actual.dtype == x.dtype
        exact = definition(widened(grad), widened(x), **arguments, rank=case.rank)
        size = definition(np.abs(widened(grad)), widened(x), **arguments, rank=case.rank)
        assert_rounded(actual, exact, np.abs(size))


@every_half
@pytest.mark.parametrize("call", test_family.MEANS, ids=str)
def test_adaptive(call: test_family.Call, dtype: str) -> None:
    x = tied_values(call.shape, "float32").astype(HALVES[dtype])
    maxima = test_family.Call("adaptive_max_pool", call.shape, call.args)
    expected, expected_indices = maxima.reference(widened(x))
    out, indices = maxima.forward(x, return_indices=True)
    assert_equal(out, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    assert_equal(maxima.forward(x), expected)
    x, grad = (spread_values(shape, "float32").astype(HALVES[dtype]) for shape in (call.shape, expected.shape))
    assert_rounded(call.forward(x), call.reference(widened(x)), call.reference(np.abs(widened(x))))
    for each in (call, maxima):
        exact = each.reference_backward(widened(grad), widened(x))
        size = each.reference_backward(np.abs(widened(grad)), widened(x))
        assert_rounded(each.backward(grad, x), exact, size)


@every_half
@pytest.mark.parametrize("call", test_family.NORMS, ids=str)
def test_norms(call: test_family.Call, dtype: str) -> None:
    x = test_family.positive(call, "float32").astype(HALVES[dtype])
    expected = call.reference(widened(x))
    assert_rounded(call.forward(x), expected, 16 * np.abs(expected))
    grad = np.random.default_rng(1).standard_normal(expected.shape).astype(HALVES[dtype])
    exact = call.reference_backward(widened(grad), widened(x))
    size = call.reference_backward(np.abs(widened(grad)), np.abs(widened(x)))
    assert_rounded(call.backward(grad, x), exact, 16 * np.abs(size) + 1e-3 * (not np.isfinite(call.args[0])))


@every_half
def test_unpool_fractional_and_global(dtype: str) -> None:
    x = tied_values((2, 3, 9, 8), "float32").astype(HALVES[dtype])
    samples = np.random.default_rng(0).random((2, 3, 2))
    out, indices = numbapool.fractional_max_pool2d(x, 2, (4, 5), return_indices=True, _random_samples=samples)
    expected, expected_indices = numbapool.fractional_max_pool2d(
        widened(x), 2, (4, 5), return_indices=True, _random_samples=samples
    )
    assert_equal(out, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    back = numbapool.max_unpool2d(out, indices, 2, output_size=(9, 8))
    assert back.dtype == x.dtype
    assert_equal(back, numbapool.max_unpool2d(widened(out), indices, 2, output_size=(9, 8)))
    gradient = numbapool.max_unpool2d_backward(back, out, indices, 2, output_size=(9, 8))
    assert_equal(
        gradient, np.take_along_axis(widened(back).reshape(2, 3, -1), indices.reshape(2, 3, -1), 2).reshape(out.shape)
    )
    assert_equal(numbapool.global_max_pool(x), widened(x).max((2, 3), keepdims=True))
    finite = spread_values((2, 3, 50, 41), "float32").astype(HALVES[dtype])
    mean = widened(finite).mean((2, 3), keepdims=True)
    assert_rounded(numbapool.global_avg_pool(finite), mean, np.abs(widened(finite)).mean((2, 3), keepdims=True))


@every_half
def test_samples_of_fractional_pooling(dtype: str) -> None:
    """They count as the float32 numbers that they are."""
    x = tied_values((2, 3, 9, 8), "float32")
    samples = np.random.default_rng(0).random((2, 3, 2)).astype(HALVES[dtype])
    exact = samples.astype(np.float32)
    expected, expected_indices = reference.fractional_max_pool(x, 2, (4, 5), exact, rank=2)
    given: dict[str, Any] = {"kernel_size": 2, "output_size": (4, 5)}
    forms = [samples, samples.copy(order="F")]
    forms += [samples.astype(">f2")] if dtype == "float16" else [samples.view([("bfloat16", np.uint16)])]
    for each in forms:
        out, indices = numbapool.fractional_max_pool2d(x, **given, return_indices=True, _random_samples=each)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        gradient = numbapool.fractional_max_pool2d_backward(out, x, **given, _random_samples=each)
        by_indices = numbapool.fractional_max_pool2d_backward(out, x, **given, indices=indices)
        np.testing.assert_array_equal(gradient, by_indices)
    np.testing.assert_array_equal(reference.fractional_max_pool(x, 2, (4, 5), samples, rank=2)[1], expected_indices)


@every_half
def test_samples_round_no_window_out_of_the_input(dtype: str) -> None:
    largest = np.array(1 - 2.0**-8, HALVES[dtype])
    for length, out in ((5001, 4097), (2049, 2047)):
        samples = np.full((1, 1, 2), largest)
        call = numbapool.explain("fractional_max_pool2d", (1, 1, 4, length), 2, (1, out), _random_samples=samples)
        starts = [call.axes[1].window(number).start for number in range(out)]
        assert starts == sorted(starts)
        assert (starts[0], starts[-1]) == (0, length - 2)


def check_conversions(dtype: str) -> None:
    """Every number there is, and every rounding of means of two: they are exact in float32 but for bits beyond half's."""
    dtype = HALVES[dtype]
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    for pool in (numbapool.max_pool1d, numbapool.min_pool1d, numbapool.sum_pool1d):
        assert_equal(pool(every[None], 1)[0], widened(every))
    out, indices = numbapool.max_pool1d(every[None], 1, return_indices=True)
    assert_equal(out[0], widened(every))
    np.testing.assert_array_equal(indices[0], np.arange(1 << 16))
    pairs = np.random.default_rng(0).permutation(np.concatenate([every, every, every]))
    with np.errstate(all="ignore"):
        means = (pairs[::2].astype(np.float32) + pairs[1::2].astype(np.float32)) / np.float32(2)
        assert_equal(numbapool.avg_pool1d(pairs[None], 2)[0], widened(means.astype(dtype)))
        shares = (every.astype(np.float32) / np.float32(3)).astype(dtype)  # of all magnitudes, subnormal ones too
    spread = numbapool.avg_pool1d_backward(every[None], np.zeros((1, 3 << 16), dtype), 3)
    assert_equal(spread[0], widened(np.repeat(shares, 3)))


@every_half
def test_conversions(dtype: str) -> None:
    check_conversions(dtype)


def check_generic_processor(dtype: str) -> None:
    from numba.core import registry

    _, name, features = registry.cpu_target.target_context.codegen().magic_tuple()
    assert name == "generic"
    assert "f16c" not in features
    check_conversions(dtype)


@pytest.mark.full
@every_half
def test_conversions_without_the_instruction(dtype: str) -> None:
    """Where the processor cannot convert, or is not known to, bits are computed with."""
    call_in_process(check_generic_processor, dtype, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")


def check_without_compiler(dtype: str) -> None:
    with np.errstate(invalid="ignore"):  # what NumPy says of NaNs that would raise it
        check_conversions(dtype)
    for case in SELECTED:
        for check in (test_maxima_and_minima, test_means_and_sums, test_gradients):
            check(case, dtype, "strided")
    for call in test_family.MEANS:
        test_adaptive(call, dtype)
    for call in test_family.NORMS:
        test_norms(call, dtype)


@every_half
def test_without_compiler(dtype: str) -> None:
    call_in_process(check_without_compiler, dtype, NUMBA_DISABLE_JIT=1)


@every_half
def test_sums_do_not_grow_in_half_precision(dtype: str) -> None:
    """In float16 a sum of ones ends at 2048, in bfloat16 at 256."""
    ones = np.ones((1, 1, 4096), HALVES[dtype])
    assert numbapool.sum_pool1d(ones, 4096).item() == 4096
    assert numbapool.avg_pool1d(ones, 4096).item() == 1
    assert numbapool.lp_pool1d(ones, 1, 4096).item() == 4096
    everywhere = np.zeros((1, 1, 4096), np.int64)
    gradient = numbapool.max_pool1d_backward(ones, ones, 1, indices=everywhere)
    assert gradient[0, 0, 0] == 4096
    assert not gradient[0, 0, 1:].any()


@every_half
def test_results_go_where_they_are_asked_to(dtype: str) -> None:
    x = tied_values((1, 2, 6, 6), "float32").astype(HALVES[dtype])
    out = np.empty((1, 2, 3, 3), HALVES[dtype])
    assert numbapool.max_pool2d(x, 2, out=out) is out
    assert_equal(out, widened(numbapool.max_pool2d(x, 2)))
    with pytest.raises(TypeError, match="out must have the dtype of the result"):
        numbapool.max_pool2d(x, 2, out=np.empty(out.shape, np.float32))
    with pytest.raises(TypeError, match="grad_output must have the dtype of x"):
        numbapool.max_pool2d_backward(np.ones(out.shape, np.float32), x, 2)
    with pytest.raises(TypeError, match="accepted here: float16, bfloat16, float32, float64"):
        numbapool.avg_pool2d_backward(np.ones(out.shape, np.int64), np.ones(x.shape, np.int64), 2)


@every_half
def test_byte_swapped(dtype: str) -> None:
    """Arrays of the other byte order are read as what they say; results are in the native one."""
    dtype = HALVES[dtype]
    x = spread_values((2, 3, 6, 7), "float32").astype(dtype)
    swapped = x.astype(dtype.newbyteorder())
    assert not swapped.dtype.isnative
    for operation, more in (("max_pool", ()), ("min_pool", ()), ("avg_pool", ()), ("sum_pool", ()), ("max_pool", (1,))):
        out = public(operation, 2)(swapped, 2, *more)
        expected = public(operation, 2)(x, 2, *more)
        assert out.dtype == dtype
        assert_equal(out, widened(expected))
    grad = x[:, :, ::2, 1::2]
    swapped_grad = grad.astype(dtype.newbyteorder())
    for operation in ("max_pool_backward", "avg_pool_backward"):
        actual = public(operation, 2)(swapped_grad, swapped, 2)
        assert actual.dtype == dtype
        assert_equal(actual, widened(public(operation, 2)(grad, x, 2)))
    for kind in ("max", "avg"):
        out = numbapool.pool(swapped, kind, 2)
        assert out.dtype == dtype
        assert_equal(out, widened(numbapool.pool(x, kind, 2)))
    with pytest.raises(TypeError, match="out must have the dtype of the result"):
        numbapool.max_pool2d(x, 2, out=np.empty((2, 3, 3, 3), dtype.newbyteorder()))


def test_bfloat16_without_ml_dtypes() -> None:
    """Records of 16 bits stand for it, also over more axes than are pooled at once."""
    x = np.arange(32, dtype=np.float32).reshape(2, 2, 2, 4).astype(HALVES["bfloat16"])
    records = x.view([("bfloat16", np.uint16)])
    for kind in ("max", "avg", "sum", "lp"):
        out = numbapool.pool(records, kind, 2)
        assert out.dtype == records.dtype
        assert_equal(out.view(x.dtype), widened(numbapool.pool(x, kind, 2)))
        gradient = numbapool.pool_backward(out, records, kind, 2)
        assert_equal(gradient.view(x.dtype), widened(numbapool.pool_backward(out.view(x.dtype), x, kind, 2)))


@every_half
@given(call=torch_calls())
@settings(max_examples=100)
def test_against_torch(call: tuple[Array, dict[str, Any]], dtype: str) -> None:
    """torch in float32, on the same values in any order of memory, with windows of any kind."""
    torch = pytest.importorskip("torch")
    (values, arguments), rank = call, len(call[1]["kernel_size"])
    with np.errstate(over="ignore"):
        x = values.astype(HALVES[dtype])
    leaf = torch.from_numpy(np.ascontiguousarray(widened(x))).requires_grad_()
    expected, positions = getattr(torch.nn.functional, f"max_pool{rank}d")(leaf, **arguments, return_indices=True)
    out, indices = public("max_pool", rank)(x, **arguments, return_indices=True)
    assert_equal(out, expected.detach().numpy())
    np.testing.assert_array_equal(indices, positions.numpy())
    assert_equal(public("max_pool", rank)(x, **arguments), expected.detach().numpy())
    grad = spread_values(out.shape, "float32").astype(HALVES[dtype])
    expected.backward(torch.from_numpy(widened(grad)))
    actual = public("max_pool_backward", rank)(grad, x, **arguments)
    size = reference.max_pool_backward(np.abs(widened(grad)), widened(x), **arguments)
    assert_rounded(actual, leaf.grad.numpy(), size)


@every_half
@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors(dtype: str, channels_last: bool) -> None:
    """torch's own results: maxima and their gradients without windows that overlap are exact, means rounded once."""
    torch = pytest.importorskip("torch")
    functional: Any = torch.nn.functional
    x = torch.randn(2, 3, 8, 10, dtype=getattr(torch, dtype))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    outs = [pool(leaf, 2) for pool, leaf in zip((numbapool.max_pool2d, functional.max_pool2d), leaves, strict=True)]
    assert outs[0].dtype == x.dtype
    assert outs[0].stride() == outs[1].stride()
    assert torch.equal(*outs)
    for out in outs:
        out.backward(torch.ones_like(out))
    assert torch.equal(leaves[0].grad, leaves[1].grad)
    compiled = torch.compile(lambda z: numbapool.avg_pool2d(z, 3, 2, 1), fullgraph=True, backend="aot_eager")
    exact = functional.avg_pool2d(x.double(), 3, 2, 1)
    for mean in (numbapool.avg_pool2d(x, 3, 2, 1), compiled(x)):
        assert mean.dtype == x.dtype
        torch.testing.assert_close(mean.double(), exact, rtol=float(torch.finfo(x.dtype).eps), atol=1e-6)
    norm = numbapool.lp_pool2d(x.abs().requires_grad_(), 3, 2)
    norm.sum().backward()
    torch.testing.assert_close(norm.double(), functional.lp_pool2d(x.abs().double(), 3, 2), rtol=1e-2, atol=1e-6)
    assert torch.equal(norm, numbapool.lp_pool2d(x.abs(), 3, 2))
