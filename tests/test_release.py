"""What is said in several files about versions is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import numbapool

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def found(pattern: str, text: str) -> str:
    (match,) = re.findall(pattern, text, re.MULTILINE)
    return str(match)


def test_version_and_date() -> None:
    citation, (newest, date) = (
        text_of("CITATION.cff"),
        re.findall(r"^## (\S+) \((.*)\)$", text_of("CHANGELOG.md"), re.M)[0],
    )
    assert found(r"^version: (\S+)$", citation) == newest == numbapool.__version__
    assert found(r"^date-released: (\S+)$", citation) == date


def test_the_oldest_versions_are_tested() -> None:
    bounds = dict(re.fullmatch(r"(\w+)>=([\d.]+)", each).groups() for each in PROJECT["dependencies"])  # type: ignore[union-attr]
    workflow = text_of(".github/workflows/tests.yml")
    assert bounds.keys() == {"numpy", "numba"}
    for name, bound in bounds.items():
        assert re.search(rf"\b{name}=={re.escape(bound)}\.[0*]", workflow), (name, bound)
    assert f"NumPy from {bounds['numpy']}, Numba from {bounds['numba']}" in text_of("README.md")


def test_every_extra_that_is_named_is_one() -> None:
    """In messages, pages and comments: what they tell to install can be installed."""
    paths = [
        path
        for folder in ("numbapool", "docs", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md")
    ]
    texts = [path.read_text(encoding="utf-8") for path in (*paths, ROOT / "README.md", ROOT / "CONTRIBUTING.md")]
    named = {
        extra
        for text in texts
        for given in re.findall(r"'(?:numbapool|\.)\[([\w,-]+)\]", text)
        for extra in given.split(",")
    }
    assert {"cuda", "cuda12", "cupy", "cupy12", "gate", "test"} <= named <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize(("suffix", "release"), [("", 13), ("12", 12)])
def test_the_linker_for_gpus_is_no_older_than_the_compiler(suffix: str, release: int) -> None:
    """A linker refuses what a newer NVVM makes; only by the toolkit's own extra they are held together."""
    extras = PROJECT["optional-dependencies"]
    given = {Requirement(each).name: Requirement(each) for each in extras[f"cuda{suffix}"]}
    assert given["numba-cuda"].extras == {f"cu{release}"}
    assert given["cuda-toolkit"].extras == {"nvjitlink"}
    assert str(given["cuda-toolkit"].specifier) == f"=={release}.*"
    assert not any(name.startswith("nvidia-") for name in given)
    assert f"numbapool[cuda{suffix}]" in extras[f"cupy{suffix}"]
    assert any(each.startswith(f"cupy-cuda{release}x") for each in extras[f"cupy{suffix}"])


def test_every_version_of_python_is_tested() -> None:
    classified = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
    assert found(r"^ +python: \[(.*)\]$", text_of(".github/workflows/tests.yml")) == ", ".join(
        f'"{v}"' for v in classified
    )
    assert PROJECT["requires-python"] == f">={classified[0]}"
    for page in ("README.md", "CONTRIBUTING.md", "docs/start.md"):
        said = re.findall(r"Python (?:\w+ )?3\.\d+(?: to 3\.\d+)?", text_of(page))
        assert set(said) == {f"Python from {classified[0]}"}, page
