"""The protocols of the sibling papers: the jobs of their own suite, and a tiny one from nothing."""

import json

import pytest
import yaml
from clones import Clone, clone_to

TASKS, BACKBONES = 8, 2
PAIR = ("shapes", "signs")
CELLS = "results/tiny/ViT-demo/full/siblings"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> dict[str, int]:
    made = clone_to(tmp_path_factory.mktemp("siblings") / "clone")
    return Clone(made.folder, ("suite=siblings",)).dry_run("all_siblings")


def test_the_jobs_of_the_papers_sizes(jobs):
    updates = TASKS * BACKBONES
    assert jobs["download_dataset"] == jobs["prepare_data"] == TASKS
    assert (jobs["fetch_base"], jobs["build_head"]) == (BACKBONES, updates)
    assert jobs["finetune_unprotected_full"] == updates
    # TRAP² with four λ; MergeGuard, its first stage and ARF.
    assert jobs["finetune_protected_full"] == (4 + 3) * updates
    assert jobs["select_lambda_full"] == 4 * updates
    # PaRaMS, Merge-Lock, MergeGuard's second stage, MergeBarrier's attention part.
    assert jobs["protect_update_full"] == 4 * updates
    assert jobs["merge_siblings"] == (8 + 1) * updates == 144
    assert not {"finetune_protected", "merge_updates", "attack_updates"} & set(jobs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Clone:
    """Two tasks' whole checkpoints, hardly trained, and Merge-Lock."""
    made = clone_to(tmp_path_factory.mktemp("siblings") / "clone")
    suite = yaml.safe_load((made.folder / "config/suites/smoke.yaml").read_text("utf-8"))
    full = {
        "lambdas": [0.1],
        "optimisation": dict(suite["release_formats"]["lora"]["optimisation"]),
    }
    full["optimisation"] |= {"learning_rate": 0.001, "steps": 20, "evaluate_every": 20}
    suite |= {
        "data": {"source": "demo", "train": 100, "val": 30, "test": 50},
        "tasks": list(PAIR),
        "release_formats": {"full": full},
        "siblings": {
            "protections": ["mergelock"],
            "curve": [0.5, 1.0],
            "images": 16,
            "options": {
                "AdaMerging-layer": {"iterations": 1},
                "AdaMerging-layer++": {"iterations": 1},
            },
        },
    }
    suite["backbones"]["ViT-demo"]["pretraining"] |= {"images": 100, "steps": 10}
    (made.folder / "config/suites/tiny.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    tiny = Clone(made.folder, ("suite=tiny",))
    tiny.run(*records())
    return tiny


def records() -> list[str]:
    return [f"{CELLS}/{name}/{task}.json" for name in ("unprotected", "mergelock") for task in PAIR]


def read(clone: Clone) -> dict[tuple[str, str], dict]:
    found = [json.loads((clone.folder / path).read_text("utf-8")) for path in records()]
    return {(record["protection"], record["protected_task"]): record for record in found}


def test_records_from_nothing(tiny):
    found = read(tiny)
    first, second = (found["unprotected", task]["cells"] for task in PAIR)
    one = first["pair/signs/TA/none"]["points"][0]["test"]
    other = second["pair/shapes/TA/none"]["points"][0]["test"]
    # Nothing is protected: which of the two counts as protected makes no difference.
    assert {t: one[t]["correct"] for t in PAIR} == {t: other[t]["correct"] for t in PAIR}
    for task in PAIR:
        plain, locked = (found[name, task] for name in ("unprotected", "mergelock"))
        assert locked["zero_shot"] == plain["zero_shot"]
        # The function is kept, but for rounding.
        alone = locked["standalone"]["none"]["correct"] - plain["standalone"]["none"]["correct"]
        assert abs(alone) <= 1
        far, near, back = (
            sum(each["distance"] for each in record["distances"] if each["attack"] == attack)
            for record, attack in ((locked, "none"), (plain, "none"), (locked, "aga"))
        )
        assert far > 10 * max(near, back)
    assert len(found["mergelock", "shapes"]["cells"]["path/signs/TA/none"]["points"]) == 11


def test_a_changed_setting_merges_what_it_enters(tiny):
    before = read(tiny)
    file = tiny.folder / "config/suites/tiny.yaml"
    suite = yaml.safe_load(file.read_text("utf-8"))
    suite["siblings"]["ties_coefficient"] = 0.9
    file.write_text(yaml.safe_dump(suite), "utf-8")
    assert tiny.dry_run(*records()) == {"merge_siblings": 4}
    tiny.run(records()[-1])
    place = ("mergelock", PAIR[1])
    old, new = before[place]["cells"], read(tiny)[place]["cells"]
    changed = {name for name in new if new[name]["key"] != old[name]["key"]}
    assert changed == {name for name in new if "/TIES/" in name}
    assert all(new[name] == old[name] for name in new if name not in changed)
