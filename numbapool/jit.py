"""Pooling inside code that Numba compiles: importing this module lets `@njit` functions call the functions it lists.

They are the functions of `numbapool` themselves, with the same arguments, and in compiled code run the same kernels without
any Python object in between: from `prange` loops, without the GIL, in functions that are cached.

- Arrays are C-contiguous, float32 or float64, and all of one dtype; indices are int64. Anything else is an error when the
  caller is compiled.
- `kernel_size`, `stride`, `dilation` and `padding` are ints or tuples of ints, of which one counts for every axis; `padding`
  also a tuple of pairs or a name.
  Bad values are a ValueError when the call runs. Inside a `prange`, Numba turns it into a SystemError that names it as its
  cause if the calling thread meets it, and loses it in other threads and with the threading layer "workqueue": try the
  arguments on one image before the loop.
- `stride` and `divisor_override` may be None, too, or a variable that is None or not when the call runs. Whether there are
  `out` and `indices` must be known when the caller is compiled, and `return_indices` must be a constant. `index_kind` is
  "plane", `data_format` "channels_first".
- Arguments that the functions take by name only are taken by name only here, too.
- A call runs in the thread that makes it. A `prange` over images or channels around it uses all of them.

Numba's cache of a function (`cache=True`) does not notice a new version of numbapool: clear it after an update. Flags and words
are best written as constants in the call. An error leaves behind the memory of what was made before it, as always in Numba.

Importing takes as long as importing Numba. The first function that calls one of them takes some seconds more to compile.

>>> import numpy as np
>>> from numba import njit, prange
>>> from numbapool.jit import max_pool2d
>>> @njit(parallel=True)
... def strongest(images):
...     out = np.empty((len(images), 2, 2))
...     for n in prange(len(images)):
...         out[n] = max_pool2d(np.abs(images[n]), 2)[0]
...     return out
>>> strongest(np.array([[[[1.0, -2.0, 3.0, 4.0], [5.0, 6.0, -7.0, 0.0]] * 2]]))
array([[[6., 7.],
        [6., 7.]]])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload, register_jitable

from numbapool import functional
from numbapool.arguments import AUTOMATIC_PADDING, LAYOUTS
from numbapool.functional import (
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
    lp_pool1d,
    lp_pool1d_backward,
    lp_pool2d,
    lp_pool2d_backward,
    lp_pool3d,
    lp_pool3d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool3d,
    max_pool3d_backward,
    min_pool1d,
    min_pool1d_backward,
    min_pool2d,
    min_pool2d_backward,
    min_pool3d,
    min_pool3d_backward,
    sum_pool1d,
    sum_pool1d_backward,
    sum_pool2d,
    sum_pool2d_backward,
    sum_pool3d,
    sum_pool3d_backward,
)
from numbapool.geometry import output_length
from numbapool.kernels.cpu import embedded
from numbapool.kernels.cpu.compile import inner
from numbapool.kernels.cpu.embedded import flat as plain
from numbapool.kernels.cpu.schedule import Planes, plane_size
from numbapool.windows import Axis

__all__ = [
    "avg_pool1d", "avg_pool1d_backward", "avg_pool2d", "avg_pool2d_backward", "avg_pool3d", "avg_pool3d_backward",
    "lp_pool1d", "lp_pool1d_backward", "lp_pool2d", "lp_pool2d_backward", "lp_pool3d", "lp_pool3d_backward",
    "max_pool1d", "max_pool1d_backward", "max_pool2d", "max_pool2d_backward", "max_pool3d", "max_pool3d_backward",
    "min_pool1d", "min_pool1d_backward", "min_pool2d", "min_pool2d_backward", "min_pool3d", "min_pool3d_backward",
    "sum_pool1d", "sum_pool1d_backward", "sum_pool2d", "sum_pool2d_backward", "sum_pool3d", "sum_pool3d_backward",
]  # fmt: skip

# Up to here products of two extents are machine integers. (Elsewhere plans are made in Python's, and extents may be larger.)
LARGEST_MACHINE_EXTENT = 1 << 31

register_jitable(fastmath=False)(output_length)


# What is known when the caller is compiled: the types of the arguments.


def _check_array(name: str, array: Any, ndims: tuple[int, ...], dtypes: tuple[Any, ...]) -> None:
    """Refuse what is no contiguous array of these numbers of axes and dtypes."""
    accepted = " or ".join(map(str, dtypes))
    if not isinstance(array, types.Array):
        raise TypingError(f"{name} must be a C-contiguous array of {accepted}, got {array}")
    if array.dtype not in dtypes:
        raise TypingError(f"{name} has dtype {array.dtype}; accepted inside compiled code: {accepted}")
    if array.ndim not in ndims:
        raise TypingError(f"{name} must have {' or '.join(map(str, ndims))} axes, got {array.ndim}")
    if array.layout != "C" or not array.aligned:
        raise TypingError(
            f"{name} must be C-contiguous inside compiled code, got {array}; numpy.ascontiguousarray copies"
        )


def _check_input(x: Any, rank: int) -> None:
    if isinstance(x, types.Array) and x.ndim not in (rank + 1, rank + 2):
        unbatched, batched = LAYOUTS["channels_first"][rank]
        raise TypingError(f"x must have {rank + 2} axes {batched} or {rank + 1} axes {unbatched}, got {x.ndim}")
    _check_array("x", x, (rank + 1, rank + 2), (types.float32, types.float64))


def _check_writeable(name: str, array: Any, ndim: int, dtype: Any) -> None:
    _check_array(name, array, (ndim,), (dtype,))
    if not array.mutable:
        raise TypingError(f"{name} must be writeable, got a read-only array")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, (bool, types.Boolean, types.BooleanLiteral)):
        raise TypingError(f"{name} must be a bool, got {value}")


def _check_word(name: str, value: Any, word: str) -> None:
    """Refuse any word but the one that compiled code knows."""
    given = getattr(value, "literal_value", value)
    if given != word:
        raise TypingError(f"{name} must be {word!r} inside compiled code, got {given!r}")


def _is_true(name: str, value: Any) -> bool:
    """The value of a constant flag."""
    if isinstance(value, (bool, types.BooleanLiteral)):
        return bool(getattr(value, "literal_value", value))
    raise TypingError(f"{name} must be a constant, True or False, inside compiled code, got {value}")


def _is_none(value: Any) -> bool:
    return value is None or isinstance(value, types.NoneType)


def _is_int(value: Any) -> bool:
    return type(value) is int or isinstance(value, types.Integer)


def _is_empty(value: Any) -> bool:
    return isinstance(value, types.BaseTuple) and len(value) == 0


# Extents with one value an axis, of the last axes of three; `fill` for those before, which are not pooled.


@inner
def _each_1(values, fill):
    return fill, fill, np.int64(values[0])


@inner
def _each_2(values, fill):
    return fill, np.int64(values[0]), np.int64(values[1])


@inner
def _each_3(values, fill):
    return np.int64(values[0]), np.int64(values[1]), np.int64(values[2])


@inner
def _pairs_1(pairs):
    return _each_1((pairs[0][0],), 0), _each_1((pairs[0][1],), 0)


@inner
def _pairs_2(pairs):
    (top, bottom), (left, right) = pairs
    return _each_2((top, left), 0), _each_2((bottom, right), 0)


@inner
def _pairs_3(pairs):
    (front, back), (top, bottom), (left, right) = pairs
    return _each_3((front, top, left), 0), _each_3((back, bottom, right), 0)


EACH, PAIRS = {1: _each_1, 2: _each_2, 3: _each_3}, {1: _pairs_1, 2: _pairs_2, 3: _pairs_3}


def _extents(name: str, value: Any, rank: int) -> Any:
    """The function that makes three extents of an argument of this type."""
    each = EACH[rank]
    if _is_int(value):

        @inner
        def same(value, fill):
            return each((value, value, value), fill)

        return same
    if isinstance(value, types.BaseTuple) and len(value) not in (1, rank):
        raise TypingError(f"{name} must be an int or {rank} ints, one for each pooled axis, got {value}")
    if not (isinstance(value, types.BaseTuple) and all(map(_is_int, value))):
        raise TypingError(f"{name} must be an int or {rank} ints, got {value}")
    if len(value) == rank:
        return each

    @inner
    def same_as_in_tuple(value, fill):
        return each((value[0], value[0], value[0]), fill)

    return same_as_in_tuple


def _strides(value: Any, rank: int) -> Any:
    """The same for strides, which are by default those of the windows."""
    if _is_none(value) or _is_empty(value):

        @inner
        def default(stride, kernel):
            return kernel

        return default
    if isinstance(value, types.Optional):
        extents = _extents("stride", value.type, rank)

        @inner
        def given_or_default(stride, kernel):
            if stride is None:
                return kernel
            return extents(_present(stride), 1)

        return given_or_default
    extents = _extents("stride", value, rank)

    @inner
    def given(stride, kernel):
        return extents(stride, 1)

    return given


@intrinsic
def _present(typing_context, value):
    """What a variable holds that may be None, and is not."""
    return value.type(value.type), lambda context, builder, signature, values: values[0]


def _pads(value: Any, rank: int) -> Any:
    """The function that gives padding before and after every axis, for an argument of this type."""
    if isinstance(value, (str, types.StringLiteral, types.UnicodeType)):
        return _pads_by_name
    if isinstance(value, types.BaseTuple) and len(value) == rank and all(map(_is_pair, value)):
        pairs = PAIRS[rank]

        @inner
        def two_sides(padding, lengths, kernel, stride, dilation):
            return pairs(padding)

        return two_sides
    if isinstance(value, types.BaseTuple) and not all(map(_is_int, value)):
        raise TypingError(f"padding must be an int, {rank} ints, {rank} pairs of ints or a name, got {value}")
    extents = _extents("padding", value, rank)

    @inner
    def both_sides(padding, lengths, kernel, stride, dilation):
        pads = extents(padding, 0)
        return pads, pads

    return both_sides


def _is_pair(value: Any) -> bool:
    return isinstance(value, types.BaseTuple) and len(value) == 2 and all(map(_is_int, value))


@inner
def _pads_by_name(padding, lengths, kernel, stride, dilation):
    """`geometry.padding_for`."""
    if padding not in AUTOMATIC_PADDING:
        raise ValueError("padding by name must be one of 'same', 'same_lower' and 'valid', got '" + padding + "'")
    before, after = (0, 0, 0), (0, 0, 0)
    if padding != "valid":
        for i in range(3):
            span = dilation[i] * (kernel[i] - 1) + 1
            total = max((-(-lengths[i] // stride[i]) - 1) * stride[i] + span - lengths[i], 0)
            small, large = total // 2, total - total // 2
            before = tuple_setitem(before, i, small if padding == "same" else large)
            after = tuple_setitem(after, i, large if padding == "same" else small)
    return before, after


# What is known when the caller runs: the values of the arguments.


@inner
def _check_extent(name, value, phrase, least):
    if value < least:
        raise ValueError(phrase + ", got " + name + "=" + str(value))
    if value > LARGEST_MACHINE_EXTENT:
        raise ValueError(name + " must be at most 2**31 inside compiled code, got " + str(value))


@inner
def _axis(length, kernel, stride, before, after, dilation, ceil_mode):
    _check_extent("padding", before, "pad must be non-negative", 0)
    _check_extent("padding", after, "pad must be non-negative", 0)
    out = output_length(length, kernel, stride, (before, after), dilation, ceil_mode, min, max)
    if out < 1:
        raise ValueError(
            "Output size is too small: windows of kernel_size="
            + str(kernel)
            + " with dilation="
            + str(dilation)
            + " do not fit into an axis of "
            + str(length)
            + " elements with padding=("
            + str(before)
            + ", "
            + str(after)
            + "); it would have length "
            + str(out)
        )
    return Axis(length, out, kernel, stride, dilation, before, after)


def _planner(given: Any, rank: int) -> Any:
    """The function from a shape and arguments of these types, which every function takes, to planes and the shape of the output."""
    x, kernel_size, stride = given.x, given.kernel_size, given.stride
    padding, dilation = given.padding, given.dilation
    _check_input(x, rank)
    _check_flag("ceil_mode", given.ceil_mode)
    _check_word("data_format", given.data_format, "channels_first")
    ndim = x.ndim
    extents, strides = _extents("kernel_size", kernel_size, rank), _strides(stride, rank)
    pads, dilations = _pads(padding, rank), _extents("dilation", dilation, rank)

    @inner
    def plan(shape, kernel_size, stride, padding, dilation, ceil_mode):
        kernel, spread = extents(kernel_size, 1), dilations(dilation, 1)
        steps = strides(stride, kernel)
        for i in range(3):
            _check_extent("kernel_size", kernel[i], "kernel size should be greater than zero", 1)
            _check_extent("stride", steps[i], "stride should not be zero or negative", 1)
            _check_extent("dilation", spread[i], "dilation should be greater than zero", 1)
        lengths, count = (1, 1, 1), 1
        for i in range(ndim):
            if i >= ndim - rank:
                lengths = tuple_setitem(lengths, i - ndim + 3, shape[i])
            else:
                count *= shape[i]
            if shape[i] == 0 and i >= ndim - rank - 1:
                raise ValueError(
                    "x may only be empty along the batch axis; channels and pooled axes must not be, got length 0 of axis "
                    + str(i)
                )
        before, after = pads(padding, lengths, kernel, steps, spread)
        planes = Planes(
            count,
            _axis(lengths[0], kernel[0], steps[0], before[0], after[0], spread[0], ceil_mode),
            _axis(lengths[1], kernel[1], steps[1], before[1], after[1], spread[1], ceil_mode),
            _axis(lengths[2], kernel[2], steps[2], before[2], after[2], spread[2], ceil_mode),
        )
        if np.float64(planes.d.out) * planes.h.out * planes.w.out * max(count, 1) > 2.0**62:
            raise ValueError("Output size is too large: more than 2**62 elements, from padding and kernel_size")
        outs, out_shape = (planes.d.out, planes.h.out, planes.w.out), shape
        for i in range(rank):
            out_shape = tuple_setitem(out_shape, ndim - rank + i, outs[3 - rank + i])
        return planes, out_shape

    return plan


def _target(given: Any) -> Any:
    """The function that gives the array for results: a new one, or `out` if it is one that can be used."""
    if _is_none(given.out):

        @inner
        def new(out, shape, x):
            return np.empty(shape, x.dtype)

        return new
    _check_writeable("out", given.out, given.x.ndim, given.x.dtype)

    @inner
    def checked(out, shape, x):
        _check_shape("out", out, shape, "the shape of the result")
        _check_apart(out, x)
        return out

    return checked


def _gradient_target(given: Any) -> Any:
    """The same for gradients with respect to x, after a look at those that they are made of."""
    _check_array("grad_output", given.grad_output, (given.x.ndim,), (given.x.dtype,))
    target = _target(given)

    @inner
    def gradient_target(out, x, grad_output, out_shape):
        _check_shape("grad_output", grad_output, out_shape, "the shape of the output")
        gradient = target(out, x.shape, x)
        _check_apart(gradient, grad_output)
        return gradient

    return gradient_target


def _targets(given: Any) -> Any:
    """The function that gives the arrays for values and indices."""
    x, out = given.x, given.out
    if _is_none(out):

        @inner
        def new(out, shape, x):
            return np.empty(shape, x.dtype), np.empty(shape, np.int64)

        return new
    if not (isinstance(out, types.BaseTuple) and len(out) == 2):
        raise TypingError(f"out must be a pair (values, indices) with return_indices, got {out}")
    _check_writeable("out[0]", out[0], x.ndim, x.dtype)
    _check_writeable("out[1]", out[1], x.ndim, types.int64)

    @inner
    def checked(out, shape, x):
        values, indices = out
        _check_shape("out", values, shape, "the shape of the result")
        _check_shape("out", indices, shape, "the shape of the result")
        _check_apart(values, x)
        _check_apart(indices, x)
        _check_apart(indices, values)
        return values, indices

    return checked


@inner
def _check_shape(name, array, shape, what):
    for i in range(array.ndim):
        if array.shape[i] != shape[i]:
            raise ValueError(
                name
                + " must have "
                + what
                + ", length "
                + str(shape[i])
                + " of axis "
                + str(i)
                + ", got "
                + str(array.shape[i])
            )


@inner
def _check_apart(out, x):
    start, at = np.int64(out.ctypes.data), np.int64(x.ctypes.data)
    if start < at + np.int64(x.nbytes) and at < start + np.int64(out.nbytes):
        raise ValueError("out must not share memory with another array inside compiled code")


@inner
def _raise_bad_index():
    raise ValueError("Found an invalid max index: an element of indices is outside the plane of its output")


@inner
def _raise_large_plane():
    raise ValueError("x must have fewer than 2**30 elements in a plane with return_indices inside compiled code")


# The functions. Each is one from the types of all arguments to the compiled form: a function of those arguments that it names.


def _extremum(given: Any, rank: int, flat: Any) -> Any:
    plan = _planner(given, rank)
    _check_word("index_kind", given.index_kind, "plane")
    if not _is_true("return_indices", given.return_indices):
        target = _target(given)

        @inner
        def values_alone(x, kernel_size, stride, padding, dilation, ceil_mode, out):
            planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
            values = target(out, shape, x)
            embedded.max_pool(flat(values), flat(x), planes)
            return values

        return values_alone
    targets = _targets(given)

    @inner
    def values_and_indices(x, kernel_size, stride, padding, dilation, ceil_mode, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        if plane_size(planes) > embedded.LARGEST_MARKED:
            _raise_large_plane()
        values, indices = targets(out, shape, x)
        embedded.max_pool_with_indices(flat(values), plain(indices), flat(x), planes)
        return values, indices

    return values_and_indices


def _extremum_backward(given: Any, rank: int, flat: Any) -> Any:
    plan = _planner(given, rank)
    _check_flag("check_indices", given.check_indices)
    _check_word("index_kind", given.index_kind, "plane")
    target = _gradient_target(given)
    if _is_none(given.indices):

        @inner
        def by_values(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, out):
            planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
            gradient = target(out, x, grad_output, shape)
            embedded.max_pool_backward(plain(gradient), plain(grad_output), flat(x), planes)
            return gradient

        return by_values
    _check_array("indices", given.indices, (given.x.ndim,), (types.int64,))

    @inner
    def by_indices(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, indices, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        gradient = target(out, x, grad_output, shape)
        _check_shape("indices", indices, shape, "the shape of the output")
        _check_apart(gradient, indices)
        if not embedded.scatter_add(plain(gradient), plain(grad_output), plain(indices), planes):
            _raise_bad_index()
        return gradient

    return by_indices


def _mean(given: Any, rank: int) -> Any:
    plan = _planner(given, rank)
    _check_flag("count_include_pad", given.count_include_pad)
    _check_word("rounding", given.rounding, "truncate")
    target, divisor_of = _target(given), _divisor(given.divisor_override)

    @inner
    def mean(x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        divisor = divisor_of(divisor_override)
        result = target(out, shape, x)
        embedded.avg_pool(plain(result), plain(x), planes, count_include_pad, divisor)
        return result

    return mean


def _mean_backward(given: Any, rank: int) -> Any:
    plan = _planner(given, rank)
    _check_flag("count_include_pad", given.count_include_pad)
    target, divisor_of = _gradient_target(given), _divisor(given.divisor_override)

    @inner
    def gradient_of_mean(
        grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, out
    ):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        divisor = divisor_of(divisor_override)
        gradient = target(out, x, grad_output, shape)
        embedded.avg_pool_backward(plain(gradient), plain(grad_output), planes, count_include_pad, divisor)
        return gradient

    return gradient_of_mean


def _divisor(value: Any) -> Any:
    """The function that gives the divisor of a mean, 0 for the number of elements."""
    if _is_none(value):

        @inner
        def counted(value):
            return 0

        return counted
    is_optional = isinstance(value, types.Optional)
    if not _is_int(value.type if is_optional else value):
        raise TypingError(f"divisor_override must be an int, got {value}")

    @inner
    def given(value):
        if value == 0:
            raise ValueError("divisor must be not zero, got divisor_override=0")
        return np.int64(value)

    if not is_optional:
        return given

    @inner
    def given_or_counted(value):
        return 0 if value is None else given(_present(value))

    return given_or_counted


def _sum(given: Any, rank: int) -> Any:
    plan, target = _planner(given, rank), _target(given)

    @inner
    def total(x, kernel_size, stride, padding, dilation, ceil_mode, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        result = target(out, shape, x)
        embedded.avg_pool(plain(result), plain(x), planes, True, 1)
        return result

    return total


def _sum_backward(given: Any, rank: int) -> Any:
    plan, target = _planner(given, rank), _gradient_target(given)

    @inner
    def gradient_of_sum(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        gradient = target(out, x, grad_output, shape)
        embedded.avg_pool_backward(plain(gradient), plain(grad_output), planes, True, 1)
        return gradient

    return gradient_of_sum


def _norm(given: Any, rank: int) -> Any:
    plan = _planner(given, rank)
    _check_flag("true_norm", given.true_norm)
    _check_power(given.norm_type)
    target = _target(given)

    @inner
    def norm(x, norm_type, kernel_size, stride, padding, dilation, ceil_mode, true_norm, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        power = _power(norm_type)
        result = target(out, shape, x)
        embedded.lp_pool(plain(result), plain(x), planes, power, true_norm)
        return result

    return norm


def _norm_backward(given: Any, rank: int) -> Any:
    plan = _planner(given, rank)
    _check_flag("true_norm", given.true_norm)
    _check_power(given.norm_type)
    target = _gradient_target(given)

    @inner
    def gradient_of_norm(grad_output, x, norm_type, kernel_size, stride, padding, dilation, ceil_mode, true_norm, out):
        planes, shape = plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
        power = _power(norm_type)
        gradient = target(out, x, grad_output, shape)
        embedded.lp_pool_backward(plain(gradient), plain(grad_output), plain(x), planes, power, true_norm)
        return gradient

    return gradient_of_norm


def _check_power(value: Any) -> None:
    if not (_is_int(value) or isinstance(value, types.Float)):
        raise TypingError(f"norm_type must be a number, got {value}")


@inner
def _power(value):
    power = np.float64(value)
    if not power > 0:
        raise ValueError("norm_type must be greater than 0, got " + str(power))
    return power


def _with_all_arguments(signature: inspect.Signature, function: Any) -> Any:
    """A function with this signature that calls one of some of its arguments.

    Numba wants the parameters of an overload written out, exactly those of the function that it stands for: here they are, once
    for all, by the only code that is made of text.
    """
    handed_on = ", ".join(inspect.signature(function.py_func).parameters)
    names = {"function": function, "__name__": __name__}
    exec(f"def form{signature}: return function({handed_on})", names)  # noqa: S102
    return names["form"]


def _compile(function: Any, form_of: Callable[..., Any], *arguments: Any) -> None:
    """Give a public function a compiled form, which `form_of` makes for types of its arguments (and for those `arguments`).

    Numba lets every argument be given by its place; so those that have none are looked for here.
    """
    parameters = inspect.signature(function).parameters.values()
    by_name = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    places = len(parameters) - len(by_name)
    flat = [each.replace(kind=each.POSITIONAL_OR_KEYWORD, annotation=each.empty) for each in parameters]
    signature = inspect.Signature(flat)

    def form(*args: Any, **kwargs: Any) -> Any:
        if len(args) > places:
            raise TypingError(f"{by_name[0]} must be given by name: {function.__name__} takes {places} by their place")
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        return _with_all_arguments(signature, form_of(SimpleNamespace(**given.arguments), *arguments))

    form.__signature__ = signature  # type: ignore[attr-defined]
    overload(function, prefer_literal=True, jit_options={"error_model": "numpy", "fastmath": False})(form)


for _rank in (1, 2, 3):
    for _kind, _flat in (("max", plain), ("min", embedded.flat_reversed)):
        _compile(getattr(functional, f"{_kind}_pool{_rank}d"), _extremum, _rank, _flat)
        _compile(getattr(functional, f"{_kind}_pool{_rank}d_backward"), _extremum_backward, _rank, _flat)
    for _kind, _form, _backward in (
        ("avg", _mean, _mean_backward),
        ("sum", _sum, _sum_backward),
        ("lp", _norm, _norm_backward),
    ):
        _compile(getattr(functional, f"{_kind}_pool{_rank}d"), _form, _rank)
        _compile(getattr(functional, f"{_kind}_pool{_rank}d_backward"), _backward, _rank)
