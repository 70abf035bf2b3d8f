"""trap2 audit on tiny files: its numbers are those of other commands, its page says why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_cli
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from trap2.attacks.attack import ATTACKS, Attack
from trap2.attacks.audit import SCALES
from trap2.attacks.measure import measure
from trap2.attacks.stage import Merge
from trap2.attacks.verdicts import VERDICTS, Reference
from trap2.cli.main import main
from trap2.data.prepared import write_split
from trap2.evaluation.treatments import RELEASED, TREATMENTS
from trap2.models.clip.heads import write_head
from trap2.models.clip.tower import features, load_tower, normalise
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error
from trap2.updates.adapters import ADAPTER_FILES, read_adapter
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import dense, dense_layers
from trap2.updates.stored import load_update

random_files = test_cli.own


@pytest.fixture(scope="module")
def own(random_files: Path) -> Path:
    """Those files, but every adapter is right about all images, so that any change costs."""
    base = random_files / "vit/tower.safetensors"
    tower = load_tower(base, {"architecture": test_cli.ARCHITECTURE}, torch.device("cpu"))
    for task in ("pets", "plants"):
        update = load_update(random_files / "updates" / task, base)
        folder = random_files / "data" / task / "16"
        with AppliedUpdate(tower, dense_layers(update)) as applied, torch.inference_mode():
            applied.set(1.0)
            images = {s: np.load(folder / f"{s}.images.npy") for s in ("val", "test")}
            found = {s: features(tower, normalise(torch.from_numpy(images[s]))) for s in images}
        # Away from the mean of all images, or an untrained tower sees one class everywhere.
        middle = F.normalize(found["test"].mean(0), dim=0)
        away = found["test"][:5] - (found["test"][:5] @ middle)[:, None] * middle
        head = F.normalize(away, dim=1)
        write_head(random_files / f"vit/heads/{task}.safetensors", head, list("abcde"))
        for split, part in found.items():
            write_split(folder, split, images[split], (part @ head.T).argmax(1).numpy())
    return random_files


def run(own: Path, output: Path, *arguments: object, adapter: str = "updates/pets") -> Result:
    words = ["audit", "--base", own / "vit", "--data", own / "data/pets/16", "--output", output]
    return CliRunner().invoke(main, [str(w) for w in [*words, *arguments, own / adapter]])


def audited(own: Path, output: Path, *arguments: object, **adapter: str) -> dict[str, Any]:
    result = run(own, output, *arguments, **adapter)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = files.read_json(output / "audit.json")
    return found


def partner(own: Path) -> tuple[object, ...]:
    return ("--data", own / "data/plants/16", "--with", own / "updates/plants")


def by_check(record: dict[str, Any], check: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in record["lines"] if line["check"] == check}


def _pinned(stage: Any, _options: Any) -> Iterator[Merge]:
    """The wanted update at 1 and the others at 0."""
    found = {k: dense(part) for k, part in stage.updates[stage.protected].items()}
    yield Merge(found, 1.0, {"coefficient": 1.0})


def _left_out(stage: Any, _options: Any) -> Iterator[Merge]:
    yield stage.left_out()[0]


def _failing(_stage: Any, _options: Any) -> Iterator[Merge]:
    raise Trap2Error("it cannot\nbe done | here")
    yield


def _double(stage: Any, _options: Any) -> Iterator[Merge]:
    """Twice the update: half of it is the update again."""
    found = {k: 2 * dense(part) for k, part in stage.updates[stage.protected].items()}
    yield Merge(found)


@pytest.fixture(autouse=True)
def attacks(monkeypatch):
    """Attacks whose outcomes are known, in the place of the catalogue's."""
    monkeypatch.setattr(ATTACKS, "_entries", {})
    for name, function, group in (
        ("pinned", _pinned, "coefficients"),
        ("left-out", _left_out, "coefficients"),
        ("failing", _failing, "coefficients"),
        ("double", _double, "update"),
    ):
        ATTACKS.add(Attack(name=name, paper="here", run=function, group=group))
    ATTACKS.add(Attack(name="seeing", paper="here", run=_failing, group="data", needs="sample"))


def evaluated(own: Path, tmp_path: Path, scale: float, *more: object) -> float:
    """The accuracy that trap2 evaluate gives."""
    output = tmp_path / "scores.json"
    words = ["evaluate", "--base", own / "vit", "--data", own / "data/pets/16"]
    words += ["--update", own / "updates/pets", "--scale", scale, "--output", output, *more]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    found: float = files.read_json(output)["scores"][0]["accuracy"]
    return found


def test_scales_and_shares_are_what_evaluate_gives(own, tmp_path):
    record = audited(own, tmp_path / "out")
    assert record["alone"] == evaluated(own, tmp_path, 1)
    assert record["zero_shot"] == evaluated(own, tmp_path, 0)
    scales = by_check(record, "scale")
    assert set(scales) == {f"s={s:g}" for s in SCALES}
    for name, scale in (("s=0.5", 0.5), ("s=0.9", 0.9), ("s=1.25", 1.25)):
        accuracy = evaluated(own, tmp_path, scale)
        assert scales[name]["accuracy"] == accuracy
        # Alone 100 %, the base model 65 %: half of what the update adds is 82.5 %.
        assert (record["alone"], record["zero_shot"]) == (100, 65)
        verdict = "kept" if accuracy >= 95 else "weakened" if accuracy >= 82.5 else "broken"
        assert scales[name]["verdict"] == verdict
    averaging = by_check(record, "averaging")
    assert averaging["N=4"]["accuracy"] == evaluated(own, tmp_path, 0.25)
    handling = by_check(record, "handling")
    assert set(handling) == set(TREATMENTS) - {RELEASED}
    assert handling["weight-0-90"]["accuracy"] == evaluated(own, tmp_path, 0.9)
    assert {line["verdict"] for line in record["lines"]} <= set(VERDICTS)


def test_the_average_with_a_partner_is_that_of_merge(own, tmp_path):
    record = audited(own, tmp_path / "out", *partner(own), "--attacks", "none")
    words = ["merge", "--base", own / "vit", "--method", "WA", "--output", tmp_path / "merged"]
    for task in ("pets", "plants"):
        words += ["--update", own / "updates" / task]
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    expected = []
    for task in ("pets", "plants"):
        output = tmp_path / f"{task}.json"
        words = ["evaluate", "--base", own / "vit", "--data", own / "data" / task / "16"]
        words += ["--update", tmp_path / "merged", "--output", output]
        assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
        expected.append(files.read_json(output)["scores"][0]["accuracy"])
    line = by_check(record, "averaging")["N=2"]
    assert [line["accuracy"], line["others"]] == expected
    assert line["title"] == "average with plants"


def test_attacks_have_verdicts_or_reasons(own, tmp_path):
    record = audited(own, tmp_path / "out", *partner(own))
    lines = by_check(record, "attack")
    assert list(lines) == list(ATTACKS)
    assert lines["pinned"]["accuracy"] == record["alone"]
    # Neither does both, so neither acquires it.
    assert lines["pinned"]["verdict"] == "destroyed"
    assert lines["left-out"]["verdict"] == "excluded"
    # Without the update the others are all there: that is what 100 % kept means.
    assert "100 % kept" in lines["left-out"]["text"]
    assert lines["failing"]["verdict"] == lines["seeing"]["verdict"] == "not tried"
    assert "training images" in lines["seeing"]["text"]
    page = (tmp_path / "out/audit.md").read_text("utf-8")
    assert "- failing (failing): it cannot be done \\| here." in page
    assert "- seeing (seeing): it sees training images" in page
    assert record["reference"]["pets"] == record["alone"]


def test_who_is_better_off_has_acquired_it_where_no_unprotected_merge_is_known():
    zero_shot, reference = {"a": 20.0, "b": 30.0}, {"a": 90.0, "b": 80.0}
    # Half of the way is 55 %, and 95 % of the other's is 76 %.
    for accuracies, blind, strict in (
        ({"a": 60.0, "b": 70.0}, "acquired", "destroyed"),
        ({"a": 60.0, "b": 50.0}, "destroyed", "destroyed"),
        ({"a": 90.0, "b": 50.0}, "destroyed", "destroyed"),
        ({"a": 54.0, "b": 79.0}, "excluded", "excluded"),
        ({"a": 56.0, "b": 77.0}, "acquired", "acquired"),
    ):
        found = measure(accuracies, reference, zero_shot, "a")
        assert Reference(reference, without=60.0, halfway=55.0).verdict(found) == blind
        assert Reference(reference).verdict(found) == strict


def test_an_attack_on_the_update_needs_no_partner(own, tmp_path):
    record = audited(own, tmp_path / "out", "--attacks", "double,pinned")
    lines = by_check(record, "attack")
    assert lines["double"]["accuracy"] == record["alone"]
    assert lines["double"]["verdict"] == "acquired"
    assert lines["pinned"]["verdict"] == "not tried"
    assert "--with" in lines["pinned"]["text"]
    assert "--attacks left-out runs it" in lines["left-out"]["text"]


def test_the_reference_is_the_unprotected_merge_where_there_is_one(own, tmp_path):
    options = (*partner(own), "--unprotected", own / "updates/pets", "--attacks", "pinned")
    record = audited(own, tmp_path / "out", *options)
    assert record["unprotected"] is True
    assert len(record["updates"]) == 3
    page = (tmp_path / "out/audit.md").read_text("utf-8")
    assert "shares of the merge of the unprotected updates" in page


def test_a_whole_checkpoint_can_be_audited(own, tmp_path):
    shutil.copytree(own / "updates/whole", tmp_path / "own/whole")
    record = audited(own, tmp_path / "out", adapter=str(tmp_path / "own/whole"))
    handling = by_check(record, "handling")
    assert handling["base-int8"]["verdict"] == "not tried"
    assert handling["merged-int8"]["accuracy"] is not None
    assert record["adapter"] == "own/whole"


def test_the_same_audit_has_the_same_bytes(own, tmp_path):
    for name in ("one", "two"):
        audited(own, tmp_path / name, *partner(own))
    for name in ("audit.md", "audit.png", "audit.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def damaged(own: Path, folder: Path, change: str) -> Path:
    """The adapter of pets with something wrong."""
    shutil.copytree(own / "updates/pets", folder)
    if change == "nan":
        tensors = files.read_tensors(folder / ADAPTER_FILES[0])
        tensors[next(iter(tensors))][0, 0] = float("nan")
        files.write_tensors(folder / ADAPTER_FILES[0], tensors, {"format": "pt"})
    elif change == "kind":
        config = files.read_json(folder / ADAPTER_FILES[1])
        files.write_json(folder / ADAPTER_FILES[1], config | {"peft_type": "IA3"})
    elif change == "cut":
        path = folder / ADAPTER_FILES[0]
        path.write_bytes(path.read_bytes()[:100])
    else:
        assert change == "shape"
        tensors = {
            k: torch.cat([v, v]) for k, v in files.read_tensors(folder / ADAPTER_FILES[0]).items()
        }
        files.write_tensors(folder / ADAPTER_FILES[0], tensors, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", "NaN"),
        ("kind", "'peft_type' is 'IA3'"),
        ("cut", "safetensors"),
        ("shape", "are no (d_out, r)"),
    ],
)
def test_a_hostile_adapter_is_refused_in_one_line(own, tmp_path, change, message):
    folder = damaged(own, tmp_path / "bad", change)
    result = run(own, tmp_path / "out", adapter=str(folder))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert message in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--with updates/plants", "--data: 1 given, 2 needed"),
        ("--data data/pets/16 --with updates/pets", "must be of a task of its own"),
        ("--data data/plants/16 --with updates/pets", "is an update of pets, and its --data is of"),
        ("--attacks pined", "unknown attack 'pined'; known: pinned, left-out"),
        ("--attacks none,pinned", "unknown attack 'none'"),
        ("--unprotected data", "data: no update"),
    ],
)
def test_a_mistake_is_said_in_one_line(own, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(own)
    result = run(own, tmp_path / "out", *arguments.split())
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_an_audit_is_not_replaced(own, tmp_path):
    audited(own, tmp_path / "out", "--attacks", "none")
    result = run(own, tmp_path / "out", "--attacks", "none")
    assert "holds an audit already" in result.output


def test_the_adapter_is_read_as_peft_writes_it(own):
    """The fixture's adapters do something, or every agreement above would be of zeros."""
    factors = read_adapter(own / "updates/pets")
    assert all(float((b @ a).abs().max()) > 0.01 for b, a in factors.values())
