"""From the arguments of a public function to a plan and a call of the array's backend; what operations of a kind share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from numbapool.dispatch import Backend, Spec, backend_of
from numbapool.functional.arrangement import from_global, in_larger_plane, refuse_traced, to_global
from numbapool.geometry import (
    AVERAGED,
    FLOATS,
    INDICES,
    INEXACT,
    ORDERED,
    SINGLE_AND_DOUBLE,
    SUMMED,
    DataFormat,
    Extent,
    IndexKind,
    Padding,
    Plan,
    Rounding,
    Sizes,
    adaptive_plan,
    as_data_format,
    as_divisor,
    as_flag,
    as_generator,
    as_index_kind,
    as_norm_type,
    as_rounding,
    check_dtype,
    check_rank,
    check_same_shape,
    check_size,
    check_whole,
    dtype_name,
    fractional_lengths,
    fractional_plan,
    placed_plan,
    samples_shape,
    sum_dtype,
    unpool_lengths,
    unpool_plan,
    unpooled_sizes,
    unpooled_windows,
    whole_plan,
    window_plan,
)

INDEX = np.dtype(np.int64)
OUTPUT = "the shape of the output,"
CHANNELS_FIRST: DataFormat = "channels_first"
PLANE: IndexKind = "plane"
GLOBAL: IndexKind = "global"


def is_global(index_kind: Any) -> bool:
    """Whether indices count in the whole array. Asked of what is not the default itself, which small calls recognize sooner."""
    return as_index_kind(index_kind) == GLOBAL


def are_channels_last(data_format: Any) -> bool:
    """Whether the channels are last by shape. Asked in the same way."""
    return as_data_format(data_format) != CHANNELS_FIRST


def extremum(
    operation: str,
    rank: int,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    return_indices: bool,
    index_kind: IndexKind,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Maximum ("max_pool") or minimum ("min_pool") over sliding windows."""
    if index_kind is not PLANE and is_global(index_kind) and as_flag("return_indices", return_indices):
        return _with_global_indices(extremum, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(extremum, locals())
    backend = backend_of("x", x)
    spec = backend.describe("x", x)
    if backend.is_traced(x):
        arguments = kernel_size, stride, padding, dilation, ceil_mode, return_indices, as_index_kind(index_kind)
        return backend.trace(operation, rank, out, x, *arguments)
    is_plain = (
        type(kernel_size) is type(padding) is type(dilation) is int
        and type(ceil_mode) is type(return_indices) is bool
        and (stride is None or type(stride) is int)
        and type(index_kind) is str
    )
    bind = _bind_plain_extremum if is_plain else _bind_extremum
    window = kernel_size, stride, padding, dilation, ceil_mode
    bound = bind(backend, operation, spec, rank, *window, return_indices, index_kind)
    return bound(x, None if out is None else outs_of(out, return_indices))


def _bind_extremum(
    backend: Backend,
    operation: str,
    spec: Spec,
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    return_indices: bool,
    index_kind: IndexKind,
) -> Callable[..., Any]:
    shape, dtype = spec
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    return _bind_ordered(backend, operation, plan, dtype, return_indices, index_kind)


def _bind_ordered(
    backend: Backend, operation: str, plan: Plan, dtype: np.dtype[Any], return_indices: bool, index_kind: IndexKind
) -> Callable[..., Any]:
    return _bind(backend, *_ordered(operation, plan, plan.out_shape, dtype, return_indices, index_kind))


def _ordered(
    operation: str,
    plan: Plan,
    out_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    return_indices: bool,
    index_kind: IndexKind,
) -> tuple[str, Plan, tuple[Spec, ...]]:
    """What a backend binds for maxima or minima, with indices or without."""
    check_dtype("x", dtype, ORDERED)
    is_in_window = as_index_kind(index_kind) == "window"
    if as_flag("return_indices", return_indices):
        index = plan.index_dtype if is_in_window else INDEX
        return f"{operation}_with_indices", plan, ((out_shape, dtype), (out_shape, index))
    return operation, plan, ((out_shape, dtype),)


def outs_of(out: Any, return_indices: bool) -> Sequence[Any]:
    """Where the results of maxima or minima go, one array for each."""
    if not return_indices:
        return (out,)
    if not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError(f"out must be a pair (values, indices) with return_indices, got {type(out).__name__}")
    return out


def extremum_backward(
    operation: str,
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    indices: Any,
    index_kind: IndexKind,
    check_indices: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `extremum`."""
    if index_kind is not PLANE and is_global(index_kind) and indices is not None:
        return _of_global_indices(extremum_backward, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(extremum_backward, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output, indices=indices):
        window = kernel_size, stride, padding, dilation, ceil_mode
        arguments = grad_output, *window, indices, as_index_kind(index_kind)
        return backend.trace(f"{operation}_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    return _extremum_backward(backend, operation, plan, grad_output, x, indices, index_kind, out, shape, dtype)


def _extremum_backward(
    backend: Backend,
    operation: str,
    plan: Plan,
    grad_output: Any,
    x: Any,
    indices: Any,
    index_kind: IndexKind,
    out: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    out_shape = plan.out_shape + (1,) * (len(shape) - len(plan.shape))
    _check_gradient(backend, out_shape, grad_output, dtype)
    kind = as_index_kind(index_kind)
    if indices is None:
        return backend.run_backward(f"{operation}_backward", plan, (grad_output, x), (shape, dtype), out)
    _check_indices(backend, indices, out_shape, OUTPUT, plan, kind)
    return backend.run_backward("scatter_add", plan, (grad_output, indices), (shape, dtype), out)


def mean(
    rank: int,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Extent,
    rounding: Rounding,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Mean over sliding windows."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(mean, locals())
    backend = backend_of("x", x)
    spec = backend.describe("x", x)
    if backend.is_traced(x):
        window = kernel_size, stride, padding, dilation, ceil_mode
        return backend.trace("avg_pool", rank, out, x, *window, count_include_pad, divisor_override, rounding)
    is_plain = (
        type(kernel_size) is type(padding) is type(dilation) is int
        and type(ceil_mode) is type(count_include_pad) is bool
        and (stride is None or type(stride) is int)
        and (divisor_override is None or type(divisor_override) is int)
        and type(rounding) is str
    )
    bind = _bind_plain_mean if is_plain else _bind_mean
    bound = bind(
        backend,
        spec,
        rank,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        count_include_pad,
        divisor_override,
        rounding,
    )
    return bound(x, None if out is None else (out,))


def _bind_mean(
    backend: Backend,
    spec: Spec,
    rank: int,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    rounding: Rounding,
) -> Callable[..., Any]:
    shape, dtype = spec
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    check_dtype("x", dtype, AVERAGED)
    flag, divisor = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    return _bind(backend, "avg_pool", plan, ((plan.out_shape, dtype),), flag, divisor, as_rounding(rounding))


@lru_cache(maxsize=1024)
def _bind(
    backend: Backend, operation: str, plan: Plan, specs: tuple[Spec, ...], *parameters: Any
) -> Callable[..., Any]:
    return backend.bind(operation, plan, specs, *parameters)


# The way from arguments to a bound call, remembered. Only for parameters of exactly these types, which are told apart as
# keys of a cache: True equals 1 there, and (2.0, 2) equals (2, 2).
_bind_plain_extremum = lru_cache(maxsize=1024)(_bind_extremum)
_bind_plain_mean = lru_cache(maxsize=1024)(_bind_mean)


def mean_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dilation: Extent,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `mean`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(mean_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output):
        window = kernel_size, stride, padding, dilation, ceil_mode
        arguments = grad_output, *window, count_include_pad, divisor_override
        return backend.trace("avg_pool_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(backend, plan.out_shape, grad_output, dtype, INEXACT)
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override), False
    return backend.run_backward("avg_pool_backward", plan, (grad_output,), (shape, dtype), out, *parameters)


def window_sum(
    rank: int,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Sum over sliding windows."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(window_sum, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x):
        return backend.trace("sum_pool", rank, out, x, kernel_size, stride, padding, dilation, ceil_mode)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    check_dtype("x", dtype, SUMMED)
    return _bind(backend, "sum_pool", plan, ((plan.out_shape, sum_dtype(dtype)),))(x, None if out is None else (out,))


def window_sum_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `window_sum`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(window_sum_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output):
        arguments = grad_output, kernel_size, stride, padding, dilation, ceil_mode
        return backend.trace("sum_pool_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(backend, plan.out_shape, grad_output, dtype, INEXACT)
    return backend.run_backward("sum_pool_backward", plan, (grad_output,), (shape, dtype), out)


def norm(
    rank: int,
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None,
    ceil_mode: bool,
    padding: Padding,
    dilation: Extent,
    true_norm: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Power mean or norm over sliding windows."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(norm, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    parameters = as_norm_type(norm_type), as_flag("true_norm", true_norm)
    if backend.is_traced(x):
        arguments = kernel_size, stride, padding, dilation, ceil_mode, *parameters
        return backend.trace("lp_pool", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    check_dtype("x", dtype, FLOATS)
    return _bind(backend, "lp_pool", plan, ((plan.out_shape, dtype),), *parameters)(x, None if out is None else (out,))


def norm_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    norm_type: float,
    kernel_size: Extent,
    stride: Extent | None,
    ceil_mode: bool,
    padding: Padding,
    dilation: Extent,
    true_norm: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `norm`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(norm_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    parameters = as_norm_type(norm_type), as_flag("true_norm", true_norm)
    if backend.is_traced(x, grad_output=grad_output):
        arguments = grad_output, kernel_size, stride, padding, dilation, ceil_mode, *parameters
        return backend.trace("lp_pool_backward", rank, out, x, *arguments)
    plan = window_plan(shape, rank, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(backend, plan.out_shape, grad_output, dtype)
    return backend.run_backward("lp_pool_backward", plan, (grad_output, x), (shape, dtype), out, *parameters)


def adaptive_extremum(
    rank: int,
    x: Any,
    output_size: Sizes,
    return_indices: bool,
    index_kind: IndexKind,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Maximum over bins."""
    if index_kind is not PLANE and is_global(index_kind) and as_flag("return_indices", return_indices):
        return _with_global_indices(adaptive_extremum, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(adaptive_extremum, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x):
        arguments = output_size, return_indices, as_index_kind(index_kind)
        return backend.trace("adaptive_max_pool", rank, out, x, *arguments)
    plan = adaptive_plan(shape, rank, output_size)
    bound = _bind_ordered(backend, "max_pool", plan, dtype, return_indices, index_kind)
    return bound(x, None if out is None else outs_of(out, return_indices))


def adaptive_extremum_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    output_size: Sizes,
    indices: Any,
    index_kind: IndexKind,
    check_indices: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `adaptive_extremum`."""
    if index_kind is not PLANE and is_global(index_kind) and indices is not None:
        return _of_global_indices(adaptive_extremum_backward, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(adaptive_extremum_backward, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output, indices=indices):
        arguments = grad_output, output_size, indices, as_index_kind(index_kind)
        return backend.trace("adaptive_max_pool_backward", rank, out, x, *arguments)
    plan = adaptive_plan(shape, rank, output_size)
    return _extremum_backward(backend, "max_pool", plan, grad_output, x, indices, index_kind, out, shape, dtype)


def adaptive_mean(rank: int, x: Any, output_size: Sizes, rounding: Rounding, data_format: DataFormat, out: Any) -> Any:
    """Mean over bins."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(adaptive_mean, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x):
        return backend.trace("adaptive_avg_pool", rank, out, x, output_size, rounding)
    plan = adaptive_plan(shape, rank, output_size)
    check_dtype("x", dtype, AVERAGED)
    bound = _bind(backend, "avg_pool", plan, ((plan.out_shape, dtype),), True, None, as_rounding(rounding))
    return bound(x, None if out is None else (out,))


def adaptive_mean_backward(
    rank: int, grad_output: Any, x: Any, output_size: Sizes, data_format: DataFormat, out: Any
) -> Any:
    """Gradient of `adaptive_mean`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(adaptive_mean_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output):
        return backend.trace("adaptive_avg_pool_backward", rank, out, x, grad_output, output_size)
    plan = adaptive_plan(shape, rank, output_size)
    _check_gradient(backend, plan.out_shape, grad_output, dtype, INEXACT)
    return backend.run_backward("avg_pool_backward", plan, (grad_output,), (shape, dtype), out, True, None, False)


def fractional_extremum(
    rank: int,
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None,
    output_ratio: Any,
    return_indices: bool,
    index_kind: IndexKind,
    samples: Any,
    generator: np.random.Generator | None,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Maximum over windows that are drawn."""
    if index_kind is not PLANE and is_global(index_kind) and as_flag("return_indices", return_indices):
        return _with_global_indices(fractional_extremum, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(fractional_extremum, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    kernel, sizes = fractional_lengths(shape, rank, kernel_size, output_size, output_ratio)
    if samples is not None and generator is not None:
        raise ValueError("generator must not be given beside _random_samples, which leave nothing to draw")
    is_traced = backend.is_traced(x, _random_samples=samples)
    if generator is not None:
        samples = backend.draw(samples_shape(shape, rank), np.dtype(np.float64), as_generator(generator))
    if is_traced:
        sizes_and_kind = kernel, sizes, return_indices, as_index_kind(index_kind)
        return backend.trace("fractional_max_pool", rank, out, x, samples, *sizes_and_kind)
    check_dtype("x", dtype, ORDERED)
    if samples is None:
        drawn_dtype = dtype if dtype in SINGLE_AND_DOUBLE else np.dtype(np.float64)
        samples = backend.draw(samples_shape(shape, rank), drawn_dtype, None)
    plan = _fractional_plan(backend, shape, kernel, sizes, samples)
    arguments = _ordered("max_pool", plan, plan.out_shape, dtype, return_indices, index_kind)
    bound = backend.bind(*arguments)  # not remembered: the plan serves this call only
    return bound(x, None if out is None else outs_of(out, return_indices))


def _fractional_plan(
    backend: Backend, shape: tuple[int, ...], kernel: tuple[int, ...], sizes: tuple[int, ...], samples: Any
) -> Plan:
    given, dtype = backend.describe("_random_samples", samples)
    check_dtype("_random_samples", dtype, FLOATS)
    check_same_shape("_random_samples", given, samples_shape(shape, len(kernel)), "the shape (N, C, pooled axes)")
    return fractional_plan(shape, kernel, sizes, backend.to_numpy(samples))


def fractional_extremum_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    kernel_size: Extent,
    output_size: Extent | None,
    output_ratio: Any,
    indices: Any,
    index_kind: IndexKind,
    check_indices: bool,
    samples: Any,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `fractional_extremum`."""
    if index_kind is not PLANE and is_global(index_kind) and indices is not None:
        return _of_global_indices(fractional_extremum_backward, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(fractional_extremum_backward, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    kernel, sizes = fractional_lengths(shape, rank, kernel_size, output_size, output_ratio)
    if indices is not None and as_index_kind(index_kind) == "window":
        if samples is None:
            raise ValueError(
                "_random_samples must be given beside indices of index_kind='window', whose windows they place"
            )
    elif (indices is None) == (samples is None):
        raise ValueError("indices or _random_samples must be given, and not both: they say where the maxima are")
    if backend.is_traced(x, grad_output=grad_output, indices=indices, _random_samples=samples):
        arguments = grad_output, samples, kernel, sizes, indices, as_index_kind(index_kind)
        return backend.trace("fractional_max_pool_backward", rank, out, x, *arguments)
    if samples is None:  # indices say all but the shapes
        plan: Plan = placed_plan((*shape[:-rank], *sizes), shape[-rank:])
    else:
        plan = _fractional_plan(backend, shape, kernel, sizes, samples)
    return _extremum_backward(backend, "max_pool", plan, grad_output, x, indices, index_kind, out, shape, dtype)


def unpool(
    rank: int,
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Extent,
    output_size: Extent | None,
    index_kind: IndexKind,
    check_indices: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Elements back to where their indices say."""
    if index_kind is not PLANE and is_global(index_kind):
        return _of_global_indices(unpool, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        output_size = unpooled_sizes(rank, output_size)
        return _with_channels_last(unpool, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, indices=indices):
        arguments = indices, kernel_size, stride, padding, output_size, as_index_kind(index_kind), check_indices
        return backend.trace("max_unpool", rank, out, x, *arguments)
    plan: Plan = unpool_plan(shape, rank, kernel_size, stride, padding, output_size)
    check_dtype("x", dtype, ORDERED)
    if as_index_kind(index_kind) == "window":
        plan = unpooled_windows(plan, kernel_size, stride, padding)
    _check_indices(backend, indices, shape, "the shape of x,", plan, index_kind)
    return backend.run_backward("place", plan, (x, indices), (plan.shape, dtype), out)


def unpool_embedded(x: Any, indices: Any, sizes: tuple[int, ...], outer: tuple[int, ...]) -> Any:
    """Elements to where global indices say, of an array with planes of `sizes`, in the first corners of larger planes."""
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    rank = len(sizes)
    refuse_traced(backend, x, indices=indices)
    check_dtype("x", dtype, ORDERED)
    index_shape, _ = backend.describe("indices", indices)
    check_same_shape("indices", index_shape, shape, "the shape of x,")
    check_size((*shape[:-rank], *outer), shape, output_shape=outer)
    axes = tuple(range(len(shape) - rank, len(shape)))
    positions = from_global(backend, indices, (*shape[:-rank], *sizes), axes)
    if outer != sizes:
        positions = in_larger_plane(backend, positions, sizes, outer, axes)
    plan = placed_plan(shape, outer)
    return backend.run_backward("place", plan, (x, positions), (plan.shape, dtype), None)


def unpool_backward(
    rank: int,
    grad_output: Any,
    x: Any,
    indices: Any,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Extent,
    output_size: Extent | None,
    index_kind: IndexKind,
    check_indices: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `unpool`."""
    if index_kind is not PLANE and is_global(index_kind):
        return _of_global_indices(unpool_backward, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        output_size = unpooled_sizes(rank, output_size)
        return _with_channels_last(unpool_backward, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output, indices=indices):
        arguments = grad_output, indices, kernel_size, stride, padding, output_size, as_index_kind(index_kind)
        return backend.trace("max_unpool_backward", rank, out, x, *arguments)
    plan: Plan = unpool_plan(shape, rank, kernel_size, stride, padding, output_size)
    _check_gradient(backend, plan.shape, grad_output, dtype)
    if as_index_kind(index_kind) == "window":
        plan = unpooled_windows(plan, kernel_size, stride, padding)
    _check_indices(backend, indices, shape, "the shape of x,", plan, index_kind)
    return backend.run_backward("gather_all", plan, (grad_output, indices), (shape, dtype), out)


def whole_mean(x: Any, rounding: Rounding, data_format: DataFormat, out: Any) -> Any:
    """Mean over all axes of a channel."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_mean, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x):
        return backend.trace("global_avg_pool", len(shape) - 2, out, x, rounding)
    plan, out_shape = whole_plan(shape)
    check_dtype("x", dtype, AVERAGED)
    bound = _bind(backend, "avg_pool", plan, ((out_shape, dtype),), True, None, as_rounding(rounding))
    return bound(x, None if out is None else (out,))


def whole_mean_backward(grad_output: Any, x: Any, data_format: DataFormat, out: Any) -> Any:
    """Gradient of `whole_mean`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_mean_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output):
        return backend.trace("global_avg_pool_backward", len(shape) - 2, out, x, grad_output)
    plan, out_shape = whole_plan(shape)
    _check_gradient(backend, out_shape, grad_output, dtype, INEXACT)
    return backend.run_backward("avg_pool_backward", plan, (grad_output,), (shape, dtype), out, True, None, False)


def whole_extremum(x: Any, return_indices: bool, index_kind: IndexKind, data_format: DataFormat, out: Any) -> Any:
    """Maximum over all axes of a channel."""
    if index_kind is not PLANE and is_global(index_kind) and as_flag("return_indices", return_indices):
        return _with_global_indices(whole_extremum, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_extremum, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x):
        return backend.trace("global_max_pool", len(shape) - 2, out, x, return_indices, as_index_kind(index_kind))
    plan, out_shape = whole_plan(shape)
    bound = _bind(backend, *_ordered("max_pool", plan, out_shape, dtype, return_indices, index_kind))
    return bound(x, None if out is None else outs_of(out, return_indices))


def whole_extremum_backward(
    grad_output: Any,
    x: Any,
    indices: Any,
    index_kind: IndexKind,
    check_indices: bool,
    data_format: DataFormat,
    out: Any,
) -> Any:
    """Gradient of `whole_extremum`."""
    if index_kind is not PLANE and is_global(index_kind) and indices is not None:
        return _of_global_indices(whole_extremum_backward, locals())
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_extremum_backward, locals())
    backend = backend_for_indices(x, check_indices)
    shape, dtype = backend.describe("x", x)
    if backend.is_traced(x, grad_output=grad_output, indices=indices):
        arguments = grad_output, indices, as_index_kind(index_kind)
        return backend.trace("global_max_pool_backward", len(shape) - 2, out, x, *arguments)
    plan, _ = whole_plan(shape)
    return _extremum_backward(backend, "max_pool", plan, grad_output, x, indices, index_kind, out, shape, dtype)


def whole_norm(x: Any, norm_type: float, data_format: DataFormat, out: Any) -> Any:
    """Norm over all axes of a channel."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_norm, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    parameters = as_norm_type(norm_type), True
    if backend.is_traced(x):
        return backend.trace("global_lp_pool", len(shape) - 2, out, x, *parameters)
    plan, out_shape = whole_plan(shape)
    check_dtype("x", dtype, FLOATS)
    return _bind(backend, "lp_pool", plan, ((out_shape, dtype),), *parameters)(x, None if out is None else (out,))


def whole_norm_backward(grad_output: Any, x: Any, norm_type: float, data_format: DataFormat, out: Any) -> Any:
    """Gradient of `whole_norm`."""
    if data_format is not CHANNELS_FIRST and are_channels_last(data_format):
        return _with_channels_last(whole_norm_backward, locals())
    backend = backend_of("x", x)
    shape, dtype = backend.describe("x", x)
    parameters = as_norm_type(norm_type), True
    if backend.is_traced(x, grad_output=grad_output):
        return backend.trace("global_lp_pool_backward", len(shape) - 2, out, x, grad_output, *parameters)
    plan, out_shape = whole_plan(shape)
    _check_gradient(backend, out_shape, grad_output, dtype)
    return backend.run_backward("lp_pool_backward", plan, (grad_output, x), (shape, dtype), out, *parameters)


def _check_gradient(
    backend: Backend,
    out_shape: tuple[int, ...],
    grad_output: Any,
    dtype: np.dtype[Any],
    accepted: dict[np.dtype[Any], None] = FLOATS,
) -> None:
    check_dtype("x", dtype, accepted)
    grad_shape, grad_dtype = backend.describe("grad_output", grad_output)
    check_same_shape("grad_output", grad_shape, out_shape, OUTPUT)
    if grad_dtype != dtype:
        raise TypeError(f"grad_output must have the dtype of x, {dtype_name(dtype)}, got {dtype_name(grad_dtype)}")


def backend_for_indices(x: Any, check_indices: bool) -> Backend:
    """The backend that serves `x`, and looks for indices out of range only on request where it takes time."""
    backend = backend_of("x", x)
    return backend if as_flag("check_indices", check_indices) else backend.unchecked


def _check_indices(
    backend: Backend, indices: Any, shape: tuple[int, ...], what: str, plan: Plan, index_kind: IndexKind
) -> None:
    index_shape, index_dtype = backend.describe("indices", indices)
    check_same_shape("indices", index_shape, shape, what)
    check_dtype("indices", index_dtype, {plan.index_dtype: None} if index_kind == "window" else INDICES)


def _with_global_indices(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """A call of one of the functions above, `arguments` by name, whose indices count from the start of the whole array."""
    backend = backend_of("x", arguments["x"])
    shape, _ = backend.describe("x", arguments["x"])
    refuse_traced(backend, arguments["x"])
    values, indices = function(**arguments | {"index_kind": "plane"})
    axes = _pooled_axes(arguments, shape)
    if arguments["out"] is None:
        return values, to_global(backend, indices, shape, axes)
    backend.write(indices, to_global(backend, indices, shape, axes))
    return values, indices


def _of_global_indices(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """A call of one of the functions above with such indices."""
    backend = backend_for_indices(arguments["x"], arguments["check_indices"])
    shape, _ = backend.describe("x", arguments["x"])
    refuse_traced(backend, arguments["x"], grad_output=arguments.get("grad_output"), indices=arguments["indices"])
    axes = _pooled_axes(arguments, shape)
    if function in (unpool, unpool_backward):
        pooled, output_size = tuple(shape[axis] for axis in axes), arguments["output_size"]
        if arguments["data_format"] != CHANNELS_FIRST:
            output_size = unpooled_sizes(len(axes), output_size)
        window = {name: arguments[name] for name in ("kernel_size", "stride", "padding")} | {"output_size": output_size}
        lengths = dict(zip(axes, unpool_lengths((1, *pooled), len(axes), **window), strict=True))
        unpooled = tuple(lengths.get(axis, length) for axis, length in enumerate(shape))
        check_size(unpooled, shape, **window)
        shape = unpooled
    indices = from_global(backend, arguments["indices"], shape, axes)
    return function(**arguments | {"index_kind": "plane", "indices": indices})


def _pooled_axes(arguments: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    data_format, ndim = as_data_format(arguments["data_format"]), len(shape)
    _check_number_of_axes(arguments, shape, data_format)
    rank = arguments.get("rank", ndim - 2)
    end = ndim if data_format == CHANNELS_FIRST else ndim - 1
    return tuple(range(end - rank, end))


def _check_number_of_axes(arguments: dict[str, Any], shape: tuple[int, ...], data_format: DataFormat) -> None:
    if "rank" in arguments:
        check_rank(shape, arguments["rank"], data_format, is_sliding="dilation" in arguments)
    else:
        check_whole(shape, data_format)


def _with_channels_last(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """A call of one of the functions above, `arguments` by name, on views that have their channels first.

    Its results are moved back in the same way.
    """
    data_format = as_data_format(arguments["data_format"])
    x, out = arguments["x"], arguments["out"]
    backend = backend_of("x", x)
    shape, _ = backend.describe("x", x)
    rank = arguments.get("rank", len(shape) - 2)
    _check_number_of_axes(arguments, shape, data_format)
    axes = len(shape)
    leading = axes - 1 - rank

    def moved(name: str, array: Any) -> Any:
        given, _ = backend.describe(name, array)
        if len(given) != len(shape):
            raise ValueError(f"{name} must have as many axes as x, which has shape {shape}, got shape {given}")
        return backend.permute(name, array, (*range(leading), axes - 1, *range(leading, axes - 1)))

    def moved_back(result: Any) -> Any:
        return backend.permute("result", result, (*range(leading), *range(leading + 1, axes), leading))

    for name in ("x", "grad_output", "indices"):
        if arguments.get(name) is not None:
            arguments[name] = moved(name, arguments[name])
    if isinstance(out, (tuple, list)):
        arguments["out"] = tuple([moved("out", each) for each in out])
    elif out is not None:
        arguments["out"] = moved("out", out)
    arguments["data_format"] = CHANNELS_FIRST
    try:
        results = function(**arguments)
    except ValueError as error:
        if "shape" not in f"{error}":
            raise
        # Geometry knows one order of axes only. In the message, for str(error) does not show notes (PEP 678).
        raise ValueError(f"{error}; shapes here have the channels first, data_format is {data_format!r}") from None
    if out is not None:
        return tuple(out) if isinstance(out, (tuple, list)) else out
    return tuple([moved_back(each) for each in results]) if isinstance(results, tuple) else moved_back(results)
