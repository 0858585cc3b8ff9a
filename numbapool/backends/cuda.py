"""What all array libraries on CUDA devices share: from arrays to operands, scratch, launches, and the flag of bad indices.

A library is a `Library`: it views, allocates and copies its arrays, and names its current stream. A step is a `Runner`.
`CudaBackend` is a backend made of the two; torch has one of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise
from math import gcd, prod
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from numbapool.arguments import check_same_shape, type_name
from numbapool.backends.eager import EagerBackend
from numbapool.backends.memory import View, are_near, check_outs
from numbapool.backends.numpy import bad_index_message, standard_dtype
from numbapool.dtypes import dtype_name
from numbapool.elements import BFLOAT16
from numbapool.geometry import Plan
from numbapool.operations import SCATTER_ADD, Step

if TYPE_CHECKING:
    from numbapool.backends.launcher import Loaded
    from numbapool.dispatch import Spec
    from numbapool.kernels.cuda.launch import Program

# A thread loads as many bytes at once, at most; no operand has to be better aligned.
WIDE = 16
# Pieces of scratch start at multiples of so many bytes, which a warp loads at once.
LINE = 128
# Layouts of inputs that a runner remembers to be ready for; few callers have more than one.
MOST_READY = 16
# Results lie in memory as the library's rule for these inputs says.
BY_RULE = -1


class New(NamedTuple):
    """What is asked of a library: an array, contiguous in memory."""

    shape: tuple[int, ...]  # there
    dtype: Any  # the library's own
    order: tuple[int, ...] | None = None  # of the axes that callers see, if another


class Library(Protocol):
    """What is needed of an array library on CUDA devices, which are known by their number."""

    has_graph_pools: bool  # whether memory that is allocated in a capture stays the graph's

    def __hash__(self) -> int:
        """Libraries are keys of caches."""

    def view(self, array: Any) -> View:
        """Where an array is."""

    def key(self, array: Any) -> Hashable:
        """All of a view but the address, and that modulo `WIDE`: in whatever terms are cheap, for every call asks."""

    def address(self, array: Any) -> int:
        """The address of a view."""

    def own_dtype(self, dtype: np.dtype[Any], like: Any) -> Any:
        """What the library calls a dtype; `like` has it if it is one that NumPy has not."""

    def last_axis(self, plan: Plan, inputs: Sequence[Any]) -> int | None:
        """The axis of results that lies last in memory, if they are not in C order."""

    def on(self, device: int) -> AbstractContextManager[Any]:
        """While this device is the library's current one."""

    def stream(self, device: int, arrays: Sequence[Any]) -> int:
        """Handle of the stream that work on these arrays goes to: the caller's current one."""

    def is_capturing(self, device: int) -> bool:
        """Whether what is launched now is only recorded, as part of a graph."""

    def allocated(self, news: Iterable[New], device: int, like: Any) -> list[Any]:
        """New arrays, from the library's own allocator, at multiples of `WIDE`; for the stream of `like`, where arrays have one."""

    def to_device(self, array: np.ndarray, device: int, like: Any, is_kept: bool) -> Any:
        """A copy of an array of the host: on the current stream, or, to be kept, there when this returns, whichever stream asks."""

    def to_host(self, array: Any) -> np.ndarray:
        """The values of an array; waits for the device."""

    def contiguous(self, array: Any) -> Any:
        """A copy in C order."""

    def permuted(self, array: Any, axes: Sequence[int]) -> Any:
        """A view with its axes in another order."""

    def copy(self, target: Any, source: Any) -> None:
        """Copy elements, on the stream that `stream` names."""


class Layout(NamedTuple):
    """What programs depend on, of an array."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    alignment: int


@dataclass(frozen=True)
class Arranged:
    """A program for arrays of certain layouts, and what is to be done before and after it."""

    program: Program
    are_copied: tuple[bool, ...]  # inputs that no kernel can read as they lie
    staged: tuple[
        tuple[int, ...] | None, ...
    ]  # shapes of arrays that kernels write in place of results, which get copies
    order: tuple[int, ...]  # of the axes of results, so that they are as those of such arrays
    places: tuple[int | None, ...]  # where extras of the program start in the scratch of a call; None for tables
    scratch: int  # its bytes
    flag: int | None  # where the flag is in it, of 4 bytes
    tables: dict[int, list[Any]] = field(default_factory=dict)  # constants, by device

    @property
    def is_direct(self) -> bool:
        """Whether kernels read all inputs and write all results where they are."""
        return not any(self.are_copied) and all(each is None for each in self.staged)


class Ready(NamedTuple):
    """What a call needs that has been made before: on a device, for inputs of some layouts and results in new arrays."""

    arrangement: Arranged
    loaded: Loaded
    news: tuple[New, ...]  # results, and scratch if it takes some


# Tables and scratch whose addresses are part of somebody's graph: as many as graphs can be captured.
_captured: list[Any] = []


class Runner:
    """A step on the CUDA target with results of some shapes and dtypes, for the arrays of a library."""

    def __init__(
        self,
        library: Library,
        step: Step,
        plan: Plan,
        specs: Sequence[Spec],
        parameters: tuple[Any, ...],
        checks: bool = False,
    ) -> None:
        self.library, self.step, self.plan, self.specs, self.checks = library, step, plan, specs, checks
        if step is SCATTER_ADD:
            parameters = (checks,)
        elif step.renumbers:
            first, steps = parameters
            parameters = tuple(first.table().tolist()), steps
        self.parameters = parameters
        self.arranged = self._arrange if plan.serves_once else lru_cache(maxsize=64)(self._arrange)
        self.ready: dict[Any, Ready] = {}

    def new(self, inputs: Sequence[Any], last: int | None = BY_RULE) -> list[Any]:
        """Results in new arrays, with the axis `last` last in memory, or in C order.

        What layouts and devices alone decide is looked up: 6 us for a tensor, the launch a stub of 0.4; the first time 25.
        """
        library = self.library
        key = (last, *[library.key(each) for each in inputs])
        ready = self.ready.get(key)
        if ready is None:
            return self._first(key, inputs, last)
        arrangement, loaded, news = ready
        results = library.allocated(news, loaded.device, inputs[0])
        scratch = results.pop() if arrangement.scratch else None
        if scratch is not None:
            self._keep(loaded.device, [scratch])
        stream = library.stream(loaded.device, inputs)
        self._launch(arrangement, loaded, inputs, results, scratch, stream)
        return results

    def into(self, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        """Results in given arrays, which may lie in any way and share memory with inputs."""
        if 0 not in results[0].shape:
            self._run(inputs, results, are_new=False)

    def _first(self, key: Any, inputs: Sequence[Any], last: int | None) -> list[Any]:
        library, like = self.library, inputs[0]
        devices = [library.view(each).device for each in inputs]
        check_devices(zip(self.step.inputs, devices))
        if last == BY_RULE:
            last = library.last_axis(self.plan, inputs)
        news = [_with_last(shape, library.own_dtype(dtype, like), last) for shape, dtype in self.specs]
        results = library.allocated(news, devices[0], like)
        if 0 in results[0].shape:
            return results
        arrangement, loaded = self._run(inputs, results, are_new=True)
        if arrangement.is_direct:
            if len(self.ready) == MOST_READY:
                self.ready.clear()
            self.ready[key] = Ready(arrangement, loaded, (*news, *self._scratch(arrangement, like)))
        return results

    def _scratch(self, arrangement: Arranged, like: Any) -> list[New]:
        size = arrangement.scratch
        return [New((size,), self.library.own_dtype(np.dtype(np.uint8), like))] if size else []

    def _run(self, inputs: Sequence[Any], results: Sequence[Any], are_new: bool) -> tuple[Arranged, Loaded]:
        """Compute results from inputs, all on one device; results that are new share no memory with anything."""
        library, count = self.library, len(inputs)
        views = [library.view(each) for each in (*inputs, *results)]
        shared = (False,) * len(results) if are_new else _shared(views, count)
        layouts = tuple([Layout(v.shape, v.strides, v.dtype, gcd(v.address, WIDE)) for v in views])
        arrangement = self.arranged(layouts, count, shared)
        device, like = views[0].device, inputs[0]
        loaded = launcher().load(arrangement.program, device)
        with library.on(device):
            sources, targets = list(inputs), list(results)
            for i, is_copied in enumerate(arrangement.are_copied):
                if is_copied:
                    sources[i] = library.contiguous(inputs[i])
            for i, shape in enumerate(arrangement.staged):
                if shape is not None:
                    (targets[i],) = library.allocated([New(shape, results[i].dtype)], device, like)
            scratch = next(iter(library.allocated(self._scratch(arrangement, like), device, like)), None)
            own = [
                *(each for each, given in zip((*sources, *targets), (*inputs, *results)) if each is not given),
                scratch,
            ]
            self._keep(device, [each for each in own if each is not None])
            stream = library.stream(device, (*inputs, *results))
            self._launch(arrangement, loaded, sources, targets, scratch, stream)
            for i, shape in enumerate(arrangement.staged):
                if shape is not None:
                    library.copy(library.permuted(results[i], arrangement.order), targets[i])
        return arrangement, loaded

    def _launch(
        self,
        arrangement: Arranged,
        loaded: Loaded,
        sources: Sequence[Any],
        targets: Sequence[Any],
        scratch: Any,
        stream: int,
    ) -> None:
        """Run a program, and look at its flag if that is asked for."""
        library, flag = self.library, arrangement.flag if self.checks else None
        if flag is not None and library.is_capturing(loaded.device):
            raise RuntimeError(
                "to check indices is to wait for the device, which cannot be captured: pass check_indices=False"
            )
        addresses = [library.address(each) for each in (*sources, *targets)]
        if arrangement.places:
            start = 0 if scratch is None else library.address(scratch)
            tables = iter(self._tables(arrangement, loaded.device, sources[0]))
            addresses += [library.address(next(tables)) if at is None else start + at for at in arrangement.places]
        launcher().run(loaded, addresses, stream)
        if flag is not None:
            self._check(scratch[flag : flag + 4], sources[-1])

    def _keep(self, device: int, arrays: list[Any]) -> None:
        """Keep what a graph that is captured now will use again and again, if its library might give it to somebody else."""
        if arrays and not self.library.has_graph_pools and self.library.is_capturing(device):
            _captured.append(arrays)

    def _tables(self, arrangement: Arranged, device: int, like: Any) -> list[Any]:
        """Constants on a device, where they are copied once."""
        if None not in arrangement.places:
            return []
        library = self.library
        is_capturing = library.is_capturing(device)
        if device not in arrangement.tables:
            is_kept = not self.plan.serves_once
            if is_capturing:
                raise RuntimeError(
                    "the first call of its kind copies constants to the device: make it before the capture"
                    if is_kept
                    else "windows that are drawn are copied to the device at every call, which cannot be captured"
                )
            constants = [each for each in arrangement.program.extras if isinstance(each, np.ndarray)]
            with library.on(device):
                arrangement.tables[device] = [library.to_device(each, device, like, is_kept) for each in constants]
        if is_capturing:
            _captured.append(arrangement.tables[device])
        return arrangement.tables[device]

    def _check(self, flag: Any, indices: Any) -> None:
        library = self.library
        if library.to_host(flag).view(np.int32)[0]:
            raise ValueError(bad_index_message(self.plan, library.to_host(indices), self.step))

    def _arrange(self, layouts: tuple[Layout, ...], count: int, shared: tuple[bool, ...]) -> Arranged:
        plan = self.plan
        axis = len(plan.leading) - 1
        # The channels are taken as they lie, side by side, unless that is where they lie in no other array.
        are_last = any(_has_channels_last(each, axis) for each in layouts)
        is_moved = are_last and not (self.step.moves or self.step.renumbers) and not plan.serves_once
        order = tuple(range(len(layouts[count].shape)))
        if is_moved:
            order = (*order[:axis], *order[axis + 1 :], axis)
        arranged = plan.channels_last if is_moved else plan
        axes = len(plan.leading) + len(plan.pooled)
        sources, are_copied = [], []
        for layout in layouts[:count]:
            strides = _as_planned(layout, axes)
            are_copied.append(strides is None)
            if strides is None:
                layout = Layout(layout.shape, _contiguous(layout.shape, layout.dtype.itemsize), layout.dtype, WIDE)
                strides = _as_planned(layout, axes)
            assert strides is not None
            if is_moved:
                strides = (*strides[:axis], *strides[axis + 1 :], strides[axis])
            sources.append((strides, layout))
        staged: list[tuple[int, ...] | None] = []
        results = []
        for layout, is_shared in zip(layouts[count:], shared):
            shape = tuple([layout.shape[each] for each in order])
            strides = tuple([layout.strides[each] for each in order])
            is_plain = not is_shared and _is_contiguous(shape, strides, layout.dtype.itemsize)
            staged.append(None if is_plain else shape)
            results.append((layout.dtype, layout.alignment if is_plain else WIDE))
        program = _program(self.step, arranged, tuple(sources), tuple(results), self.parameters)
        places: list[int | None] = []
        scratch = 0
        for extra in program.extras:
            if isinstance(extra, np.ndarray):
                places.append(None)
            else:
                places.append(scratch)
                scratch += -(-extra // LINE) * LINE
        flag = None if program.flag < 0 else places[program.flag - len(layouts)]
        return Arranged(program, tuple(are_copied), tuple(staged), order, tuple(places), scratch, flag)


def runner(
    library: Library, step: Step, plan: Plan, specs: tuple[Spec, ...], parameters: tuple[Any, ...], checks: bool
) -> Runner:
    """What runs a step; remembered, with what it has found out, unless it serves once."""
    if plan.serves_once:
        return Runner(library, step, plan, specs, parameters, checks)
    return _remembered(library, step, plan, specs, checks, *parameters)


@lru_cache(maxsize=1024)
def _remembered(
    library: Library, step: Step, plan: Plan, specs: tuple[Spec, ...], checks: bool, *parameters: Any
) -> Runner:
    return Runner(library, step, plan, specs, parameters, checks)


def check_devices(devices: Iterable[tuple[str, Any]]) -> None:
    """Raise if the devices of some arguments, named, are not one."""
    (first, device), *others = devices
    for name, other in others:
        if other != device:
            raise ValueError(f"{name} must be on the device of {first}, {device}, got {other}")


class CudaBackend(EagerBackend):
    """Arrays of a library on CUDA devices, with results in its own; `Library`'s methods are the subclass's."""

    checks = True
    has_graph_pools = False
    kind = "a CUDA array"  # for messages

    # What subclasses say, beside what a library must.

    def is_own(self, array: Any) -> bool:
        """Whether an array is the library's."""
        raise NotImplementedError

    def is_writeable(self, array: Any) -> bool:
        """Whether an array may be written to."""
        return True

    view: Callable[..., View]
    address: Callable[..., int]
    empty: Callable[..., Any]
    on: Callable[..., Any]
    stream: Callable[..., int]
    is_capturing: Callable[..., bool]
    to_device: Callable[..., Any]
    to_host: Callable[..., np.ndarray]
    contiguous: Callable[..., Any]
    permuted: Callable[..., Any]
    copy: Callable[..., None]
    reshape: Callable[..., Any]
    cast: Callable[..., Any]

    def key(self, array: Any) -> Hashable:
        """What programs and devices depend on, of an array."""
        view = self.view(array)
        return *view[1:], view.address % WIDE

    def own_dtype(self, dtype: np.dtype[Any], like: Any) -> Any:
        """NumPy's, and one for bfloat16 that an array brings along."""
        return like.dtype if dtype == BFLOAT16 else dtype

    def last_axis(self, plan: Plan, inputs: Sequence[Any]) -> int | None:
        """That of the channels, if they are last in memory in an input."""
        axis = len(plan.leading) - 1
        views = [self.view(each) for each in inputs]
        are_last = any(_has_channels_last(Layout(v.shape, v.strides, v.dtype, WIDE), axis) for v in views)
        return axis if are_last else None

    def allocated(self, news: Iterable[New], device: int, like: Any) -> list[Any]:
        """New arrays, by the library's `empty`."""
        results = []
        with self.on(device):
            for shape, dtype, order in news:
                new = self.empty(shape, dtype, like)
                results.append(new if order is None else self.permuted(new, order))
        return results

    @property
    def unchecked(self) -> CudaBackend:
        """The same, but for indices out of range, which are skipped: to look for them is to wait for the device."""
        return _unchecked(self)

    def describe(self, name: str, array: Any) -> Spec:
        """Shape, and dtype, of the argument called `name`."""
        if not self.is_own(array):
            if name == "_random_samples" and isinstance(array, np.ndarray):
                return array.shape, standard_dtype(array.dtype)
            raise TypeError(f"{name} must be {self.kind} like the other arguments, got {type_name(array)}")
        return tuple(array.shape), standard_dtype(array.dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values of a small array; if it is on a device, waits for it."""
        return array if isinstance(array, np.ndarray) else self.to_host(array)

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In bytes."""
        return self.view(array).strides

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """A view with its axes in another order."""
        return self.permuted(array, axes)

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Raise if arrays cannot take results, or only over each other."""
        for each in outs:
            self._check_own_out(each)
        check_outs([self.view(each) for each in outs])

    def write(self, out: Any, result: Any) -> None:
        """Copy a result to where the caller wants it."""
        shape, dtype = self.describe("result", result)
        self._check_out(out, shape, dtype)
        check_devices([("result", self.view(result).device), ("out", self.view(out).device)])
        with self.on(self.view(out).device):
            self.copy(out, result)

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step of one array as a function `(x, out) -> results`."""
        run = Runner(self, step, plan, specs, parameters)

        def call(x: Any, out: Sequence[Any] | None) -> Any:
            results = run.new((x,)) if out is None else self._run_into(run, (x,), out)
            return results[0] if len(results) == 1 else tuple(results)

        return call

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a step of the arrays it takes; the result in a new array, or in `out`."""
        run = runner(self, step, plan, (spec,), parameters, self.checks)
        return run.new(inputs)[0] if out is None else self._run_into(run, inputs, (out,))[0]

    def _run_into(self, run: Runner, inputs: Sequence[Any], out: Sequence[Any]) -> Sequence[Any]:
        for each, (shape, dtype) in zip(out, run.specs, strict=True):
            self._check_out(each, shape, dtype)
        check_outs([self.view(each) for each in out])
        names = (*run.step.inputs, *["out" for _ in out])
        check_devices((name, self.view(each).device) for name, each in zip(names, (*inputs, *out)))
        run.into(inputs, out)
        return out

    def _check_own_out(self, out: Any) -> None:
        if not self.is_own(out):
            raise TypeError(f"out must be {self.kind} like x, got {type_name(out)}")

    def _check_out(self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._check_own_out(out)
        check_same_shape("out", tuple(out.shape), shape, "the shape of the result,")
        if standard_dtype(out.dtype) != dtype:
            raise TypeError(f"out must have the dtype of the result, {dtype_name(dtype)}, got {out.dtype}")
        if not self.is_writeable(out):
            raise ValueError("out must be writeable, got a read-only array")


@cache
def _unchecked(backend: CudaBackend) -> CudaBackend:
    other: CudaBackend = object.__new__(type(backend))
    other.__dict__.update(backend.__dict__)
    other.checks = False
    return other


@cache
def launcher() -> ModuleType:
    """What takes a driver; imported at the first call that launches something."""
    return importlib.import_module("numbapool.backends.launcher")


def _program(
    step: Step,
    plan: Plan,
    sources: tuple[tuple[tuple[int, ...], Layout], ...],
    results: tuple[tuple[np.dtype[Any], int], ...],
    parameters: tuple[Any, ...],
) -> Program:
    target = importlib.import_module("numbapool.kernels.cuda")
    operand = importlib.import_module("numbapool.kernels.cuda.launch").Operand
    operands = []
    for strides, (_, _, dtype, alignment) in sources:
        operands.append(operand(dtype, tuple([step // dtype.itemsize for step in strides]), alignment))
    make = getattr(target, step.name, None)
    if make is None:
        raise NotImplementedError(f"{step.name} has no kernel for arrays on a GPU: move them to the CPU")
    if plan.serves_once:
        make = make.__wrapped__
    program: Program = make(plan, tuple(operands), tuple([operand(d, None, a) for d, a in results]), *parameters)
    return program


def _shared(views: Sequence[View], count: int) -> tuple[bool, ...]:
    """Whether results may share memory with another argument."""
    return tuple(
        any(i != j and are_near(view, other) for j, other in enumerate(views))
        for i, view in enumerate(views[count:], count)
    )


def _with_last(shape: tuple[int, ...], dtype: Any, last: int | None) -> New:
    """A new array with an axis last in memory."""
    if last is None:
        return New(shape, dtype)
    end = len(shape) - 1
    order = (*range(last), end, *range(last, end))
    return New((*shape[:last], *shape[last + 1 :], shape[last]), dtype, order)


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in C order."""
    return tuple(itemsize * prod(shape[i + 1 :]) for i in range(len(shape)))


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    expected = itemsize
    for length, step in zip(reversed(shape), reversed(strides)):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True


def _has_channels_last(layout: Layout, axis: int) -> bool:
    """Whether channels lie side by side, and are not all there is: then it is the strides that say so."""
    shape, strides, dtype, _ = layout
    itemsize = dtype.itemsize
    is_one_pixel = shape[-1] == 1 and strides[-1] > strides[axis]
    if shape[axis] == 1 or (_is_contiguous(shape, strides, itemsize) and not is_one_pixel):
        return False
    moved = [(*each[:axis], *each[axis + 1 :], each[axis]) for each in (shape, strides)]
    return _is_contiguous(moved[0], moved[1], itemsize)


def _as_planned(layout: Layout, axes: int) -> tuple[int, ...] | None:
    """Strides along as many axes, the last ones joined; None if no kernel can read that."""
    shape, strides, dtype, alignment = layout
    part = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
    if alignment % part or any(step % part for step in strides):
        raise ValueError(f"arrays on a GPU must have elements at multiples of their size, {part} bytes")
    if any(step % dtype.itemsize for step in strides) or alignment < min(WIDE, dtype.itemsize):
        return None
    if len(shape) == axes:
        return strides
    joined, steps = shape[axes - 1 :], strides[axes - 1 :]
    long = [(length, step) for length, step in zip(joined, steps) if length != 1]
    for (_, step), (length, inner) in pairwise(long):
        if step != length * inner:
            return None
    return *strides[: axes - 1], long[-1][1] if long else dtype.itemsize
