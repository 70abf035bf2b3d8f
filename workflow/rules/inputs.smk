# What the tables and figures are made from: the functions behind their rules' inputs.

PUBLISHED = [f"config/published/table{number}.csv" for number in paper.TABLES]


def table_release(wildcards):
    """The release format that a table shows."""
    return paper.TABLES[int(wildcards.number)].release_format


def table_columns(wildcards):
    """The columns of a table of merges: methods with their spaces, or with their samplings."""
    if paper.TABLES[int(wildcards.number)].with_data:
        return artifacts.data_columns(suite_of(wildcards))
    cells = release_cells(wildcards.suite, table_release(wildcards))
    return [f"{method}-{space}" for method, space in cells]


def table_settings(wildcards):
    """What a table must know of its suite, and nothing that it need not."""
    known = {"tasks": lambda w: suite_of(w)["tasks"], "columns": table_columns}
    kind = paper.KINDS[paper.TABLES[int(wildcards.number)].kind]
    return {name: known[name](wildcards) for name in kind.settings}


def table_not_applicable(wildcards):
    """Why a suite has no such table; an empty text where it has one."""
    number = int(wildcards.number)
    reason = artifacts.table_not_applicable(wildcards.suite, suite_of(wildcards), number)
    if reason is None and not backbones_of(wildcards.suite, table_release(wildcards)):
        reason = artifacts.unreleased(wildcards.suite, number)
    return reason or ""


def table_inputs(wildcards):
    """The records behind a table, by kind."""
    if table_not_applicable(wildcards):
        return {}
    suite, release_format = wildcards.suite, table_release(wildcards)
    known = {
        "updates": lambda: records(suite, release_format),
        "zero_shot": lambda: zero_shot_records(suite, release_format),
        "merges": lambda: table_merges(wildcards),
        "pairs": lambda: [pair_mixes(suite)],
    }
    kind = paper.KINDS[paper.TABLES[int(wildcards.number)].kind]
    return {name: known[name]() for name in kind.needs}


def table_merges(wildcards):
    """The merges behind a table."""
    suite, number = wildcards.suite, int(wildcards.number)
    table = paper.TABLES[number]
    there = backbones_of(suite, table.release_format)
    backbones = [b for b in artifacts.table_backbones(suite_of(suite), number) if b in there]
    if table.with_data:
        return data_merges(suite, backbones)
    return merges(suite, table.release_format, backbones)


def data_merges(suite, backbones):
    """The merges with data on some backbones: unprotected, and each task protected by TRAP²."""
    return [
        f"results/{suite}/{backbone}/lora/data_merges/{protection}/{protected}.json"
        for backbone in backbones
        for protection in ("unprotected", "trap2")
        for protected in merged_tasks(suite, protection)
    ]


def standalone_of_merging(wildcards):
    """The table of standalone accuracies that goes with Table 2 or 4; others need none."""
    kind = paper.TABLES[int(wildcards.number)].kind
    if kind != "merging" or table_not_applicable(wildcards):
        return []
    return [f"results/{wildcards.suite}/table{int(wildcards.number) - 1}.csv"]


def figures_backbone(suite):
    """The backbone of the figures; a suite without what they show ends the run."""
    reason = artifacts.figure_not_applicable(suite, suite_of(suite))
    if reason is not None:
        sys.exit(f"no figures: {reason}")
    return suite_of(suite)["figures"]["backbone"]


def pair_mixes(suite):
    """The pairs of a TRAP² and an unprotected adapter on the figures' backbone."""
    return f"results/{suite}/{figures_backbone(suite)}/lora/pairs/trap2.json"


def scale_sweeps(suite):
    """The scale sweeps behind Figures 2, 5 and 7: unprotected and TRAP² adapters."""
    backbone = figures_backbone(suite)
    return [
        f"results/{suite}/{backbone}/lora/scales/{protection}.json"
        for protection in ("unprotected", "trap2")
    ]


def figure_inputs(wildcards):
    """The records behind a figure, by kind; zero-shot scores of the tasks that it shows."""
    suite, figure = wildcards.suite, paper.FIGURES[int(wildcards.number)]
    backbone, settings = figures_backbone(suite), suite_of(suite)
    tasks = [settings["figures"]["task"]] if "task" in figure.settings else settings["tasks"]
    heads = f"results/{suite}/{backbone}/heads"
    known = {
        "sweeps": scale_sweeps(suite),
        "pairs": [pair_mixes(suite)],
        "merges": data_merges(suite, [backbone]),
        "zero_shot": [stored(f"{heads}/{task}.json") for task in tasks],
    }
    return {kind: known[kind] for kind in figure.needs}


onstart:
    # A Snakemake that was killed leaves its cluster jobs running; a second job for the same
    # file would write it at the same time.
    cluster.refuse_beside_running_jobs(Path.cwd())
    if getattr(workflow.executor_plugin, "name", "") == "slurm":
        submitted = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        cluster.refuse_impossible_requests(
            {job.rule.name: dict(job.resources.items()) for job in submitted}
        )


def has_figures(suite):
    """Whether a suite has what the figures show."""
    return artifacts.figure_not_applicable(suite, suite_of(suite)) is None


def claimed_tables(suite):
    """The tables and figures that claims are tested on; figures where the suite has them."""
    figures = paper.FIGURES if has_figures(suite) else []
    names = [f"table{n}" for n in paper.TABLES] + [f"figure{n}" for n in figures]
    return [f"results/{suite}/{name}.csv" for name in names]


def ablated_settings(suite):
    """The settings that a suite sweeps as part of all artifacts; sweeps train, releases do not."""
    if RELEASED or not has_figures(suite):
        return []
    return suite_of(suite)["ablations"]["settings"]


def all_artifacts(suite):
    """Everything that a suite can show, on request: tables, figures, comparison."""
    return artifacts.all_names(figures=has_figures(suite), ablations=ablated_settings(suite))


def everything(wildcards):
    """All artifacts of the configured suite under results/, and what lists the files behind them."""
    names = [*all_artifacts(config["suite"]), *artifacts.MANIFESTS]
    return [f"results/{name}" for name in names]


def manifested(wildcards):
    """The artifacts that a manifest lists; that of all artifacts is made after the other one."""
    if wildcards.manifest == "manifest":
        return DEFAULT_ARTIFACTS
    return [*all_artifacts(wildcards.suite), "manifest.json"]


def variant(wildcards):
    """The value of a sweep that a job trains; one that is not configured ends the run."""
    known = ablations.variants(suite_of(wildcards), wildcards.setting)
    if wildcards.value not in known:
        sys.exit(
            f"ablations.settings.{wildcards.setting} of the suite '{wildcards.suite}' has no value "
            f"'{wildcards.value}'; it has {', '.join(known) or 'none'}"
        )
    return known[wildcards.value]


def variant_files(wildcards, task, value):
    """A value's adapter; the suite's own training makes that of its own settings."""
    w, each = wildcards, ablations.variants(suite_of(wildcards), wildcards.setting)[value]
    if ablations.is_own(suite_of(w), each) and not RELEASED:
        for text in lambdas_of(suite_of(w), "lora", task):
            if float(text) == each.lambda_:
                return adapter_of(w, task, f"trap2/lambda~{text}")
    folder = f"results/{w.suite}/{w.backbone}/lora/{task}/ablation/{w.setting}~{value}"
    return [f"{folder}/{name}" for name in UPDATE_FILES["lora"]]


def ablation_variants(wildcards):
    """Every value of a sweep with every task that it is trained on."""
    values = ablations.variants(suite_of(wildcards), wildcards.setting)
    return [
        (value, task) for value in values for task in ablations.ablated_tasks(suite_of(wildcards))
    ]


def ablated_training(wildcards):
    """How an ablation's adapter is trained: as the suite's, but for one setting."""
    settings = suite_of(wildcards)["release_formats"]["lora"]
    adapter = settings.get("adapter", {}) | dict(variant(wildcards).adapter)
    return {"optimisation": settings["optimisation"], "adapter": adapter}


def published_artifact(wildcards):
    """What is published: tables over all seeds, everything else of the first one."""
    suites, name = replicas(config["suite"]), wildcards.artifact
    if problem := artifacts.unknown_name(name):
        sys.exit(problem)
    table = name.startswith("table") and name.endswith((".csv", ".tex"))
    folder = f"{config['suite']}/seeds" if table and len(suites) > 1 else suites[0]
    return f"results/{folder}/{name}"
