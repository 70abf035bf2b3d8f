"""Tables from records, with the arithmetic done by hand."""

from dataclasses import replace

from trap2.protection.settings import Trap2Settings
from trap2.report.summary import summary
from trap2.report.tables.rows import cell_rows, complete_rows, merging_rows, standalone_rows
from trap2.suites import artifacts, paper
from trap2.suites.settings import Backbone, Data, Figures, Merging, ReleaseFormat, Suite

FACTS = {"suite": "demo", "backbone": "ViT-demo", "release_format": "lora"}


def update(protection: str, task: str, accuracy: float) -> dict:
    return FACTS | {"protection": protection, "task": task, "test": {"accuracy": accuracy}}


def merge(protection: str, protected: str, accuracies: dict[str, float]) -> dict:
    cell = {
        "merge_method": "TA",
        "merge_space": "Full",
        "options": {"keep": 30.0, "drop": 0.5},
        "coefficient": 0.30,
        "test": {task: {"accuracy": value} for task, value in accuracies.items()},
    }
    facts = {"protection": protection, "protected_task": protected, "seed": 0}
    return FACTS | facts | {"cells": {"TA-Full": cell}}


MERGES = [
    merge("unprotected", "none", {"a": 60.0, "b": 80.0}),
    merge("trap2", "a", {"a": 10.0, "b": 20.0}),
    merge("trap2", "b", {"a": 30.0, "b": 41.0}),
]


def test_standalone_rows():
    records = [update(p, t, v) for p, t, v in (("zero-shot", "a", 10.0), ("zero-shot", "b", 20.5))]
    records += [update("unprotected", "b", 90.0), update("unprotected", "a", 80.0)]
    rows = standalone_rows(records, ["a", "b"])
    assert [row["protection"] for row in rows] == ["zero-shot", "fine-tuned"]
    assert rows[0] | {"a": "10.000", "b": "20.500", "average": "15.250"} == rows[0]
    assert rows[1] | {"a": "80.000", "b": "90.000", "average": "85.000"} == rows[1]


def test_merging_rows_average_over_tasks_and_then_over_protected_tasks():
    rows = merging_rows(MERGES, ["TA-Full"])
    assert [row["TA-Full"] for row in rows] == ["70.000", "25.250"]


def test_cell_rows():
    rows = cell_rows(MERGES, ["a", "b"])
    assert len(rows) == 3
    assert rows[2]["protected_task"] == "b"
    assert rows[2]["options"] == "drop=0.5;keep=30.0"
    assert (rows[2]["a"], rows[2]["average"], rows[2]["coefficient"]) == ("30.000", "35.500", "0.3")


LAMBDAS = {FACTS["backbone"]: {"trap2": {"a": 0.05, "b": 0.1}, "another-protection": {"a": 0.2}}}


def test_summary_says_whose_numbers_they_are():
    table1 = [
        FACTS | {"protection": name, "average": value}
        for name, value in (("zero-shot", "40"), ("fine-tuned", "80"), ("trap2", "76"))
    ]
    text = summary(
        table1,
        merging_rows(MERGES, ["TA-Full"]),
        LAMBDAS,
        {"results/table1.csv": "alone"},
        0,
        "ab12",
    )
    assert "suite, seed 0:" in text
    assert "not the paper's" in text
    assert "95 % of fine-tuned" in text
    assert "lower in 1 of 1 columns" in text
    assert "loses 64 %" in text
    assert "\n  λ of TRAP²:    a 0.05, b 0.1\n" in text
    assert "\n  λ of another-protection: a 0.2\n" in text
    assert text.endswith("SHA-256 of results/manifest.json: ab12\n")


def test_summary_of_a_suite_without_trap2_is_of_its_first_protection():
    table1 = [
        FACTS | {"protection": name, "average": value}
        for name, value in (("zero-shot", "40"), ("fine-tuned", "80"), ("params", "72"))
    ]
    table2 = merging_rows(MERGES, ["TA-Full"])
    table2[1]["protection"] = "params"
    text = summary(table1, table2, {}, {"results/table1.csv": "alone"}, 0, "ab12")
    assert "PaRaMS 72.0 (90 % of fine-tuned)" in text
    assert "PaRaMS is lower in 1 of 1 columns" in text
    assert "TRAP" not in text
    assert "λ" not in text
    alone = summary(table1[:2], table2[:1], {}, {"results/table1.csv": "alone"}, 0, "ab12")
    assert "  used alone:    zero-shot 40.0, fine-tuned 80.0\n" in alone


def test_summary_leaves_notes_out_of_the_numbers():
    table1 = [
        FACTS | {"protection": name, "average": "50", "notes": "Read this."}
        for name in ("zero-shot", "fine-tuned", "trap2")
    ]
    table2 = [row | {"notes": "Read this."} for row in merging_rows(MERGES, ["TA-Full"])]
    assert "lower in 1 of 1 columns" in summary(
        table1, table2, LAMBDAS, {"results/table1.csv": "alone"}, 0, "ab12"
    )


def test_complete_rows_have_a_column_a_protected_task():
    rows = complete_rows(MERGES, ["a", "b"], ["TA-Full"])
    assert [row["protection"] for row in rows] == ["unprotected", "trap2"]
    assert rows[0] == {"suite": "demo", "backbone": "ViT-demo", "release": "lora"} | {
        "merge_method": "TA",
        "merge_space": "Full",
        "protection": "unprotected",
        "average": "70.000",
    }
    assert (rows[1]["a"], rows[1]["b"], rows[1]["average"]) == ("15.000", "35.500", "25.250")


CONVNEXT = {"vision_cfg": {"timm_model_name": "convnext_tiny"}}
SUITE = Suite(
    description="",
    data=Data("demo"),
    tasks=("digits", "letters"),
    backbones={"V": Backbone({"vision_cfg": {}}, 32), "C": Backbone(CONVNEXT, 32)},
    release_formats={"lora": ReleaseFormat((0.1,), backbones=("C", "V"))},
    trap2=Trap2Settings(),
    merging=Merging({"TA": ("Full",)}),
    figures=Figures("digits", "V"),
)


def test_which_backbone_a_table_shows():
    assert {n: artifacts.table_backbones(SUITE, n) for n in (2, 7, 8, 9, 10)} == {
        2: ["C", "V"],
        7: ["V"],
        8: [],
        9: ["C"],
        10: [],
    }
    assert artifacts.figure_pair(SUITE) == ("digits", "letters")


def test_why_a_table_is_missing():
    found = {n: artifacts.table_not_applicable("demo", SUITE, n) for n in paper.TABLES}
    assert {n for n, reason in found.items() if reason} == {3, 4, 8, 10}
    assert "second ViT" in found[8]
    assert "whole checkpoints" in found[10]
    unfit = replace(SUITE, figures=Figures("digits", "W"))
    assert "figures.backbone = W" in artifacts.table_not_applicable("demo", unfit, 6)
    assert "TRAP²" in artifacts.figure_not_applicable("demo", replace(SUITE, protections=()))


def test_every_artifact_of_a_suite_has_a_known_name():
    for name in ("table11.tex", "figure8.png", "summary.txt", "ablation_lambda.csv"):
        assert artifacts.unknown_name(name) is None
    assert "Did you mean results/table1.csv" in artifacts.unknown_name("tabel1.csv")
