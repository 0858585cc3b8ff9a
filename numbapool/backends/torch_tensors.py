"""What is to be known of torch tensors: dtypes, where they are and how they lie, who records them or asks for derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from numbapool.arguments import type_name
from numbapool.backends.cuda import check_devices
from numbapool.backends.memory import View
from numbapool.elements import BFLOAT16

if TYPE_CHECKING:
    from numbapool.dispatch import Spec

DTYPES: dict[Any, np.dtype[Any]] = {
    torch.float16: np.dtype("float16"),
    torch.bfloat16: BFLOAT16,
    torch.float32: np.dtype("float32"),
    torch.float64: np.dtype("float64"),
    torch.complex64: np.dtype("complex64"),
    torch.complex128: np.dtype("complex128"),
    torch.int8: np.dtype("int8"),
    torch.int16: np.dtype("int16"),
    torch.int32: np.dtype("int32"),
    torch.int64: np.dtype("int64"),
    torch.uint8: np.dtype("uint8"),
    torch.uint16: np.dtype("uint16"),
    torch.uint32: np.dtype("uint32"),
    torch.uint64: np.dtype("uint64"),
    torch.bool: np.dtype("bool"),
}
TORCH_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# torch says "cuda" for AMD's devices too, where it is built for them.
IS_ROCM = torch.version.hip is not None


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether it is the CUDA target that computes with a tensor."""
    return tensor.is_cuda and not IS_ROCM


def is_recorded(x: Any) -> bool:
    """Whether a tensor has no values of its own in memory, or somebody records what is done with it."""
    kind = type(x)
    if kind is not Tensor and kind is not Parameter:
        return isinstance(x, Tensor)  # a subclass
    return (
        is_in_torch_dispatch_mode()
        or x.is_meta
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_legacy_batchedtensor(x)
    )


def check_values(**arrays: Any) -> None:
    """Raise if some tensors are on "meta", where they have no values, and others are not."""
    devices = [(name, each.device) for name, each in arrays.items() if isinstance(each, Tensor)]
    if len({device.type == "meta" for _, device in devices}) > 1:
        check_devices(devices)


def has_tangent(x: Any) -> bool:
    """Whether forward-mode derivatives are asked of a tensor."""
    return (
        forward_ad._current_level >= 0  # asked first: 0.8 us
        and isinstance(x, Tensor)
        and forward_ad.unpack_dual(x).tangent is not None
    )


def needs_derivatives(x: Tensor) -> bool:
    """Whether anything but values is asked for: a gradient, a tangent, or what a transform of `torch.func` makes of it."""
    return (
        (x.requires_grad and torch.is_grad_enabled()) or torch._C._are_functorch_transforms_active() or has_tangent(x)
    )


def joined(tensor: Any, axis: int | None, size: int) -> Any:
    """A batched tensor with the axis of the batch joined to the first other one."""
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
    return tensor.flatten(0, 1)


def as_array(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor as an array."""
    if tensor.dtype is torch.bfloat16:  # which NumPy does not know
        bits: np.ndarray = tensor.detach().view(torch.int16).numpy(force=True)
        return bits.view(BFLOAT16)
    array: np.ndarray = tensor.numpy(force=True)
    return array


def as_tensor(array: np.ndarray) -> Tensor:
    """An array as a contiguous tensor, of the same memory unless channels are last in it."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "V":
        bits: Tensor = from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return bits
    return from_numpy(array)


def view(tensor: Tensor) -> View:
    """Where a tensor is; if it may have no values in memory, where in its storage."""
    dtype = DTYPES[tensor.dtype]
    shape, strides = tuple(tensor.shape), tuple([step * dtype.itemsize for step in tensor.stride()])
    if is_recorded(tensor):
        start = tensor.storage_offset() * dtype.itemsize
        return View(start, shape, strides, dtype, tensor.untyped_storage()._cdata)
    return View(tensor.data_ptr(), shape, strides, dtype, tensor.get_device())


def format_of_any(tensors: Sequence[Tensor]) -> torch.memory_format:
    """Channels-last if any of the tensors is."""
    for each in tensors:  # a generator takes 0.2 us more
        memory_format = memory_format_of(each)
        if memory_format is not torch.contiguous_format:
            return memory_format
    return torch.contiguous_format


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The memory format of results: torch's rule (suggest_memory_format), for tensors that could be read either way too."""
    strides = x.stride()
    rank = len(strides)
    if rank not in CHANNELS_LAST or strides[-1] < strides[1]:  # as in most tensors
        return torch.contiguous_format
    shape = x.shape
    least = 0
    for axis in (1, *range(rank - 1, 1, -1), 0):  # from the axis that strides least
        if shape[axis] == 0 or strides[axis] < least or strides[1] == 0 or (axis == 0 and least == strides[1]):
            return torch.contiguous_format
        least = strides[axis] * max(shape[axis], 1)
    return CHANNELS_LAST[rank]


def describe(name: str, array: Any) -> Spec:
    """Shape, and dtype as NumPy's, of the argument called `name`."""
    if not isinstance(array, Tensor):
        raise TypeError(f"{name} must be a torch tensor like the other arguments, got {type_name(array)}")
    dtype = DTYPES.get(array.dtype)
    is_placed = array.is_cpu or is_on_gpu(array)
    if dtype is None or not is_placed or array.layout is not torch.strided or array.is_nested:
        dtype = _unusual_dtype(name, array)
    return tuple(array.shape), dtype


def _unusual_dtype(name: str, array: Tensor) -> np.dtype[Any]:
    """Dtype of a tensor that is not simply in memory of a target, where it is accepted nevertheless."""
    if not (array.is_cpu or array.is_meta or is_on_gpu(array)):
        where = f"{array.device} (ROCm)" if array.is_cuda else f"{array.device}"
        raise TypeError(f"{name} is on device {where}, for which numbapool has no kernels: move it to the CPU")
    if array.layout is not torch.strided or array.is_nested:
        kind = "a nested one" if array.is_nested else f"layout {array.layout}"
        raise TypeError(f"{name} must be a dense tensor, got {kind}")
    if array.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {array.dtype}; accepted at most: {', '.join(map(str, DTYPES))}")
    return DTYPES[array.dtype]
