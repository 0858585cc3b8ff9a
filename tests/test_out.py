"""Arrays that results go to: no two of their elements may share memory, whatever the operation and the library."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import functional
from numbapool.backends import numpy as numpy_backend
from numbapool.backends.memory import View, check_outs
from tests.checks import Array
from tests.test_dlpack import Exported

ITSELF, PAIR = r"^out must not overlap itself", r"^out must be two different arrays"


def strided(memory: Array, shape: Sequence[int], strides: Sequence[int], first: int = 0) -> Array:
    """A view of a buffer, strides in elements."""
    steps = [step * memory.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(memory[first:], shape, steps)


def bytes_of(view: View) -> list[int]:
    """Where each byte of each element is."""
    places = [view.address]
    for length, step in zip(view.shape, view.strides, strict=True):
        places = [place + number * step for place in places for number in range(length)]
    return [place + byte for place in places for byte in range(view.dtype.itemsize)]


def test_the_rule_is_exact() -> None:
    """By counting bytes: for layouts that are drawn, of which many are close."""
    draw, found = random.Random(0), {True: 0, False: 0}
    for _ in range(4000):
        views = []
        for _ in range(draw.randint(1, 2)):
            dtype = np.dtype(draw.choice(["u1", "u2", "f4", "i8"]))
            shape = tuple(draw.randint(0 if draw.random() < 0.1 else 1, 4) for _ in range(draw.randint(0, 3)))
            steps = tuple(draw.choice([1, 2, 3, 4, 5, 8, 12, 24, -1, -6]) * draw.choice([1, 4, 8]) for _ in shape)
            views.append(View(1000 + draw.choice([0, 1, 4, 8, 16, 100]), shape, steps, dtype))
        places = [byte for view in views for byte in bytes_of(view)]
        is_overlapping = len(set(places)) < len(places)
        found[is_overlapping] += 1
        if is_overlapping:
            with pytest.raises(ValueError, match=f"{ITSELF}|{PAIR}"):
                check_outs(views)
        else:
            check_outs(views)
    assert min(found.values()) > 1000


def test_what_is_not_marked_takes_no_time() -> None:
    """Strides alone tell of an array of 2**60 elements, and of two that are far apart, or not of one device."""
    huge = View(0, (2**20, 2**20, 2**20), (2**42, 2**22, 4), np.dtype(np.float32))
    beside = huge._replace(address=2**62)
    check_outs([huge, beside])
    check_outs([huge, huge._replace(device=1)])
    for bad in (huge._replace(strides=(0, 2**22, 4)), huge._replace(strides=(4, 4, 4))):
        with pytest.raises(ValueError, match=ITSELF):
            check_outs([bad])
    with pytest.raises(ValueError, match=PAIR):
        check_outs([huge, huge._replace(address=8)])


# Every public function ------------------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, Callable[..., Any], tuple[int, ...]]]:
    """Every public function that takes `out`, as a function of it, and the shape of its (first) result."""
    x = np.ones((2, 2, 4, 4, 4), np.float32)
    for name in functional.__all__:
        function = getattr(numbapool, name)
        if "out" not in inspect.signature(function).parameters:
            continue
        rank = next((rank for rank in (1, 2, 3) if f"{rank}d" in name), 2)
        given = x[(slice(None), slice(None), *[0] * (3 - rank))]
        outline = np.ones((2, 2, *[2] * rank), np.float32)
        arguments: dict[str, Any] = {"x": given}
        shape = outline.shape
        if name.startswith("global"):
            outline = np.ones((2, 2, 1, 1), np.float32)
            shape = outline.shape
        elif name.startswith("adaptive"):
            arguments["output_size"] = 2
        else:
            arguments["kernel_size"] = 2
        if name.startswith("pool"):
            arguments |= {"kind": "max", "axes": (3, 2)}
        if name.startswith("lp"):
            arguments["norm_type"] = 2
        if name.startswith("fractional"):
            arguments |= {"output_size": 2, "_random_samples": np.zeros((2, 2, rank))}
        if "unpool" in name:
            arguments["x"] = outline
            arguments["indices"] = np.arange(4 * 2**rank).reshape(outline.shape) % 2**rank
            outline = np.ones_like(given)
            shape = outline.shape
        if name.endswith("_backward"):
            arguments["grad_output"], shape = outline, arguments["x"].shape
        yield name, lambda out, f=function, a=arguments, **more: f(**a, **more, out=out), shape


def test_no_operation_writes_over_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, call, shape in calls():
        assert call(np.zeros(shape, np.float32)).shape == shape, name
    # From here on a kernel that is asked for is a failure.
    monkeypatch.setattr(numpy_backend, "_target", lambda: pytest.fail("a kernel was asked for"))
    memory, names = np.zeros(10_000, np.float32), []
    for name, call, shape in calls():
        ones = (1,) * len(shape)
        for strides in ((0,) * len(shape), ones, (4, 4, *ones[2:])):
            with pytest.raises(ValueError, match=ITSELF):
                call(strided(memory, shape, strides))
        names.append(name)
    assert len(names) > 50


def test_no_pair_is_written_over_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_backend, "_target", lambda: pytest.fail("a kernel was asked for"))
    memory, names = np.zeros(1000, np.int64), []
    for name, call, shape in calls():
        if "return_indices" not in inspect.signature(getattr(numbapool, name)).parameters:
            continue
        size = int(np.prod(shape))
        indices = memory[:size].reshape(shape)
        for first in (0, 1, 2 * size - 1):
            values = memory.view(np.float32)[first : first + size].reshape(shape)
            for kind in ("plane", "global"):
                with pytest.raises(ValueError, match=PAIR):
                    call((values, indices), return_indices=True, index_kind=kind)
        names.append(name)
    assert len(names) >= 13


def test_neighbours_in_a_structure_are_no_overlap() -> None:
    """And one behind the other are none; results are those in arrays of their own."""
    x = np.random.default_rng(0).random((2, 3, 6, 8), np.float32)
    expected = numbapool.max_pool2d(x, 2, return_indices=True)
    records = np.zeros(expected[0].shape, [("value", np.float32), ("index", np.int64)])
    memory = np.zeros(3 * expected[0].size, np.float32)
    values, indices = memory[: expected[0].size], memory[expected[0].size :].view(np.int64)
    for out in ((records["value"], records["index"]), (values.reshape(2, 3, 3, 4), indices.reshape(2, 3, 3, 4))):
        found = numbapool.max_pool2d(x, 2, return_indices=True, out=out)
        assert found[0] is out[0]
        assert found[1] is out[1]
        np.testing.assert_array_equal(out[0], expected[0])
        np.testing.assert_array_equal(out[1], expected[1])


@pytest.mark.parametrize("operation", ["max_pool2d", "min_pool2d", "max_pool2d_backward", "avg_pool2d"])
def test_out_that_is_the_input(operation: str) -> None:
    """In place, and one element on: right, as if `out` were elsewhere, in calls small and large."""
    for shape in ((1, 1, 5, 6), (1, 4, 40, 41)):
        for step in (0, 1):
            memory = np.random.default_rng(1).random(np.prod(shape) + 1, np.float32)
            x = memory[:-1].reshape(shape)
            out = memory[step:][: x.size].reshape(shape)
            gradients = [x] if operation.endswith("backward") else []
            expected = getattr(numbapool, operation)(*gradients, x, 3, 1, 1)
            assert getattr(numbapool, operation)(*gradients, x, 3, 1, 1, out=out) is out
            np.testing.assert_array_equal(out, expected)


# Other libraries ------------------------------------------------------------------------------------------------------


def check_library(of: Callable[[Array], Any]) -> None:
    """Of a library whose arrays can be made as views of NumPy's memory: an array of each kind of overlap, and none."""
    x = of(np.random.default_rng(2).random((1, 2, 4, 4), np.float32))
    memory = np.zeros(200, np.int64)
    floats = memory.view(np.float32)
    gradient, good = of(np.ones((1, 2, 2, 2), np.float32)), of(strided(floats, (1, 2, 2, 2), (200, 100, 20, 8)))
    for strides in ((8, 0, 2, 1), (4, 4, 4, 4), (8, 4, 1, 1)):
        bad = of(strided(floats, (1, 2, 2, 2), strides))
        for call in (
            numbapool.max_pool2d,
            numbapool.avg_pool2d,
            lambda x, k, out: numbapool.adaptive_max_pool2d(x, k, out=out),
        ):
            with pytest.raises(ValueError, match=ITSELF):
                call(x, 2, out=bad)
        with pytest.raises(ValueError, match=ITSELF):
            numbapool.pool(x, "max", 2, axes=(3, 2), out=bad)
        with pytest.raises(ValueError, match=ITSELF):
            numbapool.avg_pool2d_backward(gradient, x, 2, out=of(strided(floats, (1, 2, 4, 4), strides)))
    indices = of(memory[:8].reshape(1, 2, 2, 2))
    for first in (0, 15):
        values = of(floats[first : first + 8].reshape(1, 2, 2, 2))
        for kind in ("plane", "global"):
            with pytest.raises(ValueError, match=PAIR):
                numbapool.max_pool2d(x, 2, return_indices=True, index_kind=kind, out=(values, indices))
        with pytest.raises(ValueError, match=PAIR):
            numbapool.pool(x, "max", 2, axes=(3, 2), return_indices=True, out=(values, indices))
    assert not memory.any()
    numbapool.max_pool2d(x, 2, out=good)


def test_cupy() -> None:
    from tests import imitation

    check_library(lambda array: imitation.ndarray(array, imitation.DEVICES[0]))


def test_dlpack() -> None:
    check_library(Shared)


class Shared(Exported):
    """An array of a library whose results are NumPy's."""

    def __array_namespace__(self) -> Any:
        return np

    @property
    def dtype(self) -> Any:
        return self.array.dtype


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, on a GPU that is imitated, and without values."""
    torch = pytest.importorskip("torch")
    check_library(torch.from_numpy)
    buffer = torch.zeros(100, dtype=torch.int64, device="meta")
    x = torch.zeros(1, 1, 4, 4, device="meta")
    with pytest.raises(ValueError, match=ITSELF):
        numbapool.max_pool2d(x, 2, out=buffer.view(torch.float32).as_strided((1, 1, 2, 2), (4, 4, 1, 1)))
    indices, floats = buffer[:4].view(1, 1, 2, 2), buffer.view(torch.float32)
    with pytest.raises(ValueError, match=PAIR):
        numbapool.max_pool2d(x, 2, return_indices=True, out=(floats[4:8].view(1, 1, 2, 2), indices))
    numbapool.max_pool2d(x, 2, return_indices=True, out=(floats[8:12].view(1, 1, 2, 2), indices))
    with pytest.raises(ValueError, match=r"^out must not be given where derivatives or transforms"):
        torch.func.vmap(lambda a, b: numbapool.pool(a, "max", 2, axes=(2, 1), out=b))(
            torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
        )
    from tests import imitated_tensors

    imitated_tensors.install(monkeypatch)
    check_library(torch.from_numpy)
