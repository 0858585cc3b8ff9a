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


def cores() -> int:
    """Number of cores this process may use: the number of threads that every engine gets."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, frequency governor, operating system, and versions of Python and `packages`."""
    return {
        "processor": get_cpu_info().get("brand_raw", platform.processor()),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "governor": GOVERNOR.read_text().strip() if GOVERNOR.is_file() else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {package: _version(package) for package in packages},
    }


def sentence(machine: dict[str, Any]) -> str:
    """A description in one sentence for people."""
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"frequency governor {machine['governor']}; {versions}."
    )


def _version(package: str) -> str:
    """Version of the distribution that a package came with: cv2 is in opencv-python or opencv-python-headless."""
    distributions = packages_distributions().get(package)
    return version(distributions[0]) if distributions else "not installed"
