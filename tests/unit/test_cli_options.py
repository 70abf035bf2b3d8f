"""The options of the command line: defaults, ranges, and help without a wait."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from trap2.cli import train
from trap2.cli.main import main
from trap2.protection.trap2 import Trap2
from trap2.training.settings import Optimisation
from trap2.updates.settings import AdapterSettings

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def test_the_shown_defaults_are_the_librarys():
    shown = {option.name: option.show_default for option in train.train.params}
    for names, settings in (
        (train.OPTIMISATION, Optimisation()),
        (train.ADAPTER, AdapterSettings()),
        (train.OBJECTIVE, Trap2(1.0)),
    ):
        for name in names:
            assert shown[name] == str(getattr(settings, name))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", "--learning-rate nan"),
        ("train", "--lambda inf"),
        ("train", "--s-max inf"),
        ("train", "--weighting 2/s"),
        ("train", "--steps 99999999999"),
        ("merge", "--coefficient nan"),
        ("merge", "--option keep=nan"),
        ("evaluate", "--scale nan"),
        ("evaluate", "--scale 1 --scale -inf"),
        ("evaluate", "--logit-scale inf"),
        ("search", "--step nan"),
        ("search", "--maximum inf"),
        ("search", "--patience 99999999999"),
    ],
)
def test_a_number_that_is_none_is_refused_by_its_option(command, words):
    result = CliRunner().invoke(main, [command, *words.split()])
    option = words.split()[-2]
    assert result.exit_code == 2
    assert option in result.output
    assert (
        "not a finite" in result.output
        or "not in the range" in result.output
        or "not one of" in result.output
    )


def test_help_does_not_wait_for_torch():
    asked = "import sys, trap2.cli; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], env={"PYTHONPATH": str(SCRIPTS)})
    assert done.returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "trap2", "--help"],
        env={"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Usage: trap2 [OPTIONS] COMMAND" in shown


PAGE = (SCRIPTS.parents[1] / "docs" / "command-line.md").read_text("utf-8")


def test_the_page_lists_every_command():
    assert set(re.findall(r"^\| `trap2 (\w+)` \|", PAGE, re.M)) == set(main.commands)


def test_the_pages_commands_can_be_parsed(monkeypatch, tmp_path):
    block = next(part for part in PAGE.split("```") if "trap2 train" in part and "export" in part)
    commands = re.findall(r"^trap2 (.*)$", block.replace("\\\n", " "), re.M)
    assert len(commands) == 6
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = command.replace("$", "").split()
        # Nothing is there, so parsing stops at the base and at no unknown option.
        assert "Directory 'B' does not exist" in CliRunner().invoke(main, words).output
