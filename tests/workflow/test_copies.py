"""Copies of the project that are no plain clone: without Git, and with Git's own line ends."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from clones import PROJECT, Clone, clone_to, set_up

# What a download of the project holds beside the parts that a run needs.
FURTHER = (".dvc/config", ".dvcignore", ".gitattributes", ".gitignore", "bundle", "data.dvc")


def download(folder: Path) -> Clone:
    """The project's files without its history, as in a ZIP."""
    made = clone_to(folder)
    for name in FURTHER:
        source, target = PROJECT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return made


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


def test_a_copy_without_git_pulls_the_released_checkpoints_and_plans_the_rest(tmp_path):
    copy = download(tmp_path / "copy")
    assert not (copy.folder / ".git").exists()
    (copy.folder / ".venv").symlink_to(sys.prefix)
    copy.succeed(".venv/bin/dvc", "pull")
    assert (copy.folder / "data/demo/manifest.json").exists()
    run = copy.snakemake("all", "-n", "--cores", "1", "--config", "checkpoints=released")
    assert run.code == 0, run.output
    assert "finetune_protected" not in run.jobs()


def test_no_byte_depends_on_how_git_writes_line_ends(tmp_path):
    original = download(tmp_path / "original").folder
    git(original, "init", "--initial-branch=main")
    git(original, "add", "--all", "--force")
    git(original, "commit", "--message=all")
    words = ("clone", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", str(original), "copy")
    git(tmp_path, *words)
    assert digests(tmp_path / "copy") == digests(original)
    # Nor what is committed from there.
    git(tmp_path / "copy", "add", "--all", "--renormalize")
    git(tmp_path / "copy", "diff", "--cached", "--exit-code")


def test_a_clone_with_other_line_ends_is_mended_as_the_page_of_troubles_says(tmp_path):
    original, copy = download(tmp_path / "original").folder, tmp_path / "copy"
    (original / ".gitattributes").unlink()
    git(original, "init", "--initial-branch=main")
    git(original, "add", "--all", "--force")
    git(original, "commit", "--message=before")
    git(tmp_path, "clone", "-c", "core.autocrlf=true", str(original), "copy")
    shutil.copy(PROJECT / ".gitattributes", original)
    git(original, "add", ".gitattributes")
    git(original, "commit", "--message=after")
    page = (PROJECT / "docs/troubleshooting.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if "core.autocrlf" in line)
    remedy = re.findall(r"`(git [^`]+)`", row)
    assert len(remedy) == 3
    git(copy, *remedy[0].split()[1:])
    assert digests(copy) != digests(original)
    for command in remedy[1:]:
        git(copy, *command.split()[1:])
    assert digests(copy) == digests(original)


def test_a_copy_never_makes_the_environment_of_the_tests_anew(clone):
    set_up(clone)
    for lock in (clone.folder / "envs").glob("*.lock"):
        lock.touch()
    assert "-m venv" not in clone.make("env", "--dry-run").output
    (clone.folder / ".venv").unlink()
    assert "-m venv" in clone.make("env", "--dry-run").output
