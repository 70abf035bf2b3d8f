"""What people do to a published update without merging it, by name: ordinary use.

Free of heavy imports, as every catalogue.  Adding a treatment is one entry, also of a plugin.  The
selection and the rules behind it are this project's own; no paper was found that tried them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trap2.runtime.catalogue import Catalogue, Entry

if TYPE_CHECKING:
    from trap2.evaluation.handled import Handled, Subject

RELEASED = "as-released"
"""The treatment that others are compared with: W0 + ΔW in float32."""


@dataclass(frozen=True, kw_only=True)
class Treatment(Entry):
    """Something done to one update, alone on its base.

    Attributes:
        handle: from the update on its base to the model as it is then used.
        factors: it acts on an adapter's factors B and A, so that a whole checkpoint and DoRA,
            whose ΔW is no product, are left out.
    """

    handle: Callable[[Subject], Handled]
    factors: bool = False


TREATMENTS: Catalogue[Treatment] = Catalogue("treatment", names="[a-z0-9][a-z0-9-]*")


def _scaled(weight: float) -> Callable[[Subject], Handled]:
    def handle(subject: Subject) -> Handled:
        from trap2.evaluation.handled import Handled

        return Handled(subject.merged(weight))

    return handle


def _computed(dtype: str) -> Callable[[Subject], Handled]:
    def handle(subject: Subject) -> Handled:
        import torch

        from trap2.evaluation.handled import Handled

        return Handled(subject.merged(), dtype=getattr(torch, dtype))

    return handle


def _cast(dtype: str, *, factors: bool) -> Callable[[Subject], Handled]:
    def handle(subject: Subject) -> Handled:
        import torch

        from trap2.evaluation.handled import cast_merged, cast_update

        cast = cast_update if factors else cast_merged
        return cast(subject, getattr(torch, dtype))

    return handle


def _truncated(share: float, *, merged: bool = False) -> Callable[[Subject], Handled]:
    def handle(subject: Subject) -> Handled:
        from trap2.evaluation.handled import extracted, truncated

        return (extracted if merged else truncated)(subject, share)

    return handle


def _quantised(what: str, bits: int) -> Callable[[Subject], Handled]:
    def handle(subject: Subject) -> Handled:
        from trap2.evaluation import handled

        quantise = {
            "base": handled.quantised_base,
            "update": handled.quantised_update,
            "merged": handled.quantised_merged,
        }[what]
        return quantise(subject, bits)

    return handle


def _beside(subject: Subject) -> Handled:
    from trap2.evaluation.handled import beside

    return beside(subject)


def _entry(
    name: str, title: str, handle: Callable[[Subject], Handled], *, factors: bool = False
) -> Treatment:
    return Treatment(name=name, title=title, paper="ours", handle=handle, factors=factors)


TREATMENTS.add(_entry(RELEASED, "as released", _scaled(1.0)))
TREATMENTS.add(_entry("unmerged", "run beside the base", _beside, factors=True))
TREATMENTS.add(_entry("float64", "computed in float64", _computed("float64")))
TREATMENTS.add(_entry("compute-bf16", "computed in bfloat16", _computed("bfloat16")))
TREATMENTS.add(_entry("compute-fp16", "computed in float16", _computed("float16")))
TREATMENTS.add(
    _entry("update-bf16", "factors in bfloat16", _cast("bfloat16", factors=True), factors=True)
)
TREATMENTS.add(
    _entry("update-fp16", "factors in float16", _cast("float16", factors=True), factors=True)
)
TREATMENTS.add(_entry("merged-bf16", "merged, in bfloat16", _cast("bfloat16", factors=False)))
TREATMENTS.add(_entry("merged-fp16", "merged, in float16", _cast("float16", factors=False)))
TREATMENTS.add(_entry("weight-0-90", "weight 0.9", _scaled(0.9)))
TREATMENTS.add(_entry("weight-0-95", "weight 0.95", _scaled(0.95)))
TREATMENTS.add(_entry("weight-1-05", "weight 1.05", _scaled(1.05)))
TREATMENTS.add(_entry("weight-1-10", "weight 1.1", _scaled(1.1)))
TREATMENTS.add(_entry("extract-r", "merged, extracted at r", _truncated(1.0, merged=True)))
TREATMENTS.add(_entry("extract-r-2", "merged, extracted at r/2", _truncated(0.5, merged=True)))
TREATMENTS.add(_entry("extract-r-4", "merged, extracted at r/4", _truncated(0.25, merged=True)))
TREATMENTS.add(_entry("rank-3-4", "cut to rank 3r/4", _truncated(0.75), factors=True))
TREATMENTS.add(_entry("rank-1-2", "cut to rank r/2", _truncated(0.5), factors=True))
TREATMENTS.add(_entry("rank-1-4", "cut to rank r/4", _truncated(0.25), factors=True))
TREATMENTS.add(_entry("base-int8", "base in int8", _quantised("base", 8), factors=True))
TREATMENTS.add(_entry("base-int4", "base in int4", _quantised("base", 4), factors=True))
TREATMENTS.add(_entry("update-int8", "factors in int8", _quantised("update", 8), factors=True))
TREATMENTS.add(_entry("update-int4", "factors in int4", _quantised("update", 4), factors=True))
TREATMENTS.add(_entry("merged-int8", "merged, in int8", _quantised("merged", 8)))
TREATMENTS.add(_entry("merged-int4", "merged, in int4", _quantised("merged", 4)))
