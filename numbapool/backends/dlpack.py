"""Arrays of any other library: those that export DLPack, or the CUDA array interface.

In CPU memory they are viewed as NumPy arrays, on CUDA devices as CuPy's, and served as such. Results come back through the
array namespace of their library, if it has one; else, on CUDA devices, as CuPy arrays.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numbapool.arguments import type_name
from numbapool.backends import cupy as cupy_adapter
from numbapool.backends.cuda import CudaBackend, check_devices
from numbapool.backends.eager import EagerBackend
from numbapool.backends.numpy import NumpyBackend
from numbapool.backends.numpy import backend as numpy_backend
from numbapool.geometry import Plan

if TYPE_CHECKING:
    from numbapool.dispatch import Spec
    from numbapool.operations import Step

INSTALL = "pip install 'numbapool[cupy]', or 'numbapool[cupy12]' for a driver older than 580"
INDEX = np.dtype(np.int64)
# DLDeviceType of memory that the CPU can address: kDLCPU, kDLCUDAHost, kDLROCMHost.
CPU_DEVICES = (1, 3, 11)
# kDLCUDA, kDLCUDAManaged.
CUDA_DEVICES = (2, 13)
# These, and others that it is likely to be.
DEVICE_NAMES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 13: "CUDA", 14: "oneAPI", 15: "WebGPU"}
# Of a managed tensor that has a version: whether its memory is read-only, and where that stands.
READ_ONLY, FLAGS_OFFSET = 1, 24


class DlpackBackend(EagerBackend):
    """Views go in; results come back through the `from_dlpack` of the input's own namespace."""

    def __init__(self, checks: bool) -> None:
        self.checks = checks

    @property
    def unchecked(self) -> DlpackBackend:
        """The same, but that indices out of range are skipped on a GPU."""
        return unchecked_backend

    def describe(self, name: str, array: Any) -> Spec:
        """Shape and dtype of the argument called `name`."""
        view = _view(name, array)
        if name in ("x", "grad_output"):
            _importer(name, array)
        shape, dtype = self._of(view).describe(name, view)
        # A library may have no int64, as JAX by default, and have cut the indices that it was given.
        return shape, INDEX if name == "indices" and dtype == np.int32 else dtype

    def to_numpy(self, array: Any) -> np.ndarray:
        """The memory of an array; a copy of it from a GPU."""
        view = _view("array", array)
        return self._of(view).to_numpy(view)

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In bytes."""
        view = _view(name, array)
        return self._of(view).strides(name, view)

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """By the array's namespace, which may copy (JAX does); as a view what nobody gets to see, or must be no copy."""
        if name in ("indices", "out") or _namespace(array) is None:
            view = _view(name, array)
            return self._of(view).permute(name, view, axes)
        return _namespace(array).permute_dims(array, axes)

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """By the array's namespace."""
        namespace = _namespace(array)
        if namespace is None:
            view = _view(name, array)
            return self._of(view).reshape(name, view, shape)
        return namespace.reshape(array, shape)

    def cast(self, array: Any, like: Any) -> Any:
        """By the array's namespace."""
        namespace = _namespace(array)
        if namespace is None:
            view = _view("x", array)
            return self._of(view).cast(view, like if like is None else _view("x", like))
        return namespace.astype(array, namespace.float32 if like is None else like.dtype)

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Raise if arrays cannot take results, or only over each other."""
        views = [_writeable_view(each) for each in outs]
        _check_kinds([("out", each) for each in views])
        self._of(views[0]).check_outs(views)

    def write(self, out: Any, result: Any) -> None:
        """Copy a result to the memory of the array that the caller wants it in."""
        target, source = _writeable_view(out), _view("result", result)
        _check_kinds([("result", source), ("out", target)])
        self._of(target).write(target, source)

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step of one array as a function `(x, out) -> results`."""
        bound: dict[Any, Callable[..., Any]] = {}

        def call(x: Any, out: Sequence[Any] | None) -> Any:
            view = _view("x", x)
            views = None if out is None else [_writeable_view(each) for each in out]
            _check_kinds([("x", view), *(("out", each) for each in views or ())])
            inner = self._of(view)
            if inner not in bound:
                bound[inner] = inner.bind(step, plan, specs, *parameters)
            results = bound[inner](view, views)
            if out is not None:
                return out[0] if len(out) == 1 else tuple(out)
            back = _importer("x", x)
            return tuple(map(back, results)) if isinstance(results, tuple) else back(results)

        return call

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a step of the arrays it takes; the result in a new array of the gradient's library, or in `out`."""
        views = [_view("grad_output", inputs[0]), *(_view("x or indices", each) for each in inputs[1:])]
        view = None if out is None else _writeable_view(out)
        given = [] if view is None else [("out", view)]
        _check_kinds([*zip(step.inputs, views), *given])
        result = self._of(views[0]).run_backward(step, plan, views, spec, view, *parameters)
        return _importer("grad_output", inputs[0])(result) if out is None else out

    def _of(self, view: Any) -> NumpyBackend | CudaBackend:
        """What serves a view."""
        if isinstance(view, np.ndarray):
            return numpy_backend
        return cupy_adapter.backend if self.checks else cupy_adapter.backend.unchecked


backend = DlpackBackend(checks=True)
unchecked_backend = DlpackBackend(checks=False)


def _check_kinds(views: Sequence[tuple[str, Any]]) -> None:
    """Raise if some arguments are on the CPU and others on a GPU."""
    check_devices([(name, "the CPU" if isinstance(each, np.ndarray) else "a GPU") for name, each in views])


def _view(name: str, array: Any) -> Any:
    """The memory of an array as NumPy's, read-only if its library says so; on a CUDA device as CuPy's."""
    if isinstance(array, np.ndarray):
        return array
    if _is_jax_tracer(array):
        raise TypeError(
            f"{name} is a {type(array).__name__} of JAX, which has no values yet: jax.jit, jax.grad, jax.vmap and the like reach "
            "numbapool by jax.pure_callback, and its gradients by jax.custom_vjp; docs/recipes/jax.md has a function to copy"
        )
    if not hasattr(array, "__dlpack__"):
        if hasattr(array, "__cuda_array_interface__"):
            return _on_gpu(name, array, cupy_adapter.backend.from_interface)
        raise TypeError(f"{name} must export DLPack like the other arguments, got {type_name(array)}")
    try:
        device, _ = array.__dlpack_device__()
        if device in CPU_DEVICES:
            return np.from_dlpack(array)
        if device in CUDA_DEVICES:
            return _on_gpu(name, array, cupy_adapter.backend.from_dlpack)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        dtype = getattr(array, "dtype", "unknown")
        raise TypeError(f"{name}, a {type_name(array)} of dtype {dtype}, cannot be read by DLPack: {error}") from error
    raise TypeError(f"{name} is on {_where(array)}, for which numbapool has no kernels: move it to the CPU")


def _is_jax_tracer(array: Any) -> bool:
    """Whether it stands for an array that a transform of JAX has yet to compute."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(array, jax.core.Tracer)


def _on_gpu(name: str, array: Any, view: Callable[[Any], Any]) -> Any:
    try:
        return view(array)
    except ImportError as error:
        raise ImportError(
            f"{name} is on {_where(array)}, where numbapool needs CuPy to see arrays of other libraries: "
            f"install it ({INSTALL}), or move it to the CPU"
        ) from error
    except NotImplementedError as error:
        # By CuPy, of a dtype: there is no other than bfloat16 that only later versions know.
        raise TypeError(f"{error}; bfloat16 takes CuPy 14 or newer and ml-dtypes ({INSTALL})") from error


def _where(array: Any) -> str:
    """The device of an array, for messages."""
    if not hasattr(array, "__dlpack_device__"):
        return f"device {getattr(array, 'device', 'CUDA')}"
    kind = int(array.__dlpack_device__()[0])
    named = f" ({DEVICE_NAMES[kind]})" if kind in DEVICE_NAMES else ""
    return f"device {getattr(array, 'device', f'DLPack device type {kind}{named}')}"


def _writeable_view(out: Any) -> Any:
    """A view of an array that results go to."""
    view = _view("out", out)
    if not isinstance(view, np.ndarray) and _is_read_only(out):
        raise ValueError("out must be writeable, got a read-only array")
    return view


def _is_read_only(array: Any) -> bool:
    """Whether an array on a GPU says so: CuPy's views have no such flag."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None and interface["data"][1]:
        return True
    if not hasattr(array, "__dlpack__"):
        return False
    try:
        capsule = array.__dlpack__(max_version=(1, 0))
    except TypeError:  # of before there were versions and flags
        return False
    api = ctypes.pythonapi
    api.PyCapsule_IsValid.argtypes = api.PyCapsule_GetPointer.argtypes = ctypes.py_object, ctypes.c_char_p
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    if not api.PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        return False
    address = api.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
    return bool(ctypes.c_uint64.from_address(address + FLAGS_OFFSET).value & READ_ONLY)


def _namespace(array: Any) -> Any:
    """The array namespace of an array's library, or None."""
    if isinstance(array, np.ndarray):
        return np
    namespace = getattr(array, "__array_namespace__", None)
    return None if namespace is None else namespace()


def _importer(name: str, array: Any) -> Callable[[Any], Any]:
    """What makes arrays of an array's library, on its device, which may have several names for the CPU."""
    if isinstance(array, np.ndarray):
        return np.asarray
    namespace = _namespace(array)
    if not hasattr(namespace, "from_dlpack"):
        if not hasattr(array, "__dlpack__") or array.__dlpack_device__()[0] in CUDA_DEVICES:
            return lambda result: result
        raise TypeError(
            f"{name} is a {type_name(array)}, whose library has no array namespace with from_dlpack to bring results back; "
            f"pass numpy.from_dlpack({name})"
        )
    from_dlpack, device = namespace.from_dlpack, getattr(array, "device", None)

    def back(result: Any) -> Any:
        imported = from_dlpack(result)
        is_there = device is None or getattr(imported, "device", device) == device
        return imported if is_there else imported.to_device(device)

    return back
