"""The CUDA target without a GPU: arrays whose operations run the target's own kernels on the host, thread by thread.

An `EmulatedArray` is a NumPy array that its own backend serves. The backend does what one for a GPU does, up to the launch: that
is a loop over the threads of the same function, compiled by `numba.njit` on raw addresses.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numpy.typing import NDArray

import numbapool.kernels.cuda as target
from numbapool.backends import numpy as numpy_backend
from numbapool.backends.numpy import NumpyBackend
from numbapool.dispatch import Spec, register
from numbapool.geometry import Plan
from numbapool.kernels.cuda import launch, schedule
from numbapool.kernels.cuda.compile import wide_access
from numbapool.kernels.cuda.launch import Operand, Program, Step
from numbapool.kernels.cuda.variants import Kernel, bound, buffer_dtype
from numbapool.operations import SCATTER_ADD
from numbapool.operations import Step as Computed

INNER = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
MADE: dict[Any, Any] = {}
# 16 bytes at a time, by the same code as on a GPU.
WIDE_ACCESS = {} if config.DISABLE_JIT else wide_access(intrinsic)

# Lanes are for large arrays; tests have small ones.
FULL_GPU = schedule.FULL
schedule.FULL = 1


class EmulatedArray:
    """An array that pretends to be on a GPU."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.dtype, self.shape, self.ndim = array.dtype, array.shape, array.ndim

    def __iter__(self) -> Any:
        """Its values, where a small array takes the place of a tuple."""
        return iter(self.array.tolist())

    def __getitem__(self, key: Any) -> EmulatedArray:
        return EmulatedArray(self.array[key])


def unwrapped(array: Any) -> Any:
    """The NumPy array within."""
    return array.array if isinstance(array, EmulatedArray) else array


class EmulatingBackend(NumpyBackend):
    """NumPy's, with another target."""

    def describe(self, name: str, array: Any) -> Spec:
        """Shape and dtype."""
        if not isinstance(array, EmulatedArray):
            raise TypeError(f"{name} must be an emulated array like the other arguments, got {type(array).__name__}")
        return super().describe(name, array.array)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """The array within."""
        return np.asarray(unwrapped(array))

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Any:
        """Random numbers."""
        return EmulatedArray(super().draw(shape, dtype, generator))

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In bytes."""
        return super().strides(name, unwrapped(array))

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """A view."""
        return EmulatedArray(super().permute(name, unwrapped(array), axes))

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """A view or a copy."""
        return EmulatedArray(super().reshape(name, unwrapped(array), shape))

    def cast(self, array: Any, like: Any) -> Any:
        """A copy."""
        return EmulatedArray(super().cast(unwrapped(array), unwrapped(like)))

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Whether results may go there."""
        super().check_outs([unwrapped(each) for each in outs])

    def write(self, out: Any, result: Any) -> None:
        """Copy a result."""
        numpy_backend.backend.write(unwrapped(out), unwrapped(result))

    def bind(self, step: Computed, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step forward."""

        def call(x: Any, out: Sequence[Any] | None) -> Any:
            results = self._run(step, plan, [x], specs, out, parameters)
            return results[0] if len(results) == 1 else tuple(results)

        return call

    def run_backward(
        self, step: Computed, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """A step of the arrays it takes."""
        if step is SCATTER_ADD:
            parameters = (True,)
        if step.renumbers:
            first, steps = parameters
            parameters = tuple(first.table().tolist()), steps
        return self._run(step, plan, inputs, [spec], None if out is None else [out], parameters)[0]

    def _run(
        self,
        step: Computed,
        plan: Plan,
        inputs: Sequence[Any],
        specs: Sequence[Spec],
        out: Sequence[Any] | None,
        parameters: tuple[Any, ...],
    ) -> list[Any]:
        arrays = [np.asarray(unwrapped(each)) for each in inputs]
        kept, axis = numpy_backend._channels(step, plan, *arrays)
        given_out = None if out is None else [unwrapped(each) for each in out]
        given, written = numpy_backend._results(arrays, specs, given_out, kept, axis)
        if written[0].size > 0:
            arranged = plan if axis is None else plan.channels_last
            sources = [_source(each, plan, axis) for each in arrays]
            operands = tuple([_operand(each) for each in sources])
            results = tuple([Operand(_dtype(each), None, _alignment(each)) for each in written])
            program: Program = getattr(target, step.name)(arranged, operands, results, *parameters)
            flag = _execute(program, [*sources, *written])
            if flag:
                raise ValueError(numpy_backend.bad_index_message(plan, arrays[-1], step))
        numpy_backend._hand_back(given, written, axis)
        if out is not None:
            return list(out)
        return [EmulatedArray(each) for each in given]


backend = EmulatingBackend()
register("tests.emulation.EmulatedArray", "tests.emulation")


def _dtype(array: NDArray[Any]) -> np.dtype[Any]:
    return numpy_backend.standard_dtype(array.dtype)


def _source(array: NDArray[Any], plan: Plan, axis: int | None) -> NDArray[Any]:
    """The array with axes as the plan has them, copied only if no kernel can read it."""
    if array.ndim != len(plan.leading) + len(plan.pooled):
        array = array.reshape(*plan.leading, -1)
    array = numpy_backend._moved(array, axis)
    is_whole = all(step % array.itemsize == 0 for step in array.strides)
    if not (array.flags.aligned and array.dtype.isnative and is_whole):
        array = array.astype(_dtype(array), order="C") if array.dtype.kind != "V" else array.copy()
    return array


def _operand(array: NDArray[Any]) -> Operand:
    strides = None if array.flags.c_contiguous else tuple(step // array.itemsize for step in array.strides)
    return Operand(_dtype(array), strides, _alignment(array))


def _alignment(array: NDArray[Any]) -> int:
    return math.gcd(array.ctypes.data, 16)


def _execute(program: Program, arrays: Sequence[NDArray[Any]]) -> bool:
    """Run a program; whether its flag is set."""
    extras = [each if isinstance(each, np.ndarray) else _Scratch(each) for each in program.extras]
    MEMORY[:] = [*(_Memory(each) for each in arrays), *(_Memory(getattr(each, "memory", each)) for each in extras)]
    launch.run(program, [each.ctypes.data for each in [*arrays, *extras]], LAUNCHER[0])
    assert all(each.is_whole() for each in extras if isinstance(each, _Scratch))
    if program.flag < 0:
        return False
    return bool(extras[program.flag - len(arrays)].memory.view(np.int32)[0])


class _Scratch:
    """Memory full of garbage, with a margin that must stay so."""

    def __init__(self, size: int) -> None:
        self.around = np.full(size + 64, 0xA5, np.uint8)
        self.start = 16 + -self.around.ctypes.data % 16
        self.memory = self.around[self.start :][:size]
        self.size, self.ctypes = size, self.memory.ctypes

    def is_whole(self) -> bool:
        """Whether nothing has been written beside it."""
        before, after = self.around[: self.start], self.around[self.start + self.size :]
        return bool((before == 0xA5).all() and (after == 0xA5).all())


class _Memory:
    """The bytes of an array, from the first to the last of any element."""

    def __init__(self, array: NDArray[Any]) -> None:
        first, end = np.lib.array_utils.byte_bounds(array)
        self.first, self.end, self.array = first, end, array


MEMORY: list[_Memory] = []


class Pointer:
    """Elements at an address, as a kernel sees them in plain Python, within the array that holds it; nothing else is theirs."""

    def __init__(self, address: int, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        home = [each for each in MEMORY if each.first <= address < each.end]
        self.first = (home[0].first - address) // dtype.itemsize if home else 0
        size = (home[0].end - home[0].first) // dtype.itemsize if home else 0
        memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(home[0].first) if home else b""
        self.flat = np.frombuffer(memory, dtype)

    def __getitem__(self, i: Any) -> Any:
        return self.flat[self._at(i)]

    def __setitem__(self, i: Any, each: Any) -> None:
        self.flat[self._at(i)] = each

    def _at(self, i: Any) -> int:
        at = int(i) - self.first
        if not 0 <= at < len(self.flat):
            raise IndexError(f"element {i} is outside {self.first} to {self.first + len(self.flat)}")
        return at


def pointers_in_python(kernel: Kernel, addresses: Sequence[int]) -> tuple[Pointer, ...]:
    """Pointers for a kernel that runs without a compiler."""
    return tuple([Pointer(each, _host_dtype(name)) for each, name in zip(addresses, kernel.buffers)])


def emulate(step: Step, arguments: tuple[int, ...]) -> None:
    """Run all threads of a launch, one after the other."""
    # The launcher gives kernels 8 bytes for each of these, but one for a bool, and NumPy's as many as they have.
    assert all(type(each) is int and -(2**63) <= each < 2**63 for each in arguments), (step.kernel.label, arguments)
    kernel, count = step.kernel, len(step.buffers)
    driver = driver_of(kernel)
    g = np.array(arguments[count:], np.int64)
    driver(step.blocks, arguments[:count], (g.ctypes.data,))


# What starts a launch; a test may put another in its place.
LAUNCHER: list[Callable[[Step, tuple[int, ...]], None]] = [emulate]
DRIVERS: dict[str, tuple[Kernel, Any]] = {}


def driver_of(kernel: Kernel) -> Any:
    """What loops over the threads of a kernel, compiled once for each label."""
    if kernel.label not in DRIVERS:
        DRIVERS[kernel.label] = kernel, _driver(kernel)
    return DRIVERS[kernel.label][1]


def _driver(kernel: Kernel) -> Any:
    thread = bound(kernel.function, dict(kernel.names), INNER, MADE, WIDE_ACCESS)
    index = dict(kernel.names)["index"]
    kinds = [types.CPointer(numba.from_dtype(_host_dtype(name))) for name in kernel.buffers]
    pointers, threads = pointers_to(kinds), kernel.threads
    # Tuples of scalars are of many lengths, and each would be a type of its own.
    scalars = pointers_to([types.CPointer(types.int64)])

    def run(blocks, addresses, g):  # type: ignore[no-untyped-def]
        buffers, g = pointers(addresses), scalars(g)[0]
        for t in range(blocks * threads):
            thread(index(t), buffers, g)

    if kernel.shared:
        first, last = (numba.from_dtype(buffer_dtype(name)) for name in kernel.shared)
        phases = kernel.phases

        def run(blocks, addresses, g):  # type: ignore[no-untyped-def]
            buffers, g = pointers(addresses), scalars(g)[0]
            shared = np.empty(threads, first), np.empty(threads, last)
            for b in range(blocks):
                for phase in range(phases):
                    for i in range(threads):
                        thread(phase, shared, index(b), index(i), buffers, g)

    # Not cached on disk: drivers have one name and one source, and that of another process was taken for this one.
    return numba.njit(run, nogil=True, error_model="numpy", no_cfunc_wrapper=True)


def _host_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(np.uint16) if name == "float16" else buffer_dtype(name)


def pointers_to(kinds: Sequence[Any]) -> Any:
    """An intrinsic that makes pointers of addresses."""

    @intrinsic
    def pointers(typing_context, addresses):  # type: ignore[no-untyped-def]
        result = types.Tuple(kinds)

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            numbers = cgutils.unpack_tuple(builder, values[0])
            made = [builder.inttoptr(number, context.get_value_type(kind)) for number, kind in zip(numbers, kinds)]
            return context.make_tuple(builder, result, made)

        return result(addresses), codegen

    return pointers
