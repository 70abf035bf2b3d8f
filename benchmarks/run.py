"""Every benchmark in one table, each figure our time as a share of the plain way's.

    python benchmarks/run.py [--all] [--only GROUP ...] [--json FILE]

By default in a few minutes; ``--all`` takes more repeats and cases, and merges every operator in
every space at both sizes.  The figures also go to ``benchmarks/results/{host kind}.json``.  A
figure beyond its limit is marked and fails nothing: machines differ, and this one may be busy.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import dag
import figures
import loading
import merging
import scoring
import startup
import step
import sweep
import torch
from trap2.runtime import files

GROUPS = {
    "start-up": startup.figures,
    "DAG": dag.figures,
    "step": step.figures,
    "scoring": scoring.figures,
    "sweep": sweep.figures,
    "merging": merging.figures,
    "loading": loading.figures,
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--all", action="store_true", help="more repeats, cases and sizes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP")
    parser.add_argument("--json", type=Path, help="instead of benchmarks/results/{host kind}.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found, start = list[figures.Figure](), time.perf_counter()
    print(figures.HEADING, flush=True)
    for group in arguments.only:
        for figure in GROUPS[group](arguments.all):
            found.append(figure)
            print(figure.line(), flush=True)
    path = arguments.json or Path("benchmarks/results") / f"{figures.host_kind()}.json"
    files.write_json(path, figures.as_json(found))
    missed = sum(figure.met is False for figure in found)
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(found)} figures in {minutes:.1f} min, {missed} beyond their limits; wrote {path}")


if __name__ == "__main__":
    main()
