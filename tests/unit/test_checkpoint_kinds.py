"""Whole checkpoints of other kinds are read right or refused by what they are."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from trap2.merging.merger import Merger
from trap2.models.clip.tower import tower_tensors
from trap2.runtime import files
from trap2.updates.delta import CheckpointUpdate, UpdateError
from trap2.updates.stored import BASE_KEY, base_sha256, check_base, load_update, release_format

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def clip(seed: int) -> open_clip.CLIP:
    torch.manual_seed(seed)
    return open_clip.CLIP(12, dict(VISION), dict(TEXT))


@pytest.fixture
def base(tmp_path) -> Path:
    files.write_tensors(tmp_path / "tower.safetensors", tower_tensors(clip(0)))
    return tmp_path / "tower.safetensors"


def checkpoint(folder: Path, tensors: dict[str, torch.Tensor], name="model.safetensors") -> Path:
    files.write_tensors(folder / name, tensors)
    return folder


def test_a_whole_checkpoint_of_the_base_is_read(base, tmp_path):
    tuned, own = tower_tensors(clip(1)), files.read_tensors(base)
    update = load_update(checkpoint(tmp_path / "tuned", tuned), base)
    assert update.keys() == own.keys()
    assert all(torch.equal(update[name], tuned[name] - own[name]) for name in own)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
@pytest.mark.parametrize("where", ["checkpoint", "base"])
def test_quantised_weights_are_refused_and_not_zero(base, tmp_path, dtype, where):
    tuned = tower_tensors(clip(1))
    layer = "transformer.resblocks.0.mlp.c_fc.weight"
    if where == "base":
        own = files.read_tensors(base)
        files.write_tensors(base, own | {layer: own[layer].to(dtype)})
    else:
        tuned[layer] = tuned[layer].to(dtype)
    folder = checkpoint(tmp_path / "tuned", tuned)
    place = base if where == "base" else folder / "model.safetensors"
    with pytest.raises(
        files.FileError, match=f"{place}: the tensor {layer} is of type .*quantised"
    ):
        load_update(folder, base)


def test_known_buffers_are_left_out_if_they_are_the_bases(base, tmp_path):
    own, tuned = files.read_tensors(base), tower_tensors(clip(1))
    counters = {"a.num_batches_tracked": torch.tensor(7), "position_ids": torch.arange(5)}
    files.write_tensors(base, own | counters | {"a.num_batches_tracked": torch.tensor(9)})
    update = load_update(checkpoint(tmp_path / "tuned", tuned | counters), base)
    assert update.keys() == own.keys()
    other = counters | {"position_ids": torch.arange(5).flip(0)}
    with pytest.raises(UpdateError, match="the buffer position_ids is another than in the base"):
        load_update(checkpoint(tmp_path / "other", tuned | other), base)


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        (lambda: dict(clip(1).visual.state_dict()), "attention is fused .in_proj_weight"),
        (lambda: dict(clip(1).state_dict()), "attention is fused .in_proj_weight"),
        (
            lambda: {f"visual.{n}": t for n, t in tower_tensors(clip(1)).items()},
            "begin with 'visual.', as those of a whole CLIP model",
        ),
        (
            lambda: {f"module.{n}": t for n, t in tower_tensors(clip(1)).items()},
            "begin with 'module.', as DataParallel",
        ),
        (lambda: {"encoder.layers.0.q_proj.weight": torch.ones(2, 2)}, "those of Hugging Face's"),
        (lambda: {"base_model.model.a.lora_A.weight": torch.ones(2, 2)}, "it is an adapter"),
        (lambda: {"backbone.weight": torch.ones(2, 2)}, "is it fine-tuned from another model?"),
    ],
)
def test_a_checkpoint_with_other_names_is_refused_by_what_it_is(base, tmp_path, tensors, kind):
    with pytest.raises(UpdateError, match=rf"model\.safetensors: layer .* is not in .*{kind}"):
        load_update(checkpoint(tmp_path / "tuned", tensors()), base)


def test_a_part_of_a_checkpoint_is_not_taken_for_the_whole(base, tmp_path):
    tuned = tower_tensors(clip(1))
    first = dict(list(tuned.items())[: len(tuned) // 2])
    folder = checkpoint(tmp_path / "renamed", first)
    with pytest.raises(
        UpdateError, match=r"lacks \d+ of the base's \d+ weights, such as .* parts?"
    ):
        load_update(folder, base)
    assert len(CheckpointUpdate(base, folder / "model.safetensors", partial=True)) == len(first)
    parts = checkpoint(tmp_path / "parts", first, "model-00001-of-00002.safetensors")
    files.write_json(tmp_path / "index/model.safetensors.index.json", {"weight_map": {}})
    for place in (parts, tmp_path / "index"):
        with pytest.raises(files.FileError, match=r"a checkpoint in parts, such as .*join them"):
            load_update(place, base)


def test_two_updates_in_one_folder_are_none(base, tmp_path):
    folder = checkpoint(tmp_path / "both", tower_tensors(clip(1)))
    checkpoint(folder, {"a": torch.ones(1)}, "adapter_model.safetensors")
    with pytest.raises(files.FileError, match=r"holds both model\.safetensors and adapter_model"):
        release_format(folder)


def test_a_jobs_log_says_where_the_base_is_not_known(base, tmp_path, caplog):
    folder = checkpoint(tmp_path / "tuned", tower_tensors(clip(1)))
    with caplog.at_level("INFO", "trap2"):
        load_update(folder, base)
    assert f"{folder} does not say which base it was made on" in caplog.text


def test_an_update_of_another_base_with_the_same_shapes_is_refused(base, tmp_path):
    folder = checkpoint(tmp_path / "tuned", tower_tensors(clip(1)))
    assert not check_base(folder, base)
    files.write_json(folder / "update.json", {BASE_KEY: base_sha256(base)})
    assert check_base(folder, base)
    # The same weights, written anew with other metadata.
    files.write_tensors(base, files.read_tensors(base), {"written": "again"})
    assert check_base(folder, base)
    Merger([load_update(folder, base)]).merge("TA")
    files.write_tensors(base, tower_tensors(clip(2)))
    with pytest.raises(UpdateError, match=r"tuned: the update was made on another base: .*sha256"):
        load_update(folder, base)


@pytest.mark.parametrize("record", [[], {BASE_KEY: 3}, "x"])
def test_a_record_of_another_kind_is_named(base, tmp_path, record):
    folder = checkpoint(tmp_path / "tuned", tower_tensors(clip(1)))
    files.write_json(folder / "update.json", record)
    with pytest.raises(files.FileError, match=r"update\.json: not an update's record"):
        load_update(folder, base)
