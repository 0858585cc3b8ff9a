"""Where compiled code is kept on disk, and how it gets there; without Numba, for code that needs none to run."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# What every target compiles for itself.
SHARED = ("compilable.py", "elements.py", "windows.py")


def sources_of(target: str) -> list[Path]:
    """Every file that kernels of a target are made of."""
    return [*(PACKAGE / name for name in SHARED), *sorted((PACKAGE / "kernels" / target).rglob("*.py"))]


def digest_of(target: str) -> hashlib._Hash:
    """Digest of those files, to which may be added what else the code depends on."""
    digest = hashlib.sha256()
    for path in sources_of(target):
        digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return digest


def directories(configured: str = "") -> Iterator[Path]:
    """Where compiled code may be, in order: the `configured` one ($NUMBA_CACHE_DIR) alone, or beside the kernels and the user's.

    None where the sources cannot be read (an application packed into an archive), since nothing would tell stale code.
    """
    if not (PACKAGE / "windows.py").is_file():
        return
    if configured:
        yield Path(configured)
        return
    yield PACKAGE / "kernels" / "__pycache__"
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
