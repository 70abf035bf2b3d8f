"""What the profile asks for, by dry runs: no cluster is needed."""

import re
import sys

import pytest

# With a message, Snakemake prints it instead of a job's resources.
FULL = """
import sys, snakemake.logging
from snakemake.cli import main
for kind in vars(snakemake.logging).values():
    if isinstance(kind, type) and "format_job_info" in vars(kind):
        kind.format_job_info = lambda self, msg: "\\n".join(self._format_job_info(msg))
sys.argv[0] = "snakemake"
main()
"""
DRY = (sys.executable, "-c", FULL, "--profile", "slurm", "-n")
GPU_RULES = {
    "build_head",
    "protect_update",
    "finetune_unprotected",
    "finetune_unprotected_full",
    "finetune_protected",
    "finetune_protected_full",
    "merge_updates",
    "sweep_scales",
}


def jobs_of(output: str) -> dict[str, dict[str, str]]:
    """The resources of a dry run's jobs, by rule."""
    found = {}
    for rule, text in re.findall(r"^ *rule (\w+):\n(?:.*\n)*?.*resources: (.*)$", output, re.M):
        found[rule] = dict(pair.split("=", 1) for pair in text.split(", "))
    return found


@pytest.fixture(scope="module")
def clone(new_clone):
    return new_clone("profile")


@pytest.fixture(scope="module")
def paper(clone):
    return jobs_of(clone.succeed(*DRY, "results/table2.csv").output)


@pytest.fixture(scope="module")
def everything(clone):
    return jobs_of(clone.succeed(*DRY).output)


def test_the_researchers_command_plans_the_paper_suite(clone):
    run = clone.succeed("snakemake", "--profile", "slurm", "-n", "results/table2.csv")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", run.output, re.M))
    # Three backbones, eight tasks, unprotected and two λ.
    assert jobs["finetune_unprotected"] == "24"
    assert jobs["finetune_protected"] == "48"
    assert jobs["merge_updates"] == "59"
    assert "pretrain_base" not in jobs


@pytest.mark.parametrize(
    ("rule", "memory", "minutes"),
    [
        ("prepare_data", 8000, 120),
        ("build_head", 8000, 30),
        ("finetune_unprotected", 16000, 240),
        ("finetune_protected", 16000, 480),
        ("merge_updates", 32000, 480),
    ],
)
def test_the_paper_suite_asks_for(paper, rule, memory, minutes):
    assert int(paper[rule]["mem_mb"]) == memory
    assert int(paper[rule]["runtime"]) == minutes
    assert paper[rule].get("gpu") == (None if rule == "prepare_data" else "1")


def test_every_rule_that_computes_on_a_device_has_a_gpu_and_no_other(everything):
    with_gpu = {rule for rule, resources in everything.items() if resources.get("gpu") == "1"}
    assert with_gpu >= GPU_RULES
    assert {"prepare_data", "select_lambda", "publish"} <= everything.keys() - with_gpu


def test_a_later_attempt_asks_for_more(clone):
    for attempt in (1, 2, 3):
        jobs = jobs_of(
            clone.succeed(
                *DRY, "--attempt", str(attempt), "results/smoke/ViT-demo/heads/shapes.json"
            ).output
        )
        assert int(jobs["build_head"]["mem_mb"]) == 2000 * attempt
        assert int(jobs["build_head"]["runtime"]) == 10 * attempt


def test_a_setting_on_the_command_line_wins_and_leaves_the_suite(clone):
    smoke = clone.succeed(*DRY, "results/table2.csv", "--config", "suite=smoke").output
    assert jobs_of(smoke)["pretrain_base"]
    # The demo's networks are tiny: no GPU is asked for.
    assert jobs_of(smoke)["finetune_protected"].get("gpu", "0") == "0"
    seed = clone.succeed(*DRY, "results/table1.csv", "--config", "seed=1").output
    assert "fetch_base" in jobs_of(seed)


def test_a_site_file_says_what_jobs_ask_for(new_clone):
    clone = new_clone("site")
    assert clone.run("git", "check-ignore", "slurm/site.yaml", "slurm/site-config.yaml").code == 0
    (clone.folder / "slurm/site.yaml").write_text(
        "jobs: {slurm_account: my-project, slurm_partition: cpu}\n"
        "gpu_jobs: {slurm_partition: gpu, constraint: a100, gpu: null, gres: 'gpu:1'}\n"
    )
    (clone.folder / "slurm/site-config.yaml").write_text("resources: /shared/downloads\n")
    target = "results/paper/ViT-B-32/heads/dtd.json"
    run = clone.succeed(*DRY, target)
    jobs = jobs_of(run.output)
    assert "/shared/downloads/datasets/dtd/source.json" in run.output
    assert jobs["prepare_data"]["slurm_account"] == "my-project"
    assert jobs["prepare_data"]["slurm_partition"] == "cpu"
    assert jobs["build_head"]["slurm_partition"] == "gpu"
    assert jobs["build_head"]["constraint"] == "a100"
    assert jobs["build_head"]["gres"] == "gpu:1"
    assert "gpu" not in jobs["build_head"]
    (clone.folder / "slurm/site.yaml").write_text("partition: gpu\n")
    wrong = clone.run(*DRY, target)
    assert wrong.code != 0
    assert "'partition' is not a known key; choose from gpu_jobs, jobs" in wrong.output
    assert "usage:" not in wrong.output


def test_the_example_of_a_site_file_is_one(new_clone):
    clone = new_clone("example")
    example = (clone.folder / "slurm/site.example.yaml").read_text("utf-8")
    asked = re.sub(r"^( *)# (?=\w+: )", r"\1", example, flags=re.M)
    (clone.folder / "slurm/site.yaml").write_text(asked, "utf-8")
    jobs = jobs_of(clone.succeed(*DRY, "results/paper/ViT-B-32/heads/dtd.json").output)
    assert jobs["build_head"]["gpu_model"] == "a100"
    assert jobs["prepare_data"]["qos"] == "normal"
