"""CUDA kernels as machine code of three generations of GPUs: no spills, no subroutines, few registers, wide loads where promised.

Without a GPU, by the compiler from PyPI: `pip install 'numbapool[gate]'`.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from types import ModuleType

import pytest

from numbapool.kernels.cuda import launch
from tests import emulation
from tests.test_examples import module_of_docs

# Kernels of the core run: the other dtypes are the same code around other loads and stores.
CORE = ("float16", "float32")


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(launch, "FULL", emulation.FULL_GPU)
    return module_of_docs("cuda_kernels")


@pytest.fixture
def gate(document: ModuleType) -> ModuleType:
    for package in ("numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvdisasm"):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install 'numbapool[gate]')")
    assert importlib.util.find_spec("cuda.core") is not None
    return document


def test_the_table_lists_every_kernel(document: ModuleType) -> None:
    listed = document.labels_in(document.DOCUMENT.read_text(encoding="utf-8"))
    assert listed == list(document.listed()), "docs/cuda-kernels.md is stale: python docs/cuda_kernels.py --write"


def test_equal_labels_are_equal_kernels(document: ModuleType) -> None:
    """A label is a key of the cache: two programs must not give it to different kernels."""
    for dtype in (*document.FLOATS, *document.INTEGERS):
        found: dict[str, str] = {}
        for program in document.programs(dtype):
            for step in program.steps:
                said = repr([step.kernel.buffers, step.kernel.scalars, step.kernel.threads, *described(step.kernel)])
                assert found.setdefault(step.kernel.label, said) == said, step.kernel.label


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


@pytest.mark.parametrize(
    "dtype", [*CORE, *(pytest.param(each, marks=pytest.mark.full) for each in ("bfloat16", "float64", "int8", "int64"))]
)
def test_machine_code(gate: ModuleType, dtype: str) -> None:
    """In the core run a few kernels of each dtype, in the full one all."""
    chosen = gate.kernels(dtype)
    if dtype in CORE:
        core = ("max_windows.sliding", "max_windows_indices.sliding", "avg_windows.sliding", "max_tiles", "max_holders")
        chosen = {label: each for label, each in chosen.items() if label.startswith(core) and "reversed" not in label}
        chosen = dict(list(chosen.items())[:: max(1, len(chosen) // 8)])
    assert chosen
    for label, kernel in chosen.items():
        for found in gate.measured(kernel):
            assert found.spills == 0, label
            assert found.calls == 0 or gate.may_call(label), label
            assert found.registers * kernel.threads * kernel.resident <= gate.REGISTERS, label
            if gate.loads_wide(label):
                assert found.widest_load == 128, label
