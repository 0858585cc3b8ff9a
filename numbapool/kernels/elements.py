"""How kernels read and write the elements of an array: as they are, or with their order reversed.

A reversed array is one of records with a single field, whose name says so, and what reads and writes elements goes by it. So
a minimum is the maximum of the reversed elements, in the same kernels, with the same rules for ties and NaN.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

REVERSED, REVERSED_BOOL = "reversed", "reversed bool"
BYTE = np.dtype(np.uint8)


@cache
def element_dtype(dtype: np.dtype[Any], is_reversed: bool = False) -> np.dtype[Any]:
    """The dtype as which kernels get an array: bool as bytes, which order the same, and reversed if so asked."""
    is_bool = dtype.kind == "b"
    plain = BYTE if is_bool else dtype
    return np.dtype([(REVERSED_BOOL if is_bool else REVERSED, plain)]) if is_reversed else plain


def value_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the values that kernels compute with."""
    return dtype if dtype.names is None else dtype[0]


def values(array: np.ndarray) -> np.ndarray:
    """The values of an array, as kernels read them."""
    names = array.dtype.names
    return array if names is None else _reversed(array[names[0]], names[0])


def put_values(array: np.ndarray, new: np.ndarray) -> None:
    """Write values to an array, as kernels do."""
    names = array.dtype.names
    if names is None:
        array[:] = new
    else:
        array[names[0]] = _reversed(new, names[0])


def _reversed(plain: np.ndarray, name: str) -> np.ndarray:
    if name == REVERSED_BOOL:
        return plain ^ np.uint8(1)
    return -plain if plain.dtype.kind == "f" else ~plain
