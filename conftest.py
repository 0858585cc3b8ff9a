"""The examples of README.md and of docs/ are tests: every block of Python, and every picture that is drawn."""

from __future__ import annotations

from doctest import ELLIPSIS
from importlib.util import find_spec
from typing import Any

import pytest

collect_ignore_glob = ["docs/*.py", "docs/examples/*.py", "docs/_build/*"]


def _installed(*packages: str) -> bool:
    return all(find_spec(package) is not None for package in packages)


def _prepare(namespace: dict[str, Any]) -> None:
    namespace["installed"] = _installed  # for pages that say: skip: start if(not installed("keras"), ...)
    if _installed("matplotlib"):
        import matplotlib as mpl

        mpl.use("Agg")


def _clear(namespace: dict[str, Any]) -> None:
    if _installed("matplotlib"):
        from matplotlib import pyplot

        pyplot.close("all")


if _installed("sybil"):
    from sybil import Sybil
    from sybil.evaluators.python import PythonEvaluator
    from sybil.parsers.abstract import AbstractCodeBlockParser
    from sybil.parsers.myst import PythonCodeBlockParser, SkipParser
    from sybil.parsers.rest.lexers import DirectiveLexer

    class PlotParser(AbstractCodeBlockParser):
        """The blocks from which Sphinx draws pictures."""

        language = "plot"

        def __init__(self) -> None:
            lexer = DirectiveLexer("plot", mapping={"directive": "arguments", "source": "source"})
            super().__init__([lexer], "plot", PythonEvaluator())

    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), PlotParser(), SkipParser()],
        patterns=["README.md", "docs/*.md", "docs/**/*.md"],
        excludes=["docs/_build/**"],
        setup=_prepare,
        teardown=_clear,
    ).pytest()
else:

    def pytest_collect_file(file_path: Any, parent: pytest.Collector) -> None:
        """Without Sybil there are no examples to collect."""
