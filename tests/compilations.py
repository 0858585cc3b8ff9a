"""What a run of the tests compiles: counted in every process, said at its end, and bounded.

Compiling is most of what the default run takes, so that a test that compiles more kernels than it needs is noticed here.
What is found in the cache on disk is not compiled; an empty one shows the whole (`NUMBA_CACHE_DIR=$(mktemp -d) pytest`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from numba.core import event

from tests.selection import DEFAULT_RUN

KERNELS, EMULATED, CALLERS = (
    "kernels",
    "emulated kernels of GPUs",
    "functions around numbapool.jit and parts of kernels",
)
# What the default run may compile, all processes together; two of them may compile the same at the same time.
BUDGET = {KERNELS: 400, EMULATED: 400, CALLERS: 220}


class Compilations(event.Listener):  # type: ignore[misc]
    """A plugin of pytest, and what Numba tells of each compilation."""

    def __init__(self, config: pytest.Config) -> None:
        self.is_default = config.option.markexpr == DEFAULT_RUN
        self.depth = 0
        self.counts: dict[str, Counter[str]] = {kind: Counter() for kind in BUDGET}
        event.register("numba:compile", self)

    def on_start(self, event: Any) -> None:
        """What is compiled meanwhile is a part of it."""
        if self.depth == 0:
            function = event.data["dispatcher"].py_func
            home = function.__module__ or ""  # examples in documents have no module
            kind = KERNELS if home.startswith("numbapool.") else EMULATED if home == "tests.emulation" else CALLERS
            self.counts[kind][function.__qualname__] += 1
        self.depth += 1

    def on_end(self, event: Any) -> None:
        """It has been compiled, or has failed to."""
        self.depth -= 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended."""
        for kind, counts in getattr(node, "workeroutput", {}).get("compiled", {}).items():
            self.counts[kind] += Counter(counts)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand the counts on, or judge them."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["compiled"] = {kind: dict(counts) for kind, counts in self.counts.items()}
        elif self.is_default and self.exceeded() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def exceeded(self) -> list[str]:
        """What was compiled more often than the default run may."""
        return [kind for kind, most in BUDGET.items() if self.counts[kind].total() > most]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """A line for each kind, and what is beyond the budget of the default run."""
        terminalreporter.section("compilations")
        for kind, counts in self.counts.items():
            most = ", ".join(f"{name} {count}" for name, count in counts.most_common(6))
            terminalreporter.line(f"{counts.total():4} {kind}" + (f"; most often {most}" if most else ""))
        for kind in self.exceeded() if self.is_default else ():
            terminalreporter.line(
                f"The default run may compile {BUDGET[kind]} {kind}: see tests/compilations.py, and mark tests as full.",
                red=True,
            )
