"""The check of one update before it is released: what it survives, and who gets it anyway (ours).

The update is read as published, with its base and the updates of others (partners) where there are
some.  Every check ends in lines of one verdict each; all accuracies are of the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from trap2.attacks import measure
from trap2.attacks.catalogue import ATTACKS, not_applicable
from trap2.attacks.stage import Stage
from trap2.attacks.staging import attack_points
from trap2.attacks.verdicts import BROKEN, KEPT, NOT_TRIED, Level, Line, Reference
from trap2.evaluation.handled import Subject
from trap2.evaluation.handling import handle_update
from trap2.evaluation.scale_sweep import sweep_scale
from trap2.evaluation.treatments import RELEASED, TREATMENTS
from trap2.merging.merger import Merger
from trap2.merging.settings import Search
from trap2.models.layers import family
from trap2.models.task import Task
from trap2.runtime.errors import Trap2Error
from trap2.updates.applied import AppliedUpdate
from trap2.updates.delta import Update

SCALES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 1.75, 2.0)
"""Figure 2's range of s, thinner, without 0 and 1."""

ALONE_COUNTS = (2, 3, 4, 8)
"""Numbers N of averaged updates where there is no partner: s = 1/N, as if the others were zero."""

SLOW = ("per-layer", "per-layer-cma")
"""Attacks without data that search so many coefficients that they take as long as all others."""

HALF = 0.5
"""Without partners, an attack on the update itself is tried in an average of two: at half of it."""


@dataclass(frozen=True)
class Audited:
    """What is checked.

    Attributes:
        model: holds W0, and holds it again afterwards.
        tasks: with the splits train, val and test; the update's own task is the first, then the
            partners' in their order.
        update: ΔW as published.
        partners: the others' updates by task.
        unprotected: the update before it was protected, if its maker has it: the reference is then
            the paper's, the merge in which nothing is protected.
        release_format: ``lora`` or ``full``.
        attacks: names of the attacks to run.
        search: of one coefficient for all (paper, Appendix D.6).
        seed: of all random draws.
    """

    model: nn.Module
    tasks: Mapping[str, Task]
    update: Update
    partners: Mapping[str, Update]
    unprotected: Update | None
    release_format: str
    attacks: Sequence[str]
    search: Search
    seed: int

    @property
    def task(self) -> str:
        """The update's own task."""
        return next(iter(self.tasks))


def quick_attacks() -> list[str]:
    """The attacks that need no training images, but for those that take long."""
    free = [name for name, attack in ATTACKS.items() if attack.needs == "nothing"]
    return [name for name in free if name not in SLOW]


def audit(given: Audited, log: Callable[[str], None]) -> dict[str, Any]:
    """Check an update.

    Args:
        given: what is checked.
        log: receives a line a check.

    Returns:
        A JSON record with ``task``, ``partners``, ``zero_shot`` and ``alone`` (accuracies in
        percent), ``reference`` (what acquired is measured against) and ``lines``.

    Raises:
        UpdateError: an update does not fit the base, or holds NaN.
        Trap2Error: the update is not better than nothing: 0 % on validation or test.
    """
    nominal = sweep_scale(given.model, given.tasks[given.task], "test", given.update, (0.0, 1.0))
    level = Level(*(point["accuracy"] for point in nominal))
    if level.alone == 0:
        raise Trap2Error(
            f"the update has 0 % on {given.task} alone, so there is nothing to break; is it this "
            "task's, and its classes those of the base's head?"
        )
    lines = [_alone(level)]
    lines += [_at(given, "scale", f"s={s:g}", f"s = {s:g}", s, level) for s in SCALES]
    log(f"scale: {len(SCALES)} values of s")
    averages = _averages(given, level) if given.partners else _shares(given, level)
    log(f"averaging: {len(averages)} averages")
    handling = _handling(given, level)
    log(f"handling: {len(handling)} treatments")
    attacks, reference = _attacks(given, level, log)
    lines += averages + handling + attacks
    return {
        "task": given.task,
        "partners": list(given.partners),
        **asdict(level),
        "reference": reference,
        "lines": [asdict(line) for line in lines],
    }


def _alone(level: Level) -> Line:
    text = f"{level.alone:.1f} %, the base model without it {level.zero_shot:.1f} %"
    verdict = KEPT if level.adds else BROKEN
    return Line("alone", "s=1", "alone, as released", verdict, text, level.alone)


def _kept(check: str, name: str, title: str, accuracy: float, level: Level) -> Line:
    text = f"{accuracy:.1f} %, alone {level.alone:.1f} %"
    return Line(check, name, title, level.verdict(accuracy), text, accuracy)


def _at(given: Audited, check: str, name: str, title: str, s: float, level: Level) -> Line:
    try:
        found = sweep_scale(given.model, given.tasks[given.task], "test", given.update, [s])
    except Trap2Error as error:
        # The update is fine at s = 1, so what it gives here is part of the answer.
        return Line(check, name, title, BROKEN, str(error))
    return _kept(check, name, title, found[0]["accuracy"], level)


def _shares(given: Audited, level: Level) -> list[Line]:
    return [
        _at(given, "averaging", f"N={n}", f"average of {n}, the others zero", 1 / n, level)
        for n in ALONE_COUNTS
    ]


def _averages(given: Audited, level: Level) -> list[Line]:
    """The update averaged with the first one, two, … partners."""
    lines = []
    for count in range(1, len(given.partners) + 1):
        chosen = list(given.partners)[:count]
        merged = Merger([given.update, *(given.partners[task] for task in chosen)]).merge("WA")
        with AppliedUpdate(given.model, merged) as applied:
            applied.set(1.0)
            found = _accuracies(given, [given.task, *chosen])
        own, others = found.pop(given.task), sum(found.values()) / count
        line = _kept("averaging", f"N={count + 1}", f"average with {', '.join(chosen)}", own, level)
        text = f"{line.text}; the others {others:.1f} %"
        lines.append(Line(**{**asdict(line), "text": text, "others": others}))
    return lines


def _accuracies(given: Audited, tasks: Sequence[str]) -> dict[str, float]:
    """The model's test accuracies (percent), at the weights that it holds now."""
    return {task: given.tasks[task].score(given.model, "test").accuracy for task in tasks}


def _handling(given: Audited, level: Level) -> list[Line]:
    subject = Subject.of(given.model, given.update, rank=16)
    scores, reasons = handle_update(subject, given.tasks[given.task], "test", TREATMENTS)
    lines = []
    for name, score in scores.items():
        title = TREATMENTS[name].title
        if name == RELEASED:
            continue
        if score is None:
            broken = not TREATMENTS[name].factors or subject.has_factors
            verdict = BROKEN if broken else NOT_TRIED
            lines.append(Line("handling", name, title, verdict, reasons[name]))
        else:
            lines.append(_kept("handling", name, title, score["accuracy"], level))
    return lines


def _attacks(
    given: Audited, level: Level, log: Callable[[str], None]
) -> tuple[list[Line], Mapping[str, float]]:
    """A line an attack of the catalogue, and the reference accuracies by task."""
    if not given.attacks:
        return [_not_tried(name, _why_not(given, name) or "") for name in ATTACKS], {}
    stage = _stage(given)
    base = {given.task: level.zero_shot, **_accuracies(given, list(given.partners))}
    reference = _reference(given, stage, level, base)
    lines = []
    for name in ATTACKS:
        reason = _why_not(given, name)
        if reason is None:
            line = _attack(given, stage, name, base, reference, level)
        else:
            line = _not_tried(name, reason)
        lines.append(line)
        log(f"attack {name}: {line.verdict}; {line.text}")
    return lines, reference.accuracies


def _stage(given: Audited) -> Stage:
    updates = {given.task: given.update, **given.partners}
    references = {}
    for task, update in updates.items():
        found = sweep_scale(given.model, given.tasks[task], "val", update, [1.0])[0]["accuracy"]
        if found == 0:
            raise Trap2Error(f"the update of {task} has 0 % on the validation images of {task}")
        references[task] = found
    return Stage(
        given.model,
        given.tasks,
        updates,
        given.task,
        given.search,
        references,
        seed=given.seed,
    )


def _reference(given: Audited, stage: Stage, level: Level, base: Mapping[str, float]) -> Reference:
    """What acquired and kept are shares of, in percent by task.

    With the unprotected update, its merge with the partners; else the update alone on its task,
    and the partners' merge without it on theirs.
    """
    if not given.partners:
        return Reference({given.task: level.alone})
    if given.unprotected is None:
        merge, _ = stage.left_out()
    else:
        merge = stage.merge_by_ta({**stage.updates, given.task: given.unprotected})
    with AppliedUpdate(given.model, merge.delta) as applied:
        applied.set(merge.scale)
        found = _accuracies(given, list(given.tasks))
    if given.unprotected is not None:
        return Reference(found)
    halves = [(base[task] + found[task]) / 2 for task in given.partners]
    return Reference(
        {**found, given.task: level.alone},
        without=sum(found.values()) / len(found),
        halfway=sum(halves) / len(halves),
    )


def _why_not(given: Audited, name: str) -> str | None:
    """Why an attack is not tried."""
    attack = ATTACKS[name]
    if name not in given.attacks:
        sees = "it sees training images; " if attack.needs != "nothing" else ""
        slow = "it takes minutes; " if name in SLOW else ""
        return f"{sees}{slow}--attacks {name} runs it"
    if not given.partners and attack.group != "update":
        return "it merges with other updates; give some with --with"
    return not_applicable(name, given.release_format, family(given.model))


def _not_tried(name: str, reason: str) -> Line:
    return Line("attack", name, ATTACKS[name].title, NOT_TRIED, reason)


def _attack(
    given: Audited,
    stage: Stage,
    name: str,
    zero_shot: Mapping[str, float],
    reference: Reference,
    level: Level,
) -> Line:
    options = ATTACKS[name].check_options({})
    try:
        if not given.partners:
            return _alone_attacked(given, stage, name, level)
        points = attack_points(stage, name, 0, options)
    except Trap2Error as error:
        reason = str(error) if given.partners else "it needs other updates; give some with --with"
        return _not_tried(name, reason)
    merged = {task: score["accuracy"] for task, score in points[-1]["test"].items()}
    found = measure.measure(merged, reference.accuracies, zero_shot, given.task)
    share = "" if found.acquired is None else f", {found.acquired:.0f} % acquired"
    text = (
        f"{given.task} {found.protected:.1f} %{share}; the others {found.others:.1f} %, "
        f"{found.kept:.0f} % kept"
    )
    title = ATTACKS[name].title
    return Line(
        "attack", name, title, reference.verdict(found), text, found.protected, found.others
    )


def _alone_attacked(given: Audited, stage: Stage, name: str, level: Level) -> Line:
    """What an attack on the update itself makes of it, at half of it."""
    attack = ATTACKS[name]
    stage.begin(name, 0)
    found = 0.0
    for merge in attack.run(stage, attack.check_options({})):
        with AppliedUpdate(given.model, merge.delta) as applied:
            applied.set(HALF * merge.scale)
            found = _accuracies(given, [given.task])[given.task]
    acquired = level.share(found) if level.adds else None
    text = f"{found:.1f} % at half of what it makes of the update"
    verdict = measure.verdict(acquired, 100.0)
    return Line("attack", name, attack.title, verdict, text, found)
