"""Every bad argument raises an error that names it and its value, before any kernel runs."""

from __future__ import annotations

import gc
import importlib
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import dispatch, functional
from numbapool.backends import numpy as numpy_backend
from numbapool.kinds import NAMES

RANKS = (1, 2, 3)
FORWARD = [f"{kind}_pool{rank}d" for kind in ("max", "avg") for rank in RANKS]
BACKWARD = [f"{name}_backward" for name in FORWARD]
OPERATIONS = [*FORWARD, *BACKWARD]
MAX_FORWARD = [name for name in FORWARD if "max" in name]
MAX_BACKWARD = [name for name in BACKWARD if "max" in name]


def operations(names: list[str]) -> Any:
    """Each operation; all ranks share what reads arguments, so that two dimensions are enough for the default run."""
    return pytest.mark.parametrize(
        "operation", [name if "2d" in name else pytest.param(name, marks=pytest.mark.full) for name in names]
    )


every_operation = operations(OPERATIONS)
every_forward = operations(FORWARD)
every_backward = operations(BACKWARD)
every_max = operations([*MAX_FORWARD, *MAX_BACKWARD])
every_average = operations([name for name in OPERATIONS if "avg" in name])
every_max_forward = operations(MAX_FORWARD)
every_max_backward = operations(MAX_BACKWARD)

NOT_INTS = [True, False, np.True_, 2.0, np.float32(2), 2j, "two", b"2", object, {2}, {2: 2}, slice(2), np.array(True)]
TOO_LARGE = [2**63, 2**64 + 2, 2**70]
NOT_FLAGS = [0, 1, 1.0, None, "False", (), [True], np.int64(1)]


class NotAnArray:
    """Convertible to an array, which is not enough."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.zeros((2, 3, 6, 6), dtype)


NOT_ARRAYS = [
    [[1.0]],
    (1.0,),
    1.0,
    np.float32(1),
    None,
    "x",
    b"x",
    memoryview(b"x"),
    NotAnArray(),
    np.ndarray,
    object(),
]


def rank_of(operation: str) -> int:
    return next(rank for rank in RANKS if f"pool{rank}d" in operation)


def shape_of(operation: str, length: int) -> tuple[int, ...]:
    return (2, 3) + (length,) * rank_of(operation)


def call(operation: str, **changes: Any) -> Any:
    """A good call, windows of 2 on axes of 6, with some arguments changed."""
    arguments = {"x": np.zeros(shape_of(operation, 6), np.float32), "kernel_size": 2}
    if operation in BACKWARD:
        arguments["grad_output"] = np.zeros(shape_of(operation, 3), np.float32)
    return getattr(numbapool, operation)(**arguments | changes)


def refused(error: type[Exception], operation: str, *phrases: str, **changes: Any) -> None:
    with pytest.raises(error) as caught:
        call(operation, **changes)
    assert type(caught.value) is error
    for phrase in phrases:
        assert phrase in str(caught.value)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of the kernels is a failure; tests of values that only kernels see do without this."""

    def fail() -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(numpy_backend, "_target", fail)
    return


def extents(names: tuple[str, ...] = ("kernel_size", "stride", "padding", "dilation")) -> Any:
    return pytest.mark.parametrize("name", names)


@pytest.mark.usefixtures("no_kernels")
class TestExtents:
    @every_operation
    @extents()
    @pytest.mark.parametrize("value", NOT_INTS, ids=repr)
    def test_not_an_int(self, operation: str, name: str, value: Any) -> None:
        rank = rank_of(operation)
        error = ValueError if name == "padding" and isinstance(value, str) else TypeError
        refused(error, operation, name, repr(value), **{name: value})
        for bad in ((value,) * rank, [2] * (rank - 1) + [value]):
            refused(TypeError, operation, name, repr(value), **{name: bad})

    @every_operation
    @extents(("kernel_size", "padding", "dilation"))
    def test_none(self, operation: str, name: str) -> None:
        refused(TypeError, operation, name, "None", **{name: None})

    @every_operation
    @extents()
    def test_none_in_a_tuple(self, operation: str, name: str) -> None:
        refused(TypeError, operation, name, "None", **{name: (None,) * rank_of(operation)})

    @every_operation
    @extents()
    @pytest.mark.parametrize("value", [[], [2], [2, 2], [[2]], 2.5], ids=repr)
    def test_array(self, operation: str, name: str, value: Any) -> None:
        refused(TypeError, operation, name, repr(np.array(value)), **{name: np.array(value)})

    @every_operation
    @extents()
    def test_tuple_of_wrong_length(self, operation: str, name: str) -> None:
        legal = {1, rank_of(operation), *([0] if name == "stride" else [])}
        for length in {0, 1, 2, 3, 4, 6} - legal:
            refused(ValueError, operation, name, repr((1,) * length), **{name: (1,) * length})

    @every_operation
    @extents(("kernel_size", "stride", "dilation"))
    @pytest.mark.parametrize("value", [(), (2,), (2, 2), [[2]], None, "2", "same"], ids=repr)
    def test_nested(self, operation: str, name: str, value: Any) -> None:
        refused(TypeError, operation, name, repr(value), **{name: (value,) * rank_of(operation)})

    @every_operation
    @pytest.mark.parametrize("value", [(), (1,), (1, 1, 1), [1], ((1, 1),)], ids=repr)
    def test_nested_padding_of_wrong_length(self, operation: str, value: Any) -> None:
        refused(ValueError, operation, "padding", repr(value), padding=(value,) * rank_of(operation))

    @every_operation
    @pytest.mark.parametrize("value", [None, "1", True, 1.0, (1,), (1, 1), [[1]]], ids=repr)
    def test_nested_padding_of_wrong_type(self, operation: str, value: Any) -> None:
        rank = rank_of(operation)
        refused(TypeError, operation, "padding", repr(value), padding=((value, 1),) * rank)
        refused(TypeError, operation, "padding", repr(value), padding=((1, value),) * rank)

    @every_operation
    @extents()
    def test_nested_in_itself(self, operation: str, name: str) -> None:
        value: list[Any] = []
        value.extend([value] * rank_of(operation))
        refused(ValueError if name == "padding" and len(value) != 2 else TypeError, operation, name, **{name: value})

    @every_operation
    @extents(("kernel_size", "stride", "dilation"))
    @pytest.mark.parametrize("value", [0, -1, -7, -(2**31), -(2**63), -(2**70), np.int8(-1)], ids=repr)
    def test_below_one(self, operation: str, name: str, value: Any) -> None:
        rank = rank_of(operation)
        refused(ValueError, operation, name, str(int(value)), **{name: value})
        refused(ValueError, operation, name, str(int(value)), **{name: (1,) * (rank - 1) + (value,)})

    @every_operation
    @pytest.mark.parametrize("value", [-1, -(2**31), -(2**63), -(2**70)], ids=repr)
    def test_negative_padding(self, operation: str, value: int) -> None:
        rank = rank_of(operation)
        for bad in (value, (1,) * (rank - 1) + (value,), ((1, value),) * rank, ((value, 1),) * rank):
            refused(ValueError, operation, "pad must be non-negative", "padding", str(value), padding=bad)

    @every_operation
    @pytest.mark.parametrize("value", ["", "SAME", "Same", "full", "same_upper", "0"])
    def test_unknown_padding_name(self, operation: str, value: str) -> None:
        refused(ValueError, operation, "padding", repr(value), padding=value)

    @every_operation
    @extents()
    @pytest.mark.parametrize("value", TOO_LARGE, ids=lambda value: f"2**{value.bit_length() - 1}")
    def test_beyond_int64(self, operation: str, name: str, value: int) -> None:
        refused(ValueError, operation, name, str(value), **{name: value})
        refused(ValueError, operation, name, str(value), **{name: (1,) * (rank_of(operation) - 1) + (value,)})

    @every_operation
    @extents()
    def test_beyond_any_printing(self, operation: str, name: str) -> None:
        refused(ValueError, operation, name, **{name: 10**5000})
        refused(ValueError, operation, name, **{name: -(10**5000)})

    @every_operation
    @extents(("kernel_size", "dilation"))
    @pytest.mark.parametrize("value", [7, 2**31, 2**32 + 2, 2**62], ids=repr)
    def test_window_larger_than_the_input(self, operation: str, name: str, value: int) -> None:
        refused(ValueError, operation, name, str(value), **{name: value})

    @every_operation
    def test_sum_beyond_int64(self, operation: str) -> None:
        refused(ValueError, operation, "padding", str(2**62), padding=2**62)
        refused(ValueError, operation, "padding", str(2**62), padding=((2**62, 0),) * rank_of(operation))
        refused(ValueError, operation, "kernel_size", str(2**40), kernel_size=2**40, dilation=2**40)

    @every_operation
    def test_too_small_output(self, operation: str) -> None:
        phrase = "Output size is too small"
        rank = rank_of(operation)
        for changes in (
            {"kernel_size": 7},
            {"dilation": 6},
            {"kernel_size": 9, "padding": 1},
            {"stride": 9} | {"kernel_size": 8},
        ):
            refused(ValueError, operation, phrase, "kernel_size", str(changes.get("kernel_size", 2)), **changes)
        refused(ValueError, operation, phrase, kernel_size=(6,) * (rank - 1) + (7,))
        refused(ValueError, operation, phrase, kernel_size=7, padding="valid")
        refused(ValueError, operation, phrase, kernel_size=20, stride=2, ceil_mode=True)

    @every_operation
    def test_output_larger_than_int64(self, operation: str) -> None:
        refused(ValueError, operation, "Output size is too large", stride=1, padding=2**60)
        refused(ValueError, operation, "Output size is too large", stride=1, padding=(2**60,) * rank_of(operation))

    @every_operation
    def test_output_larger_than_memory(self, operation: str) -> None:
        error = ValueError if operation in BACKWARD else (ValueError, MemoryError)
        for padding in (2**45, 2**58):
            with pytest.raises(error, match=r"grad_output|Unable to allocate|too (large|big)|exceeded"):
                call(operation, padding=padding)

    @every_operation
    def test_torch_phrases(self, operation: str) -> None:
        refused(ValueError, operation, "stride should not be zero", stride=0)
        refused(ValueError, operation, "kernel size should be greater than zero", kernel_size=0)
        refused(ValueError, operation, "pad must be non-negative", padding=-1)
        refused(ValueError, operation, "Output size is too small", kernel_size=7)

    @every_operation
    def test_an_empty_batch_excuses_nothing(self, operation: str) -> None:
        x = np.zeros((0, 3) + (6,) * rank_of(operation), np.float32)
        refused(ValueError, operation, "stride should not be zero", x=x, stride=0)
        refused(TypeError, operation, "dilation", x=x, dilation=1.0)
        refused(TypeError, operation, "ceil_mode", x=x, ceil_mode=0)


@pytest.mark.usefixtures("no_kernels")
class TestOtherParameters:
    @every_operation
    @pytest.mark.parametrize("value", NOT_FLAGS, ids=repr)
    def test_ceil_mode_not_a_bool(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "ceil_mode", repr(value), ceil_mode=value)

    @pytest.mark.parametrize("kind", ["max", "avg"])
    def test_what_equals_a_flag_is_none_whatever_was_called_before(self, kind: str) -> None:
        x, out = np.zeros((0, 1, 6, 6), np.float32), np.zeros((0, 1, 3, 3), np.float32)  # no kernel is needed
        pool, backward = (getattr(numbapool, f"{kind}_pool2d{suffix}") for suffix in ("", "_backward"))
        names = ("ceil_mode", *(("count_include_pad",) if kind == "avg" else ()))
        for name, flag in ((name, flag) for name in names for flag in (True, False)):
            for call in (partial(pool, x, 2), partial(backward, out, x, 2)):
                call(**{name: flag})
                for equal in (int(flag), float(flag), np.int64(flag)):
                    with pytest.raises(TypeError, match=f"{name} must be a bool"):
                        call(**{name: equal})
        for equal in (2.0, np.float32(2)):
            pool(x, (2, 2), 2)
            with pytest.raises(TypeError, match="kernel_size must be an int"):
                pool(x, (2, equal), 2)

    @every_average
    @pytest.mark.parametrize("value", NOT_FLAGS, ids=repr)
    def test_count_include_pad_not_a_bool(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "count_include_pad", repr(value), count_include_pad=value)

    @every_max_forward
    @pytest.mark.parametrize("value", NOT_FLAGS, ids=repr)
    def test_return_indices_not_a_bool(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "return_indices", repr(value), return_indices=value)

    @every_average
    @pytest.mark.parametrize("value", [*NOT_INTS, (), (2,), np.array([2])], ids=repr)
    def test_divisor_not_an_int(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "divisor_override", repr(value), divisor_override=value)

    @every_average
    def test_divisor_zero(self, operation: str) -> None:
        for zero in (0, np.int8(0)):
            refused(ValueError, operation, "divisor must be not zero", "divisor_override", "0", divisor_override=zero)

    @every_average
    @pytest.mark.parametrize("value", [*TOO_LARGE, -(2**64), -(2**70)], ids=repr)
    def test_divisor_beyond_int64(self, operation: str, value: int) -> None:
        refused(ValueError, operation, "divisor_override", str(value), divisor_override=value)

    @every_operation
    def test_unknown_argument(self, operation: str) -> None:
        refused(TypeError, operation, "kernel", kernel=2)

    @every_max
    @pytest.mark.parametrize("name", ["count_include_pad", "divisor_override"])
    def test_argument_of_the_average(self, operation: str, name: str) -> None:
        refused(TypeError, operation, name, **{name: True})


@pytest.mark.usefixtures("no_kernels")
class TestInput:
    @every_operation
    @pytest.mark.parametrize("value", NOT_ARRAYS, ids=lambda value: type(value).__name__)
    def test_not_an_array(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "x must be", type(value).__name__, x=value)

    @every_operation
    def test_masked(self, operation: str) -> None:
        refused(TypeError, operation, "x is a masked array", x=np.ma.zeros(shape_of(operation, 6), np.float32))

    @every_operation
    @pytest.mark.parametrize("dtype", ["longdouble", "clongdouble", "O", "U3", "S3", "M8[s]", "m8[s]", "V4", "f4,f4"])
    def test_dtype(self, operation: str, dtype: str) -> None:
        refused(TypeError, operation, "x", str(np.dtype(dtype)), x=np.empty(shape_of(operation, 6), dtype))

    @every_max
    @pytest.mark.parametrize("dtype", ["complex64", "complex128"])
    def test_maximum_of_complex(self, operation: str, dtype: str) -> None:
        """They have no order."""
        refused(TypeError, operation, "x", dtype, "accepted here: float16", x=np.empty(shape_of(operation, 6), dtype))

    @every_average
    def test_mean_of_bool(self, operation: str) -> None:
        refused(TypeError, operation, "x", "bool", x=np.zeros(shape_of(operation, 6), bool))

    @every_backward
    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "uint64"])
    def test_gradient_of_integers(self, operation: str, dtype: str) -> None:
        x, grad = (np.zeros(shape_of(operation, length), dtype) for length in (6, 3))
        refused(TypeError, operation, "x", dtype, x=x, grad_output=grad)

    @every_operation
    def test_rank(self, operation: str) -> None:
        rank = rank_of(operation)
        for axes in (*range(rank + 1), rank + 3, rank + 4):
            shape = (6,) * axes
            refused(ValueError, operation, "x must have", str(shape), x=np.zeros(shape, np.float32))

    @every_operation
    def test_empty_axis(self, operation: str) -> None:
        for leading in ((2, 3), (3,), (0, 3)):
            shape = leading + (6,) * rank_of(operation)
            for axis in range(len(leading) - 1, len(shape)):
                bad = shape[:axis] + (0,) + shape[axis + 1 :]
                refused(ValueError, operation, "x may only be empty", str(bad), x=np.zeros(bad, np.float32))
                refused(ValueError, operation, str(bad), x=np.zeros(bad, np.float32), padding=1)

    @every_forward
    def test_empty_batch_is_fine(self, operation: str) -> None:
        rank = rank_of(operation)
        out = call(operation, x=np.zeros((0, 3) + (6,) * rank, np.float32))
        assert (out.shape, out.dtype) == ((0, 3) + (3,) * rank, np.float32)

    @every_backward
    def test_empty_batch_is_fine_backward(self, operation: str) -> None:
        rank = rank_of(operation)
        x, grad = (np.zeros((0, 3) + (length,) * rank, np.float32) for length in (6, 3))
        assert call(operation, x=x, grad_output=grad).shape == x.shape


@pytest.mark.usefixtures("no_kernels")
class TestGradientAndIndices:
    @every_backward
    @pytest.mark.parametrize("value", NOT_ARRAYS, ids=lambda value: type(value).__name__)
    def test_gradient_not_an_array(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "grad_output must be", type(value).__name__, grad_output=value)

    @every_max_backward
    @pytest.mark.parametrize("value", [v for v in NOT_ARRAYS if v is not None], ids=lambda value: type(value).__name__)
    def test_indices_not_an_array(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "indices must be", type(value).__name__, indices=value)

    @every_max_backward
    def test_masked(self, operation: str) -> None:
        shape = shape_of(operation, 3)
        refused(TypeError, operation, "grad_output is a masked array", grad_output=np.ma.zeros(shape, np.float32))
        refused(TypeError, operation, "indices is a masked array", indices=np.ma.zeros(shape, np.int64))

    @every_backward
    @pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool", "complex64", "O", "U1"])
    def test_gradient_dtype(self, operation: str, dtype: str) -> None:
        grad = np.zeros(shape_of(operation, 3), dtype)
        refused(TypeError, operation, "grad_output", str(np.dtype(dtype)), grad_output=grad)

    @every_max_backward
    @pytest.mark.parametrize("dtype", ["int32", "uint64", "bool", "float64", "O", "m8[s]"])
    def test_indices_dtype(self, operation: str, dtype: str) -> None:
        indices = np.zeros(shape_of(operation, 3), dtype)
        refused(TypeError, operation, "indices", str(np.dtype(dtype)), indices=indices)

    @every_backward
    def test_shape(self, operation: str) -> None:
        good = shape_of(operation, 3)
        for bad in ((), good[1:], (1, *good), good[:-1] + (2,), good[:-1] + (4,), (0, *good[1:]), (1, *good[1:])):
            refused(ValueError, operation, "grad_output", str(good), str(bad), grad_output=np.zeros(bad, np.float32))
            if operation in MAX_BACKWARD:
                refused(ValueError, operation, "indices", str(good), str(bad), indices=np.zeros(bad, np.int64))


def bad_indices(plane: int) -> list[int]:
    return [-2, plane, plane + 1, 2**31, 2**32, 2**32 + 1, 2**40, 2**63 - 1, -plane, -(2**31), -(2**32), -(2**63)]


@every_max_backward
@pytest.mark.parametrize("planes", [(2, 3), (16, 64)], ids=["serial", "parallel"])
@pytest.mark.parametrize("which", range(12))
def test_index_out_of_range(operation: str, planes: tuple[int, int], which: int) -> None:
    rank = rank_of(operation)
    length = {1: 64, 2: 8, 3: 4}[rank]
    x = np.zeros(planes + (length,) * rank, np.float32)
    grad = np.ones(planes + (length // 2,) * rank, np.float32)
    bad = bad_indices(64)[which]
    memory = np.full(x.size + 128, 7, np.float32)
    out = memory[64:-64].reshape(x.shape)
    for position in (0, grad.size // 2, grad.size - 1):
        indices = np.zeros(grad.shape, np.int64)
        indices.reshape(-1)[position] = bad
        with pytest.raises(ValueError, match="Found an invalid max index") as caught:
            getattr(numbapool, operation)(grad, x, 2, indices=indices, out=out)
        assert "indices" in str(caught.value)
        assert str(bad) in str(caught.value)
    assert (memory[:64] == 7).all()
    assert (memory[-64:] == 7).all()


@every_max_backward
def test_index_out_of_range_in_strided_indices(operation: str) -> None:
    shape = shape_of(operation, 3)
    indices = np.asfortranarray(np.zeros(shape, np.int64))
    indices[(-1,) * len(shape)] = 6 ** rank_of(operation)
    refused(ValueError, operation, "Found an invalid max index", str(6 ** rank_of(operation)), indices=indices)
    refused(ValueError, operation, "Found an invalid max index", indices=indices.astype(">i8"))


@every_max_backward
def test_index_minus_one_is_no_gradient(operation: str) -> None:
    grad_output = np.ones(shape_of(operation, 3), np.float32)
    assert not call(operation, grad_output=grad_output, indices=np.full(grad_output.shape, -1)).any()


@pytest.mark.usefixtures("no_kernels")
class TestOut:
    @staticmethod
    def shape(operation: str) -> tuple[int, ...]:
        return shape_of(operation, 6 if operation in BACKWARD else 3)

    @every_operation
    @pytest.mark.parametrize("value", [v for v in NOT_ARRAYS if v is not None], ids=lambda value: type(value).__name__)
    def test_not_an_array(self, operation: str, value: Any) -> None:
        refused(TypeError, operation, "out must be", type(value).__name__, out=value)

    @every_operation
    def test_masked_or_paired(self, operation: str) -> None:
        good = np.zeros(self.shape(operation), np.float32)
        refused(TypeError, operation, "out must be", "MaskedArray", out=np.ma.array(good))
        refused(TypeError, operation, "out must be", "tuple", out=(good,))
        refused(TypeError, operation, "out must be", "tuple", out=(good, good.astype(np.int64)))

    @every_operation
    def test_shape(self, operation: str) -> None:
        good = self.shape(operation)
        for bad in ((), good[1:], (1, *good), good[:-1] + (1,), (0, *good[1:])):
            refused(ValueError, operation, "out", str(good), str(bad), out=np.zeros(bad, np.float32))

    @every_operation
    @pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool", "O", ">f4"])
    def test_dtype(self, operation: str, dtype: str) -> None:
        refused(TypeError, operation, "out", str(np.dtype(dtype)), out=np.zeros(self.shape(operation), dtype))

    @every_operation
    def test_read_only(self, operation: str) -> None:
        out = np.zeros(self.shape(operation), np.float32)
        out.flags.writeable = False
        refused(ValueError, operation, "out", "read-only", out=out)

    @every_max_forward
    def test_not_a_pair(self, operation: str) -> None:
        out = np.zeros(self.shape(operation), np.float32)
        indices = out.astype(np.int64)
        for bad in (out, (), (out,), (out, indices, out), "ab", {0: out, 1: indices}, 1):
            refused(TypeError, operation, "out must be", type(bad).__name__, out=bad, return_indices=True)

    @every_max_forward
    def test_bad_pair(self, operation: str) -> None:
        values = np.zeros(self.shape(operation), np.float32)
        indices = values.astype(np.int64)
        locked = indices.copy()
        locked.flags.writeable = False
        refused(TypeError, operation, "out", "NoneType", out=(values, None), return_indices=True)
        refused(TypeError, operation, "out", "NoneType", out=(None, indices), return_indices=True)
        refused(TypeError, operation, "out", "float32", out=(values, values.copy()), return_indices=True)
        refused(TypeError, operation, "out", "int32", out=(values, indices.astype(np.int32)), return_indices=True)
        refused(TypeError, operation, "out", "int64", out=(indices, values), return_indices=True)
        refused(ValueError, operation, "out", str(indices[1:].shape), out=(values, indices[1:]), return_indices=True)
        refused(ValueError, operation, "out", "read-only", out=(values, locked), return_indices=True)


def test_a_failing_first_call_does_not_import_numba() -> None:
    code = """
import sys
import numpy as np
import numbapool
x, grad = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 2, 2))
failing = [
    lambda: numbapool.max_pool2d(x, 0),
    lambda: numbapool.avg_pool2d(x, 2, padding="wrong"),
    lambda: numbapool.avg_pool2d(x, 2, divisor_override=0),
    lambda: numbapool.max_pool2d(x, 2, out=x),
    lambda: numbapool.max_pool2d([[1.0]], 2),
    lambda: numbapool.max_pool2d(x.astype(complex), 2),
    lambda: numbapool.max_pool2d_backward(grad, x, 3),
    lambda: numbapool.max_pool2d_backward(grad, x, 2, indices=grad),
    lambda: numbapool.avg_pool2d_backward(x, x, 2),
]
for call in failing:
    try:
        call()
    except (TypeError, ValueError):
        continue
    raise AssertionError("no error")
assert "numbapool.kernels.cpu" not in sys.modules
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_values_and_indices_in_one_array() -> None:
    out = np.zeros((1, 1, 3, 3), np.int64)
    with pytest.raises(ValueError, match="out must be two different arrays"):
        numbapool.max_pool2d(np.zeros((1, 1, 6, 6), np.int64), 2, return_indices=True, out=(out, out))


X = np.zeros((1, 3, 8, 8), np.float32)
GRAD = np.zeros((1, 3, 4, 4), np.float32)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            TypeError,
            "kernel_size must be an int, got an array of shape (1, 3, 8, 8)",
            lambda: numbapool.max_pool2d(X, X),
        ),
        (
            TypeError,
            "stride must be an int, got an array of shape (1, 3, 4, 4)",
            lambda: numbapool.max_pool2d_backward(GRAD, X, 2, GRAD),
        ),
        (TypeError, "ceil_mode must be a bool, got an array of", lambda: numbapool.max_pool2d(X, 2, ceil_mode=X)),
        (TypeError, "got list; numpy.asarray(x) is one; supported: ", lambda: numbapool.max_pool2d([[1.0]], 2)),
        (TypeError, "got NoneType; supported: ", lambda: numbapool.max_pool2d(None, 2)),
        (TypeError, "got tests.test_errors.NotAnArray; supported: ", lambda: numbapool.max_pool2d(NotAnArray(), 2)),
        (
            ValueError,
            "x must have 4 axes (N, C, H, W) or 3 axes (C, H, W), got shape (8, 8) with 2; x[None] is a single channel, and "
            "numbapool.pool and pool_backward take any number of axes",
            lambda: numbapool.max_pool2d(X[0, 0], 2),
        ),
        (
            ValueError,
            "got shape (8, 8) with 2; x[..., None] is a single channel",
            lambda: numbapool.max_pool2d(X[0, 0], 2, data_format="channels_last"),
        ),
        (
            ValueError,
            "the pooled axes would have lengths (2, 0); the last axis, of length 3, is pooled here: channels come before "
            "the pooled axes, or last with data_format='channels_last'",
            lambda: numbapool.max_pool2d(np.zeros((1, 8, 8, 3)), 4),
        ),
    ],
)
def test_what_newcomers_try(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "data_format"),
    [((1, 8, 8, 3), "channels_last"), ((1, 3, 8, 3), "channels_first"), ((1, 8, 3, 3), "channels_first")],
)
def test_channels_that_stand_where_they_should_are_not_suspected(shape: tuple[int, ...], data_format: str) -> None:
    with pytest.raises(ValueError, match="Output size is too small") as caught:
        numbapool.max_pool2d(np.zeros(shape), 9 if data_format == "channels_last" else 4, data_format=data_format)
    assert "channels come before" not in str(caught.value)


@pytest.mark.usefixtures("no_kernels")
def test_pool_is_recommended_where_it_does_the_same() -> None:
    """To functions of sliding windows alone: it has no bins, and undoes nothing."""
    functions = numbapool.pool, numbapool.pool_backward
    taken = {name for each in functions for name in inspect.signature(each).parameters}
    taken |= {each.name for kind in NAMES.values() for each in kind.operation.options}  # which reducers hold
    recommended = []
    for name in functional.__all__:
        rank = next((rank for rank in RANKS if f"{rank}d" in name), None)
        if rank is None:
            continue
        parameters = inspect.signature(getattr(numbapool, name)).parameters
        x = np.zeros((6,) * rank, np.float32)
        values = {
            "kernel_size": 2,
            "output_size": 2,
            "norm_type": 2,
            "indices": x.astype(np.int64),
            "grad_output": x,
            "x": x,
        }
        required = [key for key, each in parameters.items() if each.default is each.empty]
        arguments = {key: values[key] for key in required} | ({"output_size": 2} if "fractional" in name else {})
        for more in ({}, {"data_format": "channels_last"}):
            with pytest.raises(ValueError, match=f"x must have {rank + 2} axes") as caught:
                getattr(numbapool, name)(**arguments, **more)
            is_recommended = "numbapool.pool and pool_backward take any number of axes" in str(caught.value)
            assert is_recommended == (set(parameters) - {"data_format"} <= taken), name
        recommended += [name] * is_recommended
    assert len(recommended) == 30


@pytest.fixture
def registered() -> Iterator[None]:
    """What is registered, put back."""
    before = dict(dispatch._backend_modules)
    yield
    dispatch._backend_modules.clear()
    dispatch._backend_modules.update(before)
    dispatch._backends.clear()


@pytest.mark.usefixtures("registered")
def test_register() -> None:
    bad = [(3, 4), (None, "a.b"), (np.ndarray, "a.b"), (b"a.B", "a.b"), ("a.B", None), ("a.B", sys), (["a.B"], "a.b")]
    for arguments in bad:
        wrong = next(
            name for name, each in zip(("array_type", "backend_module"), arguments) if not isinstance(each, str)
        )
        with pytest.raises(TypeError, match=f"^{wrong} must be the .*name of a"):
            numbapool.register(*arguments)
    names = ["", "Array", "a.", ".a", "a..B", "a b.C", "a.B()", "a/b.C", " a.B", "3.4"]
    for arguments in [*((each, "a.b") for each in names), *(("a.B", each) for each in names if each != "Array")]:
        wrong = "array_type" if arguments[1] == "a.b" else "backend_module"
        with pytest.raises(ValueError, match=f"^{wrong} must be the .*name of a"):
            numbapool.register(*arguments)
    # Nothing of this has an effect on what comes later.
    numbapool.max_pool2d(X, 2)
    with pytest.raises(TypeError, match=r"supported: cupy.ndarray, .*numpy.ndarray"):
        numbapool.max_pool2d(NotAnArray(), 2)
    numbapool.register("tests.test_errors.NotAnArray", "tests.checks")
    with pytest.raises(
        TypeError, match=r"tests.checks, which numbapool.register names for NotAnArray, has no object `backend`"
    ):
        numbapool.max_pool2d(NotAnArray(), 2)
    numbapool.register("tests.test_errors.NotAnArray", "not_installed")
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        numbapool.max_pool2d(NotAnArray(), 2)


def test_modules_for_torch_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "numbapool.nn", raising=False)
    with pytest.raises(ImportError, match=r"numbapool.nn needs torch: pip install 'numbapool\[torch\]'"):
        importlib.import_module("numbapool.nn")


class Two:
    """An int of nobody's."""

    def __index__(self) -> int:
        return 2


def test_arguments_are_not_kept() -> None:
    """What remembers requests keeps none alive that is not plain."""
    x, two = np.zeros((1, 1, 4, 4)), Two()
    seen = weakref.ref(two)
    numbapool.max_pool2d(x, two)  # type: ignore[arg-type]
    numbapool.max_pool2d_backward(x[..., :2, :2], x, two)  # type: ignore[arg-type]
    numbapool.adaptive_avg_pool2d(x, two)  # type: ignore[arg-type]
    numbapool.pool(x, "sum", two, axes=(2, 3))  # type: ignore[arg-type]
    del two
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("kernel_size", [[9, 9], [2, 2.5], [], [[1, 1], [1, 1]]])
def test_errors_of_lists_are_those_of_the_caller(kernel_size: Any) -> None:
    """They show the list, and no other error before them."""
    with pytest.raises((ValueError, TypeError)) as caught:
        numbapool.max_pool2d(np.zeros((1, 1, 4, 4)), kernel_size)
    assert caught.value.__context__ is None
    assert "unhashable" not in f"{caught.value}"
