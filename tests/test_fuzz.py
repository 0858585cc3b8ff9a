"""A short run of the fuzzer, and that it would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")

import numba

import numbapool
from tests import fuzz

SCRIPT = Path(fuzz.__file__)


@pytest.mark.parametrize("part", range(4))
def test_some_cases(part: int) -> None:
    threads = numba.get_num_threads()
    try:
        for number in range(100 * part, 100 * part + 100):
            wrong = fuzz.check(fuzz.draw(1, number, threads))
            assert wrong is None, f"{wrong}\n{fuzz.draw(1, number, threads)}"
    finally:
        numba.set_num_threads(threads)


def test_a_mismatch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbapool, "max_pool2d", lambda x, *args, out=None, **kwargs: x)
    cases = [fuzz.draw(1, number, 1) for number in range(200)]
    calls = [call for call in cases if call.operation.function == "max_pool" and call.rank == 2]
    assert any(fuzz.check(call) for call in calls)


def test_command_counts_its_cases() -> None:
    command = [sys.executable, str(SCRIPT), "--seed", "3", "--cases", "30", "--seconds", "250", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3" in done.stdout
    assert "30 cases, seed 3: no mismatch" in done.stdout
