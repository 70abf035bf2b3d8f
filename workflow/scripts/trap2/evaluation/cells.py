"""Cells of Table 2: one merge of a set of updates, its coefficient searched on validation.

A cell's accuracy on the test split is read once, at the coefficient that validation chose
(paper, Appendix D.6; the search metric follows the authors' code).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn

from trap2.evaluation.sweep import Sweep
from trap2.evaluation.tasks import Scorer
from trap2.merging.catalogue import METHODS, PUBLISHED_OPTION_GRIDS, check_options
from trap2.merging.merger import Merger
from trap2.merging.sample import Sample
from trap2.merging.search import search_options
from trap2.merging.settings import Search
from trap2.models.layers import block_names, lora_targets
from trap2.models.scoring import score_record
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update
from trap2.updates.records import CellRecord, FoundCell, Options, TracePoint


def cell_key(parts: Mapping[str, object]) -> str:
    """What a cell depends on, as one digest; an equal key means that nothing changed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def seal(cell: CellRecord) -> CellRecord:
    """The cell with a digest of its other content, for :func:`is_whole`."""
    return {**cell, "digest": _content_key(cell)}


def is_whole(cell: CellRecord) -> bool:
    """Whether a cell of an earlier run is still what was written."""
    return cell.get("digest") == _content_key(cell)


def _content_key(cell: CellRecord) -> str:
    return cell_key({key: value for key, value in cell.items() if key != "digest"})


def search_cell(
    scorer: Scorer,
    merger: Merger,
    method: str,
    options: Options,
    search: Search,
    seed: int = 0,
) -> FoundCell:
    """Merge, search the coefficient on validation, and read the test split once.

    Args:
        scorer: the base model with the tasks to score it on; it holds W0 again afterwards.
        merger: the updates, encoded in one space.
        method: a merging method of that space.
        options: the method's configured options.
        search: the search's settings.
        seed: the configuration's; it decides the sample that screens, where one does.

    Returns:
        The cell's record: coefficient, options, the search's trace, how many images it took, and
        every task's score on both splits.
    """
    complete = check_options(method, options)
    grids = PUBLISHED_OPTION_GRIDS.get(method, {}) if search.second_hyperparameter else {}
    trace: list[TracePoint] = []
    sweep = Sweep(scorer, search.screening, seed)
    with _Merged(scorer.model, merger, method) as merged:

        def evaluate(s: float, tried: Options) -> float:
            merged.set(s, tried)
            validated = sweep.value(s)
            point: TracePoint = {"s": s, "value": validated.value}
            if validated.scores is None:
                point["at_most"] = True
            if validated.screened:
                point["screened"] = True
            trace.append({**point, "options": tried} if grids else point)
            return validated.value

        found = search_options(
            evaluate,
            complete,
            grids,
            step=search.step,
            maximum=search.maximum,
            patience=search.patience,
        )
        merged.set(found.coefficient, found.options)
        test = scorer.scores("test")
    return {
        "coefficient": found.coefficient,
        "options": found.options,
        "normalised_val_accuracy": found.value,
        "trace": trace,
        # The plain search validates every value, and the chosen one again.
        "images": {"validated": sweep.images, "plain": (len(trace) + 1) * sweep.every},
        "val": {task: score_record(result) for task, result in sweep.best.items()},
        "test": {task: score_record(result) for task, result in test.items()},
    }


class _Merged(AbstractContextManager["_Merged"]):
    """The model at W0 + s·M(options), merging anew only when the options change."""

    def __init__(self, model: nn.Module, merger: Merger, method: str) -> None:
        self.model, self.merger, self.method = model, merger, method
        self.options: Options | None = None
        self.applied: AppliedUpdate | None = None

    def set(self, s: float, options: Options) -> None:
        if self.applied is None or self.options != options:
            self._restore()
            self.options = dict(options)
            merged = self.merger.merge_layers(self.method, **options)
            self.applied = AppliedUpdate(self.model, merged)
        self.applied.set(s)

    def _restore(self) -> None:
        if self.applied is not None:
            self.applied.restore()

    def __exit__(self, *_error: object) -> None:
        self._restore()


def data_cell(
    scorer: Scorer,
    inputs: Sequence[Sequence[torch.Tensor]],
    updates: Sequence[Update],
    method: str,
    options: Mapping[str, object],
) -> FoundCell:
    """Merge with the samples and score the merged model at s = 1 on both splits.

    Args:
        scorer: the base model with the tasks to score it on; it holds W0 again afterwards.
        inputs: one list of batches a task (:func:`proxy_batches`).
        updates: one a task, in the order of the scorer's tasks.
        method: a merging method that needs a sample.
        options: the method's configured options.

    Returns:
        The cell's record: options, every task's score, the normalised validation accuracy, and
        for each layer what the method says of every task there.
    """
    complete = check_options(method, options)
    entry = METHODS[method]
    assert entry.with_data is not None, f"{method} needs no data"
    found = entry.with_data(sample_of(scorer, inputs), updates, complete)
    with AppliedUpdate(scorer.model, found.merged) as applied:
        applied.set(1.0)
        value = scorer.normalised_accuracy()
        test = scorer.scores("test")
    names = list(scorer.tasks)
    return {
        "options": complete,
        "paper": entry.paper,
        "normalised_val_accuracy": value,
        "test": {task: score_record(result) for task, result in test.items()},
        "coefficients": {
            layer: dict(zip(names, shares.tolist(), strict=True))
            for layer, shares in found.coefficients.items()
        },
    }


def sample_of(scorer: Scorer, inputs: Sequence[Sequence[torch.Tensor]]) -> Sample:
    """What a merge with data sees: the scorer's model and a sample of each of its tasks."""
    return Sample(
        scorer.model,
        lora_targets(scorer.model),
        inputs,
        [task.logits for task in scorer.tasks.values()],
        block_names(scorer.model),
    )
