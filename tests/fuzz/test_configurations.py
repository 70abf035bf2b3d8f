"""Configurations as hostile or careless people write them: refused with one message, or usable.

A case takes a shipped suite or ``config.yaml`` and changes values, keys and text at places drawn at
random.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import open_clip  # noqa: F401  here, because a case has no memory for it
import pytest
import yaml
from trap2.models.clip import buildable  # noqa: F401
from trap2.report.claims import load_claims
from trap2.runtime.cluster import read_site
from trap2.runtime.errors import Trap2Error
from trap2.runtime.schema import read_yaml
from trap2.runtime.templates import refuse_code
from trap2.suites import paper
from trap2.suites.backbones import check_backbones
from trap2.suites.checks import check_merging
from trap2.suites.files import Files
from trap2.suites.load import check_config, load_suite, suites_from
from trap2.suites.results import Results
from trap2.suites.settings import Config, Suite

PROJECT = Path(__file__).parents[2]
SUITES = PROJECT / "config" / "suites"
SHIPPED = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(SUITES.glob("*.yaml"))
}
OTHERS = {
    "claims": PROJECT / "config" / "claims.yaml",
    "site": PROJECT / "slurm" / "site.example.yaml",
    "catalogue": PROJECT / "workflow" / "scripts" / "trap2" / "data" / "datasets.yaml",
}
CONFIG = {
    "suite": "demo",
    "seed": 0,
    "seeds": [0, 1],
    "protections": ["trap2"],
    "bundle": ["lora"],
    "device": "cpu",
    "resources": "resources",
    "mirror": "https://example.org",
    "sources": {"cars": "torchvision"},
    "plugins": [],
}

NUMBERS = (0, -1, 1, 10**9, 10**30, 10**400, 1e308, -1e-308, 2.5, float("nan"), float("inf"))
OTHER = (None, True, False, "", [], {}, [[]], [{}], {"": {}}, "1e-3", "2026-13-45", "null", "~")
NAMES = (
    *("data", "heads", "none", "published", "..", "/", "a/b", "../../x", "CON", "é", "e\u0301"),
    *("a" * 300, "a b", "{wildcards.x}", "$(touch x)", "`touch x`", "\u202e", "\n", "-", "1", "X"),
    *("trap2", "TIES", "digits", "Digits", "ViT-demo", "vit-demo", "__use_yte__", "<<", "=", "on"),
)
DEEP: list[Any] = []
for _ in range(20):
    DEEP = [DEEP]
GROWN: list[Any] = ["lol"] * 9
for _ in range(11):
    GROWN = [GROWN] * 9
MIXED = {1: 2, "sweet": 3, None: 4}


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value."""
    if way:
        yield way
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places(inner, (*way, key))


def mutate(draw: random.Random, content: Any) -> Any:
    """The content with one to three changes."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        ways = list(places(content))
        if ways:
            draw.choice(CHANGES)(draw, content, draw.choice(ways))
    # Last, because nobody can walk through it.
    if isinstance(content, dict) and draw.random() < 0.1:
        content |= draw.choice(({draw.choice(list(content) or ["a"]): GROWN}, MIXED))
    return content


def holder(content: Any, way: tuple[Any, ...]) -> Any:
    """The mapping or list that holds the value at the end of a way."""
    for key in way[:-1]:
        content = content[key]
    return content


def another_value(draw: random.Random, content: Any, way: tuple[Any, ...]) -> None:
    value = draw.choice((*NUMBERS, *OTHER, *NAMES, DEEP, ["x" * 400] * 400))
    holder(content, way)[way[-1]] = draw.choice((value, value, [value], {"a": value}))


def another_key(draw: random.Random, content: Any, way: tuple[Any, ...]) -> None:
    place = holder(content, way)
    if isinstance(place, dict):
        key = draw.choice((*NAMES, 1, 2.5, None, True, 10**30))
        place[key] = place.pop(way[-1]) if draw.random() < 0.5 else draw.choice(OTHER)
    else:
        place.append(draw.choice((*NAMES, *OTHER)))


def less(draw: random.Random, content: Any, way: tuple[Any, ...]) -> None:
    del holder(content, way)[way[-1]]


def from_elsewhere(draw: random.Random, content: Any, way: tuple[Any, ...]) -> None:
    other = draw.choice(list(places(content)))
    moved = copy.deepcopy(holder(content, other)[other[-1]])
    holder(content, way)[way[-1]] = moved


CHANGES = (another_value, another_value, another_key, less, from_elsewhere)


def bomb(draw: random.Random) -> str:
    """A key that stands for more values than there is memory for."""
    key = draw.choice(("tasks", "lambdas", "description", "seeds", "suite", "trap2", "colour"))
    times, levels = draw.choice((2, 9)), draw.choice((5, 11, 60))
    lines = [f"x0: &x0 [{', '.join(['lol'] * times)}]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * times)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"{key}: *x{levels - 1}", ""])


def torn(draw: random.Random, text: str) -> bytes:
    """The text with bytes changed, or something else in the place of text."""
    content = bytearray(text.encode())
    for _ in range(draw.choice((1, 3, 30))):
        place = draw.randrange(len(content))
        change = draw.choice(("byte", "cut", "twice", "sign"))
        if change == "byte":
            content[place] = draw.randrange(256)
        elif change == "cut":
            del content[place : place + draw.randrange(40)]
        elif change == "twice":
            content[place:place] = content[place : place + draw.randrange(200)]
        else:
            content[place:place] = draw.choice(b"[]{}:,#&*!|>'\"%@`\t\n- ?").to_bytes(1, "big")
        content = content or bytearray(b" ")
    return bytes(content)


def written(draw: random.Random, content: Any, original: str) -> bytes:
    """A file with some content, whole or not."""
    kind = draw.random()
    if kind < 0.6:
        return yaml.safe_dump(mutate(draw, content), sort_keys=False, allow_unicode=True).encode()
    if kind < 0.8:
        return torn(draw, original)
    if kind < 0.88:
        return (bomb(draw) + original).encode()
    deep = draw.choice((40, 1000, 20_000))
    return draw.choice(
        (
            original.encode("utf-16"),
            b"\xef\xbb\xbf" + original.encode(),
            draw.randbytes(500),
            b"",
            b"null",
            b"[" * deep + b"]" * deep,
            b"{a: " * deep,
            b"- " * deep,
            original.encode() + b"\n1: 2\n",
            original.encode() + b"\n2026-13-45: 2\n",
            original.encode() + b"\ncolour: 2026-13-45\n",
            original.encode() + b"\ncolour: !!python/object/apply:os.system [touch x]\n",
            original.encode() + b"\n---\n" + original.encode(),
            b"{" + original.encode(),
            original.encode() * 2,
            json.dumps(content).encode(),
            b"# " + b"x" * 3_000_000,
        )
    )


def suite_case(draw: random.Random, folder: Path) -> tuple[Callable[[], Any], list[str]]:
    name = draw.choice(sorted(SHIPPED))
    original = (SUITES / f"{name}.yaml").read_text("utf-8")
    (folder / "mine.yaml").write_bytes(written(draw, SHIPPED[name], original))
    (folder / "._mine.yaml").write_bytes(draw.randbytes(100))

    def use() -> Any:
        for source in ("demo", "catalogue"):
            suites_from(source, folder)
        suite = load_suite("mine", folder)
        check_merging("mine", suite)
        check_backbones("mine", suite, folder / "verdicts.json")
        return suite

    return use, ["mine.yaml"]


def config_case(draw: random.Random, folder: Path) -> tuple[Callable[[], Any], list[str]]:
    file = folder / "config.yaml"
    if draw.random() < 0.5:
        file.write_bytes(written(draw, CONFIG, yaml.safe_dump(CONFIG)))

        def use() -> Any:
            refuse_code(file)
            content = read_yaml(file, str(file))
            return check_config(content if isinstance(content, dict) else {}, SUITES)

    else:
        # As Snakemake hands over what it has read itself.
        given = mutate(draw, CONFIG)

        def use() -> Any:
            return check_config(given, SUITES)

    return use, ["config.yaml"]


def other_case(draw: random.Random, folder: Path) -> tuple[Callable[[], Any], list[str]]:
    kind = draw.choice(sorted(OTHERS))
    original = OTHERS[kind].read_text("utf-8")
    file = folder / f"{kind}.yaml"
    file.write_bytes(written(draw, yaml.safe_load(original), original))
    read: dict[str, Callable[[], Any]] = {
        "claims": lambda: load_claims(file),
        "site": lambda: read_site(file),
        "catalogue": lambda: check_config({"suite": "demo", "catalogue": str(file)}, SUITES),
    }
    return read[kind], [file.name]


def named_files(suite: Suite) -> None:
    """Name every file that a run of an accepted suite makes; what it lacks is said in words."""
    files = Files(lambda _: suite, Config(suite="mine"))
    results = Results(files)
    whole = SimpleNamespace(suite="mine", manifest="manifest_all")
    asked = [(of, whole) for of in (results.everything, files.cells)]
    for of, numbers in ((files.table, paper.TABLES), (files.figure, paper.FIGURES)):
        asked += [(of, SimpleNamespace(suite="mine", number=str(n))) for n in numbers]
    for of, job in asked:
        words: Any = ""
        try:
            of(job)
        except SystemExit as error:
            words = error.code
        assert isinstance(words, str)


@pytest.mark.parametrize("number", harness.numbers(360))
def test_a_suite(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action, names = suite_case(harness.generator("suite", number), tmp_path)
    result = harness.attempt(action, tmp_path, names)
    if not isinstance(result, harness.Refused):
        assert isinstance(result, Suite)
        named_files(result)


@pytest.mark.parametrize("number", harness.numbers(150))
def test_the_configuration(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action, names = config_case(harness.generator("config", number), tmp_path)
    result = harness.attempt(action, tmp_path, names)
    if not isinstance(result, harness.Refused):
        assert result.suite in SHIPPED


@pytest.mark.parametrize("number", harness.numbers(100))
def test_claims_sites_and_catalogues(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action, names = other_case(harness.generator("other", number), tmp_path)
    harness.attempt(action, tmp_path, names)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what a dry run reads."""
    folder = tmp_path_factory.mktemp("project") / "trap2"
    for part in ("config", "profiles", "workflow"):
        shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "Snakefile", folder)
    return folder


@pytest.mark.parametrize("number", harness.numbers(3))
def test_an_accepted_suite_has_a_dry_run(number, project, tmp_path):
    draw = harness.generator("dry", number)
    while True:
        content = yaml.safe_dump(mutate(draw, SHIPPED["smoke"]), sort_keys=False)
        (tmp_path / "mine.yaml").write_text(content, "utf-8")
        try:
            check_merging("mine", load_suite("mine", tmp_path))
        except Trap2Error:
            continue
        break
    shutil.copy(tmp_path / "mine.yaml", project / "config" / "suites")
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", "suite=mine"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    # A suite without what a figure shows is one, until the figure is asked for.
    refused = "no figures: " in done.stderr + done.stdout
    assert done.returncode == 0 or refused, done.stdout + done.stderr
