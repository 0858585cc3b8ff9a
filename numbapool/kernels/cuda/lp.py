"""Power means and norms, forward and backward: powers of the elements, their mean or sum over windows, and its root.

The powers are kept, in the precision of sums, so that overlapping windows need not raise an element more than once.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from numbapool.geometry import WindowPlan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.avg import Division, draft_mean
from numbapool.kernels.cuda.draft import Draft, remembered
from numbapool.kernels.cuda.elements import element, element_of, narrowed, put, sum_of, total, written_as
from numbapool.kernels.cuda.indexed import draft_gradients_of_maxima
from numbapool.kernels.cuda.launch import Buffer, Operand, Program
from numbapool.kernels.cuda.max import draft_max
from numbapool.kernels.cuda.scalars import G
from numbapool.kernels.cuda.schedule import Layer, size_of
from numbapool.kernels.cuda.spread import draft_shares

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
    x, out = draft.given
    outputs = size_of(plan, True)
    powers, sums = _draft_powers(draft, plan, x, power, is_norm), draft.sums(x.dtype, outputs)
    _draft_sums(draft, plan, powers, sums, power, is_norm)
    names, word = element_of(powers.dtype) | sum_of(out.dtype) | written_as(out.dtype), exponent_word(1 / power)
    names["raised"] = RAISED[word]
    function = not_below_zero if power == math.inf else take_root
    fields = {"SCALE": bits(_scale(plan, is_norm)), "EXPONENT": bits(1 / power)}
    draft.pass_over(function, [out.name, word], names, [out, sums], outputs, fields)
    return draft.program()


@remembered
def lp_pool_backward(
    plan: WindowPlan, sources: tuple[Operand, ...], results: tuple[Operand, ...], power: float, is_norm: bool
) -> Program:
    """Its gradient; 0 from windows whose norm is 0."""
    draft = Draft(sources, results)
    grad, x, out = draft.given
    powers = _draft_powers(draft, plan, x, power, is_norm)
    own = draft.sums(x.dtype, size_of(plan, False))
    if power == math.inf:
        draft_gradients_of_maxima(draft, plan, grad, powers, own, False)
    else:
        sums = draft.sums(x.dtype, size_of(plan, True))
        _draft_sums(draft, plan, powers, sums, power, is_norm)
        _draft_weights(draft, plan, grad, sums, power, is_norm)
        draft_shares(draft, plan, sums, own, Division(True, 1 if is_norm else None))
    _draft_slopes(draft, plan, own, x, out, power, is_norm)
    return draft.program()


def _draft_powers(draft: Draft, plan: WindowPlan, x: Buffer, power: float, is_norm: bool) -> Buffer:
    """Powers of elements, of their magnitudes if a norm is asked for."""
    powers = draft.sums(x.dtype, size_of(plan, False))
    exponent, is_magnitude = 1.0 if power == math.inf else power, is_norm or power == math.inf
    word = exponent_word(exponent)
    names = element_of(x.dtype) | sum_of(x.dtype) | {"IS_MAGNITUDE": is_magnitude, "raised": RAISED[word]}
    words, buffers = [x.name, word, "magnitudes" if is_magnitude else "values"], [powers, x]
    fields = {"EXPONENT": bits(exponent)}
    draft.add(raise_elements, words, names, Layer(plan), [(x, False)], buffers, of_output=False, fields=fields)
    return powers


def _draft_sums(draft: Draft, plan: WindowPlan, powers: Buffer, out: Buffer, power: float, is_norm: bool) -> None:
    if power == math.inf:
        draft_max(draft, plan, powers, out, False)
    else:
        draft_mean(draft, plan, powers, out, Division(True, 1 if is_norm else None))


def _draft_weights(draft: Draft, plan: WindowPlan, grad: Buffer, sums: Buffer, power: float, is_norm: bool) -> None:
    word, buffers = exponent_word(1 / power - 1), [sums, grad]
    names = element_of(grad.dtype) | sum_of(grad.dtype) | {"raised": RAISED[word]}
    fields = {"SCALE": bits(_scale(plan, is_norm)), "EXPONENT": bits(1 / power - 1)}
    draft.add(weigh, [grad.name, word], names, Layer(plan), [(grad, True)], buffers, of_output=True, fields=fields)


def _draft_slopes(
    draft: Draft, plan: WindowPlan, own: Buffer, x: Buffer, out: Buffer, power: float, is_norm: bool
) -> None:
    is_largest = power == math.inf
    exponent, is_magnitude = (0.0, True) if is_largest else (power - 1, is_norm)
    word, buffers, fields = exponent_word(exponent), [out, own, x], {"EXPONENT": bits(exponent)}
    names = element_of(x.dtype) | sum_of(x.dtype)
    names |= {"IS_MAGNITUDE": is_magnitude, "IS_LARGEST": is_largest, "raised": RAISED[word]}
    words = [x.name, word, "magnitudes" if is_magnitude else "values", "largest" if is_largest else "all"]
    draft.add(times_powers, words, names, Layer(plan), [(x, False)], buffers, of_output=False, fields=fields)


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
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    each = total(element(x, at))
    if IS_MAGNITUDE:
        each = abs(each)
    powers[to] = raised(each, double(g[G.EXPONENT]))


def take_root(t, buffers, g):
    out, sums = buffers
    if t < g[G.UNITS]:
        each = total(element(sums, np.int64(t)) * total(double(g[G.SCALE])))
        put(out, np.int64(t), raised(each, double(g[G.EXPONENT])))


def not_below_zero(t, buffers, g):
    """A window without input has no norm but 0."""
    out, sums = buffers
    if t < g[G.UNITS]:
        each = element(sums, np.int64(t))
        put(out, np.int64(t), total(0) if each < 0 else each)


def weigh(t, buffers, g):
    """Sums of powers, to gradients with respect to them: 0 where the sum is."""
    sums, grad = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    each, scale = sums[to], total(double(g[G.SCALE]))
    if each == 0:
        sums[to] = total(0)
    else:
        slope = raised(total(each * scale), double(g[G.EXPONENT]))
        sums[to] = total(total(total(element(grad, at)) * scale) * slope)


def times_powers(t, buffers, g):
    """Times the derivative of the power of each element, but for its factor p, which that of the root cancels.

    What is 0 stays 0, however steep the power: elements in no window, or only in such of norm 0, of which an element that
    is 0 and yet the largest tells. Magnitudes have the slope 0 at 0.
    """
    out, own, x = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at = grid.position_in_x(p, c, d, h, w, g)
    each, gradient = total(element(x, at)), total(own[to])
    slope = raised(abs(each) if IS_MAGNITUDE else each, double(g[G.EXPONENT]))
    if IS_MAGNITUDE:
        slope = total(0) if each == 0 else slope if each > 0 else -slope if each < 0 else each
    if gradient == 0 or (IS_LARGEST and each == 0):
        slope, gradient = total(0), total(0)
    out[to] = narrowed(total(gradient * slope))
