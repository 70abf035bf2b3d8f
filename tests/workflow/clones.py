"""A copy of the project and a Snakemake of its own, as users run it."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config", "envs", "workflow")
DATASETS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "aircraft", "svhn", "sun397")


@dataclass(frozen=True)
class Run:
    """What a Snakemake run printed and how it ended."""

    code: int
    output: str

    def jobs(self) -> dict[str, int]:
        """The jobs of a dry run: rule to count, the target ``all`` left out."""
        found = re.search(r"^job +count\n-+ +-+\n(.*?)^total", self.output, re.M | re.S)
        if found is None:
            assert "Nothing to be done" in self.output, self.output
            return {}
        counts = (line.split() for line in found.group(1).splitlines())
        return {rule: int(count) for rule, count in counts if rule != "all"}


@dataclass(frozen=True)
class Clone:
    """A copy of the project in a folder of its own, and the configuration that is run there."""

    folder: Path
    settings: tuple[str, ...] = ("suite=smoke",)

    def snakemake(self, *arguments: str) -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def run(self, *targets: str, cores: int = 2) -> Run:
        """Run the configured suite; a failure shows what Snakemake and the jobs said."""
        run = self.snakemake(*targets, "--cores", str(cores), "--config", *self.settings)
        logs = "".join(
            f"\n== {p}\n{p.read_text('utf-8')}" for p in self.folder.rglob("logs/**/*.log")
        )
        assert run.code == 0, run.output + logs
        return run

    def dry_run(self, *targets: str) -> dict[str, int]:
        run = self.snakemake(*targets, "-n", "--cores", "1", "--config", *self.settings)
        assert run.code == 0, run.output
        return run.jobs()

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a table of ``results/``."""
        with open(self.folder / "results" / name, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text("utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        file.write_text(text.replace(old, new, 1), "utf-8")


def clone_to(folder: Path) -> Clone:
    folder.mkdir()
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    return Clone(folder)


def copy_of(finished: Clone, folder: Path) -> Clone:
    """A copy of a finished run that a test may change."""
    # copy2 keeps modification times, so that nothing looks newer than it is.
    shutil.copytree(finished.folder, folder, copy_function=shutil.copy2)
    return Clone(folder, finished.settings)
