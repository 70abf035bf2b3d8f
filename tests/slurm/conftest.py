"""Fresh clones of the project, and a SLURM of one node to run them on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SLURM = ("snakemake", "--profile", "slurm")
LOCAL = ("snakemake", "--cores", "2")
TABLES = ("results/table1.csv", "results/table2.csv", "results/cells.csv")
# The longest that one command may take before it counts as hanging.
PATIENCE_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slurm)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


slurm = _load("cluster")


@dataclass(frozen=True)
class Run:
    """How a command ended, what it printed, and how long it took."""

    code: int
    output: str
    seconds: float


class Started:
    """A command that runs; what it prints goes to a file."""

    all: ClassVar[list[Started]] = []

    def __init__(self, command: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
        handle, name = tempfile.mkstemp(dir=folder.parent, suffix=".out")
        self._output = Path(name)
        self._began = time.monotonic()
        with os.fdopen(handle, "w") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
            )
        self.all.append(self)

    def output(self) -> str:
        return self._output.read_text("utf-8")

    def kill(self) -> None:
        """End it at once (SIGKILL), if it still runs."""
        self.process.kill()
        self.process.wait()

    def wait(self) -> Run:
        try:
            code = self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"no end after {PATIENCE_SECONDS} s:\n{self.output()}")
        return Run(code, self.output(), time.monotonic() - self._began)


def kill_started() -> None:
    """End whatever was started and still runs."""
    for started in Started.all:
        started.kill()


@dataclass(frozen=True)
class Clone:
    """A clone of the project and the environment in which its commands run."""

    folder: Path
    environment: dict[str, str]

    def start(self, *command: str) -> Started:
        return Started(command, self.folder, self.environment)

    def run(self, *command: str) -> Run:
        return self.start(*command).wait()

    def succeed(self, *command: str) -> Run:
        """Run a command that must end well; a failure shows what the jobs said."""
        run = self.run(*command)
        logs = "".join(
            f"\n== {p}\n{p.read_text('utf-8')}" for p in sorted(self.folder.glob("logs/**/*.log"))
        )
        assert run.code == 0, run.output + logs
        return run

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text("utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        file.write_text(text.replace(old, new, 1), "utf-8")

    def read(self, pattern: str) -> str:
        """The text of all files that match, one after the other."""
        return "".join(p.read_text("utf-8") for p in sorted(self.folder.glob(pattern)))


def environment_on(cluster: slurm.Cluster | None) -> dict[str, str]:
    """The environment of a user after `make env`, on a cluster's login node or without one."""
    environment = dict(os.environ) if cluster is None else cluster.environment
    programs = str(Path(sys.executable).parent)
    return environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"}


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm.Cluster]:
    """The running cluster; stopped at the end, with all its jobs."""
    slurm.install()
    # Sockets have short names: not pytest's own folder.
    made = slurm.Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    try:
        made.start()
        yield made
    finally:
        # Or else they would submit again what is cancelled.
        kill_started()
        made.stop()
        shutil.rmtree(made.folder)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder for clones, outside of any repository."""
    made = Path(tempfile.mkdtemp(prefix="slurm-clones-"))
    yield made
    kill_started()
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def new_clone(folder) -> Callable[..., Clone]:
    """Make a fresh clone: its name, and the cluster whose login node it is on."""

    def make(name: str, on: slurm.Cluster | None = None) -> Clone:
        place = folder / name
        subprocess.run(("git", "clone", "--quiet", str(PROJECT), str(place)), check=True)
        return Clone(place, environment_on(on))

    return make


@pytest.fixture(scope="session")
def local(new_clone) -> tuple[Clone, Run]:
    """The smoke suite, run without a cluster on as many processors as the node has."""
    clone = new_clone("local")
    run = clone.succeed(*LOCAL, TABLES[1], "--config", "suite=smoke")
    clone.succeed(*LOCAL, *TABLES, "--config", "suite=smoke")
    return clone, run


@pytest.fixture(scope="session")
def prepared(folder, local, cluster) -> Callable[[str], Clone]:
    """Make a clone on the cluster that has data, base and heads, and nothing trained."""

    def make(name: str) -> Clone:
        reference, _ = local
        # copy2 keeps modification times, so that nothing looks newer than it is.
        place = shutil.copytree(reference.folder, folder / name, copy_function=shutil.copy2)
        for path in (*place.glob("results/*.*"), *place.glob("results/smoke/*.*")):
            path.unlink()
        shutil.rmtree(place / "results/smoke/ViT-demo/lora")
        shutil.rmtree(place / "logs")
        return Clone(place, environment_on(cluster))

    return make


@pytest.fixture(scope="session")
def same_tables(local) -> Callable[[Clone], None]:
    """Assert that a clone's tables have the bytes of the local run's."""

    def compare(clone: Clone) -> None:
        reference, _ = local
        for table in TABLES:
            assert (clone.folder / table).read_bytes() == (reference.folder / table).read_bytes()

    return compare
