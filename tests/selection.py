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
# Dtypes whose kernels differ from those of the others in nothing but the width or sign of integers.
RARE = ("int8", "uint16", "int32", "uint32", "int64", "uint64", "complex128", "bfloat16")


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
        departures = (
            "backend" in parameters and parameters["backend"].name != "numpy",
            place.get("dtype", 0) > 0,
            any(place.get(name, 0) >= ORDINARY for name in GEOMETRIES),
        )
        if sum(departures) > 1 or (departures[1] and parameters["dtype"] in RARE):
            yield item
