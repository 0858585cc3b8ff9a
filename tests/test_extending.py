"""docs/extending.md, proved: a patch adds an operation to a copy of the package, which has it everywhere then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PATCH = TESTS / "log_sum_exp.patch"

# Its row, its definition, its kernel and the line that names it, and its reducer.
FILES = [
    "numbapool/kernels/cpu/__init__.py",
    "numbapool/kernels/cpu/log_sum_exp.py",
    "numbapool/kinds.py",
    "numbapool/operations.py",
    "numbapool/reference.py",
]


def contents(tree: Path) -> dict[str, bytes]:
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*.py")}


def test_an_operation_touches_five_files(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shutil.copytree(TESTS.parent / "numbapool", tmp_path / "numbapool", ignore=shutil.ignore_patterns("__pycache__"))
    before = contents(tmp_path)
    subprocess.run(["git", "apply", "--unsafe-paths", str(PATCH)], cwd=tmp_path, check=True, timeout=60)
    after = contents(tmp_path)
    assert sorted(name for name in after if before.get(name) != after[name]) == FILES
    environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "error", str(TESTS / "log_sum_exp.py")]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
