"""The paper's claims as data, and what a run's tables say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from trap2.report.shapes import Row, Rows, TextRow
from trap2.report.tables.rows import group
from trap2.runtime.messages import message
from trap2.runtime.schema import ConfigurationError, checked_by, read_yaml
from trap2.suites.artifacts import CLAIMED

Tables = Mapping[str, Rows]


Wanted = Mapping[str, str]
"""Values of columns; ``{column}`` stands for another column's value."""


class Test(TypedDict):
    """The comparison that decides a claim, as ``claims.schema.yaml`` describes it.

    Of ``rows``: ``of``, ``against``, ``by`` and perhaps ``columns``.  Of ``columns``: ``left``, and
    ``right`` or ``value``; perhaps ``where`` and ``at_most``.
    """

    kind: Literal["rows", "columns"]
    relation: str
    factor: float
    share: float
    of: NotRequired[Wanted]
    against: NotRequired[Wanted]
    by: NotRequired[list[str]]
    columns: NotRequired[list[str]]
    left: NotRequired[list[str]]
    right: NotRequired[str]
    value: NotRequired[float]
    where: NotRequired[Wanted]
    at_most: NotRequired[Mapping[str, float]]


class Claim(TypedDict):
    """An entry of ``config/claims.yaml``."""

    id: str
    claim: str
    source: str
    table: str
    tried: Mapping[str, str]
    test: Test


HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested"


COLUMNS = [
    *("suite", "claim", "verdict", "held", "of", "margin", "published", "source", "table"),
    *("statement", "reason", "tried"),
]

_RELATIONS: dict[str, Callable[[float, float, float], bool]] = {
    "below": lambda left, right, factor: left < factor * right,
    "above": lambda left, right, factor: left > factor * right,
    "at_least": lambda left, right, factor: left >= factor * right,
    "at_most": lambda left, right, factor: left <= factor * right,
    "within": lambda left, right, factor: abs(left - right) <= factor * abs(right),
}


class Untestable(ValueError):
    """A claim that a run's tables cannot answer; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim.

    Attributes:
        verdict: ``holds``, ``does not hold`` or ``not tested``.
        held: comparisons in which the relation holds.
        count: all comparisons.
        margin: the least favourable left side divided by its right side (without a right side to
            divide by, the left side itself).
        reason: why it was not tested.
    """

    verdict: str
    held: int = 0
    count: int = 0
    margin: float | None = None
    reason: str = ""


def judge(claim: Claim, tables: Tables) -> Verdict:
    """Put a claim to the test.

    Args:
        claim: an entry of ``config/claims.yaml``.
        tables: rows of each table or figure by its name; one that is missing, or that says
            ``not_applicable``, leaves the claim untested.
    """
    test = claim["test"]
    try:
        comparisons = list(_comparisons(claim["table"], test, tables))
        if not comparisons:
            raise Untestable(_missing(claim["table"], test))
    except Untestable as error:
        return Verdict(UNTESTED, reason=str(error))
    relation, factor = _RELATIONS[test["relation"]], test["factor"]
    held = [relation(left, right, factor) for left, right in comparisons]
    enough = sum(held) >= test["share"] * len(held)
    ratios = [left / right if right else left for left, right in comparisons]
    if test["relation"] == "within":
        margin = max(ratios, key=lambda ratio: abs(ratio - 1))
    else:
        # Below a negative number lies what is further from zero.
        largest = (test["relation"] in {"below", "at_most"}) == (comparisons[0][1] >= 0)
        margin = max(ratios) if largest else min(ratios)
    return Verdict(HOLDS if enough else FAILS, sum(held), len(held), margin)


def claims_on(claims: Sequence[Claim], section: str = "") -> list[Claim]:
    """The claims on what a section of the report shows (attacks, sibling papers), or all others."""
    elsewhere = {name for names in CLAIMED.values() for name in names}
    if section:
        return [claim for claim in claims if claim["table"] in CLAIMED[section]]
    return [claim for claim in claims if claim["table"] not in elsewhere]


def claim_rows(
    suite: str, claims: Sequence[Claim], tables: Tables, published: Tables
) -> list[TextRow]:
    """A row a claim, with the run's verdict and that of the published numbers."""
    rows = []
    for claim in claims:
        found = judge(claim, tables)
        margin = "" if found.margin is None else f"{found.margin:.3f}"
        rows.append(
            {"suite": suite, "claim": claim["id"], "verdict": found.verdict}
            | {"held": str(found.held), "of": str(found.count), "margin": margin}
            | {"published": judge(claim, published).verdict, "source": claim["source"]}
            | {"table": claim["table"], "statement": claim["claim"], "reason": found.reason}
            | {"tried": claim["tried"].get(suite, "") if found.verdict == FAILS else ""}
        )
    return rows


def _missing(table: str, test: Test) -> str:
    wanted = test["of"] if test["kind"] == "rows" else test.get("where", {})
    what = ", ".join(f"{key} {value}" for key, value in wanted.items())
    return f"the run's {table} has no {what}" if what else f"the run's {table} is empty"


def _table(name: str, tables: Tables) -> Rows:
    rows = tables.get(name)
    if not rows:
        raise Untestable(f"the run has no {name}")
    if "not_applicable" in rows[0]:
        raise Untestable(rows[0]["not_applicable"])
    return rows


def _comparisons(name: str, test: Test, tables: Tables) -> Iterator[tuple[float, float]]:
    rows = _table(name, tables)
    if test["kind"] == "rows":
        yield from _row_comparisons(rows, test, tables)
        return
    for row in rows:
        if _fits(row, test.get("where", {})) and all(
            float(row[key]) <= limit for key, limit in test.get("at_most", {}).items()
        ):
            right = float(row[test["right"]]) if "right" in test else float(test["value"])
            # A share of nothing is empty, and is no comparison.
            yield from ((float(row[column]), right) for column in test["left"] if row[column])


def _row_comparisons(rows: Rows, test: Test, tables: Tables) -> Iterator[tuple[float, float]]:
    keys = tuple(test["by"])
    against = {k: v for k, v in test["against"].items() if k not in {"table", "column"}}
    others = _table(test["against"]["table"], tables) if "table" in test["against"] else rows
    references = group(
        (row for row in others if _fits(row, against)),
        lambda row: tuple(row[key] for key in keys),
    )
    for row in rows:
        if not _fits(row, test["of"]):
            continue
        if not (found := references.get(tuple(row[key] for key in keys))):
            continue
        for column in test.get("columns") or _numeric_columns(row):
            other = test["against"].get("column", column)
            yield float(row[column]), float(found[0][other])


def _numeric_columns(row: Row) -> list[str]:
    return [name for name, value in row.items() if _is_number(value)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fits(row: Row, wanted: Wanted) -> bool:
    """Whether a row has the wanted values; ``{column}`` stands for that column's value."""
    for key, value in wanted.items():
        text = str(value)
        if text.startswith("{"):
            text = row[text[1:-1]]
        if row.get(key) != text:
            return False
    return True


def load_claims(path: str | Path) -> list[Claim]:
    """The claims to test, with defaults filled in.

    Raises:
        ConfigurationError: the file is not YAML, a key is unknown, a value is not allowed, or
            two claims have one id.
    """
    claims = checked_by("claims.schema.yaml", read_yaml(path, str(path)), str(path))["claims"]
    problems = list(_claim_problems(claims))
    if problems:
        raise ConfigurationError(message(str(path), problems))
    found: list[Claim] = claims
    return found


def _claim_problems(claims: list[Claim]) -> Iterator[str]:
    needed = {"rows": ("of", "against", "by"), "columns": ("left",)}
    for number, claim in enumerate(claims):
        if claim["id"] in {other["id"] for other in claims[:number]}:
            yield f"claims[{number}].id is '{claim['id']}', which another claim has. Rename it"
        test = claim["test"]
        for key in needed[test["kind"]]:
            if key not in test:
                yield f"claims[{number}].test.{key} is missing; a test of {test['kind']} needs it"
        if test["kind"] == "columns" and ("right" in test) == ("value" in test):
            yield f"claims[{number}].test compares with right, a column, or value; give one"
