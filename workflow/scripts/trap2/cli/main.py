"""The command line ``trap2``: one step of the workflow on one's own files."""

from __future__ import annotations

from typing import Any

import click

from trap2.cli.audit import audit
from trap2.cli.debug import debug
from trap2.cli.evaluate import evaluate
from trap2.cli.merge import merge
from trap2.cli.protect import protect
from trap2.cli.search import search
from trap2.cli.train import train
from trap2.cli.verify import verify
from trap2.runtime import plugins
from trap2.runtime.errors import Trap2Error
from trap2.runtime.interruption import Interrupted


class _OneLineErrors(click.Group):
    """Says what is wrong with what was given in one line; a fault of the program has its trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (Trap2Error, OSError, Interrupted) as error:
            raise click.ClickException("; ".join(str(error).splitlines())) from None


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--plugin",
    "files",
    multiple=True,
    metavar="FILE.py",
    help="A Python file that adds methods or protections; it is executed. May be repeated.",
)
def main(files: tuple[str, ...]) -> None:
    """TRAP²: updates that work alone and break when merged.

    One step of the workflow on your own files: train an update, protect one, merge some, score
    what came out. Each command's --help has an example on the files of make demo.
    """
    plugins.load(files)


for _command in (train, protect, merge, evaluate, search, audit, verify, debug):
    main.add_command(_command)
