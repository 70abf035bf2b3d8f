"""``trap2 debug``: a job of the workflow in an interpreter."""

from __future__ import annotations

import click


@click.command(short_help="Open a job of the workflow in an interpreter.")
@click.argument("target")
@click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="As Snakemake's; give it several times for several keys.",
)
@click.option(
    "--in-place",
    is_flag=True,
    help="Let the job write its own outputs and log, and replace what is there.",
)
@click.option(
    "--run",
    "at_once",
    is_flag=True,
    help="Run its script at once. The debugger opens at every breakpoint(), and where it fails.",
)
def debug(target: str, settings: tuple[str, ...], in_place: bool, at_once: bool) -> None:
    """Open the job that makes the file TARGET in an interpreter.

    The name snakemake is what the job's script is given; run() runs the script, and breakpoint()
    in it or in the library opens the debugger. Outputs and log go below debug/, so that no result
    is touched. After make demo:

        trap2 debug results/demo/ViT-demo/lora/digits/trap2/update.json
    """
    import code

    from trap2.runtime.debug import find_job

    job = find_job(target, settings, in_place=in_place)
    click.echo(job)
    if at_once:
        job.run(post_mortem=True)
        return

    def run() -> None:
        try:
            job.run(post_mortem=True)
        except SystemExit as ended:
            click.echo(f"the script ended with {ended.code}; its log has the trace")

    names = {"snakemake": job.snakemake, "run": run}
    code.interact(banner="snakemake is the job's; run() runs its script", local=names, exitmsg="")
