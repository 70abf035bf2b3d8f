"""A protection's transform where it happens: on an update's folder, or at the end of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from trap2.models.task import Task
from trap2.protection.catalogue import PROTECTIONS
from trap2.protection.post_hoc import protect_adapter, protect_checkpoint
from trap2.protection.protection import Accuracy
from trap2.protection.transforms import attention_heads
from trap2.updates.delta import LowRank, UpdateError
from trap2.updates.key import UpdateKey
from trap2.updates.lora import LoraUpdate
from trap2.updates.trainable import FullUpdate, TrainableUpdate

Weights = Mapping[str, torch.Tensor]


def accuracy_with(tower: nn.Module, weights: Weights, task: Task) -> Accuracy:
    """The validation accuracy of a fine-tuned tower with some of its weights replaced by others.

    Args:
        tower: of W0, on the task's device; left as it is.
        weights: the fine-tuned W, those that differ from the tower's at least.
        task: has the validation split.
    """
    own = dict(tower.named_parameters())

    def like(name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight.to(own[name].device, own[name].dtype)

    tuned = {name: like(name, weight) for name, weight in weights.items()}

    def accuracy(replaced: Weights) -> float:
        now = tuned | {name: like(name, weight) for name, weight in replaced.items()}
        tower.eval()

        def model(inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = functional_call(tower, now, (inputs,))
            return output

        return task.score(model, "val").accuracy

    return accuracy


def added(base: Weights, adapter: Mapping[str, LowRank]) -> dict[str, torch.Tensor]:
    """W0 + ΔW of the layers that an adapter changes."""
    return {name: base[name] + delta.dense(base[name].dtype) for name, delta in adapter.items()}


def transform_after(
    key: UpdateKey, options: Mapping[str, object], seed: int
) -> Callable[[TrainableUpdate, nn.Module, Task], dict[str, Any]] | None:
    """What is done at the end of a training with a protection; None where it has no transform.

    Args:
        key: which update is trained.
        options: the protection's; the others are at their defaults.
        seed: the configuration's.
    """
    if PROTECTIONS[key.protection].transforming is None:
        return None
    return partial(transform_trained, key, options, seed)


def transform_trained(
    key: UpdateKey,
    options: Mapping[str, object],
    seed: int,
    update: TrainableUpdate,
    base: nn.Module,
    task: Task,
) -> dict[str, Any]:
    """Apply a trained protection's transform to what was trained, in place.

    Args:
        key: which update it is.
        options: the protection's; the others are at their defaults.
        seed: the configuration's; with protection, task and layer it decides every draw.
        update: as training left it.
        base: a tower of W0 of its own, on the task's device.
        task: what the update was trained on.

    Returns:
        For the record: the options, and what the transform found.

    Raises:
        NotApplicable: the transform takes other updates, or the backbone has no attention.
        UpdateError: the update is a DoRA adapter, whose ΔW is not low-rank.
    """
    heads = attention_heads(base)
    origin = {name: weight.detach().cpu() for name, weight in base.named_parameters()}
    found: dict[str, Any] = {}
    common: Any = {"seed": seed, "task": key.task, "options": options, "found": found}
    if isinstance(update, FullUpdate):
        weights = {name: weight.cpu() for name, weight in update.state().items()}
        common["accuracy"] = accuracy_with(base, weights, task)
        update.load_state(protect_checkpoint(key.protection, weights, origin, heads, **common))
    else:
        lora, adapter = _factors(update)
        common["accuracy"] = accuracy_with(base, added(origin, adapter), task)
        lora.set_factors(protect_adapter(key.protection, adapter, origin, heads, **common))
    return {"options": dict(PROTECTIONS[key.protection].check_options(options)), **found}


def _factors(update: TrainableUpdate) -> tuple[LoraUpdate, dict[str, LowRank]]:
    if not isinstance(update, LoraUpdate):
        raise UpdateError(
            "a DoRA adapter's ΔW is no product BA, and a transform of adapters takes B and A. Set "
            "adapter.dora to false, or choose a protection without transform"
        )
    found = {name: LowRank(f.B.cpu(), f.A.cpu()) for name, f in update.factors().items()}
    return update, found
