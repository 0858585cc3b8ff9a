"""Two commits on the same machine: which cases became slower, believed only after three repeats."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks.report import table

ROOT = Path(__file__).parents[1]
# A case is worse when its time over that of a copy grew by more than this, in each of the repeats.
WORSE = 1.25
REPEATS = 3


class NothingMeasuredError(Exception):
    """No case ran with the numbapool in `tree`; the message is the end of what pytest said."""

    def __init__(self, tree: Path, message: str) -> None:
        super().__init__(message)
        self.tree = tree


@click.command()
@click.argument("base")
@click.argument("head", default="HEAD")
@click.option("--all", "everything", is_flag=True, help="All cases, not only the quick subset.")
def compare(base: str, head: str, everything: bool) -> None:
    """Compare the commits BASE and HEAD by this checkout's benchmarks; status 1 if a case became slower."""
    console = Console()
    commits = {name: resolve(name) for name in (base, head)}
    if commits[base] is None:
        console.print(f"Nothing to compare: {base} does not exist (the first commit, or a clone without its parent).")
        return
    if not git_succeeds("cat-file", "-e", f"{commits[base]}:numbapool/__init__.py"):
        console.print(f"Nothing to compare: {base} has no numbapool.")
        return
    if git_succeeds("diff", "--quiet", str(commits[base]), str(commits[head]), "--", "numbapool"):
        console.print(f"Nothing to compare: {base} and {head} have the same numbapool.")
        return
    with TemporaryDirectory() as temporary, Progress(console=console, transient=True) as progress:
        folder = Path(temporary)
        suite = copy_suite(folder / "suite")
        with checkout(folder / "base", commits[base]) as old, checkout(folder / "head", commits[head]) as new:
            try:
                slower, compared = slower_cases(suite, old, new, [] if everything else ["-m", "quick"], progress)
            except NothingMeasuredError as reason:
                if reason.tree == new:
                    raise click.ClickException(f"no case runs with {head}:\n{reason}") from None
                console.print(f"Nothing to compare: no case runs with {base}.")
                return
    if not slower:
        console.print(f"None of {compared} cases is more than {WORSE - 1:.0%} slower at {head} than at {base}.")
        return
    result = table(
        f"More than {WORSE - 1:.0%} slower at {head} than at {base} in each of {REPEATS} repeats",
        ["case", "over copy at base", "over copy at head", "slower by"],
    )
    for name, pairs in slower.items():
        bases, heads = (" ".join(f"{ratio:.3g}" for ratio in ratios) for ratios in zip(*pairs, strict=True))
        result.add_row(name, bases, heads, " ".join(f"{after / before - 1:.0%}" for before, after in pairs))
    console.print(result)
    raise SystemExit(1)


def slower_cases(
    suite: Path, old: Path, new: Path, selection: Sequence[str], progress: Progress
) -> tuple[dict[str, list[tuple[float, float]]], int]:
    """Cases that were slower in every repeat, with their ratios in both checkouts, and the number of cases compared."""
    slower: dict[str, list[tuple[float, float]]] = {}
    compared = 0
    for repeat in range(REPEATS):
        # The second repeat has the new commit first, so that a machine that slows down does not accuse it.
        trees = (new, old) if repeat % 2 else (old, new)
        ratios = {
            tree: measure(suite, tree, selection, progress, f"repeat {repeat + 1}, {tree.name}") for tree in trees
        }
        pairs = {name: (ratios[old][name], ratio) for name, ratio in ratios[new].items() if name in ratios[old]}
        compared = max(compared, len(pairs))
        slower = {
            name: [*slower.get(name, []), (before, after)]
            for name, (before, after) in pairs.items()
            if after > WORSE * before
        }
        if not slower:
            break
        # The remaining repeats are about these alone, so `slower` never grows.
        selection = [f"benchmarks/test_speed.py::test_speed[{name}]" for name in slower]
    return slower, compared


def measure(suite: Path, tree: Path, selection: Sequence[str], progress: Progress, label: str) -> dict[str, float]:
    """Time over copy of every selected case that runs with the numbapool in `tree`."""
    results = suite / "results.json"
    results.unlink(missing_ok=True)
    options = ["-v", "--rootdir=.", "--override-ini=markers=quick", f"--benchmark-json={results}"]
    named = any("::" in each for each in selection)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *selection, *([] if named else ["benchmarks/test_speed.py"])],
        cwd=suite,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    task = progress.add_task(label, total=100)
    for line in process.stdout:
        lines.append(line)
        if percent := re.search(r"\[ *(\d+)%\]$", line):
            progress.update(task, completed=int(percent[1]))
    process.wait()
    progress.remove_task(task)
    try:
        entries = json.loads(results.read_text())["benchmarks"]
    except (OSError, ValueError):
        raise NothingMeasuredError(tree, "".join(lines[-30:])) from None
    for entry in entries:
        used = Path(entry["extra_info"]["numbapool"])
        if not used.is_relative_to(tree):
            raise click.ClickException(f"measured {used} instead of the numbapool in {tree}")
    return {entry["param"]: entry["extra_info"]["over_copy"] for entry in entries}


def copy_suite(folder: Path) -> Path:
    """The benchmarks away from this checkout's numbapool, which Python would prefer to the one that is asked for."""
    for name in ("benchmarks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "conftest.py"))
    return folder


@contextmanager
def checkout(folder: Path, commit: str | None) -> Iterator[Path]:
    """A worktree of the commit."""
    git("worktree", "add", "--detach", str(folder), str(commit))
    try:
        yield folder.resolve()
    finally:
        git("worktree", "remove", "--force", str(folder))


def resolve(name: str) -> str | None:
    """The commit's hash; None if it is the parent of a commit that has none here."""
    if git_succeeds("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"):
        return git("rev-parse", f"{name}^{{commit}}")
    child = re.split("[~^]", name)[0]
    if child != name and git_succeeds("rev-parse", "--verify", "--quiet", f"{child}^{{commit}}"):
        return None
    raise click.BadParameter(f"{name} is not a commit")


def git(*arguments: str) -> str:
    """Output of a git command in this repository."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def git_succeeds(*arguments: str) -> bool:
    """Whether a git command ends with status 0."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True).returncode == 0
