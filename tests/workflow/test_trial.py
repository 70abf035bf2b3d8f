"""The attacks from which the threats began, on the demo's released checkpoints.

What an attack must break is known of a first trial on the ViT: the search of two coefficients
leaves the protected update out, pinned at 1 it ruins the others, and a distilled one is acquired.
"""

import json
import sys

import pytest
from test_copies import download

CELLS = "reproduced/demo/ViT-demo/lora/attacks/trap2/letters.json"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of three attacks on the protected letters."""
    made = download(tmp_path_factory.mktemp("trial") / "clone")
    (made.folder / ".venv").symlink_to(sys.prefix)
    made.succeed(".venv/bin/dvc", "pull")
    made.edit(
        "config/suites/demo.yaml",
        "threats:\n",
        "threats:\n  seeds: 1\n  attacks: [two, pinned, distillation]\n",
    )
    run = made.snakemake(CELLS, "--cores", "2", "--config", "checkpoints=released")
    assert run.code == 0, run.output
    return json.loads((made.folder / CELLS).read_text("utf-8"))["cells"]


def accuracies(point):
    """Test accuracy on letters, and the others' mean."""
    test = {task: score["accuracy"] for task, score in point["test"].items()}
    mine = test.pop("letters")
    return mine, sum(test.values()) / len(test)


def test_two_coefficients_leave_the_protected_update_out(cells):
    (point,) = cells["two@0"]["points"]
    mine, others = accuracies(point)
    assert point["found"]["protected"] <= 0.05
    assert 60 < (mine + 4 * others) / 5 < 70


def test_pinned_at_1_the_task_is_there_and_the_others_are_not(cells):
    (point,) = cells["pinned@0"]["points"]
    mine, others = accuracies(point)
    assert mine > 79
    assert others < 22


def test_distilled_it_is_bought_off_with_100_images(cells):
    """The trial had 42.3 % with 100 images and 47.0 % with 400, by one coefficient."""
    few, *_, many = cells["distillation@0"]["points"]
    assert (few["budget"]["images"], many["budget"]["images"]) == (100, 400)
    kept = accuracies(cells["two@0"]["points"][0])[1]
    for point, trial in ((few, 42.3), (many, 47.0)):
        mine, others = accuracies(point)
        assert mine > trial - 3  # a deviation of 300 test images
        assert others > 0.92 * kept
