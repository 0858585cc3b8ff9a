"""`explain`: its figures against windows counted one by one, its errors against those of the call, its advice by trying it."""

from __future__ import annotations

import inspect
import math
import re
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import numbapool
from numbapool import functional, reference
from numbapool.explanation import Explanation, explain
from numbapool.kinds import Mean, Norm

BANDWIDTH = 20e9
X1, X2, X4 = (1, 2, 9), (1, 2, 6, 6), (6, 6, 6, 6)


def test_the_example_of_the_promise() -> None:
    found = explain("max_pool2d", (1, 1, 16, 16), 4, stride=2, padding=1, bandwidth=BANDWIDTH)
    assert found.out_shape == (1, 1, 8, 8)
    assert (found.windows, found.windows_touching_padding, found.windows_without_input) == (64, 28, 0)
    assert [axis.shared for axis in found.axes] == [(2, 2), (2, 2)]
    assert (found.bytes_read, found.bytes_written) == (4 * 16 * 16, 4 * 8 * 8)
    assert found.floor_seconds == pytest.approx(1280 / BANDWIDTH)
    text = str(found)
    assert text == repr(found)
    for part in (
        "floor((16 + 1 + 1 - 1*(4 - 1) - 1) / 2) + 1 = 8",
        "28 touch padding",
        "share 2 of 4",
        "64 ns at 20 GB/s",
    ):
        assert part in text


# Windows ---------------------------------------------------------------------------------------------------------------


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, tuple[int, ...], dict[str, Any]]:
    """Pooled axes, their lengths, and the arguments of a window, of which some do not fit."""
    rank = draw(st.integers(1, 3))
    lengths = tuple(draw(st.integers(1, (30, 9, 5)[rank - 1])) for _ in range(rank))
    extent = st.one_of(st.integers(1, 5), st.tuples(*[st.integers(1, 5)] * rank))
    pairs = st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * rank)
    padding = st.one_of(st.integers(0, 6), pairs, st.sampled_from(["same", "same_lower", "valid"]))
    arguments = {
        "kernel_size": draw(extent),
        "stride": draw(st.one_of(st.none(), extent)),
        "padding": draw(padding),
        "dilation": draw(extent),
        "ceil_mode": draw(st.booleans()),
    }
    return rank, lengths, arguments


KINDS = ("max", "min", "avg", "sum", "lp")


def window_call(kind: str, rank: int, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return f"{kind}_pool{rank}d", arguments | ({"norm_type": 2} if kind == "lp" else {})


def formula_of(text: str) -> tuple[float, int]:
    """What the filled-in formula comes to, and what it says it comes to."""
    expression, result = re.fullmatch(r"(?:output_size = \d+, by default )?(.*) = (-?\d+)(?:, .*)?", text).groups()  # type: ignore[union-attr]
    assert re.fullmatch(r"[\d\s()+*/.-]|(floor|ceil|[\d\s()+*/.-])+", expression)
    return eval(expression, {"floor": math.floor, "ceil": math.ceil}), int(result)


@given(windows(), st.sampled_from(KINDS))
@settings(max_examples=40)
def test_whatever_works_can_be_drawn(case: tuple[int, tuple[int, ...], dict[str, Any]], kind: str) -> None:
    pytest.importorskip("matplotlib")
    rank, lengths, arguments = case
    name, keywords = window_call(kind, rank, arguments)
    found = explain(name, (1, 1, *lengths), **keywords)
    if found.error is None:
        figure = found.plot()
        assert len(figure.axes) == 1 if rank == 1 else len(figure.axes) % 2 == 0


@given(windows(), st.sampled_from(KINDS), st.booleans())
@settings(max_examples=300)
def test_windows_are_counted_right(
    case: tuple[int, tuple[int, ...], dict[str, Any]], kind: str, backward: bool
) -> None:
    rank, lengths, arguments = case
    name, keywords = window_call(kind, rank, arguments)
    found = explain(name + "_backward" * backward, (2, 3, *lengths), **keywords)
    try:
        out_shape, listed = reference._windows(lengths, **arguments)
    except ValueError:
        assert "Output size is too small" in str(found.error)
        assert found.changes
        return
    assert found.error is None
    taps = math.prod(reference._per_axis(arguments["kernel_size"], rank))
    assert tuple(axis.out for axis in found.axes) == out_shape
    assert (found.planes, found.windows) == (6, len(listed))
    assert found.windows_touching_padding == sum(len(window.inside) < taps for window in listed)
    assert found.windows_without_input == sum(not window.inside for window in listed)
    visits = sum(len(window.inside) for window in listed)
    assert found.windows_per_element == pytest.approx(visits / math.prod(lengths))
    for i, axis in enumerate(found.axes):
        value, said = formula_of(axis.formula)
        assert value == said == axis.out
        ranges = [set(axis.window(number)) for number in range(axis.out)]
        shared = {len(a & b) for a, b in pairwise(ranges)} or {0}
        assert axis.shared == (min(shared), max(shared))
        assert axis.sizes == (len(ranges[0]), len(ranges[0]))
        assert axis.length == lengths[i]


@given(
    length=st.integers(1, 12),
    window=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    padding=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    dilation=st.integers(1, 20),
    ceil_mode=st.booleans(),
)
def test_windows_that_step_over_the_input_are_counted_right(
    length: int, window: tuple[int, int], padding: tuple[int, int], dilation: int, ceil_mode: bool
) -> None:
    found = explain("sum_pool1d", (1, 1, length), *window, [padding], dilation, ceil_mode)
    if found.error is not None:
        return
    (axis,) = found.axes
    inside = [sum(0 <= tap < length for tap in axis.window(number)) for number in range(axis.out)]
    assert (axis.whole, axis.with_input) == (inside.count(window[0]), axis.out - inside.count(0))
    assert axis.visits == sum(inside)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 14)), min_size=1, max_size=3), st.sampled_from(["max", "avg"])
)
def test_bins_are_counted_right(axes: list[tuple[int, int]], kind: str) -> None:
    lengths, sizes = zip(*axes, strict=True)
    found = explain(f"adaptive_{kind}_pool{len(axes)}d", (2, 3, *lengths), sizes)
    out_shape, listed = reference._bins(np.zeros((1, *lengths)), sizes, len(lengths))
    assert found.out_shape == (2, 3, *out_shape)
    assert (found.windows, found.windows_touching_padding) == (len(listed), 0)
    assert found.windows_per_element == pytest.approx(sum(map(len, listed)) / math.prod(lengths))
    positions = [
        [
            np.ravel_multi_index(tap, lengths)
            for tap in product(*(a.window(i) for a, i in zip(found.axes, where, strict=True)))
        ]
        for where in np.ndindex(*out_shape)
    ]
    assert positions == listed
    for axis in found.axes:
        bins = [axis.window(number) for number in range(axis.out)]
        shared = [a.stop - b.start for a, b in pairwise(bins)] or [0]
        assert axis.shared == (min(shared), max(shared))
        assert axis.sizes == (min(map(len, bins), default=0), max(map(len, bins), default=0))


@pytest.mark.parametrize("rank", [2, 3])
def test_drawn_windows_are_those_of_the_call(rank: int) -> None:
    """In an array that grows along every axis the maximum of a window is its last element."""
    lengths = (11, 9, 8)[:rank]
    x = np.arange(math.prod(lengths), dtype=np.float64).reshape(1, 1, *lengths)
    samples = np.random.default_rng(0).random((1, 1, rank))
    found = explain(f"fractional_max_pool{rank}d", x, 2, output_ratio=0.6, _random_samples=samples)
    out = getattr(numbapool, f"fractional_max_pool{rank}d")(x, 2, output_ratio=0.6, _random_samples=samples)
    assert found.out_shape == out.shape
    last = [[axis.window(number)[-1] for number in range(axis.out)] for axis in found.axes]
    np.testing.assert_array_equal(out[0, 0], x[0, 0][np.ix_(*last)])
    for axis, length in zip(found.axes, lengths, strict=True):
        assert f"floor({length} * 0.6) = {axis.out}" in axis.formula
        windows = [axis.window(number) for number in range(axis.out)]
        shared = [max(0, a.stop - b.start) for a, b in pairwise(windows)]
        assert (axis.shared, axis.visits) == ((min(shared), max(shared)), sum(map(len, windows)))


def test_a_generator_is_left_as_it_is() -> None:
    """And the windows that are explained are those that the call will draw from it for the first plane."""
    generator, x = np.random.default_rng(5), np.arange(400.0).reshape(1, 1, 20, 20)
    rows, columns = explain("fractional_max_pool2d", (9, 9, 20, 20), 2, 9, generator=generator).axes
    out = numbapool.fractional_max_pool2d(x, 2, 9, generator=generator)
    last = [[axis.window(number)[-1] for number in range(9)] for axis in (rows, columns)]
    np.testing.assert_array_equal(out[0, 0], x[0, 0][np.ix_(*last)])


# Sizes ------------------------------------------------------------------------------------------------------------------


def test_axes_of_any_length_are_counted() -> None:
    """One by one, none of these would come to an end."""
    bins = explain("adaptive_avg_pool1d", (1, 1, 10), 10**9)
    assert (bins.windows, bins.windows_per_element, bins.axes[0].sizes) == (10**9, 10**8, (1, 1))
    wide = explain("avg_pool2d", (1, 1, 2**30, 2**30), 2**29, 1)
    assert (wide.windows, wide.windows_touching_padding) == ((2**29 + 1) ** 2, 0)
    assert wide.windows_per_element == ((2**29 + 1) / 2) ** 2
    same = explain("max_pool1d", (1, 1, 2**50), 2**30, 1, "same")
    before, after = 2**29 - 1, 2**29
    assert (same.windows, same.windows_touching_padding) == (2**50, before + after)
    outside = before * (before + 1) // 2 + after * (after + 1) // 2
    assert same.axes[0].visits == 2**50 * 2**30 - outside
    sparse = explain(
        "max_pool1d", (1, 1, 3), 2, 1, 10**8, 10**7
    )  # each of 3 elements is the one tap inside of 2 windows
    assert sparse.windows - sparse.windows_without_input == sparse.axes[0].visits == 6


@pytest.mark.parametrize("backward", ["", "_backward"])
def test_planes_and_tables_of_any_length_are_not_made(backward: str) -> None:
    many, two = (10**9, 1, 10**4), (10**9, 1, 5000)
    back = bool(backward)
    for name, shape, arguments in (
        ("max_pool1d", many, {"kernel_size": 2} | ({"indices": two} if back else {"return_indices": True})),
        ("pool", many, {"kind": "min", "kernel_size": 2, "axes": 2} | ({} if back else {"return_indices": True})),
        ("max_unpool1d", two, {"kernel_size": 2}),
        ("global_max_pool", many, {"indices": (10**9, 1, 1)} if back else {"return_indices": True}),
    ):
        found = explain(f"{name}{backward}", shape, **arguments, index_kind="global")
        assert found.error is None
        assert found.planes == 10**9
    for index_kind in ("plane", "window"):
        bins = {"indices": (1, 1, 10**9)} if back else {"return_indices": True}
        found = explain(f"adaptive_max_pool1d{backward}", (1, 1, 10**10), 10**9, **bins, index_kind=index_kind)
        assert (found.error, found.windows) == (None, 10**9)
    for planes, length in ((1, 10**8), (10**9, 100)):
        drawn = (
            {"indices": (planes, 1, length // 10, length // 10)} if back else {"generator": np.random.default_rng(0)}
        )
        found = explain(f"fractional_max_pool2d{backward}", (planes, 1, length, length), 2, length // 10, **drawn)
        assert (found.error, found.windows) == (None, (length // 10) ** 2)


def test_arguments_of_any_size_are_explained() -> None:
    huge = explain("max_pool2d", X2, 10**5000)
    assert [str(each) for each in huge.changes] == ["kernel_size=6"]
    assert "<ints of thousands of digits>" in str(huge)
    cycle: list[Any] = []
    cycle.append(cycle)
    assert [str(each) for each in explain("max_pool1d", X1, cycle).changes] == ["kernel_size=1"]
    assert len(str(explain("max_pool2d", X2, (1,) * 10**5))) < 2000


def test_undone_windows_are_those_of_the_pooling() -> None:
    pooled = explain("max_pool2d", (1, 1, 8, 8), 3, 2, 1)
    found = explain("max_unpool2d", pooled.out_shape, 3, 2, 1, (8, 8))
    assert found.out_shape == (1, 1, 8, 8)
    assert found.windows_touching_padding == pooled.windows_touching_padding == 7
    assert [formula_of(axis.formula) for axis in found.axes] == [(7, 7), (7, 7)]
    assert explain("max_unpool2d", (1, 1, 4, 4), 2).axes[0].formula == "(4 - 1)*2 + 2 - 2*0 = 8"


def test_any_axes() -> None:
    found = explain("pool", (4, 5, 6, 7, 8), "avg", (2, 3), axes=(3, 0), padding="same")
    assert [axis.name for axis in found.axes] == ["axis 3", "axis 0"]
    assert found.out_shape == (2, 5, 6, 4, 8)
    assert found.planes == 5 * 6 * 8
    in_passes = explain("pool", (4, 5, 6, 7), "sum", 2)
    assert [(axis.name, axis.out) for axis in in_passes.axes] == [(f"axis {i}", n) for i, n in enumerate((2, 2, 3, 3))]
    # The last three axes first, then the first one.
    between, out = 4 * 2 * 3 * 3, 2 * 2 * 3 * 3
    assert (in_passes.bytes_read, in_passes.bytes_written) == (4 * (4 * 5 * 6 * 7 + between), 4 * (between + out))


def test_a_global_window_is_the_plane() -> None:
    found = explain("global_avg_pool", (2, 5, 6, 3), data_format="channels_last")
    assert found.out_shape == (2, 1, 1, 3)
    assert [(axis.length, axis.out) for axis in found.axes] == [(5, 1), (6, 1)]
    assert (found.windows, found.windows_per_element, found.planes) == (1, 1, 6)


def test_what_is_left_out_is_said() -> None:
    assert "the last 1 along H and W left out" in str(explain("max_pool2d", (1, 1, 5, 5), 2))
    assert "2 between neighbours along L left out" in str(explain("max_pool1d", (1, 1, 10), 2, 4))
    assert "left out" not in str(explain("max_pool2d", (1, 1, 5, 5), 2, ceil_mode=True))
    dropped = "ceil((4 + 0 + 0 - 1*(1 - 1) - 1) / 2) + 1 - 1 = 2, less one window that would begin behind the input"
    assert dropped in str(explain("max_pool1d", (1, 1, 4), 1, 2, ceil_mode=True))


# Every function ---------------------------------------------------------------------------------------------------------


def arguments_of(name: str) -> dict[str, Any]:
    """Arguments with which a function works on an input of 6 elements an axis."""
    if name.startswith("pool"):
        return {"kind": "max", "kernel_size": 2, "axes": (2, 3)}
    if name.startswith("adaptive"):
        return {"output_size": 4}
    if name.startswith("fractional"):
        return {"kernel_size": 2, "output_size": 3}
    if name.startswith("global"):
        return {}
    return {"kernel_size": 3, "stride": 2, "padding": 1} | ({"norm_type": 2} if name.startswith("lp") else {})


def shape_of(name: str, batch: int) -> tuple[int, ...]:
    rank = re.search(r"(\d)d", name)
    return batch, 3, *(6,) * (int(rank[1]) if rank else 2)


def really(name: str, shape: tuple[int, ...], dtype: str, arguments: dict[str, Any]) -> list[np.ndarray]:
    """The results of the call itself, on zeros; with an empty batch nothing is compiled for it."""
    x = np.zeros(shape, dtype)
    arrays = [x]
    forward = name.removesuffix("_backward")
    function = getattr(functional, name)
    number = 1 + (forward != name) + ("unpool" in name)
    try:
        bound = inspect.signature(function).bind(*[x] * number, **arguments)
    except TypeError:
        return function(*[x] * number, **arguments)
    if "unknown" in bound.arguments:
        return function(*[x] * number, **arguments)
    if "unpool" in name:
        arrays.append(np.zeros(shape, np.int64))
    if forward != name:
        out = getattr(functional, forward)(
            *arrays, **{key: value for key, value in arguments.items() if key != "indices"}
        )
        arrays.insert(0, np.zeros(out.shape, dtype))
        if name.startswith("fractional"):
            arguments = arguments | {"indices": np.zeros(out.shape, np.int64)}
    results = function(*arrays, **arguments)
    return list(results) if isinstance(results, tuple) else [results]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", functional.__all__)
def test_every_function_is_explained(name: str, dtype: str) -> None:
    pytest.importorskip("matplotlib")
    arguments = arguments_of(name)
    shape = shape_of(name, batch=0)
    if name.startswith("fractional") and name.endswith("_backward"):
        arguments["indices"] = (0, *explain(name.removesuffix("_backward"), shape, **arguments).out_shape[1:])
    found = explain(getattr(numbapool, name), shape, dtype=dtype, **arguments)
    assert found.error is None, found.error
    assert "0 planes" in str(found)
    expected = really(name, shape, dtype, {key: value for key, value in arguments.items() if key != "indices"})
    assert list(found.results.values()) == [(each.shape, each.dtype) for each in expected]
    full = explain(
        name,
        shape_of(name, batch=2),
        dtype=dtype,
        **{k: v for k, v in arguments.items() if k != "indices"}
        | ({"indices": (2, *arguments["indices"][1:])} if "indices" in arguments else {}),
    )
    assert full.planes == (2 * 3)
    assert 0 < full.windows_touching_padding < full.windows or "padding" not in arguments
    assert "gradient" in str(full) if name.endswith("_backward") else "gradient" not in str(full)
    if len(full.axes) <= 3:
        assert full.plot().axes


@pytest.mark.parametrize("index_kind", ["plane", "window", "global"])
def test_bytes_are_those_of_the_arrays(index_kind: str) -> None:
    x = np.zeros((2, 3, 8, 8), np.float32)
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True, index_kind=index_kind)
    found = explain("max_pool2d", x, 2, return_indices=True, index_kind=index_kind)
    renumbered = indices.nbytes if index_kind == "global" else 0
    assert found.results["indices"] == (indices.shape, indices.dtype)
    assert (found.bytes_read, found.bytes_written) == (x.nbytes + renumbered, out.nbytes + indices.nbytes + renumbered)
    backward = explain("max_pool2d_backward", x, 2, indices=indices, index_kind=index_kind)
    assert backward.bytes_read == out.nbytes + indices.nbytes + renumbered
    assert backward.bytes_written == x.nbytes + renumbered
    again = explain("max_pool2d_backward", x.shape, 2)
    assert (again.bytes_read, again.bytes_written) == (out.nbytes + x.nbytes, x.nbytes)
    undone = explain("max_unpool2d", out.shape, 2, index_kind=index_kind)
    assert undone.bytes_read == out.nbytes + indices.nbytes + renumbered


def test_mean_reads_no_input_again() -> None:
    found = explain("avg_pool2d_backward", (1, 1, 8, 8), 2, dtype="float64")
    assert (found.bytes_read, found.bytes_written) == (8 * 16, 8 * 64)
    assert "in equal parts" in str(found)


@pytest.mark.parametrize("dtype", ["bfloat16", "uint8", "complex64"])
def test_dtypes(dtype: str) -> None:
    found = explain("sum_pool1d", (1, 1, 8), 2, dtype=dtype)
    assert f"(1, 1, 8) {dtype}" in str(found)
    assert found.bytes_read == {"bfloat16": 16, "uint8": 8, "complex64": 64}[dtype]
    assert found.bytes_written == {"bfloat16": 8, "uint8": 32, "complex64": 32}[dtype]


def test_an_array_is_looked_at() -> None:
    x = np.zeros((1, 1, 6), np.int16)
    assert str(explain("max_pool1d", x, 2)) == str(explain("max_pool1d", (1, 1, 6), 2, dtype="int16"))
    torch = pytest.importorskip("torch")
    assert str(explain("max_pool1d", torch.from_numpy(x), 2)) == str(explain("max_pool1d", x, 2))


# Errors -----------------------------------------------------------------------------------------------------------------

# A call that raises, and the changes that are proposed.
MISTAKES: list[tuple[str, tuple[int, ...], dict[str, Any], list[str]]] = [
    ("max_pool2d", X2, {"kernel_size": 7}, ["kernel_size=6", "padding=1"]),
    ("max_pool2d", X2, {"kernel_size": (7, 2)}, ["kernel_size=(6, 2)", "padding=1"]),
    ("avg_pool2d", X2, {"kernel_size": 4, "dilation": 2}, ["kernel_size=3", "padding=1", "dilation=1"]),
    ("sum_pool1d", X1, {"kernel_size": 12, "padding": ((1, 0),)}, ["kernel_size=10", "padding=((2, 1),)"]),
    ("max_pool2d", X2, {"kernel_size": 0}, ["kernel_size=1"]),
    ("max_pool2d", X2, {"kernel_size": 2, "stride": 0}, ["stride=1"]),
    ("max_pool2d", X2, {"kernel_size": 2, "stride": (-1, 2)}, ["stride=(1, 2)"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": -1}, ["padding=0"]),
    ("max_pool2d", X2, {"kernel_size": 2, "dilation": 0}, ["dilation=1"]),
    ("max_pool2d", X2, {"kernel_size": 2.0}, ["kernel_size=2"]),
    ("max_pool2d", X2, {"kernel_size": "3"}, ["kernel_size=3"]),
    ("max_pool2d", X2, {"kernel_size": np.timedelta64(3, "ns")}, ["kernel_size=1"]),
    ("max_pool2d", X2, {"kernel_size": True}, ["kernel_size=1"]),
    ("max_pool2d", X2, {"kernel_size": None}, ["kernel_size=1"]),
    ("max_pool2d", X2, {"kernel_size": (2, 3, 4)}, ["kernel_size=(2, 3)"]),
    ("max_pool2d", X2, {"kernel_size": (2, 2, 2)}, ["kernel_size=(2, 2)"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": ((0, 0, 0), 1)}, ["padding=((0, 0), 1)"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": "smae"}, ["padding='same'"]),
    ("max_pool2d", X2, {"kernel_size": 2, "ceil_mode": 1}, ["ceil_mode=True"]),
    ("max_pool2d", X2, {"kernel_size": 2, "return_indices": "yes"}, ["without return_indices"]),
    ("max_pool2d", X2, {"kernel_size": 2, "index_kind": "windows"}, ["index_kind='window'"]),
    ("max_pool2d", X2, {"kernel_size": 2, "data_format": "channel_last"}, ["data_format='channels_last'"]),
    ("max_pool2d", X2, {"kernel_size": 2, "stride": 0, "padding": -1}, ["stride=1, padding=0"]),
    ("max_pool2d", X2, {}, ["kernel_size=2"]),
    ("max_pool2d", X2, {"pool_size": 2}, ["kernel_size=2"]),
    ("max_pool2d", X2, {"kernel_size": 2, "strides": 1}, ["stride=1", "without strides"]),
    ("adaptive_max_pool2d", X2, {"Y": 2}, ["output_size=2"]),  # like none: the first in the signature
    ("max_pool2d", X2, {"kernel_size": 2**70}, ["kernel_size=6"]),
    ("max_pool2d", (6, 6), {"kernel_size": 2}, ["x of shape (1, 6, 6)", "max_pool1d instead of max_pool2d"]),
    (
        "max_pool1d",
        X2,
        {"kernel_size": 2},
        ["x of shape (2, 6, 6)", "max_pool2d instead of max_pool1d", "max_pool3d instead of max_pool1d"],
    ),
    ("max_pool2d", (1, 0, 6, 6), {"kernel_size": 2}, ["x of shape (1, 1, 6, 6)"]),
    ("global_max_pool", (6, 6), {}, ["x of shape (1, 6, 6)"]),
    ("pool", (), {"kind": "max", "kernel_size": 1}, ["x of shape (1,)"]),
    ("pool", X2, {"kind": "max", "kernel_size": 3}, ["kernel_size=1", "axes=(2, 3)"]),
    ("max_pool2d", (8, 8, 3), {"kernel_size": 4}, ["kernel_size=3", "padding=1", "data_format='channels_last'"]),
    ("avg_pool2d", X2, {"kernel_size": 2, "divisor_override": 0}, ["without divisor_override"]),
    ("avg_pool2d", X2, {"kernel_size": 2, "count_include_pad": 0}, ["count_include_pad=False"]),
    ("avg_pool2d", X2, {"kernel_size": 2, "rounding": "near"}, ["rounding='nearest'"]),
    ("lp_pool2d", X2, {"norm_type": 0, "kernel_size": 2}, ["norm_type=2.0"]),
    ("lp_pool2d", X2, {"norm_type": "two", "kernel_size": 2}, ["norm_type=2.0"]),
    ("lp_pool2d", X2, {"norm_type": 10**400, "kernel_size": 2}, ["norm_type=2.0"]),
    ("adaptive_max_pool2d", X2, {"output_size": -1}, ["output_size=1"]),
    ("adaptive_max_pool2d", X2, {"output_size": (2, 3, 4)}, ["output_size=(2, 3)"]),
    ("adaptive_avg_pool1d", X1, {"output_size": 2.5}, ["output_size=2"]),
    ("fractional_max_pool2d", X2, {"kernel_size": 2}, ["output_size=1", "output_ratio=0.5"]),
    ("fractional_max_pool2d", X2, {"kernel_size": 3, "output_size": 5}, ["kernel_size=2", "output_size=4"]),
    (
        "fractional_max_pool2d",
        X2,
        {"kernel_size": 2, "output_size": 3, "output_ratio": 0.5},
        ["without output_size", "without output_ratio"],
    ),
    ("fractional_max_pool2d", X2, {"kernel_size": 2, "output_ratio": 1.5}, ["output_ratio=0.5"]),
    ("fractional_max_pool2d_backward", X2, {"kernel_size": 2, "output_size": 3}, ["indices=(1, 2, 3, 3)"]),
    ("max_unpool2d", X2, {"kernel_size": 2, "output_size": (15, 9)}, ["without output_size"]),
    ("max_unpool2d", X2, {"kernel_size": 2, "padding": 6}, ["padding=5"]),
    ("max_pool2d_backward", X2, {"kernel_size": 2, "indices": X2}, ["indices=(1, 2, 3, 3)"]),
    ("pool", (6, 6), {"kind": "maximum", "kernel_size": 2}, ["kind='max'"]),
    ("pool", (6, 6), {"kind": "max", "kernel_size": 2, "axes": (0, 4)}, ["axes=(0,)"]),
    ("pool", X2, {"kind": "max", "kernel_size": 2, "axes": (2, -2)}, ["axes=(2,)"]),
    ("pool", (6, 6), {"kind": "max", "kernel_size": 1, "norm_type": 3}, ["without norm_type"]),
    ("pool", (6, 6), {"kind": "max", "kernel_size": 1, "axis": 0}, ["axes=0", "without axis"]),
    ("pool", (6, 6), {"kind": Mean, "kernel_size": 1}, ["kind='mean'"]),
    (
        "pool",
        (6, 6),
        {"kind": Mean(), "kernel_size": 1, "return_indices": True},
        ["kind='min'", "without return_indices"],
    ),
    ("pool", X2, {"kind": "avg", "kernel_size": (2, 2, 2), "axes": (2, 3)}, ["kernel_size=(2, 2)"]),
    ("pool", X2, {"kind": "max", "kernel_size": 1, "axes": ()}, ["without axes"]),
    ("pool", X2, {"kind": "max", "kernel_size": (1, 1, 1, 1, 1)}, ["x of shape (1, 1, 2, 6, 6)"]),
    ("pool", (6, 0), {"kind": "max", "kernel_size": 1}, ["x of shape (6, 1)"]),
    ("pool", (6, 6), {"kind": 3, "kernel_size": 1}, ["kind='max'"]),
    ("pool", X4, {"kind": Norm(3), "kernel_size": 2}, ["axes=(2, 3)"]),
    ("pool", X4, {"kind": "max", "kernel_size": 2, "return_indices": True}, ["axes=(2, 3)", "without return_indices"]),
    ("pool_backward", X4, {"kind": "max", "kernel_size": 2, "indices": (3, 3, 3, 3)}, ["without indices"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": 2**62}, [f"padding={2**29 - 4}"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": 2**40}, [f"padding={2**29 - 4}"]),
    ("max_pool2d", X2, {"kernel_size": 2**40, "dilation": 2**40}, ["kernel_size=1"]),
    ("max_pool2d", X2, {"kernel_size": [2, 2], "stride": (1.0, 2)}, ["stride=(1, 2)"]),
    ("max_pool2d", X2, {"kernel_size": 2, "padding": (1, 2, 3)}, ["padding=(1, 2)"]),
    ("max_pool2d", X2, {"kernel_size": 2, "data_format": 1}, ["data_format='channels_first'"]),
    ("max_pool2d", X2, {"kernel_size": 7, "dilation": 0}, ["kernel_size=6, dilation=1", "dilation=1, padding=1"]),
    ("adaptive_max_pool2d", X2, {"output_size": 2**61}, [f"output_size={2**29 - 1}"]),
    ("adaptive_avg_pool2d", (1, 2, 0, 4), {"output_size": 2}, ["x of shape (1, 2, 1, 4)"]),
    ("max_unpool2d", X2, {"kernel_size": 2, "output_size": (12, 12, 12)}, ["output_size=(12, 12)"]),
    ("avg_pool2d", X2, {"kernel_size": 2, "divisor_override": 2**70}, ["without divisor_override"]),
    ("avg_pool2d", X2, {"kernel_size": 2, "divisor_override": 2.5}, ["without divisor_override"]),
    ("fractional_max_pool2d", X2, {"kernel_size": 2, "output_ratio": (0.5, 0.5, 0.5)}, ["output_ratio=0.5"]),
    ("fractional_max_pool2d", X2, {"kernel_size": 2, "output_ratio": "half"}, ["output_ratio=0.5"]),
    ("fractional_max_pool2d", X2, {"kernel_size": 2, "output_size": 0}, ["output_size=1"]),
    *(
        (
            "fractional_max_pool2d",
            X2,
            {"kernel_size": 2, "output_size": 3, "_random_samples": samples},
            ["without _random_samples"],
        )
        for samples in (np.ones((1, 2, 2)), np.zeros((2, 2)), np.zeros((1, 2, 2), np.int64))
    ),
    (
        "fractional_max_pool2d",
        X2,
        {
            "kernel_size": 2,
            "output_size": 3,
            "_random_samples": np.zeros((1, 2, 2)),
            "generator": np.random.default_rng(0),
        },
        ["without _random_samples", "without generator"],
    ),
    ("fractional_max_pool2d", X2, {"kernel_size": 2, "output_size": 3, "generator": 0}, ["without generator"]),
]


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "expected"), MISTAKES, ids=[f"{each[0]}-{i}" for i, each in enumerate(MISTAKES)]
)
def test_mistakes_are_explained_and_mended(
    name: str, shape: tuple[int, ...], arguments: dict[str, Any], expected: list[str]
) -> None:
    found = explain(name, shape, dtype="float64", **arguments)
    proposed = [str(each) for each in found.changes]
    assert proposed == expected
    text = str(found)
    assert "What to change" in text
    assert all(each in text for each in proposed)
    if "indices" not in arguments and "fractional" not in name:
        with pytest.raises(type(found.error)) as raised:  # type: ignore[arg-type]
            really(name, shape, "float64", arguments)
        assert str(raised.value) == str(found.error)
    for change in found.changes:
        request = change.request
        if math.prod(change.result) < 1000 and "indices" not in request.arguments:
            results = really(request.name, request.spec[0], str(request.spec[1]), request.arguments)
            assert results[0].shape == change.result


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("avg_pool2d", "bool", ["x as float32", "x as int64"]),
        ("lp_pool2d", "int32", ["x as float32"]),
        ("max_pool2d", "complex64", ["x as float32", "x as int64"]),
        ("max_pool2d_backward", "int64", ["x as float32"]),
    ],
)
def test_dtypes_that_are_not_accepted(name: str, dtype: str, expected: list[str]) -> None:
    found = explain(name, X2, **arguments_of(name), dtype=dtype)
    assert isinstance(found.error, TypeError)
    assert f"dtype {dtype}" in str(found.error)
    assert [str(each) for each in found.changes] == expected


def test_too_many_arguments() -> None:
    found = explain("max_pool2d", X2, 2, 2, 0, 1, False, False, "window")
    assert isinstance(found.error, TypeError)
    assert [str(each) for each in found.changes] == ["index_kind='window'", "without 'window'"]


JUNK = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([None, True, 1.5, "same", "x", (), (1, 2), (0, 0, 0), ((1, 0), (0, 1)), 2**63, 10**5000, [2, 2]]),
)


@given(
    st.sampled_from([name for name in functional.__all__ if not name.startswith("fractional")]),
    st.lists(st.integers(0, 5), max_size=5),
    st.dictionaries(
        st.sampled_from(
            ["kernel_size", "stride", "padding", "dilation", "ceil_mode", "output_size", "norm_type", "kind"]
        ),
        JUNK,
    ),
)
@settings(max_examples=300)
def test_junk_is_explained(name: str, shape: list[int], arguments: dict[str, Any]) -> None:
    """Whatever the arguments are: the error is the call's own, and every change that is proposed works."""
    if shape and "unpool" not in name and not name.startswith("pool"):
        shape = [0, *shape[1:]] if len(shape) > 2 else shape  # an empty batch: nothing is compiled
    found = explain(name, tuple(shape), **arguments)
    assert str(found)
    if found.error is None:
        assert not found.changes
        return
    with pytest.raises(type(found.error)) as raised:
        really(name, tuple(shape), "float32", arguments)
    assert str(raised.value) == str(found.error)
    for change in found.changes:
        again = explain(
            change.request.name, change.request.spec[0], dtype=change.request.spec[1], **change.request.arguments
        )
        assert again.error is None
        assert again.out_shape == change.result


@pytest.mark.parametrize(
    ("error", "match", "arguments", "keywords"),
    [
        (
            ValueError,
            "got 'maxpool2d'; the nearest are 'max_pool2d', 'max_unpool2d', 'max_pool3d'",
            ("maxpool2d", X2, 2),
            {},
        ),
        (ValueError, "op must be a pooling function", (len, X2), {}),
        (ValueError, "op must be a pooling function", (reference.max_pool, X2), {}),
        (TypeError, "op must be a pooling function or its name", (3, X2), {}),
        (ValueError, "shape must have lengths of at least 0", ("max_pool2d", (1, 1, -4, 4), 2), {}),
        (ValueError, "shape must be of an array of at most .* bytes", ("max_pool2d", (1, 1, 2**31, 2**31), 2), {}),
        (ValueError, "shape must have at most 64 axes, got 65", ("pool", (1,) * 65, "max", 1), {}),
        (TypeError, "shape must be ints such as .*, or an array, got '1x3x8x8'", ("max_pool2d", "1x3x8x8", 2), {}),
        (TypeError, "shape must be ints such as .*, or an array, got 8", ("max_pool2d", 8, 2), {}),
        (
            TypeError,
            "dtype must be NumPy's or the name of one, got 'float33'",
            ("max_pool2d", X2, 2),
            {"dtype": "float33"},
        ),
        (TypeError, "bandwidth must be a number, got 'fast' of type str", ("max_pool2d", X2, 2), {"bandwidth": "fast"}),
        (TypeError, "bandwidth must be a number, got True", ("max_pool2d", X2, 2), {"bandwidth": True}),
        (TypeError, "shape must be an int", ("max_pool2d", (1, 1, 4.0, 4), 2), {}),
        (
            TypeError,
            "dtype must not be given beside an array",
            ("max_pool1d", np.zeros((1, 1, 4)), 2),
            {"dtype": "int8"},
        ),
        (ValueError, "bandwidth must be greater than 0", ("max_pool2d", X2, 2), {"bandwidth": 0}),
        (TypeError, "out must not be given", ("max_pool2d", X2, 2), {"out": np.zeros(1)}),
        (TypeError, "max_pool2d got two values for kernel_size", ("max_pool2d", X2, 2), {"kernel_size": 3}),
    ],
)
def test_arguments_of_explain_itself(
    error: type[Exception], match: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(error, match=match):
        explain(*arguments, **keywords)


# Pictures ---------------------------------------------------------------------------------------------------------------


def rectangles(panel: Any) -> set[tuple[float, float, float, float]]:
    """Left, top, width and height of everything that is drawn as a box."""
    from matplotlib.patches import Rectangle

    boxes = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    return {(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in boxes}


def test_planes_are_drawn_to_scale() -> None:
    pytest.importorskip("matplotlib")
    found = explain("max_pool2d", (1, 1, 6, 8), (2, 3), stride=2, padding=(0, 1), dilation=(2, 1))
    inputs, outputs = found.plot().axes
    first, neighbour, last = (-1.5, -0.5, 3, 3), (0.5, -0.5, 3, 3), (4.5, 1.5, 3, 3)
    elements, padded = (-0.5, -0.5, 8, 6), (-1.5, -0.5, 10, 6)
    assert {first, neighbour, last, elements, padded} <= rectangles(inputs)
    assert (-0.5, -0.5, 4, 2) in rectangles(outputs)
    assert {(-0.5, -0.5, 1, 1), (0.5, -0.5, 1, 1), (2.5, 0.5, 1, 1)} <= rectangles(outputs)
    assert inputs.get_title().endswith("6 \N{MULTIPLICATION SIGN} 8")


def test_a_strip_has_every_window(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = explain("max_pool1d", (1, 1, 9), 3, 2, 1, ceil_mode=True).plot()
    (panel,) = figure.axes
    taps = [list(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 3]
    assert taps == [[-1, 0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7], [7, 8, 9]]
    figure.savefig(tmp_path / "strip.png")


def test_three_axes_are_slices() -> None:
    pytest.importorskip("matplotlib")
    figure = explain("avg_pool3d", (1, 1, 3, 4, 4), 2, padding=1).plot()
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["padding", "D 0", "D 1", "D 2", "padding", "D 0", "D 1", "", "", ""]


def test_a_long_axis_is_cut() -> None:
    pytest.importorskip("matplotlib")
    found = explain("max_pool2d", (1, 1, 3, 10**9), 3, stride=1)
    assert found.plot().axes[0].get_title().endswith("20 of 1000000000")


def test_pictures_of_any_size_are_small() -> None:
    pytest.importorskip("matplotlib")
    bins = explain("adaptive_max_pool2d", (1, 1, 6, 6), 10**8).plot()
    assert bins.axes[1].get_title().endswith("64 of 100000000 \N{MULTIPLICATION SIGN} 64 of 100000000")
    slices = explain("max_pool3d", (1, 1, 2000, 8, 8), (1000, 2, 2), 1).plot()
    assert len(slices.axes) == 2 * 24
    padded = explain("max_pool1d", (1, 1, 64), 3, 1, 30).plot()  # of which only the padding is drawn
    assert any("0 of 64" in text.get_text() for text in padded.axes[0].texts)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (explain("max_pool2d", X2, 9), "there is nothing to draw, for the call will raise Output size"),
        (explain("pool", (3, 3, 3, 3), "max", 2), "up to three pooled axes, got 4"),
        (explain("adaptive_max_pool2d", X2, 0), "has no windows"),
    ],
)
def test_what_cannot_be_drawn(found: Explanation, match: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=match):
        found.plot()


# The command line -------------------------------------------------------------------------------------------------------


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli = pytest.importorskip("numbapool.cli")
    picture = tmp_path / "windows.png"
    arguments = ["explain", "max_pool2d", "1x1x16x16", "4", "stride=2", "padding=(1,1)", "--bandwidth", "20"]
    assert cli.main([*arguments, "--picture", str(picture)]) == 0
    found = explain("max_pool2d", (1, 1, 16, 16), 4, stride=2, padding=(1, 1), bandwidth=20e9)
    assert capsys.readouterr().out == f"{found}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["explain", "max_pool2d", "1x1x4x4", "7"]) == 1
    assert "kernel_size=4" in capsys.readouterr().out
    assert cli.main(["explain", "max_pool2d", "1x1x4x4", "2", "padding=same"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maxpool", "1x1x4x4"], "the nearest are"),
        (["max_pool2d", "1,1,4,4"], "is not ints such as 1x3x224x224"),
        (["max_pool2d", "1x1x4x4", "2", "--dtype", "float31"], "float31"),
        (["max_pool2d", "1x1x4x4", "2", "--bandwidth", "0"], "bandwidth"),
        (["max_pool2d", "1x1x4x4", "2", "--picture", "no/such/directory.png"], "directory"),
        (["max_pool2d", "1x1x4x4", "2", "stride", "=", "2"], "'=' is neither VALUE nor NAME=VALUE without spaces"),
        (["max_pool2d", "1x1x4x4", "2", "stride="], "'stride=' is neither VALUE nor NAME=VALUE"),
        (["max_pool2d", "1x1x4x4", "2", "--stride", "2"], "Arguments of the function are written NAME=VALUE."),
    ],
)
def test_command_refuses(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    cli = pytest.importorskip("numbapool.cli")
    assert cli.main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_negative_elements_of_power_means() -> None:
    """What is said of them is what comes of them, and the true norm has none of it."""
    x = np.array([[3.0, -1.0, 1.0, -3.0]])
    said = {
        0.5: "makes its window NaN",
        2.5: "makes its window NaN",
        1: "counts as it is",
        3: "makes a window NaN whose sum of powers is negative",
    }
    for power, words in said.items():
        found = numbapool.lp_pool1d(x, power, 2).ravel()
        assert (
            np.isnan(found).tolist()
            == {0.5: [True, True], 2.5: [True, True], 1: [False, False], 3: [False, True]}[power]
        )
        norms = numbapool.lp_pool1d(x, power, 2, true_norm=True).ravel()
        np.testing.assert_allclose(norms, (3.0**power + 1) ** (1 / power))
        for call in (
            explain("lp_pool1d", x, power, 2),
            explain("lp_pool1d_backward", x, power, 2),
            explain("pool", x, Norm(power), 2, axes=1),
        ):
            (line,) = [each for each in f"{call}".splitlines() if each.startswith("x < 0")]
            assert (
                f"{words}, by torch's rule; true_norm=True takes magnitudes: (sum |x|^{power:g})^(1/{power:g})" in line
            )
    for call in (
        explain("lp_pool1d", x, 2, 2),
        explain("lp_pool1d", x, np.inf, 2),
        explain("lp_pool1d", x, 2.5, 2, true_norm=True),
        explain("global_lp_pool", (1, 1, 4), 2.5),
        explain("max_pool1d", x, 2),
    ):
        assert "x < 0" not in f"{call}"
