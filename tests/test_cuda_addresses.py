"""Addresses of the CUDA kernels at and past 2**31, with arrays that do not exist.

A kernel runs in plain Python on pointers that make their values up from positions, and remember what was asked of them. Its index
arithmetic is done in Python's integers, each checked to fit the width that the variant has on a GPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest

from numbapool import windows
from numbapool.geometry import Plan, WindowPlan, adaptive_plan, window_plan
from numbapool.kernels import cuda
from numbapool.kernels.cuda import bins, elements, whole
from numbapool.kernels.cuda.launch import Operand, Program, Step
from numbapool.kernels.cuda.variants import bound

F32, I64 = Operand(np.dtype(np.float32), None, 16), Operand(np.dtype(np.int64), None, 16)


def value_at(i: int) -> np.float32:
    """Any value that depends on all bits of a position."""
    return np.float32(i * 2654435761 % 1000003)


class Virtual:
    """An array of any size: values by a rule, and what has been written."""

    def __init__(self, size: int, rule: Callable[[int], Any] = value_at) -> None:
        self.size, self.rule = size, rule
        self.written: dict[int, Any] = {}

    def __getitem__(self, i: Any) -> Any:
        assert 0 <= int(i) < self.size, f"reads element {i} of {self.size}"
        return self.rule(int(i))

    def __setitem__(self, i: Any, each: Any) -> None:
        assert 0 <= int(i) < self.size, f"writes element {i} of {self.size}"
        self.written[int(i)] = each


def checked(bits: int) -> Callable[[Any], int]:
    """Index arithmetic that never wraps."""

    def index(each: Any) -> int:
        assert -(2 ** (bits - 1)) <= int(each) < 2 ** (bits - 1), f"{each} does not fit {bits} bits"
        return int(each)

    return index


def run_threads(step: Step, buffers: list[Any], threads: list[int]) -> int:
    """Run some threads of a launch; the width of its index arithmetic."""
    names = dict(step.kernel.names)
    bits = 64 if names["index"] is np.int64 else 32
    index = checked(bits)
    division = {"quotient": lambda n, divisor, magic: index(int(index(n)) // divisor), "index": index}
    function = bound(step.kernel.function, names | division, lambda each: each, {})
    for t in threads:
        function(index(t), tuple(buffers), step.scalars)
    return bits


def threads_of(step: Step) -> list[int]:
    """The first threads, the last, and some between."""
    units = step.scalars[step.kernel.scalars.index("UNITS")]
    rng = random.Random(0)
    return sorted({0, 1, units // 2, units - 2, units - 1, *(rng.randrange(units) for _ in range(20))})


def taps_of(plan: WindowPlan, out: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Positions of the taps of a window inside the input, in order."""
    axes = []
    for o, axis in zip(out, plan.pooled, strict=True):
        start = o * axis.stride - axis.before
        first = windows.first_tap(start, axis.dilation)
        end = windows.end_tap(start, axis.length, axis.kernel, axis.dilation)
        axes.append([start + k * axis.dilation for k in range(first, end)])
    return [(i, j) for i in axes[0] for j in axes[1]]


PLANS = {
    # shape, window, and the width of index arithmetic that it needs
    "many planes": ((64, 256, 512, 600), (3, 4, 1, 1), 32),
    "tiles": ((8, 256, 2048, 1024), (2, None, 0, 1), 32),
    "large planes": ((2, 3, 40000, 60000), (3, 2, 1, 2), 64),
    "just 32 bits": ((1, 2, 32768, 65528), (3, 3, 0, 1), 32),
    "just more": ((1, 2, 32768, 65536), (3, 3, 0, 1), 64),
    "large planes, tiles": ((1, 1, 65536, 40000), (2, None, 0, 1), 64),
}


def run_program(program: Program, buffers: list[Any]) -> tuple[int, Step]:
    (step,) = program.steps
    chosen = [buffers[number] if number >= 0 else None for number, _ in step.buffers]
    return run_threads(step, chosen, threads_of(step)), step


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_maxima(name: str, channels_last: bool) -> None:
    """Every maximum that is written is that of its window, and so is its position."""
    shape, (kernel, stride, padding, dilation), bits = PLANS[name]
    plan = window_plan(shape, 2, kernel, stride, padding, dilation, False)
    _, c, height, width = shape
    _, _, out_h, out_w = plan.out_shape
    arranged: Plan = plan.channels_last if channels_last else plan
    x, out, indices = Virtual(prod(shape)), Virtual(prod(plan.out_shape)), Virtual(prod(plan.out_shape))
    used, _ = run_program(cuda.max_pool_with_indices(arranged, (F32,), (F32, I64)), [x, out, indices])
    assert used == bits or (channels_last and bits == 32)
    other = Virtual(prod(plan.out_shape))
    run_program(cuda.max_pool(arranged, (F32,), (F32,)), [x, other])
    assert out.written.keys() == indices.written.keys()
    assert len(out.written) > 20
    for written, with_indices in ((out.written, True), (other.written, False)):
        for at, best in written.items():
            if channels_last:
                rest, channel = divmod(at, c)
                batch, oh, ow = rest // (out_h * out_w), rest // out_w % out_h, rest % out_w
            else:
                plane, oh, ow = at // (out_h * out_w), at // out_w % out_h, at % out_w
                batch, channel = divmod(plane, c)
            taps = taps_of(plan, (oh, ow))
            if channels_last:
                values = [value_at(((batch * height + h) * width + w) * c + channel) for h, w in taps]
            else:
                values = [value_at(((batch * c + channel) * height + h) * width + w) for h, w in taps]
            assert best == max(values)
            if with_indices:
                h, w = taps[values.index(max(values))]
                assert indices.written[at] == h * width + w


@pytest.mark.parametrize("name", PLANS)
def test_gradients(name: str) -> None:
    """An element takes the gradients of exactly the windows that name it."""
    shape, (kernel, stride, padding, dilation), bits = PLANS[name]
    plan = window_plan(shape, 2, kernel, stride, padding, dilation, False)
    *_, height, width = shape
    _, _, out_h, out_w = plan.out_shape

    def named(at: int) -> np.int64:
        """Every window names the first of its taps."""
        oh, ow = at // out_w % out_h, at % out_w
        h, w = taps_of(plan, (oh, ow))[0]
        return np.int64(h * width + w)

    grad, indices = Virtual(prod(plan.out_shape)), Virtual(prod(plan.out_shape), named)
    result = Virtual(prod(shape))
    used, _ = run_program(cuda.scatter_add(plan, (F32, I64), (F32,), False), [grad, indices, result])
    assert used == 64 or bits == 32
    for at, total in result.written.items():
        plane, h, w = at // (height * width), at // width % height, at % width
        holding = [
            (oh, ow)
            for oh in range(max(0, h // (stride or kernel) - 6), min(out_h, h // (stride or kernel) + 6))
            for ow in range(max(0, w // (stride or kernel) - 6), min(out_w, w // (stride or kernel) + 6))
            if taps_of(plan, (oh, ow))[:1] == [(h, w)]
        ]
        expected = np.float32(0)
        for oh, ow in holding:
            expected += value_at((plane * out_h + oh) * out_w + ow)
        assert total == expected


@pytest.mark.parametrize("name", PLANS)
def test_shares(name: str) -> None:
    """An element takes the gradients of all sums that it is part of."""
    shape, (kernel, stride, padding, dilation), bits = PLANS[name]
    plan = window_plan(shape, 2, kernel, stride, padding, dilation, False)
    *_, height, width = shape
    _, _, out_h, out_w = plan.out_shape
    grad, result = Virtual(prod(plan.out_shape)), Virtual(prod(shape))
    used, _ = run_program(cuda.sum_pool_backward(plan, (F32,), (F32,)), [grad, result])
    assert used == 64 or bits == 32
    for at, total in result.written.items():
        plane, h, w = at // (height * width), at // width % height, at % width
        expected = np.float32(0)
        for oh in range(max(0, h // (stride or kernel) - 6), min(out_h, h // (stride or kernel) + 6)):
            for ow in range(max(0, w // (stride or kernel) - 6), min(out_w, w // (stride or kernel) + 6)):
                if (h, w) in taps_of(plan, (oh, ow)):
                    expected += value_at((plane * out_h + oh) * out_w + ow)
        assert total == expected


@pytest.mark.parametrize(("planes", "bits"), [(5, 32), (9, 64)])
def test_planes_that_are_filled(planes: int, bits: int) -> None:
    """All of 16 bytes are those of the plane that they are in, also where one ends and the next begins."""
    size = 20001
    plan = window_plan((planes, 1, size, size), 2, size, None, 0, 1, False)
    grad, result = Virtual(planes), Virtual(planes * size * size)
    (step,) = cuda.sum_pool_backward(plan, (F32,), (F32,)).steps
    border = size * size // 4
    assert run_threads(step, [result, grad], [*threads_of(step), border - 1, border, border + 1]) == bits
    assert {at // (size * size) for at in result.written} >= {0, 1, planes - 1}
    for at, share in result.written.items():
        assert share == value_at(at // (size * size))
    indices = Virtual(planes, lambda p: np.int64(size * size - 1 if p % 2 == 0 else 0))
    (step,) = cuda.scatter_add(plan, (F32, I64), (F32,), False).steps
    result.written.clear()
    run_threads(step, [result, grad, indices], [*threads_of(step), border - 1, border, border + 1])
    assert result.written[size * size - 1] == value_at(0)
    assert result.written[size * size] == value_at(1)
    assert all(
        each == 0 for at, each in result.written.items() if at not in (size * size - 1, size * size, result.size - 1)
    )


@pytest.mark.parametrize(("shape", "bits"), [((1, 1, 32768, 65520), 32), ((1, 2, 40000, 60000), 64)])
def test_gradients_along_an_axis(shape: tuple[int, ...], bits: int) -> None:
    """Windows along h that name an element of a row give it their sum, and its position; those along w find it there."""
    kernel, padding = 9, 4
    plan = window_plan(shape, 2, kernel, 1, padding, 1, False)
    *_, height, width = shape

    def named(at: int) -> np.int64:
        """Every window names the first of its taps."""
        h, w = at // width % height - padding, at % width - padding
        return np.int64(max(0, h) * width + max(0, w))

    along, at_last, _ = [
        s for s in cuda.scatter_add(plan, (F32, I64), (F32,), False).steps if s.kernel.buffers[0] == "float32"
    ]
    sums, marks, flag = Virtual(prod(shape)), Virtual(prod(shape)), Virtual(1)
    assert (
        run_threads(along, [sums, marks, flag, Virtual(prod(shape)), Virtual(prod(shape), named)], threads_of(along))
        == bits
    )
    assert not flag.written
    assert len(sums.written) > 20
    for at, total in sums.written.items():
        plane, h, w = at // (height * width), at // width % height, at % width
        holding = range(0, padding + 1) if h == 0 else range(h + padding, h + padding + 1)
        inside = [oh for oh in holding if oh < height]
        expected = np.float32(0)
        for oh in inside:
            expected += value_at((plane * height + oh) * width + w)
        assert total == expected
        assert marks.written[at] == (h * width + max(0, w - padding) if inside else -1)
    result = Virtual(prod(shape))
    found = Virtual(prod(shape), lambda at: np.int64(at // width % height * width + max(0, at % width - padding)))
    assert run_threads(at_last, [result, Virtual(prod(shape)), found], threads_of(at_last)) == bits
    for at, total in result.written.items():
        row, w = at // width, at % width
        columns = range(0, padding + 1) if w == 0 else range(w + padding, w + padding + 1)
        expected = np.float32(0)
        for ow in columns:
            if ow < width:
                expected += value_at(row * width + ow)
        assert total == expected


@pytest.mark.parametrize(("shape", "bits"), [((1, 3, 20000, 30000), 32), ((1, 3, 50000, 60000), 64)])
def test_members_of_teams(shape: tuple[int, ...], bits: int) -> None:
    """The parts of planes follow on each other, and the first member of a team begins where its part does."""
    plan = window_plan(shape, 2, shape[2:], None, 0, 1, False)
    step = cuda.max_pool(plan, (F32,), (F32,)).steps[0]
    parts, names = whole.parts_of(plan), dict(step.kernel.names)
    assert names["index"] is (np.int64 if bits == 64 else np.int32)
    index = checked(bits)
    share_of = bound(
        whole.share_of,
        names | {"index": index, "quotient": lambda n, d, magic: index(int(n) // int(d))},
        lambda each: each,
        {},
    )
    reached = 0
    for block in range(step.blocks):
        number, plane, first, end = share_of(block, 0, step.scalars)
        assert (number, plane) == (block, block // parts.number)
        assert plane * plan.plane_size + first == reached
        reached = plane * plan.plane_size + end
        assert share_of(block, 255, step.scalars)[2] == first + 255
    assert reached == 3 * plan.plane_size


def test_bins_of_huge_axes() -> None:
    """Ends of bins are products of lengths: past 2**31 long before positions are."""
    plan = adaptive_plan((1, 1, 8, 50_000_000), 2, (8, 45))
    x, out = Virtual(plan.plane_size, lambda i: np.float32(i % 2)), Virtual(8 * 45)
    program = cuda.max_pool(plan, (F32,), (F32,))
    assert dict(program.steps[0].kernel.names)["index"] is np.int64
    for o in (0, 17, 44):
        first, taps, _, _ = elements_of_bin(program.steps[0], o)
        assert first == windows.bin_start(o, 50_000_000, 45)
        assert first + taps == windows.bin_end(o, 50_000_000, 45)
    assert (x.size, out.size) == (400_000_000, 360)


def elements_of_bin(step: Step, o: int) -> Any:
    """Start and length of a bin, by the arithmetic that the kernel has."""
    index = checked(64)
    names = dict(step.kernel.names) | {"index": index, "quotient": elements.quotient64}
    window = bound(bins.adaptive, names, lambda each: each, {})
    return window(o, 50_000_000, 45, elements.magic64(45))
