"""The machine and the versions that a result was measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import psutil
from cpuinfo import get_cpu_info

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# Of all cores together, as the processor reports them; by the names that `cpuinfo` has for them.
CACHES = {"L1": "l1_data", "L2": "l2", "L3": "l3"}


def cores() -> int:
    """Number of cores this process may use: the number of threads that every engine gets."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(*packages: str) -> dict[str, Any]:
    """Processor, cores, caches, memory, governor, operating system, and versions of Python and `packages`."""
    processor = get_cpu_info()
    caches = {level: processor.get(f"{key}_cache_size") for level, key in CACHES.items()}
    return {
        "processor": processor.get("brand_raw", platform.processor()),
        "cores": cores(),
        "cache_bytes": {level: size for level, size in caches.items() if isinstance(size, int)},
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "governor": GOVERNOR.read_text().strip() if GOVERNOR.is_file() else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in packages},
    }


def binary(size: int) -> str:
    """Bytes with a unit: '16 KiB'."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 2**10:.3g} KiB"


def sentence(machine: dict[str, Any]) -> str:
    """A description in one sentence for people."""
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    caches = "".join(f"{level} {binary(size)}, " for level, size in machine["cache_bytes"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {caches}{machine['memory_gib']} GiB, {machine['system']}, "
        f"frequency governor {machine['governor']}; {versions}."
    )


def _version(package: str) -> str:
    """Version of the distribution that a package came with: cv2 is in opencv-python or opencv-python-headless."""
    distributions = packages_distributions().get(package)
    return version(distributions[0]) if distributions else "not installed"
