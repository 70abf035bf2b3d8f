"""What an attack makes of published updates, apart from how they are merged afterwards.

The sibling papers merge at a coefficient that is given.  Attacks of the catalogue end in a merge by
Task Arithmetic with a searched one; on :class:`FixedStage` it is given, and what was merged can be
merged otherwise as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from trap2.attacks.catalogue import ATTACKS
from trap2.attacks.running import merges
from trap2.attacks.stage import Merge, Stage
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.models.task import Task
from trap2.protection.adapters import layer_name
from trap2.runtime.catalogue import Options
from trap2.updates.delta import Update, dense
from trap2.updates.sibling_records import SiblingDistance

NONE = "none"
"""What is done before merging where nothing is."""

PAIRS = {"qk": ("q_proj", "k_proj"), "vo": ("v_proj", "out_proj")}


class FixedStage(Stage):
    """A stage on which Task Arithmetic has a given coefficient, and nothing is searched.

    Args:
        model: holds W0; it does so again after every call.
        tasks: by name.
        updates: one a task, as published.
        protected: the protected task.
        coefficient: λ of Task Arithmetic.
        seed: the configuration's.

    Attributes:
        summed: what was last merged by Task Arithmetic, by task; None before.
        sum: that merge.

    Raises:
        Trap2Error: there is no such task, or the tasks are not the updates'.
    """

    def __init__(
        self,
        model: nn.Module,
        tasks: Mapping[str, Task],
        updates: Mapping[str, Update],
        protected: str,
        coefficient: float,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(model, tasks, updates, protected, Search(), {}, seed=seed)
        self.coefficient = coefficient
        self.dtype = next(model.parameters()).dtype
        self.summed: Mapping[str, Update] | None = None
        self.sum: Merge | None = None

    def merge_by_ta(self, updates: Mapping[str, Update]) -> Merge:
        """Task Arithmetic at the given coefficient.

        Args:
            updates: by task; what the attacker has made of the published ones.
        """
        delta = Merger(list(updates.values()), "Full", self.dtype).merge("TA")
        self.summed, self.sum = updates, Merge(delta, self.coefficient)
        return self.sum


@dataclass(frozen=True)
class Remade:
    """What an attack ends with: updates to be merged, or a merge of its own.

    Attributes:
        updates: by task; None where it ends with a merge.
        merge: what it ends with; None where nothing was done.
    """

    updates: Mapping[str, Update] | None
    merge: Merge | None = None


def remade(stage: FixedStage, attack: str, options: Options) -> Remade:
    """Run an attack as far as the updates that it merges.

    Args:
        stage: where; with two tasks, the partner is the reference of a rotation.
        attack: an attack, or :data:`NONE`.
        options: its complete options, ``then`` at ``one``.

    Raises:
        DoesNotApply: the attack says so, or its arithmetic fails.
    """
    if attack == NONE:
        return Remade(stage.updates)
    stage.begin(attack, 0)
    # Of a curve over its budget the last point is what an attack comes to.
    *_, merge = merges(stage, ATTACKS[attack], options)
    return Remade(stage.summed, merge) if merge is stage.sum else Remade(None, merge)


def attention_distances(
    update: Update, attentions: Iterable[str], attack: str
) -> list[SiblingDistance]:
    """How far each layer's attention lies from W0 (Merge-Lock, Figure 2).

    √(‖ΔW_q‖² + ‖ΔW_k‖²), and of v and out; how two matrices combine is not in the paper (ours).

    Args:
        update: ΔW by weight name; a weight that it lacks is at W0.  Biases do not count.
        attentions: names of the attention modules, in model order.
        attack: what was done to the update.
    """
    return [
        {
            "layer": layer,
            "pair": pair,
            "attack": attack,
            "distance": _norm(update, [layer_name(attention, name) for name in names]),
        }
        for layer, attention in enumerate(attentions)
        for pair, names in PAIRS.items()
    ]


def _norm(update: Update, layers: Iterable[str]) -> float:
    squares = [float(dense(update[n]).double().square().sum()) for n in layers if n in update]
    return float(sum(squares) ** 0.5)
