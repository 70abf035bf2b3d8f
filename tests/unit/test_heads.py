"""Zero-shot heads against the prompt ensemble written out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from trap2.models.clip import heads
from trap2.models.clip.build import build_clip
from trap2.runtime import files

ARCHITECTURE = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "width": 16, "heads": 2, "layers": 1},
}
NAMES = ["a lower-case letter", "zero"]
TEMPLATES = ["a photo of {}.", "{}"]


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    torch.manual_seed(0)
    return build_clip(ARCHITECTURE)


def test_each_prompt_counts_the_same_whatever_its_length(clip: open_clip.CLIP) -> None:
    head = heads.zero_shot_head(clip, heads.tokenizer_for(clip), NAMES, TEMPLATES)
    expected = []
    for name in NAMES:
        tokens = open_clip.tokenize([f"a photo of {name}.", name], context_length=16)
        text = clip.encode_text(tokens).detach().double().numpy()
        mean = (text / np.linalg.norm(text, axis=1, keepdims=True)).mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    assert head.dtype == torch.float32
    np.testing.assert_allclose(head.numpy(), np.stack(expected), atol=1e-6)


def test_a_head_goes_through_a_file(clip: open_clip.CLIP, tmp_path: Path) -> None:
    head = heads.zero_shot_head(clip, heads.tokenizer_for(clip), NAMES, TEMPLATES)
    path = tmp_path / "head.safetensors"
    heads.write_head(path, head, NAMES)
    assert torch.equal(heads.read_head(path), head)
    files.write_tensors(path, {"other": head})
    with pytest.raises(files.FileError, match="expected one tensor 'head'"):
        heads.read_head(path)


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{} and {}"]])
def test_bad_templates_are_refused(templates: list[str]) -> None:
    with pytest.raises(ValueError, match="template"):
        heads.prompts("zero", templates)
