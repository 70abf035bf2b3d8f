"""Families of vision towers: how one is recognised, and which of its layers LoRA adapts.

Free of heavy imports, because the workflow asks for a backbone's family in every job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """A family of towers.

    Attributes:
        name: in configurations and messages.
        prefix: how the names of its models begin, open_clip's or timm's; empty for open_clip's own
            vision transformer.
        adapted: full names, in the model, of the linear layers that are adapted (Appendix D.3).
        blocks: full names of the model's repeated parts.
        attention: whether it has q, k, v and out projections in which a post-hoc defense can
            hide its transform.
    """

    name: str
    prefix: str
    adapted: re.Pattern[str]
    blocks: re.Pattern[str]
    attention: bool = False


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "vit",
            "",
            re.compile(r"transformer\.resblocks\.\d+\.attn\.(q|k|v|out)_proj"),
            re.compile(r"transformer\.resblocks\.\d+"),
            attention=True,
        ),
        Family(
            "convnext",
            "convnext",
            re.compile(r"trunk\.stages\.\d+\.blocks\.\d+\.mlp\.fc[12]"),
            re.compile(r"trunk\.stages\.\d+\.blocks\.\d+"),
        ),
    )
}


def family_of(architecture: str | Mapping[str, Any]) -> str:
    """The name of a backbone's family, from its configured architecture alone.

    Raises:
        ValueError: the architecture is a timm model of no known family.
    """
    if isinstance(architecture, str):
        name = architecture
    else:
        name = architecture.get("vision_cfg", {}).get("timm_model_name", "")
    for family in FAMILIES.values():
        if family.prefix and name.startswith(family.prefix):
            return family.name
    if name and not isinstance(architecture, str):
        known = ", ".join(family.prefix for family in FAMILIES.values() if family.prefix)
        raise ValueError(
            f"timm_model_name is '{name}', of no family that is known; the names begin with "
            f"{known}. A family is added in trap2/models/families.py"
        )
    return "vit"
