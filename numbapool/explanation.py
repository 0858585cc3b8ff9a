"""What a pooling call will do, before it runs: `explain`.

The public function itself is called, on an array that has a shape and a dtype but no values. So every rule, every check and
every plan is the function's own; what is here counts and words them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbapool import functional
from numbapool.advice import Change, WrittenCall, arrays_of, changes_that_help, forward_of, parameters_of, written
from numbapool.arguments import LARGEST_INT64, as_int, entries, shown
from numbapool.backends.numpy import standard_dtype
from numbapool.backends.outline import Outline, Record, Work
from numbapool.dispatch import Spec, backend_of
from numbapool.dtypes import dtype_name
from numbapool.elements import BFLOAT16
from numbapool.geometry import BinPlan, Plan, WindowPlan, bin_sizes
from numbapool.requests import Adaptive, Fractional, Pooling, Unpooled, Whole, Windows
from numbapool.windows import Axis, Bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of an array of NumPy.
MOST_AXES = 64

LETTERS = {1: "L", 2: "HW", 3: "DHW"}


@dataclass(frozen=True)
class AxisWindows:
    """The windows along one pooled axis, in elements of what is pooled (of unpooling: of its result).

    Attributes
    ----------
    name : str
        "L", "H", "W", "D", or "axis 2" where axes have no letters.
    length, out : int
        Elements, and windows.
    formula : str
        How `out` comes about (of unpooling: `length`), with the numbers filled in.
    padding : (int, int)
        Elements before and after.
    window : callable
        Number of a window -> range of the positions of its taps; positions outside 0 to `length` are padding, or beyond it.
    regular : numbapool.windows.Axis or None
        Kernel, stride and dilation, unless windows lie where bins or samples say.
    kernel : int or None
        Taps of every window; those of bins differ.

    Notes
    -----
    Nothing is counted one by one, so axes may be as long as they like. Figures of windows that are drawn are those of exact
    arithmetic.
    """

    name: str
    length: int
    out: int
    formula: str
    padding: tuple[int, int]
    window: Callable[[int], range] = field(repr=False, compare=False)
    regular: Axis | None
    kernel: int | None

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Taps of the smallest and of the largest window."""
        return bin_sizes(self._bins) if self.kernel is None else (self.kernel, self.kernel)

    @cached_property
    def shared(self) -> tuple[int, int]:
        """Fewest and most taps that a window has in common with the next one; (0, 0) for a single window."""
        if self.out < 2:
            return 0, 0
        if self.regular is not None:
            axis = self.regular
            both = 0 if axis.stride % axis.dilation else max(0, axis.kernel - axis.stride // axis.dilation)
            return both, both
        if self.kernel is None:  # the bins before and after i * length / out share the element that it is within
            return int(gcd(self.length, self.out) == 1), int(self.length % self.out > 0)
        shortest, rest = divmod(
            self.length - self.kernel, self.out - 1
        )  # steps, which all together lead to the last window
        return max(0, self.kernel - shortest - (rest > 0)), max(0, self.kernel - shortest)

    @cached_property
    def whole(self) -> int:
        """Windows of which every tap is inside the input."""
        if self.regular is None:
            return self.out
        return max(0, _below(self._starts, self.length - self._span) - _below(self._starts, 0))

    @cached_property
    def with_input(self) -> int:
        """Windows of which a tap is inside the input."""
        if self.regular is None:
            return self.out
        starts = self._starts
        before = starts[_below(starts, -self._span) : _below(starts, 0)]
        if self.regular.dilation <= self.length:
            from_before = len(before)
        else:
            # These may step over the input. One at s has a tap inside if s mod dilation is below length, which is the
            # difference of floor(s / dilation) and floor((s - length) / dilation).
            floors = _sum_of_floors(before, self.regular.dilation)
            from_before = floors - _sum_of_floors(_moved(before, -self.length), self.regular.dilation)
        return from_before + _below(starts, self.length) - _below(starts, 0)

    @cached_property
    def visits(self) -> int:
        """Taps inside the input, of all windows together."""
        if self.regular is not None:
            return self._taps_below(self.length) - self._taps_below(0)
        if self.kernel is not None:
            return self.out * self.kernel
        return self.length + self.out - gcd(self.length, self.out) if self.out else 0  # each element, and those shared

    def _taps_below(self, end: int) -> int:
        """Taps before a position, of all windows together."""
        assert self.regular is not None
        starts, whole = self._starts, _below(self._starts, end - self._span)
        # Of a window at s that is not whole it is ceil((end - s) / dilation).
        parts = _moved(starts[whole : _below(starts, end)], -end)
        return whole * self.regular.kernel - _sum_of_floors(parts, self.regular.dilation)

    @property
    def _bins(self) -> Bins:
        return Bins(self.length, self.out)

    @property
    def _starts(self) -> range:
        assert self.regular is not None
        first = self.window(0).start
        return range(first, first + self.out * self.regular.stride, self.regular.stride)

    @property
    def _span(self) -> int:
        """From the first tap of a window to its last."""
        assert self.regular is not None
        return (self.regular.kernel - 1) * self.regular.dilation


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found; `print` it, or `plot` it.

    Attributes
    ----------
    call : str
        The call, with its arguments by name.
    shape, dtype
        Of `x`.
    error : Exception or None
        What the call will raise.
    changes : tuple of Change
        Changes of arguments with which it will not; each was tried.
    results : dict
        Name -> (shape, dtype) of each array that the call returns. Empty if it raises, and so is all that follows.
    axes : tuple of AxisWindows
        The windows along each pooled axis.
    planes : int
        Planes that are pooled independently, by the same number of windows.
    bytes_read, bytes_written : int
        What kernels read and write, every element of their arrays once: the least that can be moved.
    bandwidth : float or None
        Bytes a second.
    pooling : numbapool.requests.Pooling or None
        What the call asks for.
    """

    call: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    error: Exception | None = None
    changes: tuple[Change, ...] = ()
    results: dict[str, Spec] = field(default_factory=dict)
    axes: tuple[AxisWindows, ...] = ()
    planes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bandwidth: float | None = None
    pooling: Pooling | None = field(default=None, compare=False)

    @property
    def is_backward(self) -> bool:
        """Whether it is a gradient that is computed."""
        return "grad_input" in self.results

    @property
    def is_unpooling(self) -> bool:
        """Whether windows are undone."""
        return self.pooling is not None and isinstance(self.pooling.windows, Unpooled)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return next(iter(self.results.values()))[0]

    @property
    def windows(self) -> int:
        """Windows of a plane."""
        return prod(axis.out for axis in self.axes)

    @property
    def windows_touching_padding(self) -> int:
        """Windows of a plane that have a tap outside the input: in the padding, or beyond it in `ceil_mode`."""
        return self.windows - prod(axis.whole for axis in self.axes)

    @property
    def windows_without_input(self) -> int:
        """Windows of a plane that have no tap inside the input."""
        return self.windows - prod(axis.with_input for axis in self.axes)

    @property
    def windows_per_element(self) -> float:
        """In how many windows an element is on average."""
        return prod(axis.visits for axis in self.axes) / prod(axis.length for axis in self.axes)

    @property
    def floor_seconds(self) -> float | None:
        """The least time in which these bytes move at this bandwidth."""
        return None if self.bandwidth is None else (self.bytes_read + self.bytes_written) / self.bandwidth

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw input, padding, windows and outputs of a plane, of up to three axes.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            An empty figure to draw into, such as one of pyplot. It is given the size that the picture needs.

        Returns
        -------
        figure : matplotlib.figure.Figure
            Save it with `savefig`. Of long axes only the beginning is drawn.

        Raises
        ------
        ValueError
            The call would raise, or it pools more than three axes.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> import numbapool
        >>> figure = numbapool.explain("max_pool2d", (1, 1, 16, 16), 4, stride=2, padding=1).plot()
        >>> figure.savefig("windows.png")  # doctest: +SKIP
        """
        from numbapool.diagrams import draw

        return draw(self, figure)

    def __str__(self) -> str:
        """The text."""
        lines = [self.call, *_in_columns(self._rows())]
        if self.error is not None:
            lines += ["", f"It will raise {type(self.error).__name__}: {self.error}"]
            if self.changes:
                lines += ["", "What to change, one line of these (each was tried):"]
                lines += [
                    f"  {line}" for line in _in_columns([(f"{each}", f"-> {each.result}") for each in self.changes])
                ]
        return "\n".join(lines)

    __repr__ = __str__

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("x", f"{self.shape} {dtype_name(self.dtype)}")]
        if self.error is not None:
            return rows
        rows += [(name, f"{shape} {dtype_name(dtype)}") for name, (shape, dtype) in self.results.items()]
        rows += [("", "")]
        rows += [(axis.name, axis.formula) for axis in self.axes]
        rows += [("", "")]
        rows += [("windows", "; ".join(self._about_windows())), ("overlap", "; ".join(self._about_overlap()))]
        assert self.pooling is not None
        operation = self.pooling.operation
        if negative := operation.negative(*self.pooling.parameters):
            rows += [("x < 0", negative)]
        if self.is_backward:
            rows += [("gradient", operation.gradient)]
        rows += [("memory", f"{in_bytes(self.bytes_read)} read, {in_bytes(self.bytes_written)} written")]
        if self.floor_seconds is not None and self.bandwidth is not None:
            rows += [("time", f"at least {in_seconds(self.floor_seconds)} at {self.bandwidth / 1e9:g} GB/s")]
        return rows

    def _about_windows(self) -> list[str]:
        planes = "the plane" if self.planes == 1 else f"each of {self.planes} planes"
        smallest, largest = (prod(axis.sizes[i] for axis in self.axes) for i in (0, 1))
        sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        texts = [f"{self.windows} in {planes}, of {sizes} element{'s' * (largest != 1)}"]
        if touching := self.windows_touching_padding:
            texts.append(f"{touching} touch{'es' * (touching == 1)} padding")
        if self.windows_without_input:
            texts.append(f"{self.windows_without_input} without any input")
        return texts

    def _about_overlap(self) -> list[str]:
        along: dict[str, list[str]] = {}  # what is to be said -> names of the axes of which it is true
        for axis in self.axes:
            fewest, most = axis.shared
            if most:
                shared = f"{most}" if fewest == most else f"{fewest} to {most}"
                along.setdefault(f"neighbours along {{}} share {shared} of {axis.sizes[1]}", []).append(axis.name)
            if axis.out > 1 and (gap := axis.window(1).start - axis.window(0).stop) > 0:
                along.setdefault(f"{gap} between neighbours along {{}} left out", []).append(axis.name)
            if axis.out and not self.is_unpooling and (rest := axis.length - axis.window(axis.out - 1).stop) > 0:
                along.setdefault(f"the last {rest} along {{}} left out", []).append(axis.name)
        texts = [
            text.format(" and ".join([", ".join(names[:-1]), names[-1]][len(names) < 2 :]))
            for text, names in along.items()
        ]
        mean = f"{self.windows_per_element:.3g}"
        return [*texts, f"an element is in {mean} window{'s' * (mean != '1')} on average"]


def explain(
    op: str | Callable[..., Any],
    shape: Any,
    *args: Any,
    dtype: Any = None,
    bandwidth: float | None = None,
    **kwargs: Any,
) -> Explanation:
    """What a pooling call will do, without running it.

    Parameters
    ----------
    op : str or function
        A pooling function of numbapool or its name: "max_pool2d", "avg_pool1d_backward", "global_avg_pool",
        "max_unpool2d", "pool" or any other.
    shape : ints, or array
        Shape of `x`; or `x` itself, which is looked at and not read.
    *args, **kwargs
        The other arguments of the function, but for `out`, `grad_output`, and the indices of unpooling, whose shapes follow.
        Indices that a backward may be given: their shape, or an array.
    dtype : dtype or str, keyword-only
        Of `x`; float32 if not given, and 'bfloat16' is one. Not beside an array.
    bandwidth : float, keyword-only
        Bytes a second that memory moves: the time that a call takes at least is what it moves over this.

    Returns
    -------
    explanation : Explanation
        Its text says, for each pooled axis, how the length of the output comes about; how many windows there are and how many
        touch padding; how they overlap; bytes read and written, each element counted once, and the time they take at least. If
        the call will raise, it says what, and what to change. `plot` draws it. All figures are attributes.

    Raises
    ------
    ValueError
        `op` is no pooling function, or a length or the bandwidth is negative. What is wrong with the arguments of the pooling
        does not raise, but is what is explained.
    TypeError
        An argument of `explain` itself of the wrong type.

    Notes
    -----
    The function runs on an array without values, so shapes and errors are its own. A window touches padding if one of its
    taps is outside the input. Memory is what kernels read and write; copies of arrays whose strides no kernel reads are not
    counted.

    Examples
    --------
    >>> import numbapool
    >>> print(numbapool.explain("max_pool2d", (1, 1, 16, 16), 4, stride=2, padding=1, bandwidth=20e9))
    max_pool2d(x, kernel_size=4, stride=2, padding=1)
    x        (1, 1, 16, 16) float32
    out      (1, 1, 8, 8) float32
    <BLANKLINE>
    H        floor((16 + 1 + 1 - 1*(4 - 1) - 1) / 2) + 1 = 8
    W        floor((16 + 1 + 1 - 1*(4 - 1) - 1) / 2) + 1 = 8
    <BLANKLINE>
    windows  64 in the plane, of 16 elements; 28 touch padding
    overlap  neighbours along H and W share 2 of 4; an element is in 3.52 windows on average
    memory   1.02 kB read, 256 B written
    time     at least 64 ns at 20 GB/s
    >>> wrong = numbapool.explain("avg_pool2d", (1, 1, 4, 4), 7)
    >>> str(wrong.error).split(":")[0]
    'Output size is too small'
    >>> for change in wrong.changes:
    ...     print(change, change.result)
    kernel_size=4 (1, 1, 1, 1)
    padding=2 (1, 1, 1, 1)
    """
    name = _name_of(op)
    spec = _spec_of("shape", shape, dtype)
    speed = _as_bandwidth(bandwidth)
    request = _request(name, spec, args, kwargs)
    try:
        run = _run(request)
        forward = run if forward_of(name) == name else _run_forward(request)
    except (ValueError, TypeError) as error:
        changes = changes_that_help(request, error, lambda each: _run(each).out_shape)
        return Explanation(_written(request), *spec, error=error, changes=changes)
    axes, planes = _axes(forward, spec[0])
    read, written = (
        sum(prod(shape) * dtype.itemsize for call in run.calls for shape, dtype in getattr(call, arrays))
        for arrays in ("read", "written")
    )
    return Explanation(
        _written(request),
        *spec,
        results=run.results,
        axes=axes,
        planes=planes,
        bytes_read=read,
        bytes_written=written,
        bandwidth=speed,
        pooling=run.pooling,
    )


@dataclass(frozen=True)
class Run:
    """What came of a call on arrays without values."""

    pooling: Pooling
    calls: list[Work]
    results: dict[str, Spec]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return next(iter(self.results.values()))[0]


def _run(request: WrittenCall) -> Run:
    """Call a public function on an array without values; raises what the function raises."""
    name, spec = request.name, request.spec
    function = getattr(functional, name)
    record = Record()
    x = Outline(*spec, record)
    taken = arrays_of(name)
    try:
        bound = inspect.signature(function).bind(*[x] * len(taken), *request.surplus, **request.arguments)
        fits = "unknown" not in bound.arguments
    except TypeError:
        fits = False
    if not fits:  # Python, or the function itself, says what is wrong with the names and the number of arguments
        by_place = request.arguments.values() if request.surplus else ()
        function(*[x] * len(taken), *by_place, *request.surplus, **({} if request.surplus else request.arguments))
    arrays = {"x": x}
    if "grad_output" in taken:
        arrays["grad_output"] = Outline(_run_forward(request).out_shape, spec[1], record)
    if "indices" in taken:
        arrays["indices"] = Outline(spec[0], _index_dtype(request), record)
    given = dict(request.arguments)
    if given.get("indices") is not None:
        shape, dtype = _spec_of("indices", given["indices"], None)
        if isinstance(given["indices"], (tuple, list)):
            dtype = _index_dtype(request)
        given["indices"] = Outline(shape, dtype, record)
    if given.get("_random_samples") is not None:
        samples = given["_random_samples"]
        try:
            given["_random_samples"] = backend_of("_random_samples", samples).to_numpy(samples)
        except Exception as error:  # of a library, about an array without values
            raise TypeError(f"_random_samples must be an array with values, got {written(samples)}") from error
    results = function(*[arrays[each] for each in taken], **given)
    names = ["grad_input"] if "grad_output" in taken else ["out", "indices"]
    outlines = results if isinstance(results, tuple) else (results,)
    assert record.pooling is not None
    return Run(
        record.pooling,
        record.calls,
        {key: (each.shape, each.dtype) for key, each in zip(names, outlines, strict=False)},
    )


def _run_forward(request: WrittenCall, **more: Any) -> Run:
    """The forward pass of a backward."""
    name = forward_of(request.name)
    known = parameters_of(name)
    arguments = {key: value for key, value in (request.arguments | more).items() if key in known}
    return _run(WrittenCall(name, request.spec, arguments))


def _index_dtype(request: WrittenCall) -> np.dtype[Any]:
    """The dtype of indices that nobody has made yet."""
    kind = request.arguments.get("index_kind")
    if not isinstance(kind, str) or kind != "window":
        return np.dtype(np.int64)
    if "indices" in arrays_of(request.name):
        forward = _run_forward(request.without("index_kind"))
        dtype: np.dtype[Any] = forward.pooling.windows.undone(forward.calls[0].plan).index_dtype
        return dtype
    return _run_forward(request, return_indices=True).results["indices"][1]


def _request(name: str, spec: Spec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WrittenCall:
    """The call with its arguments by name."""
    if "out" in kwargs:
        raise TypeError("out must not be given: nothing is computed")
    positional = [key for key, each in parameters_of(name).items() if each.kind is not each.KEYWORD_ONLY]
    by_name = dict(zip(positional, args, strict=False))
    twice = by_name.keys() & kwargs.keys()
    if twice:
        raise TypeError(f"{name} got two values for {', '.join(sorted(twice))}")
    return WrittenCall(name, spec, by_name | kwargs, args[len(positional) :])


def _name_of(op: Any) -> str:
    name = getattr(op, "__name__", op)
    if not isinstance(name, str):
        raise TypeError(f"op must be a pooling function or its name, got {shown(op)} of type {type(op).__name__}")
    if name not in functional.__all__ or (callable(op) and op is not getattr(functional, name)):
        like = ", ".join(map(repr, get_close_matches(name, functional.__all__, n=3, cutoff=0)))
        raise ValueError(
            f"op must be a pooling function of numbapool or its name, got {shown(op)}; the nearest are {like}"
        )
    return name


def _as_bandwidth(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, (bool, np.bool_, str, bytes)) else float(value)
    except Exception:  # whatever a library says of what is no number, or has no value
        number = math.nan
    if math.isnan(number):
        raise TypeError(f"bandwidth must be a number, got {shown(value)} of type {type(value).__name__}")
    if not number > 0:
        raise ValueError(f"bandwidth must be greater than 0, in bytes a second, got {shown(value)}")
    return number


def _spec_of(name: str, shape: Any, dtype: Any) -> Spec:
    """Shape and dtype of an array, or of one that is given by them."""
    if isinstance(shape, (str, int)):
        raise TypeError(f"{name} must be ints such as (1, 3, 224, 224), or an array, got {shown(shape)}")
    if not isinstance(shape, (tuple, list)):
        spec = backend_of(name, shape).describe(name, shape)
        if dtype is not None:
            raise TypeError(f"dtype must not be given beside an array, which has one, got {shown(dtype)}")
        return spec
    lengths = tuple(as_int(name, each) for each in shape)
    if any(length < 0 for length in lengths):
        raise ValueError(f"{name} must have lengths of at least 0, got {shown(shape)}")
    if len(lengths) > MOST_AXES:
        raise ValueError(f"{name} must have at most {MOST_AXES} axes, got {len(lengths)}")
    found = _as_dtype(dtype)
    if found.itemsize * prod(max(length, 1) for length in lengths) > LARGEST_INT64:
        raise ValueError(f"{name} must be of an array of at most 2**63 - 1 bytes, got {shown(shape)}")
    return lengths, found


def _as_dtype(value: Any) -> np.dtype[Any]:
    if isinstance(value, str) and value == "bfloat16":
        return BFLOAT16
    try:
        return standard_dtype(np.dtype(np.float32 if value is None else value))
    except Exception:
        raise TypeError(f"dtype must be NumPy's or the name of one, got {shown(value)}") from None


def _axes(forward: Run, shape: tuple[int, ...]) -> tuple[tuple[AxisWindows, ...], int]:
    """The windows along each pooled axis, and how many planes have them."""
    pooling, windows = forward.pooling, forward.pooling.windows
    plans = [call.plan for call in forward.calls if not call.step.renumbers]
    planes = plans[0].planes
    if isinstance(windows, Whole):
        lengths = shape[1:-1] if pooling.data_format == "channels_last" else shape[2:]
        plans = [WindowPlan((), tuple(Axis(length, 1, length, length, 1, 0, 0) for length in lengths))]
    elif isinstance(windows, Unpooled):
        plans = [windows.undone(plans[0])]
    rank = sum(len(plan.pooled) for plan in plans)
    names = [*LETTERS.get(rank, "")] or [f"axis {i + 2}" for i in range(rank)]
    chosen = pooling.axes
    if chosen is not None:
        names = [f"axis {axis}" for axis in chosen]
        planes = prod(shape[axis] for axis in range(len(shape)) if axis not in chosen)
    # More than three axes are pooled in passes, from the last to the first.
    along = [(plan, i) for plan in reversed(plans) for i in range(len(plan.pooled))]
    axes = []
    for number, (plan, i) in enumerate(along):
        pooled = plan.pooled[i]
        regular = pooled if isinstance(pooled, Axis) else None
        drawn = plan.kernel[i] if isinstance(plan, BinPlan) and plan.kernel else None
        axes.append(
            AxisWindows(
                names[number],
                pooled.length,
                pooled.out,
                _formula(windows, plan, i),
                (regular.before, regular.after) if regular is not None else (0, 0),
                partial(plan.window, i),
                regular,
                drawn if regular is None else regular.kernel,
            )
        )
    return tuple(axes), planes


def _formula(windows: Windows, plan: Plan, i: int) -> str:
    """How the length of the output comes about."""
    length, out = plan.pooled[i][:2]
    if isinstance(windows, Whole):
        return f"all {length} elements are one window = {out}"
    if isinstance(windows, Adaptive):
        bins = f", bin i from floor(i*{length} / {out}) to ceil((i + 1)*{length} / {out})" if out else ""
        return f"output_size = {out}{bins}"
    if isinstance(windows, Fractional):
        kernel = plan.kernel[i] if isinstance(plan, BinPlan) else 0
        if windows.output_ratio is not None:
            each = entries(windows.output_ratio, len(plan.pooled))[i]
            return f"floor({length} * {each}) = {out}, windows of {kernel} are drawn"
        return f"output_size = {out}, windows of {kernel} are drawn"
    _, _, kernel, stride, dilation, before, after = plan.pooled[i]
    if isinstance(windows, Unpooled):
        default = (out - 1) * stride + kernel - before - after
        usual = f"({out} - 1)*{stride} + {kernel} - 2*{before} = {default}"
        return usual if default == length else f"output_size = {length}, by default {usual}"
    room = f"({length} + {before} + {after} - {dilation}*({kernel} - 1) - 1) / {stride}"
    if not getattr(windows, "ceil_mode", False):
        return f"floor({room}) + 1 = {out}"
    if plan.window(i, out - 1)[-1] < length + after - 1:  # with one window more the end would be reached
        return f"ceil({room}) + 1 - 1 = {out}, less one window that would begin behind the input"
    return f"ceil({room}) + 1 = {out}"


def _written(request: WrittenCall) -> str:
    texts = *arrays_of(request.name), *[f"{key}={written(each)}" for key, each in request.arguments.items()]
    return f"{request.name}({', '.join(texts)})"


def _below(positions: range, end: int) -> int:
    """How many of ascending positions are below `end`."""
    return min(max(0, -((positions.start - end) // positions.step)), len(positions))


def _moved(positions: range, by: int) -> range:
    return range(positions.start + by, positions.stop + by, positions.step)


def _sum_of_floors(positions: range, divisor: int) -> int:
    """Sum of floor(position / divisor) over ascending positions, in as many rounds as Euclid's algorithm takes."""
    count, start, step, total = len(positions), positions.start, positions.step, 0
    while count > 0:
        total += count * (count - 1) // 2 * (step // divisor) + count * (start // divisor)
        step, start = step % divisor, start % divisor
        # What is left are the points below a line, which are counted again along the other axis.
        count, start = divmod(count * step + start, divisor)
        step, divisor = divisor, step
    return total


def _in_columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}".rstrip() for name, text in rows]


def in_bytes(number: float) -> str:
    """A number of bytes, for people: powers of 1000."""
    return _in_units(number, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def in_seconds(seconds: float) -> str:
    """A time, for people."""
    return _in_units(seconds * 1e9, ("ns", "us", "ms", "s"))


def _in_units(number: float, units: tuple[str, ...]) -> str:
    thousands = 0
    while number >= 999.5 and thousands < len(units) - 1:
        number, thousands = number / 1000, thousands + 1
    return f"{number:.3g} {units[thousands]}"
