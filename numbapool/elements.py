"""How kernels read and write the elements of an array: as they are, or as other values than the array holds.

An array of such elements is one of records with a single field, whose name says what its bytes stand for, and what reads
and writes elements goes by it:

- "float16", "bfloat16": numbers in half precision, computed with as float32;
- "bool": bytes that are read as 0 or 1, whatever those of True are: a mask of 0 and 255 may be seen as one of bools;
- "reversed": with the order turned round, so that a minimum is the maximum of the reversed elements, in the same kernels,
  with the same rules for ties and NaN;
- "ordered": where nothing but the order matters. Of half precision, integers in the same order, NaN above all: maxima of them
  need neither conversion nor a look for NaN, and twice as many fit into a vector; 0 and -0 are one of them. Of bool, bytes as
  they are: a maximum is 0 only if all are, and becomes 0 or 1 where it is written, once.

Kernels that only move elements take any of them as unsigned integers of their size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

REVERSED, BOOL, ORDERED = "reversed", "bool", "ordered"
HALVES = ("float16", "bfloat16")

# NumPy has no bfloat16: this is what stands for it, whoever made the array (ml_dtypes, torch).
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])

# Bits of infinity in half precision; what is larger, but for the sign, is NaN.
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}
SIGN, MAGNITUDE = 0x8000, 0x7FFF


def half_of(dtype: np.dtype[Any]) -> str:
    """Name of the kind of half precision that an array, of elements or not, is of; empty if none."""
    return next((word for word in (dtype.name, *words_of(dtype)) if word in HALVES), "")


def words_of(dtype: np.dtype[Any]) -> list[str]:
    """What the bytes of elements stand for: nothing but themselves if there are no words."""
    return dtype.names[0].split() if dtype.names else []


@cache
def element_dtype(dtype: np.dtype[Any], is_reversed: bool = False, is_ordered: bool = False) -> np.dtype[Any]:
    """The dtype as which kernels get an array; a complex element is two of these, its parts."""
    half, is_bool = half_of(dtype), dtype.kind == "b"
    if dtype.kind == "c":
        return np.dtype(f"f{dtype.itemsize // 2}")
    kinds = [half] * (half != "") + [BOOL] * is_bool
    words = [REVERSED] * is_reversed + [ORDERED] * (is_ordered and kinds != []) + kinds
    plain = np.dtype(np.uint16 if half else np.uint8 if is_bool else dtype)
    return np.dtype([(" ".join(words), plain)]) if words else plain


@cache
def moved_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype as which kernels get an array whose elements they only move."""
    return np.dtype(f"u{dtype.itemsize}")


@cache
def value_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the values that kernels compute with."""
    words = words_of(dtype)
    if half_of(dtype):
        return np.dtype(np.int16 if ORDERED in words else np.float32)
    return dtype[0] if words else dtype


def lowest_value(dtype: np.dtype[Any]) -> Any:
    """What a maximum without any element is: -inf, or the least value of an integer dtype."""
    values, half = value_dtype(dtype), half_of(dtype)
    if half and ORDERED in words_of(dtype):
        return values.type(-INFINITY[half])
    return values.type(-np.inf if values.kind == "f" else np.iinfo(values).min)


def values(array: np.ndarray) -> np.ndarray:
    """The values of an array, as kernels read them."""
    words, half = words_of(array.dtype), half_of(array.dtype)
    plain = _stored(array)
    if half and ORDERED in words:
        return _order(plain, half, REVERSED in words)
    if half:
        plain = _floats(plain, half)
    if BOOL in words and ORDERED not in words:
        plain = truth(plain)
    return _reversed(plain) if REVERSED in words else plain


def put_values(array: np.ndarray, new: np.ndarray) -> None:
    """Write values to an array, as kernels do."""
    words, half = words_of(array.dtype), half_of(array.dtype)
    if half and ORDERED in words:
        new = -new if REVERSED in words else new
        new = np.where(new < 0, -new | -SIGN, new).astype(np.uint16)
    else:
        new = _reversed(new) if REVERSED in words else new
        new = _narrowed(new, half) if half else truth(new) if BOOL in words else new
    _stored(array)[...] = new


def truth(array: np.ndarray) -> np.ndarray:
    """Bytes that are 0 or 1, as those of bool should be."""
    ones: np.ndarray = np.minimum(array, 1)
    return ones


def _stored(array: np.ndarray) -> np.ndarray:
    """What the elements hold in memory, as a view."""
    return array if array.dtype.names is None else array[array.dtype.names[0]]


def _reversed(plain: np.ndarray) -> np.ndarray:
    return -plain if plain.dtype.kind == "f" else ~plain


def _order(bits: np.ndarray, half: str, is_reversed: bool) -> np.ndarray:
    magnitude = (bits & MAGNITUDE).astype(np.int16)
    order = np.where((bits & SIGN != 0) != is_reversed, -magnitude, magnitude)
    return np.where(magnitude > INFINITY[half], np.int16(MAGNITUDE), order)


def _floats(bits: np.ndarray, half: str) -> np.ndarray:
    if half == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _narrowed(floats: np.ndarray, half: str) -> np.ndarray:
    if half == "float16":
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(floats, np.float32).astype(np.float16).view(np.uint16)
    bits = np.asarray(floats, np.float32).view(np.uint32).astype(np.uint64)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # half to even
    return (np.where(bits & 0x7FFFFFFF > 0x7F800000, bits | 0x400000, rounded) >> 16).astype(np.uint16)
