"""A run that is killed again and again ends with the bytes of a run that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
from clones import Clone, clone_to

# A kill and what follows take some 40 s: few in every run of the tests, KILLS=30 before a release.
KILLS = int(os.environ.get("KILLS", "6"))
TABLES = ("table1.csv", "table2.csv", "cells.csv")
# A checkpoint every 1.5 s instead of every five minutes, so that most trainings have one.
OFTEN = ("CHECKPOINT_SECONDS = 300.0", "CHECKPOINT_SECONDS = 1.5")


def start(clone: Clone) -> subprocess.Popen:
    """The README's command after an interruption; unlocked first if the folder is locked."""
    if any((clone.folder / ".snakemake" / "locks").glob("*.lock")):
        subprocess.run(
            [sys.executable, "-m", "snakemake", "--unlock", "--config", *clone.settings],
            cwd=clone.folder,
            capture_output=True,
            check=True,
        )
    command = ["--cores", "2", "--rerun-incomplete", "--config", *clone.settings]
    # A file, not a pipe: what a killed Snakemake leaves at work must not hold this test up.
    with open(clone.folder / "output.txt", "w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *command],
            cwd=clone.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def jobs_of(run: subprocess.Popen) -> list[psutil.Process]:
    """The jobs that a run has started itself; what a killed one left at work goes on."""
    try:
        started = psutil.Process(run.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [job for job in started if is_script(job)]


def is_script(process: psutil.Process) -> bool:
    try:
        return any("/.snakemake/scripts/" in word for word in process.cmdline())
    except psutil.Error:
        return False


def writes_a_checkpoint(job: psutil.Process) -> bool:
    try:
        return any("/.resume.safetensors." in file.path for file in job.open_files())
    except psutil.Error:
        return False


def kill(run: subprocess.Popen, kind: str, draw: random.Random) -> bool:
    """Kill one process of a run; whether there was one to kill."""
    victims = [psutil.Process(run.pid)] if kind == "snakemake" else jobs_of(run)
    if kind == "checkpoint":
        end = time.monotonic() + 10
        while time.monotonic() < end and run.poll() is None:
            if writing := [job for job in jobs_of(run) if writes_a_checkpoint(job)]:
                victims = writing
                break
    if run.poll() is not None or not victims:
        return False
    try:
        draw.choice(victims).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def test_kills_change_no_byte(smoke, tmp_path):
    clone = clone_to(tmp_path / "clone")
    clone.edit("workflow/scripts/trap2/training/finetune.py", *OFTEN)
    folder = clone.folder.resolve()
    draw = random.Random(20260221)
    kills = 0
    while kills < KILLS:
        run = start(clone)
        try:
            run.wait(timeout=draw.uniform(4, 14))
        except subprocess.TimeoutExpired:
            kind = ("snakemake", "worker", "checkpoint")[kills % 3]
            while run.poll() is None:
                if kill(run, kind, draw):
                    kills += 1
                    break
                time.sleep(0.1)
            run.wait(timeout=600)
        if run.returncode == 0:
            assert_same_tables(clone, smoke)
            # From the start: a table that is there would not ask for what is behind it.
            shutil.rmtree(folder / "results")
    # Nothing is killed now: the plain restart finishes.
    run = start(clone)
    assert run.wait(timeout=900) == 0, (folder / "output.txt").read_text("utf-8")
    assert_same_tables(clone, smoke)
    assert clone.dry_run() == {}
    assert "are as recorded" in clone.run("verify", cores=1).output


def assert_same_tables(clone: Clone, smoke: Clone) -> None:
    for name in TABLES:
        path = Path("results") / name
        assert (clone.folder / path).read_bytes() == (smoke.folder / path).read_bytes(), name
