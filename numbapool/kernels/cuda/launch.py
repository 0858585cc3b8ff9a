"""What a program is: launches of kernels on arrays, without addresses, which come with the call. The CPU needs none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbapool.kernels.cuda.elements import name_of
from numbapool.kernels.cuda.variants import Kernel

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


class Buffer(NamedTuple):
    """An operand, and its number in a program."""

    dtype: np.dtype[Any]
    strides: tuple[int, ...] | None
    alignment: int
    number: int

    @property
    def name(self) -> str:
        """The dtype as kernels have it in their labels: a complex element is two of these."""
        return name_of(self.dtype)


NONE = Buffer(np.dtype(np.int32), None, 1, NO_BUFFER)


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
