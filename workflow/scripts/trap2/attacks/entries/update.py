"""Attacks that change the protected update, and PEFT's own merges of adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trap2.attacks.attack import ATTACKS, THEN, Attack, Run
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage


def _top_k(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import top_k

    return top_k(stage, options)


def _noisy_mean(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import noisy_mean

    return noisy_mean(stage, options)


def _interpolation(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import interpolation

    return interpolation(stage, options)


def _sign_trim(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import sign_trim

    return sign_trim(stage, options)


def _keep_large(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import keep_large

    return keep_large(stage, options)


def _drop_large(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.reshaping import drop_large

    return drop_large(stage, options)


def _peft(combination: str) -> Run:
    def run(stage: Stage, options: Options) -> Iterator[Merge]:
        from trap2.attacks.peft_merges import merge

        return merge(stage, combination, options)

    return run


_GOAL = Option(
    "acquire",
    "by what a candidate is chosen on validation, after its coefficient was searched by the "
    "paper's: acquire, the protected task's accuracy while the others keep 95 % of what they have "
    "without it; or mean, the paper's normalised accuracy",
    choices=("mean", "acquire"),
)


def _candidates(default: int) -> Option:
    return Option(default, "candidates", low=1, high=30, low_open=False, whole=True)


_DENSITY = {
    "density": Option(
        0.5, "share of entries that stay: the factors', with svd the update's", high=1.0
    )
}

_TIES = "Yadav et al., 2023, arXiv:2306.01708"
_DARE = "Yu et al., 2024, arXiv:2311.03099"
_PEFT = "PEFT's add_weighted_adapter"

ATTACKS.add(
    Attack(
        name="top-k",
        title="Top-k singular directions",
        paper="ours",
        group="update",
        knowledge="protected",
        options={"candidates": _candidates(4), "goal": _GOAL, "then": THEN},
        run=_top_k,
    )
)
ATTACKS.add(
    Attack(
        name="noisy-mean",
        title="Mean with noisy copies",
        paper="ours",
        group="update",
        knowledge="protected",
        random=True,
        options={
            "copies": Option(4, "copies with noise", low=1, high=1000, low_open=False, whole=True),
            "noise": Option(
                0.5, "standard deviation, as a share of a layer's root mean square", high=100
            ),
            "then": THEN,
        },
        run=_noisy_mean,
    )
)
ATTACKS.add(
    Attack(
        name="interpolation",
        title="Interpolated with the base",
        paper="after Wortsman et al., 2022, arXiv:2109.01903; choice of α ours",
        group="update",
        knowledge="protected",
        options={
            "keep": Option(95.0, "percent of its accuracy that the update alone keeps", high=100),
            "then": THEN,
        },
        run=_interpolation,
    )
)
ATTACKS.add(
    Attack(
        name="sign-trim",
        title="Trimmed to the others' signs",
        paper=f"{_TIES}, on the protected update alone: ours",
        group="update",
        knowledge="protected",
        options={"then": THEN},
        run=_sign_trim,
    )
)
ATTACKS.add(
    Attack(
        name="keep-large",
        title="Largest entries alone",
        paper=f"{_TIES}, on the protected update alone: ours",
        group="update",
        knowledge="protected",
        options={
            "percent": Option(50.0, "most entries that are kept, percent of a layer", high=100),
            "candidates": _candidates(4),
            "goal": _GOAL,
            "then": THEN,
        },
        run=_keep_large,
    )
)
ATTACKS.add(
    Attack(
        name="drop-large",
        title="Largest entries dropped",
        paper="ours",
        group="update",
        knowledge="protected",
        options={
            "percent": Option(80.0, "most entries that are dropped, percent of a layer", high=100),
            "candidates": _candidates(4),
            "goal": _GOAL,
            "then": THEN,
        },
        run=_drop_large,
    )
)
ATTACKS.add(
    Attack(
        name="peft-linear",
        title="PEFT linear",
        paper=_PEFT,
        group="update",
        release_formats=("lora",),
        run=_peft("linear"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-svd",
        title="PEFT svd",
        paper=_PEFT,
        group="update",
        release_formats=("lora",),
        run=_peft("svd"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-ties",
        title="PEFT ties",
        paper=f"{_PEFT}; {_TIES}",
        group="update",
        release_formats=("lora",),
        options=_DENSITY,
        run=_peft("ties"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-ties-svd",
        title="PEFT ties_svd",
        paper=f"{_PEFT}; {_TIES}",
        group="update",
        release_formats=("lora",),
        options=_DENSITY,
        run=_peft("ties_svd"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-dare-linear",
        title="PEFT dare_linear",
        paper=f"{_PEFT}; {_DARE}",
        group="update",
        release_formats=("lora",),
        random=True,
        options=_DENSITY,
        run=_peft("dare_linear"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-dare-linear-svd",
        title="PEFT dare_linear_svd",
        paper=f"{_PEFT}; {_DARE}",
        group="update",
        release_formats=("lora",),
        random=True,
        options=_DENSITY,
        run=_peft("dare_linear_svd"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-dare-ties",
        title="PEFT dare_ties",
        paper=f"{_PEFT}; {_DARE}",
        group="update",
        release_formats=("lora",),
        random=True,
        options=_DENSITY,
        run=_peft("dare_ties"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-dare-ties-svd",
        title="PEFT dare_ties_svd",
        paper=f"{_PEFT}; {_DARE}",
        group="update",
        release_formats=("lora",),
        random=True,
        options=_DENSITY,
        run=_peft("dare_ties_svd"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-magnitude-prune",
        title="PEFT magnitude_prune",
        paper=_PEFT,
        group="update",
        release_formats=("lora",),
        options=_DENSITY,
        run=_peft("magnitude_prune"),
    )
)
ATTACKS.add(
    Attack(
        name="peft-magnitude-prune-svd",
        title="PEFT magnitude_prune_svd",
        paper=_PEFT,
        group="update",
        release_formats=("lora",),
        options=_DENSITY,
        run=_peft("magnitude_prune_svd"),
    )
)
