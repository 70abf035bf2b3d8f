"""Every variant of an ablation merged with the other tasks' unprotected adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trap2.evaluation.cells import search_cell
from trap2.evaluation.tasks import Scorer
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.runtime import files
from trap2.updates.delta import Update
from trap2.updates.records import FoundCell, UpdateRecord, VariantRecord
from trap2.updates.stored import load_update

METHOD = "TA"


@dataclass(frozen=True)
class Variant:
    """An update that was trained with one setting changed.

    Attributes:
        value: of the setting, as files name it.
        record: the update's.
        update: its ΔW.
    """

    value: str
    record: UpdateRecord
    update: Update


def read_variants(
    values: Iterable[str], paths: Iterable[str], model: str | Path
) -> Iterator[Variant]:
    """The variants whose files are among a job's inputs, one a value, read when it is their turn.

    Args:
        values: the setting's value of each variant.
        paths: the variants' files, one folder after another.
        model: the file of W0.

    Raises:
        ValueError: there are more values than folders, or fewer.
    """
    folders = dict.fromkeys(Path(path).parent for path in paths)
    for value, folder in zip(values, folders, strict=True):
        yield Variant(value, files.read_json(folder / "update.json"), load_update(folder, model))


def merge_variants(
    scorer: Scorer,
    unprotected: Mapping[str, Update],
    references: Mapping[str, UpdateRecord],
    variants: Iterable[Variant],
    search: Search,
    log: Callable[[str], None],
) -> tuple[FoundCell, list[VariantRecord]]:
    """Merge each variant in its task's place by task arithmetic, coefficient searched.

    Args:
        scorer: the base model with the tasks; it holds W0 again afterwards.
        unprotected: every task's unprotected adapter.
        references: their records.
        variants: the updates to compare.
        search: how the coefficient is searched.
        log: receives a line a variant.

    Returns:
        The merge of the unprotected adapters alone, and one of each variant.
    """

    def merged(updates: Mapping[str, Update]) -> FoundCell:
        merger = Merger([updates[task] for task in scorer.tasks])
        return search_cell(scorer, merger, METHOD, {}, search)

    plain = merged(unprotected)
    found: list[VariantRecord] = []
    for variant in variants:
        task = variant.record["task"]
        cell = merged({**unprotected, task: variant.update})
        found.append(
            {
                "task": task,
                "value": variant.value,
                "cell": cell,
                "standalone": variant.record["test"]["accuracy"],
                "unprotected": references[task]["test"]["accuracy"],
            }
        )
        log(f"{variant.value}, {task}: s = {cell['coefficient']:g}")
    return plain, found
