"""Claims as data: tests on small tables by hand, and the paper's own numbers."""

from pathlib import Path

import pytest
import yaml
from trap2.report.claims import FAILS, HOLDS, UNTESTED, claim_rows, judge, load_claims
from trap2.report.comparison import number_rows, order, pattern_rows
from trap2.report.comparison_page import comparison_page
from trap2.report.published import read_published
from trap2.report.tables.recovery import published_recovery
from trap2.runtime import files
from trap2.runtime.schema import ConfigurationError
from trap2.suites.paper import TABLES

ROOT = Path(__file__).parents[2]
CLAIMS = load_claims(ROOT / "config/claims.yaml")
PUBLISHED = read_published(ROOT / f"config/published/table{n}.csv" for n in TABLES)
RECOVERY = published_recovery(files.read_csv(ROOT / "config/published/recovery.csv"))


def row(protection: str, **values: str) -> dict[str, str]:
    facts = {"suite": "demo", "backbone": "V", "release": "lora"}
    return facts | {"protection": protection} | values


TABLE = [
    row("unprotected", **{"TA-Full": "60.000", "TIES-Full": "50.000"}),
    row("trap2", **{"TA-Full": "57.001", "TIES-Full": "10.000"}),
]


def rows_claim(**test) -> dict:
    defaults = {"kind": "rows", "of": {"protection": "trap2"}, "by": ["backbone"]}
    defaults |= {"against": {"protection": "unprotected"}, "factor": 1.0, "share": 1.0}
    return {"id": "x", "claim": "c", "source": "s", "table": "table2", "test": defaults | test}


def test_rows_are_compared_in_every_numeric_column():
    found = judge(rows_claim(relation="below", factor=0.95), {"table2": TABLE})
    # 57.001 is above 95 % of 60, 10 below 95 % of 50.
    assert (found.verdict, found.held, found.count) == (FAILS, 1, 2)
    assert found.margin == pytest.approx(57.001 / 60)
    half = rows_claim(relation="below", factor=0.95, share=0.5)
    assert judge(half, {"table2": TABLE}).verdict == HOLDS


def test_within_is_on_both_sides():
    claim = rows_claim(relation="within", factor=0.05, columns=["TA-Full"])
    assert judge(claim, {"table2": TABLE}).verdict == HOLDS
    claim["test"]["columns"] = ["TIES-Full"]
    found = judge(claim, {"table2": TABLE})
    assert (found.verdict, found.margin) == (FAILS, 0.2)


def test_a_value_of_another_table_is_the_reference():
    against = {"table": "table1", "protection": "zero-shot", "column": "average"}
    claim = rows_claim(against=against, relation="below", share=0.5)
    tables = {"table2": TABLE, "table1": [row("zero-shot", average="20.0")]}
    found = judge(claim, tables)
    assert (found.verdict, found.held, found.count) == (HOLDS, 1, 2)


def test_columns_with_a_number_and_with_each_other():
    table = [
        {"task": "a", "protected_task": "a", "s": "0.95", "delta": "0.5", "twice": "0.2"},
        {"task": "b", "protected_task": "a", "s": "1.0", "delta": "-1", "twice": "0.2"},
    ]
    claim = {"id": "x", "claim": "c", "source": "s", "table": "figure7", "test": {}}
    base = {"kind": "columns", "left": ["delta"], "factor": 1.0, "share": 1.0, "relation": "above"}
    claim["test"] = base | {"value": 0}
    assert judge(claim, {"figure7": table}).held == 1
    claim["test"] = base | {"value": 0, "at_most": {"s": 0.95}}
    assert judge(claim, {"figure7": table}).verdict == HOLDS
    claim["test"] = base | {"right": "twice", "factor": 2.5, "where": {"task": "{protected_task}"}}
    found = judge(claim, {"figure7": table})
    assert (found.held, found.count) == (0, 1)
    claim["test"]["relation"] = "at_least"
    assert judge(claim, {"figure7": table}).verdict == HOLDS


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({}, "no table2"),
        ({"table2": [{"suite": "d", "not_applicable": "it trains none"}]}, "it trains none"),
        ({"table2": TABLE[:1]}, "table2 has no protection trap2"),
    ],
)
def test_what_cannot_be_asked_is_not_tested(tables, reason):
    found = judge(rows_claim(relation="below"), tables)
    assert found.verdict == UNTESTED
    assert reason in found.reason


def test_a_share_of_nothing_is_no_comparison():
    test = {"kind": "columns", "left": ["acquired"], "value": 50, "relation": "below"}
    claim = rows_claim() | {"table": "threats", "test": test | {"factor": 1.0, "share": 1.0}}
    rows = [row("trap2", acquired="12.500"), row("trap2", acquired="")]
    found = judge(claim, {"threats": rows})
    assert (found.verdict, found.held, found.count) == (HOLDS, 1, 1)


def test_every_claim_on_a_table_holds_for_the_published_numbers():
    tables = {f"table{n}": rows for n, rows in PUBLISHED.items()} | {"recovery": RECOVERY}
    for claim in CLAIMS:
        asked = claim["table"].startswith("table") or claim["table"] == "recovery"
        expected = HOLDS if asked else UNTESTED
        assert judge(claim, tables).verdict == expected, claim["id"]


def test_a_claim_can_fail_on_the_published_numbers():
    tables = {f"table{n}": rows for n, rows in PUBLISHED.items()}
    claim = next(c for c in CLAIMS if c["id"] == "merging-trap2")
    strict = claim | {"test": claim["test"] | {"factor": 0.5}}
    assert judge(strict, tables).verdict == FAILS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["test"].pop("of"), "test.of is missing"),
        (lambda c: c["test"].update(relation="less"), "relation"),
        (lambda c: c.update(table="tabel2"), "table"),
        (lambda c: c["test"].update(kind="columns", left=["a"]), "right, a column, or value"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, change, message):
    claim = {k: v for k, v in rows_claim(relation="below").items() if k != "test"}
    claim |= {"claim": "a claim of some length", "test": dict(rows_claim(relation="below")["test"])}
    change(claim)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [claim]}), "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_claims(path)


def test_the_published_numbers_compared_with_themselves():
    rows = number_rows("paper", PUBLISHED, PUBLISHED)
    assert {row["difference"] for row in rows} == {"+0.000"}
    printed = {(r["table"], r["backbone"], r["protection"], r["column"]) for r in rows}
    assert len(printed) == len(rows)
    # Table 2: 26 protections and backbones' rows of 13; Table 7: 13 columns of 1 + 3 · 9.
    assert sum(row["table"] == "2" for row in rows) == (4 + 4 + 2) * 13
    assert sum(row["table"] == "7" for row in rows) == 13 * (1 + 3 * 9)


def test_a_difference_is_ours_minus_published():
    ours = {2: [row("trap2", **{"TA-Full": "24.000"}) | {"backbone": "ViT-B-32"}]}
    (found,) = number_rows("paper", ours, PUBLISHED)
    assert (found["published"], found["ours"], found["difference"]) == (
        "23.121",
        "24.000",
        "+0.879",
    )
    assert (found["table"], found["column"]) == ("2", "TA-Full")


def test_order_is_level_within_five_percent():
    assert [order(v, 100) for v in (94.9, 95, 105, 105.1)] == ["below", "level", "level", "above"]


def test_the_pattern_is_compared_on_the_backbone_of_the_same_kind():
    rows = pattern_rows("demo", {2: TABLE}, PUBLISHED, {"V": "convnext"})
    assert [row["column"] for row in rows] == ["TA-Full", "TIES-Full"]
    assert [row["order"] for row in rows] == ["level", "below"]
    assert {row["published_backbone"] for row in rows} == {"convnext_base_w"}
    assert [row["agrees"] for row in rows] == ["no", "yes"]
    assert rows[0]["difference"] == "-2.999"


def test_the_page_says_which_claims_hold_and_how_the_order_compares():
    tables = {"table2": TABLE}
    claims = claim_rows("demo", CLAIMS, tables, {f"table{n}": r for n, r in PUBLISHED.items()})
    rows = pattern_rows("demo", {2: TABLE}, PUBLISHED, {"V": "vit"})
    page = comparison_page("demo", claims, rows, ["a note"], numbers=False)
    assert "0 hold, 1 do not" in page
    assert "✘ does not hold | 1 of 2 | 0.950 | holds |" in page
    assert "The order is the paper's in 1 of 2 comparisons" in page
    assert "| V | TRAP² | ＝ -3.0 | ▼ -40.0 |" in page
    assert "> a note" in page
    numbers = comparison_page(
        "paper", claims, number_rows("paper", PUBLISHED, PUBLISHED), [], numbers=True
    )
    assert "| ViT-B/32 | TRAP² | 23.121 (+0.000) |" in numbers
