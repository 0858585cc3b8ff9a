"""torch tensors, on the CPU and the CUDA target: views of their memory, results in theirs, and derivatives of every order.

A call computes at once if nothing but values is asked for. Else it is a function that autograd and the transforms of
`torch.func` know how to derive and to batch (`torch_autograd`). Tensors that only stand for others (compiling, exporting,
`meta`) go to the operators that `torch_operators` registers. All three do what the table of steps says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch.autograd import forward_ad

from numbapool.arguments import check_same_shape, outs_of
from numbapool.backends.cuda import check_devices
from numbapool.backends.memory import check_outs
from numbapool.backends.numpy import backend as numpy_backend
from numbapool.backends.torch_autograd import as_planned, as_specified, in_parts, part, pooled
from numbapool.backends.torch_jobs import (
    Call,
    Job,
    backward_job,
    check_no_gradient,
    check_no_out,
    index_dtype_of,
    remembered_backward,
    run,
)
from numbapool.backends.torch_tensors import (
    TORCH_DTYPES,
    as_array,
    check_values,
    describe,
    format_of_any,
    has_tangent,
    is_recorded,
    memory_format_of,
    needs_derivatives,
    view,
)
from numbapool.geometry import Plan
from numbapool.operations import STEPS, Step

if TYPE_CHECKING:
    from numbapool.dispatch import Spec
    from numbapool.requests import Pooling


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
        return describe(name, array)

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

    def trace(self, pooling: Pooling, x: Tensor, indices: Any, out: Any) -> Any:
        """A request as calls of operators."""
        return self._recorded("forward", pooling, (x, indices), out)

    def trace_backward(self, pooling: Pooling, grad_output: Tensor, x: Tensor, indices: Any, out: Any) -> Any:
        """The gradient of a request as calls of operators."""
        return self._recorded("backward", pooling, (grad_output, x, indices), out)

    def _recorded(self, direction: str, pooling: Pooling, arrays: tuple[Any, ...], out: Any) -> Any:
        from numbapool.backends import torch_operators  # here, because it registers them

        if forward_ad._current_level >= 0 and torch.compiler.is_compiling():
            raise NotImplementedError(f"numbapool.{pooling.name} has no forward-mode derivatives inside compiled code")
        if out is not None:
            self.check_outs(out if isinstance(out, (tuple, list)) else (out,))
        results = getattr(torch_operators, direction)(pooling, *arrays)
        if out is None:
            return results
        targets = outs_of(out, isinstance(results, tuple))
        for target, result in zip(targets, results if isinstance(results, tuple) else (results,), strict=True):
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
            check_no_out(outs)
        if (
            not torch.compiler.is_compiling()
        ):  # which shows no storages, and refuses what it finds in two arguments itself
            check_outs(list(map(view, outs)))

    def write(self, out: Any, result: Tensor) -> None:
        """Copy a result to where the caller wants it."""
        self.describe("out", out)
        check_same_shape("out", tuple(out.shape), tuple(result.shape), "the shape of the result,")
        if out.dtype != result.dtype:
            raise TypeError(f"out must have the dtype of the result, {result.dtype}, got {out.dtype}")
        check_no_gradient("out", out)
        if result.requires_grad:
            check_no_out([out])
        check_devices([("result", result.device), ("out", out.device)])
        out.copy_(result)

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step of one tensor as a function `(x, out) -> results`."""
        compute = numpy_backend.bind(step, plan, specs, *parameters)
        job = Job(compute, step, plan, tuple(specs), parameters)
        derived = STEPS[step.derived or step.name]
        index_dtype = specs[1][1] if step.makes_indices else None

        @cache
        def derivable(memory_format: torch.memory_format) -> Call:
            kept = index_dtype or index_dtype_of(plan, memory_format)
            return Call(derived, plan, parameters, kept, memory_format, step is derived)

        def call(x: Tensor, out: Sequence[Any] | None) -> Any:
            if not needs_derivatives(x):
                return run(job, (x,), out)
            check_no_out(out)
            if step.parts is not None:
                return in_parts(job, x)
            flat = as_planned(x, plan)
            results = pooled(derivable(memory_format_of(flat)), flat, None)
            return results if flat is x else as_specified(results, specs)

        return call

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a step of the tensors it takes; the result in a new tensor, or in `out`."""
        if step.renumbers and torch._C._are_functorch_transforms_active():
            raise NotImplementedError("index_kind='global' cannot be had under transforms of torch.func")
        if inputs[-1].device != inputs[0].device:
            check_devices((name, each.device) for name, each in zip(step.inputs, inputs))
        given = None if out is None else (out,)
        shape, _ = spec
        tensors = inputs
        if not needs_derivatives(tensors[0]):  # in the others it is constant
            make = backward_job if plan.serves_once else remembered_backward
            return run(make(step, plan, spec, self.checks, *parameters), tensors, given)
        check_no_out(given)
        memory_format = format_of_any(tensors)
        if len(shape) != len(plan.shape):  # all axes of a channel as one
            tensors, memory_format = [each.flatten(2) for each in tensors], torch.contiguous_format
        grad, other = tensors if len(tensors) == 2 else (tensors[0], None)
        if step.parts is not None:
            return step.parts(partial(part, plan), plan.taps, grad, other, *parameters).reshape(shape)
        if step.chosen_by:
            assert other is not None
            made = STEPS[step.chosen_by]
            call = Call(made, plan, (), index_dtype_of(plan, memory_format), memory_format)
            _, other = pooled(call, other.detach(), None)
            step = STEPS[made.adjoint]
        call = Call(step, plan, parameters, None, memory_format, checks=self.checks)
        result: Tensor = pooled(call, grad, other)
        return result.reshape(shape)


backend = TorchBackend(checks=True)
unchecked_backend = TorchBackend(checks=False)
