"""What is asked for, whatever the array: a `Pooling`, which public functions make and everything below them reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from numbapool.arguments import (
    DataFormat,
    Extent,
    IndexKind,
    Padding,
    Sizes,
    as_generator,
    check_rank,
    check_whole,
    unpooled_sizes,
)
from numbapool.geometry import (
    Plan,
    adaptive_plan,
    check_size,
    fractional_lengths,
    fractional_plan,
    placed_plan,
    unpool_lengths,
    unpool_plan,
    unpooled_windows,
    whole_plan,
    window_plan,
)
from numbapool.operations import Operation

Shape: TypeAlias = "tuple[int, ...]"


class Sliding(NamedTuple):
    """Windows of one size, a stride apart."""

    rank: int
    kernel_size: Extent
    stride: Extent | None
    padding: Padding
    dilation: Extent
    ceil_mode: bool

    def plan(self, shape: Shape) -> tuple[Plan, Shape]:
        """The plan for an array of `shape`, and the shape of the output."""
        plan = window_plan(shape, *self)
        return plan, plan.out_shape

    def check_axes(self, shape: Shape, data_format: DataFormat) -> None:
        """Refuse a shape of the wrong number of axes."""
        check_rank(shape, self.rank, data_format, is_sliding=True)


class Adaptive(NamedTuple):
    """As many windows as are asked for, of sizes that follow."""

    rank: int
    output_size: Sizes

    def plan(self, shape: Shape) -> tuple[Plan, Shape]:
        """See `Sliding.plan`."""
        plan = adaptive_plan(shape, *self)
        return plan, plan.out_shape

    def check_axes(self, shape: Shape, data_format: DataFormat) -> None:
        """See `Sliding.check_axes`."""
        check_rank(shape, self.rank, data_format)


class Fractional(NamedTuple):
    """Windows whose places are drawn for each plane: by samples of the caller, or by a generator."""

    rank: int
    kernel_size: Extent
    output_size: Extent | None
    output_ratio: Any
    samples: Any
    generator: np.random.Generator | None = None

    def lengths(self, shape: Shape) -> tuple[Shape, Shape]:
        """Lengths of windows and of the output along each pooled axis; what else can be wrong is looked at, too."""
        lengths = fractional_lengths(shape, *self[:4])
        if self.generator is not None:
            as_generator(self.generator)
            if self.samples is not None:
                raise ValueError("generator must not be given beside _random_samples, which leave nothing to draw")
        return lengths

    def check_axes(self, shape: Shape, data_format: DataFormat) -> None:
        """See `Sliding.check_axes`."""
        check_rank(shape, self.rank, data_format)


class Drawn(NamedTuple):
    """The same when they are drawn; without samples, for gradients by indices, which say all but the shapes."""

    rank: int
    kernel: Shape
    sizes: Shape
    samples: np.ndarray | None

    def plan(self, shape: Shape) -> tuple[Plan, Shape]:
        """See `Sliding.plan`."""
        if self.samples is None:
            plan = placed_plan((*shape[: -self.rank], *self.sizes), shape[-self.rank :])
        else:
            plan = fractional_plan(shape, self.kernel, self.sizes, self.samples)
        return plan, plan.out_shape


class Whole(NamedTuple):
    """All axes of a channel as one window."""

    @property
    def rank(self) -> None:
        """As many axes as the array has beside batch and channels."""
        return None

    def plan(self, shape: Shape) -> tuple[Plan, Shape]:
        """See `Sliding.plan`."""
        return whole_plan(shape)

    def check_axes(self, shape: Shape, data_format: DataFormat) -> None:
        """See `Sliding.check_axes`."""
        check_whole(shape, data_format)


class Unpooled(NamedTuple):
    """The windows of the pooling that is undone: the shape of an array is that of its output."""

    rank: int
    kernel_size: Extent
    stride: Extent | None
    padding: Extent
    output_size: Extent | None

    def plan(self, shape: Shape) -> tuple[Plan, Shape]:
        """See `Sliding.plan`; the plan is that of the pooling that is undone, whose input is the output here."""
        plan = unpool_plan(shape, *self)
        return plan, plan.shape

    def undone(self, plan: Plan) -> Plan:
        """A plan that knows where the windows were that it undoes, for indices that count their taps."""
        return unpooled_windows(plan, self.kernel_size, self.stride, self.padding)

    def check_axes(self, shape: Shape, data_format: DataFormat) -> None:
        """See `Sliding.check_axes`."""
        check_rank(shape, self.rank, data_format)

    def channels_first(self) -> Unpooled:
        """With the channels before the pooled axes in the size of the output."""
        return self._replace(output_size=unpooled_sizes(self.rank, self.output_size))

    def unpooled(self, shape: Shape, axes: Shape) -> Shape:
        """The shape of the result, of which `axes` are unpooled."""
        pooled = tuple(shape[axis] for axis in axes)
        lengths = dict(zip(axes, unpool_lengths((1, *pooled), *self), strict=True))
        unpooled = tuple(lengths.get(axis, length) for axis, length in enumerate(shape))
        check_size(unpooled, shape, **dict(zip(self._fields[1:], self[1:], strict=True)))
        return unpooled


# What rows of the table call them, and what functions have before the name of the operation.
WORDS: dict[type, tuple[str, str]] = {
    Sliding: ("sliding", ""),
    Adaptive: ("adaptive", "adaptive_"),
    Fractional: ("fractional", "fractional_"),
    Whole: ("whole", "global_"),
    Unpooled: ("unpooled", ""),
}

Windows: TypeAlias = Sliding | Adaptive | Fractional | Drawn | Whole | Unpooled


class Pooling(NamedTuple):
    """A request: the operation, where its windows lie, and what the caller chose of its options."""

    operation: Operation
    windows: Any  # one of `Windows`
    options: tuple[Any, ...] = ()  # of the operation, in its order, as the caller wrote them
    return_indices: bool = False
    index_kind: IndexKind = "plane"  # of the indices that it makes, or is given
    check_indices: bool = True  # or skip what is out of range, where to look for it takes time
    data_format: DataFormat = "channels_first"
    axes: tuple[int, ...] | None = None  # that are pooled; the last ones if None

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The options, checked, as targets take them."""
        chosen = zip(self.operation.options, self.options, strict=True)
        return tuple([option.check(option.name, value) for option, value in chosen])

    @property
    def gradient_parameters(self) -> tuple[Any, ...]:
        """The same for the gradient, which does not depend on all of them."""
        if not self.options:
            return ()
        return tuple(
            [
                value if option.is_of_gradient else option.check(option.name, option.default)
                for option, value in zip(self.operation.options, self.parameters, strict=True)
            ]
        )

    def rank(self, ndim: int) -> int:
        """How many axes of an array are pooled."""
        return ndim - 2 if self.windows.rank is None else int(self.windows.rank)

    @property
    def name(self) -> str:
        """The public function that asks for this."""
        suffix = "" if self.windows.rank is None else f"{self.windows.rank}d"
        return f"{WORDS[type(self.windows)][1]}{self.operation.name}{suffix}"


class Onward(NamedTuple):
    """What wrappers pass requests on to: see `functional.engine`."""

    pooled: Callable[..., Any]
    pooled_backward: Callable[..., Any]
