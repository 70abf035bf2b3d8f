"""The comparison page: claims first, then each table beside the paper's, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from trap2.report.claims import FAILS, HOLDS, UNTESTED
from trap2.report.names import backbone_title, protection_title
from trap2.report.shapes import Row
from trap2.report.tables.rows import group, mean
from trap2.suites.paper import TABLES

MARKS = {HOLDS: "✔ holds", FAILS: "✘ does not hold", UNTESTED: "– not tested"}


ORDERS = {"below": "▼", "above": "▲", "level": "＝"}


# Tables whose every column is printed; Tables 7 to 11 are summed up and their CSV file is named.
SHOWN = (1, 2, 3, 4, 5)


def comparison_page(
    suite: str,
    claims: Sequence[Row],
    rows: Sequence[Row],
    notes: Sequence[str],
    *,
    numbers: bool,
) -> str:
    """The page as Markdown.

    Args:
        suite: the suite's name.
        claims: rows of ``claims.csv``.
        rows: rows of ``comparison.csv``.
        notes: what the tables note about their data.
        numbers: whether the rows compare numbers, or the pattern.
    """
    what = (
        "each number beside the published one" if numbers else "who is above whom, and by how much"
    )
    lines = [f"# The {suite} suite and the paper", ""]
    lines += [f"Accuracies in percent on the test split; {what}. All rows: `comparison.csv`.", ""]
    if not numbers:
        lines += [
            "The suite has its own tasks and models: its numbers are not the paper's and are not "
            "compared with them. What can be compared is the order in each column. A value is "
            "*level* (＝) with its reference within 5 % of it, else above (▲) or below (▼).",
            "",
        ]
    lines += [f"> {note}" for note in notes] + [""] * bool(notes)
    lines += _claims(claims)
    for number, members in group(rows, itemgetter("table")).items():
        lines += ["", f"## Table {number}", ""]
        lines += _numbers(members) if numbers else _pattern(int(number), members)
    return "\n".join(lines) + "\n"


def _claims(claims: Sequence[Row]) -> list[str]:
    count = {verdict: sum(c["verdict"] == verdict for c in claims) for verdict in MARKS}
    lines = [
        "## The paper's claims",
        "",
        f"{count[HOLDS]} hold, {count[FAILS]} do not, {count[UNTESTED]} were not tested. Each is "
        "defined in `config/claims.yaml`. *Held* counts the comparisons in which the relation "
        "holds; *closest* is the least favourable left side divided by its reference. *Paper* is "
        "the verdict of the same test on the published numbers.",
        "",
        "| claim | where | verdict | held | closest | paper |",
        "|---|---|---|---|---|---|",
    ]
    for claim in claims:
        held = f"{claim['held']} of {claim['of']}" if claim["verdict"] != UNTESTED else ""
        remark = claim["reason"] or claim["tried"]
        statement = claim["statement"] + (f" *({remark})*" if remark else "")
        lines.append(
            f"| {statement} | {claim['source']} | {MARKS[claim['verdict']]} | {held} "
            f"| {claim['margin']} | {claim['published']} |"
        )
    return lines


def _numbers(members: Sequence[Row]) -> list[str]:
    differences = [float(row["difference"]) for row in members]
    worst = max(members, key=lambda row: abs(float(row["difference"])))
    size = mean(abs(value) for value in differences)
    lines = [
        f"{len(members)} numbers; mean difference {mean(differences):+.3f}, mean size of the "
        f"difference {size:.3f}; the largest is {worst['difference']} "
        f"({backbone_title(worst['backbone'])}, {protection_title(worst['protection'])}, "
        f"{worst['column']}).",
        "",
    ]
    if int(members[0]["table"]) not in SHOWN:
        return lines[:1]
    columns = list(dict.fromkeys(row["column"] for row in members))
    lines += _header(["backbone", "protection", *columns])
    for (backbone, protection), row in group(members, itemgetter("backbone", "protection")).items():
        at = {each["column"]: each for each in row}
        cells = [f"{at[c]['ours']} ({at[c]['difference']})" if c in at else "" for c in columns]
        lines.append(_line([backbone_title(backbone), protection_title(protection), *cells]))
    return [*lines, "", "Ours, and in brackets ours minus published."]


def _pattern(number: int, members: Sequence[Row]) -> list[str]:
    compared = [row for row in members if row["agrees"]]
    agree = sum(row["agrees"] == "yes" for row in compared)
    orders = [row["order"] for row in members if row["protection"] == "trap2"]
    found = ", ".join(f"{orders.count(name)} {name}" for name in ORDERS if name in orders)
    reference = protection_title(members[0]["reference"])
    lines = [f"TRAP² against {reference}: {found}."] if found else []
    if compared:
        lines.append(
            f"The order is the paper's in {agree} of {len(compared)} comparisons: every "
            "protection, backbone and column that both have."
        )
    lines = [" ".join(lines)]
    if number not in SHOWN:
        return [*lines, "", f"All columns: `table{number}.csv`."]
    columns = list(dict.fromkeys(row["column"] for row in members))
    lines += ["", *_header(["backbone", "protection", *columns])]
    for (backbone, protection), row in group(members, itemgetter("backbone", "protection")).items():
        at = {each["column"]: each for each in row}
        cells = [
            f"{ORDERS[at[c]['order']]} {float(at[c]['difference']):+.1f}" if c in at else ""
            for c in columns
        ]
        lines.append(_line([backbone_title(backbone), protection_title(protection), *cells]))
    what = "standalone" if TABLES[number].kind == "standalone" else "merged"
    return [*lines, "", f"Percentage points of {what} accuracy above (+) or below (−) {reference}."]


def _header(names: Sequence[str]) -> list[str]:
    return [_line(names), _line(["---"] * len(names))]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
