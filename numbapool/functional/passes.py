"""Wrapper: more axes than kernels pool at once, in passes over some of them at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

from numbapool.arguments import explained, shown, window_arguments
from numbapool.dispatch import Backend
from numbapool.dtypes import HALVES, INTEGERS, check_dtype, dtype_name, is_among
from numbapool.functional.arrangement import in_order
from numbapool.functional.axes import check_outs, handed_back
from numbapool.geometry import pooled_axes
from numbapool.operations import MEAN, SUM
from numbapool.requests import Onward, Pooling
from numbapool.windows import holds_all_windows, overhangs

# Pooled axes that kernels take at once.
MOST_AXES = 3


def serves(pooling: Pooling, x: Any, indices: Any) -> bool:
    """Whether more axes are pooled than kernels take at once."""
    return pooling.axes is not None and len(pooling.axes) > MOST_AXES


def forward(onward: Onward, backend: Backend, pooling: Pooling, x: Any, out: Any, indices: Any) -> Any:
    """The result of a request."""
    check_outs(backend, out, pooling.return_indices)
    if pooling.return_indices:
        raise ValueError(f"return_indices must be False for more than {MOST_AXES} pooled axes, got axes={pooling.axes}")
    result = _widened(backend, pooling, x)
    for each in _passes(backend, pooling, x):
        result = onward.pooled(each, result)
    given, computed = (backend.describe("x", each)[1] for each in (x, result))
    if computed.str != pooling.operation.forward.result_dtype(given).str:
        result = backend.cast(result, x)
    return handed_back(backend, result, out)


def backward(onward: Onward, backend: Backend, pooling: Pooling, arrays: tuple[Any, Any, Any], out: Any) -> Any:
    """Its gradient: through all passes, from the last to the first."""
    grad_output, x, indices = arrays
    if indices is not None:
        raise ValueError(f"indices must not be given for more than {MOST_AXES} pooled axes, got axes={pooling.axes}")
    check_outs(backend, out, False)
    passes = list(_passes(backend, pooling, x))
    backend.is_traced(x, grad_output=grad_output)  # for its errors
    wide = _widened(backend, pooling, x)
    inputs = [wide]
    for each in passes[:-1]:
        inputs.append(onward.pooled(each, inputs[-1]))
    gradient = grad_output
    if wide is not x:
        given, expected = (backend.describe(*each)[1] for each in (("grad_output", grad_output), ("x", x)))
        if given.str != expected.str:
            raise TypeError(f"grad_output must have the dtype of x, {dtype_name(expected)}, got {dtype_name(given)}")
        gradient = backend.cast(grad_output, None)
    for each, input_ in zip(reversed(passes), reversed(inputs), strict=True):
        gradient = onward.pooled_backward(each, gradient, input_)
    return handed_back(backend, gradient if wide is x else backend.cast(gradient, x), out)


def _widened(backend: Backend, pooling: Pooling, x: Any) -> Any:
    """Half precision as float32 where more than elements goes from one pass to the next."""
    _, dtype = backend.describe("x", x)
    return backend.cast(x, None) if is_among(dtype, HALVES) and not pooling.operation.forward.is_ordering else x


def _passes(backend: Backend, pooling: Pooling, x: Any) -> Iterator[Pooling]:
    """Poolings of up to three axes that one after the other do the same, from the last axes to the first.

    In this order equal maxima have their gradients where one pass over all axes would have them.
    """
    shape, dtype = backend.describe("x", x)
    axes, operation = pooling.axes, pooling.operation
    assert axes is not None
    if not is_among(dtype, operation.forward.accepts):
        check_dtype("x", dtype, operation.forward.accepts)
    # Everything is checked before the first pass.
    rank = len(axes)
    kernel, stride, padding, dilation, ceil_mode = window_arguments(*pooling.windows)
    lengths = tuple(shape[axis] for axis in axes)
    along = explained(
        partial(in_order, shape, axes), pooled_axes, (1, *lengths), kernel, stride, padding, dilation, ceil_mode
    )
    refusal = operation.no_passes(*pooling.parameters)
    if refusal:
        raise ValueError(f"{refusal} for more than {MOST_AXES} pooled axes")
    inner = pooling
    if operation is MEAN:
        counts, divisor, _ = pooling.parameters
        if divisor is None and is_among(dtype, INTEGERS):
            if any(map(overhangs, along)) if counts else not all(map(holds_all_windows, along)):
                raise ValueError(
                    f"means of integers over more than {MOST_AXES} axes need windows of the same number of elements, got "
                    f"padding={shown(pooling.windows.padding)} and ceil_mode={ceil_mode} for lengths {lengths}"
                )
            divisor = prod(kernel)
        if divisor is not None:
            inner = pooling._replace(operation=SUM, options=())
            pooling = pooling._replace(options=(counts, divisor, pooling.options[2]))
    for end in range(rank, 0, -MOST_AXES):
        some = slice(max(0, end - MOST_AXES), end)
        pads = padding if isinstance(padding, str) else padding[some]
        each = inner if end > MOST_AXES else pooling
        windows = type(pooling.windows)(len(axes[some]), kernel[some], stride[some], pads, dilation[some], ceil_mode)
        yield each._replace(axes=axes[some], windows=windows)
