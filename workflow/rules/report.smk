# The report's pages: tables and texts in a form that a browser shows.
#
# Needs a suite's artifacts; makes results/{suite}/pages/{artifact}.html. `report_pages` is what
# `make report` asks for before it calls Snakemake's own --report.

PAGES = {
    "claims.csv": ("Claims", "Claims and verdicts"),
    "comparison.csv": ("Claims", "Beside the published numbers"),
    "theory.txt": ("Theory", "Premises"),
    "theorem2.csv": ("Theory", "Theorem A.2"),
    "theorem4.csv": ("Theory", "Theorem A.4"),
    # Two spaces before one digit: the report sorts labels as texts.
    **{f"table{number}.csv": ("Tables", f"Table {number:>2}") for number in artifacts.TABLES},
}


rule render_page:
    """Render a table or a text as a page of the report."""
    input:
        artifact="results/{suite}/{artifact}",
    output:
        page=report(
            "results/{suite}/pages/{artifact}.html",
            caption="../report/page.rst",
            category=lambda w: PAGES[w.artifact][0],
            labels=lambda w: {"content": PAGES[w.artifact][1]},
        ),
    log:
        "logs/{suite}/render_page/{artifact}.log",
    wildcard_constraints:
        artifact="|".join(name.replace(".", "[.]") for name in PAGES),
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        title=lambda w: f"{PAGES[w.artifact][1]}, {w.suite} suite",
        code=code("render_page.py"),
    message:
        "Render {wildcards.artifact} of the {wildcards.suite} suite for the report"
    script:
        "../scripts/render_page.py"


rule report_pages:
    """All artifacts of the configured suite, with the report's pages."""
    input:
        everything,
        lambda w: [
            f"results/{config['suite']}/pages/{name}.html"
            for name in PAGES
            if name in all_artifacts(config["suite"])
        ],
    localrule: True
