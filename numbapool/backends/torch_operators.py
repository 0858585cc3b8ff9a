"""The rows of `torch.OPERATIONS` as operators of torch, `torch.ops.numbapool.*`, for all that records calls and runs them later.

`torch.compile`, `torch.export`, fake and meta tensors, dispatch modes and tensor subclasses see these operators, their shapes
(by the library's own geometry, on symbols too) and their derivatives. The public functions below write calls in their terms.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    computed,
    format_of_any,
    joined,
)
from numbapool.geometry import (
    FLOATS,
    INDICES,
    Extent,
    Padding,
    as_divisor,
    as_flag,
    check_dtype,
    check_same_shape,
    padding_for,
    pooled_axes,
    window_arguments,
    window_plan,
)
from numbapool.kernels.windows import Axis

WINDOW = ", SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool ceil_mode"

library = torch.library.Library("numbapool", "DEF")


class Arguments(NamedTuple):
    """The arguments of an operator."""

    x: Tensor
    indices: Tensor | None
    shape: tuple[int, ...]  # of the input of the forward pass
    window: tuple[Any, ...]  # as declared in WINDOW: padding is (before, after) of all axes, one after the other
    parameters: tuple[Any, ...]
    is_narrow: bool  # the dtype of the indices it makes

    @property
    def pairs(self) -> tuple[Any, Any, Any, Any, bool]:
        """The window as geometry takes it."""
        kernel, stride, padding, dilation, ceil_mode = self.window
        pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
        return tuple(kernel), tuple(stride), pairs, tuple(dilation), ceil_mode

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among them."""
        return [self.x] if self.indices is None else [self.x, self.indices]


def schema_of(operation: Operation) -> str:
    """How torch declares a row."""
    indices = ", Tensor indices" if operation.indices == "given" else ""
    shape = ", SymInt[] shape" if operation.result == "input" else ""
    narrow = ", bool is_narrow" if operation.indices == "made" else ""
    results = "(Tensor, Tensor)" if operation.indices == "made" else "Tensor"
    return f"(Tensor x{indices}{shape}{WINDOW}{operation.parameters}{narrow}) -> {results}"


def arguments_of(operation: Operation, values: Sequence[Any]) -> Arguments:
    """The arguments of an operator, from their values in the order of its schema."""
    x, *rest = values
    indices = rest.pop(0) if operation.indices == "given" else None
    shape = rest.pop(0) if operation.result == "input" else x.shape
    is_narrow = rest.pop() if operation.indices == "made" else False
    return Arguments(x, indices, tuple(shape), tuple(rest[:5]), tuple(rest[5:]), is_narrow)


def values_of(operation: Operation, arguments: Arguments) -> list[Any]:
    """The other way round."""
    shape = [list(arguments.shape)] if operation.result == "input" else []
    narrow = [arguments.is_narrow] if operation.indices == "made" else []
    return [*arguments.tensors, *shape, *arguments.window, *arguments.parameters, *narrow]


def register(name: str, operation: Operation) -> None:
    """Declare a row as an operator."""

    def check(arguments: Arguments, out_shape: tuple[int, ...]) -> None:
        if len({tensor.device for tensor in arguments.tensors}) > 1:
            devices = " and ".join(str(tensor.device) for tensor in arguments.tensors)
            raise ValueError(f"x and indices must be on the same device, got {devices}")
        check_dtype("x", DTYPES.get(arguments.x.dtype, arguments.x.dtype), operation.dtypes)
        shrinks = operation.result == "output"
        check_same_shape("x", tuple(arguments.x.shape), arguments.shape if shrinks else out_shape, "shape")
        if arguments.indices is not None:
            check_same_shape("indices", tuple(arguments.indices.shape), out_shape, "the shape of the output,")
            if arguments.indices.dtype not in (torch.int32, torch.int64):
                raise TypeError(f"indices must have dtype int32 or int64, got {arguments.indices.dtype}")
        if arguments.is_narrow and prod(arguments.shape[-len(arguments.window[0]) :]) > np.iinfo(NARROW).max:
            raise ValueError(
                f"is_narrow must be False for planes of 2**31 elements or more, got shape {arguments.shape}"
            )

    def compute(*values: Any) -> Any:
        arguments = arguments_of(operation, values)
        kernel, stride, pairs, dilation, ceil_mode = arguments.pairs
        plan = window_plan(tuple(arguments.shape), len(kernel), kernel, stride, pairs, dilation, ceil_mode)
        check(arguments, plan.out_shape)
        index_dtype = NARROW if arguments.is_narrow else WIDE
        memory_format = format_of_any(arguments.tensors)
        call = Call(name, plan, arguments.parameters, index_dtype, memory_format)
        return computed(call, arguments.x, arguments.indices)

    def infer(*values: Any) -> Any:
        arguments = arguments_of(operation, values)
        axes = pooled_axes(tuple(arguments.shape), *arguments.pairs, least=torch.sym_min, greatest=torch.sym_max)
        out_shape = (*arguments.shape[: -len(axes)], *(axis.out for axis in axes))
        check(arguments, out_shape)
        shape = out_shape if operation.result == "output" else arguments.shape
        options: dict[str, Any] = {
            "device": arguments.x.device,
            "memory_format": format_of_any(arguments.tensors),
        }
        result = torch.empty(shape, dtype=arguments.x.dtype, **options)
        if operation.indices != "made":
            return result
        return result, torch.empty(shape, dtype=TORCH_DTYPES[NARROW if arguments.is_narrow else WIDE], **options)

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
    library.define(f"{name}{schema_of(operation)}", tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, compute, "CPU")
    torch.library.register_fake(qualified, infer, lib=library)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    torch.library.register_vmap(qualified, batched, lib=library)


def recorded(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """`torch.computed` as a call of the operator."""
    axes = call.plan.pooled
    padding = [side for axis in axes for side in (axis.before, axis.after)]
    windows = ([getattr(axis, field) for axis in axes] for field in ("kernel", "stride", "dilation"))
    kernel, stride, dilation = windows
    window = kernel, stride, padding, dilation, any(map(_overhangs, axes))
    is_narrow = call.index_dtype == NARROW
    return _call(call.name, Arguments(x, indices, call.plan.shape, window, call.parameters, is_narrow))


def _overhangs(axis: Axis) -> bool:
    """Whether the last window of an axis reaches beyond the padding, as it may in ceil_mode."""
    span = (axis.kernel - 1) * axis.dilation + 1
    return (axis.out - 1) * axis.stride + span > axis.before + axis.length + axis.after


def _call(name: str, arguments: Arguments) -> Any:
    return getattr(torch.ops.numbapool, name)(*values_of(OPERATIONS[name], arguments))


for _name, _operation in OPERATIONS.items():
    register(_name, _operation)


def max_pool(
    rank: int,
    x: Tensor,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    """`numbapool.max_pool1d` to `max_pool3d`."""
    window = _window(rank, x, kernel_size, stride, padding, dilation, ceil_mode)
    if as_flag("return_indices", return_indices):
        return torch.ops.numbapool.max_pool_with_indices(x, *window, False)
    if x.requires_grad and torch.is_grad_enabled():
        return torch.ops.numbapool.max_pool_with_indices(x, *window, _is_narrow(rank, x))[0]
    return torch.ops.numbapool.max_pool(x, *window)


def max_pool_backward(
    rank: int,
    x: Tensor,
    grad_output: Tensor,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    indices: Tensor | None,
) -> Any:
    """`numbapool.max_pool1d_backward` to `max_pool3d_backward`."""
    window = _window(rank, x, kernel_size, stride, padding, dilation, ceil_mode)
    _check_gradient(x, grad_output)
    if indices is not None:
        check_dtype("indices", DTYPES.get(indices.dtype, indices.dtype), INDICES)
    else:
        _, indices = torch.ops.numbapool.max_pool_with_indices(x.detach(), *window, _is_narrow(rank, x))
    return torch.ops.numbapool.max_pool_scatter(grad_output, indices, list(x.shape), *window)


def avg_pool(
    rank: int,
    x: Tensor,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    """`numbapool.avg_pool1d` to `avg_pool3d`."""
    window = _window(rank, x, kernel_size, stride, padding, dilation, ceil_mode)
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    return torch.ops.numbapool.avg_pool(x, *window, *parameters)


def avg_pool_backward(
    rank: int,
    x: Tensor,
    grad_output: Tensor,
    kernel_size: Extent,
    stride: Extent | None,
    padding: Padding,
    dilation: Extent,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    """`numbapool.avg_pool1d_backward` to `avg_pool3d_backward`."""
    window = _window(rank, x, kernel_size, stride, padding, dilation, ceil_mode)
    parameters = as_flag("count_include_pad", count_include_pad), as_divisor(divisor_override)
    _check_gradient(x, grad_output)
    return torch.ops.numbapool.avg_pool_backward(grad_output, list(x.shape), *window, *parameters)


def _check_gradient(x: Tensor, grad_output: Tensor) -> None:
    check_dtype("x", DTYPES.get(x.dtype, x.dtype), FLOATS)
    if not isinstance(grad_output, Tensor):
        raise TypeError(
            f"grad_output must be a torch tensor like the other arguments, got {type(grad_output).__name__}"
        )
    if grad_output.dtype != x.dtype:
        raise TypeError(f"grad_output must have the dtype of x, {x.dtype}, got {grad_output.dtype}")
    if grad_output.device != x.device:
        raise ValueError(f"grad_output must be on the device of x, {x.device}, got {grad_output.device}")


def _window(rank: int, x: Tensor, *arguments: Any) -> tuple[Any, ...]:
    """The window as operators take it."""
    kernel, stride, padding, dilation, ceil_mode = window_arguments(rank, *arguments)
    shape = tuple(x.shape)
    window = kernel, stride, padding, dilation, ceil_mode
    pooled_axes(shape, *window, least=torch.sym_min, greatest=torch.sym_max)  # for its errors
    pairs = padding_for(padding, shape[-rank:], kernel, stride, dilation, torch.sym_max)
    return list(kernel), list(stride), [side for pair in pairs for side in pair], list(dilation), ceil_mode


def _is_narrow(rank: int, x: Tensor) -> bool:
    return bool(prod(x.shape[-rank:]) <= np.iinfo(NARROW).max)
