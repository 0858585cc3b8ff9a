"""Tensors of the CPU that numbapool takes for tensors on a GPU: all but the launches is the code that real ones meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
from numpy.typing import NDArray
from torch import Tensor

from numbapool.backends import torch_cuda, torch_jobs, torch_tensors
from numbapool.backends.cuda import New
from tests import imitation

DEVICE = imitation.DEVICES[0]


class ImitatedLibrary(torch_cuda.TensorLibrary):
    """Says what torch would say of a device."""

    def device_of(self, tensor: Tensor) -> int:
        assert tensor.is_cpu
        return DEVICE

    def on(self, device: int) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = imitation.Device(device)
        return context

    def stream(self, device: int, tensors: Sequence[Tensor]) -> int:
        return imitation.get_current_stream(device).ptr

    def is_capturing(self, device: int) -> bool:
        return imitation.is_capturing

    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        imitation.events.append(("synchronize", DEVICE))
        return super().to_host(tensor)

    def to_device(self, array: NDArray[Any], device: int, like: Tensor, is_kept: bool) -> Tensor:
        if is_kept:
            imitation.events.append(("synchronize", DEVICE))
        return super().to_device(array.copy(), device, like, is_kept=True)  # the CPU's build has no pinned memory

    def allocated(self, news: Iterable[New], device: int, like: Tensor) -> list[Tensor]:
        tensors = super().allocated(news, device, like)
        for each in tensors:
            each.untyped_storage().fill_(0xA5)
            imitation.events.append(("empty", DEVICE))
        return tensors


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends."""
    for module in (torch_tensors, torch_jobs):
        monkeypatch.setattr(module, "is_on_gpu", lambda tensor: tensor.is_cpu)
    monkeypatch.setattr(torch_cuda.library, "__class__", ImitatedLibrary)
