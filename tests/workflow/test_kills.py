"""A run that is killed again and again ends with the bytes of a run that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from clones import Clone, clone_to

KILLS = 30
TABLES = ("table1.csv", "table2.csv", "cells.csv")
# A checkpoint every 0.3 s instead of every five minutes, so that most trainings have one.
OFTEN = ("CHECKPOINT_SECONDS = 300.0", "CHECKPOINT_SECONDS = 0.3")


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


def jobs_of(folder: Path) -> list[int]:
    """The processes that run a script of the workflow in a folder."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            command = (place / "cmdline").read_bytes()
            if b"/.snakemake/scripts/" in command and (place / "cwd").resolve() == folder:
                found.append(int(place.name))
        except (OSError, ValueError):
            continue
    return sorted(found)


def writers_of_a_checkpoint(folder: Path) -> list[int]:
    """The trainings that are in the middle of writing a checkpoint."""
    found = []
    for job in jobs_of(folder):
        try:
            opened = [str(file.readlink()) for file in Path(f"/proc/{job}/fd").iterdir()]
        except OSError:
            continue
        if any("/.resume.safetensors." in name for name in opened):
            found.append(job)
    return found


def kill(run: subprocess.Popen, folder: Path, kind: str, draw: random.Random) -> bool:
    """Kill one process of a run; whether there was one to kill."""
    victims = [run.pid] if kind == "snakemake" else jobs_of(folder)
    if kind == "checkpoint":
        end = time.monotonic() + 10
        while time.monotonic() < end and run.poll() is None:
            if writing := writers_of_a_checkpoint(folder):
                victims = writing
                break
    if run.poll() is not None or not victims:
        return False
    try:
        os.kill(draw.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_thirty_kills_change_no_byte(smoke, tmp_path):
    clone = clone_to(tmp_path / "clone")
    clone.edit("workflow/scripts/trap2/finetuning.py", *OFTEN)
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
                if kill(run, folder, kind, draw):
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
