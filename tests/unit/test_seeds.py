"""Means and standard deviations over seeds, by hand."""

import pytest
from trap2.report.tables.latex import render
from trap2.report.tables.seeds import over_seeds
from trap2.runtime.schema import ConfigurationError
from trap2.suites.load import check_config


def table(suite: str, plain: str, trap2: str) -> list[dict[str, str]]:
    facts = {"suite": suite, "backbone": "V", "release": "lora"}
    return [
        facts | {"protection": "unprotected", "TA-Full": plain},
        facts | {"protection": "trap2", "TA-Full": trap2},
    ]


TABLES = [table("demo", "60.000", "20.000"), table("demo@1", "63.000", "26.000")]
TABLES.append(table("demo@2", "66.000", "29.000"))


def test_mean_and_sample_deviation():
    columns, rows = over_seeds("demo", [0, 1, 2], TABLES)
    assert columns == [
        *("suite", "backbone", "release", "protection", "TA-Full", "TA-Full_std", "seeds"),
    ]
    assert (rows[0]["TA-Full"], rows[0]["TA-Full_std"]) == ("63.000", "3.000")
    # 20, 26, 29: mean 25, squares 25 + 1 + 16 = 42, divided by 2: 21.
    assert (rows[1]["TA-Full"], rows[1]["TA-Full_std"]) == ("25.000", "4.583")
    assert {(row["suite"], row["seeds"]) for row in rows} == {("demo", "0 1 2")}


def test_latex_prints_both_and_marks_by_the_mean():
    _, rows = over_seeds("demo", [0, 1, 2], TABLES)
    text = render(2, "merging", rows, source="Seeds")
    assert r"{63.000 $\pm$ 3.000}" in text
    assert r"\accbar{barbelow}" in text
    assert "std" not in text


def test_an_empty_cell_stays_empty_and_what_cannot_be_stays():
    gaps = [[row | {"a": ""} for row in each] for each in TABLES]
    _, rows = over_seeds("demo", [0, 1, 2], gaps)
    assert (rows[0]["a"], rows[0]["a_std"]) == ("", "")
    reason = [{"suite": "demo", "table": "8", "not_applicable": "none"}]
    assert over_seeds("demo", [0, 1], [reason, reason])[1] == reason


def test_tables_that_do_not_match_are_an_error():
    with pytest.raises(ValueError, match="different rows"):
        over_seeds("demo", [0, 1], [TABLES[0], TABLES[1][::-1]])


def test_the_command_lines_texts_are_numbers(tmp_path):
    (tmp_path / "demo.yaml").write_text("data: {source: demo}")
    found = check_config({"suite": "demo", "seeds": ["0", 1, "12"]}, tmp_path)
    assert found.seeds == (0, 1, 12)
    for wrong in (["a", 1], [1], [1, 1], [-1, 2]):
        with pytest.raises(ConfigurationError, match="seeds"):
            check_config({"suite": "demo", "seeds": wrong}, tmp_path)
