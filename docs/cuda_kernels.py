"""The table of docs/cuda-kernels.md: every CUDA kernel as machine code, without a GPU.

    python docs/cuda_kernels.py --write

compiles every kernel for every dtype and three generations of GPUs, looks at the machine code, and writes the tables. It needs the
`gate` extra, and a quarter of an hour of processor time; it fails if a kernel does not hold what `shortfalls` looks for.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import sysconfig
import tempfile
from bisect import bisect
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numbapool.elements import BFLOAT16
from numbapool.geometry import Plan, adaptive_plan, fractional_plan, placed_plan, unpool_plan, window_plan
from numbapool.kernels import cuda
from numbapool.kernels.cuda.launch import Operand, Program
from numbapool.kernels.cuda.variants import Kernel

DOCUMENT = Path(__file__).with_name("cuda-kernels.md")
START, END = "<!-- kernels -->\n", "<!-- end of kernels -->"
CAPABILITIES = ((8, 0), (9, 0), (10, 0))
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
COMPLEX = ("complex64", "complex128")  # of which there are sums and means
DTYPES = (*FLOATS, *INTEGERS, *COMPLEX)
# Of the table of kernels: the others are the same code around other loads and stores.
LISTED = "float32"
# Kernels that are compiled and disassembled together, by one process.
TOGETHER = 24
# Registers of a multiprocessor, which its resident blocks share.
REGISTERS = 65536


class Findings(NamedTuple):
    """What the machine code of a kernel is like."""

    registers: int
    spills: int  # instructions on local memory
    calls: int  # returns of subroutines
    generic: int  # instructions on memory of a kind that is found out as they run
    widest_load: int  # bits
    widest_store: int


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
    for width in (112, 114, 116, 120, 128):  # rows of as many tiles of 16 bytes, and of twice that, as go into them
        yield "tiles", window_plan((64, 64, 112, width), 2, 2, None, 0, 1, False)
    yield "tiles", window_plan(large, 2, (3, 2), 2, (1, 0), 1, False)
    yield "passes", window_plan(large, 2, 13, 1, 6, 1, False)
    yield "passes", window_plan((1, 3, 30, 30), 2, 13, 1, 6, 1, False)
    for size in (7, 28, 56):  # for teams of 4, 32 and 256 threads
        yield "whole", window_plan((64, 64, size, size), 2, size, None, 0, 1, False)
    yield "whole", window_plan((1, 1, 512, 512), 2, 512, None, 0, 1, False)
    yield "channels last", window_plan(large, 2, 3, 2, 1, 1, False).channels_last
    samples = np.zeros((64, 64, 2))
    yield "drawn", fractional_plan((64, 64, 30, 30), (2, 2), (9, 9), samples)
    yield "huge", window_plan((1, 1, 65536, 65536), 2, 3, 2, 1, 1, False)


def programs(dtype: str) -> Iterator[Program]:
    """Programs that have between them every kernel for a dtype."""
    if dtype not in COMPLEX:
        yield from choices(dtype)
    yield from sums(dtype)
    placed = placed_plan((2, 3, 4, 4), (8, 8))
    wide = operand("int64")
    yield cuda.to_global(placed, (wide,), (wide,), (0,) * 6, (8, 1))
    yield cuda.from_global(placed, (wide,), (wide,), (0,) * 6, (8, 1))


def choices(dtype: str) -> Iterator[Program]:
    """Maxima, powers, and what indices name."""
    x, wide, narrow, tap = operand(dtype), operand("int64"), operand("int32"), operand("uint8")
    is_float = dtype in FLOATS
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
            if kind != "drawn":
                yield cuda.max_pool_backward(plan, (x, x), (x,))
                yield cuda.min_pool_backward(plan, (x, x), (x,))
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


def sums(dtype: str) -> Iterator[Program]:
    """Sums and means."""
    x, is_integer = operand(dtype), dtype in INTEGERS
    total = operand("uint64" if dtype.startswith("u") else "int64") if is_integer else x
    for kind, plan in plans():
        if kind == "drawn":
            continue
        if dtype != "bool":
            for padded in (True, False):
                yield cuda.avg_pool(plan, (x,), (x,), padded, None, False)
            yield cuda.avg_pool(plan, (x,), (x,), True, 7, False)
            if is_integer:
                yield cuda.avg_pool(plan, (x,), (x,), True, None, True)
        yield cuda.sum_pool(plan, (x,), (total,))
        if not is_integer:
            for padded in (True, False):
                yield cuda.avg_pool_backward(plan, (x,), (x,), padded, None, False)
            yield cuda.sum_pool_backward(plan, (x,), (x,))


@cache
def kernels(dtype: str) -> dict[str, Kernel]:
    """All kernels for a dtype, by label."""
    found = {step.kernel.label: step.kernel for program in programs(dtype) for step in program.steps}
    return dict(sorted(found.items()))


def loads_wide(label: str) -> bool:
    """Whether a kernel promises to load 16 bytes at a time: of neighbouring channels, of the rows of tiles, or of indices."""
    return bool(re.search(r"\.(2|4|8|16)rw?\.|\.int(32|64)r\.", label)) or ".tiles" in label


def stores_wide(label: str) -> bool:
    """Whether a kernel promises to store 16 bytes at a time."""
    return bool(re.search(r"\.(2|4|8|16)rw\.|\.tiles\d+to\d+w\.|\.fills\d+w\.", label))


def may_call(label: str) -> bool:
    """Whether a kernel may call subroutines: powers and roots are some, and nothing else is."""
    return label.startswith(("raise_elements", "take_root", "weigh", "times_powers"))


def most_registers(kernel: Kernel) -> int:
    """How many registers let as many blocks as the kernel wants share a multiprocessor; they come in eights."""
    return REGISTERS // (kernel.threads * kernel.resident) // 8 * 8


def shortfalls(kernel: Kernel, found: Findings) -> list[str]:
    """What machine code lacks of that which holds for every kernel."""
    claims = {
        f"{found.spills} instructions on local memory": found.spills == 0,
        f"{found.calls} subroutines": found.calls == 0 or may_call(kernel.label),
        f"{found.generic} instructions on generic addresses": found.generic == 0,
        f"{found.registers} registers": found.registers <= most_registers(kernel),
        f"loads of {found.widest_load} bits": found.widest_load == 128 or not loads_wide(kernel.label),
        f"stores of {found.widest_store} bits": found.widest_store == 128 or not stores_wide(kernel.label),
    }
    return [f"{kernel.label}: {claim}" for claim, holds in claims.items() if not holds]


def findings(cubins: list[bytes], capability: tuple[int, int]) -> list[Findings]:
    """What is in machine code of one kind of GPU.

    All of it goes through the disassembler at once, which takes 0.3 s to start.
    """
    codes = [instructions(cubin) for cubin in cubins]
    ends = list(accumulate(map(len, codes)))
    found: list[list[str]] = [[] for _ in cubins]
    for each in re.finditer(
        r"/\*([0-9a-f]+)\*/\s+(.*);", run("nvdisasm", f"-b SM{capability[0]}{capability[1]}", b"".join(codes))
    ):
        found[bisect(ends, int(each[1], 16))].append(each[2])
    return [findings_in("\n".join(lines), registers(cubin)) for lines, cubin in zip(found, cubins)]


def findings_in(code: str, registers: int) -> Findings:
    """What is in disassembled code."""
    return Findings(
        registers,
        len(re.findall(r"\b(?:LDL|STL)\b", code)),
        len(re.findall(r"\bRET\b", code)),
        len(re.findall(r"\b(?:LD|ST|ATOM)\b", code)),
        widest(code, "LDG"),
        widest(code, "STG"),
    )


def widest(code: str, instruction: str) -> int:
    """The bits of the widest access by an instruction."""
    found = re.findall(rf"\b{instruction}\.E((?:\.\w+)*) ", code)
    return max([next((bits for bits in (128, 64) if f".{bits}" in each), 32) for each in found], default=0)


def instructions(cubin: bytes) -> bytes:
    """The sections of an ELF file that hold code."""
    (start,), (count, names) = struct.unpack_from("<Q", cubin, 0x28), struct.unpack_from("<HH", cubin, 0x3C)
    sections = list(struct.iter_unpack("<II4Q2I2Q", cubin[start : start + 64 * count]))
    name_at = sections[names][4]
    return b"".join(
        cubin[offset : offset + size]
        for name, _, _, _, offset, size, *_ in sections
        if cubin.startswith(b".text.", name_at + name)
    )


def registers(cubin: bytes) -> int:
    """How many registers a thread takes."""
    return int(re.findall(r"REG:(\d+)", run("cuobjdump", "-res-usage", cubin))[-1])


def run(name: str, options: str, content: bytes) -> str:
    """What one of the programs that come with the wheels of CUDA says about a file."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(content)
        file.flush()
        return subprocess.run(
            [tool(name), *options.split(), file.name], capture_output=True, text=True, check=True
        ).stdout


@cache
def tool(name: str) -> str:
    """One of the programs that come with the wheels of CUDA."""
    found = sorted(Path(sysconfig.get_path("purelib")).glob(f"nvidia/**/bin/{name}"))
    if not found:
        raise FileNotFoundError(f"{name}: pip install 'numbapool[gate]'")
    return str(found[0])


def measured(chosen: Sequence[Kernel], capabilities: Sequence[tuple[int, int]] = CAPABILITIES) -> list[list[Findings]]:
    """Each kernel on each kind of GPU."""
    from numbapool.kernels.cuda.compile import linked, lto_code

    codes = [lto_code(kernel, capabilities[0]) for kernel in chosen]
    each = [findings([linked(code, one).cubin for code in codes], one) for one in capabilities]
    return list(map(list, zip(*each)))


def measured_together(part: tuple[str, list[str]]) -> list[list[Findings]]:
    """Some kernels for a dtype, by their labels: in a process of its own."""
    dtype, labels = part
    return measured([kernels(dtype)[label] for label in labels])


def measured_all() -> dict[str, dict[str, list[Findings]]]:
    """All kernels, by dtype and label."""
    parts = [(dtype, list(kernels(dtype))[first : first + TOGETHER]) for dtype in DTYPES for first in starts_of(dtype)]
    found: dict[str, dict[str, list[Findings]]] = {dtype: {} for dtype in DTYPES}
    with ProcessPoolExecutor() as pool:
        for (dtype, labels), each in zip(parts, pool.map(measured_together, parts)):
            found[dtype] |= zip(labels, each)
    return found


def starts_of(dtype: str) -> range:
    """Which kernels for a dtype are the first of those that are measured together."""
    return range(0, len(kernels(dtype)), TOGETHER)


def row(label: str, each: list[Findings]) -> str:
    """A line of the table of kernels."""
    loads, stores = (
        "/".join(map(str, dict.fromkeys(widths)))
        for widths in ([one.widest_load for one in each], [one.widest_store for one in each])
    )
    calls = max(one.calls for one in each)
    return f"| `{label}` | {' | '.join(str(one.registers) for one in each)} | {loads} | {stores} | {calls or ''} |"


def summary(dtype: str, found: dict[str, list[Findings]]) -> str:
    """A line of the table of dtypes."""
    chosen = kernels(dtype)
    registers = [
        "/".join(str(max(one.registers for one in each)) for each in zip(*some)) if some else ""
        for some in (
            [each for label, each in found.items() if most_registers(chosen[label]) == ceiling]
            for ceiling in (64, 80, 128)
        )
    ]
    spills = sum(one.spills for each in found.values() for one in each)
    calling = sum(any(one.calls for one in each) for each in found.values())
    wide = sum(map(loads_wide, found))
    return f"| {dtype} | {len(found)} | {' | '.join(registers)} | {spills} | {calling} | {wide} |"


def tables(found: dict[str, dict[str, list[Findings]]]) -> str:
    """A summary for each dtype, and every kernel for one of them."""
    lines = [
        "| dtype | kernels | registers of 64: sm_80/90/100 | of 80 | of 128 | spills | with subroutines | with 16-byte loads |",
        "|---|---|---|---|---|---|---|---|",
        *(summary(dtype, found[dtype]) for dtype in DTYPES),
        "",
        "| kernel | registers, sm_80 | sm_90 | sm_100 | widest load, bits | widest store | subroutines |",
        "|---|---|---|---|---|---|---|",
        *(row(label, each) for label, each in found[LISTED].items()),
    ]
    return "\n".join(lines) + "\n"


def labels_in(text: str) -> list[str]:
    """The kernels that a document lists."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def counts_in(text: str) -> dict[str, int]:
    """How many kernels for each dtype a document says there are."""
    return {dtype: int(count) for dtype, count in re.findall(r"^\| (\w+) \| (\d+) \|", text, re.MULTILINE)}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    found = measured_all()
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(START)
    DOCUMENT.write_text(before + START + tables(found) + END + rest.split(END)[1], encoding="utf-8")
    every = ((kernels(dtype)[label], one) for dtype in DTYPES for label, each in found[dtype].items() for one in each)
    sys.exit("\n".join(line for kernel, one in every for line in shortfalls(kernel, one)) or 0)
