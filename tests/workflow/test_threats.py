"""The tables about attacks and handling of the smoke suite, from the merges that they rest on."""

import pytest
from clones import copy_of

TASKS = 3


@pytest.fixture(scope="module")
def attacked(smoke, tmp_path_factory):
    """The finished run with every attack on it; do not change it."""
    made = copy_of(smoke, tmp_path_factory.mktemp("threats") / "clone")
    # A command of the README may have made them in the run already.
    jobs = made.dry_run("all_threats")
    assert not {"finetune_protected", "pretrain_base", "prepare_data"} & set(jobs)
    made.make("threats")
    return made


def test_one_coefficient_is_the_merge_of_table_2(attacked):
    rows = {(row["protection"], row["attack"]): row for row in attacked.table("threats.csv")}
    plain = rows["unprotected", "one"]
    # The control is the yardstick itself.
    assert (plain["kept"], plain["average"]) == ("100.000", plain["unprotected_average"])
    assert plain["tasks_acquired"] == str(TASKS - int(plain["tasks_undefined"]))
    table2 = {row["protection"]: row["TA-Full"] for row in attacked.table("table2.csv")}
    assert plain["average"] == table2["unprotected"]
    assert rows["trap2", "one"]["average"] == table2["trap2"]
    cells = [row for row in attacked.table("threats_cells.csv") if row["attack"] == "one"]
    assert len(cells) == 2 * TASKS
    assert {row["suite"] for row in cells} == {"smoke"}


def test_recovery_and_handling_begin_with_what_the_tables_have(attacked):
    recovery = {(r["protection"], r["method"]): r for r in attacked.table("recovery.csv")}
    standalone = {row["protection"]: row["average"] for row in attacked.table("table1.csv")}
    assert recovery["zero-shot", ""]["accuracy"] == standalone["zero-shot"]
    assert recovery["unprotected", "RegMean"]["published"] == "49.1"
    assert float(recovery["trap2", "CoM"]["accuracy"]) > 0
    released = {
        row["protection"]: row["accuracy"]
        for row in attacked.table("handling.csv")
        if row["treatment"] == "as-released"
    }
    assert float(released["trap2"]) == pytest.approx(float(standalone["trap2"]), abs=1.01)
    text = (attacked.folder / "results/recovery.tex").read_text("utf-8")
    assert "Published, ViT-B/32" in text


def test_all_of_it_is_there_and_a_second_run_does_nothing(attacked):
    for name in ("threats", "price", "handling"):
        assert (attacked.folder / f"results/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (attacked.folder / f"results/{name}.png").read_bytes().startswith(b"\x89PNG")
    jobs = attacked.dry_run("all_threats")
    jobs.pop("all_threats", None)
    assert jobs == {}
