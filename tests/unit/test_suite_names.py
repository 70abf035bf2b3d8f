"""Names stand in paths: those that cannot are refused, and strange files are no suites."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from trap2.runtime.schema import ConfigurationError
from trap2.runtime.templates import refuse_code, require_folder
from trap2.suites.load import check_config, load_suite, suites_from
from trap2.suites.names import suite_names

PROJECT = Path(__file__).parents[2]
SUITES = PROJECT / "config" / "suites"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of suites with what systems and careless people leave beside them."""
    shutil.copy(SUITES / "smoke.yaml", tmp_path / "smoke.yaml")
    (tmp_path / "._smoke.yaml").write_bytes(b"\x00\x05\x16\x07\xff")
    for name in ("My Suite", "Smoke2", "published", "a" * 61):
        shutil.copy(SUITES / "smoke.yaml", tmp_path / f"{name}.yaml")
    return tmp_path


def test_strange_files_are_no_suites(folder):
    assert suite_names(folder) == ["smoke"]
    assert suites_from("demo", folder) == ["smoke"]
    assert check_config({"suite": "smoke"}, folder).suite == "smoke"


@pytest.mark.parametrize("name", ["My Suite", "Smoke2", "a" * 61, "../smoke", "._smoke", "", "é"])
def test_names_that_no_suite_may_have(folder, name):
    words = "stands in paths and must be 1 to 60 small letters, digits and -. Rename it"
    with pytest.raises(ConfigurationError, match=words):
        load_suite(name, folder)
    with pytest.raises(ConfigurationError, match=words):
        check_config({"suite": name}, folder)


def test_the_pipelines_own_folders_are_no_suites(folder):
    with pytest.raises(ConfigurationError, match="'published' is the name of a folder of the res"):
        check_config({"suite": "published"}, folder)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["data"], "'data' is the name of a folder of the results; so are data, pages, seeds"),
        (["Manifest"], "'Manifest' is the name of a folder of the results"),
        (["a" * 61], "must be 1 to 60 letters, digits and _ or -. Rename it"),
        (["ViT", "vit"], "'vit' and 'ViT' differ in capitals alone"),
        (["a/b"], "backbones has the key 'a/b'; it must match"),
    ],
)
def test_names_that_no_backbone_may_have(tmp_path, names, words):
    suite = yaml.safe_load((SUITES / "smoke.yaml").read_text("utf-8"))
    (backbone,) = suite["backbones"].values()
    suite["backbones"] = dict.fromkeys(names, backbone)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    with pytest.raises(ConfigurationError, match=words) as error:
        load_suite("mine", tmp_path)
    assert "config/suites/mine.yaml has" in str(error.value)


def test_names_that_no_task_may_have(tmp_path):
    suite = yaml.safe_load((SUITES / "smoke.yaml").read_text("utf-8"))
    suite["tasks"] = ["none", "a-b", "Digits", "digits", "pairs"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_suite("mine", tmp_path)
    for words in (
        "tasks: 'none' is the name of a folder",
        "tasks: 'pairs' is the name of a folder",
        "tasks: 'a-b' stands in paths",
        "'digits' and 'Digits' differ in capitals alone",
    ):
        assert words in str(error.value)


def test_the_whole_configuration_is_of_one_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = r"lacks config/suites, config/published, config/claims.yaml; .*cp -r .*/config \."
    with pytest.raises(ConfigurationError, match=words):
        require_folder(PROJECT)
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    require_folder(PROJECT)
    shutil.rmtree(tmp_path / "config" / "suites")
    with pytest.raises(ConfigurationError, match="lacks config/suites; nothing was run"):
        require_folder(PROJECT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"suite: demo\n__use_yte__: true\n",
            "__use_yte__ would let this configuration run Python",
        ),
        (b"suite: demo\n1: 2\n", "config.yaml is not valid YAML: the key 1 is no text"),
        (b"\xff", "byte 1 is no UTF-8"),
        (b"[" * 2000, "more than 32 levels of nesting"),
    ],
    ids=["code", "key", "bytes", "deep"],
)
def test_what_snakemake_would_read_is_looked_at_before(tmp_path, content, words):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        refuse_code(tmp_path / "config.yaml")
    refuse_code(tmp_path / "none.yaml")
