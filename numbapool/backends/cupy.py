"""CuPy arrays, on the CUDA target: views of their memory, CuPy's current stream and CuPy's memory pool."""

from __future__ import annotations

import importlib
import math
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from numbapool.backends.cuda import WIDE, CudaBackend, launcher
from numbapool.backends.memory import View
from numbapool.backends.numpy import standard_dtype

# Where the current device stays.
AS_IT_IS = nullcontext()


class CupyBackend(CudaBackend):
    """The arrays of CuPy, or of a module with its interface."""

    kind = "a CuPy array"

    def __init__(self, module: str = "cupy") -> None:
        self.module = module

    @cached_property
    def xp(self) -> Any:
        """The module."""
        module = importlib.import_module(self.module)
        if module.cuda.runtime.is_hip:
            raise TypeError(
                "this CuPy runs on ROCm devices, for which numbapool has no kernels: move arrays to the CPU"
            )
        return module

    def is_own(self, array: Any) -> bool:
        """Whether it is one of CuPy's."""
        return isinstance(array, self.xp.ndarray)

    def view(self, array: Any) -> View:
        """Where an array is."""
        return View(array.data.ptr, array.shape, array.strides, standard_dtype(array.dtype), array.device.id)

    def key(self, array: Any) -> Hashable:
        """What programs and devices depend on."""
        return array.shape, array.strides, array.dtype, array.device.id, array.data.ptr % WIDE

    def address(self, array: Any) -> int:
        """Of its first element."""
        return int(array.data.ptr)

    def on(self, device: int) -> AbstractContextManager[Any]:
        """While this device is CuPy's current one."""
        cuda = self.xp.cuda
        context: AbstractContextManager[Any] = AS_IT_IS if cuda.runtime.getDevice() == device else cuda.Device(device)
        return context

    def stream(self, device: int, arrays: Sequence[Any]) -> int:
        """CuPy's current stream on the device."""
        return int(self.xp.cuda.get_current_stream(device).ptr)

    def is_capturing(self, device: int) -> bool:
        """Whether that stream records a graph."""
        return bool(self.xp.cuda.get_current_stream(device).is_capturing())

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
        """From CuPy's pool."""
        return self.xp.empty(shape, dtype)

    def to_device(self, array: np.ndarray, device: int, like: Any, is_kept: bool) -> Any:
        """A copy; done, if it is kept."""
        copy = self.xp.asarray(array)
        if is_kept:
            self.xp.cuda.get_current_stream(device).synchronize()
        return copy

    def to_host(self, array: Any) -> np.ndarray:
        """The values."""
        with self.on(array.device.id):
            values: np.ndarray = self.xp.asnumpy(array)
        return values

    def contiguous(self, array: Any) -> Any:
        """A copy in C order."""
        return array.copy(order="C")

    def permuted(self, array: Any, axes: Sequence[int]) -> Any:
        """A view."""
        return self.xp.transpose(array, axes)

    def copy(self, target: Any, source: Any) -> None:
        """On the current stream."""
        self.xp.copyto(target, source)

    def from_dlpack(self, array: Any) -> Any:
        """A view of another library's array, ready on the current stream; the host does not wait."""
        return self.xp.from_dlpack(array)

    def from_interface(self, array: Any) -> Any:
        """The same by the CUDA array interface, whose stream (of version 3) the current one waits for."""
        interface = array.__cuda_array_interface__
        if interface.get("mask") is not None:
            raise TypeError("arrays with a mask are not accepted: fill them first")
        dtype, shape, strides = np.dtype(interface["typestr"]), interface["shape"], interface.get("strides")
        address = interface["data"][0]
        device = launcher().device_of(address) if address else self.xp.cuda.runtime.getDevice()
        stream = interface.get("stream")
        if stream is not None:
            launcher().wait(device, self.stream(device, ()), stream)
        with self.on(device):
            reach = [(length - 1) * step for length, step in zip(shape, strides or ()) if length]
            first = address + sum(each for each in reach if each < 0)
            size = sum(map(abs, reach)) + dtype.itemsize if strides else math.prod(shape) * dtype.itemsize
            memory = self.xp.cuda.UnownedMemory(first, size, array, device)
            pointer = self.xp.cuda.MemoryPointer(memory, address - first)
            return self.xp.ndarray(shape, dtype, pointer, strides)

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """A view, or a copy."""
        with self.on(array.device.id):
            return self.xp.reshape(array, shape)

    def cast(self, array: Any, like: Any) -> Any:
        """A copy in the dtype of another, or in float32."""
        with self.on(array.device.id):
            return array.astype(np.float32 if like is None else like.dtype)


backend = CupyBackend()
