"""torch tensors, on the CPU target: views of their memory, results in theirs, and derivatives of every order.

A call computes at once if nothing but values is asked for. Else it is a `_Pooling`, which autograd and the transforms of
`torch.func` know how to derive and to batch. Tensors that only stand for others (compiling, exporting, `meta`) go to the
operators that `torch_operators` registers. All three do what the table `OPERATIONS` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from numbapool.backends.numpy import backend as numpy_backend
from numbapool.geometry import FLOATS, ORDERED, SUMMABLE, WindowPlan, check_same_shape

if TYPE_CHECKING:
    from numbapool.dispatch import Spec

DTYPES: dict[Any, np.dtype[Any]] = {
    torch.float32: np.dtype("float32"),
    torch.float64: np.dtype("float64"),
    torch.int8: np.dtype("int8"),
    torch.int16: np.dtype("int16"),
    torch.int32: np.dtype("int32"),
    torch.int64: np.dtype("int64"),
    torch.uint8: np.dtype("uint8"),
    torch.uint16: np.dtype("uint16"),
    torch.uint32: np.dtype("uint32"),
    torch.uint64: np.dtype("uint64"),
    torch.bool: np.dtype("bool"),
}
TORCH_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
# What autocast hands to operations that it knows nothing of; they are computed in float32, as its own list says of means.
HALVES = (torch.float16, torch.bfloat16)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Indices that nobody but backward sees are saved in half the memory where they fit.
NARROW, WIDE = np.dtype(np.int32), np.dtype(np.int64)


@dataclass(frozen=True)
class Operation:
    """A row of the table: an operation that is linear in its first tensor, once the maxima are chosen.

    So its derivatives are rows again: of any order, forward and backward. Where maxima matter, they take the indices as
    second tensor.
    """

    result: str  # "output" or "input": whose shape the result has
    tangent: str = ""  # from a change of the first tensor to that of the result
    adjoint: str = ""  # from the gradient of the result to that of the first tensor
    derived: str = ""  # instead of both: the row that takes its place where derivatives are asked for
    indices: str = "none"  # "none", "given" (second tensor) or "made" (second result)
    target: str = ""  # name of the target's backward operation; none: the target's forward operation of the row's name
    parameters: str = ""  # beyond the window, as torch declares them
    dtypes: Any = field(default_factory=lambda: FLOATS)  # of the first tensor


MEAN = ", bool count_include_pad, int? divisor_override"
OPERATIONS = {
    "max_pool": Operation("output", derived="max_pool_with_indices", dtypes=ORDERED),
    "max_pool_with_indices": Operation(
        "output", tangent="max_pool_gather", adjoint="max_pool_scatter", indices="made", dtypes=ORDERED
    ),
    "max_pool_gather": Operation(
        "output", tangent="max_pool_gather", adjoint="max_pool_scatter", indices="given", target="max_pool_gather"
    ),
    "max_pool_scatter": Operation(
        "input",
        tangent="max_pool_scatter",
        adjoint="max_pool_gather",
        indices="given",
        target="max_pool_backward_from_indices",
    ),
    "avg_pool": Operation("output", tangent="avg_pool", adjoint="avg_pool_backward", parameters=MEAN, dtypes=SUMMABLE),
    "avg_pool_backward": Operation(
        "input", tangent="avg_pool_backward", adjoint="avg_pool", target="avg_pool_backward", parameters=MEAN
    ),
}
# Rows by the names of the target's backward operations.
BACKWARD = {operation.target: name for name, operation in OPERATIONS.items() if operation.target}


class Call(NamedTuple):
    """A row of `OPERATIONS` for tensors of one shape; in one piece, because every argument costs an autograd.Function 1 us."""

    name: str
    plan: WindowPlan
    parameters: tuple[Any, ...] = ()
    index_dtype: np.dtype[Any] | None = None  # of the indices it makes
    memory_format: torch.memory_format = torch.contiguous_format  # of the results
    shows_indices: bool = True  # or makes them for derivatives only


class TorchBackend:
    """Tensors on the CPU, of any strides, with or without gradient."""

    def describe(self, name: str, array: Any) -> Spec:
        """Shape, and dtype as NumPy's, of the argument called `name`."""
        if not isinstance(array, Tensor):
            raise TypeError(f"{name} must be a torch tensor like the other arguments, got {_type_name(array)}")
        dtype = DTYPES.get(array.dtype)
        if dtype is None or not array.is_cpu or array.layout is not torch.strided or array.is_nested:
            dtype = _unusual_dtype(name, array)
        return tuple(array.shape), dtype

    def is_traced(self, *arrays: Any) -> bool:
        """Whether any only stands for other tensors, or somebody records what is done with it.

        Not under transforms of `torch.func` or with tangents, of which operators know nothing: for them `computed` asks again.
        """
        if torch.compiler.is_compiling():
            return True
        return any(map(is_recorded, arrays)) and not (
            torch._C._are_functorch_transforms_active() or any(map(has_tangent, arrays))
        )

    def trace(self, function: str, rank: int, out: Any, x: Tensor, *arguments: Any) -> Any:
        """The public `function` as calls of operators."""
        from numbapool.backends import torch_operators  # here, because it registers them

        if forward_ad._current_level >= 0 and torch.compiler.is_compiling():
            raise NotImplementedError(
                f"numbapool.{function}{rank}d has no forward-mode derivatives inside compiled code"
            )
        if torch.is_autocast_enabled("cpu"):
            x, *arguments = (as_autocast(each) for each in (x, *arguments))  # type: ignore[assignment]
        results = getattr(torch_operators, function)(rank, x, *arguments)
        if out is None:
            return results
        if not isinstance(results, tuple):
            pairs = [(out, results)]
        elif isinstance(out, (tuple, list)) and len(out) == len(results):
            pairs = list(zip(out, results, strict=True))
        else:
            raise TypeError(f"out must be a pair (values, indices) with return_indices, got {type(out).__name__}")
        for target, result in pairs:
            self.describe("out", target)
            check_same_shape("out", tuple(target.shape), tuple(result.shape), "the shape of the result,")
            if target.dtype != result.dtype:
                raise TypeError(f"out must have the dtype of the result, {result.dtype}, got {target.dtype}")
            _check_no_gradient("out", target)
            if result.requires_grad:
                _check_no_out(out)
            target.copy_(result)
        return out

    def bind(self, operation: str, plan: WindowPlan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A forward operation as a function `(x, out) -> results`."""
        compute = numpy_backend.bind(operation, plan, specs, *parameters)
        torch_dtype = TORCH_DTYPES[specs[0][1]]
        derived = OPERATIONS[operation].derived or operation
        index_dtype = specs[1][1] if len(specs) > 1 else index_dtype_of(plan)

        def call(x: Tensor, out: Sequence[Any] | None) -> Any:
            if x.dtype is not torch_dtype:
                x = as_autocast(x)
            if not needs_derivatives(x):
                return _computed(compute, (x,), specs, out, memory_format_of(x))
            _check_no_out(out)
            shows_indices = operation == derived
            return pooled(Call(derived, plan, parameters, index_dtype, memory_format_of(x), shows_indices), x, None)

        return call

    def run_backward(
        self, operation: str, plan: WindowPlan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a backward operation; the result in a new tensor, or in `out`."""
        given = None if out is None else (out,)
        tensors = [as_autocast(each) for each in inputs]
        memory_format = format_of_any(tensors)
        if not needs_derivatives(tensors[0]):  # in the others it is constant
            compute = partial(_backward, operation, plan, spec, parameters)
            return _computed(compute, tensors, [spec], given, memory_format)
        _check_no_out(given)
        grad, other = tensors if len(tensors) == 2 else (tensors[0], None)
        if operation == "max_pool_backward":
            _, other = pooled(Call("max_pool_with_indices", plan, (), index_dtype_of(plan), memory_format), other, None)
            operation = "max_pool_backward_from_indices"
        return pooled(Call(BACKWARD[operation], plan, parameters, None, memory_format), grad, other)


backend = TorchBackend()


def _unusual_dtype(name: str, array: Tensor) -> np.dtype[Any]:
    """Dtype of a tensor that is not simply in CPU memory, where it is accepted nevertheless."""
    if not (array.is_cpu or array.is_meta):
        raise TypeError(f"{name} is on device {array.device}, for which numbapool has no kernels: move it to the CPU")
    if array.layout is not torch.strided or array.is_nested:
        kind = "a nested one" if array.is_nested else f"layout {array.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    if array.dtype in HALVES and torch.is_autocast_enabled("cpu"):
        return np.dtype(np.float32)
    if array.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; accepted at most: {', '.join(map(str, DTYPES))}")
    return DTYPES[array.dtype]


def as_autocast(value: Any) -> Any:
    """A tensor in the dtype that autocast computes in: half precision in float32."""
    return value.to(torch.float32) if isinstance(value, Tensor) and value.dtype in HALVES else value


def is_recorded(x: Any) -> bool:
    """Whether a tensor has no values of its own in CPU memory, or somebody records what is done with it."""
    kind = type(x)
    if kind is not Tensor and kind is not Parameter and not isinstance(x, Tensor):
        return False
    return (
        (kind is not Tensor and kind is not Parameter)
        or is_in_torch_dispatch_mode()
        or x.is_meta
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_legacy_batchedtensor(x)
    )


def has_tangent(x: Any) -> bool:
    """Whether forward-mode derivatives are asked of a tensor."""
    return (
        forward_ad._current_level >= 0  # asked first: 0.8 us
        and isinstance(x, Tensor)
        and forward_ad.unpack_dual(x).tangent is not None
    )


def needs_derivatives(x: Tensor) -> bool:
    """Whether anything but values is asked for: a gradient, a tangent, or what a transform of `torch.func` makes of it."""
    return (
        (x.requires_grad and torch.is_grad_enabled()) or torch._C._are_functorch_transforms_active() or has_tangent(x)
    )


def index_dtype_of(plan: WindowPlan) -> np.dtype[Any]:
    """Dtype of the indices that are saved for backward."""
    return NARROW if plan.plane_size <= np.iinfo(NARROW).max else WIDE


def pooled(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call, with their derivatives where they are asked for."""
    if torch._C._are_functorch_transforms_active():
        results = _TransformedPooling.apply(call, x, indices)
        return results if call.shows_indices else results[0]
    if needs_derivatives(x):
        return _Pooling.apply(call, x, indices)
    results = recorded_or_computed(call, x, indices)
    return results if call.shows_indices else results[0]


def recorded_or_computed(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call without their derivatives: by the operator if somebody records it."""
    if is_recorded(x) or is_recorded(indices):
        from numbapool.backends import torch_operators

        return torch_operators.recorded(call, x, indices)
    return computed(call, x, indices)


def computed(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call, values only; indices too, whether it shows them or not."""
    operation, plan = OPERATIONS[call.name], call.plan
    dtype = DTYPES[x.dtype]
    shape = plan.out_shape if operation.result == "output" else plan.shape
    specs: tuple[Spec, ...] = ((shape, dtype),)
    if call.index_dtype is not None and operation.indices == "made":
        specs = (shape, dtype), (shape, call.index_dtype)
    if operation.target:
        compute: Callable[..., Any] = partial(_backward, operation.target, plan, specs[0], call.parameters)
    else:
        compute = _bound(call.name, plan, specs, *call.parameters)
    return _computed(compute, (x,) if indices is None else (x, indices), specs, None, call.memory_format)


@lru_cache(maxsize=1024)
def _bound(name: str, plan: WindowPlan, specs: tuple[Spec, ...], *parameters: Any) -> Callable[..., Any]:
    return numpy_backend.bind(name, plan, specs, *parameters)


def _backward(operation: str, plan: WindowPlan, spec: Spec, parameters: tuple[Any, ...], *arguments: Any) -> Any:
    *inputs, out = arguments
    return numpy_backend.run_backward(operation, plan, inputs, spec, None if out is None else out[0], *parameters)


def _computed(
    compute: Callable[..., Any],
    inputs: Sequence[Tensor],
    specs: Sequence[Spec],
    out: Sequence[Any] | None,
    memory_format: torch.memory_format,
) -> Any:
    """Views of tensors to a function of NumPy arrays `(*inputs, out) -> results`, and tensors of its results."""
    arrays = [each.numpy(force=True) for each in inputs]
    if out is None and memory_format is torch.contiguous_format:
        results = compute(*arrays, None)
        return from_numpy(results) if type(results) is np.ndarray else tuple(map(from_numpy, results))
    if out is None:
        new = [
            torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="cpu", memory_format=memory_format)
            for shape, dtype in specs
        ]
        compute(*arrays, [each.numpy() for each in new])
        return new[0] if len(new) == 1 else tuple(new)
    for each in out:
        _check_out(each)
    compute(*arrays, [each.numpy() for each in out])
    torch.autograd.graph.increment_version(out)  # so that autograd notices if it had saved what was here
    return out[0] if len(out) == 1 else tuple(out)


def _check_out(out: Any) -> None:
    backend.describe("out", out)
    _check_no_gradient("out", out)
    if is_recorded(out):
        raise ValueError(f"out must be a plain tensor on the CPU like x, got {_type_name(out)} on {out.device}")
    if out.is_neg():
        raise ValueError("out must not be a lazily negated view")
    if out.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError("out must not be an inference tensor outside of torch.inference_mode()")
    if any(stride == 0 and length > 1 for length, stride in zip(out.shape, out.stride(), strict=True)):
        raise ValueError("out must not be an expanded tensor, whose elements share memory")


def _check_no_gradient(name: str, tensor: Tensor) -> None:
    if tensor.requires_grad:
        raise ValueError(f"{name} must not require a gradient")


def _check_no_out(out: Sequence[Any] | None) -> None:
    if out is not None:
        raise ValueError(
            "out must not be given where derivatives or transforms are asked for: detach x, or use torch.no_grad()"
        )


class _Derivatives:
    """What autograd asks of a function `(call, x, indices)`."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return None, None, None
        return None, _derivative(ctx, OPERATIONS[ctx.call.name].adjoint, grad), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        tangent = _derivative(ctx, OPERATIONS[ctx.call.name].tangent, tangents[1])
        return (tangent, None) if ctx.has_indices else tangent


def _derivative(ctx: Any, name: str, x: Tensor) -> Any:
    _, plan, parameters, _, memory_format, _ = ctx.call
    saved = ctx.saved_tensors
    return pooled(Call(name, plan, parameters, None, memory_format), x, saved[0] if saved else None)


def _save(ctx: Any, call: Call, indices: Tensor | None, output: Any, shows_indices: bool) -> None:
    """Keep what derivatives need: of maxima their indices, of means nothing."""
    ctx.call, ctx.has_indices = call, False
    if OPERATIONS[call.name].indices == "made":
        indices = output[1]
        if shows_indices:
            ctx.has_indices = True
            ctx.mark_non_differentiable(indices)
            ctx.set_materialize_grads(False)
    if indices is not None:
        ctx.save_for_backward(indices)
        ctx.save_for_forward(indices)


class _Pooling(_Derivatives, torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, indices: Tensor | None) -> Any:
        output = recorded_or_computed(call, x, indices)
        _save(ctx, call, indices, output, call.shows_indices)
        return output if call.shows_indices else output[0]


class _TransformedPooling(_Derivatives, torch.autograd.Function):
    """The same for transforms of `torch.func`; by itself it costs 6 us more."""

    @staticmethod
    def forward(call: Call, x: Tensor, indices: Tensor | None) -> Any:
        return recorded_or_computed(call, x, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        call, _, indices = inputs
        _save(ctx, call, indices, output, True)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], call: Call, x: Tensor, indices: Tensor | None) -> Any:
        """One call for the whole batch: its axis joins the first of the leading ones."""
        size, first = info.batch_size, call.plan.leading[0]
        x, indices = joined(x, in_dims[1], size), joined(indices, in_dims[2], size)
        whole = call._replace(plan=_batched(call.plan, size), memory_format=memory_format_of(x), shows_indices=True)
        results = pooled(whole, x, indices)
        if isinstance(results, tuple):
            return tuple(each.unflatten(0, (size, first)) for each in results), (0,) * len(results)
        return results.unflatten(0, (size, first)), 0


def joined(tensor: Any, axis: int | None, size: int) -> Any:
    """A batched tensor with the axis of the batch joined to the first other one."""
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
    return tensor.flatten(0, 1)


@lru_cache(maxsize=256)
def _batched(plan: WindowPlan, size: int) -> WindowPlan:
    first, *others = plan.leading
    return WindowPlan((size * first, *others), plan.pooled)


def format_of_any(tensors: Sequence[Tensor]) -> torch.memory_format:
    """Channels-last if any of the tensors is."""
    formats = (memory_format_of(each) for each in tensors)
    return next((each for each in formats if each is not torch.contiguous_format), torch.contiguous_format)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The memory format of results: torch's rule (suggest_memory_format), for tensors that could be read either way too."""
    strides = x.stride()
    rank = len(strides)
    if rank not in CHANNELS_LAST or strides[-1] < strides[1]:  # as in most tensors
        return torch.contiguous_format
    shape = x.shape
    least = 0
    for axis in (1, *range(rank - 1, 1, -1), 0):  # from the axis that strides least
        if shape[axis] == 0 or strides[axis] < least or strides[1] == 0 or (axis == 0 and least == strides[1]):
            return torch.contiguous_format
        least = strides[axis] * max(shape[axis], 1)
    return CHANNELS_LAST[rank]


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
