"""The smoke suite through the real rules: its artifacts, its effect, and what a change reruns."""

import json
import random
import sys

import open_clip
import pytest
import torch
from peft import PeftModel
from trap2.models.clip.tower import load_tower

METHODS = ["TA-Full", "TIES-Full", "TIES-KnOTS", "TIES-Core", "TSV-Full", "CART-Core"]
TASKS = ["shapes", "signs", "satellite"]
FACTS = ["suite", "backbone", "release", "protection"]


def test_table1_has_the_papers_layout(smoke):
    rows = smoke.table("table1.csv")
    assert list(rows[0]) == [*FACTS, *TASKS, "average"]
    assert [row["protection"] for row in rows] == ["zero-shot", "fine-tuned", "trap2"]
    assert {row["suite"] for row in rows} == {"smoke"}
    for row in rows:
        mean = sum(float(row[task]) for task in TASKS) / len(TASKS)
        assert float(row["average"]) == pytest.approx(mean, abs=0.001)


def test_table2_has_a_column_for_every_method_and_space(smoke):
    rows = smoke.table("table2.csv")
    assert list(rows[0]) == [*FACTS, *METHODS]
    assert [row["protection"] for row in rows] == ["unprotected", "trap2"]


def test_cells_has_a_row_for_every_merge_and_table2_is_its_mean(smoke):
    cells = smoke.table("cells.csv")
    assert len(cells) == len(METHODS) * (1 + len(TASKS))
    trap2 = [c for c in cells if c["protection"] == "trap2"]
    assert {c["protected_task"] for c in trap2} == set(TASKS)
    for row in smoke.table("table2.csv"):
        for column in METHODS:
            method, space = column.rsplit("-", 1)
            averages = [
                float(c["average"])
                for c in cells
                if (c["protection"], c["merge_method"], c["merge_space"])
                == (row["protection"], method, space)
            ]
            mean = sum(averages) / len(averages)
            assert float(row[column]) == pytest.approx(mean, abs=0.001)


def test_trap2_works_alone_and_collapses_off_scale(smoke):
    folder = smoke.folder / "results/smoke/ViT-demo/lora/scales"
    mean = {}
    for protection in ("unprotected", "trap2"):
        profiles = json.loads((folder / f"{protection}.json").read_text("utf-8"))["sweeps"]
        for s in (0.5, 0.8, 1.0, 1.5):
            at = [p["accuracy"] for task in TASKS for p in profiles[task] if p["s"] == s]
            mean[protection, s] = sum(at) / len(at)
    zero_shot = float(smoke.table("table1.csv")[0]["average"])
    assert mean["unprotected", 1.0] > zero_shot + 15
    assert mean["trap2", 1.0] > 0.85 * mean["unprotected", 1.0]
    for s in (0.5, 1.5):
        assert mean["trap2", s] < 0.75 * mean["unprotected", s]
        assert mean["unprotected", s] > 0.6 * mean["unprotected", 1.0]
    assert mean["trap2", 1.5] < 0.5 * mean["trap2", 1.0]


def test_every_figure_is_made(smoke):
    for name in ("figure2", "figure5"):
        assert (smoke.folder / f"results/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (smoke.folder / f"results/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_stock_peft_loads_a_released_adapter_and_scores_the_recorded_accuracy(smoke):
    from trap2.data.prepared import open_split
    from trap2.models.clip.classifier import Classifier
    from trap2.models.clip.heads import read_head

    results = smoke.folder / "results/smoke"
    record = json.loads((results / "ViT-demo/base.json").read_text("utf-8"))
    tower = load_tower(results / "ViT-demo/tower.safetensors", record, torch.device("cpu"))
    adapter = results / "ViT-demo/lora/shapes/trap2"
    model = PeftModel.from_pretrained(tower, str(adapter)).eval()
    head = read_head(results / "ViT-demo/heads/shapes.safetensors")
    images = {"test": open_split(results / "data/shapes/32", "test")}
    classifier = Classifier(images, head, 100, 50, torch.device("cpu"))
    found = classifier.score(model, "test")
    update = json.loads((adapter / "update.json").read_text("utf-8"))
    assert found.accuracy == update["test"]["accuracy"]
    assert update["versions"]["open_clip_torch"] == open_clip.__version__
    assert {"seed", "seconds", "val", "test", "optimisation", "objective"} <= update.keys()


def test_a_second_run_does_nothing(smoke):
    assert smoke.dry_run() == {}


def test_debugging_opens_a_job_as_it_ran_and_touches_no_result(edited):
    results = edited.folder / "results"
    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    target = "results/smoke/ViT-demo/lora/signs/trap2/update.json"
    record = "results/smoke/ViT-demo/lora/signs/trap2/provenance/adapter_model.safetensors.json"
    shown = (
        "import json; from trap2.runtime.debug import find_job; "
        f"job = find_job({target!r}, ['suite=smoke']); job.run(); "
        "print(json.dumps({'rule': job.snakemake.rule, 'params': dict(job.snakemake.params), "
        "'wildcards': dict(job.snakemake.wildcards)}))"
    )
    command = ("env", "PYTHONPATH=workflow/scripts", sys.executable, "-c", shown)
    said = json.loads(edited.succeed(*command).output.splitlines()[-1])
    ran = json.loads((edited.folder / record).read_text("utf-8"))
    assert said == {key: ran[key] for key in ("rule", "params", "wildcards")}
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before
    made = (edited.folder / "debug" / target).read_bytes()
    assert made == (edited.folder / target).read_bytes()


def test_folder_order_cores_locale_and_time_zone_change_no_byte(smoke, clone, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    # Job order: the other scheduler, and what a seeded draw puts first.
    adapters = [f"results/smoke/ViT-demo/lora/{task}/trap2/update.json" for task in TASKS]
    first = random.Random(0).choice(adapters)
    order = ("--scheduler", "greedy", "--prioritize", first)
    # One core here, all of them in `smoke`.
    run = clone.snakemake("--cores", "1", *order, "--config", *clone.settings)
    assert run.code == 0, run.output
    assert_same_bytes(clone, smoke)


def assert_same_bytes(clone, smoke) -> None:
    for name in ("table1.csv", "table2.csv", "cells.csv", "summary.txt", "figure2.pdf"):
        one, other = ((made.folder / f"results/{name}").read_bytes() for made in (clone, smoke))
        if name == "summary.txt":
            # Its last line is the digest of this very run, whose records hold seconds.
            one, other = (text[: text.rindex(b"SHA-256")] for text in (one, other))
        assert one == other, name


def test_an_edited_operator_reruns_the_merges_and_what_follows(edited):
    edited.edit(
        "workflow/scripts/trap2/merging/methods.py",
        "return layer.total() / len(layer.tasks)",
        "return layer.total() / len(layer.tasks) * 1",
    )
    jobs = edited.dry_run()
    assert jobs.pop("merge_updates") == 1 + len(TASKS)
    # It is TSV's; the scale sweeps apply an update by task arithmetic, and do not run.
    assert set(jobs) == {
        "collect_cells",
        "make_table",
        "summarise_results",
        "collect_manifest",
        "publish",
    }


def test_an_edited_objective_reruns_training_but_not_the_data(edited):
    edited.edit("workflow/scripts/trap2/protection/trap2.py", "1.0 / s", "1.0 / (1.0 * s)")
    jobs = edited.dry_run()
    assert jobs["finetune_protected"] == len(TASKS)
    assert not {"prepare_data", "pretrain_base", "build_head", "finetune_unprotected"} & set(jobs)


def test_an_edited_comment_reruns_nothing(edited):
    edited.edit("workflow/scripts/trap2/protection/trap2.py", '"""The TRAP²', '"""On the TRAP²')
    assert edited.dry_run() == {}


SCRIPTS = ("merge_updates.py", "prepare_data.py", "build_head.py")


def comment(clone) -> None:
    """Give every script a comment, and with it another time."""
    for script in (clone.folder / "workflow/scripts").glob("*.py"):
        script.write_text(script.read_text("utf-8") + "\n# a comment\n", "utf-8")


@pytest.mark.parametrize(
    "start",
    [
        (),
        ("--directory", "."),
        ("--profile", "slurm"),
        ("--snakefile", "../edited/Snakefile"),
    ],
    ids=["plain", "directory", "slurm", "snakefile"],
)
def test_a_comment_in_a_script_reruns_nothing_however_snakemake_is_started(edited, start):
    comment(edited)
    run = edited.snakemake("all", "-n", "--cores", "1", *start, "--config", "suite=smoke")
    assert run.code == 0, run.output
    assert run.jobs() == {}


def test_a_comment_in_a_script_reruns_nothing_of_make(edited):
    comment(edited)
    assert "Nothing to be done" in edited.make("demo").output


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_changed_statement_in_a_script_reruns_its_rule(edited, script):
    path = edited.folder / "workflow/scripts" / script
    path.write_text(path.read_text("utf-8") + "\nprint()\n", "utf-8")
    assert script.removesuffix(".py") in edited.dry_run()


def test_a_new_lambda_is_one_training_a_task_and_what_follows(edited):
    edited.edit("config/suites/smoke.yaml", "lambdas: [0.1]", "lambdas: [0.1, 0.2]")
    jobs = edited.dry_run("results/table1.csv")
    assert jobs == {
        "finetune_protected": len(TASKS),
        "select_lambda": len(TASKS),
        "make_table": 1,
        "publish": 1,
    }


def test_a_new_lambda_of_one_task_is_one_training_and_what_follows(edited):
    edited.edit(
        "config/suites/smoke.yaml",
        "lambdas: [0.1]",
        "lambdas: [0.1]\n    task_lambdas: {signs: [0.1, 0.2]}",
    )
    assert edited.dry_run("results/table1.csv") == {
        "finetune_protected": 1,
        "select_lambda": 1,
        "make_table": 1,
        "publish": 1,
    }
    # Of the merges, the one in which this task is the protected one may change.
    assert edited.dry_run("results/table2.csv") == {
        "finetune_protected": 1,
        "select_lambda": 1,
        "merge_updates": 1,
        "make_table": 1,
        "publish": 1,
    }


def test_another_coefficient_grid_is_sweeps_and_no_training(edited):
    edited.edit("config/suites/smoke.yaml", "patience: 5", "patience: 6")
    assert edited.dry_run() == {
        "merge_updates": 1 + len(TASKS),
        "collect_cells": 1,
        "make_table": 1,
        "summarise_results": 1,
        "collect_manifest": 1,
        "publish": 4,
    }


def test_another_style_of_a_figure_is_that_figure(edited):
    edited.edit(
        "workflow/scripts/trap2/report/figures/figure2.py", "markersize=13", "markersize=12"
    )
    # Published are the figure's two files, the manifest that lists them, and the summary with
    # the manifest's digest.
    assert edited.dry_run() == {
        "plot_figure": 1,
        "collect_manifest": 1,
        "summarise_results": 1,
        "publish": 4,
    }


def test_a_new_method_costs_its_own_cells(edited):
    before = merges(edited)
    edited.edit("config/suites/smoke.yaml", "    TSV: [Full]", "    TSV: [Full]\n    WA: [Full]")
    assert edited.dry_run("results/table2.csv") == {
        "merge_updates": 1 + len(TASKS),
        "make_table": 1,
        "publish": 1,
    }
    edited.run("results/table2.csv")
    after = merges(edited)
    for path, cells in before.items():
        assert set(after[path]) == {*cells, "WA-Full"}
        # The seconds that a cell took are those of the run that computed it.
        assert {column: after[path][column] for column in cells} == cells
    assert edited.dry_run("results/table2.csv") == {}


def merges(clone) -> dict[str, dict]:
    folder = clone.folder / "results/smoke/ViT-demo/lora/merges"
    return {
        str(path.relative_to(folder)): json.loads(path.read_text("utf-8"))["cells"]
        for path in folder.glob("*/*.json")
    }
