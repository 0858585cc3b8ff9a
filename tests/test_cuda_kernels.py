"""CUDA kernels as machine code of three generations of GPUs: no spills, no subroutines, few registers, wide loads where promised.

Without a GPU, by the compiler from PyPI: `pip install 'numbapool[gate]'`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType

import pytest

from numbapool.kernels.cuda import compile as compiler
from numbapool.kernels.cuda import schedule
from numbapool.kernels.cuda.scalars import G
from numbapool.kernels.cuda.variants import Kernel
from tests import emulation
from tests.test_examples import module_of_docs

DTYPES = module_of_docs("cuda_kernels").DTYPES
# Of the core run, on every GPU: kernels of several lanes, which need the most registers, and of wide loads.
CORE = (r"avg_windows\.sliding\..*\.[24]\.32", r"max_windows_indices\.sliding\..*\.int64\.4\.32", r"max_tiles\..*")


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(schedule, "FULL", emulation.FULL_GPU)
    return module_of_docs("cuda_kernels")


@pytest.fixture
def gate(document: ModuleType) -> ModuleType:
    for package in (
        "numba-cuda",
        "cuda-core",
        "nvidia-nvvm",
        "nvidia-nvjitlink",
        "nvidia-cuda-nvdisasm",
        "nvidia-cuda-cuobjdump",
    ):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install 'numbapool[gate]')")
    assert importlib.util.find_spec("cuda.core") is not None
    return document


@pytest.mark.usefixtures("gate")
def test_the_key_of_the_cache_has_all_that_compiles() -> None:
    """Without a version in it, code of another compiler would be taken for right."""
    versions = dict(zip(compiler.PACKAGES, compiler.versions()[1:], strict=True))
    missing = {package for package, version in versions.items() if version == "none"}
    assert missing <= {"nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"}  # which the extra `cuda12` has


def test_the_tables_have_every_kernel(document: ModuleType) -> None:
    text, advice = document.DOCUMENT.read_text(encoding="utf-8"), "stale: python docs/cuda_kernels.py --write"
    assert document.labels_in(text) == list(document.kernels(document.LISTED)), advice
    assert document.counts_in(text) == {dtype: len(document.kernels(dtype)) for dtype in document.DTYPES}, advice


def test_equal_labels_are_equal_kernels(document: ModuleType) -> None:
    """A label is a key of the cache: two programs must not give it to different kernels."""
    found: dict[str, str] = {}
    for dtype in document.DTYPES:
        for program in document.programs(dtype):
            for step in program.steps:
                said = repr([step.kernel.buffers, step.kernel.scalars, step.kernel.threads, *described(step.kernel)])
                assert found.setdefault(step.kernel.label, said) == said, step.kernel.label


def test_every_scalar_is_read(document: ModuleType) -> None:
    """By some kernel, and a kernel gets no others."""
    kernels = [kernel for dtype in ("float32", "int8") for kernel in document.kernels(dtype).values()]
    assert {name for kernel in kernels for name in kernel.scalars} == set(G.__members__)
    assert max(len(kernel.scalars) for kernel in kernels) < len(G)


def described(kernel: object) -> list[str]:
    """What a variant is made of, in words."""
    words = []
    for name, each in sorted(kernel.names, key=lambda item: item[0]):  # type: ignore[attr-defined]
        depth, own = [], each
        while hasattr(own, "__name__"):
            depth.append(own.__name__)
            own = getattr(own, "__dict__", {}).get("own", {}).get("one") if callable(own) else None
        words.append(f"{name}={depth or each!r}")
    return words


def test_machine_code_of_float32(gate: ModuleType) -> None:
    """One variant of every kernel, for one kind of GPU."""
    kernels = {kernel.function.__name__: kernel for kernel in gate.kernels("float32").values()}
    assert_sound(gate, list(kernels.values()), [(9, 0)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_machine_code_of_every_dtype(gate: ModuleType, dtype: str) -> None:
    """A few kernels, for every kind of GPU."""
    labels = [next((label for label in gate.kernels(dtype) if re.fullmatch(each, label)), "") for each in CORE]
    assert_sound(gate, [gate.kernels(dtype)[label] for label in labels if label], gate.CAPABILITIES)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_machine_code(gate: ModuleType, dtype: str) -> None:
    """Every kernel, for every kind of GPU."""
    assert_sound(gate, list(gate.kernels(dtype).values()), gate.CAPABILITIES)


def assert_sound(gate: ModuleType, kernels: list[Kernel], capabilities: Sequence[tuple[int, int]]) -> None:
    assert kernels
    for kernel, each in zip(kernels, gate.measured(kernels, capabilities)):
        for found in each:
            assert gate.shortfalls(kernel, found) == []


def test_what_is_found_in_code(document: ModuleType) -> None:
    """Each kind of instruction that the gate looks for, as disassemblers write it."""
    lines = [
        "@!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ",
        "LDG.E.U8.CONSTANT R4, [R2.64] ",
        "@P1 STG.E.64 desc[UR4][R2.64], R4 ",
        "STL [R1+0x4], R5 ",
        "LDL.LU R5, [R1+0x4] ",
        "LD.E R5, [R2.64] ",
        "LDS.64 R4, [R0] ",
        "RET.REL.NODEC R2 0x0 ",
    ]
    assert document.findings_in("\n".join(lines), 40) == document.Findings(40, 2, 1, 1, 128, 64)
    assert document.findings_in("IMAD R1, R2, R3, R4 ", 8) == document.Findings(8, 0, 0, 0, 0, 0)


def test_what_falls_short(document: ModuleType) -> None:
    label = "max_windows.sliding.float32.4rw.32"
    kernel, sound = document.kernels("float32")[label], document.Findings(64, 0, 0, 0, 128, 128)
    assert document.shortfalls(kernel, sound) == []
    for worse, claim in (
        ({"registers": 65}, "65 registers"),
        ({"spills": 1}, "1 instructions on local memory"),
        ({"calls": 1}, "1 subroutines"),
        ({"generic": 1}, "1 instructions on generic addresses"),
        ({"widest_load": 64}, "loads of 64 bits"),
        ({"widest_store": 32}, "stores of 32 bits"),
    ):
        assert document.shortfalls(kernel, sound._replace(**worse)) == [f"{label}: {claim}"]
