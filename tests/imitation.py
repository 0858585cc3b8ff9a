"""Two GPUs that are not there, and a CuPy for them: arrays in host memory, and what was asked of streams and devices.

The module is to `CupyBackend` what `cupy` is. Launches for its devices are emulated; those for others go where they always go,
so that a real GPU may be there too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbapool.backends import launcher
from numbapool.backends.cupy import CupyBackend
from numbapool.backends.launcher import Loaded
from numbapool.dispatch import register
from numbapool.kernels.cuda import launch
from numbapool.kernels.cuda.launch import Program
from tests.emulation import emulate

# Numbers that no real device has.
DEVICES = (1000, 1001)

# What happened: ("launch", device, stream), ("synchronize", device), ("copy", device) and so on, in order.
events: list[tuple[Any, ...]] = []
# Devices that programs were brought to: by calls of a kind that has not been before.
loads: list[int] = []
is_capturing = False
_current_device = DEVICES[0]
_current_streams = dict.fromkeys(DEVICES, 7)


class ndarray:
    """An array of a device."""

    def __init__(self, memory: Any, device: Any, pointer: Any = None, strides: Any = None) -> None:
        if pointer is not None:  # CuPy's own way: shape, dtype, pointer, strides
            memory, device = _at(memory, device, pointer, strides), pointer.memory.device
        self.memory, self.device = memory, SimpleNamespace(id=device)
        self.data = SimpleNamespace(ptr=memory.ctypes.data)
        self.shape, self.strides, self.dtype, self.ndim = memory.shape, memory.strides, memory.dtype, memory.ndim
        self.size = memory.size

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = dict(self.memory.__array_interface__)
        return {"version": 3, "stream": None} | {
            key: interface[key] for key in ("shape", "strides", "typestr", "data", "descr")
        }

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(np.asarray(self.memory[key]), self.device.id)

    def copy(self, order: str = "C") -> ndarray:
        _check(self)
        events.append(("copy", self.device.id))
        return ndarray(self.memory.copy(order), self.device.id)  # type: ignore[call-overload]

    def astype(self, dtype: Any) -> ndarray:
        _check(self)
        return ndarray(self.memory.astype(dtype), self.device.id)


def _at(shape: Sequence[int], dtype: Any, pointer: Any, strides: Any) -> NDArray[Any]:
    interface = {
        "shape": tuple(shape),
        "typestr": np.dtype(dtype).str,
        "data": (pointer.ptr, False),
        "strides": strides,
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface | {"version": 3}, owner=pointer.memory))


def _check(array: ndarray) -> None:
    assert array.device.id == _current_device, "CuPy works on the current device only"


class Device:
    """A context in which the device is current."""

    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> None:
        global _current_device
        self.before, _current_device = _current_device, self.id

    def __exit__(self, *_: Any) -> None:
        global _current_device
        _current_device = self.before


class Stream:
    """A stream, by its handle."""

    def __init__(self, handle: int, device: int) -> None:
        self.ptr, self.device = handle, device

    def synchronize(self) -> None:
        events.append(("synchronize", self.device))

    def is_capturing(self) -> bool:
        return is_capturing


def get_current_stream(device: int = -1) -> Stream:
    device = _current_device if device == -1 else device
    return Stream(_current_streams[device], device)


@contextmanager
def current_stream(handle: int, device: int = DEVICES[0]) -> Any:
    """While work on the device goes to this stream."""
    before, _current_streams[device] = _current_streams[device], handle
    try:
        yield
    finally:
        _current_streams[device] = before


class UnownedMemory:
    def __init__(self, address: int, size: int, owner: Any, device: int) -> None:
        self.address, self.size, self.owner, self.device = address, size, owner, device


class MemoryPointer:
    def __init__(self, memory: UnownedMemory, offset: int) -> None:
        assert 0 <= offset < max(memory.size, 1)
        self.memory, self.ptr = memory, memory.address + offset


cuda = SimpleNamespace(
    UnownedMemory=UnownedMemory,
    MemoryPointer=MemoryPointer,
    Device=Device,
    get_current_stream=get_current_stream,
    runtime=SimpleNamespace(is_hip=False, getDevice=lambda: _current_device),
)


def empty(shape: Sequence[int], dtype: Any = float) -> ndarray:
    """Full of garbage, at an address divisible by 512 as CuPy's."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    around = np.full(size + 1024, 0xA5, np.uint8)
    start = -around.ctypes.data % 512
    events.append(("empty", _current_device))
    return ndarray(around[start : start + size].view(dtype).reshape(shape), _current_device)


def asarray(array: NDArray[Any]) -> ndarray:
    new = empty(array.shape, array.dtype)
    new.memory[...] = array
    return new


def asnumpy(array: ndarray) -> NDArray[Any]:
    _check(array)
    events.append(("synchronize", array.device.id))
    return array.memory.copy()


def copyto(target: ndarray, source: ndarray) -> None:
    _check(target)
    _check(source)
    events.append(("copy", target.device.id))
    np.copyto(target.memory, source.memory)


def transpose(array: ndarray, axes: Sequence[int]) -> ndarray:
    return ndarray(array.memory.transpose(axes), array.device.id)


def reshape(array: ndarray, shape: Sequence[int]) -> ndarray:
    _check(array)
    return ndarray(array.memory.reshape(shape), array.device.id)


def like(array: NDArray[Any], device: int = DEVICES[0]) -> ndarray:
    """An array on a device with the values and the strides of one of the host."""
    if array.flags.c_contiguous:
        with Device(device):
            return asarray(array)
    return ndarray(array, device)


def from_dlpack(array: Any) -> ndarray:
    events.append(("from_dlpack", array.__dlpack_device__()[1]))
    return ndarray(np.from_dlpack(array.host), array.__dlpack_device__()[1])


def _device_of(address: int) -> int:
    """Which device: all memory of the host is of the first that is not there."""
    try:
        return real_launcher[2](address)
    except (ImportError, RuntimeError):  # no driver, or an address that it does not know
        return DEVICES[0]


def _wait(device: int, stream: int, other: int) -> None:
    if device not in DEVICES:
        real_launcher[1](device, stream, other)
        return
    events.append(("wait", device, stream, other))


real_launcher = launcher.run, launcher.wait, launcher.device_of, launcher.load


def _load(program: Program, device: int) -> Loaded:
    if device not in DEVICES:
        return real_launcher[3](program, device)
    loads.append(device)
    return Loaded(program, device, 0, ())


def _run(loaded: Loaded, addresses: Sequence[int], stream: int) -> None:
    program, device = loaded.program, loaded.device
    if device not in DEVICES:
        real_launcher[0](loaded, addresses, stream)
        return
    assert all(isinstance(each, int) for each in (*addresses, device, stream))
    for number, extra in enumerate(program.extras):
        if not isinstance(extra, np.ndarray):
            assert addresses[len(addresses) - len(program.extras) + number] % 16 == 0
    events.append(("launch", device, stream))
    launch.run(program, addresses, emulate)


launcher.run, launcher.wait, launcher.device_of, launcher.load = _run, _wait, _device_of, _load

backend = CupyBackend("tests.imitation")
register("tests.imitation.ndarray", "tests.imitation")
