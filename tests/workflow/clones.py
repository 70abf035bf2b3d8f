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
PARTS = ("Snakefile", "Makefile", "config", "envs", "profiles", "slurm", "workflow")
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

    def command(self, *words: str) -> Run:
        done = subprocess.run(
            words,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def snakemake(self, *arguments: str) -> Run:
        return self.command(sys.executable, "-m", "snakemake", *arguments)

    def succeed(self, *words: str) -> Run:
        """A command that must work; a failure shows what it and the jobs said."""
        run = self.command(*words)
        logs = {
            p: p.read_text("utf-8").splitlines()[-5:] for p in self.folder.rglob("logs/**/*.log")
        }
        said = "".join(f"\n== {p}\n" + "\n".join(lines) for p, lines in logs.items())
        assert run.code == 0, run.output + said
        return run

    def make(self, target: str, *variables: str) -> Run:
        """``make target``, which is to work."""
        # Through a link, `make env` would make the environment of these tests anew.
        linked = (self.folder / ".venv").is_symlink()
        return self.succeed(
            "make", target, *variables, *(["-o", ".venv/installed"] if linked else [])
        )

    def run(self, *targets: str, cores: int = 2) -> Run:
        """Run the configured suite, which is to work."""
        arguments = (*targets, "--cores", str(cores), "--config", *self.settings)
        return self.succeed(sys.executable, "-m", "snakemake", *arguments)

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


def set_up(clone: Clone, suite: str = "smoke") -> Clone:
    """Give a copy the tests' environment as .venv/, and a suite in config/config.yaml."""
    (clone.folder / ".venv").symlink_to(sys.prefix)
    clone.edit("config/config.yaml", "suite: demo", f"suite: {suite}")
    return clone


def copy_of(finished: Clone, folder: Path) -> Clone:
    """A copy of a finished run that a test may change."""
    # copy2 keeps modification times, so that nothing looks newer than it is.
    shutil.copytree(finished.folder, folder, symlinks=True, copy_function=shutil.copy2)
    return Clone(folder, finished.settings)
