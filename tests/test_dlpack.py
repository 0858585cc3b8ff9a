"""Arrays of other libraries, by DLPack: no copies in, results in the library of the input, and errors that explain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import numbapool


def test_array_api_strict_shares_memory() -> None:
    xp = pytest.importorskip("array_api_strict")
    memory = np.arange(36.0).reshape(1, 1, 6, 6)
    x = xp.from_dlpack(memory)
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    assert type(out) is type(indices) is type(x)
    np.testing.assert_array_equal(np.from_dlpack(out), numbapool.max_pool2d(memory, 2))
    memory[:] = -memory
    np.testing.assert_array_equal(np.from_dlpack(numbapool.avg_pool2d(x, 2)), numbapool.avg_pool2d(memory, 2))
    given = xp.zeros((1, 1, 3, 3), dtype=xp.float64)
    assert numbapool.max_pool2d(x, 2, out=given) is given
    np.testing.assert_array_equal(np.from_dlpack(given), numbapool.max_pool2d(memory, 2))
    grad = numbapool.max_pool2d_backward(xp.ones((1, 1, 3, 3), dtype=xp.float64), x, 2)
    assert type(grad) is type(x)
    assert np.from_dlpack(grad).sum() == 9
    layer = numbapool.AvgPool2d(2)
    y, pullback = layer.vjp(x)
    assert type(pullback(y)) is type(x)


def test_results_are_on_the_device_of_the_input() -> None:
    xp = pytest.importorskip("array_api_strict")
    device = xp.Device("device1")
    out = numbapool.max_pool2d(xp.ones((1, 1, 4, 4), device=device), 2)
    assert out.device == device


def test_jax() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(36, dtype=jax.numpy.float32).reshape(1, 1, 6, 6)
    out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    assert isinstance(out, jax.Array)
    assert isinstance(indices, jax.Array)
    np.testing.assert_array_equal(np.asarray(out), [[[[7, 9, 11], [19, 21, 23], [31, 33, 35]]]])
    np.testing.assert_array_equal(np.asarray(indices), np.asarray(out))
    grad = numbapool.max_pool2d_backward(out, x, 2, indices=indices)
    np.testing.assert_array_equal(np.asarray(grad), numbapool.max_pool2d_backward(np.asarray(out), np.asarray(x), 2))
    y, pullback = numbapool.MaxPool2d(2).vjp(x)
    np.testing.assert_array_equal(np.asarray(pullback(y)), np.asarray(grad))
    with pytest.raises(ValueError, match="out must be writeable"):
        numbapool.max_pool2d(x, 2, out=jax.numpy.zeros((1, 1, 3, 3), jax.numpy.float32))
    with pytest.raises(TypeError, match="bfloat16"):
        numbapool.max_pool2d(x.astype(jax.numpy.bfloat16), 2)


def test_transforms_of_jax_are_refused() -> None:
    """By name, with the way to have them."""
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones((1, 1, 4, 4), jax.numpy.float32)
    grad = x[:, :, :2, :2]

    def total(x: Any) -> Any:
        return numbapool.max_pool2d(x, 2).sum()

    for transformed in (
        jax.jit(total),
        jax.grad(total),
        jax.vmap(lambda x: numbapool.avg_pool2d(x, 2)),
        jax.jit(lambda x: numbapool.pool(x, "sum", 2)),
        jax.jit(lambda x: numbapool.global_max_pool(x, data_format="channels_last")),
        jax.jit(lambda x: numbapool.MaxPool2d(2).vjp(x)[0]),
        lambda x: jax.jvp(total, (x,), (x,)),
        lambda x: jax.eval_shape(total, x),
    ):
        with pytest.raises(
            TypeError, match=r"^x is a \w+Tracer of JAX, .*jax\.pure_callback.*jax\.custom_vjp.*recipes/jax"
        ):
            transformed(x)
    with pytest.raises(TypeError, match=r"^grad_output is a \w+Tracer of JAX"):
        jax.jit(lambda grad: numbapool.max_pool2d_backward(grad, x, 2))(grad)
    with pytest.raises(TypeError, match=r"^indices is a \w+Tracer of JAX"):
        jax.jit(lambda indices: numbapool.max_unpool2d(grad, indices, 2))(grad.astype(int))


class Exported:
    """An array that exports another's memory, as being on a device."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.place = array, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


class WithNamespace(Exported):
    def __array_namespace__(self) -> Any:
        return SimpleNamespace(from_dlpack=lambda array: ("ours", array))


def test_results_come_back_through_the_inputs_namespace() -> None:
    name, out = numbapool.max_pool1d(WithNamespace(np.array([[1.0, 3.0, 2.0, 4.0]])), 2)
    assert name == "ours"
    np.testing.assert_array_equal(out, [[3, 4]])


def test_read_only_memory_is_read_and_never_written() -> None:
    x = np.arange(8.0).reshape(1, 8)
    x.flags.writeable = False
    _, out = numbapool.max_pool1d(WithNamespace(x), 2)
    np.testing.assert_array_equal(out, [[1, 3, 5, 7]])
    with pytest.raises(ValueError, match="out must be writeable, got a read-only array"):
        numbapool.max_pool1d(WithNamespace(np.ones((1, 16))), 2, out=WithNamespace(x))


@pytest.mark.parametrize("device", [8, 10])
def test_other_devices_are_named(device: int) -> None:
    with pytest.raises(
        TypeError, match=f"x is on device DLPack device type {device}.*, for which .* move it to the CPU"
    ):
        numbapool.max_pool1d(WithNamespace(np.ones((1, 4)), (device, 0)), 2)


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"no array namespace with from_dlpack .* pass numpy\.from_dlpack\(x\)"):
        numbapool.max_pool1d(Exported(np.ones((1, 4))), 2)
    with pytest.raises(TypeError, match=r"grad_output must export DLPack like the other arguments, got builtins\.list"):
        numbapool.max_pool1d_backward([[1.0, 1.0]], WithNamespace(np.ones((1, 4))), 2)
    with pytest.raises(TypeError, match="out must export DLPack"):
        numbapool.max_pool1d(WithNamespace(np.ones((1, 4))), 2, out=[1])
    with pytest.raises(TypeError, match="x has dtype complex128"):
        numbapool.max_pool1d(WithNamespace(np.ones((1, 4), complex)), 2)
    with pytest.raises(ValueError, match="kernel size should be greater than zero"):
        numbapool.max_pool1d(WithNamespace(np.ones((1, 4))), 0)
    with pytest.raises(TypeError, match=r"supported: .*and whatever exports DLPack"):
        numbapool.max_pool1d([[1.0]], 1)
