"""`numbapool.jit`: what compiled code computes is, to the bit, what the functions compute when Python calls them."""

from __future__ import annotations

import inspect
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError
from numba.core.typing.templates import builtin_registry

import numbapool
import numbapool.jit
from tests.checks import Array, spread_values, tied_values

if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

KINDS = ("max", "min", "avg", "sum", "lp")
# Each combination of function, rank, dtype and types of arguments is compiled once, in ten seconds and more.
COMPILED = [
    ("max", 2, "float32"),
    ("avg", 2, "float32"),
    pytest.param("max", 1, "float64", marks=pytest.mark.full),
    pytest.param("min", 2, "float32", marks=pytest.mark.full),
    pytest.param("avg", 3, "float64", marks=pytest.mark.full),
    pytest.param("sum", 1, "float32", marks=pytest.mark.full),
    pytest.param("lp", 2, "float32", marks=pytest.mark.full),
]


def extra_of(kind: str) -> tuple[Any, ...]:
    """Arguments that come before the windows."""
    return (2.5,) if kind == "lp" else ()


@cache
def forward(kind: str, rank: int) -> Callable[..., Any]:
    function = getattr(numbapool.jit, f"{kind}_pool{rank}d")
    if kind in ("max", "min"):

        @numba.njit
        def call(x, kernel, stride, padding, dilation, ceil_mode):
            return function(
                x, kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode, return_indices=True
            ), function(x, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)

    elif kind == "lp":

        @numba.njit
        def call(x, kernel, stride, padding, dilation, ceil_mode):
            return function(x, 2.5, kernel, stride, ceil_mode, padding=padding, dilation=dilation, true_norm=True)

    elif kind == "avg":

        @numba.njit
        def call(x, kernel, stride, padding, dilation, ceil_mode, count_include_pad):
            return function(x, kernel, stride, padding, ceil_mode, count_include_pad, dilation=dilation)

    else:

        @numba.njit
        def call(x, kernel, stride, padding, dilation, ceil_mode):
            return function(x, kernel, stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)

    return call


@cache
def backward(kind: str, rank: int) -> Callable[..., Any]:
    function = getattr(numbapool.jit, f"{kind}_pool{rank}d_backward")
    if kind in ("max", "min"):

        @numba.njit
        def call(grad, x, indices, kernel, stride, padding, dilation, ceil_mode):
            return function(
                grad, x, kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode, indices=indices
            ), function(grad, x, kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode)

    elif kind == "lp":

        @numba.njit
        def call(grad, x, indices, kernel, stride, padding, dilation, ceil_mode):
            return function(grad, x, 2.5, kernel, stride, ceil_mode, padding=padding, dilation=dilation, true_norm=True)

    elif kind == "avg":

        @numba.njit
        def call(grad, x, indices, kernel, stride, padding, dilation, ceil_mode, count_include_pad):
            return function(grad, x, kernel, stride, padding, ceil_mode, count_include_pad, dilation=dilation)

    else:

        @numba.njit
        def call(grad, x, indices, kernel, stride, padding, dilation, ceil_mode):
            return function(grad, x, kernel, stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)

    return call


@st.composite
def poolings(draw: Any, rank: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Shapes and windows for all algorithms."""
    largest = {1: 700, 2: 60, 3: 14}[rank]
    lengths = tuple(draw(st.integers(1, largest)) for _ in range(rank))
    kernel = tuple(draw(st.integers(1, min(length, 20))) for length in lengths)
    windows = {
        "kernel_size": kernel,
        "stride": tuple(draw(st.integers(1, 6)) for _ in range(rank)),
        "padding": tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel),
        "dilation": tuple(draw(st.sampled_from([1, 1, 1, 2])) for _ in range(rank)),
        "ceil_mode": draw(st.booleans()),
    }
    return (draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 3, 20])), *lengths), windows


def is_possible(shape: tuple[int, ...], windows: dict[str, Any]) -> bool:
    names = ("kernel_size", "padding", "dilation")
    lengths = shape[-len(windows["kernel_size"]) :]
    return all(
        length + sum(pads) > (kernel - 1) * dilation
        for length, kernel, pads, dilation in zip(lengths, *(windows[name] for name in names), strict=True)
    )


def same(actual: Array, expected: Array) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("kind", "rank", "dtype"), COMPILED)
def test_same_bits_as_from_python(kind: str, rank: int, dtype: str) -> None:
    public, extra = getattr(numbapool, f"{kind}_pool{rank}d"), extra_of(kind)
    public_backward = getattr(numbapool, f"{kind}_pool{rank}d_backward")
    compiled, compiled_backward = forward(kind, rank), backward(kind, rank)

    @settings(max_examples=150, derandomize=True)
    @given(poolings(rank), st.integers(0, 2**32 - 1), st.booleans())
    def check(case: tuple[tuple[int, ...], dict[str, Any]], seed: int, is_tied: bool) -> None:
        shape, windows = case
        if not is_possible(shape, windows):
            return
        x = (tied_values if is_tied else spread_values)(shape, dtype, seed)
        arguments = tuple(windows.values())
        if kind in ("max", "min"):
            values, indices = public(x, **windows, return_indices=True)
            (found, positions), alone = compiled(x, *arguments)
            same(found, values)
            same(alone, values)
            same(positions, indices)
            grad = spread_values(values.shape, dtype, seed)
            by_indices, by_values = compiled_backward(grad, x, indices, *arguments)
            same(by_indices, public_backward(grad, x, **windows, indices=indices))
            same(by_values, public_backward(grad, x, **windows))
            return
        more = {"true_norm": True} if kind == "lp" else {}
        if kind == "avg":
            more, arguments = {"count_include_pad": seed % 2 == 0}, (*arguments, seed % 2 == 0)
        result = public(x, *extra, **windows, **more)
        same(compiled(x, *arguments), result)
        grad = spread_values(result.shape, dtype, seed)
        expected = public_backward(grad, x, *extra, **windows, **more)
        actual = compiled_backward(grad, x, np.zeros(result.shape, np.int64), *arguments)
        if kind == "lp":  # planes that are one window have kernels of their own there
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        else:
            same(actual, expected)

    check()


@pytest.mark.full
def test_largest_norm_and_power_mean() -> None:
    @numba.njit
    def call(x, power):
        norm = numbapool.jit.lp_pool1d(x, power, 4, 3)
        return norm, numbapool.jit.lp_pool1d_backward(norm, x, power, 4, 3)

    x = spread_values((2, 3, 400), "float64", 5)
    for power in (math.inf, 2.0, 1.0):
        norm, gradient = call(x, power)
        same(norm, numbapool.lp_pool1d(x, power, 4, 3))
        np.testing.assert_allclose(gradient, numbapool.lp_pool1d_backward(norm, x, power, 4, 3), rtol=1e-12)


@pytest.mark.full
def test_ways_to_write_arguments() -> None:
    @numba.njit
    def call(x, name):
        return (
            numbapool.jit.avg_pool2d(x, 3),
            numbapool.jit.avg_pool2d(x, (3, 2), 2, padding=(1, 0), count_include_pad=False),
            numbapool.jit.avg_pool2d(x, (3,), (), (1,), True, divisor_override=-4, dilation=(1,)),
            numbapool.jit.avg_pool2d(x, 3, 1, name, dilation=2),
            numbapool.jit.max_pool2d(x, 3, 2, "same"),
        )

    for shape in ((2, 13, 10), (0, 3, 13, 10)):
        x = spread_values(shape, "float32", 1)
        for name in ("same", "same_lower", "valid"):
            results = call(x, name)
            same(results[0], numbapool.avg_pool2d(x, 3))
            same(results[1], numbapool.avg_pool2d(x, (3, 2), 2, padding=(1, 0), count_include_pad=False))
            same(results[2], numbapool.avg_pool2d(x, 3, (), 1, True, divisor_override=-4))
            same(results[3], numbapool.avg_pool2d(x, 3, 1, name, dilation=2))
            same(results[4], numbapool.max_pool2d(x, 3, 2, "same"))


@numba.njit(parallel=True, nogil=True)
def pooled_into(x, kernel, out, indices):
    for n in numba.prange(len(x)):
        numbapool.jit.max_pool2d(x[n], kernel, return_indices=True, out=(out[n], indices[n]))
        numbapool.jit.avg_pool2d(x[n], kernel, out=out[n])


@pytest.mark.full
def test_out_in_parallel_loops() -> None:
    x = spread_values((40, 3, 12, 12), "float32", 3)
    out, indices = np.empty((40, 3, 4, 4), np.float32), np.empty((40, 3, 4, 4), np.int64)
    pooled_into(x, 3, out, indices)
    same(out, numbapool.avg_pool2d(x, 3))
    same(indices, numbapool.max_pool2d(x, 3, return_indices=True)[1])


@pytest.mark.full
def test_errors_in_parallel_loops() -> None:
    x = spread_values((40, 3, 12, 12), "float32", 3)
    out, indices = np.empty((40, 3, 4, 4), np.float32), np.empty((40, 3, 4, 4), np.int64)
    pooled_into(x, 3, out, indices)
    if numba.threading_layer() == "workqueue":
        pytest.skip("Numba's workqueue loses whatever is raised inside a parallel loop")
    # The others wrap it in a SystemError; from Python 3.14 on it may also arrive as it is.
    arriving = SystemError if sys.version_info < (3, 14) else (SystemError, ValueError)
    for kernel, message in (
        (0, "kernel size should be greater than zero, got kernel_size=0"),
        (4, "out must have the shape"),
    ):
        with pytest.raises(arriving) as raised:
            pooled_into(x, kernel, out, indices)
        error = raised.value.__cause__ if isinstance(raised.value, SystemError) else raised.value
        assert isinstance(error, ValueError)
        assert message in str(error)


def test_signatures_are_those_of_the_functions() -> None:
    overloads = {template.key: template for template in builtin_registry.functions}
    for name in numbapool.jit.__all__:
        function = getattr(numbapool.jit, name)
        assert function is getattr(numbapool, name)
        public = inspect.signature(function).parameters.values()
        compiled = inspect.signature(overloads[function]._overload_func).parameters.values()
        assert [(each.name, each.default) for each in compiled] == [(each.name, each.default) for each in public]


X = spread_values((2, 3, 8, 8), "float32", 2)


@numba.njit
def window_call(x, kernel, stride, padding, dilation):
    return numbapool.jit.max_pool2d(x, kernel, stride, padding, dilation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0, 1), "kernel size should be greater than zero, got kernel_size=0"),
        ((2, 0, 0, 1), "stride should not be zero or negative, got stride=0"),
        ((2, -1, 0, 1), "got stride=-1"),
        ((2, 1, -1, 1), "pad must be non-negative, got padding=-1"),
        ((2, 1, 0, 0), "dilation should be greater than zero, got dilation=0"),
        ((9, 1, 0, 1), "Output size is too small.*kernel_size=9.*8 elements"),
        ((2, 1, 0, 2**62), "dilation must be at most 2[*][*]31"),
        ((2, 1, 2**31, 1), "Output size is too large"),
        ((2**40, 1, 0, 1), "kernel_size must be at most 2[*][*]31"),
    ],
)
def test_bad_values(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        window_call(X, *arguments)


def test_empty_axes() -> None:
    with pytest.raises(ValueError, match="x may only be empty along the batch axis"):
        window_call(X[:, :0].copy(), 2, 1, 0, 1)
    assert window_call(X[:0].copy(), 2, 1, 0, 1).shape == (0, 3, 7, 7)


def test_bad_values_of_backward() -> None:
    @numba.njit
    def call(grad, x, indices, out):
        return numbapool.jit.max_pool2d_backward(grad, x, 2, indices=indices, out=out)

    values, indices = numbapool.max_pool2d(X, 2, return_indices=True)
    out = np.empty_like(X)
    same(call(values, X, indices, out), numbapool.max_pool2d_backward(values, X, 2))
    with pytest.raises(ValueError, match="grad_output must have the shape of the output"):
        call(X, X, indices, out)
    with pytest.raises(ValueError, match="indices must have the shape of the output"):
        call(values, X, indices[:1].copy(), out)
    with pytest.raises(ValueError, match="out must have the shape of the result"):
        call(values, X, indices, values)
    with pytest.raises(ValueError, match="out must not share memory"):
        call(values, X, indices, X)
    for bad in (64, -2, 2**40):
        wrong = indices.copy()
        wrong[1, 2, 3, 3] = bad
        with pytest.raises(ValueError, match="Found an invalid max index"):
            call(values, X, wrong, out)


@pytest.mark.full
def test_bad_padding_name() -> None:
    @numba.njit
    def call(x, name, divisor):
        return numbapool.jit.avg_pool2d(x, 2, 1, name, divisor_override=divisor)

    with pytest.raises(ValueError, match=r"padding by name must be one of .* got 'full'"):
        call(X, "full", 2)
    with pytest.raises(ValueError, match="divisor must be not zero, got divisor_override=0"):
        call(X, "same", 0)


@pytest.mark.full
def test_bad_power() -> None:
    @numba.njit
    def call(x, power):
        return numbapool.jit.lp_pool2d(x, power, 2)

    for power in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="norm_type must be greater than 0"):
            call(X, power)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: numbapool.jit.max_pool2d(x.T, 2), "x must be C-contiguous inside compiled code"),
        (lambda x: numbapool.jit.max_pool2d(x.astype(np.int32), 2), "x has dtype int32; accepted inside compiled code"),
        (lambda x: numbapool.jit.max_pool1d(x, 2), "x must have 3 axes"),
        (lambda x: numbapool.jit.max_pool2d(x, 2.0), "kernel_size must be an int or 2 ints, got float64"),
        (lambda x: numbapool.jit.max_pool2d(x, True), "kernel_size must be an int or 2 ints"),
        (lambda x: numbapool.jit.max_pool2d(x, (2, 2, 2)), "kernel_size must be an int or 2 ints, one for each"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, 1, ((1, 0),)), "padding must be an int, 2 ints, 2 pairs of ints"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, 1, 1.5), "padding must be an int or 2 ints"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, ceil_mode=1), "ceil_mode must be a bool"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, return_indices=x.size > 0), "return_indices must be a constant"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, index_kind="window"), "index_kind must be 'plane'"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, data_format="channels_last"), "data_format must be"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, out=x[0]), "out must have 4 axes"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, return_indices=True, out=x), "out must be a pair"),
        (lambda x: numbapool.jit.avg_pool2d(x, 2, divisor_override=1.5), "divisor_override must be an int"),
        (lambda x: numbapool.jit.lp_pool2d(x, "2", 2), "norm_type must be a number"),
        (lambda x: numbapool.jit.avg_pool2d(x, 2, 1, 0, False, True, None, 2), "dilation must be given by name"),
        (lambda x: numbapool.jit.sum_pool2d_backward(x, x, 2, 1, 0, 1, False, "channels_first"), "data_format must be"),
        (lambda x: numbapool.jit.max_pool2d(x, 2, out=x if x.size > 0 else None), "out must be a C-contiguous array"),
        (lambda x: numbapool.jit.max_pool2d(x, 2 if x.size > 0 else None), "kernel_size must be an int or 2 ints"),
        (lambda x: numbapool.jit.avg_pool2d_backward(x.astype(np.float64), x, 2), "grad_output has dtype float64"),
    ],
)
def test_bad_types(call: Callable[[Array], Any], message: str) -> None:
    with pytest.raises(TypingError, match=message):
        numba.njit(call)(X)


@pytest.mark.parametrize(("kind", "rank", "dtype"), COMPILED)
def test_empty_batches(kind: str, rank: int, dtype: str) -> None:
    """Of small planes, too, which are joined to longer ones elsewhere, and of which here there are none to join."""
    for length, kernel, stride, padding in itertools.product((1, 2, 3, 8), (1, 2, 3), (1, 2, 3), (0, 1)):
        if kernel > length or padding > kernel // 2:
            continue
        x = np.empty((0, 3, *[length] * rank), dtype)
        each = (kernel,) * rank, (stride,) * rank, ((padding,) * 2,) * rank, (1,) * rank
        expected = getattr(numbapool, f"{kind}_pool{rank}d")(x, *extra_of(kind), each[0], each[1], padding=each[2])
        flags = (False, True) if kind == "avg" else (False,)  # ceil_mode, count_include_pad
        results, gradients = forward(kind, rank)(x, *each, *flags), np.empty(expected.shape, dtype)
        back = backward(kind, rank)(gradients, x, gradients.astype(np.int64), *each, *flags)
        if kind in ("max", "min"):
            (_, indices), results = results
            same(indices, expected.astype(np.int64))
            back, other = back
            same(other, x)
        same(results, expected)
        same(back, x)


@pytest.mark.parametrize("stride", [1, pytest.param((1, 3), marks=pytest.mark.full)])
def test_variables_that_may_be_none(stride: Any) -> None:
    @numba.njit
    def call(x, is_given, stride):
        given, divisor = None, None
        if is_given:
            given, divisor = stride, 3
        return numbapool.jit.avg_pool2d(x, 2, given, divisor_override=divisor)

    same(call(X, True, stride), numbapool.avg_pool2d(X, 2, stride, divisor_override=3))
    same(call(X, False, stride), numbapool.avg_pool2d(X, 2))


def test_read_only_and_absent_out() -> None:
    @numba.njit
    def call(x, out):
        return numbapool.jit.max_pool2d(x, 2, return_indices=True, out=out)

    values, indices = numbapool.max_pool2d(X, 2, return_indices=True)
    indices.flags.writeable = False
    with pytest.raises(TypingError, match=r"out\[1\] must be writeable"):
        call(X, (values, indices))
    with pytest.raises(TypingError, match=r"out\[0\] must be a C-contiguous array"):
        call(X, (None, indices))


def test_fast_math_of_callers_is_not_passed_on() -> None:
    @numba.njit(fastmath=True)
    def call(x):
        return numbapool.jit.sum_pool1d(x, 2)

    call(np.zeros((1, 2, 8)))
    (code,) = call.inspect_llvm().values()
    assert "fadd" in code
    assert "fadd fast" not in code


CACHED = """
import numpy as np
from numba import njit
from numbapool.jit import max_pool2d

@njit(cache=True)
def pooled(x):
    return max_pool2d(x, 2)

if __name__ == "__main__":
    x = np.arange(16.0).reshape(1, 4, 4)
    assert pooled(x).tolist() == [[[5.0, 7.0], [13.0, 15.0]]]
    print(sum(pooled.stats.cache_hits.values()))
"""


def test_callers_can_be_cached(tmp_path: Path) -> None:
    script = tmp_path / "cached.py"
    script.write_text(CACHED, encoding="utf-8")
    hits = [subprocess.check_output([sys.executable, script], text=True).strip() for _ in range(2)]
    assert hits == ["0", "1"]
