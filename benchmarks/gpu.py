"""`python -m benchmarks.gpu test`, `sanitize` and `speed`: what takes a GPU, each in a few minutes and with its table last."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import prod
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.report import duration, record, table, write_option

Call = Callable[[], object]

# Each tensor gets memory of its own from the driver, so that accesses beyond its end are seen, and not those beyond torch's pool.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
# What speed is measured against.
BARS = {
    "copy, float32": 0.9,
    "copy, half": 0.85,
    "copy, overlapping": 0.6,
    "case": 0.95,
    "forward": 1.3,
    "backward": 2.0,
    "large windows": 5.0,
    "host": 1.5,
}

EXPLANATION = """\
Seconds by CUDA events, medians; inputs in turn, so many that none is still in the L2 cache. `copy` is how much of the measured
bandwidth of a copy on the device the bytes that must be moved get. Backward is that of autograd, after a forward pass. On the host,
`recorded` is a forward call that autograd will go back through, and CuPy's backward is the function.
By `python -m benchmarks.gpu speed --write`."""


@dataclass(frozen=True)
class GpuCase:
    """Maxima or means of one geometry, at a size that no cache holds unless it says so."""

    name: str
    kind: str
    shape: tuple[int, ...]
    window: dict[str, Any]
    dtype: str = "float32"
    channels_last: bool = False

    @property
    def function(self) -> str:
        """Name of the function, in numbapool and torch."""
        return f"{self.kind}_pool{len(self.shape) - 2}d"

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return int(self.window["kernel_size"] ** (len(self.shape) - 2))

    @property
    def overlaps(self) -> bool:
        """Whether windows share elements."""
        return bool(self.window.get("stride", self.window["kernel_size"]) < self.window["kernel_size"])


def _cases() -> Iterator[GpuCase]:
    geometries = {
        "2x2": ((32, 64, 224, 224), {"kernel_size": 2}),
        "3x3-stride2": ((32, 64, 112, 112), {"kernel_size": 3, "stride": 2, "padding": 1}),
        "3x3-stride1": ((32, 192, 56, 56), {"kernel_size": 3, "stride": 1, "padding": 1}),
        "5x5-stride1": ((16, 256, 40, 40), {"kernel_size": 5, "stride": 1, "padding": 2}),
        "13x13-stride1": ((32, 256, 40, 40), {"kernel_size": 13, "stride": 1, "padding": 6}),
        "7x7-whole": ((256, 2048, 7, 7), {"kernel_size": 7}),
        "2x2x2": ((4, 32, 64, 112, 112), {"kernel_size": 2}),
        "1d": ((64, 512, 4096), {"kernel_size": 2}),
    }
    for kind in ("max", "avg"):
        for name, (shape, window) in geometries.items():
            for dtype in ("float32", "float16", "bfloat16"):
                yield GpuCase(f"{kind}-{name}-{dtype}", kind, shape, window, dtype)
        for name in ("2x2", "3x3-stride2", "3x3-stride1"):
            shape, window = geometries[name]
            yield GpuCase(f"{kind}-{name}-channels-last", kind, shape, window, channels_last=True)


CASES = tuple(_cases())


@click.group()
def main() -> None:
    """What takes a GPU: tests, sanitizers, speed."""


def device_name() -> str:
    """The GPU; leaves with a message where there is none."""
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    version = "torch is not installed" if torch is None else f"torch {torch.__version__} finds no CUDA device"
    raise click.ClickException(f"no GPU, so nothing has been run: {version}")


@main.command()
@click.option("-k", "pattern", default="", help="Only tests that pytest's -k selects.")
def test(pattern: str) -> None:
    """Run the whole suite on CuPy arrays and CUDA tensors, and the tests that only a GPU can pass."""
    name, console = device_name(), Console()
    with tempfile.TemporaryDirectory() as directory, Progress(console=console, transient=True) as progress:
        report = Path(directory) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "tests",
            "-m",
            "not large_memory",
            "-k",
            selected(pattern),
            "-v",
            "--no-header",
            f"--junitxml={report}",
        ]
        task = progress.add_task("collecting", total=100)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"^(\S+?)::.*\[\s*(\d+)%\]", line):
                    progress.update(task, description=found.group(1), completed=int(found.group(2)))
                elif not line.startswith("tests/"):
                    progress.console.print(line.rstrip(), highlight=False, markup=False)
        counts = _counts(report)
    result = table(f"Tests on {name}", ["module", "passed", "skipped", "failed"])
    for module, outcomes in sorted(counts.items()):
        result.add_row(module, *(str(outcomes[each]) for each in ("passed", "skipped", "failed")))
    console.print(result)
    if process.returncode != 0:
        raise click.ClickException("not everything passed")


def selected(pattern: str) -> str:
    """What pytest's -k takes for the tests that take a GPU, and of them those that a pattern of its own selects."""
    on_gpu = "(cupy_on_gpu or torch_on_gpu or test_on_gpu)"
    return f"{on_gpu} and ({pattern})" if pattern else on_gpu


def _counts(report: Path) -> dict[str, Counter[str]]:
    """Outcomes by module, of a report that pytest has written."""
    counts: dict[str, Counter[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag for child in case}
        outcome = "failed" if children & {"failure", "error"} else "skipped" if "skipped" in children else "passed"
        counts.setdefault(case.get("classname", ""), Counter())[outcome] += 1
    return counts


@main.command()
def sanitize() -> None:
    """Run every kind of kernel under compute-sanitizer: addresses and races."""
    name, console = device_name(), Console()
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        raise click.ClickException(
            "compute-sanitizer is not on the path, so nothing has been run: it comes with CUDA's toolkit"
        )
    result = table(f"compute-sanitizer on {name}", ["tool", "time", "errors"])
    has_failed = False
    with Progress(console=console, transient=True) as progress:
        tools = ("memcheck", "racecheck")
        for tool in progress.track(tools, description="compute-sanitizer"):
            start = time.perf_counter()
            command = [
                sanitizer,
                "--tool",
                tool,
                "--error-exitcode",
                "1",
                sys.executable,
                "-m",
                "benchmarks.gpu",
                "exercise",
            ]
            done = subprocess.run(command, env=os.environ | UNCACHED, capture_output=True, text=True, check=False)
            summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", done.stdout)
            if done.returncode != 0:
                has_failed = True
                progress.console.print(done.stdout[-4000:], done.stderr[-2000:], markup=False)
            result.add_row(tool, duration(time.perf_counter() - start), summary[-1] if summary else "did not run")
    console.print(result)
    if has_failed:
        raise click.ClickException("compute-sanitizer found something")


@main.command("exercise", hidden=True)
def exercise_all() -> None:
    """Call every function on small tensors of a GPU, of every dtype and layout: what `sanitize` watches."""
    device_name()
    import torch

    from benchmarks.exercise import DTYPES, exercise
    from numbapool.kernels.cuda import schedule

    schedule.FULL = 1  # as if small tensors filled a GPU: threads take several elements
    for dtype in DTYPES:
        exercise(dtype, "cuda")
    torch.cuda.synchronize()


@main.command()
@click.option("-k", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--rounds", default=7, help="Turns of each call.")
@write_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the results to a file.")
def speed(pattern: str, rounds: int, folder: Path | None, file: Path | None) -> None:
    """Compare with torch, torch.compile and CuPy, and with a copy on the device."""
    name, console = device_name(), Console()
    import torch
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False  # so that a graph can be gone back through again
    bandwidth = copy_bandwidth(rounds)
    cases = [case for case in CASES if pattern in case.name]
    results = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("cases", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            results.append(measured(case, rounds, bandwidth))
            progress.advance(task)
            torch.cuda.empty_cache()
        progress.add_task("host", total=None)
        host = host_cost()
    data = {"gpu": name, "copy_bandwidth": bandwidth, "cases": results, "host": host}
    tables = [case_table(results, name, bandwidth), host_table(host), bar_table(results, host)]
    if file is not None:
        file.write_text(json.dumps(data, indent=1) + "\n")
    if folder is not None:
        record(
            folder,
            "gpu",
            EXPLANATION,
            tables,
            data | {"machine": describe("numpy", "numba", "numba-cuda", "torch", "cupy")},
        )
        console.print(f"written to {folder}")
        tables = [case_table(results, name, bandwidth), host_table(host), bar_table(results, host)]
    for each in tables:
        console.print(each)


def copy_bandwidth(rounds: int) -> float:
    """Bytes a second, read and written, of a copy of 1 GiB on the device."""
    import torch

    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / timed([lambda: target.copy_(source)], rounds)


def timed(calls: list[Call], rounds: int) -> float:
    """Seconds a call, by events; calls in turn, at least 20 ms a round."""
    import torch

    turns = cycle(calls)
    for _ in calls:
        next(turns)()
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = len(calls)
    times: list[float] = []
    while len(times) < rounds:
        start.record()
        for _ in range(count):
            next(turns)()
        end.record()
        end.synchronize()
        milliseconds = start.elapsed_time(end)
        if milliseconds < 20 and not times:
            count *= 2
            continue
        times.append(milliseconds / count / 1e3)
    return median(times)


def measured(case: GpuCase, rounds: int, bandwidth: float) -> dict[str, Any]:
    """Seconds of all engines, forward and backward, and how near ours is to a copy."""
    import torch

    import numbapool

    dtype = getattr(torch, case.dtype)
    size = prod(case.shape) * dtype.itemsize
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    memory_format = torch.channels_last if case.channels_last else torch.contiguous_format
    inputs = [
        torch.randn(case.shape, device="cuda").to(dtype).contiguous(memory_format=memory_format)
        for _ in range(max(2, -(-3 * cache // size)))
    ]
    eager = getattr(torch.nn.functional, case.function)
    ours = getattr(numbapool, case.function)
    torch.compiler.reset()
    # A fixed lambda, because inductor takes functions of torch and not builtins.
    inductor = torch.compile(lambda x: eager(x, **case.window))
    functions = {
        "numbapool": lambda x: ours(x, **case.window),
        "torch": lambda x: eager(x, **case.window),
        "inductor": inductor,
    }
    forward, backward, results = {}, {}, {}
    for engine, function in functions.items():
        results[engine] = function(inputs[0])
        forward[engine] = timed([partial(function, x) for x in inputs], rounds)
        leaves = [x.detach().requires_grad_() for x in inputs]
        outs = [function(leaf) for leaf in leaves]
        grad = torch.randn_like(outs[0])
        calls: list[Call] = [
            partial(torch.autograd.grad, out, leaf, grad, retain_graph=True) for out, leaf in zip(outs, leaves)
        ]
        backward[engine] = timed(calls, rounds)
        del leaves, outs, calls
    torch.testing.assert_close(results["numbapool"], results["torch"])
    by_cupy = cupy_calls(case, inputs)
    if by_cupy:
        forward["cupy"] = timed(by_cupy, rounds)
    in_bytes, out_bytes = size, results["torch"].numel() * dtype.itemsize
    index_bytes = 1 if case.taps <= 255 and not case.channels_last else 4  # as numbapool saves them for backward
    saved = results["torch"].numel() * index_bytes if case.kind == "max" else 0
    return {
        "case": case.name,
        "taps": case.taps,
        "overlaps": case.overlaps,
        "dtype": case.dtype,
        "is_past_cache": size + out_bytes > cache,
        "forward": forward,
        "backward": backward,
        "copy_forward": (in_bytes + out_bytes) / forward["numbapool"] / bandwidth,
        "copy_backward": (in_bytes + out_bytes + saved) / backward["numbapool"] / bandwidth,
    }


def cupy_calls(case: GpuCase, inputs: list[Any]) -> list[Call]:
    """What CuPy has: a reduction over a view with a window at every place; none where it is not installed, or would be padded."""
    import torch

    try:
        import cupy
    except ImportError:
        return []
    if case.window.get("padding") or case.dtype == "bfloat16":
        return []
    rank, size = len(case.shape) - 2, case.window["kernel_size"]
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)  # whose events are timed
    reduce = cupy.max if case.kind == "max" else cupy.mean
    steps = (..., *[slice(None, None, case.window.get("stride", size))] * rank, *[slice(None)] * rank)

    def call(array: Any) -> Any:
        axes = tuple(range(-rank, 0))
        with stream:
            windows = cupy.lib.stride_tricks.sliding_window_view(array, (size,) * rank, axes)
            return reduce(windows[steps], axes)

    return [partial(call, cupy.from_dlpack(x)) for x in inputs]


def host_cost() -> dict[str, dict[str, float]]:
    """Seconds that the host takes for calls on a tiny array, by call and library; nobody waits for the device."""
    import torch

    import numbapool

    x = torch.randn(1, 1, 4, 4, device="cuda")
    leaf, gradient = x.clone().requires_grad_(), torch.ones(1, 1, 2, 2, device="cuda")
    calls: dict[str, dict[str, Call]] = {}
    for name in ("max_pool2d", "avg_pool2d"):
        engines = {"torch": getattr(torch.nn.functional, name), "numbapool": getattr(numbapool, name)}
        outs = {engine: pool(leaf, 2) for engine, pool in engines.items()}
        calls[name] = {engine: partial(pool, x, 2) for engine, pool in engines.items()}
        calls[f"{name}, recorded"] = {engine: partial(pool, leaf, 2) for engine, pool in engines.items()}
        calls[f"{name}, backward"] = {
            engine: partial(torch.autograd.grad, out, leaf, gradient, retain_graph=True) for engine, out in outs.items()
        }
    try:
        import cupy

        array, given = cupy.from_dlpack(x), cupy.from_dlpack(gradient)
        _, indices = numbapool.max_pool2d(array, 2, return_indices=True)
        for name, saved in (("max_pool2d", {"indices": indices}), ("avg_pool2d", {})):
            back = getattr(numbapool, f"{name}_backward")
            calls[name]["numbapool on CuPy"] = partial(getattr(numbapool, name), array, 2)
            calls[f"{name}, backward"]["numbapool on CuPy"] = partial(back, given, array, 2, **saved)
    except ImportError:
        pass
    return {name: {engine: host_time(call) for engine, call in each.items()} for name, each in calls.items()}


def host_time(call: Call) -> float:
    """Seconds a call, by the clock of the host."""
    import torch

    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(200):  # fewer than a stream's queue holds
            call()
        times.append((time.perf_counter() - start) / 200)
    return median(times)


def case_table(results: list[dict[str, Any]], name: str, bandwidth: float) -> Table:
    """Times and ratios of all cases."""
    engines = ("torch", "inductor", "cupy")
    columns = ["case", "pass", "numbapool", *(f"{engine}, times" for engine in engines), "copy"]
    shown = table(f"Pools on {name}; a copy moves {bandwidth / 1e9:.0f} GB/s", columns)
    for each in results:
        for direction in ("forward", "backward"):
            times = each[direction]
            ratios = [f"{times[engine] / times['numbapool']:.2f}" if engine in times else "" for engine in engines]
            shown.add_row(
                each["case"], direction, duration(times["numbapool"]), *ratios, f"{each[f'copy_{direction}']:.2f}"
            )
    return shown


def host_table(host: dict[str, dict[str, float]]) -> Table:
    """Costs of tiny calls."""
    shown = table("A call on 1x1x4x4, on the host", ["call", "library", "time", "of torch's"])
    for name, costs in host.items():
        for engine, seconds in costs.items():
            shown.add_row(name, engine, duration(seconds), f"{seconds / costs['torch']:.2f}")
    return shown


def bar_table(results: list[dict[str, Any]], host: dict[str, dict[str, float]]) -> Table:
    """What was aimed at, what was reached, and where it was least."""
    shown = table("Bars", ["bar", "aim", "reached", "where", "passed"])

    def row(name: str, aim: float, found: list[tuple[float, str]], is_mean: bool = False) -> None:
        if not found:
            shown.add_row(name, f"{aim:g}", "not measured", "", "")
            return
        value, where = (geometric_mean([each for each, _ in found]), "geometric mean") if is_mean else min(found)
        shown.add_row(name, f"{aim:g}", f"{value:.2f}", where, "yes" if value >= aim else "no")

    def copies(chosen: Callable[[dict[str, Any]], bool]) -> list[tuple[float, str]]:
        directions = ("forward", "backward")
        past = [each for each in results if each["is_past_cache"] and chosen(each)]
        return [(each[f"copy_{direction}"], f"{each['case']} {direction}") for each in past for direction in directions]

    def ratios(directions: tuple[str, ...], engines: tuple[str, ...], least: int = 0) -> list[tuple[float, str]]:
        return [
            (each[direction][engine] / each[direction]["numbapool"], f"{each['case']} {direction}, {engine}")
            for each in results
            if each["taps"] >= least
            for direction in directions
            for engine in engines
        ]

    both = ("forward", "backward")
    row(
        "of copy, float32",
        BARS["copy, float32"],
        copies(lambda each: not each["overlaps"] and each["dtype"] == "float32"),
    )
    row("of copy, half", BARS["copy, half"], copies(lambda each: not each["overlaps"] and each["dtype"] != "float32"))
    row("of copy, overlapping", BARS["copy, overlapping"], copies(lambda each: each["overlaps"]))
    row("times torch or inductor, least", BARS["case"], ratios(both, ("torch", "inductor")))
    row("times torch forward", BARS["forward"], ratios(("forward",), ("torch",)), True)
    row("times torch backward", BARS["backward"], ratios(("backward",), ("torch",)), True)
    row("times torch, windows of 9 and more", BARS["large windows"], ratios(both, ("torch",), 9), True)
    cost, where = max((costs["numbapool"] / costs["torch"], name) for name, costs in host.items())
    passed = "yes" if cost <= BARS["host"] else "no"
    shown.add_row("cost of a tiny call, at most", f"{BARS['host']:g}", f"{cost:.2f}", where, passed)
    return shown


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu")
