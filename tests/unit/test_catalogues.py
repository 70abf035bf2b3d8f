"""The one shape of a catalogue, and the six of the library: light, complete, strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trap2.runtime.catalogue import Catalogue, Entry, Option
from trap2.runtime.errors import Trap2Error

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
HEAVY = ("torch", "numpy", "peft", "scipy", "open_clip")
LIGHT = (
    "trap2.data.readers",
    "trap2.models.families",
    "trap2.merging.catalogue",
    "trap2.evaluation.treatments",
    "trap2.protection.catalogue",
    "trap2.suites.artifacts",
    "trap2.suites.checks",
)


def catalogue() -> Catalogue[Entry]:
    made: Catalogue[Entry] = Catalogue("toy", reserved=["none"])
    keep = Option(30.0, "percent", high=100.0)
    steps = Option(5, "steps", low=1, high=10, low_open=False, whole=True)
    made.add(Entry(name="TIES", paper="here", options={"keep": keep, "steps": steps}))
    made.add(Entry(name="TA", paper="there", title="Task arithmetic"))
    return made


def test_the_catalogues_are_light():
    program = f"import sys, {', '.join(LIGHT)}; print({{*{HEAVY}}} & {{*sys.modules}} or 'light')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "light"


def test_entries_stand_in_their_order_under_their_names():
    made = catalogue()
    assert list(made) == ["TIES", "TA"]
    assert made["TIES"].title == "TIES"
    assert made["TA"].title == "Task arithmetic"
    assert "XY" not in made
    assert made.get("XY") is None
    with pytest.raises(TypeError):
        made["XY"] = made["TA"]


def test_an_unknown_name_is_answered_with_what_is_known():
    with pytest.raises(Trap2Error) as raised:
        catalogue()["ties"]
    assert str(raised.value) == "unknown toy 'ties'; known: TIES, TA. Did you mean TIES?"


@pytest.mark.parametrize(
    "name", ["TIES", "ties", "none", "", "a/b", "..", "a b", "x" * 61, "-a", 1]
)
def test_a_name_that_is_taken_or_unfit_for_paths_is_refused(name):
    made = catalogue()
    with pytest.raises(Trap2Error, match=r"taken|cannot be the name of a toy"):
        made.add(Entry(name=name, paper="here"))
    assert list(made) == ["TIES", "TA"]


def test_options_are_checked_and_completed():
    entry = catalogue()["TIES"]
    assert entry.check_options({}) == {"keep": 30.0, "steps": 5}
    assert entry.check_options({"keep": 10, "steps": 1}) == {"keep": 10, "steps": 1}
    with pytest.raises(Trap2Error) as raised:
        entry.check_options({"keep": 0, "steps": 1.5, "kep": 3})
    assert str(raised.value).splitlines() == [
        "keep = 0: must be a number in (0, 100]",
        "steps = 1.5: must be a whole number in [1, 10]",
        "kep: TIES has no such option; it takes keep, steps",
    ]
