"""Planning: what a dry run of the paper suite takes, against starting Snakemake on one rule."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

ONE_RULE = 'rule all:\n    output: "done"\n    shell: "touch {output}"\n'
PAPER = ["-n", "--quiet", "all", "--config", "suite=paper", "--"]


def figures(everything: bool) -> Iterator[Figure]:
    """Table 2 and everything of the paper suite; a changed λ of one task."""
    repeats = 3 if everything else 1
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "Snakefile").write_text(ONE_RULE, "utf-8")
        plain = seconds(["-n", "--quiet", "all", "-d", name, "-s", f"{name}/Snakefile"], repeats)
    cases = {
        "results/table2.csv": [*PAPER, "results/table2.csv"],
        "all tables and figures": [*PAPER, "all"],
    }
    for what, arguments in cases.items():
        found = seconds(arguments, repeats)
        yield Figure(
            *("DAG", f"dry run of the paper suite, {what} / of one rule", found / plain, None),
            f"{found:.1f} and {plain:.1f} s; the limit is 5 s",
        )


def seconds(arguments: list[str], repeats: int) -> float:
    """The least seconds of Snakemake with these arguments."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found.append(time.perf_counter() - start)
    return min(found)
