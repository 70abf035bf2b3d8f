"""A job's ``snakemake`` object outside Snakemake, on a small workflow of its own."""

from __future__ import annotations

import json
import pdb
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from trap2.cli.main import main
from trap2.runtime.debug import NoSuchJob, find_job, job_of

SNAKEFILE = """
rule double:
    input:
        numbers="{name}.txt",
    output:
        doubled="made/{name}-{factor}.txt",
        mark="made/{name}-{factor}.mark",
    log:
        "logs/{name}-{factor}.log",
    params:
        factor=lambda w: int(w.factor),
        offset=config.get("offset", 0),
    threads: 3
    script:
        "scripts/double.py"


rule total:
    output:
        "total.txt",
    shell:
        "true"


rule act:
    script:
        "scripts/act.py"
"""
SCRIPT = """
from pathlib import Path

from trap2.runtime.script import snakemake

number = int(Path(snakemake.input.numbers).read_text())
breakpoint()
Path(snakemake.output.doubled).write_text(str(number * snakemake.params.factor))
Path(snakemake.output.mark).touch()
Path(snakemake.log[0]).write_text("done")
"""
FAILING = """
import sys

try:
    wrong = 1 / 0
except ZeroDivisionError:
    sys.exit(1)
"""


@pytest.fixture
def workflow(tmp_path, monkeypatch) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/double.py").write_text(SCRIPT)
    (tmp_path / "scripts/act.py").write_text(FAILING)
    (tmp_path / "a.txt").write_text("21")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "breakpointhook", lambda: None)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "workflow/scripts"))
    return tmp_path


def test_the_object_is_what_a_real_job_gets(workflow):
    given = "import json; Path('given.json').write_text(json.dumps(%s))"
    what = (
        "{'input': dict(snakemake.input), 'output': dict(snakemake.output), "
        "'params': dict(snakemake.params), 'wildcards': dict(snakemake.wildcards), "
        "'threads': snakemake.threads, 'log': list(snakemake.log), 'rule': snakemake.rule, "
        "'scriptdir': snakemake.scriptdir, 'config': snakemake.config}"
    )
    snakemake = job_of("made/a-2.txt", ["offset=4"], in_place=True)
    script = workflow / "scripts/double.py"
    # breakpoint() would wait for somebody.
    script.write_text(SCRIPT.replace("breakpoint()", given % what))
    command = [sys.executable, "-m", "snakemake", "made/a-2.txt", "--cores", "all", "--quiet"]
    subprocess.run([*command, "--config", "offset=4"], check=True, capture_output=True)
    expected = (workflow / "given.json").read_text()
    assert json.dumps(eval(what, {"snakemake": snakemake})) == expected


def test_outputs_and_log_go_elsewhere_by_default(workflow):
    (workflow / "made").mkdir()
    (workflow / "made/a-2.txt").write_text("a result")
    job = find_job("made/a-2.txt")
    assert dict(job.snakemake.output.items()) == {
        "doubled": "debug/made/a-2.txt",
        "mark": "debug/made/a-2.mark",
    }
    job.run()
    assert (workflow / "debug/made/a-2.txt").read_text() == "42"
    assert (workflow / "debug/logs/a-2.log").read_text() == "done"
    assert (workflow / "made/a-2.txt").read_text() == "a result"
    assert not (workflow / "logs").exists()


def test_they_go_where_the_jobs_go_on_request(workflow):
    find_job("made/a-2.txt", in_place=True).run()
    assert (workflow / "made/a-2.txt").read_text() == "42"
    assert not (workflow / "debug").exists()


def test_a_breakpoint_in_the_script_is_reached(workflow, monkeypatch):
    reached = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: reached.append(True))
    find_job("made/a-2.txt").run()
    assert reached == [True]


def test_the_debugger_opens_where_a_script_failed_before_it_ended_itself(workflow, monkeypatch):
    opened = []
    monkeypatch.setattr(pdb, "post_mortem", lambda trace: opened.append(trace.tb_lineno))
    with pytest.raises(SystemExit):
        find_job("act", in_place=True).run(post_mortem=True)
    assert opened == [FAILING.splitlines().index("    wrong = 1 / 0") + 1]


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("nothing/there.txt", (), r"nothing/there\.txt: No rule to produce"),
        ("made/b-2.txt", (), r"made/b-2\.txt: .*Missing input files.*b\.txt"),
        ("total.txt", (), "total.txt: the rule total has no script to run"),
        ("act", (), "act: the rule act names no outputs.*--in-place"),
        ("made/a-2.txt", ("offset",), "--config: .*name=value"),
    ],
)
def test_what_is_no_job_is_said_in_one_line(workflow, target, settings, message):
    with pytest.raises(NoSuchJob, match=message) as caught:
        find_job(target, settings)
    assert len(str(caught.value).splitlines()) == 1
    words = [part for setting in settings for part in ("--config", setting)]
    shown = CliRunner().invoke(main, ["debug", target, *words])
    assert shown.exit_code == 1
    assert shown.output.startswith("Error: ")


def test_the_command_opens_an_interpreter(workflow):
    typed = "print(snakemake.params.offset + 1)\nrun()\n"
    shown = CliRunner().invoke(main, ["debug", "made/a-2.txt", "--config", "offset=4"], input=typed)
    assert "rule double, script " in shown.output
    assert "5\n" in shown.output
    assert (workflow / "debug/made/a-2.txt").read_text() == "42"


def test_the_command_runs_the_script_at_once(workflow):
    shown = CliRunner().invoke(main, ["debug", "made/a-2.txt", "--run"])
    assert shown.exit_code == 0
    assert (workflow / "debug/made/a-2.txt").read_text() == "42"
