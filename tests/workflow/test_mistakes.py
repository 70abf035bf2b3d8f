"""A user's mistake ends before any job, with one message and no traceback."""

import dataclasses
import shutil

import pytest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("signs, satellite]", "sings, satellite]", "tasks: 'sings' is not a task of the demo"),
        ("lambdas: [0.1]", "lambdas: [-0.05]", "lambdas[0] is -0.05; it must be greater than 0"),
        ("lambdas: [0.1]", "lambdas: [5e-2]", "YAML reads 5e-2 as a text here; write 0.05"),
        (
            "s_min: 0.05",
            "s_min: 0.96",
            "trap2.s_min is 0.96; it must lie between 0 and 1 - trap2.delta",
        ),
        ("    TSV: [Full]", "    TSV2: [Full]", "merging.methods: 'TSV2' is not a merging method"),
        ("    TSV: [Full]", "    TSV: [Half]", "merging.methods.TSV: 'Half' is not a merge space"),
        ("tasks: [", "tasks: [[", "config/suites/smoke.yaml is not valid YAML"),
    ],
)
def test_in_a_suite(clone, old, new, message):
    clone.edit("config/suites/smoke.yaml", old, new)
    run = clone.snakemake("--cores", "1", "--config", "suite=smoke")
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output
    assert not (clone.folder / "results").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("suite=nosuch", "suite: 'nosuch' is not a file of config/suites; choose from"),
        ("device=gpu", "device: 'gpu' is not allowed; choose from auto, cpu, cuda"),
        ("seed=-1", "seed is -1; it must be at least 0"),
        ("sweet=demo", "'sweet' is not a known key"),
        ("archives=/no/such/folder", "archives is '/no/such/folder'; there is no such folder"),
        ("sources={cars: kaggle}", "sources.cars: 'kaggle' is not a source of cars"),
    ],
)
def test_on_the_command_line(clone, setting, message):
    run = clone.snakemake("--cores", "1", "--config", setting)
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output


def test_the_suites_are_those_of_the_working_directory(clone, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ("-n", "--cores", "1", "--directory", str(elsewhere), "--config", "suite=smoke")
    run = clone.snakemake(*arguments)
    assert run.code != 0
    assert "elsewhere lacks config/suites, config/published, config/claims.yaml" in run.output
    assert "Traceback" not in run.output
    shutil.copytree(clone.folder / "config", elsewhere / "config")
    suite = elsewhere / "config" / "suites" / "smoke.yaml"
    suite.write_text(suite.read_text("utf-8").replace("signs, satellite]", "sings]"), "utf-8")
    run = clone.snakemake(*arguments)
    assert "tasks: 'sings' is not a task of the demo" in run.output


BOMB = b"suite: smoke\na0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 11)
)

PROGRAM = """suite: smoke
"\\x5f_use_yte__": true
__definitions__:
  - import pathlib
  - pathlib.Path("ran").touch()
"""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("config/config.yaml", ()),
        ("given.yaml", ("--configfile", "config/config.yaml", "given.yaml")),
        ("given.yaml", ("--configfile=given.yaml",)),
        ("slurm/site-config.yaml", ("--profile", "slurm")),
        ("given.yaml", ("--profile", "slurm", "--configfiles", "given.yaml")),
    ],
)
def test_a_configuration_that_is_a_program_is_not_run(clone, name, arguments):
    (clone.folder / name).write_text(PROGRAM)
    run = clone.snakemake("-n", *arguments)
    assert run.code != 0
    assert f"{name}: __use_yte__ would let this configuration run Python" in run.output
    assert "Traceback" not in run.output
    assert not (clone.folder / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "given.yaml is not a configuration that can be read: 'utf-8' codec"),
        (b"[" * 2000, "given.yaml is not a configuration that can be read: maximum recursion"),
        (b"suite: 2026-13-45", "given.yaml is not a configuration that can be read: month must"),
        (b"suite: smoke\n1: 2\nsweet: 3", "the key 1 is no text but a number. Write it in quotes"),
        (BOMB, "more than 20000 values, each alias counted as what it stands for"),
    ],
    ids=["bytes", "deep", "date", "key", "bomb"],
)
def test_a_configuration_that_snakemake_would_stumble_over(clone, content, message):
    (clone.folder / "given.yaml").write_bytes(content)
    run = clone.snakemake("-n", "--configfile", "given.yaml")
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output
    assert len(run.output) < 2000


@pytest.mark.parametrize("home", ["", "a file"])
def test_a_home_that_cannot_be_written(clone, monkeypatch, home):
    (clone.folder / "a file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home:
        monkeypatch.setenv("HOME", str(clone.folder / home / "home"))
    assert clone.dry_run("results/table1.csv")
    assert (clone.folder / ".snakemake/cache").exists() == bool(home)


def test_the_slurm_profile_of_another_folder(clone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = dataclasses.replace(clone, folder=tmp_path)
    run = elsewhere.snakemake("-n", "--profile", str(clone.folder / "slurm"))
    assert run.code != 0
    assert "cd to the project, then snakemake --profile slurm" in run.output
    assert "Traceback" not in run.output


def test_a_configuration_on_the_command_line_is_read(clone):
    (clone.folder / "given.yaml").write_text("suite: smoke\n")
    run = clone.snakemake("results/table1.csv", "-n", "--configfile", "given.yaml")
    assert run.jobs()["finetune_protected"] == 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/table99.csv", "there is no such artifact; docs/artifacts.md lists them. Did you"),
        ("results/figure1.pdf", "Did you mean results/figure"),
    ],
)
def test_a_target_that_does_not_exist(clone, target, message):
    run = clone.snakemake(target, "-n", "--config", "suite=smoke")
    assert run.code != 0
    assert message in run.output
    assert "Traceback" not in run.output
