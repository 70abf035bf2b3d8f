"""Every mistake in the configuration is named with its key, its value and what is allowed."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from trap2.models.clip.build import build_clip
from trap2.models.clip.tower import vision_tower
from trap2.models.families import family_of
from trap2.models.layers import family
from trap2.runtime.schema import ConfigurationError
from trap2.suites.checks import check_merging
from trap2.suites.load import check_config, load_suite, suites_from
from trap2.suites.settings import Suite
from trap2.suites.suite import lambda_text, lambdas_of, protections_of

SUITES = Path(__file__).parents[2] / "config" / "suites"


@pytest.fixture
def suite() -> dict:
    return yaml.safe_load((SUITES / "demo.yaml").read_text("utf-8"))


@pytest.fixture
def paper() -> dict:
    return yaml.safe_load((SUITES / "paper.yaml").read_text("utf-8"))


def load(tmp_path: Path, suite: object) -> Suite:
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
    del suite["release_formats"]["lora"]["task_lambdas"]
    loaded = load(tmp_path, suite)
    assert loaded.trap2.delta == 0.05
    assert loaded.release_formats["lora"].task_lambdas == {}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", ["digits", "leters"], "'leters' is not a task of the demo; .*'letters'"),
        (
            "release_formats.lora.lambdas",
            [-0.05],
            r"lambdas\[0\] is -0.05; it must be greater than 0",
        ),
        (
            "release_formats.lora.lambdas",
            ["1e-3"],
            r"is '1e-3'; it must be a number\. YAML.*0\.001",
        ),
        ("release_formats.lora.lambdas", [0.1, 0.1], "entries must differ"),
        ("release_formats.lora.lambdas", [], "has 0 entries; it needs at least 1"),
        ("release_formats.lora.backbones", ["ViT"], "'ViT' is not a backbone of this suite"),
        (
            "release_formats.lora.task_lambdas",
            {"cars": [0.1]},
            "'cars' is not a task of this suite",
        ),
        (
            "trap2.s_min",
            0.97,
            r"trap2.s_min is 0.97; it must lie between 0 and 1 - trap2.delta = 0.95",
        ),
        ("trap2.s_max", 1.0, r"trap2.s_max is 1.0; it must exceed 1 \+ trap2.delta = 1.05"),
        ("trap2.weighting", "s", "trap2.weighting: 's' is not allowed; choose from 1/s"),
        ("data.train", 2.5, "data.train is 2.5; it must be a whole number"),
        ("colour", "red", "'colour' is not a known key"),
        ("releases", {}, "releases is now called release_formats"),
        ("ablations", {"sweeps": {}}, r"ablations\.sweeps is now called settings"),
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


@pytest.mark.parametrize("text", ["tasks: [", "? [a]\n: b"])
def test_a_file_that_is_not_yaml_is_named(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"config/suites/mine.yaml is not valid YAML"):
        load_suite("mine", tmp_path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("tasks: [a]\nlogit_scale: 100\nlogit_scale: 10\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"'logit_scale' stands twice(.|\n)*line 3"):
        load_suite("mine", tmp_path)


def test_the_workflow_configuration():
    assert check_config({"suite": "demo"}, SUITES).seed == 0
    with pytest.raises(ConfigurationError, match=r"'dmo' is not a file of config/suites.*'demo'"):
        check_config({"suite": "dmo"}, SUITES)
    with pytest.raises(ConfigurationError, match="device: 'gpu' is not allowed"):
        check_config({"suite": "demo", "device": "gpu"}, SUITES)


def test_lambdas_as_path_texts(suite, tmp_path):
    assert [lambda_text(value) for value in (0.05, 1, 1e-5)] == ["0.05", "1.0", "1e-05"]
    suite["release_formats"]["lora"]["task_lambdas"] = {"digits": [0.3]}
    loaded = load(tmp_path, suite)
    assert lambdas_of(loaded, "lora", "digits") == ["0.3"]
    assert lambdas_of(loaded, "lora", "letters") == [
        lambda_text(value) for value in suite["release_formats"]["lora"]["lambdas"]
    ]


def test_post_hoc_defenses_are_compared_where_they_apply(tmp_path, suite):
    vit = suite["backbones"]["ViT-demo"]
    vision = {"timm_model_name": "convnext_tiny", "image_size": 32}
    timm = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": {}}
    suite["backbones"] = {"ViT": vit, "ConvNeXt": vit | {"architecture": timm}}
    suite["figures"]["backbone"] = "ViT"
    suite["release_formats"]["lora"]["backbones"] = ["ViT", "ConvNeXt"]
    suite["release_formats"]["full"] = {"backbones": ["ViT"], "lambdas": [0.05]}
    suite["protections"] = ["mergelock-refit", "mergelock", "trap2"]
    loaded = load(tmp_path, suite)
    assert protections_of(loaded, "lora", "ViT") == ["unprotected", "mergelock-refit", "trap2"]
    assert protections_of(loaded, "lora", "ConvNeXt") == ["unprotected", "trap2"]
    assert protections_of(loaded, "full", "ViT") == ["unprotected", "mergelock", "trap2"]


def test_a_backbone_of_an_unknown_family_is_named(tmp_path, suite):
    vision = {"timm_model_name": "resnet18", "image_size": 32}
    architecture = suite["backbones"]["ViT-demo"]["architecture"] | {"vision_cfg": vision}
    message = r"ViT-demo.architecture: vision_cfg: timm_model_name is 'resnet18', of no family"
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, changed(suite, "backbones.ViT-demo.architecture", architecture))


def test_a_release_is_of_all_backbones_by_default(tmp_path, suite):
    del suite["release_formats"]["lora"]["backbones"]
    assert load(tmp_path, suite).backbones_in("lora") == tuple(suite["backbones"])


@pytest.mark.parametrize(
    ("architecture", "name", "message"),
    [
        ("convnext_base", "params-refit", r"PaRaMS† \(params-refit\) hides .* no attention"),
        ("ViT-B-32", "params", r"PaRaMS \(params\) transforms whole checkpoints, not adapters"),
        ("ViT-B-32", "param", "'param' is not a protection; choose .* Did you mean 'params'"),
    ],
)
def test_a_post_hoc_defense_must_apply_somewhere(tmp_path, suite, architecture, name, message):
    backbone = suite["backbones"]["ViT-demo"] | {"architecture": architecture, "resolution": 224}
    suite["backbones"] = {"ViT-demo": backbone}
    suite["release_formats"]["lora"]["backbones"] = ["ViT-demo"]
    suite["release_formats"].pop("full", None)
    suite["figures"]["backbone"] = "ViT-demo"
    suite["protections"] = ["trap2", name]
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, suite)


@pytest.mark.parametrize("name", [path.stem for path in SUITES.glob("*.yaml")])
def test_the_family_of_a_backbone_is_that_of_its_tower(name):
    for backbone in load_suite(name, SUITES).backbones.values():
        with torch.device("meta"):
            tower = vision_tower(build_clip(backbone.architecture))
        assert family_of(backbone.architecture) == family(tower)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.cars_train", "proper", "data.cars_train is set; the demo has no Cars. Remove"),
        (
            "protection_options",
            {"trap2": {"s_max": 3}},
            "protection_options.trap2 is set; TRAP²'s options stand under trap2",
        ),
        (
            "protection_options",
            {"params": {}},
            "protection_options: 'params' is not a protection of this suite that has options",
        ),
        (
            "backbones.ViT-demo.pretrained",
            "openai",
            "pretrained is 'openai'; the demo pretrains its own base model",
        ),
        (
            "backbones.ViT-demo.resolution",
            64,
            r"backbones.ViT-demo.resolution is 64; the architecture's images are 32 pixels wide",
        ),
    ],
)
def test_the_demo_has_no_real_data_or_models(tmp_path, suite, path, value, message):
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, changed(suite, path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", ["cars", "resisc"], "'resisc' is not a dataset of the catalogue.*'resisc45'"),
        ("data.cars_train", "both", "data.cars_train: 'both' is not allowed.*proper, knots"),
        ("data.train", 100, "data.train is set; a real dataset's own split decides. Remove"),
        ("data.source", "hub", "data.source: 'hub' is not allowed; choose from demo, catalogue"),
        ("backbones.ViT-B-32.pretrained", 5, "pretrained is 5; it must be a text"),
        (
            "backbones.ViT-B-32.pretrained",
            "weights/none.safetensors",
            "pretrained is 'weights/none.safetensors'; there is no such file",
        ),
        (
            "backbones.ViT-B-32.pretraining",
            {"images": 10, "steps": 1},
            "backbones.ViT-B-32.pretraining is set; only the demo pretrains. Remove the key",
        ),
        (
            "backbones.ViT-B-32.architecture",
            "ViT-B32-quickgelu",
            "'ViT-B32-quickgelu' is not a model of open_clip.*'ViT-B-32-quickgelu'",
        ),
        (
            "backbones.ViT-B-32.architecture",
            {"embed_dim": 4, "vision_cfg": {}, "text_cfg": {}},
            "pretrained is 'openai'; an architecture that is written out has no tags",
        ),
        (
            "backbones.convnext_base_w.resolution",
            224,
            "convnext_base_w.resolution is 224; the architecture's images are 256 pixels wide",
        ),
        ("backbones.ViT-B-32.recompute", 1, "it must be true or false"),
        (
            "merging.protections",
            ["param"],
            "merging.protections: 'param' is not a protection.*'params'",
        ),
    ],
)
def test_mistakes_with_real_data_and_models_are_explained(tmp_path, paper, path, value, message):
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, changed(paper, path, value))


def test_a_method_with_data_may_have_all_its_options_at_their_defaults(tmp_path, suite):
    methods = {"RegMean": {}, "AdaMerging-task": {"iterations": 20}, "AdaMerging-layer": {}}
    made = load(tmp_path, changed(suite, "merging.data", {"methods": methods}))
    assert made.merging.data.methods == methods
    with pytest.raises(ConfigurationError, match=r"merging.data.methods has 0 entries; it needs"):
        load(tmp_path, changed(suite, "merging.data", {"methods": {}}))


def test_a_real_backbone_needs_weights(tmp_path, paper):
    del paper["backbones"]["ViT-L-14"]["pretrained"]
    with pytest.raises(ConfigurationError, match=r"ViT-L-14.pretrained is missing; give a tag"):
        load(tmp_path, paper)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"archives": "/no/such"}, "archives is '/no/such'; there is no such folder"),
        ({"archives": ".", "mirror": "http://x"}, "archives and mirror are both set"),
        ({"mirror": "ftp://x"}, "mirror is 'ftp://x'"),
        ({"catalogue": "/no/such.yaml"}, "catalogue: /no/such.yaml: no such file"),
        ({"sources": {"cifar": "hub"}}, "sources: 'cifar' is not a dataset of the catalogue"),
        ({"sources": {"cars": "kaggle"}}, "sources.cars: 'kaggle' is not a source of cars"),
    ],
)
def test_mistakes_in_where_data_come_from_are_explained(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        check_config({"suite": "demo"} | settings, SUITES)


def test_suites_by_the_source_of_their_data(tmp_path):
    assert {"demo", "smoke"} <= set(suites_from("demo", SUITES))
    assert set(suites_from("catalogue", SUITES)) == {"paper", "siblings"}
    (tmp_path / "broken.yaml").write_text("tasks: [", "utf-8")
    (tmp_path / "empty.yaml").write_text("", "utf-8")
    (tmp_path / "mine.yaml").write_text("data: {source: catalogue}", "utf-8")
    assert suites_from("catalogue", tmp_path) == ["mine"]
