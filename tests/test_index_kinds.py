"""Kinds of indices: made of the reference's positions in the plane here, by the definition; and by every consumer the same."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import reference
from tests.checks import Array, assert_same, public, tied_values
from tests.conftest import ArrayKind

# Shape and window; some windows hold no input at all.
CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((2, 2, 4), {"kernel_size": 2, "stride": 1, "padding": 3}),
    ((2, 3, 6, 7), {"kernel_size": 2}),
    ((2, 3, 6, 7), {"kernel_size": (3, 2), "stride": (1, 2), "padding": ((1, 0), (2, 1)), "ceil_mode": True}),
    ((2, 2, 9, 8), {"kernel_size": 3, "stride": 1, "padding": 2, "dilation": 2}),
    ((1, 2, 20, 24), {"kernel_size": (5, 4), "stride": 3}),
    ((2, 2, 4, 5, 6), {"kernel_size": (2, 3, 2), "stride": (1, 2, 3), "padding": (1, 0, 1)}),
    ((1, 1, 12, 40), {"kernel_size": (12, 40)}),
    ((1, 2, 20, 20), {"kernel_size": 17, "stride": 1}),
    ((3, 4, 6), {"kernel_size": 2}),
    ((1, 2, 3, 4, 5), {"kernel_size": 2, "stride": 1, "dilation": (2, 1, 3)}),
)


def per_axis(value: Any, rank: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * rank


def as_global(positions: Array, shape: tuple[int, ...], rank: int) -> Array:
    """Positions in the plane as positions in a C-contiguous array of `shape`."""
    size = int(np.prod(shape[-rank:]))
    planes = np.arange(int(np.prod(shape[:-rank]))).reshape(*shape[:-rank], *(1,) * rank)
    return np.where(positions < 0, -1, positions + planes * size)


def as_taps(positions: Array, shape: tuple[int, ...], rank: int, window: dict[str, Any]) -> Array:
    """Positions in the plane as the number of the tap, in row-major order."""
    kernel = per_axis(window["kernel_size"], rank)
    stride = per_axis(window.get("stride", kernel), rank)
    dilation = per_axis(window.get("dilation", 1), rank)
    before = [each[0] if isinstance(each, tuple) else each for each in per_axis(window.get("padding", 0), rank)]
    dtype = next(each for each in (np.uint8, np.uint16, np.uint32) if np.prod(kernel) <= np.iinfo(each).max)
    taps = np.full(positions.shape, np.iinfo(dtype).max, dtype)
    for output in np.ndindex(*positions.shape):
        if positions[output] >= 0:
            at = np.unravel_index(positions[output], shape[-rank:])
            windows = zip(at, output[-rank:], stride, before, dilation, strict=True)
            taps[output] = np.ravel_multi_index([(i - o * s + b) // d for i, o, s, b, d in windows], kernel)
    return taps


def expected(x: Array, rank: int, window: dict[str, Any], operation: str) -> dict[str, Array]:
    """Indices of each kind."""
    _, positions = getattr(reference, operation)(x, **window, rank=rank)
    return {
        "plane": positions,
        "global": as_global(positions, x.shape, rank),
        "window": as_taps(positions, x.shape, rank, window),
    }


@pytest.mark.parametrize("operation", ["max_pool", "min_pool"])
@pytest.mark.parametrize(("shape", "window"), CASES)
def test_sliding_windows(operation: str, shape: Any, window: Any, backend: ArrayKind) -> None:
    rank = len(shape) - 2
    x = tied_values(shape, "float32")
    forward, backward = public(operation, rank), public(f"{operation}_backward", rank)
    kinds = expected(x, rank, window, operation)
    grad = np.random.default_rng(0).standard_normal(kinds["plane"].shape).astype(np.float32)
    gradient = backend.to_numpy(backward(backend.from_numpy(grad), backend.from_numpy(x), **window))
    for kind, wanted in kinds.items():
        out, indices = forward(backend.from_numpy(x), **window, return_indices=True, index_kind=kind)
        assert_same(backend.to_numpy(out), backend.to_numpy(forward(backend.from_numpy(x), **window)))
        assert_same(backend.to_numpy(indices), wanted)
        options = {"indices": backend.from_numpy(wanted), "index_kind": kind}
        result = backward(backend.from_numpy(grad), backend.from_numpy(x), **window, **options)
        assert_same(backend.to_numpy(result), gradient)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16", "float16", "float64"])
def test_dtypes(dtype: str) -> None:
    x = tied_values((2, 3, 9, 10), dtype) if dtype != "float16" else tied_values((2, 3, 9, 10), "float32").astype("f2")
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    _, positions = numbapool.max_pool2d(x, **window, return_indices=True)
    for kind, wanted in (
        ("global", as_global(positions, x.shape, 2)),
        ("window", as_taps(positions, x.shape, 2, window)),
    ):
        _, indices = numbapool.max_pool2d(x, **window, return_indices=True, index_kind=kind)
        assert_same(indices, wanted)


def test_smallest_dtypes() -> None:
    """The largest value means none, so 255 taps are the most of uint8."""
    for taps, dtype in ((255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")):
        x = np.zeros((1, 1, taps + 5), np.float32)
        x[..., taps - 1] = 1
        _, indices = numbapool.max_pool1d(x, taps, 1, return_indices=True, index_kind="window")
        assert indices.dtype == dtype
        np.testing.assert_array_equal(indices[0, 0, :5], np.arange(taps - 1, taps - 6, -1))
        _, indices = numbapool.global_max_pool(x[..., :taps], return_indices=True, index_kind="window")
        assert indices.dtype == dtype
        assert indices.item() == taps - 1


def test_channels_last() -> None:
    """Global indices are those of the array as it is shaped."""
    x = tied_values((2, 6, 7, 3), "float32")
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    moved = np.moveaxis(x, -1, 1)
    kinds = expected(moved, 2, window, "max_pool")
    out, taps = numbapool.max_pool2d(x, **window, return_indices=True, index_kind="window", data_format="channels_last")
    assert_same(np.moveaxis(taps, -1, 1), kinds["window"])
    _, indices = numbapool.max_pool2d(
        x, **window, return_indices=True, index_kind="global", data_format="channels_last"
    )
    assert_same(np.where(indices < 0, -np.inf, x.ravel()[indices]), out)
    n, _, _, c = np.indices(out.shape)
    position = np.moveaxis(kinds["plane"], 1, -1)
    np.testing.assert_array_equal(indices, np.where(position < 0, -1, (n * 42 + position) * 3 + c))
    grad = np.random.default_rng(0).standard_normal(out.shape).astype(np.float32)
    last = {"data_format": "channels_last"}
    wanted = numbapool.max_pool2d_backward(grad, x, **window, **last)
    for kind, given in (("window", taps), ("global", indices)):
        result = numbapool.max_pool2d_backward(grad, x, **window, **last, indices=given, index_kind=kind)
        assert_same(result, wanted)


@pytest.mark.parametrize("axes", [(0,), (3, 1), (0, 2, 3), (2, 3)])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_any_axes(kind: Any, axes: tuple[int, ...], backend: ArrayKind) -> None:
    x = np.random.default_rng(0).permutation(4 * 3 * 5 * 6).reshape(4, 3, 5, 6).astype(np.float32)
    pooling = {"kernel_size": 2, "stride": 1, "axes": axes}
    out, indices = numbapool.pool(backend.from_numpy(x), kind, **pooling, return_indices=True, index_kind="global")
    assert type(indices) is type(out)
    assert_same(x.ravel()[backend.to_numpy(indices)], backend.to_numpy(out))
    _, taps = numbapool.pool(backend.from_numpy(x), kind, **pooling, return_indices=True, index_kind="window")
    windows = np.lib.stride_tricks.sliding_window_view(x, (2,) * len(axes), axes)
    flat = windows.reshape(*windows.shape[:4], -1)
    assert_same(backend.to_numpy(taps), (flat.argmax(-1) if kind == "max" else flat.argmin(-1)).astype(np.uint8))
    grad = np.random.default_rng(1).integers(-4, 5, windows.shape[:4]).astype(np.float32)
    arrays = backend.from_numpy(grad), backend.from_numpy(x)
    wanted = backend.to_numpy(numbapool.pool_backward(*arrays, kind, **pooling))
    for index_kind, given in (("global", indices), ("window", taps)):
        result = numbapool.pool_backward(*arrays, kind, **pooling, indices=given, index_kind=index_kind)
        assert_same(backend.to_numpy(result), wanted)


def test_adaptive_bins(backend: ArrayKind) -> None:
    for shape, size in itertools.product(((2, 3, 13, 9), (1, 2, 4, 6)), (5, (3, 2), (None, 1))):
        x = tied_values(shape, "float32")
        _, positions = reference.adaptive_max_pool(x, size, rank=2)
        _, indices = numbapool.adaptive_max_pool2d(
            backend.from_numpy(x), size, return_indices=True, index_kind="global"
        )
        assert_same(backend.to_numpy(indices), as_global(positions, shape, 2))
        _, taps = numbapool.adaptive_max_pool2d(backend.from_numpy(x), size, return_indices=True, index_kind="window")
        heights, widths = positions.shape[2:]
        for output in np.ndindex(*positions.shape):
            top, left = output[2] * shape[2] // heights, output[3] * shape[3] // widths
            row, column = divmod(int(positions[output]), shape[3])
            width = -(-(output[3] + 1) * shape[3] // widths) - left
            assert backend.to_numpy(taps)[output] == (row - top) * width + column - left
        grad = np.random.default_rng(0).standard_normal(positions.shape).astype(np.float32)
        arrays = backend.from_numpy(grad), backend.from_numpy(x)
        wanted = backend.to_numpy(numbapool.adaptive_max_pool2d_backward(*arrays, size))
        for kind, given in (("global", indices), ("window", taps)):
            result = numbapool.adaptive_max_pool2d_backward(*arrays, size, indices=given, index_kind=kind)
            assert_same(backend.to_numpy(result), wanted)


def test_fractional_windows() -> None:
    x = tied_values((2, 3, 9, 11), "float64")
    samples = np.random.default_rng(0).random((2, 3, 2))
    arguments = {"kernel_size": 2, "output_size": (4, 5), "_random_samples": samples}
    out, positions = numbapool.fractional_max_pool2d(x, **arguments, return_indices=True)
    _, indices = numbapool.fractional_max_pool2d(x, **arguments, return_indices=True, index_kind="global")
    assert_same(indices, as_global(positions, x.shape, 2))
    _, taps = numbapool.fractional_max_pool2d(x, **arguments, return_indices=True, index_kind="window")
    assert taps.dtype == np.uint8
    assert taps.max() < 4
    wanted = numbapool.fractional_max_pool2d_backward(out, x, **arguments)
    result = numbapool.fractional_max_pool2d_backward(out, x, 2, (4, 5), indices=indices, index_kind="global")
    assert_same(result, wanted)
    result = numbapool.fractional_max_pool2d_backward(out, x, **arguments, indices=taps, index_kind="window")
    assert_same(result, wanted)
    with pytest.raises(ValueError, match="_random_samples must be given beside indices of index_kind='window'"):
        numbapool.fractional_max_pool2d_backward(out, x, 2, (4, 5), indices=taps, index_kind="window")
    with pytest.raises(ValueError, match=r"index_kind must be one of .*, got 'windows'"):
        numbapool.fractional_max_pool2d_backward(out, x, **arguments, indices=taps, index_kind="windows")


@pytest.mark.parametrize("size", [None, (7, 9)])
def test_unpool(size: tuple[int, int] | None, backend: ArrayKind) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, *(size or (6, 8))))
    out, positions = numbapool.max_pool2d(x, 2, return_indices=True)
    wanted = numbapool.max_unpool2d(out, positions, 2, output_size=size)
    gradient = numbapool.max_unpool2d_backward(x, out, positions, 2, output_size=size)
    for kind in ("plane", "global", "window"):
        _, indices = numbapool.max_pool2d(x, 2, return_indices=True, index_kind=kind)
        arrays = backend.from_numpy(out), backend.from_numpy(indices)
        result = numbapool.max_unpool2d(*arrays, 2, output_size=size, index_kind=kind)
        assert_same(backend.to_numpy(result), wanted)
        grads = backend.from_numpy(x), *arrays
        result = numbapool.max_unpool2d_backward(*grads, 2, output_size=size, index_kind=kind)
        assert_same(backend.to_numpy(result), gradient)


def test_out() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8))
    for kind, dtype in (("global", np.int64), ("window", np.uint8)):
        fresh = numbapool.max_pool2d(x, 2, return_indices=True, index_kind=kind)
        given = np.empty((2, 3, 3, 4)), np.empty((2, 3, 3, 4), dtype)
        numbapool.max_pool2d(x, 2, return_indices=True, index_kind=kind, out=given)
        for target, wanted in zip(given, fresh, strict=True):
            assert_same(target, wanted)


def test_errors() -> None:
    x = np.zeros((1, 1, 4, 4))
    out, taps = numbapool.max_pool2d(x, 2, padding=1, return_indices=True, index_kind="window")
    for wrong, error in (("flat", ValueError), (None, TypeError), (1, TypeError)):
        with pytest.raises(error, match="index_kind must be"):
            numbapool.max_pool2d(x, 2, index_kind=wrong)
        with pytest.raises(error, match="index_kind must be"):
            numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=taps, index_kind=wrong)
    with pytest.raises(TypeError, match="indices has dtype uint8; accepted here: int64"):
        numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=taps)
    with pytest.raises(TypeError, match="indices has dtype int64; accepted here: uint8"):
        numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=taps.astype(np.int64), index_kind="window")
    with pytest.raises(ValueError, match="invalid max index: 4 in indices is not one of the 4 elements of its window"):
        numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=np.full_like(taps, 4), index_kind="window")
    with pytest.raises(ValueError, match="invalid max index: one in indices is outside the input"):
        numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=np.zeros_like(taps), index_kind="window")
    with pytest.raises(ValueError, match="invalid max index: 255"):
        numbapool.max_unpool2d(out, np.full_like(taps, 255), 2, index_kind="window")
    for bad in (-2, 16, 2**40):
        indices = np.full(out.shape, bad)
        with pytest.raises(ValueError, match="Found an invalid max index"):
            numbapool.max_pool2d_backward(out, x, 2, padding=1, indices=indices, index_kind="global")


@pytest.mark.parametrize("shape", [(), (6,), (6, 6), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_wrong_number_of_axes(shape: tuple[int, ...], data_format: Any) -> None:
    """Found before positions in the whole array are counted."""
    x, indices = np.zeros(shape), np.zeros(shape, np.int64)
    options = {"index_kind": "global", "data_format": data_format}
    with pytest.raises(ValueError, match=r"x must have 4 axes \(N, .* or 3 axes"):
        numbapool.max_unpool2d(x, indices, 2, output_size=(9, 9), **options)
    with pytest.raises(ValueError, match=r"x must have 4 axes \(N, .* or 3 axes"):
        numbapool.max_unpool2d_backward(x, x, indices, 2, **options)
    with pytest.raises(ValueError, match=r"x must have 4 axes \(N, .* or 3 axes"):
        numbapool.max_pool2d_backward(x, x, 2, indices=indices, **options)
    if len(shape) < 3:
        with pytest.raises(ValueError, match="x must have at least 3 axes"):
            numbapool.global_max_pool_backward(x, x, indices=indices, **options)


def test_many_axes_and_empty_outputs() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 3, 2, 2))
    out, indices = numbapool.global_max_pool(x, return_indices=True, index_kind="global")
    assert_same(x.ravel()[indices], out)
    gradient = numbapool.global_max_pool_backward(out, x, indices=indices, index_kind="global")
    assert_same(gradient, numbapool.global_max_pool_backward(out, x))
    out, indices = numbapool.adaptive_max_pool2d(x[..., 0, 0], (0, 2), return_indices=True, index_kind="window")
    assert out.shape == indices.shape == (2, 3, 0, 2)


def test_indices_that_a_library_has_cut() -> None:
    """To int32, as JAX does by default."""
    strict = pytest.importorskip("array_api_strict")
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 8))
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global")
    arrays = strict.asarray(out), strict.asarray(indices.astype(np.int32))
    result = numbapool.max_unpool2d(*arrays, 2, index_kind="global")
    assert_same(np.from_dlpack(result), numbapool.max_unpool2d(out, indices, 2, index_kind="global"))


@pytest.mark.parametrize("width", [15, 16, 31, 63])
@pytest.mark.parametrize("after", [0, 1, 40])
def test_gradients_stay_in_their_array(width: int, after: int) -> None:
    """Also where windows reach beyond the input."""
    x = np.random.default_rng(0).random((1, 1, 4, width), np.float32)
    window = {"kernel_size": 2, "stride": 2, "padding": ((0, 0), (0, after)), "ceil_mode": True}
    values, taps = numbapool.max_pool2d(x, **window, return_indices=True, index_kind="window")
    memory = np.full(x.size + 256, -7, np.float32)
    out = memory[: x.size].reshape(x.shape)
    grad = np.ones_like(values)
    numbapool.max_pool2d_backward(grad, x, **window, indices=taps, index_kind="window", out=out)
    assert_same(out, numbapool.max_pool2d_backward(grad, x, **window))
    assert (memory[x.size :] == -7).all()


def test_large_windows() -> None:
    x = np.zeros((1, 1, 300, 300), np.float32)
    x[0, 0, 250, 260] = 1
    out, taps = numbapool.max_pool2d(x, 280, 1, return_indices=True, index_kind="window")
    assert taps.dtype == np.uint32
    gradient = numbapool.max_pool2d_backward(out, x, 280, 1, indices=taps, index_kind="window")
    assert_same(gradient, numbapool.max_pool2d_backward(out, x, 280, 1))
    with pytest.raises(ValueError, match="too large for index_kind='window'"):
        numbapool.max_pool2d(x, 2**33, 2**34, 2**33, return_indices=True, index_kind="window")


# torch ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plane", "window", "global"])
def test_autograd_with_indices(kind: Any) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True, index_kind=kind)
    unpooled = numbapool.max_unpool2d(out, indices, 2, index_kind=kind)
    unpooled.sum().backward()
    assert x.grad.sum() == out.numel()
    assert torch.autograd.gradcheck(
        lambda x: numbapool.max_unpool2d(x, indices, 2, index_kind=kind), (out.detach().requires_grad_(),)
    )


def test_compiled() -> None:
    torch = pytest.importorskip("torch")

    def function(x: Any) -> Any:
        return numbapool.max_pool2d(x, 2, return_indices=True, index_kind="window")

    x = torch.randn(2, 3, 8, 8)
    for theirs, ours in zip(torch.compile(function, backend="aot_eager", fullgraph=True)(x), function(x), strict=True):
        assert theirs.dtype == ours.dtype
        assert torch.equal(theirs, ours)


def test_what_cannot_be_recorded_says_so() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(1, 2, 4, 4)

    def function(x: Any) -> Any:
        return numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global")[0].sum()

    with pytest.raises(NotImplementedError, match="index_kind='global'"):
        torch.func.grad(function)(x)
    with pytest.raises(NotImplementedError, match="index_kind='global'"):
        function(x.to("meta"))
