"""The commands of README.md, taken from it and tried, and the links of every page."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clones import PROJECT, Clone, clone_to

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.M | re.S)
# What leaves the folder or the machine.
ELSEWHERE = ("git clone", "cd ")


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


def of_kind(wanted: str) -> list[str]:
    # To unlock a folder plans nothing.
    tried = [command for command in commands(README) if "--unlock" not in command]
    return [command for command in tried if kind(command) == wanted]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Clone:
    """A copy with what the README speaks of beyond the workflow itself."""
    made = clone_to(tmp_path_factory.mktemp("readme") / "clone")
    shutil.copytree(PROJECT / "slurm", made.folder / "slurm")
    shutil.copy(PROJECT / "Makefile", made.folder)
    return made


def run(project: Clone, command: list[str]) -> None:
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_has_commands_of_every_kind():
    assert "make demo" in of_kind("make")
    assert "make test" in of_kind("make")
    assert any("--profile slurm" in command for command in of_kind("snakemake"))


@pytest.mark.parametrize("command", of_kind("make"))
def test_a_make_command_is_one_that_the_makefile_has(project, command):
    # What demo and test do is run elsewhere; -n says what they would run.
    run(project, ["make", "-n", *shlex.split(command)[1:]])


@pytest.mark.parametrize("command", of_kind("other"))
def test_another_command_runs(project, command):
    if command.startswith(ELSEWHERE):
        pytest.skip("leaves the folder or the machine")
    run(project, ["bash", "-c", command])


def planned_together() -> dict[str, list[str]]:
    """Snakemake's arguments: those of commands that differ by their targets alone, at once."""
    groups: dict[str, list[str]] = {}
    for command in of_kind("snakemake"):
        words, _, settings = command.partition(" --config ")
        program, *arguments = shlex.split(words)
        values = {"--cores", "--profile"}
        targets = [
            word
            for before, word in zip([program, *arguments], arguments, strict=False)
            if not word.startswith("-") and before not in values
        ]
        flags = {word for word in arguments if word.startswith("-")}
        shared = sorted(flags - {"--cores", "--profile", "--rerun-incomplete"})
        shared += ["--profile", "slurm"] if "slurm" in arguments else []
        shared += ["--config", settings] if settings else []
        groups.setdefault(" ".join(shared), []).extend(targets or ["all"])
    return groups


@pytest.mark.parametrize("settings", planned_together())
def test_the_snakemake_commands_plan_their_jobs(project, settings):
    targets = dict.fromkeys(planned_together()[settings])
    options = shlex.split(settings)
    run(project, [sys.executable, "-m", "snakemake", "-n", *targets, *options])


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
