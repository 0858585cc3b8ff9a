"""All that takes a driver and a GPU: programs go to the device here, and nowhere else. Tests put an emulation in its place.

Written for `cuda.core`, whose kernels take Python ints: they need no array library, and prepare a launch in a microsecond.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from numbapool.kernels.cuda import compile as compiler
from numbapool.kernels.cuda.launch import Program
from numbapool.kernels.cuda.variants import Kernel

# Handle of the default stream that all threads share. Array libraries say 0, which the driver can be told to take for another.
LEGACY = 1


class Launch(NamedTuple):
    """A step of a program on a device."""

    config: Any
    kernel: Any
    buffers: tuple[tuple[int, int], ...]
    scalars: tuple[int, ...]


class Loaded(NamedTuple):
    """A program on a device, with all that its launches need but addresses and a stream.

    To run it takes 1.4 us for each launch with stubs for the driver, where it took 2.4 to look kernels up.
    """

    program: Program
    device: int
    context: int
    launches: tuple[Launch, ...]


def load(program: Program, device: int) -> Loaded:
    """Bring the kernels of a program to a device; what has not been compiled or loaded yet is so here."""
    launches = [
        Launch(_config(step.blocks, step.kernel.threads), _loaded(step.kernel, device), step.buffers, step.scalars)
        for step in program.steps
    ]
    return Loaded(program, device, int(_context(device)), tuple(launches))


def run(loaded: Loaded, addresses: Sequence[int], stream: int) -> None:
    """Do what `launch.run` does, on a stream of the device, given by its handle; nobody waits for it.

    The device's context is the current one of this thread meanwhile.
    """
    _, device, context, launches = loaded
    put, driver, queue = _core().launch, _driver(), _stream(device, stream)
    is_current = int(_checked(driver.cuCtxGetCurrent())) == context
    if not is_current:
        _checked(driver.cuCtxPushCurrent(_context(device)))
    try:
        for config, kernel, buffers, scalars in launches:
            pointers = [0 if number < 0 else addresses[number] + offset for number, offset in buffers]
            put(queue, config, kernel, *pointers, *scalars)
    finally:
        if not is_current:
            _checked(driver.cuCtxPopCurrent())


def wait(device: int, stream: int, other: int) -> None:
    """Let a stream of a device wait for what is on another one now; the host goes on."""
    driver = _driver()
    _checked(driver.cuCtxPushCurrent(_context(device)))
    try:
        event = _checked(driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        _checked(driver.cuEventRecord(event, other or LEGACY))
        _checked(driver.cuStreamWaitEvent(stream or LEGACY, event, 0))
        _checked(driver.cuEventDestroy(event))
    finally:
        _checked(driver.cuCtxPopCurrent())


def device_of(address: int) -> int:
    """The number of the device that holds an address."""
    driver = _driver()
    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(_checked(driver.cuPointerGetAttribute(attribute, address)))


@cache
def _context(device: int) -> Any:
    """The context that array libraries share on a device, kept for the rest of the process."""
    driver = _driver()
    _checked(driver.cuInit(0))
    return _checked(driver.cuDevicePrimaryCtxRetain(_checked(driver.cuDeviceGet(device))))


@cache
def _capability(device: int) -> tuple[int, int]:
    major, minor = _core().Device(device).compute_capability
    return major, minor


@cache
def _stream(device: int, handle: int) -> Any:
    """For `cuda.core`. One handle may mean another stream on each device, as those of default streams do."""
    return _core().Stream.from_handle(handle or LEGACY)


@cache
def _config(blocks: int, threads: int) -> Any:
    return _core().LaunchConfig(grid=blocks, block=threads)


_kernels: dict[tuple[str, tuple[str, ...], int], Any] = {}


def _loaded(kernel: Kernel, device: int) -> Any:
    """A kernel on a device, compiled if need be."""
    key = kernel.label, kernel.scalars, device
    if key not in _kernels:
        code = compiler.compile_kernel(kernel, _capability(device))
        _kernels[key] = _core().ObjectCode.from_cubin(code.cubin).get_kernel(code.name)
    return _kernels[key]


@cache
def _core() -> Any:
    return _imported("cuda.core")


@cache
def _driver() -> Any:
    return _imported("cuda.bindings.driver")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"arrays on a GPU need cuda-core: {compiler.INSTALL}") from error


def _checked(results: Any) -> Any:
    """What a function of the driver returns beside its error code, which must be 0."""
    error, *values = results
    if int(error) != 0:
        raise RuntimeError(f"the CUDA driver answered {error!r}")
    return values[0] if values else None
