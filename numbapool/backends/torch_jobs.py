"""Steps on tensors, values only: on the CPU by their memory as NumPy arrays, on GPUs by the CUDA target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbapool.arguments import check_same_shape, type_name
from numbapool.backends.cuda import BY_RULE, Runner, check_devices, runner
from numbapool.backends.memory import check_outs
from numbapool.backends.numpy import backend as numpy_backend
from numbapool.backends.torch_cuda import library
from numbapool.backends.torch_tensors import (
    DTYPES,
    TORCH_DTYPES,
    as_array,
    as_tensor,
    describe,
    format_of_any,
    is_on_gpu,
    is_recorded,
    view,
)
from numbapool.dtypes import dtype_name
from numbapool.geometry import Plan, WindowPlan
from numbapool.operations import Step

if TYPE_CHECKING:
    from numbapool.dispatch import Spec

# Indices that nobody but backward sees are saved in half the memory where they fit.
NARROW, WIDE = np.dtype(np.int32), np.dtype(np.int64)
# Windows of up to so many elements have their taps counted in bytes.
MOST_COUNTED = np.iinfo(np.uint8).max


class Call(NamedTuple):
    """A step for tensors of one shape; in one piece, because every argument costs an autograd.Function 1 us."""

    step: Step
    plan: Plan
    parameters: tuple[Any, ...] = ()
    index_dtype: np.dtype[Any] | None = None  # of the indices it makes
    memory_format: torch.memory_format = torch.contiguous_format  # of the results
    shows_indices: bool = True  # or makes them for derivatives only
    checks: bool = False  # on a GPU: waits to know of indices out of range; those that are made here never are


@dataclass(frozen=True)
class Job:
    """A step, with results of some shapes and dtypes."""

    compute: Callable[..., Any]  # on the CPU: a function of NumPy arrays, `(*inputs, out) -> results`
    step: Step
    plan: Plan
    specs: tuple[Spec, ...]
    parameters: tuple[Any, ...]
    checks: bool = False

    @cached_property
    def runner(self) -> Runner:
        """What computes it on GPUs."""
        return runner(library, self.step, self.plan, self.specs, self.parameters, self.checks)


def index_dtype_of(plan: Plan, memory_format: Any) -> np.dtype[Any]:
    """Dtype of the indices that are saved for backward: an unsigned one counts the taps of a window.

    Bytes, where kernels take them as they are: 2x2 windows, 8x64x256x256, forward and backward, take 0.7 of the time of int64.
    """
    if isinstance(plan, WindowPlan) and plan.taps <= MOST_COUNTED and memory_format is torch.contiguous_format:
        return plan.index_dtype
    return NARROW if plan.plane_size <= np.iinfo(NARROW).max else WIDE


def computed(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """Results of a call, values only; indices too, whether it shows them or not."""
    job = (_job if call.plan.serves_once else _remembered_job)(call, DTYPES[x.dtype])
    return run(job, (x,) if indices is None else (x, indices), None, call.memory_format)


def _job(call: Call, dtype: np.dtype[Any]) -> Job:
    """What computes a call for a tensor of a dtype."""
    step, plan = call.step, call.plan
    shape = plan.out_shape if step.result == "output" else plan.shape
    spec = shape, step.result_dtype(dtype)
    if len(step.inputs) > 1 or step.result == "input":
        return backward_job(step, plan, spec, call.checks, *call.parameters)
    specs: tuple[Spec, ...] = (spec,)
    if step.makes_indices and call.index_dtype is not None:
        specs = spec, (shape, call.index_dtype)
    compute = numpy_backend.bind(step, plan, specs, *call.parameters)
    return Job(compute, step, plan, specs, call.parameters)


def backward_job(step: Step, plan: Plan, spec: Spec, checks: bool, *parameters: Any) -> Job:
    """What computes a step of the tensors it takes."""
    return Job(partial(_backward, step, plan, spec, parameters), step, plan, (spec,), parameters, checks)


# Looked up in 0.3 us; to make one, and what it looks up in its turn, took 2.
_remembered_job = lru_cache(maxsize=1024)(_job)
remembered_backward = lru_cache(maxsize=1024)(backward_job)


def _backward(step: Step, plan: Plan, spec: Spec, parameters: tuple[Any, ...], *arguments: Any) -> Any:
    *inputs, out = arguments
    return numpy_backend.run_backward(step, plan, inputs, spec, None if out is None else out[0], *parameters)


def run(
    job: Job,
    inputs: Sequence[Tensor],
    out: Sequence[Any] | None,
    memory_format: torch.memory_format | None = None,
) -> Any:
    """Tensors of the results of a job; in a memory format, or in that of an input."""
    if is_on_gpu(inputs[0]):
        return _run_on_gpu(job, inputs, out, memory_format)
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


def _run_on_gpu(
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
    check_outs(list(map(view, out)))
    job.runner.into(values, out)
    torch.autograd.graph.increment_version(out)  # so that autograd notices if it had saved what was here
    return out[0] if len(out) == 1 else tuple(out)


def _check_out(out: Any, x: Tensor) -> None:
    describe("out", out)
    check_no_gradient("out", out)
    if is_recorded(out):
        raise ValueError(f"out must be a plain tensor like x, on {x.device}, got {type_name(out)} on {out.device}")
    check_devices([("x", x.device), ("out", out.device)])
    if out.is_neg() or out.is_conj():
        raise ValueError("out must not be a lazily negated or conjugated view")
    if out.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError("out must not be an inference tensor outside of torch.inference_mode()")


def check_no_gradient(name: str, tensor: Tensor) -> None:
    """Refuse a tensor that requires a gradient."""
    if tensor.requires_grad:
        raise ValueError(f"{name} must not require a gradient")


def check_no_out(out: Sequence[Any] | None) -> None:
    """Refuse tensors for results that have derivatives."""
    if out is not None:
        raise ValueError(
            "out must not be given where derivatives or transforms are asked for: detach x, or use torch.no_grad()"
        )
