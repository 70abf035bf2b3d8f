"""The form of an adapter."""

from __future__ import annotations

from dataclasses import dataclass

from trap2.runtime.settings import setting


@dataclass(frozen=True)
class AdapterSettings:
    """A LoRA adapter's form (paper, Appendix D.3)."""

    rank: int = setting("LoRA rank r.", 16, at_least=1, at_most=65_536)
    alpha: int = setting(
        "LoRA α; the nominal scale is α / r (1 in the paper).", 16, at_least=1, at_most=65_536
    )
    dropout: float = setting("Dropout on the adapter's input.", 0.1, at_least=0, below=1)
    rslora: bool = setting("Scale by α / √r.", False)
    dora: bool = setting("DoRA: the norms of the weight's rows are trained too.", False)
