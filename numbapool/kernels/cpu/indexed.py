"""Elements by their indices: gradients to where maxima are, saved or found again, and unpooling.

Each unit of work owns a block of the *input*, so no two write to the same place, and each element sums its gradients in the
order of the outputs: the bits are the same for any number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from numbapool.compilable import compilable
from numbapool.elements import value_dtype
from numbapool.geometry import BinPlan, WindowPlan
from numbapool.kernels.cpu import rows
from numbapool.kernels.cpu.codes import in_plane, no_tap
from numbapool.kernels.cpu.compile import entry, inlined, inner
from numbapool.kernels.cpu.marks import mark_unit, no_mark
from numbapool.kernels.cpu.max import max_pool_with_indices, scan_window
from numbapool.kernels.cpu.pull import is_pulled, pull_gradients
from numbapool.kernels.cpu.rows import ONE, ZERO, plane_at, touching
from numbapool.kernels.cpu.schedule import (
    FEWEST_UNITS,
    WHOLE,
    WINDOWS,
    AnyPlan,
    Planes,
    contiguous_layout,
    contiguous_out_layout,
    geometry_of,
    plane_size,
    planes_of,
    schedule_of,
    with_layout,
)
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.tables import units as U
from numbapool.kernels.cpu.threads import Source, run
from numbapool.kernels.cpu.vectors import element, is_summed_in, lowest, no_sum, sums_of

# Input elements that a unit of work owns, at least.
OWNED_ELEMENTS = 1 << 14
# Windows of up to this many elements have a table of where they are.
MOST_TAPS = 1 << 16


def scatter_add(plan: AnyPlan, grad_output: Source, indices: Source, grad_input: np.ndarray) -> bool:
    """Add each gradient to the element its index names; False if an index lies outside the plane (but -1 means none).

    Indices of an unsigned dtype are taps of the window.
    """
    if indices[0].dtype.kind == "u":
        if isinstance(plan, WindowPlan) and plan.channels == 1 and plan.taps <= MOST_TAPS:
            return _scatter_taps(plan, grad_output, indices, grad_input)
        indices = in_plane(plan, indices)
    block, bad = plan.plane_size if isinstance(plan, BinPlan) else _block(plan), np.zeros(1, np.int64)
    # Eight zeros are written in the time of one addition.
    operations = plan.planes * (plan.out_plane_size + plan.plane_size // 8) * plan.channels
    if plan.channels > 1:
        blocks = plan.planes * -(-plan.plane_size // block)
        sizes = block, plan.channels
        run(scatter_pixels, blocks, operations, grad_input, grad_output[0], indices[0], geometry_of(plan), *sizes, bad)
    elif block == plan.plane_size and grad_output[1] is indices[1] is None:
        arguments = grad_input, grad_output[0], indices[0], plan.plane_size, plan.out_plane_size, bad
        run(scatter_planes, plan.planes, operations, *arguments)
    else:
        blocks = plan.planes * -(-plan.plane_size // block)
        sources = *_of_output(plan, grad_output), *_of_output(plan, indices)
        run(scatter, blocks, operations, grad_input, *sources, geometry_of(plan), block, bad)
    return not bad[0]


def max_pool_backward(plan: AnyPlan, grad_output: Source, x: Source, grad_input: np.ndarray) -> None:
    """The same with the positions of the maxima found again."""
    flat, layout = x
    if plan.channels > 1 or isinstance(plan, BinPlan):
        _scatter_to_maxima(plan, grad_output, x, grad_input)
        return
    schedule = schedule_of(plan, value_dtype(flat.dtype).itemsize, layout is None, True)
    if schedule.algorithm == WHOLE:
        _scatter_to_maxima(plan, grad_output, x, grad_input)
        return
    block = _block(plan)
    kernel = scan_and_scatter if schedule.algorithm == WINDOWS else mark_and_scatter
    program = with_layout(schedule.program, layout)
    arguments = flat, program, block, no_mark(plan)
    run(
        kernel,
        plan.planes * -(-plan.plane_size // block),
        flat.size,
        grad_input,
        *_of_output(plan, grad_output),
        *arguments,
    )


def _scatter_taps(plan: WindowPlan, grad_output: Source, taps: Source, grad_input: np.ndarray) -> bool:
    if is_pulled(plan) and grad_output[1] is taps[1] is None:
        return pull_gradients(plan, grad_output[0], taps[0], grad_input)
    block, bad = _block(plan), np.zeros(1, np.int64)
    units, operations = plan.planes * -(-plan.plane_size // block), grad_input.size // 4 + grad_output[0].size
    sources = *_of_output(plan, grad_output), *_of_output(plan, taps)
    none = no_tap(taps[0].dtype)
    run(scatter_taps, units, operations, grad_input, *sources, geometry_of(plan), block, _distances(plan), none, bad)
    return not bad[0]


@lru_cache(maxsize=512)
def _distances(plan: WindowPlan) -> np.ndarray:
    """How far from the first tap of a window each of its taps is, in a plane."""
    d, h, w = (np.arange(axis.kernel) * axis.dilation for axis in plan.axes)
    _, height, width = (axis.length for axis in plan.axes)
    return np.add.outer(np.add.outer(d * height * width, h * width), w).ravel()


def _scatter_to_maxima(plan: AnyPlan, grad_output: Source, x: Source, grad_input: np.ndarray) -> None:
    flat, layout = x
    maxima = np.empty(plan.planes * plan.out_plane_size * plan.channels, flat.dtype)
    indices = np.empty(maxima.size, np.int32 if plan.plane_size < 1 << 31 else np.int64)
    max_pool_with_indices(plan, flat.dtype, layout is None).run(x, [maxima, indices])
    scatter_add(plan, grad_output, (indices, None), grad_input)


def gather(plan: AnyPlan, x: Source, indices: Source, out: np.ndarray) -> bool:
    """The element that each index names, 0 for -1: the adjoint of `scatter_add`.

    False if an index lies outside the plane (but -1 means none).
    """
    return _gather(plan, x, indices, out, -1)


def gather_all(plan: AnyPlan, x: Source, indices: Source, out: np.ndarray) -> bool:
    """The same where -1, too, is outside the plane: the gradient of `place`."""
    return _gather(plan, x, indices, out, 0)


def _gather(plan: AnyPlan, x: Source, indices: Source, out: np.ndarray, none: int) -> bool:
    indices = in_plane(plan, indices) if indices[0].dtype.kind == "u" else indices
    flat, layout = x
    bad = np.zeros(1, np.int64)
    operations = plan.planes * plan.out_plane_size
    if layout is indices[1] is None:
        sizes = plan.plane_size, plan.out_plane_size
        run(gather_planes, plan.planes, operations, out, flat, indices[0], *sizes, bad, np.int64(none))
    else:
        d, h, _ = plan.axes
        source = flat, contiguous_layout(plan) if layout is None else layout
        arguments = out, *source, *_of_output(plan, indices), geometry_of(plan), bad, np.int64(none)
        run(gather_rows, plan.planes * d.out * h.out, operations, *arguments)
    return not bad[0]


def place(plan: AnyPlan, x: Source, indices: Source, out: np.ndarray) -> bool:
    """Each element where its index says, the last in row-major order where several say the same, and 0 elsewhere.

    False if an index lies outside the plane.
    """
    indices = in_plane(plan, indices) if indices[0].dtype.kind == "u" else indices
    bad = np.zeros(1, np.int64)
    sources = *_of_output(plan, x), *_of_output(plan, indices)
    operations = plan.planes * (plan.plane_size + plan.out_plane_size)
    run(place_planes, plan.planes, operations, out, *sources, geometry_of(plan), bad)
    return not bad[0]


def _of_output(plan: AnyPlan, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Flat array and layout of a source with the shape of the output."""
    flat, layout = source
    return flat, contiguous_out_layout(plan) if layout is None else layout


@lru_cache(maxsize=512)
def _block(plan: WindowPlan) -> int:
    return block_of(planes_of(plan), plan.channels)


@compilable
def block_of(planes: Planes, channels: int) -> int:
    """Input elements that one unit of work owns: whole rows of windows where it can be, that fit the second-level cache, and
    several times what windows reach beyond them, because outputs there are read by two owners.
    """
    d, h, w = planes.d, planes.h, planes.w
    reach_d, reach_h = (d.kernel - 1) * d.dilation, (h.kernel - 1) * h.dilation
    reach = (reach_d * h.length + reach_h) * w.length + (w.kernel - 1) * w.dilation
    shared, owned = planes.number * plane_size(planes) // FEWEST_UNITS, -(-OWNED_ELEMENTS // channels)
    block = max(owned, 4 * reach, min(32 * reach, 16 * owned, shared))
    row, slab = w.length * h.stride, w.length * h.length * d.stride
    whole = slab if block >= slab else row if block >= row else 1
    return min(plane_size(planes), -(-block // whole) * whole)


@inlined
def windows_of_range(g, first, last):
    """Ranges of windows along d, h and w that may read flat positions first <= i < last of a plane."""
    if last - first == g[G.IN_D] * g[G.IN_H] * g[G.IN_W]:  # spares small planes 16 divisions, 0.1 us
        return ZERO, g[G.OUT_D], ZERO, g[G.OUT_H], ZERO, g[G.OUT_W]
    row0, row1 = first // g[G.IN_W], (last - 1) // g[G.IN_W]
    d0, d1 = row0 // g[G.IN_H], row1 // g[G.IN_H]
    h0, h1 = (row0 - d0 * g[G.IN_H], row1 - d1 * g[G.IN_H]) if d0 == d1 else (ZERO, g[G.IN_H] - 1)
    w0, w1 = (first - row0 * g[G.IN_W], last - 1 - row1 * g[G.IN_W]) if row0 == row1 else (ZERO, g[G.IN_W] - 1)
    od0, od1 = touching(g[G.IN_D], g[G.OUT_D], g[G.KERNEL_D], g[G.STRIDE_D], g[G.DILATION_D], g[G.BEFORE_D], d0, d1)
    oh0, oh1 = touching(g[G.IN_H], g[G.OUT_H], g[G.KERNEL_H], g[G.STRIDE_H], g[G.DILATION_H], g[G.BEFORE_H], h0, h1)
    ow0, ow1 = touching(g[G.IN_W], g[G.OUT_W], g[G.KERNEL_W], g[G.STRIDE_W], g[G.DILATION_W], g[G.BEFORE_W], w0, w1)
    return od0, od1, oh0, oh1, ow0, ow1


@inlined
def own_range(number, g, block):
    """Plane and range of elements in it that a unit of work owns, and their position."""
    plane_size = g[G.IN_D] * g[G.IN_H] * g[G.IN_W]
    blocks = (plane_size + block - 1) // block
    plane = number // blocks
    first = (number - plane * blocks) * block
    return plane, first, min(first + block, plane_size), plane * plane_size + first


@inlined
def own_block(number, g, block, grad_input, sums):
    """The same, and the position of the sums, which are set to 0."""
    plane, first, end, to = own_range(number, g, block)
    sums_at = to if is_summed_in(grad_input) else ZERO
    rows.fill(sums, sums_at, no_sum(grad_input), end - first)
    return plane, first, end, to, sums_at


@inlined
def own_sums(grad_input, size):
    """Where the sums of up to `size` elements grow that a unit of work owns."""
    return sums_of(grad_input, np.full(ZERO if is_summed_in(grad_input) else np.int64(size), no_sum(grad_input)))


@inlined
def take_over(values, source, at, n):
    """Read n elements into an array of `own_sums`, all at once: one by one, float16 took twice as long as float32."""
    if not is_summed_in(source):
        rows.write_line(values, np.uintp(0), source, np.uintp(at), np.uintp(n), values)


@inlined
def hand_over(grad_input, to, sums, n):
    """Write n sums to where they belong, if they have grown elsewhere."""
    if not is_summed_in(grad_input):
        rows.write_line(grad_input, np.uintp(to), sums, np.uintp(0), np.uintp(n), sums)


@inner
def scatter_rows(sums, to, first, owned, plane_size, grad, at, steps, indices, index_at, index_steps, count, n):
    """Add `count` rows of n gradients to the elements that their indices name, of `owned` from `first` on, which is at `to`.

    Others are passed over. Returns whether any index is outside the plane, -1 apart.
    """
    is_bad = False
    target, size = np.uintp(to), np.uintp(owned)
    (row_step, step), (index_row_step, index_step) = steps, index_steps
    for r in range(count):
        i, j = at + r * row_step, index_at + r * index_row_step
        for o in range(n):
            index = np.int64(indices[np.uintp(j + o * index_step)])
            position = np.uintp(index - first)
            if position < size:
                sums[target + position] += element(grad, np.uintp(i + o * step), sums)
            elif np.uintp(index + 1) > np.uintp(plane_size):
                is_bad = True
    return is_bad


@entry
def scatter_planes(first, last, grad_input, grad, indices, plane_size, out_plane_size, bad):
    """`scatter` of contiguous arrays and small planes.

    Its speed is that of additions to the same element one after the other, 1 ns each for 3x3 windows at stride 1. Two rows
    of outputs at a time gave 1.2.
    """
    size, count = np.uintp(plane_size), np.uintp(out_plane_size)
    sums, gradients = own_sums(grad_input, plane_size), own_sums(grad, out_plane_size)
    for plane in range(first, last):
        at = np.uintp(plane) * count if is_summed_in(grad) else np.uintp(0)
        take_over(gradients, grad, plane * out_plane_size, out_plane_size)
        to = np.uintp(plane) * size if is_summed_in(grad_input) else np.uintp(0)
        for i in range(size):
            sums[to + i] = no_sum(grad_input)
        for i in range(count):
            index = indices[np.uintp(plane) * count + i]
            if np.uintp(index) < size:
                sums[to + np.uintp(index)] += gradients[at + i]
            elif index != -1:
                bad[0] = 1
        hand_over(grad_input, plane * plane_size, sums, plane_size)


@entry
def scatter(first, last, grad_input, grad, layout, indices, index_layout, g, block, bad):
    """Gradients to the positions that indices name."""
    plane_size = g[G.IN_D] * g[G.IN_H] * g[G.IN_W]
    steps, index_steps = (layout[L.H_STEP], layout[L.W_STEP]), (index_layout[L.H_STEP], index_layout[L.W_STEP])
    sums = own_sums(grad_input, block)
    for number in range(first, last):
        plane, own0, own1, to, sums_at = own_block(number, g, block, grad_input, sums)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        for od in range(od0, od1):
            at = plane_at(layout, plane) + od * layout[L.D_STEP]
            at += oh0 * layout[L.H_STEP] + ow0 * layout[L.W_STEP]
            index_at = plane_at(index_layout, plane) + od * index_layout[L.D_STEP]
            index_at += oh0 * index_layout[L.H_STEP] + ow0 * index_layout[L.W_STEP]
            size, high, wide = own1 - own0, oh1 - oh0, ow1 - ow0
            if scatter_rows(
                sums, sums_at, own0, size, plane_size, grad, at, steps, indices, index_at, index_steps, high, wide
            ):
                bad[0] = 1
        hand_over(grad_input, to, sums, own1 - own0)


@entry
def scatter_taps(first, last, grad_input, grad, layout, taps, tap_layout, g, block, distances, none, bad):
    """Gradients to the taps of their windows that are named."""
    plane_size, sums = np.uintp(g[G.IN_D] * g[G.IN_H] * g[G.IN_W]), own_sums(grad_input, block)
    known = np.uintp(distances.size)
    for number in range(first, last):
        plane, own0, own1, to, sums_at = own_block(number, g, block, grad_input, sums)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        owned, target, is_bad = np.uintp(own1 - own0), np.uintp(sums_at), False
        for od in range(od0, od1):
            at = plane_at(layout, plane) + od * layout[L.D_STEP] + ow0 * layout[L.W_STEP]
            tap_at = plane_at(tap_layout, plane) + od * tap_layout[L.D_STEP] + ow0 * tap_layout[L.W_STEP]
            slab = (od * g[G.STRIDE_D] - g[G.BEFORE_D]) * g[G.IN_H] - g[G.BEFORE_H]
            for oh in range(oh0, oh1):
                start = (slab + oh * g[G.STRIDE_H]) * g[G.IN_W] - g[G.BEFORE_W] + ow0 * g[G.STRIDE_W] - own0
                i, j = at + oh * layout[L.H_STEP], tap_at + oh * tap_layout[L.H_STEP]
                for o in range(ow1 - ow0):
                    tap = np.uintp(taps[np.uintp(j + o * tap_layout[L.W_STEP])])
                    if tap < known:
                        distance = start + o * g[G.STRIDE_W] + distances[tap]
                        position = np.uintp(distance)
                        if position < owned:
                            sums[target + position] += element(grad, np.uintp(i + o * layout[L.W_STEP]), sums)
                        else:
                            is_bad |= np.uintp(distance + own0) >= plane_size
                    else:
                        is_bad |= np.int64(tap) != none
        if is_bad:
            bad[0] = 1
        hand_over(grad_input, to, sums, own1 - own0)


@entry
def scatter_pixels(first, last, grad_input, grad, indices, g, block, channels, bad):
    """`scatter` of arrays whose channels lie side by side."""
    plane_size = g[G.IN_D] * g[G.IN_H] * g[G.IN_W]
    n, sums = np.uintp(channels), own_sums(grad_input, block * channels)
    for number in range(first, last):
        plane, own0, own1, to = own_range(number, g, block)
        sums_at = np.uintp(to * channels) if is_summed_in(grad_input) else np.uintp(0)
        rows.fill(sums, np.int64(sums_at), no_sum(grad_input), (own1 - own0) * channels)
        owned, first_owned = np.uintp(own1 - own0), np.uintp(own0)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                at = np.uintp((((plane * g[G.OUT_D] + od) * g[G.OUT_H] + oh) * g[G.OUT_W] + ow0) * channels)
                for _ in range(ow0, ow1):
                    for c in range(n):
                        index = np.int64(indices[at + c])
                        position = np.uintp(index) - first_owned
                        if position < owned:
                            sums[sums_at + position * n + c] += element(grad, at + c, sums)
                        elif np.uintp(index + 1) > np.uintp(plane_size):
                            bad[0] = 1
                    at += n
        hand_over(grad_input, to * channels, sums, (own1 - own0) * channels)


@entry
def gather_planes(first, last, out, x, indices, plane_size, out_plane_size, bad, none):
    """`gather_rows` of contiguous arrays."""
    size, count, zero = np.uintp(plane_size), np.uintp(out_plane_size), out.dtype.type(0)
    for plane in range(first, last):
        at, to = np.uintp(plane) * size, np.uintp(plane) * count
        is_bad = False
        for i in range(count):
            index = np.int64(indices[to + i])
            is_inside = np.uintp(index) < size
            is_bad |= not (is_inside or index == none)
            out[to + i] = x[at + np.uintp(index)] if is_inside else zero
        if is_bad:
            bad[0] = 1


@entry
def gather_rows(first, last, out, x, layout, indices, index_layout, g, bad, none):
    """Elements from the positions that indices name; a unit is a row of outputs."""
    slab_size = g[G.IN_H] * g[G.IN_W]
    size, zero = np.uintp(g[G.IN_D] * slab_size), out.dtype.type(0)
    is_flat = layout[L.W_STEP] == 1 and layout[L.H_STEP] == g[G.IN_W] and layout[L.D_STEP] == slab_size
    for number in range(first, last):
        slab = number // g[G.OUT_H]
        plane = slab // g[G.OUT_D]
        at = plane_at(layout, plane)
        index_at = plane_at(index_layout, plane) + (slab - plane * g[G.OUT_D]) * index_layout[L.D_STEP]
        index_at += (number - slab * g[G.OUT_H]) * index_layout[L.H_STEP]
        for o in range(g[G.OUT_W]):
            index, value = np.int64(indices[np.uintp(index_at + o * index_layout[L.W_STEP])]), zero
            if np.uintp(index) < size:
                position = index
                if not is_flat:
                    row = index // g[G.IN_W]
                    d = row // g[G.IN_H]
                    position = d * layout[L.D_STEP] + (row - d * g[G.IN_H]) * layout[L.H_STEP]
                    position += (index - row * g[G.IN_W]) * layout[L.W_STEP]
                value = x[np.uintp(at + position)]
            elif index != none:
                bad[0] = 1
            out[np.uintp(number * g[G.OUT_W] + o)] = value


@entry
def place_planes(first, last, out, x, layout, indices, index_layout, g, bad):
    """Elements to the positions that indices name; a unit is a plane."""
    size = np.uintp(g[G.IN_D] * g[G.IN_H] * g[G.IN_W])
    for plane in range(first, last):
        to = np.uintp(plane) * size
        rows.fill(out, plane * np.int64(size), out.dtype.type(0), np.int64(size))
        for od in range(g[G.OUT_D]):
            at = plane_at(layout, plane) + od * layout[L.D_STEP]
            index_at = plane_at(index_layout, plane) + od * index_layout[L.D_STEP]
            for _ in range(g[G.OUT_H]):
                for o in range(g[G.OUT_W]):
                    index = np.int64(indices[np.uintp(index_at + o * index_layout[L.W_STEP])])
                    if np.uintp(index) < size:
                        out[to + np.uintp(index)] = x[np.uintp(at + o * layout[L.W_STEP])]
                    else:
                        bad[0] = 1
                at += layout[L.H_STEP]
                index_at += index_layout[L.H_STEP]


@entry
def mark_and_scatter(first, last, grad_input, grad, layout, x, g, block, none):
    """Gradients to the positions of maxima that are found again."""
    plane_size = g[G.IN_D] * g[G.IN_H] * g[G.IN_W]
    work = np.full(g[G.WORK_SIZE], lowest(x))
    marks = np.full(g[G.FOLDED], none)
    x_layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    sums = own_sums(grad_input, block)
    is_first = True
    for number in range(first, last):
        plane, own0, own1, to, sums_at = own_block(number, g, block, grad_input, sums)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        for each in range(g[G.UNIT_COUNT]):
            unit = g[G.UNITS] + each * U.FIELDS
            outside = (
                g[unit + U.OD] < od0
                or g[unit + U.OD] >= od1
                or g[unit + U.OH] + g[unit + U.ROWS] <= oh0
                or g[unit + U.OH] >= oh1
            )
            if outside or g[unit + U.OW] + g[unit + U.COLS] <= ow0 or g[unit + U.OW] >= ow1:
                continue
            mark_unit(work, marks, x, x_layout, plane, unit, g, is_first, lowest(x), none)
            is_first = False
            at = plane_at(layout, plane) + g[unit + U.OD] * layout[L.D_STEP]
            at += g[unit + U.OH] * layout[L.H_STEP] + g[unit + U.OW] * layout[L.W_STEP]
            steps, mark_steps = (layout[L.H_STEP], layout[L.W_STEP]), (g[G.PITCH] // g[G.STRIDE_W], ONE)
            size, high, wide = own1 - own0, g[unit + U.ROWS], g[unit + U.COLS]
            scatter_rows(
                sums, sums_at, own0, size, plane_size, grad, at, steps, marks, g[G.ACROSS], mark_steps, high, wide
            )
        hand_over(grad_input, to, sums, own1 - own0)


@entry
def scan_and_scatter(first, last, grad_input, grad, layout, x, g, block, none):
    """The same for windows that are read tap by tap."""
    x_layout = g[g[G.LAYOUT] : g[G.LAYOUT] + L.FIELDS]
    sums = own_sums(grad_input, block)
    for number in range(first, last):
        plane, own0, own1, to, sums_at = own_block(number, g, block, grad_input, sums)
        od0, od1, oh0, oh1, ow0, ow1 = windows_of_range(g, own0, own1)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                row = plane_at(layout, plane) + od * layout[L.D_STEP] + oh * layout[L.H_STEP]
                for ow in range(ow0, ow1):
                    _, index, _ = scan_window(x, plane_at(x_layout, plane), x_layout, g, od, oh, ow)
                    if own0 <= index < own1:
                        gradient = element(grad, np.uintp(row + ow * layout[L.W_STEP]), sums)
                        sums[np.uintp(sums_at + index - own0)] += gradient
        hand_over(grad_input, to, sums, own1 - own0)
