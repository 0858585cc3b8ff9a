"""Windows of any bounds, along one axis: adaptive bins, and the windows of fractional pooling, which start where a table says.

They take the place of those of `taps` by name; kernels and programs are those of all windows.
"""

from __future__ import annotations

import numpy as np

from numbapool.kernels.cuda.elements import index, quotient
from numbapool.kernels.cuda.scalars import G


def adaptive(o, length, out, magic):
    """Bins of equal size, as far as integers are."""
    first = quotient(index(o * length), out, magic)
    end = index(quotient(index(o * length + length - 1), out, magic) + 1)
    taps = index(end - first)
    return first, taps, index(0), taps


def adaptive_d(table, p, o, g):
    return adaptive(o, g[G.IN_D], g[G.OUT_D], g[G.OUT_D_M])


def adaptive_h(table, p, o, g):
    return adaptive(o, g[G.IN_H], g[G.OUT_H], g[G.OUT_H_M])


def adaptive_w(table, p, o, g):
    return adaptive(o, g[G.IN_W], g[G.OUT_W], g[G.OUT_W_M])


def count_d(o, g):
    return adaptive(o, g[G.IN_D], g[G.OUT_D], g[G.OUT_D_M])[1]


def count_h(o, g):
    return adaptive(o, g[G.IN_H], g[G.OUT_H], g[G.OUT_H_M])[1]


def count_w(o, g):
    return adaptive(o, g[G.IN_W], g[G.OUT_W], g[G.OUT_W_M])[1]


def holders(i, length, magic, out):
    o0 = quotient(index(i * out), length, magic)
    return o0, quotient(index(i * out + out + length - 1), length, magic)


def holders_d(i, g):
    return holders(i, g[G.IN_D], g[G.IN_D_M], g[G.OUT_D])


def holders_h(i, g):
    return holders(i, g[G.IN_H], g[G.IN_H_M], g[G.OUT_H])


def holders_w(i, g):
    return holders(i, g[G.IN_W], g[G.IN_W_M], g[G.OUT_W])


def some_tap(i, o, g):
    """Bins hold all between their ends."""
    return index(0)


def drawn(table, p, at, kernel, g):
    """A window whose start is at a place in the row of its plane in the table: those along d first, then h, then w."""
    row = np.int64(p) * np.int64(g[G.OUT_D] + g[G.OUT_H] + g[G.OUT_W])
    return index(table[np.int64(row + at)]), index(kernel), index(0), index(kernel)


def drawn_d(table, p, o, g):
    return drawn(table, p, o, g[G.KERNEL_D], g)


def drawn_h(table, p, o, g):
    return drawn(table, p, np.int64(g[G.OUT_D] + o), g[G.KERNEL_H], g)


def drawn_w(table, p, o, g):
    return drawn(table, p, np.int64(g[G.OUT_D] + g[G.OUT_H] + o), g[G.KERNEL_W], g)


ADAPTIVE = {
    **{"window_d": adaptive_d, "window_h": adaptive_h, "window_w": adaptive_w},
    **{"count_d": count_d, "count_h": count_h, "count_w": count_w},
    **{"holders_d": holders_d, "holders_h": holders_h, "holders_w": holders_w},
    **{"tap_d": some_tap, "tap_h": some_tap, "tap_w": some_tap},
}
DRAWN = {"window_d": drawn_d, "window_h": drawn_h, "window_w": drawn_w}
