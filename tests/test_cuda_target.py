"""The CUDA target's arithmetic, what it imports, and its kernels in Numba's simulator."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import numbapool
from numbapool import windows
from numbapool.geometry import window_plan
from numbapool.kernels import cuda
from numbapool.kernels.cuda import avg, elements, indexed, scalars, taps, whole
from numbapool.kernels.cuda import compile as compiler
from numbapool.kernels.cuda.launch import Operand, Step
from numbapool.kernels.cuda.schedule import Layer
from numbapool.kernels.cuda.variants import bound, layout_of, scalars_read
from tests.checks import count_taps

ROOT = Path(numbapool.__file__).parents[1]


def plain(function: Any, **names: Any) -> Any:
    """A function of the target in plain Python."""
    return bound(function, names, lambda each: each, {})


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_quotients_of_32_bits(n: int, divisor: int) -> None:
    for dividend in {n, n // divisor * divisor, max(0, n // divisor * divisor - 1)}:
        assert elements.quotient32(dividend, divisor, elements.magic32(divisor)) == dividend // divisor


@given(st.integers(0, 2**62), st.integers(1, 2**62))
def test_quotients_of_64_bits(n: int, divisor: int) -> None:
    with np.errstate(over="ignore"):
        for dividend in {n, n // divisor * divisor, max(0, n // divisor * divisor - 1)}:
            assert elements.quotient64(dividend, divisor, elements.magic64(divisor)) == dividend // divisor


EXTENTS = st.tuples(*(st.integers(*each) for each in ((1, 12), (1, 5), (1, 4), (0, 6), (0, 6), (1, 3))))


@given(EXTENTS, st.booleans(), st.booleans())
@settings(max_examples=500, derandomize=True)
def test_windows_along_an_axis(extents: tuple[int, ...], ceil_mode: bool, count_include_pad: bool) -> None:
    """Where taps are, how many count, and which windows hold an element, by the rules that all targets share."""
    length, kernel, stride, before, after, dilation = extents
    assume(before + length + after > (kernel - 1) * dilation)
    plan = window_plan((1, 1, length), 1, kernel, stride, ((before, after),), dilation, ceil_mode)
    (axis,), placement = plan.pooled, taps.placement_of(plan)
    names = taps.PLACEMENTS[placement] | {"count": taps.COUNTS[placement, count_include_pad]}
    functions = taps.window_w, taps.count_w, taps.holders_w, taps.tap_w
    read = tuple(sorted({name for each in functions for name in scalars_read(each, names)}))
    window, count, holders, tap = (plain(each, **names, G=layout_of(read)) for each in functions)
    g = scalars.filled(read, scalars.fields_of(Layer(plan), [], True) | avg.ends_of(plan, count_include_pad), False)
    inside: list[list[int]] = []
    for o in range(axis.out):
        first, number, skipped, _ = window(None, 0, o, g)
        positions = [position for position in plan.window(0, o) if 0 <= position < length]
        inside.append(positions)
        assert [first + k * dilation for k in range(number)] == positions
        assert not positions or skipped == windows.first_tap(o * stride - before, dilation)
        assert count(o, g) == count_taps(o, axis, count_include_pad)
    for i in range(length):
        asked = [o for o in range(*holders(i, g)) if tap(i, o, g) >= 0]
        assert asked == [o for o, positions in enumerate(inside) if i in positions]


def test_every_half() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = np.array([elements.float_of_half(each) for each in bits])
    np.testing.assert_array_equal(values, bits.view(np.float16).astype(np.float32))
    back = np.array([elements.half_of_float(each) for each in values], np.uint16)
    np.testing.assert_array_equal(back.view(np.float16), bits.view(np.float16))


def between(bits: int) -> st.SearchStrategy[float]:
    """Numbers in the middle of two that have so many bits less, and next to it: few floats that are drawn at random are."""
    half = 1 << (bits - 1)
    drawn = st.tuples(st.integers(0, (1 << (32 - bits)) - 1), st.sampled_from([half - 1, half, half + 1]))
    return drawn.map(lambda each: float(np.uint32(each[0] << bits | each[1]).view(np.float32))).filter(math.isfinite)


@given(st.floats(width=32) | between(13))
def test_rounding_to_half(each: float) -> None:
    with np.errstate(over="ignore"):
        expected = np.float32(each).astype(np.float16)
    np.testing.assert_array_equal(elements.half_of_float(np.float32(each)).view(np.float16), expected)


@given(st.floats(width=32) | between(16))
def test_rounding_to_bfloat(each: float) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = elements.bfloat_of_float(np.float32(each))
    np.testing.assert_array_equal(
        elements.float_of_bfloat(bits), np.float32(np.float32(each).astype(ml_dtypes.bfloat16))
    )


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63) + 1, 2**63 - 1).filter(bool))
def test_quotients_of_sums(each: int, divisor: int) -> None:
    names = {"total": np.int64, "magnitude_of": elements.magnitude_signed}
    magnitude, is_negative = abs(each) // abs(divisor), (each < 0) != (divisor < 0)
    rest = 2 * (abs(each) % abs(divisor)) - abs(divisor)
    nearest = magnitude + (rest > 0 or (rest == 0 and magnitude % 2))
    with np.errstate(over="ignore"):
        given_sum = np.int64(each)
        for function, expected in ((elements.int_quotient, magnitude), (elements.rounded_quotient, nearest)):
            divide = plain(function, **names | {"signed": magnitude_and_sign})
            assert divide(given_sum, np.int64(divisor)) == (expected, is_negative)


def magnitude_and_sign(q: Any, is_negative: Any) -> tuple[int, bool]:
    """In place of the signed quotient, which may not fit."""
    return int(q), bool(is_negative)


@pytest.mark.parametrize(("dtype", "reciprocal"), [(np.float32, "reciprocal32"), (np.float64, "reciprocal64")])
def test_quotients_of_floats(dtype: Any, reciprocal: str) -> None:
    """To the last bit but one, without fused operations; exact where the quotient is."""
    divide = plain(elements.float_quotient, total=dtype, reciprocal=getattr(elements, reciprocal))
    rng = np.random.default_rng(0)
    for divisor in [1, 2, 3, 4, 7, 9, 49, 81, 1000, 12544, 2**40 + 1, -3, -(2**62)]:
        for each in [*rng.standard_normal(50) * 10.0 ** rng.integers(-9, 9, 50), 0.0, 3.0]:
            actual, expected = divide(dtype(each), dtype(divisor)), dtype(each) / dtype(divisor)
            assert abs(actual - expected) <= abs(expected) * np.finfo(dtype).eps, (each, divisor)
            whole = dtype(round(each) % 1000) * dtype(divisor)
            if abs(divisor) < 2**13:
                assert divide(whole, dtype(divisor)) == whole / dtype(divisor)
    with np.errstate(invalid="ignore"):
        for each in (np.inf, -np.inf):
            assert divide(dtype(each), dtype(3)) == each
    assert np.isnan(divide(dtype(np.nan), dtype(3)))
    assert divide(dtype(0), dtype(0)) == 0


def test_cpu_calls_import_nothing_of_it() -> None:
    code = (
        "import sys, numpy, numbapool; numbapool.max_pool1d(numpy.zeros((1, 1, 4)), 2); "
        "loaded = [m for m in sys.modules if m.startswith(('numbapool.kernels.cuda', 'numba.cuda', 'cuda'))]; "
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_planning_imports_no_numba() -> None:
    code = "import sys, numbapool.kernels.cuda; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_numbas_own_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Core Numba still ships a numba.cuda: it is named, and the command that installs the right one."""
    built_in = SimpleNamespace(implementation="Built-in", __name__="numba.cuda")
    monkeypatch.setattr(compiler.importlib, "import_module", lambda name: built_in)
    with pytest.raises(ImportError, match=r"not the numba.cuda that Numba comes with: pip install 'numbapool\[cuda\]'"):
        compiler.numba_cuda.__wrapped__()


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(compiler.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'numbapool\[cuda\]'"):
        compiler.numba_cuda.__wrapped__()


@pytest.mark.parametrize("arranged", ["planes", "channels last", "strided"])
@pytest.mark.parametrize("dtype", ["float16", *(pytest.param(d, marks=pytest.mark.full) for d in ("float32", "int8"))])
def test_fast_paths(dtype: str, arranged: str) -> None:
    """Tiles, windows an axis at a time, whole planes, and 16 bytes of channels at once, each with the CPU's results."""
    from tests.emulation import EmulatedArray

    x = (np.random.default_rng(0).standard_normal((2, 16, 18, 32)) * 3).astype(dtype)
    if arranged == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    elif arranged == "strided":
        x = x[::-1, :, ::-1, ::2]
    for size, *window in ((2,), (9, 2, 3), ((7, 5), 1, 2), (x.shape[2:],)):
        values, indices = numbapool.max_pool2d(x, size, *window, return_indices=True)
        ours = numbapool.max_pool2d(EmulatedArray(x), size, *window, return_indices=True)
        np.testing.assert_array_equal(ours[0].array, values)
        np.testing.assert_array_equal(ours[1].array, indices)
        alone = numbapool.max_pool2d(EmulatedArray(x), size, *window)
        np.testing.assert_array_equal(alone.array, values)
        mean = numbapool.avg_pool2d(EmulatedArray(x), size, *window)
        tolerance = 2e-3 if dtype == "float16" else 1e-5
        expected = numbapool.avg_pool2d(x, size, *window)
        np.testing.assert_allclose(mean.array, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kernels that have run."""
    from tests import emulation

    names: set[str] = set()

    def noting(step: Step, arguments: tuple[int, ...]) -> None:
        names.add(step.kernel.function.__name__)
        emulation.emulate(step, arguments)

    monkeypatch.setattr(emulation, "LAUNCHER", [noting])
    return names


WINDOWS = {
    # shape, kernel, stride, padding, and kernels of the gradients of maxima and means
    "tiles": ((2, 3, 8, 32), 2, 2, 0, "max_holders_tiles", "avg_holders_tiles"),
    "tiles, a row left": ((2, 3, 9, 32), 2, 2, 0, "max_holders_tiles", "avg_holders_tiles"),
    "tiles, rows overlap": ((1, 2, 9, 16), (3, 2), (1, 2), (1, 0), "max_holders_tiles", "avg_holders_tiles"),
    "tiles, volumes": ((1, 2, 6, 4, 16), 2, 2, 0, "max_holders_tiles", "avg_holders_tiles"),
    "tiles, taps of two bytes": ((1, 2, 130, 32), (130, 2), (130, 2), 0, "max_holders_tiles", "avg_holders_tiles"),
    "no tiles, a column left": ((2, 4, 8, 33), 2, 2, 0, "max_holders", "avg_holders"),
    "whole": ((3, 5, 7, 9), (7, 9), (7, 9), 0, "max_fill", "avg_fill"),
    "one whole": ((1, 1, 9, 7), (9, 7), (9, 7), 0, "max_fill", "avg_fill"),
    "along axes": ((2, 4, 20, 23), 9, 1, 4, "max_holders_along", "avg_holders"),
    "along axes, strides": ((1, 4, 25, 24), (13, 15), 2, (6, 3), "max_holders_along", "avg_holders"),
    "along two axes": ((1, 2, 9, 10, 11), (7, 1, 7), 1, (3, 0, 2), "max_holders_along", "avg_holders"),
    "along three axes": ((1, 2, 9, 10, 11), 5, 1, 2, "max_holders_along", "avg_holders"),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(d, marks=pytest.mark.full) for d in ("float16", "float64"))]
)
def test_gradients_by_every_way(name: str, channels_last: bool, dtype: str, launched: set[str]) -> None:
    """Gradients of maxima, by all kinds of indices and by none, of means, sums and norms, are the CPU's."""
    shape, size, stride, padding, by_index, by_share = WINDOWS[name]
    rank, rng = len(shape) - 2, np.random.default_rng(0)
    x = aligned(rng.standard_normal(shape).round(1).astype(dtype))
    x.ravel()[rng.integers(0, x.size, 3)] = np.nan
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    window = size, stride, padding
    tolerance = {"float16": 1e-2, "float32": 2e-5, "float64": 1e-13}[dtype]

    def compare(function: str, *arguments: Any, **options: Any) -> None:
        expected = getattr(numbapool, f"{function}_pool{rank}d_backward")(*arguments, **options)
        ours = getattr(numbapool, f"{function}_pool{rank}d_backward")(
            *map(emulated, arguments), **{key: emulated(each) for key, each in options.items()}
        )
        np.testing.assert_allclose(ours.array, expected, rtol=tolerance, atol=tolerance)

    for kind in ("plane", "window"):
        function = getattr(numbapool, f"max_pool{rank}d")
        values, indices = function(x, *window, return_indices=True, index_kind=kind)
        grad = aligned(rng.standard_normal(values.shape).astype(dtype))
        compare("max", grad, x, *window, indices=aligned(indices), index_kind=kind)
    compare("max", grad, x, *window)
    compare("min", grad, x, *window)
    for options in ({}, {"count_include_pad": False}, {"divisor_override": -3}):
        compare("avg", grad, x, *window, **options)
    compare("sum", grad, x, *window)
    if padding == 0:
        compare("lp", grad, np.abs(np.nan_to_num(x)), 2, size, stride)
        compare("lp", grad, np.nan_to_num(x), np.inf, size, stride)
    if not channels_last:
        assert {by_index, by_share} <= launched
    assert ("max_holders_along" in launched) == name.startswith("along")


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy at a multiple of 16 bytes."""
    memory = np.empty(array.nbytes + 16, np.uint8)
    copy = memory[-memory.ctypes.data % 16 :][: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def emulated(each: Any) -> Any:
    """Arrays as those of a GPU."""
    from tests.emulation import EmulatedArray

    return EmulatedArray(each) if isinstance(each, np.ndarray) else each


def test_windows_that_name_what_no_maxima_do(launched: set[str]) -> None:
    """Windows that share a row may name different elements of it, if somebody says so; and the same elements, or none."""
    rng, (height, width), size, before = np.random.default_rng(0), (20, 22), 9, 4
    taps = rng.integers(0, size, (2, 1, 2, height, width))
    rows, columns = np.mgrid[:height, :width]
    h = np.clip(rows - before + taps[0], 0, height - 1)
    w = np.clip(columns - before + taps[1], 0, width - 1)
    indices = h * width + w
    indices[0, 0, 3, 4] = -1
    grad = rng.standard_normal(indices.shape)
    expected = np.zeros((2, height * width))
    for plane in range(2):
        for index, each in zip(indices[0, plane].ravel(), grad[0, plane].ravel()):
            if index >= 0:
                expected[plane, index] += each
    x = np.zeros((1, 2, height, width))
    ours = numbapool.max_pool2d_backward(emulated(grad), emulated(x), size, 1, before, indices=emulated(indices))
    np.testing.assert_allclose(ours.array.reshape(2, -1), expected, rtol=1e-12, atol=1e-12)
    assert "max_holders_again" in launched


@pytest.mark.parametrize("sizes", [(3, 0), (0, 3), (0, 0)])
def test_gradients_of_no_windows(sizes: tuple[int, int]) -> None:
    x = np.ones((1, 2, 4, 5))
    grad = np.ones((1, 2, *sizes))
    for indices in (None, np.ones(grad.shape, int)):
        ours = numbapool.adaptive_max_pool2d_backward(emulated(grad), emulated(x), sizes, indices=emulated(indices))
        np.testing.assert_array_equal(ours.array, np.zeros(x.shape))


def test_runs_near_the_limit_do_not_overflow() -> None:
    """The end of a run of a member's elements is computed before it is cut."""
    x = Operand(np.dtype(np.float32), None, 16)
    for shape, index in (((600, 1, 1000, 2147470), np.int64), ((600, 1, 1000, 2140000), np.int32)):
        plan = window_plan(shape, 2, shape[2:], None, 0, 1, False)
        (step,) = cuda.avg_pool(plan, (x,), (x,), True, None, False).steps
        names = dict(step.kernel.names)
        assert names["index"] is index
        assert index is np.int64 or plan.plane_size + (avg.RUN << names["TEAM_BITS"]) < 2**31


def test_what_is_read_does_not_grow_with_the_area() -> None:
    """Large windows are pooled, and their gradients handed back, along one axis at a time."""
    grad, x = (Operand(np.dtype(np.float32), None, 16) for _ in range(2))
    indices = Operand(np.dtype(np.int32), None, 16)
    for size in (9, 31):
        plan = window_plan((8, 64, 64, 64), 2, size, 1, size // 2, 1, False)
        for program in (
            cuda.max_pool(plan, (x,), (x,)),
            cuda.max_pool_with_indices(plan, (x,), (x, indices)),
            cuda.max_pool_backward(plan, (grad, x), (x,)),
            cuda.scatter_add(plan, (grad, indices), (x,), False),
            cuda.avg_pool(plan, (x,), (x,), True, None, False),
            cuda.avg_pool_backward(plan, (grad,), (x,), True, None, False),
            cuda.lp_pool(plan, (x,), (x,), 2.0, False),
            cuda.lp_pool_backward(plan, (grad, x), (x,), 2.0, False),
        ):
            for step in program.steps:
                if step.kernel.function.__name__ == "max_holders_again":
                    continue  # does nothing, but for indices that are not those of maxima
                lengths = [each for name, each in zip(step.kernel.scalars, step.scalars) if name.startswith("KERNEL_")]
                assert prod(lengths) <= size or step.kernel.function.__name__ == "divide_sums", step.kernel.label


@pytest.mark.parametrize("dtype", ["float32", "int8", pytest.param("float16", marks=pytest.mark.full)])
def test_large_planes_in_parts(dtype: str, launched: set[str]) -> None:
    """Few planes are shared by many teams: values, sums, and the first of equals or the last NaN."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((1, 2, 130, 131)) * 3).round().astype(dtype)
    for each in (x, x[:, ::-1, ::-1, ::-1]):
        for function in ("max_pool2d", "min_pool2d"):
            values, indices = getattr(numbapool, function)(each, each.shape[2:], return_indices=True)
            ours = getattr(numbapool, function)(emulated(each), each.shape[2:], return_indices=True)
            np.testing.assert_array_equal(ours[0].array, values)
            np.testing.assert_array_equal(ours[1].array, indices)
            np.testing.assert_array_equal(getattr(numbapool, function)(emulated(each), each.shape[2:]).array, values)
        if dtype == "float32":
            each = each.copy()
            each[0, 0, 5, 5] = each[0, 0, 90, 7] = each[0, 0, 90, 90] = np.nan
            ours = numbapool.max_pool2d(emulated(each), each.shape[2:], return_indices=True)
            assert ours[1].array[0, 0, 0, 0] == 90 * 131 + 90
            each[0, 0] = -np.inf
            ours = numbapool.max_pool2d(emulated(each), each.shape[2:], return_indices=True)
            assert ours[1].array[0, 0, 0, 0] == 0
            each[0, 0] = 1
        mean = numbapool.avg_pool2d(emulated(each), each.shape[2:])
        tolerance = 1e-3 if dtype == "float16" else 1e-6
        np.testing.assert_allclose(
            mean.array, numbapool.avg_pool2d(each, each.shape[2:]), rtol=tolerance, atol=tolerance
        )
    assert {"max_whole", "max_whole_indices", "avg_whole", "divide_sums"} <= launched


def test_parts_are_all_of_a_plane() -> None:
    """Every position belongs to one member of one team, whatever the sizes."""
    for shape in [
        (1, 1, 100, 100),
        (3, 7, 91, 95),
        (511, 1, 64, 128),
        (600, 1, 128, 128),
        (1, 1, 4096, 4095),
        (5, 5, 6, 6),
    ]:
        plan = window_plan(shape, 2, shape[2:], None, 0, 1, False)
        parts = whole.parts_of(plan)
        assert (parts.number - 1) * parts.size < plan.plane_size <= parts.number * parts.size
        assert plan.planes * parts.number <= whole.FULL + plan.planes
        assert whole.parts_of(whole.plan_of_parts(plan, parts)).number == 1


def test_scans_skip_segments_of_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With segments of any length, and indices of all sorts, a scan finds what a loop finds."""
    rng = np.random.default_rng(0)
    for segment in (64, 3, 1):
        monkeypatch.setattr(indexed, "SEGMENT", segment)
        indexed.scatter_add.cache_clear()
        for shape, sizes in (((2, 3, 20, 23), (15, 16)), ((1, 2, 9, 150), (5, 140))):
            x = rng.standard_normal(shape)
            _, found = numbapool.adaptive_max_pool2d(x, sizes, return_indices=True)
            for indices in (found, rng.integers(-1, shape[2] * shape[3], found.shape)):
                grad, expected = (
                    rng.standard_normal(indices.shape),
                    np.zeros((shape[0] * shape[1], shape[2] * shape[3])),
                )
                planes = indices.reshape(len(expected), -1), grad.reshape(len(expected), -1)
                for plane, (own_indices, own_grad) in enumerate(zip(*planes)):
                    for index, each in zip(own_indices, own_grad):
                        if index >= 0:
                            expected[plane, index] += each
                ours = numbapool.adaptive_max_pool2d_backward(
                    emulated(grad), emulated(x), sizes, indices=emulated(indices)
                )
                np.testing.assert_allclose(ours.array.reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)
    indexed.scatter_add.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.full), "int8"])
def test_simulator(dtype: str) -> None:
    """Small cases of every kernel, block by block, see `tests.simulation`."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "tests.simulation", dtype]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert ended.returncode == 0, ended.stderr
    seen = set(ended.stdout.split())
    whole_planes = {"avg_whole", "max_whole", "max_whole_indices", "avg_fill", "max_fill"}
    others = {"max_tiles_indices", "merge_windows", "claim", "collect", "span", "scan"}
    gradients = {"avg_holders_tiles", "max_holders_tiles", "max_holders_along", "max_holders_again"}
    assert whole_planes | others | gradients <= seen
