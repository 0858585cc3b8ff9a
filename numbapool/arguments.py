"""What a caller may write: ints, paddings, names to checked values, and every error about them.

Errors name the argument and the value. Sizes are Python integers, so nothing overflows before it is checked.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from math import prod
from typing import Any, Literal, TypeAlias, cast

import numpy as np

# An int, or one int an axis; a sequence of one int counts for every axis, here and below.
Extent: TypeAlias = int | Sequence[int]
# An int or None, or one of them an axis.
Sizes: TypeAlias = int | Sequence[int | None] | None
# An int, one int an axis, one (before, after) an axis, or the name of an automatic padding.
Padding: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | str
# Which axis of an array holds the channels.
DataFormat: TypeAlias = Literal["channels_first", "channels_last"]
# What indices count: positions in the plane, in the whole array, or in the window.
IndexKind: TypeAlias = Literal["plane", "global", "window"]
# How quotients of integers are rounded.
Rounding: TypeAlias = Literal["truncate", "nearest"]
AUTOMATIC_PADDING = ("same", "same_lower", "valid")
# Kernels compute positions in int64: with every extent below 2**62 no sum or difference of two of them overflows.
LARGEST_EXTENT = 2**62
LARGEST_INT64 = 2**63 - 1
# Arrays of up to so many elements are printed in messages, of others the shape; and of anything so many characters.
MOST_SHOWN = 8
MOST_CHARACTERS = 200
CHANNELS_FIRST: DataFormat = "channels_first"
PLANE: IndexKind = "plane"
LAYOUTS = {
    "channels_first": {
        1: ("(C, L)", "(N, C, L)"),
        2: ("(C, H, W)", "(N, C, H, W)"),
        3: ("(C, D, H, W)", "(N, C, D, H, W)"),
    },
    "channels_last": {
        1: ("(L, C)", "(N, L, C)"),
        2: ("(H, W, C)", "(N, H, W, C)"),
        3: ("(D, H, W, C)", "(N, D, H, W, C)"),
    },
}


def window_arguments(
    rank: int, kernel_size: Extent, stride: Extent | None, padding: Padding, dilation: Extent, ceil_mode: bool
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...] | str, tuple[int, ...], bool]:
    """The parameters of a window with one value an axis each; padding by name stays a name."""
    kernel = per_axis("kernel_size", kernel_size, rank)
    return (
        kernel,
        kernel if stride is None or _is_empty(stride) else per_axis("stride", stride, rank),
        padding_per_axis(padding, rank),
        per_axis("dilation", dilation, rank),
        as_flag("ceil_mode", ceil_mode),
    )


def adaptive_sizes(rank: int, output_size: Any) -> tuple[int | None, ...]:
    """`output_size` with one int or None an axis."""
    sizes = entries(output_size, rank)
    if len(sizes) != rank:
        raise ValueError(
            f"output_size must be an int, None, or {rank} of them, one for each pooled axis, got {shown(output_size)}"
        )
    return tuple(None if each is None else as_int("output_size", each) for each in sizes)


def ratios_per_axis(rank: int, output_ratio: Any) -> tuple[float, ...]:
    """`output_ratio` with one float an axis."""
    ratios: tuple[Any, ...] = entries(output_ratio, rank)
    if len(ratios) != rank:
        raise ValueError(
            f"output_ratio must be a float or {rank} floats, one for each pooled axis, got {shown(output_ratio)}"
        )
    for each in ratios:
        if not _is_number(each):
            raise TypeError(f"output_ratio must be a float, got {described(each)}")
        if not 0 < each < 1:
            raise ValueError(f"output_ratio must be between 0 and 1, got {shown(output_ratio)}")
    return ratios


def as_axes(axes: Any, kernel_size: Any, ndim: int) -> tuple[int, ...]:
    """`axes` as different ints from 0 to the number of axes; by default as many of the last as the kernel has elements."""
    if ndim == 0:
        raise shape_error("x must have at least one axis, got shape ()")
    if axes is None:
        number = len(kernel_size) if isinstance(kernel_size, (tuple, list)) else ndim
        if not 0 < number <= ndim:
            raise ValueError(f"kernel_size must have 1 to {ndim} ints, as many as x has axes, got {shown(kernel_size)}")
        return tuple(range(ndim - number, ndim))
    given = tuple(as_int("axes", each) for each in axes) if isinstance(axes, (tuple, list)) else (as_int("axes", axes),)
    if not given or any(not -ndim <= each < ndim for each in given):
        raise ValueError(
            f"axes must be ints of {-ndim} to {ndim - 1} for an array of {ndim} axes, got {shown(axes)} for x"
        )
    chosen = tuple(each % ndim for each in given)
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"axes must be different, got {shown(axes)}")
    return chosen


def check_axes_not_empty(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Refuse to pool an axis without elements."""
    for axis in axes:
        if shape[axis] == 0:
            raise shape_error(f"pooled axes must not be empty, but axis {axis} of x is: it has shape {shape}")


def check_rank(
    shape: tuple[int, ...], rank: int, data_format: DataFormat = "channels_first", is_sliding: bool = False
) -> None:
    """Refuse a shape that has not `rank` axes beside channels and perhaps a batch.

    Of windows that slide the message recommends `pool`, which has no others.
    """
    if len(shape) not in (rank + 1, rank + 2):
        unbatched, batched = LAYOUTS[data_format][rank]
        text = (
            f"x must have {rank + 2} axes {batched} or {rank + 1} axes {unbatched}, got shape {shape} with {len(shape)}"
        )
        if len(shape) == rank:
            one = "x[None]" if data_format == "channels_first" else "x[..., None]"
            text += f"; {one} is a single channel"
            text += ", and numbapool.pool and pool_backward take any number of axes" if is_sliding else ""
        raise shape_error(text)


def check_whole(shape: tuple[int, ...], data_format: DataFormat = "channels_first") -> None:
    """Refuse a shape of fewer than three axes, or with an empty axis other than the first."""
    if len(shape) < 3:
        layout = "(N, C, ...)" if data_format == "channels_first" else "(N, ..., C)"
        raise shape_error(f"x must have at least 3 axes {layout}, got shape {shape} with {len(shape)}")
    if 0 in shape[1:]:
        raise shape_error(
            f"x may only be empty along the batch axis; channels and pooled axes must not be, got shape {shape}"
        )


def undone_window(
    rank: int, kernel_size: Extent, stride: Extent | None, padding: Extent
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Kernel, stride and padding with one int an axis."""
    kernel = per_axis("kernel_size", kernel_size, rank)
    strides = kernel if stride is None or _is_empty(stride) else per_axis("stride", stride, rank)
    return kernel, strides, per_axis("padding", padding, rank)


def unpooled_sizes(rank: int, output_size: Extent | None) -> Extent | None:
    """`output_size` of unpooling with the channels first; only a whole shape, (N, H, W, C) or (H, W, C), is any different."""
    if isinstance(output_size, (tuple, list)) and len(output_size) in (rank + 1, rank + 2):
        *others, channels = output_size
        return (*others[:-rank], channels, *others[-rank:])
    return output_size


def unpooled_lengths(output_size: Any, ndim: int, rank: int) -> tuple[int, ...]:
    """`output_size` with one int an axis; of a whole shape, unbatched only if x is, its last lengths."""
    given = entries(output_size, rank)
    if len(given) not in (rank, ndim, rank + 2):
        raise ValueError(
            f"output_size must be {rank} ints, one for each unpooled axis, or those after "
            f"{'batch and channels' if ndim == rank + 2 else 'the channels'}, got {shown(output_size)}"
        )
    return tuple([as_int("output_size", each) for each in given[-rank:]])


def per_axis(name: str, value: Any, rank: int) -> tuple[int, ...]:
    """`value`, an int or one int an axis, as one Python int an axis."""
    given = entries(value, rank)
    if len(given) != rank:
        raise ValueError(f"{name} must be an int or {rank} ints, one for each pooled axis, got {shown(value)}")
    return tuple([as_int(name, each) for each in given])


def entries(value: Any, rank: int) -> tuple[Any, ...]:
    """One entry an axis of an argument that has one for every axis, alone or in a sequence, or one for each.

    A sequence of another length comes back as it is, and so does a single pair: it may be meant as two ints.
    """
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return given * rank if len(given) == 1 and not isinstance(given[0], (tuple, list)) else given


def padding_per_axis(padding: Any, rank: int) -> tuple[tuple[int, int], ...] | str:
    """`padding` with one pair (before, after) an axis; a name stays one."""
    if type(padding) is int:
        return ((padding, padding),) * rank
    if isinstance(padding, str):
        if padding not in AUTOMATIC_PADDING:
            raise ValueError(f"padding by name must be one of {AUTOMATIC_PADDING}, got {shown(padding)}")
        return padding
    given = entries(padding, rank)
    if len(given) != rank:
        raise ValueError(
            f"padding must be an int, {rank} ints or {rank} pairs (before, after), one for each pooled axis, or one of "
            f"{AUTOMATIC_PADDING}, got {shown(padding)}"
        )
    pairs = []
    for each in given:
        if not isinstance(each, (tuple, list)):
            each = (each, each)
        elif len(each) != 2:
            raise ValueError(
                f"padding of one axis must be an int or a pair (before, after), got {shown(each)} in {shown(padding)}"
            )
        pairs.append((as_int("padding", each[0]), as_int("padding", each[1])))
    return tuple(pairs)


def as_int(name: str, value: Any) -> int:
    """`value` as a Python int; bool, float, str and None are refused."""
    if type(value) is int:
        return value
    cause = None
    # Tensors of bool are ints to torch.
    if not isinstance(value, (bool, np.bool_)) and "bool" not in str(getattr(value, "dtype", "")):
        try:
            return operator.index(value)
        except Exception as error:  # whatever a library says of an array of several elements, or without values
            cause = error
    raise TypeError(f"{name} must be an int, got {described(value)}") from cause


def _is_number(value: Any) -> bool:
    """Whether a value is a real number of Python's or NumPy's; a timedelta64 is not, though it is among NumPy's integers."""
    is_other = isinstance(value, (bool, np.timedelta64))
    return isinstance(value, (int, float, np.integer, np.floating)) and not is_other


def described(value: Any) -> str:
    """A value of the wrong type, for messages: of an array of more than a few elements the shape."""
    shape = getattr(value, "shape", None)
    if type(shape) is tuple and len(shape) > 0 and prod(shape) > MOST_SHOWN:
        return f"an array of shape {shape}"
    return f"{shown(value)} of type {type(value).__name__}"


def as_flag(name: str, value: Any) -> bool:
    """`value` as a bool; anything but a bool is refused, so that a misplaced positional argument does not pass."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {described(value)}")
    return bool(value)


def as_data_format(value: Any) -> DataFormat:
    """`data_format` as one of the two words."""
    if value is CHANNELS_FIRST:  # as nearly always
        return "channels_first"
    return cast(DataFormat, as_word("data_format", value, tuple(LAYOUTS)))


def as_index_kind(value: Any) -> IndexKind:
    """`index_kind` as one of the three words."""
    return cast(IndexKind, as_word("index_kind", value, ("plane", "global", "window")))


def as_rounding(name: str, value: Any) -> bool:
    """`rounding` as whether quotients of integers are rounded to the nearest integer, instead of truncated."""
    return as_word(name, value, ("truncate", "nearest")) == "nearest"


def as_word(name: str, value: Any, words: tuple[str, ...]) -> str:
    """`value` as one of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {described(value)}")
    if value not in words:
        raise ValueError(f"{name} must be one of {words}, got {shown(value)}")
    return value


def as_divisor(name: str, value: Any) -> int | None:
    """A divisor as an int other than zero, or None."""
    if value is None:
        return None
    divisor = as_int(name, value)
    if divisor == 0:
        raise ValueError(f"divisor must be not zero, got {name}=0")
    if not -LARGEST_INT64 <= divisor <= LARGEST_INT64:
        raise ValueError(f"{name} must fit into 64 bits, got {shown(divisor)}")
    return divisor


def as_positive(name: str, value: Any) -> float:
    """A number as a float greater than 0; infinity is one."""
    if not _is_number(value):
        raise TypeError(f"{name} must be a number, got {described(value)}")
    if not value > 0:
        raise ValueError(f"{name} must be greater than 0, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit into a float, got {shown(value)}") from None


def as_generator(value: Any) -> np.random.Generator:
    """`generator` as one of NumPy's."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(f"generator must be a numpy.random.Generator, got {described(value)}")
    return value


def refuse_unknown(function: Callable[..., Any], unknown: dict[str, Any]) -> None:
    """Refuse keywords that a function has not, and name the one that was likely meant."""
    for name in unknown:
        near = get_close_matches(name, inspect.signature(function).parameters, n=1, cutoff=0.6)
        advice = f": {near[0]} is one" if near else ""
        raise TypeError(f"{function.__name__} has no parameter {name}{advice}")


def outs_of(out: Any, return_indices: bool) -> Sequence[Any]:
    """Where results go, one array for each: with `return_indices` values and indices."""
    if not return_indices:
        return (out,)
    if not (isinstance(out, (tuple, list)) and len(out) == 2):
        raise TypeError(f"out must be a pair (values, indices) with return_indices, got {type(out).__name__}")
    return out


def shape_error(text: str) -> ValueError:
    """An error that shows a shape; wrappers that reorder axes say of which order it is."""
    error = ValueError(text)
    error.shows_shape = True  # type: ignore[attr-defined]
    return error


def explained(text: Callable[[], str], call: Callable[..., Any], *arguments: Any) -> Any:
    """A call on arrays whose axes are in another order than the caller's; errors that show a shape say so."""
    try:
        return call(*arguments)
    except ValueError as error:
        if not getattr(error, "shows_shape", False):
            raise
        raise ValueError(f"{error}; {text()}") from None  # in the message: str(error) shows no notes (PEP 678)


def check_same_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
    """Refuse an array argument whose shape is not the one the plan gives it."""
    if shape != expected:
        raise shape_error(f"{name} must have {what} {expected}, got shape {shape}")


def check_extents(name: str, values: Sequence[int], least: int, phrase: str) -> None:
    """Refuse ints that are less than a bound, in torch's words, or too large for int64 arithmetic."""
    if any(value < least for value in values):
        raise ValueError(f"{phrase}, got {name}={shown(values)}")
    if any(value > LARGEST_EXTENT for value in values):
        raise ValueError(f"{name} must be at most 2**62, got {shown(values)}")


def type_name(value: Any) -> str:
    """Name of the type of a value, with its module, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def shown(value: Any) -> str:
    """An argument, for messages: cut where it is long, and never an error of its own."""
    try:
        text = repr(value)
    except ValueError:
        return "<ints of thousands of digits>"  # which Python refuses to print
    except Exception:
        return f"<a {type(value).__name__} that cannot be printed>"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _is_empty(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 0


def check_not_empty(shape: tuple[int, ...], rank: int, may_be: str) -> None:
    """Refuse a shape with a length of 0, but for the axes that may have one."""
    others = {"batch axis": rank + 1, "batch and channel axes": rank}[may_be]
    if 0 in shape[-others:]:
        rest = "channels and pooled axes" if others > rank else "pooled axes"
        raise shape_error(f"x may only be empty along the {may_be}; {rest} must not be, got shape {shape}")
