"""Which element a thread computes, and where it and those of the sources are in memory. The CPU has tables of units for that.

A thread has one position of a result (d, h, w) in a group of planes or of channels, its lanes. Everything is counted in
integers of one width, 32 bits wherever they are enough, and planes start at 64-bit addresses. Divisions by lengths and strides
are multiplications with numbers that the host has prepared.
"""

from __future__ import annotations

import numpy as np

from numbapool.kernels.cuda.elements import index, quotient
from numbapool.kernels.cuda.scalars import G


def position_of(t, g):
    """Group of planes, position along d, h and w, and group of channels of unit t; and where it is in the result."""
    rest = quotient(t, g[G.CHANNELS], g[G.CHANNELS_M])
    c = index(t - rest * g[G.CHANNELS])
    row = quotient(rest, g[G.GRID_W], g[G.GRID_W_M])
    w = index(rest - row * g[G.GRID_W])
    slab = quotient(row, g[G.GRID_H], g[G.GRID_H_M])
    h = index(row - slab * g[G.GRID_H])
    p = quotient(slab, g[G.GRID_D], g[G.GRID_D_M])
    d = index(slab - p * g[G.GRID_D])
    unit = index(t - p * g[G.GRID_D] * g[G.GRID_H] * g[G.GRID_W] * g[G.CHANNELS])
    return p, d, h, w, c, np.int64(p) * g[G.TO_PLANE] + np.int64(unit) * g[G.TO_UNIT]


def plane_of_x(p, c, g):
    """Where a group of planes, and of channels in it, starts in the first source."""
    outer = quotient(p, g[G.INNER], g[G.INNER_M])
    inner = index(p - outer * g[G.INNER])
    return np.int64(outer) * g[G.X_OUTER] + np.int64(inner) * g[G.X_INNER] + np.int64(c) * g[G.X_GROUP]


def plane_of_y(p, c, g):
    """The same in the second source."""
    outer = quotient(p, g[G.INNER], g[G.INNER_M])
    inner = index(p - outer * g[G.INNER])
    return np.int64(outer) * g[G.Y_OUTER] + np.int64(inner) * g[G.Y_INNER] + np.int64(c) * g[G.Y_GROUP]


def position_in_x(p, c, d, h, w, g):
    """Where the element at (d, h, w) of a plane is in the first source."""
    return plane_of_x(p, c, g) + np.int64(index(d * g[G.X_D] + h * g[G.X_H] + w * g[G.X_W]))


def position_in_y(p, c, d, h, w, g):
    """The same in the second source."""
    return plane_of_y(p, c, g) + np.int64(index(d * g[G.Y_D] + h * g[G.Y_H] + w * g[G.Y_W]))
