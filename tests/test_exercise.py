"""What `python -m benchmarks.gpu sanitize` watches, without a GPU: no operation and no kernel is left out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import numbapool
from numbapool import functional
from numbapool.kernels.cuda.launch import Step
from tests import imitation
from tests.emulation import emulate
from tests.test_examples import module_of_docs

pytest.importorskip("torch")
pytest.importorskip("click")
pytest.importorskip("cpuinfo")
pytest.importorskip("rich")

from click.testing import CliRunner

from benchmarks import gpu
from benchmarks.exercise import COMPLEX, DTYPES, FLOATS, exercise
from tests import imitated_tensors


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kernels that are launched. None runs but those that fill, so that no flag is raised by what was there before."""
    names = set()

    def start(step: Step, arguments: tuple[int, ...]) -> None:
        names.add(step.kernel.function.__name__)
        if step.kernel.function.__name__ == "fill":
            emulate(step, arguments)

    imitated_tensors.install(monkeypatch)
    monkeypatch.setattr(imitation, "emulate", start)
    return names


def test_every_kernel_is_launched(launched: set[str]) -> None:
    kernels = module_of_docs("cuda_kernels").kernels
    for dtype in DTYPES:
        launched.clear()
        exercise(dtype, "cpu")
        names = {kernel.function.__name__ for kernel in kernels(dtype).values()}
        if dtype not in FLOATS:
            names.discard("pick")  # of derivatives of maxima only
        if dtype in COMPLEX:
            names -= {"fill", "narrow", "widen"}  # of indices, which sums do not have
        assert not names - launched, dtype


@pytest.mark.usefixtures("launched")
def test_every_function_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            called.add(name)
            return function(*arguments, **options)

        return call

    for name in functional.__all__:
        monkeypatch.setattr(numbapool, name, noted(name, getattr(numbapool, name)))
    exercise("float32", "cpu")
    assert called == set(functional.__all__)


def test_every_dtype_is_exercised() -> None:
    assert set(DTYPES) == set(module_of_docs("cuda_kernels").DTYPES)


def test_sanitizers_see_the_end_of_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def run(command: list[str], env: dict[str, str], **_: Any) -> Any:
        runs.append((command[2], command[-1], env["PYTORCH_NO_CUDA_MEMORY_CACHING"], "PATH" in env))
        return subprocess.CompletedProcess(command, 0, "ERROR SUMMARY: 0 errors", "")

    monkeypatch.setattr(gpu, "device_name", lambda: "a GPU")
    monkeypatch.setattr(gpu.shutil, "which", lambda name: name)
    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert CliRunner().invoke(gpu.main, ["sanitize"], catch_exceptions=False).exit_code == 0
    assert runs == [("memcheck", "exercise", "1", True), ("racecheck", "exercise", "1", True)]
