"""What a call needs besides its input and its output: at most two padded planes or 1 MiB a thread."""

from __future__ import annotations

import json

import numba
import numpy as np
import pytest

import numbapool
from tests.memory import CLEAR, peak_of
from tests.processes import call_in_process

MIB = 1 << 20


def measure(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> None:
    """Print the peak of each pass, all of them into arrays that exist."""
    x = np.random.default_rng(0).random(shape, np.float32)
    arguments = (kernel, stride, padding)
    values, indices = numbapool.max_pool2d(x, *arguments, return_indices=True)
    gradient = np.zeros_like(x)
    peaks = {
        "max": peak_of(lambda: numbapool.max_pool2d(x, *arguments, out=values)),
        "indices": peak_of(lambda: numbapool.max_pool2d(x, *arguments, return_indices=True, out=(values, indices))),
        "avg": peak_of(lambda: numbapool.avg_pool2d(x, *arguments, out=values)),
        "max backward": peak_of(lambda: numbapool.max_pool2d_backward(values, x, *arguments, out=gradient)),
        "indices backward": peak_of(
            lambda: numbapool.max_pool2d_backward(values, x, *arguments, indices=indices, out=gradient)
        ),
        "avg backward": peak_of(lambda: numbapool.avg_pool2d_backward(values, x, *arguments, out=gradient)),
    }
    print(json.dumps(peaks))


@pytest.mark.skipif(not CLEAR.exists(), reason="this system does not reset a process's peak of memory")
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding"),
    [
        ((4, 64, 112, 112), 3, 2, 1),
        ((4, 64, 56, 56), 3, 1, 1),
        ((4, 256, 32, 32), 2, 2, 0),
        ((1, 1, 1024, 1024), 31, 1, 15),
        ((1, 2, 1024, 1024), 100, 100, 0),
    ],
)
def test_extra_memory(shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> None:
    padded_plane = 4 * (shape[-2] + 2 * padding) * (shape[-1] + 2 * padding)
    allowed = numba.config.NUMBA_NUM_THREADS * max(2 * padded_plane, MIB)
    peaks = json.loads(call_in_process(measure, shape, kernel, stride, padding))
    assert len(peaks) == 6
    assert max(peaks.values()) <= allowed, peaks
