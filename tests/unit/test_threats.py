"""The tables and figures about attacks, from records small enough for the arithmetic by hand."""

import pytest
from matplotlib import pyplot as plt
from trap2.attacks.attack import Attack
from trap2.report.figures import style
from trap2.report.figures.handling import handling_figure
from trap2.report.figures.price import price_figure
from trap2.report.figures.threats import threats_figure
from trap2.report.tables import threats
from trap2.report.tables.handling import handling_rows
from trap2.report.tables.recovery import published_recovery, recovery_rows, render_recovery

TASKS = ["a", "b", "c"]
ZERO_SHOT = {"a": 30.0, "b": 40.0, "c": 60.0}
UNPROTECTED = {"a": 50.0, "b": 60.0, "c": 80.0}


def scores(a: float, b: float, c: float) -> dict:
    return {task: {"accuracy": value} for task, value in zip(TASKS, (a, b, c), strict=True)}


def attack(name: str, group: str, **facts) -> Attack:
    return Attack(name=name, title=name.capitalize(), paper="its", group=group, run=None, **facts)


ATTACKS = {
    each.name: each
    for each in (
        attack("distil", "data", needs="sample"),
        attack("two", "coefficients", knowledge="protected"),
        attack("noise", "update", random=True),
        attack("left-out", "coefficients", knowledge="protected"),
    )
}


def point(test: tuple, val: tuple | None = None, **budget) -> dict:
    cost = {"forward": 10, "backward": budget.get("steps", 0), "labelled": 5, "unlabelled": 7}
    both = {"test": scores(*test), "val": scores(*(val or test))}
    return {"budget": budget, "found": {}, "cost": cost} | both


def cell(name: str, *points: dict, seed: int = 0) -> dict:
    return {"attack": name, "attack_seed": seed, "points": list(points), "options": {}}


def record(task: str, *cells: dict, protection: str = "trap2", **facts) -> dict:
    found = {f"{each['attack']}@{each['attack_seed']}": each for each in cells}
    where = {"suite": "demo", "backbone": "ViT-demo", "release_format": "lora", "notes": []}
    return (
        where
        | {"protection": protection, "protected_task": task, "tasks": TASKS}
        | facts
        | {"cells": found}
    )


CELL = {"test": scores(50, 60, 80), "val": scores(50, 60, 80)}
MERGE = {"suite": "demo", "backbone": "ViT-demo", "release_format": "lora", "notes": []}
MERGE |= {"protection": "unprotected", "protected_task": "none", "cells": {"TA-Full": CELL}}
HEADS = [
    {"backbone": "ViT-demo", "task": task, "notes": []}
    | {split: {"accuracy": ZERO_SHOT[task]} for split in ("test", "val")}
    for task in TASKS
]
REFERENCES = threats.References.of([MERGE], HEADS)

RECORDS = [
    record(
        "a",
        cell("distil", point((35, 60, 80), images=25), point((50, 60, 80), images=100)),
        cell("two", point((30, 60, 80), val=(49, 60, 80))),
        *(cell("noise", point((30 + 10 * k, 60, 80)), seed=k) for k in range(3)),
    ),
    record(
        "b",
        cell("distil", point((50, 40, 80), images=25), point((50, 50, 80), images=100)),
        # Not kept: 90 of 130.
        cell("two", point((20, 90, 70))),
        *(cell("noise", point((50, 40, 80))) | {"attack_seed": k} for k in range(1)),
    ),
]
CELLS = threats.cell_points(RECORDS, REFERENCES, ATTACKS)


def rows() -> dict[str, dict]:
    strongest = threats.strongest_points(RECORDS, REFERENCES)
    return {row["attack"]: row for row in threats.threat_rows(CELLS, strongest, ATTACKS)}


def test_a_row_an_attack_has_the_means_of_its_last_points():
    found = rows()
    # In the groups' order, whatever the catalogue's; who tries all stands first.
    assert list(found) == ["worst-case", "strongest", "two", "noise", "distil"]
    distil = found["distil"]
    assert distil["acquired"] == 75.0  # 100 on a, 50 on b
    assert distil["kept"] == 100.0
    assert distil["verdict"] == "acquired"
    assert (distil["tasks_acquired"], distil["tasks_destroyed"]) == (2, 0)
    assert distil["protected_accuracy"] == 50.0
    assert distil["others_accuracy"] == pytest.approx((70 + 65) / 2)
    assert (distil["unlabelled_images"], distil["labelled_images"]) == (7, 5)
    assert (distil["knowledge"], distil["paper"]) == ("blind", "its")


def test_a_task_whose_others_are_lost_counts_as_destroyed():
    two = rows()["two"]
    assert two["acquired"] == pytest.approx((0 + 250) / 2)
    assert two["kept"] == pytest.approx((100 + 100 * 90 / 130) / 2)
    assert two["verdict"] == "destroyed"
    assert [two[f"tasks_{name}"] for name in ("acquired", "excluded", "destroyed")] == [0, 1, 1]


def test_a_random_attack_has_a_deviation_over_its_seeds():
    noise = rows()["noise"]
    # Seed 0: a 0, b 0; seeds 1 and 2: 10 and 20 of the 20 points of a.
    assert noise["acquired"] == pytest.approx(100 * 30 / 80)
    assert noise["acquired_std"] == 50.0
    assert noise["seeds"] == 3
    assert rows()["two"]["acquired_std"] is None


def chosen(records: list[dict], name: str) -> list[dict]:
    found = threats.strongest_points(records, REFERENCES)
    return [row for row in found if row["attack"] == name]


def test_the_strongest_is_chosen_on_validation_and_reported_on_test():
    by_task = {row["protected_task"]: row for row in chosen(RECORDS, "strongest")}
    # Among those that keep the others on validation, distil and noise's last seed are at 50 on a.
    assert by_task["a"]["acquired"] == 100.0
    # Two gets 90 on b and does not keep the others.
    assert by_task["b"]["acquired"] == 50.0
    # Whatever the order: two gets more of b, and does not keep the others.
    last = record("b", *list(RECORDS[1]["cells"].values())[1:], RECORDS[1]["cells"]["distil@0"])
    assert chosen([last], "strongest")[0]["acquired"] == 50.0
    tempting = record(
        "a", cell("two", point((30, 60, 80), val=(90, 60, 80))), RECORDS[0]["cells"]["distil@0"]
    )
    (row,) = chosen([tempting], "strongest")
    assert row["acquired"] == 0.0
    assert row["forward_images"] == 30
    # Nor the unprotected merge: he keeps 95 % of what he has without the task, which is less here.
    without = cell("left-out", point((30, 50, 70)))
    fewer = cell("two", point((45, 60, 80), val=(80, 50, 68)))
    (row,) = chosen([record("a", without, fewer, RECORDS[0]["cells"]["distil@0"])], "strongest")
    assert row["acquired"] == 75.0
    # Test, which no attacker sees, bounds what he gets.
    (row,) = chosen([tempting], "worst-case")
    assert row["acquired"] == 100.0


@pytest.mark.parametrize("name", ["strongest", "worst-case"])
def test_the_best_point_of_a_curve_need_not_be_its_last(name):
    curve = cell("distil", point((50, 60, 80), images=25), point((35, 60, 80), images=100))
    (row,) = chosen([record("a", curve)], name)
    assert (row["acquired"], row["backward_images"], row["forward_images"]) == (100.0, 0, 20)


def test_one_easy_task_does_not_dominate_what_is_acquired():
    heads = [head | {"test": {"accuracy": 55.0}} if head["task"] == "b" else head for head in HEADS]
    references = threats.References.of([MERGE], heads)
    records = [
        record("a", cell("two", point((30, 60, 80)))),
        record("b", cell("two", point((50, 70, 80)))),
    ]
    cells = threats.cell_points(records, references, ATTACKS)
    assert [each["acquired"] for each in cells] == [0.0, 300.0]
    (row,) = threats.threat_rows(cells, [], ATTACKS)
    # 0 of 20 points and 15 of 5, not the mean of 0 and 300 %.
    assert row["acquired"] == 60.0
    assert (row["tasks_excluded"], row["tasks_acquired"]) == (1, 1)


def test_an_attack_that_does_not_apply_says_why():
    failed = cell("two") | {"reason": "no attention"}
    every = [record(task, failed, cell("distil", point((50, 60, 80)))) for task in ("a", "b")]
    cells = threats.cell_points(every, REFERENCES, ATTACKS)
    strongest = threats.strongest_points(every, REFERENCES)
    table = threats.threat_rows(cells, strongest, ATTACKS)
    assert {frozenset(row) for row in cells} == {frozenset(threats.CELL_COLUMNS)}
    assert {frozenset(row) for row in table} == {frozenset(threats.COLUMNS)}
    shown = {row["attack"]: row for row in threats.printed(table)}
    two = shown["two"]
    assert (two["verdict"], two["reason"]) == ("not applicable", "no attention")
    assert (two["acquired"], two["kept"], two["forward_images"], two["seeds"]) == ("", "", "", "0")
    assert (two["tasks_not_applicable"], two["tasks_excluded"]) == ("2", "0")
    assert [t for t in texts(threats_figure(list(shown.values()), "demo")) if "ViT" not in t] == [
        *("100", "100", "–", "100")
    ]
    # On one task of two: the other one counts.
    cells = threats.cell_points([every[0], RECORDS[1]], REFERENCES, ATTACKS)
    (row,) = [r for r in threats.threat_rows(cells, [], ATTACKS) if r["attack"] == "two"]
    assert row["acquired"] == 250.0
    assert (row["tasks_not_applicable"], row["tasks_destroyed"]) == (1, 1)
    assert row["reason"] == "no attention"
    assert threats.strongest_points([record("a", failed)], REFERENCES) == []
    merged = recovery_rows(DATA_MERGES, [record("a", cell("sft"))], HEADS, [], {"ViT-demo": "vit"})
    assert "SFT" not in {row["method"] for row in merged}


def test_a_task_without_a_gain_has_no_share_and_counts_apart():
    flat = MERGE | {"cells": {"TA-Full": {"test": scores(30, 60, 80), "val": scores(30, 60, 80)}}}
    references = threats.References.of([flat], HEADS)
    cells = threats.cell_points(RECORDS, references, ATTACKS)
    (row,) = [r for r in threats.threat_rows(cells, [], ATTACKS) if r["attack"] == "distil"]
    assert row["acquired"] == 50.0  # of b alone
    assert (row["tasks_undefined"], row["tasks_acquired"]) == (1, 1)
    (undefined, _) = (
        c for c in threats.printed(cells) if c["attack"] == "distil" and c["point"] == "2"
    )
    assert undefined["acquired"] == ""
    assert undefined["verdict"] == "undefined"


def test_the_price_is_a_row_a_budget():
    price = threats.price_rows(CELLS)
    assert [(row["attack"], row["images"], row["acquired"]) for row in price] == [
        ("distil", 25, 12.5),
        ("distil", 100, 75.0),
    ]
    # The last point is the attack's row of threats.csv.
    assert {key: price[-1][key] for key in threats.COLUMNS[:-2]} == {
        key: value for key, value in rows()["distil"].items() if key not in {"paper", "reason"}
    }


def test_columns_are_those_of_the_rows():
    strongest = threats.strongest_points(RECORDS, REFERENCES)
    for found, columns in (
        (CELLS, threats.CELL_COLUMNS),
        (threats.threat_rows(CELLS, strongest, ATTACKS), threats.COLUMNS),
        (threats.price_rows(CELLS), threats.PRICE_COLUMNS),
    ):
        assert {frozenset(row) for row in found} == {frozenset(columns)}


DATA_MERGES = [
    MERGE | {"cells": {"RegMean (R)": {"test": scores(40, 50, 60)}}},
    *(
        MERGE
        | {"protection": "trap2", "protected_task": task}
        | {"cells": {"RegMean (R)": {"test": scores(10, 20, x)}}}
        for task, x in (("a", 30), ("b", 60))
    ),
]


def test_recovery_is_the_mean_over_tasks_and_protected_tasks():
    attacks = [record("a", cell("sft", point((0, 0, 0)), point((30, 30, 60))))]
    attacks += [record("b", cell("sft", point((30, 30, 90)), seed=0))]
    published = [
        {"backbone": "ViT-B-32", "release": "lora", "protection": "trap2", "method": "SFT"}
        | {"threat": "data-driven recovery", "accuracy": "45.5"}
    ]
    found = recovery_rows(DATA_MERGES, attacks, HEADS, published, {"ViT-demo": "vit"})
    shown = {(row["protection"], row["method"]): row for row in found}
    assert list(shown) == [
        *(("zero-shot", ""), ("unprotected", "RegMean"), ("trap2", "RegMean"), ("trap2", "SFT"))
    ]
    assert shown["zero-shot", ""]["accuracy"] == "43.333"
    assert shown["unprotected", "RegMean"]["accuracy"] == "50.000"
    assert shown["trap2", "RegMean"]["accuracy"] == "25.000"
    assert shown["trap2", "SFT"]["accuracy"] == "45.000"
    assert shown["trap2", "SFT"]["published"] == "45.5"
    assert shown["trap2", "SFT"]["published_backbone"] == "ViT-B-32"
    assert shown["trap2", "RegMean"]["published"] == ""
    text = render_recovery(found, published_recovery(published), "Numbers of the demo suite")
    assert r"Backbone: ViT-demo (Zero-shot: 43.3)" in text
    assert r"TRAP$^2$ & 25.0 & -- & -- & 45.0 \\" in text
    assert "Published, ViT-B/32" in text


HANDLED = {"suite": "demo", "backbone": "ViT-demo", "release_format": "lora", "notes": []} | {
    "protection": "trap2",
    "treatments": ["as-released", "weight-0-90", "base-int4", "mine"],
    "tasks": {
        "a": {"as-released": {"accuracy": 80.0}, "weight-0-90": {"accuracy": 80.0}}
        | {"base-int4": None, "mine": {"accuracy": 60.0}},
        "b": {"as-released": {"accuracy": 40.0}, "weight-0-90": {"accuracy": 30.0}}
        | {"base-int4": None, "mine": None},
    },
    "reasons": {"base-int4": "acts on factors", "mine": "NaN"},
}


def test_handling_is_relative_to_what_was_released():
    released, weighted, int4, mine = handling_rows([HANDLED])
    assert (released["relative"], released["change"]) == (100.0, 0.0)
    assert weighted["title"] == "weight 0.9"
    assert weighted["accuracy"] == 55.0
    assert weighted["released"] == 60.0
    assert weighted["relative"] == pytest.approx(100 * 55 / 60)
    assert (weighted["lowest_task"], weighted["lowest_relative"]) == ("b", 75.0)
    assert (int4["accuracy"], int4["tasks"], int4["reason"]) == (None, 0, "acts on factors")
    # A broken model is worth nothing.
    assert (mine["relative"], mine["lowest_task"], mine["tasks"]) == (50.0, "b", 1)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_figures_show_every_attack_protection_and_treatment(tmp_path):
    strongest = threats.strongest_points(RECORDS, REFERENCES)
    shown = threats.printed(threats.threat_rows(CELLS, strongest, ATTACKS))
    figure = threats_figure(shown, "demo")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [
        *("Best of all on test", "Best on validation", "Two", "Noise", "Distil"),
        *("Coefficients", "The protected update", "With data"),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["TRAP²"]
    assert [t for t in texts(figure) if "ViT" not in t] == ["75", "75", "125", "38", "75"]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 1  # two does not keep the others
    price = price_figure(threats.printed(threats.price_rows(CELLS)), "demo")
    assert price.axes[0].get_title(loc="left") == "Distil"
    assert price_figure([], "demo")
    handled = handling_figure(threats.printed(handling_rows([HANDLED])), "demo")
    assert sorted(t for t in texts(handled) if "ViT" not in t) == ["100", "50", "92", "–"]
    for number, each in enumerate((figure, price, handled)):
        files = [tmp_path / f"{number}.{form}" for form in ("pdf", "png")]
        style.save(each, files)
        assert all(path.stat().st_size > 1000 for path in files)
    plt.close("all")
