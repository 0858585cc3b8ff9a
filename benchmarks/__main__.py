"""`python -m benchmarks`: the commands. Nothing heavy is imported here, because the processes of all engines import it too."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.compare import compare
from benchmarks.family import family
from benchmarks.limits import limits
from benchmarks.peers import peers
from benchmarks.report import DOCS, write_option
from benchmarks.sizes import sizes
from benchmarks.startup import startup
from benchmarks.tensors import tensors

# Of other libraries, in `performance`: with all six it would take 10 minutes more. `peers` has all.
PASSES = ("forward", "indices", "backward")


@click.group(context_settings={"show_default": True}, invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """How fast numbapool is: against its past, against other libraries, and at its first call.

    Without a command: `performance`.
    """
    if context.invoked_subcommand is None:
        context.invoke(performance, folder=DOCS)


main.add_command(compare)
main.add_command(family)
main.add_command(limits)
main.add_command(peers)
main.add_command(sizes)
main.add_command(startup)
main.add_command(tensors)


@main.command()
@write_option
@click.pass_context
def performance(context: click.Context, folder: Path | None) -> None:
    """Measure other libraries, the limits of the machine and sizes of arrays, and write docs/performance.md."""
    context.invoke(peers, passes=PASSES, folder=folder or DOCS)
    context.invoke(limits, folder=folder or DOCS)
    context.invoke(sizes, folder=folder or DOCS)


# Worker processes import this module under another name and must not start the command again.
if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
