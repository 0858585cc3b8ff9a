"""Elements by their indices: gradients to where maxima are, saved or found again, and unpooling.

Nothing is added by two threads, and what several may claim goes to the one with the largest number: every run has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import Any

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.codes import decode_taps
from numbapool.kernels.cuda.elements import atomic_max, element, index, put, quotient, total, value
from numbapool.kernels.cuda.grid import (
    CHANNELS,
    EXTRA,
    IN_D,
    IN_H,
    IN_W,
    KERNEL_H,
    KERNEL_W,
    OUT_D,
    OUT_H,
    OUT_W,
    TO_LANE,
    UNITS,
    X_D,
    X_H,
    X_LANE,
    X_W,
    Y_D,
    Y_H,
    Y_LANE,
    Y_W,
    holders_d,
    holders_h,
    holders_w,
    plane_of_x,
    plane_of_y,
    position_in_x,
    position_in_y,
    position_of,
    tap_d,
    tap_h,
    tap_w,
)
from numbapool.kernels.cuda.lanes import (
    WIDE_MARKS,
    add_one,
    add_where_one,
    fill_named_one,
    load_one,
    marks_at_one,
    named_one,
    narrowed_mark,
    nothing_one,
    plain_mark,
    store_one,
    store_taken_one,
    take_one,
    wide_marks,
    zero_one,
)
from numbapool.kernels.cuda.launch import (
    LARGEST,
    NO_BUFFER,
    WIDE,
    Draft,
    Layer,
    Operand,
    Program,
    Tiling,
    element_of,
    gradient_passes_of,
    gradient_tiling_of,
    has_aligned_pixels,
    has_aligned_rows,
    index_output,
    is_large,
    layer_of,
    lengths_of,
    name_of,
    plain_total,
    remembered,
    scalars_of,
    size_of,
    step_of,
    sum_of,
    written_as,
)
from numbapool.kernels.cuda.max import find_max, numbers_positions
from numbapool.kernels.cuda.passes import clear, convert, flag_of
from numbapool.kernels.cuda.whole import fill_step, filled_by, fills_planes, reaches_next, store_filled

# Lanes that carry an index each.
INDEXED_LANES = 4
# Threads that share the planes of a scan, and elements that each owns at least.
SCANNERS = 1 << 16
OWNED = 32
# Outputs of a row whose positions are looked at together, at least, and where the scalars of a scan are.
SEGMENT = 64
LENGTH, SEGMENTS, OWN = range(EXTRA, EXTRA + 3)

# Bound by the variant.
load, store, zero, add_where = load_one, store_one, zero_one, add_where_one
nothing, take, store_taken = nothing_one, take_one, store_taken_one
add_named, zero_named = add_one, zero_one
named, marks_at, fill_named = named_one, marks_at_one, fill_named_one
LEAST = 0


@remembered
def scatter_add(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], checks: bool) -> Program:
    """Add each gradient to the element its index names (-1 means none); indices of an unsigned dtype are taps of the window.

    Where windows slide only the windows that hold an element are asked for it: an index outside its window adds nothing.
    """
    draft = Draft(sources, results)
    grad, indices = (sources[0], 0), (sources[1], 1)
    if checks:
        draft.flag = flag_of(draft)
        if indices[0].dtype.kind == "u":
            decode_taps(draft, plan, indices)
        else:
            check_positions(draft, plan, indices)
    gather_gradients(draft, plan, grad, indices, (results[0], 2))
    return draft.program()


@remembered
def max_pool_backward(
    plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], is_reversed: bool = False
) -> Program:
    """The same with the positions of the maxima found again."""
    draft = Draft(sources, results)
    scatter_to_maxima(draft, plan, (sources[0], 0), (sources[1], 1), (results[0], 2), is_reversed)
    return draft.program()


def min_pool_backward(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Gradient of the minimum."""
    return max_pool_backward(plan, sources, results, True)


@remembered
def gather(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """The element that each index names, 0 for -1: the adjoint of `scatter_add`."""
    return _gather(plan, sources, results, -1)


@remembered
def gather_all(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """The same where -1, too, is outside the plane: the gradient of `place`."""
    return _gather(plan, sources, results, 0)


@remembered
def place(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...]) -> Program:
    """Each element where its index says, the last in row-major order where several say the same, and 0 elsewhere."""
    draft = Draft(sources, results)
    draft.flag = flag_of(draft)
    x, indices = (moved(sources[0]), 0), in_plane(draft, plan, (sources[1], 1))
    read = [(x[0], True), (indices[0], True)]
    units = plan.planes * max(plan.plane_size, plan.out_plane_size)
    large = is_large(plan, read, units)
    layer = Layer(plan, "planes", 1)
    kind = np.dtype(np.int64 if large else np.int32)
    winners = draft.room(plan.planes * plan.plane_size, kind)
    clear(draft, winners, plan.planes * plan.plane_size, kind, -1)
    buffers = [(winners, str(kind)), (indices[1], str(indices[0].dtype)), (draft.flag, "int32")]
    scalars = scalars_of(layer, [(indices[0], True)], True, large)
    draft.steps.append(step_of(claim, [str(indices[0].dtype)], {}, layer, buffers, scalars, large))
    magic = grid.magic_of(large)
    _, out_h, out_w = (axis.out for axis in plan.axes)  # type: ignore[attr-defined]
    scalars = scalars_of(layer, read, False, large) + (magic(out_w), magic(out_h))
    name = name_of(x[0].dtype)
    buffers = [(2, name), (0, name), (winners, str(kind))]
    draft.steps.append(step_of(collect, [name], element_of(x[0].dtype), layer, buffers, scalars, large))
    return draft.program()


def _gather(plan: Plan, sources: tuple[Operand, ...], results: tuple[Operand, ...], least: int) -> Program:
    draft = Draft(sources, results)
    draft.flag = flag_of(draft)
    x, indices = (moved(sources[0]), 0), in_plane(draft, plan, (sources[1], 1))
    read = [(x[0], False), (indices[0], True)]
    large = is_large(plan, read, plan.planes * plan.out_plane_size)
    layer = Layer(plan, "planes", 1)
    magic = grid.magic_of(large)
    _, in_h, in_w = (axis.length for axis in plan.axes)  # type: ignore[attr-defined]
    scalars = scalars_of(layer, read, True, large) + (magic(in_w), magic(in_h))
    name = name_of(x[0].dtype)
    buffers = [(2, name), (0, name), (indices[1], str(indices[0].dtype)), (draft.flag, "int32")]
    names = element_of(x[0].dtype) | {"LEAST": least}
    words = [name, str(indices[0].dtype), "all" if least == 0 else "some"]
    draft.steps.append(step_of(pick, words, names, layer, buffers, scalars, large))
    return draft.program()


def moved(operand: Operand) -> Operand:
    """An operand whose elements are only moved: unsigned integers of its size, but for bool, which is 0 or 1 when it arrives."""
    if operand.dtype.kind == "b":
        return operand
    return operand._replace(dtype=np.dtype(f"u{operand.dtype.itemsize}"))


def in_plane(draft: Draft, plan: Plan, indices: tuple[Operand, int]) -> tuple[Operand, int]:
    """Indices as positions in the plane; -1 for what is not a tap inside the input, or stands for none."""
    if indices[0].dtype.kind == "i":
        return indices
    positions = draft.positions(plan, size_of(plan, True))
    decode_taps(draft, plan, indices, positions)
    return positions


def check_positions(draft: Draft, plan: Plan, indices: tuple[Operand, int]) -> None:
    """Set the flag of a draft if an index is outside the plane, and not -1."""
    layer, read = Layer(plan, "planes", 1), [(indices[0], True)]
    large = is_large(plan, read, size_of(plan, True))
    buffers = [(draft.flag, "int32"), (indices[1], str(indices[0].dtype))]
    scalars = scalars_of(layer, read, True, large)
    draft.steps.append(step_of(check, [str(indices[0].dtype)], {}, layer, buffers, scalars, large))


def gather_gradients(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    indices: tuple[Operand, int],
    out: tuple[Operand, int],
    are_maxima: bool = False,
) -> None:
    """Steps from gradients and indices to the gradient of the input, of the dtype of the gradient or that of its sums.

    `are_maxima`: the indices are what `find_max` wrote, and not a caller's.
    """
    if isinstance(plan, BinPlan):
        scan_gradients(draft, plan, grad, in_plane(draft, plan, indices), out)
        return
    if fills_planes(plan, out[0]) and numbers_positions(plan, indices[0].dtype):
        _fill(draft, plan, grad, indices, out)
        return
    passes = gradient_passes_of(plan)
    if len(passes) == 1:
        _hold(draft, plan, grad, indices, out, max_holders)
        return
    positions = in_plane(draft, plan, indices)
    differ, sums, marks = NO_BUFFER if are_maxima else flag_of(draft), grad, positions
    for each in passes[:-1]:
        sums, marks = _hold_along(draft, plan, each, sums, marks, differ)
    _hold(draft, passes[-1], sums, marks, out, max_holders)
    if differ != NO_BUFFER:
        _hold(draft, plan, grad, positions, out, max_holders_again, (differ, "int32"))


def _fill(
    draft: Draft, plan: Plan, grad: tuple[Operand, int], indices: tuple[Operand, int], out: tuple[Operand, int]
) -> None:
    dtype, name_of_out, kind = grad[0].dtype, name_of(out[0].dtype), str(indices[0].dtype)
    names = element_of(dtype) | written_as(out[0].dtype) | sum_of(dtype)
    words, read = [name_of(dtype), name_of_out, kind], [(grad[0], True), (indices[0], True)]
    buffers = [(out[1], name_of_out), (grad[1], name_of(dtype)), (indices[1], kind)]
    draft.steps.append(fill_step(max_fill, words, names, plan, read, out[0], buffers))


def _hold(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    indices: tuple[Operand, int],
    out: tuple[Operand, int],
    function: Callable[..., None],
    *more: tuple[int, str],
) -> None:
    """Each element takes the gradients of all windows that name it, at once."""
    dtype, kind = grad[0].dtype, indices[0].dtype
    read = [(grad[0], True), (indices[0], True)]
    large = is_large(plan, read, size_of(plan, False))
    placement = grid.placement_of(plan)
    names = element_of(dtype) | written_as(out[0].dtype) | sum_of(dtype) | grid.PLACEMENTS[placement]
    tiling = gradient_tiling_of(plan, grad[0], out[0])
    if tiling is not None and function is max_holders:
        _hold_tiles(draft, plan, tiling, grad, indices, out, names, large)
        return
    layer, word, steps = _layer_of_indexed(plan, grad[0], indices[0], out[0])
    names |= mark_names(kind, large) | {"wanted": wanted_tap if kind.kind == "u" else wanted_position}
    draft.steps.append(
        step_of(
            function,
            [placement, name_of(dtype), name_of(out[0].dtype), word],
            names | steps,
            layer,
            [(out[1], name_of(out[0].dtype)), (grad[1], name_of(dtype)), (indices[1], str(kind)), *more],
            scalars_of(layer, read, False, large),
            large,
        )
    )


def _layer_of_indexed(
    plan: Plan, grad: Operand, indices: Operand, out: Operand | None = None
) -> tuple[Layer, str, dict[str, Any]]:
    """The lanes for gradients and indices, a word for how these are read, and the step that does so if 16 bytes at a time."""
    layer = layer_of(plan, [(grad, True), (indices, True)], INDEXED_LANES, out=out)
    is_aligned = layer.kind == "channels" and has_aligned_pixels(plan, indices, True)
    return layer, *_marks_steps(indices.dtype, layer.lanes, is_aligned)


def _marks_steps(kind: np.dtype[Any], lanes: int, is_aligned: bool) -> tuple[str, dict[str, Any]]:
    at_once = WIDE // kind.itemsize
    if not (is_aligned and at_once in WIDE_MARKS and at_once <= lanes):
        return str(kind), {}
    return f"{kind}r", wide_marks(at_once, lanes)


def mark_names(kind: np.dtype[Any], is_large: bool) -> dict[str, Any]:
    """How indices of a dtype are compared with positions."""
    return {"as_mark": plain_mark if is_large or kind.itemsize < 8 else narrowed_mark}


def _hold_tiles(
    draft: Draft,
    plan: Plan,
    tiling: Tiling,
    grad: tuple[Operand, int],
    indices: tuple[Operand, int],
    out: tuple[Operand, int],
    names: dict[str, Any],
    large: bool,
) -> None:
    name, kind = name_of(grad[0].dtype), indices[0].dtype
    layer, read = Layer(plan, "planes", 1), [(grad[0], True), (indices[0], True)]
    word, marks_steps = _marks_steps(kind, tiling.outputs, has_aligned_rows(plan, indices[0], True))
    steps = tiling.gradient_steps | marks_steps
    names |= mark_names(kind, large) | {"wanted": wanted_position, "BESIDE": 2}
    if kind.kind == "u":
        names |= {"wanted": wanted_tap, "BESIDE": 0}
    words = [tiling.word(True), name, word]
    buffers = [(out[1], name), (grad[1], name), (indices[1], str(kind))]
    scalars = tiling.scalars(scalars_of(layer, read, False, large), large, True)
    draft.steps.append(step_of(max_holders_tiles, words, names, layer, buffers, scalars, large, steps))


def _hold_along(
    draft: Draft,
    plan: Plan,
    each: Plan,
    grad: tuple[Operand, int],
    positions: tuple[Operand, int],
    differ: int,
) -> tuple[tuple[Operand, int], tuple[Operand, int]]:
    """One pass of several: sums of gradients along an axis, and the positions that they go to."""
    dtype, kind, size = grad[0].dtype, positions[0].dtype, size_of(each, False)
    sums, marks = draft.sums(dtype, size), draft.positions(plan, size)
    read, placement = [(grad[0], True), (positions[0], True)], grid.placement_of(each)
    layer, word, wide_steps = _layer_of_indexed(each, grad[0], positions[0])
    large = is_large(each, read, size) or plan.plane_size > LARGEST
    names = element_of(dtype) | sum_of(dtype) | grid.PLACEMENTS[placement] | index_output(marks[0].dtype)
    names |= mark_names(kind, large) | {"MAY_DIFFER": differ != NO_BUFFER}
    _, in_h, in_w = (axis.length for axis in plan.axes)  # type: ignore[attr-defined]
    is_along_h = each.axes[1] == plan.axes[1]  # type: ignore[attr-defined]
    steps = (in_h * in_w, in_w, in_w) if is_along_h else (in_h * in_w, 0, in_h * in_w)
    words = [placement, name_of(dtype), word, str(marks[0].dtype), "given" if differ != NO_BUFFER else "found"]
    buffers = [(sums[1], name_of(sums[0].dtype)), (marks[1], str(marks[0].dtype)), (differ, "int32")]
    buffers += [(grad[1], name_of(dtype)), (positions[1], str(kind))]
    scalars = scalars_of(layer, read, False, large) + steps
    draft.steps.append(step_of(max_holders_along, words, names | wide_steps, layer, buffers, scalars, large))
    return sums, marks


def scan_gradients(
    draft: Draft, plan: Plan, grad: tuple[Operand, int], indices: tuple[Operand, int], out: tuple[Operand, int]
) -> None:
    """The same for indices that may name any element of the plane."""
    dtype, read, pixels = grad[0].dtype, [(grad[0], True), (indices[0], True)], plan.planes * plan.channels
    sums = out if out[0].dtype == plain_total(dtype) else draft.sums(dtype, pixels * plan.plane_size)
    large = is_large(plan, read, pixels * max(plan.plane_size, plan.out_plane_size))
    layer, scalars = Layer(plan, "planes", 1), scalars_of(Layer(plan, "planes", 1), read, True, large)
    out_d, out_h, out_w = lengths_of(plan, True)
    length = max(1, min(out_w, max(SEGMENT, isqrt(plan.out_plane_size))))
    segments = -(-out_w // length)
    number = pixels * out_d * out_h * segments
    kind = np.dtype(np.int64 if large else np.int32)
    lows, highs = ((draft.room(number, kind), str(kind)) for _ in range(2))
    named = indices[1], str(indices[0].dtype)
    counts = (out_d, out_h, segments), (length, segments)
    draft.steps.append(
        step_of(span, [named[1]], {}, layer, [lows, highs, named], counted(scalars, pixels, *counts, large), large)
    )
    parts = max(1, min(-(-plan.plane_size // OWNED), SCANNERS // max(1, pixels)))
    owned = -(-plan.plane_size // parts)
    buffers = [(sums[1], name_of(sums[0].dtype)), (grad[1], name_of(dtype)), named, lows, highs]
    scalars = counted(scalars, pixels, (1, 1, parts), (length, segments, owned), large)
    names = element_of(dtype) | sum_of(dtype)
    draft.steps.append(step_of(scan, [name_of(dtype), named[1]], names, layer, buffers, scalars, large))
    if sums is not out:
        convert(draft, sums, out, pixels * plan.plane_size)


def counted(
    scalars: tuple[int, ...], pixels: int, counts: tuple[int, int, int], more: tuple[int, ...], is_large: bool
) -> tuple[int, ...]:
    """Scalars of a step whose threads are counted along so many positions instead of those of a result."""
    fields, magic = list(scalars), grid.magic_of(is_large)
    fields[UNITS] = pixels * prod(counts)
    for at, count in zip((grid.GRID_D, grid.GRID_H, grid.GRID_W), counts):
        fields[at], fields[at + 1] = count, magic(count)
    return (*fields, *more)


def scatter_to_maxima(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    is_reversed: bool,
) -> None:
    """Steps from gradients and the input to the gradient of the input."""
    outputs = size_of(plan, True)
    values, positions = draft.elements(x[0].dtype, outputs), draft.positions(plan, outputs)
    find_max(draft, plan, x, values, positions, is_reversed)
    gather_gradients(draft, plan, grad, positions, out, True)


def wanted_position(d, h, w, i, j, k, g):
    """The index of an element at (d, h, w), which is tap (i, j, k) of a window."""
    return index((d * g[IN_H] + h) * g[IN_W] + w)


def wanted_tap(d, h, w, i, j, k, g):
    return index((i * g[KERNEL_H] + j) * g[KERNEL_W] + k)


wanted = wanted_position


def max_holders(t, buffers, g):
    """Gradients of all windows that hold an element and name it, in the order of the windows."""
    out, grad, positions = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at, index_at = plane_of_x(p, c, g), plane_of_y(p, c, g)
    d0, d1 = holders_d(d, g)
    h0, h1 = holders_h(h, g)
    w0, w1 = holders_w(w, g)
    sums = zero()
    for od in range(d0, d1):
        i = tap_d(d, od, g)
        if i >= 0:
            for oh in range(h0, h1):
                j = tap_h(h, oh, g)
                if j >= 0:
                    row = at + index(od * g[X_D] + oh * g[X_H])
                    index_row = index_at + index(od * g[Y_D] + oh * g[Y_H])
                    for ow in range(w0, w1):
                        k = tap_w(w, ow, g)
                        if k >= 0:
                            each = load(grad, row + index(ow * g[X_W]), g[X_LANE])
                            marks = marks_at(positions, index_row + index(ow * g[Y_W]), g[Y_LANE])
                            sums = add_where(sums, each, marks, wanted(d, h, w, i, j, k, g))
    store(out, to, g[TO_LANE], sums)


def max_fill(t, buffers, g):
    """Gradients of planes that are one window each, 16 bytes at a time: 0 but for the elements that are named."""
    out, grad, positions = buffers
    if t >= g[UNITS]:
        return
    first, p, left = filled_by(t, g)
    own, own_at = element(grad, plane_of_x(p, index(0), g)), np.int64(positions[plane_of_y(p, index(0), g)])
    own_at = lane_of(own_at, np.int64(left) - g[IN_D] * g[IN_H] * g[IN_W], left)
    following, following_at = own, np.int64(-1)
    if reaches_next(first, left, g):
        p = index(p + 1)
        following, following_at = (
            element(grad, plane_of_x(p, index(0), g)),
            np.int64(positions[plane_of_y(p, index(0), g)]),
        )
        following_at = lane_of(following_at, np.int64(left), np.int64(left) + g[IN_D] * g[IN_H] * g[IN_W])
    store_filled(out, first, g, fill_named(own, own_at, following, following_at, index(0)))


def lane_of(position, shift, end):
    """Where an element of a plane is among those that a thread fills; -1 if it is not in the plane."""
    lane = np.int64(position + shift)
    return lane if position >= 0 and lane < end else np.int64(-1)


def max_holders_tiles(t, buffers, g):
    """The same where windows of two columns lie side by side: 16 bytes of gradients at a time, to twice as many elements."""
    out, grad, positions = buffers
    if t >= g[UNITS]:
        return
    p, d, h, group, c, to = position_of(t, g)
    ow = index(group * g[EXTRA])
    at, index_at = plane_of_x(p, c, g) + ow, plane_of_y(p, c, g) + index(ow * g[Y_W])
    d0, d1 = holders_d(d, g)
    h0, h1 = holders_h(h, g)
    sums = zero_named()
    for od in range(d0, d1):
        for oh in range(h0, h1):
            each = load(grad, at + index(od * g[X_D] + oh * g[X_H]), 1)
            marks = marks_at(positions, index_at + index(od * g[Y_D] + oh * g[Y_H]), g[Y_W])
            first = wanted(d, h, index(2 * ow), tap_d(d, od, g), tap_h(h, oh, g), index(0), g)
            sums = add_named(sums, named(each, marks, first))
    store(out, to, 1, sums)


def max_holders_again(t, buffers, g):
    """The same, if windows that share a row name different elements of it, as no maxima do: those that others have written."""
    out, grad, positions, differ = buffers
    if differ[0] != 0:
        max_holders(t, (out, grad, positions), g)


def max_holders_along(t, buffers, g):
    """The sum of gradients of the windows along one axis that name an element of a row (or slab), and which element it is.

    All maxima of windows that share a row, and lie in it, are one element: so a sum and a position serve all of them.
    """
    out, marks, differ, grad, positions = buffers
    if t >= g[UNITS]:
        return
    p, d, h, w, c, to = position_of(t, g)
    at, index_at = plane_of_x(p, c, g), plane_of_y(p, c, g)
    first = index(d * g[EXTRA] + h * g[EXTRA + 1])
    end = index(first + g[EXTRA + 2])
    d0, d1 = holders_d(d, g)
    h0, h1 = holders_h(h, g)
    w0, w1 = holders_w(w, g)
    found = nothing()
    for od in range(d0, d1):
        if tap_d(d, od, g) >= 0:
            for oh in range(h0, h1):
                if tap_h(h, oh, g) >= 0:
                    row = at + index(od * g[X_D] + oh * g[X_H])
                    index_row = index_at + index(od * g[Y_D] + oh * g[Y_H])
                    for ow in range(w0, w1):
                        if tap_w(w, ow, g) >= 0:
                            each = load(grad, row + index(ow * g[X_W]), g[X_LANE])
                            mark = marks_at(positions, index_row + index(ow * g[Y_W]), g[Y_LANE])
                            found = take(found, each, mark, first, end)
    store_taken(out, marks, differ, to, g[TO_LANE], found)


def check(t, buffers, g):
    """Whether an index is outside the plane."""
    flag, positions = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, _ = position_of(t, g)
    at = position_in_x(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    if position < -1 or position >= np.int64(g[IN_D] * g[IN_H] * g[IN_W]):
        flag[0] = np.int32(1)


def span(t, buffers, g):
    """The smallest and the largest position in a segment of a row of outputs, so that whoever looks for others need not read it."""
    lows, highs, positions = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, segment, c, _ = position_of(t, g)
    at = position_in_y(p, c, od, oh, index(0), g)
    size = np.int64(g[IN_D] * g[IN_H] * g[IN_W])
    low, high = size, np.int64(-1)
    first = index(segment * g[LENGTH])
    for ow in range(first, min(index(first + g[LENGTH]), index(g[OUT_W]))):
        position = np.int64(positions[at + index(ow * g[Y_W])])
        if position >= 0 and position < size:
            low, high = min(low, position), max(high, position)
    lows[np.int64(t)], highs[np.int64(t)] = index(low), index(high)


def scan(t, buffers, g):
    """A thread owns some elements of a plane, and looks for them among all indices of the plane."""
    out, grad, positions, lows, highs = buffers
    if t >= g[UNITS]:
        return
    p, _, _, part, c, _ = position_of(t, g)
    size = np.int64(g[IN_D] * g[IN_H] * g[IN_W])
    first = np.int64(part) * g[OWN]
    end = min(np.int64(first + g[OWN]), size)
    to = np.int64(np.int64(p) * size * g[CHANNELS] + c)
    for i in range(first, end):
        out[to + i * g[CHANNELS]] = total(0)
    at, index_at = plane_of_x(p, c, g), plane_of_y(p, c, g)
    for od in range(index(g[OUT_D])):
        for oh in range(index(g[OUT_H])):
            row = at + index(od * g[X_D] + oh * g[X_H])
            index_row = index_at + index(od * g[Y_D] + oh * g[Y_H])
            rows = np.int64(p) * g[OUT_D] * g[OUT_H] + od * g[OUT_H] + oh
            for segment in range(index(g[SEGMENTS])):
                number = (rows * g[SEGMENTS] + segment) * g[CHANNELS] + c
                if lows[number] < end and highs[number] >= first:
                    start = index(segment * g[LENGTH])
                    for ow in range(start, min(index(start + g[LENGTH]), index(g[OUT_W]))):
                        position = np.int64(positions[index_row + index(ow * g[Y_W])])
                        if first <= position < end:
                            own = to + position * g[CHANNELS]
                            out[own] = total(out[own] + total(element(grad, row + index(ow * g[X_W]))))


def pick(t, buffers, g):
    """The element that an index names."""
    out, x, positions, flag = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    at = position_in_y(p, c, od, oh, ow, g)
    position = np.int64(positions[at])
    if position >= 0 and position < np.int64(g[IN_D] * g[IN_H] * g[IN_W]):
        row = quotient(index(position), g[IN_W], g[EXTRA])
        w = index(position - row * g[IN_W])
        d = quotient(row, g[IN_H], g[EXTRA + 1])
        h = index(row - d * g[IN_H])
        put(out, to, element(x, position_in_x(p, c, d, h, w, g)))
    else:
        put_zero(out, to)
        if position < LEAST - 1 or position >= 0 or (position == -1 and LEAST == 0):
            flag[0] = np.int32(1)


def put_zero(out, i):
    out[i] = value(0)


def claim(t, buffers, g):
    """Each output names its target, where the last one stays."""
    winners, positions, flag = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, _ = position_of(t, g)
    at = position_in_x(p, c, od, oh, ow, g)
    position, size = np.int64(positions[at]), np.int64(g[IN_D] * g[IN_H] * g[IN_W])
    if position >= 0 and position < size:
        atomic_max(winners, np.int64(p) * size + position, index((od * g[OUT_H] + oh) * g[OUT_W] + ow))
    else:
        flag[0] = np.int32(1)


def collect(t, buffers, g):
    """Each target takes the element that it has been named by last, if any."""
    out, x, winners = buffers
    if t >= g[UNITS]:
        return
    p, _, _, _, c, to = position_of(t, g)
    number = index(winners[np.int64(t)])
    if number >= 0:
        row = quotient(number, g[OUT_W], g[EXTRA])
        w = index(number - row * g[OUT_W])
        d = quotient(row, g[OUT_H], g[EXTRA + 1])
        h = index(row - d * g[OUT_H])
        put(out, to, element(x, position_in_x(p, c, d, h, w, g)))
    else:
        put_zero(out, to)
