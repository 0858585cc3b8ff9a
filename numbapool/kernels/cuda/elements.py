"""From the bits of an element to the value that kernels compute with, and back; arithmetic that every processor has.

Half precision is computed with as float32 and rounded once, half to even; bool is 0 or 1, whatever its bytes are; minima are
maxima of values that are turned round. No function here divides or calls what is not an instruction: IEEE division of floats, or
of 64-bit integers, is a subroutine on a GPU. On the CPU `vectors` does all this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbapool.elements import BFLOAT16
from numbapool.kernels.cuda.variants import buffer_dtype

# Bound by the variant: the type of values that it computes with, of its sums, and of positions, and a maximum without any element.
value = np.float32
total = np.float32
index = np.int32
LOWEST: Any = -np.inf

U32, U64, I64, F32, F64 = np.uint32, np.uint64, np.int64, np.float32, np.float64


def as_it_is(each):
    return each


def as_value(each):
    """A sum of integers as an element."""
    return value(each)


def undivided(each, divisor):
    """A sum that is wanted as such."""
    return each


def negated(each):
    return -each


def inverted(each):
    return value(~each)


def flipped(each):
    return value(1 - each)


def truth(each):
    return value(1) if each != 0 else value(0)


def float_of_bfloat(bits):
    return U32(U32(bits) << U32(16)).view(F32)


def bfloat_of_float(each):
    bits = F32(each).view(U32)
    if not (each == each):
        return np.uint16(U32(bits >> U32(16)) | U32(0x40))
    return np.uint16(U64(U64(bits) + U64(0x7FFF) + U64(U32(bits >> U32(16)) & U32(1))) >> U64(16))


def float_of_half(bits):
    magnitude = U32(U32(U32(bits) & U32(0x7FFF)) << U32(13))
    sign = U32(U32(U32(bits) & U32(0x8000)) << U32(16))
    if magnitude >= U32(0x0F800000):  # infinity or NaN
        return U32(sign | magnitude | U32(0x7F800000)).view(F32)
    scaled = F32(U32(magnitude).view(F32) * F32(2.0**112))  # exact, subnormal numbers too
    return U32(sign | F32(scaled).view(U32)).view(F32)


def half_of_float(each):
    bits = F32(each).view(U32)
    sign = U32(U32(bits >> U32(16)) & U32(0x8000))
    magnitude = U32(bits & U32(0x7FFFFFFF))
    if magnitude > U32(0x7F800000):
        return np.uint16(sign | U32(0x7E00) | U32(U32(magnitude >> U32(13)) & U32(0x3FF)))
    if magnitude >= U32(0x477FF000):  # 65520 and more
        return np.uint16(sign | U32(0x7C00))
    if magnitude < U32(0x38800000):  # subnormal: an addition shifts and rounds the bits
        shifted = F32(U32(magnitude).view(F32) + F32(0.5))
        return np.uint16(sign | U32(U64(F32(shifted).view(U32)) - U64(0x3F000000)))
    odd = U64(U32(magnitude >> U32(13)) & U32(1))
    rounded = U64(magnitude) - U64(112 << 23) + U64(0xFFF) + odd
    return np.uint16(U64(sign) | U64(rounded >> U64(13)))


# How the variant's elements are read and written; bound by the variant.
widened = as_it_is
narrowed = as_it_is
turned = as_it_is


def element(x, i):
    """The value at position i."""
    return turned(widened(x[i]))


def put(out, i, each):
    """Write a value to position i."""
    out[i] = narrowed(turned(each))


def quotient32(n, divisor, magic):
    """`n // divisor` for 0 <= n < 2**31, by `magic32(divisor)`: a multiplication and a shift, two instructions."""
    return np.int32(U64(U64(U32(n)) * U64(U64(magic) & U64(0xFFFFFFFF))) >> U64(U64(magic) >> U64(32)))


def quotient64(n, divisor, magic):
    """`n // divisor` for 0 <= n < 2**62 and `magic = min(2**63 - 1, 2**64 // divisor // 2)`."""
    n, m = U64(n), U64(magic)
    n_high, n_low, m_high, m_low = n >> U64(32), n & U64(0xFFFFFFFF), m >> U64(32), m & U64(0xFFFFFFFF)
    middle = U64(n_high * m_low) + U64(U64(n_low * m_low) >> U64(32))
    other = U64(n_low * m_high) + U64(middle & U64(0xFFFFFFFF))
    high = U64(n_high * m_high) + U64(middle >> U64(32)) + U64(other >> U64(32))
    q = I64(U64(high) << U64(1))
    rest = I64(I64(n) - I64(q * divisor))
    while rest >= divisor:  # at most thrice
        q = I64(q + 1)
        rest = I64(rest - divisor)
    return q


quotient = quotient32


def magic32(divisor: int) -> int:
    """The number by which `quotient32` divides: a factor of 32 bits, and above it how far the product is shifted.

    With `2**(k - 1) < divisor <= 2**k` the factor is `2**(31 + k) / divisor`, rounded up by at most 1: over any n below 2**31 that
    is less than the 1 / divisor by which the quotient may be too large (Granlund and Montgomery, 1994).
    """
    shift = 31 + (max(1, divisor) - 1).bit_length()
    return shift << 32 | (1 << shift) // max(1, divisor) + 1


def magic64(divisor: int) -> int:
    """The number by which `quotient64` divides."""
    return min(2**63 - 1, (1 << 63) // max(1, divisor))


def reciprocal32(d):
    """1 / d for 2**-126 < d < 2**126, to the last bit or so, by Newton's method."""
    r = U32(U32(0x7EF311C3) - F32(d).view(U32)).view(F32)
    for _ in range(4):
        r = F32(r + F32(r * F32(F32(1) - F32(d * r))))
    return r


def reciprocal64(d):
    """The same in double precision."""
    r = U64(U64(0x7FDE623822FC16E6) - F64(d).view(U64)).view(F64)
    for _ in range(5):
        r = r + r * (F64(1) - d * r)
    return r


reciprocal = reciprocal32


def float_quotient(each, divisor):
    """A sum over a divisor, both floats; 0 of a window that has no divisor."""
    size = abs(divisor)
    if not (size > total(0)):
        return total(0)
    size = size if size < total(8e37) else total(8e37)
    r = reciprocal(size)
    q = total(each * r)
    rest = total(each - total(q * size))
    better = total(q + total(rest * r))
    q = better if better == better else q  # of infinities there is no rest
    return q if divisor > 0 else -q


def unsigned_quotient(n, d):
    """`n // d` of uint64: as 32 bits where both fit, else digit by digit."""
    if U64(n | d) >> U64(32) == U64(0):
        return U64(U32(n) // U32(d))
    q, rest = U64(0), U64(0)
    for i in range(64):
        carry = rest >> U64(63)
        rest = U64(rest << U64(1)) | (U64(n >> U64(63 - i)) & U64(1))
        q = U64(q << U64(1))
        if carry == U64(1) or rest >= d:
            rest = U64(rest - d)
            q = q | U64(1)
    return q


def int_quotient(each, divisor):
    """A sum of integers over an int64 divisor, towards zero; 0 if the divisor is 0, which stands for a very large one."""
    if divisor == 0:
        return total(0)
    is_negative, magnitude = magnitude_of(each)
    size = U64(divisor) if divisor > 0 else U64(U64(0) - U64(divisor))
    q = unsigned_quotient(magnitude, size)
    return signed(q, is_negative != (divisor < 0))


def rounded_quotient(each, divisor):
    """The same to the nearest integer, halves to the even one."""
    if divisor == 0:
        return total(0)
    is_negative, magnitude = magnitude_of(each)
    size = U64(divisor) if divisor > 0 else U64(U64(0) - U64(divisor))
    q = unsigned_quotient(magnitude, size)
    rest = U64(magnitude - U64(q * size))
    above = U64(size - rest)
    if rest > above or (rest == above and U64(q & U64(1)) == U64(1)):
        q = U64(q + U64(1))
    return signed(q, is_negative != (divisor < 0))


def magnitude_signed(each):
    """Whether a sum is negative, and its magnitude."""
    return each < 0, U64(each) if each >= 0 else U64(U64(0) - U64(each))


def magnitude_unsigned(each):
    return False, U64(each)


magnitude_of = magnitude_signed


def signed(q, is_negative):
    """A quotient with its sign, as the type of sums; uint64 wraps."""
    return total(U64(U64(0) - q)) if is_negative else total(q)


def whole_quotient32(n, divisor):
    """`n // divisor` of two positions."""
    return np.int32(U32(n) // U32(divisor))


def whole_quotient64(n, divisor):
    return I64(unsigned_quotient(U64(n), U64(divisor)))


whole_quotient = whole_quotient32


def atomic_max(pointer, i, each):
    """Write the larger of two integers to position i, one thread at a time; replaced by the compiler."""
    pointer[i] = max(pointer[i], each)


# What the variants of kernels take from dtypes, by the names that they have in kernels.


def element_of(dtype: np.dtype[Any], is_reversed: bool = False) -> dict[str, Any]:
    """How kernels read, compute with and write elements: what they take from it by name."""
    name = name_of(dtype)
    dtype = np.dtype(np.float32 if name in ("float16", "bfloat16") else buffer_dtype(name))
    limits = -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)
    names: dict[str, Any] = {"value": dtype.type, "LOWEST": limits}
    names["widened"] = {"float16": float_of_half, "bfloat16": float_of_bfloat, "bool": truth}.get(name, as_it_is)
    names["narrowed"] = {"float16": half_of_float, "bfloat16": bfloat_of_float}.get(name, as_it_is)
    turn = negated if dtype.kind == "f" else flipped if name == "bool" else inverted
    names["turned"] = turn if is_reversed else as_it_is
    return names


def written_as(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How elements of another dtype than the source's are written."""
    return {"narrowed": element_of(dtype)["narrowed"]}


def sum_of(dtype: np.dtype[Any], is_rounded: bool = False) -> dict[str, Any]:
    """How kernels add elements and divide sums."""
    kind = np.dtype(dtype).kind if dtype != BFLOAT16 else "f"
    if kind in "fc":
        is_double = dtype in (np.float64, np.complex128)
        names: dict[str, Any] = {"total": np.float64 if is_double else np.float32, "quotient_of": float_quotient}
        return names | {"reciprocal": reciprocal64 if is_double else reciprocal32}
    names = {"total": np.uint64 if kind == "u" else np.int64}
    names["magnitude_of"] = magnitude_unsigned if kind == "u" else magnitude_signed
    return names | {"quotient_of": rounded_quotient if is_rounded else int_quotient}


def plain_total(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which elements are summed."""
    kind: type[np.generic] = sum_of(dtype)["total"]
    return np.dtype(kind)


def name_of(dtype: np.dtype[Any]) -> str:
    """Name of a real dtype as kernels have it in their labels; complex elements are two of these."""
    if dtype == BFLOAT16:
        return "bfloat16"
    if dtype.kind == "c":
        return f"float{dtype.itemsize * 4}"
    return str(dtype)


def index_names(is_large: bool) -> dict[str, Any]:
    """The width of index arithmetic."""
    if is_large:
        return {"index": np.int64, "quotient": quotient64, "whole_quotient": whole_quotient64}
    return {"index": np.int32, "quotient": quotient32, "whole_quotient": whole_quotient32}


def index_output(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How positions are written as indices."""
    mask = -1 if dtype.kind == "i" or dtype.itemsize == 8 else int(np.iinfo(dtype).max)
    return {"index_type": dtype.type, "INDEX_MASK": mask}
