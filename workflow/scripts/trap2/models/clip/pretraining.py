"""Contrastive pretraining of the demo's tiny CLIPs on captioned clean renderings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from trap2.data.demo.canvas import SIZE
from trap2.data.demo.tasks import TASKS, render
from trap2.models.clip.build import build_clip
from trap2.models.clip.heads import prompts, tokenizer_for, zero_shot_head
from trap2.models.clip.tower import features, normalise
from trap2.runtime.errors import Trap2Error
from trap2.runtime.seeding import numpy_generator, seed_of

WARMUP_SHARE = 0.1


WEIGHT_DECAY = 0.05


# CLIP keeps its learned temperature below this factor on the cosines.
MAX_LOGIT_SCALE = 100.0


VALIDATION_IMAGES = 120


REPORT_EVERY = 50


class PretrainingMetrics(TypedDict):
    """How a pretraining went; ``parameters`` are of the vision tower, accuracies in percent."""

    parameters: int
    loss: float
    clean_val_accuracy: dict[str, float]


@dataclass(frozen=True)
class _Captioned:
    """Images (n, 3, H, W) uint8, each one's concept (n,), and the token ids of every caption.

    A concept is one class of one task; ``tokens`` is (concepts, templates, context length).
    """

    images: torch.Tensor
    concepts: torch.Tensor
    tokens: torch.Tensor


def pretrain(
    architecture: str | Mapping[str, object],
    tasks: Sequence[str],
    *,
    resolution: int,
    images: int,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int,
    log: Callable[[str], None] = print,
) -> tuple[dict[str, torch.Tensor], PretrainingMetrics]:
    """Train a CLIP from random weights with CLIP's loss on clean renderings of the tasks' images.

    Deterministic on one thread.

    Args:
        architecture: as in :func:`trap2.models.clip.build.build_clip`.
        tasks: keys of :data:`trap2.data.demo.tasks.TASKS`.
        resolution: side of the images in pixels; the demo's are 32.
        images: clean training images a task.
        steps: optimiser steps; the learning rate follows a cosine to zero after a warm-up.
        batch_size: image-caption pairs a step.
        learning_rate: AdamW's peak learning rate.
        seed: the configuration's seed.
        log: receives a line now and then.

    Returns:
        The model's state dict, and metrics: ``parameters`` (of the vision tower), ``loss`` (the
        mean of the last steps) and ``clean_val_accuracy`` (zero-shot, percent, by task).

    Raises:
        ValueError: another resolution, or an unknown task or architecture.
    """
    if resolution != SIZE:
        raise Trap2Error(
            f"the demo's images are {SIZE} px wide, the backbone wants {resolution}; set its "
            f"resolution to {SIZE}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "pretrain", "weights"))
        clip = build_clip(architecture)
        data = _captioned(clip, tasks, images, seed)
        loss = _fit(clip, data, steps, batch_size, learning_rate, seed, log)
    accuracy = {task: _clean_accuracy(clip, task, seed) for task in tasks}
    log(f"zero-shot on clean validation images: {accuracy}")
    metrics: PretrainingMetrics = {
        "parameters": sum(p.numel() for p in clip.visual.parameters()),
        "loss": loss,
        "clean_val_accuracy": accuracy,
    }
    return {name: tensor.detach() for name, tensor in clip.state_dict().items()}, metrics


def _captioned(clip: open_clip.CLIP, tasks: Sequence[str], count: int, seed: int) -> _Captioned:
    images, concepts = [], []
    captions: list[list[str]] = []
    for task in tasks:
        pixels, labels = render(task, "train", count, seed, shifted=False)
        images.append(torch.from_numpy(pixels))
        concepts.append(torch.from_numpy(labels) + len(captions))
        captions += [prompts(name, TASKS[task].templates) for name in TASKS[task].class_names]
    tokenize = tokenizer_for(clip)
    tokens = torch.stack([tokenize(texts) for texts in captions])
    return _Captioned(torch.cat(images), torch.cat(concepts), tokens)


def contrastive_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    concepts: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """CLIP's symmetric loss where several images share a caption.

    Each image is classified among the captions of the batch, and each caption among its images;
    the target of a caption is spread evenly over the images that it describes.  With one image a
    caption this is CLIP's loss.

    Args:
        image_features: (n, d), rows of unit length.
        text_features: (k, d), rows of unit length, one a distinct caption.
        concepts: (n,) the caption of each image, in ``range(k)``, each at least once.
        scale: the factor on the cosines, a scalar.
    """
    logits = scale * image_features @ text_features.T
    belongs = F.one_hot(concepts, len(text_features)).to(logits.dtype)
    by_caption = (belongs / belongs.sum(dim=0)).T
    return (F.cross_entropy(logits, concepts) + F.cross_entropy(logits.T, by_caption)) / 2


def _fit(
    clip: open_clip.CLIP,
    data: _Captioned,
    steps: int,
    batch_size: int,
    peak: float,
    seed: int,
    log: Callable[[str], None],
) -> float:
    """Train in place; the mean loss of the last :data:`REPORT_EVERY` steps."""
    matrices = [p for p in clip.parameters() if p.ndim >= 2]
    others = [p for p in clip.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=peak,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    draws = numpy_generator(seed, "pretrain", "batches")
    clip.train()
    losses: list[float] = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = peak * _schedule(step, steps)
        chosen = torch.from_numpy(draws.integers(len(data.images), size=batch_size))
        present, concepts = torch.unique(data.concepts[chosen], return_inverse=True)
        templates = torch.from_numpy(draws.integers(data.tokens.shape[1], size=len(present)))
        loss = contrastive_loss(
            clip.encode_image(normalise(data.images[chosen]), normalize=True),
            clip.encode_text(data.tokens[present, templates], normalize=True),
            concepts,
            clip.logit_scale.exp(),
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0.0, math.log(MAX_LOGIT_SCALE))
        losses.append(loss.item())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            log(f"step {step + 1} of {steps}: loss {np.mean(losses[-REPORT_EVERY:]):.3f}")
    clip.eval()
    return float(np.mean(losses[-REPORT_EVERY:]))


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then a cosine to zero."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode()
def _clean_accuracy(clip: open_clip.CLIP, task: str, seed: int) -> float:
    """Zero-shot accuracy in percent on clean validation renderings."""
    described = TASKS[task]
    head = zero_shot_head(clip, tokenizer_for(clip), described.class_names, described.templates)
    pixels, labels = render(task, "val", VALIDATION_IMAGES, seed, shifted=False)
    predicted = (features(clip.visual, normalise(torch.from_numpy(pixels))) @ head.T).argmax(dim=1)
    return 100.0 * float((predicted == torch.from_numpy(labels)).double().mean())
