"""The names of a run's files, and what its jobs, tables and figures are made from."""

import functools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from trap2.suites.files import UPDATE_FILES, Files
from trap2.suites.load import check_config, load_suite
from trap2.suites.parameters import Parameters
from trap2.suites.results import Results

PROJECT = Path(__file__).parents[2]
SUITES = PROJECT / "config" / "suites"
LORA = "demo/ViT-demo/lora"


class Job(SimpleNamespace):
    """A job's wildcards."""

    def get(self, name, default):
        return getattr(self, name, default)


def job(**wildcards) -> Job:
    return Job(suite="demo", backbone="ViT-demo", **wildcards)


@functools.cache
def loaded(name):
    return load_suite(name, SUITES)


def settings(name):
    return loaded(name.partition("@")[0])


def names(suites=settings, unchanging=str, **config) -> Files:
    return Files(suites, check_config({"suite": "demo", **config}, SUITES), unchanging)


@pytest.fixture
def files() -> Files:
    return names()


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder with a bundle of the demo: one task's adapters, and the models."""
    held = [f"{LORA}/{t}/{p}/{n}" for t in TASKS for p in PROTECTED for n in UPDATE_FILES["lora"]]
    held += ["demo/ViT-demo/tower.safetensors"]
    held += [f"demo/ViT-demo/heads/{t}.{kind}" for t in TASKS for kind in ("safetensors", "json")]
    held += [f"demo/reference/{name}" for name in ("table1.csv", "table2.csv", "cells.csv")]
    manifest = {"files": dict.fromkeys(held, ""), "configuration": {}}
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/manifest.json").write_text(json.dumps(manifest), "utf-8")
    monkeypatch.chdir(tmp_path)


TASKS = ["digits", "letters", "shapes", "signs", "satellite"]
PROTECTED = ("unprotected", "trap2")


def test_a_job_reads_its_tasks_arrays_and_models(files):
    w = job(task="digits")
    assert files.prepared("test")(w) == [
        "results/demo/data/digits/32/test.images.npy",
        "results/demo/data/digits/32/test.labels.npy",
        "results/demo/data/digits/32/manifest.json",
    ]
    assert files.model(w) == "results/demo/ViT-demo/tower.safetensors"
    assert files.head(w) == "results/demo/ViT-demo/heads/digits.safetensors"
    assert files.heads(w) == [f"results/demo/ViT-demo/heads/{t}.safetensors" for t in TASKS]
    assert files.raw(w) == []


def test_a_merge_takes_one_protected_update_and_the_others_unprotected(files):
    w = job(protection="trap2", protected="shapes", release_format="lora")
    records = [path for path in files.merged(w) if path.endswith("update.json")]
    assert [path.split("/")[-3:-1] for path in records] == [
        [task, "trap2" if task == "shapes" else "unprotected"] for task in TASKS
    ]
    assert len(files.merged(w)) == 3 * len(TASKS)
    assert [path.split("/")[-2] for path in files.references(w)] == ["unprotected"] * len(TASKS)


def test_a_whole_checkpoint_has_files_of_its_own(files):
    w = job(task="digits", protection="trap2", release_format="full")
    folder = "results/demo/ViT-demo/full/digits/unprotected"
    assert files.to_protect(job(task="digits", protection="mergelock", release_format="full")) == [
        f"{folder}/model.safetensors",
        f"{folder}/update.json",
    ]
    assert files.lambda_candidates(w) == [
        "results/demo/ViT-demo/full/digits/trap2/lambda~0.1/model.safetensors",
        "results/demo/ViT-demo/full/digits/trap2/lambda~0.1/update.json",
    ]


def test_a_training_has_other_tasks_updates_where_it_asks_for_them():
    def partners(protection, **options):
        suite = replace(loaded("demo"), protection_options={"trap2-mixed": options})
        w = job(task="letters", release_format="lora", protection=protection)
        return names(lambda name: suite).partners(w)

    assert partners("trap2", other="task") == []
    assert partners("trap2-layers") == partners("trap2-mixed") == []
    asked = partners("trap2-mixed", other="task")
    assert asked == [
        f"results/{LORA}/{task}/unprotected/{name}"
        for task in ("digits", "shapes", "signs", "satellite")
        for name in UPDATE_FILES["lora"]
    ]


def test_a_defense_without_a_hold_on_a_backbone_ends_the_run(files):
    w = Job(suite="demo", backbone="ConvNeXt-demo", task="digits")
    w.protection, w.release_format = "params-adapter", "lora"
    with pytest.raises(SystemExit, match="not applicable to ConvNeXt-demo"):
        files.to_protect(w)


def test_every_table_is_made_from_what_it_shows(files):
    def of(number):
        return files.table(job(number=number)).get("merges")

    assert of("2") == files.cells(job())
    assert len(of("2")) == 2 * (1 + len(TASKS))
    assert all("/data_merges/" in path for path in of("5"))
    assert {path.split("/")[2] for path in of("9")} == {"ConvNeXt-demo"}
    assert files.table(job(number="8")) == {}  # the second ViT, and the demo has one
    assert "second ViT backbone" in files.table_not_applicable(job(number="8"))
    assert files.table(job(number="6")) == {"pairs": [f"results/{LORA}/pairs/trap2.json"]}
    assert files.standalone()(job(number="4")) == ["results/demo/table3.csv"]
    assert files.standalone("seeds/")(job(number="2")) == ["results/demo/seeds/table1.csv"]
    assert files.standalone()(job(number="7")) == []
    assert files.published_standalone(job(number="4")) == ["config/published/table3.csv"]
    assert len(files.table(job(number="1"))["updates"]) == 2 * 2 * len(TASKS)
    assert len(files.table(job(number="3"))["zero_shot"]) == len(TASKS)


def test_the_figures_show_one_backbone(files):
    assert files.figure(job(number="2")) == {
        "sweeps": [f"results/{LORA}/scales/{protection}.json" for protection in PROTECTED],
        "zero_shot": ["results/demo/ViT-demo/heads/digits.json"],
    }
    assert len(files.figure(job(number="5"))["zero_shot"]) == len(TASKS)
    assert all("/ViT-demo/" in path for path in files.figure(job(number="6"))["merges"])


def test_a_suite_without_adapters_has_no_figures():
    def whole(name):
        suite = settings(name)
        formats = {key: one for key, one in suite.release_formats.items() if key != "lora"}
        return replace(suite, release_formats=formats)

    files = names(whole)
    with pytest.raises(SystemExit, match="no figures: the figures show adapters"):
        files.figure(job(number="3"))
    assert "figure2.csv" not in Results(files).all("demo")


def test_a_sweeps_own_value_is_the_suites_own_training(files):
    own = files.ablated(job(setting="rank"))
    assert f"results/{LORA}/digits/trap2/lambda~0.1/update.json" in own
    assert f"results/{LORA}/digits/ablation/rank~4/update.json" in own


def test_several_seeds_have_folders_of_their_own():
    several = names(seeds=[0, 1])
    assert several.seed_tables(job(number="1")) == [
        "results/demo/table1.csv",
        "results/demo@1/table1.csv",
    ]
    published = Results(several).to_publish(Job(artifact="table1.csv"))
    assert published == "results/demo/seeds/table1.csv"
    assert Results(several).to_publish(Job(artifact="cells.csv")) == "results/demo/cells.csv"
    with pytest.raises(SystemExit, match="Did you mean results/table1"):
        Results(several).to_publish(Job(artifact="tabel1.csv"))


def test_what_is_released_is_read_from_the_bundle_and_the_rest_made_apart(bundle):
    files = names(unchanging=lambda path: f"ancient {path}", checkpoints="released")
    w = job(task="digits", protection="trap2", protected="digits", release_format="lora")
    read = [files.model(w), *files.heads(w), *files.merged(w)]
    read += files.figure(job(number="5"))["zero_shot"]
    assert all(path.startswith("ancient data/demo/") for path in read)
    made = files.prepared("val")(w) + files.cells(w) + files.figure(job(number="7"))["sweeps"]
    results = Results(files)
    made += results.finished(w) + results.everything(w) + results.claimed(w) + results.splits(w)
    made += [*results.manifests(), results.to_publish(Job(artifact="cells.csv"))]
    assert all(path.startswith("reproduced/") for path in made)
    assert results.reference_tables(w)[0] == "data/demo/reference/table1.csv"
    with pytest.raises(SystemExit, match=r"no demo/.*params-adapter/hf"):
        files.stored(f"reproduced/{LORA}/digits/params-adapter/hf/adapter_config.json")


def test_what_a_bundle_lacks_of_a_defense_is_made(bundle):
    files = names(checkpoints="released")
    path = f"reproduced/{LORA}/digits/params-adapter/update.json"
    assert files.stored(path) == path
    assert files.backbones("demo", "full") == []
    assert "set checkpoints: train" in files.table_not_applicable(job(number="3"))


def test_release_takes_what_was_trained_here_alone(files, bundle):
    trained = Results(files).to_release(job())
    assert all(path.startswith("results/demo/") for path in trained)
    assert f"results/{LORA}/digits/trap2/adapter_config.json" in trained
    assert not [path for path in trained if "/full/" in path]
    with pytest.raises(SystemExit, match="Set checkpoints: train"):
        Results(names(checkpoints="released")).to_release(job())


def test_a_file_of_the_other_kind_of_run_says_where_it_is(files):
    with pytest.raises(SystemExit, match=r"Ask for results/table2\.csv, or set checkpoints: rel"):
        Results(files).misplaced(Job(file="table2.csv"))


def test_no_rule_names_the_folder_of_results_itself():
    for path in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        found = re.findall(r"[\"'](?:results|reproduced|logs)/", path.read_text("utf-8"))
        assert not found, f"{path.name}: write <results>/ and <logs>/"


def told(**config) -> Parameters:
    rows = {"dtd": {"sources": {"here": 1, "there": 2}, "split": {}}}
    return Parameters(settings, check_config({"suite": "demo", **config}, SUITES), rows)


def test_a_job_is_told_the_leaves_that_it_needs():
    w = job(task="digits", release_format="lora")
    assert set(told().training(w)) == {"optimisation", "adapter"}
    assert "tolerance" not in told().objective(w)
    assert set(told().backbone("recompute")(w)) == {"architecture"}
    assert told().seed(Job(suite="demo@3")) == 3
    assert told(seed=2).seed(Job(suite="demo")) == 2
    assert told().cells(job(release_format="full", merges="merges")) == [
        (method, "Full") for method in ("TA", "TIES", "TIES+DARE", "TSV", "CART")
    ]
    assert told().sized(10, 1000)(w, 2) == 20
    assert told().sources(Job(suite="paper", task="dtd")) == {"here": 1}


def test_a_sweeps_value_changes_one_setting():
    w = job(setting="rank", value="4")
    adapter = told().ablated_training(w)["adapter"]
    assert (adapter["rank"], adapter["alpha"], adapter["dropout"]) == (4, 4, 0.1)
    assert told().ablated_objective(job(setting="delta", value="0.2"))["delta"] == 0.2
    with pytest.raises(SystemExit, match="it has 4, 8, 16"):
        told().variant(job(setting="rank", value="5"))
