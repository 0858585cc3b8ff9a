"""The table: what numbapool computes, one row an operation, and the steps that targets take for it.

A row says what callers may write, which steps make its result and its gradient, and what becomes of a gradient. A step says
what a target's function of this name takes, gives and needs, and which steps its derivatives are. Backends, torch's
operators and derivatives, `explain` and the tests read it here, and nowhere else is any of it written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from numbapool.arguments import as_divisor, as_flag, as_positive, as_rounding
from numbapool.dtypes import AVERAGED, FLOATS, INDICES, INEXACT, ORDERED, SUMMED, sum_dtype

Dtype: TypeAlias = "np.dtype[Any]"
Dtypes: TypeAlias = "dict[Dtype, None]"


class Option(NamedTuple):
    """What a caller may choose of an operation, beside the windows."""

    name: str
    default: Any
    check: Callable[[str, Any], Any]  # from what the caller calls it, and its value, to what targets take
    schema: str  # the type that torch declares
    is_of_gradient: bool = True  # whether the gradient depends on it; else the gradient has the default


@dataclass(frozen=True, eq=False)
class Step:
    """What a target computes by its function of this name.

    A step is linear in its first array, once maxima are chosen: so its derivatives are steps again, of any order. One that is
    not says what it is made of (`parts`).
    """

    name: str
    inputs: tuple[str, ...] = ("x",)  # arrays, as callers call them
    result: Literal["output", "input"] = "output"  # whose shape the result has
    accepts: Dtypes = field(default_factory=lambda: FLOATS)  # dtypes of the first array
    result_dtype: Callable[[Dtype], Dtype] = lambda dtype: dtype
    options: tuple[Option, ...] = ()
    makes_indices: bool = False  # as second result
    tangent: str = ""  # step from a change of the first array to that of the result
    adjoint: str = ""  # from the gradient of the result to that of the first array
    derived: str = ""  # instead of both: what takes its place where derivatives are asked for
    chosen_by: str = ""  # of the gradient of maxima: the step that finds them again
    parts: Callable[..., Any] | None = None  # itself in arithmetic of tensors and other steps, see `norm_in_parts`
    is_reversed: bool = False  # elements are read, and written, in reversed order: minima are maxima of those
    is_ordering: bool = False  # takes nothing of its elements but their order
    moves: bool = False  # elements unchanged, or zeros
    renumbers: bool = False  # indices, and nothing else
    needs_places: bool = False  # refuses -1 as an index, because nothing is unpooled to nowhere
    is_one_kernel: bool = True  # or several, one after the other

    @property
    def takes_indices(self) -> bool:
        """Whether a second array says where elements are."""
        return self.inputs[1:] == ("indices",)


COUNT_INCLUDE_PAD = Option("count_include_pad", True, as_flag, "bool")
DIVISOR = Option("divisor_override", None, as_divisor, "int?")
ROUNDING = Option("rounding", "truncate", as_rounding, "bool", is_of_gradient=False)
NORM_TYPE = Option("norm_type", 2, as_positive, "float")
TRUE_NORM = Option("true_norm", False, as_flag, "bool")


# Nonlinear steps in arithmetic of tensors, any library's that names it as torch does, and `pool(step, x, indices, *parameters)`;
# `taps` are the elements of a window. Half precision is computed in float32, as in kernels.


def norm_in_parts(pool: Callable[..., Any], taps: int, x: Any, power: float, is_norm: bool) -> Any:
    """Power means and norms."""
    if x.dtype.itemsize < 4:
        return norm_in_parts(pool, taps, x.float(), power, is_norm).to(x.dtype)
    if power == inf:
        return pool(MAX_POOL_WITH_INDICES, x.abs())[0].clamp(min=0)
    total = _sum_of_powers(pool, taps, x, power, is_norm)
    is_zero = total == 0
    # By `where`, which keeps the order of memory; `masked_fill` does not.
    return total.where(~is_zero, 1.0).pow(1 / power).where(~is_zero, 0.0)


def norm_gradient_in_parts(pool: Callable[..., Any], taps: int, grad: Any, x: Any, power: float, is_norm: bool) -> Any:
    """Their gradients."""
    if x.dtype.itemsize < 4:
        return norm_gradient_in_parts(pool, taps, grad.float(), x.float(), power, is_norm).to(x.dtype)
    if power == inf:
        _, indices = pool(MAX_POOL_WITH_INDICES, x.detach().abs())
        return pool(SCATTER_ADD, grad, indices) * x.sign()
    total = _sum_of_powers(pool, taps, x, power, is_norm)
    is_zero = total == 0
    share = total.where(~is_zero, 1.0).pow(1 / power - 1).where(~is_zero, 0.0) * grad
    slope = x.sign() * x.abs().pow(power - 1) if is_norm else x.pow(power - 1)
    scale, divisor = (1, 1) if is_norm else (taps, None)
    return pool(AVG_POOL_BACKWARD, share * scale, None, True, divisor, False) * slope


def _sum_of_powers(pool: Callable[..., Any], taps: int, x: Any, power: float, is_norm: bool) -> Any:
    powers = (x.abs() if is_norm else x).pow(power)
    scale, divisor = (1, 1) if is_norm else (taps, None)
    return pool(AVG_POOL, powers, None, True, divisor, False) * scale


OF_X, OF_GRADIENT = ("grad_output", "x"), ("grad_output",)
BY_INDEX = ("grad_output", "indices")
MEANS, NORMS = (COUNT_INCLUDE_PAD, DIVISOR, ROUNDING), (NORM_TYPE, TRUE_NORM)

MAX_POOL = Step("max_pool", accepts=ORDERED, derived="max_pool_with_indices", is_ordering=True)
MAX_POOL_WITH_INDICES = Step(
    "max_pool_with_indices", accepts=ORDERED, makes_indices=True, tangent="gather", adjoint="scatter_add"
)
MAX_POOL_BACKWARD = Step("max_pool_backward", OF_X, "input", chosen_by="max_pool_with_indices")
MIN_POOL = Step("min_pool", accepts=ORDERED, derived="min_pool_with_indices", is_ordering=True, is_reversed=True)
MIN_POOL_WITH_INDICES = Step(
    "min_pool_with_indices",
    accepts=ORDERED,
    makes_indices=True,
    tangent="gather",
    adjoint="scatter_add",
    is_reversed=True,
)
MIN_POOL_BACKWARD = Step("min_pool_backward", OF_X, "input", chosen_by="min_pool_with_indices", is_reversed=True)
GATHER = Step("gather", ("x", "indices"), tangent="gather", adjoint="scatter_add", moves=True)
SCATTER_ADD = Step("scatter_add", BY_INDEX, "input", tangent="scatter_add", adjoint="gather")
AVG_POOL = Step("avg_pool", accepts=AVERAGED, options=MEANS, tangent="avg_pool", adjoint="avg_pool_backward")
AVG_POOL_BACKWARD = Step(
    "avg_pool_backward", OF_GRADIENT, "input", INEXACT, options=MEANS, tangent="avg_pool_backward", adjoint="avg_pool"
)
SUM_POOL = Step("sum_pool", accepts=SUMMED, result_dtype=sum_dtype, tangent="sum_pool", adjoint="sum_pool_backward")
SUM_POOL_BACKWARD = Step(
    "sum_pool_backward", OF_GRADIENT, "input", INEXACT, tangent="sum_pool_backward", adjoint="sum_pool"
)
LP_POOL = Step("lp_pool", options=NORMS, parts=norm_in_parts, is_one_kernel=False)
LP_POOL_BACKWARD = Step("lp_pool_backward", OF_X, "input", options=NORMS, parts=norm_gradient_in_parts)
# Of several elements with one index, all take part in the derivatives of unpooling.
PLACE = Step(
    "place", ("x", "indices"), "input", ORDERED, tangent="place", adjoint="gather_all", moves=True, needs_places=True
)
GATHER_ALL = Step("gather_all", BY_INDEX, tangent="gather_all", adjoint="scatter_add", moves=True, needs_places=True)
TO_GLOBAL = Step("to_global", ("indices",), accepts=INDICES, renumbers=True)
FROM_GLOBAL = Step("from_global", ("indices",), accepts=INDICES, renumbers=True)

STEPS = {each.name: each for each in list(globals().values()) if isinstance(each, Step)}


@dataclass(frozen=True, eq=False)
class Operation:
    """A row: one operation of the public functions, layers and `pool`."""

    kind: str  # its name in `pool`
    name: str  # of its functions, `max_pool` of `max_pool1d` to `max_pool3d`
    forward: Step
    backward: Step  # that takes the gradient, and `x` where it depends on it
    gradient: str  # what becomes of the gradient of a window
    windows: tuple[str, ...] = ("sliding",)  # where they may lie, see `requests`
    with_indices: Step | None = None  # instead of `forward`, if where its elements came from is asked for
    negative: Callable[..., str] = lambda *parameters: ""  # what becomes of negative elements, if that needs to be said
    no_passes: Callable[..., str] = lambda *parameters: ""  # what keeps it from pooling some axes, and then the others

    @property
    def options(self) -> tuple[Option, ...]:
        """What a caller may choose beside the windows."""
        return self.forward.options


def _odd_power(power: float, is_norm: bool) -> str:
    if is_norm or power == inf or power % 2 == 0:
        return ""
    return f"p must be even without true_norm, got {power:g},"


def _negative_powers(power: float, is_norm: bool) -> str:
    """What torch's rule makes of negative elements whose powers are not those of their magnitudes."""
    if is_norm or power == inf or power % 2 == 0:
        return ""
    true_norm = f"true_norm=True takes magnitudes: (sum |x|^{power:g})^(1/{power:g})"
    if power == 1:
        return f"counts as it is, by torch's rule; {true_norm}"
    makes = "makes its window NaN" if power % 1 else "makes a window NaN whose sum of powers is negative"
    return f"{makes}, by torch's rule; {true_norm}"


TO_TAKEN = "of a window goes to the one element that was taken"
MAX = Operation(
    "max",
    "max_pool",
    MAX_POOL,
    MAX_POOL_BACKWARD,
    TO_TAKEN,
    windows=("sliding", "adaptive", "fractional", "whole"),
    with_indices=MAX_POOL_WITH_INDICES,
)
MIN = Operation("min", "min_pool", MIN_POOL, MIN_POOL_BACKWARD, TO_TAKEN, with_indices=MIN_POOL_WITH_INDICES)
MEAN = Operation(
    "mean",
    "avg_pool",
    AVG_POOL,
    AVG_POOL_BACKWARD,
    "of a window goes to its elements in equal parts",
    windows=("sliding", "adaptive", "whole"),
)
SUM = Operation("sum", "sum_pool", SUM_POOL, SUM_POOL_BACKWARD, "of a window goes to each of its elements")
NORM = Operation(
    "lp",
    "lp_pool",
    LP_POOL,
    LP_POOL_BACKWARD,
    "of a window goes to its elements, to each by its share of the norm",
    windows=("sliding", "whole"),
    negative=_negative_powers,
    no_passes=_odd_power,
)
UNPOOL = Operation(
    "unpool", "max_unpool", PLACE, GATHER_ALL, "of the place that an element went to", windows=("unpooled",)
)

OPERATIONS = {each.kind: each for each in list(globals().values()) if isinstance(each, Operation)}
