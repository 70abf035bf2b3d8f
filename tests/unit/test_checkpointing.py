"""Gradient checkpointing changes the memory of a step, not its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import CheckpointError
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.layers import lora_targets
from trap2.models.recompute import recompute_blocks
from trap2.protection.objective import Objective, Surroundings
from trap2.protection.trap2 import Trap2, accumulate_gradient
from trap2.protection.trap2_variants import LayerwiseTrap2, MixedTrap2
from trap2.runtime.errors import Trap2Error
from trap2.training.finetune import finetune
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate, attach_adapter
from trap2.updates.settings import AdapterSettings
from trap2.updates.trainable import FullUpdate, TrainableUpdate

torch.set_num_threads(1)

Gradient = dict[str, torch.Tensor]

TEXT = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
ARCHITECTURES = {
    "vit": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "layers": 3,
            "head_width": 16,
        },
        "text_cfg": TEXT,
    },
    "convnext": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "timm_model_name": "convnext_base",
            "timm_pool": "",
            "timm_proj": "linear",
            "timm_drop_path": 0.1,
            "timm_model_args": {
                "depths": [1, 2, 1, 1],
                "dims": [8, 16, 16, 16],
                # At the usual 1e-6 a fresh model's blocks do nothing.
                "ls_init_value": 1.0,
            },
        },
        "text_cfg": TEXT,
    },
}


def tower(family: str) -> nn.Module:
    torch.manual_seed(0)
    return vision_tower(build_clip(ARCHITECTURES[family]))


def attach(form: str, base: nn.Module) -> TrainableUpdate:
    if form == "lora":
        settings = AdapterSettings(rank=2, alpha=2, dropout=0.2)
        update: TrainableUpdate = LoraUpdate(base, lora_targets(base), settings, seed=1)
    else:
        update = FullUpdate(base)
    generator = torch.Generator().manual_seed(3)
    for parameter in update.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return update


def gradient(update: TrainableUpdate, objective: Objective | None = None) -> Gradient:
    """The gradient of one TRAP² step at s = 0.3, or of an objective's own draw."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    target = torch.randn(4, 16, generator=torch.Generator().manual_seed(6))
    update.module.train()
    torch.manual_seed(7)
    drawn = 0.3 if objective is None else objective.draw(np.random.default_rng(8))
    accumulate_gradient(
        lambda where: (update.at(where)(images) - target).square().mean(),
        objective or Trap2(0.5),
        drawn,
    )
    return {
        name: parameter.grad
        for name, parameter in update.module.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("form", ["lora", "full"])
@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_the_gradient_is_the_same_to_the_last_bit(family: str, form: str) -> None:
    plain = gradient(attach(form, tower(family)))
    checkpointed = gradient(attach(form, recompute_blocks(tower(family))))
    assert plain.keys() == checkpointed.keys()
    assert any(".blocks." in name or ".resblocks." in name for name in plain)
    for name, expected in plain.items():
        assert torch.equal(checkpointed[name], expected), name


@pytest.mark.parametrize("form", ["lora", "full"])
@pytest.mark.parametrize("objective", [LayerwiseTrap2(Trap2(0.5)), MixedTrap2(Trap2(0.5))])
def test_a_block_finds_its_layers_scales_and_the_added_direction_again(
    form: str, objective: LayerwiseTrap2 | MixedTrap2
) -> None:
    found = []
    for base in (tower("vit"), recompute_blocks(tower("vit"))):
        update = attach(form, base)
        found.append(gradient(update, objective.within(Surroundings(update.layers))))
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name


def test_a_block_finds_both_scales_of_one_pass_and_its_masks_again() -> None:
    found = []
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    for base in (tower("vit"), recompute_blocks(tower("vit"))):
        update = attach("lora", base)
        update.module.train()
        torch.manual_seed(7)
        pair = update.pair(0.3)
        assert pair is not None
        with update.same_masks():
            nominal, off_nominal = pair(images)
            (nominal.square().mean() - 0.5 * off_nominal.square().mean()).backward()
        found.append({name: p.grad for name, p in update.named_parameters().items()})
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name


def test_stochastic_depth_is_drawn_alike_in_two_passes_and_takes_two() -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    update = attach("lora", tower("convnext"))
    update.module.train()
    assert update.pair(0.3) is None
    outputs = []
    with update.same_masks():
        for seed in (7, 7, 8):
            torch.manual_seed(seed)
            outputs.append(update.at(1.0)(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def train(tmp_path: Path, objective: Objective | None, **adapter: Any) -> None:
    """A training that ends where it reads its first file."""
    finetune(
        model="none",
        head="none",
        data=[],
        folder=tmp_path,
        key=UpdateKey("s", "vit", "lora", "pets", "trap2"),
        backbone={"architecture": "none", "recompute": True},
        training={"optimisation": {"steps": 2}, "adapter": adapter},
        objective=objective,
        logit_scale=100.0,
        seed=0,
        device=torch.device("cpu"),
        log=lambda _line: None,
    )


@pytest.mark.parametrize("objective", [Trap2(0.5), MixedTrap2(Trap2(0.5))])
def test_no_protection_trains_dora_where_blocks_are_computed_again(
    tmp_path: Path, objective: Objective
) -> None:
    base = recompute_blocks(tower("vit"))
    settings = AdapterSettings(rank=2, dropout=0.0, dora=True)
    dora = attach_adapter(base, lora_targets(base), settings, seed=1)
    with pytest.raises(CheckpointError):
        gradient(dora)
    with pytest.raises(Trap2Error, match=r"DoRA .* recompute = true.* Set recompute to false"):
        train(tmp_path, objective, dora=True)
    # Nothing is scaled in a training without protection.
    for allowed, adapter in ((None, {"dora": True}), (objective, {"rslora": True})):
        with pytest.raises(Trap2Error) as error:
            train(tmp_path, allowed, **adapter)
        assert "recompute" not in str(error.value)


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_what_is_kept_for_the_backward_pass_shrinks(family: str) -> None:
    def kept(base: nn.Module) -> int:
        update, sizes = attach("lora", base), []
        update.module.train()
        own = {parameter.data_ptr() for parameter in update.module.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(0 if tensor.data_ptr() in own else tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            update.at(0.3)(torch.zeros(4, 3, 32, 32))
        return sum(sizes)

    assert kept(recompute_blocks(tower(family))) < 0.5 * kept(tower(family))


def test_open_clips_own_switch_would_give_another_gradient() -> None:
    plain = gradient(attach("lora", tower("vit")))
    switched = tower("vit")
    switched.set_grad_checkpointing(True)
    other = gradient(attach("lora", switched))
    assert any(not torch.allclose(plain[name], other[name], rtol=1e-2) for name in plain)


def test_names_and_the_function_stay() -> None:
    plain, checkpointed = tower("vit").eval(), recompute_blocks(tower("vit")).eval()
    assert list(plain.state_dict()) == list(checkpointed.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(images), checkpointed(images))
    with torch.no_grad():
        assert torch.equal(plain(images), checkpointed(images))
