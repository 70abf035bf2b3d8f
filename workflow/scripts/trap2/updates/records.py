"""The shapes of the JSON files that the workflow writes: one record a kind of result.

Light, without PyTorch.  A record that is read back from a file is what somebody wrote: the reader
checks it before it takes it for one of these.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from trap2.runtime.catalogue import Options as Options

Number = float | int


class ScoreRecord(TypedDict):
    """One pass over a split: counts, accuracy in percent, mean loss in nats."""

    correct: int
    count: int
    accuracy: float
    loss: float


class Circumstances(TypedDict):
    """What every record says of how it came about; ``suite`` is absent for somebody's own files."""

    suite: NotRequired[str]
    backbone: str
    notes: list[str]
    device: NotRequired[str]
    versions: NotRequired[dict[str, str]]


class ZeroShotRecord(Circumstances):
    """``heads/{task}.json``: the base model's scores with its zero-shot head."""

    task: str
    protection: str
    templates: list[str]
    val: ScoreRecord
    test: ScoreRecord


class UpdateRecord(Circumstances):
    """``update.json``: an update's identity, settings and scores alone at scale 1.

    ``base_sha256`` is the SHA-256 of W0 (:func:`trap2.updates.stored.base_sha256`); records of
    earlier versions lack it.
    """

    release_format: str
    task: str
    protection: str
    base_sha256: NotRequired[str]
    seed: int
    logit_scale: float
    val: ScoreRecord
    test: ScoreRecord


class ValidationRecord(TypedDict):
    """One validation during training; accuracy in percent, loss in nats."""

    step: int
    val_accuracy: float
    val_loss: float


class TrainedRecord(UpdateRecord):
    """The record of an update that was trained; ``setting`` and ``value`` are an ablation's.

    ``objective`` has the trained protection's ``name`` and settings, its λ under ``lambda``;
    ``start_sha256`` is of the unprotected update's tensors where training started from them;
    ``transformed`` has the options of the transform of what was trained, and what it found.
    """

    optimisation: dict[str, Number]
    adapter: dict[str, Number] | None
    objective: dict[str, Number | str] | None
    best_step: int
    steps: int
    history: list[ValidationRecord]
    seconds: float
    start_sha256: NotRequired[str]
    transformed: NotRequired[dict[str, Any]]
    setting: NotRequired[str]
    value: NotRequired[str]


class ProtectedRecord(UpdateRecord):
    """The record of an update that was protected after training, with the one it was made from."""

    title: str
    paper: str
    parameters: dict[str, Number | str]
    found: NotRequired[dict[str, Any]]
    unprotected: UpdateRecord


class TracePoint(TypedDict):
    """One value that a search tried; ``options`` where they are searched too.

    ``at_most`` is there, and true, where the search saw that s would not be chosen before it had
    seen all images: then the metric is at most ``value``.  With ``screened`` a sample of them said
    so, and it is at most ``value`` but for four standard errors.
    """

    s: float
    value: float
    at_most: NotRequired[bool]
    screened: NotRequired[bool]
    options: NotRequired[Options]


class ImagesRecord(TypedDict):
    """Validation images that a search took, and that one of every value on every image takes."""

    validated: int
    plain: int


class FoundCell(TypedDict):
    """One merge and its scores.

    ``coefficient``, ``trace``, ``images`` and ``val`` are of a merge whose coefficient was
    searched; ``paper`` and ``coefficients`` (every task's share, by layer) of one that saw data.
    """

    options: Options
    normalised_val_accuracy: float
    test: dict[str, ScoreRecord]
    val: NotRequired[dict[str, ScoreRecord]]
    coefficient: NotRequired[float]
    trace: NotRequired[list[TracePoint]]
    images: NotRequired[ImagesRecord]
    paper: NotRequired[str]
    coefficients: NotRequired[dict[str, dict[str, float]]]


class CellRecord(FoundCell):
    """A cell of Table 2: a merge under its method and space.

    ``key`` says what it depends on, ``digest`` seals its content.
    """

    merge_method: str
    merge_space: str
    seconds: float
    key: NotRequired[str]
    digest: NotRequired[str]


class MergeRecord(Circumstances):
    """``merges/{protection}/{protected}.json``: one set of updates, merged in every way."""

    release_format: str
    protection: str
    protected_task: str
    tasks: list[str]
    seed: int
    samples: NotRequired[int]
    cells: dict[str, CellRecord]


class Sides(TypedDict):
    """A model's scores on the two tasks of a pair."""

    protected: ScoreRecord
    unprotected: ScoreRecord


class PathPoint(TypedDict):
    """A point of the path between two updates, β = 0 at the protected one."""

    beta: float
    score: Sides


class MixRecord(TypedDict):
    """Two updates mixed: their distance ‖ΔW_τ − ΔW_κ‖_F, the path between them, their merge."""

    distance: float
    path: list[PathPoint]
    merged: Sides


class PairRecord(MixRecord):
    """An ordered pair of tasks with its mixes."""

    protected_task: str
    unprotected_task: str


class PairsRecord(Circumstances):
    """``pairs/{protection}.json``: every ordered pair; ``scale`` is the merges' coefficient."""

    release_format: str
    protection: str
    scale: float
    tasks: list[str]
    pairs: list[PairRecord]


class ScaleRecord(ScoreRecord):
    """A score at W0 + s·ΔW."""

    s: float


class ScalesRecord(Circumstances):
    """``scales/{protection}.json``: every task's update over its scale."""

    release_format: str
    protection: str
    sweeps: dict[str, list[ScaleRecord]]


class HandlingRecord(Circumstances):
    """``handling/{protection}.json``: every task's update alone after each treatment.

    ``treatments`` has the names in their order; a task's score after one is None where the
    treatment does not apply or its model gives NaN, and ``reasons`` says why, by treatment.
    """

    release_format: str
    protection: str
    treatments: list[str]
    tasks: dict[str, dict[str, ScoreRecord | None]]
    reasons: dict[str, str]


class ScalingRecord(TypedDict):
    """Theorem A.2 at one scale (:class:`trap2.evaluation.theorems.DownScaling`)."""

    s: float
    mu: float
    epsilon: float
    bound: float
    measured: float
    premise: bool


class TaskScalingRecord(ScalingRecord):
    """Theorem A.2 for a task's update."""

    task: str


class DegradationRecord(TypedDict):
    """Theorem A.4 for one task (:class:`trap2.evaluation.theorems.CrossDegradation`)."""

    distance: float
    epsilon: float
    slope: float
    mu_hvp: float
    mu_hvp_error: float
    mu_profile: float
    bound: float
    measured: float
    guaranteed: bool


class PairDegradationRecord(DegradationRecord):
    """Theorem A.4 for one side of an ordered pair."""

    protected_task: str
    unprotected_task: str
    side: str


class CurvatureRecord(Circumstances):
    """``curvature/{protection}.json``: what the theorems speak of, on ``images`` images a task."""

    release_format: str
    protection: str
    images: int
    updates: list[TaskScalingRecord]
    pairs: list[PairDegradationRecord]


class VariantRecord(TypedDict):
    """One variant of an ablation, alone and merged, beside the unprotected update alone."""

    task: str
    value: str
    cell: FoundCell
    standalone: float
    unprotected: float


class AblationRecord(Circumstances):
    """``ablations/{setting}.json``: a sweep of one setting; ``labels`` names its values."""

    release_format: str
    setting: str
    labels: dict[str, str]
    unprotected: FoundCell
    variants: list[VariantRecord]


class CostRecord(TypedDict):
    """What an attack cost: images through the whole model, and images of one task that it saw.

    ``unlabelled`` leaves out those that were seen with their labels.
    """

    forward: int
    backward: int
    labelled: int
    unlabelled: int


class AnswerRecord(TypedDict):
    """A :class:`ScoreRecord` without the loss, which a model that gives NaN does not have."""

    correct: int
    count: int
    accuracy: float


class AttackPoint(TypedDict):
    """A merge that an attack ends with; ``budget`` places it on a curve.

    One that gives NaN or infinity is at 0 %.
    """

    budget: dict[str, int]
    found: dict[str, object]
    val: dict[str, AnswerRecord]
    test: dict[str, AnswerRecord]
    cost: CostRecord


class AttackCell(TypedDict):
    """An attack with one seed of its own; the last point is what it comes to.

    Without points it did not apply, for the ``reason``.
    """

    attack: str
    attack_seed: int
    options: Options
    points: list[AttackPoint]
    reason: NotRequired[str]
    seconds: float
    key: NotRequired[str]
    digest: NotRequired[str]


class AttackRecord(Circumstances):
    """``attacks/{protection}/{protected}.json``: every attack on one protected update.

    Cells by ``{attack}@{attack seed}``.
    """

    release_format: str
    protection: str
    protected_task: str
    tasks: list[str]
    seed: int
    cells: dict[str, AttackCell]
