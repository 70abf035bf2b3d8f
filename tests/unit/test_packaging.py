"""What the project says that it needs is what it imports, and what the lock holds."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
# The packages whose modules have another name.
PACKAGES = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Programs, the Snakefile's own import, and open_clip's torchvision, which must go with torch.
NOT_IMPORTED = {"dvc", "snakemake", "snakemake-executor-plugin-slurm", "torchvision"}


def requirements(texts: list[str]) -> dict[str, Requirement]:
    found = [Requirement(text) for text in texts]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


NEEDED = requirements(METADATA["dependencies"])
FOR_TESTS = requirements(METADATA["optional-dependencies"]["test"])


def imported(*folders: str) -> set[str]:
    """The packages that the Python files of some folders import."""
    files = (path for folder in folders for path in (PROJECT / folder).rglob("*.py"))
    # In a package a module has the package's name before its own.
    local = {path.stem for path in files if not (path.parent / "__init__.py").exists()}
    names = set()
    for folder in folders:
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    foreign = names - set(sys.stdlib_module_names) - local - {"trap2"}
    return {canonicalize_name(PACKAGES.get(name, name)) for name in foreign}


def test_the_library_needs_what_it_imports():
    assert imported("workflow/scripts") <= NEEDED.keys()
    assert NEEDED.keys() - imported("workflow/scripts") <= NOT_IMPORTED


def test_the_tests_need_what_they_import():
    found = imported("tests", "benchmarks", "docs")
    # Comes with Snakemake and DVC, as pip's own reading of versions.
    assert found - {"packaging"} <= NEEDED.keys() | FOR_TESTS.keys()


@pytest.mark.parametrize("name", sorted(NEEDED | FOR_TESTS))
def test_the_lock_is_within_the_ranges(name):
    lock = (PROJECT / "envs" / "requirements.lock").read_text("utf-8")
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lock, re.M))
    pinned = {canonicalize_name(package): version for package, version in pins.items()}
    requirement = (NEEDED | FOR_TESTS)[name]
    assert Version(pinned[name]) in requirement.specifier
    assert requirement.specifier, f"{name} has no range"


def test_the_same_versions_are_asked_for_everywhere():
    minimum = re.search(r'min_version\("([\d.]+)"\)', (PROJECT / "Snakefile").read_text("utf-8"))
    assert minimum is not None
    assert NEEDED["snakemake"].specifier == SpecifierSet(f">={minimum[1]}")
    python = SpecifierSet(METADATA["requires-python"])
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    asked = re.search(r"sys\.version_info < \((\d+), (\d+), (\d+)\)", makefile)
    assert asked is not None
    assert python == SpecifierSet(f">={'.'.join(asked.groups())}")
    environment = yaml.safe_load((PROJECT / "envs" / "environment.yaml").read_text("utf-8"))
    conda = next(d for d in environment["dependencies"] if str(d).startswith("python="))
    image = re.search(
        r"^FROM python:([\d.]+)", (PROJECT / "Containerfile").read_text("utf-8"), re.M
    )
    assert image is not None
    assert image[1] == conda.removeprefix("python=")
    assert Version(f"{image[1]}.99") in python


def test_hooks_are_the_locked_tools_on_files_that_exist():
    settings = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repository,) = settings["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        assert Path(program).name in FOR_TESTS or Path(program).name == "python"
        paths = [argument for argument in arguments if "/" in argument]
        assert all((PROJECT / path).exists() for path in paths)
        if "files" in hook:
            tracked = [path.relative_to(PROJECT) for path in PROJECT.glob("workflow/**/*.*")]
            assert any(re.search(hook["files"], str(path)) for path in tracked)


def test_a_wheel_has_every_file_of_the_library(tmp_path):
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, tmp_path)
    library = PROJECT / "workflow" / "scripts" / "trap2"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(library, tmp_path / "workflow" / "scripts" / "trap2", ignore=ignore)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('wheel'))"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    assert wheel.name in done.stdout
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("trap2/")}
    there = (path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert packed == {f"trap2/{path.relative_to(library).as_posix()}" for path in there}
    assert any(name.endswith(".schema.yaml") for name in packed)
