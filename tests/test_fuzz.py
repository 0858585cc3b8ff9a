"""A short run of the fuzzer, and that it would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")

import numba
import numpy as np

import numbapool
from tests import fuzz

SCRIPT = Path(fuzz.__file__)


@pytest.mark.parametrize("part", range(8))
def test_some_cases(part: int) -> None:
    threads = numba.get_num_threads()
    try:
        for number in range(100 * part, 100 * part + 100):
            wrong = fuzz.check(fuzz.draw(1, number, threads))
            assert wrong is None, f"{wrong}\n{fuzz.draw(1, number, threads)}"
    finally:
        numba.set_num_threads(threads)


@pytest.fixture(scope="module")
def good_calls() -> dict[str, fuzz.Call]:
    """Of each operation a call whose every result is finite and not empty."""
    calls: dict[str, fuzz.Call] = {}
    for number in range(4000):
        call = fuzz.draw(5, number, 1)
        name = call.notes[0]
        if name not in calls and call.error is None and call.out is None:
            results = call.expected()
            if all(each.size and np.isfinite(each).all() for each in results):
                calls[name] = call
    return calls


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_a_mismatch_is_noticed(good_calls: dict[str, fuzz.Call], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong element of any result is enough."""
    call = good_calls[name]
    expected = call.expected()
    for spot in (None, *range(len(expected))):
        results = tuple(each.copy() for each in expected)
        if spot is not None:
            results[spot].flat[-1] = results[spot].flat[-1] == 0
        monkeypatch.setattr(numbapool, call.name, lambda *args, results=results, **kwargs: results)
        assert (fuzz.check(call) is None) == (spot is None)


def test_torch_judges_too() -> None:
    """Each operation in some of its cases, and what it says counts."""
    pytest.importorskip("torch")
    left = set(fuzz.OPERATIONS)
    for number in range(2000):
        call = fuzz.draw(6, number, 1)
        if call.error is None and call.torchs() is not None:
            left.discard(call.notes[0])
    assert left == {name for name in fuzz.OPERATIONS if fuzz.OPERATIONS[name].theirs is None}


def test_a_mismatch_with_torch_is_noticed(good_calls: dict[str, fuzz.Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is enough where the reference agrees."""
    monkeypatch.setattr(fuzz.Call, "torchs", lambda self: tuple(each + 1 for each in self.expected()))
    assert fuzz.check(good_calls["adaptive_max_pool"])


def test_command_counts_its_cases() -> None:
    command = [sys.executable, str(SCRIPT), "--seed", "3", "--cases", "30", "--seconds", "250", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3" in done.stdout
    assert "30 cases, seed 3: no mismatch" in done.stdout
