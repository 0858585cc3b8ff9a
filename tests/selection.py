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

# How many geometries of a list are ordinary; see `cases.WITNESSES`.
ORDINARY = 8
# What a parameter that is a geometry is called.
GEOMETRIES = ("case", "call", "shape")
# How many of them are so for kinds of arrays whose kernels are emulated: each is compiled for each geometry and layout anew.
ORDINARY_EMULATED = 3
# Dtypes that only tests/test_rare_dtypes.py and the fuzzer draw: every kernel is compiled for each of them once more.
RARE = ("bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bfloat16", "complex128")


def left_out(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The tests that the default run does without."""
    places: dict[Any, dict[str, int]] = {}
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        place = {}
        for name in ("dtype", *GEOMETRIES):
            if name in parameters:
                # Where a value stands in the list that the test is parametrised by.
                met = places.setdefault((item.parent, item.originalname, name), {})
                place[name] = met.setdefault(repr(parameters[name]), len(met))
        kind = parameters["backend"].name if "backend" in parameters else "numpy"
        ordinary = ORDINARY_EMULATED if "imitated" in kind else ORDINARY
        departures = (
            kind != "numpy",
            place.get("dtype", 0) > 0,
            any(place.get(name, 0) >= ordinary for name in GEOMETRIES),
        )
        if sum(departures) > 1 or (departures[1] and parameters["dtype"] in RARE):
            yield item
