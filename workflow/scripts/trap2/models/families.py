"""Families of vision towers: how one is recognised, and which of its layers LoRA adapts.

Free of heavy imports, because the workflow asks for a backbone's family in every job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trap2.runtime.catalogue import Catalogue, Entry
from trap2.runtime.errors import Trap2Error


@dataclass(frozen=True, kw_only=True)
class Family(Entry):
    """A family of towers.

    Attributes:
        prefix: how the names of its models begin, open_clip's or timm's; empty for open_clip's own
            vision transformer.
        adapted: full names, in the model, of the linear layers that are adapted (Appendix D.3).
        blocks: full names of the model's repeated parts.
        attention: whether it has q, k, v and out projections in which a post-hoc protection can
            hide its transform.
        settings: the arguments of timm's models that an architecture may give them
            (``timm_model_args``); no others reach timm.
    """

    prefix: str
    adapted: re.Pattern[str]
    blocks: re.Pattern[str]
    attention: bool = False
    settings: frozenset[str] = frozenset()


FAMILIES: Catalogue[Family] = Catalogue("family of models")

FAMILIES.add(
    Family(
        name="vit",
        paper="Dosovitskiy et al., 2021, arXiv:2010.11929",
        prefix="",
        adapted=re.compile(r"transformer\.resblocks\.\d+\.attn\.(q|k|v|out)_proj"),
        blocks=re.compile(r"transformer\.resblocks\.\d+"),
        attention=True,
    )
)
FAMILIES.add(
    Family(
        name="convnext",
        paper="Liu et al., 2022, arXiv:2201.03545",
        prefix="convnext",
        adapted=re.compile(r"trunk\.stages\.\d+\.blocks\.\d+\.mlp\.fc[12]"),
        blocks=re.compile(r"trunk\.stages\.\d+\.blocks\.\d+"),
        settings=frozenset(
            (
                *("depths", "dims", "patch_size", "kernel_sizes", "ls_init_value"),
                *("drop_path_rate", "stem_type", "use_grn", "conv_bias"),
            )
        ),
    )
)


def family_of(architecture: str | Mapping[str, object]) -> str:
    """The name of a backbone's family, from its configured architecture alone.

    Raises:
        Trap2Error: the architecture is a timm model of no known family.
    """
    if isinstance(architecture, str):
        name = architecture
    else:
        vision = architecture.get("vision_cfg")
        name = str(vision.get("timm_model_name") or "") if isinstance(vision, Mapping) else ""
    for family in FAMILIES.values():
        if family.prefix and name.startswith(family.prefix):
            return family.name
    if name and not isinstance(architecture, str):
        known = ", ".join(family.prefix for family in FAMILIES.values() if family.prefix)
        raise Trap2Error(
            f"timm_model_name is '{name}', of no family that is known; the names begin with "
            f"{known}. A plugin can add a family (docs/extending.md)"
        )
    return "vit"
