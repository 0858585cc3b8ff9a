"""Power means and norms, forward and backward: powers of the elements, their mean or sum over windows, and its root.

The powers are kept, in the precision of sums, so that overlapping windows need not raise an element more than once.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cuda.avg import Division, fold_mean, spread_mean
from numbapool.kernels.cuda.elements import element, narrowed, put, total
from numbapool.kernels.cuda.grid import (
    SOURCE,
    SOURCE_FIELDS,
    UNITS,
    position_in_x,
    position_of,
)
from numbapool.kernels.cuda.indexed import gather_gradients
from numbapool.kernels.cuda.launch import (
    Draft,
    Layer,
    Operand,
    Program,
    element_of,
    is_large,
    name_of,
    remembered,
    scalars_of,
    size_of,
    step_of,
    sum_of,
    written_as,
)
from numbapool.kernels.cuda.max import find_max, fold_max
from numbapool.kernels.cuda.passes import pass_over

MORE = SOURCE + SOURCE_FIELDS
F64 = np.float64

# Bound by the variant.
IS_MAGNITUDE = True
IS_LARGEST = False


@remembered
def lp_pool(
    plan: WindowPlan, sources: tuple[Operand, ...], results: tuple[Operand, ...], power: float, is_norm: bool
) -> Program:
    """Norm of each window, or torch's power mean times the number of elements."""
    draft = Draft(sources, results)
    outputs = size_of(plan, True)
    powers, sums = _powers(draft, plan, (sources[0], 0), power, is_norm), draft.sums(sources[0].dtype, outputs)
    _fold(draft, plan, powers, sums, power, is_norm)
    out, name = results[0], name_of(results[0].dtype)
    names = element_of(powers[0].dtype) | sum_of(out.dtype) | written_as(out.dtype)
    function = not_below_zero if power == math.inf else take_root
    words = [name, exponent_word(1 / power)]
    names["raised"] = RAISED[words[1]]
    buffers = [(1, name), (sums[1], name_of(sums[0].dtype))]
    pass_over(draft, function, words, names, buffers, outputs, bits(_scale(plan, is_norm)), bits(1 / power))
    return draft.program()


@remembered
def lp_pool_backward(
    plan: WindowPlan, sources: tuple[Operand, ...], results: tuple[Operand, ...], power: float, is_norm: bool
) -> Program:
    """Its gradient; 0 from windows whose norm is 0."""
    draft = Draft(sources, results)
    grad, x = sources
    outputs, inputs = (plan.planes * size * plan.channels for size in (plan.out_plane_size, plan.plane_size))
    powers = _powers(draft, plan, (x, 1), power, is_norm)
    own = draft.sums(x.dtype, inputs)
    if power == math.inf:
        values, positions = draft.sums(x.dtype, outputs), draft.positions(plan, outputs)
        find_max(draft, plan, powers, values, positions, False)
        gather_gradients(draft, plan, (grad, 0), positions, own, True)
    else:
        sums = draft.sums(x.dtype, outputs)
        _fold(draft, plan, powers, sums, power, is_norm)
        _weigh(draft, plan, (grad, 0), sums, power, is_norm)
        spread_mean(draft, plan, sums, own, Division(True, 1 if is_norm else None))
    _times_powers(draft, plan, own, (x, 1), (results[0], 2), power, is_norm)
    return draft.program()


def _powers(draft: Draft, plan: WindowPlan, x: tuple[Operand, int], power: float, is_norm: bool) -> tuple[Operand, int]:
    """Powers of elements, of their magnitudes if a norm is asked for."""
    powers = draft.sums(x[0].dtype, size_of(plan, False))
    read = [(x[0], False)]
    large = is_large(plan, read, size_of(plan, False))
    exponent = 1.0 if power == math.inf else power
    is_magnitude = is_norm or power == math.inf
    name, word = name_of(x[0].dtype), exponent_word(exponent)
    names = element_of(x[0].dtype) | sum_of(x[0].dtype) | {"IS_MAGNITUDE": is_magnitude, "raised": RAISED[word]}
    words = [name, word, "magnitudes" if is_magnitude else "values"]
    buffers = [(powers[1], name_of(powers[0].dtype)), (x[1], name)]
    scalars = scalars_of(Layer(plan, "planes", 1), read, False, large) + (bits(exponent),)
    draft.steps.append(step_of(raise_elements, words, names, Layer(plan, "planes", 1), buffers, scalars, large))
    return powers


def _fold(
    draft: Draft, plan: WindowPlan, powers: tuple[Operand, int], out: tuple[Operand, int], power: float, is_norm: bool
) -> None:
    if power == math.inf:
        fold_max(draft, plan, powers, out, False)
    else:
        fold_mean(draft, plan, powers, out, Division(True, 1 if is_norm else None))


def _weigh(
    draft: Draft, plan: WindowPlan, grad: tuple[Operand, int], sums: tuple[Operand, int], power: float, is_norm: bool
) -> None:
    read = [(grad[0], True)]
    large = is_large(plan, read, size_of(plan, True))
    name, word = name_of(grad[0].dtype), exponent_word(1 / power - 1)
    names = element_of(grad[0].dtype) | sum_of(grad[0].dtype) | {"raised": RAISED[word]}
    scalars = scalars_of(Layer(plan, "planes", 1), read, True, large)
    scalars += (bits(_scale(plan, is_norm)), bits(1 / power - 1))
    buffers = [(sums[1], name_of(sums[0].dtype)), (grad[1], name)]
    draft.steps.append(step_of(weigh, [name, word], names, Layer(plan, "planes", 1), buffers, scalars, large))


def _times_powers(
    draft: Draft,
    plan: WindowPlan,
    own: tuple[Operand, int],
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    power: float,
    is_norm: bool,
) -> None:
    is_largest = power == math.inf
    read = [(x[0], False)]
    large = is_large(plan, read, size_of(plan, False))
    exponent, is_magnitude = (0.0, True) if is_largest else (power - 1, is_norm)
    name, word = name_of(x[0].dtype), exponent_word(exponent)
    names = element_of(x[0].dtype) | sum_of(x[0].dtype)
    names |= {"IS_MAGNITUDE": is_magnitude, "IS_LARGEST": is_largest, "raised": RAISED[word]}
    words = [name, word, "magnitudes" if is_magnitude else "values", "largest" if is_largest else "all"]
    buffers = [(out[1], name), (own[1], name_of(own[0].dtype)), (x[1], name)]
    scalars = scalars_of(Layer(plan, "planes", 1), read, False, large) + (bits(exponent),)
    draft.steps.append(step_of(times_powers, words, names, Layer(plan, "planes", 1), buffers, scalars, large))


def _scale(plan: WindowPlan, is_norm: bool) -> float:
    """What means are multiplied by: the elements of a whole window."""
    return 1.0 if is_norm else float(math.prod(axis.kernel for axis in plan.pooled))


def bits(number: float) -> int:
    """A double as an int64, as which kernels get it."""
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def double(number):
    """The double that the bits of an int64 are."""
    return np.int64(number).view(F64)


def to_zeroth(each, exponent):
    return total(1)


def to_first(each, exponent):
    return each


def squared(each, exponent):
    return total(each * each)


def cubed(each, exponent):
    return total(each * total(each * each))


def rooted(each, exponent):
    return total(math.sqrt(each))


def over_root(each, exponent):
    return total(total(1) / total(math.sqrt(each)))


def to_power(each, exponent):
    return total(each ** total(exponent))


raised = to_power
RAISED: dict[str, Any] = {
    "zeroth": to_zeroth,
    "first": to_first,
    "square": squared,
    "cube": cubed,
    "root": rooted,
    "over_root": over_root,
    "power": to_power,
}


def exponent_word(exponent: float) -> str:
    """Which of `RAISED` raises to an exponent."""
    words = {0.0: "zeroth", 1.0: "first", 2.0: "square", 3.0: "cube", 0.5: "root", -0.5: "over_root"}
    return words.get(exponent, "power")


def raise_elements(t, buffers, g):
    powers, x = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at = position_in_x(p, c, d, h, w, g)
    each = total(element(x, at))
    if IS_MAGNITUDE:
        each = abs(each)
    powers[to] = raised(each, double(g[MORE]))


def take_root(t, buffers, g):
    out, sums = buffers
    if t < g[UNITS]:
        each = total(element(sums, np.int64(t)) * total(double(g[1])))
        put(out, np.int64(t), raised(each, double(g[2])))


def not_below_zero(t, buffers, g):
    """A window without input has no norm but 0."""
    out, sums = buffers
    if t < g[UNITS]:
        each = element(sums, np.int64(t))
        put(out, np.int64(t), total(0) if each < 0 else each)


def weigh(t, buffers, g):
    """Sums of powers, to gradients with respect to them: 0 where the sum is."""
    sums, grad = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at = position_in_x(p, c, d, h, w, g)
    each, scale = sums[to], total(double(g[MORE]))
    if each == 0:
        sums[to] = total(0)
    else:
        slope = raised(total(each * scale), double(g[MORE + 1]))
        sums[to] = total(total(total(element(grad, at)) * scale) * slope)


def times_powers(t, buffers, g):
    """Times the derivative of the power of each element, but for its factor p, which that of the root cancels.

    What is 0 stays 0, however steep the power: elements in no window, or only in such of norm 0, of which an element that
    is 0 and yet the largest tells. Magnitudes have the slope 0 at 0.
    """
    out, own, x = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at = position_in_x(p, c, d, h, w, g)
    each, gradient = total(element(x, at)), total(own[to])
    slope = raised(abs(each) if IS_MAGNITUDE else each, double(g[MORE]))
    if IS_MAGNITUDE:
        slope = total(0) if each == 0 else slope if each > 0 else -slope if each < 0 else each
    if gradient == 0 or (IS_LARGEST and each == 0):
        slope, gradient = total(0), total(0)
    out[to] = narrowed(total(gradient * slope))
