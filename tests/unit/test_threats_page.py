"""The example of docs/threats.md: a file of one's own adds an attack, which runs."""

import re
import sys
from pathlib import Path

from stages import tiny_stage
from trap2.attacks.attack import ATTACKS
from trap2.attacks.catalogue import not_applicable
from trap2.attacks.staging import attack_points
from trap2.evaluation.cells import search_cell
from trap2.evaluation.tasks import Scorer
from trap2.merging.merger import Merger
from trap2.runtime import plugins

PAGE = Path(__file__).parents[2] / "docs" / "threats.md"


def test_the_attack_of_the_page_runs(tmp_path, monkeypatch):
    for name in ("_entries", "_places"):
        monkeypatch.setattr(ATTACKS, name, dict(getattr(ATTACKS, name)))
    monkeypatch.setattr(plugins, "_loaded", set())
    before = set(sys.modules)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    path = tmp_path / "mine.py"
    path.write_text(example, "utf-8")
    try:
        plugins.load([path])
        assert not_applicable("alone", "full", "convnext") is None
        stage = tiny_stage()
        (point,) = attack_points(stage, "alone", 0, {})
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]
    # Its one update, scored on all tasks.
    scorer = Scorer(stage.model, stage.scored, stage.references)
    merger = Merger([stage.updates[stage.protected]])
    cell = search_cell(scorer, merger, "TA", {}, stage.search)
    assert point["found"]["coefficient"] == cell["coefficient"]
    assert point["test"] == cell["test"]
