"""What goes wrong on clusters ends with the right bytes, or with a message, never a wrong file.

The faults of one run happen one after the other, in the order of the jobs.  Some jobs are slowed
down in the clone, so that a fault meets them at work; what they compute stays the same.
"""

import re
import shutil
import time

import pytest

SLURM = ("snakemake", "--profile", "slurm")
TABLES = ("results/table1.csv", "results/table2.csv", "results/cells.csv")
SMOKE = ("--config", "suite=smoke")
COMMAND = (*SLURM, *TABLES, *SMOKE)
TASKS = ("shapes", "signs")
MERGE = "smoke/ViT-demo/lora/merges/trap2/signs.json"
OUTAGE_SECONDS = 25

FAIL_ONCE = """
from pathlib import Path

mark = Path("failed-once")
if snakemake.wildcards.task == "satellite" and not mark.exists():
    mark.touch()
    raise SystemExit(1)

with job.running"""
SLOW_STEPS = """
                if self.objective is not None:
                    time.sleep(0.4 if self.run.endswith("shapes") else 0.1)
                losses = self._step()
"""
ENOUGH, SHORT = (
    "runtime=parameters.sized(15, 480)",
    ('runtime=lambda w, attempt: attempt if w.task == "shapes" else 15'),
)


def wait_until(condition, seconds=240):
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def training(clone, cluster, *tasks):
    """The task and the job of a running TRAP² training that is in its steps."""
    for task in tasks:
        job = cluster.running("finetune_protected", task)
        log = clone.read(f"logs/smoke/finetune_protected/*-{task}-*.log")
        if job is not None and "loss" in log:
            return task, job
    return None


def adapter(clone, task):
    return clone.folder / f"results/smoke/ViT-demo/lora/{task}/trap2/lambda~0.1"


@pytest.fixture(scope="module")
def clone(prepared):
    """A clone with a job that fails once, slow trainings, and one that has too little time."""
    made = prepared("faults")
    made.edit("workflow/scripts/finetune_unprotected.py", "\nwith job.running", FAIL_ONCE)
    step = "\n                losses = self._step()\n"
    made.edit("workflow/scripts/trap2/training/trainer.py", step, SLOW_STEPS)
    made.edit("workflow/rules/finetune.smk", ENOUGH, SHORT)
    return made


@pytest.fixture(scope="module")
def survived(clone, cluster):
    """A run in which all goes wrong, and the task whose training was cancelled in it."""
    run = clone.start(*COMMAND)

    cancelled, job = wait_until(lambda: training(clone, cluster, "signs", "satellite"))
    cluster.run("scancel", job.number)
    wait_until((adapter(clone, cancelled) / ".resume.safetensors").exists, 30)
    wait_until(lambda: all(each.number != job.number for each in cluster.jobs()))

    before = cluster.unanswered()
    cluster.stop_controller()
    stopped = time.monotonic()
    # Snakemake asks for the state of its jobs meanwhile, or else this would show nothing.
    wait_until(lambda: cluster.unanswered() > before)
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - stopped)))
    cluster.start_controller()

    wait_until(lambda: "SLURM status is: 'TIMEOUT'" in run.output())
    wait_until(lambda: cluster.running("finetune"))
    cluster.set_node("DOWN")
    time.sleep(5)
    cluster.set_node("RESUME")

    done = run.wait()
    assert done.code == 0, done.output
    return done, cancelled


def test_the_tables_are_those_of_an_undisturbed_run(survived, clone, same_tables):
    same_tables(clone)
    assert not list(clone.folder.glob("results/**/.*")), "checkpoints or half files are left"


def test_a_job_that_fails_once_is_run_again(survived, clone):
    assert (clone.folder / "failed-once").exists()
    assert "SLURM status is: 'FAILED'" in survived[0].output


def test_a_cancelled_training_goes_on_from_its_checkpoint(survived, clone):
    assert "SLURM status is: 'CANCELLED'" in survived[0].output
    log = clone.read(f"logs/smoke/finetune_protected/*-{survived[1]}-*.log")
    assert re.search(r"resuming from step [1-9]", log)


def test_a_training_over_its_time_limit_goes_on_with_more_time(survived, clone):
    assert "SLURM status is: 'TIMEOUT'" in survived[0].output
    log = clone.read("logs/smoke/finetune_protected/*-shapes-*.log")
    assert int(re.search(r"resuming from step (\d+)", log)[1]) > 30


def test_failed_jobs_leave_their_logs_in_one_place(survived, clone):
    logs = clone.read("logs/slurm/**/*.log")
    assert "finetune_protected: ended by SIGTERM" in logs


def test_a_node_that_is_set_down_and_comes_back(survived, cluster):
    log = (cluster.folder / "log" / "slurmctld.log").read_text("utf-8")
    assert re.search(r"requeue job JobId=\d+ due to failure of node", log, re.I)


def test_a_second_run_beside_the_first_and_one_after_its_end_by_kill_9(
    survived, clone, cluster, same_tables
):
    slow = adapter(clone, "signs")
    before = {file.name: file.read_bytes() for file in slow.glob("adapter*")}
    shutil.rmtree(slow.parent)
    results = clone.folder / "results"
    for file in (*results.glob("*.csv"), *results.glob("smoke/*.csv"), *results.glob(MERGE)):
        file.unlink()
    for file in clone.folder.glob("logs/smoke/finetune_protected/*-signs-*.log"):
        file.unlink()
    first = clone.start(*COMMAND)
    _, job = wait_until(lambda: training(clone, cluster, "signs"))

    # Two people start the same run.
    second = clone.run(*COMMAND)
    assert second.code != 0
    assert "Directory cannot be locked" in second.output
    assert second.seconds < 60
    assert first.process.poll() is None

    first.kill()
    assert training(clone, cluster, "signs"), "a killed Snakemake leaves its jobs running"
    locked = clone.run(*COMMAND)
    assert locked.code != 0
    assert "--unlock" in locked.output
    clone.succeed(*SLURM, "--unlock")

    # Where a job that still waits is to write its log.
    waiting = clone.folder / "logs/slurm/rule_finetune_protected/waiting"
    waiting.mkdir()
    refused = clone.run(*COMMAND)
    assert refused.code != 0
    assert waiting.exists()
    assert f"{job.number} RUNNING finetune_protected" in refused.output
    assert f"scancel {job.number}" in refused.output
    assert "Traceback" not in refused.output
    assert len(cluster.jobs()) == 1, "nobody else writes"

    wait_until(lambda: not cluster.jobs())
    done = clone.succeed(*COMMAND)
    assert "finetune_protected" not in done.output, "what the job finished counts"
    assert {file.name: file.read_bytes() for file in slow.glob("adapter*")} == before
    same_tables(clone)


def test_a_job_that_was_promised_a_gpu_and_sees_none_says_so(survived, clone, cluster):
    smoke = clone.folder / "config/suites/smoke.yaml"
    (smoke.parent / "large.yaml").write_text(smoke.read_text("utf-8"), "utf-8")
    results = clone.folder / "results"
    arrays = [file for task in TASKS for file in results.glob(f"smoke/data/{task}/32/*.*")]
    for file in (*arrays, *results.glob("smoke/ViT-demo/*.*")):
        copy(file, results)

    heads = [f"results/large/ViT-demo/heads/{task}.json" for task in TASKS]
    command = (*SLURM, "--retries", "0")
    failed = clone.run(*command, heads[0], "--config", "suite=large")
    assert failed.code != 0
    log = clone.read("logs/large/build_head/*.log")
    assert re.search(
        r"promised a GPU, but PyTorch .* sees none .*CUDA_VISIBLE_DEVICES: [01]\)", log
    )
    assert "allow the CPU with --config device=cpu" in log

    clone.succeed(*command, *heads, "--config", "suite=large", "device=cpu")
    number = cluster.jobs("--states=COMPLETED", "--sort=-i")[0].number
    asked = cluster.run("scontrol", "show", "job", number)
    # Two heads share a job and take turns on its GPU.
    assert re.search(r"TresPerJob=gres:gpu:1\b", asked)
    assert "NumCPUs=1" in asked
    assert "TimeLimit=00:20:00" in asked


def copy(file, results):
    """A file of the smoke suite for the suite `large`."""
    target = results / "large" / file.relative_to(results / "smoke")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
