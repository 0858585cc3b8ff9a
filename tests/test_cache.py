"""Compiled code on disk: found again, never stale, and never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import numbapool
from numbapool.kernels import cache

PACKAGE = Path(numbapool.__file__).parent
CALL = """
import numpy as np, numbapool
x = np.arange(16, dtype=np.{dtype}).reshape(1, 1, 4, 4)
print(numbapool.max_pool2d(x, 2).ravel().tolist())
"""


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """A private copy of the package; its parent directory goes to the path."""
    shutil.copytree(PACKAGE, tmp_path / "site" / "numbapool", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def environment(install: Path, **variables: str) -> dict[str, str]:
    """This process's environment with a home of its own and without a cache directory."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    return own | {"PYTHONPATH": str(install), "HOME": str(install.parent), "PYTHONDONTWRITEBYTECODE": "1"} | variables


def run(install: Path, dtype: str = "float32", **variables: str) -> str:
    command = [sys.executable, "-W", "error", "-c", CALL.format(dtype=dtype)]
    own = environment(install, **variables)
    ended = subprocess.run(command, env=own, cwd=install, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def code_files(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.rglob("*.nbc")}


def test_a_second_process_compiles_nothing(install: Path) -> None:
    assert run(install) == "[5.0, 7.0, 13.0, 15.0]"
    first = code_files(install)
    assert first
    assert run(install) == "[5.0, 7.0, 13.0, 15.0]"
    assert code_files(install) == first


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernels/cpu/vectors.py", 'builder.fcmp_ordered(">"', 'builder.fcmp_ordered("<"'),
        *(
            pytest.param(*change, marks=pytest.mark.full)
            for change in (
                ("kernels/cpu/rows.py", "combine(vector, neighbour)", "combine(vector, vector)"),
                ("kernels/cpu/max.py", "g[G.FOLDED], g[G.STRIDE_W], g[G.KERNEL_W]", "g[G.FOLDED], g[G.STRIDE_W], ONE"),
            )
        ),
    ],
)
def test_a_changed_source_never_runs_stale_code(install: Path, file: str, old: str, new: str) -> None:
    before = run(install)
    path = install / "numbapool" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert run(install) != before
    path.write_text(text)
    assert run(install) == before


def test_unwritable_package_uses_the_home(install: Path) -> None:
    # A file where the directory should be: permissions would not stop a test that runs as root.
    (install / "numbapool" / "kernels" / "__pycache__").write_text("")
    assert run(install) == "[5.0, 7.0, 13.0, 15.0]"
    assert not code_files(install)
    assert code_files(install.parent)


def test_without_any_writable_directory(install: Path) -> None:
    (install / "numbapool" / "kernels" / "__pycache__").write_text("")
    (install.parent / "file").write_text("")
    unwritable = str(install.parent / "file")
    assert run(install, HOME=unwritable, XDG_CACHE_HOME=unwritable) == "[5.0, 7.0, 13.0, 15.0]"
    assert not code_files(install.parent)


def test_damaged_files_are_compiled_again(install: Path) -> None:
    run(install)
    for number, path in enumerate(install.rglob("*.nbc")):
        path.write_bytes(b"garbage" if number % 2 else path.read_bytes()[:100])
    assert run(install) == "[5.0, 7.0, 13.0, 15.0]"


def test_numba_cache_dir_is_respected(install: Path) -> None:
    directory = install.parent / "elsewhere"
    run(install, NUMBA_CACHE_DIR=str(directory))
    assert code_files(directory)
    assert not code_files(install)


def test_eight_processes_on_an_empty_cache(install: Path) -> None:
    dtypes = ["float32", "uint8"] * 4
    for _ in range(2):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CALL.format(dtype=dtype)],
                env=environment(install),
                cwd=install,
                stdout=subprocess.PIPE,
                text=True,
            )
            for dtype in dtypes
        ]
        for process, dtype in zip(processes, dtypes, strict=True):
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0
            assert [float(value) for value in out.strip()[1:-1].split(",")] == [5, 7, 13, 15], dtype


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_source_of_kernels_counts(target: str, monkeypatch: pytest.MonkeyPatch, install: Path) -> None:
    """Those in folders, too, and what targets share: what code is made of."""
    package = install / "numbapool"
    monkeypatch.setattr(cache, "PACKAGE", package)
    kernels = package / "kernels" / target
    sources = [*kernels.rglob("*.py"), package / "windows.py", package / "elements.py"]
    for path in sources:
        before = cache.digest_of(target).hexdigest()
        path.write_text(path.read_text() + "#\n")
        assert cache.digest_of(target).hexdigest() != before
