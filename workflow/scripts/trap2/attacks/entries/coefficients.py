"""Attacks that choose coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trap2.attacks.attack import ATTACKS, Attack
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage


def _one(stage: Stage, _options: Options) -> Iterator[Merge]:
    yield stage.merge_by_ta(stage.updates)


def _left_out(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import left_out

    return left_out(stage, options)


def _two(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import two

    return two(stage, options)


def _pinned(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import pinned

    return pinned(stage, options)


def _per_task(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import per_task

    return per_task(stage, options)


def _per_layer(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import per_layer

    return per_layer(stage, options)


def _per_layer_cma(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import per_layer_cma

    return per_layer_cma(stage, options)


def _norms_equalised(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.coefficients import norms_equalised

    return norms_equalised(stage, options)


_OURS = "ours"

_MEAN = Option(
    "mean",
    "what the search maximises on validation: mean, the paper's normalised accuracy; or acquire, "
    "the protected task's accuracy while the others keep 95 % of what they have without it",
    choices=("mean", "acquire"),
)

_ACQUIRE = Option("acquire", _MEAN.about, choices=_MEAN.choices)

_HALVINGS = Option(
    2, "how often coordinate descent halves its steps", low=0, high=20, low_open=False, whole=True
)

_GRID = {
    "low": Option(0.0, "least coefficient of the protected update", low=-100, high=100),
    "high": Option(1.5, "largest coefficient of the protected update", low=-100, high=100),
    "points": Option(7, "grid values of it", low=2, high=1000, low_open=False, whole=True),
    "others_high": Option(1.0, "largest coefficient of the others", high=100),
    "others_points": Option(
        4, "grid values of it, above 0", low=1, high=1000, low_open=False, whole=True
    ),
    "halvings": _HALVINGS,
}

_WIDE = {
    **_GRID,
    "low": Option(-1.0, _GRID["low"].about, low=-100, high=100),
    "high": Option(3.0, _GRID["high"].about, low=-100, high=100),
    "points": Option(9, _GRID["points"].about, low=2, high=1000, low_open=False, whole=True),
}

_RANGE = {
    "low": Option(-1.0, "least coefficient", low=-100, high=0, low_open=False),
    "high": Option(3.0, "largest coefficient", low=1, high=100, low_open=False),
}


def _evaluations(default: int) -> Option:
    return Option(
        default, "merges that are scored at most", low=4, high=1_000_000, low_open=False, whole=True
    )


_DESCENT = {
    **_RANGE,
    "goal": _ACQUIRE,
    "step": Option(0.2, "first step of a coefficient", high=10),
    "halvings": _HALVINGS,
    "evaluations": _evaluations(100),
}

ATTACKS.add(
    Attack(
        name="one",
        title="One coefficient",
        paper="Ilharco et al., 2023, arXiv:2212.04089; TRAP², Appendix D.6",
        group="coefficients",
        run=_one,
    )
)
ATTACKS.add(
    Attack(
        name="left-out",
        title="Protected update left out",
        paper=_OURS,
        group="coefficients",
        knowledge="protected",
        run=_left_out,
    )
)
ATTACKS.add(
    Attack(
        name="two",
        title="Two coefficients",
        paper=_OURS,
        group="coefficients",
        knowledge="protected",
        options={**_GRID, "goal": _MEAN},
        run=_two,
    )
)
ATTACKS.add(
    Attack(
        name="two-acquire",
        title="Two coefficients, to acquire",
        paper=_OURS,
        group="coefficients",
        knowledge="protected",
        options={**_GRID, "goal": _ACQUIRE},
        run=_two,
    )
)
ATTACKS.add(
    Attack(
        name="wide",
        title="Two coefficients, wide range",
        paper=_OURS,
        group="coefficients",
        knowledge="defense",
        options={**_WIDE, "goal": _ACQUIRE},
        run=_two,
    )
)
ATTACKS.add(
    Attack(
        name="pinned",
        title="Pinned at 1",
        paper=_OURS,
        group="coefficients",
        knowledge="defense",
        options={"goal": _MEAN},
        run=_pinned,
    )
)
ATTACKS.add(
    Attack(
        name="per-task",
        title="One coefficient a task",
        paper="as AdaMerging's task-wise λ, arXiv:2310.02575; search ours",
        group="coefficients",
        knowledge="protected",
        options=_DESCENT,
        run=_per_task,
    )
)
ATTACKS.add(
    Attack(
        name="per-layer",
        title="One coefficient a task and layer",
        paper="as AdaMerging's layer-wise λ, arXiv:2310.02575; search ours",
        group="coefficients",
        knowledge="protected",
        options={**_DESCENT, "evaluations": _evaluations(400)},
        run=_per_layer,
    )
)
ATTACKS.add(
    Attack(
        name="per-layer-cma",
        title="One coefficient a task and layer, CMA-ES",
        paper="Hansen, 2016, arXiv:1604.00772; as an attack ours",
        group="coefficients",
        knowledge="protected",
        random=True,
        options={
            **_RANGE,
            "goal": _ACQUIRE,
            "step": Option(0.2, "first standard deviation σ0 of a coefficient", high=10),
            "evaluations": _evaluations(400),
        },
        run=_per_layer_cma,
    )
)
ATTACKS.add(
    Attack(
        name="norms-equalised",
        title="Norms equalised",
        paper=_OURS,
        group="coefficients",
        knowledge="protected",
        run=_norms_equalised,
    )
)
