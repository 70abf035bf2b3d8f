"""Table 5 of the project page: merging with data, and recovery with data, on a protected update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from trap2.report.comparison import PUBLISHED_BACKBONES
from trap2.report.names import backbone_title, protection_title
from trap2.report.shapes import Row, Rows, TextRow
from trap2.report.tables.columns import NOTES, UPDATE
from trap2.report.tables.latex_cells import Cell, Line, Rule, sentence, to_latex
from trap2.report.tables.rows import facts_of, group, mean, merge_average, percent
from trap2.updates.records import AttackRecord, MergeRecord, ZeroShotRecord

MERGERS = {"RegMean": "RegMean (R)", "CoM": "CoM (R)"}
"""The methods of data-dependent merging, with their cells: the page's numbers are those of random
samples."""

ATTACKS = {"ProDistill": "prodistill", "SFT": "sft"}
"""The methods of data-driven recovery, with their attacks, whose last point counts."""

THREATS = {"data-dependent merging": tuple(MERGERS), "data-driven recovery": tuple(ATTACKS)}

COLUMNS = [*UPDATE, "threat", "method", "accuracy", "published", "published_backbone"]


def recovery_rows(
    merges: Iterable[MergeRecord],
    attacks: Iterable[AttackRecord],
    heads: Iterable[ZeroShotRecord],
    published: Rows,
    families: Mapping[str, str],
) -> list[TextRow]:
    """A row a method: mean test accuracy over all tasks, averaged over the protected tasks.

    What a suite does not run has no row.  The published number beside it is that of the same
    backbone, or of the first of its family that has one.

    Args:
        merges: merges with data of adapters, nothing protected among them.
        attacks: attacks on adapters; ``unprotected`` is the control.
        heads: the base models' records.
        published: rows of ``config/published/recovery.csv``.
        families: ``vit`` or ``convnext`` by backbone.
    """
    merged, attacked = list(merges), list(attacks)
    shown = [*_merged(merged), *_attacked(attacked)]
    order = list(dict.fromkeys(row["backbone"] for row in shown))
    bases = group(heads, itemgetter("backbone"))
    protections = ("zero-shot", *dict.fromkeys(row["protection"] for row in shown))
    for backbone in order:
        facts = next(row for row in shown if row["backbone"] == backbone)
        zero_shot = mean(head["test"]["accuracy"] for head in bases[backbone])
        shown.append(
            {**{name: facts[name] for name in UPDATE}, "protection": "zero-shot"}
            | {"threat": "", "method": "", "accuracy": percent(zero_shot)}
        )
    # Sorting keeps the methods' order.
    shown.sort(key=lambda row: (order.index(row["backbone"]), protections.index(row["protection"])))
    return [row | _published(row, published, families[row["backbone"]]) for row in shown]


def _merged(merges: Iterable[MergeRecord]) -> list[TextRow]:
    rows = []
    for members in group(merges, itemgetter("backbone", "protection")).values():
        for method, column in MERGERS.items():
            cells = [merge["cells"][column] for merge in members if column in merge["cells"]]
            if cells:
                accuracy = mean(merge_average(cell) for cell in cells)
                rows.append(_row(facts_of(members[0]), "data-dependent merging", method, accuracy))
    return rows


def _attacked(attacks: Iterable[AttackRecord]) -> list[TextRow]:
    rows = []
    for members in group(attacks, itemgetter("backbone", "protection")).values():
        for method, attack in ATTACKS.items():
            found = [
                mean(score["accuracy"] for score in cell["points"][-1]["test"].values())
                for record in members
                for cell in record["cells"].values()
                if cell["attack"] == attack and cell["points"]
            ]
            if found:
                facts = facts_of(members[0])
                rows.append(_row(facts, "data-driven recovery", method, mean(found)))
    return rows


def _row(facts: TextRow, threat: str, method: str, accuracy: float) -> TextRow:
    return facts | {"threat": threat, "method": method, "accuracy": percent(accuracy)}


def _published(row: Row, published: Rows, family: str) -> TextRow:
    own = row["backbone"]
    for backbone in (own, *(b for b in PUBLISHED_BACKBONES.get(family, ()) if b != own)):
        for entry in published:
            same = all(entry[key] == row[key] for key in ("protection", "threat", "method"))
            if same and entry["backbone"] == backbone:
                return {"published": entry["accuracy"], "published_backbone": backbone}
    return {"published": "", "published_backbone": ""}


def published_recovery(numbers: Rows) -> list[TextRow]:
    """The published numbers as rows of ``recovery.csv``, of the suite ``published``."""
    return [
        {"suite": "published"}
        | {name: entry[name] for name in ("backbone", "release", "protection", "threat", "method")}
        | {"accuracy": entry["accuracy"], "published": "", "published_backbone": ""}
        for entry in numbers
    ]


def render_recovery(rows: Rows, published: Rows, source: str) -> str:
    """The table as LaTeX, in the page's layout, the published numbers below.

    Args:
        rows: those of ``recovery.csv``.
        published: :func:`published_recovery`.
        source: what the numbers are of, for the caption.
    """
    if rows and "not_applicable" in rows[0]:
        return sentence(rows[0]["not_applicable"])
    methods = [name for names in THREATS.values() for name in names]
    header: list[Line] = [
        [Cell("Protection"), *(Cell(t.capitalize(), span=len(m)) for t, m in THREATS.items())],
        [Cell(), *(Cell(name) for name in methods)],
    ]
    body: list[Line] = []
    for title, members in _blocks([*rows, *published]):
        body += [Rule()] if body else []
        body += [[Cell(title, span=len(methods) + 1, align="l")], Rule()]
        for protection, own in group(members, itemgetter("protection")).items():
            at = {row["method"]: row["accuracy"] for row in own}
            if protection != "zero-shot":
                cells = [Cell(_decimal(at.get(name, ""))) for name in methods]
                body.append([Cell(protection_title(protection)), *cells])
    notes = sorted({row.get(NOTES, "") for row in rows} - {""})
    caption = (
        "Accuracy (%) after merging with data, and after recovery with data, mean over tasks and "
        f"protected tasks: one adapter is protected, the others are not. {source}."
    )
    caption += "".join(f" Note: {note}" for note in notes)
    columns = "l" + "r" * len(methods)
    return to_latex(columns, header, body, caption=caption, label="tab:recovery")


def _blocks(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    blocks = []
    for (suite, backbone), members in group(rows, itemgetter("suite", "backbone")).items():
        base = [_decimal(r["accuracy"]) for r in members if r["protection"] == "zero-shot"]
        title = backbone_title(backbone)
        title = f"Published, {title}" if suite == "published" else f"Backbone: {title}"
        blocks.append((title + "".join(f" (Zero-shot: {value})" for value in base), members))
    return blocks


def _decimal(text: str) -> str:
    """With one decimal, as the page prints."""
    return f"{float(text):.1f}" if text else "–"
