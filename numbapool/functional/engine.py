"""From a request to the array's backend: what wrappers rewrite is passed on, what is left is planned, checked and run.

`forward` and `backward` are what public functions call. They look up what was bound for an equal request, so that a small
call does not pay for the way there; `pooled` and `pooled_backward` are that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from numbapool.arguments import (
    CHANNELS_FIRST,
    DataFormat,
    as_data_format,
    as_flag,
    as_index_kind,
    check_same_shape,
    outs_of,
)
from numbapool.dispatch import Backend, Spec, backend_of
from numbapool.dtypes import FLOATS, INDICES, SINGLE_AND_DOUBLE, check_dtype, dtype_name
from numbapool.functional import axes, channels_last, global_indices, passes, recording
from numbapool.functional.arrangement import from_global, in_larger_plane, refuse_traced
from numbapool.geometry import Plan, check_size, placed_plan, samples_shape
from numbapool.operations import PLACE, SCATTER_ADD, Operation, Step
from numbapool.requests import Drawn, Fractional, Onward, Pooling, Unpooled

# Rewrite a request, its arrays, its results, and pass it on; asked in this order.
WRAPPERS = (recording, passes, axes, global_indices, channels_last)

INDEX = np.dtype(np.int64)
OUTPUT = "the shape of the output,"

# What `forward` and `backward` are told of indices: whether they are made, or they themselves; of which kind; and of given
# ones whether they are looked at.
NONE_MADE = (False, "plane")
NONE_GIVEN = (None, "plane", True)

# Requests of values of these types alone are equal if they mean the same. Tuples may not, (2, 2.0) equals (2, 2): of what is
# found by them it is asked first whether they are tuples of ints.
PLAIN = {int, bool, float, str, tuple, type(None), type}


def forward(
    operation: Operation,
    windows: tuple[Any, ...],
    x: Any,
    out: Any,
    options: tuple[Any, ...] = (),
    indices: tuple[Any, Any] = NONE_MADE,
    data_format: DataFormat = "channels_first",
) -> Any:
    """A forward call of a public function; `windows` are a class of `requests` and its fields."""
    if data_format is CHANNELS_FIRST and not (backend := backend_of("x", x)).is_traced(x):
        spec = backend.describe("x", x)
        try:
            found = _bound_for(backend, spec, operation, *indices, *windows, *options)
        except TypeError:  # of a list, that it cannot be hashed; any other is raised again below
            found = None
        if found is None:
            found = _found_with_tuples(_bound_for, (backend, spec, operation, *indices), windows, options)
        if found is not None and (found.is_sure or _are_of_ints(windows)):
            return found.value(x, None if out is None else outs_of(out, indices[0]))
    kind, *fields = windows
    return pooled(Pooling(operation, kind(*fields), options, *indices, data_format=data_format), x, out)


def backward(
    operation: Operation,
    windows: tuple[Any, ...],
    grad_output: Any,
    x: Any,
    out: Any,
    options: tuple[Any, ...] = (),
    indices: tuple[Any, Any, Any] = NONE_GIVEN,
    data_format: DataFormat = "channels_first",
) -> Any:
    """Its gradient."""
    given, index_kind, check_indices = indices
    if data_format is CHANNELS_FIRST and not (backend := serving(x, check_indices)).is_traced(
        x, grad_output=grad_output, indices=given
    ):
        spec = backend.describe("x", x)
        try:
            found = _planned_for(spec[0], operation, index_kind, *windows, *options)
        except TypeError:
            found = None
        if found is None:
            found = _found_with_tuples(_planned_for, (spec[0], operation, index_kind), windows, options)
        if found is not None and (found.is_sure or _are_of_ints(windows)):
            return _gradient(backend, operation, found.value, (grad_output, x, given), spec, out)
    kind, *fields = windows
    pooling = Pooling(operation, kind(*fields), options, False, index_kind, check_indices, data_format)
    return pooled_backward(pooling, grad_output, x, given, out)


def serving(x: Any, check_indices: Any = True) -> Backend:
    """The backend that serves `x`, and looks for indices out of range only on request where it takes time."""
    backend = backend_of("x", x)
    return backend if as_flag("check_indices", check_indices) else backend.unchecked


def pooled(pooling: Pooling, x: Any, out: Any = None, indices: Any = None, *, first: int = 0) -> Any:
    """The result of a request; of unpooling `indices` say where elements go. Wrappers are asked from the `first` one on."""
    as_data_format(pooling.data_format)
    backend = serving(x, pooling.check_indices)
    for wrapper, onward in CHAIN[first:]:
        if wrapper.serves(pooling, x, indices):
            return wrapper.forward(onward, backend, pooling, x, out, indices)
    windows = pooling.windows
    others = {} if indices is None else {"indices": indices}
    if isinstance(windows, Fractional):
        others = {"_random_samples": windows.samples}
    spec = backend.describe("x", x)
    if backend.is_traced(x, **others):
        return backend.trace(pooling, x, indices, out)
    if isinstance(windows, Unpooled):
        return _unpooled(backend, pooling, x, indices, spec, out)
    if isinstance(windows, Fractional):
        bound = _bound(backend, _drawn(backend, pooling, spec), spec)
    else:
        asked = backend, spec, pooling.operation, pooling.return_indices, pooling.index_kind
        # Unless `forward` has looked already.
        found = _found(_bound_for, asked, (type(windows), *windows), pooling.options) if first > 0 else None
        bound = found or _bound(backend, pooling, spec)
    return bound(x, None if out is None else outs_of(out, pooling.return_indices))


def pooled_backward(
    pooling: Pooling, grad_output: Any, x: Any, indices: Any = None, out: Any = None, *, first: int = 0
) -> Any:
    """The gradient of `pooled`; `indices` are those that it made, if it did, or was given."""
    as_data_format(pooling.data_format)
    backend = serving(x, pooling.check_indices)
    for wrapper, onward in CHAIN[first:]:
        if wrapper.serves(pooling, x, indices):
            return wrapper.backward(onward, backend, pooling, (grad_output, x, indices), out)
    others = {"grad_output": grad_output, "indices": indices}
    spec = backend.describe("x", x)
    windows, lengths = pooling.windows, None
    if isinstance(windows, Fractional):
        others["_random_samples"] = windows.samples
        lengths = windows.lengths(spec[0])
        _check_places(pooling, indices)
    if backend.is_traced(x, **others):
        return backend.trace_backward(pooling, grad_output, x, indices, out)
    if lengths is not None:
        pooling = pooling._replace(windows=_placed(backend, spec[0], lengths, windows.samples))
    return _gradient(backend, pooling.operation, _plan_of(pooling, spec[0]), (grad_output, x, indices), spec, out)


# Each wrapper with what comes after it.
CHAIN = [
    (wrapper, Onward(partial(pooled, first=number), partial(pooled_backward, first=number)))
    for number, wrapper in enumerate(WRAPPERS, 1)
]


def _bound(backend: Backend, pooling: Pooling, spec: Spec) -> Callable[..., Any]:
    """What computes a request that no wrapper is left for, of arrays of one shape and dtype."""
    shape, dtype = spec
    plan, out_shape = pooling.windows.plan(shape)
    step = pooling.operation.forward
    check_dtype("x", dtype, step.accepts)
    kind = as_index_kind(pooling.index_kind)
    specs: tuple[Spec, ...] = ((out_shape, step.result_dtype(dtype)),)
    if as_flag("return_indices", pooling.return_indices):
        assert pooling.operation.with_indices is not None
        step = pooling.operation.with_indices
        specs = (*specs, (out_shape, plan.index_dtype if kind == "window" else INDEX))
    bind = _binding if plan.serves_once else _remembered_binding
    return bind(backend, step, plan, specs, *pooling.parameters)


def _binding(backend: Backend, step: Step, plan: Plan, specs: tuple[Spec, ...], *parameters: Any) -> Callable[..., Any]:
    return backend.bind(step, plan, specs, *parameters)


_remembered_binding = lru_cache(maxsize=1024)(_binding)


class Planned(NamedTuple):
    """What of a gradient depends on nothing but the request and the shape."""

    plan: Plan
    out_shape: tuple[int, ...]
    parameters: tuple[Any, ...]
    index_kind: str


def _planned(pooling: Pooling, shape: tuple[int, ...]) -> Planned:
    plan, out_shape = pooling.windows.plan(shape)
    kind = as_index_kind(pooling.index_kind)
    if kind == "window" and isinstance(pooling.windows, Unpooled):
        plan = pooling.windows.undone(plan)
    return Planned(plan, out_shape, pooling.gradient_parameters, kind)


def _plan_of(pooling: Pooling, shape: tuple[int, ...]) -> Planned:
    """The same, looked up if it can be."""
    asked = shape, pooling.operation, pooling.index_kind
    windows = type(pooling.windows), *pooling.windows
    return _found(_planned_for, asked, windows, pooling.options) or _planned(pooling, shape)


class NotPlainError(TypeError):
    """Of a request that is not looked up; an error, because caches remember none, nor what it is about."""


class Found(NamedTuple):
    """What was made for a request, and whether requests that are equal to it are sure to mean the same."""

    value: Any
    is_sure: bool


@lru_cache(maxsize=1024, typed=True)  # True is no 1
def _bound_for(backend: Backend, spec: Spec, operation: Operation, return_indices: Any, *rest: Any) -> Found:
    """The engine of a request that takes no wrapper and whose arguments are plain: 0.6 us to find one again."""
    pooling = _if_plain(operation, return_indices, *rest)
    return Found(_bound(backend, pooling, spec), tuple not in map(type, rest))


@lru_cache(maxsize=1024, typed=True)
def _planned_for(shape: tuple[int, ...], operation: Operation, *rest: Any) -> Found:
    pooling = _if_plain(operation, False, *rest)
    return Found(_planned(pooling, shape), tuple not in map(type, rest))


def _if_plain(operation: Operation, return_indices: Any, index_kind: Any, kind: Any, *rest: Any) -> Pooling:
    """A request that takes no wrapper, and in which all is plain."""
    if index_kind == "global" or not PLAIN.issuperset(map(type, rest)):
        raise NotPlainError
    split = len(kind._fields)
    return Pooling(operation, kind(*rest[:split]), rest[split:], return_indices, index_kind)


def _found(
    look_up: Callable[..., Found], first: tuple[Any, ...], windows: tuple[Any, ...], options: tuple[Any, ...]
) -> Any:
    """What was made for a request, however it is spelled; None if it cannot be looked up, or is wrong."""
    try:
        found: Found | None = look_up(*first, *windows, *options)
    except (TypeError, ValueError):
        found = _found_with_tuples(look_up, first, windows, options)
    return found.value if found is not None and (found.is_sure or _are_of_ints(windows)) else None


def _found_with_tuples(
    look_up: Callable[..., Found], first: tuple[Any, ...], windows: tuple[Any, ...], options: tuple[Any, ...]
) -> Found | None:
    """What is found for a request that holds lists, with tuples in their place."""
    if list not in map(type, windows) and tuple not in map(type, windows):
        return None
    try:
        return look_up(*first, *map(_as_tuples, windows), *options)
    except (TypeError, ValueError):
        return None


def _as_tuples(value: Any, depth: int = 2) -> Any:
    """A value with tuples in place of lists, as deep as pairs of padding are; lists may hold themselves."""
    return tuple([_as_tuples(each, depth - 1) for each in value]) if depth and type(value) in (list, tuple) else value


def _are_of_ints(values: Iterable[Any]) -> bool:
    """Whether tuples and lists among some values hold ints and None, or such tuples and lists, and nothing else."""
    for value in values:
        if type(value) in (tuple, list):
            for each in value:
                if (
                    type(each) is not int
                    and each is not None
                    and not (type(each) in (tuple, list) and _are_of_ints((each,)))
                ):
                    return False
    return True


def _gradient(
    backend: Backend, operation: Operation, planned: Planned, arrays: tuple[Any, Any, Any], spec: Spec, out: Any
) -> Any:
    """The gradient of a request that no wrapper is left for; `arrays` are those of `pooled_backward`."""
    plan, out_shape, parameters, _ = planned
    grad_output, x, indices = arrays
    shape, dtype = spec
    step = operation.backward
    check_dtype("x", dtype, step.accepts)
    grad_shape, grad_dtype = backend.describe("grad_output", grad_output)
    check_same_shape("grad_output", grad_shape, out_shape, OUTPUT)
    if grad_dtype != dtype:
        raise TypeError(f"grad_output must have the dtype of x, {dtype_name(dtype)}, got {dtype_name(grad_dtype)}")
    if operation.forward.takes_indices:
        _check_indices(backend, indices, shape, "the shape of x,", planned)
    elif indices is not None:
        _check_indices(backend, indices, out_shape, OUTPUT, planned)
        step = SCATTER_ADD
    others = [x if name == "x" else indices for name in step.inputs[1:]]
    return backend.run_backward(step, plan, (grad_output, *others), spec, out, *parameters)


def _unpooled(backend: Backend, pooling: Pooling, x: Any, indices: Any, spec: Spec, out: Any) -> Any:
    shape, dtype = spec
    planned = _plan_of(pooling, shape)
    check_dtype("x", dtype, PLACE.accepts)
    _check_indices(backend, indices, shape, "the shape of x,", planned)
    return backend.run_backward(PLACE, planned.plan, (x, indices), (planned.out_shape, dtype), out)


def _check_indices(backend: Backend, indices: Any, shape: tuple[int, ...], what: str, planned: Planned) -> None:
    index_shape, dtype = backend.describe("indices", indices)
    check_same_shape("indices", index_shape, shape, what)
    is_in_window = planned.index_kind == "window"
    check_dtype("indices", dtype, {planned.plan.index_dtype: None} if is_in_window else INDICES)


def _drawn(backend: Backend, pooling: Pooling, spec: Spec) -> Pooling:
    """A request of windows that are drawn, with their places."""
    shape, dtype = spec
    windows = pooling.windows
    lengths, samples = windows.lengths(shape), windows.samples
    if samples is None:
        check_dtype("x", dtype, pooling.operation.forward.accepts)
        is_own = windows.generator is None and dtype in SINGLE_AND_DOUBLE
        drawn = dtype if is_own else np.dtype(np.float64)
        samples = backend.draw(samples_shape(shape, windows.rank), drawn, windows.generator)
    return pooling._replace(windows=_placed(backend, shape, lengths, samples))


def _placed(backend: Backend, shape: tuple[int, ...], lengths: tuple[Any, Any], samples: Any) -> Drawn:
    """Windows of these lengths where samples place them; without any, for gradients by indices."""
    kernel, sizes = lengths
    rank = len(kernel)
    if samples is not None:
        given, dtype = backend.describe("_random_samples", samples)
        check_dtype("_random_samples", dtype, FLOATS)
        check_same_shape("_random_samples", given, samples_shape(shape, rank), "the shape (N, C, pooled axes)")
        samples = backend.to_numpy(samples)
    return Drawn(rank, kernel, sizes, samples)


def _check_places(pooling: Pooling, indices: Any) -> None:
    """Refuse a gradient of windows that are drawn if nothing says where its maxima are, or two things do."""
    samples = pooling.windows.samples
    if indices is not None and as_index_kind(pooling.index_kind) == "window":
        if samples is None:
            raise ValueError(
                "_random_samples must be given beside indices of index_kind='window', whose windows they place"
            )
    elif (indices is None) == (samples is None):
        raise ValueError("indices or _random_samples must be given, and not both: they say where the maxima are")


def unpooled_to(x: Any, indices: Any, sizes: tuple[int, ...], outer: tuple[int, ...]) -> Any:
    """Elements to where global indices say, of an array with planes of `sizes`, in the first corners of larger planes."""
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    rank = len(sizes)
    refuse_traced(backend, x, indices=indices)
    check_dtype("x", dtype, PLACE.accepts)
    index_shape, _ = backend.describe("indices", indices)
    check_same_shape("indices", index_shape, shape, "the shape of x,")
    check_size((*shape[:-rank], *outer), shape, output_shape=outer)
    last = tuple(range(len(shape) - rank, len(shape)))
    positions = from_global(backend, indices, (*shape[:-rank], *sizes), last)
    if outer != sizes:
        positions = in_larger_plane(backend, positions, sizes, outer, last)
    plan = placed_plan(shape, outer)
    return backend.run_backward(PLACE, plan, (x, positions), (plan.shape, dtype), None)
