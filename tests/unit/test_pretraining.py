"""Contrastive pretraining: the loss by hand, determinism, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from trap2.models.clip import pretraining
from trap2.models.clip.pretraining import contrastive_loss, pretrain

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "convnext_tiny",
        "timm_model_args": {
            "depths": [1, 1, 1, 1],
            "dims": [16, 16, 32, 32],
            "patch_size": 4,
            "ls_init_value": 0.5,
        },
    },
    "text_cfg": {"context_length": 16, "width": 16, "heads": 2, "layers": 1},
}


def _unit(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def test_with_one_image_a_caption_it_is_clips_loss() -> None:
    images, texts = _unit(6, 8, 0), _unit(6, 8, 1)
    scale = torch.tensor(7.0, dtype=torch.float64)
    ours = contrastive_loss(images, texts, torch.arange(6), scale)
    torch.testing.assert_close(ours, open_clip.ClipLoss()(images, texts, scale))


def test_shared_captions_by_hand() -> None:
    images, texts = _unit(3, 4, 0), _unit(2, 4, 1)
    logits = 5.0 * (images @ texts.T).numpy()
    concepts = [1, 0, 1]
    by_image = np.log(np.exp(logits).sum(axis=1)) - logits[range(3), concepts]
    spread = np.log(np.exp(logits).sum(axis=0))
    by_caption = [spread[0] - logits[1, 0], spread[1] - (logits[0, 1] + logits[2, 1]) / 2]
    expected = (by_image.mean() + np.mean(by_caption)) / 2
    scale = torch.tensor(5.0, dtype=torch.float64)
    ours = contrastive_loss(images, texts, torch.tensor(concepts), scale)
    assert ours.item() == pytest.approx(expected, rel=1e-12)


def _run(seed: int, steps: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return pretrain(
            ARCHITECTURE,
            ["signs"],
            resolution=32,
            images=60,
            steps=steps,
            batch_size=24,
            learning_rate=3e-3,
            seed=seed,
            log=lambda _: None,
        )
    finally:
        torch.set_num_threads(threads)


def test_the_same_seed_gives_the_same_bytes_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    first, _ = _run(0, 3)
    drawn = torch.rand(1)
    second, _ = _run(0, 3)
    other, _ = _run(1, 3)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["visual.head.proj.weight"], other["visual.head.proj.weight"])


def test_it_learns_to_name_what_it_sees() -> None:
    state, metrics = _run(0, 60)
    assert metrics["clean_val_accuracy"]["signs"] > 60
    assert metrics["loss"] < 2.0
    assert metrics["parameters"] == sum(
        t.numel() for name, t in state.items() if name.startswith("visual.")
    )


def test_another_resolution_is_refused() -> None:
    with pytest.raises(ValueError, match="set its resolution to 32"):
        pretrain(ARCHITECTURE, ["signs"], resolution=64, images=1, steps=1, seed=0)


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [pretraining._schedule(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == 1.0
    assert shares[-1] < 0.01
