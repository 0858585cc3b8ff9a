"""Arrays on CUDA devices, without one: what is launched where, what is allocated, copied and waited for, and what is refused.

That the results are those of the CPU, all other tests say, which run on imitated arrays too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.lib import NumpyVersion
from numpy.typing import NDArray

import numbapool
from numbapool.backends import cuda, dlpack, launcher
from numbapool.backends.cuda import MOST_READY
from tests import imitation
from tests.imitation import DEVICES, events

HERE, THERE = DEVICES


@pytest.fixture(autouse=True)
def _no_events() -> Iterator[None]:
    events.clear()
    yield
    imitation.is_capturing = False


def numbers(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def launches() -> list[tuple[Any, ...]]:
    return [each for each in events if each[0] == "launch"]


def waits() -> list[tuple[Any, ...]]:
    return [each for each in events if each[0] in ("synchronize", "wait")]


def test_launched_on_the_current_stream_of_the_arrays_device() -> None:
    x = numbers(2, 3, 8, 8)
    with imitation.current_stream(11), imitation.current_stream(22, THERE):
        here, there = imitation.like(x), imitation.like(x, THERE)
        events.clear()
        results = [numbapool.max_pool2d(each, 2) for each in (here, there)]
    assert events == [("empty", HERE), ("launch", HERE, 11), ("empty", THERE), ("launch", THERE, 22)]
    assert [each.device.id for each in results] == [HERE, THERE]
    for each in results:
        np.testing.assert_array_equal(each.memory, numbapool.max_pool2d(x, 2))


def test_another_current_device_is_current_again_afterwards() -> None:
    there = imitation.like(numbers(2, 3, 8, 8), THERE)
    numbapool.avg_pool2d(there, 2)
    assert imitation._current_device == HERE
    with pytest.raises(ValueError, match="kernel size should be greater than zero"):
        numbapool.avg_pool2d(there, 0)
    assert imitation._current_device == HERE


@pytest.mark.parametrize("name", ["max_pool2d", "min_pool2d", "avg_pool2d", "sum_pool2d", "lp_pool2d"])
def test_forward_and_backward_never_wait(name: str) -> None:
    x = imitation.like(numbers(2, 3, 8, 8))
    window = {"kernel_size": 3, "stride": 2, "padding": 1} | ({"norm_type": 2} if name == "lp_pool2d" else {})
    out = getattr(numbapool, name)(x, **window)
    getattr(numbapool, f"{name}_backward")(out, x, **window)
    if name in ("max_pool2d", "min_pool2d"):
        out, indices = getattr(numbapool, name)(x, **window, return_indices=True)
        getattr(numbapool, f"{name}_backward")(out, x, **window, indices=indices)
    assert launches()
    assert not waits()


def test_adaptive_and_drawn_windows_never_wait() -> None:
    x = imitation.like(numbers(2, 3, 8, 8))
    numbapool.adaptive_max_pool2d(x, 3)
    numbapool.adaptive_avg_pool2d(x, 3)
    numbapool.fractional_max_pool2d(x, 3, output_size=4)
    assert not waits()
    imitation.is_capturing = True
    with pytest.raises(RuntimeError, match=r"drawn .* cannot be captured"):
        numbapool.fractional_max_pool2d(x, 3, output_size=4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_samples_of_half_precision(dtype: str) -> None:
    """On the device, or beside the arrays there."""
    half = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    x, samples = numbers(2, 3, 8, 8), np.random.default_rng(0).random((2, 3, 2)).astype(half)
    arguments = {"kernel_size": 3, "output_size": 4}
    expected = numbapool.fractional_max_pool2d(x, **arguments, _random_samples=samples.astype(np.float32))
    for each in (samples, imitation.like(samples)):
        out = numbapool.fractional_max_pool2d(imitation.like(x), **arguments, _random_samples=each)
        np.testing.assert_array_equal(out.memory, expected)


def test_bad_indices_are_skipped_unless_checked() -> None:
    """Then in the words of the CPU."""
    x, grad = numbers(1, 1, 4, 4), np.ones((1, 1, 2, 2), np.float32)
    indices = np.array([[[[0, 2], [99, 10]]]])
    arrays = [imitation.like(each) for each in (grad, x, indices)]
    events.clear()
    result = numbapool.max_pool2d_backward(*arrays[:2], 2, indices=arrays[2])
    assert not waits()
    np.testing.assert_array_equal(np.flatnonzero(result.memory), [0, 2, 10])
    with pytest.raises(ValueError, match="99 in indices is outside") as ours:
        numbapool.max_pool2d_backward(*arrays[:2], 2, indices=arrays[2], check_indices=True)
    assert waits()
    with pytest.raises(ValueError, match="99 in indices is outside") as theirs:
        numbapool.max_pool2d_backward(grad, x, 2, indices=indices)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("name", ["bins", "large windows", "whole planes"])
def test_taps_outside_their_windows_are_skipped(name: str) -> None:
    """Where taps are made positions first, too: nothing is written for one that there is not, nor to a flag."""
    x = numbers(1, 1, 16, 16)
    size: Any = {"bins": (3, 5), "large windows": 9, "whole planes": 16}[name]
    pool, back = numbapool.max_pool2d, numbapool.max_pool2d_backward
    if name == "bins":
        pool, back = numbapool.adaptive_max_pool2d, numbapool.adaptive_max_pool2d_backward  # type: ignore[assignment]
    window = (1, 4) if name == "large windows" else ()
    values, taps = pool(x, size, *window, return_indices=True, index_kind="window")
    expected = values.copy()
    expected[0, 0, 0, 0] = 0
    expected = back(expected, x, size, *window, indices=taps, index_kind="window")
    bad = taps.copy()
    bad[0, 0, 0, 0] = np.iinfo(taps.dtype).max - 1
    arrays = [imitation.like(each) for each in (values, x)]
    ours = back(*arrays, size, *window, indices=imitation.like(bad), index_kind="window")
    np.testing.assert_allclose(ours.memory, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="in indices"):
        back(*arrays, size, *window, indices=imitation.like(bad), index_kind="window", check_indices=True)


def test_unpooling_is_checked_unless_told_not_to() -> None:
    values, indices = np.ones((1, 1, 2, 2), np.float32), np.array([[[[0, 2], [-1, 10]]]])
    x, marks = imitation.like(values), imitation.like(indices)
    with pytest.raises(ValueError, match="Found an invalid max index: -1"):
        numbapool.max_unpool2d(x, marks, 2)
    events.clear()
    out = numbapool.max_unpool2d(x, marks, 2, check_indices=False)
    assert not waits()
    np.testing.assert_array_equal(np.flatnonzero(out.memory), [0, 2, 10])
    with pytest.raises(ValueError, match="Found an invalid max index: -1"):
        numbapool.max_unpool2d(values, indices, 2, check_indices=False)


def test_global_indices_are_checked_alike() -> None:
    x, grad, indices = numbers(1, 2, 4, 4), np.ones((1, 2, 2, 2), np.float32), np.full((1, 2, 2, 2), -7)
    arrays = [imitation.like(each) for each in (grad, x)]
    marks = {"indices": imitation.like(indices), "index_kind": "global"}
    assert not numbapool.max_pool2d_backward(*arrays, 2, **marks).memory.any()
    with pytest.raises(ValueError, match="positions in the whole array"):
        numbapool.max_pool2d_backward(*arrays, 2, **marks, check_indices=True)


def test_check_indices_must_be_a_flag() -> None:
    x = np.ones((1, 1, 2, 2))
    with pytest.raises(TypeError, match="check_indices"):
        numbapool.max_unpool2d(x, x.astype(int), 2, check_indices="yes")  # type: ignore[arg-type]


def test_devices_must_be_one() -> None:
    x, grad = imitation.like(numbers(1, 1, 4, 4)), imitation.like(numbers(1, 1, 2, 2), THERE)
    events.clear()
    with pytest.raises(ValueError, match=f"x must be on the device of grad_output, {THERE}, got {HERE}"):
        numbapool.max_pool2d_backward(grad, x, 2)
    with pytest.raises(ValueError, match=f"out must be on the device of x, {HERE}, got {THERE}"):
        numbapool.max_pool2d(x, 2, out=grad)
    assert events == []
    with pytest.raises(TypeError, match="grad_output must be a CuPy array like the other arguments"):
        numbapool.max_pool2d_backward(numbers(1, 1, 2, 2), x, 2)
    with pytest.raises(TypeError, match="out must be a CuPy array like x, got"):
        numbapool.max_pool2d(x, 2, out=numbers(1, 1, 2, 2))


def test_argument_errors_come_before_anything_else() -> None:
    x = imitation.like(numbers(1, 1, 4, 4))
    events.clear()
    for error, call in [
        (ValueError, lambda each: numbapool.max_pool2d(each, 2, 0)),
        (ValueError, lambda each: numbapool.max_pool2d(each, 2, padding=-1)),
        (ValueError, lambda each: numbapool.avg_pool2d(each, 2, divisor_override=0)),
        (ValueError, lambda each: numbapool.avg_pool2d(each, 9)),
        (TypeError, lambda each: numbapool.max_pool2d(each, 2.0)),
    ]:
        with pytest.raises(error) as theirs:
            call(x.memory)
        with pytest.raises(error) as ours:
            call(x)
        assert str(ours.value) == str(theirs.value)
    assert events == []


def test_out_is_written_in_place() -> None:
    x = numbers(2, 3, 8, 8)
    given = imitation.like(np.zeros((2, 3, 4, 4), np.float32))
    pooled = imitation.like(x)
    events.clear()
    assert numbapool.max_pool2d(pooled, 2, out=given) is given
    assert events == [("launch", HERE, 7)]
    np.testing.assert_array_equal(given.memory, numbapool.max_pool2d(x, 2))


def test_out_of_any_layout_goes_through_a_copy_on_the_device() -> None:
    x = numbers(2, 3, 8, 8)
    given = imitation.ndarray(np.zeros((4, 4, 3, 2), np.float32).T[:, :, ::-1], HERE)
    pooled = imitation.like(x)
    events.clear()
    numbapool.max_pool2d(pooled, 2, out=given)
    assert events == [("empty", HERE), ("launch", HERE, 7), ("copy", HERE)]
    np.testing.assert_array_equal(given.memory, numbapool.max_pool2d(x, 2))


def test_out_may_share_memory_with_the_input() -> None:
    x = numbers(2, 3, 8, 8)
    shared = imitation.like(x)
    numbapool.max_pool2d(shared, 3, 1, 1, out=shared)
    np.testing.assert_array_equal(shared.memory, numbapool.max_pool2d(x, 3, 1, 1))


def test_channels_last_stay_last_without_copies() -> None:
    x = np.moveaxis(numbers(2, 8, 8, 16), -1, 1)
    events.clear()
    out = numbapool.max_pool2d(imitation.ndarray(x, HERE), 3, 2, 1)
    assert events == [("empty", HERE), ("launch", HERE, 7)]
    assert out.strides == np.moveaxis(np.empty((2, 4, 4, 16), np.float32), -1, 1).strides
    np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(x, 3, 2, 1))


def test_strided_input_is_read_where_it_stands() -> None:
    x = numbers(4, 6, 16, 16)[::-2, ::2, ::-1, ::2]
    events.clear()
    out = numbapool.max_pool2d(imitation.ndarray(x, HERE), 2)
    assert events == [("empty", HERE), ("launch", HERE, 7)]
    np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(x, 2))


def test_elements_between_addresses_are_refused() -> None:
    memory = np.zeros(4 * 16 + 1, np.uint8)
    x = np.ndarray((1, 1, 4, 4), np.float32, memory.data, offset=1)
    with pytest.raises(ValueError, match="elements at multiples of their size, 4 bytes"):
        numbapool.max_pool2d(imitation.ndarray(x, HERE), 2)


def test_constants_are_copied_once_and_not_during_a_capture() -> None:
    x, grad = imitation.like(numbers(2, 2, 6, 6)), imitation.like(np.ones((2, 2, 3, 3), np.float32))
    imitation.is_capturing = True
    with pytest.raises(RuntimeError, match="before the capture"):
        numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global")
    imitation.is_capturing = False
    _, indices = numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global")
    numbapool.max_pool2d_backward(grad, x, 2, indices=indices, index_kind="global")
    imitation.is_capturing = True
    events.clear()
    numbapool.max_pool2d(x, 2, return_indices=True, index_kind="global")
    numbapool.max_pool2d_backward(grad, x, 2, indices=indices, index_kind="global")
    assert launches()
    assert not waits()


@pytest.mark.parametrize("is_repeated", [False, True])
def test_scratch_of_a_capture_stays(is_repeated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph uses it again at every replay, and CuPy's pool would give it to somebody else."""
    captured: list[Any] = []
    monkeypatch.setattr(cuda, "_captured", captured)
    x = imitation.like(abs(numbers(1, 2, 40, 40)))
    strided = imitation.ndarray(np.zeros((36, 36, 2, 1), np.float32).T, HERE)
    if is_repeated:
        numbapool.lp_pool2d(x, 2, 5)
        numbapool.max_pool2d(x, 5, 1, out=strided)
    assert captured == []
    imitation.is_capturing = True
    numbapool.max_pool2d(x, 2)
    assert captured == []
    numbapool.lp_pool2d(x, 2, 5)
    (scratch,) = captured.pop()
    assert scratch.memory.nbytes >= x.memory.nbytes
    numbapool.max_pool2d(x, 5, 1, out=strided)
    assert [each.shape for each in captured.pop()] == [(1, 2, 36, 36)]


def test_checks_cannot_be_captured() -> None:
    values, indices = np.ones((1, 1, 2, 2), np.float32), np.array([[[[0, 2], [8, 10]]]])
    x, marks = imitation.like(values), imitation.like(indices)
    for _ in range(2):
        imitation.is_capturing = True
        events.clear()
        with pytest.raises(RuntimeError, match="which cannot be captured: pass check_indices=False"):
            numbapool.max_unpool2d(x, marks, 2)
        assert launches() == []
        numbapool.max_unpool2d(x, marks, 2, check_indices=False)
        imitation.is_capturing = False
        numbapool.max_unpool2d(x, marks, 2)


@pytest.mark.parametrize("kind", ["sum", *(pytest.param(each, marks=pytest.mark.full) for each in ("max", "avg"))])
def test_dtypes_of_one_shape_and_size_in_turn(kind: str) -> None:
    """Results of several dtypes have one dtype, and the inputs one layout."""
    dtypes = [bool, np.int8, np.uint8, np.int16, np.float16, np.uint16, np.int32, np.float32, np.int64, np.float64]
    for dtype in (each for each in dtypes * 2 if not (kind == "avg" and each is bool)):
        x = abs(numbers(1, 2, 6, 6) * 20).round().astype(dtype)
        ours = numbapool.pool(imitation.like(x), kind, 2, axes=(2, 3))
        windows = x.reshape(1, 2, 3, 2, 3, 2)
        wanted = windows.max((3, 5)) if kind == "max" else windows.sum((3, 5))
        wanted = wanted if kind != "avg" else wanted / 4 if windows.dtype.kind == "f" else wanted // 4
        np.testing.assert_array_equal(ours.memory, wanted)


def test_every_launch_of_a_capture_is_on_its_stream() -> None:
    x = imitation.like(numbers(2, 2, 40, 40))
    with imitation.current_stream(99):
        imitation.is_capturing = True
        numbapool.avg_pool2d(x, 13, 1, 6)
        out, indices = numbapool.max_pool2d(x, 13, 1, 6, return_indices=True)
        numbapool.max_pool2d_backward(out, x, 13, 1, 6, indices=indices)
    assert {each[2] for each in launches()} == {99}
    assert not waits()


def _repeated() -> dict[str, tuple[Any, int, int]]:
    """Calls by name, and how often each allocates (results, and all scratch at once) and runs a program."""
    x, grad = imitation.like(numbers(2, 3, 8, 8)), imitation.like(numbers(2, 3, 4, 4))
    _, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    return {
        "maxima": (lambda: numbapool.max_pool2d(x, 2), 1, 1),
        "with indices": (lambda: numbapool.max_pool2d(x, 2, return_indices=True), 2, 1),
        "means": (lambda: numbapool.avg_pool2d(x, 2), 1, 1),
        "large windows, in passes": (lambda: numbapool.max_pool2d(x, 7, 1, 3), 2, 1),
        "gradient by indices": (lambda: numbapool.max_pool2d_backward(grad, x, 2, indices=indices), 1, 1),
        "gradient of maxima": (lambda: numbapool.max_pool2d_backward(grad, x, 2), 2, 1),
        "gradient of means": (lambda: numbapool.avg_pool2d_backward(grad, x, 2), 1, 1),
        "unpooling": (lambda: numbapool.max_unpool2d(grad, indices, 2, check_indices=False), 2, 1),
    }


@pytest.mark.parametrize("name", _repeated())
def test_repeated_calls_only_allocate_and_launch(name: str) -> None:
    call, allocations, runs = _repeated()[name]
    first = call()
    events.clear()
    imitation.loads.clear()
    second = call()
    assert [each[0] for each in events] == ["empty"] * allocations + ["launch"] * runs
    assert imitation.loads == []
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (first, second)), strict=True):
        np.testing.assert_array_equal(one.memory, other.memory)
        assert not np.shares_memory(one.memory, other.memory)


def test_what_is_remembered_serves_equal_layouts_only() -> None:
    """Arrays of one shape, each twice and in turns, on other strides, addresses, devices, dtypes and streams."""
    wide = numbers(2, 4, 8, 16)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(wide[..., :8], 1, -1)), -1, 1)
    layouts = [wide[..., :8].copy(), wide[..., ::2], wide[..., 1:9], wide[:, ::-1, :, 3:11], last, wide[:, :1, :, :8]]
    layouts[-1] = np.broadcast_to(layouts[-1], (2, 4, 8, 8))
    layouts += [layouts[0].astype(np.float64), layouts[1].astype(np.float16)]
    for turn in range(2):
        for device in DEVICES:
            for host in layouts:
                events.clear()
                with imitation.current_stream(31 + turn, device):
                    x = imitation.ndarray(host, device)
                    out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
                    mean = numbapool.avg_pool2d(x, 2)
                    back = numbapool.max_pool2d_backward(mean, x, 2, indices=indices)
                    again = numbapool.max_unpool2d(out, indices, 2, check_indices=False)
                assert {each[1:] for each in launches()} == {(device, 31 + turn)}
                expected, marks = numbapool.max_pool2d(host, 2, return_indices=True)
                means = numbapool.avg_pool2d(host, 2)
                np.testing.assert_array_equal(out.memory, expected)
                np.testing.assert_array_equal(indices.memory, marks)
                np.testing.assert_allclose(mean.memory, means, rtol=1e-3)
                wanted = numbapool.max_pool2d_backward(np.asarray(mean.memory), host, 2, indices=marks)
                np.testing.assert_array_equal(back.memory, wanted)
                np.testing.assert_array_equal(again.memory, numbapool.max_unpool2d(expected, marks, 2))
                assert all(each.device.id == device for each in (out, indices, mean, back, again))


def test_kernels_that_load_16_bytes_at_once_are_for_aligned_memory_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a GPU would refuse, and the host would not."""
    memory, labels, run = imitation.empty((1, 1, 8, 16), np.float32).memory, [], launcher.run

    def noting(loaded: launcher.Loaded, *arguments: Any) -> None:
        labels.append([step.kernel.label for step in loaded.program.steps])
        run(loaded, *arguments)

    monkeypatch.setattr(launcher, "run", noting)
    for start in (0, 1, 4, 1, 2):
        numbapool.max_pool2d(imitation.ndarray(memory[..., start : start + 8], HERE), 2)
    assert labels[0] == labels[2] != labels[1] == labels[3] == labels[4]


def test_out_that_is_an_input_is_not_taken_for_a_new_array() -> None:
    x = numbers(2, 3, 8, 8)
    for _ in range(2):
        shared = imitation.like(x)
        np.testing.assert_array_equal(numbapool.max_pool2d(shared, 3, 1, 1).memory, numbapool.max_pool2d(x, 3, 1, 1))
        numbapool.max_pool2d(shared, 3, 1, 1, out=shared)
        np.testing.assert_array_equal(shared.memory, numbapool.max_pool2d(x, 3, 1, 1))


def test_more_layouts_than_are_remembered() -> None:
    memory = numbers(2, 3, 8, 64)
    for _ in range(2):
        for start in range(MOST_READY + 3):
            host = memory[..., start : start + 8 * (1 + start % 4) : 1 + start % 4]
            out = numbapool.max_pool2d(imitation.ndarray(host, HERE), 2)
            np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(host, 2))


def test_a_repeated_call_is_checked_too() -> None:
    x, good = imitation.like(np.ones((1, 1, 2, 2), np.float32)), np.array([[[[0, 2], [8, 10]]]])
    for _ in range(2):
        events.clear()
        numbapool.max_unpool2d(x, imitation.like(good), 2)
        assert len(waits()) == 1
    bad = imitation.like(good + 8)
    with pytest.raises(ValueError, match="Found an invalid max index: 16"):
        numbapool.max_unpool2d(x, bad, 2)


def test_threads_at_once() -> None:
    hosts = [numbers(2, 4, 8, 8) + seed for seed in range(4)]
    hosts[1] = hosts[1][:, ::-1]
    wanted = [numbapool.max_pool2d(host, 3, 2, 1, return_indices=True) for host in hosts]
    arrays = [imitation.ndarray(host, HERE) for host in hosts]
    numbapool.max_pool2d_backward(
        imitation.like(wanted[0][0]), arrays[0], 3, 2, 1
    )  # kernels are compiled by one thread

    def check(number: int) -> None:
        host, array, (expected, marks) = hosts[number % 4], arrays[number % 4], wanted[number % 4]
        for _ in range(20):
            out, indices = numbapool.max_pool2d(array, 3, 2, 1, return_indices=True)
            back = numbapool.max_pool2d_backward(out, array, 3, 2, 1)
            np.testing.assert_array_equal(out.memory, expected)
            np.testing.assert_array_equal(indices.memory, marks)
            np.testing.assert_array_equal(back.memory, numbapool.max_pool2d_backward(expected, host, 3, 2, 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(16)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_that_unpool_wait_only_to_check(rank: int) -> None:
    values = imitation.like(np.ones((1, 2) + (1,) * rank, np.float32))
    bad = imitation.like(np.full((1, 2) + (1,) * rank, 99))
    layer = getattr(numbapool, f"MaxUnpool{rank}d")
    with pytest.raises(ValueError, match="Found an invalid max index: 99"):
        layer(2)(values, bad)
    events.clear()
    out, pullback = layer(2, check_indices=False).vjp(values, bad)
    assert not out.memory.any()
    assert not pullback(out).memory.any()
    assert len(launches()) == 2
    assert not waits()


def test_empty_batches_launch_nothing() -> None:
    x = imitation.like(np.zeros((0, 3, 8, 8), np.float32))
    out = numbapool.max_pool2d(x, 2)
    assert out.shape == (0, 3, 4, 4)
    assert numbapool.max_pool2d(x, 2, out=out) is out
    assert launches() == []


class Exporter:
    """An array of a library that only exports."""

    def __init__(self, host: NDArray[Any], device: tuple[int, int] = (2, HERE)) -> None:
        self.host, self.place = host, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, **options: Any) -> Any:
        return self.host.__dlpack__(**options)


class WithNamespace(Exporter):
    def __array_namespace__(self) -> Any:
        return SimpleNamespace(from_dlpack=lambda array: ("ours", array))


@pytest.fixture
def _with_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlpack.cupy_adapter, "backend", imitation.backend)


@pytest.mark.usefixtures("_with_cupy")
@pytest.mark.parametrize("kind", [2, 13])
def test_dlpack(kind: int) -> None:
    x = numbers(1, 2, 6, 6)
    out = numbapool.max_pool2d(Exporter(x, (kind, HERE)), 2)
    assert type(out) is imitation.ndarray
    np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(x, 2))
    name, result = numbapool.max_pool2d(WithNamespace(x, (kind, HERE)), 2)
    assert name == "ours"
    np.testing.assert_array_equal(result.memory, out.memory)
    assert not waits()
    grad = Exporter(np.ones((1, 2, 3, 3), np.float32), (kind, HERE))
    back = numbapool.max_pool2d_backward(grad, Exporter(x, (kind, HERE)), 2)
    np.testing.assert_array_equal(back.memory, numbapool.max_pool2d_backward(grad.host, x, 2))
    given = Exporter(np.zeros((1, 2, 3, 3), np.float32), (kind, HERE))
    assert numbapool.max_pool2d(Exporter(x, (kind, HERE)), 2, out=given) is given
    np.testing.assert_array_equal(given.host, out.memory)


@pytest.mark.skipif(NumpyVersion(np.__version__) < "2.1.0", reason="NumPy exports read-only memory from 2.1 on")
@pytest.mark.usefixtures("_with_cupy")
def test_dlpack_of_read_only_memory_is_not_written() -> None:
    host = np.zeros((1, 2, 3, 3), np.float32)
    host.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable, got a read-only array"):
        numbapool.max_pool2d(Exporter(numbers(1, 2, 6, 6)), 2, out=Exporter(host))


@pytest.mark.usefixtures("_with_cupy")
def test_dlpack_from_both_sides() -> None:
    x, grad = numbers(1, 1, 4, 4), np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match="x must be on the device of grad_output, the CPU, got a GPU"):
        numbapool.max_pool2d_backward(WithNamespace(grad, (1, 0)), Exporter(x), 2)
    assert events.count(("launch", HERE, 7)) == 0


def test_without_cupy_other_libraries_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = imitation.CupyBackend("cupy_that_is_not_there")
    monkeypatch.setattr(dlpack.cupy_adapter, "backend", missing)
    with pytest.raises(
        ImportError, match=r"x is on device DLPack device type 2 .CUDA.*pip install 'numbapool\[cupy\]'"
    ):
        numbapool.max_pool2d(Exporter(numbers(1, 1, 4, 4)), 2)


@pytest.mark.usefixtures("_with_cupy")
def test_bfloat16_takes_a_newer_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(array: Any) -> Any:
        raise NotImplementedError("CuPy does not support bfloat16 yet")  # so says CuPy 13.6

    monkeypatch.setattr(imitation, "from_dlpack", old)
    with pytest.raises(TypeError, match=r"^x, a .* bfloat16 yet; bfloat16 takes CuPy 14 .*'numbapool\[cupy\]'"):
        numbapool.max_pool2d(Exporter(numbers(1, 1, 4, 4)), 2)


@pytest.mark.parametrize(("kind", "name"), [(8, "Metal"), (10, "ROCm"), (14, "oneAPI")])
def test_other_devices_are_named(kind: int, name: str) -> None:
    with pytest.raises(TypeError, match=f"x is on device .*{name}.*no kernels: move it to the CPU"):
        numbapool.max_pool2d(Exporter(numbers(1, 1, 4, 4), (kind, 0)), 2)


def test_cupy_on_rocm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imitation.cuda.runtime, "is_hip", True)
    with pytest.raises(TypeError, match="ROCm"):
        imitation.CupyBackend("tests.imitation").describe("x", imitation.like(numbers(1, 1, 4, 4)))


class Interface:
    """An array of a library that knows the CUDA array interface only."""

    def __init__(self, host: NDArray[Any], **fields: Any) -> None:
        own = dict(host.__array_interface__)
        self.host = host
        self.__cuda_array_interface__ = {"version": 3, "strides": own["strides"]} | own | {"version": 3} | fields


@pytest.mark.usefixtures("_with_cupy")
def test_cuda_array_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Interface, "__cuda_array_interface__", None, raising=False)
    x = numbers(1, 4, 6, 6)
    for host in (x, x[:, ::2, ::-1], np.ascontiguousarray(x)):
        events.clear()
        out = numbapool.max_pool2d(Interface(host, stream=None), 2)
        assert type(out) is imitation.ndarray
        np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(host, 2))
        assert not waits()
    numbapool.max_pool2d(Interface(x, stream=31), 2)
    assert waits()[0] == ("wait", HERE, 7, 31)
    assert all(each[0] == "wait" for each in waits())
    with pytest.raises(TypeError, match="mask"):
        numbapool.max_pool2d(Interface(x, mask=x), 2)
    given = Interface(np.zeros((1, 4, 3, 3), np.float32))
    assert numbapool.max_pool2d(Interface(x), 2, out=given) is given
    np.testing.assert_array_equal(given.host, numbapool.max_pool2d(x, 2))
    host = given.host.copy()
    host.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable"):
        numbapool.max_pool2d(Interface(x), 2, out=Interface(host))


def test_nothing_of_a_gpu_is_imported_before_the_first_array_on_one() -> None:
    code = (
        "import sys, numpy, numbapool; numbapool.max_pool1d(numpy.zeros((1, 1, 4)), 2); "
        "loaded = [m for m in sys.modules if 'cuda' in m and m.startswith(('numbapool', 'cuda'))]; assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
