"""What is timed: every operation, with arguments that its functions take."""

from __future__ import annotations

import re

import numpy as np
import pytest

import numbapool
from benchmarks.cases import ALL, FAMILY, FamilyBenchmark
from numbapool import functional

# Without the `bench` extra there is nothing to test.
pytest.importorskip("click")
pytest.importorskip("cpuinfo")
pytest.importorskip("rich")

from click.testing import CliRunner
from rich.table import Table

from benchmarks.gpu import CASES, GpuCase, bar_table, main


def test_every_operation_is_timed() -> None:
    operations = {re.sub(r"(\dd)?(_backward)?$", "", name) for name in functional.__all__}
    assert operations - {"pool"} == {case.operation for case in ALL}  # which is all of those with windows


@pytest.mark.parametrize("case", FAMILY, ids=str)
def test_arguments_are_taken(case: FamilyBenchmark) -> None:
    """By a call on an empty batch, which checks everything and computes nothing."""
    x = np.zeros((0, *case.shape[1:]), case.dtype)
    operands = {name: array[:0] for name, array in case.operands.items()}
    out = getattr(numbapool, case.function)(x, **case.arguments, **operands)
    assert out.shape[:2] == (0, case.shape[1])


def result(case: GpuCase, ours: float, copy: float) -> dict[str, object]:
    times = {"numbapool": ours, "torch": 1.0, "inductor": 2.0}
    return {
        "case": case.name,
        "taps": case.taps,
        "overlaps": case.overlaps,
        "dtype": case.dtype,
        "is_past_cache": True,
        "forward": times,
        "backward": times,
        "copy_forward": copy,
        "copy_backward": copy + 0.01,
    }


def cells(shown: Table) -> dict[str, tuple[str, ...]]:
    first, *columns = ([str(cell) for cell in column.cells] for column in shown.columns)
    return dict(zip(first, zip(*columns, strict=True), strict=True))


def test_bars_of_a_gpu() -> None:
    """The least copy and ratio decide, and the geometric mean of ratios."""
    plain = GpuCase("plain", "max", (1, 1, 8, 8), {"kernel_size": 2})
    overlapping = GpuCase("overlapping", "avg", (1, 1, 8, 8), {"kernel_size": 3, "stride": 1})
    rows = cells(
        bar_table([result(plain, 0.5, 0.91), result(overlapping, 0.125, 0.4)], {"numbapool": 3.0, "torch": 1.0})
    )
    assert rows["of copy, float32"] == ("0.9", "0.91", "plain forward", "yes")
    assert rows["of copy, half"] == ("0.85", "not measured", "", "")
    assert rows["of copy, overlapping"] == ("0.6", "0.40", "overlapping forward", "no")
    assert rows["times torch or inductor, least"] == ("0.95", "2.00", "plain backward, torch", "yes")
    assert rows["times torch forward"] == ("1.3", "4.00", "geometric mean", "yes")
    assert rows["times torch, windows of 9 and more"] == ("5", "8.00", "geometric mean", "yes")
    assert rows["cost of a tiny call, at most"] == ("1.5", "3.00", "", "no")


@pytest.mark.parametrize("command", ["test", "sanitize", "speed"])
def test_without_a_gpu_it_says_so(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("torch").cuda, "is_available", lambda: False)
    outcome = CliRunner().invoke(main, [command])
    assert outcome.exit_code == 1
    assert "no GPU, so nothing has been run" in outcome.output


def test_cases_for_a_gpu_can_be_pooled() -> None:
    for case in CASES:
        out = getattr(numbapool, case.function)(np.zeros((0, *case.shape[1:]), np.float32), **case.window)
        assert out.shape[1] == case.shape[1]
