"""torch tensors, on the CPU and the CUDA target: views of their memory, results in theirs, and derivatives of every order.

A call computes at once if nothing but values is asked for. Else it is a `_Pooling`, which autograd and the transforms of
`torch.func` know how to derive and to batch. Tensors that only stand for others (compiling, exporting, `meta`) go to the
operators that `torch_operators` registers. All three do what the table `OPERATIONS` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, partial
from math import inf, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from numbapool.backends.cuda import BY_RULE, Runner, check_devices, names_of, runner
from numbapool.backends.memory import View, check_outs
from numbapool.backends.numpy import RENUMBERING
from numbapool.backends.numpy import backend as numpy_backend
from numbapool.geometry import (
    AVERAGED,
    FLOATS,
    INEXACT,
    ORDERED,
    SUMMED,
    Plan,
    WindowPlan,
    check_same_shape,
    dtype_name,
    sum_dtype,
)
from numbapool.kernels.elements import BFLOAT16

if TYPE_CHECKING:
    from numbapool.dispatch import Spec

DTYPES: dict[Any, np.dtype[Any]] = {
    torch.float16: np.dtype("float16"),
    torch.bfloat16: BFLOAT16,
    torch.float32: np.dtype("float32"),
    torch.float64: np.dtype("float64"),
    torch.complex64: np.dtype("complex64"),
    torch.complex128: np.dtype("complex128"),
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
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# Indices that nobody but backward sees are saved in half the memory where they fit.
NARROW, WIDE = np.dtype(np.int32), np.dtype(np.int64)
# Windows of up to so many elements have their taps counted in bytes.
MOST_COUNTED = np.iinfo(np.uint8).max
# torch says "cuda" for AMD's devices too, where it is built for them.
IS_ROCM = torch.version.hip is not None


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
    forward: str = ""  # name of the target's forward operation
    target: str = ""  # or of its backward operation
    windows: str = "sliding"  # where they lie, see `torch_operators.WINDOWS`
    parameters: str = ""  # beyond the windows, as torch declares them
    fixed: tuple[Any, ...] = ()  # parameters of the target, before those, that no caller chooses
    dtypes: Any = field(default_factory=lambda: FLOATS)  # of the first tensor
    dtype_of: Callable[[np.dtype[Any]], np.dtype[Any]] = field(default=lambda dtype: dtype)  # of the result


def extrema(name: str, forward: str, windows: str) -> dict[str, Operation]:
    """The rows of maxima or minima, without and with indices, and of their derivatives."""
    made, gather, scatter = f"{name}_with_indices", f"{name}_gather", f"{name}_scatter"
    with_indices = f"{forward}_with_indices"
    return {
        name: Operation("output", derived=made, forward=forward, windows=windows, dtypes=ORDERED),
        made: Operation("output", gather, scatter, "", "made", with_indices, windows=windows, dtypes=ORDERED),
        gather: Operation("output", gather, scatter, "", "given", target="gather", windows=windows),
        scatter: Operation("input", scatter, gather, "", "given", target="scatter_add", windows=windows),
    }


def sums(name: str, forward: str, dtypes: Any, **options: Any) -> dict[str, Operation]:
    """The rows of means or sums, and of their gradient."""
    back = f"{name}_backward"
    return {
        name: Operation("output", tangent=name, adjoint=back, forward=forward, dtypes=dtypes, **options),
        back: Operation("input", tangent=back, adjoint=name, target=f"{forward}_backward", dtypes=INEXACT, **options),
    }


def unpooling(name: str) -> dict[str, Operation]:
    """The rows of unpooling, and of its derivatives: of several elements with one index, all take part in them."""
    gather, scatter = f"{name}_gather", f"{name}_scatter"
    return {
        name: Operation("input", name, gather, "", "given", target="place", windows="placed", dtypes=ORDERED),
        gather: Operation("output", gather, scatter, "", "given", target="gather_all", windows="placed"),
        scatter: Operation("input", scatter, gather, "", "given", target="scatter_add", windows="placed"),
    }


OPERATIONS = {
    **extrema("max_pool", "max_pool", "sliding"),
    **extrema("min_pool", "min_pool", "sliding"),
    **extrema("adaptive_max_pool", "max_pool", "adaptive"),
    **extrema("fractional_max_pool", "max_pool", "fractional"),
    **sums(
        "avg_pool", "avg_pool", AVERAGED, parameters=", bool count_include_pad, int? divisor_override, bool is_rounded"
    ),
    **sums(
        "adaptive_avg_pool",
        "avg_pool",
        AVERAGED,
        windows="adaptive",
        parameters=", bool is_rounded",
        fixed=(True, None),
    ),
    **sums("sum_pool", "sum_pool", SUMMED, dtype_of=sum_dtype),
    **unpooling("max_unpool"),
}
# Rows by the names of the target's operations; where several have the same, what they compute is the same.
ROWS = {operation.forward or operation.target: name for name, operation in reversed(OPERATIONS.items())}


class Call(NamedTuple):
    """A row of `OPERATIONS` for tensors of one shape; in one piece, because every argument costs an autograd.Function 1 us."""

    name: str
    plan: Plan
    parameters: tuple[Any, ...] = ()
    index_dtype: np.dtype[Any] | None = None  # of the indices it makes
    memory_format: torch.memory_format = torch.contiguous_format  # of the results
    shows_indices: bool = True  # or makes them for derivatives only
    checks: bool = False  # on a GPU: waits to know of indices out of range; those that are made here never are


@dataclass(frozen=True)
class Job:
    """An operation of a target, with results of some shapes and dtypes."""

    compute: Callable[..., Any]  # on the CPU: a function of NumPy arrays, `(*inputs, out) -> results`
    operation: str
    plan: Plan
    specs: tuple[Spec, ...]
    parameters: tuple[Any, ...]
    checks: bool = False

    @cached_property
    def runner(self) -> Runner:
        """What computes it on GPUs."""
        from numbapool.backends import torch_cuda  # here, because it imports this module

        return runner(torch_cuda.library, self.operation, self.plan, self.specs, self.parameters, self.checks)


class TorchBackend:
    """Tensors on the CPU and on CUDA devices, of any strides, with or without gradient."""

    def __init__(self, checks: bool) -> None:
        self.checks = checks

    @property
    def unchecked(self) -> TorchBackend:
        """The same, but that indices out of range are skipped on a GPU."""
        return unchecked_backend

    def describe(self, name: str, array: Any) -> Spec:
        """Shape, and dtype as NumPy's, of the argument called `name`."""
        if not isinstance(array, Tensor):
            raise TypeError(f"{name} must be a torch tensor like the other arguments, got {_type_name(array)}")
        dtype = DTYPES.get(array.dtype)
        is_placed = array.is_cpu or is_on_gpu(array)
        if dtype is None or not is_placed or array.layout is not torch.strided or array.is_nested:
            dtype = _unusual_dtype(name, array)
        return tuple(array.shape), dtype

    def is_traced(self, x: Any, **others: Any) -> bool:
        """Whether any only stands for other tensors, or somebody records what is done with it.

        Not under transforms of `torch.func` or with tangents, of which operators know nothing: for them `recorded_or_computed`
        asks again.
        """
        if torch.compiler.is_compiling():
            check_values(x=x, **others)
            return True
        for each in (x, *others.values()):  # any(map(...)) takes 0.2 us more
            if is_recorded(each):
                check_values(x=x, **others)
                arrays = (x, *others.values())
                return not (torch._C._are_functorch_transforms_active() or any(map(has_tangent, arrays)))
        return False

    def trace(self, function: str, rank: int, out: Any, x: Tensor, *arguments: Any) -> Any:
        """The public `function` as calls of operators."""
        from numbapool.backends import torch_operators  # here, because it registers them

        if forward_ad._current_level >= 0 and torch.compiler.is_compiling():
            raise NotImplementedError(
                f"numbapool.{function}{rank}d has no forward-mode derivatives inside compiled code"
            )
        if out is not None:
            self.check_outs(out if isinstance(out, (tuple, list)) else (out,))
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
            self.write(target, result)
        return out

    def to_numpy(self, array: Tensor) -> np.ndarray:
        """The values of a tensor, below what transforms have wrapped around it."""
        while torch._C._functorch.is_functorch_wrapped_tensor(array):
            if torch._C._functorch.is_batchedtensor(array):
                raise ValueError("_random_samples must be the same for the whole batch of torch.func.vmap")
            array = torch._C._functorch.get_unwrapped(array)
        if array.device.type == "meta":
            raise ValueError("_random_samples must have values, got a tensor on meta")
        with torch._C._DisableFuncTorch():
            return as_array(array)

    def draw(self, shape: tuple[int, ...], dtype: np.dtype[Any], generator: np.random.Generator | None) -> Tensor:
        """Random numbers in [0, 1) by a generator, or by torch's own, as its own functions draw them.

        Always on the CPU, where their windows are computed: else that would wait for a GPU.
        """
        if generator is not None:
            return from_numpy(generator.random(shape, dtype.type))
        return torch.rand(shape, dtype=TORCH_DTYPES[dtype], device="cpu")

    def strides(self, name: str, array: Tensor) -> tuple[int, ...]:
        """In elements."""
        return tuple(array.stride())

    # These three are torch's own operations, so that whoever records or derives sees them.

    def permute(self, name: str, array: Tensor, axes: tuple[int, ...]) -> Tensor:
        """A view with its axes in another order."""
        return array.permute(axes)

    def reshape(self, name: str, array: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A view of another shape, or a copy."""
        return array.reshape(shape)

    def cast(self, array: Tensor, like: Any) -> Tensor:
        """In the dtype of another, or in float32."""
        return array.to(torch.float32 if like is None else like.dtype)

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Raise if tensors cannot take results, or only over each other."""
        for each in outs:
            self.describe("out", each)
        if torch._C._are_functorch_transforms_active():
            _check_no_out(outs)
        if (
            not torch.compiler.is_compiling()
        ):  # which shows no storages, and refuses what it finds in two arguments itself
            check_outs(list(map(_view, outs)))

    def write(self, out: Any, result: Tensor) -> None:
        """Copy a result to where the caller wants it."""
        self.describe("out", out)
        check_same_shape("out", tuple(out.shape), tuple(result.shape), "the shape of the result,")
        if out.dtype != result.dtype:
            raise TypeError(f"out must have the dtype of the result, {result.dtype}, got {out.dtype}")
        _check_no_gradient("out", out)
        if result.requires_grad:
            _check_no_out([out])
        check_devices([("result", result.device), ("out", out.device)])
        out.copy_(result)

    def bind(self, operation: str, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A forward operation as a function `(x, out) -> results`."""
        compute = numpy_backend.bind(operation, plan, specs, *parameters)
        job = Job(compute, operation, plan, tuple(specs), parameters)
        if operation == "lp_pool":
            return partial(_norm, job, *parameters)
        row = ROWS[operation]
        derived = OPERATIONS[row].derived or row
        index_dtype = specs[1][1] if len(specs) > 1 else None

        @cache
        def derivable(memory_format: torch.memory_format) -> Call:
            kept = index_dtype or index_dtype_of(plan, memory_format)
            return Call(derived, plan, parameters, kept, memory_format, row == derived)

        def call(x: Tensor, out: Sequence[Any] | None) -> Any:
            if not needs_derivatives(x):
                return _computed(job, (x,), out)
            _check_no_out(out)
            flat = as_planned(x, plan)
            results = pooled(derivable(memory_format_of(flat)), flat, None)
            return results if flat is x else as_specified(results, specs)

        return call

    def run_backward(
        self, operation: str, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a backward operation; the result in a new tensor, or in `out`."""
        if operation in RENUMBERING and torch._C._are_functorch_transforms_active():
            raise NotImplementedError("index_kind='global' cannot be had under transforms of torch.func")
        if inputs[-1].device != inputs[0].device:
            check_devices((name, each.device) for name, each in zip(names_of(operation, inputs), inputs))
        given = None if out is None else (out,)
        shape, _ = spec
        tensors = inputs
        if not needs_derivatives(tensors[0]):  # in the others it is constant
            make = _backward_job if plan.serves_once else _remembered_backward
            job = make(operation, plan, spec, self.checks, *parameters)
            return _computed(job, tensors, given)
        _check_no_out(given)
        memory_format = format_of_any(tensors)
        if len(shape) != len(plan.shape):  # all axes of a channel as one
            tensors, memory_format = [each.flatten(2) for each in tensors], torch.contiguous_format
        grad, other = tensors if len(tensors) == 2 else (tensors[0], None)
        if operation == "lp_pool_backward":
            return norm_gradient(partial(_linear, plan), _taps(plan), grad, tensors[1], *parameters).reshape(shape)
        if operation in ("max_pool_backward", "min_pool_backward"):
            made = operation.replace("backward", "with_indices")
            call = Call(made, plan, (), index_dtype_of(plan, memory_format), memory_format)
            _, other = pooled(call, tensors[1].detach(), None)
            operation = "scatter_add"
        call = Call(ROWS[operation], plan, parameters, None, memory_format, checks=self.checks)
        result: Tensor = pooled(call, grad, other)
        return result.reshape(shape)


backend = TorchBackend(checks=True)
unchecked_backend = TorchBackend(checks=False)


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether it is the CUDA target that computes with a tensor."""
    return tensor.is_cuda and not IS_ROCM


def _unusual_dtype(name: str, array: Tensor) -> np.dtype[Any]:
    """Dtype of a tensor that is not simply in memory of a target, where it is accepted nevertheless."""
    if not (array.is_cpu or array.is_meta or is_on_gpu(array)):
        where = f"{array.device} (ROCm)" if array.is_cuda else f"{array.device}"
        raise TypeError(f"{name} is on device {where}, for which numbapool has no kernels: move it to the CPU")
    if array.layout is not torch.strided or array.is_nested:
        kind = "a nested one" if array.is_nested else f"layout {array.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    if array.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; accepted at most: {', '.join(map(str, DTYPES))}")
    return DTYPES[array.dtype]


def is_recorded(x: Any) -> bool:
    """Whether a tensor has no values of its own in memory, or somebody records what is done with it."""
    kind = type(x)
    if kind is not Tensor and kind is not Parameter:
        return isinstance(x, Tensor)  # a subclass
    return (
        is_in_torch_dispatch_mode()
        or x.is_meta
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_legacy_batchedtensor(x)
    )


def check_values(**arrays: Any) -> None:
    """Raise if some tensors are on "meta", where they have no values, and others are not."""
    devices = [(name, each.device) for name, each in arrays.items() if isinstance(each, Tensor)]
    if len({device.type == "meta" for _, device in devices}) > 1:
        check_devices(devices)


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


def as_planned(x: Tensor, plan: Plan) -> Tensor:
    """A tensor with the axes of the plan, which may take all axes of a channel as one."""
    return x if x.dim() == len(plan.shape) else x.flatten(2)


def as_specified(results: Any, specs: Sequence[Spec]) -> Any:
    """Results with the axes that the caller sees."""
    if isinstance(results, tuple):
        return tuple(each.reshape(shape) for each, (shape, _) in zip(results, specs, strict=True))
    return results.reshape(specs[0][0])


def index_dtype_of(plan: Plan, memory_format: Any) -> np.dtype[Any]:
    """Dtype of the indices that are saved for backward: an unsigned one counts the taps of a window.

    Bytes, where kernels take them as they are: 2x2 windows, 8x64x256x256, forward and backward, take 0.7 of the time of int64.
    """
    if isinstance(plan, WindowPlan) and plan.taps <= MOST_COUNTED and memory_format is torch.contiguous_format:
        return plan.index_dtype
    return NARROW if plan.plane_size <= np.iinfo(NARROW).max else WIDE


def pooled(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call, with their derivatives where they are asked for."""
    if torch._C._are_functorch_transforms_active():
        interpreter = retrieve_current_functorch_interpreter()
        if interpreter.key() == TransformType.Functionalize:
            return _functionalized(interpreter, call, x, indices)
        if interpreter.key() != TransformType.Vmap and is_functionalized():
            raise NotImplementedError(
                "torch.func.functionalize of derivatives cannot be had: take derivatives of what is functionalized, "
                "as in torch.func.grad(torch.func.functionalize(function))"
            )
        results = _TransformedPooling.apply(call, x, indices)
        return results if call.shows_indices else results[0]
    if needs_derivatives(x):
        return _Pooling.apply(call, x, indices)
    results = recorded_or_computed(call, x, indices)
    return results if call.shows_indices else results[0]


def is_functionalized() -> bool:
    """Whether any transform of `torch.func` that is at work is `functionalize`."""
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(each.key() == TransformType.Functionalize for each in stack)


def _functionalized(interpreter: Any, call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results under `torch.func.functionalize`, which has no rule for an autograd.Function: those of the level below it."""
    from torch._subclasses.functional_tensor import FunctorchFunctionalizeAPI

    level = FunctorchFunctionalizeAPI(interpreter)
    with level.redispatch_to_next():
        results = pooled(call, *level.unwrap_tensors((x, indices)))
    return level.wrap_tensors(results)


def recorded_or_computed(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call without their derivatives: by the operator if somebody records it."""
    if is_recorded(x) or is_recorded(indices):
        from numbapool.backends import torch_operators

        return torch_operators.recorded(call, x, indices)
    return computed(call, x, indices)


def computed(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call, values only; indices too, whether it shows them or not."""
    job = (_job if call.plan.serves_once else _remembered_job)(call, DTYPES[x.dtype])
    return _computed(job, (x,) if indices is None else (x, indices), None, call.memory_format)


def _job(call: Call, dtype: np.dtype[Any]) -> Job:
    """What computes a call for a tensor of a dtype."""
    operation, plan = OPERATIONS[call.name], call.plan
    parameters = (*operation.fixed, *call.parameters)
    shape = plan.out_shape if operation.result == "output" else plan.shape
    spec = shape, operation.dtype_of(dtype)
    if operation.target:
        return _backward_job(operation.target, plan, spec, call.checks, *parameters)
    specs: tuple[Spec, ...] = (spec,)
    if call.index_dtype is not None and operation.indices == "made":
        specs = spec, (shape, call.index_dtype)
    compute = numpy_backend.bind(operation.forward, plan, specs, *parameters)
    return Job(compute, operation.forward, plan, specs, parameters)


def _backward_job(operation: str, plan: Plan, spec: Spec, checks: bool, *parameters: Any) -> Job:
    return Job(partial(_backward, operation, plan, spec, parameters), operation, plan, (spec,), parameters, checks)


# Looked up in 0.3 us; to make one, and what it looks up in its turn, took 2.
_remembered_job = lru_cache(maxsize=1024)(_job)
_remembered_backward = lru_cache(maxsize=1024)(_backward_job)


def _backward(operation: str, plan: Plan, spec: Spec, parameters: tuple[Any, ...], *arguments: Any) -> Any:
    *inputs, out = arguments
    return numpy_backend.run_backward(operation, plan, inputs, spec, None if out is None else out[0], *parameters)


def _computed(
    job: Job,
    inputs: Sequence[Tensor],
    out: Sequence[Any] | None,
    memory_format: torch.memory_format | None = None,
) -> Any:
    """Tensors of the results of a job; in a memory format, or in that of an input."""
    if is_on_gpu(inputs[0]):
        return _computed_on_gpu(job, inputs, out, memory_format)
    memory_format = memory_format or format_of_any(inputs)
    compute = job.compute
    arrays = [as_array(each) for each in inputs]
    if out is None and memory_format is torch.contiguous_format:
        results = compute(*arrays, None)
        return as_tensor(results) if type(results) is np.ndarray else tuple(map(as_tensor, results))
    if out is None:
        new = [
            torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="cpu", memory_format=memory_format)
            for shape, dtype in job.specs
        ]
        compute(*arrays, list(map(as_array, new)))
        return new[0] if len(new) == 1 else tuple(new)
    for each in out:
        _check_out(each, inputs[0])
    compute(*arrays, list(map(as_array, out)))
    torch.autograd.graph.increment_version(out)  # so that autograd notices if it had saved what was here
    return out[0] if len(out) == 1 else tuple(out)


def _computed_on_gpu(
    job: Job, inputs: Sequence[Tensor], out: Sequence[Any] | None, memory_format: torch.memory_format | None
) -> Any:
    values = [each.resolve_conj().resolve_neg() if each.is_conj() or each.is_neg() else each for each in inputs]
    if out is None:
        last = BY_RULE if memory_format is None else None if memory_format is torch.contiguous_format else 1
        results: Sequence[Tensor] = job.runner.new(values, last)
        return results[0] if len(results) == 1 else tuple(results)
    for each, (shape, dtype) in zip(out, job.specs, strict=True):
        _check_out(each, inputs[0])
        check_same_shape("out", tuple(each.shape), shape, "the shape of the result,")
        if DTYPES[each.dtype] != dtype:
            raise TypeError(f"out must have the dtype of the result, {dtype_name(dtype)}, got {each.dtype}")
    check_outs(list(map(_view, out)))
    job.runner.into(values, out)
    torch.autograd.graph.increment_version(out)  # so that autograd notices if it had saved what was here
    return out[0] if len(out) == 1 else tuple(out)


def as_array(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor as an array."""
    if tensor.dtype is torch.bfloat16:  # which NumPy does not know
        bits: np.ndarray = tensor.detach().view(torch.int16).numpy(force=True)
        return bits.view(BFLOAT16)
    array: np.ndarray = tensor.numpy(force=True)
    return array


def as_tensor(array: np.ndarray) -> Tensor:
    """An array as a contiguous tensor, of the same memory unless channels are last in it."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "V":
        bits: Tensor = from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return bits
    return from_numpy(array)


def _view(tensor: Tensor) -> View:
    """Where a tensor is; if it may have no values in memory, where in its storage."""
    dtype = DTYPES[tensor.dtype]
    shape, strides = tuple(tensor.shape), tuple([step * dtype.itemsize for step in tensor.stride()])
    if is_recorded(tensor):
        start = tensor.storage_offset() * dtype.itemsize
        return View(start, shape, strides, dtype, tensor.untyped_storage()._cdata)
    return View(tensor.data_ptr(), shape, strides, dtype, tensor.get_device())


def _check_out(out: Any, x: Tensor) -> None:
    backend.describe("out", out)
    _check_no_gradient("out", out)
    if is_recorded(out):
        raise ValueError(f"out must be a plain tensor like x, on {x.device}, got {_type_name(out)} on {out.device}")
    check_devices([("x", x.device), ("out", out.device)])
    if out.is_neg() or out.is_conj():
        raise ValueError("out must not be a lazily negated or conjugated view")
    if out.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError("out must not be an inference tensor outside of torch.inference_mode()")


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
    call, saved = ctx.call, ctx.saved_tensors
    return pooled(Call(name, call.plan, call.parameters, None, call.memory_format), x, saved[0] if saved else None)


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


def _batched(plan: Plan, size: int) -> Plan:
    return plan.batched(size) if plan.serves_once else _remembered_batch(plan, size)


@lru_cache(maxsize=256)
def _remembered_batch(plan: Plan, size: int) -> Plan:
    return plan.batched(size)


def _norm(job: Job, power: float, is_norm: bool, x: Tensor, out: Any) -> Any:
    """Power means and norms: by the kernels, or in parts where derivatives are asked for."""
    if not needs_derivatives(x):
        return _computed(job, (x,), out)
    _check_no_out(out)
    plan = job.plan
    result = norm_in_parts(partial(_linear, plan), _taps(plan), as_planned(x, plan), power, is_norm)
    return as_specified(result, job.specs)


def _linear(plan: Plan, name: str, x: Tensor, indices: Tensor | None = None, *parameters: Any) -> Any:
    memory_format = memory_format_of(x)
    index_dtype = index_dtype_of(plan, memory_format) if OPERATIONS[name].indices == "made" else None
    return pooled(Call(name, plan, parameters, index_dtype, memory_format), x, indices)


def _taps(plan: Plan) -> int:
    return prod(axis.kernel for axis in plan.pooled)


def norm_in_parts(pool: Callable[..., Any], taps: int, x: Tensor, power: float, is_norm: bool) -> Tensor:
    """`lp_pool` in operations of torch and `pool(row, x, indices, *parameters)`, which all have derivatives.

    Half precision in float32, as in the kernels.
    """
    if x.dtype.itemsize < 4:
        return norm_in_parts(pool, taps, x.float(), power, is_norm).to(x.dtype)
    if power == inf:
        largest: Tensor = pool("max_pool_with_indices", x.abs())[0].clamp(min=0)
        return largest
    total = _total(pool, taps, x, power, is_norm)
    is_zero = total == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, total).pow(1 / power))


def norm_gradient(pool: Callable[..., Any], taps: int, grad: Tensor, x: Tensor, power: float, is_norm: bool) -> Tensor:
    """`lp_pool_backward` in the same way."""
    if x.dtype.itemsize < 4:
        return norm_gradient(pool, taps, grad.float(), x.float(), power, is_norm).to(x.dtype)
    if power == inf:
        indices = pool("max_pool_with_indices", x.detach().abs())[1]
        spread: Tensor = pool("max_pool_scatter", grad, indices)
        return spread * x.sign()
    total = _total(pool, taps, x, power, is_norm)
    is_zero = total == 0
    share = torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, total).pow(1 / power - 1)) * grad
    slope = x.sign() * x.abs().pow(power - 1) if is_norm else x.pow(power - 1)
    scale, divisor = (1, 1) if is_norm else (taps, None)
    spread = pool("avg_pool_backward", share * scale, None, True, divisor, False)
    return spread * slope


def _total(pool: Callable[..., Any], taps: int, x: Tensor, power: float, is_norm: bool) -> Tensor:
    powers = (x.abs() if is_norm else x).pow(power)
    scale, divisor = (1, 1) if is_norm else (taps, None)
    total: Tensor = pool("avg_pool", powers, None, True, divisor, False) * scale
    return total


def format_of_any(tensors: Sequence[Tensor]) -> torch.memory_format:
    """Channels-last if any of the tensors is."""
    for each in tensors:  # a generator takes 0.2 us more
        memory_format = memory_format_of(each)
        if memory_format is not torch.contiguous_format:
            return memory_format
    return torch.contiguous_format


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
