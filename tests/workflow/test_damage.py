"""Damaged files of a finished run: each is noticed before it is used, and nothing in it runs."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
from clones import Clone, copy_of
from trap2.runtime import files, provenance

RESULTS = "results/smoke"
BACKBONE = f"{RESULTS}/ViT-demo"
# A file of each kind that a job reads, and another of its kind to exchange it with.
KINDS = {
    "base": (f"{BACKBONE}/base.safetensors", f"{BACKBONE}/tower.safetensors"),
    "tower": (f"{BACKBONE}/tower.safetensors", f"{BACKBONE}/heads/shapes.safetensors"),
    "head": (f"{BACKBONE}/heads/shapes.safetensors", f"{BACKBONE}/heads/signs.safetensors"),
    "adapter": (
        f"{BACKBONE}/lora/shapes/trap2/adapter_model.safetensors",
        f"{BACKBONE}/lora/signs/trap2/adapter_model.safetensors",
    ),
    "adapter configuration": (
        f"{BACKBONE}/lora/shapes/trap2/adapter_config.json",
        f"{BACKBONE}/lora/shapes/trap2/update.json",
    ),
    "update record": (
        f"{BACKBONE}/lora/shapes/unprotected/update.json",
        f"{BACKBONE}/lora/signs/unprotected/update.json",
    ),
    "images": (
        f"{RESULTS}/data/shapes/32/test.images.npy",
        f"{RESULTS}/data/signs/32/test.images.npy",
    ),
    "labels": (
        f"{RESULTS}/data/shapes/32/test.labels.npy",
        f"{RESULTS}/data/signs/32/test.labels.npy",
    ),
    "manifest": (
        f"{RESULTS}/data/shapes/32/manifest.json",
        f"{RESULTS}/data/signs/32/manifest.json",
    ),
    "merges": (
        f"{BACKBONE}/lora/merges/trap2/shapes.json",
        f"{BACKBONE}/lora/merges/trap2/signs.json",
    ),
    "scales": (
        f"{BACKBONE}/lora/scales/trap2.json",
        f"{BACKBONE}/lora/scales/unprotected.json",
    ),
    "table": (f"{RESULTS}/table1.csv", f"{RESULTS}/table2.csv"),
}


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def flip_a_bit(path: Path, other: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = draw.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def truncate(path: Path, other: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def exchange(path: Path, other: Path, draw: random.Random) -> None:
    path.write_bytes(other.read_bytes())


def pickle_with_a_payload(path: Path, other: Path, draw: random.Random) -> None:
    path.write_bytes(pickle.dumps(Payload(str(path.parent / "executed"))))


def lie(path: Path, other: Path, draw: random.Random) -> None:
    """The record says another digest than the file's."""
    for place in (path.parent / provenance.FOLDER).glob("*.json"):
        record = json.loads(place.read_text("utf-8"))
        if (
            name := next((o for o in record["outputs"] if Path(o).name == path.name), None)
        ) is None:
            continue
        record["outputs"][name] = f"{draw.randrange(16**64):064x}"
        place.write_text(json.dumps(record), "utf-8")


DAMAGES = (flip_a_bit, truncate, exchange, pickle_with_a_payload, lie)
CASES = [
    pytest.param(kind, damage, seed, id=f"{kind}-{damage.__name__}-{seed}")
    for kind in KINDS
    for damage in DAMAGES
    for seed in ((0, 1, 2) if damage in (flip_a_bit, truncate) else (0,))
]


@pytest.fixture(scope="module")
def damaged(smoke, tmp_path_factory) -> Clone:
    """A copy of the finished run; each case restores what it damages."""
    return copy_of(smoke, tmp_path_factory.mktemp("damage") / "clone")


@pytest.mark.parametrize(("kind", "damage", "seed"), CASES)
def test_damage_is_noticed_before_use(damaged, monkeypatch, kind, damage, seed):
    monkeypatch.chdir(damaged.folder)
    path, other = map(Path, KINDS[kind])
    kept = Path("kept")
    shutil.copytree(path.parent, kept, copy_function=shutil.copy2)
    try:
        damage(path, other, random.Random(f"{kind} {seed}"))
        # What every job calls before it reads its inputs.
        with pytest.raises(files.FileError, match=str(path)) as error:
            provenance.check_inputs([str(path)])
        assert "Delete it and run snakemake again" in str(error.value)
        manifest = files.read_json("results/manifest.json")["files"]
        if damage is not lie:
            assert any(problem.startswith(str(path)) for problem in provenance.problems(manifest))
        assert not (path.parent / "executed").exists()
    finally:
        shutil.rmtree(path.parent)
        kept.rename(path.parent)


def test_there_are_at_least_a_hundred_cases():
    assert len(CASES) >= 100


def test_a_damaged_adapter_ends_the_job_that_needs_it_and_deleting_it_mends_the_run(
    smoke, tmp_path
):
    run = copy_of(smoke, tmp_path / "clone")
    before = (run.folder / "results/table2.csv").read_bytes()
    adapter = run.folder / KINDS["adapter"][0]
    flip_a_bit(adapter, adapter, random.Random(0))
    failed = run.snakemake("results/table2.csv", "--cores", "2", "--config", *run.settings)
    assert failed.code != 0
    assert f"{KINDS['adapter'][0]}: damaged or changed after it was made" in failed.output
    adapter.unlink()
    run.run("results/table2.csv")
    assert (run.folder / "results/table2.csv").read_bytes() == before


def test_verify_says_what_does_not_match(smoke, tmp_path):
    run = copy_of(smoke, tmp_path / "clone")
    assert "are as recorded" in run.run("verify", cores=1).output
    published = run.folder / "results/table2.csv"
    published.write_text(published.read_text("utf-8").replace("6", "9"), "utf-8")
    flip_a_bit(run.folder / KINDS["labels"][0], Path(), random.Random(0))
    verified = run.snakemake("verify", "--cores", "1", "--config", *run.settings)
    assert verified.code != 0
    assert f"{KINDS['labels'][0]}: damaged or changed" in verified.output
    assert "results/table2.csv: damaged or changed" in verified.output


def remedy_of(said: str, path: str) -> list[str]:
    """The commands that ``verify`` prints for a file."""
    (line,) = [line for line in said.splitlines() if line.startswith(f"{path}: ")]
    return line.rsplit("again: ", 1)[1].removesuffix(".").split("; ")


@pytest.mark.parametrize("what", ["deleted", "damaged"])
def test_the_command_that_verify_prints_brings_a_file_back_and_nothing_else(smoke, tmp_path, what):
    run = copy_of(smoke, tmp_path / "clone")
    path = f"{RESULTS}/ViT-demo/tower.safetensors"
    tower = run.folder / path
    before = tower.read_bytes()
    if what == "deleted":
        tower.unlink()
    else:
        flip_a_bit(tower, tower, random.Random(0))
    verified = run.snakemake("verify", "--cores", "1", "--config", *run.settings)
    assert verified.code != 0
    remove, make = remedy_of(verified.output, path)
    run.succeed(*remove.split())
    made = run.succeed(sys.executable, "-m", *make.split())
    assert made.jobs() == {"pretrain_base": 1}
    assert tower.read_bytes() == before
    assert run.dry_run() == {}
    assert "are as recorded" in run.run("verify", cores=1).output


def test_results_of_the_future_end_a_run_and_the_command_that_it_prints_mends_them(smoke, tmp_path):
    run = copy_of(smoke, tmp_path / "clone")
    path = run.folder / f"{RESULTS}/ViT-demo/tower.safetensors"
    tomorrow = time.time() + 86400
    os.utime(path, (tomorrow, tomorrow))
    refused = run.snakemake("--cores", "1", "--config", *run.settings)
    assert refused.code != 0
    assert "tower.safetensors" in refused.output
    assert path.exists()
    command = refused.output.strip().splitlines()[-1].strip()
    run.succeed("sh", "-c", command)
    # Its content is what the jobs behind it have read.
    assert run.dry_run() == {}
