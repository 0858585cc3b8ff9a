"""What goes to the driver, by one that writes down what it is told: contexts, streams, and what is made once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from numbapool.backends import launcher
from numbapool.kernels.cuda.launch import Program, Step
from numbapool.kernels.cuda.variants import Kernel
from tests import imitation

run_loaded, wait, device_of, load = imitation.real_launcher

SUCCESS = 0


class Driver:
    """Some functions of `cuda.bindings.driver`; the context of device n is 100 + n."""

    CUevent_flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)

    def __init__(self) -> None:
        self.contexts: list[int] = []
        self.log: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> tuple[Any, ...]:
            self.log.append((name, *arguments))
            return (SUCCESS, 77) if name == "cuEventCreate" else (SUCCESS,)

        return function

    def cuDeviceGet(self, device: int) -> tuple[int, int]:
        return SUCCESS, device

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[int, int]:
        self.log.append(("retain", device))
        return SUCCESS, 100 + device

    def cuCtxGetCurrent(self) -> tuple[int, int]:
        return SUCCESS, self.contexts[-1] if self.contexts else 0

    def cuCtxPushCurrent(self, context: int) -> tuple[int]:
        self.contexts.append(context)
        return (SUCCESS,)

    def cuCtxPopCurrent(self) -> tuple[int, int]:
        return SUCCESS, self.contexts.pop()

    def cuPointerGetAttribute(self, attribute: int, address: int) -> tuple[int, int]:
        return (SUCCESS, 3) if address == 4096 else (1, 0)


class Core:
    """Some of `cuda.core`."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.launched: list[tuple[Any, ...]] = []
        self.loaded: list[bytes] = []
        self.made: list[Any] = []
        self.Stream = SimpleNamespace(from_handle=lambda handle: f"stream {handle}")
        self.ObjectCode = SimpleNamespace(from_cubin=self.from_cubin)

    def Device(self, number: int) -> Any:
        return SimpleNamespace(compute_capability=(9, number))

    def LaunchConfig(self, grid: int, block: int) -> tuple[int, int]:
        self.made.append((grid, block))
        return grid, block

    def from_cubin(self, cubin: bytes) -> Any:
        self.loaded.append(cubin)
        self.made.append(cubin)
        return SimpleNamespace(get_kernel=lambda name: f"{name} of {cubin.decode()}")

    def launch(self, stream: Any, config: Any, kernel: Any, *arguments: Any) -> None:
        assert all(type(each) is int for each in arguments)
        self.launched.append((self.driver.contexts[-1], stream, config, kernel, arguments))


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    made = Core(Driver())
    monkeypatch.setattr(launcher, "_core", lambda: made)
    monkeypatch.setattr(launcher, "_driver", lambda: made.driver)
    monkeypatch.setattr(launcher, "_kernels", {})
    monkeypatch.setattr(
        launcher.compiler,
        "compile_kernel",
        lambda kernel, capability: SimpleNamespace(cubin=f"{kernel.label} {capability}".encode(), name="entry"),
    )
    for each in (launcher._context, launcher._capability, launcher._stream, launcher._config):
        each.cache_clear()
    yield made
    for each in (launcher._context, launcher._capability, launcher._stream, launcher._config):
        each.cache_clear()


def run(program: Program, addresses: list[int], device: int, stream: int) -> None:
    """Load and run."""
    run_loaded(load(program, device), addresses, stream)


def nothing() -> None:
    """A kernel."""


KERNEL = Kernel(nothing, "label", (), ("float32",), ("a", "b"), 128)
PROGRAM = Program((Step(KERNEL, 5, ((0, 16), (1, 0), (-1, 0)), (8, 9)), Step(KERNEL, 6, ((1, 0),), (1, 2))))


def test_steps_in_order_on_the_stream_in_the_devices_context(core: Core) -> None:
    run(PROGRAM, [1000, 2000], 1, 55)
    entry = "entry of label (9, 1)"
    assert core.launched == [
        (101, "stream 55", (5, 128), entry, (1016, 2000, 0, 8, 9)),
        (101, "stream 55", (6, 128), entry, (2000, 1, 2)),
    ]
    assert core.driver.contexts == []


def test_another_context_is_current_again(core: Core) -> None:
    core.driver.contexts.append(42)
    run(PROGRAM, [1000, 2000], 0, 55)
    assert {each[0] for each in core.launched} == {100}
    assert core.driver.contexts == [42]


def test_a_failed_launch_leaves_the_context_as_it_was(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("no launch")

    monkeypatch.setattr(core, "launch", failing)
    core.driver.contexts.append(42)
    with pytest.raises(RuntimeError, match="no launch"):
        run(PROGRAM, [1000, 2000], 0, 55)
    assert core.driver.contexts == [42]


def test_kernels_are_loaded_once_for_a_device_and_contexts_kept(core: Core) -> None:
    for device in (0, 1, 0, 1):
        run(PROGRAM, [1000, 2000], device, 55)
    assert core.loaded == [b"label (9, 0)", b"label (9, 1)"]
    assert core.driver.log.count(("retain", 0)) == core.driver.log.count(("retain", 1)) == 1


def test_what_is_loaded_runs_with_nothing_made_anew(core: Core) -> None:
    loaded = [load(PROGRAM, device) for device in (0, 1)]
    core.made.clear()
    core.driver.log.clear()
    for addresses in ([1000, 2000], [3000, 4000]):
        for each in loaded:
            run_loaded(each, addresses, 55)
    assert core.made == []
    assert [each[0] for each in core.launched] == [100, 100, 101, 101] * 2
    assert [each[4][:2] for each in core.launched[::2]] == [(1016, 2000)] * 2 + [(3016, 4000)] * 2
    assert core.driver.contexts == core.driver.log == []


def test_the_default_stream_is_the_one_that_threads_share(core: Core) -> None:
    run(PROGRAM, [1000, 2000], 0, 0)
    assert {each[1] for each in core.launched} == {"stream 1"}


def test_streams_wait_by_events(core: Core) -> None:
    wait(0, 55, 0)
    calls = [each for each in core.driver.log if each[0].startswith(("cuEvent", "cuStream"))]
    assert calls == [
        ("cuEventCreate", 2),
        ("cuEventRecord", 77, 1),
        ("cuStreamWaitEvent", 55, 77, 0),
        ("cuEventDestroy", 77),
    ]
    assert core.driver.contexts == []


def test_errors_of_the_driver_are_raised(core: Core) -> None:
    assert device_of(4096) == 3
    with pytest.raises(RuntimeError, match="the CUDA driver answered 1"):
        device_of(17)
