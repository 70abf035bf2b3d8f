"""From released checkpoints: no training, the same bytes, and no fooling by what DVC does."""

import json
import os
import shutil

from clones import Clone, copy_of

RELEASED = ("suite=smoke", "checkpoints=released")
TABLES = ("table1.csv", "table2.csv", "cells.csv")
TRAINING = {
    "pretrain_base",
    "build_head",
    "finetune_unprotected",
    "finetune_protected",
    "select_lambda",
}


def test_nothing_is_trained(reproduced):
    logs = {path.name for path in (reproduced.folder / "reproduced/logs/smoke").iterdir()}
    assert "merge_updates" in logs
    assert not TRAINING & logs


def test_the_manifest_names_every_file_and_how_it_was_made(staged):
    folder = staged.folder / "data/smoke"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    there = {str(p.relative_to(staged.folder / "data")) for p in folder.rglob("*") if p.is_file()}
    assert there == {*manifest["files"], "smoke/manifest.json"}
    assert {"configuration", "versions", "revision", "metrics"} <= manifest.keys()
    assert manifest["configuration"]["seed"] == 0
    assert "smoke/ViT-demo/lora/shapes/trap2" in manifest["metrics"]


def test_every_adapter_has_a_card_and_the_protected_ones_a_warning(staged):
    lora = staged.folder / "data/smoke/ViT-demo/lora"
    for task in ("shapes", "signs", "satellite"):
        card = (lora / task / "trap2/README.md").read_text("utf-8")
        assert "Warning: do not rescale or merge" in card
        assert "Warning" not in (lora / task / "unprotected/README.md").read_text("utf-8")


def test_released_checkpoints_give_the_bytes_of_training(smoke, reproduced):
    for name in TABLES:
        ours, theirs = reproduced.folder / "reproduced" / name, smoke.folder / "results" / name
        assert ours.read_bytes() == theirs.read_bytes(), name
    page = (reproduced.folder / "reproduced/reproduction.md").read_text("utf-8")
    assert "Differences from the released tables: **0**" in page
    assert "3 of 3 tasks as released" in page


def test_what_is_trained_and_what_is_reproduced_leave_each_other_alone(staged, tmp_path):
    both = copy_of(staged, tmp_path / "both")
    both.make("reproduce")
    released = Clone(both.folder, RELEASED)
    assert both.dry_run() == {}
    assert released.dry_run("all", "reproduced/reproduction.md") == {}
    for name in TABLES:
        trained, reproduced = (both.folder / root / name for root in ("results", "reproduced"))
        assert trained.read_bytes() == reproduced.read_bytes(), name
    both.make("verify")
    both.make("verify", "CHECKPOINTS=released")
    # Asked for under the other name, a file is not taken as it lies there.
    run = both.snakemake("results/table2.csv", "--cores", "1", "--config", *RELEASED)
    assert run.code != 0
    assert "Ask for reproduced/table2.csv" in run.output


def test_new_modification_times_rerun_nothing(reproduced, tmp_path):
    pulled = copy_of(reproduced, tmp_path / "pulled")
    for path in (pulled.folder / "data").rglob("*"):
        os.utime(path)
    assert pulled.dry_run() == {}


def test_a_damaged_released_file_ends_the_run_with_its_name(reproduced, tmp_path):
    damaged = copy_of(reproduced, tmp_path / "damaged")
    path = "data/smoke/ViT-demo/lora/signs/trap2/adapter_model.safetensors"
    content = bytearray((damaged.folder / path).read_bytes())
    content[-1] ^= 1
    (damaged.folder / path).write_bytes(content)
    shutil.rmtree(damaged.folder / "reproduced/smoke/ViT-demo/lora/merges/trap2")
    # A table that is there would not ask for the merges behind it.
    for table in ("reproduced/smoke/table2.csv", "reproduced/table2.csv"):
        (damaged.folder / table).unlink()
    run = damaged.snakemake("reproduced/table2.csv", "--cores", "2", "--config", *RELEASED)
    assert run.code != 0
    assert f"{path}: damaged or changed" in run.output
    assert "dvc" in run.output


def test_a_missing_bundle_and_a_changed_suite_are_said_before_any_job(reproduced, tmp_path):
    other = copy_of(reproduced, tmp_path / "other")
    run = other.snakemake("-n", "--config", *RELEASED, "seed=1")
    assert run.code != 0
    assert "seed is 1, and was 0" in run.output
    shutil.rmtree(other.folder / "data")
    run = other.snakemake("-n", "--config", *RELEASED)
    assert run.code != 0
    assert "data/smoke/manifest.json is not here. Run dvc pull" in run.output
