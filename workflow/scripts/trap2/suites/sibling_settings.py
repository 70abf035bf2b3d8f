"""What a suite says of the protocols of the sibling papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trap2.runtime.settings import setting

ADAMERGING = ("AdaMerging-task", "AdaMerging-layer", "AdaMerging-task++", "AdaMerging-layer++")
"""The merging methods that are AdaMerging."""


@dataclass(frozen=True)
class Siblings:
    """Merge-Lock's pairs and MergeGuard's merges of all (docs/siblings.md)."""

    protections: tuple[str, ...] = setting(
        "The protections of whole checkpoints that are compared; unprotected is always there.",
        (
            "params",
            "mergelock",
            "mergeguard",
            "mergeguard-stage1",
            "mergeguard-stage2",
            "arf",
            "mergebarrier-attention",
            "trap2",
        ),
    )
    backbones: tuple[str, ...] | None = setting(
        "Backbones with whole checkpoints, those with attention by default. The first has the "
        "pairs by every method, the curves and the paths, the last the merges of all by every "
        "method.",
        None,
        least=1,
    )
    attacks: Mapping[str, tuple[str, ...]] = setting(
        "What is done before merging, by protection, in place of what docs/siblings.md lists.",
        {},
        least=0,
    )
    pair_coefficient: float = setting("λ of the pairs (Eq. 15).", 0.8, above=0, at_most=10)
    all_coefficient: float = setting(
        "λ of the merges of all by Task Arithmetic.", 0.3, above=0, at_most=10
    )
    ties_coefficient: float = setting(
        "λ of TIES, which averages what agrees, in both.", 1.0, above=0, at_most=10
    )
    curve_task: str | None = setting(
        "The protected task of the pairs over λ; figures.task by default.", None
    )
    curve: tuple[float, ...] = setting(
        "The λ of these pairs.",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        least=2,
        above=0,
        at_most=10,
    )
    paths: tuple[tuple[str, str], ...] | None = setting(
        "Pairs of tasks, the first one protected, with the loss on the way between both; the tasks "
        "two by two by default.",
        None,
    )
    images: int = setting(
        "Unlabelled training images a task of AdaMerging.", 400, at_least=1, at_most=10**7
    )
    pair_adamerging: str = setting(
        "The AdaMerging of the pairs.", "AdaMerging-layer", choices=ADAMERGING
    )
    all_adamerging: str = setting(
        "The AdaMerging of the merges of all.", "AdaMerging-layer++", choices=ADAMERGING
    )
    options: Mapping[str, Mapping[str, Any]] = setting(
        "Options of single merging methods and attacks, by name.", {}
    )
