"""What an attack is: who merges a protected update anyway, knowing what, and with which function.

An attack sees what a free-rider has: the base, the updates as they were published, which of the
tasks they are for, validation images, and what more it ``needs``: nothing, unlabelled training
images of its own (a sample), or labelled ones.  It never sees the test split, λ, the protection's
random draws or the unprotected update.  Free of heavy imports, as every catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trap2.runtime.catalogue import Catalogue, CatalogueError, Entry, Option, Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage

Run = Callable[["Stage", Options], "Iterator[Merge]"]
"""From the stage and complete options to the merges that the attack ends with: one, or one for
each point of a curve over its budget, the cheapest first."""

Knowledge = Literal["blind", "protected", "defense"]
"""What the attacker knows: nothing, that something is protected and which update it is, or how."""

GROUPS = ("coefficients", "update", "alignment", "data")
"""Attacks by what they work on; tables and figures keep this order."""


@dataclass(frozen=True, kw_only=True)
class Attack(Entry):
    """An attack on one protected update among unprotected ones.

    Attributes:
        run: what it does.
        group: one of :data:`GROUPS`.
        knowledge: what the attacker knows.
        release_formats: the updates that it works on, adapters (``lora``) or whole checkpoints
            (``full``).
        needs_attention: whether it works on attention projections.
        random: whether it draws at random, the images that it takes among them; it is then run
            with several seeds.
        methods: the merging methods that it runs by name: their code counts as its own.
    """

    run: Run
    group: str
    knowledge: Knowledge = "blind"
    release_formats: tuple[str, ...] = ("lora", "full")
    needs_attention: bool = False
    random: bool = False
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group not in GROUPS:
            raise CatalogueError(
                f"{self.name}: group = {self.group!r}; it must be one of {', '.join(GROUPS)}"
            )

    def knows(self, options: Options) -> Knowledge:
        """What the attacker knows, with complete options: two coefficients need the task."""
        apart = options.get("then") == "two" and self.knowledge == "blind"
        return "protected" if apart else self.knowledge


ATTACKS: Catalogue[Attack] = Catalogue("attack", names="[a-z0-9][a-z0-9-]*", reserved=["none"])

POINTS = Option(
    3,
    "points of the curve over images (and over steps, where there are some), a factor of 4 apart",
    high=10,
    whole=True,
)

THEN = Option(
    "one",
    "what follows: Task Arithmetic with one coefficient for all, searched as in the paper; or two, "
    "one for the protected update and one for the others, as in two-acquire on a small grid",
    choices=("one", "two"),
)
"""An option of attacks that make something of the published updates, and then merge them."""
