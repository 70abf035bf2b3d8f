"""Post-hoc defenses through the real rules, added to the finished smoke suite."""

import json

import torch
from peft import PeftModel
from trap2.models.clip.tower import load_tower

NAMES = ["params-adapter", "mergelock-adapter"]
# The Makefile's, in its order.
ALL = ["mergelock-adapter", "mergelock-refit", "params-adapter", "params-refit"]
TASKS = ["shapes", "signs", "satellite"]


def test_defenses_are_added_without_training_anything(edited, defended):
    edited.edit(
        "config/suites/smoke.yaml",
        "protections: [trap2]",
        "protections: [params-adapter, mergelock-adapter, trap2]",
    )
    assert edited.dry_run("results/table1.csv", "results/table2.csv") == {
        "protect_update": len(NAMES) * len(TASKS),
        "merge_updates": len(NAMES) * len(TASKS),
        "make_table": 2,
        "publish": 2,
    }
    rows = {row["protection"]: row for row in defended.table("table1.csv")}
    assert list(rows) == ["zero-shot", "fine-tuned", *ALL, "trap2"]
    average = {name: float(row["average"]) for name, row in rows.items()}
    assert average["params-adapter"] > 0.8 * average["fine-tuned"]
    assert average["mergelock-adapter"] < 0.6 * average["fine-tuned"]

    task = defended.folder / "results/smoke/ViT-demo/lora/shapes"
    plain = json.loads((task / "unprotected/update.json").read_text("utf-8"))
    for name in NAMES:
        record = json.loads((task / name / "update.json").read_text("utf-8"))
        assert record["unprotected"] == plain
        assert (record["protection"], record["task"], record["seed"]) == (name, "shapes", 0)
        assert {"parameters", "val", "test", "versions", "paper"} <= record.keys()
        assert accuracy(defended, task / name) == record["test"]["accuracy"]


def test_a_backbone_without_attention_ends_the_run_with_the_reason(clone):
    target = "results/paper/convnext_base_w/lora/dtd/mergelock-refit/update.json"
    run = clone.snakemake(target, "-n", "--cores", "1", "--config", "suite=paper")
    assert run.code != 0
    assert "not applicable to convnext_base_w: Merge-Lock† (mergelock-refit) hides" in run.output
    assert "Traceback" not in run.output


def accuracy(clone, adapter) -> float:
    """Test accuracy of an adapter of `shapes` as stock PEFT applies it."""
    from trap2.data.prepared import open_split
    from trap2.models.clip.classifier import Classifier
    from trap2.models.clip.heads import read_head

    results = clone.folder / "results/smoke"
    base = json.loads((results / "ViT-demo/base.json").read_text("utf-8"))
    tower = load_tower(results / "ViT-demo/tower.safetensors", base, torch.device("cpu"))
    head = read_head(results / "ViT-demo/heads/shapes.safetensors")
    images = {"test": open_split(results / "data/shapes/32", "test")}
    classifier = Classifier(images, head, 100, 50, torch.device("cpu"))
    model = PeftModel.from_pretrained(tower, str(adapter)).eval()
    return classifier.score(model, "test").accuracy
