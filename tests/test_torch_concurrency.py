"""torch tensors from many threads, in worker processes, and beside torch's own threads."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import numbapool
from tests.processes import call_in_process

torch = pytest.importorskip("torch")
F = torch.nn.functional


def steps(x: Any) -> tuple[Any, Any]:
    """Values and gradient of a max and an average stage."""
    leaf = x.clone().requires_grad_()
    out = numbapool.avg_pool2d(numbapool.max_pool2d(leaf, 3, 2, 1), 2)
    out.square().sum().backward()
    return out.detach(), leaf.grad


def in_16_threads() -> None:
    x = torch.rand(4, 16, 56, 56, generator=torch.Generator().manual_seed(0))
    out, grad = steps(x)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            a, b = steps(x)
            if not (torch.equal(a, out) and torch.equal(b, grad)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong, wrong


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_16_threads(layer: str) -> None:
    call_in_process(in_16_threads, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=2)


class Pooled(torch.utils.data.Dataset):
    """Pooled images, made where they are asked for."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        return numbapool.max_pool2d(torch.full((3, 128, 128), float(number)), 3, 2, 1)


def load(method: str) -> None:
    before = numbapool.max_pool2d(torch.rand(8, 3, 128, 128), 2)  # the parent has threads when it forks
    assert before.shape == (8, 3, 64, 64)
    F.max_pool2d(torch.rand(8, 3, 128, 128), 2)
    loader = torch.utils.data.DataLoader(
        Pooled(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=100
    )
    for epoch in range(2):
        batches = list(loader)
        assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], (
            epoch
        )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader(method: str) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this operating system")
    call_in_process(load, method)


def alternate(seconds: float) -> None:
    """torch's pool and ours in turn while the number of torch's threads changes."""
    x = torch.rand(2, 16, 112, 112, generator=torch.Generator().manual_seed(0))
    expected, out = F.max_pool2d(x, 3, 2, 1), steps(x)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end or number < 8:
        torch.set_num_threads(1 + number % 4)
        assert torch.equal(F.max_pool2d(x, 3, 2, 1), expected)
        assert torch.equal(numbapool.max_pool2d(x, 3, 2, 1), expected)
        again = steps(x)
        assert torch.equal(again[0], out[0])
        assert torch.equal(again[1], out[1])
        number += 1


def test_alternating_with_torch() -> None:
    call_in_process(alternate, 3.0)


@pytest.mark.full
def test_alternating_with_torch_for_a_minute() -> None:
    call_in_process(alternate, 60.0)
