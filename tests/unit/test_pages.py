"""The pages on the library: the API is made from its docstrings, the glossary's names exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> Any:
    path = PROJECT / "docs" / "generate_api.py"
    spec = importlib.util.spec_from_file_location("generate_api", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_api_page_is_what_the_generator_gives(generator):
    assert (PROJECT / "docs" / "api.md").read_text("utf-8") == generator.page(), (
        "run python docs/generate_api.py"
    )


def test_every_public_name_is_documented_with_arguments_and_errors(generator):
    assert generator.undocumented() == []


def test_what_is_left_unsaid_is_noticed(generator):
    def silent(first, second):
        """Do something with ``first``."""
        raise ValueError

    said = list(generator._unsaid("silent", silent, ["first", "second"]))
    assert said == ["silent: second is not described", "silent: its errors are not described"]


def resolve(name: str) -> None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return
    raise ModuleNotFoundError(name)


def names(page: str) -> list[str]:
    text = (PROJECT / "docs" / page).read_text("utf-8")
    settings = {"trap2.weighting", "trap2.s_min", "trap2.s_max", "trap2.delta"}
    return sorted(set(re.findall(r"`(trap2(?:\.\w+)+)`", text)) - settings)


@pytest.mark.parametrize("name", names("glossary.md"))
def test_a_name_of_the_glossary_exists(name):
    resolve(name)


def test_a_name_that_does_not_exist_is_noticed():
    with pytest.raises((AttributeError, ModuleNotFoundError)):
        resolve("trap2.merging.merger.Mixer")


def test_the_glossarys_settings_are_keys():
    page = (PROJECT / "docs" / "configuration.md").read_text("utf-8")
    for key in ("trap2.weighting", "trap2.s_min", "release_formats.lora.adapter.rank"):
        assert f"| `{key}` |" in page


def test_the_picture_of_the_rules_shows_rules_that_exist():
    texts = [path.read_text("utf-8") for path in (PROJECT / "workflow" / "rules").glob("*.smk")]
    texts.append((PROJECT / "Snakefile").read_text("utf-8"))
    rules = re.findall(r"^(?:use rule \w+ as|rule) (\w+)", "\n".join(texts), re.M)
    picture = (PROJECT / "docs" / "images" / "rulegraph-paper.svg").read_text("utf-8")
    shown = re.findall(r"<text [^>]*>(\w+)</text>", picture)
    assert len(shown) > 15
    assert set(shown) <= set(rules)
