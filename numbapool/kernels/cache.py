"""Where compiled code is kept on disk, and how it gets there; without Numba, for code that needs none to run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

KERNELS = Path(__file__).parent


def directories(configured: str = "") -> Iterator[Path]:
    """Where compiled code may be, in order: the `configured` one ($NUMBA_CACHE_DIR) alone, or beside the kernels and the user's.

    None where the sources cannot be read (an application packed into an archive), since nothing would tell stale code.
    """
    if not (KERNELS / "windows.py").is_file():
        return
    if configured:
        yield Path(configured)
        return
    yield KERNELS / "__pycache__"
    yield user_cache_directory()


def user_cache_directory() -> Path:
    """The directory for this user's caches by the custom of the operating system."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "numbapool" / "cache"
    if sys.platform == "darwin":
        return Path(home) / "Library" / "Caches" / "numbapool"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")) / "numbapool"


def write_whole(directory: Path, name: str, payload: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
        os.replace(temporary, directory / name)
    except BaseException:
        os.unlink(temporary)
        raise
