"""Windows that are whole planes: a team of threads folds a plane, or a part of one where planes are few, in shared memory.

Their gradients are filled in, 16 bytes at a time. On the CPU a thread folds such a plane, by the steps of `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbapool.geometry import BinPlan, Plan, WindowPlan
from numbapool.kernels.cuda import vectors
from numbapool.kernels.cuda.draft import Draft
from numbapool.kernels.cuda.elements import index, quotient
from numbapool.kernels.cuda.launch import Buffer
from numbapool.kernels.cuda.scalars import G, fields_of
from numbapool.kernels.cuda.schedule import WIDE, Layer, is_large, steps_in
from numbapool.windows import Axis

# Threads of a block, all in teams of one of these sizes, and elements for each member of a team, or more: what a thread does for
# its own sake takes some 200 instructions.
BLOCK = 256
TEAMS, EACH = (256, 32, 4), 12
# Elements of a plane that are worth a team, elements of a part, and blocks that fill a GPU.
SMALLEST, SMALLEST_PART, FULL = 32, 4096, 512

# Bound by the variant: logarithms of the sizes of teams and blocks; elements that a thread fills.
TEAM_BITS, BLOCK_BITS = 8, 8
AT_ONCE = 4
store, put_some = vectors.store_one, vectors.put_some_one


class Parts(NamedTuple):
    """How a plane is shared: its parts, elements of each, and members of the team of each."""

    number: int
    size: int
    team: int


def is_whole(plan: Plan, x: Buffer) -> bool:
    """Whether each plane is one window, not small, and its elements are one step apart."""
    if not _covers_planes(plan) or x.dtype.kind == "c":
        return False
    d, h, w = plan.axes  # type: ignore[attr-defined]
    _, _, d_step, h_step, w_step, _ = steps_in(plan, x, False)
    is_one: bool = (h.length == 1 or h_step == w.length * w_step) and (
        d.length == 1 or d_step == h.length * w.length * w_step
    )
    return is_one


def fills_planes(plan: Plan, out: Buffer) -> bool:
    """Whether each plane of a gradient is one window's, not small, and its result is written 16 bytes at a time."""
    return _covers_planes(plan) and out.dtype.kind != "c" and out.alignment % WIDE == 0


def _covers_planes(plan: Plan) -> bool:
    if isinstance(plan, BinPlan) or plan.channels > 1 or plan.out_plane_size != 1 or plan.plane_size < SMALLEST:
        return False
    return all(a.before == 0 and a.kernel >= a.length and (a.dilation == 1 or a.kernel == 1) for a in plan.pooled)


def parts_of(plan: Plan) -> Parts:
    """How planes are shared among teams."""
    size, number = plan.plane_size, 1
    if size >= 2 * SMALLEST_PART and plan.planes < FULL:
        number = min(-(-size // SMALLEST_PART), -(-FULL // max(1, plan.planes)))
    part = -(-size // number)
    team = next((each for each in TEAMS if part >= EACH * each), TEAMS[-1])
    return Parts(-(-size // part), part, team)


def plan_of_parts(plan: Plan, parts: Parts) -> Plan:
    """For what has been found in the parts of each plane: few enough to be a part."""
    return WindowPlan((plan.planes,), (Axis(parts.number, 1, parts.number, parts.number, 1, 0, 0),))


def add_teams(
    draft: Draft,
    function: Callable[..., None],
    words: Sequence[str],
    names: dict[str, Any],
    plan: Plan,
    x: Buffer,
    parts: Parts,
    shared: str,
    buffers: Sequence[Buffer],
    most: int,
    fields: dict[str, int] | None = None,
) -> None:
    """A launch of a team for each part of each plane, whose members share what they have found, half of them at a time.

    Positions count up to `most`.
    """
    read, teams = [(x, False)], plan.planes * parts.number
    large = is_large(plan, read, max(teams, most))
    bits = parts.team.bit_length() - 1
    names = vectors.steps_of(1) | names | {"TEAM_BITS": bits, "BLOCK_BITS": BLOCK.bit_length() - 1}
    own = {"UNITS": teams, "PARTS": parts.number, "PART": parts.size}
    draft.launch(
        function,
        [*words, f"by{parts.team}"],
        names,
        buffers,
        fields_of(Layer(plan), read, True) | own | (fields or {}),
        large,
        parts.team,
        threads=BLOCK,
        shared=(shared, "int64" if large else "int32"),
        phases=2 + bits,
    )


def add_fill(
    draft: Draft,
    function: Callable[..., None],
    words: Sequence[str],
    names: dict[str, Any],
    plan: Plan,
    read: Sequence[tuple[Buffer, bool]],
    buffers: Sequence[Buffer],
    fields: dict[str, int] | None = None,
) -> None:
    """A launch of a thread for every 16 bytes of gradients of planes, the first of the buffers."""
    total, at_once = plan.planes * plan.plane_size, WIDE // buffers[0].dtype.itemsize
    own = {"UNITS": -(-total // at_once), "TOTAL": total, "PLANE": plan.plane_size}
    draft.add(
        function,
        [*words, f"fills{at_once}w"],
        names | {"AT_ONCE": at_once},
        Layer(plan),
        read,
        buffers,
        of_output=True,
        most=total,
        steps=vectors.fill_steps(at_once),
        fields=own | (fields or {}),
    )


def share_of(b, i, g):
    """Number of the team of thread i of block b, its plane, and the member's first position in the plane and the part's last."""
    number = index((b << (BLOCK_BITS - TEAM_BITS)) + (i >> TEAM_BITS))
    p = quotient(number, g[G.PARTS], g[G.PARTS_M])
    start = index((number - p * g[G.PARTS]) * g[G.PART])
    end = min(index(start + g[G.PART]), index(g[G.IN_D] * g[G.IN_H] * g[G.IN_W]))
    return number, p, index(start + member_of(i)), end


def member_of(i):
    """Which member of its team a thread is."""
    return index(i & ((1 << TEAM_BITS) - 1))


def partners(phase):
    """How far the member is whose findings join one's own: 0 after the last time."""
    return (1 << TEAM_BITS) >> phase


def filled_by(t, g):
    """The first element that a thread fills, its plane, and the elements of the plane from it on."""
    first = index(t * AT_ONCE)
    p = quotient(first, g[G.PLANE], g[G.PLANE_M])
    return first, p, index((p + 1) * g[G.PLANE] - first)


def reaches_next(first, left, g):
    """Whether some of these elements are the next plane's."""
    return left < AT_ONCE and index(first + left) < g[G.TOTAL]


def store_filled(out, first, g, elements):
    """Write them, 16 bytes at once but at the very end."""
    if index(first + AT_ONCE) <= g[G.TOTAL]:
        store(out, np.int64(first), 1, elements)
    else:
        put_some(out, np.int64(first), np.int64(g[G.TOTAL]), elements)
