"""What is timed: every operation, with arguments that its functions take; other libraries do the same; what is written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import numbapool
from numbapool import functional
from tests.cases import Case

# Without the `bench` extra there is nothing to test.
pytest.importorskip("click")
pytest.importorskip("cpuinfo")
pytest.importorskip("rich")

from click.testing import CliRunner
from rich.table import Table

import benchmarks.__main__
import benchmarks.peers
import benchmarks.sizes
from benchmarks.cases import ALL, FAMILY, PASSES, Benchmark, FamilyBenchmark, Timed
from benchmarks.engines import ENGINES, Numbapool, UnsupportedError, results_of
from benchmarks.gpu import CASES, GpuCase, bar_table, host_cost, host_table, main
from benchmarks.limits import WINDOWS
from benchmarks.machine import describe, sentence
from benchmarks.plots import plot_windows
from benchmarks.workers import Worker


def test_every_operation_is_timed() -> None:
    operations = {re.sub(r"(\dd)?(_backward)?$", "", name) for name in functional.__all__}
    assert operations - {"pool"} == {case.operation for case in ALL}  # which is all of those with windows


@pytest.mark.parametrize("case", FAMILY, ids=str)
def test_arguments_are_taken(case: FamilyBenchmark) -> None:
    """By a call on an empty batch, which checks everything and computes nothing."""
    x = np.zeros((0, *case.shape[1:]), case.dtype)
    operands = {name: array[:0] for name, array in case.operands.items()}
    out = getattr(numbapool, case.function)(x, **case.arguments, **operands)
    assert out.shape[:2] == (0, case.shape[1])


def result(case: GpuCase, ours: float, copy: float) -> dict[str, object]:
    times = {"numbapool": ours, "torch": 1.0, "inductor": 2.0}
    return {
        "case": case.name,
        "taps": case.taps,
        "overlaps": case.overlaps,
        "dtype": case.dtype,
        "is_past_cache": True,
        "forward": times,
        "backward": times,
        "copy_forward": copy,
        "copy_backward": copy + 0.01,
    }


def cells(shown: Table) -> dict[str, tuple[str, ...]]:
    first, *columns = ([str(cell) for cell in column.cells] for column in shown.columns)
    return dict(zip(first, zip(*columns, strict=True), strict=True))


def test_bars_of_a_gpu() -> None:
    """The least copy and ratio decide, and the geometric mean of ratios."""
    plain = GpuCase("plain", "max", (1, 1, 8, 8), {"kernel_size": 2})
    overlapping = GpuCase("overlapping", "avg", (1, 1, 8, 8), {"kernel_size": 3, "stride": 1})
    host = {"forward": {"numbapool": 2.0, "torch": 2.0}, "backward": {"numbapool": 3.0, "torch": 1.0, "on CuPy": 9.0}}
    rows = cells(bar_table([result(plain, 0.5, 0.91), result(overlapping, 0.125, 0.4)], host))
    assert rows["of copy, float32"] == ("0.9", "0.91", "plain forward", "yes")
    assert rows["of copy, half"] == ("0.85", "not measured", "", "")
    assert rows["of copy, overlapping"] == ("0.6", "0.40", "overlapping forward", "no")
    assert rows["times torch or inductor, least"] == ("0.95", "2.00", "plain backward, torch", "yes")
    assert rows["times torch forward"] == ("1.3", "4.00", "geometric mean", "yes")
    assert rows["times torch, windows of 9 and more"] == ("5", "8.00", "geometric mean", "yes")
    assert rows["cost of a tiny call, at most"] == ("1.5", "3.00", "backward", "no")
    shown = host_table(host)
    assert [list(column.cells) for column in shown.columns][::3] == [
        ["forward", "forward", "backward", "backward", "backward"],
        ["1.00", "1.00", "3.00", "1.00", "9.00"],
    ]


def test_host_costs_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors that are taken for such, timed by a clock that counts calls: forward, recorded and backward of both libraries."""
    torch = pytest.importorskip("torch")
    from tests import imitated_tensors

    imitated_tensors.install(monkeypatch)
    timed: list[Any] = []
    monkeypatch.setattr("benchmarks.gpu.host_time", lambda call: timed.append(call()) or 1.0)
    for name in ("randn", "ones"):
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *shape, device, make=make: make(*shape))
    monkeypatch.setitem(sys.modules, "cupy", None)
    host = host_cost()
    assert list(host) == [
        f"{name}{what}" for name in ("max_pool2d", "avg_pool2d") for what in ("", ", recorded", ", backward")
    ]
    assert all(list(costs) == ["torch", "numbapool"] for costs in host.values())
    for theirs, ours in zip(timed[::2], timed[1::2], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("command", ["test", "sanitize", "speed"])
def test_without_a_gpu_it_says_so(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("torch").cuda, "is_available", lambda: False)
    outcome = CliRunner().invoke(main, [command])
    assert outcome.exit_code == 1
    assert "no GPU, so nothing has been run" in outcome.output


def test_cases_for_a_gpu_can_be_pooled() -> None:
    for case in CASES:
        out = getattr(numbapool, case.function)(np.zeros((0, *case.shape[1:]), np.float32), **case.window)
        assert out.shape[1] == case.shape[1]


PEER_CASES = {
    case.name: case
    for case in (
        Benchmark("max", Case("resnet", (2, 3, 12, 12), 3, 2, 1)),
        Benchmark("max", Case("overhang", (2, 2, 14, 16), 3, 2, ceil_mode=True)),
        Benchmark("max", Case("dilated", (1, 2, 12, 12), 5, 1, 2, 2)),
        Benchmark("max", Case("spp", (1, 2, 10, 11), 5, 1, 2)),
        Benchmark("max", Case("c3d", (1, 3, 4, 8, 8), 2)),
        Benchmark("avg", Case("photograph", (1, 3, 8, 12), 2)),
        Benchmark("avg", Case("left-over", (1, 3, 9, 8), 2)),
        Benchmark("avg", Case("blur", (1, 1, 9, 11), 5, 1, 2)),
        Benchmark("avg", Case("no-pad", (2, 2, 7, 7), 3, 1, 1, count_include_pad=False)),
    )
}
# Those that do not do all of it.
FORWARD = {
    "scipy": {"max-spp", "avg-blur"},
    "skimage": {"max-c3d", "avg-photograph"},
    "cv2": {"max-spp", "avg-photograph", "avg-blur"},
}


@pytest.fixture(scope="module", params=[name for name in ENGINES if name != "numbapool"])
def peer(request: pytest.FixtureRequest) -> Iterator[Worker]:
    pytest.importorskip(request.param)
    with closing(Worker(request.param, 1)) as worker:
        yield worker


def test_peers_do_the_same(peer: Worker) -> None:
    ours = Numbapool(numba.get_num_threads())
    done: dict[str, set[str]] = {}
    for case in PEER_CASES.values():
        for pass_ in case.passes:
            try:
                results, moved = peer.prepare(case, pass_)
            except UnsupportedError:
                continue
            expected = results_of(getattr(ours, pass_)(case))
            assert benchmarks.peers.disagreement(case, pass_, expected, results) == "", (case.name, pass_)
            assert moved > case.array().nbytes / 2
            done.setdefault(pass_, set()).add(case.name)
    assert done["forward"] == FORWARD.get(peer.engine, set(PEER_CASES))
    gradients = {"torch": {"backward", "training"}, "jax": {"backward", "recomputing", "training"}}
    assert set(done) & {"backward", "recomputing", "training"} == gradients.get(peer.engine, set())


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run: numbapool always takes 1 ms, a copy 0.5 ms, and every other library 4 ms."""

    def measure(
        jobs: Sequence[tuple[Timed, str]], engines: Sequence[str], *_: Any
    ) -> tuple[list[dict[str, Any]], list[str]]:
        seconds = dict.fromkeys(engines, 0.004) | {"numbapool": 0.001, "copy": 0.0005}
        rows = [
            {
                "case": case.name,
                "description": case.describe(),
                "pass": pass_,
                "moved_bytes": 10**6,
                "seconds": seconds,
                "disturbed_turns": 0,
            }
            for case, pass_ in jobs
        ]
        return rows, []

    monkeypatch.setattr(benchmarks.peers, "measure", measure)
    monkeypatch.setattr(benchmarks.sizes, "measure", measure)
    for module in (benchmarks.peers, benchmarks.sizes):
        monkeypatch.setattr(module, "present", lambda: ["numbapool", "torch", "jax"])
    monkeypatch.setattr(benchmarks.engines, "present", lambda: ["numbapool", "torch", "jax"])


def written(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    outcome = CliRunner().invoke(benchmarks.__main__.main, [*arguments, "--write", str(folder)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return (folder / "performance.md").read_text(), json.loads((folder / "performance.json").read_text())


def assert_plots(folder: Path, page: str, *names: str) -> None:
    for name in names:
        assert page.count(f"]({name})") == 1
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("unmeasured")
def test_report_of_peers(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("# Speed\n\n<!-- peers -->\n<!-- /peers -->\n\nThe end.\n")
    for _ in range(2):  # the second replaces the first
        page, data = written(tmp_path, "peers", "-k", "max-small")
    assert page.startswith("# Speed\n\n<!-- peers -->")
    assert page.endswith("<!-- /peers -->\n\nThe end.\n")
    assert page.count("## Forward\n") == 1
    assert "Left out, because not installed: onnxruntime, openvino, scipy, skimage, cv2." in page
    assert re.search(r"max-small-1x6x6 .* 1 ms .* 0.50 .* 4.00x .* 4.00x", page)
    assert_plots(tmp_path, page, "performance-speedup.png", "performance-bandwidth.png")
    assert [row["pass"] for row in data["peers"]["cases"]] == list(PASSES)
    rows = [line for line in (tmp_path / "performance.json").read_text().splitlines() if '"case"' in line]
    assert [json.loads(row.rstrip(",")) for row in rows] == data["peers"]["cases"]  # a line each
    assert set(data["peers"]["machine"]["versions"]) == {"python", "numpy", "numba", "torch", "jax"}


@pytest.mark.usefixtures("unmeasured")
def test_report_of_sizes(tmp_path: Path) -> None:
    page, data = written(tmp_path, "sizes", "--largest", "16")
    assert re.findall("## (.*) by size", page) == [
        "max 2x2/2",
        "max 3x3/2",
        "avg 2x2/2",
        "avg 3x3/2",
    ]
    assert len(re.findall(r"\| (?:1|4|16) KiB +\|", page)) == 4 * 3
    assert_plots(tmp_path, page, "performance-sizes.png", "performance-sizes-bandwidth.png")
    assert {row["input_bytes"] for row in data["sizes"]["cases"]} == {1 << 10, 1 << 12, 1 << 14}
    assert 1 in {row["threads"] for row in data["sizes"]["cases"]}


def test_sizes_are_those_of_the_arrays() -> None:
    cases = [case for case, pooling in benchmarks.sizes.cases_of(1 << 30) if pooling == "max 2x2/2"]
    sizes = [4 * np.prod(case.shape) for case in cases]
    assert sizes == [2**10 * 4**step for step in range(11)] == [benchmarks.sizes.bytes_of(case) for case in cases]


def test_plot_of_windows() -> None:
    passes = ("max forward", "max indices", "max backward with indices", "max backward", "avg forward", "avg backward")
    rows = [{"window": n, "seconds": dict.fromkeys(("copy", *passes), n / 1000)} for n in WINDOWS]
    axes = plot_windows(rows).axes[0]
    assert {line.get_label() for line in axes.lines} == {*passes, "copy of the image"}
    assert all(list(line.get_ydata()) == list(WINDOWS) for line in axes.lines)  # ms


def test_machine_is_described() -> None:
    machine = describe("numpy", "nothing")
    assert machine["versions"]["numpy"] == np.__version__
    assert machine["versions"]["nothing"] == "not installed"
    assert machine["cores"] >= 1
    assert json.loads(json.dumps(machine)) == machine
    caches = {"cache_bytes": {"L1": 98304, "L2": 2**22}}
    assert "L1 96 KiB, L2 4 MiB, " in sentence(machine | caches)


@pytest.mark.usefixtures("unmeasured")
def test_without_a_command_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for command in (benchmarks.__main__.peers, benchmarks.__main__.limits, benchmarks.__main__.sizes):
        monkeypatch.setattr(
            command, "callback", lambda name=command.name, **given: asked.append((name, given["folder"].name))
        )
    assert CliRunner().invoke(benchmarks.__main__.main, [], catch_exceptions=False).exit_code == 0
    assert asked == [("peers", "docs"), ("limits", "docs"), ("sizes", "docs")]
