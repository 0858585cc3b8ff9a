"""Numba's device arrays, without a device: a `numba.cuda` of host memory that has what the backend asks of it."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaPerformanceWarning
from numpy.typing import NDArray

import numbapool
from numbapool.backends.device_arrays import DeviceArrayBackend
from numbapool.dispatch import register
from tests import imitation
from tests.imitation import DEVICES, events

HERE = DEVICES[0]


class Stream(int):
    """As Numba's, whose number is its handle."""

    def synchronize(self) -> None:
        events.append(("synchronize", HERE))


class DeviceNDArray:
    """With the attributes and methods of Numba's."""

    def __init__(self, memory: NDArray[Any], stream: Any = 0) -> None:
        self.memory, self.stream = memory, stream
        self.shape, self.strides, self.dtype, self.ndim = memory.shape, memory.strides, memory.dtype, memory.ndim
        self.device_ctypes_pointer = SimpleNamespace(value=memory.ctypes.data)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.memory.__array_interface__)

    def __getitem__(self, key: Any) -> DeviceNDArray:
        return DeviceNDArray(self.memory[key], self.stream)

    def is_c_contiguous(self) -> bool:
        return self.memory.flags.c_contiguous

    def bind(self, stream: Any) -> DeviceNDArray:
        return DeviceNDArray(self.memory, stream)

    def copy_to_host(self) -> NDArray[Any]:
        events.append(("synchronize", HERE))
        return self.memory.copy()

    def setitem(self, key: Any, value: DeviceNDArray, stream: Any) -> None:
        events.append(("copy", int(stream)))
        message = (
            "Grid size 1 will likely result in GPU under-utilization due to low occupancy."  # of Numba's own kernel
        )
        warnings.warn(NumbaPerformanceWarning(message), stacklevel=2)
        self.memory[key] = value.memory

    def reshape(self, shape: tuple[int, ...]) -> DeviceNDArray:
        assert self.is_c_contiguous()
        return DeviceNDArray(self.memory.reshape(shape), self.stream)


def _device_array(shape: Any, dtype: Any, stream: Any = 0) -> DeviceNDArray:
    events.append(("empty", int(stream)))
    return DeviceNDArray(imitation.empty(shape, dtype).memory, stream)


def _from_cuda_array_interface(interface: dict[str, Any], owner: Any, sync: bool) -> DeviceNDArray:
    assert not sync
    return DeviceNDArray(np.asarray(SimpleNamespace(__array_interface__=interface | {"version": 3}, owner=owner)))


backend = DeviceArrayBackend()
backend.__dict__["cuda"] = SimpleNamespace(
    cudadrv=SimpleNamespace(devicearray=SimpleNamespace(DeviceNDArray=DeviceNDArray)),
    gpus={each: nullcontext() for each in DEVICES},
    device_array=_device_array,
    to_device=lambda array: DeviceNDArray(array.copy()),
    from_cuda_array_interface=_from_cuda_array_interface,
    default_stream=lambda: Stream(0),
    get_current_device=lambda: SimpleNamespace(id=HERE),
)
register("tests.test_device_arrays.DeviceNDArray", "tests.test_device_arrays")


def numbers(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def steps() -> list[tuple[Any, ...]]:
    return [each for each in events if each[0] in ("launch", "wait", "synchronize", "copy")]


def test_forward_and_backward_on_the_arrays_stream() -> None:
    x = numbers(2, 3, 8, 8)
    array = DeviceNDArray(x, Stream(5))
    events.clear()
    out, indices = numbapool.max_pool2d(array, 2, return_indices=True)
    back = numbapool.max_pool2d_backward(out, array, 2, indices=indices)
    assert {type(each) for each in (out, indices, back)} == {DeviceNDArray}
    assert out.stream == 5
    assert set(steps()) == {("launch", HERE, 5)}
    expected, expected_indices = numbapool.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(out.memory, expected)
    np.testing.assert_array_equal(indices.memory, expected_indices)
    np.testing.assert_array_equal(back.memory, numbapool.max_pool2d_backward(expected, x, 2, indices=expected_indices))


def test_other_streams_are_waited_for_by_it() -> None:
    x, out = DeviceNDArray(numbers(1, 2, 4, 4), Stream(5)), DeviceNDArray(numbers(1, 2, 2, 2), Stream(6))
    events.clear()
    numbapool.max_pool2d(x, 2, out=out)
    assert steps() == [("wait", HERE, 5, 6), ("launch", HERE, 5)]


def test_a_result_is_copied_to_another_stream_s_array_after_it_is_there() -> None:
    x, memory = numbers(1, 2, 4, 4), np.zeros((2, 2, 2, 1), np.float32).T
    events.clear()
    numbapool.max_pool2d(DeviceNDArray(x, Stream(5)), 2, out=DeviceNDArray(memory, Stream(6)))
    assert steps() == [("wait", HERE, 5, 6), ("launch", HERE, 5), ("wait", HERE, 5, 6), ("copy", 5)]
    np.testing.assert_array_equal(memory, numbapool.max_pool2d(x, 2))


def test_repeated_calls_only_allocate_and_launch() -> None:
    x = DeviceNDArray(numbers(2, 3, 8, 8), Stream(5))
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    for _ in range(2):
        events.clear()
        imitation.loads.clear()
        numbapool.max_pool2d_backward(out, x, 2)
    kinds = [each for each in events if each[0] != "empty" or each[1] == 5]
    assert kinds == [("empty", 5), ("empty", 5), ("launch", HERE, 5)]
    assert imitation.loads == []
    with pytest.raises(ValueError, match="Found an invalid max index: -64"):
        numbapool.max_unpool2d(out, DeviceNDArray(indices.memory - 64, Stream(5)), 2)


def test_views_are_no_copies() -> None:
    x = numbers(2, 8, 8, 3)
    events.clear()
    out = numbapool.max_pool2d(DeviceNDArray(x), 2, data_format="channels_last")
    assert steps() == [("launch", HERE, 0)]
    np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(x, 2, data_format="channels_last"))


def test_out_of_any_layout_and_halves_of_many_axes() -> None:
    x = numbers(2, 3, 8, 8)
    out = DeviceNDArray(np.zeros((4, 4, 3, 2), np.float32).T)
    numbapool.max_pool2d(DeviceNDArray(x), 2, out=out)
    np.testing.assert_array_equal(out.memory, numbapool.max_pool2d(x, 2))
    halves = numbers(2, 3, 4, 4).astype(np.float16)
    pooled = numbapool.pool(DeviceNDArray(halves), "avg", 2)
    np.testing.assert_array_equal(pooled.memory, numbapool.pool(halves, "avg", 2))


def test_errors() -> None:
    x = DeviceNDArray(numbers(1, 1, 4, 4))
    with pytest.raises(TypeError, match="grad_output must be a Numba device array like the other arguments"):
        numbapool.max_pool2d_backward(numbers(1, 1, 2, 2), x, 2)
    with pytest.raises(ValueError, match="Found an invalid max index: 77"):
        numbapool.max_unpool2d(DeviceNDArray(numbers(1, 1, 1, 1)), DeviceNDArray(np.full((1, 1, 1, 1), 77)), 2)
