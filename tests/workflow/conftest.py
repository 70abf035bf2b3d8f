"""The workflow run as its users run it, once for all tests that look at the result."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from clones import DATASETS, PROJECT, Clone, clone_to, copy_of


@pytest.fixture
def clone(tmp_path) -> Clone:
    """A fresh copy in which nothing was run."""
    return clone_to(tmp_path / "clone")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Clone:
    """A copy in which the smoke suite was run.  Tests that change it work on :func:`edited`."""
    made = clone_to(tmp_path_factory.mktemp("smoke") / "clone")
    made.run()
    return made


@pytest.fixture
def edited(smoke, tmp_path) -> Clone:
    """A copy of the finished run that a test may change."""
    return copy_of(smoke, tmp_path / "edited")


@pytest.fixture(scope="session")
def paper(tmp_path_factory) -> Clone:
    """A fresh copy with the paper suite configured; nothing was run."""
    made = clone_to(tmp_path_factory.mktemp("paper") / "clone")
    return Clone(made.folder, ("suite=paper",))


@pytest.fixture(scope="session")
def paper_mini(tmp_path_factory, miniatures, mirror) -> Clone:
    """A copy in which the paper suite was run in miniature, its data downloaded from a server."""
    folder = clone_to(tmp_path_factory.mktemp("paper-mini") / "clone").folder
    maker = PROJECT / "tests" / "fixtures" / "make_paper_mini.py"
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "workflow" / "scripts")}
    subprocess.run([sys.executable, maker, folder], env=environment, check=True)
    settings = (f"catalogue={miniatures / 'catalogue.yaml'}", f"mirror={mirror}")
    made = Clone(folder, ("suite=paper-mini", *settings))
    made.run("all", *(f"results/paper-mini/data/{task}/64/manifest.json" for task in DATASETS))
    return made


@pytest.fixture
def edited_mini(paper_mini, tmp_path) -> Clone:
    """A copy of the finished miniature run that a test may change."""
    return copy_of(paper_mini, tmp_path / "edited")
