"""What a protection is: an objective in place of the task loss, a transform, or the two in turn.

Free of heavy imports, as every catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trap2.runtime.catalogue import Catalogue, CatalogueError, Entry, Options
from trap2.runtime.errors import Trap2Error

if TYPE_CHECKING:
    from torch import Tensor

    from trap2.protection.objective import Objective
    from trap2.protection.transforms import Draws, Heads, Transform

Layers = Mapping[str, Any]
"""By weight name: low-rank factors (an adapter's ΔW) or tensors (all weights)."""

Protect = Callable[["Layers", "Layers", "Heads", "Draws"], dict[str, Any]]
"""From an update's layers, W0, the attention modules with their numbers of heads, and the source of
randomness, to the layers that are released."""

Accuracy = Callable[[Mapping[str, "Tensor"]], float]
"""The update's accuracy on the task's validation split in percent, with some of the model's
weights W replaced by others, by name."""


class NotApplicable(Trap2Error):
    """Nothing for a protection to act on in a model or release format; the message says why."""


@dataclass(frozen=True)
class Context:
    """What a protection may use besides the update and W0.

    Attributes:
        heads: the attention modules with their numbers of heads.
        draws: the source of randomness.
        options: the protection's, checked and complete.
        accuracy: on the validation split, None where that is not at hand.
        found: what a protection writes into it, as JSON, stands in the update's record.
    """

    heads: Heads
    draws: Draws
    options: Options
    accuracy: Accuracy | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def measured(self) -> Accuracy:
        """:attr:`accuracy`, which a protection needs.

        Raises:
            Trap2Error: there is none.
        """
        if self.accuracy is None:
            raise Trap2Error(
                "this protection measures accuracies, and no validation split is at hand; give "
                "the function an accuracy, or use `trap2 protect` or `trap2 train`"
            )
        return self.accuracy


ProtectWith = Callable[["Layers", "Layers", Context], dict[str, Any]]
"""As :data:`Protect`, of a protection that has options or looks at the validation accuracy."""


@dataclass(frozen=True, kw_only=True)
class Protection(Entry):
    """A protection, with an objective, a transform, or both.

    The transform of a protection without objective is post-hoc: of an unprotected update.  That of
    one with an objective is of what was trained, before it is scored and released.

    Attributes:
        release_formats: the updates that it takes: adapters (``lora``; a transform gets
            low-rank factors ΔW by layer) or whole checkpoints (``full``; all weights W).
        objective: what training minimises, from λ and complete options; makes it a trained
            protection, with one training for each λ of a suite's grid.
        strength: the option that is its λ; it is then trained once, at that option's value, and
            no grid of a suite's is of it.
        needs_unprotected: whether its training starts from the unprotected update of its task.
        needs_partners: whether the objective, with some complete options, is trained against the
            other tasks' unprotected updates.
        protect: the transform; leaves its arguments as they are.
        protect_with: the transform of a protection with options, or that measures accuracies; one
            of the two at most.
        transform: the distribution that a transform draws from, for the record.
        needs_attention: whether it acts on attention projections.
    """

    release_formats: tuple[str, ...] = ("lora", "full")
    objective: Callable[[float, Options], Objective] | None = None
    strength: str | None = None
    needs_unprotected: bool = False
    needs_partners: Callable[[Options], bool] | None = None
    protect: Protect | None = None
    protect_with: ProtectWith | None = None
    transform: Callable[[], Transform] | None = None
    needs_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective is None and self.transforming is None:
            raise CatalogueError(f"{self.name}: give an objective or a function protect")
        if self.protect is not None and self.protect_with is not None:
            raise CatalogueError(f"{self.name}: give protect or protect_with, not both")
        if self.objective is None and (self.strength or self.needs_unprotected):
            raise CatalogueError(
                f"{self.name} has strength or needs_unprotected, which are a training's, and no "
                "objective. Give one, or leave them out"
            )
        if self.strength is not None and self.strength not in self.options:
            raise CatalogueError(
                f"{self.name}: strength is {self.strength!r}, and it has no such option"
            )

    @property
    def transforming(self) -> ProtectWith | None:
        """The transform in its general form; None where there is none."""
        simple = self.protect
        if simple is None:
            return self.protect_with
        return lambda layers, base, at: simple(layers, base, at.heads, at.draws)


PROTECTIONS: Catalogue[Protection] = Catalogue(
    "protection",
    names="[a-z0-9][a-z0-9-]*",
    reserved=["unprotected", "fine-tuned", "zero-shot", "none", "ablation"],
)
"""Names stand in the paths of updates, beside those reserved."""
