"""The paper suite end to end on miniature datasets and small relatives of its three backbones."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from clones import DATASETS
from peft import PeftModel
from trap2.data.preparation import LEAK
from trap2.models.clip.tower import load_tower
from trap2.runtime import files
from trap2.updates.stored import load_update

BACKBONES = ["ViT-B-32", "ViT-L-14", "convnext_base_w"]
TASKS = ["cars", "eurosat"]
FACTS = ["suite", "backbone", "release", "protection"]
FULL = ["TA-Full", "TIES-Full", "TIES+DARE-Full", "TSV-Full", "CART-Full"]


def record(clone, path: str) -> dict:
    return files.read_json(clone.folder / "results/paper-mini" / path)


def test_every_dataset_was_read_split_and_described(paper_mini):
    for task in DATASETS:
        manifest = record(paper_mini, f"data/{task}/64/manifest.json")
        splits = record(paper_mini, f"data/{task}/64/splits.json")
        for split, entry in manifest["splits"].items():
            assert entry["count"] == len(splits["splits"][split]["indices"]) > 0
        assert bool(manifest["notes"]) == (task == "cars")


def test_tables_1_and_3_have_every_backbone_and_release(paper_mini):
    rows = paper_mini.table("table1.csv")
    assert list(rows[0]) == [*FACTS, *TASKS, "average", "notes"]
    assert [(row["backbone"], row["protection"]) for row in rows] == [
        (backbone, protection)
        for backbone in BACKBONES
        for protection in ("zero-shot", "fine-tuned", "params-refit", "trap2")
        if (backbone, protection) != ("convnext_base_w", "params-refit")
    ]
    rows = paper_mini.table("table3.csv")
    assert [row["protection"] for row in rows] == ["zero-shot", "fine-tuned", "trap2"]
    assert {(row["backbone"], row["release"]) for row in rows} == {("ViT-B-32", "full")}


def test_tables_2_and_4_have_the_papers_columns(paper_mini):
    rows = paper_mini.table("table2.csv")
    assert len(rows) == len(BACKBONES) * 2
    assert len(rows[0]) == len(FACTS) + 13 + 1
    rows = paper_mini.table("table4.csv")
    assert list(rows[0]) == [*FACTS, *FULL, "notes"]
    assert [row["protection"] for row in rows] == ["unprotected", "trap2"]


def test_cells_hold_every_merge_and_the_second_search(paper_mini):
    cells = paper_mini.table("cells.csv")
    merges = len(BACKBONES) * (1 + len(TASKS))
    assert len(cells) == merges * 13 + (1 + len(TASKS)) * len(FULL)
    merge = record(paper_mini, "ViT-B-32/lora/merges/trap2/cars.json")
    tried = [point["options"] for point in merge["cells"]["TIES+DARE-Core"]["trace"]]
    assert {options["keep"] for options in tried} >= {100, 10}
    assert {options["drop"] for options in tried} >= {1e-5, 0.99}


def test_everything_made_of_leaked_cars_says_so(paper_mini):
    folder = paper_mini.folder / "results"
    made = [p for p in folder.rglob("*.json") if p.name == "update.json" and "cars" in str(p)]
    made += folder.rglob("merges/*/*.json")
    made += folder.rglob("scales/*.json")
    assert len(made) > 20
    for path in made:
        assert files.read_json(path)["notes"] == [LEAK], path
    for name in ("table1.csv", "table2.csv", "table3.csv", "table4.csv", "cells.csv"):
        assert {row["notes"] for row in paper_mini.table(name)} == {LEAK}
    said = " ".join((folder / "summary.txt").read_text("utf-8").split())
    assert LEAK in said
    # Another task's update was trained on nothing that leaks.
    assert record(paper_mini, "ViT-B-32/lora/eurosat/trap2/update.json")["notes"] == []


def test_training_did_what_the_suite_says(paper_mini):
    update = record(paper_mini, "ViT-L-14/lora/cars/trap2/update.json")
    assert update["logit_scale"] == 10000
    assert update["objective"]["lambda"] in (0.01, 0.001)
    assert update["optimisation"]["micro_batch_size"] < update["optimisation"]["batch_size"]
    full = paper_mini.folder / "results/paper-mini/ViT-B-32/full/cars/trap2"
    base = paper_mini.folder / "results/paper-mini/ViT-B-32/tower.safetensors"
    assert all(bool(delta.abs().max() > 0) for delta in load_update(full, base).values())


def test_a_second_run_does_nothing(paper_mini):
    assert paper_mini.dry_run() == {}


def test_another_choice_for_cars_reruns_cars_alone(edited_mini):
    edited_mini.edit("config/suites/paper-mini.yaml", "cars_train: knots", "cars_train: proper")
    jobs = edited_mini.dry_run("results/table1.csv")
    # Two resolutions; three backbones with Cars' two λ; the data are not downloaded again.
    assert (jobs["prepare_data"], jobs["build_head"]) == (2, 3)
    assert (jobs["finetune_unprotected"], jobs["finetune_protected"]) == (3, 6)
    assert "download_dataset" not in jobs


def test_fetching_the_same_files_again_prepares_nothing(edited_mini):
    (edited_mini.folder / "resources/datasets/cars/source.json").unlink()
    assert edited_mini.dry_run() == {}
    edited_mini.run("resources/datasets/cars/source.json")
    assert edited_mini.dry_run() == {}


def test_cars_from_the_original_files_in_a_folder(clone, miniatures, paper_mini):
    """The other reader of Cars, and a machine without a network."""
    suite = "config/suites/paper-mini.yaml"
    (clone.folder / suite).write_bytes((paper_mini.folder / suite).read_bytes())
    (clone.folder / "weights").symlink_to(paper_mini.folder / "weights")
    own = type(clone)(
        clone.folder,
        (
            "suite=paper-mini",
            f"catalogue={miniatures / 'catalogue.yaml'}",
            f"archives={miniatures}",
            "sources={cars: original}",
        ),
    )
    own.run("results/paper-mini/data/cars/64/manifest.json")
    ours = record(own, "data/cars/64/manifest.json")
    theirs = record(paper_mini, "data/cars/64/manifest.json")
    assert ours["source"]["reader"] == "cars_devkit"
    assert theirs["source"]["reader"] == "cars_parquet"
    assert ours["splits"] == theirs["splits"], "the same images and labels, byte for byte"


def test_an_exported_adapter_has_the_names_of_hugging_face(edited_mini):
    folder = "results/paper-mini/ViT-B-32/lora/cars/trap2"
    edited_mini.run(f"{folder}/hf/adapter_model.safetensors")
    names = files.read_tensors(edited_mini.folder / folder / "hf/adapter_model.safetensors")
    layer = "base_model.model.vision_model.encoder.layers.1.self_attn.out_proj.lora_B.weight"
    assert layer in names
    assert len(names) == 2 * 4 * 2


def test_stock_peft_loads_a_convnext_adapter(paper_mini):
    folder = paper_mini.folder / "results/paper-mini/convnext_base_w"
    tower = load_tower(
        folder / "tower.safetensors", files.read_json(folder / "base.json"), torch.device("cpu")
    )
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = tower(images)
        model = PeftModel.from_pretrained(tower, str(folder / "lora/cars/trap2")).eval()
        assert not torch.equal(model(images), before)


def test_a_killed_training_resumes_to_the_same_bytes(edited_mini):
    """SIGKILL in the middle of a real job, then the same command again."""
    edited_mini.edit(
        "workflow/scripts/trap2/training/finetune.py",
        "CHECKPOINT_SECONDS = 300.0",
        "CHECKPOINT_SECONDS = 0.2",
    )
    suite = edited_mini.folder / "config/suites/paper-mini.yaml"
    suite.write_text(suite.read_text("utf-8").replace("steps: 12", "steps: 150"), "utf-8")
    folder = "results/paper-mini/ViT-B-32/lora/cars/trap2/lambda~0.01"
    target = f"{folder}/adapter_model.safetensors"
    edited_mini.run(target, cores=1)
    whole = (edited_mini.folder / target).read_bytes()
    result = record(edited_mini, folder.partition("paper-mini/")[2] + "/update.json")
    (edited_mini.folder / target).unlink()

    kill_when(edited_mini, target, edited_mini.folder / folder / ".resume.safetensors")
    assert not (edited_mini.folder / target).exists()
    edited_mini.run(target, cores=1)
    log = edited_mini.folder / (
        "logs/paper-mini/finetune_protected/ViT-B-32-lora-cars-trap2-lambda~0.01.log"
    )
    assert "resuming from step" in log.read_text("utf-8")
    assert (edited_mini.folder / target).read_bytes() == whole
    resumed = record(edited_mini, folder.partition("paper-mini/")[2] + "/update.json")
    for key in ("val", "test", "history", "best_step", "steps"):
        assert resumed[key] == result[key]
    assert not (edited_mini.folder / folder / ".resume.safetensors").exists()


def kill_when(clone, target: str, mark: Path) -> None:
    """Run a target and kill its training once ``mark`` exists."""
    command = [sys.executable, "-m", "snakemake", target, "--cores", "1"]
    run = subprocess.Popen(
        [*command, "--config", *clone.settings],
        cwd=clone.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 240
        while not mark.exists():
            assert run.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for process in psutil.Process(run.pid).children(recursive=True):
            if process.cmdline()[-1].endswith("finetune_protected.py"):
                process.kill()
        assert run.wait(timeout=120) != 0
    finally:
        if run.poll() is None:
            run.kill()


@pytest.mark.parametrize("name", ["figure2", "figure5"])
def test_figures_are_made(paper_mini, name):
    assert (paper_mini.folder / f"results/{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_summary_is_of_this_suite(paper_mini):
    text = (paper_mini.folder / "results/summary.txt").read_text("utf-8")
    assert text.startswith("The paper-mini suite")
