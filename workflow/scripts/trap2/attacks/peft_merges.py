"""PEFT's own merges of adapters, by PEFT's ``add_weighted_adapter`` itself.

All adapters have the weight 1, and the merged ΔW one searched coefficient: with equal weights w
each of PEFT's combinations gives w times what it gives at 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from trap2.attacks.stage import Delta, Merge, Stage
from trap2.merging.search import search_coefficient
from trap2.runtime.catalogue import Options
from trap2.updates.delta import LowRank, Update, UpdateError, check_updates


def merge(stage: Stage, combination: str, options: Options) -> Iterator[Merge]:
    """All adapters as they were published, merged by PEFT (ours as an attack).

    Args:
        stage: where it happens; its updates are adapters.
        combination: PEFT's ``combination_type``.
        options: ``density`` where the combination has one.

    Raises:
        UpdateError: an update is not an adapter's factors.
    """
    density = options.get("density")
    seed = stage.torch_seed("peft")
    delta = merged_by_peft(list(stage.updates.values()), combination, density=density, seed=seed)
    settings = stage.search
    found = search_coefficient(
        lambda s: stage.goal(stage.accuracies(delta, s)),
        step=settings.step,
        maximum=settings.maximum,
        patience=settings.patience,
    )
    yield Merge(delta, found.coefficient, {"coefficient": found.coefficient})


def merged_by_peft(
    updates: Sequence[Update],
    combination: str,
    *,
    density: float | None = None,
    seed: int = 0,
) -> Delta:
    """ΔW of the adapter that PEFT makes of several, by weight name.

    PEFT looks at the adapters' factors alone, so they hang on empty linear layers of the model's
    shapes.  Adapters of smaller rank are filled up with zeros, which PEFT's combinations of factors
    ask for.  ``svd`` and those that end with it have the rank of the adapters.

    Args:
        updates: adapters, one a task, their scale folded into the factors.
        combination: PEFT's ``combination_type``.
        density: share of the entries that it keeps, for those that drop some.
        seed: of its random drops; torch's own state is left alone.

    Raises:
        UpdateError: an update is not an adapter's factors.
    """
    from peft import LoraConfig, get_peft_model

    shapes = check_updates(updates)
    rank = max((_factors(u, layer).rank for u in updates for layer in u), default=1)
    layers = list(shapes)
    places = [str(place) for place in range(len(layers))]
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=places)
    names = [f"task{number}" for number in range(len(updates))]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # A density of 1 is allowed here, and PEFT warns of it.
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(seed)
        # Names without dots, as modules have them.
        skeleton = nn.Sequential(
            *(nn.Linear(shapes[layer][1], shapes[layer][0], bias=False) for layer in layers)
        )
        model: Any = get_peft_model(skeleton, config, names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
        modules = [model.base_model.model[int(place)] for place in places]
        with torch.no_grad():
            for name, update in zip(names, updates, strict=True):
                for layer, module in zip(layers, modules, strict=True):
                    _load(module, name, update, layer)
            model.base_model.add_weighted_adapter(
                names,
                [1.0] * len(names),
                "merged",
                combination_type=combination,
                density=density,
                svd_full_matrices=False,
            )
            return {
                layer: module.get_delta_weight("merged").detach().clone()
                for layer, module in zip(layers, modules, strict=True)
            }


def _factors(update: Update, layer: str) -> LowRank:
    part = update[layer]
    if not isinstance(part, LowRank):
        raise UpdateError(
            f"layer {layer} is dense, as in a full checkpoint or a DoRA adapter; PEFT merges "
            "adapters' factors"
        )
    return part


def _load(module: Any, name: str, update: Update, layer: str) -> None:
    """Give an adapter its factors in a layer; zero beyond their rank, and where it has none."""
    down, up = module.lora_A[name].weight, module.lora_B[name].weight
    down.zero_()
    up.zero_()
    if layer in update:
        part = _factors(update, layer)
        down[: part.rank].copy_(part.A)
        up[:, : part.rank].copy_(part.B)
