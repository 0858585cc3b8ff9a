"""A program in the making: launches, scratch, tables and a flag. The CPU has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from numbapool.geometry import BinPlan, Plan
from numbapool.kernels.cuda import elements, scalars, vectors
from numbapool.kernels.cuda.launch import NONE, Buffer, Operand, Program, Step
from numbapool.kernels.cuda.schedule import LARGEST, WIDE, Layer, is_large, size_of
from numbapool.kernels.cuda.variants import Kernel, layout_of, scalars_read

# The scalars that kernels read, by label: to find them takes 0.5 ms, as long as all else of a launch.
_read: dict[str, tuple[str, ...]] = {}


class Draft:
    """A program in the making."""

    def __init__(self, sources: Sequence[Operand], results: Sequence[Operand]) -> None:
        self.given = [Buffer(*each, number) for number, each in enumerate((*sources, *results))]
        self.steps: list[Step] = []
        self.extras: list[int | np.ndarray] = []
        self.flag = NONE

    def _new(self, extra: int | np.ndarray, dtype: np.dtype[Any]) -> Buffer:
        self.extras.append(extra)
        return Buffer(dtype, None, WIDE, len(self.given) + len(self.extras) - 1)

    def table(self, values: Any) -> Buffer:
        """A buffer of constants."""
        constants = np.ascontiguousarray(values, np.int64)
        return self._new(constants, constants.dtype)

    def starts(self, plan: Plan) -> Buffer:
        """A table of where windows start, one row a plane, if the plan has one."""
        if not (isinstance(plan, BinPlan) and plan.starts):
            return NONE
        starts = [np.zeros((plan.planes, 1), np.int64)] * (3 - len(plan.starts)) + list(plan.starts)
        return self.table(np.concatenate(starts, axis=1).ravel())

    def room(self, dtype: Any, size: int) -> Buffer:
        """Scratch for elements of a dtype."""
        return self._new(max(WIDE, size * np.dtype(dtype).itemsize), np.dtype(dtype))

    def sums(self, dtype: np.dtype[Any], size: int) -> Buffer:
        """Scratch for sums of elements of a dtype, in the precision in which they are added."""
        return self.room(dtype if dtype.kind == "c" else elements.plain_total(dtype), size)

    def positions(self, plan: Plan, size: int) -> Buffer:
        """Scratch for positions in planes."""
        return self.room(np.int32 if plan.plane_size < 1 << 31 else np.int64, size)

    def add(
        self,
        function: Callable[..., None],
        words: Sequence[str],
        names: dict[str, Any],
        layer: Layer,
        read: Sequence[tuple[Buffer, bool]],
        buffers: Sequence[Buffer],
        *,
        of_output: bool,
        most: int = 0,
        steps: dict[str, Any] | None = None,
        fields: dict[str, int] | None = None,
    ) -> None:
        """A launch of a thread for each unit of a result with the shape of the output, or of the input.

        `read` are the sources whose steps the kernel gets, each with whether it has the shape of the output; `most` is what else
        positions count up to, `steps` those of vectors if they are others than the layer's, `fields` scalars of the kernel's own.
        """
        large = is_large(layer.plan, read, max(most, size_of(layer.plan, of_output)))
        every = scalars.fields_of(layer, read, of_output) | (fields or {})
        if steps is None:
            steps = vectors.steps_of(layer.lanes, layer.is_wide, layer.stores_wide)
        # Twice the registers where positions or sums of integers take two each. Some more for integers that are not of 32 bits:
        # with 64, their kernels of 4 lanes with positions, and those of tiles, spilled.
        value = np.dtype(names.get("value", np.float32))
        takes_two = large or names.get("total") in (np.int64, np.uint64)
        takes_more = value.kind in "iu" and value.itemsize != 4
        resident = 2 if takes_two else 3 if takes_more else 4
        self.launch(function, [*words, layer.word], steps | names, buffers, every, large, resident=resident)

    def pass_over(
        self,
        function: Callable[..., None],
        words: Sequence[str],
        names: dict[str, Any],
        buffers: Sequence[Buffer],
        size: int,
        fields: dict[str, int] | None = None,
    ) -> None:
        """A launch of a thread for each of `size` elements of contiguous buffers."""
        self.launch(function, words, names, buffers, {"UNITS": size} | (fields or {}), size > LARGEST)

    def launch(
        self,
        function: Callable[..., None],
        words: Sequence[str],
        names: dict[str, Any],
        buffers: Sequence[Buffer],
        fields: dict[str, int],
        is_large: bool,
        team: int = 1,
        **options: Any,
    ) -> None:
        """A launch of a variant of a kernel, with a team of threads for each unit, and options of `Kernel`."""
        label = ".".join([function.__name__, *words, "64" if is_large else "32"])
        names = names | elements.index_names(is_large)
        if label not in _read:
            _read[label] = scalars_read(function, names)
        read = _read[label]
        every = tuple((names | {"G": layout_of(read)}).items())
        kernel = Kernel(function, label, every, tuple([each.name for each in buffers]), read, **options)
        blocks = -(-fields["UNITS"] * team // kernel.threads)
        numbers = tuple([(each.number, 0) for each in buffers])
        self.steps.append(Step(kernel, blocks, numbers, scalars.filled(read, fields, is_large)))

    def program(self) -> Program:
        """The program, done."""
        return Program(tuple([step for step in self.steps if step.blocks > 0]), tuple(self.extras), self.flag.number)


Function = TypeVar("Function", bound=Callable[..., Program])


def remembered(function: Function) -> Function:
    """A program is made once for equal arguments."""
    return lru_cache(maxsize=1024)(function)  # type: ignore[return-value]
