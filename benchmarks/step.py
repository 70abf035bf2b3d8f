"""A training step: TRAP²'s against an unprotected one, and ours against PEFT's plain loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from figures import Figure, fastest
from networks import networks, task, tower
from trap2.models.layers import lora_targets
from trap2.protection.trap2 import Trap2
from trap2.training.settings import Optimisation
from trap2.training.trainer import Trainer
from trap2.updates.lora import LoraUpdate
from trap2.updates.settings import AdapterSettings

ADAPTER = AdapterSettings(rank=16, alpha=16, dropout=0.1)
# Two passes of ViT-B/32's shapes: at most 1.9; one on the demo's networks: at most 1.6.
LIMITS = {("ViT-demo", True): 1.6, ("ConvNeXt-demo", True): 1.6, ("ViT-B/32", False): 1.9}
BATCH = {"ViT-B/32": 4}


def figures(everything: bool) -> Iterator[Figure]:
    """Steps of an adapter of rank 16 on the demo's networks and on ViT-B/32's shapes."""
    for name, architecture in networks().items():
        size = BATCH.get(name, 16)
        steps, repeats = (1, 3) if name in BATCH else (10, 12 if everything else 6)

        def many(step: Callable[[], Any], steps: int = steps) -> Callable[[], Any]:
            return lambda: [step() for _ in range(steps)]

        ways = {
            "unprotected": many(_step(architecture, size, None)),
            "apart": many(_step(architecture, size, Trap2(0.1))),
            "together": many(_step(architecture, size, Trap2(0.1), together=True)),
            "peft": many(_peft_step(architecture, size)),
        }
        found = {way: 1e3 * s / steps for way, s in fastest(ways, repeats).items()}
        plain = found["unprotected"]
        yield Figure(
            *("step", f"unprotected step / PEFT's layers and AdamW a tensor, {name}"),
            *(plain / found["peft"], None, f"{plain:.1f} and {found['peft']:.1f} ms"),
        )
        for way, how in (("apart", "in two passes"), ("together", "in one pass")):
            yield Figure(
                *("step", f"TRAP² step {how} / unprotected step, {name}"),
                *(found[way] / plain, LIMITS.get((name, way == "together"))),
                f"{found[way]:.1f} and {plain:.1f} ms, {size} images",
            )


def _step(
    architecture: dict[str, Any], size: int, objective: Trap2 | None, *, together: bool = False
) -> Callable[[], Any]:
    model = tower(architecture)
    update = LoraUpdate(model, lora_targets(model), ADAPTER, seed=0)
    update.module.train()
    settings = Optimisation(
        learning_rate=1e-4, batch_size=size, micro_batch_size=size, together=together
    )
    given = task(architecture, 4 * size)
    return Trainer(update, given, settings, objective, seed=0, run="benchmark")._step


def _peft_step(architecture: dict[str, Any], size: int) -> Callable[[], Any]:
    """The plain way: PEFT's adapter, torch's AdamW, one loss."""
    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(tower(architecture))
    targets = lora_targets(model)
    config = LoraConfig(r=16, lora_alpha=16, lora_dropout=0.1, target_modules=targets)
    adapted: Any = get_peft_model(model, config).train()
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.0)
    given = task(architecture, 4 * size)

    def step() -> None:
        optimiser.zero_grad()
        chosen = torch.randint(4 * size, (size,)).numpy()
        given.loss(adapted, given.batch("train", chosen)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step
