"""The catalogue: its facts against the paper's and torchvision's, and its refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import open_clip
import pytest
import yaml
from torchvision import datasets
from trap2.data.catalogue import CATALOGUE, Dataset, load_catalogue
from trap2.data.readers import READERS
from trap2.runtime import files
from trap2.runtime.errors import Trap2Error
from trap2.suites.load import load_suite

PUBLISHED = Path(__file__).parents[2] / "config" / "published"

# Appendix D.1 and the papers of the datasets: classes, train / val / test, prompts a class.
FACTS = {
    "cars": (196, 8144, 1608, 6433, 8),
    "dtd": (47, 1880, 1880, 1880, 8),
    "eurosat": (10, 21600, 2700, 2700, 3),
    "gtsrb": (43, 26640, 2526, 10104, 3),
    "mnist": (10, 60000, 2000, 8000, 1),
    "resisc45": (45, 18900, 6300, 6300, 18),
    "aircraft": (100, 3334, 3333, 3333, 2),
    "svhn": (10, 73257, 5206, 20826, 1),
    "sun397": (397, 19850, 3970, 15880, 2),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, Dataset]:
    return load_catalogue()


def test_classes_counts_and_templates_are_the_papers(rows: dict[str, Dataset]) -> None:
    found = {
        task: (
            row.classes,
            row.counts["train"],
            row.counts["val"],
            row.counts["test"],
            len(set(row.templates)),
        )
        for task, row in rows.items()
    }
    assert found == FACTS


def test_every_published_task_has_a_row(rows: dict[str, Dataset]) -> None:
    with open(PUBLISHED / "table1.csv", newline="", encoding="utf-8") as file:
        published = {line["task"].lower() for line in csv.DictReader(file)} - {"average", "avg."}
    known = {"resisc": "resisc45"}
    assert {known.get(task, task) for task in published} <= set(rows)


def test_checksums_are_torchvisions(rows: dict[str, Dataset]) -> None:
    def checksum(task: str, name: str) -> str:
        source = rows[task].source("original")
        return next(file.checksum for file in source.files if file.name == name)

    assert checksum("dtd", "dtd-r1.0.1.tar.gz") == f"md5:{datasets.DTD._MD5}"
    assert checksum("sun397", "SUN397.tar.gz") == f"md5:{datasets.SUN397._DATASET_MD5}"
    for name, digest in datasets.MNIST.resources:
        assert checksum("mnist", name) == f"md5:{digest}"
    for part in ("train", "test"):
        _, name, digest = datasets.SVHN.split_list[part]
        assert checksum("svhn", name) == f"md5:{digest}"


def test_addresses_are_torchvisions(rows: dict[str, Dataset]) -> None:
    def addresses(task: str) -> list[str]:
        return [file.url for file in rows[task].source("original").files]

    assert addresses("dtd") == [datasets.DTD._URL]
    assert addresses("aircraft") == [datasets.FGVCAircraft._URL]
    assert datasets.SUN397._DATASET_URL in addresses("sun397")
    assert addresses("mnist")[0].startswith(datasets.MNIST.mirrors[0])


def test_every_reader_exists_and_is_used(rows: dict[str, Dataset]) -> None:
    used = {source.reader for row in rows.values() for source in row.sources.values()}
    assert used == set(READERS)


def test_fixed_class_names_fit_the_number_of_classes(rows: dict[str, Dataset]) -> None:
    for row in rows.values():
        if row.class_names is not None:
            assert len(row.class_names) == row.classes
    assert rows["mnist"].templates == rows["svhn"].templates


def test_display_names(rows: dict[str, Dataset]) -> None:
    assert rows["resisc45"].display_names(["sea_ice", "ship"]) == ["sea ice", "ship"]
    assert rows["eurosat"].display_names(["SeaLake", "Forest"]) == ["lake or sea", "forest"]
    signs = rows["gtsrb"].display_names([f"{label:05d}" for label in range(43)])
    assert signs[14] == "stop"
    with pytest.raises(ValueError, match="'Desert'"):
        rows["eurosat"].display_names(["Forest", "Desert"])
    with pytest.raises(ValueError, match="names 43 classes, the files have 2"):
        rows["gtsrb"].display_names(["00000", "00001"])


def test_unknown_source() -> None:
    with pytest.raises(ValueError, match=r"no source 'kaggle'.*hub, original"):
        load_catalogue()["cars"].source("kaggle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("licence"), "dtd.*licence"),
        (lambda row: row.update(colour="blue"), "dtd.*colour"),
        (lambda row: row.update(split={"rule": "random"}), "'random'.*idx, official, per_class"),
        (lambda row: row.update(templates=["a photo"]), "exactly one {}"),
        (lambda row: row.update(counts={"train": 1}), "needs train, val and test"),
        (lambda row: row["sources"]["original"]["files"][0].update(checksum="md5:1"), "md5:1"),
        (lambda row: row["sources"]["original"]["files"][0].update(name="../x"), "plain file name"),
        (lambda row: row["sources"]["original"]["files"][0].update(url="ftp://x/y"), "ftp"),
        (lambda row: row["sources"]["original"]["files"][0].update(name="*.tar"), "neither"),
        (lambda row: row["sources"].clear(), "no source"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, change, message: str) -> None:
    rows = {"dtd": yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))["dtd"]}
    change(rows["dtd"])
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_catalogue(path)


def test_a_catalogue_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match="no such file"):
        load_catalogue(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("cars: [", encoding="utf-8")
    with pytest.raises(files.FileError, match="is not valid YAML"):
        load_catalogue(broken)


def own_file(folder: Path, rows: dict) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(rows), "utf-8")
    return path


def test_a_file_of_ones_own_adds_rows_and_replaces_single_ones(rows, tmp_path: Path) -> None:
    known = yaml.safe_load(CATALOGUE.read_text("utf-8"))
    own = own_file(tmp_path, {"flowers": known["dtd"], "mnist": known["mnist"] | {"licence": "X"}})
    found = load_catalogue(own)
    assert list(found) == [*rows, "flowers"]
    assert found["flowers"].counts == rows["dtd"].counts
    assert found["mnist"].licence == "X"
    assert {task: found[task] for task in rows if task != "mnist"} == {
        task: row for task, row in rows.items() if task != "mnist"
    }


def test_a_row_replaces_the_projects_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(files.FileError, match=r"mine\.yaml: mnist: .*sources"):
        load_catalogue(own_file(tmp_path, {"mnist": {"licence": "X"}}))


@pytest.mark.parametrize("names", [["MNIST"], ["roses", "Roses"]])
def test_names_that_differ_in_capitals_alone_are_refused(tmp_path: Path, names: list) -> None:
    row = yaml.safe_load(CATALOGUE.read_text("utf-8"))["dtd"]
    with pytest.raises(files.FileError, match=r"mine\.yaml: .* differ in capitals alone.*Write"):
        load_catalogue(own_file(tmp_path, dict.fromkeys(names, row)))


def test_an_unknown_reader_is_named_before_any_job(tmp_path: Path) -> None:
    row = yaml.safe_load(CATALOGUE.read_text("utf-8"))["dtd"]
    row["sources"]["original"]["reader"] = "flowers"
    own = own_file(tmp_path, {"dtd": row})
    suites = Path(__file__).parents[2] / "config" / "suites"
    with pytest.raises(
        Trap2Error, match=r"dtd\.sources\.original\.reader: 'flowers' is not a reader"
    ):
        load_suite("paper", suites, own)


def test_the_page_names_every_file() -> None:
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text("utf-8")
    for row in load_catalogue().values():
        for source in row.sources.values():
            assert [f.name for f in source.files if f"`{f.name}`" not in page] == []


def test_the_page_names_every_repository_of_weights() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/paper-suite.md").read_text("utf-8")
    suite = yaml.safe_load((root / "config/suites/paper.yaml").read_text("utf-8"))
    for backbone in suite["backbones"].values():
        known = open_clip.get_pretrained_cfg(backbone["architecture"], backbone["pretrained"])
        assert f"`{known['hf_hub'].rstrip('/')}`" in page
