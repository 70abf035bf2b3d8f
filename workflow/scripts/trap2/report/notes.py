"""Notes that results carry from their data: what a reader must know to read them rightly."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

COLUMN = "notes"


CAPTION_WIDTH = 110


def notes_of(records: Iterable[Mapping[str, Any]]) -> str:
    """All notes of some records, each once, in one line; empty if there are none."""
    return " ".join(sorted({note for record in records for note in record.get(COLUMN, [])}))


def add_notes(
    columns: list[str], rows: list[dict[str, str]], records: Iterable[Mapping[str, Any]]
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
        row[COLUMN] = text
    return [*columns, COLUMN]


def run_of(record: Mapping[str, Any], seed: int) -> str:
    """What a figure's caption begins with: suite, seed and backbone."""
    return f"{record['suite']} suite, seed {seed}, {record['backbone']}"


def add_caption_notes(about: str, records: Iterable[Mapping[str, Any]]) -> str:
    """A figure's caption with the notes of the records behind it above it, wrapped."""
    return "\n".join([*textwrap.wrap(notes_of(records), CAPTION_WIDTH), about])


def add_closing_notes(text: str, rows: Iterable[Mapping[str, str]]) -> str:
    """A text with the notes of a table's rows below it."""
    notes = sorted({row[COLUMN] for row in rows if row.get(COLUMN)})
    return text + "".join(f"\n{textwrap.fill('Note: ' + note, CAPTION_WIDTH)}\n" for note in notes)
