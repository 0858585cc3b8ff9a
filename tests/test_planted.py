"""The list of planted faults fits the code, and some are planted: the rest by `python -m tests.planted`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import planted
from tests.planted import FAULTS, QUICK, ROOT, Fault

BY_NAME = {fault.name: fault for fault in FAULTS}


def test_there_are_enough_of_different_names() -> None:
    assert len(BY_NAME) == len(FAULTS) >= 40
    assert len(set(QUICK)) >= 5
    assert set(QUICK) <= BY_NAME.keys()
    for name in BY_NAME:
        assert re.fullmatch(r"\w+(-\w+)+", name), name  # to be typed without quotes


def test_every_text_still_occurs_once() -> None:
    """In a single line, because the ends of lines depend on the checkout."""
    for fault in FAULTS:
        text = (ROOT / "numbapool" / fault.file).read_text(encoding="utf-8")
        assert "\n" not in fault.old
        assert text.count(fault.old) == 1, f"{fault.name}: {fault.old!r} occurs {text.count(fault.old)} times"
        assert fault.new != fault.old


def test_every_test_is_there() -> None:
    for fault in FAULTS:
        text = (ROOT / "tests" / fault.tests).read_text(encoding="utf-8")
        name = fault.only.split()[0]
        assert re.search(rf"^ *def {name}\(", text, re.MULTILINE), f"{fault.name}: no {name} in {fault.tests}"


def test_the_page_has_them_all() -> None:
    text = planted.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^(\| .*) \| `\w+` \|$", text, re.MULTILINE)
    assert rows == [planted.row(fault) for fault in FAULTS], "stale: python -m tests.planted --write"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.copy_tree(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("fault", [BY_NAME[name] for name in QUICK], ids=lambda fault: fault.name)
def test_quick_ones_are_noticed(fault: Fault, tree: Path) -> None:
    outcome = planted.plant(fault, tree, is_confirmed=False)
    assert not outcome.problem, outcome.problem


def test_a_fault_that_is_none_survives(tree: Path) -> None:
    fault = BY_NAME[QUICK[0]]
    harmless = Fault("harmless-change", fault.file, fault.old, f"{fault.old} ", fault.tests, fault.only, "")
    assert planted.plant(harmless, tree, is_confirmed=False).problem == f"survives {fault.tests}"
