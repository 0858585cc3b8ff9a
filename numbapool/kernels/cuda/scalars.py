"""What kernels get besides addresses: integers, which they read by name, as `g[G.UNITS]`. The CPU's are in tables of `schedule`.

A variant of a kernel has its own `G`: a module with the positions of those scalars that it, or a function that it calls, reads
(`variants.scalars_read`). It is passed no others, as each is converted at every launch. So a program fills scalars by their names,
and a name has one meaning everywhere. `X_M` is the number by which `elements.quotient` divides by `X`: `filled` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda.elements import magic32, magic64
from numbapool.kernels.cuda.launch import Buffer
from numbapool.kernels.cuda.schedule import Layer, lengths_of, steps_in

G = Enum(
    "G",
    # Threads are counted along channels, w, h, d and planes, groups of these if they are lanes; INNER planes are one step apart.
    "UNITS CHANNELS CHANNELS_M GRID_W GRID_W_M GRID_H GRID_H_M GRID_D GRID_D_M INNER INNER_M "
    # The result: from one group of planes to the next, from unit to unit in it, and from lane to lane.
    "TO_PLANE TO_UNIT TO_LANE "
    # The plane, its input and its output.
    "IN_D IN_H IN_W OUT_D OUT_H OUT_W IN_D_M IN_H_M IN_W_M OUT_D_M OUT_H_M OUT_W_M "
    # Windows; END is up to where taps count towards a divisor.
    "KERNEL_D KERNEL_H KERNEL_W STRIDE_D STRIDE_H STRIDE_W STRIDE_D_M STRIDE_H_M STRIDE_W_M BEFORE_D BEFORE_H BEFORE_W "
    "DILATION_D DILATION_H DILATION_W DILATION_D_M DILATION_H_M DILATION_W_M END_D END_H END_W DIVISOR "
    # Two sources: steps in elements, between groups of outer and inner planes, along axes, between groups of channels, and lanes.
    "X_OUTER X_INNER X_D X_H X_W X_GROUP X_LANE Y_OUTER Y_INNER Y_D Y_H Y_W Y_GROUP Y_LANE "
    # Elements of a row that the tile of a thread reads; parts of a plane that teams share, and elements of each.
    "TILE PARTS PARTS_M PART "
    # Planes that are filled: all elements, and those of a plane.
    "TOTAL PLANE PLANE_M "
    # Outputs of a segment of a row, segments, and elements that a thread of a scan owns.
    "LENGTH SEGMENTS OWN "
    # Positions of a row (or slab): from one to the next along d and h, and how many.
    "ROW_D ROW_H ROW_SIZE "
    # Steps of the pooled axes in a whole array.
    "STEP_D STEP_D_M STEP_H STEP_H_M STEP_W STEP_W_M "
    # What a buffer is filled with; doubles, as bits.
    "FILLING SCALE EXPONENT",
)
DIVISION = "_M"


def filled(names: Sequence[str], fields: Mapping[str, int], is_large: bool) -> tuple[int, ...]:
    """The scalars of a kernel in its own order, with the numbers for division in the width of its index arithmetic."""
    magic = magic64 if is_large else magic32
    return tuple(
        [magic(fields[name.removesuffix(DIVISION)]) if name.endswith(DIVISION) else fields[name] for name in names]
    )


def fields_of(layer: Layer, read: Sequence[tuple[Buffer, bool]], of_output: bool) -> dict[str, int]:
    """What every kernel gets whose threads are counted along the output of a plan, or along its input."""
    plan = layer.plan
    outer, inner = layer.planes
    lengths, size = lengths_of(plan, of_output), layer.plane_size(of_output)
    are_planes = layer.kind == "planes"
    fields = counted(outer * inner, lengths, layer.channels) | {
        "INNER": inner,
        "TO_PLANE": (layer.lanes if are_planes else 1) * size,
        "TO_UNIT": 1 if are_planes else layer.lanes,
        "TO_LANE": size if are_planes else 1,
    }
    fields |= along("IN", lengths_of(plan, False)) | along("OUT", lengths_of(plan, True)) | windows_of(plan)
    for word, (buffer, has_out_shape) in zip("XY", read):
        outer_step, inner_step, *steps, channel_step = steps_in(plan, buffer, has_out_shape)
        if layer.kind == "parts" and buffer.dtype.kind == "c":
            outer_step, inner_step, channel_step = 2 * outer_step, 2 * inner_step, 2 * channel_step
            steps = [2 * step for step in steps]
        lane = {"planes": inner_step, "channels": channel_step, "parts": 1}[layer.kind]
        fields |= along(word, steps) | {
            f"{word}_OUTER": outer_step,
            f"{word}_INNER": inner_step * (layer.lanes if are_planes else 1),
            f"{word}_GROUP": channel_step * (layer.lanes if layer.kind == "channels" else 1),
            f"{word}_LANE": lane,
        }
    return fields


def counted(planes: int, lengths: Sequence[int], channels: int) -> dict[str, int]:
    """How threads are counted, be it along a result, or along tiles or parts of it."""
    d, h, w = lengths
    return along("GRID", lengths) | {"UNITS": planes * d * h * w * channels, "CHANNELS": channels}


def along(word: str, lengths: Sequence[int]) -> dict[str, int]:
    """The fields of a name along d, h and w, or the last of them."""
    return {f"{word}_{axis}": length for axis, length in zip("DHW"[3 - len(lengths) :], lengths)}


def windows_of(plan: Plan) -> dict[str, int]:
    """Where windows lie; bins are told by the lengths of axes."""
    if isinstance(plan, BinPlan):
        drawn = along("KERNEL", (1, 1, *plan.kernel)[-3:]) if plan.kernel else {}
        return drawn | along("DILATION", (1, 1, 1))
    axes = plan.axes  # type: ignore[attr-defined]
    return (
        along("KERNEL", [axis.kernel for axis in axes])
        | along("STRIDE", [axis.stride for axis in axes])
        | along("BEFORE", [axis.before for axis in axes])
        | along("DILATION", [axis.dilation if axis.kernel > 1 else 1 for axis in axes])
        | along("END", [axis.length for axis in axes])
    )
