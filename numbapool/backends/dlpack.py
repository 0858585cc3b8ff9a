"""Arrays of any other library that exports DLPack from CPU memory, and imports it through its array namespace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from numbapool.backends.numpy import backend as numpy_backend
from numbapool.geometry import Plan

if TYPE_CHECKING:
    from numbapool.dispatch import Spec

INDEX = np.dtype(np.int64)
# DLDeviceType of memory that the CPU can address: kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged.
CPU_DEVICES = (1, 3, 11, 13)


class DlpackBackend:
    """Views go in by `__dlpack__`; results come back through the `from_dlpack` of the input's own namespace."""

    def describe(self, name: str, array: Any) -> Spec:
        """Shape and dtype of the argument called `name`."""
        view = _view(name, array)
        if name in ("x", "grad_output"):
            _importer(name, array)
        shape, dtype = numpy_backend.describe(name, view)
        # A library may have no int64, as JAX by default, and have cut the indices that it was given.
        return shape, INDEX if name == "indices" and dtype == np.int32 else dtype

    def is_traced(self, *arrays: Any) -> bool:
        """Never: what can be exported has values."""
        return False

    def trace(self, function: str, rank: int, out: Any, x: Any, *arguments: Any) -> Any:
        """Never called."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> np.ndarray:
        """The memory of an array."""
        return _view("array", array)

    def from_numpy(self, array: np.ndarray) -> Any:
        """The array itself, which goes in by DLPack like any other."""
        return array

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Random numbers in [0, 1), others at every call."""
        return numpy_backend.draw(shape, dtype)

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In bytes."""
        return tuple(_view(name, array).strides)

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """By the array's namespace, which may copy (JAX does); as a NumPy view what nobody gets to see, or must be no copy."""
        if name in ("indices", "out"):
            return np.transpose(_view(name, array), axes)
        return array.__array_namespace__().permute_dims(array, axes)

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """By the array's namespace."""
        return array.__array_namespace__().reshape(array, shape)

    def cast(self, array: Any, like: Any) -> Any:
        """By the array's namespace."""
        namespace = array.__array_namespace__()
        return namespace.astype(array, namespace.float32 if like is None else like.dtype)

    def write(self, out: Any, result: Any) -> None:
        """Copy a result to the memory of the array that the caller wants it in."""
        numpy_backend.write(_view("out", out), _view("result", result))

    def bind(self, operation: str, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A forward operation as a function `(x, out) -> results`."""
        compute = numpy_backend.bind(operation, plan, specs, *parameters)

        def call(x: Any, out: Sequence[Any] | None) -> Any:
            if out is not None:
                compute(_view("x", x), [_view("out", each) for each in out])
                return out[0] if len(out) == 1 else tuple(out)
            results = compute(_view("x", x), None)
            back = _importer("x", x)
            return tuple(map(back, results)) if isinstance(results, tuple) else back(results)

        return call

    def run_backward(
        self, operation: str, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a backward operation; the result in a new array of the gradient's library, or in `out`."""
        views = [_view("grad_output", inputs[0]), *(_view("x or indices", each) for each in inputs[1:])]
        view = None if out is None else _view("out", out)
        result = numpy_backend.run_backward(operation, plan, views, spec, view, *parameters)
        return _importer("grad_output", inputs[0])(result) if out is None else out


backend = DlpackBackend()


def _view(name: str, array: Any) -> np.ndarray:
    """The memory of an array as NumPy's; read-only if its library says so."""
    if isinstance(array, np.ndarray):
        return array
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"{name} must export DLPack like the other arguments, got {_type_name(array)}")
    try:
        device, _ = array.__dlpack_device__()
        if device in CPU_DEVICES:
            return np.from_dlpack(array)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        dtype = getattr(array, "dtype", "unknown")
        raise TypeError(f"{name}, a {_type_name(array)} of dtype {dtype}, cannot be read by DLPack: {error}") from error
    where = getattr(array, "device", f"DLPack device type {int(device)}")
    raise TypeError(f"{name} is on device {where}, for which numbapool has no kernels: move it to the CPU")


def _importer(name: str, array: Any) -> Callable[[np.ndarray], Any]:
    """What makes arrays of an array's library, on its device, which may have several names for the CPU."""
    if isinstance(array, np.ndarray):
        return np.asarray
    namespace = getattr(array, "__array_namespace__", None)
    if namespace is None or not hasattr(namespace(), "from_dlpack"):
        raise TypeError(
            f"{name} is a {_type_name(array)}, whose library has no array namespace with from_dlpack to bring results back; "
            f"pass numpy.from_dlpack({name})"
        )
    from_dlpack, device = namespace().from_dlpack, getattr(array, "device", None)

    def back(result: np.ndarray) -> Any:
        imported = from_dlpack(result)
        is_there = device is None or getattr(imported, "device", device) == device
        return imported if is_there else imported.to_device(device)

    return back


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
