"""What a job opens of its files: a model with its tasks; the head that a task begins with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trap2.data.prepared import UnknownSplit, write_split
from trap2.evaluation.tasks import open_bench
from trap2.models.clip.build import build_clip
from trap2.models.clip.heads import read_head, tokenizer_for, write_head
from trap2.models.clip.tower import normalise, vision_tower
from trap2.models.clip.zero_shot import build_head
from trap2.runtime import files

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "width": 16, "heads": 2, "layers": 1},
}
BACKBONE = {"architecture": ARCHITECTURE}
CPU = torch.device("cpu")


def prepared(folder: Path, seed: int, classes: list[str], **facts: object) -> list[str]:
    """A prepared task's files, in no order of theirs."""
    generator = np.random.default_rng(seed)
    for split in ("val", "test"):
        images = generator.integers(0, 256, (20 + seed, 3, 16, 16), dtype=np.uint8)
        write_split(folder, split, images, generator.integers(0, len(classes), 20 + seed))
    files.write_json(folder / "manifest.json", {"class_names": classes, **facts})
    return [str(path) for path in sorted(folder.iterdir(), reverse=True)]


@pytest.fixture
def clip() -> Any:
    torch.manual_seed(0)
    return build_clip(ARCHITECTURE).eval()


def answers(clip: Any, head: torch.Tensor, folder: Path, split: str) -> tuple[int, float]:
    """How many images of a split the head names right, and its mean loss in nats."""
    images = torch.from_numpy(np.load(folder / f"{split}.images.npy"))
    labels = torch.from_numpy(np.load(folder / f"{split}.labels.npy"))
    with torch.no_grad():
        features = clip.encode_image(normalise(images), normalize=True).double()
    logits = 50.0 * features @ head.double().T
    return int((logits.argmax(1) == labels).sum()), float(F.cross_entropy(logits, labels))


def test_a_bench_has_the_tasks_of_the_configuration_each_with_its_own_head(tmp_path, clip):
    files.write_tensors(tmp_path / "tower.safetensors", vision_tower(clip).state_dict())
    data, heads, rows = [], [], {}
    for seed, task in enumerate("abc"):
        note = {"notes": [f"said of {task}"]}
        data += prepared(tmp_path / task / "16", seed, list("xyz"), **note)
        rows[task] = F.normalize(torch.randn(3, 12), dim=1)
        heads.append(str(tmp_path / f"heads/{task}.safetensors"))
        write_head(heads[-1], rows[task], list("xyz"))
    job: Any = SimpleNamespace(
        threads=1,
        input=SimpleNamespace(model=str(tmp_path / "tower.safetensors"), heads=heads, data=data),
        params=SimpleNamespace(
            **{"backbone": BACKBONE, "tasks": ["c", "a"], "device": "cpu"},
            **{"logit_scale": 50.0, "batch_size": 8},
        ),
    )
    bench = open_bench(job, "test")
    assert list(bench.tasks) == ["c", "a"]
    assert bench.origin["device"] == "cpu"
    assert bench.origin["notes"] == ["said of a", "said of b", "said of c"]
    assert "torch" in bench.origin["versions"]
    for name, value in vision_tower(clip).state_dict().items():
        assert torch.equal(bench.model.state_dict()[name], value)
    for task, opened in bench.tasks.items():
        score = opened.score(bench.model, "test")
        correct, loss = answers(clip, rows[task], tmp_path / task / "16", "test")
        assert (score.correct, score.count) == (correct, 20 + "abc".index(task))
        assert score.loss == pytest.approx(loss, rel=1e-4)
        with pytest.raises(UnknownSplit, match="'val' was not opened"):
            opened.score(bench.model, "val")


def test_a_head_is_made_of_the_prompts_and_the_base_is_scored_with_it(tmp_path, clip):
    files.write_tensors(tmp_path / "base.safetensors", clip.state_dict())
    classes, templates = ["cat", "dog", "tall ship"], ["a photo of a {}.", "{}, drawn."]
    folder = tmp_path / "pets" / "16"
    data = prepared(folder, 1, classes, templates=templates, notes=["two", "one"])
    lines: list[str] = []
    build_head(
        base=str(tmp_path / "base.safetensors"),
        data=data,
        head=str(tmp_path / "pets.safetensors"),
        record=str(tmp_path / "pets.json"),
        facts={"suite": "s", "backbone": "b", "task": "pets"},
        backbone=BACKBONE,
        logit_scale=50.0,
        batch_size=8,
        device=CPU,
        log=lines.append,
    )
    head = read_head(tmp_path / "pets.safetensors")
    with torch.no_grad():
        for row, name in zip(head, classes, strict=True):
            tokens = tokenizer_for(clip)([template.format(name) for template in templates])
            texts = F.normalize(clip.encode_text(tokens), dim=1)
            torch.testing.assert_close(row, F.normalize(texts.mean(0), dim=0))
    record = files.read_json(tmp_path / "pets.json")
    known = {"suite": "s", "backbone": "b", "task": "pets", "protection": "zero-shot"}
    assert record.items() >= (known | {"templates": templates, "notes": ["one", "two"]}).items()
    for split in ("val", "test"):
        correct, loss = answers(clip, head, folder, split)
        assert (record[split]["correct"], record[split]["count"]) == (correct, 21)
        assert record[split]["loss"] == pytest.approx(loss, rel=1e-4)
    assert len(lines) == 2
