"""The command line on tiny files: every step's result, and every mistake in one line."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from trap2.cli.main import main
from trap2.data.prepared import write_split
from trap2.models.clip.build import build_clip
from trap2.models.clip.heads import write_head
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import lora_targets
from trap2.protection.catalogue import PROTECTIONS, Protection
from trap2.protection.trap2 import Trap2
from trap2.runtime import files
from trap2.runtime.catalogue import Option
from trap2.runtime.errors import Trap2Error
from trap2.training.finetune import finetune
from trap2.updates.adapters import ADAPTER_FILES
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import BASE_KEY, base_sha256, check_base, load_update
from trap2.updates.trainable import FullUpdate

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
}
SHORT = ("--steps", "4", "--batch-size", "8", "--warmup-steps", "1", "--evaluate-every", "2")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """One's own files: a base model, two tasks, two adapters and a whole checkpoint."""
    root = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    tower = vision_tower(build_clip(ARCHITECTURE))
    files.write_tensors(root / "vit/tower.safetensors", tower.state_dict())
    files.write_json(root / "vit/base.json", {"architecture": ARCHITECTURE})
    for task in ("pets", "plants"):
        head = torch.nn.functional.normalize(torch.randn(5, 12), dim=1)
        write_head(root / f"vit/heads/{task}.safetensors", head, list("abcde"))
        for split in ("train", "val", "test"):
            images = generator.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
            write_split(root / "data" / task / "16", split, images, generator.integers(0, 5, 40))
        adapter = LoraUpdate(
            vision_tower(build_clip(ARCHITECTURE, None)),
            lora_targets(tower),
            AdapterSettings(rank=3, alpha=6),
            seed=0,
        )
        for parameter in adapter.parameters():
            parameter.data.normal_(0, 0.1)
        adapter.save(root / "updates" / task)
        digest = base_sha256(root / "vit/tower.safetensors")
        record = {"task": task, "val": {"accuracy": 25.0}, BASE_KEY: digest}
        files.write_json(root / "updates" / task / "update.json", record)
    moved = vision_tower(build_clip(ARCHITECTURE))
    moved.load_state_dict(tower.state_dict())
    whole = FullUpdate(moved)
    for parameter in whole.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    whole.save(root / "updates/whole")
    files.write_json(root / "updates/whole/update.json", {"task": "pets", "val": {}})
    return root


def run(own: Path, *arguments: object) -> Result:
    command, *rest = map(str, arguments)
    return CliRunner().invoke(main, [command, "--base", str(own / "vit"), *rest])


def succeed(own: Path, *arguments: object) -> str:
    result = run(own, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_training_writes_the_bytes_of_the_workflows_job(own, tmp_path):
    data = own / "data/pets/16"
    options = ("--lambda", "0.05", "--s-max", "1.5", "--rank", "2", "--dropout", "0", "--seed", "3")
    succeed(own, "train", "--data", data, "--output", tmp_path / "mine", *SHORT, *options)
    finetune(
        model=str(own / "vit/tower.safetensors"),
        head=str(own / "vit/heads/pets.safetensors"),
        data=[str(path) for path in sorted(data.iterdir())],
        folder=tmp_path / "job",
        key=UpdateKey("s", "vit", "lora", "pets", "trap2"),
        backbone={"architecture": ARCHITECTURE},
        training={
            "optimisation": {"steps": 4, "batch_size": 8, "warmup_steps": 1, "evaluate_every": 2},
            "adapter": {"rank": 2, "dropout": 0.0},
        },
        objective=Trap2(0.05, s_max=1.5),
        logit_scale=100.0,
        seed=3,
        device=torch.device("cpu"),
        log=lambda _line: None,
    )
    for name in ADAPTER_FILES:
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "job" / name).read_bytes()
    record = files.read_json(tmp_path / "mine/update.json")
    assert record["protection"] == "trap2"
    assert record["objective"]["s_max"] == 1.5
    assert record["task"] == "pets"


class _Strong(Trap2):
    """A trained protection of a plugin: TRAP² with twice the λ, and an option."""

    def __init__(self, lambda_: float, options: Mapping[str, float]) -> None:
        super().__init__(2 * lambda_, s_max=options["reach"])


def test_training_against_partners(own, tmp_path):
    data, mixed = own / "data/pets/16", ("--lambda", "0.1", "--protection", "trap2-mixed")
    succeed(own, "train", "--data", data, "--output", tmp_path / "plain", *SHORT)
    asks = ("train", "--data", data, *SHORT, *mixed, "--protection-option", "other=task")
    partner = ("--partner", tmp_path / "plain")
    succeed(own, *asks, "--output", tmp_path / "mixed", *partner)
    record = files.read_json(tmp_path / "mixed/update.json")
    assert record["protection"] == record["objective"]["name"] == "trap2-mixed"
    assert record["objective"]["other"] == "task"
    assert len(record["objective"]["partners_sha256"]) == 64
    without = run(own, *asks, "--output", tmp_path / "x")
    assert "--partner: trap2-mixed with these options needs at least one" in " ".join(
        without.output.split()
    )
    unasked = run(own, "train", "--data", data, *SHORT, *mixed, *partner, "--output", tmp_path)
    assert "is not trained against other updates" in " ".join(unasked.output.split())


def test_training_with_another_protection(own, tmp_path, monkeypatch):
    monkeypatch.setattr(PROTECTIONS, "_entries", dict(PROTECTIONS._entries))
    reach = Option(2.0, "largest scale", low=1, high=9)
    PROTECTIONS.add(
        Protection(name="strong", paper="here", objective=_Strong, options={"reach": reach})
    )
    data = own / "data/pets/16"
    for name, options in {
        "strong": ("--lambda", 0.1, "--protection", "strong", "--protection-option", "reach=1.5"),
        "trap2": ("--lambda", 0.2, "--s-max", 1.5),
    }.items():
        succeed(own, "train", "--data", data, "--output", tmp_path / name, *SHORT, *options)
        record = files.read_json(tmp_path / name / "update.json")
        assert record["protection"] == name
        assert record["objective"]["lambda"] == 0.2
        assert record["objective"]["s_max"] == 1.5
    refused = run(
        own,
        "train",
        "--data",
        data,
        "--output",
        tmp_path / "x",
        *options[:2],
        "--protection",
        "strong",
        "--protection-option",
        "reach=99",
    )
    assert refused.exit_code == 1
    assert "reach = 99.0: must be a number in (1, 9]" in refused.output
    one, other = (tmp_path / n / "adapter_model.safetensors" for n in ("strong", "trap2"))
    assert files.tensors_sha256(one) == files.tensors_sha256(other)


def test_a_trained_checkpoint_scores_as_recorded(own, tmp_path):
    data, folder = own / "data/plants/16", tmp_path / "whole"
    succeed(own, "train", "--data", data, "--output", folder, "--release-format", "full", *SHORT)
    record = files.read_json(folder / "update.json")
    assert record["protection"] == "unprotected"
    output = tmp_path / "scores.json"
    succeed(own, "evaluate", "--data", data, "--update", folder, "--output", output)
    scores = files.read_json(output)["scores"]
    assert scores[0]["correct"] == record["test"]["correct"]
    assert scores[0]["loss"] == pytest.approx(record["test"]["loss"], rel=1e-4)


def test_scale_zero_is_the_base_model(own):
    data = own / "data/pets/16"
    zero_shot = succeed(own, "evaluate", "--data", data, "--split", "val")
    scaled = succeed(
        own, "evaluate", "--data", data, "--split", "val", "--update", own / "updates/pets",
        "--scale", 0, "--scale", 1,
    )  # fmt: skip
    first, second = scaled.splitlines()
    assert zero_shot.strip() == first.replace("s = 0", "zero-shot")
    assert first.split("accuracy")[1] != second.split("accuracy")[1]


@pytest.mark.parametrize(("update", "defense"), [("pets", "params-refit"), ("whole", "mergelock")])
def test_protecting(own, tmp_path, update, defense):
    data, source = own / "data/pets/16", own / "updates" / update
    arguments = ("--data", data, "--update", source, "--defense", defense)
    succeed(own, "protect", *arguments, "--output", tmp_path / "out")
    assert files.read_json(tmp_path / "out/update.json")["protection"] == defense
    protected = load_update(tmp_path / "out", own / "vit/tower.safetensors")
    before = load_update(source, own / "vit/tower.safetensors")
    assert set(protected) >= set(before)


def test_a_merge_is_the_sum_of_the_updates(own, tmp_path):
    base = files.read_tensors(own / "vit/tower.safetensors")
    folders = [own / "updates" / name for name in ("pets", "plants", "whole")]
    arguments = [part for folder in folders for part in ("--update", folder)]
    options = ("--method", "TA", "--coefficient", 0.5, "--output", tmp_path / "merged")
    succeed(own, "merge", *arguments, *options)
    layer = "transformer.resblocks.1.attn.k_proj.weight"
    expected = base[layer].double()
    for name in ("pets", "plants"):
        tensors = files.read_tensors(own / "updates" / name / ADAPTER_FILES[0])
        stem = f"base_model.model.{layer.removesuffix('.weight')}"
        product = (
            tensors[f"{stem}.lora_B.weight"].double() @ tensors[f"{stem}.lora_A.weight"].double()
        )
        expected += 0.5 * 2.0 * product  # α / r = 2
    whole = files.read_tensors(own / "updates/whole/model.safetensors")[layer].double()
    expected += 0.5 * (whole - base[layer])
    merged = files.read_tensors(tmp_path / "merged/model.safetensors")
    torch.testing.assert_close(merged[layer].double(), expected, rtol=0, atol=1e-6)
    assert files.read_json(tmp_path / "merged/merge.json")["coefficient"] == 0.5


def test_a_merge_in_a_space_can_be_scored(own, tmp_path):
    updates = ("--update", own / "updates/pets", "--update", own / "updates/plants")
    how = (
        "--method",
        "TIES",
        "--space",
        "KnOTS",
        "--option",
        "keep=50",
        "--option",
        "variant=peft",
    )
    succeed(own, "merge", *updates, *how, "--output", tmp_path / "merged")
    record = files.read_json(tmp_path / "merged/merge.json")
    assert record["options"] == {"keep": 50.0, "variant": "peft"}
    said = succeed(own, "evaluate", "--data", own / "data/pets/16", "--update", tmp_path / "merged")
    assert "pets, test, s = 1: accuracy" in said


def test_a_search_finds_what_an_evaluation_of_its_merge_gives(own, tmp_path):
    arguments = [
        *("--data", own / "data/pets/16", "--data", own / "data/plants/16"),
        *("--update", own / "updates/pets", "--update", own / "updates/plants"),
        *("--method", "TSV", "--space", "Core", "--maximum", 0.6, "--patience", 2),
    ]
    succeed(own, "search", *arguments, "--output", tmp_path / "sweep.json")
    sweep = files.read_json(tmp_path / "sweep.json")
    best = max(sweep["trace"], key=lambda point: (point["value"], -point["s"]))
    assert sweep["coefficient"] == best["s"]
    mean = sum(100 * score["accuracy"] / 25.0 for score in sweep["val"].values()) / 2
    assert sweep["normalised_val_accuracy"] == pytest.approx(mean)
    merged = tmp_path / "merged"
    succeed(
        own, "merge", *arguments[4:8], "--method", "TSV", "--space", "Core",
        "--coefficient", sweep["coefficient"], "--output", merged,
    )  # fmt: skip
    for task in ("pets", "plants"):
        output = tmp_path / f"{task}.json"
        data = own / "data" / task / "16"
        succeed(own, "evaluate", "--data", data, "--update", merged, "--output", output)
        score = files.read_json(output)["scores"][0]
        assert score["correct"] == sweep["test"][task]["correct"]


PETS = "--data data/pets/16"
PROTECT = f"protect {PETS} --update updates/pets"
MERGE = "merge --output new --update"
TRAIN = f"train {PETS} --output new"
SEARCH = f"search {PETS} --update updates/pets --method TA --output new"
HEADS = {
    "dogs": torch.full((5, 12), float("nan")),
    "cats": torch.ones(5, 12, dtype=torch.int64),
    "birds": torch.ones(5, 12),
    "fish": torch.ones(5, 13),
}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate --data data/pets", "no prepared task; it lacks test.images.npy. Give a folder"),
        ("evaluate --data data/nosuch", "Directory 'data/nosuch' does not exist"),
        ("evaluate --data other/cars/16", "cars.safetensors: no such file. The task is named"),
        ("evaluate --data other/pets/24", "24 pixels wide; vit takes 16"),
        (
            f"evaluate {PETS} --update data",
            "data: no update; expected adapter_model.safetensors with",
        ),
        (f"evaluate {PETS} --scale 2", "--scale: only with --update"),
        (f"evaluate {PETS} --device cuda", "no GPU is visible to PyTorch here; use auto or cpu"),
        (f"{MERGE} updates/pets --method TIS", "unknown merging method 'TIS'; known: WA, TA, TIES"),
        (
            f"{MERGE} updates/pets --method TIES --option keep=200 --option kep=3",
            "keep = 200.0: must be a number in (0, 100]; kep: TIES has no such option",
        ),
        (f"{MERGE} updates/pets --method TIES --option keep", "'keep' is not of the form NAME=VAL"),
        (f"{MERGE} updates/pets --method TA --space Half", "unknown merge space 'Half'"),
        (
            f"{MERGE} updates/whole --method TIES --space Core",
            "it merges in the Full space only, not in Core",
        ),
        (f"{MERGE} data --method TA", "data: no update"),
        (f"{MERGE} updates/pets --method TA --coefficient nan", "nan is not a finite number"),
        (f"{MERGE} updates/pets --method TA --coefficient 1e30", "1e+30 is not in the range"),
        (f"evaluate {PETS} --update updates/pets --scale nan", "nan is not a finite number"),
        (f"evaluate {PETS} --update updates/pets --scale inf", "inf is not in the range"),
        (f"{SEARCH} --maximum 1e6", "more than 100000 values"),
        (f"{SEARCH} --reference updates/failed", "'val.accuracy' is 0; normalised accuracy"),
        (f"{SEARCH} --reference updates/strange", "'val' a mapping"),
        (f"{MERGE} updates/others --method TA", "the update was made on another base"),
        (f"evaluate {PETS} --update updates/others", "the update was made on another base"),
        (f"protect {PETS} --update updates/others --defense params-refit --output new", "another"),
        ("evaluate --data other/dogs/16", "the head is torch.float32, or holds NaN or infinity"),
        ("evaluate --data other/cats/16", "the head is torch.int64"),
        ("evaluate --data other/birds/16", "a head of 5 classes and 1 images with labels [7]"),
        ("evaluate --data other/fish/16", "the head takes 13 features, the model gives 12"),
        (f"{PROTECT} --defense params --output new", "PaRaMS (params) transforms whole checkpoint"),
        (f"{PROTECT} --defense params-refit --output updates/pets", "holds an update already"),
        (
            f"protect {PETS} --update updates/plants --defense params-refit --output new",
            "updates/plants is an update of plants, and --data is pets",
        ),
        (
            f"protect {PETS} --update updates/guarded --defense params-refit --output new",
            "updates/guarded is protected already (trap2); give the unprotected update",
        ),
        (f"{TRAIN} --lambda -1", "'--lambda': -1.0 is not in the range 0<=x<=100"),
        (f"{TRAIN} --s-max 3", "--s-max: only with --lambda"),
        (f"{TRAIN} --release-format full --rank 3", "--rank: a whole checkpoint has no adapter"),
        (
            f"search {PETS} --data data/plants/16 --update updates/pets --method TA --output new",
            "no reference accuracy for plants",
        ),
    ],
)
def test_a_mistake_is_said_in_one_line(own, monkeypatch, command, message):
    monkeypatch.chdir(own)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for task, size in (("cars", 16), ("pets", 24)):
        images = np.zeros((1, 3, size, size), dtype=np.uint8)
        write_split(own / f"other/{task}/{size}", "test", images, np.zeros(1, dtype=np.int64))
    for task, head in HEADS.items():
        write_head(own / f"vit/heads/{task}.safetensors", head, ["x"])
        label = np.full(1, 7 if task == "birds" else 0, dtype=np.int64)
        images = np.zeros((1, 3, 16, 16), dtype=np.uint8)
        write_split(own / f"other/{task}/16", "test", images, label)
    record = {"task": "pets", "protection": "trap2", "val": {}}
    files.write_json(own / "updates/guarded/update.json", record)
    files.write_json(own / "updates/failed/update.json", record | {"val": {"accuracy": 0}})
    files.write_json(own / "updates/strange/update.json", record | {"val": []})
    others = {"task": "pets", "val": {"accuracy": 25.0}, BASE_KEY: "0" * 64}
    shutil.copytree(own / "updates/pets", own / "updates/others", dirs_exist_ok=True)
    files.write_json(own / "updates/others/update.json", others)
    result = run(own, *command.split())
    assert result.exit_code != 0
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert len([line for line in result.output.splitlines() if "Error" in line]) == 1
    assert not (own / "new").exists()


def test_where_the_base_of_an_update_is_not_known_it_is_said(own, tmp_path):
    shutil.copytree(own / "updates/pets", tmp_path / "pets")
    (tmp_path / "pets/update.json").unlink()
    evaluated = run(own, "evaluate", "--data", own / "data/pets/16", "--update", tmp_path / "pets")
    said = f"note: {tmp_path / 'pets'} does not say which base it was made on"
    assert said in evaluated.stderr
    merge = ("merge", "--update", tmp_path / "pets", "--method", "TA", "--output", tmp_path / "new")
    assert said in run(own, *merge).stderr
    assert check_base(tmp_path / "new", own / "vit/tower.safetensors")


def test_a_fault_of_the_program_keeps_its_trace(own, monkeypatch):
    def fault(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr("trap2.models.clip.classifier.read_head", fault)
    result = run(own, "evaluate", "--data", own / "data/pets/16")
    assert isinstance(result.exception, ValueError)
    assert not isinstance(result.exception, Trap2Error)


@pytest.mark.parametrize("command", ["train", "protect", "merge", "evaluate", "search", "audit"])
def test_every_command_has_an_example_that_can_be_parsed(command, own, monkeypatch, tmp_path):
    text = CliRunner().invoke(main, [command, "--help"]).output
    example = text.split("Example", 1)[1].split(f"trap2 {command} ", 1)[1].split("\n\n")[0]
    words = example.replace("\\\n", " ").split()
    # Nothing is there, so parsing stops at the first folder and at no unknown option.
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [command, *words])
    assert "Directory 'results/demo/ViT-demo' does not exist" in result.output


def test_the_page_makes_files_that_the_commands_take(own, monkeypatch, tmp_path):
    page = (SCRIPTS.parents[1] / "docs" / "command-line.md").read_text("utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    files.write_tensors(tmp_path / "clip.safetensors", build_clip(ARCHITECTURE).state_dict())
    code = code.replace('"ViT-B-32-quickgelu"', repr(ARCHITECTURE)).replace("/224", "/16")
    code = code.replace('"openai"', repr(str(tmp_path / "clip.safetensors")))
    images = dict.fromkeys(("train", "val", "test"), np.zeros((4, 3, 16, 16), dtype=np.uint8))
    labels = dict.fromkeys(images, np.array([0, 1, 0, 1]))
    monkeypatch.chdir(tmp_path)
    exec(code, {"images": images, "labels": labels})
    options = ["--base", "mine/vit", "--data", "mine/data/pets/16"]
    result = CliRunner().invoke(main, ["evaluate", *options])
    assert "pets, test, zero-shot: accuracy 50.00 %" in result.output
