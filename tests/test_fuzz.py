"""A short run of the fuzzer, and that it would notice."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("ml_dtypes")
pytest.importorskip("rich")

import numba
import numpy as np

import numbapool
from tests import fuzz

SCRIPT = Path(fuzz.__file__)


# One of each kind: others compile the same kernels once more.
DTYPES = ("float32", "float16", "complex64", "uint8")


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_some_cases(name: str) -> None:
    threads = numba.get_num_threads()
    try:
        for number in range(12):
            wrong = fuzz.check(fuzz.draw(1, number, threads, name, DTYPES))
            assert wrong is None, f"{wrong}\n{fuzz.draw(1, number, threads, name, DTYPES)}"
    finally:
        numba.set_num_threads(threads)


@cache
def good_call(name: str, dtypes: Sequence[str] = fuzz.SUMMED) -> fuzz.Call:
    """A call of an operation whose every result is finite and not empty."""
    for number in itertools.count():
        call = fuzz.draw(5, number, 1, name, dtypes)
        is_good = call.error is None and call.out is None
        if is_good and all(each.size and np.isfinite(each).all() for each in call.expected()):
            break
    return call


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_a_mismatch_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong element of any result is enough."""
    call = good_call(name)
    expected = call.expected()
    for spot in (None, *range(len(expected))):
        results = tuple(each.copy() for each in expected)
        if spot is not None:
            results[spot].flat[-1] = results[spot].flat[-1] == 0
        monkeypatch.setattr(numbapool, call.name, lambda *args, results=results, **kwargs: results)
        assert (fuzz.check(call) is None) == (spot is None)


@pytest.mark.parametrize("half", fuzz.HALVES)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool", "sum_pool_backward", "lp_pool of any axes"])
def test_the_next_number_in_half_precision_is_noticed(name: str, half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = good_call(name, (half,))
    (expected,) = call.expected()
    monkeypatch.setattr(
        numbapool, call.name, lambda *args, **kwargs: np.nextafter(expected, expected.dtype.type(np.inf))
    )
    assert fuzz.check(call)


@pytest.mark.parametrize("name", ["avg_pool", "sum_pool_backward", "adaptive_avg_pool"])
def test_the_other_sign_of_imaginary_parts_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = good_call(name, ("complex64", "complex128"))
    (expected,) = call.expected()
    monkeypatch.setattr(numbapool, call.name, lambda *args, **kwargs: expected.conj())
    assert fuzz.check(call)


@pytest.mark.parametrize("kind", ["global", "window"])
def test_indices_of_another_kind_are_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (fuzz.draw(7, number, 1, "max_pool with indices") for number in itertools.count())
    call = next(
        call
        for call in numbers
        if call.error is None and call.out is None and call.index_kind == kind and call.distinct["x"].size > 1
    )
    values, indices = call.expected()
    assert fuzz.check(call) is None
    call.index_kind = "plane"
    wrong = call.expected()[1].astype(indices.dtype)
    call.index_kind = kind
    monkeypatch.setattr(numbapool, call.name, lambda *args, **kwargs: (values, wrong))
    assert fuzz.check(call)


def test_torch_judges_too() -> None:
    """Each operation in some of its cases, and what it says counts."""
    pytest.importorskip("torch")
    for name, operation in fuzz.OPERATIONS.items():
        calls = (fuzz.draw(6, number, 1, name) for number in range(200))
        is_judged = any(call.error is None and call.torchs() is not None for call in calls)
        assert is_judged == (operation.theirs is not None), name


def test_a_mismatch_with_torch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is enough where the reference agrees."""
    monkeypatch.setattr(fuzz.Call, "torchs", lambda self: tuple(each + 1 for each in self.expected()))
    assert fuzz.check(good_call("adaptive_max_pool"))


def test_command_counts_its_cases() -> None:
    command = [sys.executable, str(SCRIPT), "--seed", "3", "--cases", "10", "--seconds", "250", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 3" in done.stdout
    assert "10 cases, seed 3: no mismatch" in done.stdout
