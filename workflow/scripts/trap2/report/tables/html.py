"""Tables and texts as pages that a browser shows, for the report."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; color: #222; margin: 1.5em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.7em; border-bottom: 1px solid #ddd; text-align: left; }
th { position: sticky; top: 0; background: #f4f4f4; }
pre { white-space: pre-wrap; }
tr:hover td { background: #f8f8f0; }
"""


def page(title: str, body: str) -> str:
    """A whole page around a piece of HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(path: str | Path) -> str:
    """A CSV file as an HTML table, digit by digit as it stands there."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    found: str = rows.to_html(index=False, border=0, justify="left")
    return found


def text(content: str) -> str:
    """A plain text with its line breaks."""
    return f"<pre>{escape(content)}</pre>"
