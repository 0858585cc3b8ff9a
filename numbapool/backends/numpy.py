"""NumPy arrays, on the CPU target."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import empty, may_share_memory, ndarray  # by name: a small call takes 0.1 us less

from numbapool.arguments import check_same_shape, type_name
from numbapool.backends.eager import EagerBackend
from numbapool.backends.memory import View, check_outs
from numbapool.dtypes import counts_taps, dtype_name
from numbapool.elements import BFLOAT16, element_dtype, moved_dtype, put_values, truth, values
from numbapool.geometry import BinPlan, Plan
from numbapool.windows import Axis

if TYPE_CHECKING:
    from numbapool.dispatch import Spec
    from numbapool.kernels.cpu.threads import Source
    from numbapool.operations import Step


# Arrays with fewer elements than this are never worth a parallel launch.
SMALL_SIZE = 4096


class NumpyBackend(EagerBackend):
    """Any strides are read where they stand; only unaligned and byte-swapped arrays are copied first.

    Arrays of subclasses are taken as plain ones, because a subclass may have rules of its own: a numpy.matrix is always 2-d.
    """

    @property
    def unchecked(self) -> NumpyBackend:
        """The backend itself: kernels check every index as they go."""
        return self

    def describe(self, name: str, array: Any) -> Spec:
        """Shape, and dtype in native byte order, of the argument called `name`."""
        if type(array) is not ndarray:
            _check_type(name, array)
        dtype = array.dtype
        return array.shape, dtype if dtype.isnative and dtype.kind != "V" else standard_dtype(dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        """The array itself."""
        return np.asarray(array)

    def strides(self, name: str, array: Any) -> tuple[int, ...]:
        """In bytes."""
        return plain(array).strides

    def permute(self, name: str, array: Any, axes: tuple[int, ...]) -> Any:
        """A view with its axes in another order."""
        return plain(array).transpose(axes)

    def reshape(self, name: str, array: Any, shape: tuple[int, ...]) -> Any:
        """A view of another shape, or a copy."""
        return plain(array).reshape(shape)

    def cast(self, array: Any, like: Any) -> Any:
        """A copy in the dtype of another, or in float32."""
        array = plain(array)
        if like is None:
            return values(array) if array.dtype.names else array.astype(np.float32)
        result = np.empty(array.shape, like.dtype.newbyteorder("="))
        if result.dtype.names:  # what stands for bfloat16 has no conversions of NumPy's
            put_values(result, array)
        else:
            np.copyto(result, array, casting="unsafe")
        return result

    def check_outs(self, outs: Sequence[Any]) -> None:
        """Raise if arrays cannot take results, or only over each other."""
        _check_memory([_plain_out(each) for each in outs])

    def write(self, out: Any, result: Any) -> None:
        """Copy a result to where the caller wants it."""
        shape, dtype = self.describe("result", result)
        np.copyto(_check_out(out, shape, dtype), result)

    def bind(self, step: Step, plan: Plan, specs: Sequence[Spec], *parameters: Any) -> Callable[..., Any]:
        """A step of one array, on the CPU target, as a function `(x, out) -> results`."""
        _, dtype = specs[0]
        in_window = step.makes_indices and counts_taps(specs[1][1])
        if in_window:
            parameters = (True,)
        element = element_dtype(dtype, step.is_reversed, step.is_ordering)
        largest = plan.planes * max(plan.plane_size, plan.out_plane_size)
        is_small = 0 < largest < SMALL_SIZE and dtype.kind not in "cV" and step.is_one_kernel and plan.shape[-1] > 1
        is_small = is_small and not (in_window and isinstance(plan, BinPlan))
        entry_point: Any = None
        units = 0
        fixed: tuple[np.ndarray, ...] = ()
        pool_part: Any = None
        if dtype.kind == "c":
            pool_part = self.bind(step, plan, [(shape, element) for shape, _ in specs], *parameters)

        @cache
        def prepared(is_contiguous: bool, is_moved: bool) -> Any:
            return getattr(_target(), step.name)(_arranged(plan, is_moved, dtype), element, is_contiguous, *parameters)

        def call(x: np.ndarray, out: Sequence[Any] | None) -> Any:
            nonlocal entry_point, units, fixed
            is_ready = is_small and type(x) is ndarray and x.dtype is dtype and x.flags.carray
            if is_ready and (out is None or _are_direct(out, specs, x)):
                # What follows with everything decided beforehand: 2.5 us for a small call where it takes 4.5.
                results = tuple([empty(shape, each) for shape, each in specs] if out is None else out)
                flat, source = [each.ravel() for each in results], x.ravel()
                if element is not dtype:
                    flat[0], source = flat[0].view(element), source.view(element)
                if entry_point is None:
                    ready = prepared(True, False)
                    units, fixed = ready.units, (ready.program, *ready.constants)
                    entry_point = ready.entry_point(*flat, source)
                entry_point(0, units, *flat, source, *fixed)
                return results if len(results) > 1 else results[0]
            x = plain(x)
            kept, axis = _channels(step, plan, x)
            given, arrays = _results((x,), specs, out, kept, axis)
            if pool_part is not None and not _are_channels(plan, axis, x):
                _put_parts(given[0], [pool_part(part, None) for part in (x.real, x.imag)])
            elif plan.planes * plan.out_plane_size > 0:
                source, layout = _source(x, plan, axis)
                source = source.view(element_dtype(source.dtype, step.is_reversed, step.is_ordering))
                values, *others = map(_flat, arrays)
                prepared(layout is None, axis is not None).run((source, layout), [values.view(element), *others])
                _hand_back(given, arrays, axis)
            results = tuple(given if out is None else out)
            return results if len(results) > 1 else results[0]

        return call

    def run_backward(
        self, step: Step, plan: Plan, inputs: Sequence[Any], spec: Spec, out: Any, *parameters: Any
    ) -> Any:
        """Run a step of the arrays it takes on the CPU target; the result in a new array, or in `out`."""
        arrays = [plain(each) for each in inputs]
        if step.renumbers:
            arrays = [arrays[0].astype(np.int64, copy=False)]  # a library may have cut them
            first, steps = parameters
            parameters = first.table(), steps
        if step.moves and arrays[0].dtype.kind == "b":
            arrays[0] = truth(arrays[0].view(np.uint8))
        kept, axis = _channels(step, plan, *arrays)
        (given,), (result,) = _results(arrays, [spec], None if out is None else [out], kept, axis)
        if spec[1].kind == "c" and not _are_channels(plan, axis, arrays[0]):
            part_spec, parts = (spec[0], element_dtype(spec[1])), (arrays[0].real, arrays[0].imag)
            results = [self.run_backward(step, plan, [part], part_spec, None, *parameters) for part in parts]
            _put_parts(given, results)
        elif result.size > 0:
            (moved, layout), *others = [_source(each, plan, axis) for each in arrays]
            element = moved_dtype(spec[1]) if step.moves else element_dtype(spec[1])
            sources = [(flat.view(element_dtype(flat.dtype, step.is_reversed)), at) for flat, at in others]
            run, arranged = getattr(_target(), step.name), _arranged(plan, axis is not None, spec[1])
            target = _flat(result).view(element)
            if run(arranged, (moved.view(element), layout), *sources, target, *parameters) is False:
                raise ValueError(bad_index_message(plan, arrays[-1], step))
            _hand_back([given], [result], axis)
        return given if out is None else out


backend = NumpyBackend()


@cache
def _target() -> ModuleType:
    """The CPU target; imported at the first call that needs a kernel, because Numba comes with it."""
    return importlib.import_module("numbapool.kernels.cpu")


def _results(
    inputs: Sequence[Any], specs: Sequence[Spec], out: Sequence[Any] | None, kept: int | None, axis: int | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Arrays to hand back, and arrays for kernels to write: the same memory where it can be.

    New ones have the axis `kept` last in memory, and those for kernels `axis` as their last axis; see `_channels`.
    """
    if out is None:
        dtypes = [inputs[0].dtype.newbyteorder("=") if dtype == BFLOAT16 else dtype for _, dtype in specs]
        if kept is None:
            new = [np.empty(shape, dtype) for (shape, _), dtype in zip(specs, dtypes, strict=True)]
            return new, new
        shapes = [shape[:kept] + shape[kept + 1 :] + shape[kept : kept + 1] for shape, _ in specs]
        new = [np.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        given = [np.moveaxis(each, -1, kept) for each in new]
        return given, [np.empty(each.shape, each.dtype) for each in given] if axis is None else new
    given = [_check_out(each, shape, dtype) for each, (shape, dtype) in zip(out, specs, strict=True)]
    _check_memory(given)
    views = [_moved(each, axis) for each in given]
    return given, [each if _is_plain(each, inputs) else np.empty(each.shape, each.dtype) for each in views]


def _are_direct(out: Sequence[Any], specs: Sequence[Spec], x: np.ndarray) -> bool:
    """Whether a kernel can write to the arrays of the caller, and nothing is to be said of them."""
    are_owners = x.flags.owndata
    for each, (shape, dtype) in zip(out, specs):
        if type(each) is not ndarray or each.dtype is not dtype or each.shape != shape or each is x:
            return False
        flags = each.flags
        if not flags.carray:
            return False
        are_owners = are_owners and flags.owndata
    if (
        are_owners
    ):  # then no other array has their memory: to know that takes a third of what it takes to look at addresses
        return len(out) == 1 or out[0] is not out[1]
    return not any(may_share_memory(each, x) for each in out) and (
        len(out) == 1 or not may_share_memory(out[0], out[1])
    )


def _check_memory(outs: Sequence[np.ndarray]) -> None:
    """`memory.check_outs`, which contiguous arrays need not be asked."""
    if not all(each.flags.forc for each in outs) or (len(outs) > 1 and may_share_memory(outs[0], outs[1])):
        check_outs([View(each.ctypes.data, each.shape, each.strides, each.dtype) for each in outs])


def _hand_back(given: Sequence[np.ndarray], arrays: Sequence[np.ndarray], axis: int | None) -> None:
    for target, array in zip(given, arrays, strict=True):
        if target is not array and not may_share_memory(target, array):
            np.copyto(_moved(target, axis), array)


def _arranged(plan: Plan, is_moved: bool, dtype: np.dtype[Any]) -> Plan:
    """The plan for arrays as kernels get them: perhaps with the channels last, and the parts of complex elements as channels."""
    arranged = plan.channels_last if is_moved else plan
    return arranged.in_parts if dtype.kind == "c" else arranged


def _are_channels(plan: Plan, axis: int | None, array: np.ndarray) -> bool:
    """Whether the parts of complex elements are taken as channels that lie side by side; else each is an array of its own.

    Two channels alone are too few for that, but where windows move by one element. Mean of 3x3 windows, complex64,
    8x64x112x112: at stride 1 it takes 32 ms, and 118 ms as two arrays; at stride 2 it takes 370 ms, and 46 ms.
    """
    if axis is not None:
        return True
    last = plan.pooled[-1]
    return array.flags.c_contiguous and isinstance(last, Axis) and last.stride == 1


def _put_parts(out: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """Real and imaginary parts put together in `out`, which may share memory with what they were computed from."""
    out.real, out.imag = parts


def _channels(step: Step, plan: Plan, *arrays: np.ndarray) -> tuple[int | None, int | None]:
    """The axis of channels if they lie side by side in any array, and the same if kernels take them as they lie."""
    axis = len(plan.leading) - 1
    if not any(_is_channels_last(each, axis) for each in arrays):
        return None, None
    return axis, None if step.moves or step.renumbers or plan.serves_once else axis


def _is_channels_last(array: np.ndarray, axis: int) -> bool:
    # Images of one pixel are contiguous in both orders: their steps decide, as in torch.
    if array.flags.c_contiguous and not (array.shape[-1] == 1 and array.strides[-1] > array.strides[axis]):
        return False
    flags = _moved(array, axis).flags
    return flags.c_contiguous and flags.aligned and array.dtype.isnative


def _moved(array: np.ndarray, axis: int | None) -> np.ndarray:
    """A view of an array with the axis of channels last, if it is given."""
    if axis is None:
        return array
    return array.transpose(*range(axis), *range(axis + 1, array.ndim), axis)


def _source(array: np.ndarray, plan: Plan, axis: int | None) -> Source:
    """An input as the kernels read it: flat in memory order, with its layout if it is not C-contiguous."""
    if axis is not None:
        array = np.ascontiguousarray(_moved(array, axis)).reshape(-1)
    elif array.ndim != len(plan.leading) + len(plan.pooled):
        array = array.reshape(*plan.leading, -1)  # all axes of a channel as one
    if array.dtype.kind == "V":
        array = array.astype(array.dtype.newbyteorder("="), copy=False).view(BFLOAT16)
    flags = array.flags
    if not (flags.carray and array.dtype.isnative):  # else nothing below applies, as for most arrays
        if not (flags.aligned and array.dtype.isnative) or any(step % array.itemsize for step in array.strides):
            array = array.astype(array.dtype.newbyteorder("="), order="C")
        elif flags.c_contiguous:
            array = _writeable(array)
        else:
            return _strided_source(array, len(plan.pooled))
    return _flat(array), None


def _strided_source(array: np.ndarray, rank: int) -> Source:
    """All memory between an array's first and last element as one axis, and the steps of the array within it."""
    steps = [step // array.itemsize for step in array.strides]
    corner = array[tuple(slice(None, None, -1) if step < 0 else slice(None) for step in steps)]
    size = 1 + sum((length - 1) * abs(step) for length, step in zip(array.shape, steps, strict=True))
    offset = sum((length - 1) * -step for length, step in zip(array.shape, steps, strict=True) if step < 0)
    flat = np.lib.stride_tricks.as_strided(corner, (size,), (array.itemsize,), writeable=False)
    leading, pooled = steps[:-rank], steps[-rank:]
    outer = leading[-2] if len(leading) > 1 else 0
    layout = [offset, outer, leading[-1], array.shape[-rank - 1], *[0] * (3 - rank), *pooled, pooled[-1] == 1]
    return _flat(_writeable(flat)), np.array(layout, dtype=np.int64)


def _flat(array: np.ndarray) -> np.ndarray:
    """A contiguous array as one axis."""
    return array.ravel()  # a view, in half the time of reshape(-1)


def plain(array: np.ndarray) -> np.ndarray:
    """The memory of an array of a subclass as one of NumPy's own."""
    return array if type(array) is ndarray else np.asarray(array)


def standard_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype in native byte order; what stands for bfloat16 in place of another library's."""
    if dtype.name == "bfloat16":
        return BFLOAT16
    return dtype if dtype.names is not None else dtype.newbyteorder("=")


class _Writeable:
    """The memory of a read-only array under a flag that says otherwise, and a reference that keeps it alive."""

    def __init__(self, array: np.ndarray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.array = array


def _writeable(array: np.ndarray) -> np.ndarray:
    """A view that is not marked read-only: the flag is part of Numba's types, and every kernel would be compiled twice.

    Kernels never write to an input.
    """
    return np.asarray(_Writeable(array))


def _check_type(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array like the other arguments, got {type_name(array)}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored: fill it first (numpy.ma.filled)")


def _plain_out(out: Any) -> np.ndarray:
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a NumPy array like x, got {type_name(out)}")
    return plain(out)


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """The memory of `out`, if results can go there."""
    given = _plain_out(out)
    check_same_shape("out", given.shape, shape, "the shape of the result,")
    if (BFLOAT16 if given.dtype.name == "bfloat16" and given.dtype.isnative else given.dtype) != dtype:
        raise TypeError(f"out must have the dtype of the result, {dtype_name(dtype)}, got {given.dtype}")
    if not given.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    return given


def _is_plain(out: np.ndarray, inputs: Sequence[np.ndarray]) -> bool:
    """Whether kernels can write to `out` itself: contiguous, aligned, native, and sharing no memory with an input."""
    return out.flags.carray and out.dtype.isnative and not any(may_share_memory(out, each) for each in inputs)


def bad_index_message(plan: Plan, indices: Any, step: Step) -> str:
    """What to say of indices of which one, at least, is out of range."""
    if step.renumbers:
        return (
            "Found an invalid max index: indices must be positions in the whole array, in the planes of their outputs"
        )
    least = 0 if step.needs_places else -1
    if counts_taps(indices.dtype):
        none = np.iinfo(indices.dtype).max
        bad = indices[(indices >= plan.taps) & ((indices != none) | (least == 0))]
        which = f"{int(bad.flat[0])} in indices is not" if bad.size else "one in indices is outside the input, so not"
        return f"Found an invalid max index: {which} one of the {plan.taps} elements of its window"
    bad = indices[(indices < least) | (indices >= plan.plane_size)]
    found = f"Found an invalid max index: {int(bad.flat[0])} in indices is outside the"
    if step.needs_places:
        return f"{found} unpooled plane of {plan.plane_size} elements; if a larger one was pooled, its size is the output_size"
    return f"{found} input plane of {plan.plane_size} elements"
