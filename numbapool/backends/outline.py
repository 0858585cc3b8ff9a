"""Arrays without values, which write down what kernels are asked to do with them: how `explain` looks into a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbapool.backends.eager import EagerBackend
from numbapool.backends.numpy import standard_dtype
from numbapool.geometry import Plan

if TYPE_CHECKING:
    from numbapool.dispatch import Spec
    from numbapool.operations import Step
    from numbapool.requests import Pooling


@dataclass(frozen=True)
class Work:
    """What a kernel is asked to do."""

    step: Step
    plan: Plan
    read: tuple[Spec, ...]
    written: tuple[Spec, ...]


@dataclass
class Record:
    """What a public function was asked for, once it is known, and what kernels are asked for it."""

    pooling: Pooling | None = None
    calls: list[Work] = field(default_factory=list)


@dataclass(frozen=True)
class Outline:
    """The shape and dtype of a C-contiguous array, and what was asked of it and of what was made of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    record: Record = field(default_factory=Record)


class OutlineBackend(EagerBackend):
    """Does all that needs no values."""

    def is_traced(self, x: Any, **others: Any) -> bool:
        """Until the request is written down, which wrappers do that come first: see `functional.recording`."""
        return x.record.pooling is None

    def describe(self, name: str, array: Any) -> Spec:
        """Shape and dtype of an outline, or of a NumPy array beside it: samples have values."""
        if not isinstance(array, (Outline, np.ndarray)):
            raise TypeError(f"{name} must be an array, got {type(array).__name__}")
        return array.shape, standard_dtype(array.dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        """Samples, which have values."""
        return np.asarray(array)

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Any:
        """What the first plane will be given, for all: nobody looks at the others, and the generator stays as it is."""
        return np.broadcast_to(super().draw(shape[-1:], dtype, deepcopy(generator)), shape)

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In elements."""
        return tuple(prod(array.shape[axis + 1 :]) for axis in range(len(array.shape)))

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """The outline with its axes in another order."""
        return replace(array, shape=tuple(array.shape[axis] for axis in axes))

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """The outline of another shape."""
        return replace(array, shape=tuple(shape))

    def cast(self, array: Any, like: Any) -> Any:
        """The outline of another dtype."""
        return replace(array, dtype=np.dtype(np.float32) if like is None else like.dtype)

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Never called: outlines are not written to."""
        raise NotImplementedError

    def write(self, out: Any, result: Any) -> None:
        """Never called: outlines are not written to."""
        raise NotImplementedError

    @property
    def unchecked(self) -> OutlineBackend:
        """The same: there are no indices to look at."""
        return self

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """What writes the call down, and returns the outlines of its results."""

        def call(x: Outline, out: Any) -> Any:
            results = _write_down(step, plan, (x,), tuple(specs))
            return results if len(results) > 1 else results[0]

        return call

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Write the call down, and return the outline of its result."""
        return _write_down(step, plan, inputs, (spec,))[0]


def _write_down(step: Step, plan: Plan, inputs: Sequence[Outline], written: tuple[Spec, ...]) -> tuple[Any, ...]:
    record = inputs[0].record
    record.calls.append(Work(step, plan, tuple((each.shape, each.dtype) for each in inputs), written))
    return tuple(Outline(*each, record) for each in written)


backend = OutlineBackend()
