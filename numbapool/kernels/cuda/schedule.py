"""Which elements a thread takes at once, and in how many passes: the one place that decides, but for windows of rows and planes.

See `rows` and `whole` for these. Everything here is plain Python integers, and made once for a plan and its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda.launch import Buffer
from numbapool.windows import Axis, Bins

# Below this many threads a GPU is not full, and lanes would only make it emptier.
FULL = 1 << 17
# Bytes of one load, at most.
WIDE = 16
# Lanes over planes: independent loads of one thread.
PLANE_LANES = 4
# Windows of so many taps are pooled an axis at a time.
LARGE_WINDOW = 36
LARGEST = 2**31 - 1024


class Layer(NamedTuple):
    """How the threads of a step take the elements of a plan: so many at a time, along planes, channels or complex parts."""

    plan: Plan
    kind: str = "planes"
    lanes: int = 1
    is_wide: bool = False  # 16 bytes in one load
    stores_wide: bool = False

    @property
    def planes(self) -> tuple[int, int]:
        """Outer and inner groups of planes."""
        outer, inner = leading_of(self.plan)
        return outer, inner // self.lanes if self.kind == "planes" else inner

    @property
    def channels(self) -> int:
        """Groups of channels."""
        return self.plan.channels // self.lanes if self.kind == "channels" else self.plan.channels

    def plane_size(self, of_output: bool) -> int:
        """Elements of a plane with its channels, complex ones as two."""
        return prod(lengths_of(self.plan, of_output)) * self.plan.channels * (2 if self.kind == "parts" else 1)

    @property
    def word(self) -> str:
        """For labels."""
        return f"{self.lanes}{'r' * self.is_wide}{'w' * self.stores_wide}"


def size_of(plan: Plan, of_output: bool) -> int:
    """Elements of the output, or of the input."""
    return plan.planes * plan.channels * (plan.out_plane_size if of_output else plan.plane_size)


def leading_of(plan: Plan) -> tuple[int, int]:
    """Lengths of the leading axes, as two."""
    *outer, inner = (1, *plan.leading)
    return prod(outer), inner


def lengths_of(plan: Plan, of_output: bool) -> tuple[int, int, int]:
    """Lengths along d, h and w."""
    d, h, w = ((axis.out if of_output else axis.length) for axis in plan.axes)  # type: ignore[attr-defined]
    return d, h, w


def steps_in(plan: Plan, buffer: Buffer, of_output: bool) -> tuple[int, int, int, int, int, int]:
    """Steps of a source along outer and inner planes, d, h, w, and channels."""
    strides = buffer.strides
    rank = len(plan.pooled)
    if strides is None:
        lengths = (*plan.leading, *lengths_of(plan, of_output)[3 - rank :], plan.channels)
        strides = tuple(prod(lengths[i + 1 :]) for i in range(len(lengths)))
    elif plan.channels == 1:
        strides = (*strides, 0)
    leading, pooled, channel = strides[: -rank - 1], strides[-rank - 1 : -1], strides[-1]
    outer, inner = (0, 0, *leading)[-2:]
    d, h, w = (0, 0, *pooled)[-3:]
    return outer, inner, d, h, w, channel


def layer_of(plan: Plan, read: Sequence[tuple[Buffer, bool]], most: int = WIDE, out: Buffer | None = None) -> Layer:
    """The lanes for a step that reads these, each with whether it has the shape of the output.

    `most` lanes at most. `out` may be stored 16 bytes at a time.
    """
    (x, has_out_shape), *_ = read
    if x.dtype.kind == "c":
        return Layer(plan, "parts", 2)
    if isinstance(plan, BinPlan) and plan.kernel:  # every plane has windows of its own
        return Layer(plan)
    units = plan.planes * plan.channels * min(plan.plane_size, plan.out_plane_size)
    if plan.channels > 1:
        size = x.dtype.itemsize
        count = _lanes(plan.channels, min(most, WIDE // size), units)
        is_wide = count > 1 and count * size == WIDE and has_aligned_pixels(plan, x, has_out_shape)
        fits = out is not None and out.dtype.itemsize == size and out.alignment % WIDE == 0
        return Layer(plan, "channels", count, is_wide, is_wide and fits)
    _, inner = leading_of(plan)
    return Layer(plan, "planes", _lanes(inner, min(most, PLANE_LANES), units))


def _lanes(length: int, most: int, units: int) -> int:
    count = most
    while count > 1 and (length % count or units < count * FULL):
        count //= 2
    return count


def has_aligned_pixels(plan: Plan, buffer: Buffer, of_output: bool) -> bool:
    """Whether pixels start at multiples of 16 bytes, and their channels are neighbours."""
    *steps, channel = steps_in(plan, buffer, of_output)
    is_so = all(step * buffer.dtype.itemsize % WIDE == 0 for step in steps)
    return is_so and channel == 1 and buffer.alignment % WIDE == 0


def is_large(plan: Plan, read: Sequence[tuple[Buffer, bool]], units: int) -> bool:
    """Whether positions in a plane, or anything on the way to them, may need more than 32 bits."""
    extents = [units, plan.plane_size, plan.out_plane_size]
    for axis in plan.axes:  # type: ignore[attr-defined]
        if isinstance(axis, Axis):
            extents.append(axis.length + axis.before + axis.after + axis.kernel * axis.dilation + 2 * axis.stride)
        else:
            extents.append(axis.length * (axis.out + 1) + axis.out)
    if not isinstance(plan, BinPlan):
        d, h, w = plan.axes  # type: ignore[attr-defined]
        extents += [d.kernel * h.kernel * w.kernel, d.dilation * h.length * w.length * (d.kernel > 1)]
        extents.append(h.dilation * w.length * (h.kernel > 1))
    for buffer, of_output in read:
        steps = steps_in(plan, buffer, of_output)[2:5]
        spans = [(length - 1) * abs(step) for length, step in zip(lengths_of(plan, of_output), steps)]
        extents.append(sum(spans) * (2 if buffer.dtype.kind == "c" else 1))
    return max(extents) > LARGEST


def passes_of(plan: Plan) -> list[Plan]:
    """The plan as one of windows along w, one along h, one along d, where windows are so large that it saves reads."""
    if isinstance(plan, BinPlan):
        if plan.kernel:
            return [plan]
        taps = [-(-axis.length // max(1, axis.out)) for axis in plan.pooled]
    else:
        taps = [min(axis.kernel, axis.length) for axis in plan.pooled]
    return _along_axes(plan) if _saves(taps) else [plan]


def gradient_passes_of(plan: Plan) -> list[Plan]:
    """The same for gradients, which go the other way, along d first: where so many windows hold an element that it saves reads."""
    if isinstance(plan, BinPlan):
        holders = [-(-axis.out // axis.length) + 1 for axis in plan.pooled]
    else:
        holders = [min(-(-axis.kernel // axis.stride), axis.out) for axis in plan.pooled]
    return _along_axes(plan)[::-1] if _saves(holders) else [plan]


def _saves(reads: list[int]) -> bool:
    return prod(reads) >= max(LARGE_WINDOW, 2 * sum(reads))


def _along_axes(plan: Plan) -> list[Plan]:
    passes: list[Plan] = []
    axes = list(plan.pooled)
    for i in reversed(range(len(axes))):
        if not _is_kept(axes[i]):
            passes.append(replace(plan, pooled=tuple(a if i == j else _kept(a, j > i) for j, a in enumerate(axes))))
    return passes


def _is_kept(axis: Any) -> bool:
    if isinstance(axis, Bins):
        return axis.out == axis.length
    return bool(axis.kernel == axis.stride == 1 and axis.before == 0 and axis.out == axis.length)


def _kept(axis: Any, is_done: bool) -> Any:
    """An axis along which nothing happens in a pass: as long as its output if it has been pooled before."""
    length = axis.out if is_done else axis.length
    return Bins(length, length) if isinstance(axis, Bins) else Axis(length, length, 1, 1, 1, 0, 0)
