"""The numbers behind the figures, with the arithmetic done by hand; correlations against SciPy."""

import numpy as np
import pytest
import scipy.stats
from trap2.evaluation.scale_grid import scale_grid
from trap2.report.figures.points import (
    averaging_rows,
    coefficient_rows,
    pair_rows,
    path_rows,
    rounded,
    scale_rows,
)
from trap2.report.tables.correlations import (
    correlation_rows,
    midpoint_increases,
    pair_statistics,
    pearson,
    spearman,
)


def score(accuracy: float, loss: float) -> dict:
    return {"accuracy": accuracy, "loss": loss}


def pair(first: str, second: str, distance: float, middle: float) -> dict:
    path = [
        {"beta": 0.0, "score": {"protected": score(90, 0.5), "unprotected": score(10, 4.0)}},
        {"beta": 0.5, "score": {"protected": score(20, middle), "unprotected": score(50, 1.0)}},
        {"beta": 1.0, "score": {"protected": score(5, 6.0), "unprotected": score(95, 0.25)}},
    ]
    merged = {"protected": score(30, 2.0), "unprotected": score(60, 1.0)}
    names = {"protected_task": first, "unprotected_task": second}
    return names | {"distance": distance, "path": path, "merged": merged}


RECORD = {
    "suite": "demo",
    "backbone": "ViT-demo",
    "release_format": "lora",
    "protection": "trap2",
    "scale": 0.8,
    "pairs": [pair("a", "b", 3.0, 3.5), pair("b", "a", 5.0, 9.5), pair("a", "c", 4.0, 1.0)],
}


def test_the_midpoint_is_compared_with_each_tasks_own_adapter():
    assert midpoint_increases(RECORD["pairs"][0]) == (3.0, 0.75)
    found = pair_statistics(RECORD["pairs"])
    assert found["V_norm"] == [3.0, 5.0, 4.0]
    assert found["dL_mid_mean"] == [1.875, 4.875, 0.625]
    assert found["dL_mid_max"] == [3.0, 9.0, 0.75]


def test_correlations_are_scipys():
    generator = np.random.default_rng(0)
    for size in (3, 7, 56):
        x = generator.normal(size=size)
        y = np.round(x + generator.normal(size=size), 1)  # with ties
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-12)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-12)


def test_table_6_is_two_symmetric_matrices():
    rows = correlation_rows(RECORD)
    assert [row["correlation"] for row in rows] == ["spearman"] * 3 + ["pearson"] * 3
    assert {row["n_pairs"] for row in rows} == {"3"}
    for block in (rows[:3], rows[3:]):
        matrix = [[row[name] for name in ("V_norm", "dL_mid_mean", "dL_mid_max")] for row in block]
        assert [matrix[k][k] for k in range(3)] == ["1.000"] * 3
        assert matrix == [list(column) for column in zip(*matrix, strict=True)]
    # V ranks 1, 3, 2 and the means rank 2, 3, 1: Spearman 1 - 6·2 / (3·8) = 0.5.
    assert rows[0]["dL_mid_mean"] == "0.500"


def test_path_rows_are_relative_to_each_tasks_own_adapter():
    rows = path_rows(RECORD)
    assert len(rows) == 9
    assert rows[1]["beta"] == 0.5
    assert rows[1]["protected_delta_loss"] == 3.0
    assert rows[1]["unprotected_delta_loss"] == 0.75
    assert (rows[0]["protected_delta_loss"], rows[2]["unprotected_delta_loss"]) == (0, 0)


def test_pair_rows():
    row = pair_rows(RECORD)[0]
    assert (row["protected_accuracy"], row["unprotected_accuracy"], row["average"]) == (30, 60, 45)
    assert (row["protected_alone"], row["unprotected_alone"], row["scale"]) == (90, 95, 0.8)


def test_profiles_are_relative_to_the_nominal_scale():
    profile = [{"s": s, "accuracy": 50.0 * s, "loss": 2 - s} for s in scale_grid(3)]
    record = {"suite": "demo", "backbone": "v", "protection": "trap2", "sweeps": {"a": profile}}
    rows = {row["s"]: row for row in scale_rows([record], ["a"])}
    assert rows[1.0]["delta_loss"] == 0
    assert rows[0.5]["delta_loss"] == pytest.approx(0.5)
    by_count = {row["N"]: row for row in averaging_rows([record], ["a"], {"a": 12.5})}
    assert by_count[4]["s"] == 0.25
    assert (by_count[4]["accuracy"], by_count[4]["zero_shot"]) == (12.5, 12.5)


def merge(protection: str, protected: str, layers: list[dict[str, float]]) -> dict:
    cells = {"CoM (R)": {"coefficients": {str(n): layer for n, layer in enumerate(layers)}}}
    cells["RegMean (R)"] = cells["CoM (R)"]
    facts = {"suite": "demo", "backbone": "v", "protection": protection}
    return facts | {"protected_task": protected, "cells": cells}


def test_coefficients_are_layer_means_over_those_of_the_unprotected_merge():
    merges = [
        merge("unprotected", "none", [{"a": 0.4, "b": 0.6}, {"a": 0.6, "b": 0.4}]),
        merge("trap2", "a", [{"a": 0.9, "b": 0.1}, {"a": 0.6, "b": 0.4}]),
    ]
    rows = coefficient_rows(merges, ["RegMean (R)", "CoM (R)"])
    assert [(row["merge_method"], row["task"]) for row in rows] == [
        ("CoM (R)", "a"),
        ("CoM (R)", "b"),
    ]
    assert rows[0]["coefficient"] == pytest.approx(0.75)
    assert rows[0]["normalised"] == pytest.approx(1.5)
    assert rows[1]["normalised"] == pytest.approx(0.5)


def test_csv_values_are_rounded():
    assert rounded([{"a": 1 / 3, "b": 2, "c": "x"}]) == [{"a": "0.333333", "b": 2, "c": "x"}]
