"""Zero-shot classification heads from class names and prompt templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from trap2.models.clip.architectures import VOCABULARY, ArchitectureError
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error

if TYPE_CHECKING:
    import open_clip

Tokenizer = Callable[[list[str]], torch.Tensor]

HEAD = "head"


CLASS_NAMES = "class_names"


def tokenizer_for(clip: open_clip.CLIP) -> Tokenizer:
    """CLIP's byte-pair tokenizer (it comes with open_clip), at the model's context length.

    Raises:
        ArchitectureError: the model was made for another tokenizer.
    """
    if clip.vocab_size != VOCABULARY:
        raise ArchitectureError(
            f"the model has {clip.vocab_size} tokens and CLIP's tokenizer {VOCABULARY}: it was "
            "trained with another one, and no other one is supported"
        )
    import open_clip  # seconds, and whoever only reads a head needs none of it

    found: Tokenizer = open_clip.SimpleTokenizer(context_length=clip.context_length)
    return found


def prompts(class_name: str, templates: Sequence[str]) -> list[str]:
    """One prompt a template; ``{}`` stands for the class name.

    Raises:
        ValueError: there is no template, or one of them has not exactly one ``{}``.
    """
    if not templates:
        raise Trap2Error("a zero-shot head needs at least one prompt template")
    for template in templates:
        if template.count("{}") != 1:
            raise Trap2Error(
                f"prompt template '{template}' must hold '{{}}' once, where the class name goes"
            )
    return [template.replace("{}", class_name) for template in templates]


@torch.no_grad()
def zero_shot_head(
    clip: open_clip.CLIP,
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    templates: Sequence[str],
) -> torch.Tensor:
    """CLIP's prompt ensemble: each text feature normalised, averaged, normalised again.

    Args:
        clip: the model whose text tower embeds the prompts.
        tokenizer: turns n strings into (n, context length) token ids.
        class_names: one natural-language name a class, in the order of the labels.
        templates: prompt templates, each with ``{}`` once.

    Returns:
        The head (C, d), float32, rows of unit length.  Logits are
        logit_scale · features · headᵀ.
    """
    clip.eval()
    rows = []
    for name in class_names:
        tokens = tokenizer(prompts(name, templates)).to(clip.token_embedding.weight.device)
        rows.append(clip.encode_text(tokens, normalize=True).float().mean(dim=0))
    return F.normalize(torch.stack(rows), dim=-1).cpu()


def write_head(path: str | Path, head: torch.Tensor, class_names: Sequence[str]) -> None:
    """Save a head (C, d) as safetensors, with its class names as metadata."""
    files.write_tensors(path, {HEAD: head}, {CLASS_NAMES: "\n".join(class_names)})


def read_head(path: str | Path) -> torch.Tensor:
    """Read a head (C, d) written by :func:`write_head`.

    Raises:
        FileError: the file cannot be read or holds no head.
    """
    tensors = files.read_tensors(path)
    if tensors.keys() != {HEAD} or tensors[HEAD].ndim != 2 or not tensors[HEAD].numel():
        raise files.FileError(
            f"{path}: expected one tensor '{HEAD}' (classes, features), found "
            f"{ {name: tuple(tensors[name].shape) for name in sorted(tensors)[:3]} }. Delete the "
            "file and run snakemake again."
        )
    head = tensors[HEAD]
    if not (head.is_floating_point() and head.itemsize > 1 and head.isfinite().all()):
        raise files.FileError(
            f"{path}: the head is {head.dtype}, or holds NaN or infinity; it must be finite "
            "numbers of 16, 32 or 64 bits. Delete the file and run snakemake again."
        )
    return head.float()
