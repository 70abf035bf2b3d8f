"""Settings classes: what a file may say, what is filled in, and numbers that are none."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from trap2.attacks.catalogue import ATTACKS
from trap2.merging.settings import GRID_LIMIT, grid_problem
from trap2.protection.settings import WEIGHTINGS, range_problem
from trap2.protection.trap2 import WEIGHTINGS as FUNCTIONS
from trap2.runtime.catalogue import CatalogueError
from trap2.runtime.schema import ConfigurationError, checked
from trap2.runtime.settings import plain, read, schema_of, setting
from trap2.suites.ablations import SETTINGS
from trap2.suites.load import load_suite
from trap2.suites.settings import Suite, Swept

PROJECT = Path(__file__).parents[2]
SUITES = PROJECT / "config" / "suites"


@dataclass(frozen=True)
class Inner:
    """What is inside."""

    lambda_: float = setting("λ.", 0.5, key="lambda", above=0, at_most=1)


@dataclass(frozen=True)
class Outer:
    """What is outside."""

    grids: Mapping[str, tuple[int, ...]] = setting("Grids.", least=1, at_least=1)
    inner: Inner = setting("Inside.", Inner)
    pair: tuple[float, float] | None = setting("Two numbers.", None, at_most=9)


def test_a_class_gives_its_schema():
    assert schema_of(Outer) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["grids"],
        "properties": {
            "grids": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": "array",
                    "uniqueItems": True,
                    "minItems": 1,
                    "items": {"type": "integer", "minimum": 1},
                },
                "description": "Grids.",
            },
            "inner": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "lambda": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 1,
                        "default": 0.5,
                        "description": "λ.",
                    }
                },
                "default": {},
                "description": "Inside.",
            },
            "pair": {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {"type": "number", "maximum": 9},
                "description": "Two numbers.",
            },
        },
    }


def test_what_is_read_is_complete_and_written_as_files_have_it():
    made = read(Outer, {"grids": {"a": [1, 2]}, "inner": {"lambda": 1}})
    assert made == Outer({"a": (1, 2)}, Inner(1))
    assert plain(made) == {"grids": {"a": [1, 2]}, "inner": {"lambda": 1}}
    assert plain(read(Outer, {"grids": {}, "pair": [1, 2]})) == {
        "grids": {},
        "inner": {"lambda": 0.5},
        "pair": [1, 2],
    }


def test_a_bound_that_is_misspelt_is_a_fault():
    with pytest.raises(TypeError, match="atleast"):
        setting("A number.", 1, atleast=0)


def numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all numbers of a suite; architectures and options have checks of their own."""
    if isinstance(value, bool) or path[-1:] in {("architecture",), ("options",)}:
        return []
    if isinstance(value, int | float):
        return [path]
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    if isinstance(value, str):
        return []
    return [place for key, item in items for place in numbers(item, (*path, key))]


COMPLETE = plain(load_suite("demo", SUITES))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1], ids=str)
def test_no_number_of_a_suite_may_be_absurd(bad):
    places = numbers(COMPLETE)
    assert len(places) > 60
    for place in places:
        content = copy.deepcopy(COMPLETE)
        *way, last = place
        parent = content
        for key in way:
            parent = parent[key]
        parent[last] = bad
        with pytest.raises(ConfigurationError) as refused:
            checked(content, Suite, "suite.yaml")
        assert str(place[0]) in str(refused.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1, "many"], ids=str)
def test_no_option_of_an_attack_may_be_absurd(bad):
    given = COMPLETE["threats"]["options"]
    assert len(given) > 10
    for name, options in given.items():
        for key in options:
            with pytest.raises(CatalogueError, match=f"^{key} = "):
                ATTACKS[name].check_options({key: bad})


def test_a_number_that_is_none_is_called_so():
    content = copy.deepcopy(COMPLETE)
    content["trap2"]["tolerance"] = math.nan
    with pytest.raises(ConfigurationError, match=r"trap2\.tolerance is nan; it must be a finite"):
        checked(content, Suite, "suite.yaml")


@pytest.mark.parametrize(("step", "maximum"), [(1e-5, 10.0), (0.1, 1e9), (2.0, 1.0)])
def test_a_grid_without_end_is_refused(step, maximum, tmp_path):
    assert grid_problem(step, maximum)
    content = yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8"))
    content["merging"]["search"] = {"step": step, "maximum": maximum}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(ConfigurationError, match=r"merging\.search"):
        load_suite("own", tmp_path)


def test_the_longest_grid_is_allowed():
    assert grid_problem(1.0, GRID_LIMIT) is None
    assert grid_problem(0.1, 10.0) is None


@pytest.mark.parametrize(
    ("s_min", "s_max", "delta", "key"),
    [
        (0.95, 2.0, 0.05, "s_min"),
        (0.05, 1.05, 0.05, "s_max"),
        (0.05, math.inf, 0.05, "s_max"),
        (math.nan, 2.0, 0.05, "s_min"),
        (0.05, 2.0, math.nan, "delta"),
    ],
)
def test_a_range_without_scales_is_refused(s_min, s_max, delta, key):
    problem = range_problem(s_min, s_max, delta, "trap2.")
    assert problem is not None
    assert problem.startswith(f"trap2.{key} is ")
    assert range_problem(0.05, 2.0, 0.05) is None


def test_names_stand_once():
    assert tuple(FUNCTIONS) == WEIGHTINGS
    assert list(schema_of(Swept)["properties"]) == list(SETTINGS)


def test_settings_are_read_without_what_computes():
    program = (
        "import sys, trap2.suites.settings, trap2.suites.load\n"
        "print({'torch', 'numpy', 'peft', 'open_clip'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(PROJECT / "workflow" / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
