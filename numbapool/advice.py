"""Which changes of its arguments make a call work that would raise: each is found by trying it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from numbapool import functional
from numbapool.arguments import AUTOMATIC_PADDING, LARGEST_EXTENT, as_int, shown
from numbapool.dispatch import Spec
from numbapool.dtypes import dtype_name
from numbapool.kinds import NAMES

# What should not be less than this, in elements.
LEAST = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_size": 1}

# What to try for parameters that have no default, or no useful one.
FALLBACKS = {"kernel_size": 2, "norm_type": 2.0, "output_size": 1, "output_ratio": 0.5, "kind": "max"}

# What public functions may have to be given.
ARRAYS = ("grad_output", "x", "indices")

# Wrong arguments are mended one after the other, at most so many.
MOST_MENDED = 6

# Pairs of padding are lists in a list; nothing deeper can be mended.
MOST_NESTED = 2

# Padding that is added is searched for up to this.
MOST_PADDING = 1 << 20


@dataclass(frozen=True)
class WrittenCall:
    """A call as it is written, right or wrong.

    The name of the function, shape and dtype of `x`, the other arguments by name, and those that have none.
    """

    name: str
    spec: Spec
    arguments: dict[str, Any]
    surplus: tuple[Any, ...] = ()

    def with_argument(self, name: str, value: Any) -> WrittenCall:
        """The same with another value of an argument."""
        return replace(self, arguments=self.arguments | {name: value})

    def without(self, name: str) -> WrittenCall:
        """The same without an argument."""
        return replace(self, arguments={key: value for key, value in self.arguments.items() if key != name})


# Runs a request on an array without values and returns the shape of its first result.
Attempt = Callable[[WrittenCall], tuple[int, ...]]


@dataclass(frozen=True)
class Change:
    """A change of a call, and the shape of the result with it.

    Attributes
    ----------
    text : str
        The arguments that are to be others.
    request : WrittenCall
        The call with them.
    result : tuple of int
        Shape of its first result.
    """

    text: str
    request: WrittenCall
    result: tuple[int, ...]

    def __str__(self) -> str:
        """The arguments that are to be others."""
        return self.text


def changes_that_help(request: WrittenCall, error: Exception, attempt: Attempt) -> tuple[Change, ...]:
    """Changes with which a call works that raises `error`: one for each argument that can be changed.

    If several arguments are wrong, what is mended first is part of every change.
    """
    mended = request
    for _ in range(MOST_MENDED):
        found: dict[str, Change] = {}
        nearer: tuple[WrittenCall, Exception] | None = None
        for key, candidate in _candidates(mended, f"{error}", attempt):
            try:
                shape = attempt(candidate)
            except (ValueError, TypeError) as other:
                if nearer is None and _beginning(other) != _beginning(error):
                    nearer = candidate, other
            else:
                found.setdefault(key, Change(_difference(request, candidate), candidate, shape))
        if found:
            return tuple(found.values())
        if nearer is None:
            break
        mended, error = nearer
    return ()


def _beginning(error: Exception) -> str:
    """What is said before any value is: two errors that begin alike are of the same kind."""
    return re.split(r"[\d(\[]", f"{error}", maxsplit=1)[0]


def forward_of(name: str) -> str:
    """The function whose gradient a function computes, or itself."""
    return name.removesuffix("_backward")


def arrays_of(name: str) -> tuple[str, ...]:
    """The arrays that a public function must be given, in their order; `explain` makes them up."""
    parameters = inspect.signature(getattr(functional, name)).parameters.values()
    return tuple([each.name for each in parameters if each.name in ARRAYS and each.default is each.empty])


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a public function but for those arrays, and for `out`."""
    left_out = {*arrays_of(name), "out"}
    parameters = inspect.signature(getattr(functional, name)).parameters
    return {key: each for key, each in parameters.items() if key not in left_out and each.kind is not each.VAR_KEYWORD}


@cache
def _words(name: str) -> dict[str, tuple[str, ...]]:
    """The parameters of a function that are one of some words."""
    hints = get_type_hints(getattr(functional, name))
    return {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}


def _candidates(request: WrittenCall, message: str, attempt: Attempt) -> Iterator[tuple[str, WrittenCall]]:
    """What might help, and under which heading: changes of the arguments that the message names."""
    parameters = parameters_of(request.name)
    if request.surplus:
        keywords = [name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY]
        named = dict(zip(keywords, request.surplus, strict=False))
        yield "by name", replace(request, arguments=request.arguments | named, surplus=())
        yield "without", replace(request, surplus=())
    missing = [name for name in parameters if name not in request.arguments]
    for name in [name for name in request.arguments if name not in parameters]:
        needed = [other for other in missing if parameters[other].default is parameters[other].empty]
        for other in get_close_matches(name, missing, 1, 0.5) or get_close_matches(name, needed, 1, 0):
            yield name, request.without(name).with_argument(other, request.arguments[name])
        yield f"without {name}", request.without(name)
    if re.search(r"\bx\b", message):
        yield from _other_inputs(request, message)
    in_message = [name for name in parameters if re.search(rf"\b{name}\b", message)]
    for name in in_message or [name for name in parameters if name in request.arguments]:
        parameter = parameters[name]
        if name == "indices":  # of backward, by their shape
            forward = replace(request, name=forward_of(request.name)).without("indices")
            with suppress(ValueError, TypeError):
                yield name, request.with_argument(name, attempt(forward))
        value = request.arguments.get(name, parameter.default)
        if value is not parameter.empty:
            for other in _other_values(request, name, value, attempt):
                yield name, request.with_argument(name, other)
        if name in request.arguments and parameter.default is not parameter.empty:
            yield name, request.without(name)
        if name in FALLBACKS:
            yield name, request.with_argument(name, FALLBACKS[name])


def _other_inputs(request: WrittenCall, message: str) -> Iterator[tuple[str, WrittenCall]]:
    shape, dtype = request.spec
    if "dtype" in message:
        for other in (np.dtype(np.float32), np.dtype(np.int64)):
            yield f"x as {other}", replace(request, spec=(shape, other))
    if "empty" in message:
        yield "x", replace(request, spec=(tuple(max(length, 1) for length in shape), dtype))
    if "axes" in message or "axis" in message:
        for more in (1, 2, 3):
            yield "x with more axes", replace(request, spec=((1,) * more + shape, dtype))
        if len(shape) > 2 and min(shape) > 0:
            yield "x with fewer axes", replace(request, spec=((shape[0] * shape[1], *shape[2:]), dtype))
        for rank in (1, 2, 3):
            other_name = re.sub(r"\dd", f"{rank}d", request.name)
            if other_name != request.name and other_name in functional.__all__:
                yield other_name, replace(request, name=other_name)


def _other_values(request: WrittenCall, name: str, value: Any, attempt: Attempt) -> Iterator[Any]:
    words: tuple[str, ...] = _words(request.name).get(name, ())
    if name == "kind":
        words = tuple(NAMES)
    elif name == "padding" and isinstance(value, str):
        words = AUTOMATIC_PADDING
    others = [word for word in words if not (isinstance(value, str) and word == value)]
    yield from sorted(others, key=lambda word: -_likeness(written(value), word))
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1):
        yield bool(value)
    if name == "axes":
        given, ndim = value if isinstance(value, (tuple, list)) else (value,), len(request.spec[0])
        if value is None and ndim > 2:  # then all are pooled, which few want of more than an image
            yield (ndim - 2, ndim - 1)
        if ndim and all(type(each) is int for each in given):
            yield tuple(dict.fromkeys(each % ndim for each in given))
    if name not in LEAST or words:
        return
    least = LEAST[name]
    if _depth(value) > MOST_NESTED:
        value = least
    yield _mended(value, least, _rank(request))

    def works(each: Any) -> bool:
        try:
            attempt(request.with_argument(name, each))
        except (ValueError, TypeError):
            return False
        return True

    if name != "stride":
        cap = _last(lambda cap: works(_mapped(value, lambda each: min(each, cap))), least, _largest(value))
        if cap is not None:
            yield _mapped(value, lambda each: min(each, cap))
    if name == "padding":
        short = _last(lambda more: not works(_mapped(value, lambda each: each + more)), 0, MOST_PADDING)
        if short is not None:
            yield _mapped(value, lambda each: each + short + 1)


def _last(holds: Callable[[int], bool], first: int, end: int) -> int | None:
    """The last int from `first` on for which something holds that holds up to some int before `end`; None if there is none."""
    if first >= end or not holds(first) or holds(end):
        return None
    while end - first > 1:
        middle = (first + end) // 2
        first, end = (middle, end) if holds(middle) else (first, middle)
    return first


def _rank(request: WrittenCall) -> int | None:
    """Pooled axes, if the call says how many."""
    found = re.search(r"(\d)d", request.name)
    axes = request.arguments.get("axes")
    return int(found[1]) if found else len(axes) if isinstance(axes, (tuple, list)) else 1 if axes is not None else None


def _mended(value: Any, least: int, rank: int | None) -> Any:
    """Ints of at least `least` where there are others or no ints, and one an axis where their number is wrong."""
    if not isinstance(value, (tuple, list)):
        number = int(value) if isinstance(value, (float, np.floating)) and np.isfinite(value) else value
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
            number = int(value)
        try:
            return min(max(as_int("", number), least), LARGEST_EXTENT)
        except TypeError:  # no int, nor written like one
            return least
    given = [_mended(each, least, 2 if isinstance(each, (tuple, list)) else None) for each in value]  # pairs of padding
    if rank is not None and given:
        given = (given + given[-1:] * rank)[:rank]
    return tuple(given)


def _depth(value: Any) -> int:
    """How deep lists are nested in each other, as far as it matters: they may hold themselves."""
    depth, level = 0, [value]
    while depth <= MOST_NESTED and (lists := [each for each in level if isinstance(each, (tuple, list))]):
        depth, level = depth + 1, [each for some in lists for each in some]
    return depth


def _mapped(value: Any, function: Callable[[int], int]) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_mapped(each, function) for each in value)
    return function(value) if isinstance(value, int) else value


def _largest(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return max(map(_largest, value), default=0)
    return min(value, LARGEST_EXTENT + 1) if isinstance(value, int) else 0


def _likeness(given: str, word: str) -> float:
    return SequenceMatcher(None, given.lower(), word).ratio()


def _difference(before: WrittenCall, after: WrittenCall) -> str:
    texts = []
    if after.name != before.name:
        texts.append(f"{after.name} instead of {before.name}")
    if after.spec[0] != before.spec[0]:
        texts.append(f"x of shape {after.spec[0]}")
    if after.spec[1] != before.spec[1]:
        texts.append(f"x as {dtype_name(after.spec[1])}")
    for name, value in after.arguments.items():
        if name not in before.arguments or value is not before.arguments[name]:
            texts.append(f"{name}={written(value)}")
    gone = [name for name in before.arguments if name not in after.arguments]
    new = [name for name in after.arguments if name not in before.arguments]
    if gone and not new:
        texts.append(f"without {', '.join(gone)}")
    if before.surplus and not new:
        texts.append(f"without {', '.join(map(written, before.surplus))}")
    return ", ".join(texts)


def written(value: Any) -> str:
    """An argument, for people."""
    if hasattr(value, "__dlpack__") and isinstance(shape := getattr(value, "shape", None), tuple):
        return f"<array of shape {tuple(shape)}>"
    if isinstance(value, np.random.Generator):
        return "<generator>"
    return shown(value)
