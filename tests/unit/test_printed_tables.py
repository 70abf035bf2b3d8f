"""The paper's numbers, rendered as LaTeX, are the paper's printed tables, pink bars included."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from trap2.report.published import published_rows
from trap2.report.tables.latex import is_below, render, zero_shot_averages
from trap2.report.tables.latex_cells import escape
from trap2.runtime import files
from trap2.suites.paper import TABLES

ROOT = Path(__file__).parents[2]
PRINTED = ROOT / "tests/fixtures/printed"
BAR = re.compile(r"\\accbar\{bar(plain|below)\}\{([\d.]+)em\}\{([^{}]*)\}")


def published(number: int) -> list[dict[str, str]]:
    numbers = files.read_csv(ROOT / f"config/published/table{number}.csv")
    return published_rows(TABLES[number].kind, numbers)


def rendered(number: int) -> str:
    standalone = published(number - 1) if TABLES[number].kind == "merging" else []
    return render(
        number,
        TABLES[number].kind,
        published(number),
        zero_shot=zero_shot_averages(standalone),
        source="Published",
        ours="(Ours)",
    )


def lines_of(tex: str) -> list[str]:
    """The lines of a tabular, cells between & as LaTeX would print them one after another."""
    body = tex.split(r"\toprule", 1)[1].split(r"\bottomrule", 1)[0]
    return [line[: -len(r" \\")] for line in body.splitlines() if line.endswith(r" \\")]


def plain(cell: str) -> str:
    """What a reader sees of a cell."""
    cell = re.sub(r"\\multicolumn\{\d+\}\{\w\}\{(.*)\}$", r"\1", cell.strip())
    cell = BAR.sub(r"\3", cell)
    cell = re.sub(r"\\textit\{(.*)\}$", r"\1", cell)
    for latex, text in ((r"$^\dagger$", "†"), ("$^*$", "*"), ("$^2$", "²"), (r"\_", "_")):
        cell = cell.replace(latex, text)
    return cell


def printed(number: int) -> list[list[str]]:
    lines = (PRINTED / f"table{number}.txt").read_text("utf-8").splitlines()
    return [line.split(" | ") for line in lines]


@pytest.mark.parametrize("number", TABLES)
def test_the_published_numbers_render_to_the_printed_table(number):
    found = [[plain(cell) for cell in line.split("&")] for line in lines_of(rendered(number))]
    assert [[cell for cell in line if cell] for line in found] == printed(number)


@pytest.mark.parametrize("number", TABLES)
def test_every_line_fills_the_declared_columns(number):
    tex = rendered(number)
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", tex)
    assert columns
    for line in lines_of(tex):
        spans = re.findall(r"\\multicolumn\{(\d+)\}", line)
        assert line.count("&") + 1 + sum(int(n) - 1 for n in spans) == len(columns[1])
    assert tex.count("{") == tex.count("}")


def marked(number: int) -> dict[tuple[int, int], bool]:
    """Whether the n-th bar of a printed line is pink, by line and place among its numbers."""
    return {
        (row, place): bar[0] == "below"
        for row, line in enumerate(lines_of(rendered(number)))
        for place, bar in enumerate(BAR.findall(line))
    }


def expected_marks(number: int, reference: str) -> dict[tuple[int, int], bool]:
    """The captions' rule on the printed numbers: below 95 % of the reference row is pink."""
    marks, numbers_of_line, blocks, start = {}, {}, [], 0
    for row, cells in enumerate(printed(number)):
        numbers_of_line[row] = [Decimal(c) for c in cells if re.fullmatch(r"\d+\.\d+", c)]
        title = [c for c in cells if not re.fullmatch(r"\d+\.\d+", c)]
        if title[0].startswith(("ViT", "ConvNeXt", "Backbone: ")):
            start = row
        if title[-1] == reference:
            blocks.append((start, numbers_of_line[row]))
    for row, values in numbers_of_line.items():
        if values:
            base = [b for first, b in blocks if first <= row][-1]
            for place, value in enumerate(values):
                marks[row, place] = 100 * value < 95 * base[place]
    return marks


@pytest.mark.parametrize(("number", "reference"), [(1, "Fine-Tuned"), (2, "Unprotected")])
def test_the_pink_bars_are_those_of_the_caption(number, reference):
    assert marked(number) == expected_marks(number, reference)


def test_table_2_has_trap2_in_pink_and_nothing_else():
    titles = [cells[0] for cells in printed(2)]
    for (row, _), pink in marked(2).items():
        assert pink == (titles[row] == "TRAP² (Ours)")


def test_table_1_counts_of_pink_bars():
    # Read off Table 1: Merge-Lock everywhere, PaRaMS on a few, TRAP² nowhere.
    found: dict[str, int] = {}
    for (row, _), pink in marked(1).items():
        title = next(cell for cell in printed(1)[row] if cell[0] in "+TF" or "Zero" in cell)
        found[title] = found.get(title, 0) + pink
    assert found == {
        "Zero-Shot": 27,
        "Fine-Tuned": 0,
        "+ Merge-Lock*": 18,
        "+ Merge-Lock†": 18,
        "+ PaRaMS*": 2,
        "+ PaRaMS†": 7,
        "TRAP² (Ours)": 0,
    }


@pytest.mark.parametrize("number", sorted(set(TABLES) - {1, 2}))
def test_the_other_tables_have_no_bars(number):
    assert r"\accbar{" not in rendered(number).split(r"\toprule")[1]


def test_bars_are_as_long_as_the_captions_say():
    row = lines_of(rendered(2))[4]
    lengths = [float(bar[1]) for bar in BAR.findall(row)]
    # Unprotected TA is 48.273 and the column's largest value, PaRaMS*, 48.290.
    assert lengths[0] == pytest.approx(3.2 * 48.273 / 48.290, abs=0.006)


def test_a_table_that_cannot_be_made_is_a_sentence():
    row = {"suite": "demo", "table": "8", "not_applicable": "no second ViT, 100 % sure"}
    assert render(8, "complete", [row], source="") == ("\\noindent no second ViT, 100 \\% sure.\n")


def test_escaping():
    assert escape("a_b & 5 % of #1²") == r"a\_b \& 5 \% of \#1$^2$"


def test_the_mark_is_below_95_percent_exactly():
    assert is_below("94.999", "100.000")
    assert not is_below("95.000", "100.000")
    assert not is_below("57.095", "60.100")  # 95 % of it, exactly
    assert is_below("57.094", "60.100")
