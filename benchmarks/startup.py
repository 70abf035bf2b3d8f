"""What a job costs before its first line: processor seconds of its imports and of reading W0."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from figures import Figure

PLAIN = "import torch, torchvision, open_clip, peft"
TOWER = "import trap2.evaluation.merges, trap2.models.clip.tower"
TRAINING = "import trap2.training.finetune, trap2.updates.lora"
NONE = "import trap2.report.claims, trap2.report.tables.rows"


def figures(everything: bool) -> Iterator[Figure]:
    """Jobs with a model against importing the packages that it is made with, and a bare Python."""
    repeats = 5 if everything else 3
    plain, python = (least(program, repeats) for program in (PLAIN, "pass"))
    for what, program in (("a merge", TOWER), ("a training", TRAINING)):
        seconds = least(program, repeats)
        yield Figure(
            *("start-up", f"{what} / importing open_clip and peft", seconds / plain, 3.5 / 4.9),
            f"{seconds:.2f} and {plain:.2f} processor seconds",
        )
    seconds = least(NONE, repeats)
    note = f"{seconds:.2f} and {python:.2f} processor seconds"
    yield Figure("start-up", "a table / a bare Python", seconds / python, None, note)


def least(program: str, repeats: int) -> float:
    """The least processor seconds of a program in an interpreter of its own."""
    found = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        found.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return min(found)
