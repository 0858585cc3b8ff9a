"""`python -m numbapool`: reports, checks and pictures of good input, one line about bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbapool
from numbapool import trace as tracing

# Without the `demo` extra there is no command line to test.
pytest.importorskip("matplotlib")
pytest.importorskip("rich")
Image = pytest.importorskip("PIL.Image")
cli = pytest.importorskip("numbapool.cli")

SMALL = np.random.default_rng(0).random((2, 16, 20)).astype(np.float32)


@pytest.fixture(autouse=True)
def quick_and_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measure hardly at all, and write pictures into a directory of the test's own."""
    monkeypatch.setattr(tracing, "COPY_BYTES", 1 << 16)
    monkeypatch.setattr(tracing, "TIMED_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """The JSON report of a trace that ends with `status`."""
    assert cli.main(["trace", "--json", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err == ""
    report: dict[str, Any] = json.loads(captured.out)
    return report


def test_traces_the_photograph(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys)
    assert report["numbapool"] == numbapool.__version__
    assert report["input"] == {"source": "grace_hopper.jpg of matplotlib", "shape": [3, 600, 512], "dtype": "float32"}
    assert [(step["name"], step["shape_in"], step["shape_out"]) for step in report["steps"]] == [
        ("max_pool2d", [3, 600, 512], [3, 300, 256]),
        ("avg_pool2d", [3, 300, 256], [3, 150, 128]),
        ("avg_pool2d_backward", [3, 150, 128], [3, 300, 256]),
        ("max_pool2d_backward", [3, 300, 256], [3, 600, 512]),
    ]
    first = report["steps"][0]
    assert (first["bytes_read"], first["bytes_written"]) == (4 * 3 * 600 * 512, 4 * 3 * 300 * 256)
    assert first["gb_per_s"] == pytest.approx((first["bytes_read"] + first["bytes_written"]) / first["median_s"] / 1e9)
    assert first["copy_fraction"] == pytest.approx(first["gb_per_s"] / report["copy_gb_per_s"])
    assert [(check["name"], check["against"], check["extent"], check["passed"]) for check in report["checks"]] == [
        ("max_pool2d", "reference", "all", True),
        ("max_pool2d indices", "reference", "all", True),
        ("avg_pool2d", "reference", "all", True),
        ("max_pool2d_backward", "differences", "(2, 20, 20)", True),
        ("avg_pool2d_backward", "differences", "(2, 20, 20)", True),
    ]
    assert report["passed"]
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [80, 120])
def test_prints_tables_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    np.save("x.npy", SMALL)
    assert cli.main(["trace", "x.npy", "--picture", "drawn.png"]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= width
    for text in ("max_pool2d_backward", "(2, 16, 20) -> (2, 8, 10)", "3x3 window, stride", "All 5 checks passed."):
        assert text in out
    assert Path("drawn.png").exists()


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "uint8", "int64"])
@pytest.mark.parametrize("shape", [(16, 20), (3, 16, 20), (2, 3, 16, 20)])
def test_traces_arrays(capsys: pytest.CaptureFixture[str], dtype: str, shape: tuple[int, ...]) -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, 100, shape).astype(dtype))
    report = report_of(capsys, "x.npy")
    assert report["input"] == {
        "source": "x.npy",
        "shape": list(shape if len(shape) > 2 else (1, *shape)),
        "dtype": dtype,
    }


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_traces_images(capsys: pytest.CaptureFixture[str], mode: str) -> None:
    Image.fromarray((255 * SMALL[0]).astype(np.uint8)).convert(mode).save("x.png")
    report = report_of(capsys, "x.png")
    assert report["input"] == {"source": "x.png", "shape": [1 if mode == "L" else 3, 16, 20], "dtype": "float32"}


def test_traces_images_of_16_bits() -> None:
    Image.fromarray((65535 * SMALL[0]).astype(np.uint16)).save("x.png")
    x = cli._read(Path("x.png"))
    assert (x.shape, x.dtype) == ((1, 16, 20), np.float32)
    assert np.abs(x - SMALL[:1]).max() < 1 / 65535


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_traces_what_is_not_finite(capsys: pytest.CaptureFixture[str], value: float) -> None:
    x = SMALL.copy()
    x[:, ::3, ::2] = value
    np.save("x.npy", x)
    assert report_of(capsys, "x.npy")["passed"]


def test_windows_are_options_of_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", SMALL)
    max_options = ["--max-kernel", "3x2", "--max-stride", "2x3", "--max-padding", "1x0", "--max-dilation", "2x1"]
    avg_options = ["--avg-kernel", "2", "--avg-stride", "3", "--avg-padding", "0x1", "--avg-dilation", "2"]
    report = report_of(capsys, "x.npy", *max_options, *avg_options, "--max-ceil-mode", "--avg-ceil-mode")
    maximum, average = report["steps"][:2]
    assert maximum["what"] == "largest of each 3x2 window, stride 2x3, padding 1x0, dilation 2x1, ceil mode"
    assert average["what"] == "mean of each 2x2 window, stride 3, padding 0x1, dilation 2, ceil mode"
    assert (maximum["shape_out"], average["shape_out"]) == ([2, 8, 7], [2, 3, 3])


def test_judges_a_part_of_what_is_too_much_for_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.random.default_rng(0).random((3, 400, 2000)))
    report = report_of(capsys, "x.npy", "--max-kernel", "11", "--max-stride", "2", "--max-padding", "5")
    assert report["checks"][0]["extent"] == "(3, 233, 233)"


@pytest.mark.parametrize(
    ("operation", "failing"),
    [
        ("max_pool2d", ["max_pool2d"]),
        ("avg_pool2d", ["avg_pool2d"]),
        ("max_pool2d_backward", ["max_pool2d_backward"]),
        ("avg_pool2d_backward", ["avg_pool2d_backward"]),
    ],
)
def test_fails_when_an_operation_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, operation: str, failing: list[str]
) -> None:
    right = getattr(tracing.functional, operation)

    def wrong(*arguments: Any, **keywords: Any) -> Any:
        result = right(*arguments, **keywords)
        values = result[0] if isinstance(result, tuple) else result
        values[..., :1, :1] += 0.25
        return result

    monkeypatch.setattr(tracing.functional, operation, wrong)
    np.save("x.npy", SMALL)
    report = report_of(capsys, "x.npy", status=1)
    assert [check["name"] for check in report["checks"] if not check["passed"]] == failing
    assert cli.main(["trace", "x.npy"]) == 1
    assert f"FAILED: {failing[0]}" in capsys.readouterr().out


def write_bad_files() -> None:
    np.save("bool.npy", SMALL > 0.5)
    np.save("complex.npy", SMALL.astype(complex))
    np.save("object.npy", SMALL.astype(object), allow_pickle=True)
    np.save("one_axis.npy", SMALL[0, 0])
    np.save("five_axes.npy", SMALL[None, None, None])
    np.save("empty.npy", SMALL[:0])
    np.save("longdouble.npy", SMALL.astype(np.longdouble))
    np.save("good.npy", SMALL)
    Path("text.npy").write_text("no array")
    Path("text.jpg").write_text("no image")
    Path("nothing.npy").touch()
    Image.fromarray(SMALL[0]).save("float.tiff")


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        ("missing.npy", "'[FILE]': File 'missing.npy' does not exist"),
        (".", "'[FILE]': File '.' is a directory"),
        ("text.npy", "'FILE': 'text.npy' cannot be read"),
        ("text.jpg", "'FILE': 'text.jpg' cannot be read"),
        ("nothing.npy", "'FILE': 'nothing.npy' cannot be read"),
        ("object.npy", "'FILE': 'object.npy' cannot be read"),
        ("float.tiff", "'FILE': 'float.tiff' cannot be read: its pixels (Pillow's mode F) have no known range"),
        ("bool.npy", "'FILE': 'bool.npy' is of bool, which has a maximum but no average"),
        ("complex.npy", "'FILE': 'complex.npy' is of complex128"),
        ("one_axis.npy", "'FILE': 'one_axis.npy' has shape (20,)"),
        ("five_axes.npy", "'FILE': 'five_axes.npy' has shape (1, 1, 1, 2, 16, 20)"),
        ("empty.npy", "'FILE': 'empty.npy' has shape (0, 16, 20)"),
        ("good.npy --max-kernel 0", "'--max-kernel': '0'"),
        ("good.npy --max-kernel 2x", "'--max-kernel': '2x'"),
        ("good.npy --max-kernel 1x2x3", "'--max-kernel': '1x2x3'"),
        ("good.npy --max-padding=-1", "'--max-padding': '-1'"),
        ("good.npy --avg-stride 1.5", "'--avg-stride': '1.5'"),
        ("good.npy --avg-dilation two", "'--avg-dilation': 'two'"),
        ("good.npy --max-kernel 50", "max stage: Output size is too small: windows of kernel_size=(50, 50)"),
        ("good.npy --avg-kernel 9", "average stage: Output size is too small"),
        ("good.npy --max-kernel 99999999999999999999", "max stage: "),
        pytest.param(
            "longdouble.npy",
            f"max stage: x has dtype {np.dtype(np.longdouble)}",
            marks=pytest.mark.skipif(np.dtype(np.longdouble) == np.float64, reason="longdouble is float64 here"),
        ),
        ("good.npy --picture nowhere/x.png", "'--picture': no directory 'nowhere'"),
        ("good.npy --picture x.unknown", "'--picture': 'x.unknown' cannot be written"),
        ("good.npy --mystery", "'--mystery'"),
        ("good.npy another", "another"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: str, naming: str) -> None:
    write_bad_files()
    assert cli.main(["trace", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    assert naming in captured.err


def test_progress_is_told_every_step() -> None:
    names: list[str] = []
    tracing.trace(SMALL, tracing.Window((3, 3), (2, 2), (1, 1)), tracing.Window((2, 2), (2, 2)), names.append)
    assert len(set(names)) == len(names) == tracing.STEPS


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_module_without_arguments_is_help() -> None:
    ended = run("-m", "numbapool")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: python -m numbapool")
    assert "trace" in ended.stdout


def test_version() -> None:
    assert run("-m", "numbapool", "--version").stdout == f"numbapool, version {numbapool.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from numbapool import cli; cli.main(['trace', '--help']); print(*sys.modules)"
    modules = run("-c", code).stdout.split()
    assert "click" in modules
    assert not {"numba", "matplotlib", "rich", "PIL"} & set(modules)


def test_says_what_to_install_without_the_demo_extra() -> None:
    hide = "import sys, runpy; sys.modules.update(click=None, rich=None)"
    ended = run("-c", f"{hide}; runpy.run_module('numbapool', run_name='__main__')")
    assert ended.returncode == 1
    assert ended.stderr == "python -m numbapool needs click, rich: pip install 'numbapool[demo]'\n"
