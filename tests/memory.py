"""Peaks of a process's resident memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLEAR = Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise LookupError(f"this system does not report {field}")
    return 1024 * int(found[1])


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes by which a call raises the peak of this process's resident memory."""
    call()  # compiles, starts threads
    CLEAR.write_text("5", encoding="ascii")  # the peak starts again
    before = resident("VmRSS")
    call()
    return max(0, resident("VmHWM") - before)
