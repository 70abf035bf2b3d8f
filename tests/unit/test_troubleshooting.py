"""The symptoms on the page of troubles are messages that the code gives, word for word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "troubleshooting.md"
# Said by others: Python, pip, PyTorch, Snakemake, DVC, SLURM and the system.
FOREIGN = {
    "ensurepip is not available",
    "DO NOT MATCH THE HASHES",
    "Directory cannot be locked",
    "The files below seem to be incomplete",
    "No rule to produce …",
    "Config entries have to be defined as name=value pairs",
    "No space left on device",
    "Disk quota exceeded",
    "Permission denied",
    "died with <Signals.SIGKILL: 9>",
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA out of memory",
    "ModuleNotFoundError",
    "Unable to acquire lock. Most likely another DVC process is running",
    "Missing cache files",
    "Permission denied: '….cache'",
    "unexpected error - [Errno 13] Permission denied: '/var/tmp/dvc…'",
    "DUE TO TIME LIMIT",
    "oom_kill",
    "OUT_OF_MEMORY",
    "Invalid account or account/partition combination",
    "SLURM sbatch failed",
    "(Resources)",
    "(Priority)",
    "squeue --me",
}


def symptoms() -> set[str]:
    """What stands in backticks in the tables' first column."""
    rows = re.findall(r"^\| (.*?) \| ", PAGE.read_text("utf-8"), re.M)
    return {text for row in rows for text in re.findall(r"`([^`]+)`", row)}


def messages() -> list[str]:
    """Every text of the project's code, with a gap where a value is put in."""
    found = [(PROJECT / "Makefile").read_text("utf-8")]
    for path in (PROJECT / "profiles/default", PROJECT / "slurm"):
        found.append((path / "config.yaml").read_text("utf-8"))
    for path in (PROJECT / "workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append("".join(map(str, parts)))
    for path in [*(PROJECT / "workflow").rglob("*.smk"), PROJECT / "Snakefile"]:
        found.append(path.read_text("utf-8"))
    return found


def test_every_symptom_is_said_by_somebody():
    said = messages()
    missing = []
    for symptom in symptoms() - FOREIGN:
        parts = [part.strip() for part in symptom.split("…")]
        missing += [
            f"{symptom}: {part}"
            for part in parts
            if len(part) > 3 and not any(part in text for text in said)
        ]
    assert missing == []


def test_the_foreign_ones_are_on_the_page():
    assert symptoms() >= FOREIGN
