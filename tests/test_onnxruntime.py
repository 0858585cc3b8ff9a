"""onnxruntime as a judge of what torch does not have: padding by pairs and by name, dilated means, true norms.

Neither of NaN, which it does not propagate, nor of minus infinity, below which its maxima do not start. It pads by
less than a window only. Of dtypes it has float32, for maxima also float64, int8 and uint8.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import numbapool
from numbapool import reference
from tests.checks import Array, assert_same, assert_sums, public, run_onnx_node, spread_values, tied_values

NAMES = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
LONGEST = {1: 12, 2: 9, 3: 5}


class Window(NamedTuple):
    """A shape (N, C, pooled axes), and a window in the words of both."""

    shape: tuple[int, ...]
    arguments: dict[str, Any]
    attributes: dict[str, Any]

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def taps(self) -> int:
        return math.prod(self.arguments["kernel_size"])


def per_axis(rank: int, *choices: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.sampled_from(choices)] * rank)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    rank = draw(st.integers(1, 3))
    lengths = draw(st.tuples(*[st.integers(1, LONGEST[rank])] * rank))
    kernel, stride = draw(per_axis(rank, 1, 2, 3, 4, 5)), draw(per_axis(rank, 1, 2, 3, 4))
    dilation = draw(st.one_of(st.just((1,) * rank), per_axis(rank, 1, 2, 3)))
    padding: Any = draw(st.sampled_from([None, None, *NAMES]))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
    if padding is None:
        padding = draw(st.tuples(*[st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)) for k in kernel]))
        attributes["pads"] = [before for before, _ in padding] + [after for _, after in padding]
    else:
        attributes["auto_pad"] = NAMES[padding]
    if isinstance(padding, str) and padding != "valid":
        # onnxruntime takes dilated windows for their taps alone when it pads by name, and where windows need less than
        # the input, between strides larger than they are, it cuts off what they do not need in front and behind.
        assume(set(dilation) == {1})
        assume(all(n <= (-(-n // s) - 1) * s + k for n, s, k in zip(lengths, stride, kernel, strict=True)))
    arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    arguments["ceil_mode"] = draw(st.booleans())
    attributes["ceil_mode"] = int(arguments["ceil_mode"])
    room = 0 if isinstance(padding, str) else np.sum(padding, axis=1)
    spans = np.multiply(dilation, np.subtract(kernel, 1)) + 1
    assume(padding in ("same", "same_lower") or (lengths + np.asarray(room) >= spans).all())
    return Window((2, 2, *lengths), arguments, attributes)


def finite_values(shape: tuple[int, ...], dtype: str) -> Array:
    x = tied_values(shape, dtype)
    return np.nan_to_num(x, nan=7.0, neginf=-5.0) if x.dtype.kind == "f" else x


def in_tensor(indices: Array, plane_size: int) -> Array:
    """Positions in their planes as ONNX has them, through all planes."""
    planes = np.arange(math.prod(indices.shape[:2])).reshape(*indices.shape[:2], *[1] * (indices.ndim - 2))
    return indices + planes * plane_size


@given(windows(), st.sampled_from(["float32", "float64", "int8", "uint8"]))
@settings(max_examples=150)
def test_maxima(window: Window, dtype: str) -> None:
    x = finite_values(window.shape, dtype)
    out, indices = public("max_pool", window.rank)(x, **window.arguments, return_indices=True)
    assume((indices != -1).all())  # a window without input: onnxruntime has the least float and an index outside
    values, positions = run_onnx_node("MaxPool", x, opset=22, outputs=2, **window.attributes)
    assert_same(out, values)
    assert_same(in_tensor(indices, math.prod(x.shape[2:])), positions)


@given(windows(), st.booleans())
@settings(max_examples=150)
def test_means(window: Window, count_include_pad: bool) -> None:
    x = spread_values(window.shape, "float32")
    arguments = {**window.arguments, "count_include_pad": count_include_pad}
    (values,) = run_onnx_node("AveragePool", x, opset=22, count_include_pad=int(count_include_pad), **window.attributes)
    out = public("avg_pool", window.rank)(x, **arguments)
    assert_sums(out, values, reference.avg_pool(np.abs(x), **arguments), window.taps)


@given(windows(), st.integers(1, 4))
@settings(max_examples=150)
def test_norms(window: Window, power: int) -> None:
    x = spread_values(window.shape, "float32")
    (values,) = run_onnx_node("LpPool", x, opset=22, p=power, **window.attributes)
    out = public("lp_pool", window.rank)(x, power, **window.arguments, true_norm=True)
    assert_norms(out, values, window.taps)


def assert_norms(actual: Array, expected: Array, terms: int) -> None:
    """A root divides the rounding errors of its sum; pow and exponents like 1 / 3, times the logarithms here, add 50."""
    assert_sums(actual, expected, expected, terms + 50)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 4))
@settings(max_examples=100)
def test_whole_planes(lengths: list[int], power: int) -> None:
    """Three axes at most: onnxruntime has no more."""
    shape = (2, 3, *lengths)
    x, size = spread_values(shape, "float32"), math.prod(lengths)
    (means,) = run_onnx_node("GlobalAveragePool", x, opset=22)
    (magnitudes,) = run_onnx_node("GlobalAveragePool", np.abs(x), opset=22)
    assert_sums(numbapool.global_avg_pool(x), means, magnitudes, size)
    (norms,) = run_onnx_node("GlobalLpPool", x, opset=21, p=power)  # in opset 22 it has none
    assert_norms(numbapool.global_lp_pool(x, power), norms, size)
    x = finite_values(shape, "float32")
    (maxima,) = run_onnx_node("GlobalMaxPool", x, opset=22)
    assert_same(numbapool.global_max_pool(x), maxima)


@given(st.data())
@settings(max_examples=100)
def test_unpooling(data: st.DataObject) -> None:
    """What a pooling of any input found goes back; without output_shape, which ONNX takes to enlarge the result."""
    rank = data.draw(st.integers(1, 3))
    lengths = data.draw(per_axis(rank, 1, 2, 3, 4))
    kernel, stride = data.draw(per_axis(rank, 1, 2, 3)), data.draw(per_axis(rank, 1, 2, 3))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    axes = zip(lengths, stride, kernel, padding, strict=True)
    unpooled = tuple((n - 1) * s + k - 2 * p for n, s, k, p in axes)
    assume(min(unpooled) > 0)
    pooling = finite_values((2, 2, *unpooled), "float32")
    values, indices = public("max_pool", rank)(pooling, kernel, stride, padding, return_indices=True)
    (expected,) = run_onnx_node(
        "MaxUnpool",
        values,
        in_tensor(indices, math.prod(unpooled)),
        opset=22,
        kernel_shape=kernel,
        strides=stride,
        pads=padding * 2,
    )
    assert_same(public("max_unpool", rank)(values, indices, kernel, stride, padding), expected)
