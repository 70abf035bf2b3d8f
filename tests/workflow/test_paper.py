"""The paper suite's jobs: all of the paper's experiment, counted without running it."""

import resource

import pytest
from trap2.suites.load import load_suite
from trap2.suites.suite import merged_protections_of

TASKS = 8
CELLS = {"lora": 13, "full": 5}


@pytest.fixture(scope="module")
def jobs(paper) -> dict[str, int]:
    return paper.dry_run()


def test_trainings(jobs):
    # Three backbones, eight tasks, unprotected and two λ; one backbone, unprotected and four λ.
    assert jobs["finetune_unprotected"] + jobs["finetune_protected"] == 3 * TASKS * (1 + 2) == 72
    assert jobs["finetune_unprotected_full"] + jobs["finetune_protected_full"] == TASKS * 5 == 40
    assert (jobs["select_lambda"], jobs["select_lambda_full"]) == (3 * TASKS, TASKS)
    # Four defenses of adapters on the two backbones with attention.
    assert jobs["protect_update"] == 4 * 2 * TASKS


def test_data_and_models(jobs):
    assert jobs["download_dataset"] == TASKS
    assert jobs["prepare_data"] == 2 * TASKS, "224 and 256 pixels"
    assert (jobs["fetch_base"], jobs["build_head"]) == (3, 3 * TASKS)
    assert "pretrain_base" not in jobs


def test_merges_and_their_cells(jobs, paper):
    suite = load_suite("paper", paper.folder / "config/suites")
    counts = {"lora": 0, "full": 0}
    for release in suite.release_formats:
        for backbone in suite.backbones_in(release):
            for protection in merged_protections_of(suite, release, backbone):
                counts[release] += 1 if protection == "unprotected" else TASKS
    assert jobs["merge_updates"] == sum(counts.values()) == 68
    assert {release: counts[release] * CELLS[release] for release in counts} == {
        "lora": 767,
        "full": 45,
    }
    columns = [(m, space) for m, spaces in suite.merging.methods.items() for space in spaces]
    assert len(columns) == CELLS["lora"]
    assert sum(space == "Full" for _, space in columns) == CELLS["full"]


def test_threats(paper):
    jobs = paper.dry_run("all_threats")
    # Eight protections of adapters, eight of whole checkpoints, and nothing, on every task.
    assert jobs["attack_updates"] == (8 + 1 + 8 + 1) * TASKS == 144
    assert jobs["handle_updates"] == 18
    assert jobs["protect_update_full"] == 3 * TASKS
    # MergeGuard once, two variants of TRAP² with two λ; MergeGuard and ARF, the variants with four.
    assert jobs["finetune_protected"] == (2 + 1 + 2 * 2) * TASKS
    assert jobs["finetune_protected_full"] == (4 + 2 + 2 * 4) * TASKS


def test_the_whole_graph_is_built_quickly(paper):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    paper.dry_run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of the processor: what else the machine does must not decide.
    assert after.ru_utime - before.ru_utime < 30
