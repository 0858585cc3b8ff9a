"""Indices of one kind as another: positions in the plane, in the whole array, and taps of the window.

For the arrays whose kernels know positions in the plane only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbapool.geometry import BinPlan
from numbapool.kernels.cpu.bins import bounds_of
from numbapool.kernels.cpu.compile import entry, inlined
from numbapool.kernels.cpu.rows import ONE, ZERO, plane_at
from numbapool.kernels.cpu.schedule import AnyPlan, contiguous_out_layout, geometry_of
from numbapool.kernels.cpu.tables import geometry as G
from numbapool.kernels.cpu.tables import layout as L
from numbapool.kernels.cpu.threads import Launch, Source, run

# What stands for an index that no element of the plane has.
BAD = -2


class CallInWindow(NamedTuple):
    """A `threads.Launch` that finds positions in the plane, which are then written as taps of the window."""

    call: Launch
    plan: AnyPlan

    def run(self, x: Source, results: Sequence[np.ndarray]) -> None:
        """Compute the flat arrays `results`."""
        values, taps = results
        positions = np.empty(taps.size, np.int64)
        self.call.run(x, [values, positions])
        run(
            encode, *_rows(self.plan), taps, positions, geometry_of(self.plan), *_windows(self.plan), self.plan.channels
        )


def in_plane(plan: AnyPlan, taps: Source) -> Source:
    """Positions in the plane of taps of the window: -1 for none, `BAD` for what is not a tap inside the input."""
    flat, layout = taps
    positions = np.empty(plan.planes * plan.out_plane_size * plan.channels, np.int64)
    layout = contiguous_out_layout(plan) if layout is None else layout
    tables = geometry_of(plan), *_windows(plan), plan.channels
    none = no_tap(flat.dtype)
    run(decode, *_rows(plan), positions, flat, layout, *tables, none)
    return positions, None


def no_tap(dtype: np.dtype[Any]) -> np.int64:
    """What stands for no tap at all, as an int64."""
    return np.int64(np.iinfo(dtype).max if dtype.itemsize < 8 else -1)


def to_global(plan: AnyPlan, positions: Source, out: np.ndarray, first: np.ndarray, steps: tuple[int, ...]) -> None:
    """Positions in the plane to those in an array whose planes start at `first` and whose pooled axes have these steps."""
    flat, layout = positions
    layout = contiguous_out_layout(plan) if layout is None else layout
    run(widen, *_rows(plan), out, flat, layout, geometry_of(plan), first, *_three(steps))


def from_global(plan: AnyPlan, indices: Source, out: np.ndarray, first: np.ndarray, steps: tuple[int, ...]) -> bool:
    """The other way round; False if an index is not in the plane of its output."""
    flat, layout = indices
    layout, bad = contiguous_out_layout(plan) if layout is None else layout, np.zeros(1, np.int64)
    run(narrow, *_rows(plan), out, flat, layout, geometry_of(plan), first, *_three(steps), bad)
    return not bad[0]


def _three(steps: tuple[int, ...]) -> tuple[np.int64, ...]:
    return tuple(map(np.int64, (0,) * (3 - len(steps)) + steps))


def _rows(plan: AnyPlan) -> tuple[int, int]:
    """Rows of outputs, and elements in them."""
    d, h, _ = plan.axes
    return plan.planes * d.out * h.out, plan.planes * plan.out_plane_size * plan.channels


def _windows(plan: AnyPlan) -> tuple[np.ndarray, np.ndarray]:
    """First tap of each window and taps along d, the same along h and w, once or for each plane; and steps between taps."""
    if isinstance(plan, BinPlan):
        bounds, at = bounds_of(plan).reshape(-1, 2 * sum(axis.out for axis in plan.axes)).copy(), 0
        for axis in plan.axes:
            bounds[:, at + axis.out : at + 2 * axis.out] -= bounds[:, at : at + axis.out]
            at += 2 * axis.out
        return bounds.ravel(), np.ones(3, np.int64)
    tables = []
    for each in plan.axes:
        tables += [np.arange(each.out) * each.stride - each.before, np.full(each.out, each.kernel)]
    return np.concatenate(tables).astype(np.int64), np.array([each.dilation for each in plan.axes], np.int64)


@inlined
def windows_of_row(number, g, table):
    """Plane of a row of outputs, positions in the table of its windows along d and h and of the first along w."""
    slab = number // g[G.OUT_H]
    plane = slab // g[G.OUT_D]
    size = 2 * (g[G.OUT_D] + g[G.OUT_H] + g[G.OUT_W])
    start = plane * size if table.size > size else ZERO
    d, h = start + slab - plane * g[G.OUT_D], start + 2 * g[G.OUT_D] + number - slab * g[G.OUT_H]
    return plane, d, h, start + 2 * (g[G.OUT_D] + g[G.OUT_H])


@inlined
def index_at(layout, number, g):
    """Where a row of outputs starts in an array of this layout."""
    slab = number // g[G.OUT_H]
    plane = slab // g[G.OUT_D]
    at = plane_at(layout, plane) + (slab - plane * g[G.OUT_D]) * layout[L.D_STEP]
    return at + (number - slab * g[G.OUT_H]) * layout[L.H_STEP]


@entry
def encode(first, last, taps, positions, g, table, steps, channels):
    """Taps of windows from positions in the plane."""
    for number in range(first, last):
        _, d, h, w = windows_of_row(number, g, table)
        at = number * g[G.OUT_W] * channels
        for o in range(g[G.OUT_W]):
            for c in range(channels):
                i = np.uintp(at + o * channels + c)
                position, tap = positions[i], -ONE
                if position >= 0:
                    row = position // g[G.IN_W]
                    in_d = row // g[G.IN_H]
                    i_d = (in_d - table[d]) // steps[0]
                    i_h = (row - in_d * g[G.IN_H] - table[h]) // steps[1]
                    i_w = (position - row * g[G.IN_W] - table[w + o]) // steps[2]
                    tap = (i_d * table[h + g[G.OUT_H]] + i_h) * table[w + o + g[G.OUT_W]] + i_w
                taps[i] = tap


@entry
def decode(first, last, positions, taps, layout, g, table, steps, channels, none):
    """Positions in the plane from taps of windows."""
    for number in range(first, last):
        _, d, h, w = windows_of_row(number, g, table)
        to = number * g[G.OUT_W] * channels
        at = to if channels > 1 else index_at(layout, number, g)
        for o in range(g[G.OUT_W]):
            for c in range(channels):
                source = at + o * channels + c if channels > 1 else at + o * layout[L.W_STEP]
                tap, position = np.int64(taps[np.uintp(source)]), -ONE
                if tap != none:
                    rows = tap // table[w + o + g[G.OUT_W]]
                    i_d = rows // table[h + g[G.OUT_H]]
                    in_d = table[d] + i_d * steps[0]
                    in_h = table[h] + (rows - i_d * table[h + g[G.OUT_H]]) * steps[1]
                    in_w = table[w + o] + (tap - rows * table[w + o + g[G.OUT_W]]) * steps[2]
                    is_inside = 0 <= in_d < g[G.IN_D] and 0 <= in_h < g[G.IN_H] and 0 <= in_w < g[G.IN_W]
                    position = (in_d * g[G.IN_H] + in_h) * g[G.IN_W] + in_w
                    if not is_inside or i_d >= table[d + g[G.OUT_D]]:
                        position = np.int64(BAD)
                positions[np.uintp(to + o * channels + c)] = position


@entry
def widen(first, last, out, positions, layout, g, first_of_plane, step_d, step_h, step_w):
    """Positions in the whole array from those in the plane."""
    for number in range(first, last):
        plane = number // (g[G.OUT_H] * g[G.OUT_D])
        at = index_at(layout, number, g)
        for o in range(g[G.OUT_W]):
            position = positions[np.uintp(at + o * layout[L.W_STEP])]
            index = np.int64(position)
            if position >= 0:
                row = position // g[G.IN_W]
                d = row // g[G.IN_H]
                index = first_of_plane[plane] + d * step_d + (row - d * g[G.IN_H]) * step_h
                index += (position - row * g[G.IN_W]) * step_w
            out[np.uintp(number * g[G.OUT_W] + o)] = index


@entry
def narrow(first, last, out, indices, layout, g, first_of_plane, step_d, step_h, step_w, bad):
    """Positions in the plane from those in the whole array, whose axes have these steps, in any order."""
    for number in range(first, last):
        plane = number // (g[G.OUT_H] * g[G.OUT_D])
        at = index_at(layout, number, g)
        for o in range(g[G.OUT_W]):
            index = np.int64(indices[np.uintp(at + o * layout[L.W_STEP])])
            position = index
            if index != -1:
                d = index // step_d % g[G.IN_D] if g[G.IN_D] > 1 else ZERO
                h = index // step_h % g[G.IN_H] if g[G.IN_H] > 1 else ZERO
                w = index // step_w % g[G.IN_W] if g[G.IN_W] > 1 else ZERO
                position = (d * g[G.IN_H] + h) * g[G.IN_W] + w
                if index < 0 or first_of_plane[plane] + d * step_d + h * step_h + w * step_w != index:
                    bad[0] = 1
            out[np.uintp(number * g[G.OUT_W] + o)] = position
