"""Tables as LaTeX: cells, rules and bars, with nothing said about what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BAR_WIDTH = 3.2
"""Width of a full bar in em, that of a printed accuracy with some room."""


_ESCAPES = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "²": r"$^2$",
    "†": r"$^\dagger$",
    "*": r"$^*$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
}


# Colours by role; the bars are told apart in grey print by their lightness.
PREAMBLE = r"""% Needs \usepackage{booktabs,xcolor,graphicx}.
\providecolor{barplain}{HTML}{B0C4E0}
\providecolor{barbelow}{HTML}{FBC8DC}
\providecommand{\accbar}[3]{\makebox[3.2em][l]{\rlap{\textcolor{#1}{\rule[-0.5ex]{#2}{2.1ex}}}%
\makebox[3.2em][r]{#3}}}"""


@dataclass(frozen=True)
class Cell:
    """One cell of a printed table.

    Attributes:
        text: plain text; it is escaped.
        span: columns that it covers, at least 1.
        align: ``l``, ``c`` or ``r`` where it covers several columns.
        bar: length of the bar behind it as a share of a full one, 0 … 1; no bar if None.
        marked: the bar is pink, and not blue.
        italic: print in italics.
    """

    text: str = ""
    span: int = 1
    align: str = "c"
    bar: float | None = None
    marked: bool = False
    italic: bool = False


class Rule:
    """A horizontal line between rows."""


Line = Sequence[Cell] | Rule


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def to_latex(
    columns: str, header: Sequence[Line], body: Sequence[Line], *, caption: str, label: str
) -> str:
    """A ``table*`` environment, as wide as the page at most.

    Args:
        columns: the columns' alignments, one of ``l``, ``c``, ``r`` each.
        header: lines above the body.
        body: the lines.
        caption: plain text.
        label: for ``\\ref``.
    """
    lines = [
        PREAMBLE,
        r"\begin{table*}[t]",
        r"\centering",
        r"\caption{" + escape(caption) + "}",
        r"\label{" + label + "}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        r"\begin{tabular}{" + columns + "}",
        r"\toprule",
        *(_line(line) for line in header),
        r"\midrule",
        *(_line(line) for line in body),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def sentence(text: str) -> str:
    """What stands in the place of a table that cannot be made."""
    return rf"\noindent {escape(text)}." + "\n"


def _line(line: Line) -> str:
    if isinstance(line, Rule):
        return r"\midrule"
    return " & ".join(_cell(cell) for cell in line) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.italic:
        text = rf"\textit{{{text}}}"
    if cell.bar is not None:
        colour = "barbelow" if cell.marked else "barplain"
        width = BAR_WIDTH * min(max(cell.bar, 0.0), 1.0)
        text = rf"\accbar{{{colour}}}{{{width:.2f}em}}{{{text}}}"
    if cell.span > 1:
        return rf"\multicolumn{{{cell.span}}}{{{cell.align}}}{{{text}}}"
    return text
