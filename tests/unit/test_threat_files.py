"""What the tables about attacks are made from, with trained and with released checkpoints."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from trap2.suites.files import UPDATE_FILES, Files
from trap2.suites.load import check_config, load_suite
from trap2.suites.results import Results
from trap2.suites.settings import Threats
from trap2.suites.threat_files import ThreatFiles

SUITES = Path(__file__).parents[2] / "config" / "suites"
TASKS = ["digits", "letters", "shapes", "signs", "satellite"]
VIT = "demo/ViT-demo"


class Job(SimpleNamespace):
    """A job's wildcards."""


W = Job(suite="demo")


@functools.cache
def loaded():
    return load_suite("demo", SUITES)


def demo(threats: Threats | None):
    return replace(loaded(), threats=threats)


def names(threats: Threats | None, **config) -> ThreatFiles:
    settings = check_config({"suite": "demo", **config}, SUITES)
    suite = demo(threats)
    return ThreatFiles(Files(lambda _: suite, settings))


ADAPTERS = Threats(release_formats=("lora",), protections=("trap2", "params-refit"))
ALL = Threats(protections=("trap2", "params-refit", "params"))


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder with a bundle of the demo: adapters of the ViT, and its heads."""
    held = [
        f"{VIT}/lora/{task}/{protection}/{name}"
        for task in TASKS
        for protection in ("unprotected", "trap2")
        for name in UPDATE_FILES["lora"]
    ]
    held += [f"{VIT}/heads/{task}.json" for task in TASKS]
    manifest = {"files": dict.fromkeys(held, ""), "configuration": {}}
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/manifest.json").write_text(json.dumps(manifest), "utf-8")
    monkeypatch.chdir(tmp_path)


def test_every_protection_and_task_is_attacked_and_the_control_first():
    found = names(ADAPTERS).attacks(W)
    assert found == [
        f"results/{VIT}/lora/attacks/{protection}/{task}.json"
        for protection in ("unprotected", "trap2", "params-refit")
        for task in TASKS
    ]
    assert names(ADAPTERS).merges(W) == [f"results/{VIT}/lora/merges/unprotected/none.json"]
    assert names(ADAPTERS).handling(W)[1] == f"results/{VIT}/lora/handling/trap2.json"
    assert names(ADAPTERS).heads(W)[0] == f"results/{VIT}/heads/digits.json"


def test_a_protection_is_attacked_in_the_formats_that_it_acts_on():
    folders = {str(Path(path).parent) for path in names(ALL).attacks(W)}
    assert folders == {
        *(
            f"results/{VIT}/lora/attacks/{name}"
            for name in ("unprotected", "trap2", "params-refit")
        ),
        *(f"results/{VIT}/full/attacks/{name}" for name in ("unprotected", "trap2", "params")),
    }


def test_recovery_takes_unprotected_and_trap2_adapters():
    found = names(ALL).recovery(W)
    merges = [f"results/{VIT}/lora/data_merges/unprotected/none.json"]
    merges += [f"results/{VIT}/lora/data_merges/trap2/{task}.json" for task in TASKS]
    assert found["merges"] == merges
    assert {path.split("/")[-2] for path in found["attacks"]} == {"unprotected", "trap2"}
    whole = Threats(release_formats=("full",))
    assert names(whole).recovery(W) == {"merges": [], "attacks": [], "heads": []}


def test_what_the_bundle_lacks_is_left_out_with_a_note(bundle):
    released = names(ALL, checkpoints="released")
    protections = dict.fromkeys(path.split("/")[-2] for path in released.attacks(W))
    # A post-hoc defense is made from what is released.
    assert list(protections) == ["unprotected", "trap2", "params-refit"]
    assert released.left_out(W) == [
        "Left out, not among the released checkpoints: whole checkpoints of ViT-demo (unprotected, "
        "trap2, params)."
    ]
    assert names(ALL).left_out(W) == []
    assert released.heads(W)[0] == f"data/{VIT}/heads/digits.json"
    assert released.attacks(W)[0].startswith("reproduced/")


def test_what_is_asked_for_by_name_is_no_part_of_everything():
    results = Results(names(ADAPTERS).files)
    threats = {Path(path).name for path in results.threats(W)}
    assert {"threats.csv", "price.png", "recovery.tex", "threat_claims.csv"} < threats
    assert not threats & {*results.all("demo"), *results.plain()}
    assert {Path(path).stem for path in results.claimed_threats(W)} == {
        *("threats", "recovery", "handling")
    }
    # They can be asked for of a suite that says nothing of them.
    assert Results(names(None).files).threats(W) == results.threats(W)
    assert names(None).attacks(W)


def test_a_suite_without_the_reference_says_what_to_add():
    merging = replace(demo(ADAPTERS).merging, methods={"TIES": ("Full",)})
    suite = replace(demo(ADAPTERS), merging=merging)
    settings = check_config({"suite": "demo"}, SUITES)
    with pytest.raises(SystemExit, match=r"add Full to merging\.methods\.TA"):
        ThreatFiles(Files(lambda _: suite, settings)).merges(W)
