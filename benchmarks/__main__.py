"""`python -m benchmarks`: the commands. Nothing heavy is imported here, because the processes of all engines import it too."""

from __future__ import annotations

import click

from benchmarks.compare import compare
from benchmarks.family import family
from benchmarks.limits import limits
from benchmarks.peers import peers
from benchmarks.startup import startup
from benchmarks.tensors import tensors


@click.group(context_settings={"show_default": True})
def main() -> None:
    """How fast numbapool is: against its past, against other libraries, and at its first call."""


main.add_command(compare)
main.add_command(family)
main.add_command(limits)
main.add_command(peers)
main.add_command(startup)
main.add_command(tensors)


@main.command()
@click.pass_context
def performance(context: click.Context) -> None:
    """Measure everything that docs/performance.md shows, and write it: tables and plots."""
    context.invoke(limits, write=True)
    context.invoke(peers, write=True)
    context.invoke(family, write=True)
    context.invoke(tensors, write=True)


# Worker processes import this module under another name and must not start the command again.
if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
