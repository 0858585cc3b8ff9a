"""Numba's device arrays, on the CUDA target: allocated by Numba, on the stream that they are bound to, or its default one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np

from numbapool.backends.cuda import CudaBackend, launcher
from numbapool.backends.memory import View
from numbapool.kernels.cuda import compile as compiler


class DeviceArrayBackend(CudaBackend):
    """The arrays of `numba.cuda`."""

    kind = "a Numba device array"

    @cached_property
    def cuda(self) -> Any:
        """The module `numba.cuda`, if it is the one that can serve."""
        return compiler.numba_cuda()

    def is_own(self, array: Any) -> bool:
        """Whether it is one of Numba's."""
        return isinstance(array, self.cuda.cudadrv.devicearray.DeviceNDArray)

    def view(self, array: Any) -> View:
        """Where an array is."""
        address = self.address(array)
        device = launcher().device_of(address) if address else self.cuda.get_current_device().id
        return View(address, array.shape, array.strides, np.dtype(array.dtype), device)

    def address(self, array: Any) -> int:
        """Of its first element."""
        return array.device_ctypes_pointer.value or 0

    def on(self, device: int) -> AbstractContextManager[Any]:
        """While this device is Numba's current one."""
        context: AbstractContextManager[Any] = self.cuda.gpus[device]
        return context

    def stream(self, device: int, arrays: Sequence[Any]) -> int:
        """The stream that the first array is bound to; it waits for those of the others."""
        first, *others = [int(each.stream) for each in arrays]
        for other in dict.fromkeys(others):
            if other != first:
                launcher().wait(device, first, other)
        return first

    def is_capturing(self, device: int) -> bool:
        """Never: Numba has no graphs."""
        return False

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
        """From Numba's allocator."""
        return self.cuda.device_array(shape, dtype, stream=like.stream)

    def to_device(self, array: np.ndarray, device: int, like: Any, is_kept: bool) -> Any:
        """A copy that is done: Numba waits for it."""
        return self.cuda.to_device(array)

    def to_host(self, array: Any) -> np.ndarray:
        """The values."""
        with self.on(self.view(array).device):
            if not array.is_c_contiguous():
                array = self.contiguous(array)
            values: np.ndarray = array.copy_to_host()
            if array.stream != 0:
                array.stream.synchronize()
        return values

    def contiguous(self, array: Any) -> Any:
        """A copy in C order."""
        new = self.cuda.device_array(array.shape, array.dtype, stream=array.stream)
        self.copy(new, array)
        return new

    def permuted(self, array: Any, axes: Sequence[int]) -> Any:
        """A view; Numba's own transpose copies."""
        shape, strides = (tuple([each[axis] for axis in axes]) for each in (array.shape, array.strides))
        return self._view_of(array, shape, strides)

    def copy(self, target: Any, source: Any) -> None:
        """On the source's stream, which waits for the target's."""
        self.stream(self.view(target).device, (source, target))
        with warnings.catch_warnings():
            # A NumbaPerformanceWarning about Numba's own kernel, which is one block for a small array.
            warnings.filterwarnings("ignore", "Grid size .* will likely result in GPU under-utilization")
            target.setitem(slice(None), source, stream=source.stream or self.cuda.default_stream())

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """A view of a contiguous array, else a copy."""
        with self.on(self.view(array).device):
            whole = array if array.is_c_contiguous() else self.contiguous(array)
            return whole.reshape(shape)

    def cast(self, array: Any, like: Any) -> Any:
        """A copy in the dtype of another, or in float32."""
        with self.on(self.view(array).device):
            dtype = np.float32 if like is None else like.dtype
            new = self.cuda.device_array(array.shape, dtype, stream=array.stream)
            self.copy(new, array)
        return new

    def _view_of(self, array: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        interface = array.__cuda_array_interface__ | {"shape": shape, "strides": strides, "stream": None}
        view = self.cuda.from_cuda_array_interface(interface, owner=array, sync=False)
        return view.bind(array.stream)


backend = DeviceArrayBackend()
