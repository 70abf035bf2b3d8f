"""The code digest follows meaning, and follows imports, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trap2.runtime import code_digest
from trap2.runtime.versions import versions

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> Path:
    """A copy of the scripts and the library that may be edited."""
    copy = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "LIBRARY", copy / "trap2")
    return copy


def digest(scripts: Path, name: str) -> str:
    code_digest._imports.cache_clear()
    code_digest._meaning.cache_clear()
    return code_digest.code_digest(scripts / name)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_an_edited_module_changes_the_scripts_that_use_it_and_no_other(scripts):
    before = {name: digest(scripts, name) for name in ("finetune_protected.py", "publish.py")}
    edit(scripts / "trap2" / "protection" / "trap2.py", "1.0 / s", "2.0 / s")
    assert digest(scripts, "finetune_protected.py") != before["finetune_protected.py"]
    assert digest(scripts, "publish.py") == before["publish.py"]


def test_the_operators_are_no_part_of_training(scripts):
    before = {name: digest(scripts, name) for name in ("finetune_protected.py", "merge_updates.py")}
    edit(scripts / "trap2" / "merging" / "elementwise.py", "def ", "SIGN = -1\n\n\ndef ")
    assert digest(scripts, "merge_updates.py") != before["merge_updates.py"]
    assert digest(scripts, "finetune_protected.py") == before["finetune_protected.py"]


def test_comments_docstrings_and_layout_do_not_count(scripts):
    before = digest(scripts, "finetune_protected.py")
    module = scripts / "trap2" / "protection" / "trap2.py"
    edit(module, '"""The TRAP² objective', '"""A TRAP² objective')
    edit(module, "@dataclass(frozen=True)", "# A comment.\n\n\n@dataclass( frozen = True )")
    assert digest(scripts, "finetune_protected.py") == before


def test_the_digest_does_not_depend_on_the_process(scripts):
    """Sets iterate in another order in another process; the digest must not."""
    program = (
        "from trap2.runtime.code_digest import code_digest; "
        "print(code_digest('finetune_protected.py'))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=scripts,
            env={"PYTHONPATH": ".", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_versions_name_what_decides_the_numbers():
    assert {"python", "torch", "open_clip_torch"} <= versions().keys()
