"""The catalogue of tables and figures: each is complete, and each list follows from it."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from trap2.report.figures.given import Given, plotter
from trap2.report.tables.layouts import LAYOUTS
from trap2.runtime.schema import SCHEMAS
from trap2.suites import artifacts, paper

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", paper.FIGURES)
def test_a_figure_has_a_module_and_says_what_it_shows(number):
    figure = paper.FIGURES[number]
    assert inspect.getmodule(plotter(number)).__name__.endswith(f"figure{number}")
    assert set(figure.settings) <= {field.name for field in fields(Given)}
    assert len(set(figure.needs) - {"zero_shot"}) == 1
    assert figure.title
    assert figure.caption.endswith(".")


def test_a_layout_takes_what_its_kind_is_given():
    assert LAYOUTS.keys() == paper.KINDS.keys() == {t.kind for t in paper.TABLES.values()}
    for kind, shown in paper.KINDS.items():
        assert list(inspect.signature(LAYOUTS[kind]).parameters) == [*shown.needs, *shown.settings]


def test_a_figure_is_given_its_own_settings_and_no_other():
    suite = SimpleNamespace(tasks=["a", "b"], figures=SimpleNamespace(task="b"))
    assert artifacts.figure_settings(suite, 2) == {"task": "b"}
    assert artifacts.figure_settings(suite, 3) == {"pair": ("b", "a")}
    assert artifacts.figure_settings(suite, 5) == {"tasks": ["a", "b"]}


def test_a_plain_run_makes_what_the_summary_names():
    names = artifacts.plain_names(["lora"])
    assert set(names) >= artifacts.BRIEFS.keys()
    assert not {"table3.csv", "table4.csv"} & set(names)
    assert set(artifacts.plain_names(["lora", "full"])) - set(names) == {"table3.csv", "table4.csv"}


def test_every_artifact_is_known_by_name():
    others = [name for section in artifacts.CLAIMED for name in artifacts.section_names(section)]
    every = artifacts.all_names(figures=True, ablations=["rank"]) + others
    assert len(every) == len(set(every))
    assert [name for name in every if artifacts.unknown_name(name)] == []
    assert set(every) > set(artifacts.plain_names(["lora", "full"])) | artifacts.PAGES.keys()
    without = set(every) - set(artifacts.all_names(figures=False, ablations=[]))
    assert {name.split(".")[0].rstrip("0123456789") for name in without} == {
        *("figure", "theorem", "theory", "ablation_rank"),
        *("threats", "threats_cells", "price", "recovery", "handling", "threat_claims"),
        *("mergelock_table", "mergeguard_table", "aga_table", "mergelock_figure"),
        "sibling_claims",
    }


def test_a_page_has_a_text():
    assert [name for name, artifact in artifacts.PAGES.items() if not artifact.text] == []


def test_claims_can_be_on_every_table_and_figure_and_no_other():
    schema = yaml.safe_load((SCHEMAS / "claims.schema.yaml").read_text("utf-8"))
    claim = schema["properties"]["claims"]["items"]["properties"]
    allowed = re.compile(claim["table"]["pattern"])
    names = [f"{kind}{n}" for kind in ("table", "figure") for n in range(100)]
    names += list(artifacts.ARTIFACTS)
    known = {*(f"table{n}" for n in paper.TABLES), *(f"figure{n}" for n in paper.FIGURES)}
    known |= {name for names in artifacts.CLAIMED.values() for name in names}
    assert {name for name in names if allowed.match(name)} == known


def test_the_page_on_artifacts_has_every_table_and_figure():
    page = (ROOT / "docs/artifacts.md").read_text("utf-8")
    rows = re.findall(r"^\| ([0-9, ]+) \|", page, re.M)
    listed = [int(number) for row in rows for number in row.split(",")]
    assert listed == [*paper.TABLES, *paper.FIGURES]
    others = [name for section in artifacts.CLAIMED for name in artifacts.section_names(section)]
    assert [name for name in others if name.split(".")[0] not in page] == []
