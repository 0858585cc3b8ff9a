"""Max pooling, forward and backward, by its public functions: against the reference, and by rules one at a time."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbapool
from numbapool import reference
from tests.cases import CASES, Case
from tests.checks import (
    FLOATS,
    INTEGERS,
    Array,
    assert_same,
    assert_sums,
    channels_last,
    in_order,
    public,
    spread_values,
    taps,
    tied_values,
)
from tests.conftest import ArrayKind

DTYPES = (*FLOATS, *INTEGERS, "bool")
NAN, INF = math.nan, math.inf


@cache
def forward_by_reference(case: Case, dtype: str) -> tuple[Array, Array, Array]:
    """Input, output and indices."""
    x = tied_values(case.shape, dtype)
    return x, *reference.max_pool(x, **case.max_arguments, rank=case.rank)


@cache
def backward_by_reference(case: Case, dtype: str) -> tuple[Array, Array, Array]:
    """Gradient of the output, gradient of the input, and the sum of the magnitudes of its terms."""
    x, out, indices = forward_by_reference(case, dtype)
    grad_output = spread_values(out.shape, dtype, seed=1)
    grad_input, magnitude = (
        reference.max_pool_backward(gradient, x, **case.max_arguments, rank=case.rank, indices=indices)
        for gradient in (grad_output, np.abs(grad_output))
    )
    return grad_output, grad_input, magnitude


def check(x: Array, kernel_size: Any, *args: Any, rank: int = 2, **kwargs: Any) -> tuple[Array, Array]:
    """The public function on `x`, with and without indices, compared with the reference; returns its result."""
    function = public("max_pool", rank)
    out, indices = function(x, kernel_size, *args, **kwargs, return_indices=True)
    expected, expected_indices = reference.max_pool(x, kernel_size, *args, **kwargs, rank=rank)
    assert_same(out, expected)
    assert_same(indices, expected_indices)
    assert_same(function(x, kernel_size, *args, **kwargs), expected)
    return out, indices


# Every geometry, dtype and kind of array -------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_of_every_dtype(case: Case, dtype: str) -> None:
    x, expected, expected_indices = forward_by_reference(case, dtype)
    function = public("max_pool", case.rank)
    out, indices = function(x, **case.max_arguments, return_indices=True)
    assert_same(out, expected)
    assert_same(indices, expected_indices)
    assert_same(function(x, **case.max_arguments), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(backend: ArrayKind, case: Case, dtype: str) -> None:
    plain, expected, expected_indices = forward_by_reference(case, dtype)
    x = backend.from_numpy(plain)
    function = public("max_pool", case.rank)
    out, indices = function(x, **case.max_arguments, return_indices=True)
    assert type(out) is type(indices) is type(x)
    assert_same(backend.to_numpy(out), expected)
    assert_same(backend.to_numpy(indices), expected_indices)
    assert_same(backend.to_numpy(function(x, **case.max_arguments)), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward(backend: ArrayKind, case: Case, dtype: str) -> None:
    plain, _, plain_indices = forward_by_reference(case, dtype)
    grad_output, expected, magnitude = backward_by_reference(case, dtype)
    gradient, x, indices = map(backend.from_numpy, (grad_output, plain, plain_indices))
    function = public("max_pool_backward", case.rank)
    recomputed = function(gradient, x, **case.max_arguments)
    saved = function(gradient, x, **case.max_arguments, indices=indices)
    assert type(recomputed) is type(saved) is type(x)
    assert_sums(backend.to_numpy(recomputed), expected, magnitude, taps(case))
    # The sums run in one fixed order.
    np.testing.assert_array_equal(backend.to_numpy(saved), backend.to_numpy(recomputed), strict=True)


# Values ----------------------------------------------------------------------------------------------------------

# Small windows with and without overlap, long ones at stride 1 and above, and dilated ones.
WINDOWS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 13), "stride": 1, "padding": (1, 6)},
    {"kernel_size": (2, 9), "stride": (1, 4), "padding": (0, 5)},
    {"kernel_size": (2, 4), "stride": (1, 2), "padding": (1, 3), "dilation": (1, 3)},
)
window = pytest.mark.parametrize("arguments", WINDOWS, ids=lambda each: "-".join(map(str, each.values())))


@pytest.mark.parametrize("dtype", DTYPES)
@window
def test_constant_input_gives_the_first_element(arguments: dict[str, Any], dtype: str) -> None:
    values: list[Any] = [0, 1]
    if dtype in INTEGERS:
        values += [np.iinfo(dtype).min, np.iinfo(dtype).max]  # the least integer, and unsigned zeros, beside padding
    elif dtype in FLOATS:
        values += [-INF, INF, -0.0, np.finfo(dtype).min]
    for value in values:
        check(np.full((1, 2, 9, 25), value, dtype), **arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@window
def test_one_different_element(arguments: dict[str, Any], dtype: str) -> None:
    low, high = (-INF, -1e30) if dtype in FLOATS else (False, True)
    if dtype in INTEGERS:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).min + 1
    x = np.full((27, 1, 3, 9), low, dtype)
    x.reshape(27, 27)[range(27), range(27)] = high
    check(x, **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@window
def test_every_pair_of_nans(arguments: dict[str, Any], dtype: str) -> None:
    pairs = [(first, second) for first in range(26) for second in range(first + 1, 26)]
    x = tied_values((len(pairs), 1, 2, 13), dtype)
    x[np.isnan(x)] = INF
    for plane, pair in zip(x.reshape(len(pairs), 26), pairs):
        plane[list(pair)] = NAN
    check(x, **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nans_of_any_sign_and_payload(dtype: str) -> None:
    bits = {"float32": "uint32", "float64": "uint64"}[dtype]
    quiet = int(np.array(NAN, dtype).view(bits))
    sign = (np.iinfo(bits).max + 1) // 2
    nans = np.array([quiet, quiet | sign, quiet | 1, quiet | sign | 12345], bits).view(dtype)
    rng = np.random.default_rng(0)
    x = rng.choice(np.concatenate([nans, np.array([0.0, 1.0, INF, -INF], dtype)]), (2, 3, 9, 25))
    for arguments in WINDOWS:
        check(x, **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_of_either_sign_are_equal(dtype: str) -> None:
    x = np.array([[[-0.0, 0.0, -0.0, -1.0, 0.0, -0.0]]], dtype)
    for kernel_size in range(1, 7):
        _, indices = check(x, kernel_size, 1, rank=1)
        assert indices[0, 0, 0] == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_subnormals_are_not_flushed(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.tile(np.array([0.0, tiny, -tiny, 2 * tiny, -0.0], dtype), (1, 1, 4, 9))
    for arguments in WINDOWS:
        check(x, **arguments)


@pytest.mark.full  # test_rare_dtypes.py has the extremes of these dtypes and their neighbours
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_that_no_float64_can_tell_apart(dtype: str) -> None:
    top = int(np.iinfo(dtype).max)
    x = np.array([top - 2, top, top - 1, 2**53 + 1, 2**53, 2**53 + 2] * 7, dtype).reshape(1, 1, 3, 14)
    for arguments in WINDOWS:
        check(x, **arguments)


def test_bool_is_any() -> None:
    x = np.random.default_rng(0).random((2, 3, 8, 10)) < 0.2
    expected: Array = np.any(x.reshape(2, 3, 4, 2, 5, 2), axis=(3, 5))
    assert_same(public("max_pool", 2)(x, 2), expected)


@pytest.mark.parametrize("width", range(1, 71))
def test_every_width_and_place_of_nan(width: int) -> None:
    """No column may fall between the vector body of a loop and its scalar tail."""
    x = tied_values((width, 1, 2, width), "float64", seed=width)
    x[np.isnan(x)] = 5.0
    x[range(width), 0, width % 2, range(width)] = NAN  # plane i has it in column i
    for arguments in (*WINDOWS[:3], {"kernel_size": (1, min(width, 7)), "stride": 1}):
        arguments = arguments | {"ceil_mode": True}  # so that the narrowest have a window
        expected, expected_indices = reference.max_pool(x, **arguments, rank=2)
        for dtype in FLOATS:
            out, indices = public("max_pool", 2)(x.astype(dtype), **arguments, return_indices=True)
            assert_same(out, expected.astype(dtype))
            assert_same(indices, expected_indices)
            assert_same(public("max_pool", 2)(x.astype(dtype), **arguments), expected.astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "bool"])
def test_every_width_of_integers(dtype: str) -> None:
    """Their vectors hold up to 64 elements."""
    for width in range(1, 71):
        x = tied_values((2, 1, 2, width), dtype, seed=width)
        for arguments in WINDOWS[:3]:
            check(x, **arguments | {"ceil_mode": True})


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 8, 9, 16, 17])
def test_every_width_of_long_windows(kernel_size: int, stride: int) -> None:
    for width in range(kernel_size, 71, 1 if stride == 1 else 5):
        x = tied_values((2, 2, width), "float32", seed=width)
        check(x, kernel_size, stride, kernel_size // 2, rank=1)


# Gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_planes_narrower_than_a_vector(kernel_size: int, stride: int, dtype: str) -> None:
    """Many rows of the result fit a vector, and the last of them may not write beyond the end."""
    for width in range(1, 7):
        for height in (3, 8):
            x, padding = spread_values((1, 1, height, width), dtype), kernel_size // 2
            check(x, kernel_size, stride, padding)
            check(x, (1, kernel_size), stride, (0, padding))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_goes_to_the_first_of_equals_and_the_last_nan(dtype: str) -> None:
    backward = public("max_pool_backward", 1)
    gradient = np.array([[[8.0]]], dtype)
    for values, expected in (
        ([3, 5, 5, 4], [0, 8, 0, 0]),
        ([-0.0, 0.0, 0.0, -0.0], [8, 0, 0, 0]),
        ([-INF, -INF, -INF, -INF], [8, 0, 0, 0]),
        ([NAN, 1, NAN, INF], [0, 0, 8, 0]),
    ):
        assert_same(backward(gradient, np.array([[values]], dtype), 4), np.array([[expected]], dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_that_is_not_finite_stays_where_it_belongs(dtype: str) -> None:
    x = np.array([[[1, 2, 3, 9, 4, 5, 6, 0]]], dtype)
    gradient = np.array([[[0, 1, INF, -INF, NAN, 1, 1]]], dtype)
    expected = np.array([[[0, 0, 1, NAN, 0, NAN, 2, 0]]], dtype)
    assert_same(public("max_pool_backward", 1)(gradient, x, 2, 1), expected)


def test_saved_indices_decide() -> None:
    """With `indices` the values of `x` are not looked at; -1 means no gradient."""
    x = np.full((1, 2, 4, 4), NAN)
    gradient = np.array([[[[1.0, 2.0], [4.0, 8.0]], [[16.0, 32.0], [64.0, 128.0]]]])
    indices = np.array([[[[0, 0], [-1, 15]], [[-1, -1], [-1, 3]]]])
    expected = np.zeros(x.shape)
    expected[0, 0, 0, 0], expected[0, 0, 3, 3], expected[0, 1, 0, 3] = 3.0, 8.0, 128.0
    assert_same(public("max_pool_backward", 2)(gradient, x, 2, indices=indices), expected)


# Memory ----------------------------------------------------------------------------------------------------------


def test_out() -> None:
    x = tied_values((2, 3, 12, 40), "float32")
    expected, expected_indices = reference.max_pool(x, 3, 2, 1, rank=2)
    out, indices = np.full_like(expected, 99.0), np.full_like(expected_indices, 99)
    assert public("max_pool", 2)(x, 3, 2, 1, out=out) is out
    assert_same(out, expected)
    out[...] = 99.0
    both = public("max_pool", 2)(x, 3, 2, 1, return_indices=True, out=(out, indices))
    assert both[0] is out
    assert both[1] is indices
    assert_same(out, expected)
    assert_same(indices, expected_indices)


def test_out_of_any_layout(backend: ArrayKind) -> None:
    """Written through its strides; a read-only one is refused."""
    x = tied_values((2, 3, 12, 40), "float64")
    expected, expected_indices = reference.max_pool(x, 3, 2, 1, rank=2)
    out, indices = backend.from_numpy(np.zeros_like(expected)), backend.from_numpy(np.zeros_like(expected_indices))
    given = x if backend.library == "numpy" else backend.from_numpy(x)
    if refusal := backend.refuses_out:
        with pytest.raises(refusal, match="out"):
            public("max_pool", 2)(given, 3, 2, 1, out=out)
        return
    both = public("max_pool", 2)(given, 3, 2, 1, return_indices=True, out=(out, indices))
    assert both[0] is out
    assert both[1] is indices
    assert_same(backend.to_numpy(out), expected)
    assert_same(backend.to_numpy(indices), expected_indices)


def test_out_is_reused() -> None:
    """Nothing of an earlier call is left, in windows without input either, and gradients do not add to what was there."""
    arguments: dict[str, Any] = {"kernel_size": 2, "stride": 2, "padding": (5, 3)}
    gradient, grad_input = np.ones((2, 3, 8, 13)), np.empty((2, 3, 6, 20))
    out, indices = np.empty(gradient.shape), np.empty(gradient.shape, np.int64)
    for seed in range(3):
        x = tied_values((2, 3, 6, 20), "float64", seed)
        expected, expected_indices = reference.max_pool(x, **arguments, rank=2)
        public("max_pool", 2)(x, **arguments, return_indices=True, out=(out, indices))
        assert_same(out, expected)
        assert_same(indices, expected_indices)
        for saved in (None, indices):
            result = public("max_pool_backward", 2)(gradient, x, **arguments, indices=saved, out=grad_input)
            assert result is grad_input
            assert_same(grad_input, reference.max_pool_backward(gradient, x, **arguments, rank=2))


@pytest.mark.parametrize("offset", [0, 1, 7, 40, 600])
def test_out_that_overlaps_the_input(offset: int) -> None:
    memory = tied_values((2000,), "float32")
    x = memory[:1200].reshape(1, 3, 20, 20)
    expected, _ = reference.max_pool(x, 3, 1, 1, rank=2)
    out = memory[offset : offset + 1200].reshape(expected.shape)
    public("max_pool", 2)(x, 3, 1, 1, out=out)
    assert_same(out, expected)


def test_backward_out_that_overlaps_its_inputs() -> None:
    x, gradient = spread_values((1, 2, 6, 20), "float64"), spread_values((1, 2, 6, 20), "float64", seed=1)
    backward = public("max_pool_backward", 2)
    expected = backward(gradient, x, 3, 1, 1)
    _, indices = reference.max_pool(x, 3, 1, 1, rank=2)
    for overlapped in range(3):
        arrays = [gradient.copy(), x.copy(), indices.copy()]
        out = arrays[overlapped].view(np.float64)
        assert_same(backward(*arrays[:2], 3, 1, 1, indices=arrays[2], out=out), expected)
    for overlapped in range(2):
        arrays = [gradient.copy(), x.copy()]
        assert_same(backward(*arrays, 3, 1, 1, out=arrays[overlapped]), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched(rank: int) -> None:
    x = tied_values((3, 4, 5, 6)[: rank + 1], "float32")
    out, indices = check(x, 2, 1, rank=rank)
    gradient = spread_values(out.shape, "float32")
    backward = public("max_pool_backward", rank)
    expected = backward(gradient[None], x[None], 2, 1)[0]
    assert_same(backward(gradient, x, 2, 1), expected)
    assert_same(backward(gradient, x, 2, 1, indices=indices), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_empty_batch(rank: int) -> None:
    x = np.empty((0, 3, 4, 5, 6)[: rank + 2], np.float32)
    out, indices = public("max_pool", rank)(x, 2, 1, return_indices=True)
    assert out.shape == indices.shape == (0, 3, 3, 4, 5)[: rank + 2]
    assert (out.dtype, indices.dtype) == (np.float32, np.int64)
    assert_same(public("max_pool_backward", rank)(out, x, 2, 1, indices=indices), x)
    assert_same(public("max_pool_backward", rank)(out, x, 2, 1), x)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)], ids=str)
def test_broadcast_input_and_gradient(axes: tuple[int, ...]) -> None:
    shape = tuple(1 if axis in axes else length for axis, length in enumerate((3, 4, 7, 20)))
    x = np.broadcast_to(tied_values(shape, "float64"), (3, 4, 7, 20))
    out, indices = check(x, 3, 1, 1)
    gradient = np.broadcast_to(spread_values(shape, "float64"), out.shape)
    expected = reference.max_pool_backward(gradient, x, 3, 1, 1, rank=2)
    magnitude = reference.max_pool_backward(np.abs(gradient), x, 3, 1, 1, rank=2)
    assert_sums(public("max_pool_backward", 2)(gradient, x, 3, 1, 1), expected, magnitude, 9)
    assert_sums(public("max_pool_backward", 2)(gradient, x, 3, 1, 1, indices=indices), expected, magnitude, 9)


def test_strides_that_are_no_multiple_of_the_element() -> None:
    """A field of packed records."""
    records = np.zeros((2, 3, 6, 20), np.dtype([("tag", np.int8), ("value", np.float64)]))
    records["value"] = tied_values(records.shape, "float64")
    check(records["value"], 3, 2, 1)


def test_input_is_left_alone(backend: ArrayKind) -> None:
    plain = tied_values((2, 3, 7, 20), "float32")
    x, gradient = backend.from_numpy(plain), backend.from_numpy(np.ones_like(plain))
    _, indices = public("max_pool", 2)(x, 3, 1, 1, return_indices=True)
    public("max_pool_backward", 2)(gradient, x, 3, 1, 1, indices=indices)
    public("max_pool_backward", 2)(gradient, x, 3, 1, 1)
    np.testing.assert_array_equal(backend.to_numpy(x), plain)
    np.testing.assert_array_equal(backend.to_numpy(gradient), 1.0)


# torch -----------------------------------------------------------------------------------------------------------


@st.composite
def torch_calls(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """An input of 1 to 3 pooled axes, and arguments that torch takes and has a rule for."""
    rank = draw(st.integers(1, 3))
    arguments: dict[str, list[int]] = {"kernel_size": [], "stride": [], "padding": [], "dilation": []}
    ceil_mode = draw(st.booleans())
    lengths = []
    for _ in range(rank):
        kernel = draw(st.integers(1, 5))
        padding = draw(st.integers(0, kernel // 2))
        # A tap lies in the input wherever the window starts, if the steps between taps are no longer than the input.
        length = draw(st.integers(1, 40 if rank == 1 else 12))
        dilation = draw(st.integers(1, max(1, min(3, length))))
        length = max(length, dilation * (kernel - 1) + 1 - 2 * padding)
        lengths.append(length)
        for name, value in zip(arguments, (kernel, draw(st.integers(1, 4)), padding, dilation)):
            arguments[name].append(value)
    leading = draw(st.sampled_from([(1,), (3,), (1, 1), (2, 3), (2, 9)]))
    dtype = draw(st.sampled_from(FLOATS if rank == 1 else ("float32", "float64", "int64", "uint8")))
    values = draw(st.sampled_from([tied_values, spread_values]))
    x = draw(st.sampled_from([in_order, channels_last]))(
        values((*leading, *lengths), dtype, draw(st.integers(0, 2**16))), rank
    )
    return x, {name: tuple(value) for name, value in arguments.items()} | {"ceil_mode": ceil_mode}


def check_against_torch(x: Array, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rank = len(arguments["kernel_size"])
    # In C order: with channels last and no batch axis torch finds the least value of a dtype at position 0 of a volume.
    leaf = torch.tensor(np.ascontiguousarray(x), requires_grad=x.dtype.kind == "f")
    values, positions = getattr(torch.nn.functional, f"max_pool{rank}d")(leaf, **arguments, return_indices=True)
    out, indices = public("max_pool", rank)(x, **arguments, return_indices=True)
    assert_same(out, values.detach().numpy())
    assert_same(indices, positions.numpy())
    assert_same(public("max_pool", rank)(x, **arguments), out)
    if leaf.requires_grad:
        gradient = spread_values(out.shape, str(x.dtype))
        values.backward(torch.from_numpy(gradient))
        magnitude = reference.max_pool_backward(np.abs(gradient), x, **arguments)
        terms = math.prod(arguments["kernel_size"])
        for saved in (None, indices):
            actual = public("max_pool_backward", rank)(gradient, x, **arguments, indices=saved)
            assert_sums(actual, leaf.grad.numpy(), magnitude, terms)


@given(torch_calls())
@settings(max_examples=200)
def test_against_torch(call: tuple[Array, dict[str, Any]]) -> None:
    check_against_torch(*call)


@pytest.mark.full
@given(torch_calls())
@settings(max_examples=10_000)
def test_against_torch_at_length(call: tuple[Array, dict[str, Any]]) -> None:
    check_against_torch(*call)


# Tiles and work arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "dilation"), [(5, 1), (3, 7), (13, 1)])
def test_tiles_of_several_rows(kernel: int, dilation: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 60, 2056), dtype=np.float32)
    span = (kernel - 1) * dilation + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (span, span), (2, 3))[..., ::dilation, ::dilation]
    out, indices = numbapool.max_pool2d(x, kernel, 1, 0, dilation, return_indices=True)
    np.testing.assert_array_equal(numbapool.max_pool2d(x, kernel, 1, 0, dilation), windows.max((-2, -1)))
    np.testing.assert_array_equal(out, windows.max((-2, -1)))
    np.testing.assert_array_equal(x.ravel()[indices], out)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (7, 4)])
def test_gradients_of_large_planes(kernel: int, stride: int) -> None:
    """Several blocks of the input are owned by one unit of work each, and windows reach into two of them."""
    x = np.random.default_rng(0).standard_normal((1, 2, 330, 140), dtype=np.float32)
    window = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
    out, indices = numbapool.max_pool2d(x, **window, return_indices=True)
    gradient = np.random.default_rng(1).integers(-9, 9, out.shape).astype(np.float32)
    expected = np.zeros(x.shape, np.float32)
    for plane in range(2):
        np.add.at(expected[0, plane].reshape(-1), indices[0, plane].ravel(), gradient[0, plane].ravel())
    assert_same(numbapool.max_pool2d_backward(gradient, x, **window), expected)
    for kind in ("plane", "window"):
        _, given = numbapool.max_pool2d(x, **window, return_indices=True, index_kind=kind)
        assert_same(numbapool.max_pool2d_backward(gradient, x, **window, indices=given, index_kind=kind), expected)


def test_a_huge_dilation_needs_no_memory() -> None:
    x = np.random.default_rng(0).standard_normal((16, 1, 4, 4, 4), dtype=np.float32)
    out = numbapool.max_pool3d(x, (3, 1, 1), 1, ((10**9, 10**9), (0, 0), (0, 0)), (10**9, 1, 1))
    np.testing.assert_array_equal(out, x)


def test_many_slabs_of_padding_need_no_memory() -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 32, 64), dtype=np.float32)
    out = numbapool.max_pool3d(x, (200_000, 1, 1), 1, ((100_000, 99_999), (0, 0), (0, 0)))
    np.testing.assert_array_equal(out, np.broadcast_to(x.max(2, keepdims=True), x.shape))


class OwnRules(np.ndarray):
    """A subclass whose every way to another array is its own."""

    def _own(self, *_: object, **__: object) -> None:
        raise AssertionError("a rule of the subclass was asked for")

    reshape = transpose = ravel = astype = copy = __getitem__ = __setitem__ = _own  # type: ignore[assignment]
    __array_function__ = __array_ufunc__ = _own  # type: ignore[assignment]


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("subclass", [np.matrix, np.recarray, np.memmap, OwnRules])
def test_arrays_of_subclasses_are_taken_as_plain_ones(subclass: type[Array]) -> None:
    """A matrix is 2-d whatever is done with it; others may have rules that nobody knows."""
    plain = spread_values((4, 6), "float32")
    x, gradient = plain.view(subclass), plain[::2, ::2].copy().view(subclass)
    indices = (np.arange(24).reshape(4, 6) % 6).view(subclass)
    for call in (
        lambda x, *_: numbapool.pool(x, "max", 2),
        lambda x, *_: numbapool.pool(x, "max", 2, axes=(1, 0), return_indices=True, index_kind="global")[1],
        lambda x, *_: numbapool.max_pool1d(x, 2),
        lambda x, *_: numbapool.max_pool1d(x, 2, data_format="channels_last"),
        lambda x, g, _: numbapool.pool_backward(g, x, "max", 2),
        lambda x, _, i: numbapool.max_unpool1d(x, i, 1),
    ):
        result = call(x, gradient, indices)
        assert type(result) is np.ndarray
        assert_same(result, call(plain, np.asarray(gradient), np.asarray(indices)))
    out = np.zeros((2, 3), np.float32).view(subclass)
    assert numbapool.pool(x, "max", 2, out=out) is out
    assert_same(np.asarray(out), numbapool.pool(plain, "max", 2))
    out = np.zeros((4, 3), np.float32).view(subclass)
    assert numbapool.max_pool1d(x, 2, out=out) is out
    assert_same(np.asarray(out), numbapool.max_pool1d(plain, 2))


@pytest.mark.parametrize("dilation", [17, 33, 100])
def test_dilation_beyond_vectors_at_stride_2(dilation: int) -> None:
    x = np.random.default_rng(0).random((1, 2, 2000))
    values, indices = numbapool.max_pool1d(x, 2, 2, 0, dilation, return_indices=True)
    starts = np.arange(values.shape[-1]) * 2
    first, second = x[..., starts], x[..., starts + dilation]
    np.testing.assert_array_equal(values, np.maximum(first, second))
    np.testing.assert_array_equal(indices, np.where(second > first, starts + dilation, starts))


@pytest.mark.parametrize("operation", ["max_pool2d", "min_pool2d", "avg_pool2d", "sum_pool2d"])
def test_a_huge_dilation_times_a_row_is_beyond_64_bits(operation: str) -> None:
    """Of the two taps of a window the first is in the padding."""
    x = np.arange(24.0).reshape(1, 1, 2, 12)
    far = 2**60
    window = {"kernel_size": (2, 1), "stride": 1, "padding": ((far, 0), (0, 0)), "dilation": (far, 1)}
    expected = x / 2 if operation == "avg_pool2d" else x
    np.testing.assert_array_equal(getattr(numbapool, operation)(x, **window), expected)
