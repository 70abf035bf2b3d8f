"""The commands of README.md, taken from it and tried, and the links of every page."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from clones import PROJECT, Clone, clone_to, copy_of, set_up
from trap2.cli.main import main

README = PROJECT / "README.md"
HOW = PROJECT / "docs" / "how-do-i.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.M | re.S)
# What they need a cluster for, or train all anew for, is planned and not run.
PLANNED = ("--profile slurm", "--config")


def commands(page: Path) -> list[str]:
    """The commands of a page's blocks, and those of make and Snakemake in its sentences."""
    text = page.read_text("utf-8")
    found = []
    for block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            plain = re.sub(r"(^|\s)#.*", "", line)
            found += [part.strip() for part in plain.split("&&") if part.strip()]
    sentences = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    inline = re.findall(r"`([^`]+)`", sentences.replace("\n", " "))
    found += [part for part in inline if re.match(r"(make|snakemake|\.venv/bin/snakemake) ", part)]
    return list(dict.fromkeys(found))


def kind(command: str) -> str:
    """``make``, ``snakemake`` or ``other``."""
    program = Path(command.split()[0]).name
    return program if program in ("make", "snakemake") else "other"


def of_kind(wanted: str, page: Path = README) -> list[str]:
    return [command for command in commands(page) if kind(command) == wanted]


@pytest.fixture(scope="module")
def project(smoke, tmp_path_factory) -> Clone:
    """The finished smoke suite, which its config/config.yaml names."""
    return copy_of(smoke, tmp_path_factory.mktemp("readme") / "clone")


def test_the_page_has_commands_of_every_kind():
    assert {"make demo", "make test", "make reproduce", "make report"} <= set(of_kind("make"))
    assert any("--profile slurm" in command for command in of_kind("snakemake"))


# Each has done its work in these copies already; as it stands on the page, it finds that.
WHERE = {
    "make reproduce": "reproduced",
    "make all-artifacts": "defended",
    "make report": "defended",
}


@pytest.mark.parametrize("command", of_kind("make"))
def test_a_make_command_works(command, request):
    if command == "make test":
        pytest.skip("is what runs this test")
    if command == "make siblings":
        pytest.skip("needs whole checkpoints, which smoke has not; test_siblings.py has a suite")
    target = shlex.split(command)[1]
    request.getfixturevalue(WHERE.get(command, "smoke")).make(target)


@pytest.mark.parametrize("command", of_kind("other"))
def test_another_command_works(project, command):
    project.succeed("bash", "-c", command)


@pytest.mark.parametrize("command", of_kind("snakemake"))
def test_a_snakemake_command_works(project, command):
    _, *arguments = shlex.split(command)
    planned = any(option in command for option in PLANNED)
    if planned and "--unlock" in arguments:
        pytest.skip("asks the cluster")
    dry = ["--dry-run"] if planned else []
    project.succeed(".venv/bin/snakemake", *dry, *arguments)


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> Clone:
    """A fresh copy in which nothing is run."""
    return set_up(clone_to(tmp_path_factory.mktemp("planned") / "clone"))


# Those of the README are tried above.
@pytest.mark.parametrize("command", sorted({*of_kind("make", HOW)} - {*of_kind("make")}))
def test_a_make_command_of_how_do_i_can_be_planned(planned, command):
    said = planned.make(*shlex.split(command)[1:], "--dry-run").output
    assert "snakemake" in said or "rm -rf results" in said


@pytest.mark.parametrize("command", sorted({*of_kind("snakemake", HOW)} - {*of_kind("snakemake")}))
def test_a_snakemake_command_of_how_do_i_can_be_planned(planned, command):
    _, *arguments = shlex.split(command)
    dry = [] if "--unlock" in arguments else ["--dry-run", "--quiet", "rules"]
    planned.succeed(sys.executable, "-m", "snakemake", *dry, *arguments)


def test_a_trap2_command_of_how_do_i_exists():
    inline = re.findall(r"`trap2 (\w+)[^`]*`", HOW.read_text("utf-8"))
    assert inline
    for command in inline:
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_make_targets_of_a_page_exist(page):
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.M))
    for command in commands(page):
        if kind(command) == "make":
            words = [word for word in shlex.split(command)[1:] if "=" not in word]
            assert set(words) <= targets, f"{page.name}: {command}"
