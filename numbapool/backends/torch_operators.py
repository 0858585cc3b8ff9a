"""The rows of `torch.OPERATIONS` as operators of torch, `torch.ops.numbapool.*`, for all that records calls and runs them later.

`torch.compile`, `torch.export`, fake and meta tensors, dispatch modes and tensor subclasses see these operators, their shapes
(by the library's own geometry, on symbols too) and their derivatives. The public functions below write calls in their terms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbapool.backends.torch import (
    DTYPES,
    NARROW,
    OPERATIONS,
    TORCH_DTYPES,
    WIDE,
    Call,
    Operation,
    as_array,
    check_values,
    computed,
    format_of_any,
    joined,
    norm_gradient,
    norm_in_parts,
)
from numbapool.geometry import (
    FLOATS,
    INEXACT,
    SINGLE_AND_DOUBLE,
    BinPlan,
    IndexKind,
    Plan,
    Rounding,
    Sizes,
    adaptive_lengths,
    adaptive_plan,
    adaptive_sizes,
    as_divisor,
    as_flag,
    as_rounding,
    check_dtype,
    check_same_shape,
    check_size,
    check_whole,
    fractional_plan,
    padding_for,
    placed_plan,
    pooled_axes,
    samples_shape,
    smallest_unsigned,
    unpool_lengths,
    window_arguments,
    window_plan,
)
from numbapool.kernels.windows import overhangs

# Of samples of fractional pooling that are drawn.
DRAWN = tuple(TORCH_DTYPES[dtype] for dtype in SINGLE_AND_DOUBLE)
FLOATING = tuple(TORCH_DTYPES[dtype] for dtype in FLOATS)
FLOATING_OR_COMPLEX = tuple(TORCH_DTYPES[dtype] for dtype in INEXACT)

NO_TAPS = "unpooling by index_kind='window' cannot be recorded, for torch.compile or others: take 'plane'"

library = torch.library.Library("numbapool", "DEF")


class Arguments(NamedTuple):
    """The arguments of an operator."""

    x: Tensor
    indices: Tensor | None
    shape: tuple[int, ...]  # of the input of the forward pass
    windows: tuple[Any, ...]  # where they lie, see `Windows`
    parameters: tuple[Any, ...]
    index_kind: str  # of the indices it makes: "plane", "narrow" (the same in int32) or "window"
    checks: bool = False  # on a GPU: waits to know of indices out of range

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among them, but for those that place windows."""
        return [self.x] if self.indices is None else [self.x, self.indices]


class Windows(NamedTuple):
    """A way to say where windows lie: how torch declares it, and what geometry makes of it."""

    schema: str
    size: int  # arguments in the schema
    rank: Callable[[Arguments], int]  # pooled axes
    plan: Callable[[Arguments], Plan]
    out_shape: Callable[[Arguments], tuple[int, ...]]  # shape of the output, on symbols too
    taps: Callable[[Arguments], int]  # elements of the largest window


def _pairs(arguments: Arguments) -> tuple[Any, Any, Any, Any, bool]:
    """Sliding windows as geometry takes them; operators take padding as (before, after) of all axes, one after the other."""
    kernel, stride, padding, dilation, ceil_mode = arguments.windows
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    return tuple(kernel), tuple(stride), pairs, tuple(dilation), ceil_mode


def _sliding_plan(arguments: Arguments) -> Plan:
    kernel, stride, pairs, dilation, ceil_mode = _pairs(arguments)
    return window_plan(arguments.shape, len(kernel), kernel, stride, pairs, dilation, ceil_mode)


def _sliding_out_shape(arguments: Arguments) -> tuple[int, ...]:
    axes = pooled_axes(arguments.shape, *_pairs(arguments), least=torch.sym_min, greatest=torch.sym_max)
    return (*arguments.shape[: -len(axes)], *(axis.out for axis in axes))


def _last_axes(arguments: Arguments, position: int) -> tuple[int, ...]:
    """The shape of the input with the lengths in one of the arguments for those of its last axes."""
    lengths = arguments.windows[position]
    return (*arguments.shape[: -len(lengths)], *lengths)


def _largest_bin(arguments: Arguments) -> int:
    sizes = tuple(map(int, arguments.windows[0]))
    lengths = tuple(map(int, arguments.shape[-len(sizes) :]))
    return adaptive_plan((1, *lengths), len(sizes), sizes).taps


def _fractional_plan(arguments: Arguments) -> Plan:
    kernel, sizes, samples = arguments.windows
    return fractional_plan(arguments.shape, tuple(kernel), tuple(sizes), as_array(samples))


def _placed_plan(arguments: Arguments) -> Plan:
    assert arguments.indices is not None
    return placed_plan(tuple(arguments.indices.shape), arguments.shape[-arguments.windows[0] :])


def _placed_out_shape(arguments: Arguments) -> tuple[int, ...]:
    assert arguments.indices is not None
    return tuple(arguments.indices.shape)


WINDOWS = {
    "sliding": Windows(
        ", SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool ceil_mode",
        5,
        lambda arguments: len(arguments.windows[0]),
        _sliding_plan,
        _sliding_out_shape,
        lambda arguments: prod(arguments.windows[0]),
    ),
    "adaptive": Windows(
        ", SymInt[] output_size",
        1,
        lambda arguments: len(arguments.windows[0]),
        lambda arguments: adaptive_plan(arguments.shape, len(arguments.windows[0]), tuple(arguments.windows[0])),
        lambda arguments: _last_axes(arguments, 0),
        lambda arguments: _largest_bin(arguments),
    ),
    "fractional": Windows(
        ", SymInt[] kernel_size, SymInt[] output_size, Tensor samples",
        3,
        lambda arguments: len(arguments.windows[0]),
        _fractional_plan,
        lambda arguments: _last_axes(arguments, 1),
        lambda arguments: prod(arguments.windows[0]),
    ),
    "placed": Windows(
        ", int rank", 1, lambda arguments: int(arguments.windows[0]), _placed_plan, _placed_out_shape, lambda _: 0
    ),
}


def schema_of(operation: Operation) -> str:
    """How torch declares a row."""
    indices = ", Tensor indices" if operation.indices == "given" else ""
    shape = ", SymInt[] shape" if operation.result == "input" else ""
    kind = ", str index_kind" if operation.indices == "made" else ""
    checks = ", bool check_indices" if operation.target == "place" else ""
    results = "(Tensor, Tensor)" if operation.indices == "made" else "Tensor"
    return f"(Tensor x{indices}{shape}{WINDOWS[operation.windows].schema}{operation.parameters}{kind}{checks}) -> {results}"


def arguments_of(operation: Operation, values: Sequence[Any]) -> Arguments:
    """The arguments of an operator, from their values in the order of its schema."""
    x, *rest = values
    indices = rest.pop(0) if operation.indices == "given" else None
    shape = rest.pop(0) if operation.result == "input" else x.shape
    index_kind = rest.pop() if operation.indices == "made" else "plane"
    checks = rest.pop() if operation.target == "place" else False
    size = WINDOWS[operation.windows].size
    return Arguments(x, indices, tuple(shape), tuple(rest[:size]), tuple(rest[size:]), index_kind, checks)


def values_of(operation: Operation, arguments: Arguments) -> list[Any]:
    """The other way round."""
    shape = [list(arguments.shape)] if operation.result == "input" else []
    kind = [arguments.index_kind] if operation.indices == "made" else []
    checks = [arguments.checks] if operation.target == "place" else []
    return [*arguments.tensors, *shape, *arguments.windows, *arguments.parameters, *kind, *checks]


def tags_of(operation: Operation) -> tuple[torch.Tag, ...]:
    """What compilers must know: operators that wait for values of a GPU cannot be captured in graphs."""
    waits = operation.target == "place" or operation.windows == "fractional"
    unsafe = getattr(torch.Tag, "cudagraph_unsafe", None)  # which torch 2.6 does not have
    return (torch.Tag.pt2_compliant_tag, *([unsafe] if waits and unsafe is not None else []))


def register(name: str, operation: Operation) -> None:
    """Declare a row as an operator."""
    windows = WINDOWS[operation.windows]

    def check(arguments: Arguments, out_shape: tuple[int, ...]) -> None:
        if operation.windows == "fractional":
            check_values(x=arguments.x, samples=arguments.windows[-1])
        if len({tensor.device for tensor in arguments.tensors}) > 1:
            devices = " and ".join(str(tensor.device) for tensor in arguments.tensors)
            raise ValueError(f"x and indices must be on the same device, got {devices}")
        check_dtype("x", DTYPES.get(arguments.x.dtype, arguments.x.dtype), operation.dtypes)
        shrinks = operation.result == "output"
        first = (
            "x" if operation.target in ("", "place") else "grad_output"
        )  # what callers of the public functions call it
        check_same_shape(first, tuple(arguments.x.shape), arguments.shape if shrinks else out_shape, "shape")
        if arguments.indices is not None:
            check_same_shape("indices", tuple(arguments.indices.shape), out_shape, "the shape of the output,")
            dtype = arguments.indices.dtype
            accepted = [torch.int32, torch.int64]
            if (
                dtype not in accepted and operation.windows != "placed"
            ):  # asked late: it makes symbols of bins constants
                accepted.append(TORCH_DTYPES[smallest_unsigned(windows.taps(arguments))])
            if dtype not in accepted:
                raise TypeError(f"indices must have one of the dtypes {accepted}, got {dtype}")
        if arguments.index_kind not in ("plane", "narrow", "window"):
            raise ValueError(f"index_kind must be 'plane', 'narrow' or 'window', got {arguments.index_kind!r}")
        is_narrow = arguments.index_kind == "narrow"
        if is_narrow and prod(arguments.shape[-windows.rank(arguments) :]) > np.iinfo(NARROW).max:
            raise ValueError(
                f"index_kind must not be 'narrow' for planes of 2**31 elements or more, got shape {arguments.shape}"
            )

    def index_dtype_of(arguments: Arguments) -> np.dtype[Any]:
        if arguments.index_kind == "window":
            return smallest_unsigned(windows.taps(arguments))
        return NARROW if arguments.index_kind == "narrow" else WIDE

    def compute(*values: Any) -> Any:
        arguments = arguments_of(operation, values)
        plan = windows.plan(arguments)
        check(arguments, plan.out_shape)
        index_dtype = index_dtype_of(arguments)
        memory_format = format_of_any(arguments.tensors)
        call = Call(name, plan, arguments.parameters, index_dtype, memory_format, checks=arguments.checks)
        return computed(call, arguments.x, arguments.indices)

    def infer(*values: Any) -> Any:
        arguments = arguments_of(operation, values)
        out_shape = windows.out_shape(arguments)
        check(arguments, out_shape)
        shape = out_shape if operation.result == "output" else arguments.shape
        options: dict[str, Any] = {
            "device": arguments.x.device,
            "memory_format": format_of_any(arguments.tensors),
        }
        dtype = TORCH_DTYPES[operation.dtype_of(DTYPES[arguments.x.dtype])]
        result = torch.empty(shape, dtype=dtype, **options)
        if operation.indices != "made":
            return result
        return result, torch.empty(shape, dtype=TORCH_DTYPES[index_dtype_of(arguments)], **options)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        arguments = arguments_of(operation, inputs)
        ctx.count, ctx.arguments = len(inputs), arguments._replace(x=None, indices=None)
        if operation.derived:
            ctx.save_for_backward(arguments.x)
        elif operation.indices != "none":
            ctx.save_for_backward(output[1] if operation.indices == "made" else arguments.indices)
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * ctx.count
        indices, adjoint = (*ctx.saved_tensors, None)[0], operation.adjoint
        if operation.derived:  # chosen again
            derived = OPERATIONS[operation.derived]
            _, indices = _call(operation.derived, ctx.arguments._replace(x=indices.detach()))
            adjoint = derived.adjoint
        result = _call(adjoint, ctx.arguments._replace(x=grad, indices=indices))
        return result, *(None,) * (ctx.count - 1)

    def batched(info: Any, in_dims: tuple[Any, ...], *values: Any) -> Any:
        arguments = arguments_of(operation, values)
        x = joined(arguments.x, in_dims[0], info.batch_size)
        indices = joined(arguments.indices, in_dims[1], info.batch_size)
        first = arguments.shape[0] if operation.result == "input" else x.shape[0] // info.batch_size
        shape = (info.batch_size * first, *(arguments.shape if operation.result == "input" else x.shape)[1:])
        results = _call(name, arguments._replace(x=x, indices=indices, shape=shape))
        if isinstance(results, tuple):
            return tuple(each.unflatten(0, (info.batch_size, first)) for each in results), (0,) * len(results)
        return results.unflatten(0, (info.batch_size, first)), 0

    qualified = f"numbapool::{name}"
    library.define(f"{name}{schema_of(operation)}", tags=tags_of(operation))
    for target in ("CPU", "CUDA"):
        library.impl(name, compute, target)
    torch.library.register_fake(qualified, infer, lib=library)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    torch.library.register_vmap(qualified, batched, lib=library)


def recorded(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """`torch.computed` as a call of the operator."""
    name, plan = call.name, call.plan
    index_kind = "plane"
    if call.index_dtype is not None and call.index_dtype != WIDE:
        index_kind = "narrow" if call.index_dtype == NARROW else "window"
    if OPERATIONS[name].windows == "placed" and not isinstance(plan, BinPlan):
        raise NotImplementedError(NO_TAPS)
    if isinstance(plan, BinPlan):
        if plan.starts and OPERATIONS[name].indices != "given":
            raise NotImplementedError(
                "fractional pooling cannot be transformed while it is recorded: do one without the other"
            )
        if plan.starts:  # derivatives do not ask where windows lie
            name = name.replace("max_pool", "max_unpool")
        is_placed = OPERATIONS[name].windows == "placed"
        name = name if is_placed else f"adaptive_{name}"
        sizes = len(plan.pooled) if is_placed else [axis.out for axis in plan.pooled]
        parameters = call.parameters[len(OPERATIONS[name].fixed) :]
        return _call(name, Arguments(x, indices, plan.shape, (sizes,), parameters, index_kind, call.checks))
    axes = plan.pooled
    padding = [side for axis in axes for side in (axis.before, axis.after)]
    kernel, stride, dilation = ([getattr(axis, field) for axis in axes] for field in ("kernel", "stride", "dilation"))
    window = kernel, stride, padding, dilation, any(map(overhangs, axes))
    return _call(name, Arguments(x, indices, plan.shape, window, call.parameters, index_kind))


def _call(name: str, arguments: Arguments) -> Any:
    return getattr(torch.ops.numbapool, name)(*values_of(OPERATIONS[name], arguments))


for _name, _operation in OPERATIONS.items():
    register(_name, _operation)


def max_pool(rank: int, x: Tensor, *arguments: Any) -> Any:
    """`numbapool.max_pool1d` to `max_pool3d`."""
    *window, return_indices, index_kind = arguments
    return _extremum("max_pool", rank, x, _sliding(rank, x, *window), return_indices, index_kind)


def max_pool_backward(rank: int, x: Tensor, grad_output: Tensor, *arguments: Any) -> Any:
    """`numbapool.max_pool1d_backward` to `max_pool3d_backward`."""
    *window, indices, index_kind = arguments
    return _extremum_backward("max_pool", rank, x, grad_output, _sliding(rank, x, *window), indices, index_kind)


def min_pool(rank: int, x: Tensor, *arguments: Any) -> Any:
    """`numbapool.min_pool1d` to `min_pool3d`."""
    *window, return_indices, index_kind = arguments
    return _extremum("min_pool", rank, x, _sliding(rank, x, *window), return_indices, index_kind)


def min_pool_backward(rank: int, x: Tensor, grad_output: Tensor, *arguments: Any) -> Any:
    """`numbapool.min_pool1d_backward` to `min_pool3d_backward`."""
    *window, indices, index_kind = arguments
    return _extremum_backward("min_pool", rank, x, grad_output, _sliding(rank, x, *window), indices, index_kind)


def avg_pool(rank: int, x: Tensor, *arguments: Any) -> Any:
    """`numbapool.avg_pool1d` to `avg_pool3d`."""
    *window, count_include_pad, divisor_override, rounding = arguments
    flag, divisor = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    return torch.ops.numbapool.avg_pool(x, *_sliding(rank, x, *window), flag, divisor, as_rounding(rounding))


def avg_pool_backward(rank: int, x: Tensor, grad_output: Tensor, *arguments: Any) -> Any:
    """`numbapool.avg_pool1d_backward` to `avg_pool3d_backward`."""
    *window, count_include_pad, divisor_override = arguments
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override), False
    _check_gradient(x, grad_output, FLOATING_OR_COMPLEX)
    return torch.ops.numbapool.avg_pool_backward(
        grad_output, _kept_lengths(x), *_sliding(rank, x, *window), *parameters
    )


def sum_pool(rank: int, x: Tensor, *window: Any) -> Any:
    """`numbapool.sum_pool1d` to `sum_pool3d`."""
    return torch.ops.numbapool.sum_pool(x, *_sliding(rank, x, *window))


def sum_pool_backward(rank: int, x: Tensor, grad_output: Tensor, *window: Any) -> Any:
    """`numbapool.sum_pool1d_backward` to `sum_pool3d_backward`."""
    _check_gradient(x, grad_output, FLOATING_OR_COMPLEX)
    return torch.ops.numbapool.sum_pool_backward(grad_output, _kept_lengths(x), *_sliding(rank, x, *window))


def lp_pool(rank: int, x: Tensor, *arguments: Any) -> Any:
    """`numbapool.lp_pool1d` to `lp_pool3d`."""
    *window, power, is_norm = arguments
    _check_tensor("x", x, FLOATING)
    sliding = _sliding(rank, x, *window)
    return norm_in_parts(_pool_of(_lengths(x), sliding), prod(sliding[0]), x, power, is_norm)


def lp_pool_backward(rank: int, x: Tensor, grad_output: Tensor, *arguments: Any) -> Any:
    """`numbapool.lp_pool1d_backward` to `lp_pool3d_backward`."""
    *window, power, is_norm = arguments
    _check_gradient(x, grad_output)
    sliding = _sliding(rank, x, *window)
    lengths = tuple(_kept_lengths(x))
    out_shape = _sliding_out_shape(Arguments(x, None, lengths, sliding, (), "plane"))
    check_same_shape("grad_output", _lengths(grad_output), out_shape, "the shape of the output,")
    return norm_gradient(_pool_of(lengths, sliding), prod(sliding[0]), grad_output, x, power, is_norm)


def _pool_of(shape: tuple[int, ...], windows: tuple[Any, ...]) -> Callable[..., Any]:
    """Operators for `torch.norm_in_parts`."""
    index_kind = _saved_kind(len(windows[0]), shape)

    def pool(name: str, tensor: Tensor, indices: Tensor | None = None, *parameters: Any) -> Any:
        return _call(name, Arguments(tensor, indices, shape, windows, parameters, index_kind))

    return pool


def adaptive_max_pool(rank: int, x: Tensor, output_size: Sizes, return_indices: bool, index_kind: IndexKind) -> Any:
    """`numbapool.adaptive_max_pool1d` to `adaptive_max_pool3d`."""
    return _extremum("adaptive_max_pool", rank, x, _bins(rank, x, output_size), return_indices, index_kind)


def adaptive_max_pool_backward(
    rank: int, x: Tensor, grad_output: Tensor, output_size: Sizes, indices: Tensor | None, index_kind: IndexKind
) -> Any:
    """`numbapool.adaptive_max_pool1d_backward` to `adaptive_max_pool3d_backward`."""
    bins = _bins(rank, x, output_size)
    return _extremum_backward("adaptive_max_pool", rank, x, grad_output, bins, indices, index_kind)


def adaptive_avg_pool(rank: int, x: Tensor, output_size: Sizes, rounding: Rounding) -> Any:
    """`numbapool.adaptive_avg_pool1d` to `adaptive_avg_pool3d`."""
    return torch.ops.numbapool.adaptive_avg_pool(x, *_bins(rank, x, output_size), as_rounding(rounding))


def adaptive_avg_pool_backward(rank: int, x: Tensor, grad_output: Tensor, output_size: Sizes) -> Any:
    """`numbapool.adaptive_avg_pool1d_backward` to `adaptive_avg_pool3d_backward`."""
    _check_gradient(x, grad_output, FLOATING_OR_COMPLEX)
    bins = _bins(rank, x, output_size)
    return torch.ops.numbapool.adaptive_avg_pool_backward(grad_output, _kept_lengths(x), *bins, False)


def fractional_max_pool(
    rank: int,
    x: Tensor,
    samples: Tensor | None,
    kernel: tuple[int, ...],
    sizes: tuple[int, ...],
    return_indices: bool,
    index_kind: IndexKind,
) -> Any:
    """`numbapool.fractional_max_pool2d` and `fractional_max_pool3d`."""
    if samples is None:
        dtype = x.dtype if x.dtype in DRAWN else torch.float64
        samples = torch.rand(samples_shape(tuple(x.shape), rank), dtype=dtype, device=x.device)
    _check_samples(rank, x, samples)
    if x.device.type == "meta":  # where samples of a generator are not
        samples = samples.to(x.device)
    windows = list(kernel), list(sizes), samples.detach()
    return _extremum("fractional_max_pool", rank, x, windows, return_indices, index_kind)


def fractional_max_pool_backward(
    rank: int,
    x: Tensor,
    grad_output: Tensor,
    samples: Tensor | None,
    kernel: tuple[int, ...],
    sizes: tuple[int, ...],
    indices: Tensor | None,
    index_kind: IndexKind,
) -> Any:
    """`numbapool.fractional_max_pool2d_backward` and `fractional_max_pool3d_backward`."""
    if samples is None:  # any will do, because there are indices
        samples = torch.zeros(samples_shape(tuple(x.shape), rank), device=x.device)
    _check_samples(rank, x, samples)
    windows = list(kernel), list(sizes), samples.detach()
    return _extremum_backward("fractional_max_pool", rank, x, grad_output, windows, indices, index_kind)


def _check_samples(rank: int, x: Tensor, samples: Tensor) -> None:
    _check_tensor("_random_samples", samples, FLOATING)
    expected = samples_shape(_lengths(x), rank)
    check_same_shape("_random_samples", _lengths(samples), expected, "the shape (N, C, pooled axes)")


def max_unpool(rank: int, x: Tensor, indices: Tensor, *arguments: Any) -> Any:
    """`numbapool.max_unpool1d` to `max_unpool3d`."""
    *window, check_indices = arguments
    sizes = _unpooled(rank, x, *window)
    _check_indices(indices, "plane")
    lengths = _lengths(x)
    check_same_shape("indices", _lengths(indices), lengths, "the shape of x,")
    return torch.ops.numbapool.max_unpool(
        x, indices, [*lengths[:-rank], *sizes], rank, as_flag("check_indices", check_indices)
    )


def _unpooled(rank: int, x: Tensor, *arguments: Any) -> tuple[int, ...]:
    """Lengths of the unpooled axes."""
    *window, index_kind = arguments
    if index_kind == "window":
        raise NotImplementedError(NO_TAPS)
    sizes = unpool_lengths(tuple(_kept_lengths(x)), rank, *window)
    kernel_size, stride, padding, output_size = window
    _check_size(x, sizes, kernel_size=kernel_size, stride=stride, padding=padding, output_size=output_size)
    return sizes


def max_unpool_backward(rank: int, x: Tensor, grad_output: Tensor, indices: Tensor, *arguments: Any) -> Any:
    """`numbapool.max_unpool1d_backward` to `max_unpool3d_backward`."""
    _check_gradient(x, grad_output)
    sizes = _unpooled(rank, x, *arguments)
    _check_indices(indices, "plane")
    expected = *_lengths(x)[:-rank], *sizes
    check_same_shape("grad_output", _lengths(grad_output), expected, "the shape of the output,")
    return torch.ops.numbapool.max_unpool_gather(grad_output, indices, rank)


def global_avg_pool(rank: int, x: Tensor, rounding: Rounding) -> Any:
    """`numbapool.global_avg_pool`."""
    return _of_channels(x, adaptive_avg_pool(1, _flat(x), 1, rounding))


def global_avg_pool_backward(rank: int, x: Tensor, grad_output: Tensor) -> Any:
    """`numbapool.global_avg_pool_backward`."""
    grad = _flat_gradient(x, grad_output, FLOATING_OR_COMPLEX)
    return adaptive_avg_pool_backward(1, _flat(x), grad, 1).reshape(x.shape)


def global_max_pool(rank: int, x: Tensor, return_indices: bool, index_kind: IndexKind) -> Any:
    """`numbapool.global_max_pool`."""
    results = adaptive_max_pool(1, _flat(x), 1, return_indices, index_kind)
    return tuple(_of_channels(x, each) for each in results) if return_indices else _of_channels(x, results)


def global_max_pool_backward(
    rank: int, x: Tensor, grad_output: Tensor, indices: Tensor | None, index_kind: IndexKind
) -> Any:
    """`numbapool.global_max_pool_backward`."""
    grad, flat = _flat_gradient(x, grad_output), None
    if indices is not None:
        _check_indices(indices, index_kind)
        check_same_shape("indices", _lengths(indices), _lengths(grad_output), "the shape of grad_output,")
        flat = indices.flatten(2)
    return adaptive_max_pool_backward(1, _flat(x), grad, 1, flat, index_kind).reshape(x.shape)


def global_lp_pool(rank: int, x: Tensor, power: float, is_norm: bool) -> Any:
    """`numbapool.global_lp_pool`."""
    flat = _flat(x)
    return _of_channels(x, lp_pool(1, flat, _kept_lengths(flat)[2], None, 0, 1, False, power, is_norm))


def global_lp_pool_backward(rank: int, x: Tensor, grad_output: Tensor, power: float, is_norm: bool) -> Any:
    """`numbapool.global_lp_pool_backward`."""
    flat, grad = _flat(x), _flat_gradient(x, grad_output)
    window = _kept_lengths(flat)[2], None, 0, 1, False
    return lp_pool_backward(1, flat, grad, *window, power, is_norm).reshape(x.shape)


def _flat(x: Tensor) -> Tensor:
    """All axes of a channel as one."""
    check_whole(_lengths(x))
    return x.flatten(2)


def _flat_gradient(x: Tensor, grad_output: Tensor, accepted: tuple[torch.dtype, ...] = FLOATING) -> Tensor:
    """The gradient of a global pooling, of one element a channel."""
    lengths = _lengths(x)
    check_whole(lengths)
    _check_gradient(x, grad_output, accepted)
    expected = *lengths[:2], *(1,) * (len(lengths) - 2)
    check_same_shape("grad_output", _lengths(grad_output), expected, "the shape of the output,")
    return grad_output.flatten(2)


def _of_channels(x: Tensor, pooled: Tensor) -> Tensor:
    return pooled.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))


def _extremum(
    name: str, rank: int, x: Tensor, windows: Sequence[Any], return_indices: bool, index_kind: IndexKind
) -> Any:
    with_indices = getattr(torch.ops.numbapool, f"{name}_with_indices")
    if as_flag("return_indices", return_indices):
        return with_indices(x, *windows, "window" if index_kind == "window" else "plane")
    # What torch.jit.trace records must not depend on the mode: it records again, without gradients, and compares.
    if x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing():
        return with_indices(x, *windows, _saved_kind(rank, _lengths(x)))[0]
    return getattr(torch.ops.numbapool, name)(x, *windows)


def _extremum_backward(
    name: str,
    rank: int,
    x: Tensor,
    grad_output: Tensor,
    windows: Sequence[Any],
    indices: Tensor | None,
    index_kind: IndexKind,
) -> Any:
    _check_gradient(x, grad_output)
    if indices is not None:
        _check_indices(indices, index_kind)
    else:
        with_indices = getattr(torch.ops.numbapool, f"{name}_with_indices")
        _, indices = with_indices(x.detach(), *windows, _saved_kind(rank, _lengths(x)))
    return getattr(torch.ops.numbapool, f"{name}_scatter")(grad_output, indices, _kept_lengths(x), *windows)


def _check_tensor(name: str, tensor: Any, accepted: tuple[torch.dtype, ...]) -> None:
    """`geometry.check_dtype` in terms that torch.compile can follow."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch tensor like the other arguments, got {type(tensor).__name__}")
    if tensor.dtype not in accepted:
        raise TypeError(f"{name} has dtype {tensor.dtype}; accepted here: {', '.join(map(str, accepted))}")


def _check_indices(indices: Any, index_kind: str) -> None:
    unsigned = torch.uint8, torch.uint16, torch.uint32, torch.uint64
    _check_tensor("indices", indices, unsigned if index_kind == "window" else (torch.int64,))


def _check_size(x: Tensor, lengths: Sequence[int], **causes: Any) -> None:
    """Refuse results that no memory holds, where lengths are no symbols."""
    given = _lengths(x)
    shape = (*given[: -len(lengths)], *lengths)
    if not torch.compiler.is_compiling() and all(type(length) is int for length in shape):
        check_size(shape, given, **causes)


def _check_gradient(x: Tensor, grad_output: Tensor, accepted: tuple[torch.dtype, ...] = FLOATING) -> None:
    _check_tensor("x", x, accepted)
    _check_tensor("grad_output", grad_output, accepted)
    if grad_output.dtype != x.dtype:
        raise TypeError(f"grad_output must have the dtype of x, {x.dtype}, got {grad_output.dtype}")
    if grad_output.device != x.device:
        raise ValueError(f"grad_output must be on the device of x, {x.device}, got {grad_output.device}")


def _bins(rank: int, x: Tensor, output_size: Sizes) -> tuple[list[int]]:
    """Adaptive bins as operators take them."""
    sizes = adaptive_sizes(rank, output_size)
    lengths = adaptive_lengths(tuple(_kept_lengths(x)) if None in sizes else _lengths(x), sizes)
    _check_size(x, lengths, output_size=output_size)
    return (list(lengths),)


def _sliding(rank: int, x: Tensor, *arguments: Any) -> tuple[Any, ...]:
    """Sliding windows as operators take them."""
    kernel, stride, padding, dilation, ceil_mode = window_arguments(rank, *arguments)
    shape = tuple(_kept_lengths(x)) if isinstance(padding, str) and padding != "valid" else _lengths(x)
    window = kernel, stride, padding, dilation, ceil_mode
    axes = pooled_axes(shape, *window, least=torch.sym_min, greatest=torch.sym_max)
    causes = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    _check_size(x, [axis.out for axis in axes], **causes)
    pairs = padding_for(padding, shape[-rank:], kernel, stride, dilation, torch.sym_max)
    return list(kernel), list(stride), [side for pair in pairs for side in pair], list(dilation), ceil_mode


def _lengths(x: Tensor) -> tuple[int, ...]:
    """The shape of a tensor in ints, also while `torch.jit.trace` records, to which they are tensors."""
    if not torch.jit.is_tracing():
        return tuple(x.shape)
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        return tuple(x.shape)
    finally:
        torch._C._set_tracing_state(state)


def _kept_lengths(x: Tensor) -> list[int]:
    """The same, as arguments of an operator: constants of a trace, which says so."""
    if torch.jit.is_tracing():
        warnings.warn(
            f"the lengths of an input, {_lengths(x)}, become constants of this trace: trace again for others",
            torch.jit.TracerWarning,
            stacklevel=2,
        )
    return list(_lengths(x))


def _saved_kind(rank: int, shape: tuple[int, ...]) -> str:
    """The kind of indices that are saved for backward: positions, because layouts are not known here for sure."""
    return "narrow" if prod(shape[-rank:]) <= np.iinfo(NARROW).max else "plane"
