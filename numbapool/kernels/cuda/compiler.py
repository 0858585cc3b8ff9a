"""What names the compiler, and nothing else does: from a `Kernel` to machine code of a GPU.

Written for numba-cuda. Its successor, numba-cuda-mlir, takes the same kernels, and needs another `_compile` and other
intrinsics.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

KERNELS = Path(__file__).parents[1]
SHARED = ("windows.py", "elements.py")


@cache
def sources_digest() -> str:
    """Digest of everything that kernels of this target are made of."""
    digest = hashlib.sha256()
    for path in [*(KERNELS / name for name in SHARED), *sorted((KERNELS / "cuda").glob("*.py"))]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
