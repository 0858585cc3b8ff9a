"""The tables of README.md are those that the code gives."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import pytest

import numbapool
from tests.test_examples import module_of_docs


@pytest.fixture(scope="module")
def support() -> ModuleType:
    for library in ("ml_dtypes", "torch", "jax", "array_api_strict"):
        pytest.importorskip(library)
    return module_of_docs("support")


def test_readme_says_what_the_code_does(support: ModuleType) -> None:
    text = support.README.read_text(encoding="utf-8")
    assert text == support.updated(text), "README.md is stale: python docs/support.py --write"


def test_the_answers_are_the_codes(support: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that refuses a dtype gets a row of its own, without that dtype."""
    original = numbapool.lp_pool2d

    @functools.wraps(original)
    def refusing(x: Any, *args: Any, **kwargs: Any) -> Any:
        if str(x.dtype).endswith("float64"):
            raise TypeError("float64")
        return original(x, *args, **kwargs)

    before = support.dtype_table(support.accepted())
    monkeypatch.setattr(numbapool, "lp_pool2d", refusing)
    after = support.dtype_table(support.accepted())
    assert "| `lp_pool1d/2d/3d` |" in before
    assert "| `lp_pool2d` |" in after
    rows = [[cell.strip() for cell in row.split("|")] for row in after.splitlines()]
    cells = next(dict(zip(rows[0], row, strict=True)) for row in rows if row[1] == "`lp_pool2d`")
    of_dtype = {dtype: answer for names, answer in cells.items() for dtype in names.split(", ")}
    assert (of_dtype["float32"], of_dtype["float64"]) == ("forward, backward", "backward")
