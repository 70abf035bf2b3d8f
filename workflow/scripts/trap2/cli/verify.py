"""``trap2 verify``: whether a run's files are the ones that it made."""

from __future__ import annotations

from pathlib import Path

import click

from trap2.cli.options import FOLDER


@click.command(short_help="Check every file behind a run's results against its SHA-256.")
@click.option(
    "--results",
    type=FOLDER,
    default="results",
    show_default=True,
    help="The folder of the published artifacts.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A copy of results/manifest.json that somebody else has kept.",
)
def verify(results: Path, against: Path | None) -> None:
    """Recompute the SHA-256 of every file behind a run's results.

    What lies in the folder vouches for itself alone: whoever changes a result and its record
    together is not noticed. A manifest that was kept elsewhere notices; its SHA-256 is in
    summary.txt.

    \b
    Example:
      trap2 verify --against data/demo/reference/manifest.json
    """
    from trap2.runtime import verification

    first, everything = results / "manifest.json", results / "manifest_all.json"
    click.echo(verification.verify(results, first, everything, against, click.echo))
