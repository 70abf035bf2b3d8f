"""A run's files against its own manifest, and against one that was kept elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from trap2.runtime import files, provenance
from trap2.runtime.verification import verify


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of two jobs: a model, and a table from it."""
    monkeypatch.chdir(tmp_path)
    files.write_bytes("results/demo/model.bin", b"model")
    job("results/demo/model.bin", [])
    files.write_bytes("results/demo/table1.csv", b"table")
    job("results/demo/table1.csv", ["results/demo/model.bin"])
    listed = provenance.collect(["results/demo/table1.csv"])
    files.write_json("results/demo/manifest.json", {"files": listed})
    return Path("results/demo/manifest.json")


def job(output: str, inputs: list[str]) -> None:
    facts = {"rule": "make", "wildcards": {}, "params": {}, "outputs": [output]}
    provenance.write_record(facts, provenance.check_inputs(inputs), 1.0)


def check(run: Path, against: Path | None = None) -> list[str]:
    said: list[str] = []
    try:
        said.append(verify(Path("results"), run, Path("none"), against, said.append))
    except files.FileError as error:
        said.append(str(error))
    return said


def test_an_untouched_run_is_as_recorded(run):
    assert check(run) == ["all 2 files behind the results are as recorded"]


@pytest.mark.parametrize("what", ["deleted", "damaged"])
def test_a_missing_or_damaged_file_gets_a_command_that_makes_it_alone(run, what):
    model = Path("results/demo/model.bin")
    model.unlink() if what == "deleted" else model.write_bytes(b"other")
    first, last = check(run)
    assert first.startswith("results/demo/model.bin: ")
    assert first.endswith(
        "rm -f results/demo/model.bin; snakemake --cores 2 results/demo/model.bin."
    )
    assert last == "1 of 2 files do not match, see above"


def test_results_and_records_edited_together_are_seen_by_a_manifest_kept_elsewhere(run, tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_bytes(run.read_bytes())
    assert check(run, kept)[-1].endswith(f", and as {kept} says")
    files.write_bytes("results/demo/table1.csv", b"forged")
    job("results/demo/table1.csv", ["results/demo/model.bin"])
    listed = provenance.collect(["results/demo/table1.csv"])
    files.write_json(run, {"files": listed})
    assert check(run) == ["all 2 files behind the results are as recorded"]
    first, last = check(run, kept)
    assert first.startswith("results/demo/table1.csv: its SHA-256 is ")
    assert last == "1 of 2 files do not match, see above"


def test_what_is_no_manifest_is_refused(run, tmp_path):
    for content in ([], {"files": []}, {"files": {"a": 1}}):
        files.write_json(tmp_path / "kept.json", content)
        assert "not the manifest of a run" in check(run, tmp_path / "kept.json")[-1]
