"""Every table and figure on request: made from the finished smoke suite, and only then."""

import pytest
from trap2.runtime import files

TASKS = 3
PAIRS = TASKS * (TASKS - 1)


def test_every_artifact_is_there(complete):
    results = complete.folder / "results"
    for number in range(1, 12):
        assert (results / f"table{number}.csv").stat().st_size > 0
        assert (results / f"table{number}.tex").stat().st_size > 0
    for number in range(2, 9):
        assert (results / f"figure{number}.pdf").read_bytes().startswith(b"%PDF")
        assert (results / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")
        assert {row["suite"] for row in complete.table(f"figure{number}.csv")} == {"smoke"}
    assert "Theorems A.2 and A.4 on the smoke suite" in (results / "theory.txt").read_text("utf-8")


def test_a_second_run_does_nothing(complete):
    jobs = complete.dry_run("all_artifacts")
    jobs.pop("all_artifacts", None)
    assert jobs == {}


def test_tables_that_the_suite_cannot_have_say_why(complete):
    for number, words in ((3, "whole checkpoints"), (8, "second ViT"), (9, "first ConvNeXt")):
        (row,) = complete.table(f"table{number}.csv")
        assert words in row["not_applicable"]
        assert words in (complete.folder / f"results/table{number}.tex").read_text("utf-8")


def test_table_7_is_the_complete_table_2(complete):
    full = complete.table("table7.csv")
    for row in complete.table("table2.csv"):
        for method, space in (("TA", "Full"), ("TIES", "Core")):
            (found,) = (
                each["average"]
                for each in full
                if (each["merge_method"], each["merge_space"], each["protection"])
                == (method, space, row["protection"])
            )
            assert found == row[f"{method}-{space}"]


def test_table_5_averages_table_11(complete):
    full = complete.table("table11.csv")
    for row in complete.table("table5.csv"):
        for column in ("RegMean (R)", "CoM (C)"):
            (found,) = (
                each["average"]
                for each in full
                if (each["merge_method"], each["protection"]) == (column, row["protection"])
            )
            assert found == row[column]


def test_pairs_of_the_figures_and_table_6(complete):
    assert len(complete.table("figure4.csv")) == PAIRS
    assert len(complete.table("figure8.csv")) == 11 * PAIRS
    assert len(complete.table("figure3.csv")) == 11
    assert {row["n_pairs"] for row in complete.table("table6.csv")} == {str(PAIRS)}
    # A path starts at the TRAP² adapter and ends at the unprotected one of Table 1.
    alone = {row["protection"]: row for row in complete.table("table1.csv")}
    for row in complete.table("figure8.csv"):
        if row["beta"] == "0":
            own = float(alone["trap2"][row["protected_task"]])
            assert float(row["protected_accuracy"]) == pytest.approx(own, abs=1.01)
        if row["beta"] == "1":
            own = float(alone["fine-tuned"][row["unprotected_task"]])
            assert float(row["unprotected_accuracy"]) == pytest.approx(own, abs=1.01)


def test_bounds_are_below_what_is_measured(complete):
    for name in ("theorem2.csv", "theorem4.csv"):
        rows = complete.table(name)
        assert rows
        for row in rows:
            measured, bound = float(row["measured"]), float(row["bound"])
            if row.get("premise", "yes") == "yes":
                assert bound <= measured + 0.01 * abs(measured) + 1e-3, row


def test_claims_and_comparison(complete):
    claims = {row["claim"]: row for row in complete.table("claims.csv")}
    assert claims["merging-trap2"]["of"] == "6"
    assert claims["pairwise-collapse"]["of"] == str(PAIRS)
    assert claims["full-merging"]["verdict"] == "not tested"
    assert "whole checkpoints" in claims["full-merging"]["reason"]
    comparison = complete.table("comparison.csv")
    assert {row["table"] for row in comparison} == {"1", "2", "5", "7", "11"}
    page = (complete.folder / "results/comparison.md").read_text("utf-8")
    assert page.startswith("# The smoke suite and the paper")


def test_the_published_tables_need_no_run(clone):
    clone.run("results/published/table2.tex")
    text = (clone.folder / "results/published/table2.tex").read_text("utf-8")
    assert "Backbone: ViT-L/14 (Zero-shot: 60.629)" in text


def test_a_suite_without_adapters_has_no_figures(clone):
    clone.edit("config/suites/smoke.yaml", "  lora:\n", "  full:\n")
    clone.edit("config/suites/smoke.yaml", "    adapter: {rank: 16, alpha: 16, dropout: 0.1}\n", "")
    run = clone.snakemake("results/figure4.pdf", "-n", "--cores", "1", "--config", "suite=smoke")
    assert run.code != 0
    assert "no figures: the figures show adapters" in run.output
    assert "Traceback" not in run.output
    jobs = clone.dry_run("results/table7.csv", "results/table5.csv")
    assert jobs == {"make_table": 2, "publish": 2}


def test_all_artifacts_of_the_paper_suite(paper):
    jobs = paper.dry_run("all_artifacts")
    assert jobs["merge_updates"] == 68 + 3 * 9
    assert (jobs["mix_pairs"], jobs["measure_curvature"]) == (1, 2)
    assert jobs["render_table"] == 11


def test_the_report_shows_every_table_and_figure(defended):
    results = defended.folder / "results"
    text = (results / "report.html").read_text("utf-8")
    for number in range(1, 12):
        assert f"results/smoke/pages/table{number}.csv.html" in text
    for number in range(2, 9):
        assert f"results/smoke/figure{number}.png" in text
    page = (results / "smoke/pages/table1.csv.html").read_text("utf-8")
    for row in defended.table("table1.csv"):
        assert f"<td>{row['average']}</td>" in page


def test_verify_covers_all_artifacts(complete):
    listed = files.read_json(complete.folder / "results/manifest_all.json")["files"]
    assert {"results/smoke/table11.csv", "results/smoke/figure8.pdf"} <= listed.keys()
    said = complete.run("verify", cores=1).output
    published = len(list((complete.folder / "results/provenance").glob("*.json")))
    assert f"all {len(listed) + published} files" in said


def test_seeds_have_folders_of_their_own_and_one_table(clone):
    run = clone.snakemake(
        *("results/table2.tex", "-n", "--cores", "1"),
        *("--config", "suite=smoke", "seeds=[0,1,2]"),
    )
    assert run.code == 0, run.output
    jobs = run.jobs()
    assert jobs["pretrain_base"] == 3
    assert jobs["finetune_protected"] == jobs["finetune_unprotected"] == 3 * TASKS
    assert (jobs["make_table"], jobs["summarise_seeds"]) == (3 * 2, 2)
    assert (jobs["render_seeds"], jobs["publish"]) == (1, 1)
    assert "results/smoke@2/ViT-demo/lora/shapes/trap2" in run.output
    again = clone.snakemake("-n", "--cores", "1", "--config", "suite=smoke", "seeds=[1]")
    assert again.code != 0
    assert "seeds has 1 entries; it needs at least 2" in again.output
