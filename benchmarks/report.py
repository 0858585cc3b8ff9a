"""Results: tables on the terminal and in docs/performance.md for people, docs/performance.json for machines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import sentence

DOCS = Path(__file__).parents[1] / "docs"


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


def record(name: str, text: str, tables: Sequence[Table], results: dict[str, Any]) -> None:
    """Put text and tables into the block `name` of docs/performance.md, and `results` into the JSON beside it.

    A block lies between `<!-- name -->` and `<!-- /name -->`; all around it is left alone. A new one goes to the end.
    """
    page, data = DOCS / "performance.md", DOCS / "performance.json"
    DOCS.mkdir(exist_ok=True)
    written = json.loads(data.read_text()) if data.exists() else {}
    data.write_text(json.dumps(written | {name: results}, indent=1) + "\n")

    parts = [f"<!-- {name} -->", text, sentence(results["machine"]), *map(markdown, tables), f"<!-- /{name} -->"]
    block = "\n\n".join(parts)
    before = page.read_text() if page.exists() else "# Performance\n"
    marked = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    page.write_text(marked.sub(lambda _: block, before) if marked.search(before) else f"{before.rstrip()}\n\n{block}\n")


def markdown(source: Table) -> str:
    """The table as Markdown under its title."""
    title, source.title, source.box = source.title, None, box.MARKDOWN
    console = Console(file=StringIO(), width=400, color_system=None)
    with console.capture() as capture:
        console.print(source)
    return f"## {title}\n\n{capture.get().strip()}"
