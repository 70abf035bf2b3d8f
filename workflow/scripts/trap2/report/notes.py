"""Notes that results carry from their data: what a reader must know to read them rightly."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from trap2.report.shapes import Point, Row, Rows
from trap2.report.tables.columns import NOTES
from trap2.updates.records import Circumstances

CAPTION_WIDTH = 110


def notes_of(records: Iterable[Circumstances]) -> str:
    """All notes of some records, each once, in one line; empty if there are none."""
    return " ".join(sorted({note for record in records for note in record.get("notes", [])}))


def add_notes(
    columns: list[str], rows: Sequence[Point], records: Iterable[Circumstances]
) -> list[str]:
    """Give every row the notes of the records behind its table, if there are any.

    Args:
        columns: the table's columns.
        rows: its rows; changed in place.
        records: what the rows were made from.

    Returns:
        The columns, with ``notes`` as the last one where there is something to note.
    """
    text = notes_of(records)
    if not text:
        return columns
    for row in rows:
        row[NOTES] = text
    return [*columns, NOTES]


def run_of(record: Circumstances, seed: int) -> str:
    """What a figure's caption begins with: suite, seed and backbone."""
    return f"{record['suite']} suite, seed {seed}, {record['backbone']}"


def add_caption_notes(about: str, records: Iterable[Circumstances]) -> str:
    """A figure's caption with the notes of the records behind it above it, wrapped."""
    return "\n".join([*textwrap.wrap(notes_of(records), CAPTION_WIDTH), about])


def about_rows(rows: Rows, seed: int) -> str:
    """What the caption of a figure of a table's rows begins with: suite, seed and split.

    The rows' notes stand above it, as in :func:`add_caption_notes`.
    """
    notes = sorted({row[NOTES] for row in rows if row.get(NOTES)})
    suite = rows[0]["suite"] if rows else "no"
    return "\n".join([*notes, f"{suite} suite, seed {seed}, test split"])


def add_closing_notes(text: str, rows: Iterable[Row]) -> str:
    """A text with the notes of a table's rows below it."""
    notes = sorted({row[NOTES] for row in rows if row.get(NOTES)})
    return text + "".join(f"\n{textwrap.fill('Note: ' + note, CAPTION_WIDTH)}\n" for note in notes)
