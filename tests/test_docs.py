"""The documentation names everything that is public, and what it says to type works. Its Python runs by conftest.py."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import numbapool
import numbapool.onnx

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if "-m numbapool explain" in line]


EXPLAINED = [command for page in PAGES for command in commands(page)]


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = re.findall(r"^\.\. auto(?:function|class):: (\w+)", text, re.MULTILINE)
    assert sorted(name for name in listed if name in numbapool.__all__) == sorted(
        [*numbapool.__all__, *(name for name in numbapool.__all__ if name in modules())]
    )
    assert ".. automodule:: numbapool.onnx\n   :members:" in text


def modules() -> list[str]:
    """What numbapool.nn has, too."""
    tree = (ROOT / "numbapool" / "nn.py").read_text(encoding="utf-8")
    return re.findall(r"^class ([A-Z]\w+)", tree, re.MULTILINE)


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
