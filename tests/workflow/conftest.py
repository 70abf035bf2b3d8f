"""The workflow run as its users run it, once for all tests that look at the result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from clones import DATASETS, PROJECT, Clone, clone_to, copy_of, set_up

TASKS = 3


@pytest.fixture
def clone(tmp_path) -> Clone:
    """A fresh copy in which nothing was run."""
    return clone_to(tmp_path / "clone")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Clone:
    """A copy in which the smoke suite was run.  Tests that change it work on :func:`edited`."""
    made = set_up(clone_to(tmp_path_factory.mktemp("smoke") / "clone"))
    made.make("demo")
    return made


@pytest.fixture
def edited(smoke, tmp_path) -> Clone:
    """A copy of the finished run that a test may change."""
    return copy_of(smoke, tmp_path / "edited")


@pytest.fixture(scope="session")
def complete(smoke, tmp_path_factory) -> Clone:
    """A copy of the finished run in which all artifacts were made; do not change it."""
    made = copy_of(smoke, tmp_path_factory.mktemp("artifacts") / "complete")
    jobs = made.dry_run("all_artifacts")
    # The ablations train; the rest is made from what is there.
    assert not {"finetune_protected", "sweep_scales", "build_head"} & set(jobs)
    assert jobs["merge_updates"] == 1 + TASKS
    assert (jobs["mix_pairs"], jobs["measure_curvature"]) == (1, 2)
    made.run("all_artifacts")
    return made


@pytest.fixture(scope="session")
def defended(complete, tmp_path_factory) -> Clone:
    """All artifacts and their report, of all protections; do not change it."""
    made = copy_of(complete, tmp_path_factory.mktemp("defended") / "clone")
    made.make("all-artifacts")
    made.make("report")
    return made


@pytest.fixture(scope="session")
def staged(smoke, tmp_path_factory) -> Clone:
    """The finished run with its checkpoints released, as `release` says."""
    made = copy_of(smoke, tmp_path_factory.mktemp("staged") / "clone")
    (made.folder / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc/config", made.folder / ".dvc")
    said = made.run("release").output
    for command in ("dvc add data", "dvc push"):
        assert f"    {command}\n" in said
        made.succeed(*f".venv/bin/{command}".split())
    return made


@pytest.fixture(scope="session")
def reproduced(staged, tmp_path_factory) -> Clone:
    """A fresh copy that got the released checkpoints alone and made everything else from them."""
    made = set_up(clone_to(tmp_path_factory.mktemp("released") / "clone"))
    shutil.copytree(staged.folder / "bundle", made.folder / "bundle")
    shutil.copy(staged.folder / "data.dvc", made.folder)
    (made.folder / ".dvc").mkdir()
    shutil.copy(staged.folder / ".dvc/config", made.folder / ".dvc")
    made.make("reproduce")
    return Clone(made.folder, ("suite=smoke", "checkpoints=released"))


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
