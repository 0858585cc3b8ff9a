"""Vectors of 32 bytes in kernels: neighbouring elements of an array, computed on together.

LLVM vectorises a plain loop well if it is long. Rows of images are not: what a loop leaves over behind its last full round
of four vectors runs one element at a time, and rows of 14 elements took 4 times as long an element as rows of 2,048. With
these operations a row takes whole vectors only, whose last may reach past the end of the row.

Every operation has a Python twin, which runs where Numba is switched off and says what the operation does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array
from numba.np.numpy_support import as_dtype, from_dtype
from numpy.polynomial import Chebyshev, Polynomial

from numbapool.elements import (
    BOOL,
    HALVES,
    INFINITY,
    MAGNITUDE,
    ORDERED,
    REVERSED,
    SIGN,
    lowest_value,
    put_values,
    value_dtype,
    values,
    words_of,
)

VECTOR_BYTES = 32
# Stores past the caches need this alignment; half a vector, because that is what allocators give.
STREAM_BYTES = 16


class Vector(types.Type):  # type: ignore[misc]
    """Numba's type of a vector of some lanes."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(f"Vector({element}, {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector is a vector register, or several where they are narrower."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        element = manager.lookup(vector.element).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.lanes))


def vector_operation(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a typing function an intrinsic; where Numba is switched off, its Python twin takes its place."""
    return lambda typing: twin if config.DISABLE_JIT else intrinsic(typing)


def _lanes(array):
    return np.uintp(VECTOR_BYTES // array.itemsize)


@vector_operation(_lanes)
def lanes(typing_context, array):
    """Elements of a vector of the array's dtype."""
    count = _vector_type(array.dtype).lanes
    return types.uintp(array), lambda context, builder, signature, values: ir.Constant(ir.IntType(64), count)


def _constant_of(value_of: Callable[[np.dtype[Any]], Any]) -> Any:
    """A constant that depends on the dtype of an array: as an argument of a kernel it would cost a call 0.2 us."""

    def twin(array):
        return value_of(array.dtype)

    @vector_operation(twin)
    def constant(typing_context, array):
        value = value_of(as_dtype(array.dtype))
        constant_type = from_dtype(value.dtype)
        return constant_type(array), lambda context, *_: context.get_constant(constant_type, value.item())

    return constant


def accumulator_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of the sums of a mean of elements: of floats that of their values, 64 bits for integers."""
    of_values = value_dtype(dtype)
    return of_values if of_values.kind == "f" else np.dtype(np.uint64 if of_values.kind == "u" else np.int64)


# What a window without any tap gives.
lowest = _constant_of(lowest_value)
# 0 of a dtype for sums of any number of elements: float64 for all floats.
wide_sum = _constant_of(
    lambda dtype: np.float64(0) if value_dtype(dtype).kind == "f" else accumulator_of(dtype).type(0)
)
# 0 of the dtype in which elements are summed.
no_sum = _constant_of(lambda dtype: accumulator_of(dtype).type(0))


def _neighbours(array, at, like):
    vector = array[at : at + _lanes(like)]
    if len(vector) < _lanes(like):
        raise IndexError("vector beyond the end of the array")
    return vector


def _load_marks(marks, at, like):
    return _neighbours(marks, at, like).copy()


@vector_operation(_load_marks)
def load_marks(typing_context, marks, at, like):
    """As many neighbours from `at` on as a vector of the array `like` has lanes."""
    vector = Vector(marks.dtype, _vector_type(like.dtype).lanes)

    def codegen(context, builder, signature, values):
        return builder.load(
            _pointer(context, builder, marks, *values[:2], vector.lanes), align=marks.dtype.bitwidth // 8
        )

    return vector(marks, types.uintp, like), codegen


def _shifted(vector, distance):
    return vector + vector.dtype.type(distance)


@vector_operation(_shifted)
def shifted(typing_context, vector, distance):
    """All lanes of a vector of integers plus a distance."""

    def codegen(context, builder, signature, values):
        return builder.add(values[0], _splat(builder, values[1], vector.lanes))

    return vector(vector, vector.element), codegen


def _all_lanes(value, array, like):
    return np.full(_lanes(like), value, array.dtype)


@vector_operation(_all_lanes)
def all_lanes(typing_context, value, array, like):
    """A vector of the dtype of `array` with the same value in all lanes, as many as a vector of the array `like` has."""
    vector = Vector(array.dtype, _vector_type(like.dtype).lanes)
    return vector(array.dtype, array, like), lambda context, builder, signature, values: _splat(
        builder, values[0], vector.lanes
    )


def _take(best, mark, value, value_mark):
    takes = (value > best) | (value != value)
    return np.where(takes, value, best), np.where(takes, value_mark, mark)


@vector_operation(_take)
def take(typing_context, best, mark, value, value_mark):
    """Lanes of the value and its mark where `windows.replaces` says so, of the best so far elsewhere."""

    def codegen(context, builder, signature, values):
        best_lanes, mark_lanes, value_lanes, value_mark_lanes = values
        if isinstance(best.element, types.Float):
            takes = builder.or_(
                builder.fcmp_ordered(">", value_lanes, best_lanes),
                builder.fcmp_unordered("uno", value_lanes, value_lanes),
            )
        else:
            compare = builder.icmp_signed if best.element.signed else builder.icmp_unsigned
            takes = compare(">", value_lanes, best_lanes)
        taken = builder.select(takes, value_lanes, best_lanes), builder.select(takes, value_mark_lanes, mark_lanes)
        return context.make_tuple(builder, signature.return_type, taken)

    return types.Tuple((best, mark))(best, mark, best, mark), codegen


def _nearest(best, mark, value, value_mark):
    with np.errstate(invalid="ignore"):
        is_nan, first = value != value, value_mark < mark
        takes = (value > best) | ((value == best) & first) | (is_nan & ((best == best) | ~first))
    return np.where(takes, value, best), np.where(takes, value_mark, mark)


@vector_operation(_nearest)
def nearest(typing_context, best, mark, value, value_mark):
    """As `take`, of positions in any order: of equals the first stays, of NaNs the last."""

    def codegen(context, builder, signature, values):
        best_lanes, mark_lanes, value_lanes, value_mark_lanes = values
        is_first = builder.icmp_signed("<", value_mark_lanes, mark_lanes)
        if isinstance(best.element, types.Float):
            takes = builder.fcmp_ordered(">", value_lanes, best_lanes)
            equals = builder.and_(builder.fcmp_ordered("==", value_lanes, best_lanes), is_first)
            is_last = builder.or_(builder.fcmp_ordered("ord", best_lanes, best_lanes), builder.not_(is_first))
            is_nan = builder.and_(builder.fcmp_unordered("uno", value_lanes, value_lanes), is_last)
            takes = builder.or_(takes, builder.or_(equals, is_nan))
        else:
            compare = builder.icmp_signed if best.element.signed else builder.icmp_unsigned
            equals = builder.and_(builder.icmp_unsigned("==", value_lanes, best_lanes), is_first)
            takes = builder.or_(compare(">", value_lanes, best_lanes), equals)
        taken = builder.select(takes, value_lanes, best_lanes), builder.select(takes, value_mark_lanes, mark_lanes)
        return context.make_tuple(builder, signature.return_type, taken)

    return types.Tuple((best, mark))(best, mark, best, mark), codegen


def _where_equal(value, mark, wanted):
    return np.where(mark == wanted, value, value.dtype.type(0))


@vector_operation(_where_equal)
def where_equal(typing_context, value, mark, wanted):
    """Lanes of the value whose mark is the wanted one, 0 elsewhere."""

    def codegen(context, builder, signature, values):
        is_equal = builder.icmp_unsigned("==", values[1], _splat(builder, values[2], mark.lanes))
        return builder.select(is_equal, values[0], ir.Constant(values[0].type, None))

    return value(value, mark, mark.element), codegen


def _indices_of(mark, indices):
    return np.where(mark < 0, mark.dtype.type(-1), mark).astype(indices.dtype)


@vector_operation(_indices_of)
def indices_of(typing_context, mark, indices):
    """Marks as elements of an array of indices, whose bits are all 1 where a mark is negative: no element was marked."""
    element = Vector(indices.dtype, mark.lanes)
    width = indices.dtype.bitwidth

    def codegen(context, builder, signature, values):
        vector = context.get_value_type(element)
        is_none = builder.icmp_signed("<", values[0], ir.Constant(values[0].type, None))
        index = values[0]
        if width > mark.element.bitwidth:
            index = builder.sext(index, vector)
        elif width < mark.element.bitwidth:
            index = builder.trunc(index, vector)
        return builder.select(is_none, ir.Constant(vector, [-1] * mark.lanes), index)

    return element(mark, indices), codegen


def _load(array, at, like):
    return values(_neighbours(array, at, like)).astype(like.dtype)


@vector_operation(_load)
def load(typing_context, array, at, like):
    """The vector of neighbours from `at` on, as the dtype of the array `like`; all of it must be inside the array.

    Here half precision becomes float32, and integers get as wide as they are summed.
    """
    vector = _vector_type(like.dtype)

    def codegen(context, builder, signature, values):
        pointer = _pointer(context, builder, array, values[0], values[1], vector.lanes)
        value = builder.load(pointer, align=stored_type(array.dtype).bitwidth // 8)
        value = decoded(context, builder, value, array.dtype)
        return _widened(builder, value, array, context.get_value_type(vector), vector)

    return vector(array, types.uintp, like), codegen


def _element(array, at, like):
    return value_dtype(like.dtype).type(values(array[at : at + 1])[0])


@vector_operation(_element)
def element(typing_context, array, at, like):
    """The one element at `at`, as the dtype of the values of the array `like`."""
    kind = value_type(like.dtype)

    def codegen(context, builder, signature, values):
        pointer = _pointer(context, builder, array, values[0], values[1], 0)
        value = builder.load(pointer, align=stored_type(array.dtype).bitwidth // 8)
        return _widened(
            builder, decoded(context, builder, value, array.dtype), array, context.get_value_type(kind), kind
        )

    return kind(array, types.uintp, like), codegen


def _put(array, at, value):
    put_values(array[at : at + 1], np.asarray([value]))


@vector_operation(_put)
def put(typing_context, array, at, value):
    """Write one element; integers are cut to the width of the array's."""

    def codegen(context, builder, signature, values):
        pointer = _pointer(context, builder, array, *values[:2], 0)
        stored = _cut(context, builder, values[2], value, array)
        builder.store(stored, pointer, align=stored_type(array.dtype).bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.uintp, value), codegen


def _store(array, at, vector):
    if at + len(vector) > len(array):
        raise IndexError("vector beyond the end of the array")
    put_values(array[at : at + len(vector)], vector)


@vector_operation(_store)
def store(typing_context, array, at, vector):
    """Write a vector to `at` and after; integers are cut to the width of the array's."""

    def codegen(context, builder, signature, values):
        pointer = _pointer(context, builder, array, *values[:2], vector.lanes)
        value = _cut(context, builder, values[2], vector.element, array)
        builder.store(value, pointer, align=stored_type(array.dtype).bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.uintp, vector), codegen


def _stream(array, at, vector, past_caches):
    _store(array, at, vector)


@vector_operation(_stream)
def stream(typing_context, array, at, vector, past_caches):
    """`store`, past the caches if so asked: nothing is read before it is overwritten.

    Only to multiples of `STREAM_BYTES`, see `can_stream`; ends with `finish_streams`.
    """

    def codegen(context, builder, signature, values):
        pointer = _pointer(context, builder, array, *values[:2], vector.lanes)
        value = _cut(context, builder, values[2], vector.element, array)
        with builder.if_else(values[3]) as (past, through):
            with past:
                streamed = builder.store(value, pointer, align=STREAM_BYTES)
                one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                streamed.set_metadata("nontemporal", one)
            with through:
                builder.store(value, pointer, align=stored_type(array.dtype).bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.uintp, vector, types.boolean), codegen


def _can_stream(array, at):
    return False


@vector_operation(_can_stream)
def can_stream(typing_context, array, at):
    """Whether position `at` of an array is aligned as `stream` needs it."""

    def codegen(context, builder, signature, values):
        view = make_array(array)(context, builder, values[0])
        address = builder.ptrtoint(builder.gep(view.data, [values[1]]), ir.IntType(64))
        rest = builder.and_(address, ir.Constant(ir.IntType(64), STREAM_BYTES - 1))
        return builder.icmp_unsigned("==", rest, ir.Constant(ir.IntType(64), 0))

    return types.boolean(array, types.uintp), codegen


@vector_operation(lambda: None)
def finish_streams(typing_context):
    """Make what was streamed visible to other threads before anything that follows."""

    def codegen(context, builder, signature, values):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), codegen


def _keep(vector, count, other):
    return np.where(np.arange(len(vector)) < count, vector, other)


@vector_operation(_keep)
def keep(typing_context, vector, count, other):
    """The first `count` lanes of a vector, `other` in the rest."""

    def codegen(context, builder, signature, values):
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), list(range(vector.lanes)))
        end = _splat(builder, builder.trunc(values[1], ir.IntType(32)), vector.lanes)
        rest = _splat(builder, values[2], vector.lanes)
        return builder.select(builder.icmp_unsigned("<", numbers, end), values[0], rest)

    return vector(vector, types.uintp, vector.element), codegen


def _choose(mask, vector, other):
    return np.where(mask != 0, vector, other)


@vector_operation(_choose)
def choose(typing_context, mask, vector, other):
    """The lanes of a vector for which the mask is not zero, `other` in the rest."""

    def codegen(context, builder, signature, values):
        zero = ir.Constant(values[0].type, None)
        is_float = isinstance(mask.element, types.Float)
        chosen = (
            builder.fcmp_unordered("!=", values[0], zero) if is_float else builder.icmp_signed("!=", values[0], zero)
        )
        return builder.select(chosen, values[1], _splat(builder, values[2], vector.lanes))

    return vector(mask, vector, vector.element), codegen


def _evens(first, second):
    return np.concatenate([first, second])[::2]


@vector_operation(_evens)
def evens(typing_context, first, second):
    """Lanes 0, 2, 4, ... of two vectors in a row."""

    def codegen(context, builder, signature, values):
        picked = ir.Constant(ir.VectorType(ir.IntType(32), first.lanes), [2 * lane for lane in range(first.lanes)])
        return builder.shuffle_vector(*values, picked)

    return first(first, first), codegen


def _zipped(part: int) -> Any:
    """Half of two vectors whose lanes alternate: the first (part 0) or the second (part 1)."""

    def twin(first, second):
        return np.stack([first, second], axis=1).ravel()[part * len(first) :][: len(first)]

    @vector_operation(twin)
    def zipped(typing_context, first, second):
        def codegen(context, builder, signature, values):
            start = part * first.lanes // 2
            lanes_of = [start + lane // 2 + lane % 2 * first.lanes for lane in range(first.lanes)]
            picked = ir.Constant(ir.VectorType(ir.IntType(32), first.lanes), lanes_of)
            return builder.shuffle_vector(*values, picked)

        return first(first, first), codegen

    return zipped


# Two vectors whose lanes alternate, the inverse of `evens`: first half and second half.
zipped_low, zipped_high = _zipped(0), _zipped(1)


def _larger(best, value):
    return np.where(best != best, best, np.where(best > value, best, value))


@vector_operation(_larger)
def larger(typing_context, best, value):
    """`windows.larger` of vectors, lane by lane, or of scalars.

    A select after a select on "ordered" becomes max + compare + blend, 3 instructions; on "unordered" LLVM joins the two
    conditions, and it is 4.
    """

    def codegen(context, builder, signature, values):
        element = getattr(best, "element", best)
        if isinstance(element, types.Float):
            bigger = builder.select(builder.fcmp_ordered(">", *values), *values)
            return builder.select(builder.fcmp_ordered("ord", values[0], values[0]), bigger, values[0])
        compare = builder.icmp_signed if element.signed else builder.icmp_unsigned
        return builder.select(compare(">", *values), *values)

    return best(best, best), codegen


def _add(total, value):
    return total + value


@vector_operation(_add)
def add(typing_context, total, value):
    """Sum of vectors, lane by lane, or of scalars."""

    def codegen(context, builder, signature, values):
        element = getattr(total, "element", total)
        return builder.fadd(*values) if isinstance(element, types.Float) else builder.add(*values)

    return total(total, total), codegen


def _times(vector, factor):
    return vector * factor


@vector_operation(_times)
def times(typing_context, vector, factor):
    """All lanes of a vector times one factor, or times those of another."""
    is_vector = isinstance(factor, Vector)

    def codegen(context, builder, signature, values):
        multiply = builder.fmul if isinstance(vector.element, types.Float) else builder.mul
        return multiply(values[0], values[1] if is_vector else _splat(builder, values[1], vector.lanes))

    return vector(vector, vector if is_vector else vector.element), codegen


def _power(base, exponent):
    with np.errstate(all="ignore"):
        return (base.astype(np.float64) ** np.float64(exponent)).astype(base.dtype)


@vector_operation(_power)
def power(typing_context, base, exponent):
    """All lanes of a vector to the power of a float64 other than 0.

    For float32 in float64, by 2 ** (exponent * log2): 4.6 ns a lane where a call of `pow` takes 10.6, and closer.
    """
    wide = Vector(types.float64, base.lanes)

    def codegen(context, builder, signature, values):
        vector, exponent = values
        if base.element.bitwidth == 64:
            function, result = builder.module.declare_intrinsic("llvm.pow", [exponent.type]), vector
            for lane in range(base.lanes):
                at = ir.Constant(ir.IntType(32), lane)
                lane_power = builder.call(function, [builder.extract_element(vector, at), exponent])
                result = builder.insert_element(result, lane_power, at)
            return result
        doubles = builder.fpext(vector, context.get_value_type(wide))
        result = _power_of_doubles(builder, doubles, exponent)
        return builder.fptrunc(result, vector.type)

    return base(base, types.float64), codegen


# Bits of the square root of 1/2: the exponent of a float64 less these says into which power of 2 around 1 it falls.
HALF_ROOT_BITS = 0x3FE6A09E667F3BCD
BIAS = 1024  # more than the least exponent of a float64 is below 0
# The series of atanh(sqrt(s)) / sqrt(s) and of 2**r, as polynomials where they are needed: off by less than 5e-12 and 6e-11.
LARGEST_RATIO = (math.sqrt(2) - 1) / (math.sqrt(2) + 1)
ARTANH = Chebyshev.interpolate(lambda s: np.arctanh(np.sqrt(s)) / np.sqrt(s), 4, (0.0, LARGEST_RATIO**2))
EXP2 = Chebyshev.interpolate(np.exp2, 7, (-0.5, 0.5))
# Adding this rounds a float64 to an integer, which its last bits then hold.
ROUNDER = 1.5 * 2.0**52
ROUNDER_BITS = 0x4338000000000000


def _power_of_doubles(builder: Any, base: Any, exponent: Any) -> Any:
    """`base ** exponent`, as close as float32 can tell, for results between 2**-200 and 2**200."""
    floats, bits = base.type, _as(base.type, ir.IntType(64))
    whole = builder.and_(builder.bitcast(base, bits), _all(bits, (1 << 63) - 1))
    magnitude = builder.bitcast(whole, floats)
    # magnitude = m * 2**e, m around 1; log2(m) by atanh((m - 1) / (m + 1)).
    biased = builder.lshr(builder.add(whole, _all(bits, (BIAS << 52) - HALF_ROOT_BITS)), _all(bits, 52))
    e = builder.bitcast(builder.add(biased, _all(bits, ROUNDER_BITS)), floats)  # AVX2 cannot convert 64-bit integers
    e = builder.fsub(e, _all(floats, ROUNDER + BIAS))
    m = builder.sub(whole, builder.shl(builder.sub(biased, _all(bits, BIAS)), _all(bits, 52)))
    m = builder.bitcast(m, floats)
    one = _all(floats, 1.0)
    ratio = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
    square = builder.fmul(ratio, ratio)
    series = _polynomial(builder, square, ARTANH)
    log2 = builder.fmul(builder.fmul(ratio, _all(floats, 2 / math.log(2))), series)
    log2 = builder.fadd(log2, e)
    # 2**y by rounding y to n and the polynomial for the rest.
    y = builder.fmul(_splat(builder, exponent, floats.count), log2)
    for limit, compare in ((200.0, "<"), (-200.0, ">")):
        y = builder.select(builder.fcmp_ordered(compare, y, _all(floats, limit)), y, _all(floats, limit))
    shifted = builder.fadd(y, _all(floats, ROUNDER))
    rest = builder.fsub(y, builder.fsub(shifted, _all(floats, ROUNDER)))
    series = _polynomial(builder, rest, EXP2)
    result = builder.bitcast(
        builder.add(builder.bitcast(series, bits), builder.shl(builder.bitcast(shifted, bits), _all(bits, 52))), floats
    )
    zero, infinity, nan = (_all(floats, value) for value in (0.0, math.inf, math.nan))
    is_rising = _splat(builder, builder.fcmp_ordered(">", exponent, exponent.type(0.0)), floats.count)
    at_zero, at_infinity = builder.select(is_rising, zero, infinity), builder.select(is_rising, infinity, zero)
    result = builder.select(builder.fcmp_ordered("==", magnitude, zero), at_zero, result)
    result = builder.select(builder.fcmp_ordered("==", magnitude, infinity), at_infinity, result)
    # Negative numbers have real powers of whole exponents only, and those of odd ones are negative.
    floor = builder.module.declare_intrinsic("llvm.floor", [exponent.type])
    half = builder.fmul(exponent, exponent.type(0.5))
    is_whole = builder.fcmp_ordered("==", builder.call(floor, [exponent]), exponent)
    is_odd = builder.and_(is_whole, builder.fcmp_ordered("!=", builder.call(floor, [half]), half))
    is_odd, is_whole = (_splat(builder, each, floats.count) for each in (is_odd, is_whole))
    is_real = builder.or_(is_whole, builder.fcmp_ordered("==", magnitude, zero))
    is_real = builder.or_(is_real, builder.fcmp_ordered("==", magnitude, infinity))
    of_negative = builder.select(is_odd, builder.fneg(result), builder.select(is_real, result, nan))
    result = builder.select(builder.icmp_signed("<", builder.bitcast(base, bits), _all(bits, 0)), of_negative, result)
    return builder.select(builder.fcmp_unordered("uno", base, base), base, result)


# Multiply and add in one instruction where there is one: a power in 1.9 ns instead of 2.5.
FUSED = ("contract",)


def _polynomial(builder: Any, x: Any, polynomial: Chebyshev) -> Any:
    """A polynomial at x.

    Pairs of neighbours, then pairs of pairs: term after term, each waits for the one before, and a power took twice as long.
    """
    terms = [_all(x.type, coefficient) for coefficient in polynomial.convert(kind=Polynomial).coef.tolist()]
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        joined = [builder.fadd(low, builder.fmul(high, x, flags=FUSED), flags=FUSED) for low, high in pairs]
        terms = joined + terms[len(terms) // 2 * 2 :]
        x = builder.fmul(x, x)
    return terms[0]


def _quotient(total, divisor, is_rounded):
    if total.dtype.kind == "f":
        return total / divisor
    negative = (total < 0) != (divisor < 0)
    with np.errstate(over="ignore"):
        divided, by = abs(total).astype(np.uint64), np.maximum(abs(divisor), 1).astype(np.uint64)
        magnitude = divided // by
        rest = divided - magnitude * by
        above = (rest > by - rest) | ((rest == by - rest) & (magnitude % np.uint64(2) == 1))
        magnitude = magnitude + np.where(above & is_rounded, np.uint64(1), np.uint64(0))
        result = np.where(negative, np.uint64(0) - magnitude, magnitude).astype(total.dtype)
    return np.where(divisor == 0, total.dtype.type(0), result)


@vector_operation(_quotient)
def quotient(typing_context, total, divisor, is_rounded):
    """`total / divisor`, of vectors or of scalars; integers in 64 bits that wrap, and 0 for 0.

    Integers are rounded towards zero (C's rule), or to the nearest, and halves to the even one. Magnitudes are divided as
    unsigned, because the least int64 over -1 would trap.
    """

    def codegen(context, builder, signature, values):
        dividend, given, to_nearest = values
        element = getattr(total, "element", total)
        if isinstance(element, types.Float):
            return builder.fdiv(dividend, given)
        zero = ir.Constant(dividend.type, None)
        is_negative = [builder.icmp_signed("<", value, zero) for value in (dividend, given)]
        if not element.signed:
            is_negative[0] = ir.Constant(is_negative[0].type, None)
        magnitudes = [
            builder.select(negative, builder.sub(zero, value), value)
            for negative, value in zip(is_negative, (dividend, given), strict=True)
        ]
        is_zero = builder.icmp_signed("==", given, zero)
        one = ir.Constant(zero.type, [1] * total.lanes if isinstance(total, Vector) else 1)
        by = builder.select(is_zero, one, magnitudes[1])
        magnitude = builder.udiv(magnitudes[0], by)
        rest = builder.sub(magnitudes[0], builder.mul(magnitude, by))
        missing = builder.sub(by, rest)
        is_odd = builder.icmp_unsigned("==", builder.and_(magnitude, one), one)
        is_above = builder.or_(
            builder.icmp_unsigned(">", rest, missing),
            builder.and_(builder.icmp_unsigned("==", rest, missing), is_odd),
        )
        rounded = builder.select(is_above, builder.add(magnitude, one), magnitude)
        magnitude = builder.select(to_nearest, rounded, magnitude)
        result = builder.select(builder.xor(*is_negative), builder.sub(zero, magnitude), magnitude)
        return builder.select(is_zero, zero, result)

    return total(total, divisor, types.boolean), codegen


def _is_summed_in(array):
    return value_dtype(array.dtype) == array.dtype


@vector_operation(_is_summed_in)
def is_summed_in(typing_context, array):
    """Whether sums may grow in the elements of an array: not where they would be rounded every time."""
    is_so = value_type(array.dtype) == array.dtype
    return types.boolean(array), lambda *_: ir.Constant(ir.IntType(1), is_so)


def _sums_of(array, work):
    return array if _is_summed_in(array) else work


@vector_operation(_sums_of)
def sums_of(typing_context, array, work):
    """Where the sums grow that are an array's: in the array itself if they can, else in the work array."""
    number = 0 if value_type(array.dtype) == array.dtype else 1
    chosen = (array, work)[number]

    def codegen(context, builder, signature, values):
        return impl_ret_borrowed(context, builder, chosen, values[number])

    return chosen(array, work), codegen


def stored_type(element: Any) -> Any:
    """Numba's type of what an array of a Numba element type holds in memory."""
    return element.members[0][1] if isinstance(element, types.Record) else element


def value_type(element: Any) -> Any:
    """Numba's type of the values of such an array."""
    return from_dtype(value_dtype(as_dtype(element))) if isinstance(element, types.Record) else element


def decoded(context: Any, builder: Any, value: Any, element: Any) -> Any:
    """LLVM's value, scalar or vector, of what is stored in an array of a Numba element type."""
    words = _words(element)
    half = next((word for word in words if word in HALVES), "")
    if half and ORDERED in words:
        return _order(builder, value, half, REVERSED in words)
    if half:
        value = _float_of_half(context, builder, value, half)
    if BOOL in words and ORDERED not in words:
        value = _truth(builder, value)
    return _reversed(builder, value) if REVERSED in words else value


def encoded(context: Any, builder: Any, value: Any, element: Any) -> Any:
    """What is stored for a value, the inverse of `decoded`."""
    words = _words(element)
    half = next((word for word in words if word in HALVES), "")
    if half and ORDERED in words:
        negative = builder.neg(value)
        value, negative = (negative, value) if REVERSED in words else (value, negative)
        is_negative = builder.icmp_signed("<", value, _all(value.type, 0))
        return builder.select(is_negative, builder.or_(negative, _all(value.type, SIGN)), value)
    value = _reversed(builder, value) if REVERSED in words else value
    if half:
        return _half_of_float(context, builder, value, half)
    return _truth(builder, value) if BOOL in words else value


def _words(element: Any) -> list[str]:
    return words_of(as_dtype(element)) if isinstance(element, types.Record) else []


def _truth(builder: Any, value: Any) -> Any:
    """Bytes that are 0 or 1. It costs no time: 3x3/1 with positions, 8x64x112x112, takes 6.6 ms of uint8 and 6.7 of bool."""
    return builder.zext(builder.icmp_unsigned("!=", value, _all(value.type, 0)), value.type)


def _reversed(builder: Any, value: Any) -> Any:
    is_float = isinstance(getattr(value.type, "element", value.type), ir.FloatType | ir.DoubleType)
    return builder.fneg(value) if is_float else builder.not_(value)


def _order(builder: Any, bits: Any, half: str, is_reversed: bool) -> Any:
    """Integers in the order of half precision."""
    magnitude = builder.and_(bits, _all(bits.type, MAGNITUDE))
    negative = builder.neg(magnitude)
    choices = (magnitude, negative) if is_reversed else (negative, magnitude)
    order = builder.select(builder.icmp_signed("<", bits, _all(bits.type, 0)), *choices)
    is_nan = builder.icmp_signed(">", magnitude, _all(bits.type, INFINITY[half]))
    return builder.select(is_nan, _all(bits.type, MAGNITUDE), order)


def _float_of_half(context: Any, builder: Any, bits: Any, half: str) -> Any:
    """Half precision to float32, by the processor's own instruction if it has one (without, LLVM's code would crash)."""
    floats, words = _as(bits.type, ir.FloatType()), _as(bits.type, ir.IntType(32))
    if half == "float16" and _converts_float16(context):
        return builder.fpext(builder.bitcast(bits, _as(bits.type, ir.HalfType())), floats)
    wide = builder.zext(bits, words)
    if half == "bfloat16":
        return builder.bitcast(builder.shl(wide, _all(words, 16)), floats)
    magnitude = builder.and_(wide, _all(words, MAGNITUDE))
    sign = builder.shl(builder.and_(wide, _all(words, SIGN)), _all(words, 16))
    shifted = builder.shl(magnitude, _all(words, 13))
    normal = builder.add(shifted, _all(words, (127 - 15) << 23))
    tiny = builder.bitcast(builder.fmul(builder.uitofp(magnitude, floats), _all(floats, 2.0**-24)), words)
    is_tiny = builder.icmp_unsigned("<", magnitude, _all(words, 1 << 10))
    is_special = builder.icmp_unsigned(">=", magnitude, _all(words, INFINITY[half]))
    special = builder.or_(shifted, _all(words, 0x7F800000))
    result = builder.select(is_special, special, builder.select(is_tiny, tiny, normal))
    return builder.bitcast(builder.or_(result, sign), floats)


def _half_of_float(context: Any, builder: Any, value: Any, half: str) -> Any:
    """Float32 to half precision, rounded half to even."""
    bits, words = _as(value.type, ir.IntType(16)), _as(value.type, ir.IntType(32))
    if half == "float16" and _converts_float16(context):
        return builder.bitcast(builder.fptrunc(value, _as(value.type, ir.HalfType())), bits)
    whole = builder.bitcast(value, words)
    magnitude = builder.and_(whole, _all(words, 0x7FFFFFFF))
    is_nan = builder.icmp_unsigned(">", magnitude, _all(words, 0x7F800000))
    if half == "bfloat16":
        odd = builder.and_(builder.lshr(whole, _all(words, 16)), _all(words, 1))
        rounded = builder.add(whole, builder.add(odd, _all(words, 0x7FFF)))
        quiet = builder.or_(whole, _all(words, 0x400000))
        return builder.trunc(builder.lshr(builder.select(is_nan, quiet, rounded), _all(words, 16)), bits)
    sign = builder.and_(builder.lshr(whole, _all(words, 16)), _all(words, SIGN))
    odd = builder.and_(builder.lshr(magnitude, _all(words, 13)), _all(words, 1))
    rebased = builder.sub(magnitude, _all(words, (127 - 15) << 23))
    normal = builder.lshr(builder.add(rebased, builder.add(odd, _all(words, 0xFFF))), _all(words, 13))
    # Below 2**-14 the addition of 0.5 rounds to multiples of 2**-24, which are the last bits of the sum.
    floats = value.type
    sum_ = builder.fadd(builder.bitcast(magnitude, floats), _all(floats, 0.5))
    tiny = builder.sub(builder.bitcast(sum_, words), _all(words, 0x3F000000))
    is_tiny = builder.icmp_unsigned("<", magnitude, _all(words, (127 - 14) << 23))
    is_large = builder.icmp_unsigned(">=", magnitude, _all(words, (127 + 16) << 23))
    large = builder.select(is_nan, _all(words, MAGNITUDE), _all(words, INFINITY[half]))
    result = builder.select(is_large, large, builder.select(is_tiny, tiny, normal))
    return builder.trunc(builder.or_(result, sign), bits)


def _converts_float16(context: Any) -> bool:
    triple, _, features = context.codegen().magic_tuple()
    return not triple.startswith(("x86", "i686")) or "+f16c" in features


def _as(like: Any, scalar: Any) -> Any:
    """LLVM's type of as many scalars as a type has lanes."""
    return ir.VectorType(scalar, like.count) if isinstance(like, ir.VectorType) else scalar


def _all(kind: Any, value: float) -> Any:
    """LLVM's constant of a type with the same value in all lanes."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _vector_type(element: Any) -> Vector:
    return Vector(element, VECTOR_BYTES * 8 // element.bitwidth)


def _pointer(context, builder, array_type, array, at, lanes):
    """Pointer to the vector of an array that starts at `at`; to the one element there if it has no lanes."""
    view = make_array(array_type)(context, builder, array)
    if context.enable_boundscheck:
        length = cgutils.unpack_tuple(builder, view.shape, 1)[0]
        for position in (at, builder.add(at, ir.Constant(at.type, max(lanes - 1, 0)))):
            cgutils.do_boundscheck(context, builder, position, length)
    stored = context.get_data_type(stored_type(array_type.dtype))
    target = ir.VectorType(stored, lanes) if lanes else stored
    return builder.bitcast(builder.gep(view.data, [at]), target.as_pointer())


def _widened(builder, value, array, target, element):
    """A value of an array as wide as `element`: integers are extended."""
    own, element = value_type(array.dtype), getattr(element, "element", element)
    if own.bitwidth < element.bitwidth:
        value = (builder.sext if own.signed else builder.zext)(value, target)
    return value


def _cut(context, builder, value, element, array):
    """The value as the array holds it: integers are cut to its width."""
    own = value_type(array.dtype)
    if element.bitwidth > own.bitwidth:
        value = builder.trunc(value, _as(value.type, context.get_data_type(own)))
    return encoded(context, builder, value, array.dtype)


def _splat(builder, value, lanes):
    """A vector with the same value in all lanes."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, zeros)
