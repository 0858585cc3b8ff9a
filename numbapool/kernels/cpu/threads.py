"""Running a kernel: serial for small work, else in parallel over ranges of units.

A kernel is a function `kernel(first, last, *arguments)` that computes the units first <= unit < last; its results do
not depend on how the units are cut into chunks. One small parallel driver serves all kernels, because it is given the
address of the compiled kernel: compiled into a driver of its own, each kernel would go through LLVM two more times
(2.3 s instead of 0.5 s at a first call).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numba import prange, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from numbapool.kernels.cpu.compile import parallel_entry
from numbapool.kernels.cpu.schedule import with_layout

# Below this many element operations a parallel launch (2 to 4 us with the omp threading layer) costs more than it saves.
SERIAL_OPERATIONS = 1 << 15

# The workqueue threading layer aborts the process when two threads use it at once. A caller that finds it taken runs serial.
# A lock that knows its owner: only so can it be given back after an interrupt that came as it was taken, see `run`.
_workqueue = threading.RLock()

# Whether this process is the child of a fork after which the threading layer would kill it (omp).
_is_serial = bool(config.DISABLE_JIT)

# Addresses of compiled kernels, by kernel and dtypes of the arguments.
_addresses: dict[Any, int] = {}


# An input of a kernel: a flat array and its layout (see `tables.layout`), None for a C-contiguous input.
# (A plain tuple, because making a named one costs 0.3 us.)
Source: TypeAlias = tuple[np.ndarray, "np.ndarray | None"]


class Launch(NamedTuple):
    """A forward operation for inputs of one shape and dtype: `kernel(first, last, *results, x, program, *constants)`."""

    kernel: Any
    units: int
    program: np.ndarray
    constants: tuple[Any, ...]

    def entry_point(self, *arrays: np.ndarray) -> Any:
        """`kernel(first, last, *results, x, program, *constants)` for arrays of exactly these types, which it does not check.

        It takes 0.3 us less than the kernel itself, which looks at the type of every argument.
        """
        if config.DISABLE_JIT:
            return self.kernel
        return compiled_for(self.kernel, (*arrays, self.program, *self.constants)).entry_point

    def run(self, x: Source, results: Sequence[np.ndarray]) -> None:
        """Compute the flat arrays `results`."""
        flat, layout = x
        run(
            self.kernel,
            self.units,
            flat.size + results[0].size,
            *results,
            flat,
            with_layout(self.program, layout),
            *self.constants,
        )


def run(kernel: Any, units: int, operations: int, *arguments: Any) -> None:
    """Run a kernel over all units; `operations` (elements read, or more) decides whether threads are worth it."""
    if operations < SERIAL_OPERATIONS or units == 1 or _is_serial:
        kernel(0, units, *arguments)
        return
    chunks = min(units, numba.get_num_threads())
    if chunks == 1:
        kernel(0, units, *arguments)
        return
    address = address_of(kernel, arguments)
    if numba.threading_layer() != "workqueue":
        run_chunks(address, chunks, units, *arguments)
        return
    try:  # begins before the lock is taken: Python raises a KeyboardInterrupt as `acquire` returns, not later
        is_free = _workqueue.acquire(blocking=False)
        if is_free:
            run_chunks(address, chunks, units, *arguments)
    finally:
        try:  # noqa: SIM105 - to call `suppress` would be another place for an interrupt, before `release`
            _workqueue.release()
        except RuntimeError:  # another thread has it
            pass
    if not is_free:
        kernel(0, units, *arguments)


def compiled_for(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """The kernel compiled for these arguments: flat or tabular arrays, and NumPy or Python scalars."""
    signature = (types.int64,) * 2 + tuple(numba.typeof(a) for a in arguments)
    kernel.compile(signature)
    return kernel.overloads[signature]


def address_of(kernel: Any, arguments: tuple[Any, ...]) -> int:
    """Address of the kernel compiled for these arguments."""
    key = (kernel, *[_kind(a) for a in arguments])
    address = _addresses.get(key)
    if address is None:
        compiled = compiled_for(kernel, arguments)
        address = _addresses[key] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


def _kind(argument: Any) -> Any:
    if not isinstance(argument, np.ndarray):
        return type(argument)
    dtype = argument.dtype
    return dtype.char if dtype.names is None else dtype


@intrinsic
def call_address(typing_context, address, first, last, arguments):
    """Call the kernel at `address` as `kernel(first, last, *arguments)`."""

    def codegen(context, builder, signature, values):
        argument_types = (types.int64, types.int64, *signature.args[3].types)
        function_type = context.call_conv.get_function_type(types.none, argument_types)
        function = builder.inttoptr(values[0], function_type.as_pointer())
        unpacked = cgutils.unpack_tuple(builder, values[3])
        arguments = [*values[1:3], *unpacked]
        status, _ = context.call_conv.call_function(builder, function, types.none, argument_types, arguments)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(types.intp, types.int64, types.int64, arguments), codegen


@parallel_entry
def run_chunks(address, chunks, units, *arguments):
    """Run a kernel over all units, cut into chunks of equal size."""
    for chunk in prange(chunks):
        call_address(address, chunk * units // chunks, (chunk + 1) * units // chunks, arguments)


def _after_fork_in_child() -> None:
    """Go on serial if the threads are OpenMP's: a parallel launch in the child would end it, or wait for ever.

    So too if Numba has not started any: another library may have (torch), with the same OpenMP.
    """
    global _is_serial
    try:
        _is_serial = numba.threading_layer() == "omp"
    except ValueError:
        _is_serial = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
