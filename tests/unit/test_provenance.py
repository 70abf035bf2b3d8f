"""The code digest follows meaning, and follows imports, and nothing else."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from trap2.data.catalogue import CATALOGUE, load_rows
from trap2.runtime import code_digest
from trap2.runtime.versions import versions
from trap2.suites.parameters import Parameters

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


@pytest.fixture
def scripts(tmp_path, monkeypatch) -> Path:
    """A copy of the scripts and the library that may be edited."""
    copy = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "LIBRARY", copy / "trap2")
    return copy


def digest(scripts: Path, name: str) -> str:
    for cached in (code_digest._module, code_digest._module_file, code_digest._followed):
        cached.cache_clear()
    return code_digest.code_digest(scripts / name)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_an_edited_module_changes_the_scripts_that_use_it_and_no_other(scripts):
    names = ("finetune_ablation.py", "finetune_unprotected.py", "publish.py")
    before = {name: digest(scripts, name) for name in names}
    edit(scripts / "trap2" / "protection" / "trap2.py", "1.0 / s", "2.0 / s")
    after = {name: digest(scripts, name) for name in names}
    assert {name for name in names if after[name] != before[name]} == {"finetune_ablation.py"}


def test_the_operators_are_no_part_of_training(scripts):
    names = ("finetune_protected.py", "merge_updates.py")
    before = {name: digest(scripts, name) for name in names}
    edit(
        scripts / "trap2" / "merging" / "spaces.py", "_SINGULAR_FLOOR = ", "_SINGULAR_FLOOR = 2 * "
    )
    after = {name: digest(scripts, name) for name in names}
    assert {name for name in names if after[name] != before[name]} == {"merge_updates.py"}


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


ENTRIES = """
from trap2.runtime.code_digest import code_digest, entry_digest
from trap2.merging.catalogue import METHODS
from trap2.protection.catalogue import PROTECTIONS
from trap2.models.families import FAMILIES
from trap2.data.readers import READERS
import json, pathlib
found = {n: entry_digest(*c.place(n)) for c in (METHODS, PROTECTIONS, FAMILIES, READERS) for n in c}
scripts = {p.name: code_digest(p) for p in pathlib.Path(".").glob("*.py")}
print(json.dumps(found | scripts))
"""


def digests(scripts: Path, program: str = ENTRIES) -> dict[str, str]:
    """The digests of all entries and scripts, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=scripts,
        env={"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("merging/methods.py", "math.ceil(size)", "math.floor(size)", {"CART"}),
        (
            "merging/methods.py",
            'options["drop"]',
            '2 * options["drop"]',
            {"DARE", "TIES", "TIES+DARE"},
        ),
        ("merging/catalogue.py", "layer.total() / len(layer.tasks)", "layer.total()", {"WA"}),
        ("merging/catalogue.py", "2023, arXiv:2212.09849", "2022, arXiv:2212.09849", {"RegMean"}),
        (
            "protection/params.py",
            "high: float = 1.5",
            "high: float = 1.25",
            {"params", "params-adapter", "params-refit", "arf"},
        ),
        ("protection/entries.py", "PaRaMS†", "PaRaMS‡", {"params-refit"}),
        ("data/forms.py", 'content / "2750"', 'content / "RGB"', {"eurosat"}),
        ("data/forms.py", "path.suffix.lower()", "path.suffix", {"eurosat", "resisc45"}),
        ("models/families.py", "mlp\\.fc[12]", "mlp\\.fc1", {"convnext"}),
    ],
)
def test_an_edit_changes_the_digests_of_the_entries_that_use_it_alone(
    scripts, file, old, new, changed
):
    before = digests(scripts)
    edit(scripts / "trap2" / file, old, new)
    after = digests(scripts)
    assert {name for name in before if after[name] != before[name]} == changed


def test_an_added_entry_changes_nothing_else(scripts):
    before = digests(scripts)
    path = scripts / "trap2" / "merging" / "catalogue.py"
    text = path.read_text("utf-8")
    added = """

def _double(layer: EncodedLayer, _options: Options) -> Tensor:
    return 2 * layer.total()


METHODS.add(Method(name="Double", paper="here", layer=_double))
"""
    path.write_text(text + added, "utf-8")
    after = digests(scripts)
    assert after.pop("Double")
    assert after == before


ATTACKS = """
from trap2.attacks.catalogue import ATTACKS
from trap2.suites.codes import Codes
from types import SimpleNamespace
import json, pathlib
codes = Codes(pathlib.Path("."), None, SimpleNamespace(checkpoints="trained"))
print(json.dumps(codes.attacks(lambda _w: [(name, 0) for name in ATTACKS])(None)))
"""


def test_an_edit_of_a_merging_method_changes_the_attack_that_runs_it(scripts):
    before = digests(scripts, ATTACKS)
    edit(scripts / "trap2" / "merging" / "prodistill.py", "return losses", "return losses[:1]")
    after = digests(scripts, ATTACKS)
    assert {name for name in before if after[name] != before[name]} == {"prodistill"}


STATEMENTS = {
    "a constant": ("LIMIT = 3", "LIMIT = 4", True),
    "a function that is used": ("return LIMIT", "return -LIMIT", True),
    "a method of a class that is used": ("return 5", "return 6", True),
    "another function": ("return 7", "return 8", False),
    "a base class": ("return 9", "return 10", True),
    "what a decorator does": ("return 11", "return 12", True),
    "a statement that does something": ("print(1)", "print(2)", True),
    "a function of a module used as a value": ("return 13", "return 14", True),
    "an entry of a catalogue": ('add("thing")', 'add("other")', False),
    "an import of another package": (
        "from math import sin as f",
        "from math import cos as f",
        True,
    ),
    "what type checkers see": ("from trap2.a import B", "from trap2.a import A", False),
}

MODULE = """
from typing import TYPE_CHECKING
from math import sin as f
from trap2.runtime.catalogue import Catalogue
if TYPE_CHECKING:
    from trap2.a import B
LIMIT = 3
THINGS = Catalogue("thing")
THINGS.add("thing")
def limit(): return LIMIT + f(0)
def unused(): return 7
def wrapped(function): return 11
class Base:
    def base(self): return 9
@wrapped
class Used(Base):
    def method(self): return 5
print(1)
"""


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_counts_is_what_is_used(scripts, name):
    old, new, counts = STATEMENTS[name]
    module, whole = scripts / "trap2" / "toy.py", scripts / "trap2" / "whole.py"
    module.write_text(MODULE)
    whole.write_text("def inside(): return 13\n")
    script = (
        "from trap2 import toy, whole\nprint(toy.Used(), toy.limit(), toy.THINGS, vars(whole))\n"
    )
    (scripts / "toy.py").write_text(script)
    before = digest(scripts, "toy.py")
    edit(whole if "13" in old else module, old, new)
    assert (digest(scripts, "toy.py") != before) == counts


CATALOGUES = {
    "METHODS": "trap2/merging/catalogue.py",
    "PROTECTIONS": "trap2/protection/protection.py",
    "FAMILIES": "trap2/models/families.py",
    "READERS": "trap2/data/readers.py",
    "TREATMENTS": "trap2/evaluation/treatments.py",
    "ATTACKS": "trap2/attacks/attack.py",
}
NAMED = {
    ".model": {"FAMILIES"},
    ".protecting": {"FAMILIES", "PROTECTIONS"},
    ".task_arithmetic": {"METHODS", "FAMILIES"},
    ".titled": {"PROTECTIONS"},
    ".treatments": {"FAMILIES", "TREATMENTS"},
    ".attacked": {"PROTECTIONS", "ATTACKS"},
    ".siblings": {"PROTECTIONS"},
    ".handled": {"PROTECTIONS", "TREATMENTS"},
    "": set(),
}


OWN = {
    "merge_updates": {"METHODS"},
    "attack_updates": {"ATTACKS"},
    "merge_siblings": {"METHODS", "ATTACKS"},
}
"""The methods or attacks of a job's cells are a parameter of their own."""


def test_a_rule_names_entries_of_the_catalogues_that_its_script_uses():
    rules = "".join(p.read_text("utf-8") for p in (SCRIPTS.parent / "rules").glob("*.smk"))
    found = re.findall(r"code=code(\S*?)\(\s*\"(\w+)\.py\"", rules)
    assert len(found) > 25
    for function, script in found:
        used = set(code_digest._meanings(code_digest._module(SCRIPTS / f"{script}.py"), ["*"]))
        uses = {
            name
            for name, place in CATALOGUES.items()
            if any(m.startswith(f"{place}: AnnAssign(target=Name(id='{name}'") for m in used)
        }
        named = NAMED[function] | OWN.get(script, set())
        assert uses <= named, script


def test_the_preparation_names_the_reader_of_its_dataset(tmp_path):
    suite = SimpleNamespace(data=SimpleNamespace(source="catalogue", cars_train=None))
    demo = SimpleNamespace(data=SimpleNamespace(source="demo"))
    suites = {"paper": suite, "demo": demo}
    mine = {"files": [], "reader": "gtsrb"}
    own = tmp_path / "mine.yaml"
    row = yaml.safe_load(CATALOGUE.read_text("utf-8"))["dtd"] | {"sources": {"mine": mine}}
    own.write_text(yaml.safe_dump({"dtd": row}), "utf-8")

    def readers(suite: str, task: str, file: Path | None = None, **sources: str) -> list[str]:
        parameters = Parameters(
            suites.__getitem__, SimpleNamespace(sources=sources), load_rows(file)
        )
        wildcards = SimpleNamespace(suite=suite, task=task)
        return [name for _, name in parameters.readers(wildcards)]

    assert readers("demo", "shapes") == []
    assert readers("paper", "cars") == ["cars_parquet"]
    assert readers("paper", "cars", cars="original") == ["cars_devkit"]
    assert readers("paper", "dtd", own) == ["gtsrb"]
    assert readers("paper", "cars", own) == ["cars_parquet"]
    rules = (SCRIPTS.parent / "rules" / "data.smk").read_text("utf-8")
    assert "entries=parameters.readers(w)" in rules


def test_versions_name_what_decides_the_numbers():
    assert {"python", "torch", "open_clip_torch"} <= versions().keys()
