"""The sibling papers' tables and figures, from records small enough for the arithmetic by hand."""

import re
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from sibling_records import TASKS, cell, point, record
from trap2.report.figures.mergelock import FIGURES, curve_rows, distance_rows, path_rows
from trap2.report.tables import mergeguard, mergelock, siblings
from trap2.report.tables.siblings_latex import render_anchor, render_merges, render_pairs
from trap2.runtime import files

ROOT = Path(__file__).parents[2]


def pair(partner: str, protected: float, other: float, task: str = "a", **facts) -> dict:
    return cell("pair", partner, point({task: protected, partner: other}), **facts)


NORMAL = record("unprotected", "a", pair("b", 60, 80), pair("c", 70, 90))
LOCKED = record(
    *("mergelock", "a"),
    *(pair("b", 10, 20), pair("c", 2, 8)),
    *(pair("b", 20, 30, attack="align-rotation"), pair("c", 4, 10, attack="align-rotation")),
    *(pair("b", 60, 79, attack="aga"),),
    pair("b", 50, 50, method="TIES"),
)


def pairs(*records: dict, method: str = "TA") -> dict[tuple[str, str], dict[str, str]]:
    rows = mergelock.pair_rows(records, method)
    return {(row["protection"], row["attack"]): row for row in rows}


def test_a_cell_of_a_pair_is_the_mean_of_its_two_tasks():
    found = pairs(LOCKED, NORMAL)
    normal = found["unprotected", "none"]
    assert (normal["a"], normal["b"], normal["c"]) == ("", "70.000", "80.000")
    assert (normal["average"], normal["delta"]) == ("75.000", "")
    assert next(iter(found)) == ("unprotected", "none")
    assert normal["coefficient"] == "0.8"


def test_a_difference_is_to_the_unprotected_pair_and_of_an_attack_to_the_pair_without_it():
    found = pairs(LOCKED, NORMAL)
    assert (found["mergelock", "none"]["average"], found["mergelock", "none"]["delta"]) == (
        *("10.000", "-65.000"),
    )
    aligned = found["mergelock", "align-rotation"]
    assert (aligned["average"], aligned["delta"]) == ("16.000", "6.000")


def test_a_row_without_every_partner_has_no_average():
    found = pairs(LOCKED, NORMAL)
    attacked = found["mergelock", "aga"]
    assert (attacked["b"], attacked["c"]) == ("69.500", "")
    assert (attacked["average"], attacked["delta"]) == ("", "")
    assert pairs(LOCKED, NORMAL, method="TIES").keys() == {("mergelock", "none")}
    assert pairs(LOCKED, NORMAL, method="AdaMerging") == {}


def test_attacks_stand_in_one_order_whatever_that_of_the_records():
    shuffled = ["graderase", "another", "aga", "none", "align-params"]
    expected = ["none", "align-params", "aga", "graderase", "another"]
    assert siblings.attacks_in_order(shuffled) == expected
    assert siblings.protections_in_order([LOCKED, record("trap2", "a"), NORMAL]) == [
        *("unprotected", "mergelock", "trap2"),
    ]


def whole(a: float, b: float, c: float, method: str = "TA", attack: str = "none") -> dict:
    test = dict(zip(TASKS, (a, b, c), strict=True))
    return cell("all", None, point(test, 0.3), method=method, attack=attack)


def apart(protected: str, *own: float) -> list[float]:
    """The protected task's own number, and 66 on the others."""
    return [value if task == protected else 66 for task, value in zip(TASKS, own, strict=True)]


MEASURED = mergeguard.Measured(
    [
        *(record("unprotected", t, *([whole(50, 60, 70)] if t == "a" else [])) for t in TASKS),
        *(
            record(
                *("params", task, whole(*apart(task, 11, 22, 33)), whole(40, 50, 60, attack="aga")),
                standalone={"none": 90.0, "aga": 80.0},
            )
            for task in TASKS
        ),
        record("mergeguard", "a", whole(1, 90, 90), standalone={"none": 84.0}),
        record("mergeguard", "b", whole(90, 2, 90), standalone={"none": 85.0}),
        record("mergeguard", "c", whole(90, 90, 3, attack="unmask"), standalone={"none": 86.0}),
    ]
)


def by_use(rows: list[dict]) -> dict[tuple[str, str], list[str]]:
    numbers = (*TASKS, "average")
    return {(row["protection"], row["use"]): [row[n] for n in numbers] for row in rows}


def test_a_merge_of_all_is_read_on_the_protected_task():
    found = {
        (row["merge_method"], row["protection"]): row for row in mergeguard.merged_rows(MEASURED)
    }
    # Of the unprotected updates one merge is enough.
    assert [found["TA", "unprotected"][task] for task in TASKS] == ["50.000", "60.000", "70.000"]
    guarded = found["TA", "mergeguard"]
    assert [guarded[task] for task in TASKS] == ["1.000", "2.000", ""]
    assert guarded["average"] == ""
    assert found.keys() == {("TA", name) for name in ("unprotected", "params", "mergeguard")}


def test_used_alone_the_base_stands_first_and_the_papers_rows_before_ours():
    found = by_use(mergeguard.standalone_rows(MEASURED))
    assert [name for name, _ in found] == ["zero-shot", "fine-tuned", "mergeguard", "params"]
    assert found["mergeguard", "standalone"] == ["84.000", "85.000", "86.000", "85.000"]
    assert found["zero-shot", "standalone"][-1] == "20.000"


def test_the_papers_drop_and_that_beside_the_unprotected_merge_are_two_numbers():
    found = by_use(mergeguard.against_rows(MEASURED))
    assert found["params", "merged"] == ["11.000", "22.000", "33.000", "22.000"]
    assert found["params", "lost"] == ["79.000", "68.000", "57.000", "68.000"]
    assert found["params", "lost-beside"] == ["39.000", "38.000", "37.000", "38.000"]
    assert found["mergeguard", "lost"] == ["83.000", "83.000", "", ""]


def test_attacks_on_mergeguard_stand_between_the_base_and_the_unprotected_merge():
    rows = mergeguard.adaptive_rows(MEASURED)
    assert [(row["protection"], row["attack"]) for row in rows] == [
        *(("zero-shot", "none"), ("unprotected", "none")),
        *(("mergeguard", "none"), ("mergeguard", "unmask")),
    ]
    assert rows[-1]["c"] == "3.000"
    assert mergeguard.stage_rows(MEASURED)[0]["protection"] == "mergeguard"


def test_the_anchor_guided_attack_is_read_on_the_protected_task_and_on_the_others():
    found = {(row["protection"], row["attack"]): row for row in mergeguard.anchor_rows(MEASURED)}
    before, after = found["params", "none"], found["params", "aga"]
    names = ("standalone", "protected_accuracy", "others_accuracy", "average")
    assert [before[name] for name in names] == ["90.000", "22.000", "66.000", "51.333"]
    assert [after[name] for name in names] == ["80.000", "50.000", "50.000", "50.000"]
    # On a: the mean of b and c, 65; then 60 and 55.
    normal = found["unprotected", "none"]
    assert (normal["protected_accuracy"], normal["others_accuracy"]) == ("60.000", "60.000")
    assert found["mergeguard", "none"]["protected_accuracy"] == ""


def published(name: str) -> list[dict[str, str]]:
    return files.read_csv(ROOT / f"config/published/{name}.csv")


def test_published_averages_are_kept_as_they_are_printed():
    rows = mergelock.published_pairs(published("mergelock_table1"))
    found = {tuple(r[k] for k in ("protected_task", "protection", "attack")): r for r in rows}
    assert len(rows) == 8 * 5
    normal = found["RESISC", "unprotected", "none"]
    # 613.5 / 7 is 87.64; the paper cuts off.
    assert (normal["average"], normal["RESISC"], normal["delta"]) == ("87.6", "", "")
    # Misprinted: the averages give 1.6.
    assert found["SUN397", "mergelock", "align-rotation"]["delta"] == "11.6"
    assert found["GTSRB", "mergelock", "align-rotation"]["MNIST"] == "39.63"
    assert found["DTD", "params", "align-params"]["average"] == "78.1"


@pytest.mark.parametrize(("number", "count"), [(1, 3), (2, 8), (3, 4), (4, 6), (5, 5)])
def test_published_tables_of_mergeguard_have_our_rows(number, count):
    rows = mergeguard.published_rows(published(f"mergeguard_table{number}"))
    assert len(rows) == count
    assert all(row[task] for row in rows for task in ("SUN397", "DTD"))
    assert any(row["average"] for row in rows) == (number == 5)


def test_the_papers_drops_follow_from_its_table_3_and_include_what_merging_costs():
    third = mergeguard.published_rows(published("mergeguard_table3"))
    normal = mergeguard.published_rows(published("mergeguard_table2"))
    found = {(r["protection"], r["use"]): r["average"] for r in mergeguard.derived(third, normal)}
    assert found["params", "lost"] == "30.761"
    assert found["mergeguard", "lost"] == "52.110"
    assert found["params", "lost-beside"] == "21.101"
    assert found["mergeguard", "lost-beside"] == "44.208"  # 44.2075
    stages = mergeguard.published_rows(published("mergeguard_table4"))
    assert {row["protection"] for row in stages} == set(mergeguard.STAGES)


PAPER_TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"]


def paper_pairs(backbone: str, tasks: list[str]) -> list[dict[str, str]]:
    partners = [task for task in tasks if task != "cars"]
    cells = [pair(other, 60, 60, task="cars", attack="align-rotation") for other in partners]
    facts = {"backbone": backbone, "tasks": tasks}
    return mergelock.pair_rows([record("mergelock", "cars", *cells, **facts)], "TA")


def test_published_numbers_stand_beside_a_suite_of_the_papers_tasks_and_backbone_alone():
    numbers = mergelock.published_pairs(published("mergelock_table1"))

    def beside(backbone: str, tasks: list[str]) -> tuple[list[dict[str, str]], list[str]]:
        rows, columns = paper_pairs(backbone, tasks), mergelock.columns(tasks)
        return rows, siblings.with_published(rows, columns, numbers, mergelock.BY)

    rows, columns = beside("ViT-B-32", PAPER_TASKS)
    assert rows[0]["mnist"] == "60.000"
    assert rows[0]["mnist_published"] == "26.6"
    assert rows[0]["average_published"] == "6.2"
    assert columns[columns.index("mnist") + 1] == "mnist_published"
    assert "60.0 (26.6)" in render_pairs(1, rows, "A run")
    for backbone, tasks in (
        ("ViT-B-32", ["cars", "mnist", "digits"]),
        ("ViT-B-32", PAPER_TASKS[:-1]),
        ("ViT-B-32", [*PAPER_TASKS, "aircraft"]),
        ("ViT-demo", PAPER_TASKS),
    ):
        rows, columns = beside(backbone, tasks)
        assert columns == mergelock.columns(tasks)
        assert not any(name.endswith("_published") for name in rows[0])


def test_claims_see_a_number_a_row_and_none_of_the_published_ones_among_ours():
    rows = paper_pairs("ViT-B-32", PAPER_TASKS)
    numbers = mergelock.published_pairs(published("mergelock_table1"))
    siblings.with_published(rows, mergelock.columns(PAPER_TASKS), numbers, mergelock.BY)
    found = siblings.numbers_of(rows)
    assert [row["number"] for row in found] == ["task"] * 7 + ["average"]
    assert {row["accuracy"] for row in found} == {"60.000"}
    assert found[0]["protected_task"] == "cars"
    assert found[0]["task"] == "dtd"


def test_a_table_is_rendered_with_the_papers_rows_by_task_and_all_of_them_on_average():
    rows = mergelock.pair_rows([NORMAL, LOCKED], "TA")
    text = render_pairs(1, rows, "Numbers of the demo suite, seed 0")
    lines = [line.removesuffix(r" \\") for line in text.splitlines()]
    assert "A & Unprotected & NA & 70.0 & 80.0 & 75.0 & --" in lines
    assert r" & Merge-Lock & NA & 15.0 & 5.0 & 10.0 & $\downarrow$65.0" in lines
    assert r" & Merge-Lock, rotated back & NA & 25.0 & 7.0 & 16.0 & $\uparrow$6.0" in lines
    # Not in the paper: below, on average over the partners, where every partner is there.
    assert not any(line.startswith(" & Merge-Lock, anchor-guided attack & NA") for line in lines)
    assert " & Merge-Lock, anchor-guided attack & -- & -- & -- & -- & --" in lines
    assert " & Unprotected & 75.0 & -- & -- & -- & --" in lines
    assert text.count("table*") == 2


def test_every_table_is_rendered():
    for number, rows in mergeguard.ROWS.items():
        text = render_merges(number, rows(MEASURED), "A run")
        assert "A run." in text
        assert "Average" in text
    text = render_merges(3, mergeguard.against_rows(MEASURED), "A run")
    assert "PaRaMS & alone & 90.0 & 90.0 & 90.0 & 90.0" in text
    assert " & alone minus merged & 79.0 & 68.0 & 57.0 & 68.0" in text
    anchor = render_anchor(mergeguard.anchor_rows(MEASURED), "A run")
    assert " & anchor-guided attack & 80.0 & 50.0 & 50.0 & 50.0" in anchor
    reason = [{"suite": "demo", "table": "x", "not_applicable": "there is none"}]
    for rendered in (render_pairs(1, reason, ""), render_merges(1, reason, "")):
        assert rendered == "\\noindent there is none.\n"


def far(attack: str, *values: float) -> list[dict]:
    return [
        {"layer": layer, "pair": pair, "attack": attack, "distance": value}
        for pair in ("vo", "qk")
        for layer, value in enumerate(values)
    ]


def path(partner: str, *losses: tuple[float | None, float | None]) -> dict:
    points = [
        point({"a": 50, partner: 60}, k / 2, **{"a": own, partner: other})
        for k, (own, other) in enumerate(losses)
    ]
    return cell("path", partner, *points)


def curve(partner: str, *values: float) -> dict:
    points = [point({"a": value, partner: 50}, k / 10) for k, value in enumerate(values, 1)]
    return cell("curve", partner, *points)


DRAWN = [
    record("unprotected", "a", curve("b", 70, 80), curve("c", 50, 60), path("b", (2, 1), (1, 1))),
    record(
        *("mergelock", "a", curve("b", 10, 0), path("b", (4, None), (3, 1))),
        distances=[*far("none", 200, 300), *far("align-rotation", 150, 250)],
    ),
    record("mergelock", "b", distances=far("none", 1, 1)),
]


def test_a_curve_is_the_mean_of_the_pairs_at_each_coefficient():
    rows = curve_rows(DRAWN, "a")
    normal = [r for r in rows if r["protection"] == "unprotected"]
    assert [(r["coefficient"], r["accuracy"], r["partners"]) for r in normal] == [
        (0.1, 55.0, 2),
        (0.2, 60.0, 2),
    ]
    assert curve_rows(DRAWN, "b") == []


def test_a_path_has_the_mean_of_the_two_losses_and_none_of_a_model_that_gives_nan():
    rows = path_rows(DRAWN, "")
    assert [row["loss"] for row in rows] == [1.5, 1.0, None, 2.0]
    assert rows[2]["protected_loss"] == 4
    assert [row["coefficient"] for row in rows[:2]] == [0, 0.5]


def test_a_distance_is_that_of_the_task_shown():
    rows = distance_rows(DRAWN, "a")
    assert len(rows) == 8
    assert [row["distance"] for row in rows if row["pair"] == "qk"] == [200, 300, 150, 250]


@pytest.mark.parametrize("number", FIGURES)
def test_a_figure_is_drawn_from_the_columns_of_its_file(number):
    shown = FIGURES[number]
    rows = shown.rows(DRAWN, "a")
    assert all(row.keys() == set(shown.columns) for row in rows)
    figure = shown.draw(rows, "demo suite, seed 0")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Merge-Lock" in labels
    drawn = [line for axes in figure.axes for line in axes.get_lines()]
    assert len(drawn) == {2: 4, 3: 2, 4: 6}[number]
    empty = shown.draw([], "demo suite, seed 0")
    assert "merges nothing" in " ".join(empty.get_supxlabel().split())
    plt.close("all")


def widths(text: str) -> set[int]:
    """How many columns the lines of a table cover, and how many it has."""
    columns = re.search(r"\\begin{tabular}{(\w+)}", text)
    assert columns
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "accbar" not in line]
    spans = [re.findall(r"\\multicolumn{(\d+)}", line) for line in lines]
    covered = {
        line.count(" & ") + 1 + sum(int(span) - 1 for span in own)
        for line, own in zip(lines, spans, strict=True)
    }
    return covered | {len(columns.group(1))}


def test_every_line_of_a_rendered_table_has_all_its_columns():
    rows = mergelock.pair_rows([NORMAL, LOCKED], "TA")
    assert widths(render_pairs(1, rows, "")) == {2 + 3 + 2}
    for number, of in mergeguard.ROWS.items():
        leading = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3}[number]
        assert widths(render_merges(number, of(MEASURED), "")) == {leading + 3 + 1}
    assert widths(render_anchor(mergeguard.anchor_rows(MEASURED), "")) == {2 + 4}
