"""Sweeps of one setting: what they train, what they are called, and their tables by hand."""

from dataclasses import replace

import pytest
import yaml
from trap2.protection.settings import Trap2Settings
from trap2.report.figures.ablation import ablation_rows
from trap2.runtime.schema import ConfigurationError
from trap2.suites.ablations import SETTINGS, ablated_tasks, is_own, variants
from trap2.suites.load import load_suite
from trap2.suites.settings import (
    Ablations,
    Backbone,
    Data,
    Figures,
    Merging,
    ReleaseFormat,
    Suite,
    Swept,
)
from trap2.updates.settings import AdapterSettings

SUITE = Suite(
    description="",
    data=Data("demo"),
    tasks=("digits", "a", "b"),
    backbones={"V": Backbone("ViT-B-32", 224)},
    release_formats={"lora": ReleaseFormat((0.1,))},
    trap2=Trap2Settings(delta=0.1),
    merging=Merging({"TA": ("Full",)}),
    figures=Figures("digits", "V"),
    ablations=Ablations(
        settings=Swept(
            lambda_=(0.01, 0.1),
            weighting=("1/s", "1/sqrt(s)", "1"),
            range=((0.05, 2.0), (0.5, 1.5)),
            delta=(0.05,),
            rank=(4, 16),
            adapter=("LoRA", "rsLoRA", "DoRA"),
        )
    ),
)


def test_every_variant_changes_one_setting():
    found = {setting: variants(SUITE, setting) for setting in SETTINGS}
    assert {k: list(v) for k, v in found.items()} == {
        "lambda": ["0.01", "0.1"],
        "weighting": ["1-over-s", "1-over-sqrt-s", "1"],
        "range": ["0.05-2.0", "0.5-1.5"],
        "delta": ["0.05"],
        "rank": ["4", "16"],
        "adapter": ["lora", "rslora", "dora"],
    }
    assert [v.lambda_ for v in found["lambda"].values()] == [0.01, 0.1]
    assert {v.lambda_ for s in SETTINGS if s != "lambda" for v in found[s].values()} == {0.05}
    assert found["range"]["0.5-1.5"].trap2 == Trap2Settings(delta=0.1, s_min=0.5, s_max=1.5)
    assert found["rank"]["4"].adapter == AdapterSettings(rank=4, alpha=4)
    assert found["adapter"]["rslora"].adapter == AdapterSettings(rslora=True)
    assert found["weighting"]["1-over-s"].label == "1/s"


@pytest.mark.parametrize("adapter", [None, AdapterSettings()])
def test_the_suites_own_settings_are_found_among_the_variants(adapter):
    suite = replace(SUITE, release_formats={"lora": ReleaseFormat((0.1,), adapter=adapter)})
    own = {
        (setting, value)
        for setting in SETTINGS
        for value, variant in variants(suite, setting).items()
        if is_own(suite, variant)
    }
    assert own == {
        ("lambda", "0.01"),
        ("lambda", "0.1"),
        ("weighting", "1-over-s"),
        ("range", "0.05-2.0"),
        ("rank", "16"),
        ("adapter", "lora"),
    }


def test_tasks_are_the_figures_unless_named():
    assert ablated_tasks(SUITE) == ["digits"]
    named = replace(SUITE, ablations=replace(SUITE.ablations, tasks=("a", "b")))
    assert ablated_tasks(named) == ["a", "b"]
    assert variants(replace(SUITE, ablations=Ablations()), "rank") == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"range": [[0.05, 1.0]]}, r"ablations.settings.range has \[0.05, 1.0\]"),
        ({"delta": [0.96]}, "ablations.settings.delta has 0.96"),
        ({"weighting": ["s"]}, "'s' is not allowed"),
        ({"ranks": [4]}, "ablations.settings.ranks"),
        ({"rank": [0]}, "it must be at least 1"),
    ],
)
def test_mistakes_are_named(tmp_path, values, message):
    from pathlib import Path

    suites = Path(__file__).parents[2] / "config/suites"
    suite = yaml.safe_load((suites / "smoke.yaml").read_text("utf-8"))
    suite["ablations"] = {"settings": values}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_suite("smoke", tmp_path)


def cell(a: float, b: float) -> dict:
    return {"coefficient": 0.5, "test": {"a": {"accuracy": a}, "b": {"accuracy": b}}}


def test_rows_have_standalone_and_merged_accuracy():
    variant = {"task": "b", "value": "1-over-s", "standalone": 80.0, "unprotected": 90.0}
    record = {
        "suite": "demo",
        "backbone": "V",
        "setting": "weighting",
        "labels": {"1-over-s": "1/s"},
        "unprotected": cell(60.0, 70.0),
        "variants": [variant | {"cell": cell(30.0, 10.0)}],
    }
    (row,) = ablation_rows(record)
    assert (row["value"], row["standalone"], row["unprotected_standalone"]) == ("1/s", 80, 90)
    assert (row["merged"], row["merged_protected"]) == (20, 10)
    assert (row["unprotected_merged"], row["unprotected_merged_protected"]) == (65, 70)
