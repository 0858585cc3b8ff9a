"""Wrapper: any axes of an array as the last ones of planes."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from numbapool.arguments import explained, outs_of
from numbapool.dispatch import Backend
from numbapool.functional.arrangement import Arrangement, from_global, in_order, refuse_traced, to_global
from numbapool.requests import Onward, Pooling


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether it says which axes are pooled."""
    return pooling.axes is not None


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    axes = pooling.axes
    assert axes is not None
    arrangement = _arrangement(backend, axes, x)
    if arrangement is None:
        return onward.pooled(pooling._replace(axes=None), x, out)
    check_outs(backend, out, pooling.return_indices)
    is_global = pooling.return_indices and pooling.index_kind == "global"
    in_planes = pooling._replace(axes=None, index_kind="plane" if is_global else pooling.index_kind)
    results = explained(
        partial(in_order, arrangement.shape, axes), onward.pooled, in_planes, arrangement.arranged(backend, "x", x)
    )
    if not isinstance(results, tuple):
        return handed_back(backend, arrangement.restored(backend, results), out)
    values, positions = (arrangement.restored(backend, each) for each in results)
    if is_global:
        positions = to_global(backend, positions, arrangement.shape, axes)
    return handed_back(backend, (values, positions), out)


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient."""
    grad_output, x, indices = arrays
    axes = pooling.axes
    assert axes is not None
    arrangement = _arrangement(backend, axes, x)
    if arrangement is None:
        return onward.pooled_backward(pooling._replace(axes=None), grad_output, x, indices, out)
    check_outs(backend, out, False)
    in_planes = pooling._replace(axes=None)
    if indices is not None and pooling.index_kind == "global":
        refuse_traced(backend, x, grad_output=grad_output, indices=indices)
        indices = from_global(backend, indices, arrangement.shape, axes)
        in_planes = in_planes._replace(index_kind="plane")
    named = ("grad_output", grad_output), ("x", x), ("indices", indices)
    moved = [None if each is None else arrangement.arranged(backend, name, each) for name, each in named]
    result = explained(partial(in_order, arrangement.shape, axes), onward.pooled_backward, in_planes, *moved)
    return handed_back(backend, arrangement.restored(backend, result), out)


def _arrangement(backend: Backend, axes: tuple[int, ...], x: Any) -> Arrangement | None:
    """How an array is arranged to pool some of its axes; None if kernels take it as it is."""
    shape, _ = backend.describe("x", x)
    if are_last(shape, axes):
        return None
    others = tuple(axis for axis in range(len(shape)) if axis not in axes)
    order = others + axes
    split = len(others)
    if prod([shape[axis] for axis in others]) > 0:  # else (0, 1), because kernels refuse an empty second axis
        # As many of the last as are neighbours in memory: they may be channels that lie side by side.
        strides, reach = backend.strides("x", x), None
        while split > 0 and (reach is None or shape[others[split - 1]] == 1 or strides[others[split - 1]] == reach):
            split -= 1
            if shape[others[split]] > 1 or reach is None:
                reach = strides[others[split]] * shape[others[split]]
    return Arrangement(shape, order, len(axes), split)


def are_last(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether axes are all that come after the first one or two, of which the second has elements: so kernels take arrays."""
    ndim = len(shape)
    first = ndim - len(axes)
    return first in (1, 2) and shape[first - 1] != 0 and axes == tuple(range(first, ndim))


def check_outs(backend: Backend, out: Any, return_indices: bool) -> None:
    """What can be said of `out` before there are results to be written to it."""
    if out is not None:
        backend.check_outs(outs_of(out, return_indices))


def handed_back(backend: Backend, results: Any, out: Any) -> Any:
    """The results, in `out` if it is given."""
    if out is None:
        return results
    if not isinstance(results, tuple):
        backend.write(out, results)
        return out
    for target, result in zip(outs_of(out, True), results, strict=True):
        backend.write(target, result)
    return tuple(out)
