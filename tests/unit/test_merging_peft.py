"""The operators against PEFT's own merging."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trap2.merging.merger import Merger
from trap2.updates.adapters import read_adapter
from trap2.updates.delta import LowRank

F64 = torch.float64
SHAPES = {"q": (12, 9), "fc": (7, 16)}
NAMES = ["one", "two", "three"]


def assert_same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-9
) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_ties_agrees_with_peft() -> None:
    """PEFT keeps one entry fewer; its other choices coincide where no sum is zero."""
    from peft.utils.merge_utils import dare_linear, task_arithmetic
    from peft.utils.merge_utils import ties as peft_ties

    generator = torch.Generator().manual_seed(4)
    updates = [
        {n: torch.randn(s, generator=generator, dtype=F64) for n, s in SHAPES.items()}
        for _ in NAMES
    ]
    ones = torch.ones(3, dtype=F64)
    merged = Merger(updates, dtype=F64).merge("TIES", keep=30, variant="peft")
    expected = {n: peft_ties([u[n] for u in updates], ones, 0.3) for n in SHAPES}
    assert_same(merged, expected)
    default = Merger(updates, dtype=F64).merge("TIES", keep=30)
    assert not torch.allclose(default["q"], expected["q"])
    expected = {n: task_arithmetic([u[n] for u in updates], ones) for n in SHAPES}
    assert_same(Merger(updates, dtype=F64).merge("TA"), expected)
    # PEFT draws what is kept, we what is dropped: the same law, other draws.
    torch.manual_seed(420)
    kept = dare_linear([u["q"] for u in updates], ones, 0.5)
    dropped = Merger(updates, dtype=F64).merge("DARE", drop=0.5)["q"]
    assert not torch.allclose(kept, dropped)


def peft_model(tmp_path: Path, *, alpha: int, rslora: bool) -> Any:
    """A tower with three LoRA adapters through PEFT, saved where read_adapter finds them."""
    from peft import LoraConfig, get_peft_model
    from torch import nn

    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=alpha, target_modules=["0", "2"], use_rslora=rslora)
    model = get_peft_model(
        nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8)), config, NAMES[0]
    )
    for name in NAMES[1:]:
        model.add_adapter(name, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    model.save_pretrained(str(tmp_path))
    return model


def peft_delta(model: Any, adapter: str) -> dict[str, torch.Tensor]:
    layers = model.base_model.model
    return {f"{i}.weight": layers[i].get_delta_weight(adapter) for i in (0, 2)}


@pytest.mark.parametrize(("alpha", "rslora"), [(3, False), (12, False), (5, True)])
def test_agrees_with_pefts_weighted_adapters(tmp_path: Path, alpha: int, rslora: bool) -> None:
    """α ≠ r and rsLoRA are in the factors; ``cat`` and full-rank ``svd`` are task arithmetic.

    Two differences: with rsLoRA PEFT gives the merged adapter α = r and keeps the √r rule, so its
    ΔW comes out √r times too large (r its new rank); and its ``linear`` combines the factors,
    (ΣB_i)(ΣA_i), which is not Σ B_i A_i.
    """
    model = peft_model(tmp_path, alpha=alpha, rslora=rslora)
    updates = [
        {n: LowRank(b, a) for n, (b, a) in read_adapter(tmp_path / name).items()} for name in NAMES
    ]
    for update, name in zip(updates, NAMES, strict=True):
        assert_same({n: u.dense() for n, u in update.items()}, peft_delta(model, name), 1e-5)
    merged = Merger(updates).merge("TA")
    for kind, extra in (("cat", {}), ("svd", {"svd_rank": 8})):
        model.add_weighted_adapter(NAMES, [1.0] * 3, kind, combination_type=kind, **extra)
        excess = math.sqrt(model.peft_config[kind].r) if rslora else 1.0
        assert_same({n: excess * v for n, v in merged.items()}, peft_delta(model, kind), 1e-4)
    model.add_weighted_adapter(NAMES, [1.0] * 3, "linear", combination_type="linear")
    assert not torch.allclose(merged["0.weight"], peft_delta(model, "linear")["0.weight"])
