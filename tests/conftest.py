"""The `backend` fixture: every test that takes it runs once for each kind of array that numbapool accepts and this machine has."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.compilations import Compilations
from tests.selection import DEFAULT_RUN, left_out

# The first example of a kind compiles a kernel, which takes seconds: no deadline can hold.
hypothesis.settings.register_profile("numbapool", deadline=None)
hypothesis.settings.load_profile("numbapool")


@dataclass(frozen=True)
class ArrayKind:
    """A kind of array: a library's, or one of NumPy's memory layouts."""

    name: str
    from_numpy: Callable[[NDArray[Any]], Any]
    to_numpy: Callable[[Any], NDArray[Any]] = np.asarray
    library: str = "numpy"
    refuses_out: type[Exception] | None = None  # what is raised if such an array is to be written to
    needs_gpu: bool = False
    prepare: Callable[[pytest.MonkeyPatch], None] = lambda _: None  # before the test

    def __str__(self) -> str:
        return self.name


def _readonly(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _strided(array: NDArray[Any]) -> NDArray[Any]:
    """A view with gaps and every other axis reversed; reading a gap shows, for it holds what would win a maximum."""
    highest = {"b": True, "f": np.nan, "c": complex(np.nan, np.nan)}.get(array.dtype.kind)
    memory = np.full(
        [2 * length for length in array.shape],
        np.iinfo(array.dtype).max if highest is None else highest,
        array.dtype,
    )
    view = memory[tuple(slice(None, None, (-2, 2)[axis % 2]) for axis in range(array.ndim))]
    view[...] = array
    return view


def _transposed(array: NDArray[Any]) -> NDArray[Any]:
    """The width axis strides farthest, the batch axis least."""
    return array.copy(order="F")


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """The second axis strides least, as (N, C, ...) arrays of pipelines that hold their channels last."""
    axis = 1 if array.ndim > 1 else 0
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, axis, -1)), -1, axis)


def _byteswapped(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder())


def _unaligned(array: NDArray[Any]) -> NDArray[Any]:
    memory = np.empty(array.nbytes + array.itemsize + 1, np.uint8)
    view = np.ndarray(array.shape, array.dtype, memory.data, offset=1)
    view[...] = array
    return view


def _torch(array: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(array.copy())


def _torch_channels_last(array: NDArray[Any]) -> Any:
    """Channels last, where torch has such a format."""
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return _torch(array).contiguous(memory_format=formats.get(array.ndim, torch.contiguous_format))


def _jax(array: NDArray[Any]) -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(array)


def _array_api_strict(array: NDArray[Any]) -> Any:
    import array_api_strict

    return array_api_strict.asarray(array.copy())


def _imitated(array: NDArray[Any]) -> Any:
    from tests import imitation

    return imitation.like(array.copy())


def _imitated_strided(array: NDArray[Any]) -> Any:
    from tests import imitation

    return imitation.like(_strided(array))


def _imitated_channels_last(array: NDArray[Any]) -> Any:
    from tests import imitation

    return imitation.like(_channels_last(array))


def has_gpu() -> bool:
    """Whether there is a driver, and a GPU that it knows."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _cupy(array: NDArray[Any]) -> Any:
    import cupy

    return cupy.asarray(array)


def _of_cupy(array: Any) -> NDArray[Any]:
    values: NDArray[Any] = array.get()
    return values


def _torch_on_gpu(array: NDArray[Any]) -> Any:
    return _torch(array).cuda()


def _of_torch_on_gpu(array: Any) -> NDArray[Any]:
    values: NDArray[Any] = array.numpy(force=True)
    return values


def _imitate_cuda_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import imitated_tensors

    imitated_tensors.install(monkeypatch)


def _of_imitated(array: Any) -> NDArray[Any]:
    plain: NDArray[Any] = array.memory
    return plain


# A library joins with one entry.
ARRAY_KINDS = (
    ArrayKind("numpy", np.array),
    ArrayKind("numpy_readonly", _readonly, refuses_out=ValueError),
    ArrayKind("numpy_strided", _strided),
    ArrayKind("numpy_transposed", _transposed),
    ArrayKind("numpy_channels_last", _channels_last),
    ArrayKind("numpy_byteswapped", _byteswapped, refuses_out=TypeError),
    ArrayKind("numpy_unaligned", _unaligned),
    ArrayKind("torch", _torch, library="torch"),
    ArrayKind("torch_channels_last", _torch_channels_last, library="torch"),
    ArrayKind("jax", _jax, library="jax", refuses_out=ValueError),
    ArrayKind("cupy_imitated", _imitated, _of_imitated, library="tests.imitation"),
    ArrayKind("cupy_imitated_strided", _imitated_strided, _of_imitated, library="tests.imitation"),
    ArrayKind("cupy_imitated_channels_last", _imitated_channels_last, _of_imitated, library="tests.imitation"),
    ArrayKind("torch_imitated", _torch, library="torch", prepare=_imitate_cuda_tensors),
    ArrayKind("torch_imitated_channels_last", _torch_channels_last, library="torch", prepare=_imitate_cuda_tensors),
    ArrayKind("array_api_strict", _array_api_strict, np.from_dlpack, library="array_api_strict"),
    ArrayKind("cupy_on_gpu", _cupy, _of_cupy, library="cupy", needs_gpu=True),
    ArrayKind("torch_on_gpu", _torch_on_gpu, _of_torch_on_gpu, library="torch", needs_gpu=True),
)
HAS_GPU = has_gpu()
PRESENT = [kind for kind in ARRAY_KINDS if find_spec(kind.library) and (HAS_GPU or not kind.needs_gpu)]
# What runs in a copy of the package that has one operation more, and what needs a GPU.
collect_ignore = ["log_sum_exp.py", *([] if HAS_GPU else ["test_on_gpu.py"])]


def pytest_report_header() -> str:
    """Kinds of arrays that no test has, because their library is not installed or there is no GPU."""
    return f"absent kinds of arrays: {', '.join(str(kind) for kind in ARRAY_KINDS if kind not in PRESENT) or 'none'}"


def pytest_configure(config: pytest.Config) -> None:
    """Count what is compiled."""
    config.pluginmanager.register(Compilations(config))


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Any:
    """The tests of a function, without those that the default run leaves out: kept until then they take 200 MB."""
    tests = yield
    if not isinstance(tests, list):
        return tests
    others = set(left_out(tests))
    if collector.config.option.markexpr == DEFAULT_RUN:
        return [test for test in tests if test not in others]
    for test in others:
        test.add_marker(pytest.mark.full)
    return tests


@pytest.fixture(params=PRESENT, ids=str)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ArrayKind:
    """A kind of array, with its conversions from and to plain NumPy arrays."""
    kind: ArrayKind = request.param
    kind.prepare(monkeypatch)
    return kind
