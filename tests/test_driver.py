"""The launcher with the real cuda-core and cuda-bindings, and a driver that writes down what it is told (tests/driver.c)."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from numbapool.backends import launcher
from numbapool.kernels.cuda import compile as compiler
from numbapool.kernels.cuda.launch import Program, Step
from numbapool.kernels.cuda.variants import Kernel
from tests.processes import call_in_process

ROOT = Path(__file__).parents[1]
LARGEST, LEAST = 2**63 - 1, -(2**63)
THREADS, LAUNCHES = 4, 50
FIRST_CONTEXT, DISABLE_TIMING = 4096, 2


def nothing() -> None:
    """A kernel."""


# Two steps: the first with an address of a device, an offset into it, no buffer at all, and scalars of all kinds.
WIDE = Step(
    Kernel(nothing, "wide", (), ("float32",) * 3, tuple("abcd"), 128),
    5,
    ((0, 0), (1, 16), (-1, 0)),
    (-1, 0, LARGEST, LEAST),
)
NARROW = Step(Kernel(nothing, "narrow", (), ("float32",), ("a",), 256), 2**31 - 1, ((1, 0),), (7,))
PROGRAM = Program((WIDE, NARROW))


def run(addresses: list[int], device: int, stream: int) -> None:
    """The program, by the launcher."""
    launcher.run(launcher.load(PROGRAM, device), addresses, stream)


def scenario() -> None:
    """What the driver is to hear, in a process of its own."""
    compiler.compile_kernel = lambda kernel, capability: compiler.Code(
        f"{len(kernel.buffers) + len(kernel.scalars)}".encode().ljust(64, b"\0"), "entry"
    )
    driver = importlib.import_module("cuda.bindings.driver")
    for device in (1, 0):
        run([1 << 40, LARGEST - 16], device, 0)
    _, context = driver.cuDevicePrimaryCtxRetain(0)
    driver.cuCtxPushCurrent(context)
    run([1 << 40, LARGEST - 16], 1, 0x5550)
    assert int(driver.cuCtxGetCurrent()[1]) == int(context)
    run([1 << 40, LARGEST - 16], 0, 0x5550)
    assert int(driver.cuCtxGetCurrent()[1]) == int(context)
    launcher.wait(1, 55, 0)
    assert int(driver.cuCtxGetCurrent()[1]) == int(context)
    assert launcher.device_of(1 << 40) == 1
    with pytest.raises(RuntimeError, match=r"the CUDA driver answered .*INVALID_VALUE"):
        launcher.device_of(4096)

    def launch(thread: int) -> None:
        for number in range(LAUNCHES):
            run([thread << 40, number], thread % 2, 100 + thread)
        assert int(driver.cuCtxGetCurrent()[1]) == 0

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(launch, range(THREADS)))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of the driver."""
    for package in ("cuda-core", "cuda-bindings"):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install 'numbapool[gate]')")
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("no C compiler for Linux, as cc")
    folder = tmp_path_factory.mktemp("driver")
    source, library = ROOT / "tests" / "driver.c", folder / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", source, "-o", library], check=True, timeout=60)
    return call_in_process(scenario, LD_LIBRARY_PATH=folder).splitlines()


def launches(device: int, stream: int, addresses: list[int]) -> list[str]:
    """What the driver hears of the program."""
    first, second = addresses
    words = f"launch context={FIRST_CONTEXT + device} stream={stream}"
    return [
        f"{words} grid=5,1,1 block=128,1,1 shared=0 {first} {second + 16} 0 -1 0 {LARGEST} {LEAST}",
        f"{words} grid={2**31 - 1},1,1 block=256,1,1 shared=0 {second} 7",
    ]


def test_launches_one_after_the_other(heard: list[str]) -> None:
    """In the device's context, on the stream, the legacy one for 0, with every argument of 64 bits."""
    expected = [
        line
        for device, stream in ((1, 1), (0, 1), (1, 0x5550), (0, 0x5550))
        for line in launches(device, stream, [1 << 40, LARGEST - 16])
    ]
    assert [line for line in heard if line.startswith("launch")][: len(expected)] == expected


def test_launches_of_threads(heard: list[str]) -> None:
    """Each thread's in their order, with its own arguments and the context of its device."""
    for thread in range(THREADS):
        expected = [
            line for number in range(LAUNCHES) for line in launches(thread % 2, 100 + thread, [thread << 40, number])
        ]
        assert [line for line in heard if f" stream={100 + thread} " in line] == expected


def test_kernels_are_loaded_once_for_a_device(heard: list[str]) -> None:
    devices = 2
    assert heard.count("load") == devices * len(PROGRAM.steps)


def test_a_stream_waits_by_an_event(heard: list[str]) -> None:
    events = [line for line in heard if line.split()[0] in ("event", "record", "wait", "destroy")]
    made = f"event flags={DISABLE_TIMING} context={FIRST_CONTEXT + 1}"
    assert events == [made, "record 77 stream=1", "wait 77 stream=55", "destroy 77"]
