"""MergeGuard's Tables 1 to 5 and the table of the anchor-guided attack: all tasks' updates merged.

One update is protected, the others are not; accuracy is that on the protected task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from trap2.report.shapes import Rows, TextRow
from trap2.report.tables import siblings
from trap2.report.tables.columns import UPDATE
from trap2.report.tables.rows import facts_of, group, mean
from trap2.updates.sibling_records import SiblingPoint, SiblingRecord

BY = ("backbone", "merge_method", "protection", "use", "attack")
"""What a row is, in ours and in the published tables."""

METHODS = ("WA", "TA", "TIES", "AdaMerging")

STANDALONE, MERGED = "standalone", "merged"

LOST, LOST_BESIDE = "lost", "lost-beside"
"""Standalone minus merged, as Table 3 counts; the unprotected merge minus the protected one."""

USES = {
    STANDALONE: "alone",
    MERGED: "merged",
    LOST: "alone minus merged",
    LOST_BESIDE: "unprotected minus merged",
}
"""How the tables call what an accuracy is of."""

STAGES = ("mergeguard-stage1", "mergeguard-stage2", "mergeguard")

ANCHORED = (siblings.NONE, "aga", "aga-paired")
"""The attacks of the anchor-guided attack's table."""

Values = Mapping[str, float]
"""A number for each protected task."""


def columns(tasks: Sequence[str]) -> list[str]:
    """The columns of MergeGuard's tables; a task's is that of the protected update."""
    return [*UPDATE[:-1], "merge_method", "protection", "use", "attack", *tasks, "average"]


class Measured:
    """The records of one backbone, by protection.

    Args:
        records: in the suite's order of protections and tasks.
    """

    def __init__(self, records: Iterable[SiblingRecord]) -> None:
        known = list(records)
        self.tasks = known[0]["tasks"] if known else []
        self.by_protection = group(known, itemgetter("protection"))
        self.protections = siblings.protections_in_order(known)

    def others(self, *named: str) -> list[str]:
        """The protections that are not named, without the unprotected control."""
        return [name for name in self.protections if name not in {*named, "unprotected"}]

    def zero_shot(self) -> Values:
        """The base model's accuracy."""
        records = [record for own in self.by_protection.values() for record in own]
        return {record["protected_task"]: record["zero_shot"]["accuracy"] for record in records}

    def standalone(self, protection: str, attack: str = siblings.NONE) -> Values:
        """Each task's update used alone, after an attack on it."""
        return {
            record["protected_task"]: record["standalone"][attack]["accuracy"]
            for record in self.by_protection.get(protection, [])
            if attack in record["standalone"]
        }

    def merged(
        self,
        protection: str,
        method: str,
        attack: str = siblings.NONE,
        of: Callable[[SiblingPoint, str], float] = siblings.accuracy,
    ) -> Values:
        """What merges of all updates come to, by protected task.

        Nothing is protected in the unprotected merge: one holds for every task.

        Args:
            protection: what the protected task's update has.
            method: the merging method.
            attack: what was done before, or after.
            of: the number to take, from a merge and its protected task.
        """
        points = {
            record["protected_task"]: cell["points"][-1]
            for record in self.by_protection.get(protection, [])
            for cell in siblings.cells_of(record, "all", method)
            if cell["attack"] == attack
        }
        if protection == "unprotected" and points:
            one = next(iter(points.values()))
            points = {task: points.get(task, one) for task in self.tasks}
        return {task: of(point, task) for task, point in points.items()}

    def row(
        self, protection: str, use: str, values: Values, *, method: str = "", attack: str = ""
    ) -> list[TextRow]:
        """A row of these values; none where there are none."""
        if not values:
            return []
        facts = facts_of(next(iter(self.by_protection.values()))[0])
        return [
            facts
            | {"merge_method": method, "protection": protection, "use": use}
            | {"attack": attack or siblings.NONE}
            | {task: siblings.text_of(values.get(task)) for task in self.tasks}
            | {"average": siblings.text_of(siblings.whole_mean(values, self.tasks))}
        ]

    def alone_row(self, protection: str) -> list[TextRow]:
        """Each task's update used alone."""
        name = "fine-tuned" if protection == "unprotected" else protection
        return self.row(name, STANDALONE, self.standalone(protection))

    def merged_row(self, protection: str, method: str, attack: str = "") -> list[TextRow]:
        """All updates merged."""
        values = self.merged(protection, method, attack or siblings.NONE)
        return self.row(protection, MERGED, values, method=method, attack=attack)


def standalone_rows(given: Measured) -> list[TextRow]:
    """Table 1: the base, the fine-tuned updates, MergeGuard's, and the other protections' alone."""
    rows = given.row("zero-shot", STANDALONE, given.zero_shot())
    for protection in ("unprotected", "mergeguard", *given.others("mergeguard")):
        rows += given.alone_row(protection)
    return rows


def merged_rows(given: Measured) -> list[TextRow]:
    """Table 2: merged by each method, unprotected, with MergeGuard, with the other protections."""
    names = ("unprotected", "mergeguard", *given.others("mergeguard"))
    return [row for method in METHODS for name in names for row in given.merged_row(name, method)]


def against_rows(given: Measured) -> list[TextRow]:
    """Table 3: PaRaMS, MergeGuard and the others, alone and merged by TA, and the two losses."""
    normal = given.merged("unprotected", "TA")
    rows = []
    for name in ("params", "mergeguard", *given.others("params", "mergeguard")):
        merged = given.merged(name, "TA")
        rows += given.alone_row(name) + given.merged_row(name, "TA")
        for use, reference in ((LOST, given.standalone(name)), (LOST_BESIDE, normal)):
            rows += given.row(name, use, _minus(reference, merged), method="TA")
    return rows


def stage_rows(given: Measured) -> list[TextRow]:
    """Table 4: MergeGuard's stages, each alone and together."""
    return [
        row for name in STAGES for row in (*given.alone_row(name), *given.merged_row(name, "TA"))
    ]


def adaptive_rows(given: Measured) -> list[TextRow]:
    """Table 5: attacks on MergeGuard's merges by TA, between the base and the unprotected merge."""
    rows = given.row("zero-shot", STANDALONE, given.zero_shot())
    rows += given.merged_row("unprotected", "TA")
    found = [
        cell["attack"]
        for record in given.by_protection.get("mergeguard", [])
        for cell in siblings.cells_of(record, "all", "TA")
    ]
    for attack in siblings.attacks_in_order(found):
        rows += given.merged_row("mergeguard", "TA", attack)
    return rows


ROWS: dict[int, Callable[[Measured], list[TextRow]]] = {
    1: standalone_rows,
    2: merged_rows,
    3: against_rows,
    4: stage_rows,
    5: adaptive_rows,
}
"""By the number that the paper gives the table."""


def _minus(left: Values, right: Values) -> Values:
    return {task: left[task] - right[task] for task in left if task in right}


ANCHOR_COLUMNS = [*UPDATE[:-1], "merge_method", "protection", "attack", "standalone"]
ANCHOR_COLUMNS += ["protected_accuracy", "others_accuracy", "average"]


def anchor_rows(given: Measured) -> list[TextRow]:
    """The anchor-guided attack's table: before and after it, means over the protected tasks.

    ``standalone`` is of the protected update alone; of the merge by TA, accuracy on the protected
    task, on the others (their mean) and on all.
    """
    rows = []
    for protection in ("unprotected", *given.others()):
        for attack in ANCHORED:
            merged = given.merged(protection, "TA", attack)
            alone = given.standalone(protection, attack)
            if not merged and (attack != siblings.NONE or not alone):
                continue
            numbers = {"standalone": alone, "protected_accuracy": merged}
            for name, of in (("others_accuracy", _others), ("average", _everything)):
                numbers[name] = given.merged(protection, "TA", attack, of)
            rows.append(
                facts_of(given.by_protection[protection][0])
                | {"merge_method": "TA", "attack": attack}
                | {
                    name: siblings.text_of(siblings.whole_mean(values, given.tasks))
                    for name, values in numbers.items()
                }
            )
    return rows


def _others(point: SiblingPoint, protected: str) -> float:
    return mean(siblings.accuracy(point, task) for task in point["test"] if task != protected)


def _everything(point: SiblingPoint, protected: str) -> float:
    return mean(siblings.accuracy(point, task) for task in point["test"])


_PUBLISHED_STAGES = dict(zip(("stage1", "stage2", "stage1+2"), STAGES, strict=True))


def published_rows(numbers: Rows) -> list[TextRow]:
    """A published table of MergeGuard, one number a row, as rows of ours: tasks by their titles.

    Averages are there where they are printed.
    """
    rows: dict[tuple[str, ...], TextRow] = {}
    tasks = [name for name in dict.fromkeys(e["task"] for e in numbers) if name != "Average"]
    for entry in numbers:
        protection = _PUBLISHED_STAGES.get(entry.get("stages", ""), entry["protection"])
        method = entry.get("merge_method", "")
        facts = {"suite": "published", "backbone": entry["backbone"], "release": entry["release"]}
        facts |= {"merge_method": method, "protection": protection}
        facts |= {"use": entry.get("use") or (MERGED if method else STANDALONE)}
        facts |= {"attack": entry.get("attack", siblings.NONE)}
        place = tuple(facts[key] for key in BY)
        row = rows.setdefault(place, {**facts, **dict.fromkeys((*tasks, "average"), "")})
        row["average" if entry["task"] == "Average" else entry["task"]] = entry["accuracy"]
    return list(rows.values())


def derived(rows: Sequence[TextRow], normal: Sequence[TextRow]) -> list[TextRow]:
    """Published rows with what is not printed but follows from them, for claims.

    That is the rows of both losses where an update's accuracy alone and merged by TA are
    published, and the averages that are not printed.

    Args:
        rows: of one published table.
        normal: those with the unprotected merge; may be the same.
    """
    found = [dict(row) for row in rows]
    plain = next(
        (r for r in normal if (r["protection"], r["merge_method"]) == ("unprotected", "TA")), None
    )
    for alone in [row for row in rows if row["use"] == STANDALONE]:
        for merged in rows:
            same = (merged["protection"], merged["merge_method"], merged["attack"])
            if same != (alone["protection"], "TA", siblings.NONE):
                continue
            for use, reference in ((LOST, alone), (LOST_BESIDE, plain)):
                if reference is not None:
                    found.append({**merged, "use": use} | _difference(reference, merged))
    for row in found:
        tasks = [name for name in siblings.number_columns(row) if name != "average"]
        row["average"] = row["average"] or siblings.text_of(mean(float(row[t]) for t in tasks))
    return found


def _difference(left: TextRow, right: TextRow) -> TextRow:
    tasks = [name for name in siblings.number_columns(right) if name != "average"]
    lost = {t: siblings.text_of(float(left[t]) - float(right[t])) for t in tasks}
    return {**lost, "average": ""}
