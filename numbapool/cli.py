"""The command line, `python -m numbapool`."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from numbapool import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from numbapool.trace import Array, Trace, Window

# Anything heavier is imported where it is used, so that --help is quick.

Command = TypeVar("Command", bound=Callable[..., Any])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; an error is one line on stderr."""
    try:
        status = commands.main(arguments, "python -m numbapool", standalone_mode=False)
    except click.ClickException as error:
        is_of_function = (
            isinstance(error, click.NoSuchOption) and error.ctx is not None and error.ctx.command is explain
        )
        advice = " Arguments of the function are written NAME=VALUE." if is_of_function else ""
        click.echo(f"Error: {error.format_message()}{advice}", err=True)
        return error.exit_code
    except MemoryError as error:
        click.echo(f"Error: out of memory: {error}", err=True)
        return 1
    except click.Abort:
        click.echo("Aborted!", err=True)
        return 130
    return int(status or 0)


def extent_of_at_least(least: int) -> Callable[[str], tuple[int, int]]:
    """What turns the text of an option, an int for both axes or HxW, into (h, w)."""

    def extent(text: str) -> tuple[int, int]:
        try:
            extents = [int(part) for part in text.split("x")]
        except ValueError:
            extents = []
        if len(extents) not in (1, 2) or min(extents) < least:
            raise click.BadParameter(f"{text!r} is neither an int of at least {least} nor two such as 3x2.")
        return extents[0], extents[-1]

    return extent


def window_options(stage: str, kernel: str, stride: str, padding: str) -> Callable[[Command], Command]:
    """The options for the windows of one stage, with these defaults."""
    extents = [
        ("kernel", 1, kernel, "Window size."),
        ("stride", 1, stride, "From window to window."),
        ("padding", 0, padding, "On each side."),
        ("dilation", 1, "1", "From tap to tap."),
    ]
    options = [
        click.option(
            f"--{stage}-{name}",
            type=extent_of_at_least(least),
            default=default,
            show_default=True,
            help=text,
            metavar="N|HxW",
        )
        for name, least, default, text in extents
    ]
    options.append(
        click.option(f"--{stage}-ceil-mode", is_flag=True, help="Keep a last window that overhangs the end.")
    )

    def add_options(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add_options


@click.group(invoke_without_command=True)
@click.version_option(__version__, prog_name="numbapool")
@click.pass_context
def commands(context: click.Context) -> None:
    """Pooling of arrays, forward and backward."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@commands.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@window_options("max", kernel="3", stride="2", padding="1")
@window_options("avg", kernel="2", stride="2", padding="0")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default="numbapool-trace.png",
    show_default=True,
    help="Where to draw the input, the outputs and the gradient.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a report for machines instead of tables.")
def trace(file: Path | None, picture: Path, as_json: bool, **options: Any) -> int:
    """Follow FILE through max and then average pooling, forward and backward.

    Prints what every step did, what it moved and how fast, against a copy on the same machine; checks the outputs by
    the definition and the gradients by finite differences; and draws them. The exit status is 1 if a check fails.

    FILE is a .npy array of axes (H, W), (C, H, W) or (N, C, H, W), of floats or integers, or an image, which is read as
    float32 from 0 to 1. Without FILE it is a photograph that comes with matplotlib.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from numbapool.trace import STEPS, check_arguments
    from numbapool.trace import trace as run_trace

    if not picture.parent.is_dir():
        raise click.BadParameter(f"no directory {str(picture.parent)!r}.", param_hint="'--picture'")
    x, source = _photograph() if file is None else (_read(file), str(file))
    max_window, avg_window = _window(options, "max"), _window(options, "avg")
    try:
        check_arguments(x, max_window, avg_window)
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error

    messages = Console(stderr=True)
    columns = SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task("", total=STEPS + 1)

        def on_step(name: str) -> None:
            progress.update(task, advance=1, description=name)

        report = run_trace(x, max_window, avg_window, on_step)
        on_step("picture")
        _draw(report, source, picture)
    if as_json:
        click.echo(_json(report, source, picture))
    else:
        _print(report, source, picture, Console())
    return 0 if report.passed else 1


@commands.command()
@click.argument("op")
@click.argument("shape")
@click.argument("arguments", nargs=-1)
@click.option("--dtype", default="float32", show_default=True, help="Of the input.")
@click.option("--bandwidth", type=click.FloatRange(0, min_open=True), help="Of the memory, in GB/s.", metavar="GB/S")
@click.option(
    "--picture", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Where to draw the windows."
)
def explain(
    op: str, shape: str, arguments: tuple[str, ...], dtype: str, bandwidth: float | None, picture: Path | None
) -> int:
    """Explain what a pooling function OP does with an input of SHAPE.

    SHAPE is written 1x3x224x224. ARGUMENTS are those of the function: VALUE or NAME=VALUE, as in Python without spaces, for
    example: explain max_pool2d 1x3x224x224 3 stride=2 padding=(1,0). The exit status is 1 if the call would raise.
    """
    from numbapool.explanation import explain as run_explain

    try:
        lengths = tuple(int(part) for part in shape.split("x"))
    except ValueError:
        raise click.BadParameter(f"{shape!r} is not ints such as 1x3x224x224.", param_hint="'SHAPE'") from None
    named = [each.partition("=") for each in arguments]
    for name, equals, text in named:
        if equals and not (name.isidentifier() and text):
            raise click.BadParameter(
                f"{name + equals + text!r} is neither VALUE nor NAME=VALUE without spaces.", param_hint="'ARGUMENTS'"
            )
    args = [_value(text) for text, equals, _ in named if not equals]
    kwargs = {name: _value(text) for name, equals, text in named if equals}
    try:
        explanation = run_explain(
            op, lengths, *args, dtype=dtype, bandwidth=None if bandwidth is None else 1e9 * bandwidth, **kwargs
        )
        click.echo(f"{explanation}")
        if picture is not None and explanation.error is None:
            explanation.plot().savefig(picture, dpi=160)
    except (OSError, ValueError, TypeError) as error:
        raise click.UsageError(f"{error}") from error
    return 0 if explanation.error is None else 1


def _value(text: str) -> Any:
    """What an argument stands for in Python; a word stands for itself."""
    try:
        return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # the last ones of what is nested too deep
        return text


def _window(options: dict[str, Any], stage: str) -> Window:
    from numbapool.trace import Window

    names = ("kernel", "stride", "padding", "dilation", "ceil_mode")
    return Window(*(options[f"{stage}_{name}"] for name in names))


def _photograph() -> tuple[Array, str]:
    """The default input and what to call it."""
    from matplotlib.cbook import get_sample_data

    return _read(Path(get_sample_data("grace_hopper.jpg", asfileobj=False))), "grace_hopper.jpg of matplotlib"


def _read(file: Path) -> Array:
    """The array or image in `file` as (C, H, W) or (N, C, H, W); click.BadParameter if that cannot be."""
    try:
        x = _read_npy(file) if file.suffix == ".npy" else _read_image(file)
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise _bad_file(file, f"cannot be read: {error}") from error
    if x.ndim not in (2, 3, 4):
        raise _bad_file(file, f"has shape {x.shape}; it must have 2 axes (H, W), 3 (C, H, W) or 4 (N, C, H, W).")
    if x.size == 0:
        raise _bad_file(file, f"has shape {x.shape}, which holds no element.")
    if x.dtype.kind == "b":
        raise _bad_file(file, "is of bool, which has a maximum but no average; store it as uint8, for example.")
    if x.dtype.kind not in "fiu":
        raise _bad_file(file, f"is of {x.dtype}; it must be of floats or integers.")
    return x[None] if x.ndim == 2 else x


def _read_npy(file: Path) -> Array:
    import numpy as np

    try:
        x: Array = np.load(file, allow_pickle=False)
    except ValueError as error:  # whose message suggests to allow pickle
        raise ValueError("no .npy file of numbers.") from error
    return x


def _read_image(file: Path) -> Array:
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise ValueError(f"its pixels (Pillow's mode {image.mode}) have no known range; store it as .npy.")
            has_16_bits = image.mode.startswith("I;16")  # which `convert` clips to 8 bits
            if not has_16_bits and image.mode not in ("L", "RGB"):
                image = image.convert("RGB")
            pixels = np.asarray(image, np.float32) / (65535 if has_16_bits else 255)
    except Image.DecompressionBombError as error:
        raise ValueError(error) from error
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _bad_file(file: Path, what: str) -> click.BadParameter:
    return click.BadParameter(f"{str(file)!r} {what}", param_hint="'FILE'")


def _draw(report: Trace, source: str, picture: Path) -> None:
    from numbapool.plots import draw

    try:
        draw(report, source, picture)
    except (OSError, ValueError) as error:  # no such image format, no space, ...
        raise click.BadParameter(f"{str(picture)!r} cannot be written: {error}", param_hint="'--picture'") from error


def _json(report: Trace, source: str, picture: Path) -> str:
    checks = [asdict(check) for check in report.checks]
    for check in checks:
        if not math.isfinite(check["error"]):  # JSON has no NaN
            check["error"] = None
    return json.dumps(
        {
            "numbapool": __version__,
            "input": {"source": source, "shape": report.x.shape, "dtype": str(report.x.dtype)},
            "threads": report.threads,
            "copy_gb_per_s": report.copy_gb_per_s,
            "steps": [asdict(step) for step in report.steps],
            "checks": checks,
            "passed": report.passed,
            "picture": str(picture),
        },
        indent=2,
        allow_nan=False,
    )


def _print(report: Trace, source: str, picture: Path, console: Console) -> None:
    from rich import box
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    from numbapool.explanation import in_seconds

    steps = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        leading=1,
        caption="The first call compiles, or loads what an earlier run compiled. "
        "A step can be faster than a copy in main memory if its data are in the cache.",
        caption_justify="left",
    )
    steps.add_column("step")
    for heading in ("read\nwritten", "time", "first\ncall", "GB/s", "times\na copy"):
        steps.add_column(heading, no_wrap=True, justify="right")
    for step in report.steps:
        steps.add_row(
            f"[bold]{step.name}[/]\n{step.shape_in} -> {step.shape_out}\n{step.what}",
            f"{decimal(step.bytes_read)}\n{decimal(step.bytes_written)}",
            in_seconds(step.median_s),
            in_seconds(step.first_call_s),
            f"{step.gb_per_s:.1f}",
            f"{step.copy_fraction:.2f}",
        )
    checks = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("check", "against", "on", "error", "allowed", ""):
        checks.add_column(name, no_wrap=True)
    for check in report.checks:
        verdict = "[green]passed[/]" if check.passed else "[bold red]FAILED[/]"
        checks.add_row(check.name, check.against, check.extent, f"{check.error:.2g}", f"{check.tolerance:.2g}", verdict)

    console.print(
        f"[bold]{escape(source)}[/]: {report.x.dtype} {report.x.shape}; {report.threads} threads; "
        f"a copy in main memory runs at {report.copy_gb_per_s:.1f} GB/s"
    )
    console.print(steps)
    console.print(checks)
    failed = [check.name for check in report.checks if not check.passed]
    console.print(f"[bold red]FAILED: {', '.join(failed)}[/]" if failed else f"All {len(report.checks)} checks passed.")
    console.print(f"Picture: {escape(str(picture))}", soft_wrap=True)
