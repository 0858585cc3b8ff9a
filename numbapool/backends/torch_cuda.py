"""torch tensors on CUDA devices, for `cuda.Runner`: views of their memory, torch's current stream and torch's allocator."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from numbapool.backends.cuda import WIDE, New
from numbapool.backends.memory import View
from numbapool.backends.torch_tensors import DTYPES, TORCH_DTYPES, format_of_any
from numbapool.geometry import Plan

# Where the current device stays.
AS_IT_IS = nullcontext()


class TensorLibrary:
    """What a `cuda.Library` must do."""

    has_graph_pools = True

    def device_of(self, tensor: Tensor) -> int:
        """Number of the device."""
        return int(tensor.get_device())

    def view(self, tensor: Tensor) -> View:
        """Where a tensor is."""
        dtype = DTYPES[tensor.dtype]
        strides = tuple([step * dtype.itemsize for step in tensor.stride()])
        return View(tensor.data_ptr(), tuple(tensor.shape), strides, dtype, self.device_of(tensor))

    def key(self, tensor: Tensor) -> Hashable:
        """What programs and devices depend on."""
        return tensor.shape, tensor.stride(), tensor.dtype, self.device_of(tensor), tensor.data_ptr() % WIDE

    def address(self, tensor: Tensor) -> int:
        """Of its first element."""
        return tensor.data_ptr()

    def own_dtype(self, dtype: np.dtype[Any], like: Tensor) -> torch.dtype:
        """Of torch."""
        return TORCH_DTYPES[dtype]

    def on(self, device: int) -> AbstractContextManager[Any]:
        """Nothing to do: torch's operations go to the device of their tensors, whichever is current."""
        return AS_IT_IS

    def stream(self, device: int, tensors: Sequence[Tensor]) -> int:
        """The current stream on the device, as torch's own compiler asks for it: without making an object."""
        return int(torch._C._cuda_getCurrentRawStream(device))

    def is_capturing(self, device: int) -> bool:
        """Whether that stream records a graph."""
        with torch.cuda.device(device):
            return bool(torch.cuda.is_current_stream_capturing())

    def last_axis(self, plan: Plan, inputs: Sequence[Tensor]) -> int | None:
        """Torch's rule, which says channels-last for four or five axes only, of which the second are channels."""
        return None if format_of_any(inputs) is torch.contiguous_format else 1

    def allocated(self, news: Iterable[New], device: int, like: Tensor) -> list[Tensor]:
        """From torch's allocator; `torch.empty`, which first looks for names of axes, takes 1.5 us where this takes 1.2."""
        return [
            like.new_empty(shape, dtype=dtype) if order is None else like.new_empty(shape, dtype=dtype).permute(order)
            for shape, dtype, order in news
        ]

    def to_device(self, array: np.ndarray, device: int, like: Tensor, is_kept: bool) -> Tensor:
        """A copy; done, if it is kept."""
        tensor = torch.from_numpy(array)
        return tensor.to(like.device) if is_kept else tensor.pin_memory().to(like.device, non_blocking=True)

    def to_host(self, tensor: Tensor) -> np.ndarray:
        """The values."""
        values: np.ndarray = tensor.numpy(force=True)
        return values

    def contiguous(self, tensor: Tensor) -> Tensor:
        """A copy in C order."""
        return tensor.clone(memory_format=torch.contiguous_format)

    def permuted(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """A view."""
        return tensor.permute(*axes)

    def copy(self, target: Tensor, source: Tensor) -> None:
        """On the current stream."""
        target.copy_(source)


library = TensorLibrary()
