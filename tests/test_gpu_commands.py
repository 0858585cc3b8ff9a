"""The commands of `python -m benchmarks.gpu`, without a GPU: what they select, and that `sanitize` watches every kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression

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

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize(
    ("keywords", "is_run"),
    [
        ({"cupy_on_gpu", "max"}, True),
        ({"test_on_gpu", "max"}, True),
        ({"cupy_on_gpu"}, False),
        ({"torch_on_gpu", "min"}, False),
        ({"max"}, False),
    ],
)
def test_a_pattern_selects_of_all_tests_that_take_a_gpu(keywords: set[str], is_run: bool) -> None:
    expression = Expression.compile(gpu.selected("max or sum"))
    assert expression.evaluate(lambda name, **_: name in keywords) is is_run


def test_speed_begins_by_itself() -> None:
    """In a process that has imported nothing but it, as far as that goes without a GPU: without cases."""
    code = """
from benchmarks import gpu
gpu.device_name = lambda: "no GPU"
gpu.copy_bandwidth = lambda rounds: 1e12
gpu.host_cost = dict
gpu.bar_table = lambda *_: "the bars"
gpu.main(["speed", "-k", "no such case"])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("the bars\n")
