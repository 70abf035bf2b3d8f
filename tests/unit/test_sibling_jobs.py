"""The jobs of the sibling papers' protections: where training starts, what is done at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from trap2.cli.main import main
from trap2.data.prepared import write_split
from trap2.models.clip.build import build_clip
from trap2.models.clip.classifier import open_classifier
from trap2.models.clip.heads import write_head
from trap2.models.clip.tower import load_tower, vision_tower
from trap2.models.layers import lora_targets
from trap2.protection.applied import transform_after
from trap2.protection.catalogue import NotApplicable, not_applicable, objective_of, strength_of
from trap2.protection.protect import protect
from trap2.runtime import files
from trap2.runtime.catalogue import CatalogueError
from trap2.runtime.errors import Trap2Error
from trap2.runtime.schema import ConfigurationError
from trap2.suites.files import Files
from trap2.suites.load import load_suite
from trap2.suites.suite import lambdas_of, protections_of
from trap2.training.finetune import finetune
from trap2.updates.delta import LowRank, UpdateError
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings
from trap2.updates.stored import BASE_KEY, base_sha256, load_update
from trap2.updates.trainable import FullUpdate

SUITES = Path(__file__).parents[2] / "config" / "suites"
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
}
CPU = torch.device("cpu")
# Steps that do not move a weight by more than rounding: what is left is start and transform.
STILL = {"steps": 2, "batch_size": 8, "warmup_steps": 0, "evaluate_every": 2} | {
    "learning_rate": 1e-12
}
SHORT = {"steps": 6, "batch_size": 8, "warmup_steps": 1, "evaluate_every": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random tower, a head, a task, and an unprotected update of either release format."""
    root = tmp_path_factory.mktemp("siblings")
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    tower = vision_tower(build_clip(ARCHITECTURE))
    files.write_tensors(root / "vit/tower.safetensors", tower.state_dict())
    files.write_json(root / "vit/base.json", {"architecture": ARCHITECTURE})
    head = torch.nn.functional.normalize(torch.randn(5, 12), dim=1)
    write_head(root / "vit/heads/pets.safetensors", head, list("abcde"))
    for split in ("train", "val", "test"):
        images = generator.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
        write_split(root / "data/pets/16", split, images, generator.integers(0, 5, 40))
    digest = base_sha256(root / "vit/tower.safetensors")
    adapter = LoraUpdate(tower, lora_targets(tower), AdapterSettings(rank=3, alpha=6), seed=0)
    for parameter in adapter.parameters():
        parameter.data.normal_(0, 0.1)
    adapter.save(root / "lora/unprotected")
    moved = load_tower(str(root / "vit/tower.safetensors"), {"architecture": ARCHITECTURE}, CPU)
    whole = FullUpdate(moved)
    for parameter in whole.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    whole.save(root / "full/unprotected")
    for release_format in ("lora", "full"):
        record = {"task": "pets", "val": {"accuracy": 20.0}, BASE_KEY: digest}
        files.write_json(root / release_format / "unprotected/update.json", record)
    return root


def common(root: Path) -> dict[str, Any]:
    return {
        "model": str(root / "vit/tower.safetensors"),
        "head": str(root / "vit/heads/pets.safetensors"),
        "data": [str(path) for path in sorted((root / "data/pets/16").iterdir())],
        "backbone": {"architecture": ARCHITECTURE},
        "logit_scale": 100.0,
        "seed": 7,
        "device": CPU,
        "log": lambda _line: None,
    }


def train(
    root: Path,
    folder: Path,
    name: str,
    release_format: str = "full",
    optimisation: dict[str, Any] = STILL,
    start: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Train a protection; returns the record."""
    strength = strength_of(name, options)
    assert strength is not None
    adapter = {"adapter": {"rank": 3, "alpha": 6}} if release_format == "lora" else {}
    key = UpdateKey("s", "vit", release_format, "pets", name)
    finetune(
        **common(root),
        folder=folder,
        key=key,
        training={"optimisation": optimisation, **adapter},
        objective=objective_of(name, strength, options),
        finish=transform_after(key, options, seed=7),
        start=root / release_format / "unprotected" if start else None,
    )
    return files.read_json(folder / "update.json")


def transform(root: Path, folder: Path, name: str, **options: Any) -> dict[str, Any]:
    """Protect the whole checkpoint post hoc; returns the record."""
    protect(
        **common(root),
        batch_size=16,
        source=root / "full/unprotected",
        folder=folder,
        key=UpdateKey("s", "vit", "full", "pets", name),
        options=options,
    )
    return files.read_json(folder / "update.json")


def read(path: Path) -> dict[str, torch.Tensor]:
    return files.read_tensors(path / "model.safetensors")


def worth(root: Path, zero: bool = False) -> dict[str, float]:
    """The accuracy drop of every tensor, measured on a tower of its own weight by weight."""
    given = common(root)
    task = open_classifier(
        given["head"], given["data"], "pets", ("val",), logit_scale=100, batch_size=40, device=CPU
    )
    base, tuned = files.read_tensors(given["model"]), read(root / "full/unprotected")
    tower = load_tower(given["model"], given["backbone"], CPU)

    def accuracy(weights: dict[str, torch.Tensor]) -> float:
        tower.load_state_dict(weights)
        return task.score(tower, "val").accuracy

    whole = accuracy(tuned)
    return {
        name: whole - accuracy({**tuned, name: base[name] * (0 if zero else 1)}) for name in tuned
    }


# MergeGuard.


@pytest.mark.parametrize("masking", ["base", "zero"])
@pytest.mark.parametrize("trained", [True, False])
def test_stage_two_prunes_the_update_that_it_gets(root, tmp_path, masking, trained):
    """After a stage 1 that stands still, and alone: the same weights to rounding."""
    if trained:
        record = train(root, tmp_path, "mergeguard", masking=masking)
        found = record["transformed"]
        assert record["objective"] == {"name": "mergeguard-stage1", "lambda": 0.01}
        assert found["options"]["masking"] == masking
    else:
        record = transform(root, tmp_path, "mergeguard-stage2", masking=masking)
        found = record["found"]
        assert record["parameters"]["masking"] == masking
        assert record["parameters"]["beta"] == 1.0
    base, tuned = (
        files.read_tensors(root / "vit/tower.safetensors"),
        read(root / "full/unprotected"),
    )
    drops = worth(root, masking == "zero")
    count = math.ceil(0.1 * len(drops) - 1e-9)
    critical = sorted(drops, key=lambda name: (-drops[name], name))[:count]
    assert found["critical"] == sorted(critical)
    rest = [name for name in tuned if name not in critical]
    n = sum(tuned[name].numel() for name in rest)
    assert found["masked"] == math.floor(0.1 * n + 1e-9)
    assert found["entries"] == sum(weight.numel() for weight in tuned.values())
    released = read(tmp_path)
    magnitudes = np.concatenate([(tuned[k] - base[k]).abs().flatten().numpy() for k in rest])
    threshold = float(np.sort(magnitudes)[-found["masked"]])
    for name in tuned:
        mask = (tuned[name] - base[name]).abs() > threshold + 1e-7
        kept = (tuned[name] - base[name]).abs() < threshold - 1e-7
        if name in critical:
            mask, kept = torch.zeros_like(mask), torch.ones_like(kept)
        assert torch.equal(released[name][mask], base[name][mask])
        torch.testing.assert_close(released[name][kept], tuned[name][kept], rtol=0, atol=1e-9)
    assert record["val"]["accuracy"] == scored(root, released)


def scored(root: Path, weights: dict[str, torch.Tensor]) -> float:
    given = common(root)
    task = open_classifier(
        given["head"], given["data"], "pets", ("val",), logit_scale=100, batch_size=40, device=CPU
    )
    tower = load_tower(given["model"], given["backbone"], CPU)
    tower.load_state_dict(weights)
    return task.score(tower, "val").accuracy


@pytest.mark.parametrize("release_format", ["lora", "full"])
def test_stage_one_shrinks_what_it_starts_from(root, tmp_path, release_format):
    def norm(folder: Path) -> float:
        path = next(folder.glob("*model.safetensors"))
        return float(sum(t.square().sum() for t in files.read_tensors(path).values()))

    optimisation = SHORT | {"learning_rate": 1e-3}
    before = norm(root / release_format / "unprotected")
    found = {}
    for alpha in (0.0, 100.0):
        folder = tmp_path / str(alpha)
        record = train(root, folder, "mergeguard-stage1", release_format, optimisation, alpha=alpha)
        assert record["objective"]["lambda"] == alpha
        assert "transformed" not in record
        assert len(record["start_sha256"]) == 64
        found[alpha] = norm(folder)
    assert found[100.0] < 0.99 * before
    assert found[100.0] < found[0.0]


def test_an_adapter_is_refitted_to_its_rank(root, tmp_path):
    record = train(root, tmp_path, "mergeguard-refit", "lora", share=0.5)
    plain, released = (
        load_update(folder, root / "vit/tower.safetensors")
        for folder in (root / "lora/unprotected", tmp_path)
    )
    found = record["transformed"]
    assert len(found["critical"]) == math.ceil(len(plain) / 10)
    assert 0 < found["lost"] < 1
    magnitudes = torch.cat(
        [plain[k].dense().abs().flatten() for k in plain if k not in found["critical"]]
    )
    assert found["masked"] == len(magnitudes) // 2
    threshold = magnitudes.sort().values[-found["masked"]]
    for name, delta in plain.items():
        now = released[name]
        assert isinstance(now, LowRank)
        assert now.rank == 3
        left = delta.dense()
        if name not in found["critical"]:
            left = torch.where(left.abs() >= threshold, 0, left)
        u, s, vt = torch.linalg.svd(left)
        expected = u[:, :3] @ torch.diag(s[:3]) @ vt[:3]
        torch.testing.assert_close(now.dense(), expected, rtol=1e-3, atol=1e-4)


def test_training_starts_only_from_an_update_that_fits(root, tmp_path):
    given = common(root) | {
        "folder": tmp_path,
        "key": UpdateKey("s", "vit", "lora", "pets", "mergeguard-stage1"),
        "objective": objective_of("mergeguard-stage1", 0.01, {}),
        "start": root / "lora/unprotected",
    }
    with pytest.raises(UpdateError, match="its tensors have other names or shapes"):
        finetune(**given, training={"optimisation": SHORT, "adapter": {"rank": 2}})


def test_a_dora_adapter_is_refused_before_it_is_trained(root, tmp_path):
    key = UpdateKey("s", "vit", "lora", "pets", "mergeguard-refit")
    with pytest.raises(Trap2Error, match="a DoRA adapter cannot be transformed"):
        finetune(
            **common(root),
            folder=tmp_path,
            key=key,
            training={"optimisation": SHORT, "adapter": {"rank": 3, "dora": True}},
            objective=objective_of("mergeguard-refit", 0.01, {}),
            finish=transform_after(key, {}, 7),
        )
    assert not list(tmp_path.iterdir())


def test_a_cut_off_training_resumes_only_from_its_own_start(root, tmp_path):
    """The checkpoint of a run that started elsewhere is left."""
    from trap2.models.clip.classifier import open_classifier
    from trap2.training.settings import Optimisation
    from trap2.training.trainer import Trainer

    given = common(root)
    task = open_classifier(
        given["head"],
        given["data"],
        "pets",
        ("train", "val"),
        logit_scale=100,
        batch_size=40,
        device=CPU,
    )

    def trainer(start: str | None, lines: list[str]) -> Trainer:
        update = FullUpdate(load_tower(given["model"], given["backbone"], CPU))
        settings = Optimisation(**SHORT)
        return Trainer(update, task, settings, None, seed=0, run="r", log=lines.append, start=start)

    first: list[str] = []
    trainer("a", first).fit(tmp_path / "resume.safetensors", every_seconds=0)
    for start, said in (("a", "resuming from step 6"), ("b", "starting afresh"), (None, "afresh")):
        lines: list[str] = []
        trainer(start, lines)._resume(tmp_path / "resume.safetensors")
        assert any(said in line for line in lines), start


# ARF and MergeBarrier.


def test_arf_repels_and_then_transforms(root, tmp_path):
    optimisation = SHORT | {"learning_rate": 1e-3}
    base = files.read_tensors(root / "vit/tower.safetensors")
    weights, records = {}, {}
    for name, options in {
        "none": {"transform": "none", "lambda_dist": 0.0},
        "far": {"transform": "none", "lambda_dist": 1000.0},
        "mergelock": {"lambda_dist": 1000.0},
    }.items():
        folder = tmp_path / name
        records[name] = train(
            root, folder, "arf", optimisation=optimisation, start=False, **options
        )
        weights[name] = read(folder)
    layer = "transformer.resblocks.1.attn.q_proj.weight"

    def distance(name: str) -> float:
        return float((weights[name][layer] - base[layer]).norm())

    assert distance("far") > 1.02 * distance("none")
    assert distance("mergelock") > 5 * distance("far")
    mlp = "transformer.resblocks.1.mlp.c_fc.weight"
    assert torch.equal(weights["far"][mlp], weights["mergelock"][mlp])
    assert records["far"]["val"]["loss"] == pytest.approx(
        records["mergelock"]["val"]["loss"], rel=1e-3
    )
    assert records["mergelock"]["objective"] == {"name": "arf", "lambda": 1000.0, "rho": 0.05}
    assert records["mergelock"]["transformed"]["options"]["transform"] == "mergelock"


@pytest.mark.parametrize("cover", ["qk", "qkvo"])
def test_merge_barrier_keeps_the_scores(root, tmp_path, cover):
    record = transform(root, tmp_path, "mergebarrier-attention", cover=cover)
    assert record["parameters"] == {"flipped": 0.5, "cover": cover}
    before, after = read(root / "full/unprotected"), read(tmp_path)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    parts = ["q_proj", "k_proj"] + (["v_proj", "out_proj"] if cover == "qkvo" else [])
    expected = {
        f"transformer.resblocks.{i}.attn.{part}.{kind}"
        for i in range(2)
        for part in parts
        for kind in ("weight", "bias")
    }
    assert moved == expected - {f"transformer.resblocks.{i}.attn.out_proj.bias" for i in range(2)}
    images = torch.randn(8, 3, 16, 16)
    tower = load_tower(common(root)["model"], {"architecture": ARCHITECTURE}, CPU)
    outputs = []
    for weights in (before, after):
        tower.load_state_dict(weights)
        outputs.append(tower(images).detach())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


# Names, places and refusals.


def test_options_are_checked(root, tmp_path):
    with pytest.raises(CatalogueError, match=r"beta = 0: must be a number in \(0, 100\]"):
        transform(root, tmp_path, "mergeguard-stage2", beta=0)
    with pytest.raises(CatalogueError, match=r"λ is 0\.5 and alpha, which is the λ of mergeguard"):
        objective_of("mergeguard", 0.5, {"alpha": 0.1})
    with pytest.raises(NotApplicable, match="mergeguard-stage1 is trained, not applied"):
        transform(root, tmp_path, "mergeguard-stage1")
    from trap2.protection.post_hoc import protect_checkpoint

    weights = read(root / "full/unprotected")
    with pytest.raises(Trap2Error, match="no validation split is at hand"):
        protect_checkpoint("mergeguard-stage2", weights, weights, {}, seed=0, task="pets")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("mergeguard", {("full", "vit"), ("full", "convnext")}),
        ("mergeguard-stage2", {("full", "vit"), ("full", "convnext")}),
        ("mergeguard-refit", {("lora", "vit"), ("lora", "convnext")}),
        ("mergeguard-stage1", {(r, f) for r in ("lora", "full") for f in ("vit", "convnext")}),
        ("arf", {("full", "vit")}),
        ("mergebarrier-attention", {("full", "vit")}),
    ],
)
def test_what_applies_where(name, where):
    found = {
        (release_format, family)
        for release_format in ("lora", "full")
        for family in ("vit", "convnext")
        if not_applicable(name, release_format, family) is None
    }
    assert found == where


def suite_with(**changes: Any) -> Any:
    return replace(load_suite("demo", SUITES), **changes)


def test_a_protection_with_a_strength_is_trained_once(tmp_path):
    suite = suite_with(protection_options={"mergeguard": {"alpha": 0.05}})
    assert lambdas_of(suite, "lora", "digits") == ["0.1", "0.05"]
    assert lambdas_of(suite, "full", "digits", "mergeguard") == ["0.05"]
    assert lambdas_of(suite, "full", "digits", "arf") == ["1.0"]
    assert lambdas_of(suite, "lora", "digits", "trap2-mixed") == ["0.1", "0.05"]


def job(protection: str, backbone: str = "ViT-demo", release_format: str = "full") -> Any:
    class Wildcards(SimpleNamespace):
        def get(self, name: str, default: str) -> str:
            return str(getattr(self, name, default))

    return Wildcards(
        suite="demo",
        backbone=backbone,
        release_format=release_format,
        task="digits",
        protection=protection,
    )


def test_a_training_starts_from_the_unprotected_update_where_it_is_asked_to():
    config: Any = SimpleNamespace(checkpoints="train", seed=0, seeds=None, resources="resources")
    names = Files(lambda _name: load_suite("demo", SUITES), config)
    folder = "results/demo/ViT-demo/full/digits"
    assert names.start(job("mergeguard")) == [
        f"{folder}/unprotected/model.safetensors",
        f"{folder}/unprotected/update.json",
    ]
    assert names.start(job("arf")) == names.start(job("trap2")) == []
    assert names.lambda_candidates(job("mergeguard")) == [
        f"{folder}/mergeguard/lambda~0.01/model.safetensors",
        f"{folder}/mergeguard/lambda~0.01/update.json",
    ]
    with pytest.raises(SystemExit, match="not applicable to ConvNeXt-demo: ARF"):
        names.start(job("arf", "ConvNeXt-demo"))
    with pytest.raises(SystemExit, match="transforms whole checkpoints, not adapters"):
        names.start(job("mergeguard", release_format="lora"))


def test_tables_leave_trained_protections_out_where_they_do_not_apply():
    suite = suite_with(protections=("arf", "mergeguard", "mergeguard-refit", "trap2"))
    config: Any = SimpleNamespace(checkpoints="train", seed=0, seeds=None, resources="resources")
    assert protections_of(suite, "lora", "ViT-demo") == [
        "unprotected",
        "mergeguard-refit",
        "trap2",
    ]
    records = Files(lambda _name: suite, config).trained_records(job("trap2"))
    assert {path.split("/")[-2] for path in records} == {"mergeguard-refit", "trap2"}


def test_the_command_line_starts_from_an_update(root, tmp_path):
    def said(command: str, *more: Any) -> Any:
        base = ("--base", root / "vit", "--data", root / "data/pets/16", "--output", tmp_path / "x")
        return CliRunner().invoke(main, [str(part) for part in (command, *base, *more)])

    asked = ("--protection", "mergeguard", "--lambda", 0.01, "--release-format", "full")
    short = ("--steps", 2, "--batch-size", 8, "--warmup-steps", 0, "--evaluate-every", 2)
    without = said("train", *asked)
    assert "starts from the task's unprotected update" in " ".join(without.output.split())
    fresh = said("train", "--start", root / "full/unprotected")
    assert "--start: the training of this update starts fresh" in " ".join(fresh.output.split())
    done = said("train", *asked, *short, "--start", root / "full/unprotected")
    assert done.exit_code == 0, done.output
    record = files.read_json(tmp_path / "x/update.json")
    assert record["protection"] == "mergeguard"
    assert record["transformed"]["masked"] > 0
    again = said("train", *asked, *short, "--start", tmp_path / "x", "--output", tmp_path / "y")
    assert "is protected already (mergeguard)" in again.output
    given = ("--update", root / "full/unprotected", "--output", tmp_path / "z")
    post_hoc = said(
        "protect", *given, "--defense", "mergeguard-stage2", "--defense-option", "beta=2"
    )
    assert post_hoc.exit_code == 0, post_hoc.output
    assert files.read_json(tmp_path / "z/update.json")["parameters"]["beta"] == 2
    trained = said("protect", *given, "--defense", "mergeguard")
    assert "mergeguard is trained (trap2 train)" in " ".join(trained.output.split())


def test_a_suite_may_set_the_options_of_post_hoc_defenses(tmp_path):
    text = (SUITES / "demo.yaml").read_text("utf-8")
    text = text.replace("protections: [trap2]", "protections: [trap2, mergeguard-stage2]", 1)
    options = "protection_options:\n  mergeguard-stage2: {beta: BETA}"
    text = text.replace("protection_options:", options, 1)
    for beta in ("2", "-1"):
        (tmp_path / "mine.yaml").write_text(text.replace("BETA", beta), "utf-8")
        if beta == "2":
            assert load_suite("mine", tmp_path).protection_options["mergeguard-stage2"] == {
                "beta": 2
            }
        else:
            with pytest.raises(ConfigurationError, match="mergeguard-stage2: beta = -1: must be"):
                load_suite("mine", tmp_path)
