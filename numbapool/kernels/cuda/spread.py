"""Backward of sums and means: each element of the input takes its share of the windows that hold it.

Nothing is added by two threads, and the order of sums is that of the windows: every run has the same bits.
"""

from __future__ import annotations

from numbapool.geometry import Plan
from numbapool.kernels.cuda import avg, grid, rows, taps, vectors, whole
from numbapool.kernels.cuda.avg import NO_DIVISION, Division
from numbapool.kernels.cuda.draft import Draft, remembered
from numbapool.kernels.cuda.elements import element_of, index, sum_of, written_as
from numbapool.kernels.cuda.launch import Buffer, Operand, Program
from numbapool.kernels.cuda.scalars import G
from numbapool.kernels.cuda.schedule import Layer, gradient_passes_of, layer_of, size_of

# Bound by the variant.
load, store, zero, add = vectors.load_one, vectors.store_one, vectors.zero_one, vectors.add_one
divide, doubled, fill = vectors.divide_one, vectors.doubled_one, vectors.fill_one
divisor_of = avg.given_float
IS_UNIFORM = True


@remembered
def avg_pool_backward(
    plan: Plan,
    sources: tuple[Operand, ...],
    results: tuple[Operand, ...],
    count_include_pad: bool,
    divisor_override: int | None,
    is_rounded: bool,
) -> Program:
    """Gradient of the mean."""
    draft = Draft(sources, results)
    grad, out = draft.given
    draft_shares(draft, plan, grad, out, Division(count_include_pad, divisor_override))
    return draft.program()


def sum_pool_backward(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Gradient of the sum."""
    return avg_pool_backward(plan, sources, results, *NO_DIVISION)


def draft_shares(draft: Draft, plan: Plan, grad: Buffer, out: Buffer, division: Division) -> None:
    """Steps from the gradient of means to that of the input."""
    dtype, passes = grad.dtype, gradient_passes_of(plan)
    _, names, fields = avg.divisor_names(plan, dtype, division)
    first = division
    if names["IS_UNIFORM"]:  # then the last pass divides; otherwise each by what it counts along its axis
        first, division = NO_DIVISION, division._replace(override=fields["DIVISOR"])
    for each in passes[:-1]:
        shares = draft.sums(dtype, size_of(each, False))
        _draft_pass(draft, each, grad, shares, first)
        grad = shares
    _draft_pass(draft, passes[-1], grad, out, division)


def _draft_pass(draft: Draft, plan: Plan, grad: Buffer, out: Buffer, division: Division) -> None:
    read, buffers, placement = [(grad, True)], [out, grad], taps.placement_of(plan)
    word, more, fields = avg.divisor_names(plan, grad.dtype, division)
    names = element_of(grad.dtype) | written_as(out.dtype) | sum_of(grad.dtype) | taps.PLACEMENTS[placement] | more
    words, tiles = [grad.name, out.name, word], rows.gradient_tiles_of(plan, grad, out)
    if whole.fills_planes(plan, out):
        whole.add_fill(draft, avg_fill, words, names, plan, read, buffers, fields=fields)
    elif tiles is not None:
        function, words, layer = avg_holders_tiles, [tiles.word, grad.name, word], Layer(plan)
        steps, fields = tiles.steps, fields | tiles.fields
        draft.add(function, words, names, layer, read, buffers, of_output=False, steps=steps, fields=fields)
    else:
        layer = layer_of(plan, read, out=out)
        draft.add(avg_holders, [placement, *words], names, layer, read, buffers, of_output=False, fields=fields)


def avg_holders(t, buffers, g):
    """Shares of all windows that hold an element, in the order of the windows."""
    out, grad = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, w, c, to = grid.position_of(t, g)
    at = grid.plane_of_x(p, c, g)
    d0, d1 = taps.holders_d(d, g)
    h0, h1 = taps.holders_h(h, g)
    w0, w1 = taps.holders_w(w, g)
    sums = zero()
    for od in range(d0, d1):
        if taps.tap_d(d, od, g) >= 0:
            for oh in range(h0, h1):
                if taps.tap_h(h, oh, g) >= 0:
                    row = at + index(od * g[G.X_D] + oh * g[G.X_H])
                    for ow in range(w0, w1):
                        if taps.tap_w(w, ow, g) >= 0:
                            share = load(grad, row + index(ow * g[G.X_W]), g[G.X_LANE])
                            if not IS_UNIFORM:
                                share = divide(share, divisor_of(od, oh, ow, g))
                            sums = add(sums, share)
    if IS_UNIFORM:
        sums = divide(sums, divisor_of(d, h, w, g))
    store(out, to, g[G.TO_LANE], sums)


def avg_holders_tiles(t, buffers, g):
    """Shares of windows of two columns that lie side by side: 16 bytes of gradients at a time, to twice as many elements."""
    out, grad = buffers
    if t >= g[G.UNITS]:
        return
    p, d, h, group, c, to = grid.position_of(t, g)
    at = grid.plane_of_x(p, c, g) + index(group * g[G.TILE])
    d0, d1 = taps.holders_d(d, g)
    h0, h1 = taps.holders_h(h, g)
    sums = zero()
    for od in range(d0, d1):
        for oh in range(h0, h1):
            share = load(grad, at + index(od * g[G.X_D] + oh * g[G.X_H]), 1)
            if not IS_UNIFORM:
                share = divide(share, divisor_of(od, oh, index(0), g))
            sums = add(sums, share)
    if IS_UNIFORM:
        sums = divide(sums, divisor_of(d, h, index(0), g))
    store(out, to, 1, doubled(sums))


def avg_fill(t, buffers, g):
    """The share of every element of planes that are one window each, 16 bytes at a time."""
    out, grad = buffers
    if t >= g[G.UNITS]:
        return
    first, p, left = whole.filled_by(t, g)
    divisor = divisor_of(index(0), index(0), index(0), g)
    own = divide(load(grad, grid.plane_of_x(p, index(0), g), 0), divisor)
    following = own
    if whole.reaches_next(first, left, g):
        following = divide(load(grad, grid.plane_of_x(index(p + 1), index(0), g), 0), divisor)
    whole.store_filled(out, first, g, fill(own, following, left, index(0)))
