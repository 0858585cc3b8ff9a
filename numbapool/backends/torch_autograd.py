"""Derivatives of every order and transforms of `torch.func`: a step for tensors as a function that torch derives and batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

from numbapool.backends.torch_jobs import Call, Job, computed, index_dtype_of
from numbapool.backends.torch_tensors import is_recorded, joined, memory_format_of, needs_derivatives
from numbapool.geometry import Plan
from numbapool.operations import STEPS, Step

if TYPE_CHECKING:
    from numbapool.dispatch import Spec


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


class _Derivatives:
    """What autograd asks of a function `(call, x, indices)`."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return None, None, None
        return None, _derivative(ctx, STEPS[ctx.call.step.adjoint], grad), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        tangent = _derivative(ctx, STEPS[ctx.call.step.tangent], tangents[1])
        return (tangent, None) if ctx.has_indices else tangent


def _derivative(ctx: Any, step: Step, x: Tensor) -> Any:
    call, saved = ctx.call, ctx.saved_tensors
    return pooled(Call(step, call.plan, call.parameters, None, call.memory_format), x, saved[0] if saved else None)


def _save(ctx: Any, call: Call, indices: Tensor | None, output: Any, shows_indices: bool) -> None:
    """Keep what derivatives need: of maxima their indices, of means nothing."""
    ctx.call, ctx.has_indices = call, False
    if call.step.makes_indices:
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


def _batched(plan: Plan, size: int) -> Plan:
    return plan.batched(size) if plan.serves_once else _remembered_batch(plan, size)


@lru_cache(maxsize=256)
def _remembered_batch(plan: Plan, size: int) -> Plan:
    return plan.batched(size)


def in_parts(job: Job, x: Tensor) -> Any:
    """A nonlinear step of one tensor, in parts that have derivatives."""
    assert job.step.parts is not None
    plan = job.plan
    result = job.step.parts(partial(part, plan), plan.taps, as_planned(x, plan), *job.parameters)
    return as_specified(result, job.specs)


def part(plan: Plan, step: Step, x: Tensor, indices: Tensor | None = None, *parameters: Any) -> Any:
    """A linear step, for those that are made of them."""
    memory_format = memory_format_of(x)
    index_dtype = index_dtype_of(plan, memory_format) if step.makes_indices else None
    return pooled(Call(step, plan, parameters, index_dtype, memory_format), x, indices)


def as_planned(x: Tensor, plan: Plan) -> Tensor:
    """A tensor with the axes of the plan, which may take all axes of a channel as one."""
    return x if x.dim() == len(plan.shape) else x.flatten(2)


def as_specified(results: Any, specs: Sequence[Spec]) -> Any:
    """Results with the axes that the caller sees."""
    if isinstance(results, tuple):
        return tuple(each.reshape(shape) for each, (shape, _) in zip(results, specs, strict=True))
    return results.reshape(specs[0][0])
