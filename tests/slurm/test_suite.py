"""The researcher's command, word for word, on a cluster: `snakemake --profile slurm …`."""

import re

SLURM = ("snakemake", "--profile", "slurm")
TABLES = ("results/table1.csv", "results/table2.csv", "results/cells.csv")
SMOKE = ("--config", "suite=smoke")
MOST_TIMES_LOCAL = 2.5


def test_the_smoke_suite_gives_the_bytes_of_a_local_run_in_time(
    cluster, new_clone, local, same_tables, record_testsuite_property
):
    clone = new_clone("smoke", on=cluster)
    run = clone.succeed(*SLURM, "results/table2.csv", *SMOKE)
    ratio = run.seconds / local[1].seconds
    print(f"local {local[1].seconds:.0f} s, SLURM {run.seconds:.0f} s, {ratio:.2f} times")
    record_testsuite_property("times_local", round(ratio, 2))

    submitted = re.findall(r"has been submitted with SLURM jobid \d+ \(log: (\S+?)\)", run.output)
    assert all("/logs/slurm/" in log for log in submitted)
    # Three data sets, a base, one job for three heads, six trainings, four sweeps.
    assert len(submitted) == 15
    rules = [job.comment.partition("_wildcards_")[0] for job in cluster.jobs("--states=all")]
    assert "rule_select_lambda" not in rules
    assert "rule_publish" not in rules

    clone.succeed(*SLURM, *TABLES, *SMOKE)
    same_tables(clone)
    assert ratio <= MOST_TIMES_LOCAL


def test_a_partition_that_does_not_exist_ends_the_run_before_any_job(cluster, new_clone):
    clone = new_clone("partition", on=cluster)
    (clone.folder / "slurm/site.yaml").write_text("gpu_jobs: {slurm_partition: gpux}\n", "utf-8")
    before = len(cluster.jobs("--states=all"))
    run = clone.run(*SLURM, "results/table2.csv")
    assert run.code != 0
    assert "SLURM would not take these jobs; nothing was run" in run.output
    assert "merge_updates (--partition=gpux" in run.output
    assert "Invalid partition name specified" in run.output
    assert not (clone.folder / "resources").exists()
    assert len(cluster.jobs("--states=all")) == before
