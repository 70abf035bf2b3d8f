"""Every mistake in the configuration is named with its key, its value and what is allowed."""

import copy
from pathlib import Path

import pytest
import yaml
from trap2.configuration import (
    ConfigurationError,
    check_config,
    check_merging,
    lambda_text,
    lambdas_of,
    load_suite,
)

SUITES = Path(__file__).parents[2] / "config" / "suites"


@pytest.fixture
def suite() -> dict:
    return yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8"))


def load(tmp_path: Path, suite: object) -> dict:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite, sort_keys=False), "utf-8")
    return load_suite("mine", tmp_path)


def changed(suite: dict, path: str, value: object) -> dict:
    """The suite with the value at a dotted path replaced."""
    result = copy.deepcopy(suite)
    place = result
    *way, last = path.split(".")
    for key in way:
        place = place[key]
    place[last] = value
    return result


@pytest.mark.parametrize("name", [path.stem for path in SUITES.glob("*.yaml")])
def test_shipped_suites_are_valid(name):
    check_merging(name, load_suite(name, SUITES))


def test_defaults_are_filled_in(tmp_path, suite):
    del suite["trap2"]["delta"]
    loaded = load(tmp_path, suite)
    assert loaded["trap2"]["delta"] == 0.05
    assert loaded["releases"]["lora"]["task_lambdas"] == {}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", ["digits", "leters"], "'leters' is not a task of the demo; .*'letters'"),
        ("releases.lora.lambdas", [-0.05], r"lambdas\[0\] is -0.05; it must be greater than 0"),
        ("releases.lora.lambdas", ["1e-3"], r"is '1e-3'; it must be a number\. YAML.*0\.001"),
        ("releases.lora.lambdas", [0.1, 0.1], "entries must differ"),
        ("releases.lora.lambdas", [], "has 0 entries; it needs at least 1"),
        ("releases.lora.backbones", ["ViT"], "'ViT' is not a backbone of this suite"),
        ("releases.lora.task_lambdas", {"cars": [0.1]}, "'cars' is not a task of this suite"),
        ("trap2.s_min", 0.97, r"trap2.s_min is 0.97; it must be below 1 - trap2.delta = 0.95"),
        ("trap2.s_max", 1.0, r"trap2.s_max is 1.0; it must exceed 1 \+ trap2.delta = 1.05"),
        ("trap2.weighting", "s", "trap2.weighting: 's' is not allowed; choose from 1/s"),
        ("data.train", 2.5, "data.train is 2.5; it must be a whole number"),
        ("colour", "red", "'colour' is not a known key"),
        ("merging.search.patience", 0, "merging.search.patience is 0; it must be at least 1"),
        ("figures.task", "cars", "figures.task: 'cars' is not a task of this suite"),
    ],
)
def test_mistakes_are_explained(tmp_path, suite, path, value, message):
    suite["merging"].setdefault("search", {})
    with pytest.raises(ConfigurationError, match=message) as error:
        load(tmp_path, changed(suite, path, value))
    assert "config/suites/mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("merging.methods", {"TIEZ": ["Full"]}, "'TIEZ' is not a merging method.*'TIES'"),
        ("merging.methods", {"TIES": ["Ful"]}, "'Ful' is not a merge space.*'Full'"),
        ("merging.options", {"TIES": {"keep": 0}}, r"TIES: keep = 0: must be a number in \(0"),
        ("merging.options", {"TIES": {"trim": 1}}, "trim: TIES has no such option"),
        ("merging.options", {"KNOT": {}}, "'KNOT' is not a method of this suite"),
    ],
)
def test_mistakes_in_merging_are_explained(tmp_path, suite, path, value, message):
    loaded = load(tmp_path, changed(suite, path, value))
    with pytest.raises(ConfigurationError, match=message):
        check_merging("mine", loaded)


def test_several_mistakes_come_at_once(tmp_path, suite):
    suite["trap2"]["delta"], suite["data"]["val"] = 2, 1
    with pytest.raises(ConfigurationError, match="2 problems; nothing was run") as error:
        load(tmp_path, suite)
    assert str(error.value).count("\n  - ") == 2


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("tasks: [", "utf-8")
    with pytest.raises(ConfigurationError, match=r"config/suites/mine.yaml is not valid YAML"):
        load_suite("mine", tmp_path)


def test_the_workflow_configuration():
    assert check_config({"suite": "demo"}, SUITES)["seed"] == 0
    with pytest.raises(ConfigurationError, match=r"'dmo' is not a file of config/suites.*'demo'"):
        check_config({"suite": "dmo"}, SUITES)
    with pytest.raises(ConfigurationError, match="device: 'gpu' is not allowed"):
        check_config({"suite": "demo", "device": "gpu"}, SUITES)


def test_lambdas_as_path_texts(suite, tmp_path):
    assert [lambda_text(value) for value in (0.05, 1, 1e-5)] == ["0.05", "1.0", "1e-05"]
    suite["releases"]["lora"]["task_lambdas"] = {"digits": [0.3]}
    loaded = load(tmp_path, suite)
    assert lambdas_of(loaded, "lora", "digits") == ["0.3"]
    assert lambdas_of(loaded, "lora", "letters") == [
        lambda_text(value) for value in suite["releases"]["lora"]["lambdas"]
    ]
