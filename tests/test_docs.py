"""The documentation names everything that is public, and what it says to type works. Its Python runs by conftest.py."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import numbapool
import numbapool.onnx
from numbapool import functional
from numbapool.kinds import NAMES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if "-m numbapool explain" in line]


EXPLAINED = [command for page in PAGES for command in commands(page)]


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = re.findall(r"^\.\. auto(?:function|class):: (\w+)", text, re.MULTILINE)
    public = [name for name in numbapool.__all__ if name != "kinds"]
    assert sorted(name for name in listed if name in public) == sorted(
        [*public, *(name for name in public if name in modules())]
    )
    reducers = text.partition(".. currentmodule:: numbapool.kinds\n")[2].partition("```")[0]
    assert re.findall(r"^\.\. autoclass:: (\w+)", reducers, re.MULTILINE) == list(
        dict.fromkeys(type(each).__name__ for each in NAMES.values())
    )
    assert ".. automodule:: numbapool.onnx\n   :members:" in text


def modules() -> list[str]:
    """What numbapool.nn has, too."""
    tree = (ROOT / "numbapool" / "nn.py").read_text(encoding="utf-8")
    return re.findall(r"^class ([A-Z]\w+)", tree, re.MULTILINE)


def parts_of(docstring: str) -> dict[str, str]:
    """The sections of a docstring in numpydoc's format, by their titles."""
    _, *rest = re.split(r"^(\w+)\n-+$", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(rest[::2], rest[1::2], strict=True))


def entries(section: str) -> dict[str, tuple[str, str]]:
    """The names that a section explains, which may share a line: of each its type and its text."""
    found = re.findall(r"^(\S.*)\n((?: .*\n|\n)*)", f"{section}\n", re.MULTILINE)
    heads = [(head.partition(" : "), text) for head, text in found]
    return {name: (kind, text) for (names, _, kind), text in heads for name in names.split(", ")}


def is_explained(name: str, parameter: str) -> bool:
    """In the docstring of a function, or in one that it leads to."""
    kind, text = entries(parts_of(getattr(numbapool, name).__doc__)["Parameters"])[parameter]
    leads_to = re.search(r"`(\w*pool\w*)`", text)
    return bool(kind) or (leads_to is not None and is_explained(leads_to[1], parameter))


@pytest.mark.parametrize("name", functional.__all__)
def test_docstrings_of_functions_are_whole(name: str) -> None:
    """Of every rank: what one rank leaves to another is there."""
    function = getattr(numbapool, name)
    shown = inspect.signature(function).parameters.values()
    parameters = [f"**{each.name}" if each.kind is each.VAR_KEYWORD else each.name for each in shown]
    parts = parts_of(function.__doc__)
    assert sorted(entries(parts["Parameters"])) == sorted(parameters)
    assert [each for each in parameters if not is_explained(name, each)] == []
    results = entries(parts["Returns"])
    expected = ["out", "indices"] if "return_indices" in parameters else ["out"]
    assert list(results) == (["grad_input"] if name.endswith("_backward") else expected)
    assert all("shape" in kind or "axes" in kind for kind, _ in results.values())
    assert list(entries(parts["Raises"])) == ["ValueError", "TypeError"]
    assert re.search(rf"^>>> .*\bnumbapool\.{name}\(", parts["Examples"], re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in numbapool.__all__ if inspect.isclass(getattr(numbapool, name))])
def test_docstrings_of_layers_name_their_parameters(name: str) -> None:
    layer = getattr(numbapool, name)
    of, names = re.search(r"Parameters as in `numbapool\.(\w+)`: ([\w,\s]+)\.", layer.__doc__).groups()  # type: ignore[union-attr]
    assert re.split(r",\s+", names) == list(inspect.signature(layer).parameters)
    assert set(inspect.signature(layer).parameters) <= set(inspect.signature(getattr(numbapool, of)).parameters)
    assert (layer._forward, layer._backward) == (getattr(numbapool, of), getattr(numbapool, f"{of}_backward"))
    assert of.replace("_", "") == name.lower()
    assert ("Arrays have any shape" if layer is numbapool.Pool else "Shapes are (N, C") in layer.__doc__
    assert ">>> " in layer.__doc__


def test_there_are_commands() -> None:
    assert len(EXPLAINED) >= 2


@pytest.mark.parametrize("command", EXPLAINED)
def test_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = pytest.importorskip("numbapool.cli")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)
    assert words[:3] == ["python", "-m", "numbapool"]
    assert cli.main(words[3:]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_skipped_blocks_are_of_absent_libraries(page: Path) -> None:
    """Nothing is skipped for any other reason, and what is skipped goes on somewhere."""
    text = page.read_text(encoding="utf-8")
    skips = re.findall(r"^(?:% |<!-- )skip: (\w+)(.*?)(?: -->)?$", text, re.MULTILINE)
    for action, condition in skips:
        if action == "end":
            assert condition == ""
        else:
            assert re.fullmatch(r' if\(not installed\("\w+"(, "\w+")*\), reason=".*"\)', condition), condition
    actions = [action for action, _ in skips if action != "next"]
    assert actions == ["start", "end"] * (len(actions) // 2)
