"""What is timed: every operation, with arguments that its functions take."""

from __future__ import annotations

import re

import numpy as np
import pytest

import numbapool
from benchmarks.cases import ALL, FAMILY, FamilyBenchmark
from numbapool import functional


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
