"""What names the compiler, and nothing else does: from a `Kernel` to machine code of a GPU, kept on disk.

Written for numba-cuda; its successor, numba-cuda-mlir, compiles the same kernels and needs `lto_code`, `_substitutes` and
`_pointer_types` of its own. Everything is imported at the first kernel that no file holds.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from numbapool.kernels.cache import digest_of, directories, write_whole
from numbapool.kernels.cuda.elements import atomic_max, float_of_half, half_of_float
from numbapool.kernels.cuda.variants import Kernel, bound, buffer_dtype
from numbapool.kernels.cuda.vectors import NEIGHBOURS, put_neighbours

INSTALL = "pip install 'numbapool[cuda]', or 'numbapool[cuda12]' for a driver older than 580"
# What decides what machine code a kernel becomes; NVVM is in `nvidia-cuda-nvcc-cu12` for CUDA 12.
PACKAGES = (
    "numba",
    "numba-cuda",
    "cuda-core",
    "cuda-bindings",
    "nvidia-nvvm",
    "nvidia-nvjitlink",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-nvjitlink-cu12",
    "numpy",
)

_lock = threading.Lock()
_made: dict[Any, Any] = {}


class Code(NamedTuple):
    """A kernel compiled for one kind of GPU."""

    cubin: bytes
    name: str  # of the entry point in it


def compile_kernel(kernel: Kernel, capability: tuple[int, int]) -> Code:
    """Machine code for GPUs of a compute capability, from disk if it has been compiled before.

    Raises
    ------
    ImportError
        No compiler, or the one that core Numba still ships; the message has the command that installs the right one.
    """
    key = repr(
        (kernel.label, kernel.threads, kernel.resident, kernel.scalars, capability, sources_digest(), versions())
    )
    name = f"numbapool.{kernel.label}.sm_{capability[0]}{capability[1]}.{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
    for directory in directories(os.environ.get("NUMBA_CACHE_DIR", "")):
        try:
            return Code(*pickle.loads((directory / name).read_bytes()))
        except Exception:  # noqa: S112 - no file, or a damaged one: a miss
            continue
    code = linked(lto_code(kernel, capability), capability)
    for directory in directories(os.environ.get("NUMBA_CACHE_DIR", "")):
        try:
            write_whole(directory, name, pickle.dumps(tuple(code)))
        except OSError:
            continue
        break
    return code


@cache
def sources_digest() -> str:
    """Digest of everything that kernels of this target are made of."""
    return digest_of("cuda").hexdigest()


@cache
def versions() -> tuple[str, ...]:
    """Versions of all that takes part in compiling."""
    found = [sys.version]
    for package in PACKAGES:
        try:
            found.append(metadata.version(package))
        except metadata.PackageNotFoundError:
            found.append("none")
    return tuple(found)


@cache
def numba_cuda() -> Any:
    """The module `numba.cuda`, of the package numba-cuda."""
    if not hasattr(np, "row_stack"):
        np.row_stack = np.vstack  # NumPy 2.5 has no more what numba-cuda names at its first compile
    try:
        with warnings.catch_warnings():  # NumPy 2.5 deprecates what numba-cuda does as it is imported
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module("numba.cuda")
    except ImportError as error:
        raise ImportError(f"arrays on a GPU need numba-cuda: {INSTALL}") from error
    if getattr(module, "implementation", "Built-in") != "NVIDIA" and "simulator" not in module.__name__:
        raise ImportError(f"arrays on a GPU need numba-cuda, not the numba.cuda that Numba comes with: {INSTALL}")
    return module


def lto_code(kernel: Kernel, capability: tuple[int, int]) -> list[bytes]:
    """A kernel as what the linker takes, for GPUs of this compute capability or a later one."""
    cuda = numba_cuda()
    types = importlib.import_module("numba.core.types")
    with _lock, _for_capability(capability):
        names = dict(kernel.names)
        function = bound(kernel.function, names, cuda.jit(device=True), _made, _substitutes())
        signature = types.void(_pointer_types(kernel), types.UniTuple(types.int64, len(kernel.scalars)))
        codes, _ = cuda.compile_all(
            _entry(cuda, kernel, function, names.get("index", np.int64)),
            signature,
            cc=capability,
            device=False,
            abi="numba",
            output="ltoir",
            launch_bounds=(kernel.threads, kernel.resident),
        )
    return list(codes)


def linked(codes: list[bytes], capability: tuple[int, int]) -> Code:
    """Machine code of what `lto_code` made."""
    core = importlib.import_module("cuda.core")
    options = core.LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True)
    cubin = bytes(core.Linker(*map(core.ObjectCode.from_ltoir, codes), options=options).link("cubin").code)
    found = re.search(rb"\.text\.([\w$]+)\0", cubin)
    assert found
    return Code(cubin, found.group(1).decode())


def _entry(cuda: Any, kernel: Kernel, function: Any, index: Any) -> Any:
    """What a launch starts: the function with the number of its thread."""
    if not kernel.shared:

        def entry(buffers, g):
            function(index(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x), buffers, g)

        return entry
    phases, threads, kinds = kernel.phases, kernel.threads, _shared_types(kernel)
    first, last = kinds[0], kinds[-1]

    def cooperative(buffers, g):
        shared = cuda.shared.array(threads, first), cuda.shared.array(threads, last)
        for phase in range(phases):
            function(phase, shared, index(cuda.blockIdx.x), index(cuda.threadIdx.x), buffers, g)
            cuda.syncthreads()

    return cooperative


def _shared_types(kernel: Kernel) -> list[Any]:
    from_dtype = importlib.import_module("numba").from_dtype
    return [from_dtype(buffer_dtype(name)) for name in kernel.shared]


def _pointer_types(kernel: Kernel) -> Any:
    types = importlib.import_module("numba.core.types")
    float16 = importlib.import_module("numba.cuda.types").float16
    from_dtype = importlib.import_module("numba").from_dtype
    kinds = [float16 if name == "float16" else from_dtype(buffer_dtype(name)) for name in kernel.buffers]
    return types.Tuple([types.CPointer(kind) for kind in kinds])


@cache
def _substitutes() -> dict[Any, Any]:
    """What a GPU has instructions for."""
    cuda = numba_cuda()
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types = importlib.import_module("numba.core.types")

    def atomic(typing_context, pointer, i, each):
        def codegen(context, builder, signature, values):
            at = builder.gep(values[0], [values[1]])
            number = context.cast(builder, values[2], signature.args[2], pointer.dtype)
            builder.atomic_rmw("max", at, number, "monotonic")
            return context.get_dummy_value()

        return types.none(pointer, types.int64, each), codegen

    return {
        atomic_max: intrinsic(atomic),
        float_of_half: cuda.jit(_widen, device=True),
        half_of_float: cuda.jit(_narrow, device=True),
        **wide_access(intrinsic),
    }


def wide_access(intrinsic: Any) -> dict[Any, Any]:
    """Loads and stores of 16 bytes, by the decorator that a compiler has for functions of LLVM's instructions."""
    types = importlib.import_module("numba.core.types")
    ir = importlib.import_module("llvmlite.ir")

    def at_once(count: int) -> Any:
        def neighbours(typing_context, pointer, i):
            def codegen(context, builder, signature, values):
                element = context.get_data_type(pointer.dtype)
                at = builder.gep(values[0], [values[1]])
                lanes = _read_wide(ir, builder, at, element, count)
                return context.make_tuple(builder, signature.return_type, lanes)

            return types.UniTuple(pointer.dtype, count)(pointer, types.int64), codegen

        return intrinsic(neighbours)

    def put(typing_context, pointer, i, values):
        def codegen(context, builder, signature, arguments):
            element = context.get_data_type(pointer.dtype)
            at = builder.gep(arguments[0], [arguments[1]])
            lanes = [
                context.cast(builder, builder.extract_value(arguments[2], n), kind, pointer.dtype)
                for n, kind in enumerate(signature.args[2].types)
            ]
            _write_wide(ir, builder, at, element, lanes)
            return context.get_dummy_value()

        return types.none(pointer, types.int64, values), codegen

    return {put_neighbours: intrinsic(put), **{function: at_once(count) for count, function in NEIGHBOURS.items()}}


def _read_wide(ir: Any, builder: Any, at: Any, element: Any, count: int) -> list[Any]:
    """16 bytes in one load, as elements.

    Small ones are cut from words by shifts: a load of a vector of them becomes several, of 8 bytes for halves and 4 for bytes.
    """
    size = 128 // count
    loaded = element if size >= 32 else ir.IntType(32)
    vector = builder.load(builder.bitcast(at, ir.VectorType(loaded, min(count, 4)).as_pointer()))
    vector.align = 16
    words = [builder.extract_element(vector, ir.Constant(ir.IntType(32), n)) for n in range(min(count, 4))]
    if size >= 32:
        return words
    each_word = 32 // size
    shifted = [
        builder.lshr(words[n // each_word], ir.Constant(ir.IntType(32), n % each_word * size)) for n in range(count)
    ]
    bits = [builder.trunc(each, ir.IntType(size)) for each in shifted]
    return [each if each.type == element else builder.bitcast(each, element) for each in bits]


def _write_wide(ir: Any, builder: Any, at: Any, element: Any, lanes: list[Any]) -> None:
    """Elements to 16 bytes in one store."""
    size, words = 128 // len(lanes), lanes
    if size < 32:
        bits = [each if element == ir.IntType(size) else builder.bitcast(each, ir.IntType(size)) for each in lanes]
        words, each_word = [], 32 // size
        for first in range(0, len(lanes), each_word):
            word = builder.zext(bits[first], ir.IntType(32))
            for n in range(1, each_word):
                part = builder.zext(bits[first + n], ir.IntType(32))
                word = builder.or_(word, builder.shl(part, ir.Constant(ir.IntType(32), n * size)))
            words.append(word)
    vector = ir.Constant(ir.VectorType(words[0].type, len(words)), ir.Undefined)
    for n, word in enumerate(words):
        vector = builder.insert_element(vector, word, ir.Constant(ir.IntType(32), n))
    stored = builder.store(vector, builder.bitcast(at, vector.type.as_pointer()))
    stored.align = 16


def _widen(half):
    return np.float32(half)


def _narrow(each):
    return np.float16(each)


@contextmanager
def _for_capability(capability: tuple[int, int]) -> Iterator[None]:
    """Functions that are called by kernels are compiled for this, and not for the GPU that there is, or is not."""
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before
