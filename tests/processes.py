"""Running a function of a test module in a Python process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def environment(**variables: Any) -> dict[str, str]:
    """This process's environment with other variables; those that are None are left out."""
    changed = {**os.environ, **variables}
    return {name: str(value) for name, value in changed.items() if value is not None}


def command(function: Callable[..., Any], *arguments: Any, home: Path = ROOT) -> list[str]:
    """The command that calls `function` of a module in tests/ with warnings as errors, `home` being where numbapool is."""
    path = [str(home), str(ROOT)]
    module, name = function.__module__, function.__name__
    code = f"import sys; sys.path[:0] = {path!r}; from {module} import {name}; {name}(*{arguments!r})"
    # Forking with threads running is what some of these tests are about; Python 3.12 warns of it.
    quiet = "ignore:This process:DeprecationWarning"
    return [sys.executable, "-B", "-W", "error", "-W", quiet, "-c", code]


def call_in_process(
    function: Callable[..., Any], *arguments: Any, timeout: float = 300, home: Path = ROOT, **variables: Any
) -> str:
    """Call `function` in a new process with environment `variables`; what it printed."""
    done = subprocess.run(
        command(function, *arguments, home=home),
        env=environment(**variables),
        cwd=home,
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
