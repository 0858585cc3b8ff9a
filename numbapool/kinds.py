"""What `pool` takes of a window: reducers, which hold the options of their kind.

A reducer is an immutable value: equal options, equal reducers. Its name alone stands for the one with the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from numbapool import operations
from numbapool.arguments import Rounding, as_divisor, as_flag, as_positive, as_rounding, described, shown
from numbapool.operations import Operation


@dataclass(frozen=True)
class Kind:
    """What reducers have in common; not one itself."""

    operation: ClassVar[Operation]

    @property
    def options(self) -> tuple[Any, ...]:
        """The options of the operation, in its order."""
        return ()


@dataclass(frozen=True)
class Max(Kind):
    """The maximum of a window; NaN if it holds one. See `numbapool.max_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.pool(np.array([1, 3, 2, 4]), Max(), 2)
    array([3, 4])
    """

    operation = operations.MAX


@dataclass(frozen=True)
class Min(Kind):
    """The minimum of a window; NaN if it holds one. See `numbapool.min_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.pool(np.array([1, 3, 2, 4]), Min(), 2)
    array([1, 2])
    """

    operation = operations.MIN


@dataclass(frozen=True)
class Mean(Kind):
    """The mean of a window. See `numbapool.avg_pool2d`.

    Parameters
    ----------
    count_padding : bool, optional
        Whether padding counts in the divisor; if not given it does, as in torch.
    divisor : int, optional
        Divisor of every window, instead of the number of its elements; not 0.
    rounding : 'nearest' or 'truncate'
        How quotients of integers are rounded: to the nearest integer, halves to the even one, or towards zero.

    Raises
    ------
    ValueError
        A divisor of 0, or another word.
    TypeError
        An option of the wrong type.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.pool(np.array([1, 2, 5, 6]), Mean(), 2)
    array([2, 6])
    >>> numbapool.pool(np.array([1, 2, 5, 6]), Mean(rounding="truncate"), 2)
    array([1, 5])
    """

    count_padding: bool | None = None
    divisor: int | None = None
    rounding: Rounding = "nearest"

    operation = operations.MEAN

    def __post_init__(self) -> None:
        """Refuse what is no option."""
        if self.count_padding is not None:
            as_flag("count_padding", self.count_padding)
        as_divisor("divisor", self.divisor)
        as_rounding("rounding", self.rounding)

    @property
    def options(self) -> tuple[Any, ...]:
        """See `Kind.options`."""
        return self.count_padding is None or self.count_padding, self.divisor, self.rounding


@dataclass(frozen=True)
class Sum(Kind):
    """The sum of a window, in the dtype of `numpy.sum`. See `numbapool.sum_pool2d`.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.pool(np.array([1, 3, 2, 4]), Sum(), 2)
    array([4, 6])
    """

    operation = operations.SUM


@dataclass(frozen=True)
class Norm(Kind):
    """The norm of a window, or torch's power mean of it. See `numbapool.lp_pool2d`.

    Parameters
    ----------
    p : float
        The power, greater than 0; infinity is one.
    true_norm : bool
        Take magnitudes, `(sum |x|**p)**(1 / p)`; else torch's rule, by which negative elements need an even power.

    Raises
    ------
    ValueError
        A power that is not greater than 0.
    TypeError
        An option of the wrong type.

    Examples
    --------
    >>> import numpy as np, numbapool
    >>> numbapool.pool(np.array([3.0, 4.0, 5.0, 12.0]), Norm(), 2)
    array([ 5., 13.])
    """

    p: float = 2
    true_norm: bool = False

    operation = operations.NORM

    def __post_init__(self) -> None:
        """Refuse what is no option."""
        as_positive("p", self.p)
        as_flag("true_norm", self.true_norm)

    @property
    def options(self) -> tuple[Any, ...]:
        """See `Kind.options`."""
        return self.p, self.true_norm


# The names that stand for reducers with their defaults.
NAMES: dict[str, Kind] = {"max": Max(), "min": Min(), "mean": Mean(), "avg": Mean(), "sum": Sum(), "lp": Norm()}


def as_kind(value: Any) -> Kind:
    """A reducer, or the name of one."""
    if isinstance(value, Kind) and type(value) is not Kind:
        return value
    if isinstance(value, type) and issubclass(value, Kind):
        raise TypeError(f"kind must be a name or a reducer, got the class {value.__name__}: write {value.__name__}()")
    if not isinstance(value, str):
        raise TypeError(f"kind must be a name or a reducer of numbapool.kinds, got {described(value)}")
    if value not in NAMES:
        near = get_close_matches(value.lower(), NAMES, n=1, cutoff=0.4)
        advice = f"; the nearest is {near[0]!r}" if near else ""
        raise ValueError(
            f"kind must be one of {tuple(NAMES)}, or a reducer of numbapool.kinds, got {shown(value)}{advice}"
        )
    return NAMES[value]
