"""Power means and norms, forward and backward: powers of the elements, their mean or sum over windows, and its root.

Some planes at a time, so that the powers stay in the cache between the passes and take no memory to speak of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cpu.avg import avg_pool, avg_pool_backward
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.indexed import max_pool_backward
from numbapool.kernels.cpu.max import max_pool
from numbapool.kernels.cpu.rows import ZERO, fill, fold_whole, plane_at, write_line
from numbapool.kernels.cpu.schedule import geometry_of, is_whole, planes_of
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.threads import Launch, Source, run
from numbapool.kernels.cpu.vectors import accumulator_of, add, element, lanes, load, power, put, store, times
from numbapool.windows import Axis

# Elements whose powers are kept at a time.
PART_ELEMENTS = 1 << 17
# Elements of an output that a unit of work finishes.
UNIT_ELEMENTS = 1 << 12


class Part(NamedTuple):
    """Some planes of a call: the first, how many, and the plan for them alone."""

    first: int
    planes: int
    plan: WindowPlan


class LpLaunch(NamedTuple):
    """A forward operation, as `threads.Launch`."""

    plan: WindowPlan
    power: float
    is_norm: bool

    def run(self, x: Source, results: Sequence[np.ndarray]) -> None:
        """Compute the flat array in `results`."""
        (out,) = results
        if _is_flat(self.plan, x, self.power):
            _whole_norms(self.plan, x, out, self.power, self.is_norm)
            return
        dtype, planes = accumulator_of(out.dtype), _planes_at_a_time(self.plan)
        powers = np.empty(planes * in_size(self.plan), dtype)
        sums = np.empty(0 if out.dtype == dtype else planes * out_size(self.plan), dtype)
        for part in parts_of(self.plan):
            results_of_part = _planes(out, part, out_size(self.plan))
            own = sums[: results_of_part.size] if sums.size else results_of_part
            elements = _elements(x, self.plan, part, powers)
            _raise(powers, elements, self.power, self.is_norm)
            _fold(powers, own, part.plan, self.power, self.is_norm)
            _finish(own, self.plan, self.power, self.is_norm)
            if sums.size:
                _over_elements(convert, own.size, results_of_part, own, own)


def lp_pool(plan: WindowPlan, dtype: np.dtype[Any], is_contiguous: bool, power: float, is_norm: bool) -> LpLaunch:
    """Norm of each window, or torch's power mean times the number of elements."""
    return LpLaunch(plan, power, is_norm)


def lp_pool_backward(
    plan: WindowPlan, grad_output: Source, x: Source, grad_input: np.ndarray, power: float, is_norm: bool
) -> None:
    """Its gradient; 0 from windows whose norm is 0."""
    if _is_flat(plan, x, power) and grad_output[1] is None:
        _whole_norms_backward(plan, grad_output[0], x[0], grad_input, power, is_norm)
        return
    dtype, planes = accumulator_of(grad_input.dtype), _planes_at_a_time(plan)
    own = np.empty(0 if grad_input.dtype == dtype else planes * in_size(plan), dtype)
    elements_of_part, powers = np.empty(planes * in_size(plan), dtype), np.empty(planes * in_size(plan), dtype)
    gradients = np.empty(planes * out_size(plan), dtype)
    sums = np.empty_like(gradients)
    scale = dtype.type(_scale(plan, is_norm))
    for part in parts_of(plan):
        results, n = _planes(grad_input, part, in_size(plan)), part.planes * out_size(plan)
        inputs = own[: results.size] if own.size else results
        elements = _elements(x, plan, part, elements_of_part)
        gradient = _elements(grad_output, _outputs_plan(plan), part, gradients)
        _raise(powers, elements, power, is_norm)
        if power == math.inf:
            max_pool_backward(part.plan, (gradient, None), (powers[: inputs.size], None), inputs)
        else:
            _fold(powers, sums[:n], part.plan, power, is_norm)
            _over_elements(weigh, n, sums, gradient, scale, 1 / power - 1)
            avg_pool_backward(part.plan, (sums[:n], None), inputs, True, 1 if is_norm else None, False)
        is_largest = power == math.inf
        exponent, is_magnitude = (0.0, True) if is_largest else (power - 1, is_norm)
        _over_elements(times_powers, inputs.size, inputs, elements, exponent, is_magnitude, is_largest)
        if own.size:
            _over_elements(convert, results.size, results, inputs, inputs)


def _is_flat(plan: WindowPlan, x: Source, power: float) -> bool:
    """Whether each plane is one window, and contiguous: no need then to keep the powers of its elements."""
    return x[1] is None and plan.channels == 1 and power != math.inf and is_whole(planes_of(plan))


def _whole_norms(plan: WindowPlan, x: Source, out: np.ndarray, power: float, is_norm: bool) -> None:
    sums = _whole_sums(plan, x[0], power, is_norm)
    _finish(sums, plan, power, is_norm)
    _over_elements(convert, out.size, out, sums, sums)


def _whole_sums(plan: WindowPlan, x: np.ndarray, power: float, is_norm: bool) -> np.ndarray:
    """The sum of the powers of each plane, or their mean."""
    sums = np.empty(plan.planes, accumulator_of(x.dtype))
    divisor = 1 if is_norm else plan.plane_size
    run(sum_powers, plan.planes, x.size, sums, x, np.int64(plan.plane_size), power, is_norm, np.float64(divisor))
    return sums


def _whole_norms_backward(
    plan: WindowPlan, grad_output: np.ndarray, x: np.ndarray, grad_input: np.ndarray, power: float, is_norm: bool
) -> None:
    sums = _whole_sums(plan, x, power, is_norm)
    gradient = np.empty_like(sums)
    _over_elements(convert, sums.size, gradient, grad_output, sums)
    _over_elements(weigh, sums.size, sums, gradient, sums.dtype.type(_scale(plan, is_norm)), 1 / power - 1)
    if not is_norm:
        sums /= sums.dtype.type(plan.plane_size)
    run(spread_powers, plan.planes, x.size, grad_input, x, sums, np.int64(plan.plane_size), power - 1, is_norm)


def in_size(plan: WindowPlan) -> int:
    """Input elements of a plane, or of all that lie side by side."""
    return plan.plane_size * plan.channels


def out_size(plan: WindowPlan) -> int:
    """The same of the output."""
    return plan.out_plane_size * plan.channels


def parts_of(plan: WindowPlan) -> Iterator[Part]:
    """The planes of a plan, some at a time."""
    most = _planes_at_a_time(plan)
    for first in range(0, plan.planes, most):
        planes = min(most, plan.planes - first)
        yield Part(first, planes, _plan_of(plan, planes))


def _planes_at_a_time(plan: WindowPlan) -> int:
    return min(plan.planes, max(1, PART_ELEMENTS // in_size(plan)))


@lru_cache(maxsize=512)
def _plan_of(plan: WindowPlan, planes: int) -> WindowPlan:
    return replace(plan, leading=(planes,))


@lru_cache(maxsize=512)
def _outputs_plan(plan: WindowPlan) -> WindowPlan:
    """A plan whose input has the shape of the output of another."""
    return replace(plan, pooled=tuple(Axis(axis.out, axis.out, 1, 1, 1, 0, 0) for axis in plan.pooled))


def _planes(array: np.ndarray, part: Part, size: int) -> np.ndarray:
    """The planes of a part, of `size` elements each, in an array of all planes."""
    return array[part.first * size :][: part.planes * size]


def _elements(x: Source, plan: WindowPlan, part: Part, buffer: np.ndarray) -> np.ndarray:
    """The values of a part one after the other: where they stand if they do, else copied to the buffer."""
    flat, layout = x
    if layout is None:
        elements = _planes(flat, part, in_size(plan))
        if flat.dtype == buffer.dtype:
            return elements
        values = buffer[: elements.size]
        _over_elements(convert, values.size, values, elements, buffer)
        return values
    d, h, _ = plan.axes
    rows = part.planes * d.length * h.length
    run(copy_rows, rows, part.planes * plan.plane_size, buffer, flat, layout, geometry_of(plan), part.first)
    return buffer[: part.planes * plan.plane_size]


def _raise(powers: np.ndarray, elements: np.ndarray, power: float, is_norm: bool) -> None:
    """Powers of elements, of their magnitudes if a norm is asked for."""
    exponent = 1.0 if power == math.inf else power
    _over_elements(raise_elements, elements.size, powers, elements, exponent, is_norm or power == math.inf)


def _fold(powers: np.ndarray, out: np.ndarray, plan: WindowPlan, power: float, is_norm: bool) -> None:
    flat = powers[: plan.planes * in_size(plan)]
    _fold_call(plan, out.dtype, power == math.inf, is_norm).run((flat, None), [out])


@lru_cache(maxsize=512)
def _fold_call(plan: WindowPlan, dtype: np.dtype[Any], is_max: bool, is_norm: bool) -> Launch:
    """Remembered, because there is one for every part: 0.2 ms each."""
    return max_pool(plan, dtype, True) if is_max else avg_pool(plan, dtype, True, True, 1 if is_norm else None, False)


def _finish(out: np.ndarray, plan: WindowPlan, power: float, is_norm: bool) -> None:
    kind = out.dtype.type
    if power == math.inf:
        _over_elements(not_below_zero, out.size, out)
    else:
        _over_elements(take_root, out.size, out, kind(_scale(plan, is_norm)), 1 / power)


def _scale(plan: WindowPlan, is_norm: bool) -> float:
    """What means are multiplied by: the elements of a whole window."""
    return 1.0 if is_norm else float(math.prod(axis.kernel for axis in plan.pooled))


def _over_elements(kernel: Any, size: int, *arguments: Any) -> None:
    run(kernel, -(-size // UNIT_ELEMENTS), size, *arguments, size)


@inner
def raise_line(line, exponent, start, end):
    """`line[start:end] **= exponent`; the usual powers without logarithms."""
    if exponent == 0:
        for i in range(start, end):
            line[i] = 1
    elif exponent == 2:
        for i in range(start, end):
            line[i] *= line[i]
    elif exponent == 3:
        for i in range(start, end):
            line[i] *= line[i] * line[i]
    elif exponent == 0.5:
        for i in range(start, end):
            line[i] = np.sqrt(line[i])
    elif exponent == -0.5:
        for i in range(start, end):
            line[i] = 1 / np.sqrt(line[i])
    elif exponent != 1:
        width, i = lanes(line), start
        while i + width <= end:
            store(line, i, power(load(line, i, line), exponent))
            i += width
        stage = np.ones(np.int64(width), line.dtype)
        for lane in range(end - i):
            stage[lane] = line[i + lane]
        store(stage, np.uintp(0), power(load(stage, np.uintp(0), stage), exponent))
        for lane in range(end - i):
            line[i + lane] = stage[lane]


@inlined
def range_of_unit(first, last, size):
    """The elements that units first <= unit < last finish."""
    return np.uintp(first * UNIT_ELEMENTS), np.uintp(min(last * UNIT_ELEMENTS, size))


@entry
def copy_rows(first, last, buffer, x, layout, g, first_plane):
    for number in range(first, last):
        slab = number // g[G.IN_H]
        plane = slab // g[G.IN_D]
        at = plane_at(layout, first_plane + plane) + (slab - plane * g[G.IN_D]) * layout[L.D_STEP]
        at += (number - slab * g[G.IN_H]) * layout[L.H_STEP]
        for j in range(g[G.IN_W]):
            buffer[np.uintp(number * g[G.IN_W] + j)] = element(x, np.uintp(at + j * layout[L.W_STEP]), buffer)


@entry
def raise_elements(first, last, powers, elements, exponent, is_magnitude, size):
    for unit in range(first, last):
        start, end = range_of_unit(unit, unit + 1, size)
        for i in range(start, end):
            powers[i] = abs(elements[i]) if is_magnitude else elements[i]
        raise_line(powers, exponent, start, end)


@inner
def raise_block(line, x, at, n, exponent, is_magnitude):
    """Powers of n neighbours of x, of their magnitudes if asked for, to the start of a line."""
    first, column, end = np.uintp(at), np.uintp(0), np.uintp(n)
    is_square = exponent == 2
    while column + lanes(line) <= end:
        value = load(x, first + column, line)
        store(line, column, times(value, value) if is_square else value)
        column += lanes(line)
    if is_square:  # no other pass over the line: 8x512x28x28 in 0.56 ms instead of 0.79
        for i in range(column, end):
            line[i] = element(x, first + i, line) ** 2
        return
    for i in range(column, end):
        line[i] = element(x, first + i, line)
    if is_magnitude:
        for i in range(end):
            line[i] = abs(line[i])
    raise_line(line, exponent, np.uintp(0), end)


@entry
def sum_powers(first, last, sums, x, size, exponent, is_magnitude, divisor):
    """The sum of the powers of each plane, in blocks that stay in the cache, over a divisor."""
    line, work = np.empty(UNIT_ELEMENTS, sums.dtype), np.empty(lanes(sums), sums.dtype)
    for plane in range(first, last):
        total = np.float64(0)
        for start in range(0, size, UNIT_ELEMENTS):
            n = min(size - start, UNIT_ELEMENTS)
            raise_block(line, x, plane * size + start, n, exponent, is_magnitude)
            if n >= 4 * np.int64(lanes(sums)):
                total += fold_whole(add, work, ZERO, line, ZERO, n)
            else:
                for i in range(np.uintp(n)):
                    total += line[i]
        sums[plane] = sums.dtype.type(total / divisor)


@entry
def spread_powers(first, last, grad_input, x, weights, size, exponent, is_magnitude):
    """Times the derivative of the power of each element, see `times_powers`, the gradient with respect to it."""
    line, zero = np.empty(UNIT_ELEMENTS, weights.dtype), weights.dtype.type(0)
    for plane in range(first, last):
        weight = weights[plane]
        for start in range(0, size, UNIT_ELEMENTS):
            at, n = plane * size + start, min(size - start, UNIT_ELEMENTS)
            if weight == 0:
                fill(line, ZERO, zero, n)
            else:
                raise_block(line, x, at, n, exponent, is_magnitude)
                if is_magnitude:
                    for i in range(np.uintp(n)):
                        value = element(x, np.uintp(at) + i, line)
                        line[i] = zero if value == 0 else line[i] * np.sign(value)
                for i in range(np.uintp(n)):
                    line[i] *= weight
            write_line(grad_input, np.uintp(at), line, np.uintp(0), np.uintp(n), line)


@entry
def take_root(first, last, out, scale, exponent, size):
    for unit in range(first, last):
        start, end = range_of_unit(unit, unit + 1, size)
        for i in range(start, end):
            out[i] *= scale
        raise_line(out, exponent, start, end)


@entry
def not_below_zero(first, last, out, size):
    start, end = range_of_unit(first, last, size)
    for i in range(start, end):
        if out[i] < 0:  # a window without input
            out[i] = 0


@entry
def convert(first, last, out, source, values, size):
    """Elements to another dtype, of which `values` is that of their values."""
    start, end = range_of_unit(first, last, size)
    width, i = lanes(values), start
    while i + width <= end:
        store(out, i, load(source, i, values))
        i += width
    while i < end:
        put(out, i, element(source, i, values))
        i += np.uintp(1)


@entry
def weigh(first, last, sums, gradient, scale, exponent, size):
    """Sums of powers, to gradients with respect to them: 0 where the sum is."""
    totals = np.empty(UNIT_ELEMENTS, sums.dtype)
    zero = sums.dtype.type(0)
    for unit in range(first, last):
        start, end = range_of_unit(unit, unit + 1, size)
        for i in range(start, end):
            totals[i - start] = sums[i] * scale
        raise_line(totals, exponent, np.uintp(0), end - start)
        for i in range(start, end):
            sums[i] = zero if sums[i] == 0 else gradient[i] * scale * totals[i - start]


@entry
def times_powers(first, last, grad_input, elements, exponent, is_magnitude, is_largest, size):
    """Times the derivative of the power of each element, but for its factor p, which that of the root cancels.

    What is 0 stays 0, however steep the power: elements in no window, or only in such of norm 0, of which an element that
    is 0 and yet the largest tells. Magnitudes have the slope 0 at 0.
    """
    slopes = np.empty(UNIT_ELEMENTS, grad_input.dtype)
    zero = grad_input.dtype.type(0)
    for unit in range(first, last):
        start, end = range_of_unit(unit, unit + 1, size)
        for i in range(start, end):
            slopes[i - start] = abs(elements[i]) if is_magnitude else elements[i]
        raise_line(slopes, exponent, np.uintp(0), end - start)
        if is_magnitude:
            for i in range(start, end):
                slopes[i - start] = zero if elements[i] == 0 else slopes[i - start] * np.sign(elements[i])
        for i in range(start, end):
            stays = grad_input[i] == 0 or (is_largest and elements[i] == 0)
            grad_input[i] = zero if stays else grad_input[i] * slopes[i - start]
