"""Average pooling, forward and backward, by its public functions: against the reference, and by rules one at a time."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbapool
from numbapool import reference, windows
from numbapool.kernels.cpu.taps import taps_along
from tests.cases import CASES, Case
from tests.checks import (
    FLOATS,
    INTEGERS,
    Array,
    assert_same,
    assert_sums,
    channels_last,
    count_taps,
    in_order,
    out_shape,
    public,
    spread_values,
    taps,
)
from tests.conftest import ArrayKind

NAN, INF = math.nan, math.inf


@cache
def forward_by_reference(case: Case, dtype: str) -> tuple[Array, Array, Array]:
    """Input, output, and the sum of the magnitudes of its terms."""
    x = spread_values(case.shape, dtype)
    out = reference.avg_pool(x, **case.avg_arguments, rank=case.rank)
    if dtype in INTEGERS:
        return x, out, out
    return x, out, np.abs(reference.avg_pool(np.abs(x), **case.avg_arguments, rank=case.rank))


@cache
def backward_by_reference(case: Case, dtype: str) -> tuple[Array, Array, Array, Array]:
    """Gradient of the output, input, gradient of the input, and the sum of the magnitudes of its terms."""
    x = np.full(case.shape, NAN, dtype)  # its values do not matter
    grad_output = spread_values(out_shape(case), dtype)
    grad_input, magnitude = (
        reference.avg_pool_backward(gradient, x, **case.avg_arguments, rank=case.rank)
        for gradient in (grad_output, np.abs(grad_output))
    )
    return grad_output, x, grad_input, np.abs(magnitude)


def check(x: Array, *args: Any, rank: int = 2, **kwargs: Any) -> Array:
    """The public function on `x`, compared with the reference; returns its result."""
    out: Array = public("avg_pool", rank)(x, *args, **kwargs)
    expected = reference.avg_pool(x, *args, **kwargs, rank=rank)
    if x.dtype.kind == "f":
        magnitude = np.abs(reference.avg_pool(np.abs(x), *args, **kwargs, rank=rank))
        kernel_size = args[0] if args else kwargs["kernel_size"]
        assert_sums(out, expected, magnitude, int(np.prod(np.broadcast_to(kernel_size, rank))))
    else:
        assert_same(out, expected)
    return out


def check_backward(gradient: Array, x: Array, kernel_size: int, *args: Any, rank: int = 2, **kwargs: Any) -> Array:
    """The public function, compared with the reference; returns its result."""
    grad_input: Array = public("avg_pool_backward", rank)(gradient, x, kernel_size, *args, **kwargs)
    expected, magnitude = (
        reference.avg_pool_backward(each, x, kernel_size, *args, rank=rank, **kwargs)
        for each in (gradient, np.abs(gradient))
    )
    assert_sums(grad_input, expected, np.abs(magnitude), kernel_size**rank)
    return grad_input


# Every geometry, dtype and kind of array -------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_of_every_integer(case: Case, dtype: str) -> None:
    x, expected, _ = forward_by_reference(case, dtype)
    assert_same(public("avg_pool", case.rank)(x, **case.avg_arguments), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(backend: ArrayKind, case: Case, dtype: str) -> None:
    plain, expected, magnitude = forward_by_reference(case, dtype)
    x = backend.from_numpy(plain)
    out = public("avg_pool", case.rank)(x, **case.avg_arguments)
    assert type(out) is type(x)
    if dtype in INTEGERS:
        assert_same(backend.to_numpy(out), expected)
    else:
        assert_sums(backend.to_numpy(out), expected, magnitude, taps(case))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward(backend: ArrayKind, case: Case, dtype: str) -> None:
    grad_output, plain, expected, magnitude = backward_by_reference(case, dtype)
    gradient, x = map(backend.from_numpy, (grad_output, plain))
    grad_input = public("avg_pool_backward", case.rank)(gradient, x, **case.avg_arguments)
    assert type(grad_input) is type(x)
    assert_sums(backend.to_numpy(grad_input), expected, magnitude, taps(case))


# Values ----------------------------------------------------------------------------------------------------------

# Small windows with and without overlap, long ones at stride 1 and above, and dilated ones.
WINDOWS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 13), "stride": 1, "padding": (1, 6)},
    {"kernel_size": (2, 9), "stride": (1, 4), "padding": (0, 5), "count_include_pad": False},
    {"kernel_size": (2, 4), "stride": (1, 2), "padding": (1, 3), "dilation": (1, 3), "count_include_pad": False},
    {"kernel_size": (2, 8), "stride": 1, "divisor_override": 3},
)
window = pytest.mark.parametrize("arguments", WINDOWS, ids=lambda each: "-".join(map(str, each.values())))


@pytest.mark.parametrize("dtype", FLOATS)
@window
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_stays_in_its_windows(arguments: dict[str, Any], dtype: str, value: float) -> None:
    x = np.tile(spread_values((2, 13), dtype), (26, 1, 1, 1))
    x.reshape(26, 26)[range(26), range(26)] = value
    check(x, **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@window
def test_infinities_of_both_signs(arguments: dict[str, Any], dtype: str) -> None:
    pairs = [(first, second) for first in range(26) for second in range(26) if first != second]
    x = np.tile(spread_values((2, 13), dtype), (len(pairs), 1, 1, 1))
    for plane, pair in zip(x.reshape(len(pairs), 26), pairs):
        plane[list(pair)] = INF, -INF
    check(x, **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
@window
def test_a_large_value_leaves_nothing_behind(arguments: dict[str, Any], dtype: str) -> None:
    """Windows next to it are as exact as any: nothing is added up and subtracted again."""
    x = np.tile(spread_values((2, 13), dtype), (26, 1, 1, 1))
    x.reshape(26, 26)[range(26), range(26)] = 1e30
    check(x, **arguments)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_average_of_equal_values_is_that_value(dtype: str) -> None:
    """To the last bit where the divisor is a power of two, and in every case for zeros."""
    for kernel_size, value in ((2, 0.1), (4, 1 / 3), (8, 1e-30), (3, 0.0), (5, -0.0)):
        x = np.full((1, 1, 16, 40), value, dtype)
        assert_same(public("avg_pool", 2)(x, kernel_size, 1), x[:, :, kernel_size - 1 :, kernel_size - 1 :])


@pytest.mark.parametrize("width", range(1, 71))
def test_every_width_and_place_of_nan(width: int) -> None:
    """No column may fall between the vector body of a loop and its scalar tail."""
    x = spread_values((width, 1, 2, width), "float64", seed=width).round(3)
    x[range(width), 0, width % 2, range(width)] = NAN  # plane i has it in column i
    for arguments in (*WINDOWS[:3], {"kernel_size": (1, min(width, 7)), "stride": 1}):
        for dtype in FLOATS:
            check(x.astype(dtype), **arguments | {"ceil_mode": True})  # so that the narrowest have a window


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint64"])
def test_every_width_of_integers(dtype: str) -> None:
    for width in range(1, 71):
        x = spread_values((2, 1, 2, width), dtype, seed=width)
        for arguments in WINDOWS[:3]:
            check(x, **arguments | {"ceil_mode": True})


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 8, 9, 16, 17])
def test_every_width_of_long_windows(kernel_size: int, stride: int) -> None:
    for width in range(kernel_size, 71, 1 if stride == 1 else 5):
        x = spread_values((2, 2, width), "float32", seed=width)
        out = check(x, kernel_size, stride, kernel_size // 2, rank=1)
        check_backward(spread_values(out.shape, "float32"), x, kernel_size, stride, kernel_size // 2, rank=1)


# Integers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
@window
def test_extremes(arguments: dict[str, Any], dtype: str) -> None:
    """Sums wrap in 64 bits and then, divided towards zero, in the dtype."""
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        check(np.full((1, 2, 9, 25), value, dtype), **arguments)
    rng = np.random.default_rng(0)
    check(
        rng.choice(np.array([limits.min, limits.min + 1, limits.max - 1, limits.max], dtype), (1, 2, 9, 25)),
        **arguments,
    )


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 1000, 2**31, 2**40, 2**63 - 1, -1, -2, -3, -(2**31), -(2**63) + 1])
def test_divisors(dtype: str, divisor: int) -> None:
    for seed in range(3):
        check(spread_values((1, 2, 6, 9), dtype, seed), 3, 1, 1, divisor_override=divisor)


def test_least_sum_over_minus_one() -> None:
    """The one quotient of 64-bit integers that is out of their range; a processor may trap on it."""
    x = np.array([[[-(2**62), -(2**62), 0, 0, 2**62, 2**62]]])
    expected = np.array([[[-(2**63), 0, -(2**63)]]])
    assert_same(public("avg_pool", 1)(x, 2, divisor_override=-1), expected)


def test_division_is_towards_zero() -> None:
    x = np.array([[[-3, -4, 3, 4, -1, 0, 1, 0]]])
    assert_same(public("avg_pool", 1)(x, 2), np.array([[[-3, 3, 0, 0]]]))
    assert_same(public("avg_pool", 1)(x, 2, divisor_override=-2), np.array([[[3, -3, 0, 0]]]))


def test_small_integers_are_summed_in_64_bits() -> None:
    x = np.full((1, 1, 300, 300), 127, np.int8)
    assert_same(public("avg_pool", 2)(x, 300), np.full((1, 1, 1, 1), 127, np.int8))
    assert_same(public("avg_pool", 2)(x.astype(np.int32) << 24, 300), np.full((1, 1, 1, 1), 127 << 24, np.int32))


def test_bool_is_refused() -> None:
    with pytest.raises(TypeError, match="bool"):
        public("avg_pool", 2)(np.ones((1, 1, 4, 4), bool), 2)


# Gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_gradient_that_is_not_finite_stays_in_its_window(dtype: str, value: float) -> None:
    x = np.zeros((16, 1, 4, 15), dtype)
    for kernel_size, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 2)):
        out = reference.avg_pool(x, kernel_size, stride, padding, rank=2)
        gradient = spread_values(out.shape, dtype)
        places = np.linspace(0, out[0].size - 1, 16).astype(int)
        gradient.reshape(16, -1)[range(16), places] = value
        check_backward(gradient, x, kernel_size, stride, padding, count_include_pad=False)


@pytest.mark.parametrize("width", range(1, 71))
def test_gradient_at_every_width(width: int) -> None:
    x = np.zeros((1, 2, 3, width), np.float32)
    for kernel_size, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1)):
        shape = reference.avg_pool(x, kernel_size, stride, padding, True, rank=2).shape
        check_backward(spread_values(shape, "float32", width), x, kernel_size, stride, padding, True)


# Memory ----------------------------------------------------------------------------------------------------------


def test_out(backend: ArrayKind) -> None:
    """Written through its strides, again and again, and handed back."""
    gradients = [spread_values((2, 3, 6, 20), "float64", seed) for seed in range(2)]
    out, grad_input = (
        backend.from_numpy(np.full((2, 3, 6, 20), 99.0)),
        backend.from_numpy(np.full((2, 3, 12, 40), 99.0)),
    )
    given = np.array if backend.library == "numpy" else backend.from_numpy
    if refusal := backend.refuses_out:
        x, gradient = given(np.ones((2, 3, 12, 40))), given(gradients[0])
        with pytest.raises(refusal, match="out"):
            public("avg_pool", 2)(x, 2, out=out)
        with pytest.raises(refusal, match="out"):
            public("avg_pool_backward", 2)(gradient, x, 2, out=grad_input)
        return
    for seed, gradient in enumerate(gradients):
        x = spread_values((2, 3, 12, 40), "float64", seed)
        assert public("avg_pool", 2)(given(x), 2, out=out) is out
        assert_same(backend.to_numpy(out), backend.to_numpy(public("avg_pool", 2)(given(x), 2)))
        check(x, 2)
        assert public("avg_pool_backward", 2)(given(gradient), given(x), 2, out=grad_input) is grad_input
        assert_same(backend.to_numpy(grad_input), check_backward(gradient, x, 2))


def test_out_is_reused_in_windows_without_input() -> None:
    out = np.full((1, 1, 9), 99.0)
    public("avg_pool", 1)(np.array([[[3.0, 6.0, 9.0]]]), 3, 1, 4, count_include_pad=False, out=out)
    assert_same(out, np.array([[[0, 0, 3, 4.5, 6, 7.5, 9, 0, 0]]]))


def test_input_without_window_has_no_gradient() -> None:
    """Between windows and after the last: zeros, over whatever `out` held."""
    out = np.full((1, 1, 9), 99.0)
    public("avg_pool_backward", 1)(np.array([[[4.0, 8.0]]]), np.zeros((1, 1, 9)), 2, 4, out=out)
    assert_same(out, np.array([[[2.0, 2, 0, 0, 4, 4, 0, 0, 0]]]))


@pytest.mark.parametrize("offset", [0, 1, 7, 40, 600])
def test_out_that_overlaps_the_input(offset: int) -> None:
    memory = spread_values((2000,), "float32")
    x = memory[:1200].reshape(1, 3, 20, 20)
    expected = public("avg_pool", 2)(x, 3, 1, 1)
    out = memory[offset : offset + 1200].reshape(expected.shape)
    public("avg_pool", 2)(x, 3, 1, 1, out=out)
    assert_same(out, expected)


def test_backward_out_that_overlaps_its_inputs() -> None:
    gradient = spread_values((1, 2, 6, 20), "float64")
    expected = public("avg_pool_backward", 2)(gradient, gradient, 3, 1, 1)
    assert_same(public("avg_pool_backward", 2)(gradient, gradient, 3, 1, 1, out=gradient), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched(rank: int) -> None:
    x = spread_values((3, 4, 5, 6)[: rank + 1], "float32")
    out = check(x, 2, 1, rank=rank)
    gradient = spread_values(out.shape, "float32")
    check_backward(gradient, x, 2, 1, rank=rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_empty_batch(rank: int) -> None:
    x = np.empty((0, 3, 4, 5, 6)[: rank + 2], np.float32)
    out = public("avg_pool", rank)(x, 2, 1)
    assert out.shape == (0, 3, 3, 4, 5)[: rank + 2]
    assert out.dtype == np.float32
    assert_same(public("avg_pool_backward", rank)(out, x, 2, 1), x)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)], ids=str)
def test_broadcast_input_and_gradient(axes: tuple[int, ...]) -> None:
    shape = tuple(1 if axis in axes else length for axis, length in enumerate((3, 4, 7, 20)))
    x = np.broadcast_to(spread_values(shape, "float64"), (3, 4, 7, 20))
    out = check(x, 3, 1, 1)
    check_backward(np.broadcast_to(spread_values(shape, "float64"), out.shape), x, 3, 1, 1)


def test_strides_that_are_no_multiple_of_the_element() -> None:
    """A field of packed records."""
    records = np.zeros((2, 3, 6, 20), np.dtype([("tag", np.int8), ("value", np.float64)]))
    records["value"] = spread_values(records.shape, "float64")
    check(records["value"], 3, 2, 1)


def test_input_is_left_alone(backend: ArrayKind) -> None:
    plain = spread_values((2, 3, 7, 20), "float32")
    x, gradient = backend.from_numpy(plain), backend.from_numpy(np.ones_like(plain))
    public("avg_pool", 2)(x, 3, 1, 1)
    public("avg_pool_backward", 2)(gradient, x, 3, 1, 1)
    np.testing.assert_array_equal(backend.to_numpy(x), plain)
    np.testing.assert_array_equal(backend.to_numpy(gradient), 1.0)


# torch -----------------------------------------------------------------------------------------------------------


@st.composite
def torch_calls(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """An input of 1 to 3 pooled axes, and arguments that torch takes."""
    rank = draw(st.integers(1, 3))
    arguments: dict[str, list[int]] = {"kernel_size": [], "stride": [], "padding": []}
    lengths = []
    for _ in range(rank):
        kernel = draw(st.integers(1, 5))
        # torch's avg_pool3d refuses input smaller than the kernel, whatever the padding.
        lengths.append(draw(st.integers(kernel, 40 if rank == 1 else 12)))
        for name, value in zip(arguments, (kernel, draw(st.integers(1, 4)), draw(st.integers(0, kernel // 2)))):
            arguments[name].append(value)
    leading = draw(st.sampled_from([(1,), (3,), (1, 1), (2, 3), (2, 9)]))
    x = spread_values((*leading, *lengths), draw(st.sampled_from([*FLOATS, "int64"])), draw(st.integers(0, 2**16)))
    x = draw(st.sampled_from([in_order, channels_last]))(x, rank)
    others: dict[str, Any] = {"ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans())}
    if rank > 1:
        others["divisor_override"] = draw(st.none() | st.integers(-9, -1) | st.integers(1, 9))
    return x, {name: tuple(value) for name, value in arguments.items()} | others


def check_against_torch(x: Array, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rank, terms = len(arguments["kernel_size"]), math.prod(arguments["kernel_size"])
    leaf = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    values = getattr(torch.nn.functional, f"avg_pool{rank}d")(leaf, **arguments)
    out = public("avg_pool", rank)(x, **arguments)
    if not leaf.requires_grad:
        assert_same(out, values.numpy())
        return
    # Twice the terms, because torch rounds as well.
    assert_sums(out, values.detach().numpy(), np.abs(reference.avg_pool(np.abs(x), **arguments)), 2 * terms)
    gradient = spread_values(out.shape, str(x.dtype))
    values.backward(torch.from_numpy(gradient))
    magnitude = np.abs(reference.avg_pool_backward(np.abs(gradient), x, **arguments))
    actual = public("avg_pool_backward", rank)(gradient, x, **arguments)
    assert_sums(actual, leaf.grad.numpy(), magnitude, 2 * terms)


@given(torch_calls())
@settings(max_examples=200)
def test_against_torch(call: tuple[Array, dict[str, Any]]) -> None:
    check_against_torch(*call)


@pytest.mark.full
@given(torch_calls())
@settings(max_examples=10_000)
def test_against_torch_at_length(call: tuple[Array, dict[str, Any]]) -> None:
    check_against_torch(*call)


# Tiles, tables of divisors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype"),
    [((1, 1, 40, 2056), 5, "float32"), ((1, 1, 40, 1040), 9, "float64"), ((1, 1, 20, 1030), 4, "uint8")],
)
def test_tiles_of_several_rows(shape: tuple[int, ...], kernel: int, dtype: str) -> None:
    x = np.arange(np.prod(shape)).reshape(shape) % 97
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))
    actual = numbapool.avg_pool2d(x.astype(dtype), kernel, 1)
    expected = windows.mean((-2, -1)) if dtype != "uint8" else windows.sum((-2, -1)) // kernel**2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    "axis",
    [
        windows.Axis(9, 12, 4, 1, 1, 3, 3),
        windows.Axis(5, 9, 3, 2, 3, 7, 10),
        windows.Axis(3, 7, 2, 3, 1, 8, 9),
        windows.Axis(20, 7, 3, 3, 2, 1, 0),
        windows.Axis(20, 16, 3, 1, 2, 0, 0),
    ],
)
def test_taps_along_an_axis(axis: windows.Axis, count_include_pad: bool) -> None:
    expected = [max(1, count_taps(o, axis, count_include_pad)) for o in range(axis.out)]
    for first in range(axis.out):
        for count in range(axis.out - first + 1):
            assert taps_along(axis, first, count, count_include_pad).tolist() == expected[first : first + count]


def test_a_large_mean_is_exact_enough() -> None:
    x = np.full((1, 1, 1500, 1500), 0.1, np.float32)
    np.testing.assert_allclose(numbapool.avg_pool2d(x, 1500), 0.1, rtol=1e-6)


def test_a_divisor_beyond_64_bits_gives_zero() -> None:
    x = np.full((1, 1, 1, 1), 2**64 - 1, np.uint64)
    padding = ((2**40 - 1, 0), (2**40 - 1, 0))
    assert numbapool.avg_pool2d(x, 2**40, 1, padding).tolist() == [[[[0]]]]


def test_backward_of_the_narrowest_input() -> None:
    gradient = numbapool.avg_pool1d_backward(np.ones((1, 1, 1), "f4"), np.ones((1, 1, 1), "f4"), 8, 1, ((4, 3),))
    assert gradient.tolist() == [[[0.125]]]
