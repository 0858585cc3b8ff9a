"""Results: tables on the terminal and in performance.md for people, with plots, and performance.json for machines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"

write_option = click.option(
    "--write",
    "folder",
    is_flag=False,
    flag_value=str(DOCS),
    metavar="[FOLDER]",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write performance.md, performance.json and the plots into this folder, docs if none is named.",
)


def duration(seconds: float) -> str:
    """Three digits and a unit: '1.23 us', '45.6 ms'."""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table, the first column text and the others numbers."""
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        result.add_column(column, justify="left" if column == columns[0] else "right", no_wrap=True)
    return result


def record(
    folder: Path,
    name: str,
    text: str,
    tables: Sequence[Table],
    results: dict[str, Any],
    plots: Mapping[str, tuple[str, Figure]] = MappingProxyType({}),
) -> None:
    """Put text, plots and tables into the block `name` of performance.md, and `results` into the JSON beside it.

    A block lies between `<!-- name -->` and `<!-- /name -->`; all around it is left alone. A new one goes to the end.
    `plots` has what each shows, and the figure, by the name of its file.
    """
    page, data = folder / "performance.md", folder / "performance.json"
    folder.mkdir(exist_ok=True)
    written = json.loads(data.read_text()) if data.exists() else {}
    data.write_text(lines(written | {name: results}) + "\n")

    images = []
    for file, (shown, figure) in plots.items():
        figure.savefig(folder / file, dpi=160)
        images.append(f"![{shown}]({file})")
    shown = [text, sentence(results["machine"]), *images, *map(markdown, tables)]
    parts = [f"<!-- {name} -->", *shown, f"<!-- /{name} -->"]
    block = "\n\n".join(parts)
    before = page.read_text() if page.exists() else "# Performance\n"
    marked = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    page.write_text(marked.sub(lambda _: block, before) if marked.search(before) else f"{before.rstrip()}\n\n{block}\n")


def lines(value: Any, margin: str = "") -> str:
    """JSON with a line for each case, so that a change shows which: what holds no list of cases is one line."""
    inner = margin + " "
    if isinstance(value, dict) and any(isinstance(each, dict | list) for each in value.values()):
        parts = [f"{inner}{json.dumps(key)}: {lines(each, inner)}" for key, each in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(each)}" for each in value) + f"\n{margin}]"
    return json.dumps(value)


def markdown(source: Table) -> str:
    """The table as Markdown under its title."""
    title, source.title, source.box = source.title, None, box.MARKDOWN
    console = Console(file=StringIO(), width=400, color_system=None)
    with console.capture() as capture:
        console.print(source)
    return f"## {title}\n\n{capture.get().strip()}"
