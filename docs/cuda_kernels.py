"""The table of docs/cuda-kernels.md: every CUDA kernel as machine code, without a GPU.

    python docs/cuda_kernels.py --write

compiles every kernel for every dtype and three generations of GPUs, looks at the machine code, and writes the table. It needs the
`cuda` extra and `gate`, and takes some minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numbapool.geometry import Plan, adaptive_plan, fractional_plan, placed_plan, unpool_plan, window_plan
from numbapool.kernels import cuda
from numbapool.kernels.cuda.launch import Operand, Program
from numbapool.kernels.cuda.variants import Kernel
from numbapool.kernels.elements import BFLOAT16

DOCUMENT = Path(__file__).with_name("cuda-kernels.md")
START, END = "<!-- kernels -->\n", "<!-- end of kernels -->"
CAPABILITIES = ((8, 0), (9, 0), (10, 0))
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
# Of the table: the others are the same code around other loads and stores.
LISTED = ("float32",)
# Registers of a multiprocessor, which its resident blocks share.
REGISTERS = 65536


class Findings(NamedTuple):
    """What the machine code of a kernel is like."""

    registers: int
    spills: int  # instructions on local memory
    calls: int  # returns of subroutines
    widest_load: int  # bits
    loads: int


def operand(dtype: Any) -> Operand:
    """A contiguous array at an aligned address."""
    return Operand(BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype), None, 16)


def plans() -> Iterator[tuple[str, Plan]]:
    """Windows of every kind: large arrays, whose threads have lanes, and small ones."""
    large, small = (64, 64, 112, 112), (1, 3, 30, 30)
    for name, shape in (("large", large), ("small", small)):
        yield name, window_plan(shape, 2, 3, 2, 1, 1, False)
        yield name, window_plan(shape, 2, 3, 2, 1, 2, False)
        yield name, adaptive_plan(shape, 2, (7, 9))
    yield "tiles", window_plan(large, 2, 2, None, 0, 1, False)
    yield "passes", window_plan(large, 2, 13, 1, 6, 1, False)
    yield "passes", window_plan((1, 3, 30, 30), 2, 13, 1, 6, 1, False)
    yield "whole", window_plan((64, 64, 56, 56), 2, 56, None, 0, 1, False)
    yield "channels last", window_plan(large, 2, 3, 2, 1, 1, False).channels_last
    samples = np.zeros((64, 64, 2))
    yield "drawn", fractional_plan((64, 64, 30, 30), (2, 2), (9, 9), samples)
    yield "huge", window_plan((1, 1, 65536, 65536), 2, 3, 2, 1, 1, False)


def programs(dtype: str) -> Iterator[Program]:
    """Programs that have between them every kernel for a dtype."""
    x, wide, narrow, tap = operand(dtype), operand("int64"), operand("int32"), operand("uint8")
    is_float = dtype in FLOATS
    total = x if is_float else operand("uint64" if dtype.startswith("u") else "int64")
    for kind, plan in plans():
        yield cuda.max_pool(plan, (x,), (x,))
        yield cuda.min_pool(plan, (x,), (x,))
        yield cuda.max_pool_with_indices(plan, (x,), (x, wide))
        yield cuda.min_pool_with_indices(plan, (x,), (x, wide))
        yield cuda.max_pool_with_indices(plan, (x,), (x, tap))
        if is_float:
            yield cuda.scatter_add(plan, (x, wide), (x,), True)
            yield cuda.scatter_add(plan, (x, narrow), (x,), False)
            yield cuda.scatter_add(plan, (x, tap), (x,), True)
        if kind == "drawn":
            continue
        if dtype != "bool":
            for padded in (True, False):
                yield cuda.avg_pool(plan, (x,), (x,), padded, None, False)
            yield cuda.avg_pool(plan, (x,), (x,), True, 7, False)
            if not is_float:
                yield cuda.avg_pool(plan, (x,), (x,), True, None, True)
        yield cuda.sum_pool(plan, (x,), (total,))
        if is_float:
            for padded in (True, False):
                yield cuda.avg_pool_backward(plan, (x,), (x,), padded, None, False)
            yield cuda.sum_pool_backward(plan, (x,), (x,))
    window = window_plan((64, 64, 112, 112), 2, 3, 2, 1, 1, False)
    if is_float:
        for power in (1.0, 2.0, 3.0, 2.5, float("inf")):
            for is_norm in (True, False):
                yield cuda.lp_pool(window, (x,), (x,), power, is_norm)
                yield cuda.lp_pool_backward(window, (x, x), (x,), power, is_norm)
    unpooled = unpool_plan((64, 64, 56, 56), 2, 2, None, 0, None)
    for indices in (wide, tap):
        plan = unpooled if indices is wide else window
        yield cuda.place(plan, (x, indices), (x,))
        yield cuda.gather_all(plan, (x, indices), (x,))
        yield cuda.gather(plan, (x, indices), (x,))
    placed = placed_plan((2, 3, 4, 4), (8, 8))
    yield cuda.to_global(placed, (wide,), (wide,), (0,) * 6, (8, 1))
    yield cuda.from_global(placed, (wide,), (wide,), (0,) * 6, (8, 1))


@cache
def kernels(dtype: str) -> dict[str, Kernel]:
    """All kernels for a dtype, by label."""
    found = {step.kernel.label: step.kernel for program in programs(dtype) for step in program.steps}
    return dict(sorted(found.items()))


def listed() -> dict[str, Kernel]:
    """The kernels of the document's table: all of them for `LISTED`."""
    found: dict[str, Kernel] = {}
    for dtype in LISTED:
        found |= kernels(dtype)
    return dict(sorted(found.items()))


def loads_wide(label: str) -> bool:
    """Whether a kernel promises to load 16 bytes at a time: of neighbouring channels, or of the rows of tiles."""
    return bool(re.search(r"\.(2|4|8|16)rw?\.", label)) or ".tiles" in label


def may_call(label: str) -> bool:
    """Whether a kernel may call subroutines: powers and roots are some, and nothing else is."""
    return label.startswith(("raise_elements", "take_root", "weigh", "times_powers"))


def findings(cubin: bytes) -> Findings:
    """What is in machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        code = subprocess.run([tool("nvdisasm"), "-c", file.name], capture_output=True, text=True, check=True).stdout
        usage = subprocess.run(
            [tool("cuobjdump"), "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers = int(re.findall(r"REG:(\d+)", usage)[-1])
    widths = [int(width or 32) for width in re.findall(r"\bLDG\.E(?:\.U?\d+)*?(?:\.(64|128))?(?:\.\w+)* ", code)]
    return Findings(
        registers,
        len(re.findall(r"\b(?:LDL|STL)\b", code)),
        len(re.findall(r"\bRET\b", code)),
        max(widths, default=0),
        len(widths),
    )


@cache
def tool(name: str) -> str:
    """One of the programs that come with the wheels of CUDA."""
    found = sorted(Path(sysconfig.get_path("purelib")).glob(f"nvidia/**/bin/{name}"))
    if not found:
        raise FileNotFoundError(f"{name}: pip install 'numbapool[gate]'")
    return str(found[0])


def measured(kernel: Kernel) -> list[Findings]:
    """A kernel on each of `CAPABILITIES`."""
    from numbapool.kernels.cuda.compiler import linked, lto_code

    codes = lto_code(kernel, CAPABILITIES[0])
    return [findings(linked(codes, each).cubin) for each in CAPABILITIES]


def row(label: str, each: list[Findings]) -> str:
    """A line of the table."""
    registers = " | ".join(f"{one.registers}{f' ({one.spills} spills)' if one.spills else ''}" for one in each)
    widest = (
        "/".join(str(one.widest_load) for one in each)
        if len({one.widest_load for one in each}) > 1
        else (str(each[0].widest_load))
    )
    calls = max(one.calls for one in each)
    return f"| `{label}` | {registers} | {widest} | {calls or ''} |"


def table() -> str:
    """The table, of every kernel."""
    lines = [
        "| kernel | registers, sm_80 | sm_90 | sm_100 | widest load, bits | subroutines |",
        "|---|---|---|---|---|---|",
    ]
    with ThreadPoolExecutor(4) as pool:
        lines += pool.map(lambda item: row(item[0], measured(item[1])), listed().items())
    return "\n".join(lines) + "\n"


def labels_in(text: str) -> list[str]:
    """The kernels that a document lists."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(START)
    DOCUMENT.write_text(before + START + table() + END + rest.split(END)[1], encoding="utf-8")
