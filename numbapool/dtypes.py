"""Dtypes by what operations do with them, and what is said of those that an operation does not take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from numbapool.elements import BFLOAT16

# Dtypes by operation; dicts, because they keep their order for messages and find a dtype faster than tuples.
SINGLE_AND_DOUBLE = dict.fromkeys(map(np.dtype, ("float32", "float64")))
HALVES = dict.fromkeys([np.dtype("float16"), BFLOAT16])
FLOATS = HALVES | SINGLE_AND_DOUBLE
COMPLEX = dict.fromkeys(map(np.dtype, ("complex64", "complex128")))
INTEGERS = dict.fromkeys(map(np.dtype, ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")))
UNSIGNED = tuple(map(np.dtype, ("uint8", "uint16", "uint32", "uint64")))
BOOL = {np.dtype(bool): None}
ORDERED = FLOATS | INTEGERS | BOOL  # what maxima take
AVERAGED = FLOATS | COMPLEX | INTEGERS  # what means take
SUMMED = AVERAGED | BOOL  # what sums take
INEXACT = FLOATS | COMPLEX  # what gradients of sums and means take
INDICES = {np.dtype(np.int64): None}


def smallest_unsigned(largest: int) -> np.dtype[Any]:
    """The smallest unsigned dtype that holds an int, which may be a symbol."""
    for dtype in UNSIGNED:
        if largest <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"windows of {largest} elements are too large for index_kind='window', got that from kernel_size")


def counts_taps(dtype: np.dtype[Any]) -> bool:
    """Whether indices of this dtype count the taps of a window; those of others are positions in a plane or an array."""
    return dtype.kind == "u"


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of `numpy.sum`, on all platforms: 64 bits for integers and bool."""
    if dtype.kind in "bi":
        return np.dtype(np.int64)
    return np.dtype(np.uint64) if dtype.kind == "u" else dtype


def is_among(dtype: np.dtype[Any], dtypes: Iterable[np.dtype[Any]]) -> bool:
    """Whether a dtype is one of some, in terms that torch.compile can follow: it knows no equality of dtypes."""
    return dtype.str in [each.str for each in dtypes]


def check_dtype(name: str, dtype: np.dtype[Any], accepted: dict[np.dtype[Any], None]) -> None:
    """Refuse an array argument whose dtype an operation does not take."""
    if dtype not in accepted:
        raise TypeError(f"{name} has dtype {dtype_name(dtype)}; accepted here: {', '.join(map(dtype_name, accepted))}")


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Name of a dtype, for messages."""
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)
