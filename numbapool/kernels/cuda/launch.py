"""From a plan and the layout of arrays to launches of kernels, without addresses: they come with the call.

Everything here is plain Python integers, and made once for a plan and its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import grid, lanes
from numbapool.kernels.cuda.elements import (
    as_it_is,
    bfloat_of_float,
    flipped,
    float_of_bfloat,
    float_of_half,
    float_quotient,
    half_of_float,
    int_quotient,
    inverted,
    magnitude_signed,
    magnitude_unsigned,
    negated,
    quotient32,
    quotient64,
    reciprocal32,
    reciprocal64,
    rounded_quotient,
    truth,
    whole_quotient32,
    whole_quotient64,
)
from numbapool.kernels.cuda.variants import Kernel, buffer_dtype
from numbapool.kernels.elements import BFLOAT16
from numbapool.kernels.windows import Axis, Bins

# Below this many threads a GPU is not full, and lanes would only make it emptier.
FULL = 1 << 17
# Bytes of one load, at most.
WIDE = 16
# Lanes over planes: independent loads of one thread.
PLANE_LANES = 4
# Windows of so many taps are pooled an axis at a time.
LARGE_WINDOW = 36
LARGEST = 2**31 - 1024

NO_BUFFER = -1


class Operand(NamedTuple):
    """An array as kernels see it, but for its address.

    `strides` are steps in elements along the axes of the plan: leading, pooled, and at last the channels if the plan has
    some; None where the array is contiguous in this order. The address is that of the element with all positions 0, and
    divisible by `alignment` bytes (at least by the size of an element).
    """

    dtype: np.dtype[Any]
    strides: tuple[int, ...] | None = None
    alignment: int = 1


class Step(NamedTuple):
    """A launch: `kernel` on `blocks` blocks of `kernel.threads`, its arguments the buffers' addresses and then the scalars."""

    kernel: Kernel
    blocks: int
    buffers: tuple[tuple[int, int], ...]  # number of the buffer (`NO_BUFFER`: address 0), and bytes from its start
    scalars: tuple[int, ...]


class Program(NamedTuple):
    """Launches in order on one stream. Buffers are numbered: sources, results, and then the extra ones."""

    steps: tuple[Step, ...]
    extras: tuple[int | np.ndarray, ...] = ()  # bytes of scratch at an address divisible by 16, or a table of constants
    flag: int = NO_BUFFER  # a buffer whose first int32 is not 0 after the last step if an index was out of range


def run(program: Program, addresses: Sequence[int], launch: Callable[[Step, tuple[int, ...]], None]) -> None:
    """Launch the steps of a program; `addresses` of all buffers, in the order of their numbers.

    `launch(step, arguments)` starts `step.blocks` blocks of `step.kernel`, all arguments Python ints of 8 bytes.
    """
    for step in program.steps:
        pointers = [0 if number < 0 else addresses[number] + offset for number, offset in step.buffers]
        launch(step, (*pointers, *step.scalars))


class Layer(NamedTuple):
    """How the threads of a step take the elements of a plan: so many at a time, along planes, channels or complex parts."""

    plan: Plan
    kind: str
    lanes: int
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


def steps_in(plan: Plan, operand: Operand, of_output: bool) -> tuple[int, int, int, int, int, int]:
    """Steps of an operand along outer and inner planes, d, h, w, and channels."""
    strides = operand.strides
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


def source_fields(layer: Layer, operand: Operand, of_output: bool) -> tuple[int, ...]:
    """The fields of a source, `grid.SOURCE_FIELDS` of them."""
    outer, inner, d, h, w, channel = steps_in(layer.plan, operand, of_output)
    if layer.kind == "parts":
        scale = 2 if operand.dtype.kind == "c" else 1
        return scale * outer, scale * inner, scale * d, scale * h, scale * w, scale * channel, 1
    if layer.kind == "channels":
        return outer, inner, d, h, w, layer.lanes * channel, channel
    return outer, layer.lanes * inner, d, h, w, channel, inner


def layer_of(
    plan: Plan,
    sources: Sequence[tuple[Operand, bool]],
    most: int = WIDE,
    out: Operand | None = None,
) -> Layer:
    """The lanes for a step that reads these operands, each with whether it has the shape of the output.

    `most` lanes at most. `out` may be stored 16 bytes at a time.
    """
    (x, has_out_shape), *_ = sources
    if x.dtype.kind == "c":
        return Layer(plan, "parts", 2)
    if isinstance(plan, BinPlan) and plan.starts:  # every plane has windows of its own
        return Layer(plan, "planes", 1)
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


def has_aligned_pixels(plan: Plan, operand: Operand, of_output: bool) -> bool:
    """Whether pixels start at multiples of 16 bytes, and their channels are neighbours."""
    *steps, channel = steps_in(plan, operand, of_output)
    is_so = all(step * operand.dtype.itemsize % WIDE == 0 for step in steps)
    return is_so and channel == 1 and operand.alignment % WIDE == 0


def is_large(plan: Plan, sources: Sequence[tuple[Operand, bool]], units: int) -> bool:
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
    for operand, of_output in sources:
        steps = steps_in(plan, operand, of_output)[2:5]
        spans = [(length - 1) * abs(step) for length, step in zip(lengths_of(plan, of_output), steps)]
        extents.append(sum(spans) * (2 if operand.dtype.kind == "c" else 1))
    return max(extents) > LARGEST


def scalars_of(
    layer: Layer,
    sources: Sequence[tuple[Operand, bool]],
    of_output: bool,
    is_large: bool,
    divisor: int = 0,
    count_include_pad: bool = True,
) -> tuple[int, ...]:
    """All scalars of a kernel whose threads are counted along the output of the plan, or along its input."""
    plan = layer.plan
    magic = grid.magic_of(is_large)
    d, h, w = lengths_of(plan, of_output)
    outer, inner = layer.planes
    by = layer.lanes if layer.kind == "planes" else 1
    at_once = layer.lanes if layer.kind != "planes" else 1
    size = d * h * w * plan.channels * (2 if layer.kind == "parts" else 1)
    fields = [outer * inner * d * h * w * layer.channels]
    for length in (layer.channels, w, h, d):
        fields += [length, magic(length)]
    fields += [inner, magic(inner), by * size, at_once, size if layer.kind == "planes" else 1]
    fields += [*lengths_of(plan, False), *lengths_of(plan, True)]
    axes = plan.axes  # type: ignore[attr-defined]
    if isinstance(plan, BinPlan):
        kernel = (1,) * (3 - len(plan.kernel)) + plan.kernel if plan.kernel else tuple(axis.out for axis in axes)
        kernel_magic = [magic(each) for each in kernel]
        lengths = [magic(axis.length) for axis in axes]
        fields += [*kernel, 1, 1, 1, *lengths, 0, 0, 0, 1, 1, 1, *kernel_magic, *(axis.length for axis in axes)]
    else:
        dilations = [axis.dilation if axis.kernel > 1 else 1 for axis in axes]
        fields += [axis.kernel for axis in axes]
        fields += [axis.stride for axis in axes]
        fields += [magic(axis.stride) for axis in axes]
        fields += [axis.before for axis in axes]
        fields += dilations
        fields += [magic(each) for each in dilations]
        fields += [axis.length + (axis.after if count_include_pad else 0) for axis in axes]
    fields.append(divisor)
    assert len(fields) == grid.SOURCE
    for operand, has_out_shape in sources:
        fields += source_fields(layer, operand, has_out_shape)
    return tuple(fields)


def element_of(dtype: np.dtype[Any], is_reversed: bool = False) -> dict[str, Any]:
    """How kernels read, compute with and write elements: what they take from it by name."""
    name = name_of(dtype)
    dtype = np.dtype(np.float32 if name in ("float16", "bfloat16") else buffer_dtype(name))
    limits = -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)
    names: dict[str, Any] = {"value": dtype.type, "LOWEST": limits}
    names["widened"] = {"float16": float_of_half, "bfloat16": float_of_bfloat, "bool": truth}.get(name, as_it_is)
    names["narrowed"] = {"float16": half_of_float, "bfloat16": bfloat_of_float}.get(name, as_it_is)
    turn = negated if dtype.kind == "f" else flipped if name == "bool" else inverted
    names["turned"] = turn if is_reversed else as_it_is
    return names


def written_as(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How elements of another dtype than the source's are written."""
    return {"narrowed": element_of(dtype)["narrowed"]}


def sum_of(dtype: np.dtype[Any], is_rounded: bool = False) -> dict[str, Any]:
    """How kernels add elements and divide sums."""
    kind = np.dtype(dtype).kind if dtype != BFLOAT16 else "f"
    if kind in "fc":
        is_double = dtype in (np.float64, np.complex128)
        names: dict[str, Any] = {"total": np.float64 if is_double else np.float32, "quotient_of": float_quotient}
        return names | {"reciprocal": reciprocal64 if is_double else reciprocal32}
    names = {"total": np.uint64 if kind == "u" else np.int64}
    names["magnitude_of"] = magnitude_unsigned if kind == "u" else magnitude_signed
    return names | {"quotient_of": rounded_quotient if is_rounded else int_quotient}


def plain_total(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which elements are summed."""
    dtype = np.dtype(sum_of(dtype)["total"])
    return dtype


def name_of(dtype: np.dtype[Any]) -> str:
    """Name of a real dtype as kernels have it in their labels; complex elements are two of these."""
    if dtype == BFLOAT16:
        return "bfloat16"
    if dtype.kind == "c":
        return f"float{dtype.itemsize * 4}"
    return str(dtype)


def index_names(is_large: bool) -> dict[str, Any]:
    """The width of index arithmetic."""
    if is_large:
        return {"index": np.int64, "quotient": quotient64, "whole_quotient": whole_quotient64}
    return {"index": np.int32, "quotient": quotient32, "whole_quotient": whole_quotient32}


def index_output(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How positions are written as indices."""
    mask = -1 if dtype.kind == "i" or dtype.itemsize == 8 else int(np.iinfo(dtype).max)
    return {"index_type": dtype.type, "INDEX_MASK": mask}


def step_of(
    function: Callable[..., None],
    words: Sequence[str],
    names: dict[str, Any],
    layer: Layer,
    buffers: Sequence[tuple[int, str]],
    scalars: tuple[int, ...],
    is_large: bool,
    steps: dict[str, Any] | None = None,
) -> Step:
    """A launch of a thread for each unit; `steps` other than those of the layer are its lanes."""
    lanes_word = f"{layer.lanes}{'r' * layer.is_wide}{'w' * layer.stores_wide}"
    label = ".".join([function.__name__, *words, lanes_word, "64" if is_large else "32"])
    every = lanes.steps_of(layer.lanes, layer.is_wide, layer.stores_wide) if steps is None else steps
    every = every | names | index_names(is_large)
    # Twice the registers where positions or sums of integers take two each. Some more for integers that are not of 32 bits:
    # with 64, their kernels of 4 lanes with positions, and those of tiles, spilled.
    value = np.dtype(names.get("value", np.float32))
    takes_two = is_large or names.get("total") in (np.int64, np.uint64)
    takes_more = value.kind in "iu" and value.itemsize != 4
    kernel = Kernel(
        function,
        label,
        tuple(every.items()),
        tuple(name for _, name in buffers),
        len(scalars),
        resident=2 if takes_two else 3 if takes_more else 4,
    )
    return Step(kernel, -(-scalars[0] // kernel.threads), tuple((number, 0) for number, _ in buffers), scalars)


@dataclass(frozen=True)
class Tiling:
    """How a thread takes a tile of a row, 16 bytes at a time: so many outputs, of windows of two inputs that lie side by side."""

    outputs: int
    at_once: int  # elements of x or, of gradients, of the output
    stores_wide: bool

    @property
    def inputs(self) -> int:
        """Inputs in the windows of the tile."""
        return 2 * self.outputs

    @property
    def steps(self) -> dict[str, Any]:
        """The steps of the lanes, for outputs."""
        return lanes.tile_steps(self.outputs, self.inputs, self.at_once, self.stores_wide)

    @property
    def gradient_steps(self) -> dict[str, Any]:
        """The same for gradients."""
        return lanes.gradient_tile_steps(self.outputs, self.inputs)

    def word(self, is_gradient: bool = False) -> str:
        """For labels."""
        if is_gradient:
            return f"tiles{self.outputs}to{self.inputs}w"
        return f"tiles{self.inputs}to{self.outputs}{'w' * self.stores_wide}"

    def scalars(self, scalars: tuple[int, ...], is_large: bool, is_gradient: bool = False) -> tuple[int, ...]:
        """The scalars of a step with threads for tiles instead of elements of the result."""
        read, written = (self.outputs, self.inputs) if is_gradient else (self.inputs, self.outputs)
        fields = list(scalars)
        groups = fields[grid.GRID_W] // written
        fields[grid.UNITS] = fields[grid.UNITS] // fields[grid.GRID_W] * groups
        fields[grid.GRID_W], fields[grid.GRID_W_M] = groups, grid.magic_of(is_large)(groups)
        fields[grid.TO_UNIT] = written
        return (*fields, read)


def tiling_of(plan: Plan, x: Operand, out: Operand, widest: int = 2) -> Tiling | None:
    """Tiles, if windows of two lie side by side along rows that start at multiples of 16 bytes."""
    if not (_lie_in_pairs(plan, x) and has_aligned_rows(plan, x, False)):
        return None
    at_once, length = WIDE // x.dtype.itemsize, plan.axes[2].out  # type: ignore[attr-defined]
    for loads in (widest, 1):
        outputs = loads * at_once // 2
        stores_wide = outputs * out.dtype.itemsize == WIDE and out.alignment % WIDE == 0
        if length % outputs == 0 and outputs * out.dtype.itemsize <= 2 * WIDE:
            return Tiling(outputs, at_once, stores_wide)
    return None


def gradient_tiling_of(plan: Plan, grad: Operand, out: Operand) -> Tiling | None:
    """The same for gradients, if the windows leave no column out."""
    if not (_lie_in_pairs(plan, grad) and has_aligned_rows(plan, grad, True)):
        return None
    at_once, axis = WIDE // grad.dtype.itemsize, plan.axes[2]  # type: ignore[attr-defined]
    is_whole = axis.out * 2 == axis.length and axis.out % at_once == 0
    is_aligned = out.dtype == grad.dtype and out.alignment % WIDE == 0
    return Tiling(at_once, at_once, True) if is_whole and is_aligned else None


def _lie_in_pairs(plan: Plan, operand: Operand) -> bool:
    if isinstance(plan, BinPlan) or plan.channels > 1 or operand.dtype.kind == "c":
        return False
    axis = plan.axes[2]  # type: ignore[attr-defined]
    is_paired = axis.kernel == axis.stride == 2 and axis.before == 0 and axis.out * 2 <= axis.length
    return is_paired and grid.placement_of(plan) == "sliding"


def has_aligned_rows(plan: Plan, operand: Operand, of_output: bool) -> bool:
    """Whether rows start at multiples of 16 bytes, and their elements are neighbours."""
    *steps, w_step, _ = steps_in(plan, operand, of_output)
    lengths = (*leading_of(plan), *lengths_of(plan, of_output)[:2])
    are_aligned = all(step * operand.dtype.itemsize % WIDE == 0 for step, length in zip(steps, lengths) if length > 1)
    return w_step == 1 and operand.alignment % WIDE == 0 and are_aligned


def passes_of(plan: Plan) -> list[Plan]:
    """The plan as one of windows along w, one along h, one along d, where windows are so large that it saves reads."""
    if isinstance(plan, BinPlan):
        if plan.starts:
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


def table_of(draft: Draft, plan: Plan) -> int:
    """The buffer of a table of where windows start, one row a plane, if the plan has one."""
    if not (isinstance(plan, BinPlan) and plan.starts):
        return NO_BUFFER
    starts = [np.zeros((plan.planes, 1), np.int64)] * (3 - len(plan.starts)) + list(plan.starts)
    return draft.table(np.concatenate(starts, axis=1).ravel())


class Draft:
    """A program in the making."""

    def __init__(self, sources: Sequence[Operand], results: Sequence[Operand]) -> None:
        self.fixed = len(sources) + len(results)
        self.steps: list[Step] = []
        self.extras: list[int | np.ndarray] = []
        self.flag = NO_BUFFER

    def table(self, values: np.ndarray) -> int:
        """Number of a new buffer of constants."""
        self.extras.append(np.ascontiguousarray(values))
        return self.fixed + len(self.extras) - 1

    def room(self, size: int, dtype: Any) -> int:
        """Number of a new buffer of scratch."""
        self.extras.append(max(WIDE, size * np.dtype(dtype).itemsize))
        return self.fixed + len(self.extras) - 1

    def elements(self, dtype: np.dtype[Any], size: int) -> tuple[Operand, int]:
        """Scratch for elements of a dtype; with the number of its buffer."""
        return Operand(dtype, None, WIDE), self.room(size, dtype)

    def sums(self, dtype: np.dtype[Any], size: int) -> tuple[Operand, int]:
        """Scratch for sums of elements of a dtype, in the precision in which they are added."""
        return self.elements(dtype if dtype.kind == "c" else plain_total(dtype), size)

    def positions(self, plan: Plan, size: int) -> tuple[Operand, int]:
        """Scratch for positions in planes."""
        return self.elements(np.dtype(np.int32 if plan.plane_size < 1 << 31 else np.int64), size)

    def program(self) -> Program:
        """The program, done."""
        return Program(tuple([step for step in self.steps if step.blocks > 0]), tuple(self.extras), self.flag)


Function = TypeVar("Function", bound=Callable[..., Program])


def remembered(function: Function) -> Function:
    """A program is made once for equal arguments."""
    return lru_cache(maxsize=1024)(function)  # type: ignore[return-value]
