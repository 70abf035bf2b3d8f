"""Training one update, unprotected or protected by an objective; what is cut off resumes exactly.

All randomness of step t comes from generators named after (seed, run, t), so the state that a
checkpoint must hold is only what the optimiser knows: a resumed run repeats the bytes of an
uninterrupted one (on the CPU).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trap2.data.prepared import SplitName
from trap2.models.scoring import Score, in_mixed_precision, mixed_precision
from trap2.models.task import Task
from trap2.protection.objective import (
    Objective,
    SituatedObjective,
    Surroundings,
    accumulate_gradient,
)
from trap2.runtime import files
from trap2.runtime.interruption import Interrupted, noticing_sigterm
from trap2.runtime.seeding import numpy_generator, seed_of
from trap2.training.settings import Optimisation
from trap2.updates.delta import Update
from trap2.updates.trainable import TrainableUpdate, Where


@dataclass
class Progress:
    """What training knows at some step, beyond the tensors."""

    step: int = 0
    best_accuracy: float = -math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def learning_rate(settings: Optimisation, step: int) -> float:
    """Linear warm-up, then a cosine from the peak to zero at ``settings.steps``."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    span = max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * _ratio(step, settings, span)))


def _ratio(step: int, settings: Optimisation, span: int) -> float:
    return min(1.0, (step - settings.warmup_steps) / span)


def batch_indices(n: int, batch_size: int, step: int, seed: int, run: str) -> np.ndarray:
    """The images of one step: epochs of seeded permutations, read without a gap."""
    start = step * batch_size
    wanted = np.arange(start, start + batch_size)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(wanted // n):
        order = numpy_generator(seed, run, "epoch", str(epoch)).permutation(n)
        inside = wanted // n == epoch
        indices[inside] = order[wanted[inside] % n]
    return indices


def flatten(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One parameter of which the given ones become views, and its gradient theirs.

    The optimiser is a dozen operations a tensor, which for an adapter's many small ones take
    longer than the numbers; on one tensor they are the same numbers.

    Args:
        parameters: of one type, on one device.
    """
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for parameter in parameters:
        part = slice(start, start + parameter.numel())
        parameter.data = flat.data[part].view_as(parameter)
        parameter.grad = flat.grad[part].view_as(parameter)
        start = part.stop
    return flat


class Trainer:
    """Fits an update to a task and keeps the weights of the best validation."""

    def __init__(
        self,
        update: TrainableUpdate,
        task: Task,
        settings: Optimisation,
        objective: Objective | None,
        *,
        seed: int,
        run: str,
        log: Callable[[str], None] = print,
        partners: Mapping[str, Update] | None = None,
        start: str | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            update: the update to train.
            task: what it is trained and validated on, on the same device.
            settings: the optimisation.
            objective: what a trained protection minimises; ``None`` trains an unprotected update.
            seed: the configuration's seed.
            run: the run's name; with the seed it decides every random draw.
            log: receives a line of progress every few seconds.
            partners: other tasks' unprotected updates on the same device, for an objective that
                is trained against them.
            start: the SHA-256 of what the update was set to before, where it is not a fresh one.
        """
        self.update, self.task, self.settings = update, task, settings
        if isinstance(objective, SituatedObjective):
            named, origin = update.named_parameters(), update.origin()
            objective = objective.within(Surroundings(update.layers, partners or {}, named, origin))
        self.objective = objective
        self.seed, self.run, self.log, self.start = seed, run, log, start
        self.device = update.parameters()[0].device
        self.progress = Progress()
        self.flat = flatten(update.parameters())
        self.optimiser = torch.optim.AdamW(
            [self.flat],
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )
        self.best = {name: t.clone() for name, t in update.state().items()}

    def fit(self, checkpoint: Path | None = None, every_seconds: float = math.inf) -> Progress:
        """Train to the end, from ``checkpoint`` if that file exists.

        Args:
            checkpoint: where to keep the state of an unfinished run.  It stays there: whoever has
                written the result down may remove it.
            every_seconds: how often to write it.

        Returns:
            The run's history; the update holds the best validation's weights.

        Raises:
            Interrupted: a SIGTERM came; the checkpoint, if there is to be one, was written.
        """
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)
        clock = _Clock(self.progress, self.settings, self.log)
        saved = time.monotonic()
        self.update.module.train()
        with noticing_sigterm() as asked_to_end:
            while not self._finished():
                losses = self._step()
                self.progress.step += 1
                clock.tick(losses)
                if self._validation_is_due():
                    self._validate()
                    self.update.module.train()
                ending = asked_to_end()
                if checkpoint is not None and (ending or time.monotonic() - saved > every_seconds):
                    clock.stop()
                    self._save(checkpoint)
                    saved = time.monotonic()
                if ending:
                    raise Interrupted(self.progress.step)
        clock.stop()
        self.update.load_state(self.best)
        return self.progress

    def score(self, split: SplitName) -> Score:
        """Accuracy and loss of the update at the nominal scale, in evaluation mode."""
        self.update.module.eval()
        return self.task.score(self.update.at(1.0), split)

    def _finished(self) -> bool:
        stopped = self.progress.stale >= self.settings.patience
        return self.progress.step >= self.settings.steps or stopped

    def _validation_is_due(self) -> bool:
        step = self.progress.step
        return step % self.settings.evaluate_every == 0 or step == self.settings.steps

    def _step(self) -> tuple[float, float]:
        """One step of Algorithm 1; returns the nominal and the off-nominal loss."""
        step, settings = self.progress.step, self.settings
        torch.manual_seed(seed_of(self.seed, self.run, "dropout", str(step)))
        drawn: Any = math.nan
        if self.objective is not None:
            drawn = self.objective.draw(numpy_generator(self.seed, self.run, "scale", str(step)))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, step)
        self.optimiser.zero_grad(set_to_none=False)
        count = len(self.task.labels("train"))
        chosen = batch_indices(count, settings.batch_size, step, self.seed, self.run)
        nominal = off_nominal = 0.0
        for start in range(0, settings.batch_size, settings.micro_batch_size):
            part = chosen[start : start + settings.micro_batch_size]
            share = len(part) / settings.batch_size
            loss_at = _BatchLoss(self.update, self.task, part, self.device, settings.together)
            with self.update.same_masks():
                losses = accumulate_gradient(loss_at, self.objective, drawn, share)
            nominal, off_nominal = nominal + share * losses[0], off_nominal + share * losses[1]
        gradients = [p.grad for p in self.update.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        torch.nn.utils.clip_grads_with_norm_([self.flat], settings.clip_norm, norm)
        self.optimiser.step()
        return nominal, off_nominal

    def _validate(self) -> None:
        progress = self.progress
        result = self.score("val")
        progress.history.append(
            {"step": progress.step, "val_accuracy": result.accuracy, "val_loss": result.loss}
        )
        self.log(f"step {progress.step}: validation accuracy {result.accuracy:.2f} %")
        if result.accuracy > progress.best_accuracy + self.settings.improvement:
            progress.best_accuracy, progress.best_step = result.accuracy, progress.step
            progress.stale = 0
            self.best = {name: t.clone() for name, t in self.update.state().items()}
        else:
            progress.stale += 1

    def _save(self, path: Path) -> None:
        tensors = {f"now.{n}": t for n, t in self.update.state().items()}
        tensors |= {f"best.{n}": t for n, t in self.best.items()}
        moments = self.optimiser.state.get(self.flat, {})
        tensors |= {f"optimiser.{n}": torch.as_tensor(v) for n, v in moments.items()}
        metadata = {"run": self._identity(), "progress": json.dumps(asdict(self.progress))}
        files.write_tensors(path, tensors, metadata)
        self.log(f"step {self.progress.step}: wrote {path.name}, a killed job resumes from here")

    def _identity(self) -> str:
        objective = None if self.objective is None else self.objective.record()
        identity = [self.seed, self.run, asdict(self.settings), objective]
        started = [] if self.start is None else [self.start]
        return json.dumps(identity + started, sort_keys=True)

    def _resume(self, path: Path) -> None:
        try:
            tensors, metadata = files.read_tensors(path), files.read_metadata(path)
        except files.FileError as error:
            self.log(f"{error} Starting afresh instead")
            return
        if metadata.get("run") != self._identity():
            self.log(f"{path.name} is of a run with other settings; starting afresh")
            return
        self.update.load_state(_part(tensors, "now."))
        self.best = {n: t.to(self.device) for n, t in _part(tensors, "best.").items()}
        self.optimiser.state[self.flat] = {
            n: t if n == "step" else t.to(self.device)
            for n, t in _part(tensors, "optimiser.").items()
        }
        self.progress = Progress(**json.loads(metadata["progress"]))
        self.log(f"resuming from step {self.progress.step}")


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


class _BatchLoss:
    """The loss on a batch by the scale of the update, or by a point off that line."""

    def __init__(
        self,
        update: TrainableUpdate,
        task: Task,
        chosen: np.ndarray,
        device: torch.device,
        together: bool,
    ) -> None:
        self._update, self._task, self._device = update, task, device
        self._batch, self._together = task.batch("train", chosen), together

    def __call__(self, where: Where) -> torch.Tensor:
        model = in_mixed_precision(self._update.at(where), self._device)
        return self._task.loss(model, self._batch)

    def both(self, where: Where) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The loss at s = 1 and that at a point, where they are to share a pass and can."""
        pair = self._update.pair(where) if self._together else None
        if pair is None:
            return None
        with mixed_precision(self._device):
            outputs = pair(self._batch.inputs)
        nominal, off_nominal = (self._loss_of(output) for output in outputs)
        return nominal, off_nominal

    def _loss_of(self, output: torch.Tensor) -> torch.Tensor:
        return self._task.loss(lambda _inputs: output, self._batch)


class _Clock:
    """Counts a run's seconds over interruptions and says how far it is."""

    def __init__(
        self, progress: Progress, settings: Optimisation, log: Callable[[str], None]
    ) -> None:
        self.progress, self.settings, self.log = progress, settings, log
        self.first_step = progress.step
        self.started = self.counted = self.spoke = time.monotonic()

    def tick(self, losses: tuple[float, float]) -> None:
        now = time.monotonic()
        if now - self.spoke < 10:
            return
        self.spoke = now
        step, steps = self.progress.step, self.settings.steps
        speed = (step - self.first_step) / (now - self.started)
        off = "" if math.isnan(losses[1]) else f", off-nominal {losses[1]:.3f}"
        self.log(
            f"step {step}/{steps}: loss {losses[0]:.3f}{off}, "
            f"{speed * self.settings.batch_size:.0f} examples/s, "
            f"at most {(steps - step) / speed:.0f} s left"
        )

    def stop(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self.counted
        self.counted = now
