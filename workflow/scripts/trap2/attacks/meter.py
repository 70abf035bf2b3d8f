"""What an attack costs: images through the model, forward and backward, and images that it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from trap2.updates.records import CostRecord

Source = tuple[str, str]
"""A task and a split."""


@dataclass
class Meter:
    """Counts what goes through a model.

    Attributes:
        forward: images through the whole model; a pass through one of L blocks is 1/L.
        backward: images whose gradients went back through it.
        labelled: the most images of each task's split that were seen with labels.
        unlabelled: the same without.
    """

    forward: float = 0.0
    backward: float = 0.0
    labelled: dict[Source, int] = field(default_factory=dict)
    unlabelled: dict[Source, int] = field(default_factory=dict)

    def watch(self, model: nn.Module) -> None:
        """Count a model's passes from now on; a copy of the model counts here as well."""
        model.register_forward_hook(self._count)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Meter:
        return self

    def _count(self, _model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        images = len(inputs[0])
        self.forward += images
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(lambda _gradient: self.add(backward=images))

    def add(self, *, forward: float = 0.0, backward: float = 0.0) -> None:
        """Count passes that do not go through the whole model."""
        self.forward += forward
        self.backward += backward

    def saw(self, task: str, split: str, images: int, *, labelled: bool) -> None:
        """Count images of a task that were looked at; the same images count once."""
        seen = self.labelled if labelled else self.unlabelled
        seen[task, split] = max(images, seen.get((task, split), 0))

    def merge(self, other: Meter) -> None:
        """Add what another meter counted."""
        self.add(forward=other.forward, backward=other.backward)
        for labelled, seen in ((True, other.labelled), (False, other.unlabelled)):
            for (task, split), images in seen.items():
                self.saw(task, split, images, labelled=labelled)

    def take(self) -> Meter:
        """What was counted since the last time, as a meter of its own."""
        taken = Meter(self.forward, self.backward, self.labelled, self.unlabelled)
        self.forward, self.backward, self.labelled, self.unlabelled = 0.0, 0.0, {}, {}
        return taken

    def trained_on(self) -> Literal["nothing", "sample", "labels"]:
        """The most that was seen of any training split, as the entry of an attack calls it."""
        if any(split == "train" for _, split in self.labelled):
            return "labels"
        return "sample" if any(split == "train" for _, split in self.unlabelled) else "nothing"

    def record(self) -> CostRecord:
        """The cost as it stands in records: whole images, and the most that a task gave."""
        without = {
            source: images
            for source, images in self.unlabelled.items()
            if images > self.labelled.get(source, 0)
        }
        return {
            "forward": round(self.forward),
            "backward": round(self.backward),
            "labelled": _most(self.labelled),
            "unlabelled": _most(without),
        }


def _most(seen: Mapping[Source, int]) -> int:
    """The most images that one task gave, over all its splits."""
    of_task: dict[str, int] = {}
    for (task, _split), images in seen.items():
        of_task[task] = of_task.get(task, 0) + images
    return max(of_task.values(), default=0)
