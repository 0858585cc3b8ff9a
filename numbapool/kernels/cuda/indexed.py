"""Elements by their indices: gradients to where maxima are, saved or found again, and unpooling.

Nothing is added by two threads, and what several may claim goes to the one with the largest number: every run has the same bits.
"""

from __future__ import annotations

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid
from numbapool.kernels.cuda.codes import decode_taps
from numbapool.kernels.cuda.elements import atomic_max, element, index, quotient, total, value
from numbapool.kernels.cuda.grid import (
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
    position_of,
    tap_d,
    tap_h,
    tap_w,
)
from numbapool.kernels.cuda.lanes import add_where_one, load_one, store_one, zero_one
from numbapool.kernels.cuda.launch import (
    NO_BUFFER,
    Draft,
    Layer,
    Operand,
    Program,
    element_of,
    is_large,
    layer_of,
    name_of,
    plain_total,
    remembered,
    scalars_of,
    step_of,
    sum_of,
)
from numbapool.kernels.cuda.max import find_max
from numbapool.kernels.cuda.passes import clear, convert, flag_of

# Lanes that carry an index each.
INDEXED_LANES = 4
# Threads that share the planes of a scan, and elements that each owns at least.
SCANNERS = 1 << 16
OWNED = 32

# Bound by the variant.
load, store, zero, add_where = load_one, store_one, zero_one, add_where_one
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
            decode_taps(draft, plan, indices, NO_BUFFER)
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
    magic = grid.magic64 if large else grid.magic32
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
    magic = grid.magic64 if large else grid.magic32
    _, in_h, in_w = (axis.length for axis in plan.axes)  # type: ignore[attr-defined]
    scalars = scalars_of(layer, read, True, large) + (magic(in_w), magic(in_h))
    name = name_of(x[0].dtype)
    buffers = [(2, name), (0, name), (indices[1], str(indices[0].dtype)), (draft.flag, "int32")]
    names = element_of(x[0].dtype) | {"LEAST": least}
    words = [name, str(indices[0].dtype), "all" if least == 0 else "some"]
    draft.steps.append(step_of(pick, words, names, layer, buffers, scalars, large))
    return draft.program()


def moved(operand: Operand) -> Operand:
    """An operand whose elements are only moved: unsigned integers of its size."""
    return operand._replace(dtype=np.dtype(f"u{operand.dtype.itemsize}"))


def in_plane(draft: Draft, plan: Plan, indices: tuple[Operand, int]) -> tuple[Operand, int]:
    """Indices as positions in the plane; -1 for what is not a tap inside the input, or stands for none."""
    if indices[0].dtype.kind == "i":
        return indices
    positions = draft.room(plan.planes * plan.out_plane_size * plan.channels, np.int64)
    decode_taps(draft, plan, indices, positions)
    return Operand(np.dtype(np.int64), None, 16), positions


def check_positions(draft: Draft, plan: Plan, indices: tuple[Operand, int]) -> None:
    """Set the flag of a draft if an index is outside the plane, and not -1."""
    layer, read = Layer(plan, "planes", 1), [(indices[0], True)]
    large = is_large(plan, read, plan.planes * plan.out_plane_size * plan.channels)
    buffers = [(draft.flag, "int32"), (indices[1], str(indices[0].dtype))]
    scalars = scalars_of(layer, read, True, large)
    draft.steps.append(step_of(check, [str(indices[0].dtype)], {}, layer, buffers, scalars, large))


def gather_gradients(
    draft: Draft, plan: Plan, grad: tuple[Operand, int], indices: tuple[Operand, int], out: tuple[Operand, int]
) -> None:
    """Steps from gradients and indices to the gradient of the input, of the dtype of the gradient or that of its sums."""
    if isinstance(plan, BinPlan):
        scan_gradients(draft, plan, grad, in_plane(draft, plan, indices), out)
        return
    dtype, kind = grad[0].dtype, indices[0].dtype
    read = [(grad[0], True), (indices[0], True)]
    layer = layer_of(plan, read, INDEXED_LANES, True)
    large = is_large(plan, read, plan.planes * plan.plane_size * plan.channels)
    placement = grid.placement_of(plan)
    names = element_of(dtype) | sum_of(dtype) | grid.PLACEMENTS[placement]
    if out[0].dtype != dtype:
        names["put"] = put_total
    names["wanted"] = wanted_tap if kind.kind == "u" else wanted_position
    draft.steps.append(
        step_of(
            max_holders,
            [placement, name_of(dtype), name_of(out[0].dtype), str(kind)],
            names,
            layer,
            [(out[1], name_of(out[0].dtype)), (grad[1], name_of(dtype)), (indices[1], str(kind))],
            scalars_of(layer, read, False, large),
            large,
        )
    )


def scan_gradients(
    draft: Draft, plan: Plan, grad: tuple[Operand, int], indices: tuple[Operand, int], out: tuple[Operand, int]
) -> None:
    """The same for indices that may name any element of the plane."""
    dtype, read = grad[0].dtype, [(grad[0], True), (indices[0], True)]
    sums = out
    if out[0].dtype != plain_total(dtype):
        operand = Operand(plain_total(dtype), None, 16)
        sums = operand, draft.room(plan.planes * plan.plane_size * plan.channels, operand.dtype)
    large = is_large(plan, read, plan.planes * plan.plane_size * plan.channels)
    magic = grid.magic64 if large else grid.magic32
    pixels = plan.planes * plan.channels
    parts = max(1, min(-(-plan.plane_size // OWNED), SCANNERS // max(1, pixels)))
    layer = Layer(plan, "planes", 1)
    scalars = list(scalars_of(layer, read, True, large))
    scalars[UNITS] = pixels * parts
    scalars[grid.GRID_W], scalars[grid.GRID_W_M] = parts, magic(parts)
    scalars[grid.GRID_H], scalars[grid.GRID_H_M] = 1, magic(1)
    scalars[grid.GRID_D], scalars[grid.GRID_D_M] = 1, magic(1)
    scalars.append(-(-plan.plane_size // parts))
    buffers = [(sums[1], name_of(sums[0].dtype)), (grad[1], name_of(dtype)), (indices[1], str(indices[0].dtype))]
    names = element_of(dtype) | sum_of(dtype)
    words = [name_of(dtype), str(indices[0].dtype)]
    draft.steps.append(step_of(scan, words, names, layer, buffers, tuple(scalars), large))
    if sums is not out:
        convert(draft, sums, out, plan.planes * plan.plane_size * plan.channels)


def scatter_to_maxima(
    draft: Draft,
    plan: Plan,
    grad: tuple[Operand, int],
    x: tuple[Operand, int],
    out: tuple[Operand, int],
    is_reversed: bool,
) -> None:
    """Steps from gradients and the input to the gradient of the input."""
    outputs = plan.planes * plan.out_plane_size * plan.channels
    kind = np.dtype(np.int32 if plan.plane_size < 1 << 31 else np.int64)
    values, positions = Operand(x[0].dtype, None, 16), Operand(kind, None, 16)
    numbers = draft.room(outputs, values.dtype), draft.room(outputs, kind)
    find_max(draft, plan, x, (values, numbers[0]), (positions, numbers[1]), is_reversed)
    gather_gradients(draft, plan, grad, (positions, numbers[1]), out)


def put_total(out, i, each):
    """Write a sum as it is."""
    out[i] = each


def wanted_position(d, h, w, i, j, k, g):
    """The index of an element at (d, h, w), which is tap (i, j, k) of a window."""
    return np.int64(index((d * g[IN_H] + h) * g[IN_W] + w))


def wanted_tap(d, h, w, i, j, k, g):
    return np.int64(index((i * g[KERNEL_H] + j) * g[KERNEL_W] + k))


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
                            number = wanted(d, h, w, i, j, k, g)
                            from_grad = row + index(ow * g[X_W])
                            from_index = index_row + index(ow * g[Y_W])
                            sums = add_where(sums, grad, from_grad, g[X_LANE], positions, from_index, g[Y_LANE], number)
    store(out, to, g[TO_LANE], sums)


def check(t, buffers, g):
    """Whether an index is outside the plane."""
    flag, positions = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, _ = position_of(t, g)
    at = plane_of_x(p, c, g) + np.int64(od) * g[X_D] + np.int64(oh) * g[X_H] + np.int64(ow) * g[X_W]
    position = np.int64(positions[at])
    if position < -1 or position >= np.int64(g[IN_D] * g[IN_H] * g[IN_W]):
        flag[0] = np.int32(1)


def scan(t, buffers, g):
    """A thread owns some elements of a plane, and looks for them among all indices of the plane."""
    out, grad, positions = buffers
    if t >= g[UNITS]:
        return
    p, _, _, part, c, _ = position_of(t, g)
    size = np.int64(g[IN_D] * g[IN_H] * g[IN_W])
    first = np.int64(part) * g[EXTRA]
    end = min(np.int64(first + g[EXTRA]), size)
    to = np.int64(np.int64(p) * size * g[grid.CHANNELS] + c)
    for i in range(first, end):
        out[to + i * g[grid.CHANNELS]] = total(0)
    at, index_at = plane_of_x(p, c, g), plane_of_y(p, c, g)
    for od in range(index(g[OUT_D])):
        for oh in range(index(g[OUT_H])):
            row = at + index(od * g[X_D] + oh * g[X_H])
            index_row = index_at + index(od * g[Y_D] + oh * g[Y_H])
            for ow in range(index(g[OUT_W])):
                position = np.int64(positions[index_row + index(ow * g[Y_W])])
                if first <= position < end:
                    own = to + position * g[grid.CHANNELS]
                    out[own] = total(out[own] + total(element(grad, row + index(ow * g[X_W]))))


def pick(t, buffers, g):
    """The element that an index names."""
    out, x, positions, flag = buffers
    if t >= g[UNITS]:
        return
    p, od, oh, ow, c, to = position_of(t, g)
    at = plane_of_y(p, c, g) + np.int64(od) * g[Y_D] + np.int64(oh) * g[Y_H] + np.int64(ow) * g[Y_W]
    position = np.int64(positions[at])
    if position >= 0 and position < np.int64(g[IN_D] * g[IN_H] * g[IN_W]):
        row = quotient(index(position), g[IN_W], g[EXTRA])
        w = index(position - row * g[IN_W])
        d = quotient(row, g[IN_H], g[EXTRA + 1])
        h = index(row - d * g[IN_H])
        out[to] = x[plane_of_x(p, c, g) + index(d * g[X_D] + h * g[X_H] + w * g[X_W])]
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
    at = plane_of_x(p, c, g) + np.int64(od) * g[X_D] + np.int64(oh) * g[X_H] + np.int64(ow) * g[X_W]
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
        out[to] = x[plane_of_x(p, c, g) + index(d * g[X_D] + h * g[X_H] + w * g[X_W])]
    else:
        put_zero(out, to)
