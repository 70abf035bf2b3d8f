import pytest
from trap2.training.selection import select_lambda


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({0.01: 90.0, 0.05: 88.0, 0.1: 60.0}, 0.05),  # the largest within 3 % of 90
        ({0.01: 90.0, 0.05: 87.3}, 0.05),  # exactly at the tolerance
        ({0.01: 90.0, 0.05: 87.2}, 0.01),
        ({0.01: 70.0, 0.05: 80.0}, 0.05),  # none within: the most accurate
        ({0.01: 80.0, 0.05: 80.0}, 0.05),  # none within, a draw: the largest
    ],
)
def test_rule(accuracies, expected):
    assert select_lambda(accuracies, 90.0, 3.0) == expected


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="no candidate"):
        select_lambda({}, 90.0, 3.0)
