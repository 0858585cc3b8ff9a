"""The operators of ONNX: its own conformance cases, onnxruntime on random nodes, and wrong attributes."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import numbapool.onnx
from tests.checks import Array, assert_same, run_onnx_node
from tests.conftest import ArrayKind

OPERATORS = {name: getattr(numbapool.onnx, name) for name in numbapool.onnx.__all__}


# The conformance cases ------------------------------------------------------------------------------------------------


@cache
def conformance_cases() -> dict[str, Any]:
    """By name the cases of nodes of these operators in the `onnx` wheel."""
    loader = pytest.importorskip("onnx.backend.test.loader")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases of other operators divides by zero
        cases = loader.load_model_tests(kind="node")
    return {case.name: case for case in cases if case.model and case.model.graph.node[0].op_type in OPERATORS}


def test_number_of_conformance_cases() -> None:
    assert len(conformance_cases()) >= 53


def evaluate(model: Any, inputs: list[Any]) -> list[Array]:
    """What a Python evaluator does with a model of one node."""
    onnx = pytest.importorskip("onnx")
    (node,) = model.graph.node
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    (version,) = (each.version for each in model.opset_import if each.domain == "")
    result = OPERATORS[node.op_type](*inputs, **attributes, n_outputs=len(node.output), opset=version)
    return list(result) if isinstance(result, tuple) else [result]


def test_conformance(backend: ArrayKind) -> None:
    numpy_helper = pytest.importorskip("onnx.numpy_helper")

    def array(value: Any) -> Array:
        return value if isinstance(value, np.ndarray) else numpy_helper.to_array(value)

    for name, case in conformance_cases().items():
        for inputs, outputs in case.data_sets:
            results = evaluate(case.model, [backend.from_numpy(array(each)) for each in inputs])
            assert len(results) == len(outputs), name
            for result, wanted in zip(results, map(array, outputs), strict=True):
                actual = backend.to_numpy(result)
                assert actual.dtype.newbyteorder("=") == wanted.dtype, name
                assert actual.shape == wanted.shape, name
                np.testing.assert_allclose(actual, wanted, rtol=case.rtol, atol=case.atol, err_msg=name)


# onnxruntime ----------------------------------------------------------------------------------------------------------


@st.composite
def nodes(draw: st.DrawFn) -> tuple[str, Array, dict[str, Any]]:
    """An operator, its input and its attributes, as onnxruntime takes them."""
    operator = draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
    rank = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    strides = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    dilations = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel)]
    lengths = [draw(st.integers(span, span + 6)) for span in spans]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad.startswith("SAME"):
        # See test_onnxruntime: what it does not do as ONNX has it.
        dilations = attributes["dilations"] = [1] * rank
        lengths = [max(length, stride) for length, stride in zip(lengths, strides)]
        assume(all(n <= (-(-n // s) - 1) * s + k for n, s, k in zip(lengths, strides, kernel)))
    if auto_pad == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for _ in range(2) for k in kernel]
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = auto_pad
    if operator == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    if operator == "LpPool":
        attributes["p"] = draw(st.integers(1, 3))
    if operator == "MaxPool":
        attributes["storage_order"] = draw(st.integers(0, 1))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *lengths)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return operator, generator.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) - 20, attributes


@settings(max_examples=300)
@given(node=nodes())
def test_onnxruntime_agrees(node: tuple[str, Array, dict[str, Any]]) -> None:
    operator, x, attributes = node
    outputs = 2 if operator == "MaxPool" else 1
    theirs = run_onnx_node(operator, x, opset=22, outputs=outputs, **attributes)
    ours = OPERATORS[operator](x, **attributes, n_outputs=outputs, opset=22)
    if operator == "MaxPool":
        assume((ours[1] != -1).all())  # it has the least float and an index outside for windows without input
        for actual, wanted in zip(ours, theirs, strict=True):
            assert_same(actual, wanted)
    else:
        (wanted,) = theirs
        assert ours.dtype == wanted.dtype
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 2, 5, 6), (2, 1, 3, 4, 5)])
def test_global_operators(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for operator, attributes in (("GlobalMaxPool", {}), ("GlobalAveragePool", {}), ("GlobalLpPool", {"p": 3})):
        (wanted,) = run_onnx_node(operator, x, opset=21, **attributes)  # it has no GlobalLpPool of opset 22
        actual = OPERATORS[operator](x, **attributes, opset=22)
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 6, 8), (1, 2, 4, 6, 4)])
@pytest.mark.parametrize("more", [None, 0, 1, 5])
def test_max_unpool(shape: tuple[int, ...], more: int | None) -> None:
    """In a shape much larger than the default too."""
    x = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    window = {"kernel_shape": [2] * (len(shape) - 2), "strides": [2] * (len(shape) - 2)}
    values, indices = numbapool.onnx.MaxPool(x, **window, n_outputs=2)
    wanted = np.zeros(shape, np.float32)
    wanted.ravel()[indices.ravel()] = values.ravel()
    arguments: tuple[Any, ...] = ()
    if more is not None:
        outer = (*shape[:2], *(length + more for length in shape[2:]))
        arguments = (np.array(outer),)
        wanted = np.pad(wanted, [(0, 0), (0, 0), *[(0, more)] * (len(shape) - 2)])
    assert_same(numbapool.onnx.MaxUnpool(values, indices, *arguments, **window), wanted)


# Errors ---------------------------------------------------------------------------------------------------------------

X = np.zeros((1, 2, 6, 6), np.float32)


@pytest.mark.parametrize(
    ("operator", "attributes", "words"),
    [
        ("MaxPool", {"n_outputs": 2, "opset": 7}, "MaxPool has Indices since opset 8, got Indices=True and opset=7"),
        ("MaxPool", {"ceil_mode": 1, "opset": 9}, "MaxPool has ceil_mode since opset 10"),
        ("AveragePool", {"dilations": [2, 2], "opset": 18}, "AveragePool has dilations since opset 19"),
        ("AveragePool", {"n_outputs": 2}, "n_outputs must be 1, got 2"),
        ("MaxPool", {"n_outputs": 3}, "n_outputs must be 1 or 2, got 3"),
        ("MaxPool", {"opset": 0}, "MaxPool exists since opset 1, got opset=0"),
        ("MaxPool", {"auto_pad": "SAME"}, "auto_pad must be one of"),
        ("MaxPool", {"auto_pad": "VALID", "pads": [1, 1, 1, 1]}, "pads must not be given beside auto_pad='VALID'"),
        ("MaxPool", {"pads": [1, 1]}, "pads must have 4 ints"),
        ("MaxPool", {"pads": [0, 0, 0, -1]}, "pad must be non-negative"),
        ("LpPool", {"strides": [1]}, "strides must have 2 ints"),
        ("LpPool", {"p": 0}, "^p must be greater than 0, got 0; "),
        ("AveragePool", {"count_include_pad": 2}, "count_include_pad must be 0 or 1, got 2"),
        ("MaxPool", {"kernel_shape": [7, 7]}, "Output size is too small"),
    ],
)
def test_wrong_attributes(operator: str, attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OPERATORS[operator](X, **{"kernel_shape": [2, 2]} | attributes)


def test_other_errors() -> None:
    indices = np.zeros((1, 2, 6, 6), np.int64)
    assert numbapool.onnx.MaxPool(X, kernel_shape=[2, 2], dilations=[1, 1], opset=8).shape == (1, 2, 5, 5)
    with pytest.raises(TypeError, match=r"output_shape must be an int, got 7\.0"):
        numbapool.onnx.MaxUnpool(X, indices, [1, 2, 7.0, 7], kernel_shape=[2, 2])
    with pytest.raises(TypeError, match="kernel_shape must be a sequence of 2 ints, got 2"):
        numbapool.onnx.MaxPool(X, kernel_shape=2)
    with pytest.raises(ValueError, match="X must have at least 3 axes"):
        numbapool.onnx.MaxPool(X[0, 0], kernel_shape=[2])
    with pytest.raises(ValueError, match="MaxUnpool exists since opset 9"):
        numbapool.onnx.MaxUnpool(X, indices, kernel_shape=[2, 2], opset=8)
    with pytest.raises(ValueError, match="output_shape must be at least the default"):
        numbapool.onnx.MaxUnpool(X, indices, [1, 2, 3, 3], kernel_shape=[2, 2])
    with pytest.raises(ValueError, match="Found an invalid max index"):
        numbapool.onnx.MaxUnpool(X, indices + 98, kernel_shape=[2, 2])
    with pytest.raises(ValueError, match="return_indices must be False for more than 3 pooled axes"):
        numbapool.onnx.MaxPool(np.zeros((1, 1, 2, 2, 2, 2)), kernel_shape=[2] * 4, n_outputs=2)
