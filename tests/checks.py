"""What the tests share: the public functions by rank, inputs that hide nothing, and the rules of comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import numbapool
from numbapool import reference
from numbapool.windows import Axis
from tests.cases import Case

Array = NDArray[Any]

FLOATS = ("float32", "float64")
INTEGERS = ("uint8", "int16", "int8", "uint16", "int32", "uint32", "int64", "uint64")


def public(operation: str, rank: int) -> Callable[..., Any]:
    """The public function of an operation: `public("max_pool_backward", 2)` is `numbapool.max_pool2d_backward`."""
    function: Callable[..., Any] = getattr(numbapool, operation.replace("pool", f"pool{rank}d"))
    return function


def tied_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Few different values, so that most windows hold their maximum more than once; floats with NaN and infinities.

    Among them are the extremes of an integer dtype, and zeros of both signs; the bytes of True are any but 0.
    """
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.where(rng.random(shape) < 0.3, rng.integers(1, 256, shape, np.uint8), np.uint8(0)).view(bool)
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        choices = np.array([limits.min, limits.min + 1, 0, 1, 2, limits.max - 1, limits.max], dtype)
        return rng.choice(choices, shape, p=[0.2, 0.15, 0.3, 0.15, 0.1, 0.05, 0.05])
    choices = np.array([-math.inf, -1.5, -0.0, 0.0, 0.25, 3.0, math.inf, math.nan], dtype)
    return rng.choice(choices, shape, p=[0.2, 0.2, 0.15, 0.15, 0.15, 0.1, 0.025, 0.025])


def spread_values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Integers over the whole range of their dtype, so that sums wrap; floats over a few magnitudes and both signs."""
    rng = np.random.default_rng(seed)
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 3, shape)).astype(dtype)


def in_order(array: Array, rank: int) -> Array:
    """As it is: the last of `rank` pooled axes strides least."""
    return array


def channels_last(array: Array, rank: int) -> Array:
    """The same with the axis before the pooled ones striding least."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -rank - 1, -1)), -1, -rank - 1)


@cache
def out_shape(case: Case) -> tuple[int, ...]:
    """Shape of the result of `case`."""
    out, _ = reference.max_pool(np.zeros(case.shape, bool), **case.max_arguments, rank=case.rank)
    return out.shape


def taps(case: Case) -> int:
    """Number of taps of a window: the largest number of terms in a sum, forward and backward.

    Backward, an element receives at most one term for each tap, since for each tap at most one window has it there.
    """
    kernel_size = case.kernel_size
    return kernel_size**case.rank if isinstance(kernel_size, int) else math.prod(kernel_size)


def count_taps(number: int, axis: Axis, count_include_pad: bool) -> int:
    """How many taps of a window count towards the divisor of a mean along one axis: the overhang of ceil_mode never does."""
    first, end = (-axis.before, axis.length + axis.after) if count_include_pad else (0, axis.length)
    start = number * axis.stride - axis.before
    return sum(first <= start + tap * axis.dilation < end for tap in range(axis.kernel))


def assert_same(actual: Array, expected: Array) -> None:
    """Equal in dtype, shape and every value; zeros of either sign are equal, and so are NaNs. Bools have bytes 0 and 1."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.dtype == bool:
        assert actual.view(np.uint8).max(initial=0) <= 1
    if not np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f"):
        np.testing.assert_array_equal(actual, expected)


def assert_sums(actual: Array, expected: Array, magnitude: Array, terms: int) -> None:
    """Equal in dtype, shape and, up to rounding, value: each value is a sum of up to `terms` terms over a divisor.

    A sum of n terms, added up in any order, is off by at most (n - 1) u times the sum of their magnitudes, u being half
    of the dtype's eps. Division by the divisor, or multiplication with its rounded reciprocal, before or after adding,
    and the rounding of the expected value add 3 u at most. So (n + 2) u times `magnitude`, the same sum over
    magnitudes, bounds the difference in first order; twice that is allowed. What is not finite must be equal.
    """
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    difference = np.abs(actual[finite].astype(np.float64) - expected[finite].astype(np.float64))
    allowed = (terms + 2) * np.finfo(expected.dtype).eps * magnitude[finite].astype(np.float64)
    worst = np.argmax(difference - allowed) if difference.size else None
    assert worst is None or difference[worst] <= allowed[worst], (
        f"{actual[finite][worst]} instead of {expected[finite][worst]}, allowed difference {allowed[worst]:.3g}"
    )


def run_onnx_node(operator: str, *inputs: Array, opset: int, outputs: int = 1, **attributes: Any) -> list[Array]:
    """What onnxruntime makes of one node; a second output are indices."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    given = {f"input_{number}": array for number, array in enumerate(inputs)}
    results = ["out", "indices"][:outputs]
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in inputs]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, list(given), results, **attributes)],
        operator,
        [info(name, kind, array.shape) for (name, array), kind in zip(given.items(), kinds, strict=True)],
        [info(name, kind, None) for name, kind in zip(results, (kinds[0], onnx.TensorProto.INT64))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    computed: list[Array] = session.run(None, given)
    return computed
