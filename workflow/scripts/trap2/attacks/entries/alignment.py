"""Attacks that undo a protection's transform of the model, or subtract or project it away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trap2.attacks.attack import ATTACKS, POINTS, THEN, Attack
from trap2.runtime.catalogue import Option, Options

if TYPE_CHECKING:
    from trap2.attacks.stage import Merge, Stage
    from trap2.protection.checkpoints import Weights

MERGELOCK = "Merge-Lock (arXiv 2509.01548)"
AGA = "AGA (arXiv 2606.30360)"
MERGEGUARD = "MergeGuard (arXiv 2511.11851), Section 7"

_COST = Option(
    "distance-bias",
    "what is maximised: products of both layers' weights and the bias, of weights, or cosines",
    choices=("distance-bias", "distance", "cosine"),
)
_ESTIMATOR = Option(
    "paired", "one factor for both projections of a pair, or one each", choices=("paired", "ls")
)


def _rotation(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.recovered import mean_of_others, merge_aligned
    from trap2.attacks.alignment.rotation import align_rotation

    reference = mean_of_others(stage, stage.updates[stage.protected])
    settings = {"proper": options["matrices"] == "proper", "scaled": options["scale"] == "head"}
    yield merge_aligned(
        stage,
        lambda weights: align_rotation(weights, reference, stage.heads, **settings),
        [stage.protected],
        options["then"],
    )


def _permutation(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.permutation import align_hidden_units
    from trap2.attacks.alignment.recovered import base_of, merge_aligned

    base = base_of(stage)
    yield merge_aligned(
        stage,
        lambda weights: align_hidden_units(weights, base, stage.heads, cost=options["cost"]),
        [stage.protected],
        options["then"],
    )


def _scales(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.recovered import base_of, merge_aligned
    from trap2.attacks.alignment.scales import align_scales

    base, estimator = base_of(stage), options["estimator"]
    yield merge_aligned(
        stage,
        lambda weights: align_scales(weights, base, stage.heads, estimator=estimator),
        [stage.protected],
        options["then"],
    )


def _params(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.permutation import align_hidden_units
    from trap2.attacks.alignment.recovered import base_of, merge_aligned
    from trap2.attacks.alignment.scales import align_scales

    base = base_of(stage)

    def align(weights: Weights) -> Weights:
        ordered = align_hidden_units(weights, base, stage.heads, cost=options["cost"])
        return align_scales(ordered, base, stage.heads, estimator=options["estimator"])

    yield merge_aligned(stage, align, [stage.protected], options["then"])


def _anchor(stage: Stage, options: Options, *, paired: bool) -> Iterator[Merge]:
    from trap2.attacks.alignment.anchor import align_to_anchor
    from trap2.attacks.alignment.recovered import base_of, merge_aligned

    base, ridge = base_of(stage), options["ridge"]
    # Blind, it is done to every model; who knows the protected one leaves the others as they are.
    blind = options["then"] == "one"
    yield merge_aligned(
        stage,
        lambda weights: align_to_anchor(weights, base, stage.heads, ridge=ridge, paired=paired),
        list(stage.tasks) if blind else [stage.protected],
        options["then"],
    )


def _aga(stage: Stage, options: Options) -> Iterator[Merge]:
    return _anchor(stage, options, paired=False)


def _aga_paired(stage: Stage, options: Options) -> Iterator[Merge]:
    return _anchor(stage, options, paired=True)


def _unmask(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.subtraction import unmasked

    yield unmasked(stage, options["factor"], literal=True)


def _unmask_task_vector(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.subtraction import unmasked

    yield unmasked(stage, options["factor"], literal=False)


def _unmask_swept(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.subtraction import swept

    yield swept(stage, options["step"], options["maximum"], options["goal"])


def _graderase(stage: Stage, options: Options) -> Iterator[Merge]:
    from trap2.attacks.alignment.retraining import graderase

    return graderase(stage, options)


_RIDGE = Option(1e-8, "ε of the least squares", low_open=False)
_FACTOR = Option(0.3, "λ of Task Arithmetic and of the subtraction", high=10)

ATTACKS.add(
    Attack(
        name="align-rotation",
        title="Rotation alignment",
        paper=f"{MERGELOCK}, Eq. 10-11; arXiv 2502.00264",
        group="alignment",
        knowledge="protected",
        needs_attention=True,
        run=_rotation,
        options={
            "matrices": Option(
                "orthogonal", "orthogonal, or of determinant 1", choices=("orthogonal", "proper")
            ),
            "scale": Option("none", "a factor a head as well", choices=("none", "head")),
            "then": THEN,
        },
    )
)
ATTACKS.add(
    Attack(
        name="align-permutation",
        title="Permutation alignment",
        paper=f"{MERGELOCK}, Eq. 12-14",
        group="alignment",
        knowledge="protected",
        release_formats=("full",),
        needs_attention=True,
        run=_permutation,
        options={"cost": _COST, "then": THEN},
    )
)
ATTACKS.add(
    Attack(
        name="align-scales",
        title="Scale alignment",
        paper=f"ours, after {MERGELOCK}, Appendix B",
        group="alignment",
        knowledge="protected",
        needs_attention=True,
        run=_scales,
        options={"estimator": _ESTIMATOR, "then": THEN},
    )
)
ATTACKS.add(
    Attack(
        name="align-params",
        title="Permutation and scales",
        paper=f"ours, after {MERGELOCK}, Appendix B",
        group="alignment",
        knowledge="defense",
        release_formats=("full",),
        needs_attention=True,
        run=_params,
        options={"cost": _COST, "estimator": _ESTIMATOR, "then": THEN},
    )
)
ATTACKS.add(
    Attack(
        name="aga",
        title="Anchor-guided",
        paper=AGA,
        group="alignment",
        needs_attention=True,
        run=_aga,
        options={"ridge": _RIDGE, "then": THEN},
    )
)
ATTACKS.add(
    Attack(
        name="aga-paired",
        title="Anchor-guided, paired",
        paper=f"ours, after {AGA}",
        group="alignment",
        needs_attention=True,
        run=_aga_paired,
        options={"ridge": _RIDGE, "then": THEN},
    )
)
ATTACKS.add(
    Attack(
        name="unmask",
        title="UNMASK",
        paper=MERGEGUARD,
        group="alignment",
        knowledge="protected",
        run=_unmask,
        options={"factor": _FACTOR},
    )
)
ATTACKS.add(
    Attack(
        name="unmask-task-vector",
        title="UNMASK, task vector",
        paper=f"ours, after {MERGEGUARD}",
        group="alignment",
        knowledge="protected",
        run=_unmask_task_vector,
        options={"factor": _FACTOR},
    )
)
ATTACKS.add(
    Attack(
        name="unmask-swept",
        title="UNMASK, swept",
        paper=f"ours, after {MERGEGUARD}",
        group="alignment",
        knowledge="protected",
        run=_unmask_swept,
        options={
            "step": Option(0.1, "between the factors that are tried"),
            "maximum": Option(1.0, "factors from minus this to this", high=10),
            "goal": Option("acquire", "what the search maximises", choices=("acquire", "mean")),
        },
    )
)
ATTACKS.add(
    Attack(
        name="graderase",
        title="GRADERASE",
        paper=f"{MERGEGUARD}; training ours",
        needs="labels",
        group="alignment",
        knowledge="protected",
        random=True,
        run=_graderase,
        options={
            "images": Option(64, "labelled images a task at the last point", high=1e6, whole=True),
            "points": POINTS,
            "batch": Option(16, "images a task and step", high=1e6, whole=True),
            "steps": Option(
                50,
                "of the retraining, and as many for τ_G, at the last point",
                high=1e6,
                whole=True,
            ),
            "learning_rate": Option(0.001, "of SGD, constant"),
            "momentum": Option(0.9, "of SGD", low_open=False, high_open=True),
        },
    )
)
