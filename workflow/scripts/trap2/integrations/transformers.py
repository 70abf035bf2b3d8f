"""TRAP² in a script that fine-tunes with transformers and PEFT.

    from trap2.integrations.transformers import Trap2, Trap2Trainer

    trainer = Trap2Trainer(model=model, args=args, train_dataset=data, trap2=Trap2(0.1))

Everything else is transformers' ``Trainer``, and what it saves an ordinary PEFT adapter with a
warning on its model card.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from trap2.integrations.adapters import (
    AdapterError,
    adapter_layers,
    scale_of_step,
    scaled,
    trap2_backward,
)
from trap2.protection.trap2 import Trap2, random_state, set_random_state
from trap2.runtime import files

__all__ = ["Trap2", "Trap2Trainer", "scale_of_step", "trap2_backward"]

WARNING = """## Warning: do not rescale or merge

This adapter was trained with TRAP² to fail at every scale but 1. Merging it, averaging it with
other adapters, or changing its scale (`lora_alpha`, adapter weights, `scaling`) breaks it on
purpose, and can spoil what it is merged into. Use it alone, on its base model, as it was saved.
"""


class Trap2Trainer(Trainer):
    """transformers' Trainer with the TRAP² objective in the place of the loss.

    A step makes two passes, at the adapter's own scale and at one s drawn for the step from the
    arguments' seed; both see the same random state.  ``off_nominal_loss`` is logged beside
    ``loss``, which is the loss at s = 1.  Gradient accumulation, gradient checkpointing, mixed
    precision and quantised bases are the Trainer's and PEFT's.
    """

    def __init__(self, *args: Any, trap2: Trap2, **named: Any) -> None:
        """Check the model and prepare.

        Args:
            args: the Trainer's.
            trap2: the objective's settings, ``Trap2(lambda_)`` at least.
            named: the Trainer's.

        Raises:
            AdapterError: the model has no adapter that can be scaled, or DeepSpeed is on.
        """
        super().__init__(*args, **named)
        if isinstance(self.model, nn.Module):
            adapter_layers(self.model)
        if self.is_deepspeed_enabled:
            raise AdapterError(
                "DeepSpeed counts every backward pass as a micro-batch, and TRAP² has two. Train "
                "with DDP or on one GPU"
            )
        self.trap2 = trap2
        self._factor: float | None = None
        self._off_nominal: list[torch.Tensor] = []

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **named: Any
    ) -> torch.Tensor:
        """One micro-batch: both terms, one after the other; returns the loss at s = 1."""
        s = scale_of_step(self.trap2, self.args.seed, self.state.global_step)
        weight, before = self.trap2.off_nominal_weight(s), random_state()
        nominal: torch.Tensor = super().training_step(model, dict(inputs), *args, **named)
        if weight == 0:
            return nominal
        set_random_state(before)
        self._factor = -weight
        try:
            with scaled(adapter_layers(model), s):
                found = super().training_step(model, dict(inputs), *args, **named)
        finally:
            self._factor = None
        self._off_nominal.append(found / -weight)
        return nominal

    def compute_loss(self, *args: Any, **named: Any) -> Any:
        """The Trainer's loss; in a step's second pass times −λ·w(s)."""
        found = super().compute_loss(*args, **named)
        if self._factor is None:
            return found
        if isinstance(found, tuple):
            return (self._factor * found[0], *found[1:])
        return self._factor * found

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """The Trainer's, with the mean off-nominal loss since the last time."""
        if "loss" in logs and self._off_nominal:
            per_step = self.args.gradient_accumulation_steps
            mean = torch.stack([loss.float() for loss in self._off_nominal]).mean().item()
            logs = {**logs, "off_nominal_loss": round(per_step * mean, 4)}
            self._off_nominal.clear()
        super().log(logs, *args, **named)

    def _save(self, output_dir: str | None = None, *args: Any, **named: Any) -> None:
        super()._save(output_dir, *args, **named)
        folder = output_dir if output_dir is not None else self.args.output_dir
        if self.args.should_save and folder is not None:
            warn_on_card(folder)


def warn_on_card(folder: str | os.PathLike[str]) -> None:
    """Add the warning to an adapter's model card (``README.md``), once.

    Args:
        folder: of the saved adapter; a card without the rest is written where there is none.
    """
    card = Path(folder) / "README.md"
    text = card.read_text("utf-8") if card.exists() else "---\nlibrary_name: peft\n---\n"
    if WARNING not in text:
        files.write_text(card, f"{text.rstrip()}\n\n{WARNING}")
