"""What only a GPU can show: that streams order work, that graphs replay it, that libraries meet, and torch's answers.

`python -m benchmarks.gpu test` runs these, and all tests that take any kind of array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbapool

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
F = torch.nn.functional


def windows(random: np.random.Generator, rank: int) -> dict[str, Any]:
    """Arguments that torch takes too."""
    kernel = tuple(map(int, random.integers(1, 6, rank)))
    return {
        "kernel_size": kernel,
        "stride": tuple(map(int, random.integers(1, 5, rank))),
        "padding": tuple(int(random.integers(0, k // 2 + 1)) for k in kernel),
        "ceil_mode": bool(random.integers(2)),
    }


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_as_torch(kind: str, seed: int) -> None:
    """Forward and backward, at random: values of maxima and indices exactly, sums as nearly as their dtype allows."""
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 4))
    shape = (*random.integers(1, 9, 2), *random.integers(12, 40 if rank < 3 else 20, rank))
    dtype = (torch.float32, torch.float64, torch.float16, torch.bfloat16)[random.integers(4)]
    x = torch.from_numpy(random.normal(size=shape)).to("cuda", dtype)
    if rank > 1 and random.integers(2):
        x = x.contiguous(memory_format=torch.channels_last if rank == 2 else torch.channels_last_3d)
    arguments = windows(random, rank)
    ours, exact = x.clone().requires_grad_(), x.to(torch.float64, copy=True).requires_grad_()
    name = f"{kind}_pool{rank}d"
    if kind == "max":
        out, indices = getattr(numbapool, name)(ours, **arguments, return_indices=True)
        expected, expected_indices = getattr(F, name)(x, **arguments, return_indices=True)
        assert torch.equal(out, expected)
        assert torch.equal(indices, expected_indices)
    else:
        out, expected = getattr(numbapool, name)(ours, **arguments), getattr(F, name)(x, **arguments)
        torch.testing.assert_close(out, expected)
    is_channels_last = x.stride() != torch.empty_like(x, memory_format=torch.contiguous_format).stride()
    if (kind, rank) == ("avg", 3) and is_channels_last:  # torch's own result is contiguous, see docs/semantics.md
        expected = expected.contiguous(memory_format=torch.channels_last_3d)
    assert out.stride() == expected.stride()
    gradient = torch.from_numpy(random.normal(size=expected.shape)).to("cuda", dtype)
    out.backward(gradient)
    getattr(F, name)(exact, **arguments).backward(gradient.double())  # of halves torch may round every partial sum
    torch.testing.assert_close(ours.grad, exact.grad.to(dtype))


def test_work_waits_for_the_current_stream_only() -> None:
    """A long copy on a side stream comes before the pooling that is called in it."""
    stream = torch.cuda.Stream()
    x = torch.zeros(8, 64, 512, 512, device="cuda")
    numbapool.max_pool2d(x, 2)  # compiled
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        x.fill_(1)
        out = numbapool.max_pool2d(x, 2)
    assert not stream.query()  # nobody has waited
    stream.synchronize()
    assert bool((out == 1).all())


def test_a_graph_of_torch_replays_forward_and_backward() -> None:
    x = torch.randn(4, 8, 32, 32, device="cuda", requires_grad=True)
    gradient = torch.randn(4, 8, 16, 16, device="cuda")

    def step() -> tuple[Any, Any]:
        out = numbapool.max_pool2d(x, 3, 2, 1)
        return out, torch.autograd.grad(out, x, gradient)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, back = step()
    for _ in range(3):
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
        graph.replay()
        expected = F.max_pool2d(x, 3, 2, 1)
        assert torch.equal(out, expected)
        torch.testing.assert_close(back, torch.autograd.grad(expected, x, gradient)[0])


def test_a_graph_of_cupy_replays() -> None:
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x = cupy.random.random((4, 8, 32, 32), dtype=cupy.float32)
        out = cupy.empty((4, 8, 16, 16), cupy.float32)
        numbapool.avg_pool2d(x, 2, out=out)
        stream.synchronize()
        stream.begin_capture()
        numbapool.avg_pool2d(x, 2, out=out)
        graph = stream.end_capture()
        x[...] = cupy.random.random(x.shape, dtype=cupy.float32)
        graph.launch(stream)
        stream.synchronize()
        cupy.testing.assert_allclose(out, x.reshape(4, 8, 16, 2, 16, 2).mean((3, 5)), rtol=1e-6)


def test_scratch_of_a_graph_of_cupy_is_its_own() -> None:
    """Arrays that are made after the capture have other memory."""
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x = cupy.random.random((4, 8, 32, 32), dtype=cupy.float32)
        out = numbapool.lp_pool2d(x, 2, 3)
        stream.synchronize()
        stream.begin_capture()
        numbapool.lp_pool2d(x, 2, 3, out=out)
        graph = stream.end_capture()
        others = [cupy.full((4, 8, 32, 32), i, cupy.float32) for i in range(8)]
        graph.launch(stream)
        stream.synchronize()
        cupy.testing.assert_allclose(out, numbapool.lp_pool2d(x, 2, 3), rtol=1e-6)
        for i, other in enumerate(others):
            cupy.testing.assert_array_equal(other, cupy.full_like(other, i))


def test_indices_are_checked_when_asked() -> None:
    x, grad = torch.randn(1, 1, 4, 4, device="cuda"), torch.ones(1, 1, 2, 2, device="cuda")
    indices = torch.tensor([[[[0, 2], [99, 10]]]], device="cuda")
    result = numbapool.max_pool2d_backward(grad, x, 2, indices=indices)
    assert torch.nonzero(result.ravel()).ravel().tolist() == [0, 2, 10]
    with pytest.raises(ValueError, match="99 in indices is outside"):
        numbapool.max_pool2d_backward(grad, x, 2, indices=indices, check_indices=True)


# torch's default compiler, the first time, imports what torch itself calls deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_without_a_break() -> None:
    x = torch.randn(2, 3, 16, 16, device="cuda", requires_grad=True)
    compiled = torch.compile(lambda x: numbapool.max_pool2d(x, 2) * 2, fullgraph=True)
    out = compiled(x)
    assert torch.equal(out, F.max_pool2d(x, 2) * 2)
    out.sum().backward()
    assert x.grad is not None
    assert float(x.grad.sum()) == 2 * out.numel()


def test_mixed_devices() -> None:
    x = torch.randn(1, 1, 4, 4, device="cuda")
    with pytest.raises(ValueError, match=r"x must be on the device of grad_output, cpu, got cuda:0"):
        numbapool.max_pool2d_backward(torch.ones(1, 1, 2, 2), x, 2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU only")
def test_the_second_device() -> None:
    x = torch.randn(2, 3, 8, 8, device="cuda:1")
    out = numbapool.max_pool2d(x, 2)
    assert out.device == x.device
    assert torch.cuda.current_device() == 0
    assert torch.equal(out, F.max_pool2d(x, 2))


def test_device_arrays_of_numba() -> None:
    cuda = pytest.importorskip("numba.cuda")
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8))
    stream = cuda.stream()
    for array in (cuda.to_device(x), cuda.to_device(x, stream=stream)):
        out, indices = numbapool.max_pool2d(array, 2, return_indices=True)
        assert isinstance(out, type(array))
        expected, expected_indices = numbapool.max_pool2d(x, 2, return_indices=True)
        back = numbapool.max_pool2d_backward(out, array, 2, indices=indices)
        stream.synchronize()
        np.testing.assert_array_equal(out.copy_to_host(), expected)
        np.testing.assert_array_equal(indices.copy_to_host(), expected_indices)
        np.testing.assert_array_equal(
            back.copy_to_host(), numbapool.max_pool2d_backward(expected, x, 2, indices=expected_indices)
        )
    given = cuda.to_device(np.zeros((3, 2, 4, 4)))
    view = numbapool.backends.device_arrays.backend.permuted(given, (1, 0, 2, 3))
    numbapool.max_pool2d(cuda.to_device(x), 2, out=view)
    np.testing.assert_array_equal(given.copy_to_host().swapaxes(0, 1), expected)


def test_exporters() -> None:
    """A library of which nothing is known, by DLPack and by the CUDA array interface."""
    cupy = pytest.importorskip("cupy")
    x = cupy.random.random((2, 3, 8, 8))
    expected = numbapool.max_pool2d(x, 2)

    class ByDlpack:
        __dlpack__, __dlpack_device__ = x.__dlpack__, x.__dlpack_device__

    class ByInterface:
        __cuda_array_interface__ = x.__cuda_array_interface__

    for exporter in (ByDlpack(), ByInterface()):
        out = numbapool.max_pool2d(exporter, 2)
        assert isinstance(out, cupy.ndarray)
        cupy.testing.assert_array_equal(out, expected)
