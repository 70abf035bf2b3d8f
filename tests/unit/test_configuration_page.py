"""The page of the configuration is what the schemas say, and they say what every key is."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from trap2.runtime.schema import SCHEMAS
from trap2.runtime.settings import schema_of
from trap2.suites.settings import Config, Suite

PROJECT = Path(__file__).parents[2]
FILES = sorted(SCHEMAS.glob("*.yaml"))
KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "type", "default", "enum", "pattern"),
    *("properties", "additionalProperties", "propertyNames", "required", "items"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength"),
    *("minItems", "maxItems", "uniqueItems", "minProperties"),
}


@pytest.fixture(scope="module")
def generator() -> Any:
    path = PROJECT / "docs" / "generate_configuration.py"
    spec = importlib.util.spec_from_file_location("generate_configuration", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and every schema in it."""
    yield schema
    inside = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inside += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for part in inside:
        if isinstance(part, dict):
            yield from parts(part)


def test_the_committed_page_is_what_the_generator_gives(generator):
    assert (PROJECT / "docs" / "configuration.md").read_text("utf-8") == generator.page(), (
        "run python docs/generate_configuration.py"
    )


@pytest.mark.parametrize(
    "source",
    [*FILES, Suite, Config],
    ids=lambda source: source.name if isinstance(source, Path) else source.__name__,
)
def test_a_schema_is_one_and_describes_every_key(source):
    schema = (
        yaml.safe_load(source.read_text("utf-8")) if isinstance(source, Path) else schema_of(source)
    )
    Draft202012Validator.check_schema(schema)
    for part in parts(schema):
        # A comma in an unquoted description would end it and begin another key.
        assert part.keys() <= KEYWORDS, sorted(part.keys() - KEYWORDS)
        for key, value in part.get("properties", {}).items():
            assert value.get("description"), f"{source}: {key} has no description"


def test_defaults_that_the_library_holds_are_on_the_page(generator):
    assert (
        "| `release_formats.lora.optimisation.epsilon` | number > 0, ≤ 1 | `0.000001` |"
        in generator.page()
    )
    assert (
        "| `release_formats.lora.adapter.rslora` | `true`, `false` | `false` |" in generator.page()
    )


def test_every_key_of_the_suites_is_on_the_page(generator):
    page = generator.page()
    for path in (PROJECT / "config" / "suites").glob("*.yaml"):
        for key, value in yaml.safe_load(path.read_text("utf-8")).items():
            assert f"| `{key}` |" in page
            # Their own keys are names: of backbones, formats, protections.
            named = ("backbones", "release_formats", "protection_options")
            if isinstance(value, dict) and key not in named:
                assert all(f"| `{key}.{name}` |" in page for name in value), key
