"""What a script gets from Snakemake; what ``verify`` compares."""

import json
import os
import subprocess
import sys

import pytest
from trap2.runtime import files, script, verification


def ran(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(script.__file__).partition("/trap2/")[0]}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_script_imports_the_object_that_stands_in_its_globals():
    lines = "snakemake = 'a job'\nfrom trap2.runtime.script import snakemake as given\nprint(given)"
    assert ran(lines).stdout == "a job\n"


def test_a_script_without_snakemake_says_how_it_is_started():
    assert "is started by Snakemake" in ran("from trap2.runtime.script import snakemake").stderr


@pytest.fixture
def run(tmp_path):
    """A finished run of two files, the second of all artifacts alone."""
    lists = {}
    for name, listed in (("manifest", ["a"]), ("manifest_all", ["a", "b"])):
        entries = {}
        for each in listed:
            files.write_text(tmp_path / each, each)
            entries[str(tmp_path / each)] = {"sha256": files.sha256(tmp_path / each)}
        lists[name] = tmp_path / f"{name}.json"
        lists[name].write_text(json.dumps({"files": entries}))
    return tmp_path / "published", lists["manifest"], lists["manifest_all"], None


def test_a_whole_run_is_verified(run):
    said: list[str] = []
    sentence = verification.verify(*run, said.append)
    assert sentence == "all 2 files behind the results are as recorded"
    assert said == []


def test_a_changed_file_is_named(run, tmp_path):
    (tmp_path / "b").write_text("c")
    said: list[str] = []
    with pytest.raises(files.FileError, match="1 of 2 files do not match"):
        verification.verify(*run, said.append)
    assert [line.split(": ")[0] for line in said] == [str(tmp_path / "b")]


def test_an_earlier_list_of_all_artifacts_is_left_out(run, tmp_path):
    os.utime(run[2], (0, 0))
    (tmp_path / "b").write_text("c")
    said: list[str] = []
    sentence = verification.verify(*run, said.append)
    assert sentence == "all 1 files behind the results are as recorded"
    assert "of an earlier run" in said[0]


def test_without_a_finished_run_there_is_nothing_to_verify(run):
    run[1].unlink()
    with pytest.raises(files.FileError, match="no finished run"):
        verification.verify(*run, print)
