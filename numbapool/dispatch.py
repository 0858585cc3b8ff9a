"""From an array to the backend of its library, by type; libraries that the caller has not imported are never imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from numbapool.arguments import shown
from numbapool.geometry import Plan
from numbapool.operations import Step
from numbapool.requests import Pooling

Spec: TypeAlias = "tuple[tuple[int, ...], np.dtype[Any]]"  # shape and dtype of an array


class Backend(Protocol):
    """What numbapool needs of an array library: to look at arrays, allocate them and run a target's operation on them."""

    def describe(self, name: str, array: Any) -> Spec:
        """Shape and dtype (as a native NumPy dtype) of the argument called `name`; TypeError if it is not this library's."""

    def is_traced(self, x: Any, **others: Any) -> bool:
        """Whether any has no values yet, or somebody records what is done with it; then the call goes to `trace`.

        The arguments of the call that are arrays, or None, by their names. ValueError if some will never have values and
        others do.
        """

    def trace(self, pooling: Pooling, x: Any, indices: Any, out: Any) -> Any:
        """Record a request; of unpooling `indices` say where elements go."""

    def trace_backward(self, pooling: Pooling, grad_output: Any, x: Any, indices: Any, out: Any) -> Any:
        """Record the gradient of a request."""

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values of a small array."""

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Any:
        """Random numbers in [0, 1) of float32 or float64, by a generator or else by the library's own."""

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """Distance in memory of neighbours along each axis of what is called `name`, in any unit."""

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """What is called `name`, with its axes in another order: a view where the library has views, and always of "out"."""

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """What is called `name`, of another shape: a copy where strides allow no view."""

    def cast(self, array: Any, like: Any) -> Any:
        """An array in the dtype of another, or in float32 if that is None."""

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Raise if arrays that results are to go to are not this library's, or share memory: see `memory.check_outs`."""

    def write(self, out: Any, result: Any) -> None:
        """A result to where the caller wants it."""

    @property
    def unchecked(self) -> Backend:
        """The same, but that it need not look for indices out of range where that takes time; it skips them."""

    def __hash__(self) -> int:
        """Backends are keys of caches."""

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step of one array, for inputs of one shape and dtype, as a function `(x, out) -> results`.

        `specs` describes the results; one result comes alone, several as a tuple. `out` is None or one array a result.
        """

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a step of the arrays it takes and return its result, in `out` if that is not None."""


# Array type -> module of its backend, by the type's full name, so that registering imports nothing.
_backend_modules: dict[str, str] = {}
_backends: dict[type, Backend] = {}


def register(array_type: str, backend_module: str) -> None:
    """Let arrays of `array_type` ("package.module.Type") be served by the object `backend` of `backend_module`.

    Subclasses are served too. The module is imported at the first such array, so its imports cost nobody else.

    Raises
    ------
    TypeError
        An argument that is no str.
    ValueError
        A name without a module before it, or one that cannot be a name.
    """
    _check_path("array_type", array_type, "the full name of a type, 'package.module.Type'", 2)
    _check_path("backend_module", backend_module, "the name of a module, 'package.module'", 1)
    _backend_modules[array_type] = backend_module
    _backends.clear()


def _check_path(name: str, value: Any, what: str, fewest: int) -> None:
    """Refuse what is no path of names with dots between them; types of functions have "<locals>" in theirs."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {what}, got {shown(value)} of type {type(value).__name__}")
    parts = value.split(".")
    if len(parts) < fewest or not all(each.isidentifier() or each == "<locals>" for each in parts):
        raise ValueError(f"{name} must be {what}, got {shown(value)}")


def backend_of(name: str, array: Any) -> Backend:
    """The backend that serves `array`, the argument called `name`."""
    try:
        return _backends[type(array)]
    except KeyError:
        return _find_backend(name, type(array))


def _find_backend(name: str, array_type: type) -> Backend:
    for base in array_type.__mro__:
        module = _backend_modules.get(f"{base.__module__}.{base.__qualname__}")
        if module is not None:
            return _load(array_type, module)
    if hasattr(array_type, "__dlpack__") or hasattr(array_type, "__cuda_array_interface__"):
        return _load(array_type, "numbapool.backends.dlpack")
    supported = ", ".join(sorted(each for each in _backend_modules if not each.startswith("numbapool.")))
    module = "" if array_type.__module__ == "builtins" else f"{array_type.__module__}."
    advice = f"; numpy.asarray({name}) is one" if issubclass(array_type, (list, tuple)) else ""
    raise TypeError(
        f"{name} must be an array of a supported library, got {module}{array_type.__qualname__}{advice}; supported: "
        f"{supported} and whatever exports DLPack or the CUDA array interface"
    )


def _load(array_type: type, module: str) -> Backend:
    _import(module)
    backend: Backend | None = getattr(sys.modules[module], "backend", None)
    if backend is None:
        raise TypeError(
            f"{module}, which numbapool.register names for {array_type.__qualname__}, has no object `backend`"
        )
    _backends[array_type] = backend
    return backend


def _import(module: str) -> None:
    importlib.import_module(module)


# torch.compile shall call this while it traces, because it cannot trace imports; torch._dynamo.assume_constant_result, which
# sets this attribute, cannot be had without importing torch.
_import._dynamo_marked_constant = True  # type: ignore[attr-defined]


register("numpy.ndarray", "numbapool.backends.numpy")
register("torch.Tensor", "numbapool.backends.torch")
register("cupy.ndarray", "numbapool.backends.cupy")
register("numba.cuda.cudadrv.devicearray.DeviceNDArray", "numbapool.backends.device_arrays")
register("numbapool.backends.outline.Outline", "numbapool.backends.outline")
