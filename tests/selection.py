"""Which tests the default run has: the one place that decides it. `pytest -m "full or not full"` runs all.

A newcomer waits for the default run, and most of it is compiling: a kernel takes one to five seconds for each kind of element.
So of all arrays, dtypes and geometries that a test is parametrised by, the default run has those that are out of the ordinary
in one way at most: every geometry on plain NumPy arrays in one dtype, every kind of array and every common dtype on the
geometries that stand first in their list, which between them reach every algorithm. tests/test_rare_dtypes.py and
tests/test_fuzz.py draw from all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

# What pytest's -m is in the default run, see pyproject.toml.
DEFAULT_RUN = "not full and not large_memory"
# How many geometries of a list are ordinary; see `cases.WITNESSES`.
ORDINARY = 8
# What a parameter that is a geometry is called.
GEOMETRIES = ("case", "call", "shape", "axes")
# How many of them are so for kinds of arrays whose kernels are emulated: each is compiled for each geometry and layout anew.
ORDINARY_EMULATED, ORDINARY_EMULATED_STRIDED = 2, 1
# Dtypes that only tests/test_rare_dtypes.py and the fuzzer draw: every kernel is compiled for each of them once more.
RARE = ("float64", "bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bfloat16", "complex128")


def left_out(tests: list[pytest.Function]) -> Iterator[pytest.Function]:
    """Those of a test function's tests that the default run does without."""
    met: dict[str, list[Any]] = {name: [] for name in ("dtype", *GEOMETRIES)}
    for test in tests:
        parameters = test.callspec.params if hasattr(test, "callspec") else {}
        place = dict.fromkeys(met, 0)
        for name, values in met.items():
            if name in parameters:
                # Where a value stands in the list that the function is parametrised by.
                if parameters[name] not in values:
                    values.append(parameters[name])
                place[name] = values.index(parameters[name])
        kind = parameters["backend"].name if "backend" in parameters else "numpy"
        ordinary = ORDINARY
        if "imitated" in kind:
            ordinary = ORDINARY_EMULATED if kind.endswith("imitated") else ORDINARY_EMULATED_STRIDED
        is_far = any(place[name] >= ordinary for name in GEOMETRIES)
        if (kind != "numpy") + (place["dtype"] > 0) + is_far > 1 or (
            place["dtype"] > 0 and parameters["dtype"] in RARE
        ):
            yield test
