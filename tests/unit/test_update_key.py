"""The identity of an update names its path, its run and what its record says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trap2.updates.key import UpdateKey

KEY = UpdateKey("demo", "ViT-demo", "lora", "digits", "trap2")
SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def test_a_key_names_its_folder():
    assert KEY.folder("results") == Path("results/demo/ViT-demo/lora/digits/trap2")
    own = UpdateKey(None, "ViT-demo", "lora", "digits", "trap2")
    assert own.folder("mine") == Path("mine/ViT-demo/lora/digits/trap2")


def test_all_updates_of_a_task_have_one_run():
    plain = UpdateKey("other", "ViT-demo", "lora", "digits", "unprotected")
    assert plain.run == KEY.run == "finetune/ViT-demo/lora/digits"
    assert UpdateKey("demo", "ViT-demo", "full", "digits", "trap2").run != KEY.run


def test_a_key_is_taken_from_wildcards_and_goes_into_records():
    wildcards = {"suite": "demo", "backbone": "ViT-demo", "release_format": "lora"}
    wildcards |= {"task": "digits", "lambda_text": "0.1"}
    assert UpdateKey.of(wildcards, protection="trap2") == KEY
    assert KEY.facts() == {
        "suite": "demo",
        "backbone": "ViT-demo",
        "release_format": "lora",
        "task": "digits",
        "protection": "trap2",
    }
    assert "suite" not in UpdateKey.of(wildcards | {"suite": None}, protection="trap2").facts()
    with pytest.raises(KeyError, match="protection"):
        UpdateKey.of(wildcards)


def test_keys_and_records_are_light():
    """The workflow's own process may import them."""
    text = "import sys, trap2.updates.key, trap2.updates.records; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", text], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
