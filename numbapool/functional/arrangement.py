"""Any axes of an array as planes, for kernels; and indices into the whole array."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from numbapool.arguments import shape_error
from numbapool.dispatch import Backend
from numbapool.dtypes import INDICES, check_dtype
from numbapool.geometry import placed_plan
from numbapool.operations import FROM_GLOBAL, TO_GLOBAL, Step


@dataclass(frozen=True)
class Arrangement:
    """The axes of an array as kernels take them: the other ones joined to two, then those that are pooled."""

    shape: tuple[int, ...]  # of the array
    order: tuple[int, ...]  # of its axes: the others, then the pooled ones
    rank: int
    split: int  # how many of the others are joined to the first of the two

    def arranged(self, backend: Backend, name: str, array: Any) -> Any:
        """An array of as many axes, arranged."""
        shape, _ = backend.describe(name, array)
        if len(shape) != len(self.shape):
            raise shape_error(f"{name} must have as many axes as x, which has shape {self.shape}, got shape {shape}")
        if any(shape[axis] != self.shape[axis] for axis in self.order[: -self.rank]):
            raise shape_error(
                f"{name} must have the lengths of x along axes that are not pooled; x has shape {self.shape}, of which axes "
                f"{self.order[-self.rank :]} are, got shape {shape}"
            )
        lengths = [shape[axis] for axis in self.order]
        others, pooled = lengths[: -self.rank], lengths[-self.rank :]
        planes = prod(others[: self.split]), prod(others[self.split :])
        return backend.reshape(name, backend.permute(name, array, self.order), (*planes, *pooled))

    def restored(self, backend: Backend, result: Any) -> Any:
        """A result with the axes of the array."""
        shape, _ = backend.describe("result", result)
        lengths = *[self.shape[axis] for axis in self.order[: -self.rank]], *shape[-self.rank :]
        inverse = tuple([self.order.index(axis) for axis in range(len(self.order))])
        return backend.permute("result", backend.reshape("result", result, lengths), inverse)


class PlaneStarts(NamedTuple):
    """Where each plane of an array starts in it: the axes that are not pooled, as lengths and steps in elements."""

    lengths: tuple[int, ...]
    steps: tuple[int, ...]

    def table(self) -> np.ndarray:
        """One number a plane, for those who look them up."""
        starts = np.zeros((), np.int64)
        for length, step in zip(self.lengths, self.steps, strict=True):
            starts = np.add.outer(starts, np.arange(length) * step)
        return np.ascontiguousarray(starts).ravel()


def to_global(
    backend: Backend, indices: Any, shape: tuple[int, ...], axes: tuple[int, ...], is_column_major: bool = False
) -> Any:
    """Positions in the planes of an array of `shape`, which are spanned by `axes`, as positions in the whole array.

    In C order; in planes, on request, in column-major order.
    """
    steps = _steps(shape, axes, is_column_major)
    return _renumbered(TO_GLOBAL, backend, indices, shape, axes, steps, _first(backend, indices, shape, axes))


def from_global(backend: Backend, indices: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The other way round."""
    steps = _steps(shape, axes)
    return _renumbered(FROM_GLOBAL, backend, indices, shape, axes, steps, _first(backend, indices, shape, axes))


def in_larger_plane(
    backend: Backend, positions: Any, sizes: tuple[int, ...], outer: tuple[int, ...], axes: tuple[int, ...]
) -> Any:
    """Positions in planes of `sizes` as those in larger ones, whose first corners they are."""
    shape, _ = backend.describe("indices", positions)
    lengths = shape[: -len(axes)]
    steps = _steps((*lengths, *outer), axes)
    first = PlaneStarts(lengths, (0,) * len(lengths))
    return _renumbered(TO_GLOBAL, backend, positions, (*lengths, *sizes), axes, steps, first)


def in_order(shape: tuple[int, ...], axes: tuple[int, ...]) -> str:
    """What errors that show the shape of an arranged array must say of it."""
    return f"x has shape {shape}, of which axes {axes} are pooled and come last here"


def refuse_traced(backend: Backend, x: Any, **others: Any) -> None:
    """Positions in whole arrays are computed with, so they must have values."""
    if backend.is_traced(x, **others):
        raise NotImplementedError("index_kind='global' cannot be recorded, for torch.compile or others: take 'plane'")


def _steps(shape: tuple[int, ...], axes: tuple[int, ...], is_column_major: bool = False) -> tuple[int, ...]:
    """How far apart neighbours along each axis are."""
    if is_column_major:
        return tuple(prod(shape[axis] for axis in axes[:i]) for i in range(len(axes)))
    return tuple(prod(shape[axis + 1 :]) for axis in axes)


def _first(backend: Backend, indices: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> PlaneStarts:
    """Where each plane starts."""
    given, _ = backend.describe("indices", indices)
    if len(given) != len(shape):
        raise shape_error(f"indices must have as many axes as x, which has shape {shape}, got shape {given}")
    others = [axis for axis in range(len(shape)) if axis not in axes]
    return PlaneStarts(tuple(given[axis] for axis in others), tuple(prod(shape[axis + 1 :]) for axis in others))


def _renumbered(
    step: Step,
    backend: Backend,
    indices: Any,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    steps: tuple[int, ...],
    first: PlaneStarts,
) -> Any:
    given, dtype = backend.describe("indices", indices)
    check_dtype("indices", dtype, INDICES)
    if len(axes) > 3:  # neighbours, from a global pooling: to kernels they are one
        first_axis, end = axes[0], axes[-1] + 1
        whole, joined = ((*each[:first_axis], prod(each[first_axis:end]), *each[end:]) for each in (shape, given))
        flat = backend.reshape("indices", indices, joined)
        flat = _renumbered(step, backend, flat, whole, (first_axis,), steps[-1:], first)
        return backend.reshape("indices", flat, given)
    refuse_traced(backend, indices)
    name = "result" if step is TO_GLOBAL else "indices"
    others = tuple(axis for axis in range(len(shape)) if axis not in axes)
    arrangement = Arrangement(given, others + axes, len(axes), len(others))
    arranged = arrangement.arranged(backend, name, indices)
    out_shape, _ = backend.describe("indices", arranged)
    plan = placed_plan(out_shape, tuple(shape[axis] for axis in axes))
    result = backend.run_backward(step, plan, (arranged,), (out_shape, dtype), None, first, steps)
    return arrangement.restored(backend, result)
