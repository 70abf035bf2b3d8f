"""The shapes of rows in the report room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, str]
"""A row of a CSV file: every value is text."""


TextRow = dict[str, str]
"""A :data:`Row` that is being made."""


Rows = Sequence[Row]


Point = dict[str, Any]
"""A row of numbers and texts by column, before it is rounded and printed."""
