"""The reference against examples by hand, torch (values, indices, gradients) and onnxruntime (what torch lacks)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from numbapool import reference
from tests.cases import CASES, Case
from tests.checks import Array, assert_same, assert_sums, run_onnx_node, spread_values, taps, tied_values

# By hand ------------------------------------------------------------------------------------------

SIX_BY_SIX = np.array(
    [
        [1, 3, 2, 4, 6, 8],
        [5, 6, 7, 8, 9, 10],
        [4, 3, 2, 1, 0, 1],
        [7, 8, 9, 10, 11, 12],
        [6, 5, 4, 3, 2, 1],
        [0, 1, 2, 3, 4, 5],
    ]
)
FOUR_BY_FOUR = np.arange(1, 17).reshape(4, 4)
NAN, INF = math.nan, math.inf


def test_six_by_six() -> None:
    out, indices = reference.max_pool(SIX_BY_SIX, (2, 2))
    assert out.tolist() == [[6, 8, 10], [8, 10, 12], [6, 4, 5]]
    assert indices.tolist() == [[7, 9, 11], [19, 21, 23], [24, 26, 35]]
    average = reference.avg_pool(SIX_BY_SIX.astype(float), 2, rank=2)
    assert average.tolist() == [[3.75, 5.25, 8.25], [5.5, 5.5, 6.0], [3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (None, 0, [[6, 8], [14, 16]]),
        (1, 0, [[6, 7, 8], [10, 11, 12], [14, 15, 16]]),
        (None, 1, [[1, 3, 4], [9, 11, 12], [13, 15, 16]]),
        (None, ((0, 1), (1, 0)), [[5, 7], [13, 15]]),
        (3, ((1, 0), (0, 1)), [[2, 4], [14, 16]]),
        (1, "same", [[6, 7, 8, 8], [10, 11, 12, 12], [14, 15, 16, 16], [14, 15, 16, 16]]),
        (1, "same_lower", [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]),
        (3, "same", [[6, 8], [14, 16]]),
        (3, "valid", [[6]]),
    ],
)
def test_max_of_four_by_four(stride: int | None, padding: Any, expected: list[list[int]]) -> None:
    out, indices = reference.max_pool(FOUR_BY_FOUR, 2, stride, padding, rank=2)
    assert out.tolist() == expected
    assert (indices + 1).tolist() == expected  # the element at position i is i + 1


@pytest.mark.parametrize(
    ("values", "expected", "index"),
    [
        ([2.0, 5.0, 5.0], 5.0, 1),  # the first of equals
        ([-0.0, 0.0, -0.0], 0.0, 0),  # zeros of either sign are equal
        ([5.0, NAN, 1.0, NAN, 9.0], NAN, 3),  # the last NaN
        ([NAN, INF], NAN, 0),
        ([-INF, -INF, -INF], -INF, 0),
        ([-INF, INF, 1.0], INF, 1),
    ],
)
def test_max_rule(values: list[float], expected: float, index: int) -> None:
    out, indices = reference.max_pool(np.array(values), (len(values),), padding=len(values) - 1, stride=len(values) - 1)
    np.testing.assert_array_equal(out[1], expected)
    assert indices[1] == index


def test_padding_does_not_tie_with_the_least_value() -> None:
    for dtype, lowest in (("uint8", 0), ("int64", -(2**63)), ("bool", False)):
        out, indices = reference.max_pool(np.full(3, lowest, dtype), (2,), 1, 1)
        assert out.tolist() == [lowest] * 4
        assert indices.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "lowest"), [("float32", -INF), ("int8", -128), ("uint64", 0), ("int64", -(2**63)), ("bool", False)]
)
def test_window_without_input(dtype: str, lowest: Any) -> None:
    x = np.ones((1, 6, 1, 1), dtype)
    out, indices = reference.max_pool(x, (2, 2), 1, 1, 2)
    assert_same(out, np.full((1, 6, 1, 1), lowest, dtype))
    assert_same(indices, np.full((1, 6, 1, 1), -1))
    if dtype != "bool":
        assert_same(reference.avg_pool(x, (2, 2), 1, 1, dilation=2, count_include_pad=False), np.zeros_like(x))
    if dtype == "float32":
        assert_same(reference.max_pool_backward(np.ones_like(x), x, (2, 2), 1, 1, 2), np.zeros_like(x))
        assert_same(reference.avg_pool_backward(np.ones_like(x), x, (2, 2), 1, 1, dilation=2), np.zeros_like(x))


def test_average_counts() -> None:
    x = np.array([4.0, 8.0, 12.0])
    # The windows are (pad 4) (8 12), and at kernel 3 (pad 4 8) (8 12 pad).
    assert reference.avg_pool(x, (2,), 2, 1).tolist() == [2.0, 10.0]
    assert reference.avg_pool(x, (2,), 2, 1, count_include_pad=False).tolist() == [4.0, 10.0]
    assert reference.avg_pool(x, (3,), 2, 1).tolist() == [4.0, 20 / 3]
    # What overhangs never counts, padding does: (4 8) (12), and (pad 4 8) (12 pad).
    assert reference.avg_pool(x, (2,), 2, ceil_mode=True).tolist() == [6.0, 12.0]
    assert reference.avg_pool(x, (3,), 3, 1, ceil_mode=True).tolist() == [4.0, 6.0]
    assert reference.avg_pool(x, (3,), 3, 1, ceil_mode=True, count_include_pad=False).tolist() == [6.0, 12.0]
    # An override divides partial windows too.
    assert reference.avg_pool(x, (3,), 3, 1, ceil_mode=True, divisor_override=-2).tolist() == [-6.0, -6.0]


def test_integer_average_is_c_division_of_a_wrapped_sum() -> None:
    assert reference.avg_pool(np.array([-3, -4, 3, 4]), (2,)).tolist() == [-3, 3]
    assert reference.avg_pool(np.array([-3, -4], np.int8), (2,), divisor_override=-2).tolist() == [3]
    assert reference.avg_pool(np.array([200, 250], np.uint8), (2,)).tolist() == [225]
    assert reference.avg_pool(np.array([200, 250], np.uint8), (2,), divisor_override=1).tolist() == [450 - 256]
    assert reference.avg_pool(np.array([2**63 - 1, 1]), (2,)).tolist() == [-(2**62)]
    assert reference.avg_pool(np.array([2**64 - 1, 3], np.uint64), (2,)).tolist() == [1]


def test_average_of_what_is_not_finite() -> None:
    x = np.array([1.0, 2.0, NAN, 3.0, 4.0, INF, 5.0, -INF, 6.0])
    expected = [1.5, NAN, NAN, 3.5, INF, INF, -INF, -INF]
    np.testing.assert_array_equal(reference.avg_pool(x, (2,), 1), expected)
    np.testing.assert_array_equal(reference.avg_pool(x[5:8], (3,)), [NAN])


def test_gradients_add_up_where_windows_overlap() -> None:
    x = np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    gradient = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert reference.max_pool_backward(gradient, x, (2, 2), 1).tolist() == [[0, 0, 0], [0, 10, 0], [0, 0, 0]]
    chosen = np.array([[0, 8], [-1, 0]])
    assert reference.max_pool_backward(gradient, x, (2, 2), 1, indices=chosen).tolist() == [
        [5, 0, 0],
        [0] * 3,
        [0, 0, 2],
    ]
    expected = [[0.25, 0.75, 0.5], [1.0, 2.5, 1.5], [0.75, 1.75, 1.0]]
    assert reference.avg_pool_backward(gradient, x, (2, 2), 1).tolist() == expected


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
def test_gradient_of_a_true_norm_against_torch(torch: Any, power: float) -> None:
    """At 0, too, where a magnitude has a corner and its root no derivative."""
    x = np.array([[0.0, 2.0, -3.0], [0.0, 0.0, 0.0]])
    leaf = torch.tensor(x, requires_grad=True)
    torch.linalg.vector_norm(leaf, power, 1).sum().backward()
    actual = reference.lp_pool_backward(np.ones((2, 1)), x, power, (3,), true_norm=True)
    np.testing.assert_allclose(actual, leaf.grad.numpy(), rtol=1e-14)


def test_any_rank() -> None:
    x = np.arange(2 * 3 * 2 * 2 * 2 * 2).reshape(2, 3, 2, 2, 2, 2)
    out, indices = reference.max_pool(x, 2, rank=4)
    assert_same(out, x[:, :, 1:, 1:, 1:, 1:])
    assert_same(indices, np.full((2, 3, 1, 1, 1, 1), 15))
    assert reference.max_pool(x[:0], 2, rank=4)[0].shape == (0, 3, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="Output size is too small"):
        reference.max_pool(x, 3, rank=4)


# torch --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


def torch_takes(case: Case) -> bool:
    """Equal padding on both sides, half the kernel at most, and input in every window: elsewhere torch has no rule."""
    if isinstance(case.padding, str) or np.ndim(case.padding) == 2:
        return False
    if np.any(2 * np.array(case.padding) > np.array(case.kernel_size)):
        return False
    _, indices = reference.max_pool(np.zeros(case.shape, bool), **case.max_arguments, rank=case.rank)
    return bool((indices != -1).all())


def torch_averages(case: Case) -> bool:
    """Without dilation; 1-d without divisor_override, and 3-d with input no smaller than the kernel."""
    is_small = case.rank == 3 and np.any(np.array(case.shape[2:]) < np.array(case.kernel_size))
    return case.dilation == 1 and not is_small and not (case.rank == 1 and case.divisor_override)


TORCH_CASES = [case for case in CASES if torch_takes(case)]


def check_max_against_torch(torch: Any, case: Case, x: Array) -> None:
    leaf = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    function = getattr(torch.nn.functional, f"max_pool{case.rank}d")
    values, positions = function(leaf, **case.max_arguments | {"stride": case.stride or None}, return_indices=True)
    out, indices = reference.max_pool(x, **case.max_arguments, rank=case.rank)
    assert_same(out, values.detach().numpy())
    assert_same(indices, positions.numpy())
    if leaf.requires_grad:
        gradient = spread_values(out.shape, str(x.dtype), seed=1)
        values.backward(torch.from_numpy(gradient))
        actual = reference.max_pool_backward(gradient, x, **case.max_arguments, rank=case.rank)
        magnitude = reference.max_pool_backward(np.abs(gradient), x, **case.max_arguments, rank=case.rank)
        assert_sums(leaf.grad.numpy(), actual, magnitude, taps(case))


def check_avg_against_torch(torch: Any, case: Case, x: Array) -> None:
    leaf = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    function = getattr(torch.nn.functional, f"avg_pool{case.rank}d")
    arguments = case.avg_arguments | {"stride": case.stride or None}
    del arguments["dilation"]
    if case.rank == 1:
        del arguments["divisor_override"]
    values = function(leaf, **arguments)
    out = reference.avg_pool(x, **case.avg_arguments, rank=case.rank)
    if x.dtype.kind == "i":
        assert_same(out, values.numpy())
        return
    magnitude = reference.avg_pool(np.abs(x), **case.avg_arguments, rank=case.rank)
    assert_sums(values.detach().numpy(), out, np.abs(magnitude), taps(case))
    gradient = spread_values(out.shape, str(x.dtype), seed=1)
    values.backward(torch.from_numpy(gradient))
    actual = reference.avg_pool_backward(gradient, x, **case.avg_arguments, rank=case.rank)
    magnitude = reference.avg_pool_backward(np.abs(gradient), x, **case.avg_arguments, rank=case.rank)
    assert_sums(leaf.grad.numpy(), actual, np.abs(magnitude), taps(case))


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_max_against_torch(torch: Any, case: Case) -> None:
    for dtype in ("float32", "float64", "int64", "uint8"):
        check_max_against_torch(torch, case, tied_values(case.shape, dtype))


@pytest.mark.parametrize("case", list(filter(torch_averages, TORCH_CASES)), ids=str)
def test_avg_against_torch(torch: Any, case: Case) -> None:
    for dtype in ("float32", "float64", "int64"):
        check_avg_against_torch(torch, case, spread_values(case.shape, dtype))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
def test_every_small_axis_against_torch(torch: Any, kernel_size: int, stride: int, ceil_mode: bool) -> None:
    for length, padding, dilation in product(range(1, 10), range(kernel_size // 2 + 1), (1, 2, 3)):
        shape = (1, 2, length)
        case = Case("swept", shape, kernel_size, stride, padding, dilation, ceil_mode)
        if padding + length + padding + (stride - 1 if ceil_mode else 0) <= dilation * (kernel_size - 1):
            with pytest.raises(ValueError, match="Output size is too small"):
                reference.max_pool(np.zeros(shape), **case.max_arguments, rank=1)
            continue
        # Before `torch_takes`, which asks the reference: a window too many without input would be none of its cases.
        theirs = torch.nn.functional.max_pool1d(torch.zeros(shape), kernel_size, stride, padding, dilation, ceil_mode)
        assert reference.max_pool(np.zeros(shape), **case.max_arguments, rank=1)[0].shape == tuple(theirs.shape)
        if torch_takes(case):
            check_max_against_torch(torch, case, tied_values(shape, "float64"))
            if dilation == 1:
                check_avg_against_torch(torch, case, spread_values(shape, "float64"))
                check_avg_against_torch(torch, replace(case, count_include_pad=False), spread_values(shape, "float64"))


# onnxruntime --------------------------------------------------------------------------------------


def run_onnx(operator: str, case: Case, x: Array, **attributes: Any) -> list[Array]:
    """One ONNX node on `x`; its pads are all those before, then all those behind."""

    def per_axis(value: Any) -> list[Any]:
        return [value] * case.rank if isinstance(value, int) else list(value)

    if isinstance(case.padding, str):
        attributes["auto_pad"] = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}[case.padding]
    else:
        pairs = [(each, each) if isinstance(each, int) else each for each in per_axis(case.padding)]
        attributes["pads"] = [before for before, _ in pairs] + [after for _, after in pairs]
    return run_onnx_node(
        operator,
        x,
        opset=19,
        outputs=2 if operator == "MaxPool" else 1,
        kernel_shape=per_axis(case.kernel_size),
        strides=per_axis(case.stride or case.kernel_size),
        dilations=per_axis(case.dilation),
        ceil_mode=int(case.ceil_mode),
        **attributes,
    )


def onnx_takes(case: Case) -> bool:
    """Less padding than kernel, and input in every window; automatic padding only without dilation, which it ignores."""
    if isinstance(case.padding, str) and case.dilation != 1:
        return False
    if isinstance(case.padding, tuple) and np.ndim(case.padding) == 2:
        beyond = np.array(case.padding).max(axis=1) >= np.array(case.kernel_size)
    else:
        beyond = not isinstance(case.padding, str) and np.array(case.padding) >= np.array(case.kernel_size)
    _, indices = reference.max_pool(np.zeros(case.shape, bool), **case.max_arguments, rank=case.rank)
    return not np.any(beyond) and bool((indices != -1).all())


ONNX_CASES = [case for case in CASES if onnx_takes(case) and (not torch_takes(case) or case.dilation != 1)]


@pytest.mark.parametrize("case", ONNX_CASES, ids=str)
def test_max_against_onnxruntime(case: Case) -> None:
    x = tied_values(case.shape, "float32")
    x[np.isnan(x)] = 7.0  # onnxruntime does not propagate NaN
    values, positions = run_onnx("MaxPool", case, x)
    out, indices = reference.max_pool(x, **case.max_arguments, rank=case.rank)
    assert_same(out, values)
    planes = np.arange(math.prod(x.shape[:2])).reshape(x.shape[:2] + (1,) * case.rank)
    assert_same(indices + planes * math.prod(x.shape[2:]), positions)  # ONNX counts through all planes


@pytest.mark.parametrize("case", ONNX_CASES, ids=str)
def test_avg_against_onnxruntime(case: Case) -> None:
    case = replace(case, divisor_override=None)
    x = spread_values(case.shape, "float32")
    (values,) = run_onnx("AveragePool", case, x, count_include_pad=int(case.count_include_pad))
    out = reference.avg_pool(x, **case.avg_arguments, rank=case.rank)
    assert_sums(values, out, reference.avg_pool(np.abs(x), **case.avg_arguments, rank=case.rank), taps(case))
