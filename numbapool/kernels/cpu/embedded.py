"""Operations for code that Numba compiles: a plan and its kernels in one call, without Python, on contiguous arrays of floats.

The same kernels and the same schedules as elsewhere, run in the thread that calls: who calls from a `prange` has threads
already. Arrays are flat; shapes and arguments are checked before (see `numbapool.jit`). There may be no planes. Compiled code
is cached on disk like that of kernels: without, a first call of a maximum took 10 s, with it 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, register_jitable

from numbapool.compilable import COMPILABLE
from numbapool.elements import REVERSED
from numbapool.kernels.cpu import avg, indexed, lp
from numbapool.kernels.cpu import max as maxima
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.rows import ZERO
from numbapool.kernels.cpu.schedule import (
    DENSE,
    FLAT,
    ROWS,
    STRIDED,
    WHOLE,
    WINDOWS,
    Planes,
    contiguous_layout_of,
    geometry_of_planes,
    is_whole,
    out_plane_size,
    plane_size,
    schedule_of_planes,
)

for _function in COMPILABLE:
    register_jitable(fastmath=False)(_function)


# Marks are int32 here, so that each kernel is compiled once. They serve planes of up to so many elements; see `marks.no_mark`.
NO_MARK = np.int32(-(1 << 30))
LARGEST_MARKED = (1 << 30) - 1


def flat_of(words: str) -> Any:
    """A function from a contiguous array to a flat one of the same memory, whose elements stand for what the words say."""

    @intrinsic
    def flat(typing_context, array):
        dtype = array.dtype
        if words:
            dtype = types.Record(
                [(words, {"type": dtype, "offset": 0, "alignment": None, "title": None})], dtype.bitwidth // 8, False
            )
        result = types.Array(dtype, 1, "C")

        def codegen(context, builder, signature, arguments):
            (source_type,), (value,) = signature.args, arguments
            source = context.make_array(source_type)(context, builder, value)
            target = context.make_array(result)(context, builder)
            target.meminfo, target.parent, target.itemsize = source.meminfo, source.parent, source.itemsize
            target.nitems = source.nitems
            target.data = builder.bitcast(source.data, target.data.type)
            target.shape = context.make_tuple(builder, types.UniTuple(types.intp, 1), [source.nitems])
            target.strides = context.make_tuple(builder, types.UniTuple(types.intp, 1), [source.itemsize])
            context.nrt.incref(builder, result, target._getvalue())
            return target._getvalue()

        return result(array), codegen

    return flat


flat, flat_reversed = flat_of(""), flat_of(REVERSED)


def kernel_of(kernels: dict[int, Any]) -> Any:
    """For compiled code, where no dictionary holds functions: `kernels[algorithm](0, units, *arguments)`."""
    flat, rows, dense, strided = kernels[FLAT], kernels[ROWS], kernels[DENSE], kernels[STRIDED]
    whole, windows = kernels[WHOLE], kernels[WINDOWS]

    @inlined
    def run(algorithm, units, arguments):
        if algorithm == FLAT:
            flat(ZERO, units, *arguments)
        elif algorithm == ROWS:
            rows(ZERO, units, *arguments)
        elif algorithm == DENSE:
            dense(ZERO, units, *arguments)
        elif algorithm == STRIDED:
            strided(ZERO, units, *arguments)
        elif algorithm == WHOLE:
            whole(ZERO, units, *arguments)
        else:
            windows(ZERO, units, *arguments)

    return run


run_max, run_avg = kernel_of(maxima.KERNELS), kernel_of(avg.KERNELS)


@entry
def max_pool(out, x, planes):
    """`max.max_pool`."""
    algorithm, units, program = schedule_of_planes(planes, x.itemsize, True, False)
    run_max(algorithm, units, (out, x, program))


@entry
def max_pool_with_indices(out, indices, x, planes):
    """`max.max_pool_with_indices`, of planes of up to `LARGEST_MARKED` elements."""
    algorithm, units, program = schedule_of_planes(planes, x.itemsize, True, True)
    if algorithm == WHOLE:
        maxima.max_whole_indices(ZERO, units, out, indices, x, program, NO_MARK)
    elif algorithm == WINDOWS:
        maxima.max_windows_indices(ZERO, units, out, indices, x, program, NO_MARK)
    else:
        maxima.max_indices(ZERO, units, out, indices, x, program, NO_MARK)


@entry
def scatter_add(grad_input, grad_output, indices, planes):
    """`indexed.scatter_add`: whether all indices are in their planes."""
    size, block, bad = plane_size(planes), indexed.block_of(planes, 1), np.zeros(1, np.int64)
    if block == size:
        out_size = out_plane_size(planes)
        indexed.scatter_planes(ZERO, planes.number, grad_input, grad_output, indices, size, out_size, bad)
    else:
        layout = contiguous_layout_of(planes.number, planes.d.out, planes.h.out, planes.w.out)
        program, units = geometry_of_planes(planes), planes.number * -(-size // block)
        indexed.scatter(ZERO, units, grad_input, grad_output, layout, indices, layout, program, block, bad)
    return bad[0] == 0


@entry
def max_pool_backward(grad_input, grad_output, x, planes):
    """`indexed.max_pool_backward`."""
    algorithm, _, program = schedule_of_planes(planes, x.itemsize, True, True)
    block = indexed.block_of(planes, 1)
    units = planes.number * -(-plane_size(planes) // block)
    layout = contiguous_layout_of(planes.number, planes.d.out, planes.h.out, planes.w.out)
    if algorithm == WHOLE:
        maxima, indices = np.empty(grad_output.size, x.dtype), np.empty(grad_output.size, np.int64)
        max_pool_with_indices(maxima, indices, x, planes)
        scatter_add(grad_input, grad_output, indices, planes)
    elif algorithm == WINDOWS or plane_size(planes) > LARGEST_MARKED:
        indexed.scan_and_scatter(ZERO, units, grad_input, grad_output, layout, x, program, block, NO_MARK)
    else:
        indexed.mark_and_scatter(ZERO, units, grad_input, grad_output, layout, x, program, block, NO_MARK)


@entry
def avg_pool(out, x, planes, count_include_pad, divisor):
    """`avg.avg_pool`; a divisor of 0 means the number of elements."""
    algorithm, units, program = schedule_of_planes(planes, x.itemsize, True, False)
    divisors = avg.divisors_of(planes, algorithm, program, out, False, count_include_pad, divisor)
    divisors = np.append(divisors, out.dtype.type(0))  # no rounding
    run_avg(algorithm, units, (out, x, program, divisors))


@entry
def avg_pool_backward(grad_input, grad_output, planes, count_include_pad, divisor):
    """`avg.avg_pool_backward`."""
    way, units, program, divisors = avg.backward_program(planes, grad_input, True, count_include_pad, divisor)
    if way == avg.SPREAD:
        avg.avg_spread(ZERO, units, grad_input, grad_output, program, divisors)
    elif way == avg.HANDED_OUT:
        avg.avg_handed_out(ZERO, units, grad_input, grad_output, program, divisors)
    else:
        avg.avg_scatter(ZERO, units, grad_input, grad_output, program, divisors)


@entry
def lp_pool(out, x, planes, power, is_norm):
    """`lp.lp_pool`."""
    size, out_size = plane_size(planes), out_plane_size(planes)
    scale = out.dtype.type(1 if is_norm else _taps(planes))
    if power != np.inf and is_whole(planes):
        lp.sum_powers(ZERO, planes.number, out, x, size, power, is_norm, np.float64(1 if is_norm else size))
        lp.take_root(ZERO, _units(out.size), out, scale, 1 / power, out.size)
        return
    most = _planes_at_a_time(planes)
    powers = np.empty(most * size, x.dtype)
    for first in range(0, planes.number, most):
        part = _part(planes, first, most)
        elements, own = _planes(x, part, first, size), _planes(out, part, first, out_size)
        _fold_powers(own, powers[: elements.size], elements, part, power, is_norm)
        if power == np.inf:
            lp.not_below_zero(ZERO, _units(own.size), own, own.size)
        else:
            lp.take_root(ZERO, _units(own.size), own, scale, 1 / power, own.size)


@entry
def lp_pool_backward(grad_input, grad_output, x, planes, power, is_norm):
    """`lp.lp_pool_backward`."""
    size, out_size, most = plane_size(planes), out_plane_size(planes), _planes_at_a_time(planes)
    scale, is_largest = grad_input.dtype.type(1 if is_norm else _taps(planes)), power == np.inf
    powers, sums = np.empty(most * size, x.dtype), np.empty(most * out_size, x.dtype)
    for first in range(0, planes.number, most):
        part = _part(planes, first, most)
        elements, inputs = _planes(x, part, first, size), _planes(grad_input, part, first, size)
        gradient = _planes(grad_output, part, first, out_size)
        own = sums[: gradient.size]
        _fold_powers(own, powers[: elements.size], elements, part, power, is_norm)
        if is_largest:
            max_pool_backward(inputs, gradient, powers[: elements.size], part)
        else:
            lp.weigh(ZERO, _units(own.size), own, gradient, scale, 1 / power - 1, own.size)
            avg_pool_backward(inputs, own, part, True, 1 if is_norm else 0)
        exponent, is_magnitude = (0.0, True) if is_largest else (power - 1, is_norm)
        lp.times_powers(ZERO, _units(inputs.size), inputs, elements, exponent, is_magnitude, is_largest, inputs.size)


@inner
def _fold_powers(sums, powers, elements, part, power, is_norm):
    """Powers of elements, and their largest, their sum or their mean of each window."""
    if power == np.inf:
        lp.raise_elements(ZERO, _units(powers.size), powers, elements, 1.0, True, powers.size)
        max_pool(sums, powers, part)
    else:
        lp.raise_elements(ZERO, _units(powers.size), powers, elements, power, is_norm, powers.size)
        avg_pool(sums, powers, part, True, 1 if is_norm else 0)


@inlined
def _planes_at_a_time(planes):
    return max(1, min(planes.number, lp.PART_ELEMENTS // plane_size(planes)))


@inlined
def _part(planes, first, most):
    return Planes(min(most, planes.number - first), planes.d, planes.h, planes.w)


@inlined
def _planes(array, part, first, size):
    """The planes of a part, of `size` elements each, in an array of all planes."""
    return array[first * size : (first + part.number) * size]


@inlined
def _taps(planes):
    return np.float64(planes.d.kernel) * planes.h.kernel * planes.w.kernel


@inlined
def _units(size):
    """Units of work of the kernels over elements."""
    return -(-size // lp.UNIT_ELEMENTS)
