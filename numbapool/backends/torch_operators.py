"""Steps as operators of torch, `torch.ops.numbapool.*`, for all that records calls and runs them later.

`torch.compile`, `torch.export`, fake and meta tensors, dispatch modes and tensor subclasses see these operators, their shapes
(by the library's own geometry, on symbols too) and their derivatives. `forward` and `backward` write requests in their terms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbapool.arguments import (
    adaptive_sizes,
    as_flag,
    as_index_kind,
    check_same_shape,
    check_whole,
    window_arguments,
)
from numbapool.backends.torch_jobs import NARROW, WIDE, Call, computed
from numbapool.backends.torch_tensors import DTYPES, TORCH_DTYPES, as_array, check_values, format_of_any, joined
from numbapool.dtypes import FLOATS, SINGLE_AND_DOUBLE, UNSIGNED, check_dtype, smallest_unsigned
from numbapool.geometry import (
    BinPlan,
    Plan,
    adaptive_lengths,
    adaptive_plan,
    check_size,
    fractional_plan,
    padding_for,
    placed_plan,
    pooled_axes,
    samples_shape,
    unpool_lengths,
    window_plan,
)
from numbapool.operations import OPERATIONS, PLACE, SCATTER_ADD, STEPS, Step
from numbapool.requests import WORDS, Adaptive, Fractional, Pooling, Sliding, Unpooled, Whole
from numbapool.windows import overhangs

FLOATING = tuple(TORCH_DTYPES[dtype] for dtype in FLOATS)
# Of indices that count the taps of a window.
COUNTING = tuple(TORCH_DTYPES[dtype] for dtype in UNSIGNED)
# Of samples of fractional pooling that are drawn.
DRAWN = tuple(TORCH_DTYPES[dtype] for dtype in SINGLE_AND_DOUBLE)

NO_TAPS = "unpooling by index_kind='window' cannot be recorded, for torch.compile or others: take 'plane'"

library = torch.library.Library("numbapool", "DEF")


class Arguments(NamedTuple):
    """The arguments of an operator."""

    x: Tensor
    indices: Tensor | None
    shape: tuple[int, ...]  # of the input of the forward pass
    windows: tuple[Any, ...]  # where they lie, see `Windows`
    parameters: tuple[Any, ...] = ()
    index_kind: str = "plane"  # of the indices it makes: "plane", "narrow" (the same in int32) or "window"
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
    "unpooled": Windows(
        ", int rank", 1, lambda arguments: int(arguments.windows[0]), _placed_plan, _placed_out_shape, lambda _: 0
    ),
}


def schema_of(step: Step, word: str) -> str:
    """How torch declares a step of windows that lie as a word says."""
    indices = ", Tensor indices" if step.takes_indices else ""
    shape = ", SymInt[] shape" if step.result == "input" else ""
    options = "".join(f", {each.schema} {each.name}" for each in step.options)
    kind = ", str index_kind" if step.makes_indices else ""
    checks = ", bool check_indices" if step is PLACE else ""
    results = "(Tensor, Tensor)" if step.makes_indices else "Tensor"
    return f"(Tensor x{indices}{shape}{WINDOWS[word].schema}{options}{kind}{checks}) -> {results}"


def arguments_of(step: Step, word: str, values: Sequence[Any]) -> Arguments:
    """The arguments of an operator, from their values in the order of its schema."""
    x, *rest = values
    indices = rest.pop(0) if step.takes_indices else None
    shape = rest.pop(0) if step.result == "input" else x.shape
    index_kind = rest.pop() if step.makes_indices else "plane"
    checks = rest.pop() if step is PLACE else False
    size = WINDOWS[word].size
    return Arguments(x, indices, tuple(shape), tuple(rest[:size]), tuple(rest[size:]), index_kind, checks)


def values_of(step: Step, arguments: Arguments) -> list[Any]:
    """The other way round."""
    shape = [list(arguments.shape)] if step.result == "input" else []
    kind = [arguments.index_kind] if step.makes_indices else []
    checks = [arguments.checks] if step is PLACE else []
    return [*arguments.tensors, *shape, *arguments.windows, *arguments.parameters, *kind, *checks]


def tags_of(step: Step, word: str) -> tuple[torch.Tag, ...]:
    """What compilers must know: operators that wait for values of a GPU cannot be captured in graphs."""
    waits = step is PLACE or word == "fractional"
    unsafe = getattr(torch.Tag, "cudagraph_unsafe", None)  # which torch 2.6 does not have
    return (torch.Tag.pt2_compliant_tag, *([unsafe] if waits and unsafe is not None else []))


def operator_of(step: Step, word: str) -> str:
    """The name of the operator that is a step of windows that lie as a word says."""
    if word == "unpooled":
        return {"place": "max_unpool", "scatter_add": "max_unpool_scatter"}.get(step.name, "max_unpool_gather")
    prefix = "" if word == "sliding" else f"{word}_"
    return prefix + {"gather": "max_pool_gather", "scatter_add": "max_pool_scatter"}.get(step.name, step.name)


def register(name: str, step: Step, word: str) -> None:
    """Declare a step of windows that lie as a word says as an operator."""
    windows = WINDOWS[word]

    def check(arguments: Arguments, out_shape: tuple[int, ...]) -> None:
        if word == "fractional":
            check_values(x=arguments.x, samples=arguments.windows[-1])
        if len({tensor.device for tensor in arguments.tensors}) > 1:
            devices = " and ".join(str(tensor.device) for tensor in arguments.tensors)
            raise ValueError(f"x and indices must be on the same device, got {devices}")
        check_dtype("x", DTYPES.get(arguments.x.dtype, arguments.x.dtype), step.accepts)
        shrinks = step.result == "output"
        first = step.inputs[0]
        check_same_shape(first, tuple(arguments.x.shape), arguments.shape if shrinks else out_shape, "shape")
        if arguments.indices is not None:
            check_same_shape("indices", tuple(arguments.indices.shape), out_shape, "the shape of the output,")
            dtype = arguments.indices.dtype
            accepted = [torch.int32, torch.int64]
            if dtype not in accepted and word != "unpooled":  # asked late: it makes symbols of bins constants
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
        arguments = arguments_of(step, word, values)
        plan = windows.plan(arguments)
        check(arguments, plan.out_shape)
        index_dtype = index_dtype_of(arguments)
        memory_format = format_of_any(arguments.tensors)
        call = Call(step, plan, arguments.parameters, index_dtype, memory_format, checks=arguments.checks)
        return computed(call, arguments.x, arguments.indices)

    def infer(*values: Any) -> Any:
        arguments = arguments_of(step, word, values)
        out_shape = windows.out_shape(arguments)
        check(arguments, out_shape)
        shape = out_shape if step.result == "output" else arguments.shape
        options: dict[str, Any] = {
            "device": arguments.x.device,
            "memory_format": format_of_any(arguments.tensors),
        }
        dtype = TORCH_DTYPES[step.result_dtype(DTYPES[arguments.x.dtype])]
        result = torch.empty(shape, dtype=dtype, **options)
        if not step.makes_indices:
            return result
        return result, torch.empty(shape, dtype=TORCH_DTYPES[index_dtype_of(arguments)], **options)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        arguments = arguments_of(step, word, inputs)
        ctx.count, ctx.arguments = len(inputs), arguments._replace(x=None, indices=None)
        if step.derived:
            ctx.save_for_backward(arguments.x)
        elif step.makes_indices or step.takes_indices:
            ctx.save_for_backward(output[1] if step.makes_indices else arguments.indices)
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * ctx.count
        indices, linear = (*ctx.saved_tensors, None)[0], step
        if step.derived:  # chosen again
            linear = STEPS[step.derived]
            _, indices = _call(linear, word, ctx.arguments._replace(x=indices.detach()))
        result = _call(STEPS[linear.adjoint], word, ctx.arguments._replace(x=grad, indices=indices))
        return result, *(None,) * (ctx.count - 1)

    def batched(info: Any, in_dims: tuple[Any, ...], *values: Any) -> Any:
        arguments = arguments_of(step, word, values)
        x = joined(arguments.x, in_dims[0], info.batch_size)
        indices = joined(arguments.indices, in_dims[1], info.batch_size)
        first = arguments.shape[0] if step.result == "input" else x.shape[0] // info.batch_size
        shape = (info.batch_size * first, *(arguments.shape if step.result == "input" else x.shape)[1:])
        results = _call(step, word, arguments._replace(x=x, indices=indices, shape=shape))
        if isinstance(results, tuple):
            return tuple(each.unflatten(0, (info.batch_size, first)) for each in results), (0,) * len(results)
        return results.unflatten(0, (info.batch_size, first)), 0

    qualified = f"numbapool::{name}"
    library.define(f"{name}{schema_of(step, word)}", tags=tags_of(step, word))
    for target in ("CPU", "CUDA"):
        library.impl(name, compute, target)
    torch.library.register_fake(qualified, infer, lib=library)
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    torch.library.register_vmap(qualified, batched, lib=library)


def recorded(call: Call, x: Tensor, indices: Tensor | None) -> Any:
    """`torch_jobs.computed` as a call of the operator."""
    step, plan = call.step, call.plan
    index_kind = "plane"
    if call.index_dtype is not None and call.index_dtype != WIDE:
        index_kind = "narrow" if call.index_dtype == NARROW else "window"
    if step.needs_places and not isinstance(plan, BinPlan):
        raise NotImplementedError(NO_TAPS)
    arguments = Arguments(x, indices, plan.shape, (), call.parameters, index_kind, call.checks)
    if isinstance(plan, BinPlan):
        if plan.serves_once and not step.takes_indices:
            raise NotImplementedError(
                "fractional pooling cannot be transformed while it is recorded: do one without the other"
            )
        if step.needs_places or plan.serves_once:  # derivatives do not ask where windows lie
            return _call(step, "unpooled", arguments._replace(windows=(len(plan.pooled),)))
        return _call(step, "adaptive", arguments._replace(windows=([axis.out for axis in plan.pooled],)))
    axes = plan.pooled
    padding = [side for axis in axes for side in (axis.before, axis.after)]
    kernel, stride, dilation = ([getattr(axis, field) for axis in axes] for field in ("kernel", "stride", "dilation"))
    window = kernel, stride, padding, dilation, any(map(overhangs, axes))
    return _call(step, "sliding", arguments._replace(windows=window))


def _call(step: Step, word: str, arguments: Arguments) -> Any:
    return getattr(torch.ops.numbapool, operator_of(step, word))(*values_of(step, arguments))


def _operators() -> Iterator[tuple[str, Step, str]]:
    """Every operator: the linear steps of each operation and their derivatives, for each way that its windows may lie."""
    seen = set()
    for operation in OPERATIONS.values():
        steps = [] if operation.forward.parts else [operation.forward]
        for step in steps:
            for other in (step.derived, step.tangent, step.adjoint):
                if other and STEPS[other] not in steps:
                    steps.append(STEPS[other])
        for word in operation.windows:
            for step in steps:
                name = operator_of(step, word)
                if word in WINDOWS and name not in seen:
                    seen.add(name)
                    yield name, step, word


OPERATORS = {name: (step, word) for name, step, word in _operators()}
for _name, (_step, _word) in OPERATORS.items():
    register(_name, _step, _word)


def forward(pooling: Pooling, x: Tensor, indices: Tensor | None) -> Any:
    """A request; of unpooling `indices` say where elements go."""
    windows, step = pooling.windows, pooling.operation.forward
    word, _ = WORDS[type(windows)]
    if isinstance(windows, Unpooled):
        return _unpooled(pooling, x, indices)
    if isinstance(windows, Whole):
        flat = _flat(x)
        results = forward(pooling._replace(windows=_one_window(pooling, flat)), flat, None)
        return tuple(_of_channels(x, each) for each in results) if pooling.return_indices else _of_channels(x, results)
    parameters = pooling.parameters
    if step.parts is not None:
        _check_tensor("x", x, _torchs(step.accepts))
        arguments = Arguments(x, None, _lengths(x), _sliding(x, windows))
        return step.parts(_part(arguments), prod(arguments.windows[0]), x, *parameters)
    arguments = Arguments(x, None, tuple(x.shape), _lying(x, windows), parameters)
    with_indices = pooling.operation.with_indices
    if with_indices is None:
        return _call(step, word, arguments)
    if as_flag("return_indices", pooling.return_indices):
        kind = "window" if as_index_kind(pooling.index_kind) == "window" else "plane"
        return _call(with_indices, word, arguments._replace(index_kind=kind))
    as_index_kind(pooling.index_kind)
    # What torch.jit.trace records must not depend on the mode: it records again, without gradients, and compares.
    if x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing():
        kind = _saved_kind(windows.rank, _lengths(x))
        return _call(with_indices, word, arguments._replace(index_kind=kind))[0]
    return _call(step, word, arguments)


def backward(pooling: Pooling, grad_output: Tensor, x: Tensor, indices: Tensor | None) -> Any:
    """The gradient of a request."""
    windows, operation = pooling.windows, pooling.operation
    word, _ = WORDS[type(windows)]
    step, index_kind = operation.backward, as_index_kind(pooling.index_kind)
    _check_gradient(x, grad_output, _torchs(step.accepts))
    if isinstance(windows, Unpooled):
        return _unpooled_backward(pooling, grad_output, x, indices)
    if isinstance(windows, Whole):
        flat, grad = _flat(x), _flat_gradient(x, grad_output)
        if indices is not None:
            _check_indices(indices, index_kind)
            check_same_shape("indices", _lengths(indices), _lengths(grad_output), "the shape of grad_output,")
            indices = indices.flatten(2)
        whole = pooling._replace(windows=_one_window(pooling, flat))
        return backward(whole, grad, flat, indices).reshape(x.shape)
    parameters = pooling.gradient_parameters
    if step.parts is not None:
        arguments = Arguments(x, None, tuple(_kept_lengths(x)), _sliding(x, windows))
        out_shape = WINDOWS["sliding"].out_shape(arguments)
        check_same_shape("grad_output", _lengths(grad_output), out_shape, "the shape of the output,")
        return step.parts(_part(arguments), prod(arguments.windows[0]), grad_output, x, *parameters)
    if isinstance(windows, Fractional) and windows.samples is None:  # any will do, because there are indices
        samples = torch.zeros(samples_shape(tuple(x.shape), windows.rank), device=x.device)
        windows = windows._replace(samples=samples)
    lying = _lying(x, windows)
    if operation.with_indices is not None:
        if indices is not None:
            _check_indices(indices, index_kind)
        else:
            kind = _saved_kind(windows.rank, _lengths(x))
            found = Arguments(x.detach(), None, tuple(x.shape), lying, (), kind)
            _, indices = _call(operation.with_indices, word, found)
        step, parameters = SCATTER_ADD, ()
    return _call(step, word, Arguments(grad_output, indices, tuple(_kept_lengths(x)), lying, parameters))


def _part(arguments: Arguments) -> Callable[..., Any]:
    """Operators of the same windows, for steps that are made of them."""
    index_kind = _saved_kind(len(arguments.windows[0]), arguments.shape)

    def pool(step: Step, tensor: Tensor, indices: Tensor | None = None, *parameters: Any) -> Any:
        shape, windows = arguments.shape, arguments.windows
        return _call(step, "sliding", Arguments(tensor, indices, shape, windows, parameters, index_kind))

    return pool


def _unpooled(pooling: Pooling, x: Tensor, indices: Any) -> Any:
    rank = pooling.windows.rank
    sizes = _unpooled_lengths(pooling, x)
    _check_indices(indices, "plane")
    lengths = _lengths(x)
    check_same_shape("indices", _lengths(indices), lengths, "the shape of x,")
    shape = (*lengths[:-rank], *sizes)
    checks = as_flag("check_indices", pooling.check_indices)
    return _call(PLACE, "unpooled", Arguments(x, indices, shape, (rank,), checks=checks))


def _unpooled_backward(pooling: Pooling, grad_output: Tensor, x: Tensor, indices: Any) -> Any:
    rank = pooling.windows.rank
    sizes = _unpooled_lengths(pooling, x)
    _check_indices(indices, "plane")
    expected = *_lengths(x)[:-rank], *sizes
    check_same_shape("grad_output", _lengths(grad_output), expected, "the shape of the output,")
    return _call(STEPS[PLACE.adjoint], "unpooled", Arguments(grad_output, indices, expected, (rank,)))


def _unpooled_lengths(pooling: Pooling, x: Tensor) -> tuple[int, ...]:
    """Lengths of the unpooled axes."""
    windows = pooling.windows
    if as_index_kind(pooling.index_kind) == "window":
        raise NotImplementedError(NO_TAPS)
    sizes = unpool_lengths(tuple(_kept_lengths(x)), *windows)
    _check_size(x, sizes, **dict(zip(windows._fields[1:], windows[1:], strict=True)))
    return sizes


def _one_window(pooling: Pooling, flat: Tensor) -> Sliding | Adaptive:
    """All axes of a channel, joined to one, as one window."""
    if pooling.operation.forward.parts is None:
        return Adaptive(1, 1)
    return Sliding(1, _kept_lengths(flat)[2], None, 0, 1, False)


def _flat(x: Tensor) -> Tensor:
    """All axes of a channel as one."""
    check_whole(_lengths(x))
    return x.flatten(2)


def _flat_gradient(x: Tensor, grad_output: Tensor) -> Tensor:
    """The gradient of a global pooling, of one element a channel."""
    lengths = _lengths(x)
    expected = *lengths[:2], *(1,) * (len(lengths) - 2)
    check_same_shape("grad_output", _lengths(grad_output), expected, "the shape of the output,")
    return grad_output.flatten(2)


def _of_channels(x: Tensor, pooled: Tensor) -> Tensor:
    return pooled.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))


def _torchs(dtypes: dict[np.dtype[Any], None]) -> tuple[torch.dtype, ...]:
    return tuple([TORCH_DTYPES[each] for each in dtypes])


def _check_tensor(name: str, tensor: Any, accepted: tuple[torch.dtype, ...]) -> None:
    """`geometry.check_dtype` in terms that torch.compile can follow."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch tensor like the other arguments, got {type(tensor).__name__}")
    if tensor.dtype not in accepted:
        raise TypeError(f"{name} has dtype {tensor.dtype}; accepted here: {', '.join(map(str, accepted))}")


def _check_indices(indices: Any, index_kind: str) -> None:
    _check_tensor("indices", indices, COUNTING if index_kind == "window" else (torch.int64,))


def _check_size(x: Tensor, lengths: Sequence[int], **causes: Any) -> None:
    """Refuse results that no memory holds, where lengths are no symbols."""
    given = _lengths(x)
    shape = (*given[: -len(lengths)], *lengths)
    if not torch.compiler.is_compiling() and all(type(length) is int for length in shape):
        check_size(shape, given, **causes)


def _check_gradient(x: Tensor, grad_output: Tensor, accepted: tuple[torch.dtype, ...]) -> None:
    _check_tensor("x", x, accepted)
    _check_tensor("grad_output", grad_output, accepted)
    if grad_output.dtype != x.dtype:
        raise TypeError(f"grad_output must have the dtype of x, {x.dtype}, got {grad_output.dtype}")
    if grad_output.device != x.device:
        raise ValueError(f"grad_output must be on the device of x, {x.device}, got {grad_output.device}")


def _lying(x: Tensor, windows: Sliding | Adaptive | Fractional) -> tuple[Any, ...]:
    """Where windows lie, as operators take it."""
    if isinstance(windows, Sliding):
        return _sliding(x, windows)
    if isinstance(windows, Fractional):
        return _fractional(x, windows)
    sizes = adaptive_sizes(*windows)
    lengths = adaptive_lengths(tuple(_kept_lengths(x)) if None in sizes else _lengths(x), sizes)
    _check_size(x, lengths, output_size=windows.output_size)
    return (list(lengths),)


def _sliding(x: Tensor, windows: Sliding) -> tuple[Any, ...]:
    rank = windows.rank
    kernel, stride, padding, dilation, ceil_mode = window = window_arguments(*windows)
    shape = tuple(_kept_lengths(x)) if isinstance(padding, str) and padding != "valid" else _lengths(x)
    axes = pooled_axes(shape, *window, least=torch.sym_min, greatest=torch.sym_max)
    causes = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    _check_size(x, [axis.out for axis in axes], **causes)
    pairs = padding_for(padding, shape[-rank:], kernel, stride, dilation, torch.sym_max)
    return list(kernel), list(stride), [side for pair in pairs for side in pair], list(dilation), ceil_mode


def _fractional(x: Tensor, windows: Fractional) -> tuple[Any, ...]:
    kernel, sizes = windows.lengths(tuple(x.shape))
    expected = samples_shape(_lengths(x), windows.rank)
    samples = windows.samples
    if windows.generator is not None:
        samples = torch.from_numpy(windows.generator.random(expected))
    elif samples is None:
        dtype = x.dtype if x.dtype in DRAWN else torch.float64
        samples = torch.rand(samples_shape(tuple(x.shape), windows.rank), dtype=dtype, device=x.device)
    _check_tensor("_random_samples", samples, FLOATING)
    check_same_shape("_random_samples", _lengths(samples), expected, "the shape (N, C, pooled axes)")
    if x.device.type == "meta":  # where samples of a generator are not
        samples = samples.to(x.device)
    return list(kernel), list(sizes), samples.detach()


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
