"""What of a suite is merged as the sibling papers do: its cells, its files, and its mistakes."""

import copy
import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from trap2.runtime.schema import ConfigurationError
from trap2.suites.files import Files
from trap2.suites.load import check_config, load_suite
from trap2.suites.parameters import Parameters
from trap2.suites.sibling_files import SiblingFiles
from trap2.suites.sibling_settings import Siblings
from trap2.suites.siblings import (
    DEFAULT_ATTACKS,
    entries_of,
    paths_of,
    sibling_attacks,
    sibling_backbones,
    sibling_cells,
    sibling_protections,
    siblings_not_applicable,
)

SUITES = Path(__file__).parents[2] / "config" / "suites"
VIT = "results/demo/ViT-demo/full/siblings"
TASKS = ["digits", "letters", "shapes", "signs", "satellite"]


@functools.cache
def loaded(name):
    return load_suite(name, SUITES)


def demo(**settings):
    return replace(loaded("demo"), siblings=Siblings(**settings))


def files_of(suite, **config) -> SiblingFiles:
    return SiblingFiles(Files(lambda _: suite, check_config({"suite": "demo", **config}, SUITES)))


W = SimpleNamespace(suite="demo", backbone="ViT-demo", protected="letters")


def methods(cells, protocol):
    return {(method, attack) for found, _, method, attack in cells if found == protocol}


def test_unprotected_pairs_are_the_yardstick_and_nothing_is_done_to_them():
    cells = sibling_cells(demo(), "ViT-demo", "unprotected", "digits")
    plain = {("TA", "none"), ("TIES", "none"), ("AdaMerging", "none")}
    assert methods(cells, "pair") == plain
    assert methods(cells, "all") == {
        *(plain | {("WA", "none")}),
        *(("TA", name) for name in ("aga", "aga-paired")),
    }
    # The merge of all is one; what an attack leaves of an update alone is each task's own.
    other = sibling_cells(demo(), "ViT-demo", "unprotected", "letters")
    assert methods(other, "all") == set()
    assert ("alone", "all", "TA", "aga") in other
    assert methods(other, "pair") == plain


def test_each_pair_is_merged_after_every_alignment_and_with_its_partner_once():
    cells = sibling_cells(demo(), "ViT-demo", "mergelock", "digits")
    attacks = sibling_attacks(demo(), "mergelock")
    assert attacks == ["none", *DEFAULT_ATTACKS["mergelock"]]
    for partner in TASKS[1:]:
        mine = [cell[2:] for cell in cells if cell[:2] == ("pair", partner)]
        assert sorted(mine) == sorted(
            [(method, attack) for method in ("TA", "TIES") for attack in attacks]
            + [("AdaMerging", "none"), ("AdaMerging", "align-rotation")]
        )
    assert len(cells) == len(set(cells))
    # What an attack remakes serves the cells beside it.
    assert [cell[3] for cell in cells] == sorted((c[3] for c in cells), key=attacks.index)


def test_what_ends_in_a_merge_of_its_own_is_tried_on_all_alone():
    cells = sibling_cells(demo(), "ViT-demo", "mergeguard", "digits")
    assert [cell[:3] for cell in cells if cell[3] == "graderase"] == [("all", "all", "TA")]


def test_curves_are_of_one_task_and_paths_of_pairs():
    def drawn(protected, **settings):
        cells = sibling_cells(demo(**settings), "ViT-demo", "params", protected)
        return [cell[:2] for cell in cells if cell[0] in {"curve", "path"}]

    assert drawn("digits") == [
        ("curve", "letters"),
        ("path", "letters"),
        *(("curve", task) for task in TASKS[2:]),
    ]
    assert drawn("letters") == []
    assert drawn("letters", paths=(("letters", "signs"),)) == [("path", "signs")]
    assert paths_of(demo()) == [("digits", "letters"), ("shapes", "signs")]
    assert len(drawn("signs", curve_task="signs")) == 4


def test_the_first_backbone_has_the_pairs_and_the_last_the_merges_of_all():
    suite = loaded("siblings")
    first, last = sibling_backbones(suite)
    assert (first, last) == ("ViT-B-32", "ViT-L-14")
    pairs, whole = (sibling_cells(suite, name, "mergelock", "sun397") for name in (first, last))
    assert {method for method, _ in methods(pairs, "pair")} == {"TA", "TIES", "AdaMerging"}
    assert {method for method, _ in methods(whole, "pair")} == {"TA"}
    assert {method for method, _ in methods(pairs, "all")} == {"TA"}
    assert {method for method, _ in methods(whole, "all")} == {"TA", "TIES", "WA"}
    assert methods(whole, "curve") == set()


def test_a_job_is_told_what_its_cells_need_and_no_more():
    suite = demo(options={"graderase": {"steps": 3}, "TIES": {"keep": 20}})
    told = Parameters(lambda _: suite, check_config({"suite": "demo"}, SUITES), {})
    w = SimpleNamespace(**vars(W), protection="mergeguard-stage1")
    assert told.sibling_plan(w)["options"] == {"TIES": {"keep": 20}}
    assert told.sibling_plan(w)["curve"] == []
    w = SimpleNamespace(**vars(W) | {"protected": "digits"}, protection="mergeguard")
    assert told.sibling_plan(w)["options"]["graderase"] == {"steps": 3}
    assert told.sibling_plan(w)["curve"] == list(Siblings().curve)
    assert set(entries_of(suite, told.sibling_cells(w))) == {
        *("TA", "TIES", "WA", "AdaMerging-layer++"),
        *("align-rotation", "aga", "unmask", "graderase"),
    }


def test_the_files_are_the_records_of_every_protection_the_control_first():
    suite = demo(protections=("params", "trap2"))
    found = files_of(suite).first(W)
    assert found == [
        f"{VIT}/{protection}/{task}.json"
        for protection in ("unprotected", "params", "trap2")
        for task in TASKS
    ]
    files = files_of(suite)
    assert files.last(W) == files.both(W) == found
    assert files.curves(W) == [path for path in found if path.endswith("/digits.json")]
    assert {Path(path).stem for path in files.paths(W)} == {"digits", "shapes"}
    assert files.zero_shot(W) == "results/demo/ViT-demo/heads/letters.json"


def test_a_protection_of_adapters_alone_is_left_out():
    assert "params-refit" not in sibling_protections(
        demo(protections=("params-refit", "params")), "ViT-demo"
    )


def test_released_adapters_and_suites_without_checkpoints_say_why(monkeypatch):
    with pytest.raises(SystemExit, match="set checkpoints: train to make them"):
        files_of(demo(), checkpoints="released").first(W)
    with pytest.raises(SystemExit, match=r"release_formats.full\), and the suite 'demo' trains"):
        files_of(loaded("smoke")).first(W)
    assert siblings_not_applicable("demo", loaded("demo")) is None
    full = replace(loaded("demo").release_formats["full"], backbones=("ConvNeXt-demo",))
    without = replace(loaded("demo"), release_formats={"full": full})
    assert "with attention" in str(siblings_not_applicable("demo", without))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("protections", ["params", "parmas"], "siblings.protections: 'parmas' is not a protection"),
        ("protections", ["params-refit"], "'params-refit', which is not of whole checkpoints"),
        ("backbones", ["ConvNeXt-demo"], "siblings.backbones: 'ConvNeXt-demo'.*ViT-demo"),
        ("attacks", {"prams": ["aga"]}, "siblings.attacks: 'prams'.*params"),
        ("attacks", {"params": ["agr"]}, "siblings.attacks.params: 'agr'.*aga"),
        ("attacks", {"params": ["two"]}, "'two' is not an attack of the group alignment"),
        ("pair_coefficient", 0, "siblings.pair_coefficient"),
        ("curve", [0.5], "siblings.curve"),
        ("curve_task", "digit", "siblings.curve_task: 'digit'.*'digits'"),
        ("paths", [["digits", "letter"]], "siblings.paths: 'letter'.*letters"),
        ("paths", [["digits", "digits"]], r"\[digits, digits\]; give two different tasks"),
        ("images", 0, "siblings.images"),
        ("pair_adamerging", "AdaMerging", "siblings.pair_adamerging.*AdaMerging-task"),
        ("options", {"tis": {}}, "siblings.options: 'tis'"),
        ("options", {"TIES": {"keep": 0}}, r"siblings.options.TIES: keep = 0.*\(0, 100\]"),
        ("options", {"aga": {"then": "two"}}, "siblings.options.aga.then is 'two'"),
        ("coefficient", 0.8, "coefficient"),
    ],
)
def test_mistakes_are_explained(tmp_path, key, value, message):
    suite = copy.deepcopy(yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8")))
    suite["siblings"][key] = value
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite, sort_keys=False), "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_suite("mine", tmp_path)
