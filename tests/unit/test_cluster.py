"""Jobs on a cluster: promised GPUs, and runs that would meet the jobs of an earlier one."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake_interface_common.exceptions import WorkflowError
from trap2.runtime import cluster, job
from trap2.runtime.schema import ConfigurationError

PROJECT = Path(__file__).parents[2]


def answering(tmp_path, monkeypatch, script, program="squeue"):
    """Put a program of SLURM on PATH that runs a script."""
    file = tmp_path / program
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_a_run_beside_jobs_of_the_same_folder_is_refused(tmp_path, monkeypatch):
    lines = (
        f"7|RUNNING|ann|{tmp_path}|rule_finetune_protected_wildcards_paper_ViT-B-32_lora_dtd_0.01",
        "8|RUNNING|ann|/elsewhere|rule_finetune_protected_wildcards_paper_ViT-B-32_lora_dtd_0.01",
        f"9|RUNNING|ann|{tmp_path}|(null)",
        f"10|PENDING|bob|{tmp_path}|rule_heads_build_head",
    )
    answering(tmp_path, monkeypatch, f"printf '%s\\n' {' '.join(map(repr, lines))}")
    with pytest.raises(WorkflowError) as caught:
        cluster.refuse_beside_running_jobs(tmp_path)
    message = str(caught.value)
    assert "7 RUNNING finetune_protected paper_ViT-B-32_lora_dtd_0.01 (ann)" in message
    assert "10 PENDING heads_build_head (bob)" in message
    assert "scancel 7 10" in message


@pytest.mark.parametrize("script", ["exit 1", "echo '7|RUNNING|ann|/elsewhere|rule_x'", ":"])
def test_a_run_is_not_refused_without_reason(tmp_path, monkeypatch, script):
    answering(tmp_path, monkeypatch, script)
    cluster.refuse_beside_running_jobs(tmp_path)


def test_a_machine_without_slurm_is_no_reason_either(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster.refuse_beside_running_jobs(tmp_path)


REQUESTS = {
    "build_head": {"slurm_partition": "gpux", "mem_mb": 8000, "runtime": 30, "gpu": 1},
    "sweep_scales": {"slurm_partition": "gpux", "mem_mb": 8000, "runtime": 30, "gpu": 1},
    "prepare_data": {"mem_mb": 1000, "runtime": 10, "gpu": 0, "slurm_extra": "--exclude='n1 n2'"},
}


def test_jobs_that_slurm_will_never_take_end_the_run(tmp_path, monkeypatch):
    script = (
        'case "$*" in *gpux*) echo "allocation failure: Invalid partition name specified" >&2; '
        "exit 1;; *) echo 'sbatch: Job 3 to start' >&2;; esac"
    )
    answering(tmp_path, monkeypatch, script, program="sbatch")
    with pytest.raises(WorkflowError) as caught:
        cluster.refuse_impossible_requests(REQUESTS)
    assert (
        "build_head, sweep_scales (--partition=gpux --mem=8000 --time=30 --gpus=1): "
        "allocation failure: Invalid partition name specified"
    ) in str(caught.value)
    assert "prepare_data" not in str(caught.value)


@pytest.mark.parametrize(
    "script",
    ["exit 0", "echo 'Requested partition configuration not available now' >&2; exit 1"],
)
def test_jobs_that_cannot_start_now_are_no_reason(tmp_path, monkeypatch, script):
    answering(tmp_path, monkeypatch, script, program="sbatch")
    cluster.refuse_impossible_requests(REQUESTS)


REFUSED_BY_THE_EXECUTOR = [
    ({"gres": "gpu:nvidia_a100-sxm4-80gb:1"}, "Invalid GRES format: gpu:nvidia_a100-sxm4-80gb:1"),
    ({"gpu": 1, "gpu_model": "nvidia_a100-sxm4-80gb"}, "Invalid GPU model format"),
    ({"slurm_extra": "--mem=3G"}, "--memory option is not allowed in the 'slurm_extra'"),
    ({"slurm_extra": "--gres=gpu:1"}, "not allowed in the 'slurm_extra'"),
]


@pytest.mark.parametrize(("resources", "message"), REFUSED_BY_THE_EXECUTOR)
def test_what_snakemakes_executor_would_refuse_ends_the_run_before_any_job(
    tmp_path, monkeypatch, resources, message
):
    answering(tmp_path, monkeypatch, "exit 0", program="sbatch")
    with pytest.raises(WorkflowError) as caught:
        cluster.refuse_impossible_requests({"build_head": resources, "verify": {"mem_mb": 10}})
    assert "build_head: " in str(caught.value)
    assert message in str(caught.value)
    assert "verify" not in str(caught.value)


@pytest.mark.parametrize(("resources", "message"), REFUSED_BY_THE_EXECUTOR)
def test_what_snakemakes_executor_would_refuse_is_a_mistake_in_the_site_file(
    tmp_path, resources, message
):
    (tmp_path / "site.yaml").write_text(json.dumps({"gpu_jobs": resources}))
    with pytest.raises(ConfigurationError, match=r"site\.yaml has a problem") as caught:
        cluster.read_site(tmp_path / "site.yaml")
    assert "gpu_jobs: " in str(caught.value)
    assert message in str(caught.value)


def test_the_way_past_the_executor_that_its_refusal_names(tmp_path):
    request = {"gpu": None, "gres": None, "slurm_extra": "--gpus-per-node=nvidia_a100-sxm4-80gb:1"}
    (tmp_path / "site.yaml").write_text(json.dumps({"gpu_jobs": request}))
    assert cluster.read_site(tmp_path / "site.yaml")[1] == request
    assert cluster.sbatch_options(request) == ("--gpus-per-node=nvidia_a100-sxm4-80gb:1",)


@pytest.mark.parametrize(
    "extra",
    [
        "--mail-type=FAIL; touch X",
        "--mail-type=$(touch X)",
        "--mail-type=`touch X`",
        "--mail-type=FAIL & touch X",
        "--mail-type=FAIL | tee X",
        "--mail-type=FAIL > X",
        "--mail-type=FAIL\ntouch X",
        "--mail-user='a;touch X'",
        "--mail-user='a",
        "--comment=*",
        "~/x",
    ],
)
def test_further_options_of_a_site_file_reach_no_shell(tmp_path, extra):
    (tmp_path / "site.yaml").write_text(json.dumps({"jobs": {"slurm_extra": extra}}))
    with pytest.raises(ConfigurationError, match=r"jobs\.slurm_extra"):
        cluster.read_site(tmp_path / "site.yaml")


@pytest.mark.parametrize(
    "extra",
    ["--mail-type=FAIL", "--exclude=node[01-03],n4 --mail-user me@example.org", "-w 'n1 n2'"],
)
def test_further_options_come_out_of_a_shell_as_they_were_meant(tmp_path, extra):
    (tmp_path / "site.yaml").write_text(json.dumps({"jobs": {"slurm_extra": extra}}))
    (tmp_path / "node0").touch()
    jobs, _ = cluster.read_site(tmp_path / "site.yaml")
    shown = subprocess.run(
        f"printf '%s\\n' {jobs['slurm_extra']}",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == shlex.split(extra)


def test_options_of_sbatch():
    assert cluster.sbatch_options(REQUESTS["prepare_data"] | {"gpu": 2, "gpu_model": "a100"}) == (
        *("--mem=1000", "--time=10", "--gpus=a100:2", "--exclude=n1 n2"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: {slurm_acount: x}", "jobs.slurm_acount.*Did you mean 'slurm_account'"),
        ("job: {}", "'job' is not a known key.*Did you mean 'jobs'"),
        ("jobs: {slurm_partition: 3}", "jobs.slurm_partition is 3"),
        ("jobs: {a", "site.yaml is not valid YAML"),
    ],
)
def test_mistakes_in_the_site_file(tmp_path, text, message):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        cluster.read_site(tmp_path / "site.yaml")


def test_the_example_of_a_site_file_is_one_with_or_without_its_comments(tmp_path):
    text = (PROJECT / "slurm/site.example.yaml").read_text("utf-8")
    assert cluster.read_site(PROJECT / "slurm/site.example.yaml") == ({}, {})
    (tmp_path / "site.yaml").write_text(re.sub(r"(?m)^  # (?=\w+: )", "  ", text))
    jobs, gpu_jobs = cluster.read_site(tmp_path / "site.yaml")
    assert jobs["slurm_account"] == "my-project"
    assert gpu_jobs["gres"] == "gpu:1"
    assert cluster.read_site(tmp_path / "nowhere.yaml") == ({}, {})


def asking(tmp_path, device, **resources):
    """What Snakemake gives to a script."""
    return SimpleNamespace(
        rule="build_head",
        wildcards={"backbone": "ViT-demo", "task": "signs"},
        log=[str(tmp_path / "job.log")],
        input=[],
        output=[],
        params={"device": device},
        resources=resources,
        config={},
    )


@pytest.mark.parametrize(
    "resources", [{"gpu": 1}, {"gres": "gpu:a100:1"}, {"slurm_extra": "--gpus-per-node=x:1"}]
)
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_promised_gpu_that_is_not_there_ends_the_job(
    tmp_path, monkeypatch, capsys, resources, device
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with (
        pytest.raises(SystemExit) as ended,
        job.running(asking(tmp_path, device, **resources)),
    ):
        pytest.fail("the work was begun")
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "promised a GPU" in said
    assert "CUDA_VISIBLE_DEVICES: 3" in said


@pytest.mark.parametrize(
    ("device", "resources", "visible"),
    [
        ("cpu", {"gpu": 1}, False),
        ("auto", {"gpu": 0}, False),
        ("auto", {}, False),
        ("auto", {"gpu": 1}, True),
    ],
)
def test_other_jobs_go_on(tmp_path, monkeypatch, device, resources, visible):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    begun = False
    with job.running(asking(tmp_path, device, **resources)):
        begun = True
    assert begun


def test_a_long_job_shows_a_line_on_the_terminal_now_and_then(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(job.time, "monotonic", lambda: now[0])
    with job.running(asking(tmp_path, "cpu")) as log:
        for seconds in range(0, 60, 5):
            now[0] = float(seconds)
            log(f"after {seconds} s\nand more")
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"    build_head ViT-demo signs: after {seconds} s" for seconds in (20, 40)]
    assert "after 55 s" in (tmp_path / "job.log").read_text("utf-8")


def test_the_profile_knows_every_rule_that_computes_on_a_device_and_small_rules_are_local():
    """A new rule needs a line in slurm/config.yaml, or `localrule: True`."""
    profile = (PROJECT / "slurm/config.yaml").read_text("utf-8")
    rules = {}
    for file in (PROJECT / "workflow/rules").glob("*.smk"):
        texts = re.split(r"^rule ", file.read_text("utf-8"), flags=re.M)[1:]
        rules |= {text.partition(":")[0]: text for text in texts}
    with_device = {rule for rule, text in rules.items() if "device=configuration.device" in text}
    assert {"build_head", "finetune_protected", "merge_updates"} <= with_device
    for rule in with_device:
        assert f'\n  {rule}: "?for_gpu(' in profile, rule
    local = {rule for rule, text in rules.items() if "    localrule: True" in text}
    assert rules.keys() - local == with_device | {"prepare_data", "pretrain_base"}
