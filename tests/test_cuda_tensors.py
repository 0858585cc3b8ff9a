"""torch tensors on CUDA devices, without one: autograd, operators, streams and waits of tensors that are taken for such."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import numbapool

torch = pytest.importorskip("torch")

from numbapool.backends import torch as adapter  # noqa: E402
from numbapool.backends import torch_autograd, torch_jobs, torch_tensors  # noqa: E402
from tests import imitated_tensors, imitation  # noqa: E402
from tests.imitation import DEVICES, events  # noqa: E402

F = torch.nn.functional
# torch.func.jvp, the first time, uses a decorator that torch itself calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
HERE = DEVICES[0]


@pytest.fixture(autouse=True)
def _on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    imitated_tensors.install(monkeypatch)
    events.clear()
    yield
    imitation.is_capturing = False


def launches() -> list[tuple[Any, ...]]:
    return [each for each in events if each[0] == "launch"]


def numbers(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_autograd_without_waiting(memory_format: Any) -> None:
    x = numbers(2, 8, 9, 9).contiguous(memory_format=memory_format).requires_grad_()
    for ours, theirs in ((numbapool.max_pool2d, F.max_pool2d), (numbapool.avg_pool2d, F.avg_pool2d)):
        out, expected = ours(x, 3, 2, 1), theirs(x, 3, 2, 1)
        torch.testing.assert_close(out, expected)
        assert out.stride() == expected.stride()
        gradient = torch.randn_like(expected)
        mine, judge = (torch.autograd.grad(each, x, gradient)[0] for each in (out, expected))
        torch.testing.assert_close(mine, judge)
    assert len(launches()) >= 4
    assert not any(each[0] in ("synchronize", "copy") for each in events)


def test_second_derivatives_and_tangents() -> None:
    x = numbers(1, 2, 6, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: numbapool.max_pool2d(x, 3, 1, 1), x)
    assert torch.autograd.gradgradcheck(lambda x: numbapool.avg_pool2d(x, 2) ** 2, x)
    events.clear()
    _, tangent = torch.func.jvp(lambda x: numbapool.max_pool2d(x, 2), (x.detach(),), (torch.ones_like(x),))
    assert bool((tangent == 1).all())
    assert len(launches()) == 2


def test_planes_of_one_size_and_other_lengths() -> None:
    """Global pooling takes a plane as one axis: what is remembered of one shape must not serve another."""
    memory = numbers(64)
    for shape in ((1, 1, 2, 6), (1, 1, 3, 4), (1, 1, 6, 2), (1, 1, 4, 3)):
        for _ in range(2):
            x = memory.as_strided(shape, (64, 64, 6, 1))
            torch.testing.assert_close(numbapool.global_avg_pool(x), x.mean((2, 3), keepdim=True))


def test_repeated_calls_are_launched_anew() -> None:
    for seed in range(4):
        x = numbers(1, 2, 6, 6) + seed
        for view in (x, x[..., 1:], x.mT, x.contiguous(memory_format=torch.channels_last)):
            out, expected = numbapool.max_pool2d(view, 2), F.max_pool2d(view, 2)
            assert torch.equal(out, expected)
            assert out.stride() == expected.stride()
    assert len(launches()) == 16


@pytest.mark.parametrize(("name", "saved"), [("max_pool2d", 1), ("avg_pool2d", 0)])
def test_repeated_derivatives_only_allocate_and_launch(name: str, saved: int) -> None:
    x, gradient = numbers(2, 3, 8, 8).requires_grad_(), numbers(2, 3, 4, 4)
    pool = getattr(numbapool, name)
    for _ in range(2):
        events.clear()
        imitation.loads.clear()
        out = pool(x, 2)
        assert [each[0] for each in events] == ["empty"] * (1 + saved) + ["launch"]
        events.clear()
        (back,) = torch.autograd.grad(out, x, gradient)
        assert [each[0] for each in events] == ["empty", "launch"]
    assert imitation.loads == []
    torch.testing.assert_close(back, torch.autograd.grad(getattr(F, name)(x, 2), x, gradient)[0])


def test_unpooling_takes_scratch_in_one_piece() -> None:
    x = numbers(1, 2, 6, 6)
    values, indices = numbapool.max_pool2d(x, 2, return_indices=True)
    for _ in range(2):
        events.clear()
        out = numbapool.max_unpool2d(values, indices, 2, check_indices=False)
        assert [each[0] for each in events] == ["empty", "empty", "launch"]
    torch.testing.assert_close(out, F.max_unpool2d(values, indices, 2))


def test_gradients_lie_as_inputs_do_whatever_came_before() -> None:
    """Gradients of one layout, for inputs of two."""
    gradient = numbers(2, 3, 4, 4)
    for _ in range(2):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = numbers(2, 3, 8, 8).contiguous(memory_format=memory_format).requires_grad_()
            for name in ("max_pool2d", "avg_pool2d"):
                ours, theirs = (getattr(each, name)(x, 2) for each in (numbapool, F))
                mine, judge = (torch.autograd.grad(each, x, gradient)[0] for each in (ours, theirs))
                torch.testing.assert_close(mine, judge)
                assert mine.stride() == x.stride()


def test_indices_of_two_kinds_have_programs_of_their_own() -> None:
    """Of one shape, with the same strides in elements, one in bytes and one in words of eight."""
    x, gradient = numbers(1, 2, 6, 6), numbers(1, 2, 3, 3)
    _, positions = numbapool.max_pool2d(x, 2, return_indices=True)
    _, taps = numbapool.max_pool2d(x, 2, return_indices=True, index_kind="window")
    expected = torch.ops.aten.max_pool2d_with_indices_backward(gradient, x, [2], [2], [0], [1], False, positions)
    for _ in range(2):
        for indices, kind in ((positions, "plane"), (taps, "window")):
            back = numbapool.max_pool2d_backward(gradient, x, 2, indices=indices, index_kind=kind)
            torch.testing.assert_close(back, expected)


def test_gradients_of_planes_of_one_size_and_other_lengths() -> None:
    gradient = numbers(1, 1, 1, 1)
    for shape in ((1, 1, 2, 6), (1, 1, 3, 4), (1, 1, 6, 2), (1, 1, 2, 6)):
        back = numbapool.global_avg_pool_backward(gradient, torch.zeros(shape))
        torch.testing.assert_close(back, (gradient / 12).expand(shape))


def test_lazy_views_are_no_plain_tensors() -> None:
    """Of the same memory, shape and strides: negated, conjugated, of another dtype."""
    z = torch.complex(numbers(1, 2, 6, 6), numbers(1, 2, 6, 6) + 1)
    for _ in range(2):
        for each in (z, z.conj()):
            torch.testing.assert_close(numbapool.sum_pool2d(each, 2), numbapool.avg_pool2d(each, 2) * 4)
            torch.testing.assert_close(numbapool.avg_pool2d(each, 2).imag, F.avg_pool2d(each.imag.clone(), 2))
            torch.testing.assert_close(numbapool.max_pool2d(each.imag, 2), F.max_pool2d(each.imag.clone(), 2))
    bits = numbers(1, 2, 6, 6)
    for _ in range(2):
        for view in (bits, bits.view(torch.int32)):
            assert numbapool.max_pool2d(view, 2).tolist() == F.max_pool2d(view.double(), 2).tolist()


def test_threads_at_once() -> None:
    inputs = [numbers(2, 3, 8, 8) + seed for seed in range(3)]
    inputs[1] = inputs[1].contiguous(memory_format=torch.channels_last)
    numbapool.max_pool2d(
        inputs[0].clone().requires_grad_(), 3, 2, 1
    ).sum().backward()  # kernels are compiled by one thread

    def check(number: int) -> None:
        for _ in range(20):
            x = inputs[number % 3].detach().requires_grad_()
            ours, theirs = numbapool.max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1)
            assert torch.equal(ours, theirs)
            mine, judge = (torch.autograd.grad(each, x, theirs.detach())[0] for each in (ours, theirs))
            torch.testing.assert_close(mine, judge)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(check, range(12)))


def test_on_the_current_stream() -> None:
    x = numbers(1, 2, 6, 6)
    with imitation.current_stream(41):
        numbapool.max_pool2d(x, 2)
    with imitation.current_stream(42):
        numbapool.max_pool2d(x, 2)
    assert launches() == [("launch", HERE, 41), ("launch", HERE, 42)]


def test_recorded_calls_launch_too() -> None:
    x = numbers(1, 2, 6, 6).requires_grad_()
    compiled = torch.compile(lambda x: numbapool.max_pool2d(x, 2) * 2, fullgraph=True, backend="aot_eager")
    out = compiled(x)
    torch.testing.assert_close(out, F.max_pool2d(x, 2) * 2)
    out.sum().backward()
    assert x.grad is not None
    assert float(x.grad.sum()) == 2 * out.numel()
    assert len(launches()) >= 2
    assert not any(each[0] == "synchronize" for each in events)


def test_operators_are_there_for_cuda() -> None:
    from numbapool.backends import torch_operators

    for name in torch_operators.OPERATORS:
        for key in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"{torch_operators.library.ns}::{name}", key)


def test_unpooling_waits_only_to_check() -> None:
    x = torch.ones(1, 1, 2, 2)
    indices = torch.tensor([[[[0, 2], [99, 10]]]])
    with pytest.raises(ValueError, match="99 in indices is outside"):
        numbapool.max_unpool2d(x, indices, 2)
    for leaf in (x, x.clone().requires_grad_()):
        with pytest.raises(ValueError, match="99 in indices is outside"):
            numbapool.max_unpool2d(leaf, indices, 2)
        events.clear()
        out = numbapool.max_unpool2d(leaf, indices, 2, check_indices=False)
        assert torch.nonzero(out.ravel()).ravel().tolist() == [0, 2, 10]
        if leaf.requires_grad:
            out.sum().backward()
            assert leaf.grad.tolist() == [[[[1, 1], [0, 1]]]]
        assert not any(each[0] == "synchronize" for each in events)


def test_compiled_unpooling_waits_only_to_check() -> None:
    x, indices = torch.ones(1, 1, 2, 2, requires_grad=True), torch.tensor([[[[0, 2], [99, 10]]]])

    def unpool(x: Any, indices: Any, check_indices: bool) -> Any:
        return numbapool.max_unpool2d(x, indices, 2, check_indices=check_indices) * 2

    compiled = torch.compile(unpool, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="99 in indices is outside"):
        compiled(x, indices, True)
    events.clear()
    out = compiled(x, indices, False)
    assert torch.nonzero(out.ravel()).ravel().tolist() == [0, 2, 10]
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[[2, 2], [0, 2]]]]
    assert launches()
    assert not any(each[0] == "synchronize" for each in events)


def test_out_and_its_version() -> None:
    x, out = numbers(1, 2, 6, 6), torch.zeros(1, 2, 3, 3)
    version = out._version
    assert numbapool.max_pool2d(x, 2, out=out) is out
    assert out._version > version
    torch.testing.assert_close(out, F.max_pool2d(x, 2))
    for bad, error in [
        (torch.zeros(1, 2, 3, 4), ValueError),
        (torch.zeros(1, 2, 3, 3, dtype=torch.float64), TypeError),
        (torch.zeros(1, 2, 3, 3).requires_grad_(), ValueError),
        (torch.zeros(1, 2, 3, 1).expand(1, 2, 3, 3), ValueError),
    ]:
        events.clear()
        with pytest.raises(error, match=r"^out"):
            numbapool.max_pool2d(x, 2, out=bad)
        assert not launches()
    indices = torch.zeros(1, 2, 3, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="two different arrays"):
        numbapool.max_pool2d(numbers(1, 2, 6, 6).long(), 2, return_indices=True, out=(indices, indices))


def test_drawn_windows_do_not_wait() -> None:
    x = numbers(1, 2, 9, 9)
    out = numbapool.fractional_max_pool2d(x, 2, output_size=4)
    assert out.shape == (1, 2, 4, 4)
    assert launches()
    assert not any(each[0] == "synchronize" for each in events)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_samples_of_half_precision(dtype: Any) -> None:
    x, samples = numbers(1, 2, 9, 9), torch.rand(1, 2, 2).to(dtype)
    out = numbapool.fractional_max_pool2d(x, 2, output_size=4, _random_samples=samples)
    assert launches()
    expected = numbapool.fractional_max_pool2d(x.numpy(), 2, output_size=4, _random_samples=samples.float().numpy())
    np.testing.assert_array_equal(out.numpy(), expected)


def test_shapes_and_devices_of_results_before_there_are_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(1, 2, 6, 6, device="cuda:1")
        out, indices = numbapool.max_pool2d(x, 2, return_indices=True)
        back = numbapool.max_pool2d_backward(out, x, 2, indices=indices)
        for each, shape in ((out, (1, 2, 3, 3)), (indices, (1, 2, 3, 3)), (back, (1, 2, 6, 6))):
            assert (str(each.device), tuple(each.shape)) == ("cuda:1", shape)
        with pytest.raises(ValueError, match="grad_output must be on the device of x, cuda:1, got cpu"):
            numbapool.max_pool2d_backward(torch.empty(1, 2, 3, 3), x, 2)


def test_rocm_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says cuda for it."""

    class OfRocm:
        is_cuda, device = True, "cuda:0"
        is_cpu = is_meta = False

    monkeypatch.undo()
    monkeypatch.setattr(torch_tensors, "IS_ROCM", True)
    with pytest.raises(TypeError, match=r"x is on device cuda:0 \(ROCm\), for which numbapool has no kernels"):
        torch_tensors._unusual_dtype("x", OfRocm())  # type: ignore[arg-type]


def test_devices_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the devices that torch names: here a tensor without memory stands for another device's."""
    x, grad = numbers(1, 1, 4, 4), torch.ones(1, 1, 2, 2, device="meta")
    for module in (adapter, torch_autograd, torch_jobs, torch_tensors):
        monkeypatch.setattr(module, "is_recorded", lambda _: False)
    with pytest.raises(ValueError, match="x must be on the device of grad_output, meta, got cpu"):
        numbapool.max_pool2d_backward(grad, x, 2)
    with pytest.raises(ValueError, match="out must be on the device of x, cpu, got meta"):
        numbapool.max_pool2d(x, 2, out=grad)
    assert not launches()
