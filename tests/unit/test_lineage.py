"""What was made is recorded beside it, checked before use, and traced to its sources."""

import pytest
from trap2.runtime import files, provenance


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of two jobs: source -> middle and side -> final."""
    monkeypatch.chdir(tmp_path)
    files.write_text("raw/source.txt", "source")
    job("first", ["raw/source.txt"], {"results/a/middle.txt": "middle", "results/a/side.txt": "1"})
    job("second", ["results/a/middle.txt"], {"results/b/final.txt": "final"})
    return tmp_path


def job(rule, inputs, outputs):
    used = provenance.check_inputs(inputs)
    for path, text in outputs.items():
        files.write_text(path, text)
    described = {"rule": rule, "wildcards": {}, "params": {"a": 1}, "outputs": list(outputs)}
    provenance.write_record(described, used, 1.0)


def test_a_record_names_inputs_outputs_and_how(run):
    record = files.read_json("results/a/provenance/middle.txt.json")
    assert record["inputs"] == {"raw/source.txt": files.sha256("raw/source.txt")}
    assert set(record["outputs"]) == {"results/a/middle.txt", "results/a/side.txt"}
    assert record["params"] == {"a": 1}
    assert {"rule", "versions", "environment", "seconds"} <= record.keys()


def test_a_changed_input_ends_the_next_job(run):
    files.write_text("results/a/middle.txt", "middlE")
    with pytest.raises(files.FileError, match=r"results/a/middle\.txt: damaged.*Delete it"):
        provenance.check_inputs(["results/a/middle.txt"])


def test_exchanged_files_are_noticed(run):
    job("third", [], {"results/c/middle.txt": "another"})
    for name in ("middle.txt", "provenance/middle.txt.json"):
        content = (run / "results/c" / name).read_bytes()
        files.write_bytes(run / "results/a" / name, content)
    with pytest.raises(files.FileError, match=r"middle\.txt: the records beside it speak of other"):
        provenance.check_inputs(["results/a/middle.txt"])


def test_a_damaged_record_is_named(run):
    files.write_text("results/a/provenance/middle.txt.json", "[1]")
    with pytest.raises(files.FileError, match=r"provenance/middle\.txt\.json"):
        provenance.check_inputs(["results/a/middle.txt"])


def test_the_manifest_reaches_the_sources(run):
    manifest = provenance.collect(["results/b/final.txt"])
    assert set(manifest) == {"results/b/final.txt", "results/a/middle.txt", "raw/source.txt"}
    assert manifest["results/b/final.txt"]["rule"] == "second"
    assert "rule" not in manifest["raw/source.txt"]
    assert not list(provenance.problems(manifest))


@pytest.mark.parametrize("path", ["results/b/final.txt", "results/a/middle.txt", "raw/source.txt"])
def test_verification_names_the_file_that_changed(run, path):
    manifest = provenance.collect(["results/b/final.txt"])
    files.write_text(path, "changed")
    assert [line.split(":")[0] for line in provenance.problems(manifest)] == [path]


def test_verification_tells_what_was_made_anew_from_what_was_damaged(run):
    manifest = provenance.collect(["results/b/final.txt"])
    job("first", ["raw/source.txt"], {"results/a/middle.txt": "newer", "results/a/side.txt": "1"})
    (problem,) = provenance.problems(manifest)
    assert problem.startswith("results/a/middle.txt: was made anew since; run snakemake without")


def test_verification_sees_a_result_of_an_older_input(run):
    job("first", ["raw/source.txt"], {"results/a/middle.txt": "newer", "results/a/side.txt": "1"})
    manifest = provenance.collect(["results/b/final.txt"])
    (problem,) = provenance.problems(manifest)
    assert problem.startswith("results/b/final.txt: was made from another results/a/middle.txt")


def test_a_released_file_is_compared_with_the_bundle(run):
    files.write_text("data/demo/head.txt", "head")
    files.write_json("data/demo/manifest.json", {"files": {"demo/head.txt": "0" * 64}})
    with pytest.raises(files.FileError, match=r"data/demo/head\.txt: damaged.*dvc pull"):
        provenance.check_inputs(["data/demo/head.txt"])
    digest = files.sha256("data/demo/head.txt")
    files.write_json("data/demo/manifest.json", {"files": {"demo/head.txt": digest}})
    assert provenance.check_inputs(["data/demo/head.txt"]) == {"data/demo/head.txt": digest}
