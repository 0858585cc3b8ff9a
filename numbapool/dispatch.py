"""From an array to the backend of its library, by type; libraries that the caller has not imported are never imported."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from numbapool.geometry import WindowPlan


class Backend(Protocol):
    """What numbapool needs of an array library: to look at arrays, allocate them and run a target's operation on them."""

    def describe(self, name: str, array: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype (as a NumPy dtype) of the argument called `name`; TypeError if it is not this library's."""

    def run(
        self,
        operation: str,
        plan: WindowPlan,
        inputs: Sequence[Any],
        results: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
        out: Sequence[Any] | None,
        **parameters: Any,
    ) -> tuple[Any, ...]:
        """Run the target's `operation` and return its results, in `out` where given."""


# Array type -> module of its backend, by the type's full name, so that registering imports nothing.
_backend_modules: dict[str, str] = {}
_backends: dict[type, Backend] = {}


def register(array_type: str, backend_module: str) -> None:
    """Let arrays of `array_type` ("package.module.Type") be served by the object `backend` of `backend_module`.

    Subclasses are served too. The module is imported at the first such array, so its imports cost nobody else.
    """
    _backend_modules[array_type] = backend_module
    _backends.clear()


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
            backend: Backend = importlib.import_module(module).backend
            _backends[array_type] = backend
            return backend
    raise TypeError(
        f"{name} must be an array of a supported library, got {array_type.__module__}.{array_type.__qualname__}; supported: "
        f"{', '.join(sorted(_backend_modules))}"
    )


register("numpy.ndarray", "numbapool.backends.numpy")
